/** What viewers draw for the pointer: the pseudo-encodings Cursor (RFC 6143 section 7.8.1) and Cursor With Alpha. */
import { packPixels } from '../../../../native/index.ts';
import { BYTES_PER_PIXEL } from '../../display.ts';
import { type PixelFormat, pixelBytes, pixelParts } from '../pixel-format.ts';
import { ENCODING_CURSOR, ENCODING_CURSOR_WITH_ALPHA, ENCODING_RAW } from '../protocol.ts';
import { dataAt, type EncodedRects, rectHeader } from './encoder.ts';

/** Red, green, blue and alpha bytes without gaps; colours are premultiplied with alpha. No pixels: no cursor. */
export interface Cursor {
  readonly width: number;
  readonly height: number;
  readonly hotX: number;
  readonly hotY: number;
  readonly rgba: Uint8Array;
}

const RGBA = { r: 0, g: 1, b: 2, a: 3 } as const;
const HALF_OPAQUE = 128;

/** Cursor: a pixel is drawn, in its colour without alpha, if it is at least half opaque. */
export function encodeCursor(cursor: Cursor, format: PixelFormat): EncodedRects {
  const { width, height } = cursor;
  const pixelsLength = width * height * pixelBytes(format);
  const maskStride = Math.ceil(width / 8);
  const bytes = cursorHeader(cursor, ENCODING_CURSOR, pixelsLength + maskStride * height);
  const opaque = cursor.rgba.slice(0, width * height * BYTES_PER_PIXEL);
  const mask = bytes.subarray(dataAt + pixelsLength).fill(0);
  for (let i = 0; i < width * height; i++) {
    const pixel = opaque.subarray(i * BYTES_PER_PIXEL, (i + 1) * BYTES_PER_PIXEL);
    const alpha = pixel[RGBA.a]!;
    if (alpha < HALF_OPAQUE) {
      pixel.fill(0);
      continue;
    }
    const x = i % width;
    mask[Math.floor(i / width) * maskStride + (x >> 3)]! |= 0x80 >> (x & 7);
    for (let channel = 0; channel < RGBA.a; channel++) {
      pixel[channel] = Math.min(255, Math.round((pixel[channel]! * 255) / alpha));
    }
  }
  const source = {
    bytes: opaque,
    offset: 0,
    strideBytes: width * BYTES_PER_PIXEL,
    width,
    height,
    order: RGBA,
  };
  packPixels(source, pixelParts(format), bytes.subarray(dataAt));
  return { count: 1, parts: [bytes] };
}

/** Cursor With Alpha: the pixels as they are, in Raw encoding, whatever the viewer's pixel format. */
export function encodeAlphaCursor(cursor: Cursor): EncodedRects {
  const length = cursor.width * cursor.height * BYTES_PER_PIXEL;
  const bytes = cursorHeader(cursor, ENCODING_CURSOR_WITH_ALPHA, 4 + length);
  bytes.writeInt32BE(ENCODING_RAW, dataAt);
  bytes.set(cursor.rgba.subarray(0, length), dataAt + 4);
  return { count: 1, parts: [bytes] };
}

function cursorHeader(
  { hotX, hotY, width, height, rgba }: Cursor,
  encoding: number,
  dataBytes: number,
): Buffer {
  if (rgba.length < width * height * BYTES_PER_PIXEL) throw new RangeError('the cursor has too few pixels');
  return rectHeader({ x: hotX, y: hotY, width, height }, encoding, dataBytes);
}
