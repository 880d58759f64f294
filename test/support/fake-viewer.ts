/** A VNC viewer as a library: says what viewers say, keeps the picture it was sent, and checks every byte. */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect } from 'node:tls';
import type { Rect } from '../../server/displays/display.ts';
import {
  type PixelFormat,
  SERVER_PIXEL_FORMAT,
  serializePixelFormat,
} from '../../server/displays/vnc/pixel-format.ts';
import { vncResponse } from '../../server/displays/vnc/vnc-auth.ts';
import { DecoderState, decodeRect } from './rfb-decoder.ts';

export interface SeenRect extends Rect {
  readonly encoding: number;
}

export interface SeenCursor {
  readonly width: number;
  readonly height: number;
  readonly hotX: number;
  readonly hotY: number;
  /** RGBA: premultiplied with alpha for the alpha cursor, alpha 0 or 255 for the other. */
  readonly rgba: Buffer;
}

const LAST_RECT = -224;

export class FakeViewer {
  readonly state = new DecoderState();
  width = 0;
  height = 0;
  name = '';
  /** Whose certificate the server has, where the connection is encrypted. */
  certificate: string | string[] | undefined;
  /** RGBA of what was sent. */
  picture = Buffer.alloc(0);
  format: PixelFormat = SERVER_PIXEL_FORMAT;
  cursor: SeenCursor | undefined;
  leds: number | undefined;
  /** Pseudo-encodings and sizes in the order they came: `[encoding, x, y, width, height]`. */
  readonly pseudo: (readonly [number, number, number, number, number])[] = [];
  readonly fences: { readonly flags: number; readonly payload: Buffer }[] = [];
  endsOfContinuousUpdates = 0;
  receivedBytes = 0;
  confirmsFences = true;
  stream: Duplex;
  #wake: () => void = () => {};

  constructor(stream: Duplex) {
    this.stream = stream;
    this.listen();
  }

