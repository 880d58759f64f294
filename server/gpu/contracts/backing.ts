/** The guest pages of a resource, as everybody who works on them has them. */

/**
 * A stream of bytes cut into entries: the guest pages of a resource. Entry i holds the bytes from `ends[i - 1]`
 * (or 0) to `ends[i]`, at guest address `addresses[i]`. Guest addresses are the truth; nothing is resolved ahead.
 */
export interface Backing {
  readonly addresses: Float64Array;
  readonly ends: Float64Array;
}

export const backingLength = (backing: Backing): number => backing.ends.at(-1) ?? 0;
