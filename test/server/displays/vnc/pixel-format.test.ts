import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  colourMapEntries,
  PIXEL_FORMAT_BYTES,
  type PixelFormat,
  PixelFormatError,
  parsePixelFormat,
  pixelParts,
  SERVER_PIXEL_FORMAT,
  serializePixelFormat,
  tightPixelParts,
  zrlePixelParts,
} from '../../../../server/displays/vnc/pixel-format.ts';
import { pixelFormats } from './formats.ts';

/** The bytes of our own format with some of them changed. */
function bytesWith(changes: Record<number, number>): Uint8Array {
  const bytes = serializePixelFormat(SERVER_PIXEL_FORMAT);
  for (const [at, value] of Object.entries(changes)) bytes[Number(at)] = value;
  return bytes;
}

test('our own format is what RFC 6143 says it looks like', () => {
  expect(Buffer.from(serializePixelFormat(SERVER_PIXEL_FORMAT)).toString('hex')).toBe(
    '2018000100ff00ff00ff100800000000',
  );
});

test('a format that was written is read again', () => {
  fc.assert(
    fc.property(pixelFormats(), (format) => {
      expect(parsePixelFormat(serializePixelFormat(format))).toEqual(format);
    }),
  );
});

test.each([
  ['no bits per pixel', { 0: 0 }],
  ['24 bits per pixel', { 0: 24 }],
  ['255 bits per pixel', { 0: 255 }],
  ['no depth', { 1: 0 }],
  ['more depth than bits', { 1: 33 }],
  ['a colour that is always 0', { 4: 0, 5: 0 }],
  ['a maximum that is not all ones', { 7: 254 }],
  ['a maximum that is not all ones, by one bit', { 8: 1, 9: 0 }],
  ['a shift beyond the pixel', { 10: 25 }],
  ['the largest shift', { 11: 255 }],
  ['16 bits at bit 17', { 4: 255, 10: 17, 12: 8, 11: 0 }],
  ['colours on top of each other', { 10: 8 }],
  ['colours that touch by one bit', { 10: 15 }],
  ['8-bit colours in 16 bits', { 0: 16, 1: 16 }],
  ['a colour map for 32 bits per pixel', { 3: 0 }],
  ['a colour map for 16 bits per pixel', { 0: 16, 1: 16, 3: 0 }],
])('refuses %s', (_what, changes: Record<number, number>) => {
  expect(() => parsePixelFormat(bytesWith(changes))).toThrow(PixelFormatError);
});

test('refuses too few and too many bytes', () => {
  for (const length of [0, 15, 17]) {
    expect(() => parsePixelFormat(new Uint8Array(length))).toThrow(PixelFormatError);
  }
});

test('whatever a viewer sends is refused or has all its colours in the pixel', () => {
  const nearly = fc
    .array(fc.tuple(fc.nat(PIXEL_FORMAT_BYTES - 1), fc.nat(255)), { maxLength: 4 })
    .map((changes) => bytesWith(Object.fromEntries(changes)));
  const anything = fc.uint8Array({ minLength: PIXEL_FORMAT_BYTES, maxLength: PIXEL_FORMAT_BYTES });
  fc.assert(
    fc.property(fc.oneof(nearly, anything), (bytes) => {
      let format: PixelFormat;
      try {
        format = parsePixelFormat(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(PixelFormatError);
        return;
      }
      for (const make of [pixelParts, tightPixelParts, zrlePixelParts]) {
        const { parts, pixelBytes } = make(format);
        const limit = 2 ** (8 * pixelBytes);
        expect(parts.every((part) => part >>> 0 < limit)).toBe(true);
      }
    }),
    { numRuns: 2000 },
  );
});

test('padding and any flag but 0 are accepted', () => {
  const format = parsePixelFormat(bytesWith({ 3: 77, 13: 1, 14: 2, 15: 3 }));
  expect(format).toEqual(SERVER_PIXEL_FORMAT);
  expect(parsePixelFormat(bytesWith({ 2: 9 })).bigEndian).toBe(true);
});

test('a viewer with 8 bits and a colour map gets a map of 256 colours, whatever else it says', () => {
  const format = parsePixelFormat(bytesWith({ 0: 8, 1: 8, 3: 0, 10: 200 }));
  expect(format).toMatchObject({ trueColour: false, redMax: 7, greenMax: 7, blueMax: 3 });
  const message = Buffer.from(colourMapEntries(format)!);
  expect(message.length).toBe(6 + 256 * 6);
  expect(message.subarray(0, 6).toString('hex')).toBe('010000000100');
  expect(message.subarray(6, 12).toString('hex')).toBe('000000000000');
  expect(message.subarray(-6).toString('hex')).toBe('ffffffffffff');
  const entry = 0b01_011_101;
  const [red, green, blue] = [0, 2, 4].map((i) => message.readUInt16BE(6 + entry * 6 + i));
  expect([red, green, blue]).toEqual([(5 / 7) * 65535, (3 / 7) * 65535, 65535 / 3].map(Math.round));
  expect(colourMapEntries(SERVER_PIXEL_FORMAT)).toBeUndefined();
});

test.each([
  ['low bytes, little-endian', { redShift: 16, greenShift: 8, blueShift: 0 }, false, '332211'],
  ['low bytes, big-endian', { redShift: 16, greenShift: 8, blueShift: 0 }, true, '112233'],
  ['high bytes, little-endian', { redShift: 24, greenShift: 16, blueShift: 8 }, false, '332211'],
  ['high bytes, big-endian', { redShift: 24, greenShift: 16, blueShift: 8 }, true, '112233'],
  ['outer bytes, little-endian', { redShift: 24, greenShift: 8, blueShift: 0 }, false, '33220011'],
  ['outer bytes, big-endian', { redShift: 24, greenShift: 8, blueShift: 0 }, true, '11002233'],
])('a CPIXEL of colours in the %s', (_where, shifts, bigEndian, hex) => {
  const { parts, pixelBytes } = zrlePixelParts({ ...SERVER_PIXEL_FORMAT, ...shifts, bigEndian });
  const word = parts[0x11]! | parts[256 + 0x22]! | parts[512 + 0x33]!;
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(word);
  expect(bytes.subarray(0, pixelBytes).toString('hex')).toBe(hex);
});
