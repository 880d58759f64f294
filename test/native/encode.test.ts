import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  Photos,
  type PixelParts,
  type Pixels,
  packPixels,
  packTightRects,
  packZrleTiles,
  TIGHT_RECORD_NUMBERS,
  TightKind,
} from '../../native/index.ts';

const RGBX = { r: 0, g: 1, b: 2, a: -1 };

/** Red, green and blue bytes. */
const RGB: PixelParts = {
  parts: Int32Array.from({ length: 768 }, (_, i) => (i & 255) << (8 * (i >> 8))),
  pixelBytes: 3,
};

/** Two bits of each colour. */
const SMALL: PixelParts = {
  parts: Int32Array.from({ length: 768 }, (_, i) => ((i & 255) >> 6) << (2 * (i >> 8))),
  pixelBytes: 1,
};

function image(width: number, height: number, change: Partial<Pixels> = {}): Pixels {
  const bytes = Uint8Array.from({ length: width * height * 4 }, (_, i) => (i * 7) & 255);
  return { bytes, offset: 0, strideBytes: width * 4, width, height, order: RGBX, ...change };
}

test('pixels are stored without what is between the rows', () => {
  const bytes = Uint8Array.from([9, 1, 2, 3, 0, 4, 5, 6, 0, 9, 9, 9, 7, 8, 9, 0, 10, 11, 12, 0]);
  const pixels = image(2, 2, { bytes, offset: 1, strideBytes: 11 });
  const to = new Uint8Array(13).fill(99);
  expect(packPixels(pixels, RGB, to)).toBe(12);
  expect([...to]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 99]);
});

test('parts of any kind make up a pixel', () => {
  const pixels = image(3, 1, { bytes: Uint8Array.of(0, 0, 0, 9, 255, 0, 0, 9, 64, 128, 192, 9) });
  const to = new Uint8Array(3);
  expect(packPixels(pixels, SMALL, to)).toBe(3);
  expect([...to]).toEqual([0, 3, 1 | (2 << 2) | (3 << 4)]);
  const backwards: PixelParts = { parts: SMALL.parts.map((part) => part << 24), pixelBytes: 4 };
  const words = new Uint8Array(12);
  expect(packPixels(pixels, backwards, words)).toBe(12);
  expect([...words]).toEqual([0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 57]);
});

test('rectangles are told with where their bytes are', () => {
  const red = image(64, 64, { bytes: new Uint8Array(64 * 64 * 4).fill(200) });
  const records = new Int32Array(TIGHT_RECORD_NUMBERS);
  const to = new Uint8Array(64 * 64 * 3);
  expect(packTightRects(red, RGB, Photos.copied, to, records)).toBe(1);
  expect([...records]).toEqual([TightKind.fill, 0, 0, 64, 64, 1, 0, 3]);
  expect([...to.subarray(0, 4)]).toEqual([200, 200, 200, 0]);
});

const records = new Int32Array(4 * TIGHT_RECORD_NUMBERS);
const calls = [
  ['packPixels', packPixels, 70 * 70 * 3],
  ['packZrleTiles', packZrleTiles, 70 * 70 * 3 + 4],
  [
    'packTightRects',
    (pixels: Pixels, as: PixelParts, to: Uint8Array) => packTightRects(pixels, as, Photos.kept, to, records),
    70 * 70 * 3,
  ],
] as const;

test.each(calls)('%s refuses buffers that are too small, on each edge', (_name, pack, room) => {
  const pixels = image(70, 70);
  expect(() => pack(pixels, RGB, new Uint8Array(room))).not.toThrow();
  expect(() => pack(pixels, RGB, new Uint8Array(room - 1))).toThrow('worst case');
  expect(() => pack(pixels, RGB, new Uint8Array(0))).toThrow(RangeError);
  const to = new Uint8Array(room);
  expect(() => pack({ ...pixels, bytes: pixels.bytes.subarray(1) }, RGB, to)).toThrow(RangeError);
  expect(() => pack({ ...pixels, offset: 1 }, RGB, to)).toThrow(RangeError);
  expect(() => pack({ ...pixels, strideBytes: 281 }, RGB, to)).toThrow(RangeError);
  expect(() => pack({ ...pixels, strideBytes: 279 }, RGB, to)).toThrow('overlap');
  expect(() => pack({ ...pixels, height: 71 }, RGB, to)).toThrow(RangeError);
  expect(() => pack({ ...pixels, width: 65_536 }, RGB, to)).toThrow(RangeError);
  expect(() => pack({ ...pixels, width: -1 }, RGB, to)).toThrow(RangeError);
  expect(() => pack({ ...pixels, height: Number.NaN }, RGB, to)).toThrow(RangeError);
  expect(() => pack({ ...pixels, offset: 2 ** 53 }, RGB, to)).toThrow(RangeError);
});

