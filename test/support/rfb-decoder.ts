/**
 * The viewer's side of the encodings, from the specification (RFC 6143, and the community's text for Tight), simple
 * and slow. Refuses everything that is not exactly as it should be: bytes left over, indexes beyond palettes, runs
 * beyond tiles. Pixels come out as red, green, blue and 255.
 */
import { createInflate, type Inflate } from 'node:zlib';
import sharp from 'sharp';
import type { Rect } from '../../server/displays/display.ts';
import type { PixelFormat } from '../../server/displays/vnc/pixel-format.ts';

/** Where the bytes of a connection come from. */
export interface ByteReader {
  /** Exactly so many bytes. */
  read(lengthBytes: number): Promise<Uint8Array>;
}

/** Reads bytes that are all there. */
export class BytesReader implements ByteReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(...parts: readonly Uint8Array[]) {
    this.#bytes = Buffer.concat(parts);
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  take(lengthBytes: number): Uint8Array {
    if (lengthBytes > this.left) throw new Error(`need ${lengthBytes} bytes, ${this.left} are left`);
    this.#at += lengthBytes;
    return this.#bytes.subarray(this.#at - lengthBytes, this.#at);
  }

  peek(): number {
    if (this.left === 0) throw new Error('need a byte, none is left');
    return this.#bytes[this.#at]!;
  }

  async read(lengthBytes: number): Promise<Uint8Array> {
    return this.take(lengthBytes);
  }

  end(): void {
    if (this.left > 0) throw new Error(`${this.left} bytes are left over`);
  }
}

/** The other end of a zlib stream that is flushed after each piece. */
class Inflater {
  #inflate: Inflate | undefined;
  #error: Error | undefined;
  #output: Buffer[] = [];

