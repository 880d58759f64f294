/** noVNC's decoders without a browser: they draw into memory. */
import { vi } from 'vitest';
import type { EncodedRects } from '../../../../server/displays/vnc/encodings/index.ts';
import type { PixelFormat } from '../../../../server/displays/vnc/pixel-format.ts';
import { BytesReader, decodeJpeg, readRectHeader } from '../../../support/rfb-decoder.ts';

interface Decoder {
  decodeRect(
    x: number,
    y: number,
    width: number,
    height: number,
    sock: Queue,
    display: Surface,
    depth: number,
  ): boolean;
}

/** noVNC's receive queue, with all bytes there: it never has to wait, but may look further than there is. */
class Queue {
  readonly #reader: BytesReader;

  constructor(reader: BytesReader) {
    this.#reader = reader;
  }

  rQwait(): boolean {
    return false;
  }

  rQpeek8(): number {
    return this.#reader.peek();
  }

  rQskipBytes(length: number): void {
    this.#reader.take(length);
  }

  rQshift8(): number {
    return this.#reader.take(1)[0]!;
  }

  rQshift32(): number {
    return Buffer.from(this.#reader.take(4)).readUInt32BE();
  }

  rQshiftBytes(length: number): Uint8Array {
    return this.#reader.take(length).slice();
  }

  rQshiftTo(target: Uint8Array, length: number): void {
    target.set(this.#reader.take(length));
  }
}

/** What noVNC calls a display. */
class Surface {
  readonly rgba: Uint8Array;
  readonly #width: number;
  readonly #pending: Promise<void>[] = [];

  constructor(width: number, height: number) {
    this.#width = width;
    this.rgba = new Uint8Array(width * height * 4);
  }

  fillRect(x: number, y: number, width: number, height: number, colour: ArrayLike<number>): void {
    const row = new Uint8Array(width * 4);
    for (let i = 0; i < width; i++) row.set([colour[0]!, colour[1]!, colour[2]!, 255], i * 4);
    for (let line = 0; line < height; line++) this.blitImage(x, y + line, width, 1, row, 0);
  }

  blitImage(x: number, y: number, width: number, height: number, rgba: Uint8Array, offset: number): void {
    for (let row = 0; row < height; row++) {
      const from = rgba.subarray(offset + row * width * 4, offset + (row + 1) * width * 4);
      this.rgba.set(from, ((y + row) * this.#width + x) * 4);
    }
  }

  imageRect(x: number, y: number, width: number, height: number, _mime: string, jpeg: Uint8Array): void {
    const image = decodeJpeg(jpeg, width, height);
    this.#pending.push(image.then((rgba) => this.blitImage(x, y, width, height, rgba, 0)));
  }

  async drawn(): Promise<void> {
    await Promise.all(this.#pending);
  }
}

/** The package has a door for browsers only. */
async function load(name: string): Promise<Decoder> {
  // For its log.
  vi.stubGlobal('window', globalThis);
  const file = new URL(`../../../../node_modules/@novnc/novnc/core/decoders/${name}.js`, import.meta.url);
  const { default: Class } = (await import(file.href)) as { default: new () => Decoder };
  return new Class();
}

export const noVnc = {
  /** What noVNC asks servers for. */
  format: {
    bitsPerPixel: 32,
    depth: 24,
    bigEndian: false,
    trueColour: true,
    redMax: 255,
    greenMax: 255,
    blueMax: 255,
    redShift: 0,
    greenShift: 8,
    blueShift: 16,
  } satisfies PixelFormat,

  async viewer(width: number, height: number) {
    const decoders = new Map([
      [0, await load('raw')],
      [7, await load('tight')],
      [16, await load('zrle')],
    ]);
    const surface = new Surface(width, height);
    return {
      rgba: surface.rgba,
      /** Draws all rectangles. */
      async show({ count, parts }: EncodedRects): Promise<void> {
        const reader = new BytesReader(...parts);
        for (let i = 0; i < count; i++) {
          const { x, y, width, height, encoding } = await readRectHeader(reader);
          const decoder = decoders.get(encoding);
          const done = decoder?.decodeRect(x, y, width, height, new Queue(reader), surface, 24);
          if (!done) throw new Error(`encoding ${encoding} was not decoded`);
        }
        reader.end();
        await surface.drawn();
      },
    };
  },
};
