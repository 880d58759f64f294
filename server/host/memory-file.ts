/**
 * A file with guest memory in it, as windows show it for one kind of access: one descriptor and one range of addresses,
 * which parts of the file are mapped into while a window shows them.
 */
import { closeSync } from 'node:fs';
import { F_SEAL_SHRINK, Mapping, seals } from '../../native/index.ts';

/**
 * The least that is mapped or unmapped. Files would be all holes if each window were mapped alone: a process has 65,530
 * mappings, and up to four devices. With this, windows of 1 TiB take 8192 at most, however they lie and in whatever order
 * they come. It is also what Linux takes from a guest at a time.
 */
const PIECE_BYTES = 128 * 2 ** 20;

/** What windows may do with a file: nothing, if they say so. */
export type FileAccess = 'none' | 'read' | 'write';

export interface MemoryFileOptions {
  /** Device and inode. */
  readonly identity: string;
  /** By which the file is looked up. */
  readonly key: string;
  readonly number: number;
  readonly fd: number;
  readonly access: FileAccess;
  /** Where the file begins for us. 0, unless it has no size and a window is mapped for itself. */
  readonly start: number;
  readonly lengthBytes: number;
  /** False where the range is mapped as a whole. */
  readonly isPiecewise: boolean;
  /** Into as many pieces it may be divided. */
  readonly maxPieces: number;
}

export class MemoryFile {
  readonly identity: string;
  readonly key: string;
  readonly number: number;
  /** Closed with the file. */
  readonly fd: number;
  readonly access: FileAccess;
  readonly start: number;
  readonly lengthBytes: number;
  /** Undefined without access. */
  readonly mapping: Mapping | undefined;
  /** Windows that show it. */
  windows = 0;
  readonly #pieceBytes: number;
  /** Windows that show a part of each piece; what has one is mapped. */
  readonly #uses: Uint32Array;

  /** Takes ownership of `fd`, unless it throws. @throws SystemError when the file cannot be mapped */
  constructor(options: MemoryFileOptions) {
    const { fd, access, start, lengthBytes, isPiecewise, maxPieces } = options;
    this.identity = options.identity;
    this.key = options.key;
    this.number = options.number;
    this.fd = fd;
    this.access = access;
    this.start = start;
    this.lengthBytes = lengthBytes;
    const writable = access === 'write';
    if (access === 'none') {
      this.mapping = undefined;
    } else {
      // A file that cannot shrink cannot fault.
      const guard = (seals(fd) & F_SEAL_SHRINK) === 0;
      this.mapping = isPiecewise
        ? Mapping.reserve(fd, { lengthBytes, writable, guard })
        : Mapping.map(fd, { offset: start, lengthBytes, writable, guard });
    }
    let pieceBytes = isPiecewise ? Math.max(PIECE_BYTES, this.mapping?.filePageBytes ?? 0) : lengthBytes;
    while (lengthBytes > pieceBytes * maxPieces) pieceBytes *= 2;
    this.#pieceBytes = pieceBytes;
    this.#uses = new Uint32Array(isPiecewise && this.mapping ? Math.ceil(lengthBytes / pieceBytes) : 0);
  }

  /** Mappings it can take at most. */
  get pieces(): number {
    return this.#uses.length;
  }

  /** Maps what a window shows. @throws SystemError when that cannot be, and nothing has changed then */
  show(offset: number, sizeBytes: number): void {
    const [first, end] = this.#piecesOf(offset, sizeBytes);
    try {
      this.#eachUnused(first, end, (at, lengthBytes) => this.mapping?.fill(this.fd, at, lengthBytes));
    } catch (error) {
      this.#eachUnused(first, end, (at, lengthBytes) => this.mapping?.drop(at, lengthBytes));
      throw error;
    }
    this.#use(first, end, 1);
    this.windows++;
  }

  /** Ends all views of what a window showed, and unmaps what no other one shows a part of. After the last one, `close`. */
  hide(offset: number, sizeBytes: number): void {
    this.windows--;
    if (this.windows === 0) return;
    const [first, end] = this.#piecesOf(offset, sizeBytes);
    this.mapping?.detach(offset - this.start, sizeBytes);
    this.#use(first, end, -1);
    this.#eachUnused(first, end, (at, lengthBytes) => this.mapping?.drop(at, lengthBytes));
  }

  close(): void {
    this.mapping?.close();
    closeSync(this.fd);
  }

  #piecesOf(offset: number, sizeBytes: number): readonly [first: number, end: number] {
    if (this.#uses.length === 0) return [0, 0];
    return [Math.floor(offset / this.#pieceBytes), Math.ceil((offset + sizeBytes) / this.#pieceBytes)];
  }

  #use(first: number, end: number, change: number): void {
    for (let piece = first; piece < end; piece++) this.#uses[piece] = (this.#uses[piece] as number) + change;
  }

  /** Ranges of the file, as large as can be, of pieces that no window shows. */
  #eachUnused(first: number, end: number, action: (offset: number, lengthBytes: number) => void): void {
    for (let from = first; from < end; from++) {
      if (this.#uses[from] !== 0) continue;
      let to = from + 1;
      while (to < end && this.#uses[to] === 0) to++;
      const offset = from * this.#pieceBytes;
      action(offset, Math.min(to * this.#pieceBytes, this.lengthBytes) - offset);
      from = to;
    }
  }
}