  async inflate(bytes: Uint8Array): Promise<Uint8Array> {
    const inflate = this.#inflate ?? this.#start();
    await new Promise<void>((resolve, reject) => {
      inflate.write(bytes, (error) => (error ? reject(this.#error ?? error) : resolve()));
    });
    while (inflate.read() !== null);
    const output = Buffer.concat(this.#output);
    this.#output = [];
    return output;
  }

  reset(): void {
    this.#inflate?.destroy();
    this.#inflate = undefined;
  }

  #start(): Inflate {
    const inflate = createInflate();
    inflate.on('data', (chunk: Buffer) => this.#output.push(chunk));
    inflate.on('error', (error) => (this.#error = error));
    this.#inflate = inflate;
    return inflate;
  }
}

/** What a viewer keeps from one rectangle to the next. */
export class DecoderState {
  readonly zrle = new Inflater();
  readonly tight: readonly Inflater[] = [new Inflater(), new Inflater(), new Inflater(), new Inflater()];
  /** How many rectangles, or tiles of ZRLE, came in which way. */
  readonly seen = new Map<string, number>();

  close(): void {
    for (const inflater of [this.zrle, ...this.tight]) inflater.reset();
  }

  saw(way: string): void {
    this.seen.set(way, (this.seen.get(way) ?? 0) + 1);
  }
}

type Rgb = readonly [number, number, number];

interface PixelReader {
  readonly bytes: number;
  colour(pixel: Uint8Array): Rgb;
}

/** Decodes the data of a rectangle, which follows its header. Returns width * height * 4 bytes. */
export async function decodeRect(
  encoding: number,
  reader: ByteReader,
  rect: Rect,
  format: PixelFormat,
  state: DecoderState,
): Promise<Uint8Array> {
  switch (encoding) {
    case 0:
      return pixelsFrom(await reader.read(rect.width * rect.height * pixel(format).bytes), pixel(format));
    case 7:
      return decodeTight(reader, rect, format, state);
    case 16:
      return decodeZrle(reader, rect, format, state);
    default:
      throw new Error(`encoding ${encoding} was not asked for`);
  }
}

// ---- pixels ----

function pixel({ bitsPerPixel, bigEndian, ...format }: PixelFormat): PixelReader {
  const bytes = bitsPerPixel / 8;
  const channel = (value: number, shift: number, max: number) =>
    Math.round((((value >>> shift) & max) * 255) / max);
  return {
    bytes,
    colour(pixel) {
      let value = 0;
      for (let i = 0; i < bytes; i++) {
        value = (value << 8) | pixel[bigEndian ? i : bytes - 1 - i]!;
      }
      return [
        channel(value, format.redShift, format.redMax),
        channel(value, format.greenShift, format.greenMax),
        channel(value, format.blueShift, format.blueMax),
      ];
    },
  };
}

function tpixel(format: PixelFormat): PixelReader {
  const { bitsPerPixel, depth, trueColour, redMax, greenMax, blueMax } = format;
  const whole = redMax === 255 && greenMax === 255 && blueMax === 255;
  if (!(trueColour && bitsPerPixel === 32 && depth === 24 && whole)) return pixel(format);
  return { bytes: 3, colour: (bytes) => [bytes[0]!, bytes[1]!, bytes[2]!] };
}

function cpixel(format: PixelFormat): PixelReader {
  const { bitsPerPixel, depth, trueColour, bigEndian } = format;
  const fits = (low: number) =>
    [
      [format.redMax, format.redShift],
      [format.greenMax, format.greenShift],
      [format.blueMax, format.blueShift],
    ].every(([max, shift]) => shift! >= low && 2 ** shift! * max! < 2 ** (low + 24));
  const full = pixel(format);
  if (!trueColour || bitsPerPixel !== 32 || depth > 24 || !(fits(0) || fits(8))) return full;
  // The byte that is not sent, in the order of memory.
  const missing = fits(0) === bigEndian ? 0 : 3;
  return {
    bytes: 3,
    colour: ([a, b, c]) => full.colour(Uint8Array.from(missing === 0 ? [0, a!, b!, c!] : [a!, b!, c!, 0])),
  };
}

function pixelsFrom(bytes: Uint8Array, { bytes: each, colour }: PixelReader): Uint8Array {
  const count = bytes.length / each;
  const out = new Uint8Array(count * 4);
  for (let i = 0; i < count; i++) fillFrom(out, i, 1, colour(bytes.subarray(i * each, (i + 1) * each)));
  return out;
}

function fill(count: number, colour: Rgb): Uint8Array {
  const out = new Uint8Array(count * 4);
  fillFrom(out, 0, count, colour);
  return out;
}

function fillFrom(out: Uint8Array, start: number, count: number, [r, g, b]: Rgb): void {
  for (let at = start * 4; at < (start + count) * 4; at += 4) {
    out[at] = r;
    out[at + 1] = g;
    out[at + 2] = b;
    out[at + 3] = 255;
  }
}

/** Pixels from indexes of some bits each; rows begin with a byte. */
function indexed(bytes: Uint8Array, bits: number, width: number, height: number, palette: readonly Rgb[]) {
  const rowBytes = Math.ceil((width * bits) / 8);
  const out = new Uint8Array(width * height * 4);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = x * bits;
      const index = (bytes[y * rowBytes + (at >> 3)]! >> (8 - bits - (at & 7))) & (2 ** bits - 1);
      const colour = palette[index];
      if (!colour) throw new Error(`index ${index} in a palette of ${palette.length}`);
      fillFrom(out, y * width + x, 1, colour);
    }
  }
  return out;
}

// ---- ZRLE ----

async function decodeZrle(reader: ByteReader, rect: Rect, format: PixelFormat, state: DecoderState) {
  const length = Buffer.from(await reader.read(4)).readUInt32BE();
  const data = new BytesReader(await state.zrle.inflate(await reader.read(length)));
  const out = new Uint8Array(rect.width * rect.height * 4);
  for (let y = 0; y < rect.height; y += 64) {
    for (let x = 0; x < rect.width; x += 64) {
      const width = Math.min(64, rect.width - x);
      const height = Math.min(64, rect.height - y);
      const tile = zrleTile(data, width, height, cpixel(format), state);
      for (let row = 0; row < height; row++) {
        out.set(tile.subarray(row * width * 4, (row + 1) * width * 4), ((y + row) * rect.width + x) * 4);
      }
    }
  }
  data.end();
  return out;
}

function zrleTile(
  data: BytesReader,
  width: number,
  height: number,
  { bytes, colour }: PixelReader,
  state: DecoderState,
): Uint8Array {
  const byte = () => data.take(1)[0]!;
  const one = () => colour(data.take(bytes));
  const colours = (count: number) => Array.from({ length: count }, one);
  const runLength = () => {
    let length = 1;
    for (let more = 255; more === 255; length += more) more = byte();
    return length;
  };
  const runs = (next: () => [Rgb, number]) => {
    const out = new Uint8Array(width * height * 4);
    for (let at = 0; at < width * height; ) {
      const [rgb, length] = next();
      if (at + length > width * height) throw new Error('a run goes beyond its tile');
      fillFrom(out, at, length, rgb);
      at += length;
    }
    return out;
  };

  const kind = byte();
  if (kind === 0) {
    state.saw('raw');
    return pixelsFrom(data.take(width * height * bytes), { bytes, colour });
  }
  if (kind === 1) {
    state.saw('solid');
    return fill(width * height, one());
  }
  if (kind <= 16) {
    state.saw('packed palette');
    const palette = colours(kind);
    const bits = kind === 2 ? 1 : kind <= 4 ? 2 : 4;
    return indexed(data.take(Math.ceil((width * bits) / 8) * height), bits, width, height, palette);
  }
  if (kind === 128) {
    state.saw('runs');
    return runs(() => [one(), runLength()]);
  }
  if (kind < 130) throw new Error(`a tile of kind ${kind}`);
  state.saw('palette runs');
  const palette = colours(kind - 128);
  return runs(() => {
    const index = byte();
    const rgb = palette[index & 0x7f];
    if (!rgb) throw new Error(`index ${index & 0x7f} in a palette of ${palette.length}`);
    return [rgb, index < 128 ? 1 : runLength()];
  });
}

// ---- Tight ----

async function decodeTight(
  reader: ByteReader,
  { width, height }: Rect,
  format: PixelFormat,
  state: DecoderState,
): Promise<Uint8Array> {
  if (width > 2048) throw new Error(`a rectangle of ${width} pixels is too wide for Tight`);
  const { bytes, colour } = tpixel(format);
  const byte = async () => (await reader.read(1))[0]!;
  const compact = async () => {
    let length = 0;
    for (const [shift, more] of [
      [0, 0x80],
      [7, 0x80],
      [14, 0],
    ] as const) {
      const part = await byte();
      length |= (part & (255 - more)) << shift;
      if ((part & more) === 0) break;
    }
    return reader.read(length);
  };

  const control = await byte();
  state.tight.forEach((stream, id) => {
    if (control & (1 << id)) stream.reset();
  });
  const basic = async (lengthBytes: number) => {
    if (lengthBytes < 12) return reader.read(lengthBytes);
    const data = await state.tight[(control >> 4) & 3]!.inflate(await compact());
    if (data.length !== lengthBytes) throw new Error(`${data.length} bytes instead of ${lengthBytes}`);
    return data;
  };

  switch (control >> 4) {
    case 8:
      state.saw('fill');
      return fill(width * height, colour(await reader.read(bytes)));
    case 9: {
      state.saw('JPEG');
      if (format.bitsPerPixel === 8) throw new Error('JPEG for a viewer with 8 bits per pixel');
      return decodeJpeg(await compact(), width, height);
    }
    case 0:
    case 1:
    case 2:
    case 3:
      state.saw('copy');
      return pixelsFrom(await basic(width * height * bytes), { bytes, colour });
    case 4:
    case 5:
    case 6:
    case 7: {
      const filter = await byte();
      if (filter === 2) {
        state.saw('gradient');
        if (bytes !== 3) throw new Error('a gradient of pixels that are not red, green and blue');
        return gradient(await basic(width * height * 3), width, height);
      }
      if (filter !== 1) throw new Error(`filter ${filter}`);
      const count = (await byte()) + 1;
      state.saw(count === 2 ? 'mono' : 'indexed');
      const list = await reader.read(count * bytes);
      const palette = Array.from({ length: count }, (_, i) => colour(list.subarray(i * bytes)));
      const bits = count <= 2 ? 1 : 8;
      return indexed(await basic(Math.ceil((width * bits) / 8) * height), bits, width, height, palette);
    }
    default:
      throw new Error(`compression control ${control}`);
  }
}

/** Undoes the gradient filter: each channel is what its neighbours let one expect, and the difference. */
function gradient(differences: Uint8Array, width: number, height: number): Uint8Array {
  const out = new Uint8Array(width * height * 4).fill(255);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < 3; channel++) {
        const at = (dx: number, dy: number) =>
          x < dx || y < dy ? 0 : out[((y - dy) * width + x - dx) * 4 + channel]!;
        const expected = Math.max(0, Math.min(255, at(1, 0) + at(0, 1) - at(1, 1)));
        out[(y * width + x) * 4 + channel] = expected + differences[(y * width + x) * 3 + channel]!;
      }
    }
  }
  return out;
}

/** Red, green, blue and 255. */
export async function decodeJpeg(jpeg: Uint8Array, width: number, height: number): Promise<Uint8Array> {
  const { data, info } = await sharp(jpeg).ensureAlpha().raw().toBuffer({ resolveWithObject: true });
  if (info.width !== width || info.height !== height || info.channels !== 4) {
    throw new Error(`a JPEG of ${info.width}x${info.height} instead of ${width}x${height}`);
  }
  return data;
}

// ---- whole updates ----

export interface RectHeader extends Rect {
  readonly encoding: number;
}

/** The header that each rectangle of an update begins with. */
export async function readRectHeader(reader: ByteReader): Promise<RectHeader> {
  const header = Buffer.from(await reader.read(12));
  return {
    x: header.readUInt16BE(0),
    y: header.readUInt16BE(2),
    width: header.readUInt16BE(4),
    height: header.readUInt16BE(6),
    encoding: header.readInt32BE(8),
  };
}
