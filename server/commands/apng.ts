/**
 * Animated PNG (PNG third edition, 11.3.2): frames that come as PNG files are put into one file, without decoding them.
 * After every frame the file is whole, whatever becomes of the process; only how long the last one is seen is not in it
 * before the next one comes.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { crc32 } from 'node:zlib';

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
/** Behind the signature and IHDR. */
const ACTL_AT = SIGNATURE.length + 4 + 4 + 13 + 4;
const PLAY_ONCE = 1;
const APNG_DISPOSE_OP_NONE = 0;
const APNG_BLEND_OP_SOURCE = 0;
/** Delays are fractions of 16 bits each: seconds by these, the first that is fine enough. */
const DELAY_UNITS = [1000, 100, 10, 1];
const MAX_DELAY = 0xffff;

/** A PNG file as far as it matters here. */
interface Png {
  readonly width: number;
  readonly height: number;
  readonly header: Buffer;
  readonly data: Buffer;
}

/** @throws Error for what is no PNG */
function parsePng(file: Buffer): Png {
  if (!file.subarray(0, SIGNATURE.length).equals(SIGNATURE)) throw new Error('this is no PNG file');
  let header: Buffer | undefined;
  const data: Buffer[] = [];
  for (let at = SIGNATURE.length; at + 12 <= file.length; ) {
    const length = file.readUInt32BE(at);
    const type = file.toString('latin1', at + 4, at + 8);
    const body = file.subarray(at + 8, at + 8 + length);
    if (body.length < length) break;
    if (type === 'IHDR') header = body;
    if (type === 'IDAT') data.push(body);
    if (type === 'IEND' && header && data.length > 0) {
      const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)];
      return { width, height, header, data: Buffer.concat(data) };
    }
    at += 12 + length;
  }
  throw new Error('this PNG file is cut short');
}

function chunk(type: string, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), ...parts]);
  const length = uint32(body.length - 4);
  return Buffer.concat([length, body, uint32(crc32(body))]);
}

function uint32(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, i) => {
    bytes.writeUInt32BE(value, 4 * i);
  });
  return bytes;
}

export class ApngWriter {
  readonly #file: FileHandle;
  /** Where the next frame goes; IEND is there until it comes. */
  #position = 0;
  #sequence = 0;
  #frames = 0;
  /** How long it is seen is known when the next one comes. */
  #last: { readonly at: number; readonly place: Buffer } | undefined;
  #startMs = 0;
  /** What the delays that are known add up to. */
  #knownMs = 0;
  #header: Buffer | undefined;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /**
   * Makes an empty file, or empties it; `wx` refuses one that is there.
   *
   * @throws Error when it cannot be written everywhere in it
   */
  static async create(path: string, flags: 'w' | 'wx' = 'w'): Promise<ApngWriter> {
    const file = await open(path, flags);
    if ((await file.stat()).isFile()) return new ApngWriter(file);
    await file.close();
    throw new Error(`${path} is not a file`);
  }

  /** Frames so far. */
  get frames(): number {
    return this.#frames;
  }

  /** Of the first frame. */
  get size(): { readonly width: number; readonly height: number } | undefined {
    const header = this.#header;
    return header && { width: header.readUInt32BE(0), height: header.readUInt32BE(4) };
  }

  /**
   * A picture is seen from `atMs` on. The first one is as large as the animation; later ones replace what is at their
   * place, must lie in it, and have the same kind of pixels.
   */
  async add(file: Buffer, x: number, y: number, atMs: number): Promise<void> {
    const png = parsePng(file);
    if (this.#header && !fits(png, x, y, this.#header)) {
      throw new Error(`a frame of ${png.width}x${png.height} at ${x},${y} does not fit the animation`);
    }
    await this.#endLast(atMs);
    const start: Buffer[] = [];
    if (!this.#header) {
      this.#header = png.header;
      this.#startMs = atMs;
      start.push(SIGNATURE, chunk('IHDR', png.header), actl(1));
    }
    const place = uint32(this.#sequence++, png.width, png.height, x, y);
    const data =
      this.#frames === 0 ? chunk('IDAT', png.data) : chunk('fdAT', uint32(this.#sequence++), png.data);
    const head = Buffer.concat(start);
    const frame = Buffer.concat([head, fctl(place, delayOf(0)), data]);
    await this.#write(Buffer.concat([frame, chunk('IEND')]), this.#position);
    this.#last = { at: this.#position + head.length, place };
    this.#position += frame.length;
    this.#frames++;
    await this.#write(actl(this.#frames), ACTL_AT);
  }

  /** The last frame is seen until `atMs`. */
  async close(atMs: number): Promise<void> {
    try {
      await this.#endLast(atMs);
    } finally {
      await this.#file.close();
    }
  }

  async #endLast(untilMs: number): Promise<void> {
    if (!this.#last) return;
    const { at, place } = this.#last;
    this.#last = undefined;
    const delay = delayOf(untilMs - this.#startMs - this.#knownMs);
    this.#knownMs += (delay.numerator * 1000) / delay.denominator;
    await this.#write(fctl(place, delay), at);
  }

  async #write(bytes: Buffer, position: number): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const { bytesWritten } = await this.#file.write(bytes, at, bytes.length - at, position + at);
      at += bytesWritten;
    }
  }
}

/** Whether a frame at this place lies in the animation that `header` begins, and has the same kind of pixels. */
const fits = ({ header, width, height }: Png, x: number, y: number, first: Buffer) =>
  header.subarray(8).equals(first.subarray(8)) &&
  x + width <= first.readUInt32BE(0) &&
  y + height <= first.readUInt32BE(4);

const actl = (frames: number) => chunk('acTL', uint32(frames, PLAY_ONCE));

interface Delay {
  readonly numerator: number;
  readonly denominator: number;
}

const fctl = (place: Buffer, { numerator, denominator }: Delay) =>
  chunk(
    'fcTL',
    place,
    Buffer.from([
      ...[numerator >> 8, numerator & 0xff],
      ...[denominator >> 8, denominator & 0xff],
      ...[APNG_DISPOSE_OP_NONE, APNG_BLEND_OP_SOURCE],
    ]),
  );

function delayOf(ms: number): Delay {
  for (const denominator of DELAY_UNITS) {
    const numerator = Math.max(0, Math.round((ms * denominator) / 1000));
    if (numerator <= MAX_DELAY) return { numerator, denominator };
  }
  return { numerator: MAX_DELAY, denominator: 1 };
}
