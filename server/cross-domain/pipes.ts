/** Ends of pipes: what a host process writes is read for the guest, what the guest writes is written to one. */
import { closeSync, fstatSync, readFileSync, readSync, writeSync } from 'node:fs';
import { DISCONNECT, READABLE, setNonBlocking, Watch, WRITABLE } from '../../native/index.ts';

/** What is kept of a pipe that takes nothing now, is kept in pieces of at least half of this. */
const PIECE_BYTES = 4096;

/** Data for the guest. `hangUp` comes alone, and last. */
export interface PipeData {
  readonly bytes: Uint8Array;
  readonly hangUp: boolean;
}

/** The end that we read for the guest. It tells of data once, and is read when there is somebody to take them. */
export class ReadPipe {
  readonly #fd: number;
  readonly #watch: Watch;
  readonly #onReady: () => void;
  #isReady = false;
  #closed = false;

  /** Takes ownership of the non-blocking descriptor. */
  constructor(fd: number, onReady: () => void) {
    this.#fd = fd;
    this.#onReady = onReady;
    this.#watch = new Watch(fd, READABLE, () => this.#wake());
  }

  get isReady(): boolean {
    return this.#isReady;
  }

  /** What can be had now; undefined when that is nothing. */
  read(maxBytes: number): PipeData | undefined {
    if (!this.#isReady) return undefined;
    const bytes = new Uint8Array(maxBytes);
    let count = 0;
    try {
      count = readSync(this.#fd, bytes);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') {
        this.#sleep();
        return undefined;
      }
      // Whatever it is: nothing more will come.
    }
    if (count < maxBytes && count > 0) this.#sleep();
    return { bytes: bytes.subarray(0, count), hangUp: count === 0 };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch.close();
    closeSync(this.#fd);
  }

  #wake(): void {
    this.#isReady = true;
    // Level-triggered: it would tell again and again.
    this.#watch.setEvents(0);
    this.#onReady();
  }

  #sleep(): void {
    this.#isReady = false;
    this.#watch.setEvents(READABLE);
  }
}

/** The end that we write to for the guest. Nobody waits for a slow reader; what one that is gone does not get is lost. */
export class WritePipe {
  #fd: number | undefined;
  #watch: Watch | undefined;
  readonly #unwritten: Uint8Array[] = [];
  #unwrittenBytes = 0;
  /** Called when everything has been written, or nothing can be any more. */
  #onEnd: (() => void) | undefined;

  /** Takes ownership of the descriptor. Without one, everything written is lost. */
  constructor(fd: number | undefined) {
    this.#fd = fd;
    if (fd !== undefined) setNonBlocking(fd);
  }

  get unwrittenBytes(): number {
    return this.#unwrittenBytes;
  }

  /** Writes, or keeps in order for later. */
  write(bytes: Uint8Array): void {
    if (this.#fd === undefined || bytes.length === 0) return;
    this.#keep(bytes);
    this.#unwrittenBytes += bytes.length;
    this.#flush();
  }

  /** Small pieces would cost more than their bytes. */
  #keep(bytes: Uint8Array): void {
    const last = this.#unwritten.at(-1);
    if (!last || last.length + bytes.length > PIECE_BYTES) this.#unwritten.push(bytes);
    else this.#unwritten[this.#unwritten.length - 1] = Buffer.concat([last, bytes]);
  }

  /** From now on it keeps no process alive. */
  unref(): void {
    this.#watch?.unref();
  }

  /** Closes it when everything has been written, and says so. */
  end(onEnd: () => void): void {
    this.#onEnd = onEnd;
    if (this.#fd === undefined) this.close();
    else this.#flush();
  }

  close(): void {
    const onEnd = this.#onEnd;
    this.#onEnd = undefined;
    this.#watch?.close();
    this.#watch = undefined;
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
    this.#unwritten.length = 0;
    this.#unwrittenBytes = 0;
    onEnd?.();
  }

  #flush(): void {
    for (let first = this.#unwritten[0]; first && this.#fd !== undefined; first = this.#unwritten[0]) {
      try {
        const count = writeSync(this.#fd, first);
        this.#unwrittenBytes -= count;
        if (count === first.length) this.#unwritten.shift();
        else this.#unwritten[0] = first.subarray(count);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EAGAIN') break;
        this.close();
      }
    }
    if (this.#fd === undefined) return;
    if (this.#unwritten.length === 0) {
      this.#watch?.setEvents(0);
      if (this.#onEnd) this.close();
    } else if (this.#watch) {
      this.#watch.setEvents(WRITABLE);
    } else {
      this.#watch = new Watch(this.#fd, WRITABLE, (ready) => this.#onReady(ready));
    }
  }

  #onReady(ready: number): void {
    if (ready & WRITABLE) this.#flush();
    else if (ready & DISCONNECT) this.close();
  }
}

/** How long a reader may take for what is left when the context has ended. */
const LINGER_MS = 10_000;
/** Of all contexts of a device together. */
const MAX_LINGERING_BYTES = 64 * 2 ** 20;
const MAX_LINGERING_PIPES = 64;

/**
 * Pipes that guests had written whole and hung up when their contexts ended: a program that has copied something leaves
 * before a slow reader has it all. There are limits for all of them; what is beyond is lost.
 */
export class LingeringPipes {
  readonly #pipes = new Set<WritePipe>();

  get count(): number {
    return this.#pipes.size;
  }

  /** Takes over a pipe that has been ended. */
  take(pipe: WritePipe): void {
    const kept = [...this.#pipes].reduce((sum, { unwrittenBytes }) => sum + unwrittenBytes, 0);
    if (this.#pipes.size >= MAX_LINGERING_PIPES || kept + pipe.unwrittenBytes > MAX_LINGERING_BYTES) {
      pipe.close();
      return;
    }
    this.#pipes.add(pipe);
    const timer = setTimeout(() => pipe.close(), LINGER_MS);
    // A program that leaves waits for no reader.
    timer.unref();
    pipe.unref();
    pipe.end(() => {
      clearTimeout(timer);
      this.#pipes.delete(pipe);
    });
  }

  close(): void {
    for (const pipe of this.#pipes) pipe.close();
  }
}

/** What a descriptor from the host is to a guest. */
export type ReceivedKind = 'memory' | 'pipe' | 'unknown';

const O_ACCMODE = 3;
const O_RDONLY = 0;

/** Judges by what the descriptor is, and whether it can be written to. `sizeBytes` is that of memory. */
export function classify(fd: number): { readonly kind: ReceivedKind; readonly sizeBytes: number } {
  const stat = fstatSync(fd);
  if (stat.isFIFO() || stat.isSocket()) {
    const [, flags = '0'] = /^flags:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')) ?? [];
    const isWritable = (Number.parseInt(flags, 8) & O_ACCMODE) !== O_RDONLY;
    return { kind: isWritable ? 'pipe' : 'unknown', sizeBytes: 0 };
  }
  // A memfd, a file, or a dma-buf, which is none of the kinds that stat knows and has a size.
  const isMemory = stat.isFile() || (stat.size > 0 && !stat.isCharacterDevice() && !stat.isDirectory());
  return { kind: isMemory ? 'memory' : 'unknown', sizeBytes: isMemory ? stat.size : 0 };
}
