/**
 * Tight encoding of the community's RFB text: an image is split by what is in it, into rectangles of one colour, with a
 * palette, of plain pixels, and photos, which become JPEG if the viewer has asked for a quality.
 */
import {
  Photos,
  type PixelParts,
  packTightRects,
  TIGHT_RECORD_NUMBERS,
  TILE_PIXELS,
  TightKind,
  type TightRecord,
} from '../../../../native/index.ts';
import type { Rect } from '../../display.ts';
import { type PixelFormat, tightPixelParts } from '../pixel-format.ts';
import { ENCODING_TIGHT } from '../protocol.ts';
import { DeflateStream, zlibLevel } from './deflate.ts';
import {
  dataAt,
  type EncodedRects,
  type Encoder,
  type EncoderOptions,
  type Image,
  rectHeader,
} from './encoder.ts';
import { encodeJpeg } from './jpeg.ts';
import { bands, pixelsOf } from './pixels.ts';
import { Scratch } from './scratch.ts';

/** Split by one call of native code, which keeps records of it. */
const MAX_PIECE_PIXELS = 2 ** 22;
const RGB_BYTES = 3;

// The compression-control byte: a bit per stream to reset; then which stream, whether a filter is named; or this.
const EXPLICIT_FILTER = 0x40;
const FILL = 0x80;
const JPEG = 0x90;
const PALETTE_FILTER = 1;
const GRADIENT_FILTER = 2;
/** Less than this is not compressed. */
const MIN_COMPRESSED_BYTES = 12;

/** Data of one kind compresses best together. */
const Stream = { copy: 0, mono: 1, indexed: 2, gradient: 3 } as const;

/** A rectangle that native code has split off, and its bytes. */
interface Piece {
  readonly kind: TightKind;
  readonly rect: Rect;
  readonly colours: number;
  readonly data: Uint8Array;
}

/** Its streams are reset at their first use, so a viewer may get a new one at any time. */
export class TightEncoder implements Encoder {
  readonly #scratch = new Scratch();
  readonly #streams = new Map<number, DeflateStream>();
  #parts!: PixelParts;
  #level!: number;
  #photos!: Photos;
  #jpegQuality = 0;

  constructor(format: PixelFormat, options: EncoderOptions) {
    this.configure(format, options);
  }

  configure(format: PixelFormat, options: EncoderOptions): void {
    this.#parts = tightPixelParts(format);
    this.#level = zlibLevel(options.compressLevel);
    this.#photos = photosFor(format, this.#parts, options);
    this.#jpegQuality = options.jpegQuality ?? 0;
  }

