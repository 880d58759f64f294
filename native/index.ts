/**
 * System calls and pixel loops that Node lacks: Unix sockets that carry descriptors, readiness callbacks,
 * eventfds, memfds, dma-bufs over them, mappings of other processes' memory, and bulk copies between guest memory
 * and images.
 * Knows no protocol, and of RFB only what its encodings do with pixels. Typed face of the addon in `src/`, which
 * checks every number and buffer itself; this file adds shapes, defaults and handles with an end.
 *
 * Descriptors are plain numbers: whoever receives one owns it, and closes it with `fs.closeSync`.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { getSystemErrorMap } from 'node:util';

// ---- the addon ----

declare const handleKind: unique symbol;
interface Handle<Kind extends string> {
  readonly [handleKind]: Kind;
}
type RegionHandle = Handle<'region'>;
type SpaceHandle = Handle<'space'>;
type WatchHandle = Handle<'watch'>;
type ClearHandle = Handle<'clear'>;

type Rows = [offset: number, strideBytes: number];
type Image = [bytes: Uint8Array, ...Rows];
type Transfer = (
  space: SpaceHandle,
  addresses: Float64Array,
  ends: Float64Array,
  ...rest: [...list: Rows, ...image: Image, rowBytes: number, rows: number]
) => number;

type PackJob = [
  ...pixels: Image,
  width: number,
  height: number,
  red: number,
  green: number,
  blue: number,
  parts: Int32Array,
  pixelBytes: number,
  to: Uint8Array,
];

interface Addon {
  setErrorClass(errorClass: typeof SystemError): void;
  registrySize(): [mappings: number, watches: number, guards: number, clears: number];

  listenUnix(path: string, backlog: number): number;
  connectUnix(path: string, wait: boolean): number;
  createPipe(): [number, number];
  acceptUnix(listener: number): number | undefined;
  socketPair(): [number, number];
  receive(fd: number, into: Uint8Array, at: number, lengthBytes: number, fds: Int32Array): number;
  send(fd: number, from: Uint8Array, at: number, lengthBytes: number, fds?: readonly number[]): number;
  sendDatagram(path: string, bytes: Uint8Array): void;

  watch(fd: number, events: number, callback: (events: number) => void): WatchHandle;
  setEvents(watch: WatchHandle, events: number): void;
  setRef(watch: WatchHandle, ref: boolean): void;
  closeWatch(watch: WatchHandle): void;
  createEventfd(): number;
  setNonBlocking(fd: number): void;
  signalEventfd(fd: number): void;
  drainEventfd(fd: number): number;

  setSlice(sliceNs: number): void;
  toBackground(niceBy: number, poolThreads: number): void;

  createMemfd(name: string, lengthBytes: number, sealSize: boolean): number;
  seals(fd: number): number;
  openMode(fd: number): number;
  punchHole(fd: number, offset: number, lengthBytes: number): void;
  nextData(fd: number, offset: number): number | undefined;
  dataBytes(fd: number, offset: number, lengthBytes: number): number;
  isOpenElsewhere(fd: number): boolean;
  clearRange(fd: number, offset: number, lengthBytes: number): void;
  clearInBackground(
    fd: number,
    offset: number,
    lengthBytes: number,
    done: (error: SystemError | undefined) => void,
  ): ClearHandle;
  waitForClear(clear: ClearHandle): void;
  createUdmabuf(device: number, ranges: readonly number[]): number;
  syncDmaBuf(fd: number, end: boolean, access: number): void;

  map(
    fd: number,
    offset: number,
    lengthBytes: number,
    writable: boolean,
    guard: boolean,
    dump: boolean,
  ): RegionHandle;
  reserve(fd: number, lengthBytes: number, writable: boolean, guard: boolean): RegionHandle;
  fillReserved(region: RegionHandle, fd: number, offset: number, lengthBytes: number): void;
  dropReserved(region: RegionHandle, offset: number, lengthBytes: number): void;
  filePageBytes(region: RegionHandle): number;
  chunk(region: RegionHandle, offset: number, lengthBytes: number): ArrayBuffer;
  detachChunk(chunk: ArrayBuffer): void;
  unmap(region: RegionHandle, chunks: readonly ArrayBuffer[]): void;
  sigbusCounter(): ArrayBuffer;
  pageBytes(): number;

  makeSpace(): SpaceHandle;
  addWindow(
    space: SpaceHandle,
    guestAddress: number,
    lengthBytes: number,
    region: RegionHandle,
    offset: number,
    writable: boolean,
  ): void;
  removeRange(space: SpaceHandle, guestAddress: number, lengthBytes: number): void;
  windowCount(space: SpaceHandle): number;
  clearSpace(space: SpaceHandle): void;
  closeSpace(space: SpaceHandle): void;
  covers(space: SpaceHandle, guestAddress: number, lengthBytes: number, write: boolean): boolean;
  readGuest(space: SpaceHandle, guestAddress: number, into: Uint8Array): boolean;
  writeGuest(space: SpaceHandle, guestAddress: number, from: Uint8Array): boolean;

  gather: Transfer;
  scatter: Transfer;
  convertPixels(...rest: [...from: Image, ...to: Image, picks: number, width: number, height: number]): void;
  findScroll(
    current: Uint8Array,
    currentOffset: number,
    currentStrideBytes: number,
    previous: Uint8Array,
    previousOffset: number,
    previousStrideBytes: number,
    rowBytes: number,
    rows: number,
    found: Int32Array,
  ): boolean;
  diffTiles(
    ...rest: [
      ...current: Image,
      ...previous: Image,
      rowBytes: number,
      rows: number,
      tileWidthBytes: number,
      tileRows: number,
      changed: Uint8Array,
    ]
  ): number;

  packPixels(...job: PackJob): number;
  packZrleTiles(...job: PackJob): number;
  packTightRects(...rest: [...PackJob, photos: number, records: Int32Array]): number;
}

/** This file runs from `native/` under the tests and from `dist/native/` when built, in a checkout as in a package. */
function loadAddon(): Addon {
  const file = 'build/Release/vfio_user_gpu.node';
  const places = [`./${file}`, `../../native/${file}`].map((place) =>
    fileURLToPath(new URL(place, import.meta.url)),
  );
  const { VFIO_USER_GPU_ADDON: chosen } = process.env;
  const found = chosen || places.find((place) => existsSync(place));
  try {
    if (!found) throw new Error(`it is neither ${places.join(' nor ')}`);
    return createRequire(import.meta.url)(found) as Addon;
  } catch (error) {
    throw new Error(
      `the native addon does not load: ${(error as Error).message}\n` +
        'In a checkout `npm run build:native` builds it, with g++, make and cmake. An installed package has it for the\n' +
        `machines it was packed for: \`npm ci && npm pack\` in a checkout makes one for ${process.platform} on ${process.arch}.`,
    );
  }
}

