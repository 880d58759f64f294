/**
 * Guest memory as the client announced it: a table of windows, and the files that came with them.
 *
 * The table is the only authority. Guest addresses are translated at every use, because clients take windows away
 * and bring them back in other cuts while the guest runs. A window without a file is known but cannot be used. How much of a
 * file is mapped is the file's own business: windows are ranges of it, and neighbours are one range for whoever reads.
 */
import { closeSync, fstatSync, readSync } from 'node:fs';
import { CHUNK_OVERLAP_BYTES, GuestAddressSpace, isOpenForMapping, SystemError } from '../../native/index.ts';
import type { Access, GuestMemory, GuestView } from '../../pci/index.ts';
import { EACCES, EEXIST, EINVAL, ENOSPC, ProtocolError } from '../errors.ts';
import { type DmaWindow, MAX_DMA_WINDOWS } from './contract.ts';
import { MemoryFile } from './memory-file.ts';
import { type Place, WindowTable } from './window-table.ts';

const PAGE_BYTES = 4096;
/** Of the beginning of guest memory: firmware and kernels of every kind leave something there. */
const BEGINNING_BYTES = 1 << 16;
/** Files behind them, each counted once per kind of access; the descriptors they cost. VMMs have one or two per NUMA node. */
export const MAX_DMA_FILES = 1024;
/** Addresses that the files of a device take. A process has 128 TiB, and up to four devices. */
export const MAX_DMA_FILE_BYTES = 16 * 2 ** 40;
/** Pieces into which the files of a device are divided; a process has 65,530 mappings. */
const MAX_PIECES = 8192;

