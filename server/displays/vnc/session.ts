/**
 * One viewer that speaks RFB 3.8, over whatever stream: a TCP or Unix socket, TLS, or a WebSocket.
 *
 * Reading goes message by message (`#converse`). Sending is pulled: an update is made when the viewer has asked for one,
 * or wants them all, when what was sent before has left this process, and when there is something to tell. A viewer
 * that is slow therefore skips frames, and one that never reads costs the memory of one update.
 */
import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { type SecureContext, TLSSocket } from 'node:tls';
import type { Rect } from '../display.ts';
import { assertMode } from '../timing.ts';
import type { Canvas, Follower, Moved } from '../viewing/canvas.ts';
import type { KeyboardLeds } from '../viewing/messages.ts';
import type { InputClient, Stage } from '../viewing/thread.ts';
import { TILE, TileSet } from '../viewing/tiles.ts';
import { ByteReader, StreamEnded } from './byte-reader.ts';
import {
  type EncodedRects,
  type Encoder,
  type EncoderKind,
  encodeAlphaCursor,
  encodeCursor,
  type Image,
  makeEncoder,
} from './encodings/index.ts';
import { KeyTranslator } from './keys.ts';
import {
  colourMapEntries,
  type PixelFormat,
  PixelFormatError,
  parsePixelFormat,
  SERVER_PIXEL_FORMAT,
  serializePixelFormat,
} from './pixel-format.ts';
import * as rfb from './protocol.ts';
import { CHALLENGE_BYTES, isRightResponse, type PasswordGate } from './vnc-auth.ts';

/** Until a viewer has come as far as ServerInit. */
const HANDSHAKE_MS = 20_000;
/** A larger picture comes in several updates: this is what the memory of a viewer is bounded by. */
const MAX_UPDATE_PIXELS = 2 ** 21;
/** Updates that a viewer who wants them all has not confirmed. */
const MAX_UNCONFIRMED_UPDATES = 4;
/** A viewer that drags its window asks for many sizes; the guest hears of some. */
const RESIZE_INTERVAL_MS = 100;
/** More encodings than there are have been named; the rest is not looked at. */
const MAX_ENCODINGS = 1024;

export interface SessionOptions {
  readonly display: number;
  readonly viewOnly: boolean;
  readonly password: string | undefined;
  /** Slows guessing down. */
  readonly gate?: PasswordGate;
  readonly tls: SecureContext | undefined;
  readonly kind: 'vnc' | 'web';
  /** Called once. */
  readonly onEnd: (reason: string) => void;
}

/** The viewer does what no viewer does. */
class Refusal extends Error {
  override readonly name = 'Refusal';
}

export class VncSession implements Follower {
  readonly #stage: Stage;
  readonly #options: SessionOptions;
  readonly #reader: ByteReader;
  readonly #encoders = new Map<EncoderKind, Encoder>();
  #stream: Duplex;
  #version = 8;
  #canvas: Canvas | undefined;
  #leave: (() => void)[] = [];
  #hasEnded = false;
  #handshake: NodeJS.Timeout | undefined;

  /** What the viewer has told us it can do. */
  #encodings = new Set<number>();
  #format: PixelFormat = SERVER_PIXEL_FORMAT;
  #isEncoderOld = true;
  #encoder: Encoder | undefined;
  /** The size that the viewer believes in. */
  #width = 0;
  #height = 0;

  #dirty = new TileSet(0, 0);
  /** Comes before what is dirty. */
  #move: Moved | undefined;
  /** The part that the viewer asked for, and the part it wants whenever it changes. */
  #requested: Rect | undefined;
  #continuous: Rect | undefined;
  /** Since the last update was begun, something has changed. */
  #isNews = false;
  #isSending = false;
  #isBlocked = false;
  #unconfirmed = 0;
  /** Pseudo-encodings to send with the next update. */
  #isSizeNews = false;
  #sizeReply: { reason: number; status: number } | undefined;
  #isCursorNews = false;
  #hadCursor = false;
  #isLedNews = false;
  #acknowledged = new Set<number>();
  #toAcknowledge: number[] = [];
  /** Where the cursor was drawn into the picture of a viewer that cannot draw it itself. */
  #drawnCursor: Rect | undefined;

  #input: InputClient | undefined;
  #keys: KeyTranslator | undefined;
  #room: (() => void) | undefined;
  #buttonMask = 0;
  #nextSize: { width: number; height: number } | undefined;
  #resize: NodeJS.Timeout | undefined;

