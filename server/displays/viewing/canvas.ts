/**
 * What a display shows, as the viewing thread knows it: a copy that only this thread changes, so that an encoder
 * reads the same pixels however often it looks. The device writes the frame whenever it wants to; `absorb` compares
 * it with the copy tile by tile and takes over what is different, because guests flush more than they change.
 */
import { closeSync } from 'node:fs';
import { diffTiles, findScroll, Mapping } from '../../../native/index.ts';
import { blendCursor, type CursorState } from '../cursor.ts';
import { BYTES_PER_PIXEL, type PixelOrder, type Rect } from '../display.ts';
import type { Mode } from '../mode.ts';
import type { Follower, Moved } from './follower.ts';
import { FrameLock } from './frame-lock.ts';
import type { DisplayNews, FrameInfo } from './messages.ts';
import { SharedDamage, TILE, TileSet } from './tiles.ts';

const TILE_BYTES = { widthBytes: TILE * BYTES_PER_PIXEL, rows: TILE };
const BLACK_ORDER: PixelOrder = { b: 0, g: 1, r: 2, a: -1 };

/** Less is not worth looking for where it came from, in pixels and in rows. */
const MIN_MOVED_PIXELS = 64 * 64;
const MIN_MOVED_ROWS = 16;

export class Canvas {
  readonly index: number;
  mode: Mode;
  /** While the guest shows nothing: black, as large as the mode. */
  width: number;
  height: number;
  order: PixelOrder = BLACK_ORDER;
  /** Rows without padding. */
  bytes: Uint8Array<ArrayBuffer>;
  isShowing = false;
  cursor: CursorState = { visible: false, x: 0, y: 0, width: 0, height: 0, hotX: 0, hotY: 0 };
  /** RGBA, premultiplied. */
  cursorImage: Uint8Array = new Uint8Array();
  /** Grows with every change of the pixels or the cursor. */
  version = 0;
  readonly #followers = new Set<Follower>();
  #mapping: Mapping | undefined;
  #isTelling = false;
  #damage: SharedDamage | undefined;
  #lock: FrameLock | undefined;
  readonly #onLooked: () => void;
  /** For `#copyForMoves`: new memory costs more than the copy. */
  #before = new Uint8Array();

  /** `onLooked` is called when the device has something to copy that it could not copy while this looked at the frame. */
  constructor(index: number, mode: Mode, onLooked: () => void) {
    this.#onLooked = onLooked;
    this.index = index;
    this.mode = mode;
    this.width = mode.width;
    this.height = mode.height;
    this.bytes = blackPixels(mode.width, mode.height);
  }

  get strideBytes(): number {
    return this.width * BYTES_PER_PIXEL;
  }

  get whole(): Rect {
    return { x: 0, y: 0, width: this.width, height: this.height };
  }

  get followers(): number {
    return this.#followers.size;
  }

  /** Tells `follower` of every change until the function returned is called. */
  follow(follower: Follower): () => void {
    this.#followers.add(follower);
    return () => this.#followers.delete(follower);
  }

  /** Takes over what the device has to say. */
  update({ mode, frame, cursor, cursorImage }: DisplayNews): void {
    this.mode = mode;
    if (frame !== undefined) this.#replace(frame);
    else if (!this.isShowing && (mode.width !== this.width || mode.height !== this.height))
      this.#replace(null);
    const before = this.cursor;
    this.cursor = cursor;
    if (cursorImage) this.cursorImage = cursorImage;
    const moved = (Object.keys(cursor) as (keyof CursorState)[]).some((key) => cursor[key] !== before[key]);
    if (!cursorImage && !moved) return;
    this.version++;
    this.#tell((follower) => follower.cursorChanged(cursorImage !== undefined));
  }

  /** Something was flushed: looks at it if anybody could use it, so that slow viewers cost nothing. */
  noticeDamage(): void {
    for (const { isWaiting } of this.#followers) {
      if (!isWaiting) continue;
      this.absorb();
      return;
    }
  }

