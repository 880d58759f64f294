/**
 * The host-visible window: which blob is where, and what its memory costs the host.
 *
 * The VMM maps the whole window once, so a blob's pages are the window's pages at the offset the driver picked. The
 * rule behind everything here: what is outside of every blob reads as zeros as soon as the driver has been told that
 * a blob is gone. Where nobody else holds the pages they are cleared and kept, because fetching new ones costs the
 * guest more than clearing costs us; they are given back when there is too much of them, or nothing to do.
 */
import type { Job, WindowMemory } from './backend.ts';
import { GpuFault } from './fault.ts';
import {
  VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER,
  VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY,
  VIRTIO_GPU_RESP_ERR_UNSPEC,
} from './protocol.ts';
import { endOf, firstEndingAfter, overlap, type Range, RangeSet } from './ranges.ts';

export const WINDOW_PAGE_BYTES = 4096;
/** Without a blob going for so long, pages that no blob uses go back to the host. */
const IDLE_MS = 5000;

/** A blob's place. */
interface Mapped extends Range {
  /** Somebody outside holds these very pages: they are theirs for as long as they like. */
  isExported: boolean;
}

interface Clearing extends Range {
  readonly job: Job;
}

const pagesOf = (sizeBytes: number) => Math.ceil(sizeBytes / WINDOW_PAGE_BYTES) * WINDOW_PAGE_BYTES;

export class Window {
  readonly memory: WindowMemory;
  readonly #maxBytes: number;
  readonly #idleMs: number;
  /** Sorted by offset, disjoint. */
  readonly #mapped: Mapped[] = [];
  readonly #clearing = new Set<Clearing>();
  #mappedBytes = 0;
  /** Outside of every blob, and still with pages, as far as we know: a guest may touch others. */
  readonly #kept = new RangeSet();
  #idle: NodeJS.Timeout | undefined;
  /** Whether a blob has gone since somebody looked. */
  #isBusy = false;

  /** `maxBytes` bounds what mapped blobs and kept pages cost the host together. */
  constructor(memory: WindowMemory, maxBytes: number, idleMs = IDLE_MS) {
    this.memory = memory;
    this.#maxBytes = maxBytes;
    this.#idleMs = idleMs;
  }

  get mappedBytes(): number {
    return this.#mappedBytes;
  }

  /** Pages that no blob uses and that wait to be used again. */
  get keptBytes(): number {
    return this.#kept.bytes;
  }

  get exportedBytes(): number {
    return this.#mapped.reduce((sum, range) => sum + (range.isExported ? range.lengthBytes : 0), 0);
  }

  /**
   * Gives a blob the range at `offset`. It reads as zeros but for `initial`, and for what the guest itself has written
   * where a blob has just gone. A fault when the range cannot be had.
   */
  map(offset: number, sizeBytes: number, initial?: Uint8Array): void {
    const range = { offset, lengthBytes: pagesOf(sizeBytes), isExported: false };
    if (offset % WINDOW_PAGE_BYTES !== 0 || endOf(range) > this.memory.sizeBytes) {
      refuse(`${sizeBytes} bytes at 0x${offset.toString(16)} of a window of ${this.memory.sizeBytes}`);
    }
    const index = firstEndingAfter(this.#mapped, offset);
    const next = this.#mapped[index];
    if (next && next.offset < endOf(range)) refuse(`0x${offset.toString(16)} is taken`);
    if (this.#mappedBytes + range.lengthBytes > this.#maxBytes) {
      throw new GpuFault(
        VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY,
        `${this.#mappedBytes} bytes are mapped of at most ${this.#maxBytes}`,
      );
    }
    this.#finishClearing(range);
    this.#clean(range);
    if (this.#mappedBytes + this.#kept.bytes + range.lengthBytes > this.#maxBytes) this.#trim();
    this.#mapped.splice(index, 0, range);
    this.#mappedBytes += range.lengthBytes;
    if (initial) this.memory.write(offset, initial.subarray(0, sizeBytes));
  }

  /** Takes the range at `offset` from its blob. It reads as zeros when the job, if there is one, is done. */
  unmap(offset: number): Job | undefined {
    const index = this.#indexOf(offset);
    const [range] = this.#mapped.splice(index, 1) as [Mapped];
    this.#mappedBytes -= range.lengthBytes;
    if (range.isExported) {
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
    (this.#mapped[this.#indexOf(offset)] as Mapped).isExported = true;
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

  /** Gives back all pages outside of blobs, also those that the guest has touched without asking. */
  #trim(): void {
    this.#finishClearing({ offset: 0, lengthBytes: this.memory.sizeBytes });
    this.#kept.clear();
    let start = 0;
    for (const range of this.#mapped) {
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
    }, this.#idleMs).unref();
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
