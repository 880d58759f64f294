/**
 * The host-visible window: which blob is where, and what its memory costs the host.
 *
 * The VMM maps the whole window once, so a blob's pages are the window's pages at the offset the driver picked. The
 * rule behind everything here: what is outside of every blob reads as zeros as soon as the driver has been told that
 * a blob is gone. Where nobody else holds the pages they are cleared and kept, because fetching new ones costs the
 * guest more than clearing costs us; they are given back when there is too much of them, or nothing to do.
 *
 * What costs memory is pages, not sizes: a blob may be as large as it likes, and the window has room for many. The
 * guest makes pages by writing, which nobody is told of, so they are counted: when a blob is to be made, and by a timer
 * for as long as somebody could write. The timer comes the sooner, the less is left.
 */
import type { Job, WindowMemory } from './contracts/window-memory.ts';
import { GpuFault } from './fault.ts';
import type { GuestContext } from './guest-context.ts';
import { MAX_BLOB_MEMORY } from './limits.ts';
import {
  VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER,
  VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY,
  VIRTIO_GPU_RESP_ERR_UNSPEC,
} from './protocol.ts';
import { endOf, firstEndingAfter, overlap, type Range, RangeSet } from './ranges.ts';

export const WINDOW_PAGE_BYTES = 4096;
/** Without a blob going for so long, pages that no blob uses go back to the host. */
const IDLE_MS = 5000;

/** Up to this size, which large screens have, a blob needs room for all of it: it is likely to be filled at once. */
const DENSE_BYTES = 64 * 2 ** 20;
/** Of the most that there may be, how much must be left for a larger one, which is likely to be filled bit by bit. */
const SPARSE_PART = 1 / 16;
/** As fast as a guest is taken to make pages: 4 GiB/s. */
const FILL_BYTES_PER_MS = 4 * 2 ** 20;
const MIN_CHECK_MS = 10;
const MAX_CHECK_MS = 1000;
/** Of the most that there may be, how much pages may be that exports make of what has none. */
const SHARED_PART = 0.5;

/** A blob's place. */
interface Mapped<Owner> extends Range {
  readonly owner: Owner;
  /** Somebody outside holds these very pages: they are theirs for as long as they like. */
  isExported: boolean;
  /** Its owner had too many pages: it has none, and what the guest still writes there is taken again. */
  isLost: boolean;
}

interface Clearing extends Range {
  readonly job: Job;
}

const pagesOf = (sizeBytes: number) => Math.ceil(sizeBytes / WINDOW_PAGE_BYTES) * WINDOW_PAGE_BYTES;

export interface WindowOptions<Owner> {
  /** Bounds the pages of the window, of blobs or not. */
  readonly maxBytes: number;
  readonly idleMs?: number;
  /** There were too many pages, and `owner` had the most: its blobs have lost theirs, `bytes` in all. */
  readonly onOverrun?: (owner: Owner, bytes: number) => void;
  /** A blob was mapped, and there is no room for another one of its size: the guest's driver will refuse that itself. */
  readonly onFull?: (mappedBytes: number) => void;
}

export class Window<Owner = GuestContext> {
  readonly memory: WindowMemory;
  readonly #options: WindowOptions<Owner>;
  /** Sorted by offset, disjoint. */
  readonly #mapped: Mapped<Owner>[] = [];
  readonly #clearing = new Set<Clearing>();
  #mappedBytes = 0;
  /** Outside of every blob, and still with pages, as far as we know: a guest may touch others. */
  readonly #kept = new RangeSet();
  #idle: NodeJS.Timeout | undefined;
  #check: NodeJS.Timeout | undefined;
  /** Whether a blob has gone since somebody looked. */
  #isBusy = false;

  constructor(memory: WindowMemory, options: WindowOptions<Owner>) {
    this.memory = memory;
    this.#options = options;
  }

  /** Sizes of mapped blobs, with pages or not. */
  get mappedBytes(): number {
    return this.#mappedBytes;
  }

  /** Ranges that no blob uses, whose pages wait to be used again. */
  get keptBytes(): number {
    return this.#kept.bytes;
  }

