/**
 * PIXEL_FORMAT of RFB (RFC 6143 section 7.4): what a viewer wants pixels to be. From the viewer, so not to be
 * trusted: only formats that the encoders can make come out of `parsePixelFormat`.
 */
import type { PixelParts } from '../../../native/index.ts';

export const PIXEL_FORMAT_BYTES = 16;

/** A colour at full intensity is `max`, of as many bits as that has, `shift` bits to the left. */
export interface PixelFormat {
  readonly bitsPerPixel: 8 | 16 | 32;
  /** Useful bits of a pixel. */
  readonly depth: number;
  readonly bigEndian: boolean;
  /** False: pixels are indexes into the colour map of `colourMapEntries`, which is laid out like the fields say. */
  readonly trueColour: boolean;
  readonly redMax: number;
  readonly greenMax: number;
  readonly blueMax: number;
  readonly redShift: number;
  readonly greenShift: number;
  readonly blueShift: number;
}

/** The viewer asked for pixels that cannot be. */
export class PixelFormatError extends Error {
  override readonly name = 'PixelFormatError';
}

/** What is offered to viewers: 24-bit colour in words whose bytes are blue, green, red and nothing. */
export const SERVER_PIXEL_FORMAT: PixelFormat = {
  bitsPerPixel: 32,
  depth: 24,
  bigEndian: false,
  trueColour: true,
  redMax: 255,
  greenMax: 255,
  blueMax: 255,
  redShift: 16,
  greenShift: 8,
  blueShift: 0,
};

/** The 256 colours that a viewer with a colour map gets. */
const COLOUR_MAP_LAYOUT = {
  redMax: 7,
  greenMax: 7,
  blueMax: 3,
  redShift: 0,
  greenShift: 3,
  blueShift: 6,
} as const;

/**
 * Reads the 16 bytes of a PIXEL_FORMAT. A viewer with a colour map (true-colour-flag 0) is served if its pixels have 8
 * bits, with the map that `colourMapEntries` makes: such viewers are old, not hostile, and one table is all they need.
 * @throws PixelFormatError for what no viewer can mean: other pixel sizes, a depth beyond them, a maximum that is not
 * 2^n - 1, and colours that overlap or do not fit
 */