  /** To be called after `stream` was replaced. */
  listen(): void {
    for (const event of ['readable', 'end', 'close', 'error']) this.stream.on(event, () => this.#wake());
  }

  async read(lengthBytes: number): Promise<Buffer> {
    if (lengthBytes === 0) return Buffer.alloc(0);
    for (;;) {
      const bytes: Buffer | null = this.stream.read(lengthBytes);
      if (bytes?.length === lengthBytes) {
        this.receivedBytes += lengthBytes;
        return bytes;
      }
      if (bytes || this.stream.readableEnded || this.stream.destroyed) throw new Error('the server hung up');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  write(...parts: (Uint8Array | readonly number[])[]): void {
    this.stream.write(Buffer.concat(parts.map((part) => Uint8Array.from(part))));
  }

  /** Everything up to and with ServerInit, without a password or with one. */
  async connect({
    password,
    version = '003.008',
  }: {
    password?: string;
    version?: string;
  } = {}): Promise<this> {
    expectBytes(await this.read(12), Buffer.from('RFB 003.008\n'));
    this.write(Buffer.from(`RFB ${version}\n`));
    const knowsReasons = version >= '003.008';
    let type: number;
    if (version === '003.003') type = (await this.read(4)).readUInt32BE();
    else {
      const types = await this.read((await this.read(1))[0] as number);
      type = types[0] as number;
      this.write([type]);
    }
    if (type === 19) type = await this.#encrypt();
    if (type === 2) this.write(vncResponse(password ?? '', await this.read(16)));
    if (type === 2 || knowsReasons) {
      const result = (await this.read(4)).readUInt32BE();
      if (result !== 0) {
        const reason = knowsReasons ? await this.read((await this.read(4)).readUInt32BE()) : '';
        throw new Error(`refused: ${reason.toString()}`);
      }
    }
    await this.init();
    return this;
  }

  /** VeNCrypt 0.2 with the one way that is offered; returns the way to log in that it protects. */
  async #encrypt(): Promise<number> {
    expectBytes(await this.read(2), [0, 2]);
    this.write([0, 2]);
    expectBytes(await this.read(2), [0, 1]);
    const subtype = await this.read(4);
    this.write(subtype);
    expectBytes(await this.read(1), [1]);
    this.stream.removeAllListeners();
    const secured = connect({ socket: this.stream as Socket, rejectUnauthorized: false });
    this.stream = secured;
    this.listen();
    await new Promise((resolve) => secured.once('secureConnect', resolve));
    this.certificate = secured.getPeerCertificate().subject.CN;
    return subtype.readUInt32BE() === 261 ? 2 : 1;
  }

  /** ClientInit and ServerInit. */
  async init(): Promise<void> {
    this.write([1]);
    const init = await this.read(24);
    this.#resize(init.readUInt16BE(0), init.readUInt16BE(2));
    expectBytes(init.subarray(4, 20), serializePixelFormat(SERVER_PIXEL_FORMAT));
    this.name = (await this.read(init.readUInt32BE(20))).toString();
  }

  setEncodings(...encodings: readonly number[]): void {
    const message = Buffer.alloc(4 + 4 * encodings.length);
    message[0] = 2;
    message.writeUInt16BE(encodings.length, 2);
    encodings.forEach((encoding, i) => {
      message.writeInt32BE(encoding, 4 + 4 * i);
    });
    this.write(message);
  }

  setPixelFormat(format: PixelFormat): void {
    this.format = format;
    this.write([0, 0, 0, 0], serializePixelFormat(format));
  }

  request(incremental = true, rect: Rect = { x: 0, y: 0, width: this.width, height: this.height }): void {
    this.write([3, incremental ? 1 : 0], shorts(rect.x, rect.y, rect.width, rect.height));
  }

  enableContinuousUpdates(
    on = true,
    rect: Rect = { x: 0, y: 0, width: this.width, height: this.height },
  ): void {
    this.write([150, on ? 1 : 0], shorts(rect.x, rect.y, rect.width, rect.height));
  }

  key(keysym: number, down: boolean): void {
    const message = Buffer.from([4, down ? 1 : 0, 0, 0, 0, 0, 0, 0]);
    message.writeUInt32BE(keysym, 4);
    this.write(message);
  }

  extendedKey(keysym: number, scancode: number, down: boolean): void {
    const message = Buffer.from([255, 0, 0, down ? 1 : 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    message.writeUInt32BE(keysym, 4);
    message.writeUInt32BE(scancode, 8);
    this.write(message);
  }

  pointer(x: number, y: number, mask = 0): void {
    this.write([5, mask], shorts(x, y));
  }

  setDesktopSize(width: number, height: number): void {
    this.write(
      [251, 0],
      shorts(width, height),
      [1, 0],
      [0, 0, 0, 0],
      shorts(0, 0, width, height),
      [0, 0, 0, 0],
    );
  }

  fence(flags: number, payload: readonly number[]): void {
    const message = Buffer.from([248, 0, 0, 0, 0, 0, 0, 0, payload.length, ...payload]);
    message.writeUInt32BE(flags >>> 0, 4);
    this.write(message);
  }

  /** Reads messages up to and with one FramebufferUpdate; returns its rectangles of pixels. */
  async update(): Promise<SeenRect[]> {
    for (;;) {
      const rects = await this.#message();
      if (rects) return rects;
    }
  }

  /** Reads messages of any kind until something is so. */
  async messagesUntil(isRight: () => boolean): Promise<void> {
    while (!isRight()) await this.#message();
  }

  /** Asks again and again, until the picture is as it should be. */
  async updatesUntil(isRight: () => boolean): Promise<void> {
    while (!isRight()) {
      this.request();
      await this.update();
    }
  }

  pixel(x: number, y: number): number[] {
    return [...this.picture.subarray((y * this.width + x) * 4, (y * this.width + x) * 4 + 3)];
  }

  close(): void {
    this.stream.destroy();
    this.state.close();
  }

  async #message(): Promise<SeenRect[] | undefined> {
    const type = (await this.read(1))[0] as number;
    switch (type) {
      case 0:
        return await this.#framebufferUpdate();
      case 1:
        await this.read(5 + 256 * 6);
        return undefined;
      case 150:
        this.endsOfContinuousUpdates++;
        return undefined;
      case 248: {
        const header = await this.read(8);
        const fence = { flags: header.readUInt32BE(3), payload: await this.read(header[7] as number) };
        this.fences.push(fence);
        if (this.confirmsFences && fence.flags & 0x8000_0000)
          this.fence(fence.flags & 0x7fff_ffff, [...fence.payload]);
        return undefined;
      }
      default:
        throw new Error(`the server sent a message of type ${type}`);
    }
  }

  async #framebufferUpdate(): Promise<SeenRect[]> {
    const count = (await this.read(3)).readUInt16BE(1);
    const rects: SeenRect[] = [];
    for (let i = 0; count === 0xffff || i < count; i++) {
      const header = await this.read(12);
      const [x, y, width, height] = [0, 2, 4, 6].map((at) => header.readUInt16BE(at)) as [
        number,
        number,
        number,
        number,
      ];
      const encoding = header.readInt32BE(8);
      if (encoding === LAST_RECT && count === 0xffff) break;
      if (encoding < 0) {
        this.pseudo.push([encoding, x, y, width, height]);
        await this.#pseudo(encoding, { x, y, width, height });
        continue;
      }
      const rect = { x, y, width, height };
      if (x + width > this.width || y + height > this.height)
        throw new Error('a rectangle leaves the picture');
      if (encoding === 1) this.#copyRect(rect, await this.read(4));
      else this.#draw(rect, await decodeRect(encoding, this, rect, this.format, this.state));
      rects.push({ ...rect, encoding });
    }
    return rects;
  }

  async #pseudo(encoding: number, { x, y, width, height }: Rect): Promise<void> {
    switch (encoding) {
      case -223:
        return this.#resize(width, height);
      case -308: {
        const screens = (await this.read(4))[0] as number;
        await this.read(16 * screens);
        if (y === 0) this.#resize(width, height);
        return;
      }
      case -239: {
        const bytes = this.format.bitsPerPixel / 8;
        const pixels = await this.read(width * height * bytes);
        const stride = Math.ceil(width / 8);
        const mask = await this.read(stride * height);
        const rgba = Buffer.alloc(width * height * 4);
        for (let i = 0; i < width * height; i++) {
          const isIn =
            ((mask[Math.floor(i / width) * stride + ((i % width) >> 3)] as number) >>
              (7 - ((i % width) & 7))) &
            1;
          if (!isIn) continue;
          // The server's format is the only one in which tests look at cursors.
          rgba.set(
            [pixels[i * 4 + 2] as number, pixels[i * 4 + 1] as number, pixels[i * 4] as number, 255],
            i * 4,
          );
        }
        this.cursor = { width, height, hotX: x, hotY: y, rgba };
        return;
      }
      case -314:
        if ((await this.read(4)).readInt32BE() !== 0)
          throw new Error('the cursor has another encoding than Raw');
        this.cursor = { width, height, hotX: x, hotY: y, rgba: await this.read(width * height * 4) };
        return;
      case -261:
        this.leds = (await this.read(1))[0];
        return;
      case -307:
        this.name = (await this.read((await this.read(4)).readUInt32BE())).toString();
        return;
      default:
    }
  }

  #resize(width: number, height: number): void {
    if (width === this.width && height === this.height) return;
    this.width = width;
    this.height = height;
    this.picture = Buffer.alloc(width * height * 4);
  }

  #draw({ x, y, width, height }: Rect, pixels: Uint8Array): void {
    for (let row = 0; row < height; row++) {
      this.picture.set(
        pixels.subarray(row * width * 4, (row + 1) * width * 4),
        ((y + row) * this.width + x) * 4,
      );
    }
  }

  #copyRect({ x, y, width, height }: Rect, from: Buffer): void {
    const [fromX, fromY] = [from.readUInt16BE(0), from.readUInt16BE(2)];
    const before = Buffer.from(this.picture);
    for (let row = 0; row < height; row++) {
      const at = ((fromY + row) * this.width + fromX) * 4;
      this.picture.set(before.subarray(at, at + width * 4), ((y + row) * this.width + x) * 4);
    }
  }
}

const shorts = (...values: readonly number[]) => {
  const bytes = Buffer.alloc(2 * values.length);
  values.forEach((value, i) => {
    bytes.writeUInt16BE(value, 2 * i);
  });
  return bytes;
};

function expectBytes(actual: Uint8Array, expected: ArrayLike<number>): void {
  if (!Buffer.from(actual).equals(Uint8Array.from(expected)))
    throw new Error(`got ${actual}, expected ${expected}`);
}
