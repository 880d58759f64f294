/**
 * Which parts of a picture have changed: a bit for every tile of 16x16 pixels. Tiles keep damage bounded, however a
 * guest flushes: what is noted twice costs nothing, and a viewer that is late has one set, not a queue.
 */
import type { Rect } from '../display.ts';

export const TILE = 16;
const WORD_BITS = 32;

const countOf = (pixels: number) => Math.ceil(pixels / TILE);
const wordsOf = (columns: number) => Math.ceil(columns / WORD_BITS);
/** `count` bits from bit `first` on, of one word. */
const mask = (first: number, count: number) =>
  (count === WORD_BITS ? 0xffff_ffff : (1 << count) - 1) << first;

/** Calls back for each word that holds bits of the columns from `first` to `end`, exclusive. */
function forEachWord(first: number, end: number, visit: (word: number, bits: number) => void): void {
  for (let column = first; column < end; ) {
    const bit = column % WORD_BITS;
    const count = Math.min(WORD_BITS - bit, end - column);
    visit((column - bit) / WORD_BITS, mask(bit, count));
    column += count;
  }
}

/** A set of tiles of a picture. */
export class TileSet {
  readonly width: number;
  readonly height: number;
  readonly columns: number;
  readonly rows: number;
  readonly words: Int32Array;
  readonly #wordsPerRow: number;

