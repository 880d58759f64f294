/** Raw encoding, RFC 6143 section 7.7.1: pixels as they are. */
import { type PixelParts, packPixels } from '../../../../native/index.ts';
import type { Rect } from '../../display.ts';
import { type PixelFormat, pixelParts } from '../pixel-format.ts';
import { ENCODING_RAW } from '../protocol.ts';
import { dataAt, type EncodedRects, type Encoder, type Image, rectHeader } from './encoder.ts';
import { bands, pixelsOf } from './pixels.ts';

const MAX_RECT_PIXELS = 2 ** 22;

export class RawEncoder implements Encoder {
  #parts: PixelParts;

  constructor(format: PixelFormat) {
    this.#parts = pixelParts(format);
  }

  configure(format: PixelFormat): void {
    this.#parts = pixelParts(format);
  }

  async encode(image: Image, rects: readonly Rect[]): Promise<EncodedRects> {
    const parts = bands(image, rects, MAX_RECT_PIXELS, 1).map((rect) => {
      const bytes = rectHeader(rect, ENCODING_RAW, rect.width * rect.height * this.#parts.pixelBytes);
      packPixels(pixelsOf(image, rect), this.#parts, bytes.subarray(dataAt));
      return bytes;
    });
    return { count: parts.length, parts };
  }

  close(): void {}
}
