/**
 * The contract between a device that draws and whoever looks: the gpu calls these, viewers implement them. Pixels
 * stay where the device keeps them; a display only learns where that is.
 */
import type { Mode } from './mode.ts';

/** Of every format that is displayed. */
export const BYTES_PER_PIXEL = 4;

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

/** Where rows of pixels lie: the first byte, and the distance from row to row. */
export interface Rows {
  readonly offset: number;
  readonly strideBytes: number;
}

/** Memory that pixels can be copied out of. */
export interface PixelSource {
  /** Copies rows of `rowBytes` bytes into `to`. False when they are not there, or not any more. */
  copyRows(from: Rows, to: Uint8Array, toRows: Rows, rowBytes: number, rows: number): boolean;
}

/** An image that the device keeps where it is until it shows something else. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly order: PixelOrder;
  readonly source: PixelSource;
  readonly rows: Rows;
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
  /** This part of the picture has changed and is whole. Returns the bytes copied out of it for viewers. */
  damage(rect: Rect): number;
  /** The source of the picture goes away, and the picture stays. */
  freeze(): void;
  /** Takes a copy of the image. */
  setCursorImage(image: CursorImage): void;
  /** Where the top left corner of the image is, which may be outside of the picture. */
  moveCursor(x: number, y: number): void;
  showCursor(visible: boolean): void;
}
