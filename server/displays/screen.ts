/**
 * A display without a window: it knows what the guest shows and can take a picture of it. Viewers build on it: while
 * anybody watches, it keeps a copy of the picture that changes only when the guest says that a part is whole.
 */
import { convertPixels } from '../../native/index.ts';
import { blendCursor, type CursorState } from './cursor.ts';
import {
  BYTES_PER_PIXEL,
  type CursorImage,
  type Display,
  type Picture,
  type PixelOrder,
  type Rect,
} from './display.ts';
import { Frame } from './frame.ts';
import type { Mode } from './mode.ts';
import { PixelMemory } from './pixel-memory.ts';
import { contains, union } from './rects.ts';
import { assertMode } from './timing.ts';

const RGBA: PixelOrder = { r: 0, g: 1, b: 2, a: 3 };
/** More become one around them all. */
const MAX_LATE_RECTS = 16;
const MAX_CURSOR_BYTES = 256 * 256 * BYTES_PER_PIXEL;

/** A picture taken at one moment: RGBA, 8 bits a channel, rows without padding, alpha 255 everywhere. */
export interface Snapshot {
  readonly width: number;
  readonly height: number;
  readonly rgba: Uint8Array;
}

/** Somebody who looks at a screen. Everything is called in the middle of a guest's command: note it, and return. */
export interface Viewer {
  /** The frame is about to change, until `endChange`. False: not now; `Screen.catchUp` is called when it may. */
  beginChange(): boolean;
  endChange(): void;
  /** This part of the frame is new. */
  changed(rect: Rect): void;
  /** There is another frame, of another size or in another memory, or none any more. */
  replaced(): void;
  /** The cursor is elsewhere, or shown or hidden, or has another image. */
  cursorChanged(image: boolean): void;
  modeChanged(): void;
}

export class Screen implements Display {
  readonly index: number;
  /** Flushes that touched what is shown. */
  flushes = 0;
  readonly #onModeChange: () => void;
  #mode: Mode;
  #picture: Picture | undefined;
  /** A copy of the picture: while anybody watches, or what it shows has gone. */
  #frame: Frame | undefined;
  #isFrozen = false;
  /** Flushed, and not copied into the frame yet, because a viewer was looking at it. */
  #late: readonly Rect[] = [];
  readonly #viewers = new Set<Viewer>();
  #cursorMemory: PixelMemory | undefined;
  #cursor: CursorState = { visible: false, x: 0, y: 0, width: 0, height: 0, hotX: 0, hotY: 0 };

  /** `onModeChange` is called after the mode became another one. */
  constructor(index: number, mode: Mode, onModeChange: () => void) {
    assertMode(mode);
    this.index = index;
    this.#mode = mode;
    this.#onModeChange = onModeChange;
  }

  get mode(): Mode {
    return this.#mode;
  }

