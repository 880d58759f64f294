/** Pixel formats that viewers may ask for. */
import fc from 'fast-check';
import type { PixelFormat } from '../../../../server/displays/vnc/pixel-format.ts';

function format(
  bitsPerPixel: 8 | 16 | 32,
  depth: number,
  maxima: readonly [number, number, number],
  shifts: readonly [number, number, number],
  bigEndian = false,
): PixelFormat {
  const [redMax, greenMax, blueMax] = maxima;
  const [redShift, greenShift, blueShift] = shifts;
  const colours = { redMax, greenMax, blueMax, redShift, greenShift, blueShift };
  return { bitsPerPixel, depth, bigEndian, trueColour: true, ...colours };
}

/** What common viewers ask for, and the odd ones that specifications allow. */
export const FORMATS: readonly (readonly [string, PixelFormat])[] = [
  ['32 bits, blue first', format(32, 24, [255, 255, 255], [16, 8, 0])],
  ['32 bits, red first', format(32, 24, [255, 255, 255], [0, 8, 16])],
  ['32 bits, big-endian', format(32, 24, [255, 255, 255], [16, 8, 0], true)],
  ['32 bits, high bytes', format(32, 24, [255, 255, 255], [24, 16, 8])],
  ['32 bits, high bytes, big-endian', format(32, 24, [255, 255, 255], [8, 24, 16], true)],
  ['32 bits that all count', format(32, 32, [255, 255, 255], [0, 8, 16])],
  ['32 bits with a hole', format(32, 24, [255, 255, 255], [24, 8, 0])],
  ['30-bit colour', format(32, 30, [1023, 1023, 1023], [20, 10, 0])],
  ['16-bit colour in 32 bits', format(32, 16, [31, 63, 31], [11, 5, 0], true)],
  ['16-bit colour', format(16, 16, [31, 63, 31], [11, 5, 0])],
  ['16-bit colour, big-endian', format(16, 16, [31, 63, 31], [11, 5, 0], true)],
  ['15-bit colour', format(16, 15, [31, 31, 31], [0, 5, 10])],
  ['8-bit colour', format(8, 8, [7, 7, 3], [0, 3, 6])],
  ['6-bit colour', format(8, 6, [3, 3, 3], [4, 2, 0])],
];

/** Any format that can be. */
export function pixelFormats(): fc.Arbitrary<PixelFormat> {
  const bits = fc.constantFrom<(8 | 16 | 32)[]>(8, 16, 32);
  const channel = (most: number) => fc.integer({ min: 1, max: Math.min(16, most) });
  const shape = bits.chain((bitsPerPixel) =>
    fc.record({
      bitsPerPixel: fc.constant(bitsPerPixel),
      sizes: fc.tuple(
        channel(bitsPerPixel - 2),
        channel(bitsPerPixel / 2 - 1),
        channel(bitsPerPixel / 4 - 1),
      ),
      order: fc.shuffledSubarray([0, 1, 2], { minLength: 3 }),
      gap: fc.nat(bitsPerPixel),
      depth: fc.integer({ min: 1, max: bitsPerPixel }),
      bigEndian: fc.boolean(),
    }),
  );
  return shape
    .filter(({ sizes, bitsPerPixel }) => sizes.reduce((sum, size) => sum + size, 0) <= bitsPerPixel)
    .map(({ bitsPerPixel, sizes, order, gap, depth, bigEndian }) => {
      const shifts: [number, number, number] = [0, 0, 0];
      const used = sizes.reduce((sum, size) => sum + size, 0);
      let at = gap % (bitsPerPixel - used + 1);
      for (const channel of order) {
        shifts[channel] = at;
        at += sizes[channel]!;
      }
      const [red, green, blue] = sizes.map((size) => 2 ** size - 1) as [number, number, number];
      return format(bitsPerPixel, depth, [red, green, blue], shifts, bigEndian);
    });
}