  /** Empty. Sizes in pixels. */
  constructor(width: number, height: number) {
    this.width = width;
    this.height = height;
    this.columns = countOf(width);
    this.rows = countOf(height);
    this.#wordsPerRow = wordsOf(this.columns);
    this.words = new Int32Array(this.rows * this.#wordsPerRow);
  }

  get isEmpty(): boolean {
    return this.words.every((word) => word === 0);
  }

  has(column: number, row: number): boolean {
    const word = this.words[row * this.#wordsPerRow + Math.floor(column / WORD_BITS)] as number;
    return ((word >>> (column % WORD_BITS)) & 1) === 1;
  }

  addTile(column: number, row: number): void {
    this.#change(row, column, column + 1, true);
  }

  /** Adds the tiles that a rectangle touches; what is outside of the picture is ignored. */
  add(rect: Rect): void {
    const { left, top, right, bottom } = this.#touched(rect);
    for (let row = top; row < bottom; row++) this.#change(row, left, right, true);
  }

  addAll(): void {
    this.add({ x: 0, y: 0, width: this.width, height: this.height });
  }

  /** Adds what is in another set of a picture of the same size. */
  addSet({ words }: TileSet): void {
    words.forEach((word, i) => {
      this.words[i] = (this.words[i] as number) | word;
    });
  }

  /** Takes out the tiles that lie wholly in a rectangle. */
  remove({ x, y, width, height }: Rect): void {
    // A tile at the edge ends where the picture does.
    const end = (at: number, limit: number) => (at >= limit ? countOf(limit) : Math.floor(at / TILE));
    const right = end(x + width, this.width);
    const bottom = end(y + height, this.height);
    for (let row = countOf(y); row < bottom; row++) this.#change(row, countOf(x), right, false);
  }

  clear(): void {
    this.words.fill(0);
  }

  /** Whether a tile that the rectangle touches is in the set. */
  touches(rect: Rect): boolean {
    const { left, top, right, bottom } = this.#touched(rect);
    for (let row = top; row < bottom; row++) {
      let found = false;
      forEachWord(left, right, (word, bits) => {
        found ||= ((this.words[row * this.#wordsPerRow + word] as number) & bits) !== 0;
      });
      if (found) return true;
    }
    return false;
  }

  /** The smallest rectangle with all tiles of the set that lie in a rectangle of whole tiles. */
  bounds(within: Rect): Rect | undefined {
    const { left, top, right, bottom } = this.#touched(within);
    const found = { left: right, right: left, top: bottom };
    let end = top;
    for (let row = top; row < bottom; row++) {
      for (const [first, last] of this.#runs(row)) {
        if (last <= left || first >= right) continue;
        found.left = Math.min(found.left, Math.max(first, left));
        found.right = Math.max(found.right, Math.min(last, right));
        found.top = Math.min(found.top, row);
        end = row + 1;
      }
    }
    return found.left < found.right ? this.#rect(found, end) : undefined;
  }

  /** The set as rectangles that do not overlap, in pixels, from the top; equal runs of rows become one. */
  rects(): Rect[] {
    const done: Rect[] = [];
    let open: { left: number; right: number; top: number }[] = [];
    for (let row = 0; row <= this.rows; row++) {
      const runs = row < this.rows ? this.#runs(row) : [];
      const next = runs.map(([left, right]) => {
        const above = open.find((run) => run.left === left && run.right === right);
        return above ?? { left, right, top: row };
      });
      for (const run of open) if (!next.includes(run)) done.push(this.#rect(run, row));
      open = next;
    }
    return done;
  }

  #runs(row: number): [left: number, right: number][] {
    const runs: [number, number][] = [];
    for (let word = 0; word < this.#wordsPerRow; word++) {
      const bits = this.words[row * this.#wordsPerRow + word] as number;
      if (bits === 0) continue;
      for (let bit = 0; bit < WORD_BITS; bit++) {
        if (((bits >>> bit) & 1) === 0) continue;
        const column = word * WORD_BITS + bit;
        const last = runs.at(-1);
        if (last && last[1] === column) last[1]++;
        else runs.push([column, column + 1]);
      }
    }
    return runs;
  }

  #rect({ left, right, top }: { left: number; right: number; top: number }, endRow: number): Rect {
    const x = left * TILE;
    const y = top * TILE;
    return {
      x,
      y,
      width: Math.min(right * TILE, this.width) - x,
      height: Math.min(endRow * TILE, this.height) - y,
    };
  }

  #touched({ x, y, width, height }: Rect): { left: number; top: number; right: number; bottom: number } {
    const isEmpty = width <= 0 || height <= 0;
    return {
      left: Math.max(0, Math.floor(x / TILE)),
      top: Math.max(0, Math.floor(y / TILE)),
      right: isEmpty ? 0 : Math.min(this.columns, countOf(x + width)),
      bottom: isEmpty ? 0 : Math.min(this.rows, countOf(y + height)),
    };
  }

  #change(row: number, first: number, end: number, isIn: boolean): void {
    forEachWord(first, end, (word, bits) => {
      const at = row * this.#wordsPerRow + word;
      const before = this.words[at] as number;
      this.words[at] = isIn ? before | bits : before & ~bits;
    });
  }
}

/** Word 0 says whether the reader has been told; the words of the tiles follow. */
const HEADER_WORDS = 1;

/**
 * Damage that one thread notes and another one takes, over shared memory: it costs the same however far behind the
 * reader is.
 */
export class SharedDamage {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #columns: number;
  readonly #rows: number;
  readonly #wordsPerRow: number;

  /** Of a picture of this size in pixels: new and empty, or what the other thread has made. */
  constructor(width: number, height: number, buffer?: SharedArrayBuffer) {
    this.#columns = countOf(width);
    this.#rows = countOf(height);
    this.#wordsPerRow = wordsOf(this.#columns);
    const words = HEADER_WORDS + this.#rows * this.#wordsPerRow;
    this.buffer = buffer ?? new SharedArrayBuffer(words * Int32Array.BYTES_PER_ELEMENT);
    this.#words = new Int32Array(this.buffer);
  }

  /** Notes the tiles that a rectangle touches. Returns whether the reader has to be told. */
  add({ x, y, width, height }: Rect): boolean {
    const right = Math.min(this.#columns, countOf(x + width));
    const bottom = Math.min(this.#rows, countOf(y + height));
    for (let row = Math.floor(y / TILE); row < bottom; row++) {
      forEachWord(Math.floor(x / TILE), right, (word, bits) => {
        Atomics.or(this.#words, HEADER_WORDS + row * this.#wordsPerRow + word, bits);
      });
    }
    return Atomics.exchange(this.#words, 0, 1) === 0;
  }

  /** Whether there is anything to take. */
  get isNoted(): boolean {
    return Atomics.load(this.#words, 0) !== 0;
  }

  /** Moves what was noted into a set of the same size. From here on the writer tells again. */
  take(into: TileSet): void {
    Atomics.store(this.#words, 0, 0);
    for (let i = 0; i < into.words.length; i++) {
      if (Atomics.load(this.#words, HEADER_WORDS + i) === 0) continue;
      into.words[i] = (into.words[i] as number) | Atomics.exchange(this.#words, HEADER_WORDS + i, 0);
    }
  }
}
