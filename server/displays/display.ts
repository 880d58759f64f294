/**
 * The contract between a device that draws and whoever looks: the gpu calls these, viewers implement them. Pixels
 * stay where the device keeps them; a display only learns where that is.
 */
import type { Mode } from './mode.ts';

/** Byte positions of the channels in a 4-byte pixel. `a` is -1 where the fourth byte means nothing. */
export interface PixelOrder {
  readonly r: number;
  readonly g: number;
  readonly b: number;
  readonly a: number;
}

/** Pixels: coordinates and sizes in pixels, from the top left corner. */
export interface Rect {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** An image in memory that the device keeps valid until it shows something else. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly order: PixelOrder;
  /** The memory; the first pixel is at `offsetBytes`, rows are `strideBytes` apart. */
  readonly bytes: Uint8Array;
  readonly offsetBytes: number;
  readonly strideBytes: number;
}

/** What the pointer looks like; colours are premultiplied with alpha. */
export interface CursorImage extends Picture {
  readonly hotX: number;
  readonly hotY: number;
}

export interface Display {
  /** What the guest is asked to use. */
  readonly mode: Mode;
  /** Shows the picture from now on, or nothing. */
  show(picture: Picture | undefined): void;
  /** This part of the picture has changed and is whole. */
  damage(rect: Rect): void;
  /** Takes a copy of the image. */
  setCursorImage(image: CursorImage): void;
  /** Where the top left corner of the image is, which may be outside of the picture. */
  moveCursor(x: number, y: number): void;
  showCursor(visible: boolean): void;
}