test.each(calls)('%s refuses pixels that cannot be', (_name, pack, room) => {
  const pixels = image(70, 70);
  const to = new Uint8Array(2 * room);
  expect(() => pack(pixels, { ...RGB, pixelBytes: 0 }, to)).toThrow(RangeError);
  expect(() => pack(pixels, { ...RGB, pixelBytes: 5 }, to)).toThrow(RangeError);
  expect(() => pack(pixels, { ...RGB, parts: RGB.parts.subarray(1) }, to)).toThrow('3 times 256');
  expect(() => pack({ ...pixels, order: { ...RGBX, b: 1 } }, RGB, to)).toThrow('no order');
  expect(() => pack({ ...pixels, bytes: 5 as unknown as Uint8Array }, RGB, to)).toThrow(TypeError);
  expect(() => pack(pixels, { ...RGB, parts: RGB as unknown as Int32Array }, to)).toThrow(TypeError);
});

test.each(calls)('%s of nothing stores nothing, wherever it is', (_name, pack) => {
  for (const size of [
    { width: 0, height: 0 },
    { width: 0, height: 65_535 },
    { width: 65_535, height: 0 },
  ]) {
    const pixels = { ...image(1, 1), ...size, offset: 2 ** 53 - 1, strideBytes: 0 };
    expect(pack(pixels, RGB, new Uint8Array(0))).toBe(0);
  }
});

test('records have room for each tile', () => {
  const to = new Uint8Array(70 * 70 * 4);
  const pack = (photos: Photos, numbers: number) => () =>
    packTightRects(image(70, 70), RGB, photos, to, new Int32Array(numbers));
  expect(pack(Photos.copied, 32)).not.toThrow();
  expect(pack(Photos.copied, 31)).toThrow(RangeError);
  expect(pack(3 as Photos, 32)).toThrow(RangeError);
  expect(pack(0.5 as Photos, 32)).toThrow(RangeError);
});

test('whatever is asked for is stored in the room there is, or refused', () => {
  const guard = 64;
  const numbers = fc.record({
    width: fc.nat(200),
    height: fc.nat(200),
    offset: fc.nat(5),
    padding: fc.nat(9),
    pixelBytes: fc.integer({ min: 1, max: 4 }),
    colours: fc.constantFrom(1, 2, 3, 17, 300, 2 ** 24),
    runs: fc.constantFrom(1, 2, 5, 300),
    room: fc.constantFrom(0, 0, 0, -1),
    photos: fc.constantFrom(...Object.values(Photos)),
    which: fc.constantFrom(0, 1, 2),
  });
  fc.assert(
    fc.property(
      numbers,
      ({ width, height, offset, padding, pixelBytes, colours, runs, room, photos, which }) => {
        const strideBytes = width * 4 + padding;
        const bytes = new Uint8Array(offset + strideBytes * height);
        for (let i = 0; i < bytes.length; i++) {
          bytes[i] = ((Math.imul(Math.floor(i / 4 / runs), 0x9e3779b1) >>> 8) % colours) >>> (8 * (i % 3));
        }
        const pixels = { bytes, offset, strideBytes, width, height, order: RGBX };
        const tiles = Math.ceil(width / 64) * Math.ceil(height / 64);
        const worst = [
          width * height * pixelBytes,
          width * height * pixelBytes + tiles,
          width * height * Math.max(3, pixelBytes),
        ][which]!;
        const length = Math.max(0, worst + room);
        const all = new Uint8Array(guard + length + guard).fill(0x5a);
        const to = all.subarray(guard, guard + length);
        const found = new Int32Array(tiles * TIGHT_RECORD_NUMBERS);
        const as = { ...RGB, pixelBytes };
        const pack = () =>
          which === 0
            ? packPixels(pixels, as, to)
            : which === 1
              ? packZrleTiles(pixels, as, to)
              : packTightRects(pixels, as, photos, to, found);
        if (length < worst) expect(pack).toThrow(RangeError);
        else expect(pack()).toBeLessThanOrEqual(which === 2 ? tiles : worst);
        expect(all.subarray(0, guard).every((byte) => byte === 0x5a)).toBe(true);
        expect(all.subarray(guard + length).every((byte) => byte === 0x5a)).toBe(true);
      },
    ),
    { numRuns: 300 },
  );
});
