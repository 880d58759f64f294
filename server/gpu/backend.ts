/**
 * Where pixels live and who copies them: the contract between command execution and what does the work in bulk.
 */
import type { Rect } from '../displays/display.ts';

/**
 * The guest pages of a resource: a stream of bytes cut into entries. Entry i holds the bytes from `ends[i - 1]`
 * (or 0) to `ends[i]`, at guest address `addresses[i]`. Guest addresses are the truth; nothing is resolved ahead.
 */
export interface Backing {
  readonly addresses: Float64Array;
  readonly ends: Float64Array;
}

export const backingLength = (backing: Backing): number => backing.ends.at(-1) ?? 0;

/** Pixels the host keeps for a 2D resource: 4 bytes each, rows of `strideBytes`. */
export interface Image {
  readonly bytes: Uint8Array;
  readonly strideBytes: number;
  /** Frees the memory now; `bytes` is empty afterwards. */
  close(): void;
}

export interface Backend2d {
  /** A zeroed image. Throws when the host has no memory for it. */
  createImage(width: number, height: number): Image;
  /**
   * Copies a rectangle of guest pages into the image. Its first pixel is at byte `offset` of the backing, rows are
   * as far apart as in the image. What lies beyond the backing is left as it is. Returns the bytes copied, or
   * undefined when a page is not in guest memory any more.
   */
  transferToHost(backing: Backing, offset: number, image: Image, rect: Rect): number | undefined;
}
