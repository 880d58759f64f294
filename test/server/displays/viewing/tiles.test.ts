import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Rect } from '../../../../server/displays/display.ts';
import { SharedDamage, TILE, TileSet } from '../../../../server/displays/viewing/tiles.ts';

const size = fc.integer({ min: 1, max: 700 });
const rectIn = (width: number, height: number) =>
  fc
    .record({
      x: fc.integer({ min: 0, max: width - 1 }),
      y: fc.integer({ min: 0, max: height - 1 }),
      width: fc.integer({ min: 1, max: width }),
      height: fc.integer({ min: 1, max: height }),
    })
    .map(({ x, y, ...rest }) => ({
      x,
      y,
      width: Math.min(rest.width, width - x),
      height: Math.min(rest.height, height - y),
    }));
const pictures = fc.tuple(size, size).chain(([width, height]) =>
  fc.record({
    width: fc.constant(width),
    height: fc.constant(height),
    rects: fc.array(rectIn(width, height)),
  }),
);

/** Every tile that a rectangle touches, as `column,row`. */
function tilesOf(rects: readonly Rect[]): Set<string> {
  const tiles = new Set<string>();
  for (const { x, y, width, height } of rects)
    for (let row = Math.floor(y / TILE); row * TILE < y + height; row++)
      for (let column = Math.floor(x / TILE); column * TILE < x + width; column++)
        tiles.add(`${column},${row}`);
  return tiles;
}

function tilesIn(set: TileSet): Set<string> {
  const tiles = new Set<string>();
  for (let row = 0; row < set.rows; row++)
    for (let column = 0; column < set.columns; column++)
      if (set.has(column, row)) tiles.add(`${column},${row}`);
  return tiles;
}

describe('a set of tiles', () => {
  test('holds the tiles that rectangles touch, and gives them back as rectangles that do not overlap', () => {
    fc.assert(
      fc.property(pictures, ({ width, height, rects }) => {
        const set = new TileSet(width, height);
        for (const rect of rects) set.add(rect);
        expect(tilesIn(set)).toEqual(tilesOf(rects));
        const given = set.rects();
        expect(tilesOf(given)).toEqual(tilesOf(rects));
        const pixels = given.reduce((sum, rect) => sum + rect.width * rect.height, 0);
        const once = new Set(given.flatMap((rect) => [...tilesOf([rect])]));
        expect(given.reduce((sum, rect) => sum + tilesOf([rect]).size, 0)).toBe(once.size);
        expect(given.every(({ x, y, width: w, height: h }) => x + w <= width && y + h <= height)).toBe(true);
        expect(pixels).toBeLessThanOrEqual(width * height);
      }),
    );
  });

  test('takes out what lies wholly in a rectangle, at the edges of the picture too', () => {
    fc.assert(
      fc.property(pictures, ({ width, height, rects }) => {
        const set = new TileSet(width, height);
        set.addAll();
        for (const rect of rects) set.remove(rect);
        const left = tilesIn(set);
        const whole = (column: number, row: number) =>
          rects.some(
            ({ x, y, width: w, height: h }) =>
              x <= column * TILE &&
              y <= row * TILE &&
              x + w >= Math.min(width, (column + 1) * TILE) &&
              y + h >= Math.min(height, (row + 1) * TILE),
          );
        for (let row = 0; row < set.rows; row++)
          for (let column = 0; column < set.columns; column++)
            expect(left.has(`${column},${row}`)).toBe(!whole(column, row));
      }),
    );
  });

  test('ignores what is outside of the picture', () => {
    const set = new TileSet(100, 100);
    set.add({ x: -50, y: -50, width: 20, height: 20 });
    set.add({ x: 200, y: 0, width: 20, height: 20 });
    set.add({ x: 0, y: 0, width: 0, height: 5 });
    expect(set.isEmpty).toBe(true);
    set.add({ x: -50, y: 90, width: 60, height: 60 });
    expect(set.rects()).toEqual([{ x: 0, y: 80, width: 16, height: 20 }]);
  });

  test('that covers a whole 1080p picture is one rectangle', () => {
    const set = new TileSet(1920, 1080);
    set.addAll();
    expect(set.rects()).toEqual([{ x: 0, y: 0, width: 1920, height: 1080 }]);
  });
});

describe('shared damage', () => {
  test('arrives whole, is told of once until it is taken, and is taken once', () => {
    fc.assert(
      fc.property(pictures, ({ width, height, rects }) => {
        const writer = new SharedDamage(width, height);
        const reader = new SharedDamage(width, height, writer.buffer);
        expect(rects.map((rect) => writer.add(rect))).toEqual(rects.map((_, i) => i === 0));
        expect(reader.isNoted).toBe(rects.length > 0);
        const taken = new TileSet(width, height);
        reader.take(taken);
        expect(tilesIn(taken)).toEqual(tilesOf(rects));
        const again = new TileSet(width, height);
        reader.take(again);
        expect(again.isEmpty).toBe(true);
        expect(writer.add({ x: 0, y: 0, width: 1, height: 1 })).toBe(true);
      }),
    );
  });
});