/** A failed system call. Everything else that can go wrong here is a TypeError or a RangeError: misuse. */
export class SystemError extends Error {
  override readonly name = 'SystemError';
  /** Positive, as in errno.h. */
  readonly errno: number;
  /** The name of the number, for example `EBADF`. */
  readonly code: string;
  /** What failed, for example `recvmsg`. A closed handle fails with EBADF and the name of the method. */
  readonly syscall: string;

  constructor(errno: number, syscall: string, path?: string) {
    const [code, text] = getSystemErrorMap().get(-errno) ?? [`E${errno}`, 'unknown error'];
    super(`${syscall}${path === undefined ? '' : ` ${path}`}: ${code}, ${text}`);
    this.errno = errno;
    this.code = code;
    this.syscall = syscall;
  }
}

const addon = loadAddon();
addon.setErrorClass(SystemError);

/** The kernel would end the string at the zero byte, and act on another name. */
function withoutZero(text: string, name: string): string {
  if (text.includes('\0')) throw new TypeError(`${name} must not contain a zero byte`);
  return text;
}

// ---- sockets ----

/** What `receive` and `send` return when the call would have to wait. */
export const WOULD_BLOCK = -1;

/**
 * Listens on a Unix stream socket. The descriptor is non-blocking and close-on-exec, the file has mode 0600
 * whatever the umask is; the caller removes it in the end.
 * @throws SystemError EADDRINUSE when the path exists, ENAMETOOLONG beyond 107 bytes, or as bind says.
 */
export function listenUnix(path: string, backlog = 8): number {
  try {
    return addon.listenUnix(withoutZero(path, 'path'), backlog);
  } catch (error) {
    // Which one is for people who gave several.
    throw error instanceof SystemError ? new SystemError(error.errno, error.syscall, path) : error;
  }
}

/**
 * Connects to a Unix stream socket; the descriptor is non-blocking and close-on-exec afterwards. Blocks until the
 * listener's backlog has room, unless `wait` is false.
 * @throws SystemError ENOENT, ECONNREFUSED, EAGAIN when it would have to wait and may not, or as connect says.
 */
export function connectUnix(path: string, { wait = true }: { readonly wait?: boolean } = {}): number {
  return addon.connectUnix(withoutZero(path, 'path'), wait);
}

/** A pipe, close-on-exec: the end to read from is non-blocking, the end to write to is not. */
export function createPipe(): [read: number, write: number] {
  return addon.createPipe();
}

/** Takes one waiting connection, non-blocking and close-on-exec; `undefined` when nobody waits. */
export function acceptUnix(listener: number): number | undefined {
  return addon.acceptUnix(listener);
}

/** Two connected stream sockets, non-blocking and close-on-exec. */
export function socketPair(): [number, number] {
  return addon.socketPair();
}

/**
 * One recvmsg into `into[at .. at + lengthBytes)`. Received descriptors go to `fds`: their count to `fds[0]`,
 * they themselves (close-on-exec) to `fds[1]` and on; the caller owns them.
 * @returns bytes, 0 at the end of the stream, or WOULD_BLOCK
 * @throws SystemError EMSGSIZE when more descriptors came than `fds` has room for, or than this process may open;
 *   none is left open then, and the bytes are lost. RangeError for an empty range: it could not be told from the end of the stream.
 */
