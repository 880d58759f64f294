/** What a canvas tells those who follow it. */
import type { Rect } from '../display.ts';
import type { TileSet } from './tiles.ts';

/** A part of the picture that was `down` pixels above (or, if that is negative, below), as by scrolling. */
export interface Moved {
  readonly to: Rect;
  readonly down: number;
}

/** Somebody who follows a canvas. Called when it has happened; look at the canvas for the rest. */
export interface Follower {
  /** Whether it could use a change now. One that cannot calls `absorb` when it can. */
  readonly isWaiting: boolean;
  /**
   * These tiles are different; the set is the canvas's and changes later. With `moved`, what is in its rectangle now was
   * elsewhere before.
   */
  changed(tiles: TileSet, moved?: Moved): void;
  /** Whether it has a use for `moved`, which costs time to find out. */
  readonly usesMoves?: boolean;
  /** The picture has another size, and all of it is new. */
  resized(): void;
  cursorChanged(image: boolean): void;
}
