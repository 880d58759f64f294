/**
 * Ranges of addresses in their order, half a million and more: found, added and taken away in logarithmic time, in little
 * memory.
 *
 * Rows of numbers in blocks of at most `BLOCK_ROWS`, so that a new row moves a block and not the table. Two neighbouring
 * blocks always have more than `JOINED_ROWS` rows together: a row takes 32 bytes where rows come in ascending order, about
 * 46 where they come in any, 128 at most.
 */

/** A range, and what its owner wants to know of it. */
export interface Row {
  readonly address: number;
  readonly sizeBytes: number;
  readonly fileOffset: number;
  readonly tag: number;
}

/** Of a row in the table, until the table changes; `end` is behind the last one. */
export type Place = number;

const BLOCK_SHIFT = 8;
const BLOCK_ROWS = 1 << BLOCK_SHIFT;
const ROW_MASK = BLOCK_ROWS - 1;
const JOINED_ROWS = BLOCK_ROWS / 2;
const FIELDS = 4;
/** Fields of a row. */
const ADDRESS = 0;
const SIZE = 1;
const FILE_OFFSET = 2;
const TAG = 3;

class Block {
  count = 0;
  readonly rows = new Float64Array(BLOCK_ROWS * FIELDS);

  endOf(row: number): number {
    const at = row * FIELDS;
    return (this.rows[at + ADDRESS] as number) + (this.rows[at + SIZE] as number);
  }

  insert(row: number, { address, sizeBytes, fileOffset, tag }: Row): void {
    const at = row * FIELDS;
    this.rows.copyWithin(at + FIELDS, at, this.count * FIELDS);
    this.rows[at + ADDRESS] = address;
    this.rows[at + SIZE] = sizeBytes;
    this.rows[at + FILE_OFFSET] = fileOffset;
    this.rows[at + TAG] = tag;
    this.count++;
  }

  /** Takes rows out, from one up to another. */
  remove(from: number, to: number): void {
    this.rows.copyWithin(from * FIELDS, to * FIELDS, this.count * FIELDS);
    this.count -= to - from;
  }

  /** Appends the rows of another block, from one on. */
  append(other: Block, from: number): void {
    this.rows.set(other.rows.subarray(from * FIELDS, other.count * FIELDS), this.count * FIELDS);
    this.count += other.count - from;
  }
}

export class WindowTable {
  count = 0;
  #blocks: Block[] = [];

  get end(): Place {
    return this.#blocks.length * BLOCK_ROWS;
  }

  /** What the rows take. */
  get memoryBytes(): number {
    return this.#blocks.length * BLOCK_ROWS * FIELDS * Float64Array.BYTES_PER_ELEMENT;
  }

  /** The first row that ends behind `address`: the one that holds it, or the next one up. */
  firstEndingAfter(address: number): Place {
    // The last block that begins at or before the address, then the first row in it.
    let low = 0;
    let high = this.#blocks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (((this.#blocks[middle] as Block).rows[ADDRESS] as number) <= address) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return 0;
    const index = low - 1;
    const block = this.#blocks[index] as Block;
    let row = 0;
    let behind = block.count;
    while (row < behind) {
      const middle = (row + behind) >> 1;
      if (block.endOf(middle) <= address) row = middle + 1;
      else behind = middle;
    }
    return row < block.count ? index * BLOCK_ROWS + row : low * BLOCK_ROWS;
  }

  next(place: Place): Place {
    const index = place >> BLOCK_SHIFT;
    const isLast = (place & ROW_MASK) + 1 === this.#block(index).count;
    return isLast ? (index + 1) * BLOCK_ROWS : place + 1;
  }

  address(place: Place): number {
    return this.#field(place, ADDRESS);
  }

  sizeBytes(place: Place): number {
    return this.#field(place, SIZE);
  }

  endAddress(place: Place): number {
    return this.#block(place >> BLOCK_SHIFT).endOf(place & ROW_MASK);
  }

  fileOffset(place: Place): number {
    return this.#field(place, FILE_OFFSET);
  }

  tag(place: Place): number {
    return this.#field(place, TAG);
  }

  /** Adds a row before another, or at the end; its address must be in between. */
  insert(place: Place, row: Row): void {
    this.count++;
    const index = place >> BLOCK_SHIFT;
    const at = place & ROW_MASK;
    const before = at === 0 ? this.#blocks[index - 1] : undefined;
    if (before && before.count < BLOCK_ROWS) {
      before.insert(before.count, row);
      return;
    }
    const block = this.#blocks[index];
    if (block && block.count < BLOCK_ROWS) {
      block.insert(at, row);
      return;
    }
    const added = new Block();
    if (!block || at === 0) {
      // Between two full ones, or at an edge: rows that come in order leave full blocks behind.
      this.#blocks.splice(index, 0, added);
      added.insert(0, row);
      return;
    }
    const half = BLOCK_ROWS / 2;
    added.append(block, half);
    block.count = half;
    this.#blocks.splice(index + 1, 0, added);
    if (at <= half) block.insert(at, row);
    else added.insert(at - half, row);
  }

  /** Takes rows out, from one up to another or the end. */
  remove(from: Place, to: Place): void {
    if (from === to) return;
    const first = from >> BLOCK_SHIFT;
    const last = to >> BLOCK_SHIFT;
    const before = this.count;
    if (first === last) {
      this.#block(first).remove(from & ROW_MASK, to & ROW_MASK);
      this.count -= to - from;
    } else {
      const top = this.#block(first);
      this.count -= top.count - (from & ROW_MASK);
      top.count = from & ROW_MASK;
      for (const whole of this.#blocks.splice(first + 1, last - first - 1)) this.count -= whole.count;
      this.#blocks[first + 1]?.remove(0, to & ROW_MASK);
      this.count -= to & ROW_MASK;
    }
    if (this.count < before) this.#join(first);
  }

  clear(): void {
    this.#blocks = [];
    this.count = 0;
  }

  /** Makes one of neighbours that have become small, around a block that rows were taken from. */
  #join(index: number): void {
    for (let i = Math.min(index + 2, this.#blocks.length - 1); i >= Math.max(index - 1, 0); i--) {
      const block = this.#block(i);
      const previous = this.#blocks[i - 1];
      if (block.count > 0 && !(previous && previous.count + block.count <= JOINED_ROWS)) continue;
      previous?.append(block, 0);
      this.#blocks.splice(i, 1);
    }
  }

  #block(index: number): Block {
    return this.#blocks[index] as Block;
  }

  #field(place: Place, field: number): number {
    return this.#block(place >> BLOCK_SHIFT).rows[(place & ROW_MASK) * FIELDS + field] as number;
  }
}