/** Of a window in the table: the number of its file, 0 for none, and what it permits. */
const READABLE = 1;
const WRITABLE = 2;
const FILE_SHIFT = 2;

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
  readonly #windows = new WindowTable();
  /** By key. */
  readonly #files = new Map<string, MemoryFile>();
  /** By number; there is no file 0. */
  readonly #numbered: (MemoryFile | undefined)[] = [undefined];
  /** Guest memory that was asked for last, without gaps, and all of it with the same access. */
  readonly #lastHit = { start: 0, end: 0, isWritable: false };
  /** What was found out of the files; the answer holds for as long as there are windows. */
  #found: 'unknown' | 'shared' | 'private' = 'unknown';

  get windowCount(): number {
    return this.#windows.count;
  }

  get sharing(): Sharing {
    // Without any window there may be an IOMMU, behind which windows come when the driver maps something.
    return this.#windows.count > 0 && this.mappedBytes === 0 ? 'no-file' : this.#found;
  }

  get isUsable(): boolean {
    return this.sharing === 'unknown' || this.sharing === 'shared';
  }

  /** Notes what was found out about the files behind the windows. */
  found(sharing: 'shared' | 'private'): void {
    if (this.#windows.count > 0) this.#found = sharing;
  }

  /**
   * What the file behind the lowest usable window begins with; undefined where it cannot be read. Pages that the file does
   * not have are not made.
   */
  beginning(): { readonly address: number; readonly bytes: Uint8Array } | undefined {
    const windows = this.#windows;
    let place = windows.firstEndingAfter(0);
    while (place < windows.end && !this.#usableFile(place)) place = windows.next(place);
    const file = this.#usableFile(place);
    if (!file) return undefined;
    const bytes = new Uint8Array(Math.min(windows.sizeBytes(place), BEGINNING_BYTES));
    try {
      readSync(file.fd, bytes, 0, bytes.length, windows.fileOffset(place));
    } catch {
      // Some files can only be mapped.
      return undefined;
    }
    return { address: windows.address(place), bytes };
  }

  /**
   * Adds a window. Takes ownership of `fd`, also when it throws. An exact repeat is accepted and changes nothing;
   * any other overlap is EEXIST, and more than `maxWindows` are ENOSPC.
   */
  map(window: DmaWindow, fd: number | undefined, maxWindows = MAX_DMA_WINDOWS): void {
    let file: MemoryFile | undefined;
    try {
      const source = fd === undefined ? undefined : checkFile(fd, window);
      const place = this.#placeFor(window, source?.identity);
      if (place === undefined) return;
      if (this.#windows.count >= maxWindows) throw new ProtocolError(ENOSPC, 'too many DMA windows');
      if (fd !== undefined && source) file = this.#open(fd, window, source);
      this.#add(place, window, file);
    } catch (error) {
      if (error instanceof SystemError) throw new ProtocolError(error.errno, `DMA_MAP: ${error.message}`);
      throw error;
    } finally {
      if (file?.windows === 0) this.#forget(file);
      else if (fd !== undefined && fd !== file?.fd) closeSync(fd);
    }
  }

  /** Where a window belongs; undefined for an exact repeat of one that is there. */
  #placeFor(window: DmaWindow, identity: string | undefined): Place | undefined {
    const { address, sizeBytes } = window;
    const windows = this.#windows;
    const place = windows.firstEndingAfter(address);
    if (place === windows.end || windows.address(place) >= address + sizeBytes) return place;
    const isRepeat =
      windows.address(place) === address &&
      windows.sizeBytes(place) === sizeBytes &&
      windows.fileOffset(place) === window.fileOffset &&
      (windows.tag(place) & (READABLE | WRITABLE)) === permissions(window) &&
      this.#fileOf(place)?.identity === identity;
    if (isRepeat) return undefined;
    const range = `${hex(address)}+${hex(sizeBytes)}`;
    throw new ProtocolError(EEXIST, `DMA_MAP of ${range} overlaps ${hex(windows.address(place))}`);
  }

  #add(place: Place, window: DmaWindow, file: MemoryFile | undefined): void {
    const { address, sizeBytes, fileOffset } = window;
    file?.show(fileOffset, sizeBytes);
    if (file?.mapping) {
      const offset = fileOffset - file.start;
      this.addressSpace.add(address, sizeBytes, file.mapping, offset, file.access === 'write');
      this.mappedBytes += sizeBytes;
    }
    const tag = ((file?.number ?? 0) << FILE_SHIFT) | permissions(window);
    this.#windows.insert(place, { address, sizeBytes, fileOffset, tag });
    this.epoch++;
  }

  /**
   * Removes all windows in a range, which may have gaps or be empty: clients map memory piece by piece and take it away
   * at once. A window that lies only partly in it is EINVAL, and nothing is removed then. When this returns, nothing reaches
   * what was removed: no address, and no view.
   */
  unmap(address: number, sizeBytes: number): void {
    const windows = this.#windows;
    const end = address + sizeBytes;
    const first = windows.firstEndingAfter(address);
    const beyond = windows.firstEndingAfter(end);
    for (const [place, edge] of [
      [first, address],
      [beyond, end],
    ] as const) {
      if (place === windows.end || windows.address(place) >= edge) continue;
      const range = `${hex(address)}+${hex(sizeBytes)}`;
      const cut = `${hex(windows.address(place))}+${hex(windows.sizeBytes(place))}`;
      throw new ProtocolError(EINVAL, `DMA_UNMAP of ${range} cuts ${cut}`);
    }
    if (first === beyond) return;
    this.addressSpace.remove(address, sizeBytes);
    for (let place = first; place !== beyond; place = windows.next(place)) this.#release(place);
    windows.remove(first, beyond);
    this.#changed();
  }

  unmapAll(): void {
    if (this.#windows.count === 0) return;
    this.addressSpace.clear();
    for (const file of this.#numbered) file?.close();
    this.#numbered.length = 1;
    this.#files.clear();
    this.#windows.clear();
    this.mappedBytes = 0;
    this.#changed();
  }

  view(address: number, lengthBytes: number, access: Access): GuestView | undefined {
    if (lengthBytes > CHUNK_OVERLAP_BYTES) return undefined;
    const { file, offset } = this.#range(address, lengthBytes) ?? {};
    if (!file?.mapping || (access === 'write' && file.access !== 'write')) return undefined;
    const bytes = file.mapping.bytes((offset as number) - file.start, lengthBytes);
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
    if (address >= last.start && end <= last.end) return access === 'read' || last.isWritable;
    if (!isAddressable(address, lengthBytes)) return false;
    const windows = this.#windows;
    let place = windows.firstEndingAfter(address);
    let at = address;
    while (at < end) {
      const file = this.#usableFile(place);
      if (!file || at < windows.address(place) || (access === 'write' && file.access !== 'write'))
        return false;
      const isWritable = file.access === 'write';
      // As far as access is the same.
      if (at === address || isWritable !== last.isWritable) last.start = windows.address(place);
      at = windows.endAddress(place);
      last.end = at;
      last.isWritable = isWritable;
      place = windows.next(place);
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
    const { file, offset } = this.#range(address, lengthBytes) ?? {};
    return file?.access === 'write' ? { fd: file.fd, offset: offset as number } : undefined;
  }

  /** A range of guest memory that is one range of one file. */
  #range(address: number, lengthBytes: number): { file: MemoryFile; offset: number } | undefined {
    const windows = this.#windows;
    const first = windows.firstEndingAfter(address);
    const file = this.#fileOf(first);
    if (!file || address < windows.address(first)) return undefined;
    const shift = windows.fileOffset(first) - windows.address(first);
    let place = first;
    let end = windows.endAddress(first);
    while (end < address + lengthBytes) {
      place = windows.next(place);
      const goesOn =
        this.#fileOf(place) === file &&
        windows.address(place) === end &&
        windows.fileOffset(place) === end + shift;
      if (!goesOn) return undefined;
      end = windows.endAddress(place);
    }
    return { file, offset: address + shift };
  }

  #fileOf(place: Place): MemoryFile | undefined {
    return place === this.#windows.end ? undefined : this.#numbered[this.#windows.tag(place) >> FILE_SHIFT];
  }

  #usableFile(place: Place): MemoryFile | undefined {
    const file = this.#fileOf(place);
    return file?.mapping && file;
  }

  /** The file of a window: one for all that need the same of it. Owns `fd` where that is the file's. */
  #open(fd: number, window: DmaWindow, { identity, sizeBytes }: FileSource): MemoryFile {
    const { fileOffset } = window;
    const access = window.writable ? 'write' : window.readable ? 'read' : 'none';
    // Without a size a file is not known well enough to map more than what was asked for.
    const key = sizeBytes === undefined ? `${identity} ${access} ${fd}` : `${identity} ${access}`;
    const known = this.#files.get(key);
    // It may have grown.
    if (known && fileOffset + window.sizeBytes <= known.lengthBytes) {
      if (access !== 'none' && !isOpenForMapping(fd, window.writable))
        throw new ProtocolError(EACCES, 'DMA_MAP of a file that is not open for that');
      return known;
    }
    const files = this.#numbered.filter((file) => file !== undefined);
    const total = (of: (file: MemoryFile) => number) => files.reduce((sum, file) => sum + of(file), 0);
    const isPiecewise = sizeBytes !== undefined;
    const lengthBytes = sizeBytes ?? window.sizeBytes;
    if (files.length >= MAX_DMA_FILES) throw new ProtocolError(ENOSPC, 'too many files of DMA windows');
    if (total((file) => file.lengthBytes) + lengthBytes > MAX_DMA_FILE_BYTES)
      throw new ProtocolError(ENOSPC, 'the files of DMA windows are too large');
    const free = this.#numbered.indexOf(undefined, 1);
    const number = free < 0 ? this.#numbered.length : free;
    // Later files may come, so none takes more than half of what is left.
    const maxPieces = Math.max(1, (MAX_PIECES - total((one) => one.pieces)) >> 1);
    const start = isPiecewise ? 0 : fileOffset;
    const made = { identity, key, number, fd, access, start, lengthBytes, isPiecewise, maxPieces } as const;
    const file = new MemoryFile(made);
    this.#numbered[number] = file;
    this.#files.set(key, file);
    return file;
  }

  #release(place: Place): void {
    const file = this.#fileOf(place);
    if (!file) return;
    const sizeBytes = this.#windows.sizeBytes(place);
    if (file.mapping) this.mappedBytes -= sizeBytes;
    file.hide(this.#windows.fileOffset(place), sizeBytes);
    if (file.windows === 0) this.#forget(file);
  }

  /** Closes a file that no window shows any more. */
  #forget(file: MemoryFile): void {
    this.#numbered[file.number] = undefined;
    if (this.#files.get(file.key) === file) this.#files.delete(file.key);
    file.close();
  }

  /** Windows have gone. */
  #changed(): void {
    this.epoch++;
    this.#lastHit.start = 0;
    this.#lastHit.end = 0;
    if (this.#windows.count === 0) this.#found = 'unknown';
  }
}