  /** Looks at what was flushed since the last time, and tells of what is different. */
  absorb(): void {
    // Followers hear of one change after the other: what comes while they are told of one has been noted anyway.
    if (!this.#damage?.isNoted || !this.#mapping || this.#isTelling) return;
    const flushed = new TileSet(this.width, this.height);
    const changed = new TileSet(this.width, this.height);
    let before: { rect: Rect; bytes: Uint8Array } | undefined;
    this.#look(() => {
      this.#damage?.take(flushed);
      const rects = flushed.rects();
      before = this.#copyForMoves(rects);
      for (const rect of rects) this.#compare(rect, changed);
    });
    if (changed.isEmpty) return;
    this.version++;
    const moved = before && this.#findMove(before, changed);
    this.#tell((follower) => follower.changed(changed, moved));
  }

  /** A copy of a part, with the cursor if asked for. Rows without padding. */
  copy({ x, y, width, height }: Rect, { cursor }: { cursor: boolean }): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(width * height * BYTES_PER_PIXEL);
    this.#copyTo(bytes, { x, y, width, height });
    if (cursor) {
      const part = { width, height, bytes, order: this.order };
      blendCursor(part, { ...this.cursor, x: this.cursor.x - x, y: this.cursor.y - y }, this.cursorImage);
    }
    return bytes;
  }

  close(): void {
    this.#mapping?.close();
    this.#mapping = undefined;
    this.#damage = undefined;
    this.#lock = undefined;
  }

  /** Between two copies of the device, so that nothing is half of one and half of another. */
  #look(look: () => void): void {
    if (this.#lock?.look(look)) this.#onLooked();
  }

  #tell(say: (follower: Follower) => void): void {
    this.#isTelling = true;
    try {
      for (const follower of this.#followers) say(follower);
    } finally {
      this.#isTelling = false;
    }
  }

  #replace(frame: FrameInfo | null): void {
    this.close();
    const { width, height } = frame ?? this.mode;
    const isResized = width !== this.width || height !== this.height;
    const isOtherOrder = frame !== null && !sameOrder(frame.order, this.order);
    const wasShowing = this.isShowing;
    this.isShowing = frame !== null;
    this.width = width;
    this.height = height;
    if (frame) {
      this.order = frame.order;
      this.#damage = new SharedDamage(width, height, frame.damage);
      this.#lock = new FrameLock(frame.lock);
      try {
        this.#mapping = Mapping.map(frame.fd, { lengthBytes: frame.strideBytes * height, whole: true });
      } finally {
        closeSync(frame.fd);
      }
    }
    if (isResized || isOtherOrder || (wasShowing && !frame)) this.bytes = blackPixels(width, height);
    if (isResized) {
      this.#look(() => this.#compare(this.whole, new TileSet(width, height)));
      this.version++;
      this.#tell((follower) => follower.resized());
      return;
    }
    const changed = new TileSet(width, height);
    this.#look(() => this.#compare(this.whole, changed));
    // What the copy held is not to be compared with: its channels were elsewhere, or it has been blackened.
    if (isOtherOrder || !frame) changed.addAll();
    if (changed.isEmpty) return;
    this.version++;
    this.#tell((follower) => follower.changed(changed));
  }

  #copyTo(bytes: Uint8Array, { x, y, width, height }: Rect): void {
    const rowBytes = width * BYTES_PER_PIXEL;
    for (let row = 0; row < height; row++) {
      const from = (y + row) * this.strideBytes + x * BYTES_PER_PIXEL;
      bytes.set(this.bytes.subarray(from, from + rowBytes), row * rowBytes);
    }
  }

  /** What is in the largest of the rectangles now, if anybody wants to know what will have moved there. */
  #copyForMoves(rects: readonly Rect[]): { rect: Rect; bytes: Uint8Array } | undefined {
    if (![...this.#followers].some(({ usesMoves }) => usesMoves)) return undefined;
    const area = ({ width, height }: Rect) => width * height;
    const [rect] = rects.toSorted((a, b) => area(b) - area(a));
    if (!rect || area(rect) < MIN_MOVED_PIXELS) return undefined;
    const lengthBytes = area(rect) * BYTES_PER_PIXEL;
    if (this.#before.length < lengthBytes) this.#before = new Uint8Array(lengthBytes);
    this.#copyTo(this.#before, rect);
    return { rect, bytes: this.#before };
  }

  /** Looks for rows of the picture before in what has changed. */
  #findMove({ rect, bytes }: { rect: Rect; bytes: Uint8Array }, changed: TileSet): Moved | undefined {
    const area = changed.bounds(rect);
    if (!area || area.width * area.height < MIN_MOVED_PIXELS) return undefined;
    const scroll = findScroll(
      this.bytes,
      { offset: area.y * this.strideBytes + area.x * BYTES_PER_PIXEL, strideBytes: this.strideBytes },
      bytes,
      {
        offset: ((area.y - rect.y) * rect.width + area.x - rect.x) * BYTES_PER_PIXEL,
        strideBytes: rect.width * BYTES_PER_PIXEL,
      },
      area.width * BYTES_PER_PIXEL,
      area.height,
    );
    if (!scroll || scroll.rows < MIN_MOVED_ROWS) return undefined;
    const { column, columns: width, row, rows: height, down } = scroll;
    return { to: { x: area.x + column, y: area.y + row, width, height }, down };
  }

  /** Takes over what differs in a rectangle that begins at a tile. */
  #compare({ x, y, width, height }: Rect, changed: TileSet): void {
    if (!this.#mapping) return;
    const columns = Math.ceil(width / TILE);
    const flags = new Uint8Array(columns * Math.ceil(height / TILE));
    const span = { offset: y * this.strideBytes + x * BYTES_PER_PIXEL, strideBytes: this.strideBytes };
    const frame = new Uint8Array(this.#mapping.chunk(0));
    const count = diffTiles(
      frame,
      span,
      this.bytes,
      span,
      width * BYTES_PER_PIXEL,
      height,
      TILE_BYTES,
      flags,
    );
    if (count === 0) return;
    flags.forEach((flag, i) => {
      if (flag) changed.addTile(x / TILE + (i % columns), y / TILE + Math.floor(i / columns));
    });
  }
}

/** Alpha does not matter: a screen is opaque. */
function blackPixels(width: number, height: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(width * height * BYTES_PER_PIXEL);
}

const sameOrder = (a: PixelOrder, b: PixelOrder) => a.r === b.r && a.g === b.g && a.b === b.b;
