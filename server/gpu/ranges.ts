/** A set of byte ranges: sorted, disjoint, and found by binary search. */

export interface Range {
  readonly offset: number;
  readonly lengthBytes: number;
}

export const endOf = ({ offset, lengthBytes }: Range): number => offset + lengthBytes;
export const overlap = (a: Range, b: Range): boolean => a.offset < endOf(b) && b.offset < endOf(a);

/** Index of the first of sorted, disjoint ranges that ends behind `offset`. */
export const firstEndingAfter = (ranges: readonly Range[], offset: number): number =>
  firstEndAfter(ranges.length, (index) => endOf(ranges[index] as Range), offset);

/** Index of the first of `count` rising ends that lies behind `offset`. */
export function firstEndAfter(count: number, endAt: (index: number) => number, offset: number): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (endAt(middle) <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

export class RangeSet {
  readonly #ranges: Range[] = [];
  #bytes = 0;

  /** Sum of all lengths. */
  get bytes(): number {
    return this.#bytes;
  }

  get ranges(): readonly Range[] {
    return this.#ranges;
  }

  /** Adds a range, of which nothing may be in the set. */
  add(range: Range): void {
    this.#ranges.splice(firstEndingAfter(this.#ranges, range.offset), 0, range);
    this.#bytes += range.lengthBytes;
  }

  /** Takes out whatever of a range is in the set. */
  remove(range: Range): void {
    if (this.#bytes === 0) return;
    const first = firstEndingAfter(this.#ranges, range.offset);
    let last = first;
    const rest: Range[] = [];
    for (; last < this.#ranges.length; last++) {
      const one = this.#ranges[last] as Range;
      if (!overlap(one, range)) break;
      this.#bytes -= one.lengthBytes;
      if (one.offset < range.offset)
        rest.push({ offset: one.offset, lengthBytes: range.offset - one.offset });
      if (endOf(one) > endOf(range))
        rest.push({ offset: endOf(range), lengthBytes: endOf(one) - endOf(range) });
    }
    for (const { lengthBytes } of rest) this.#bytes += lengthBytes;
    if (last > first) this.#ranges.splice(first, last - first, ...rest);
  }

  clear(): void {
    this.#ranges.length = 0;
    this.#bytes = 0;
  }
}