  /** Asks the guest for another mode. Throws RangeError for one that no EDID can describe. */
  setMode(mode: Mode): void {
    assertMode(mode);
    const { width, height, refreshHz } = this.#mode;
    if (mode.width === width && mode.height === height && mode.refreshHz === refreshHz) return;
    this.#mode = mode;
    this.#onModeChange();
    for (const viewer of this.#viewers) viewer.modeChanged();
  }

  /** What the guest shows; undefined while it shows nothing. */
  get picture(): Picture | undefined {
    return this.#picture;
  }

  get cursor(): CursorState {
    return this.#cursor;
  }

  /** A copy of the image of the cursor: RGBA, premultiplied with alpha, rows without padding. */
  cursorImage(): Uint8Array {
    const { width, height } = this.#cursor;
    return this.#cursorMemory?.bytes.slice(0, width * height * BYTES_PER_PIXEL) ?? new Uint8Array();
  }

  /** The copy that viewers look at: up to date with every flush. Undefined while there is nothing to see. */
  get frame(): Frame | undefined {
    return this.#frame;
  }

  /** Whether something was flushed that is not in the frame yet. */
  get isLate(): boolean {
    return this.#late.length > 0;
  }

  /** Tells `viewer` of everything new in `frame`, until the function returned is called. */
  watch(viewer: Viewer): () => void {
    this.#viewers.add(viewer);
    if (!this.#frame) this.#refill();
    return () => {
      this.#viewers.delete(viewer);
      if (this.#viewers.size === 0 && !this.#isFrozen) this.#dropFrame();
    };
  }

  show(picture: Picture | undefined): void {
    this.#picture = picture;
    this.#isFrozen = false;
    if (!picture || this.#viewers.size === 0) {
      const hadFrame = this.#frame !== undefined;
      this.#dropFrame();
      if (hadFrame) for (const viewer of this.#viewers) viewer.replaced();
      return;
    }
    // Its pixels need not be whole before they are flushed; what was seen until then stays.
    if (!this.#frame?.fits(picture)) {
      this.#refill();
      for (const viewer of this.#viewers) viewer.replaced();
    }
  }

  damage(rect: Rect): number {
    this.flushes++;
    const picture = this.#picture;
    if (!picture || !this.#frame || (this.#viewers.size === 0 && !this.#isFrozen)) return 0;
    // What is frozen is read as a whole: its pages may be back.
    const part = this.#isFrozen ? whole(picture) : rect;
    const late = this.#late.filter((one) => !contains(part, one));
    this.#late = [...(late.length < MAX_LATE_RECTS ? late : [late.reduce(union)]), part];
    return this.catchUp() ? part.width * part.height * BYTES_PER_PIXEL : 0;
  }

  /**
   * Copies what was flushed into the frame, unless a viewer is looking at it: then it is done by the next flush, or when
   * the viewer calls this. Returns false when it cannot be read.
   */
  catchUp(): boolean {
    if (this.#late.length === 0) return true;
    const begun: Viewer[] = [];
    try {
      for (const viewer of this.#viewers) {
        if (!viewer.beginChange()) return true;
        begun.push(viewer);
      }
      return this.#copyLate();
    } finally {
      for (const viewer of begun) viewer.endChange();
    }
  }

  freeze(): void {
    if (!this.#picture || this.#isFrozen) return;
    // Whoever looks: there is no later.
    if (this.#frame) this.#copyLate();
    else this.#refill();
    this.#isFrozen = true;
  }

  setCursorImage(image: CursorImage): void {
    const { width, height, hotX, hotY, source, rows, order } = image;
    const rowBytes = width * BYTES_PER_PIXEL;
    this.#cursorMemory ??= new PixelMemory('cursor', MAX_CURSOR_BYTES);
    const { bytes } = this.#cursorMemory;
    const to = { offset: 0, strideBytes: rowBytes };
    if (!source.copyRows(rows, bytes, to, rowBytes, height)) return;
    convertPixels(bytes, to, order, bytes, to, RGBA, width, height);
    this.#setCursor({ width, height, hotX, hotY }, true);
  }

  moveCursor(x: number, y: number): void {
    this.#setCursor({ x, y });
  }

  showCursor(visible: boolean): void {
    this.#setCursor({ visible });
  }

  /**
   * Copies what is shown right now: what was flushed last while anybody watches, else what is in the guest's buffer.
   * While the guest shows nothing this is black, as large as the mode.
   */
  snapshot(options: { cursor: boolean }): Snapshot {
    this.catchUp();
    const { width, height } = this.#picture ?? this.#mode;
    const rgba = new Uint8Array(width * height * BYTES_PER_PIXEL);
    const snapshot = { width, height, rgba };
    if (!this.#picture || !copyPicture(this.#frame?.picture ?? this.#picture, rgba))
      new Uint32Array(rgba.buffer).fill(0xff00_0000);
    if (options.cursor && this.#cursorMemory)
      blendCursor({ width, height, bytes: rgba, order: RGBA }, this.#cursor, this.#cursorMemory.bytes);
    return snapshot;
  }

  close(): void {
    this.#dropFrame();
    this.#cursorMemory?.close();
    this.#cursorMemory = undefined;
  }

  #setCursor(change: Partial<CursorState>, image = false): void {
    this.#cursor = { ...this.#cursor, ...change };
    for (const viewer of this.#viewers) viewer.cursorChanged(image);
  }

  #copyLate(): boolean {
    const picture = this.#picture;
    let isRead = true;
    const late = this.#late;
    this.#late = [];
    for (const rect of late) {
      if (!picture || !this.#frame?.copy(picture, rect)) isRead = false;
      else for (const viewer of this.#viewers) viewer.changed(rect);
    }
    if (this.#isFrozen && isRead) {
      this.#isFrozen = false;
      if (this.#viewers.size === 0) this.#dropFrame();
    }
    return isRead;
  }

  /** Makes a frame for the picture that is shown, with what is in it now. */
  #refill(): void {
    this.#dropFrame();
    if (!this.#picture) return;
    this.#frame = Frame.for(this.#picture);
    this.#frame?.copy(this.#picture, whole(this.#picture));
  }

  #dropFrame(): void {
    this.#frame?.close();
    this.#frame = undefined;
    this.#late = [];
  }
}

const whole = ({ width, height }: Picture): Rect => ({ x: 0, y: 0, width, height });

/** A screen has no alpha: whatever the format says, the picture is opaque. False when it cannot be read. */
function copyPicture({ source, rows, width, height, order }: Picture, rgba: Uint8Array): boolean {
  const rowBytes = width * BYTES_PER_PIXEL;
  const to = { offset: 0, strideBytes: rowBytes };
  if (!source.copyRows(rows, rgba, to, rowBytes, height)) return false;
  convertPixels(rgba, to, { ...order, a: -1 }, rgba, to, RGBA, width, height);
  return true;
}
