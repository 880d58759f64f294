/** Rectangles of an image, cut to what one call of native code handles. */
import type { Pixels } from '../../../../native/index.ts';
import type { Rect } from '../../display.ts';
import type { Image } from './encoder.ts';

const BYTES_PER_PIXEL = 4;

/** The part of an image that a rectangle is. */
export function pixelsOf({ bytes, strideBytes, order }: Image, { x, y, width, height }: Rect): Pixels {
  const within = x >= 0 && y >= 0 && (x + width) * BYTES_PER_PIXEL <= strideBytes;
  if (!within) throw new RangeError(`${width}x${height} at ${x},${y} is not in the image`);
  return { bytes, offset: y * strideBytes + x * BYTES_PER_PIXEL, strideBytes, width, height, order };
}

/**
 * Cuts rectangles into bands of at most `maxPixels` pixels and at least `unit` rows, all but the last of which are
 * multiples of that; leaves empty ones out.
 */
export function bands(rects: readonly Rect[], maxPixels: number, unit: number): Rect[] {
  return rects.flatMap(({ x, y, width, height }) => {
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
