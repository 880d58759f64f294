/**
 * Guest memory as the client announced it: a table of windows, each with a mapping of the file that came with it.
 *
 * The table is the only authority. Guest addresses are translated at every use, because clients take windows away
 * and bring them back in other cuts while the guest runs. A window without a file is known but cannot be used.
 */
import { closeSync, fstatSync, readSync } from 'node:fs';
import {
  CHUNK_OVERLAP_BYTES,
  F_SEAL_SHRINK,
  GuestAddressSpace,
  Mapping,
  SystemError,
  seals,
} from '../../native/index.ts';
import type { Access, GuestMemory, GuestView } from '../../pci/index.ts';
import { EEXIST, EINVAL, ENOSPC, ProtocolError } from '../errors.ts';
import type { DmaWindow } from './contract.ts';

const PAGE_BYTES = 4096;
/** Of the beginning of guest memory: firmware and kernels of every kind leave something there. */
const BEGINNING_BYTES = 1 << 16;
/** More than any client uses (11 were seen), and as many as the SIGBUS guard can watch. */
export const MAX_DMA_WINDOWS = 8192;

/** A file behind windows: one descriptor for all of them, however many messages bring it. */
interface MemoryFile {
  /** Device and inode. */
  readonly identity: string;
  readonly fd: number;
  windows: number;
}

interface Window extends DmaWindow {
  /** Undefined without one. */
  readonly file: MemoryFile | undefined;
  readonly mapping: Mapping | undefined;
}

/**
 * Whether what the guest writes is seen here:
 *
 * - `unknown`: nothing has been announced, or nobody could tell so far.
 * - `shared`: it is.
 * - `no-file`: it is not, because no window came with a file.
 * - `private`: it is not, because the client keeps the guest's writes to itself (a private mapping of the file).
 */
export type Sharing = 'unknown' | 'shared' | 'no-file' | 'private';

export class DmaMap implements GuestMemory {
  epoch = 0;
  /** Bytes of guest memory that can be reached. */
  mappedBytes = 0;
  /** The usable windows once more, for native code: it copies, and walks whole entry lists. */
  readonly addressSpace = new GuestAddressSpace();
  /** Sorted by address, disjoint. */
  readonly #windows: Window[] = [];
  readonly #files = new Map<string, MemoryFile>();
  /** A window with a mapping. */
  #lastHit: Window | undefined;
  /** What was found out of the files; the answer holds for as long as there are windows. */
  #found: 'unknown' | 'shared' | 'private' = 'unknown';

  get windowCount(): number {
    return this.#windows.length;
  }

  get sharing(): Sharing {
    // Without any window there may be an IOMMU, behind which windows come when the driver maps something.
    return this.#windows.length > 0 && this.mappedBytes === 0 ? 'no-file' : this.#found;
  }

  get isUsable(): boolean {
    return this.sharing === 'unknown' || this.sharing === 'shared';
  }

