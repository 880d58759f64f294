/**
 * One viewer that speaks RFB 3.8, over whatever stream: a TCP or Unix socket, TLS, or a WebSocket. It gets in
 * (`login.ts`), is read message by message, and is sent updates (`updates.ts`).
 */
import type { Duplex } from 'node:stream';
import type { Rect } from '../display.ts';
import { assertMode } from '../timing.ts';
import type { InputClient, Stage } from '../viewing/stage.ts';
import { KeyTranslator } from './keys.ts';
import { logIn, type Security } from './login.ts';
import {
  colourMapEntries,
  PixelFormatError,
  parsePixelFormat,
  SERVER_PIXEL_FORMAT,
  serializePixelFormat,
} from './pixel-format.ts';
import * as rfb from './protocol.ts';
import { Refusal } from './refusal.ts';
import { Updates } from './updates.ts';
import { StreamEnded, ViewerStream } from './viewer-stream.ts';

/** Until a viewer has come as far as ServerInit. */
const HANDSHAKE_MS = 20_000;
/** A viewer that drags its window asks for many sizes; the guest hears of some. */
const RESIZE_INTERVAL_MS = 100;
/** More encodings than there are have been named; the rest is not looked at. */
const MAX_ENCODINGS = 1024;
/** One step of a wheel. */
const NOTCH = 120;

export interface SessionOptions extends Security {
  readonly display: number;
  /** Whatever the viewer knows. */
  readonly viewOnly: boolean;
  readonly kind: 'vnc' | 'web';
  /** Called once. */
  readonly onEnd: (reason: string) => void;
}

export class VncSession {
  readonly #stage: Stage;
  readonly #options: SessionOptions;
  readonly #stream: ViewerStream;
  readonly #name: string;
  #viewOnly: boolean;
  #leave: (() => void)[] = [];
  #hasEnded = false;
  readonly #handshake: NodeJS.Timeout;
  /** What the viewer has told us it can do, now and ever. */
  #encodings: ReadonlySet<number> = new Set();
  readonly #everNamed = new Set<number>();
  #input: InputClient | undefined;
  #keys: KeyTranslator | undefined;
  #onRoom: (() => void) | undefined;
  #pressed = 0;
  #nextSize: { width: number; height: number } | undefined;
  #resize: NodeJS.Timeout | undefined;

  constructor(stream: Duplex, stage: Stage, options: SessionOptions) {
    this.#stage = stage;
    this.#options = options;
    this.#viewOnly = options.viewOnly;
    this.#name = `vfio-user-gpu display ${options.display}`;
    this.#stream = new ViewerStream(stream, this.#counter);
    this.#counter.connected++;
    this.#handshake = setTimeout(() => this.close('the viewer did not finish its handshake'), HANDSHAKE_MS);
    this.#handshake.unref();
    void this.#run();
  }

