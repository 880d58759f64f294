/** What all encodings of pixels have in common: RFC 6143 section 7.6.1 and 7.7. */
import type { PixelOrder, Rect } from '../../display.ts';
import type { PixelFormat } from '../pixel-format.ts';

/** Pixels of 4 bytes. They may change after `encode` has returned its promise, so they are read before that. */
export interface Image {
  readonly bytes: Uint8Array;
  readonly strideBytes: number;
  readonly order: PixelOrder;
  /** Rows that are missing above; 0 by default. */
  readonly top?: number;
}

/** Complete rectangles of a FramebufferUpdate: headers and data. The bytes belong to whoever asked for them. */
export interface EncodedRects {
  readonly count: number;
  readonly parts: readonly Uint8Array[];
}

export interface EncoderOptions {
  /** 0 to 9, as in the viewer's pseudo-encoding; absent: what measured best. Means nothing to Raw. */
  readonly compressLevel?: number | undefined;
  /** 0 to 9, as in the viewer's pseudo-encoding; absent: lossless. Means nothing but to Tight. */
  readonly jpegQuality?: number | undefined;
  /**
   * Whether Tight may use its gradient filter, which makes exact photos smaller. Absent: unless there is a
   * `jpegQuality`, as noVNC before 1.5 cannot undo the filter, but always asks for a quality.
   */
  readonly gradient?: boolean | undefined;
}

/**
 * Makes rectangles for one viewer. Its zlib streams live as long as it does, and the viewer's must live as long: see
 * README.md.
 */
export interface Encoder {
  /**
   * Encodes parts of an image; empty ones are left out, large ones are split. Needs memory for all of the pixels at
   * once. Results of several calls must all be sent, in the order of the calls.
   *
   * Rejects with a RangeError when a rectangle is not in the image, and nothing has happened; with anything else, the
   * zlib streams are beyond use, and so is the encoder.
   */
  encode(image: Image, rects: readonly Rect[]): Promise<EncodedRects>;
  /** What the viewer wants from the next `encode` on. Streams go on. */
  configure(format: PixelFormat, options: EncoderOptions): void;
  /** Frees what it holds; promises that are open are rejected. */
  close(): void;
}

const RECT_HEADER_BYTES = 12;

/** The header of a rectangle, followed by room for `extraBytes` of its data. */
export function rectHeader(rect: Rect, encoding: number, extraBytes = 0): Buffer {
  const header = Buffer.allocUnsafe(RECT_HEADER_BYTES + extraBytes);
  header.writeUInt16BE(rect.x, 0);
  header.writeUInt16BE(rect.y, 2);
  header.writeUInt16BE(rect.width, 4);
  header.writeUInt16BE(rect.height, 6);
  header.writeInt32BE(encoding, 8);
  return header;
}

export const dataAt = RECT_HEADER_BYTES;
