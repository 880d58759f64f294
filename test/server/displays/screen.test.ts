import { describe, expect, test } from 'vitest';
import { linearPixels } from '../../../server/displays/frame.ts';
import { Screen } from '../../../server/displays/screen.ts';
import { openFds } from '../../support/fake-client.ts';

const MODE = { width: 64, height: 48, refreshHz: 60 };
const BGRX = { b: 0, g: 1, r: 2, a: -1 };
const picture = (width: number, height: number) => {
  const bytes = new Uint8Array(width * height * 4);
  for (let i = 0; i < bytes.length; i++) bytes[i] = i * 7;
  return {
    width,
    height,
    order: BGRX,
    source: linearPixels(bytes),
    rows: { offset: 0, strideBytes: width * 4 },
  };
};

describe('a screen', () => {
  test('is black and as large as its mode while nothing is shown', () => {
    const screen = new Screen(0, MODE, () => {});
    const { width, height, rgba } = screen.snapshot({ cursor: true });
    expect([width, height]).toEqual([64, 48]);
    expect([...rgba.subarray(0, 4)]).toEqual([0, 0, 0, 255]);
    expect(rgba.length).toBe(64 * 48 * 4);
  });

  test('is as large as the picture, whatever the mode', () => {
    const screen = new Screen(0, MODE, () => {});
    screen.show(picture(20, 30));
    expect(screen.snapshot({ cursor: false })).toMatchObject({ width: 20, height: 30 });
  });

  test('is opaque also where the picture has an alpha channel', () => {
    const screen = new Screen(0, MODE, () => {});
    screen.show({ ...picture(16, 16), order: { ...BGRX, a: 3 } });
    const { rgba } = screen.snapshot({ cursor: false });
    expect(rgba.every((value, i) => i % 4 !== 3 || value === 255)).toBe(true);
  });

  test('tells of a new mode once, and refuses one that no EDID can describe', () => {
    let changes = 0;
    const screen = new Screen(0, MODE, () => changes++);
    screen.setMode({ ...MODE, width: 100 });
    screen.setMode({ ...MODE, width: 100 });
    expect(changes).toBe(1);
    expect(() => screen.setMode({ ...MODE, width: 100_000 })).toThrow(RangeError);
    expect(() => new Screen(0, { ...MODE, height: 0 }, () => {})).toThrow(RangeError);
    expect(screen.mode.width).toBe(100);
  });

  test('holds its cursor in a memfd until it is closed', () => {
    const before = openFds();
    const screen = new Screen(0, MODE, () => {});
    screen.setCursorImage({ ...picture(8, 8), hotX: 1, hotY: 2 });
    expect(openFds()).toBe(before + 1);
    screen.close();
    screen.close();
    expect(openFds()).toBe(before);
  });

  test('shows a cursor that was never given an image as none', () => {
    const screen = new Screen(0, MODE, () => {});
    screen.showCursor(true);
    expect([...screen.snapshot({ cursor: true }).rgba.subarray(0, 3)]).toEqual([0, 0, 0]);
  });
});
