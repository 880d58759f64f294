/** Whoever keeps the pixels of 2D resources. */
import type { PixelSource, Rect } from '../../displays/display.ts';
import type { Backing } from './backing.ts';

/** Pixels the host keeps for a 2D resource: 4 bytes each, rows of `strideBytes`. */
export interface Image extends PixelSource {
  readonly bytes: Uint8Array;
  readonly strideBytes: number;
  /** Frees the memory now; nothing can be read afterwards. */
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
  /** Guest pages as pixels, read when somebody asks; `backing` says which they are then. */
  guestPixels(backing: () => Backing | undefined): PixelSource;
}
