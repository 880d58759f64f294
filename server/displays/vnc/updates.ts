/**
 * What a viewer is sent. An update is made when the viewer has asked for one, or wants them all; when what was sent
 * before has left this process; and when there is something to tell. A viewer that is slow therefore skips frames, and
 * one that never reads costs the memory of one update.
 */
import type { Rect } from '../display.ts';
import { contains, intersection, union } from '../rects.ts';
import type { Canvas } from '../viewing/canvas.ts';
import type { Follower, Moved } from '../viewing/follower.ts';
import type { KeyboardLeds } from '../viewing/messages.ts';
import { TILE, TileSet } from '../viewing/tiles.ts';
import { rectHeader } from './encodings/encoder.ts';
import {
  type EncodedRects,
  type Encoder,
  type EncoderKind,
  encodeAlphaCursor,
  encodeCursor,
  type Image,
  makeEncoder,
} from './encodings/index.ts';
import { type PixelFormat, SERVER_PIXEL_FORMAT } from './pixel-format.ts';
import * as rfb from './protocol.ts';
import type { ViewerStream } from './viewer-stream.ts';

/** A larger picture comes in several updates: this is what the memory of a viewer is bounded by. */
const MAX_UPDATE_PIXELS = 2 ** 21;
/** The first piece of an update that is sent in pieces; each is twice as large as the one before. */
const FIRST_PIECE_PIXELS = 2 ** 15;
/** Updates that a viewer who wants them all has not confirmed. */
const MAX_UNCONFIRMED_UPDATES = 4;
const NOWHERE: Rect = { x: 0, y: 0, width: 0, height: 0 };
const ENCODERS: ReadonlyMap<number, EncoderKind> = new Map([
  [rfb.ENCODING_TIGHT, 'tight'],
  [rfb.ENCODING_ZRLE, 'zrle'],
  [rfb.ENCODING_RAW, 'raw'],
]);

export interface UpdatesOptions {
  readonly canvas: Canvas;
  readonly stream: ViewerStream;
  /** Of the desktop. */
  readonly name: string;
  leds(): KeyboardLeds | undefined;
  onUpdate(): void;
  onFailure(error: unknown): void;
}

export class Updates implements Follower {
  readonly #options: UpdatesOptions;
  readonly #canvas: Canvas;
  /** Viewers keep the other end of their compression for as long as they are connected. */
  readonly #encoders = new Map<EncoderKind, Encoder>();
  readonly #stopFollowing: () => void;
  #hasEnded = false;
  /** What the viewer has told us it can do. */
  #encodings: ReadonlySet<number> = new Set();
  #format: PixelFormat = SERVER_PIXEL_FORMAT;
  /** For those two; undefined when one of them has changed. */
  #encoder: Encoder | undefined;
  /** The size that the viewer believes in. */
  #width: number;
  #height: number;
  #dirty: TileSet;
  /** Comes before what is dirty. */
  #move: Moved | undefined;
  /** The part that the viewer asked for, and the part it wants whenever it changes. */
  #requested: Rect | undefined;
  #continuous: Rect | undefined;
  /** Of these, what the update that is made now is for. */
  #asked: Rect | undefined;
  /** Since the last update was begun, something has changed. */
  #isNews = false;
  #isSending = false;
  /** Somebody else writes to the stream next. */
  #isPaused = false;
  #onIdle: () => void = () => {};
  #unconfirmed = 0;
  /** What is to be told with the next update, besides pixels. */
  #isSizeNews = false;
  #sizeReply: { reason: number; status: number } | undefined;
  #isCursorNews = false;
  #hadCursor = false;
  #isLedNews = false;
  /** Pseudo-encodings that the viewer is to be told are understood here. */
  #toAcknowledge: number[] = [];
  /** Where the cursor was drawn into the picture of a viewer that cannot draw it itself. */
  #drawnCursor: Rect | undefined;

  constructor(options: UpdatesOptions) {
    const { canvas, stream } = options;
    this.#options = options;
    this.#canvas = canvas;
    this.#width = canvas.width;
    this.#height = canvas.height;
    this.#dirty = new TileSet(canvas.width, canvas.height);
    this.#dirty.addAll();
    this.#stopFollowing = canvas.follow(this);
    stream.onDrain = () => this.#sendSoon();
  }