  /** Ends the session at once. */
  close(reason: string): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    clearTimeout(this.#handshake);
    clearTimeout(this.#resize);
    for (const leave of this.#leave) leave();
    this.#onRoom?.();
    this.#stream.destroy();
    this.#counter.connected--;
    this.#options.onEnd(reason);
  }

  get #counter() {
    return this.#stage.counters[this.#options.kind];
  }

  async #run(): Promise<void> {
    try {
      if ((await logIn(this.#stream, this.#options)) === 'view') this.#viewOnly = true;
      const updates = await this.#introduce();
      clearTimeout(this.#handshake);
      while (updates && !this.#hasEnded) await this.#converse(updates);
    } catch (error) {
      if (error instanceof Refusal || error instanceof PixelFormatError) this.#counter.refused++;
      else if (!(error instanceof StreamEnded)) this.#noteFailure(error);
      this.close((error as Error).message);
    }
  }

  #noteFailure(error: unknown): void {
    this.#stage.log.error({ err: (error as Error).stack }, 'a viewer failed: internal error');
  }

  /** ClientInit and ServerInit (RFC 6143, 7.3). Everybody shares the desktop, whatever a viewer would like. */
  async #introduce(): Promise<Updates | undefined> {
    await this.#stream.u8();
    const { display, kind } = this.#options;
    const { canvas, leave } = await this.#stage.look(display);
    this.#leave.push(leave);
    if (this.#hasEnded) {
      leave();
      return undefined;
    }
    const updates = new Updates({
      canvas,
      stream: this.#stream,
      name: this.#name,
      leds: () => this.#stage.input.leds,
      onUpdate: () => this.#counter.updates++,
      onFailure: (error) => {
        this.#noteFailure(error);
        this.close('an update could not be made');
      },
    });
    this.#leave.push(
      () => updates.close(),
      this.#stage.onInputNews(() => updates.ledsChanged()),
    );
    if (!this.#viewOnly) {
      const input = this.#stage.openInput(`${kind} viewer`, () => this.#onRoom?.());
      this.#leave.push(() => input.close());
      this.#input = input;
      this.#keys = new KeyTranslator(this.#stage.keyboard, () => this.#stage.input.leds);
    }
    const name = Buffer.from(this.#name);
    const init = Buffer.alloc(24);
    init.writeUInt16BE(canvas.width, 0);
    init.writeUInt16BE(canvas.height, 2);
    init.set(serializePixelFormat(SERVER_PIXEL_FORMAT), 4);
    init.writeUInt32BE(name.length, 20);
    this.#stream.write(init, name);
    return updates;
  }

  /** One message of the viewer's (RFC 6143, 7.5). */
  async #converse(updates: Updates): Promise<void> {
    const type = await this.#stream.u8();
    switch (type) {
      case rfb.SET_PIXEL_FORMAT: {
        const format = parsePixelFormat((await this.#stream.read(19)).subarray(3));
        return await updates.between(() => {
          const colours = colourMapEntries(format);
          if (colours) this.#stream.answer(colours);
          updates.setFormat(format);
        });
      }
      case rfb.SET_ENCODINGS:
        return await this.#setEncodings(updates);
      case rfb.FRAMEBUFFER_UPDATE_REQUEST: {
        const { flag, rect } = readRequest(await this.#stream.read(9));
        return updates.request(rect, flag);
      }
      case rfb.KEY_EVENT: {
        const body = await this.#stream.read(7);
        return await this.#key(body[0] !== 0, body.readUInt32BE(3), undefined);
      }
      case rfb.POINTER_EVENT:
        return await this.#pointer();
      case rfb.CLIENT_CUT_TEXT: {
        // Nothing in the guest could take it. A negative length is the extended kind, of as many bytes.
        const length = (await this.#stream.read(7)).readInt32BE(3);
        return await this.#stream.skip(Math.abs(length));
      }
      case rfb.ENABLE_CONTINUOUS_UPDATES: {
        const { flag: on, rect } = readRequest(await this.#stream.read(9));
        return await updates.between(() => {
          updates.setContinuous(on ? rect : undefined);
          if (!on) this.#stream.answer(Buffer.from([rfb.END_OF_CONTINUOUS_UPDATES]));
        });
      }
      case rfb.CLIENT_FENCE:
        return await this.#fence(updates);
      case rfb.SET_DESKTOP_SIZE:
        return await this.#setDesktopSize(updates);
      case rfb.QEMU_CLIENT_MESSAGE:
        return await this.#qemuMessage();
      default:
        throw new Refusal(`the viewer sent a message of type ${type}`);
    }
  }

  async #setEncodings(updates: Updates): Promise<void> {
    const count = (await this.#stream.read(3)).readUInt16BE(1);
    const used = Math.min(count, MAX_ENCODINGS);
    const body = await this.#stream.read(used * 4);
    await this.#stream.skip((count - used) * 4);
    const named = Array.from({ length: used }, (_, i) => body.readInt32BE(i * 4));
    this.#encodings = new Set(named);
    const news = new Set(named.filter((encoding) => !this.#everNamed.has(encoding)));
    // Of those that mean nothing here it need not be known whether they are new.
    for (const encoding of rfb.ANNOUNCED_ENCODINGS) if (news.has(encoding)) this.#everNamed.add(encoding);
    await updates.between(() => {
      if (news.has(rfb.ENCODING_CONTINUOUS_UPDATES)) {
        this.#stream.answer(Buffer.from([rfb.END_OF_CONTINUOUS_UPDATES]));
      }
      if (news.has(rfb.ENCODING_FENCE)) this.#writeFence(rfb.FENCE_REQUEST, new Uint8Array());
      updates.setEncodings(this.#encodings, news);
    });
  }

  async #fence(updates: Updates): Promise<void> {
    const header = await this.#stream.read(8);
    const flags = header.readUInt32BE(3);
    const length = header[7] as number;
    if (length > rfb.MAX_FENCE_BYTES) throw new Refusal('the viewer sent a fence that is too long');
    const payload = await this.#stream.read(length);
    if (flags & rfb.FENCE_REQUEST) {
      // Messages are done one after the other, so that there is nothing to wait for.
      const understood = flags & (rfb.FENCE_BLOCK_BEFORE | rfb.FENCE_BLOCK_AFTER);
      await updates.between(() => this.#writeFence(understood, payload));
    } else if (length > 0) updates.confirm();
  }

  #writeFence(flags: number, payload: Uint8Array): void {
    const header = Buffer.alloc(9);
    header[0] = rfb.SERVER_FENCE;
    header.writeUInt32BE(flags >>> 0, 4);
    header[8] = payload.length;
    this.#stream.answer(header, payload);
  }

  async #setDesktopSize(updates: Updates): Promise<void> {
    const body = await this.#stream.read(7);
    const width = body.readUInt16BE(1);
    const height = body.readUInt16BE(3);
    const screens = body[5] as number;
    await this.#stream.skip(screens * 16);
    if (this.#viewOnly) return updates.replyToResize(rfb.DESKTOP_SIZE_PROHIBITED);
    if (screens !== 1 || !isMode(width, height))
      return updates.replyToResize(rfb.DESKTOP_SIZE_INVALID_LAYOUT);
    this.#resizeSoon(width, height);
    updates.replyToResize(rfb.DESKTOP_SIZE_FORWARDED);
  }

  #resizeSoon(width: number, height: number): void {
    this.#nextSize = { width, height };
    if (this.#resize) return;
    const apply = () => {
      const size = this.#nextSize;
      this.#nextSize = undefined;
      this.#resize = size && setTimeout(apply, RESIZE_INTERVAL_MS);
      if (size) this.#stage.resize(this.#options.display, size.width, size.height);
    };
    apply();
  }

  async #qemuMessage(): Promise<void> {
    const subtype = await this.#stream.u8();
    switch (subtype) {
      case rfb.QEMU_EXTENDED_KEY_EVENT: {
        const body = await this.#stream.read(10);
        return await this.#key(body.readUInt16BE(0) !== 0, body.readUInt32BE(2), body.readUInt32BE(6));
      }
      case rfb.QEMU_AUDIO: {
        // There is no sound; what is said of it is of a known length.
        const operation = (await this.#stream.read(2)).readUInt16BE();
        return await this.#stream.skip(operation === rfb.QEMU_AUDIO_SET_FORMAT ? 6 : 0);
      }
      default:
        throw new Refusal(`the viewer sent a QEMU message of type ${subtype}`);
    }
  }

  async #key(down: boolean, keysym: number, scancode: number | undefined): Promise<void> {
    for (const { code, down: isDown } of this.#keys?.translate(down, keysym, scancode) ?? []) {
      await this.#send({ type: 'key', code, down: isDown });
    }
  }

  async #pointer(): Promise<void> {
    const body = await this.#stream.read(5);
    // Bits of RFB: left, middle, right, wheel up, down, left, right, then back and forward in a byte of their own.
    let mask = (body[0] as number) & 0x7f;
    const hasMore = (body[0] as number) & 0x80 && this.#encodings.has(rfb.ENCODING_EXTENDED_MOUSE_BUTTONS);
    if (hasMore) mask |= (await this.#stream.u8()) << 7;
    const newly = mask & ~this.#pressed;
    this.#pressed = mask;
    const notch = (more: number, less: number) => NOTCH * (((newly >> more) & 1) - ((newly >> less) & 1));
    await this.#send({
      type: 'pointer',
      display: this.#options.display,
      x: body.readUInt16BE(1),
      y: body.readUInt16BE(3),
      buttons: (mask & 7) | ((mask >> 4) & 0x18),
      wheelX: notch(6, 5),
      wheelY: notch(3, 4),
    });
  }

  /** Nothing more is read of a viewer whose keys and moves the guest does not take. */
  async #send(event: Parameters<InputClient['send']>[0]): Promise<void> {
    if (!this.#input || this.#input.send(event)) return;
    await new Promise<void>((resolve) => {
      this.#onRoom = resolve;
    });
    this.#onRoom = undefined;
  }
}

/** The body of a message that has a flag and a rectangle. */
function readRequest(body: Buffer): { flag: boolean; rect: Rect } {
  const [x, y, width, height] = [1, 3, 5, 7].map((at) => body.readUInt16BE(at)) as [
    number,
    number,
    number,
    number,
  ];
  return { flag: body[0] !== 0, rect: { x, y, width, height } };
}

/** Whether a guest can be asked for this size. */
function isMode(width: number, height: number): boolean {
  try {
    assertMode({ width, height, refreshHz: 60 });
    return true;
  } catch {
    return false;
  }
}