  constructor(stream: Duplex, stage: Stage, options: SessionOptions) {
    this.#stream = stream;
    this.#stage = stage;
    this.#options = options;
    this.#reader = new ByteReader(stream);
    stage.counters[options.kind].connected++;
    this.#handshake = setTimeout(() => this.close('the viewer did not finish its handshake'), HANDSHAKE_MS);
    this.#handshake.unref();
    stream.on('drain', this.#onDrain);
    void this.#run();
  }

  /** Ends the session at once. */
  close(reason: string): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    clearTimeout(this.#handshake);
    clearTimeout(this.#resize);
    for (const leave of this.#leave) leave();
    this.#input?.close();
    this.#room?.();
    for (const encoder of this.#encoders.values()) encoder.close();
    this.#stream.destroy();
    this.#stage.counters[this.#options.kind].connected--;
    this.#options.onEnd(reason);
  }

  get isWaiting(): boolean {
    const isAsked = this.#requested !== undefined || this.#continuous !== undefined;
    const isFree = !this.#isSending && !this.#isBlocked && this.#unconfirmed < MAX_UNCONFIRMED_UPDATES;
    return isAsked && isFree && !this.#hasEnded;
  }

  /** Copies are for viewers that have no cursor in the picture, which would be copied along. */
  get usesMoves(): boolean {
    return this.#has(rfb.ENCODING_COPY_RECT) && this.#drawsCursor;
  }

  changed(tiles: TileSet, moved?: Moved): void {
    if (moved) this.#forgetMove();
    // What the viewer is to copy it must have: as it was before, all of it.
    const from = moved && { ...moved.to, y: moved.to.y - moved.down };
    const canCopy =
      from &&
      this.usesMoves &&
      this.#isVisible(from) &&
      this.#isVisible(moved.to) &&
      !this.#dirty.touches(from);
    this.#dirty.addSet(tiles);
    if (canCopy) {
      this.#move = moved;
      this.#dirty.remove(moved.to);
    }
    this.#sendSoon();
  }

  #isVisible({ x, y, width, height }: Rect): boolean {
    return x >= 0 && y >= 0 && x + width <= this.#width && y + height <= this.#height;
  }

  /** The viewer gets the pixels instead. */
  #forgetMove(): void {
    if (this.#move) this.#dirty.add(this.#move.to);
    this.#move = undefined;
  }

  resized(): void {
    const { width, height } = this.#canvas as Canvas;
    this.#dirty = new TileSet(width, height);
    this.#dirty.addAll();
    this.#move = undefined;
    this.#isSizeNews = true;
    this.#sendSoon();
  }

  cursorChanged(image: boolean): void {
    const { cursor } = this.#canvas as Canvas;
    if (image || cursor.visible !== this.#hadCursor) this.#isCursorNews = this.#drawsCursor;
    this.#followCursor();
    this.#sendSoon();
  }

  /** Where the cursor was and where it is, the picture of a viewer that cannot draw it is another one. */
  #followCursor(): void {
    const { cursor } = this.#canvas as Canvas;
    if (this.#drawnCursor) this.#dirty.add(this.#drawnCursor);
    this.#drawnCursor = !this.#drawsCursor && cursor.visible ? cursor : undefined;
    if (this.#drawnCursor) this.#dirty.add(this.#drawnCursor);
  }

  // ---- reading ----

  async #run(): Promise<void> {
    try {
      await this.#introduce();
      clearTimeout(this.#handshake);
      for (;;) await this.#converse();
    } catch (error) {
      if (error instanceof Refusal || error instanceof PixelFormatError)
        this.#stage.counters[this.#options.kind].refused++;
      else if (!(error instanceof StreamEnded)) {
        this.#stage.log.error({ err: (error as Error).stack }, 'a viewer failed: internal error');
      }
      this.close((error as Error).message);
    }
  }

  /** Version, security, ClientInit and ServerInit (RFC 6143, 7.1 to 7.3). */
  async #introduce(): Promise<void> {
    this.#write(Buffer.from(rfb.PROTOCOL_VERSION));
    const said = (await this.#reader.read(rfb.PROTOCOL_VERSION.length)).toString('latin1');
    const match = /^RFB 003\.(\d{3})\n$/.exec(said);
    if (!match) throw new Refusal('the viewer speaks no RFB 3');
    const minor = Number(match[1]);
    // What is between 3.3 and 3.7 never was, and is to be taken for 3.3.
    this.#version = minor >= 8 ? 8 : minor === 7 ? 7 : 3;
    await this.#secure();
    await this.#reader.u8();
    const display = this.#options.display;
    const { canvas, leave } = await this.#stage.look(display);
    if (this.#hasEnded) {
      leave();
      return;
    }
    this.#canvas = canvas;
    this.#width = canvas.width;
    this.#height = canvas.height;
    this.#dirty = new TileSet(canvas.width, canvas.height);
    this.#leave = [leave, canvas.follow(this), this.#stage.onInputNews(() => this.#inputNews())];
    if (!this.#options.viewOnly) {
      this.#input = this.#stage.openInput(`${this.#options.kind} viewer`, () => this.#room?.());
      this.#keys = new KeyTranslator(this.#stage.keyboard, () => this.#stage.input.leds);
    }
    const name = Buffer.from(`vfio-user-gpu display ${display}`);
    const init = Buffer.alloc(24);
    init.writeUInt16BE(this.#width, 0);
    init.writeUInt16BE(this.#height, 2);
    init.set(serializePixelFormat(this.#format), 4);
    init.writeUInt32BE(name.length, 20);
    this.#write(Buffer.concat([init, name]));
  }

  async #secure(): Promise<void> {
    const { password, tls } = this.#options;
    const types = [
      ...(tls ? [rfb.SECURITY_VENCRYPT] : []),
      // Without encryption a password is what there is; with it, nobody is let in around it.
      ...(tls ? [] : [password === undefined ? rfb.SECURITY_NONE : rfb.SECURITY_VNC_AUTH]),
    ];
    let type = types[0] as number;
    if (this.#version === 3) {
      if (type === rfb.SECURITY_VENCRYPT) throw new Refusal('the viewer is too old for TLS');
      const chosen = Buffer.alloc(4);
      chosen.writeUInt32BE(type);
      this.#write(chosen);
    } else {
      this.#write(Buffer.from([types.length, ...types]));
      type = await this.#reader.u8();
      if (!types.includes(type))
        throw new Refusal('the viewer chose a way to log in that it was not offered');
    }
    if (type === rfb.SECURITY_VENCRYPT) type = await this.#encrypt();
    if (type === rfb.SECURITY_VNC_AUTH) await this.#authenticate(password as string);
    else if (this.#version === 8) this.#write(Buffer.alloc(4));
  }

  /** VeNCrypt 0.2 with a certificate; what it protects is the way to log in that is returned. */
  async #encrypt(): Promise<number> {
    const { password, tls } = this.#options;
    this.#write(Buffer.from([0, 2]));
    const version = await this.#reader.read(2);
    if (version[0] !== 0 || version[1] !== 2) {
      this.#write(Buffer.from([255]));
      throw new Refusal('the viewer speaks another VeNCrypt');
    }
    const subtype = password === undefined ? rfb.VENCRYPT_X509_NONE : rfb.VENCRYPT_X509_VNC;
    const offer = Buffer.alloc(6);
    offer[1] = 1;
    offer.writeUInt32BE(subtype, 2);
    this.#write(offer);
    if ((await this.#reader.u32()) !== subtype) {
      this.#write(Buffer.from([0]));
      throw new Refusal('the viewer chose a way to encrypt that it was not offered');
    }
    this.#write(Buffer.from([1]));
    const plain = this.#stream;
    plain.removeListener('drain', this.#onDrain);
    this.#stream = new TLSSocket(plain as ConstructorParameters<typeof TLSSocket>[0], {
      isServer: true,
      secureContext: tls as SecureContext,
    });
    this.#stream.on('drain', this.#onDrain);
    this.#reader.replace(this.#stream);
    plain.on('error', () => {});
    return password === undefined ? rfb.SECURITY_NONE : rfb.SECURITY_VNC_AUTH;
  }

  async #authenticate(password: string): Promise<void> {
    const challenge = randomBytes(CHALLENGE_BYTES);
    this.#write(challenge);
    const response = await this.#reader.read(CHALLENGE_BYTES);
    await this.#options.gate?.turn();
    const result = Buffer.alloc(4);
    if (isRightResponse(password, challenge, response)) {
      this.#write(result);
      return;
    }
    this.#options.gate?.wrong();
    result.writeUInt32BE(1);
    const reason = Buffer.from('wrong password');
    const reasonLength = Buffer.alloc(4);
    reasonLength.writeUInt32BE(reason.length);
    this.#write(Buffer.concat(this.#version === 8 ? [result, reasonLength, reason] : [result]));
    throw new Refusal('wrong password');
  }

  /** One message of the viewer's (RFC 6143, 7.5). */
  async #converse(): Promise<void> {
    const type = await this.#reader.u8();
    switch (type) {
      case rfb.SET_PIXEL_FORMAT:
        return await this.#setPixelFormat();
      case rfb.SET_ENCODINGS:
        return await this.#setEncodings();
      case rfb.FRAMEBUFFER_UPDATE_REQUEST:
        return await this.#requestUpdate();
      case rfb.KEY_EVENT: {
        const body = await this.#reader.read(7);
        return await this.#key(body[0] !== 0, body.readUInt32BE(3), undefined);
      }
      case rfb.POINTER_EVENT:
        return await this.#pointer();
      case rfb.CLIENT_CUT_TEXT: {
        // Nothing in the guest could take it. A negative length is the extended kind, of as many bytes.
        const length = (await this.#reader.read(7)).readInt32BE(3);
        return await this.#reader.skip(Math.abs(length));
      }
      case rfb.ENABLE_CONTINUOUS_UPDATES:
        return await this.#enableContinuousUpdates();
      case rfb.CLIENT_FENCE:
        return await this.#fence();
      case rfb.SET_DESKTOP_SIZE:
        return await this.#setDesktopSize();
      case rfb.QEMU_CLIENT_MESSAGE:
        return await this.#qemuMessage();
      default:
        throw new Refusal(`the viewer sent a message of type ${type}`);
    }
  }

  async #setPixelFormat(): Promise<void> {
    const body = await this.#reader.read(19);
    this.#format = parsePixelFormat(body.subarray(3));
    this.#isEncoderOld = true;
    const colours = colourMapEntries(this.#format);
    if (colours) this.#write(colours);
    this.#isCursorNews = this.#drawsCursor;
  }

  async #setEncodings(): Promise<void> {
    const count = (await this.#reader.read(3)).readUInt16BE(1);
    const used = Math.min(count, MAX_ENCODINGS);
    const body = await this.#reader.read(used * 4);
    await this.#reader.skip((count - used) * 4);
    this.#encodings = new Set(Array.from({ length: used }, (_, i) => body.readInt32BE(i * 4)));
    if (this.#has(rfb.ENCODING_CONTINUOUS_UPDATES) && this.#first(rfb.ENCODING_CONTINUOUS_UPDATES)) {
      this.#write(Buffer.from([rfb.END_OF_CONTINUOUS_UPDATES]));
    }
    if (this.#has(rfb.ENCODING_FENCE) && this.#first(rfb.ENCODING_FENCE))
      this.#writeFence(rfb.FENCE_REQUEST, []);
    for (const encoding of [
      rfb.ENCODING_QEMU_EXTENDED_KEY_EVENT,
      rfb.ENCODING_QEMU_POINTER_MOTION_CHANGE,
      rfb.ENCODING_EXTENDED_MOUSE_BUTTONS,
      rfb.ENCODING_DESKTOP_NAME,
    ]) {
      if (this.#has(encoding) && this.#first(encoding)) this.#toAcknowledge.push(encoding);
    }
    if (this.#has(rfb.ENCODING_EXTENDED_DESKTOP_SIZE) && this.#first(rfb.ENCODING_EXTENDED_DESKTOP_SIZE)) {
      this.#isSizeNews = true;
    }
    this.#isEncoderOld = true;
    this.#isCursorNews = this.#drawsCursor;
    this.#followCursor();
    this.#isLedNews = this.#has(rfb.ENCODING_QEMU_LED_STATE);
    this.#sendSoon();
  }

  async #requestUpdate(): Promise<void> {
    const { incremental, rect } = readRequest(await this.#reader.read(9));
    if (!incremental) {
      this.#dirty.add(rect);
      if (this.#has(rfb.ENCODING_EXTENDED_DESKTOP_SIZE)) this.#isSizeNews = true;
    }
    this.#requested = this.#requested ? union(this.#requested, rect) : rect;
    this.#sendSoon();
  }

  async #enableContinuousUpdates(): Promise<void> {
    const { incremental: on, rect } = readRequest(await this.#reader.read(9));
    this.#continuous = on ? rect : undefined;
    if (!on) this.#write(Buffer.from([rfb.END_OF_CONTINUOUS_UPDATES]));
    this.#sendSoon();
  }

  async #fence(): Promise<void> {
    const header = await this.#reader.read(8);
    const flags = header.readUInt32BE(3);
    const length = header[7] as number;
    if (length > rfb.MAX_FENCE_BYTES) throw new Refusal('the viewer sent a fence that is too long');
    const payload = await this.#reader.read(length);
    if (flags & rfb.FENCE_REQUEST) {
      // Messages are done one after the other, so that there is nothing to wait for.
      this.#writeFence(flags & (rfb.FENCE_BLOCK_BEFORE | rfb.FENCE_BLOCK_AFTER), payload);
    } else if (length > 0) {
      this.#unconfirmed = Math.max(0, this.#unconfirmed - 1);
      this.#sendSoon();
    }
  }

  async #setDesktopSize(): Promise<void> {
    const body = await this.#reader.read(7);
    const width = body.readUInt16BE(1);
    const height = body.readUInt16BE(3);
    const screens = body[5] as number;
    await this.#reader.read(screens * 16);
    const status = this.#options.viewOnly
      ? rfb.DESKTOP_SIZE_PROHIBITED
      : screens === 1 && isMode(width, height)
        ? rfb.DESKTOP_SIZE_FORWARDED
        : rfb.DESKTOP_SIZE_INVALID_LAYOUT;
    if (status === rfb.DESKTOP_SIZE_FORWARDED) this.#resizeSoon(width, height);
    this.#sizeReply = { reason: rfb.DESKTOP_SIZE_BY_THIS_CLIENT, status };
    this.#sendSoon();
  }

  async #qemuMessage(): Promise<void> {
    const subtype = await this.#reader.u8();
    switch (subtype) {
      case rfb.QEMU_EXTENDED_KEY_EVENT: {
        const body = await this.#reader.read(10);
        return await this.#key(body.readUInt16BE(0) !== 0, body.readUInt32BE(2), body.readUInt32BE(6));
      }
      case rfb.QEMU_AUDIO: {
        // There is no sound; what is said of it is of a known length.
        const operation = (await this.#reader.read(2)).readUInt16BE();
        return await this.#reader.skip(operation === rfb.QEMU_AUDIO_SET_FORMAT ? 6 : 0);
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
    const body = await this.#reader.read(5);
    let mask = body[0] as number;
    if (mask & 0x80 && this.#has(rfb.ENCODING_EXTENDED_MOUSE_BUTTONS)) {
      mask = (mask & 0x7f) | ((await this.#reader.u8()) << 7);
    } else mask &= 0x7f;
    const { display } = this.#options;
    const { width, height } = this.#canvas as Canvas;
    const x = Math.min(body.readUInt16BE(1), width - 1);
    const y = Math.min(body.readUInt16BE(3), height - 1);
    // Bits of RFB: left, middle, right, wheel up, down, left, right, back, forward.
    const pressed = mask & ~this.#buttonMask;
    this.#buttonMask = mask;
    const notch = (up: number, down: number) => 120 * (((pressed >> up) & 1) - ((pressed >> down) & 1));
    const buttons = (mask & 7) | ((mask >> 4) & 0x18);
    await this.#send({
      type: 'pointer',
      display,
      x,
      y,
      buttons,
      wheelX: notch(6, 5),
      wheelY: notch(3, 4),
    });
  }

  async #send(event: Parameters<InputClient['send']>[0]): Promise<void> {
    if (!this.#input || this.#input.send(event)) return;
    await new Promise<void>((resolve) => {
      this.#room = resolve;
    });
    this.#room = undefined;
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

  // ---- sending ----

  #has(encoding: number): boolean {
    return this.#encodings.has(encoding);
  }

  /** Whether this is asked for the first time. */
  #first(encoding: number): boolean {
    const isFirst = !this.#acknowledged.has(encoding);
    this.#acknowledged.add(encoding);
    return isFirst;
  }

  /** Whether the viewer draws the cursor itself. */
  get #drawsCursor(): boolean {
    return this.#has(rfb.ENCODING_CURSOR) || this.#has(rfb.ENCODING_CURSOR_WITH_ALPHA);
  }

  #write(bytes: Uint8Array): void {
    if (this.#hasEnded) return;
    this.#stage.counters[this.#options.kind].sentBytes += bytes.length;
    if (!this.#stream.write(bytes)) this.#isBlocked = true;
  }

  readonly #onDrain = () => {
    this.#isBlocked = false;
    this.#sendSoon();
  };

  #writeFence(flags: number, payload: Uint8Array | readonly number[]): void {
    const header = Buffer.alloc(9);
    header[0] = rfb.SERVER_FENCE;
    header.writeUInt32BE(flags >>> 0, 4);
    header[8] = payload.length;
    this.#write(Buffer.concat([header, Uint8Array.from(payload)]));
  }

  #inputNews(): void {
    this.#isLedNews = this.#has(rfb.ENCODING_QEMU_LED_STATE);
    this.#sendSoon();
  }

  /** Something may have become worth an update, or possible. */
  #sendSoon(): void {
    this.#isNews = true;
    if (this.isWaiting) void this.#sendUpdates();
  }

  async #sendUpdates(): Promise<void> {
    try {
      while (this.#isNews && this.isWaiting) {
        this.#isSending = true;
        this.#isNews = false;
        // What has been flushed meanwhile comes along: followers are told of it, and this is one.
        this.#canvas?.absorb();
        const parts = await this.#makeUpdate();
        if (this.#hasEnded) return;
        if (parts) {
          this.#stream.cork();
          for (const part of parts) this.#write(part);
          this.#stream.uncork();
          this.#stage.counters[this.#options.kind].updates++;
          this.#isNews = true;
        }
        this.#isSending = false;
      }
    } catch (error) {
      if (this.#hasEnded) return;
      this.#stage.log.error({ err: (error as Error).stack }, 'a viewer failed: internal error');
      this.close('an update could not be made');
    }
  }

  /** What there is to tell, as the bytes of a FramebufferUpdate; undefined when there is nothing. */
  async #makeUpdate(): Promise<Uint8Array[] | undefined> {
    const size = this.#sizeRect();
    // After a change of the size the rest comes with the next update, whose request is for the new size.
    const rects = size ? [size] : [...this.#pseudoRects(), ...this.#copyRect()];
    const encoded = size ? undefined : await this.#encodeDirty();
    const count = rects.length + (encoded?.count ?? 0);
    if (count === 0) return undefined;
    const header = Buffer.alloc(4);
    header[0] = rfb.FRAMEBUFFER_UPDATE;
    header.writeUInt16BE(count, 2);
    const parts = [header, ...rects, ...(encoded?.parts ?? [])];
    // Who asked for pixels is not answered with a size alone.
    if (!size) this.#requested = undefined;
    if (!this.#continuous || !this.#has(rfb.ENCODING_FENCE)) return parts;
    this.#unconfirmed++;
    return [...parts, confirmMe()];
  }

  /** The present size, if the viewer has to hear of it and understands. */
  #sizeRect(): Buffer | undefined {
    const { width, height } = this.#canvas as Canvas;
    const extended = this.#has(rfb.ENCODING_EXTENDED_DESKTOP_SIZE);
    if (extended && (this.#isSizeNews || this.#sizeReply)) {
      const { reason, status } = this.#sizeReply ?? { reason: rfb.DESKTOP_SIZE_BY_SERVER, status: 0 };
      // An answer to a viewer that asked says the size that there is; the other follows when the guest has changed.
      if (this.#sizeReply) this.#sizeReply = undefined;
      else this.#isSizeNews = false;
      this.#width = width;
      this.#height = height;
      const screen = Buffer.alloc(20);
      screen[0] = 1;
      screen.writeUInt16BE(width, 12);
      screen.writeUInt16BE(height, 14);
      const at = { x: reason, y: status, width, height };
      return Buffer.concat([rectHeader(at, rfb.ENCODING_EXTENDED_DESKTOP_SIZE), screen]);
    }
    this.#sizeReply = undefined;
    this.#isSizeNews = false;
    if ((width === this.#width && height === this.#height) || !this.#has(rfb.ENCODING_DESKTOP_SIZE))
      return undefined;
    this.#width = width;
    this.#height = height;
    return rectHeader({ x: 0, y: 0, width, height }, rfb.ENCODING_DESKTOP_SIZE);
  }

  #pseudoRects(): Uint8Array[] {
    const { cursor, cursorImage } = this.#canvas as Canvas;
    const rects: Uint8Array[] = [];
    for (const encoding of this.#toAcknowledge.splice(0)) rects.push(this.#acknowledgement(encoding));
    if (this.#isLedNews) {
      this.#isLedNews = false;
      const leds = this.#stage.input.leds;
      if (leds) {
        const header = rectHeader({ x: 0, y: 0, width: 0, height: 0 }, rfb.ENCODING_QEMU_LED_STATE);
        rects.push(Buffer.concat([header, Buffer.from([ledBits(leds)])]));
      }
    }
    if (this.#isCursorNews) {
      this.#isCursorNews = false;
      // Until the guest has one, viewers keep theirs.
      if (cursor.visible || this.#hadCursor) {
        const shown = cursor.visible ? cursor : { ...cursor, width: 0, height: 0, hotX: 0, hotY: 0 };
        const { width, height, hotX, hotY } = shown;
        const image = { width, height, hotX, hotY, rgba: cursorImage };
        this.#hadCursor = cursor.visible;
        const encoded = this.#has(rfb.ENCODING_CURSOR_WITH_ALPHA)
          ? encodeAlphaCursor(image)
          : encodeCursor(image, this.#format);
        rects.push(Buffer.concat(encoded.parts));
      }
    }
    return rects;
  }

  #acknowledgement(encoding: number): Uint8Array {
    const nothing = { x: 0, y: 0, width: 0, height: 0 };
    // Pointers are absolute here.
    if (encoding === rfb.ENCODING_QEMU_POINTER_MOTION_CHANGE)
      return rectHeader({ ...nothing, x: 1 }, encoding);
    if (encoding !== rfb.ENCODING_DESKTOP_NAME) return rectHeader(nothing, encoding);
    const name = Buffer.from(`vfio-user-gpu display ${this.#options.display}`);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(name.length);
    return Buffer.concat([rectHeader(nothing, encoding), length, name]);
  }

  /** What the viewer has already, elsewhere. */
  #copyRect(): Uint8Array[] {
    const move = this.#move;
    if (!move) return [];
    const asked = this.#requested ?? this.#continuous;
    const isAsked = asked && contains(asked, move.to);
    if (!isAsked || !this.usesMoves) {
      this.#forgetMove();
      return [];
    }
    this.#move = undefined;
    const from = Buffer.alloc(4);
    from.writeUInt16BE(move.to.x, 0);
    from.writeUInt16BE(move.to.y - move.down, 2);
    return [Buffer.concat([rectHeader(move.to, rfb.ENCODING_COPY_RECT), from])];
  }

  async #encodeDirty(): Promise<EncodedRects | undefined> {
    const wanted = this.#takeDirty();
    if (wanted.length === 0) return undefined;
    if (this.#isEncoderOld || !this.#encoder) this.#encoder = this.#chooseEncoder();
    return await this.#encoder.encode(this.#image(wanted), wanted);
  }

  /** The first of the viewer's encodings that is one of ours; everybody has Raw. */
  #chooseEncoder(): Encoder {
    const kinds = new Map<number, EncoderKind>([
      [rfb.ENCODING_TIGHT, 'tight'],
      [rfb.ENCODING_ZRLE, 'zrle'],
      [rfb.ENCODING_RAW, 'raw'],
    ]);
    const kind = [...this.#encodings].map((encoding) => kinds.get(encoding)).find((one) => one) ?? 'raw';
    const options = {
      compressLevel: this.#level(rfb.ENCODING_COMPRESS_LEVEL_0, rfb.ENCODING_COMPRESS_LEVEL_9),
      jpegQuality: this.#level(rfb.ENCODING_JPEG_QUALITY_0, rfb.ENCODING_JPEG_QUALITY_9),
    };
    this.#isEncoderOld = false;
    // Viewers keep the other end of its compression for as long as they are connected.
    const kept = this.#encoders.get(kind);
    kept?.configure(this.#format, options);
    const encoder = kept ?? makeEncoder(kind, this.#format, options);
    this.#encoders.set(kind, encoder);
    return encoder;
  }

  /** A level from 0 to 9 that the viewer named as an encoding. */
  #level(first: number, last: number): number | undefined {
    const named = [...this.#encodings].find((encoding) => encoding >= first && encoding <= last);
    return named === undefined ? undefined : named - first;
  }

  /** What is to be sent now, as much as fits into one update. Tiles are sent whole, so that none is never done. */
  #takeDirty(): Rect[] {
    const limit = { x: 0, y: 0, width: this.#width, height: this.#height };
    const asked = this.#requested ?? this.#continuous;
    const seen = asked && intersection(asked, limit);
    if (!seen || this.#dirty.isEmpty) return [];
    const region = wholeTiles(seen);
    const taken: Rect[] = [];
    let pixels = 0;
    for (const dirty of this.#dirty.rects()) {
      const rect = intersection(dirty, region);
      if (!rect) continue;
      for (const part of this.#cut(rect)) {
        if (pixels > 0 && pixels + part.width * part.height > MAX_UPDATE_PIXELS) return taken;
        pixels += part.width * part.height;
        this.#dirty.remove(part);
        const visible = intersection(part, limit);
        if (visible) taken.push(visible);
      }
    }
    return taken;
  }

  /** Pieces that each fit into an update, cut where tiles end. */
  *#cut(rect: Rect): Generator<Rect> {
    const rows = Math.max(16, Math.floor(MAX_UPDATE_PIXELS / rect.width / 16) * 16);
    for (let y = 0; y < rect.height; y += rows) {
      yield { ...rect, y: rect.y + y, height: Math.min(rows, rect.height - y) };
    }
  }

  /** The pixels, with the cursor in them for viewers that do not draw it. */
  #image(rects: readonly Rect[]): Image {
    const canvas = this.#canvas as Canvas;
    const { bytes, strideBytes, order } = canvas;
    const { cursor } = canvas;
    const isSeen = !this.#drawsCursor && cursor.visible && rects.some((rect) => intersection(rect, cursor));
    return { bytes: isSeen ? canvas.copy(canvas.whole, { cursor: true }) : bytes, strideBytes, order };
  }
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

function readRequest(body: Buffer): { incremental: boolean; rect: Rect } {
  return {
    incremental: body[0] !== 0,
    rect: {
      x: body.readUInt16BE(1),
      y: body.readUInt16BE(3),
      width: body.readUInt16BE(5),
      height: body.readUInt16BE(7),
    },
  };
}

function rectHeader({ x, y, width, height }: Rect, encoding: number): Buffer {
  const header = Buffer.alloc(12);
  [x, y, width, height].forEach((value, i) => {
    header.writeUInt16BE(value, 2 * i);
  });
  header.writeInt32BE(encoding, 8);
  return header;
}

/** A fence that comes back when the viewer has done everything before it. */
function confirmMe(): Buffer {
  const fence = Buffer.alloc(10);
  fence[0] = rfb.SERVER_FENCE;
  fence.writeUInt32BE((rfb.FENCE_REQUEST | rfb.FENCE_BLOCK_BEFORE) >>> 0, 4);
  fence[8] = 1;
  return fence;
}

const ledBits = ({ scrollLock, numLock, capsLock }: KeyboardLeds) =>
  (scrollLock ? rfb.LED_SCROLL_LOCK : 0) |
  (numLock ? rfb.LED_NUM_LOCK : 0) |
  (capsLock ? rfb.LED_CAPS_LOCK : 0);

function intersection(a: Rect, b: Rect): Rect | undefined {
  const x = Math.max(a.x, b.x);
  const y = Math.max(a.y, b.y);
  const width = Math.min(a.x + a.width, b.x + b.width) - x;
  const height = Math.min(a.y + a.height, b.y + b.height) - y;
  return width > 0 && height > 0 ? { x, y, width, height } : undefined;
}

const contains = (outer: Rect, inner: Rect) =>
  inner.x >= outer.x &&
  inner.y >= outer.y &&
  inner.x + inner.width <= outer.x + outer.width &&
  inner.y + inner.height <= outer.y + outer.height;

function wholeTiles({ x, y, width, height }: Rect): Rect {
  const [left, top] = [Math.floor(x / TILE) * TILE, Math.floor(y / TILE) * TILE];
  const [right, bottom] = [Math.ceil((x + width) / TILE) * TILE, Math.ceil((y + height) / TILE) * TILE];
  return { x: left, y: top, width: right - left, height: bottom - top };
}

function union(a: Rect, b: Rect): Rect {
  const x = Math.min(a.x, b.x);
  const y = Math.min(a.y, b.y);
  return {
    x,
    y,
    width: Math.max(a.x + a.width, b.x + b.width) - x,
    height: Math.max(a.y + a.height, b.y + b.height) - y,
  };
}