  close(): void {
    this.#hasEnded = true;
    this.#stopFollowing();
    this.#onIdle();
    for (const encoder of this.#encoders.values()) encoder.close();
  }

  /** Does something between two updates; updates are messages that nothing else may be written into. */
  async between(step: () => void): Promise<void> {
    this.#isPaused = true;
    if (this.#isSending && !this.#hasEnded) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
    try {
      step();
    } finally {
      this.#isPaused = false;
    }
    this.#sendSoon();
  }

  // ---- what the viewer says ----

  /** The viewer understands these, the ones it likes best first; `news` it has not named before. */
  setEncodings(encodings: ReadonlySet<number>, news: ReadonlySet<number>): void {
    this.#encodings = encodings;
    this.#encoder = undefined;
    this.#toAcknowledge.push(...rfb.ACKNOWLEDGED_ENCODINGS.filter((encoding) => news.has(encoding)));
    this.#isSizeNews ||= news.has(rfb.ENCODING_EXTENDED_DESKTOP_SIZE);
    this.#isCursorNews = this.#drawsCursor;
    this.#followCursor();
    this.ledsChanged();
  }

  setFormat(format: PixelFormat): void {
    this.#format = format;
    this.#encoder = undefined;
    this.#isCursorNews = this.#drawsCursor;
  }

  /** The viewer asks for what is new in a part, or for all of it. */
  request(rect: Rect, incremental: boolean): void {
    if (!incremental) {
      this.#dirty.add(rect);
      this.#isSizeNews ||= this.#has(rfb.ENCODING_EXTENDED_DESKTOP_SIZE);
    }
    this.#requested = this.#requested ? union(this.#requested, rect) : rect;
    this.#sendSoon();
  }

  /** The viewer wants this part whenever it changes; undefined: only when it asks. */
  setContinuous(rect: Rect | undefined): void {
    this.#continuous = rect;
    this.#sendSoon();
  }

  /** The viewer has done everything up to an update. */
  confirm(): void {
    this.#unconfirmed = Math.max(0, this.#unconfirmed - 1);
    this.#sendSoon();
  }

  /** The viewer asked for another size; it is told what becomes of that. */
  replyToResize(status: number): void {
    this.#sizeReply = { reason: rfb.DESKTOP_SIZE_BY_THIS_CLIENT, status };
    this.#sendSoon();
  }

  ledsChanged(): void {
    this.#isLedNews = this.#has(rfb.ENCODING_QEMU_LED_STATE);
    this.#sendSoon();
  }

  // ---- what happens on the canvas ----

  get isWaiting(): boolean {
    const isAsked = this.#requested !== undefined || this.#continuous !== undefined;
    const isFree =
      !this.#isSending && !this.#options.stream.isBlocked && this.#unconfirmed < MAX_UNCONFIRMED_UPDATES;
    return isAsked && isFree && !this.#isPaused && !this.#hasEnded;
  }

  /** Copies are for viewers that have no cursor in the picture, which would be copied along. */
  get usesMoves(): boolean {
    return this.#has(rfb.ENCODING_COPY_RECT) && this.#drawsCursor;
  }

  changed(tiles: TileSet, moved?: Moved): void {
    if (moved) this.#forgetMove();
    // What the viewer is to copy it must have: as it was before, all of it.
    const from = moved && { ...moved.to, y: moved.to.y - moved.down };
    const screen = { ...NOWHERE, width: this.#width, height: this.#height };
    const canCopy =
      from &&
      this.usesMoves &&
      contains(screen, from) &&
      contains(screen, moved.to) &&
      !this.#dirty.touches(from);
    this.#dirty.addSet(tiles);
    if (canCopy) {
      this.#move = moved;
      this.#dirty.remove(moved.to);
    }
    this.#sendSoon();
  }

  resized(): void {
    const { width, height } = this.#canvas;
    this.#dirty = new TileSet(width, height);
    this.#dirty.addAll();
    this.#move = undefined;
    this.#isSizeNews = true;
    this.#sendSoon();
  }

  cursorChanged(image: boolean): void {
    const { cursor } = this.#canvas;
    if (image || cursor.visible !== this.#hadCursor) this.#isCursorNews = this.#drawsCursor;
    this.#followCursor();
    this.#sendSoon();
  }

  /** The viewer gets the pixels instead. */
  #forgetMove(): void {
    if (this.#move) this.#dirty.add(this.#move.to);
    this.#move = undefined;
  }

  /** Where the cursor was and where it is, the picture of a viewer that cannot draw it is another one. */
  #followCursor(): void {
    const { cursor } = this.#canvas;
    if (this.#drawnCursor) this.#dirty.add(this.#drawnCursor);
    this.#drawnCursor = !this.#drawsCursor && cursor.visible ? cursor : undefined;
    if (this.#drawnCursor) this.#dirty.add(this.#drawnCursor);
  }

  // ---- sending ----

  #has(encoding: number): boolean {
    return this.#encodings.has(encoding);
  }

  /** Whether the viewer draws the cursor itself. */
  get #drawsCursor(): boolean {
    return this.#has(rfb.ENCODING_CURSOR) || this.#has(rfb.ENCODING_CURSOR_WITH_ALPHA);
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
        this.#canvas.absorb();
        const isSent = await this.#sendUpdate();
        if (this.#hasEnded) return;
        if (isSent) {
          this.#options.onUpdate();
          this.#isNews = true;
        }
        this.#isSending = false;
        this.#onIdle();
      }
    } catch (error) {
      if (!this.#hasEnded) this.#options.onFailure(error);
    }
  }

  /** Sends what there is to tell as a FramebufferUpdate; false when there is nothing. */
  async #sendUpdate(): Promise<boolean> {
    const requested = this.#requested;
    // What is asked for from here on is for the next update: some viewers ask again while one comes.
    this.#requested = undefined;
    this.#asked = requested ?? this.#continuous;
    const size = this.#sizeRect();
    const isAnswer = await this.#sendRects(size);
    // Who asked for pixels is not answered with nothing, or with a size alone.
    if (requested && (!isAnswer || size))
      this.#requested = this.#requested ? union(requested, this.#requested) : requested;
    return isAnswer;
  }

  async #sendRects(size: Buffer | undefined): Promise<boolean> {
    // After a change of the size the rest comes with the next update.
    const rects = size ? [size] : [...this.#pseudoRects(), ...this.#copyRect()];
    const inPieces = !size && this.#has(rfb.ENCODING_LAST_RECT);
    let pixels = inPieces ? FIRST_PIECE_PIXELS : MAX_UPDATE_PIXELS;
    let encoded = size ? undefined : await this.#encodeDirty(pixels);
    if (this.#hasEnded || (rects.length === 0 && !encoded)) return false;
    const { stream } = this.#options;
    const count = inPieces && encoded ? rfb.UNTIL_LAST_RECT : rects.length + (encoded?.count ?? 0);
    stream.write(updateHeader(count), ...rects, ...(encoded?.parts ?? []));
    if (count === rfb.UNTIL_LAST_RECT) {
      // While the viewer draws one piece, the next is made. What has moved comes before pixels, and so in another update.
      // So does a size that the viewer has not heard of.
      const isWhole = () => this.#move !== undefined || this.#isSizeNews;
      for (let sent = pixels; encoded && sent < MAX_UPDATE_PIXELS && !isWhole(); sent += pixels) {
        pixels = Math.min(2 * pixels, MAX_UPDATE_PIXELS - sent);
        encoded = await this.#encodeDirty(pixels);
        if (this.#hasEnded) return false;
        if (encoded) stream.write(...encoded.parts);
      }
      stream.write(LAST_RECT);
    }
    if (this.#continuous && this.#has(rfb.ENCODING_FENCE)) {
      this.#unconfirmed++;
      stream.write(CONFIRM_ME);
    }
    return true;
  }

  /** The present size, if the viewer has to hear of it and understands. */
  #sizeRect(): Buffer | undefined {
    const { width, height } = this.#canvas;
    if (this.#has(rfb.ENCODING_EXTENDED_DESKTOP_SIZE)) {
      if (!this.#isSizeNews && !this.#sizeReply) return undefined;
      const { reason, status } = this.#sizeReply ?? { reason: rfb.DESKTOP_SIZE_BY_SERVER, status: 0 };
      // Who asked for a size is told of the one that there is; the other follows when the guest has changed.
      if (this.#sizeReply) this.#sizeReply = undefined;
      else this.#isSizeNews = false;
      this.#width = width;
      this.#height = height;
      const rect = rectHeader(
        { x: reason, y: status, width, height },
        rfb.ENCODING_EXTENDED_DESKTOP_SIZE,
        rfb.ONE_SCREEN_BYTES,
      );
      const screen = rect.subarray(-rfb.ONE_SCREEN_BYTES).fill(0);
      screen[0] = 1;
      screen.writeUInt16BE(width, 12);
      screen.writeUInt16BE(height, 14);
      return rect;
    }
    this.#sizeReply = undefined;
    this.#isSizeNews = false;
    const isKnown = width === this.#width && height === this.#height;
    if (isKnown || !this.#has(rfb.ENCODING_DESKTOP_SIZE)) return undefined;
    this.#width = width;
    this.#height = height;
    return rectHeader({ ...NOWHERE, width, height }, rfb.ENCODING_DESKTOP_SIZE);
  }

  #pseudoRects(): Uint8Array[] {
    const rects: Uint8Array[] = this.#toAcknowledge
      .splice(0)
      .map((encoding) => this.#acknowledgement(encoding));
    const leds = this.#options.leds();
    if (this.#isLedNews && leds) {
      const rect = rectHeader(NOWHERE, rfb.ENCODING_QEMU_LED_STATE, 1);
      rect[rect.length - 1] = ledBits(leds);
      rects.push(rect);
    }
    this.#isLedNews = false;
    const cursor = this.#isCursorNews ? this.#cursorRect() : undefined;
    this.#isCursorNews = false;
    return cursor ? [...rects, cursor] : rects;
  }

  /** Until the guest has a cursor, viewers keep theirs; a hidden one is an empty one. */
  #cursorRect(): Uint8Array | undefined {
    const { cursor, cursorImage } = this.#canvas;
    if (!cursor.visible && !this.#hadCursor) return undefined;
    this.#hadCursor = cursor.visible;
    const { width, height, hotX, hotY } = cursor.visible ? cursor : { ...NOWHERE, hotX: 0, hotY: 0 };
    const image = { width, height, hotX, hotY, rgba: cursorImage };
    const { parts } = this.#has(rfb.ENCODING_CURSOR_WITH_ALPHA)
      ? encodeAlphaCursor(image)
      : encodeCursor(image, this.#format);
    return Buffer.concat(parts);
  }

  #acknowledgement(encoding: number): Uint8Array {
    // Pointers are absolute here.
    if (encoding === rfb.ENCODING_QEMU_POINTER_MOTION_CHANGE)
      return rectHeader({ ...NOWHERE, x: 1 }, encoding);
    if (encoding !== rfb.ENCODING_DESKTOP_NAME) return rectHeader(NOWHERE, encoding);
    const name = Buffer.from(this.#options.name);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(name.length);
    return Buffer.concat([rectHeader(NOWHERE, encoding), length, name]);
  }

  /** What the viewer has already, elsewhere. */
  #copyRect(): Uint8Array[] {
    const move = this.#move;
    if (!move) return [];
    if (!this.#asked || !contains(this.#asked, move.to) || !this.usesMoves) {
      this.#forgetMove();
      return [];
    }
    this.#move = undefined;
    const rect = rectHeader(move.to, rfb.ENCODING_COPY_RECT, 4);
    rect.writeUInt16BE(move.to.x, rect.length - 4);
    rect.writeUInt16BE(move.to.y - move.down, rect.length - 2);
    return [rect];
  }

  async #encodeDirty(maxPixels: number): Promise<EncodedRects | undefined> {
    const wanted = this.#takeDirty(maxPixels);
    if (wanted.length === 0) return undefined;
    this.#encoder ??= this.#chooseEncoder();
    return await this.#encoder.encode(this.#image(wanted), wanted);
  }

  /** The first of the viewer's encodings that is one of ours; everybody has Raw. */
  #chooseEncoder(): Encoder {
    const kind = [...this.#encodings].map((encoding) => ENCODERS.get(encoding)).find((one) => one) ?? 'raw';
    const options = {
      compressLevel: this.#level(rfb.ENCODING_COMPRESS_LEVEL_0, rfb.ENCODING_COMPRESS_LEVEL_9),
      jpegQuality: this.#level(rfb.ENCODING_JPEG_QUALITY_0, rfb.ENCODING_JPEG_QUALITY_9),
    };
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

  /** What is to be sent now, at most so many pixels, or a row of tiles. Tiles are sent whole, so that none is never done. */
  #takeDirty(maxPixels: number): Rect[] {
    const limit = { ...NOWHERE, width: this.#width, height: this.#height };
    const seen = this.#asked && intersection(this.#asked, limit);
    if (!seen || this.#dirty.isEmpty) return [];
    const region = wholeTiles(seen);
    const taken: Rect[] = [];
    let pixels = 0;
    for (const dirty of this.#dirty.rects()) {
      const rect = intersection(dirty, region);
      if (!rect) continue;
      for (const part of cut(rect, maxPixels)) {
        if (pixels > 0 && pixels + part.width * part.height > maxPixels) return taken;
        pixels += part.width * part.height;
        this.#dirty.remove(part);
        const visible = intersection(part, limit);
        if (visible) taken.push(visible);
      }
    }
    return taken;
  }

  /** The pixels, with the cursor in them for viewers that do not draw it. */
  #image(rects: readonly Rect[]): Image {
    const { bytes, strideBytes, order, cursor, width } = this.#canvas;
    const isDrawn = !this.#drawsCursor && cursor.visible && rects.some((rect) => intersection(rect, cursor));
    if (!isDrawn) return { bytes, strideBytes, order };
    const { y, height } = rects.reduce(union);
    return {
      bytes: this.#canvas.copy({ x: 0, y, width, height }, { cursor: true }),
      strideBytes,
      order,
      top: y,
    };
  }
}

/** Pieces of at most so many pixels, or a row of tiles, cut where tiles end. */
function* cut(rect: Rect, maxPixels: number): Generator<Rect> {
  const rows = Math.max(1, Math.floor(maxPixels / rect.width / TILE)) * TILE;
  for (let y = 0; y < rect.height; y += rows) {
    yield { ...rect, y: rect.y + y, height: Math.min(rows, rect.height - y) };
  }
}

function updateHeader(rects: number): Buffer {
  const header = Buffer.alloc(4);
  header[0] = rfb.FRAMEBUFFER_UPDATE;
  header.writeUInt16BE(rects, 2);
  return header;
}

const LAST_RECT = rectHeader(NOWHERE, rfb.ENCODING_LAST_RECT);

/** A fence that comes back when the viewer has done everything before it: one byte of payload says that it is ours. */
const CONFIRM_ME = Buffer.from([rfb.SERVER_FENCE, 0, 0, 0, 0x80, 0, 0, rfb.FENCE_BLOCK_BEFORE, 1, 0]);

const ledBits = ({ scrollLock, numLock, capsLock }: KeyboardLeds) =>
  (scrollLock ? rfb.LED_SCROLL_LOCK : 0) |
  (numLock ? rfb.LED_NUM_LOCK : 0) |
  (capsLock ? rfb.LED_CAPS_LOCK : 0);

/** The tiles that a rectangle touches. */
function wholeTiles({ x, y, width, height }: Rect): Rect {
  const [left, top] = [Math.floor(x / TILE) * TILE, Math.floor(y / TILE) * TILE];
  const [right, bottom] = [Math.ceil((x + width) / TILE) * TILE, Math.ceil((y + height) / TILE) * TILE];
  return { x: left, y: top, width: right - left, height: bottom - top };
}
