/** ZRLE, RFC 6143 section 7.7.6: tiles of 64x64 pixels, each in its shortest form, through one zlib stream. */
import { type PixelParts, packZrleTiles, TILE_PIXELS } from '../../../../native/index.ts';
import type { Rect } from '../../display.ts';
import { type PixelFormat, zrlePixelParts } from '../pixel-format.ts';
import { ENCODING_ZRLE } from '../protocol.ts';
import { DeflateStream, zlibLevel } from './deflate.ts';
import {
  dataAt,
  type EncodedRects,
  type Encoder,
  type EncoderOptions,
  type Image,
  rectHeader,
} from './encoder.ts';
import { bands, pixelsOf } from './pixels.ts';
import { Scratch } from './scratch.ts';

/** Viewers unpack a rectangle at a time. */
const MAX_RECT_PIXELS = 2 ** 20;
const LENGTH_BYTES = 4;

/** The stream can never be reset, so a viewer has one such encoder for as long as it is connected. */
export class ZrleEncoder implements Encoder {
  readonly #scratch = new Scratch();
  readonly #stream: DeflateStream;
  #parts: PixelParts;
  #level: number;

  constructor(format: PixelFormat, { compressLevel }: EncoderOptions) {
    this.#parts = zrlePixelParts(format);
    this.#level = zlibLevel(compressLevel);
    this.#stream = new DeflateStream(this.#level);
  }

  configure(format: PixelFormat, { compressLevel }: EncoderOptions): void {
    this.#parts = zrlePixelParts(format);
    this.#level = zlibLevel(compressLevel);
  }

  async encode(image: Image, rects: readonly Rect[]): Promise<EncodedRects> {
    const pieces = bands(image, rects, MAX_RECT_PIXELS, TILE_PIXELS);
    const sizes = pieces.map((rect) => worstCaseBytes(rect, this.#parts.pixelBytes));
    const scratch = this.#scratch.take(sizes.reduce((sum, size) => sum + size, 0));
    let at = 0;
    const packed = pieces.map((rect) => {
      const length = packZrleTiles(pixelsOf(image, rect), this.#parts, scratch.subarray(at));
      at += length;
      return scratch.subarray(at - length, at);
    });
    const data = await Promise.all(packed.map((bytes) => this.#stream.compress(bytes, this.#level)));
    this.#scratch.giveBack(scratch);
    return {
      count: pieces.length,
      parts: pieces.flatMap((rect, i) => {
        const header = rectHeader(rect, ENCODING_ZRLE, LENGTH_BYTES);
        header.writeUInt32BE(data[i]!.length, dataAt);
        return [header, data[i]!];
      }),
    };
  }

  close(): void {
    this.#stream.close();
    this.#scratch.clear();
  }
}

/** One byte per tile, and its pixels. */
function worstCaseBytes({ width, height }: Rect, pixelBytes: number): number {
  const tiles = Math.ceil(width / TILE_PIXELS) * Math.ceil(height / TILE_PIXELS);
  return tiles + width * height * pixelBytes;
}