  get exportedBytes(): number {
    return this.#mapped.reduce((sum, range) => sum + (range.isExported ? range.lengthBytes : 0), 0);
  }

  /** A fault unless there is memory for a blob of this size, or for as much of it as is likely to get pages soon. */
  requireRoom(sizeBytes: number): void {
    const { maxBytes } = this.#options;
    if (sizeBytes > this.memory.sizeBytes) {
      const message = `${sizeBytes} bytes are more than the window of ${this.memory.sizeBytes}`;
      throw new GpuFault(VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY, message);
    }
    const needed = sizeBytes <= DENSE_BYTES ? sizeBytes : Math.min(DENSE_BYTES, maxBytes * SPARSE_PART);
    if (this.memory.populatedBytes() + needed <= maxBytes) return;
    this.#trim();
    const populated = this.memory.populatedBytes();
    if (populated + needed <= maxBytes) return;
    throw new GpuFault(
      VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY,
      `no room for a blob of ${sizeBytes} bytes: blobs have ${populated} bytes of at most ${maxBytes}`,
      { option: MAX_BLOB_MEMORY },
    );
  }

  /** Whether a range of this size may get all of its pages, which is what sharing it makes of it. */
  mayFill(sizeBytes: number): boolean {
    return this.memory.populatedBytes() + sizeBytes <= this.#options.maxBytes * SHARED_PART;
  }

