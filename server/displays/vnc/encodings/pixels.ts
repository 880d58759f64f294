/** Rectangles of an image, cut to what one call of native code handles. */
import type { Pixels } from '../../../../native/index.ts';
import { BYTES_PER_PIXEL, type Rect } from '../../display.ts';
import type { Image } from './encoder.ts';

/** The part of an image that a rectangle is. */
export function pixelsOf(
  { bytes, strideBytes, order, top = 0 }: Image,
  { x, y, width, height }: Rect,
): Pixels {
  const offset = (y - top) * strideBytes + x * BYTES_PER_PIXEL;
  return { bytes, offset, strideBytes, width, height, order };
}

/**
 * Cuts rectangles into bands of at most `maxPixels` pixels, but at least `unit` rows, all of them multiples of that
 * except for the last; leaves empty ones out.
 * @throws RangeError when one is not in the image
 */
export function bands(image: Image, rects: readonly Rect[], maxPixels: number, unit: number): Rect[] {
  return rects.flatMap((rect) => {
    checkRect(image, rect);
    const { x, y, width, height } = rect;
    if (width === 0 || height === 0) return [];
    const rows = Math.max(1, Math.floor(maxPixels / width / unit)) * unit;
    const count = Math.ceil(height / rows);
    return Array.from({ length: count }, (_, i) => ({
      x,
      y: y + i * rows,
      width,
      height: Math.min(rows, height - i * rows),
    }));
  });
}

function checkRect({ bytes, strideBytes, top = 0 }: Image, { x, y, width, height }: Rect): void {
  const isSize = [x, y - top, width, height].every((value) => Number.isSafeInteger(value) && value >= 0);
  const rowEnd = (x + width) * BYTES_PER_PIXEL;
  const end = (y - top + height - 1) * strideBytes + rowEnd;
  if (isSize && rowEnd <= strideBytes && end <= bytes.length) return;
  throw new RangeError(`${width}x${height} at ${x},${y} is not in the image`);
}
