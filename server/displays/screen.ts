/**
 * A display without a window: it knows what the guest shows and can take a picture of it. Viewers build on it.
 */
import { closeSync } from 'node:fs';
import { convertPixels, createMemfd, Mapping } from '../../native/index.ts';
import type { CursorImage, Display, Picture, PixelOrder, Rect } from './display.ts';
import type { Mode } from './mode.ts';
import { assertMode } from './timing.ts';

const RGBA: PixelOrder = { r: 0, g: 1, b: 2, a: 3 };
const BYTES_PER_PIXEL = 4;
const MAX_CURSOR_BYTES = 256 * 256 * BYTES_PER_PIXEL;

/** A picture taken at one moment: RGBA, 8 bits a channel, rows without padding, alpha 255 everywhere. */
export interface Snapshot {
  readonly width: number;
  readonly height: number;
  readonly rgba: Uint8Array;
}

export interface CursorState {
  readonly visible: boolean;
  /** Of the top left corner, in pixels of the picture; may be negative. */
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly hotX: number;
  readonly hotY: number;
}

export class Screen implements Display {
  readonly index: number;
  /** Flushes that touched what is shown. */
  flushes = 0;
  readonly #onModeChange: () => void;
  #mode: Mode;
  #picture: Picture | undefined;
  #cursorMemory: { readonly fd: number; readonly mapping: Mapping } | undefined;
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
  }

  /** What the guest shows; undefined while it shows nothing. */
  get picture(): Picture | undefined {
    return this.#picture;
  }

  get cursor(): CursorState {
    return this.#cursor;
  }

  show(picture: Picture | undefined): void {
    this.#picture = picture;
  }

  damage(_rect: Rect): void {
    this.flushes++;
  }

  setCursorImage(image: CursorImage): void {
    const { width, height, hotX, hotY } = image;
    this.#cursorMemory ??= makeCursorMemory();
    const target = this.#cursorMemory.mapping.bytes(0, MAX_CURSOR_BYTES);
    const from = { offset: image.offsetBytes, strideBytes: image.strideBytes };
    const to = { offset: 0, strideBytes: width * BYTES_PER_PIXEL };
    convertPixels(image.bytes, from, image.order, target, to, RGBA, width, height);
    this.#cursor = { ...this.#cursor, width, height, hotX, hotY };
  }

  moveCursor(x: number, y: number): void {
    this.#cursor = { ...this.#cursor, x, y };
  }

  showCursor(visible: boolean): void {
    this.#cursor = { ...this.#cursor, visible };
  }

  /** Copies what is shown right now. While the guest shows nothing this is black, as large as the mode. */
  snapshot(options: { cursor: boolean }): Snapshot {
    const { width, height } = this.#picture ?? this.#mode;
    const rgba = new Uint8Array(width * height * BYTES_PER_PIXEL);
    const snapshot = { width, height, rgba };
    if (this.#picture) copyPicture(this.#picture, rgba);
    else new Uint32Array(rgba.buffer).fill(0xff00_0000);
    if (options.cursor && this.#cursor.visible) this.#blendCursor(snapshot);
    return snapshot;
  }

  close(): void {
    if (!this.#cursorMemory) return;
    this.#cursorMemory.mapping.close();
    closeSync(this.#cursorMemory.fd);
    this.#cursorMemory = undefined;
  }

  /** Colours of a cursor are premultiplied: result = cursor + picture * (1 - alpha). */
  #blendCursor({ width, height, rgba }: Snapshot): void {
    if (!this.#cursorMemory) return;
    const cursor = this.#cursor;
    const image = this.#cursorMemory.mapping.bytes(0, cursor.width * cursor.height * BYTES_PER_PIXEL);
    const firstX = Math.max(0, -cursor.x);
    const firstY = Math.max(0, -cursor.y);
    const lastX = Math.min(cursor.width, width - cursor.x);
    const lastY = Math.min(cursor.height, height - cursor.y);
    for (let y = firstY; y < lastY; y++) {
      for (let x = firstX; x < lastX; x++) {
        const from = (y * cursor.width + x) * BYTES_PER_PIXEL;
        const to = ((y + cursor.y) * width + x + cursor.x) * BYTES_PER_PIXEL;
        const rest = 255 - (image[from + 3] as number);
        for (let channel = 0; channel < 3; channel++) {
          const under = Math.round(((rgba[to + channel] as number) * rest) / 255);
          rgba[to + channel] = Math.min(255, (image[from + channel] as number) + under);
        }
      }
    }
  }
}

/** A screen has no alpha: whatever the format says, the picture is opaque. */
function copyPicture(picture: Picture, rgba: Uint8Array): void {
  const { bytes, offsetBytes, strideBytes, width, height, order } = picture;
  const from = { offset: offsetBytes, strideBytes };
  const to = { offset: 0, strideBytes: width * BYTES_PER_PIXEL };
  convertPixels(bytes, from, { ...order, a: -1 }, rgba, to, RGBA, width, height);
}

function makeCursorMemory(): { fd: number; mapping: Mapping } {
  const fd = createMemfd('cursor', MAX_CURSOR_BYTES, { seals: 'size' });
  try {
    return { fd, mapping: Mapping.map(fd, { lengthBytes: MAX_CURSOR_BYTES, writable: true, whole: true }) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