  /** Notes what was found out about the files behind the windows. */
  found(sharing: 'shared' | 'private'): void {
    if (this.#windows.length > 0) this.#found = sharing;
  }

  /**
   * What the file behind the lowest usable window begins with; undefined where it cannot be read. Pages that the file does
   * not have are not made.
   */
  beginning(): { readonly address: number; readonly bytes: Uint8Array } | undefined {
    const window = this.#windows.find(({ mapping }) => mapping !== undefined);
    if (!window?.file) return undefined;
    const bytes = new Uint8Array(Math.min(window.sizeBytes, BEGINNING_BYTES));
    try {
      readSync(window.file.fd, bytes, 0, bytes.length, window.fileOffset);
    } catch {
      // Some files can only be mapped.
      return undefined;
    }
    return { address: window.address, bytes };
  }

  /**
   * Adds a window. Takes ownership of `fd`, also when it throws. An exact repeat is accepted and changes nothing;
   * any other overlap is EEXIST.
   */
  map(window: DmaWindow, fd: number | undefined): void {
    let file: MemoryFile | undefined;
    try {
      file = fd === undefined ? undefined : this.#fileOf(fd, window);
      this.#map(window, fd, file);
    } catch (error) {
      if (error instanceof SystemError) throw new ProtocolError(error.errno, `DMA_MAP: ${error.message}`);
      throw error;
    } finally {
      if (fd !== undefined && fd !== file?.fd) closeSync(fd);
      if (file) this.#dropUnused(file);
    }
  }

  #map(window: DmaWindow, fd: number | undefined, file: MemoryFile | undefined): void {
    const { address, sizeBytes, fileOffset } = window;
    const index = this.#firstEndingAfter(address);
    const existing = this.#windows[index];
    if (existing && existing.address < address + sizeBytes) {
      if (isRepeat(existing, window, file)) return;
      throw new ProtocolError(
        EEXIST,
        `DMA_MAP of ${hex(address)}+${hex(sizeBytes)} overlaps ${hex(existing.address)}`,
      );
    }
    if (this.#windows.length === MAX_DMA_WINDOWS) throw new ProtocolError(ENOSPC, 'too many DMA windows');

    const usable = fd !== undefined && (window.readable || window.writable);
    const mapping = usable
      ? Mapping.map(fd, {
          offset: fileOffset,
          lengthBytes: sizeBytes,
          writable: window.writable,
          // A file that cannot shrink cannot fault.
          guard: (seals(fd) & F_SEAL_SHRINK) === 0,
        })
      : undefined;
    if (mapping) {
      this.addressSpace.add(address, sizeBytes, mapping, 0, window.writable);
      this.mappedBytes += sizeBytes;
    }
    this.#windows.splice(index, 0, { ...window, file, mapping });
    if (file) file.windows++;
    this.epoch++;
  }

  /**
   * Removes all windows in a range, which may have gaps or be empty: clients map memory piece by piece and take it away
   * at once. A window that lies only partly in it is EINVAL, and nothing is removed then. What is removed is unmapped when
   * this returns.
   */
  unmap(address: number, sizeBytes: number): void {
    const end = address + sizeBytes;
    const first = this.#firstEndingAfter(address);
    const beyond = this.#firstEndingAfter(end);
    const startsBefore = (window: Window | undefined, at: number) =>
      window && window.address < at ? window : undefined;
    const cut = startsBefore(this.#windows[first], address) ?? startsBefore(this.#windows[beyond], end);
    if (cut) {
      const range = `${hex(address)}+${hex(sizeBytes)}`;
      throw new ProtocolError(EINVAL, `DMA_UNMAP of ${range} cuts ${hex(cut.address)}+${hex(cut.sizeBytes)}`);
    }
    for (const window of this.#windows.splice(first, beyond - first)) this.#release(window);
  }

  unmapAll(): void {
    for (const window of this.#windows.splice(0)) this.#release(window);
  }

  view(address: number, lengthBytes: number, access: Access): GuestView | undefined {
    const window = this.#windows[this.#firstEndingAfter(address)];
    if (!window?.mapping || (access === 'write' && !window.writable)) return undefined;
    const inside = address >= window.address && address + lengthBytes <= window.address + window.sizeBytes;
    if (!inside || lengthBytes > CHUNK_OVERLAP_BYTES) return undefined;
    const bytes = window.mapping.bytes(address - window.address, lengthBytes);
    return {
      bytes,
      data: new DataView(bytes.buffer, bytes.byteOffset, lengthBytes),
      halfwords: new Uint16Array(bytes.buffer, bytes.byteOffset, lengthBytes >> 1),
    };
  }

  covers(address: number, lengthBytes: number, access: Access): boolean {
    // Asked once per descriptor: a native call would take longer than the comparison.
    const end = address + lengthBytes;
    const last = this.#lastHit;
    if (last && address >= last.address && end <= last.address + last.sizeBytes)
      return access === 'read' || last.writable;
    if (!isAddressable(address, lengthBytes)) return false;
    for (let at = address; at < end; ) {
      const window = this.#windows[this.#firstEndingAfter(at)];
      if (!window?.mapping || at < window.address || (access === 'write' && !window.writable)) return false;
      this.#lastHit = window;
      at = window.address + window.sizeBytes;
    }
    return true;
  }

  read(address: number, into: Uint8Array): boolean {
    return isAddressable(address, into.length) && this.addressSpace.read(address, into);
  }

  write(address: number, from: Uint8Array): boolean {
    return isAddressable(address, from.length) && this.addressSpace.write(address, from);
  }

  /** The file, and the offset in it, of a range of guest memory; undefined where it is not one range of one file. */
  fileAt(address: number, lengthBytes: number): { readonly fd: number; readonly offset: number } | undefined {
    const window = this.#windows[this.#firstEndingAfter(address)];
    const isInside =
      window && address >= window.address && address + lengthBytes <= window.address + window.sizeBytes;
    if (!isInside || !window.file || !window.writable) return undefined;
    return { fd: window.file.fd, offset: window.fileOffset + address - window.address };
  }

  #fileOf(fd: number, { fileOffset, sizeBytes }: DmaWindow): MemoryFile {
    const identity = checkFile(fd, fileOffset, sizeBytes);
    const known = this.#files.get(identity);
    if (known) return known;
    const file = { identity, fd, windows: 0 };
    this.#files.set(identity, file);
    return file;
  }

  #dropUnused(file: MemoryFile): void {
    if (file.windows > 0) return;
    this.#files.delete(file.identity);
    closeSync(file.fd);
  }

  #release(window: Window): void {
    this.epoch++;
    if (window.file) {
      window.file.windows--;
      this.#dropUnused(window.file);
    }
    if (this.#lastHit === window) this.#lastHit = undefined;
    if (this.#windows.length === 0) this.#found = 'unknown';
    if (!window.mapping) return;
    this.addressSpace.remove(window.address);
    this.mappedBytes -= window.sizeBytes;
    window.mapping.close();
  }

  /** Index of the first window whose end lies beyond `address`: the one that holds it, or the next one up. */
  #firstEndingAfter(address: number): number {
    let low = 0;
    let high = this.#windows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const window = this.#windows[middle] as Window;
      if (window.address + window.sizeBytes <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Nothing lies beyond 2^53, and a sum that is rounded must not be compared with anything. */
const isAddressable = (address: number, lengthBytes: number) => Number.isSafeInteger(address + lengthBytes);

const hex = (value: number) => `0x${value.toString(16)}`;

const isRepeat = (existing: Window, window: DmaWindow, file: MemoryFile | undefined) =>
  existing.address === window.address &&
  existing.sizeBytes === window.sizeBytes &&
  existing.fileOffset === window.fileOffset &&
  existing.readable === window.readable &&
  existing.writable === window.writable &&
  existing.file === file;

/** Refuses what would fault later: an unaligned offset, a range beyond the end of the file. */
function checkFile(fd: number, offset: number, sizeBytes: number): string {
  if (offset % PAGE_BYTES !== 0) throw new ProtocolError(EINVAL, `DMA_MAP at file offset ${offset}`);
  const stat = fstatSync(fd);
  if (stat.isFile() && offset + sizeBytes > stat.size) {
    throw new ProtocolError(EINVAL, `DMA_MAP of ${offset}+${sizeBytes} in a file of ${stat.size} bytes`);
  }
  return `${stat.dev}:${stat.ino}`;
}