  async encode(image: Image, rects: readonly Rect[]): Promise<EncodedRects> {
    const areas = bands(image, rects, MAX_PIECE_PIXELS, TILE_PIXELS);
    const pixels = areas.reduce((sum, { width, height }) => sum + width * height, 0);
    const worstBytes = Math.max(RGB_BYTES, this.#parts.pixelBytes);
    const scratch = this.#scratch.take(pixels * worstBytes);
    let at = 0;
    const pieces = areas.flatMap((area) => {
      const split = this.#split(
        image,
        area,
        scratch.subarray(at, at + area.width * area.height * worstBytes),
      );
      at += split.reduce((sum, { data }) => sum + data.length, 0);
      return split;
    });
    const parts = (await Promise.all(pieces.map((piece) => this.#encode(piece)))).flat();
    this.#scratch.giveBack(scratch);
    return { count: pieces.length, parts };
  }

  close(): void {
    for (const stream of this.#streams.values()) stream.close();
    this.#scratch.clear();
  }

  #split(image: Image, area: Rect, to: Uint8Array): Piece[] {
    const tiles = Math.ceil(area.width / TILE_PIXELS) * Math.ceil(area.height / TILE_PIXELS);
    const records = new Int32Array(tiles * TIGHT_RECORD_NUMBERS);
    const count = packTightRects(pixelsOf(image, area), this.#parts, this.#photos, to, records);
    return Array.from({ length: count }, (_, i) => {
      const record = records.subarray(i * TIGHT_RECORD_NUMBERS, (i + 1) * TIGHT_RECORD_NUMBERS);
      const [kind, x, y, width, height, colours, start, length] = [...record] as unknown as TightRecord;
      const rect = { x: area.x + x, y: area.y + y, width, height };
      return { kind, rect, colours, data: to.subarray(start, start + length) };
    });
  }

  /** Calls its stream before it returns a promise: rectangles come here in the order in which they are sent. */
  #encode({ kind, rect, colours, data }: Piece): Promise<Uint8Array[]> {
    switch (kind) {
      case TightKind.fill:
        return Promise.resolve([control(rect, FILL), Buffer.from(data)]);
      case TightKind.copy:
        return this.#compress(Stream.copy, (reset) => control(rect, (Stream.copy << 4) | reset), data);
      case TightKind.palette: {
        const stream = colours === 2 ? Stream.mono : Stream.indexed;
        const palette = data.subarray(0, colours * this.#parts.pixelBytes);
        const start = (reset: number) => {
          const head = control(rect, (stream << 4) | EXPLICIT_FILTER | reset, 2 + palette.length);
          head[dataAt + 1] = PALETTE_FILTER;
          head[dataAt + 2] = colours - 1;
          head.set(palette, dataAt + 3);
          return head;
        };
        return this.#compress(stream, start, data.subarray(palette.length));
      }
      case TightKind.gradient: {
        const start = (reset: number) => {
          const head = control(rect, (Stream.gradient << 4) | EXPLICIT_FILTER | reset, 1);
          head[dataAt + 1] = GRADIENT_FILTER;
          return head;
        };
        return this.#compress(Stream.gradient, start, data);
      }
      case TightKind.photo:
        return this.#photo(rect, data);
      default:
        return kind satisfies never;
    }
  }

  async #compress(id: number, head: (reset: number) => Buffer, data: Uint8Array): Promise<Uint8Array[]> {
    if (data.length < MIN_COMPRESSED_BYTES) return [head(0), Buffer.from(data)];
    let stream = this.#streams.get(id);
    const start = head(stream ? 0 : 1 << id);
    if (!stream) {
      stream = new DeflateStream(this.#level, id === Stream.gradient ? 'runs' : 'default');
      this.#streams.set(id, stream);
    }
    const compressed = await stream.compress(data, this.#level);
    return [start, compactLength(compressed.length), compressed];
  }

  async #photo(rect: Rect, rgb: Uint8Array): Promise<Uint8Array[]> {
    const jpeg = await encodeJpeg(rgb, rect.width, rect.height, this.#jpegQuality);
    return [control(rect, JPEG), compactLength(jpeg.length), jpeg];
  }
}

/** JPEG cannot be had with 8 bits per pixel, and this gradient filter is for red, green and blue bytes. */
function photosFor(
  { bitsPerPixel }: PixelFormat,
  { pixelBytes }: PixelParts,
  { jpegQuality, gradient = jpegQuality === undefined }: EncoderOptions,
): Photos {
  if (jpegQuality !== undefined && bitsPerPixel > 8) return Photos.kept;
  return gradient && pixelBytes === RGB_BYTES ? Photos.gradient : Photos.copied;
}

/** The header of a rectangle and its compression-control byte. */
function control(rect: Rect, value: number, extraBytes = 0): Buffer {
  const head = rectHeader(rect, ENCODING_TIGHT, 1 + extraBytes);
  head[dataAt] = value;
  return head;
}

/** Seven bits, seven bits, eight bits; the high bit says that there is more. */
function compactLength(length: number): Uint8Array {
  if (length < 2 ** 7) return Uint8Array.of(length);
  if (length < 2 ** 14) return Uint8Array.of((length & 0x7f) | 0x80, length >> 7);
  return Uint8Array.of((length & 0x7f) | 0x80, ((length >> 7) & 0x7f) | 0x80, length >> 14);
}