export function parsePixelFormat(bytes: Uint8Array): PixelFormat {
  if (bytes.length !== PIXEL_FORMAT_BYTES)
    throw new PixelFormatError(`a pixel format of ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const bitsPerPixel = view.getUint8(0);
  const depth = view.getUint8(1);
  const bigEndian = view.getUint8(2) !== 0;
  const trueColour = view.getUint8(3) !== 0;
  if (bitsPerPixel !== 8 && bitsPerPixel !== 16 && bitsPerPixel !== 32) {
    throw new PixelFormatError(`${bitsPerPixel} bits per pixel`);
  }
  if (depth === 0 || depth > bitsPerPixel)
    throw new PixelFormatError(`depth ${depth} of ${bitsPerPixel} bits`);
  if (!trueColour) {
    if (bitsPerPixel !== 8) throw new PixelFormatError(`a colour map for ${bitsPerPixel} bits per pixel`);
    return { bitsPerPixel, depth, bigEndian, trueColour, ...COLOUR_MAP_LAYOUT };
  }
  const format: PixelFormat = {
    bitsPerPixel,
    depth,
    bigEndian,
    trueColour,
    redMax: view.getUint16(4),
    greenMax: view.getUint16(6),
    blueMax: view.getUint16(8),
    redShift: view.getUint8(10),
    greenShift: view.getUint8(11),
    blueShift: view.getUint8(12),
  };
  checkChannels(format);
  return format;
}

function checkChannels(format: PixelFormat): void {
  let used = 0n;
  for (const { max, shift } of channels(format)) {
    if (max === 0 || (max & (max + 1)) !== 0) throw new PixelFormatError(`colours up to ${max}`);
    const mask = BigInt(max) << BigInt(shift);
    if (mask >> BigInt(format.bitsPerPixel) !== 0n) {
      throw new PixelFormatError(`colours up to ${max} at bit ${shift} of ${format.bitsPerPixel}`);
    }
    if ((used & mask) !== 0n) throw new PixelFormatError('colours overlap');
    used |= mask;
  }
}

/** The 16 bytes of a PIXEL_FORMAT. */
export function serializePixelFormat(format: PixelFormat): Uint8Array {
  const bytes = new Uint8Array(PIXEL_FORMAT_BYTES);
  const view = new DataView(bytes.buffer);
  bytes[0] = format.bitsPerPixel;
  bytes[1] = format.depth;
  bytes[2] = Number(format.bigEndian);
  bytes[3] = Number(format.trueColour);
  view.setUint16(4, format.redMax);
  view.setUint16(6, format.greenMax);
  view.setUint16(8, format.blueMax);
  bytes[10] = format.redShift;
  bytes[11] = format.greenShift;
  bytes[12] = format.blueShift;
  return bytes;
}

const SET_COLOUR_MAP_ENTRIES = 1;
const COLOUR_MAP_SIZE = 256;

/**
 * The SetColourMapEntries message (RFC 6143 section 7.6.2) to send before pixels of this format; undefined when it has
 * no colour map.
 */
export function colourMapEntries(format: PixelFormat): Uint8Array | undefined {
  if (format.trueColour) return undefined;
  const message = new Uint8Array(6 + COLOUR_MAP_SIZE * 6);
  const view = new DataView(message.buffer);
  message[0] = SET_COLOUR_MAP_ENTRIES;
  view.setUint16(4, COLOUR_MAP_SIZE);
  for (let index = 0; index < COLOUR_MAP_SIZE; index++) {
    channels(format).forEach(({ max, shift }, i) => {
      const value = (index >> shift) & max;
      view.setUint16(6 + index * 6 + i * 2, Math.round((value * 0xffff) / max));
    });
  }
  return message;
}

/** Bytes of a PIXEL. */
export const pixelBytes = ({ bitsPerPixel }: PixelFormat): number => bitsPerPixel / 8;

/** How to make a PIXEL. */
export function pixelParts(format: PixelFormat): PixelParts {
  return partsOf(format, pixelBytes(format), (value) => inByteOrder(format, value));
}

/**
 * How to make a TPIXEL of the Tight encoding: red, green and blue bytes where colours have 8 bits and pixels 32 of
 * which 24 count, otherwise a PIXEL.
 */
export function tightPixelParts(format: PixelFormat): PixelParts {
  const { bitsPerPixel, depth, trueColour } = format;
  const three =
    trueColour && bitsPerPixel === 32 && depth === 24 && channels(format).every(({ max }) => max === 255);
  if (!three) return pixelParts(format);
  const redFirst = { ...format, redShift: 0, greenShift: 8, blueShift: 16 };
  return partsOf(redFirst, 3, (value) => value);
}

/**
 * How to make a CPIXEL of ZRLE (RFC 6143 section 7.7.5): the three bytes of a PIXEL in which its colours are, the
 * least significant if there is a choice; otherwise a PIXEL.
 */
export function zrlePixelParts(format: PixelFormat): PixelParts {
  const { bitsPerPixel, depth, trueColour, bigEndian } = format;
  if (!trueColour || bitsPerPixel !== 32 || depth > 24) return pixelParts(format);
  const used = channels(format).reduce((mask, { max, shift }) => mask | (max << shift), 0);
  const low = (used & 0xff00_0000) === 0;
  const high = (used & 0xff) === 0;
  if (!low && !high) return pixelParts(format);
  return partsOf(format, 3, (value) => {
    const word = inByteOrder(format, value);
    return low === bigEndian ? word >>> 8 : word & 0xff_ffff;
  });
}

/** Red, green and blue. */
function channels(format: PixelFormat): readonly { readonly max: number; readonly shift: number }[] {
  return [
    { max: format.redMax, shift: format.redShift },
    { max: format.greenMax, shift: format.greenShift },
    { max: format.blueMax, shift: format.blueShift },
  ];
}

function partsOf(format: PixelFormat, bytes: number, toWire: (value: number) => number): PixelParts {
  const parts = new Int32Array(3 * 256);
  channels(format).forEach(({ max, shift }, channel) => {
    for (let level = 0; level < 256; level++) {
      parts[channel * 256 + level] = toWire(Math.round((level * max) / 255) << shift);
    }
  });
  return { parts, pixelBytes: bytes };
}

/** A pixel as the word whose bytes, the lowest first, are the pixel on the wire. */
function inByteOrder({ bitsPerPixel, bigEndian }: PixelFormat, value: number): number {
  if (!bigEndian) return value;
  switch (bitsPerPixel) {
    case 8:
      return value;
    case 16:
      return ((value & 0xff) << 8) | (value >>> 8);
    case 32:
      return (value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24);
    default:
      return bitsPerPixel satisfies never;
  }
}
