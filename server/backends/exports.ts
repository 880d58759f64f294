/**
 * Hands memory to a process of the host, such as a compositor: ranges of the host-visible window and pages of the
 * guest, each as a descriptor of its own through which nothing else can be reached. Where the host has
 * `/dev/udmabuf` the other process shares the pages; otherwise it gets a copy, refreshed before each message that
 * makes it visible. Knows no protocol: neither virtio-gpu nor Wayland.
 */
import { closeSync, fstatSync, openSync, readdirSync, readFileSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import {
  CHUNK_BYTES,
  createMemfd,
  createUdmabuf,
  type EntryList,
  F_SEAL_FUTURE_WRITE,
  F_SEAL_SHRINK,
  F_SEAL_WRITE,
  type GuestAddressSpace,
  gather,
  isOpenElsewhere,
  Mapping,
  type MemfdRange,
  SystemError,
  seals,
  syncDmaBuf,
} from '../../native/index.ts';
import type { LentFd, MadeExport } from '../gpu/contracts/exports.ts';

/** Pages of the guest. A host with larger pages refuses some udmabufs, which then become copies. */
const PAGE_BYTES = 4096;

/** Larger ranges of the window are taken to be sparse: programs reserve room there that they fill as they need it. */
const MAX_SHARED_BYTES = 128 * 2 ** 20;
const BLOCK_BYTES = 512;

/** The host-visible window. */
export interface ExportableWindow {
  /** Sealed against shrinking. */
  readonly fd: number;
  /** Has the window's bytes at their offsets in the window. */
  readonly space: GuestAddressSpace;
}

/** The guest's memory. */
export interface ExportableGuest {
  readonly space: GuestAddressSpace;
  /** The file, and the offset in it, of a range of guest memory; undefined where it is not one range of one file. */
  resolve(address: number, lengthBytes: number): { readonly fd: number; readonly offset: number } | undefined;
}

export interface ProbeOptions {
  readonly devicePath?: string;
  /** Where the kernel says which files in memory huge pages may back. */
  readonly hugePagesPath?: string;
}

/** Makes exports. Which way is chosen once, by trying; a single export may still have to be a copy. */
export class Exporter implements Disposable {
  /** For `GET /v1/info`. */
  readonly method: { readonly kind: MadeExport['kind']; readonly reason: string };
  #device: number | undefined;

  /**
   * Opens the device and makes a udmabuf of one page, through which both sides must see what the other writes. Huge
   * pages must not back memfds: where they do, `punchHole` would blank what others still see of an old export.
   * Never throws: what cannot be shared is copied.
   */
  static probe(options: ProbeOptions = {}): Exporter {
    const { devicePath = '/dev/udmabuf', hugePagesPath = '/sys/kernel/mm/transparent_hugepage' } = options;
    let device: number | undefined;
    try {
      device = openSync(devicePath, 'r+');
      const reason = hugePagesReason(hugePagesPath) ?? tryOnePage(device);
      if (reason === undefined) return new Exporter(`${devicePath} works`, device);
      closeSync(device);
      return new Exporter(reason);
    } catch (error) {
      if (device !== undefined) closeSync(device);
      return new Exporter((error as Error).message);
    }
  }

  private constructor(reason: string, device?: number) {
    this.method = { kind: device === undefined ? 'copy' : 'udmabuf', reason };
    this.#device = device;
  }

  /**
   * Exports a range of the window, of at least one byte, which begins with a page. A udmabuf gives pages to all of it;
   * unless `mayShare` it is a copy, which has pages where there was something to show.
   * @throws SystemError EMFILE, ENOMEM: for the copy
   */
  exportWindow(window: ExportableWindow, offset: number, sizeBytes: number, mayShare = true): MadeExport {
    const lengthBytes = roundUp(sizeBytes);
    const entries = { addresses: Float64Array.of(offset), ends: Float64Array.of(lengthBytes) };
    const isSparse = !mayShare || lengthBytes > MAX_SHARED_BYTES;
    const ranges = isSparse ? 'it may have few pages' : [{ fd: window.fd, offset, lengthBytes }];
    return this.#share(ranges, window.space, entries);
  }

  /**
   * Exports pages of the guest, one entry after the other. Pages that are whole, and in memfds that cannot shrink and
   * can be written, are shared.
   * @throws SystemError EMFILE, ENOMEM: for the copy
   */
  exportGuestPages(guest: ExportableGuest, entries: EntryList): MadeExport {
    const ranges = this.#device === undefined ? [] : guestRanges(guest, entries);
    return this.#share(ranges, guest.space, entries);
  }

  /** Exports live on. Safe to call twice. */
  close(): void {
    if (this.#device !== undefined) closeSync(this.#device);
    this.#device = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** A udmabuf of the ranges; or a copy of the entries, where `ranges` says why it has to be one. */
  #share(ranges: MemfdRange[] | string, space: GuestAddressSpace, entries: EntryList): MadeExport {
    const sizeBytes = roundUp(entries.ends.at(-1) ?? 0);
    if (this.#device === undefined) return new Copy(space, entries, sizeBytes, this.method.reason);
    if (typeof ranges === 'string') return new Copy(space, entries, sizeBytes, ranges);
    try {
      return new Udmabuf(createUdmabuf(this.#device, ranges), sizeBytes);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      return new Copy(space, entries, sizeBytes, error.message);
    }
  }
}

class Udmabuf implements MadeExport {
  readonly kind = 'udmabuf';
  readonly sizeBytes: number;
  readonly #fd: number;
  #closed = false;

  constructor(fd: number, sizeBytes: number) {
    this.#fd = fd;
    this.sizeBytes = sizeBytes;
  }

  /** Our own: the kernel counts who else has it. */
  lend(): LentFd {
    return { fd: this.#fd, release: () => {} };
  }

  populatedBytes(): number {
    return this.sizeBytes;
  }

  refresh(): number {
    return 0;
  }

  othersHoldIt(): boolean {
    if (this.#closed) return false;
    const [, count] = /^count:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${this.#fd}`, 'utf8')) ?? [];
    return Number(count) > 1;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#fd);
  }
}

class Copy implements MadeExport {
  readonly kind = 'copy';
  readonly reason: string;
  readonly sizeBytes: number;
  /** Nobody else gets it: each lent one is opened anew, so that we can ask who has the file open. */
  readonly #fd: number;
  readonly #space: GuestAddressSpace;
  readonly #entries: EntryList;
  readonly #mapping: Mapping;

  constructor(space: GuestAddressSpace, entries: EntryList, sizeBytes: number, reason: string) {
    this.reason = reason;
    this.sizeBytes = sizeBytes;
    this.#space = space;
    this.#entries = entries;
    const memfd = createMemfd('virtio-gpu-copy', sizeBytes, { seals: 'size' });
    try {
      this.#fd = reopen(memfd);
    } finally {
      closeSync(memfd);
    }
    try {
      this.#mapping = Mapping.map(this.#fd, { lengthBytes: sizeBytes, writable: true });
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
  }

  lend(): LentFd {
    const fd = reopen(this.#fd);
    return { fd, release: () => closeSync(fd) };
  }

  populatedBytes(): number {
    return this.#mapping.closed ? 0 : fstatSync(this.#fd).blocks * BLOCK_BYTES;
  }

  refresh(offset: number, lengthBytes: number): number | undefined {
    const end = Math.min(offset + lengthBytes, this.sizeBytes);
    let copied = 0;
    // An ArrayBuffer over all of a large pool would make V8 collect garbage, although it costs no memory.
    for (let at = offset; at < end; ) {
      const next = Math.min((Math.floor(at / CHUNK_BYTES) + 1) * CHUNK_BYTES, end);
      const length = next - at;
      const into = this.#mapping.bytes(at, length);
      const row = { offset: 0, strideBytes: length };
      const part = gather(this.#space, this.#entries, { ...row, offset: at }, into, row, length, 1);
      if (part < 0) return undefined;
      copied += part;
      at = next;
    }
    return copied;
  }

  othersHoldIt(): boolean {
    return !this.#mapping.closed && isOpenElsewhere(this.#fd);
  }

  close(): void {
    if (this.#mapping.closed) return;
    this.#mapping.close();
    closeSync(this.#fd);
  }
}

/** The same file through an open file description of its own. */
const reopen = (fd: number) => openSync(`/proc/self/fd/${fd}`, 'r+');

function roundUp(lengthBytes: number): number {
  return Math.ceil(lengthBytes / PAGE_BYTES) * PAGE_BYTES;
}

/** The ranges of memfds behind entries, neighbours joined (the module has a limit); or why they cannot be shared. */
function guestRanges(guest: ExportableGuest, { addresses, ends }: EntryList): MemfdRange[] | string {
  const ranges: MemfdRange[] = [];
  for (let index = 0, start = 0; index < ends.length; start = ends[index]!, index++) {
    const lengthBytes = ends[index]! - start;
    if (lengthBytes === 0) continue;
    const place = guest.resolve(addresses[index]!, lengthBytes);
    if (!place) return 'the memory is not mapped, or lies in several files';
    const { fd, offset } = place;
    if (offset % PAGE_BYTES !== 0 || lengthBytes % PAGE_BYTES !== 0) return 'the memory is not whole pages';
    const last = ranges.at(-1);
    if (last?.fd === fd && last.offset + last.lengthBytes === offset)
      ranges[ranges.length - 1] = { ...last, lengthBytes: last.lengthBytes + lengthBytes };
    else ranges.push({ fd, offset, lengthBytes });
  }
  for (const fd of new Set(ranges.map((range) => range.fd))) {
    const sealed = seals(fd);
    if (!(sealed & F_SEAL_SHRINK)) return 'guest memory is not sealed against shrinking';
    if (sealed & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) return 'guest memory is sealed against writing';
  }
  return ranges;
}

/** Why huge pages could back a memfd; undefined when they cannot, as far as the kernel says. */
function hugePagesReason(folder: string): string | undefined {
  const policies = ['shmem_enabled'];
  for (const name of namesIn(folder))
    if (name.startsWith('hugepages-')) policies.push(`${name}/shmem_enabled`);
  for (const policy of policies) {
    const [, chosen] = /\[(\w+)\]/.exec(textOf(join(folder, policy))) ?? [];
    const isHarmless = chosen === undefined || ['never', 'deny', 'advise', 'inherit'].includes(chosen);
    if (!isHarmless) return `huge pages may back files in memory: ${policy} is ${chosen}`;
  }
  return undefined;
}

/** Empty where there is no such folder: a kernel without huge pages. */
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Writes a page on either side of a udmabuf and reads it on the other. Returns what is wrong, if anything is. */
function tryOnePage(device: number): string | undefined {
  const memfd = createMemfd('probe', PAGE_BYTES, { seals: 'size' });
  let fd: number | undefined;
  let mapping: Mapping | undefined;
  try {
    fd = createUdmabuf(device, [{ fd: memfd, offset: 0, lengthBytes: PAGE_BYTES }]);
    mapping = Mapping.map(fd, { lengthBytes: PAGE_BYTES, writable: true });
    const page = mapping.bytes(0, PAGE_BYTES);
    const ours = Buffer.alloc(PAGE_BYTES, 'written to the file');
    writeSync(memfd, ours, 0, PAGE_BYTES, 0);
    syncDmaBuf(fd, 'start', 'readwrite');
    if (!ours.equals(page)) return 'a udmabuf does not show what its file has';
    page.fill(0x5a);
    syncDmaBuf(fd, 'end', 'readwrite');
    readSync(memfd, ours, 0, PAGE_BYTES, 0);
    return ours.equals(page) ? undefined : 'a file does not have what its udmabuf shows';
  } finally {
    mapping?.close();
    if (fd !== undefined) closeSync(fd);
    closeSync(memfd);
  }
}
