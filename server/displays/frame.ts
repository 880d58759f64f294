/** A copy of what a display shows, in memory of its own. Channels are in the order of the picture. */
import { SystemError } from '../../native/index.ts';
import {
  BYTES_PER_PIXEL,
  type Picture,
  type PixelOrder,
  type PixelSource,
  type Rect,
  type Rows,
} from './display.ts';
import { PixelMemory } from './pixel-memory.ts';

/** 8192x8192: no mode is larger. What a guest shows beyond that is not copied. */
const MAX_FRAME_BYTES = 2 ** 28;

export class Frame {
  readonly width: number;
  readonly height: number;
  readonly strideBytes: number;
  #order: PixelOrder;
  readonly #memory: PixelMemory;

  private constructor({ width, height, order }: Picture) {
    this.width = width;
    this.height = height;
    this.strideBytes = width * BYTES_PER_PIXEL;
    this.#order = order;
    this.#memory = new PixelMemory('frame', this.strideBytes * height);
  }

  /** Black, of the size of the picture; undefined for one that is larger than any mode, or the host has no memory for. */
  static for(picture: Picture): Frame | undefined {
    const lengthBytes = picture.width * picture.height * BYTES_PER_PIXEL;
    if (lengthBytes > MAX_FRAME_BYTES) return undefined;
    try {
      return new Frame(picture);
    } catch (error) {
      if (error instanceof SystemError) return undefined;
      throw error;
    }
  }

  /** The memory, for who maps it elsewhere; it stays the frame's. */
  get fd(): number {
    return this.#memory.fd;
  }

  get bytes(): Uint8Array {
    return this.#memory.bytes;
  }

  get order(): PixelOrder {
    return this.#order;
  }

  /** Itself as a picture. */
  get picture(): Picture {
    const { width, height, order, strideBytes } = this;
    return { width, height, order, source: linearPixels(this.bytes), rows: { offset: 0, strideBytes } };
  }

  /** Whether a picture of the same size and order of channels can be copied in. */
  fits({ width, height, order }: Picture): boolean {
    const { r, g, b } = this.#order;
    return width === this.width && height === this.height && order.r === r && order.g === g && order.b === b;
  }

  /** Copies a part of a picture of the same size; false when it cannot be read. */
  copy({ source, rows, order }: Picture, { x, y, width, height }: Rect): boolean {
    this.#order = order;
    const at = (strideBytes: number) => y * strideBytes + x * BYTES_PER_PIXEL;
    const from = { offset: rows.offset + at(rows.strideBytes), strideBytes: rows.strideBytes };
    const to = { offset: at(this.strideBytes), strideBytes: this.strideBytes };
    return source.copyRows(from, this.bytes, to, width * BYTES_PER_PIXEL, height);
  }

  close(): void {
    this.#memory.close();
  }
}

/** Bytes that lie in memory one behind the other as a source of pixels. */
export function linearPixels(bytes: Uint8Array): PixelSource {
  return {
    copyRows(from: Rows, to: Uint8Array, toRows: Rows, rowBytes: number, rows: number): boolean {
      if (from.offset + from.strideBytes * (rows - 1) + rowBytes > bytes.length) return false;
      if (from.strideBytes === rowBytes && toRows.strideBytes === rowBytes) {
        to.set(bytes.subarray(from.offset, from.offset + rowBytes * rows), toRows.offset);
        return true;
      }
      for (let row = 0; row < rows; row++) {
        const at = from.offset + row * from.strideBytes;
        to.set(bytes.subarray(at, at + rowBytes), toRows.offset + row * toRows.strideBytes);
      }
      return true;
    },
  };
}
