/** The pointer that a guest shows above its picture. */
import { BYTES_PER_PIXEL, type PixelOrder } from './display.ts';

export interface CursorState {
  readonly visible: boolean;
  /** Of the top left corner, in pixels of the picture; may be negative. */
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly hotX: number;
  readonly hotY: number;
}

/** Pixels of 4 bytes, rows without padding. */
export interface Canvas {
  readonly width: number;
  readonly height: number;
  readonly bytes: Uint8Array;
  readonly order: PixelOrder;
}

/** Draws the cursor, if it is visible. `image` is RGBA, premultiplied: result = cursor + picture * (1 - alpha). */
export function blendCursor(
  { width, height, bytes, order }: Canvas,
  cursor: CursorState,
  image: Uint8Array,
): void {
  if (!cursor.visible) return;
  const channels = [order.r, order.g, order.b];
  const firstX = Math.max(0, -cursor.x);
  const firstY = Math.max(0, -cursor.y);
  const lastX = Math.min(cursor.width, width - cursor.x);
  const lastY = Math.min(cursor.height, height - cursor.y);
  for (let y = firstY; y < lastY; y++) {
    for (let x = firstX; x < lastX; x++) {
      const from = (y * cursor.width + x) * BYTES_PER_PIXEL;
      const to = ((y + cursor.y) * width + x + cursor.x) * BYTES_PER_PIXEL;
      const rest = 255 - (image[from + 3] as number);
      channels.forEach((at, channel) => {
        const under = Math.round(((bytes[to + at] as number) * rest) / 255);
        bytes[to + at] = Math.min(255, (image[from + channel] as number) + under);
      });
    }
  }
}