export function receive(
  fd: number,
  into: Uint8Array,
  at: number,
  lengthBytes: number,
  fds: Int32Array,
): number {
  return addon.receive(fd, into, at, lengthBytes, fds);
}

/**
 * One sendmsg of `from[at .. at + lengthBytes)`, with at most 253 descriptors on its first byte. They stay
 * open here. A peer that is gone is an error (EPIPE), not a signal.
 * @returns bytes accepted, perhaps fewer than asked (the descriptors are sent then), or WOULD_BLOCK (they are
 *   not). RangeError for an empty range: the kernel would drop the descriptors.
 */
export function send(
  fd: number,
  from: Uint8Array,
  at: number,
  lengthBytes: number,
  fds?: readonly number[],
): number {
  return addon.send(fd, from, at, lengthBytes, fds);
}

/** Sends one datagram to a Unix socket and does not wait; `@name` is in the abstract namespace. */
export function sendDatagram(path: string, bytes: Uint8Array): void {
  addon.sendDatagram(withoutZero(path, 'path'), bytes);
}

// ---- event loop ----

/** There is something to read, or an end of stream. */
export const READABLE = 1;
/** There is room to write. */
export const WRITABLE = 2;
/** The other side has closed; also delivered, asked for or not, when the descriptor reports an error. */
export const DISCONNECT = 4;

/**
 * Calls back whenever the descriptor is ready for one of the events, until closed: level-triggered. Keeps the
 * event loop alive while it waits for events, unless `unref` was called; a paused watch does not. Never
 * collected while open. At most one watch per descriptor.
 *
 * The callback is a turn of its own: promises and `nextTick` settle after it, and what it throws is an
 * uncaughtException. After an error of the descriptor (DISCONNECT) the watch is paused.
 */
export class Watch implements Disposable {
  readonly #handle: WatchHandle;

  /**
   * @param events sum of READABLE, WRITABLE and DISCONNECT; 0 starts paused
   * @throws SystemError EPERM for what cannot be polled (a regular file), EEXIST when it is watched already
   */
  constructor(fd: number, events: number, callback: (events: number) => void) {
    this.#handle = addon.watch(fd, events, callback);
  }

