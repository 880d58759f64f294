/** Screens that a test draws on as a guest does. */

import type { Picture, Rect } from '../../server/displays/display.ts';
import { linearPixels } from '../../server/displays/frame.ts';
import { Screen } from '../../server/displays/screen.ts';

const BGRX = { b: 0, g: 1, r: 2, a: -1 };

export type Colour = readonly [red: number, green: number, blue: number];

/** A guest's buffer that is on a screen. */
export class Painted {
  readonly screen: Screen;
  readonly width: number;
  readonly height: number;
  readonly bytes: Uint8Array;

  /** Shows a black buffer of this size. */
  constructor(screen: Screen, width: number, height: number) {
    this.screen = screen;
    this.width = width;
    this.height = height;
    this.bytes = new Uint8Array(width * height * 4);
    screen.show(this.picture);
  }

  get picture(): Picture {
    const { width, height } = this;
    return {
      width,
      height,
      order: BGRX,
      source: linearPixels(this.bytes),
      rows: { offset: 0, strideBytes: width * 4 },
    };
  }

  /** Draws without flushing. */
  draw({ x, y, width, height }: Rect, colourAt: Colour | ((x: number, y: number) => Colour)): this {
    for (let row = y; row < y + height; row++) {
      for (let column = x; column < x + width; column++) {
        const [red, green, blue] = typeof colourAt === 'function' ? colourAt(column, row) : colourAt;
        this.bytes.set([blue, green, red, 0], (row * this.width + column) * 4);
      }
    }
    return this;
  }

  /** Moves what is in a rectangle, and fills what becomes free. */
  scroll({ x, y, width, height }: Rect, down: number, fill: Colour): this {
    const before = this.bytes.slice();
    this.draw({ x, y, width, height }, fill);
    for (let row = y; row < y + height; row++) {
      const from = row - down;
      if (from < y || from >= y + height) continue;
      const at = (from * this.width + x) * 4;
      this.bytes.set(before.subarray(at, at + width * 4), (row * this.width + x) * 4);
    }
    return this;
  }

  flush(rect: Rect = this.whole): this {
    this.screen.damage(rect);
    return this;
  }

  get whole(): Rect {
    return { x: 0, y: 0, width: this.width, height: this.height };
  }

  /** What is in the buffer, as viewers should have it: RGBA, alpha 255. */
  get rgba(): Buffer {
    const rgba = Buffer.alloc(this.bytes.length);
    for (let at = 0; at < rgba.length; at += 4) {
      const [b, g, r] = this.bytes.subarray(at, at + 3);
      rgba.set([r as number, g as number, b as number, 255], at);
    }
    return rgba;
  }
}

/** Something between a photo and text: neighbours differ, and there are many colours. */
export const texture = (x: number, y: number): Colour => [(x * 7 + y) & 255, (y * 5) & 255, (x ^ y) & 255];

/** Makes a screen; `changes` counts modes that the guest was asked for. */
export function makeScreen(width: number, height: number, index = 0): Screen {
  return new Screen(index, { width, height, refreshHz: 60 }, () => {});
}