/** Nothing lies beyond 2^53, and a sum that is rounded must not be compared with anything. */
const isAddressable = (address: number, lengthBytes: number) => Number.isSafeInteger(address + lengthBytes);

const hex = (value: number) => `0x${value.toString(16)}`;

const permissions = ({ readable, writable }: DmaWindow) =>
  (readable ? READABLE : 0) | (writable ? WRITABLE : 0);

interface FileSource {
  /** Device and inode. */
  readonly identity: string;
  /** Undefined for what is no regular file: a device, for example. */
  readonly sizeBytes: number | undefined;
}

/** Refuses what would fault later: an unaligned offset, a range beyond the end of the file. */
function checkFile(fd: number, { fileOffset, sizeBytes }: DmaWindow): FileSource {
  if (fileOffset % PAGE_BYTES !== 0) throw new ProtocolError(EINVAL, `DMA_MAP at file offset ${fileOffset}`);
  const stat = fstatSync(fd);
  if (stat.isFile() && fileOffset + sizeBytes > stat.size)
    throw new ProtocolError(EINVAL, `DMA_MAP of ${fileOffset}+${sizeBytes} in a file of ${stat.size} bytes`);
  return { identity: `${stat.dev}:${stat.ino}`, sizeBytes: stat.isFile() ? stat.size : undefined };
}