  /** Waits for these events from now on; 0 pauses. */
  setEvents(events: number): void {
    addon.setEvents(this.#handle, events);
  }

  /** Keeps the event loop alive (the default). */
  ref(): void {
    addon.setRef(this.#handle, true);
  }

  /** Lets the event loop end although this watch is open. */
  unref(): void {
    addon.setRef(this.#handle, false);
  }

  /** No callback comes any more. Close the descriptor after this, not before. Safe to call twice. */
  close(): void {
    addon.closeWatch(this.#handle);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** A new eventfd with count 0, non-blocking and close-on-exec. */
export function createEventfd(): number {
  return addon.createEventfd();
}

/** Makes a descriptor from elsewhere safe to signal: a full counter must not block this thread. */
export function setNonBlocking(fd: number): void {
  addon.setNonBlocking(fd);
}

/** Adds 1 to an eventfd. A full counter counts as delivered: whoever reads it is signalled anyway. */
export function signalEventfd(fd: number): void {
  addon.signalEventfd(fd);
}

/** Reads an eventfd and sets it to 0. @returns how often it was signalled; 0 when it was not */
export function drainEventfd(fd: number): number {
  return addon.drainEventfd(fd);
}

// ---- threads ----

/**
 * Has this thread run soon after it wakes, where others are busy on every CPU: as far as its share reaches, it gets
 * the CPU before threads whose slices are longer, and gives it back sooner. It gets no larger share. Nothing happens
 * before Linux 6.12, or where somebody chose another policy for the thread than SCHED_OTHER. Threads that it starts
 * from now on inherit it.
 * @param sliceMicroseconds from 100 to 100,000, 0 for what is usual; Linux takes the nearest
 * @throws SystemError EPERM where a filter of system calls says so
 */
export function setSchedulingSlice(sliceMicroseconds: number): void {
  addon.setSlice(sliceMicroseconds * 1000);
}

const MAX_POOL_THREADS = 1024;

/** How libuv reads the variable: zero is one, and what is negative is too much. */
function poolThreads(): number {
  const count = Number.parseInt(process.env.UV_THREADPOOL_SIZE ?? '4', 10) || 1;
  return count < 0 ? MAX_POOL_THREADS : Math.min(count, MAX_POOL_THREADS);
}

/**
 * Makes this thread, threads that it starts from now on and, within a moment, those of libuv's thread pool give way
 * to others: SCHED_BATCH, with a lower share of the CPU. A thread that somebody has given another policy than
 * SCHED_OTHER stays as it is.
 * @param niceBy 0 to 19 steps of niceness, a tenth less CPU each while others want it
 * @throws SystemError EPERM where a filter of system calls says so
 */
export function scheduleInBackground(niceBy: number): void {
  addon.toBackground(niceBy, poolThreads());
}

// ---- memory ----

/** Bits of `seals`, as in fcntl.h: no more seals, the file cannot shrink, cannot grow, cannot be written, ... */
export const F_SEAL_SEAL = 0x1;
export const F_SEAL_SHRINK = 0x2;
export const F_SEAL_GROW = 0x4;
export const F_SEAL_WRITE = 0x8;
/** ... cannot be written but through mappings that there are. */
export const F_SEAL_FUTURE_WRITE = 0x10;

export interface MemfdOptions {
  /** `size` fixes the length for ever (SHRINK, GROW, SEAL). Default `none`. */
  seals?: 'size' | 'none';
}

/** A file in memory, sparse, close-on-exec. @param name shown in /proc, at most 249 bytes */
export function createMemfd(name: string, lengthBytes: number, options: MemfdOptions = {}): number {
  return addon.createMemfd(withoutZero(name, 'name'), lengthBytes, options.seals === 'size');
}

/** The F_SEAL_ bits of a file; 0 for a file that cannot have seals. */
export function seals(fd: number): number {
  return addon.seals(fd);
}

/** Whether a shared mapping of what a descriptor is open for can be had: what else may refuse it, mmap says. */
export function isOpenForMapping(fd: number, writable: boolean): boolean {
  const mode = addon.openMode(fd);
  return mode === 2 || (mode === 0 && !writable);
}

/** Gives the pages of a range back: it reads as zeros afterwards, the length of the file stays. */
export function punchHole(fd: number, offset: number, lengthBytes: number): void {
  addon.punchHole(fd, offset, lengthBytes);
}

/**
 * Where the next byte that the file has memory (or swap) for lies, at `offset` or behind it, to the page; `undefined`
 * when there is none up to its end. Moves the position of the descriptor.
 */
export function nextData(fd: number, offset: number): number | undefined {
  return addon.nextData(fd, offset);
}

/** How much of a range the file has memory (or swap) for, in whole pages. Moves the position of the descriptor. */
export function dataBytes(fd: number, offset: number, lengthBytes: number): number {
  return addon.dataBytes(fd, offset, lengthBytes);
}

/**
 * Whether a file is open or mapped through any other open file description than this one, here or in any other process.
 * Only asks of files that were opened by a path (`/proc/self/fd/N` is one): a memfd as it was made always says yes.
 * @throws SystemError when the system does not tell: EACCES for a file of somebody else, EINVAL where there are no leases
 */
export function isOpenElsewhere(fd: number): boolean {
  return addon.isOpenElsewhere(fd);
}

/**
 * Writes zeros over what the file has in a range. Holes stay holes, pages stay where they are, the length of the file
 * stays. Moves the position of the descriptor.
 * @throws SystemError EPERM for a file sealed against writing, or as lseek and pwrite say; part may be cleared then
 */
export function clearRange(fd: number, offset: number, lengthBytes: number): void {
  addon.clearRange(fd, offset, lengthBytes);
}

/** A `clearRange` on the thread pool. */
export interface BackgroundClear {
  /**
   * Blocks until the range is cleared, and does it on this thread where no other has begun. `done` is not called any
   * more. Safe to call again, also after `done`.
   * @throws SystemError what `done` would have been given
   */
  wait(): void;
}

/**
 * Does `clearRange` on libuv's thread pool, then calls `done` from the event loop, once, with what failed. Keeps the
 * event loop alive until then. Has a descriptor of its own until the work is done: closing `fd` does no harm. At the
 * end of the thread `done` is not called, and a range whose turn had not come is not cleared.
 *
 * The callback is a turn of its own, as that of a `Watch` is.
 * @throws SystemError EBADF, EMFILE
 */
export function clearInBackground(
  fd: number,
  offset: number,
  lengthBytes: number,
  done: (error: SystemError | undefined) => void,
): BackgroundClear {
  const clear = addon.clearInBackground(fd, offset, lengthBytes, done);
  return { wait: () => addon.waitForClear(clear) };
}

/** Whole pages of a memfd. */
export interface MemfdRange {
  readonly fd: number;
  /** A multiple of the page size of this machine, as the length is. */
  readonly offset: number;
  readonly lengthBytes: number;
}

/**
 * A dma-buf over pages of memfds, one range after the other: whoever maps it shares these pages, and sees no others.
 * It keeps them when the file lets go of them (`punchHole`). Its size is fixed; it is close-on-exec.
 * @param device a descriptor of `/dev/udmabuf`
 * @throws SystemError EINVAL for no or unaligned ranges, ranges beyond the file, files without F_SEAL_SHRINK or with
 *   F_SEAL_WRITE, and beyond the limits of the module (64 MiB, 1024 ranges unless set); ENOTTY for another device
 */
export function createUdmabuf(device: number, ranges: readonly MemfdRange[]): number {
  return addon.createUdmabuf(
    device,
    ranges.flatMap(({ fd, offset, lengthBytes }) => [fd, offset, lengthBytes]),
  );
}

const SYNC_ACCESS = { read: 1, write: 2, readwrite: 3 } as const;

/**
 * Brackets access by the CPU to a mapped dma-buf, whose exporter may have to move or flush it (DMA_BUF_IOCTL_SYNC).
 * Waits for pending work of devices at the start.
 * @throws SystemError ENOTTY for what is no dma-buf
 */
export function syncDmaBuf(fd: number, phase: 'start' | 'end', access: keyof typeof SYNC_ACCESS): void {
  addon.syncDmaBuf(fd, phase === 'end', SYNC_ACCESS[access]);
}

/**
 * Distance of the chunks of a mapping, 2 MiB. The engine takes each for memory that a collection could free, so few
 * and small ones are better: with chunks of 1 GiB every new guest cost a full collection.
 */
export const CHUNK_BYTES = 2 ** 21;
/** How far a chunk reaches into the next one, 1 MiB: a range of at most this length lies in one chunk. */
export const CHUNK_OVERLAP_BYTES = 2 ** 20;

export interface MapOptions {
  /** First byte in the file, a multiple of 4096. Default 0. */
  offset?: number;
  lengthBytes: number;
  /** Default false: writing through a view then ends the process. */
  writable?: boolean;
  /** Survive the file's shrinking: lost pages read as zeros and are counted in `sigbusRepairs`. Default false. */
  guard?: boolean;
  /** Include the memory in core dumps. Default false. */
  dump?: boolean;
  /** Make one chunk of it all: for images, which are looked at as a whole and are less than 4 GiB. Default false. */
  whole?: boolean;
}

let regionOf: (mapping: Mapping) => RegionHandle;
let spaceOf: (space: GuestAddressSpace) => SpaceHandle;

/**
 * A shared mapping of a file. Guest RAM may be larger than the largest ArrayBuffer (4 GiB on Node 20), so it
 * is seen through chunks: chunk i starts at i * CHUNK_BYTES and is CHUNK_BYTES + CHUNK_OVERLAP_BYTES long, or
 * reaches to the end of the mapping.
 *
 * `close` unmaps at once: all views have length 0 then. Hand views to synchronous code only: a pending
 * asynchronous call keeps a pointer that `close` cannot take back. Forgotten mappings are unmapped once they
 * and all their views are collected.
 */
export class Mapping implements Disposable {
  static {
    regionOf = (mapping) => mapping.#handle;
  }

  readonly lengthBytes: number;
  readonly #handle: RegionHandle;
  readonly #chunkBytes: number;
  /** Those that were asked for, by index. */
  readonly #chunks = new Map<number, ArrayBuffer>();
  #closed = false;

  /**
   * @throws SystemError EINVAL when the file does not reach to the end of the range; EACCES or EPERM when it
   *   cannot be mapped this way; ENOSPC when all 8192 guards are taken
   */
  static map(fd: number, options: MapOptions): Mapping {
    const { offset = 0, lengthBytes, writable = false, guard = false, dump = false, whole = false } = options;
    const handle = addon.map(fd, offset, lengthBytes, writable, guard, dump);
    return new Mapping(handle, lengthBytes, whole ? lengthBytes : CHUNK_BYTES);
  }

  /**
   * Takes addresses for a file of `lengthBytes`, of which `fill` maps parts and `drop` takes them away again. Elsewhere
   * it reads as zeros, and writing ends the process. Of the descriptor only the size of the file's pages is taken.
   * `guard` is as for `map`, and always on for huge pages, which may run out; core dumps do not include it.
   * @throws SystemError ENOMEM for more addresses than there are; ENOSPC when all 8192 guards are taken
   */
  static reserve(fd: number, options: { lengthBytes: number; writable: boolean; guard: boolean }): Mapping {
    const { lengthBytes, writable, guard } = options;
    return new Mapping(addon.reserve(fd, lengthBytes, writable, guard), lengthBytes, CHUNK_BYTES);
  }

  private constructor(handle: RegionHandle, lengthBytes: number, chunkBytes: number) {
    this.#handle = handle;
    this.lengthBytes = lengthBytes;
    this.#chunkBytes = chunkBytes;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The memory from `index * CHUNK_BYTES` on (chunk 0 is all there is where `whole` was asked for). Always the same ArrayBuffer for the same index. */
  chunk(index: number): ArrayBuffer {
    return this.#chunks.get(index) ?? this.#makeChunk(index);
  }

  /** A view of a range that lies in one chunk, as any of at most CHUNK_OVERLAP_BYTES does. */
  bytes(offset: number, lengthBytes: number): Uint8Array<ArrayBuffer> {
    if (!(offset >= 0 && lengthBytes >= 0 && offset + lengthBytes <= this.lengthBytes)) {
      throw new RangeError(`${lengthBytes} bytes at ${offset} are not in a mapping of ${this.lengthBytes}`);
    }
    // Only an empty range can start at the end of the mapping, where no chunk may start.
    const index = Math.floor(Math.min(offset, this.lengthBytes - 1) / this.#chunkBytes);
    return new Uint8Array(this.chunk(index), offset - index * this.#chunkBytes, lengthBytes);
  }

  /** Size of the pages of the file, which may be huge ones: what `fill` and `drop` count in. */
  get filePageBytes(): number {
    return addon.filePageBytes(this.#handle);
  }

  /**
   * Maps a part of a file at its place in a mapping that was reserved for it. A descriptor of another file, or a part
   * beyond its end, is the caller's mistake. Pages that the file does not have yet are not set aside.
   * @param offset a multiple of `filePageBytes`, as the end is unless it is that of the mapping
   * @throws SystemError EINVAL outside of the mapping, or of one that was not reserved; EACCES or EPERM when the file
   *   cannot be mapped this way; ENOMEM for more mappings than a process may have; EBADF when it is closed
   */
  fill(fd: number, offset: number, lengthBytes: number): void {
    addon.fillReserved(this.#handle, fd, offset, lengthBytes);
  }

  /** Takes a part of the file away, as `fill` gave it, and empties all views of it. @throws SystemError as `fill` */
  drop(offset: number, lengthBytes: number): void {
    this.detach(offset, lengthBytes);
    addon.dropReserved(this.#handle, offset, lengthBytes);
  }

  /** Empties all views of a range, and of what lies around it; the pages stay, for new views. */
  detach(offset: number, lengthBytes: number): void {
    if (this.#chunks.size === 0) return;
    const first = Math.max(0, Math.floor((offset - CHUNK_OVERLAP_BYTES) / this.#chunkBytes));
    const end = Math.ceil((offset + lengthBytes) / this.#chunkBytes);
    // Few were made, or few can be concerned.
    const candidates = end - first < this.#chunks.size ? indexes(first, end) : [...this.#chunks.keys()];
    for (const index of candidates) {
      const chunk = this.#chunks.get(index);
      if (!chunk || index < first || index >= end) continue;
      addon.detachChunk(chunk);
      this.#chunks.delete(index);
    }
  }

  /** Unmaps, and empties all views. Safe to call twice. */
  close(): void {
    if (this.#closed) return;
    addon.unmap(this.#handle, [...this.#chunks.values()]);
    this.#closed = true;
    this.#chunks.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #makeChunk(index: number): ArrayBuffer {
    const left = this.lengthBytes - index * this.#chunkBytes;
    if (!(Number.isInteger(index) && index >= 0 && left > 0)) {
      throw new RangeError(`a mapping of ${this.lengthBytes} bytes has no chunk ${index}`);
    }
    const made = addon.chunk(
      this.#handle,
      index * this.#chunkBytes,
      Math.min(left, this.#chunkBytes + CHUNK_OVERLAP_BYTES),
    );
    this.#chunks.set(index, made);
    return made;
  }
}

const indexes = (first: number, end: number) => Array.from({ length: end - first }, (_, i) => first + i);

/**
 * Guest addresses to mappings, for native code: the pixel loops translate here, without JavaScript per page.
 * Windows do not overlap; neighbours over neighbouring bytes of one mapping become one. One over a mapping that was closed
 * reads as if it were not there.
 */
export class GuestAddressSpace implements Disposable {
  static {
    spaceOf = (space) => space.#handle;
  }

  readonly #handle = addon.makeSpace();

  /**
   * Lists a window; it keeps the mapping's memory, but not the mapping, alive.
   * @throws SystemError EEXIST when it overlaps another, EINVAL when it is empty or not in the mapping, EACCES
   *   for a writable window on a mapping that is not, EBADF for a closed mapping
   */
  add(
    guestAddress: number,
    lengthBytes: number,
    mapping: Mapping,
    mappingOffset: number,
    writable: boolean,
  ): void {
    addon.addWindow(this.#handle, guestAddress, lengthBytes, regionOf(mapping), mappingOffset, writable);
  }

  /** Drops what is listed in a range, of which there may be nothing; a window that reaches beyond it stays there. */
  remove(guestAddress: number, lengthBytes: number): void {
    addon.removeRange(this.#handle, guestAddress, lengthBytes);
  }

  /** Of windows that do not go on in another one. */
  get windowCount(): number {
    return addon.windowCount(this.#handle);
  }

  /** Drops all windows. */
  clear(): void {
    addon.clearSpace(this.#handle);
  }

  /** Whether every byte of the range is mapped (and writable, with `write`); windows may adjoin. */
  covers(guestAddress: number, lengthBytes: number, write: boolean): boolean {
    return addon.covers(this.#handle, guestAddress, lengthBytes, write);
  }

  /** Copies guest memory. @returns false when a byte is not mapped; `into` may then be partly filled */
  read(guestAddress: number, into: Uint8Array): boolean {
    return addon.readGuest(this.#handle, guestAddress, into);
  }

  /** Copies to guest memory. @returns false, and nothing was written, when a byte is not mapped or read-only */
  write(guestAddress: number, from: Uint8Array): boolean {
    return addon.writeGuest(this.#handle, guestAddress, from);
  }

  /** Drops all windows for good. Safe to call twice. */
  close(): void {
    addon.closeSpace(this.#handle);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Page size of this machine. */
export function pageBytes(): number {
  return addon.pageBytes();
}

const repairs = new Uint32Array(addon.sigbusCounter());

/**
 * Repairs of guarded mappings since the process began, modulo 2^32: one per page, or one for a mapping that
 * could only be replaced whole. Compare two readings for equality. As cheap as reading an array.
 */
export function sigbusRepairs(): number {
  return Atomics.load(repairs, 0);
}

// ---- pixels ----

/** A guest's memory list as one byte stream. */
export interface EntryList {
  /** Guest address of each entry. */
  readonly addresses: Float64Array;
  /** Where each entry ends in the stream, and thus where the next one begins; never descending. */
  readonly ends: Float64Array;
}

/** Where the rows of an image lie. */
export interface Span2d {
  /** The first byte of the first row. */
  offset: number;
  /** Distance of one row to the next. In a buffer (not in a list) rows may not overlap. */
  strideBytes: number;
}

/** Byte positions of the channels in a pixel of 4 bytes; `a: -1` is a pixel without alpha. */
export interface PixelOrder {
  r: number;
  g: number;
  b: number;
  a: number;
}

/**
 * Copies `rows` rows of `rowBytes` from the stream that the entries form into `to`. Bytes beyond the end of
 * the list are skipped, at any offset up to 2^53.
 * @returns bytes copied, or -1 when guest memory is not mapped (what lies before it may have been copied)
 * @throws RangeError when `to` cannot hold the rows or the list is not one; SystemError EBADF for a closed space
 */
export function gather(
  space: GuestAddressSpace,
  entries: EntryList,
  from: Span2d,
  to: Uint8Array,
  toSpan: Span2d,
  rowBytes: number,
  rows: number,
): number {
  return addon.gather(
    spaceOf(space),
    entries.addresses,
    entries.ends,
    from.offset,
    from.strideBytes,
    to,
    toSpan.offset,
    toSpan.strideBytes,
    rowBytes,
    rows,
  );
}

/** The reverse of `gather`: from `from` to the stream, into writable windows only (-1 otherwise). */
export function scatter(
  space: GuestAddressSpace,
  entries: EntryList,
  toSpan: Span2d,
  from: Uint8Array,
  fromSpan: Span2d,
  rowBytes: number,
  rows: number,
): number {
  return addon.scatter(
    spaceOf(space),
    entries.addresses,
    entries.ends,
    toSpan.offset,
    toSpan.strideBytes,
    from,
    fromSpan.offset,
    fromSpan.strideBytes,
    rowBytes,
    rows,
  );
}

/**
 * Copies an image of 4-byte pixels and changes the order of its channels. Alpha becomes 255 where the source
 * has none, and so does the byte that a destination without alpha leaves over. In place is fine.
 * @throws RangeError when a buffer cannot hold the image or an order is not one
 */
export function convertPixels(
  from: Uint8Array,
  fromSpan: Span2d,
  fromOrder: PixelOrder,
  to: Uint8Array,
  toSpan: Span2d,
  toOrder: PixelOrder,
  width: number,
  height: number,
): void {
  addon.convertPixels(
    from,
    fromSpan.offset,
    fromSpan.strideBytes,
    to,
    toSpan.offset,
    toSpan.strideBytes,
    picks(fromOrder, toOrder),
    width,
    height,
  );
}

const FULL = 4;

/** Four bits for each byte of a destination pixel: the byte of the source pixel to take, or FULL. */
function picks(from: PixelOrder, to: PixelOrder): number {
  checkOrder(from);
  checkOrder(to);
  const leftOver = 6 - to.r - to.g - to.b;
  const alpha = from.a < 0 || to.a < 0 ? FULL : from.a;
  return (from.r << (4 * to.r)) | (from.g << (4 * to.g)) | (from.b << (4 * to.b)) | (alpha << (4 * leftOver));
}

function checkOrder({ r, g, b, a }: PixelOrder): void {
  const leftOver = 6 - r - g - b;
  const isOrder = [r, g, b, leftOver].sort().join() === '0,1,2,3' && (a === -1 || a === leftOver);
  if (!isOrder) throw new RangeError(`r ${r}, g ${g}, b ${b}, a ${a} is no order of channels`);
}

/**
 * Compares two images tile by tile, sets `changed[tile]` to 1 or 0 (row by row of tiles; those at the right
 * and at the bottom may be smaller) and copies what changed into `previous`.
 * @returns the number of changed tiles
 * @throws RangeError when a buffer cannot hold its image, or `changed` all tiles
 */
export function diffTiles(
  current: Uint8Array,
  currentSpan: Span2d,
  previous: Uint8Array,
  previousSpan: Span2d,
  rowBytes: number,
  rows: number,
  tile: { widthBytes: number; rows: number },
  changed: Uint8Array,
): number {
  return addon.diffTiles(
    current,
    currentSpan.offset,
    currentSpan.strideBytes,
    previous,
    previousSpan.offset,
    previousSpan.strideBytes,
    rowBytes,
    rows,
    tile.widthBytes,
    tile.rows,
    changed,
  );
}

// ---- pixels for viewers of RFB ----

/** An image of 4-byte pixels, or a part of one. Sizes are in pixels, at most 65535. */
export interface Pixels {
  readonly bytes: Uint8Array;
  /** Of the first pixel. */
  readonly offset: number;
  readonly strideBytes: number;
  readonly width: number;
  readonly height: number;
  readonly order: PixelOrder;
}

/** What a pixel becomes. */
export interface PixelParts {
  /**
   * For each value of red, then of green, then of blue, its part of a word. The parts are or-ed; the low bytes of
   * the word, the lowest first, are the pixel.
   */
  readonly parts: Int32Array;
  /** Bytes of a pixel, 1 to 4. */
  readonly pixelBytes: number;
}

/**
 * Stores pixels row by row, without gaps: `pixelBytes` bytes for each.
 * @returns bytes stored
 * @throws RangeError when a buffer is too small
 */
export function packPixels(pixels: Pixels, as: PixelParts, to: Uint8Array): number {
  return addon.packPixels(...packJob(pixels, as, to));
}

/** The side of the squares in which `packZrleTiles` and `packTightRects` look at an image. */
export const TILE_PIXELS = 64;

/**
 * Stores the tiles of a ZRLE rectangle (RFC 6143 section 7.7.6) as they are before zlib, each in the shortest of
 * its encodings. `to` must have room for `pixelBytes` per pixel and one byte per tile.
 * @returns bytes stored
 * @throws RangeError when a buffer is too small
 */
export function packZrleTiles(pixels: Pixels, as: PixelParts, to: Uint8Array): number {
  return addon.packZrleTiles(...packJob(pixels, as, to));
}

/**
 * What fills a rectangle: one colour; pixels; a palette and an index per pixel (1 bit with two colours, rows padded
 * to bytes, and 8 otherwise); pixels of a photo, as red, green and blue bytes, after Tight's gradient filter or before
 * JPEG.
 */
export const TightKind = { fill: 0, copy: 1, palette: 2, gradient: 3, photo: 4 } as const;
export type TightKind = (typeof TightKind)[keyof typeof TightKind];

/** What becomes of photos: pixels as others, pixels after the gradient filter, pixels for JPEG. */
export const Photos = { copied: 0, gradient: 1, kept: 2 } as const;
export type Photos = (typeof Photos)[keyof typeof Photos];

/** The numbers of a rectangle in `records`; `start` and `length` say where its bytes are. */
export type TightRecord = readonly [
  kind: TightKind,
  x: number,
  y: number,
  width: number,
  height: number,
  colours: number,
  start: number,
  length: number,
];
export const TIGHT_RECORD_NUMBERS = 8;

/**
 * Splits an image into rectangles of at most 2048 x 512 pixels (those of one colour may be higher) and stores what
 * Tight compresses of each. `to` must have room for 3 bytes per pixel, or `pixelBytes` if that is more; `records` for
 * one record per tile.
 * @returns the number of rectangles
 * @throws RangeError when a buffer is too small
 */
export function packTightRects(
  pixels: Pixels,
  as: PixelParts,
  photos: Photos,
  to: Uint8Array,
  records: Int32Array,
): number {
  return addon.packTightRects(...packJob(pixels, as, to), photos, records);
}

function packJob(
  { bytes, offset, strideBytes, width, height, order }: Pixels,
  { parts, pixelBytes }: PixelParts,
  to: Uint8Array,
): PackJob {
  checkOrder(order);
  const { r, g, b } = order;
  return [bytes, offset, strideBytes, width, height, r, g, b, parts, pixelBytes, to];
}

/** Pixels that came from elsewhere in the same columns. */
export interface Scroll {
  readonly column: number;
  readonly columns: number;
  /** The first row that came. */
  readonly row: number;
  readonly rows: number;
  /** How far it came: negative is up. Never 0. */
  readonly down: number;
}

/**
 * Looks for rows of `current` that are rows of `previous` moved up or down, as scrolling does, in the columns in which
 * images of 4-byte pixels differ, and gives the longest run of them. Both images are read whole, so this costs as much as comparing them.
 * @throws RangeError when a buffer cannot hold its image
 */
export function findScroll(
  current: Uint8Array,
  currentSpan: Span2d,
  previous: Uint8Array,
  previousSpan: Span2d,
  rowBytes: number,
  rows: number,
): Scroll | undefined {
  const found = new Int32Array(5);
  const isFound = addon.findScroll(
    current,
    currentSpan.offset,
    currentSpan.strideBytes,
    previous,
    previousSpan.offset,
    previousSpan.strideBytes,
    rowBytes,
    rows,
    found,
  );
  const [column = 0, columns = 0, row = 0, count = 0, down = 0] = found;
  return isFound ? { column, columns, row, rows: count, down } : undefined;
}

/**
 * What is open: mappings, watches and background clears of this thread, guards of the process. A clear that was waited
 * for counts until the loop's next turn. For leak tests.
 */
export function registrySize(): { mappings: number; watches: number; guards: number; clears: number } {
  const [mappings, watches, guards, clears] = addon.registrySize();
  return { mappings, watches, guards, clears };
}