  /**
   * Gives a blob of `owner` the range at `offset`. It reads as zeros but for `initial`, and for what the guest itself has
   * written where a blob has just gone. A fault when the range cannot be had.
   */
  map(offset: number, sizeBytes: number, owner: Owner, initial?: Uint8Array): void {
    const range = { offset, lengthBytes: pagesOf(sizeBytes), owner, isExported: false, isLost: false };
    if (offset % WINDOW_PAGE_BYTES !== 0 || endOf(range) > this.memory.sizeBytes) {
      refuse(`${sizeBytes} bytes at 0x${offset.toString(16)} of a window of ${this.memory.sizeBytes}`);
    }
    const index = firstEndingAfter(this.#mapped, offset);
    const next = this.#mapped[index];
    if (next && next.offset < endOf(range)) refuse(`0x${offset.toString(16)} is taken`);
    this.#finishClearing(range);
    this.#clean(range);
    this.#mapped.splice(index, 0, range);
    this.#mappedBytes += range.lengthBytes;
    if (initial) this.memory.write(offset, initial.subarray(0, sizeBytes));
    if (this.memory.sizeBytes - this.#mappedBytes < range.lengthBytes)
      this.#options.onFull?.(this.#mappedBytes);
  }

  /** Takes the range at `offset` from its blob. It reads as zeros when the job, if there is one, is done. */
  unmap(offset: number): Job | undefined {
    const index = this.#indexOf(offset);
    const [range] = this.#mapped.splice(index, 1) as [Mapped<Owner>];
    this.#mappedBytes -= range.lengthBytes;
    if (range.isExported || range.isLost) {
      this.memory.punch(offset, range.lengthBytes);
      return undefined;
    }
    this.#isBusy = true;
    this.#idle ??= this.#lookLater();
    if (!this.memory.isPopulated(offset, range.lengthBytes)) return undefined;
    this.#kept.add(range);
    const job = this.memory.clear(offset, range.lengthBytes);
    if (job) this.#noteClearing({ offset, lengthBytes: range.lengthBytes, job });
    return job;
  }

  /** From now on somebody else holds the pages of the blob at `offset`. */
  noteExported(offset: number): void {
    (this.#mapped[this.#indexOf(offset)] as Mapped<Owner>).isExported = true;
  }

  /** The whole window reads as zeros and costs nothing when this returns. */
  reset(): void {
    clearTimeout(this.#idle);
    this.#idle = undefined;
    this.#finishClearing({ offset: 0, lengthBytes: this.memory.sizeBytes });
    this.#mapped.length = 0;
    this.#mappedBytes = 0;
    this.#kept.clear();
    this.memory.punch(0, this.memory.sizeBytes);
  }

  /**
   * Sees to it that there are not more pages than there may be, now: first those outside of blobs go, then those of
   * whoever has the most. Pages are taken from under the guest, which reads zeros there.
   */
  check(): void {
    const { maxBytes, onOverrun } = this.#options;
    if (this.memory.populatedBytes() <= maxBytes) return;
    this.#trim();
    while (this.memory.populatedBytes() > maxBytes) {
      const largest = this.#largest();
      // It writes as fast as we take: there is a next time.
      if (!largest) return;
      const [owner, bytes] = largest;
      for (const range of this.#mapped) if (range.owner === owner) range.isLost = true;
      this.#trim();
      onOverrun?.(owner, bytes);
    }
  }

  /** From now on somebody can write into the window: pages are counted until `unwatch`, where there can be too many. */
  watch(): void {
    const { maxBytes } = this.#options;
    if (this.#check || this.memory.sizeBytes <= maxBytes) return;
    const left = maxBytes - this.memory.populatedBytes();
    const delayMs = Math.min(Math.max(left / FILL_BYTES_PER_MS, MIN_CHECK_MS), MAX_CHECK_MS);
    this.#check = setTimeout(() => {
      this.#check = undefined;
      this.check();
      this.watch();
    }, delayMs).unref();
  }

  unwatch(): void {
    clearTimeout(this.#check);
    this.#check = undefined;
  }

  /** Who has the most pages in blobs, and how many bytes of them; undefined when nobody has any. */
  #largest(): [owner: Owner, bytes: number] | undefined {
    const sums = new Map<Owner, number>();
    for (const { owner, isLost, offset, lengthBytes } of this.#mapped) {
      if (!isLost) sums.set(owner, (sums.get(owner) ?? 0) + this.memory.populatedIn(offset, lengthBytes));
    }
    let largest: [Owner, number] | undefined;
    for (const sum of sums) if (sum[1] > (largest?.[1] ?? 0)) largest = sum;
    return largest;
  }

  #noteClearing(clearing: Clearing): void {
    this.#clearing.add(clearing);
    clearing.job.whenDone(() => this.#clearing.delete(clearing));
  }

  /** What was kept has been cleared. Elsewhere the guest may have written, although there was no blob. */
  #clean(range: Range): void {
    const before = this.#kept.bytes;
    this.#kept.remove(range);
    const isKept = before - this.#kept.bytes === range.lengthBytes;
    if (!isKept && this.memory.isPopulated(range.offset, range.lengthBytes))
      this.memory.punch(range.offset, range.lengthBytes);
  }

  /** A driver waits for the answer to its UNMAP before it uses a range again; one that does not must wait here. */
  #finishClearing(range: Range): void {
    for (const clearing of this.#clearing) {
      if (overlap(clearing, range)) clearing.job.wait();
    }
  }

  /**
   * Gives back all pages outside of blobs, also those that the guest has touched without asking. What is being cleared
   * may get some zeros after that, which is waited for when a blob comes there.
   */
  #trim(): void {
    this.#kept.clear();
    let start = 0;
    for (const range of this.#mapped) {
      if (range.isLost) continue;
      if (range.offset > start) this.memory.punch(start, range.offset - start);
      start = endOf(range);
    }
    if (start < this.memory.sizeBytes) this.memory.punch(start, this.memory.sizeBytes - start);
  }

  /** Pages are kept for who needs them soon, which is when blobs come and go. */
  #lookLater(): NodeJS.Timeout {
    return setTimeout(() => {
      this.#idle = this.#isBusy ? this.#lookLater() : undefined;
      if (!this.#isBusy) this.#trim();
      this.#isBusy = false;
    }, this.#options.idleMs ?? IDLE_MS).unref();
  }

  #indexOf(offset: number): number {
    const index = firstEndingAfter(this.#mapped, offset);
    if (this.#mapped[index]?.offset !== offset) throw new Error(`no blob at 0x${offset.toString(16)}`);
    return index;
  }
}

function refuse(message: string): never {
  throw new GpuFault(VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER, message);
}

/** For devices without a window. */
export function requireWindow(window: Window | undefined): Window {
  if (!window) throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, 'there is no host-visible window');
  return window;
}
