import { describe, expect, onTestFinished, test } from 'vitest';
import { linearPixels } from '../../../server/displays/frame.ts';
import { Screen } from '../../../server/displays/screen.ts';
import { openFds } from '../../support/fake-client.ts';
import { Painted } from '../../support/screens.ts';

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

describe('a screen that somebody looks at just now', () => {
  const watch = (screen: Screen) => {
    const seen: unknown[] = [];
    const viewer = { mayChange: true, isChanging: false, seen };
    const leave = screen.watch({
      beginChange: () => {
        viewer.isChanging = viewer.mayChange;
        return viewer.mayChange;
      },
      endChange: () => {
        viewer.isChanging = false;
      },
      changed: (rect) => seen.push(rect),
      replaced: () => seen.push('replaced'),
      cursorChanged: () => {},
      modeChanged: () => {},
    });
    onTestFinished(() => {
      leave();
      screen.close();
    });
    return viewer;
  };
  const at = (x: number) => ({ x, y: 0, width: 1, height: 1 });
  const shown = (screen: Screen, x: number) => screen.frame?.bytes[4 * x];

  test('changes nothing of what is seen, and all of it as soon as it may', () => {
    const painted = new Painted(new Screen(0, MODE, () => {}), 32, 8);
    const { screen } = painted;
    const viewer = watch(screen);
    viewer.mayChange = false;
    for (const x of [3, 5]) painted.draw(at(x), [0, 0, x]).flush(at(x));
    expect([screen.isLate, shown(screen, 3), shown(screen, 5), viewer.seen]).toEqual([true, 0, 0, []]);
    screen.catchUp();
    expect(screen.isLate).toBe(true);
    viewer.mayChange = true;
    screen.catchUp();
    expect([screen.isLate, shown(screen, 3), shown(screen, 5)]).toEqual([false, 3, 5]);
    expect(viewer.seen).toEqual([at(3), at(5)]);
    expect(viewer.isChanging).toBe(false);
  });

  test('catches up by the next flush, however much there is, and copies what was flushed only', () => {
    const painted = new Painted(new Screen(0, MODE, () => {}), 64, 8);
    const { screen } = painted;
    const viewer = watch(screen);
    viewer.mayChange = false;
    for (let x = 1; x < 41; x++) painted.draw(at(x), [0, 0, x]).flush(at(x));
    painted.draw(at(50), [0, 0, 50]);
    viewer.mayChange = true;
    painted.flush(at(40));
    expect(Array.from({ length: 64 }, (_, x) => shown(screen, x))).toEqual(
      Array.from({ length: 64 }, (_, x) => (x < 41 ? x : 0)),
    );
    expect(viewer.seen.length).toBeLessThan(20);
  });

  test('copies once what was flushed again and again meanwhile', () => {
    const painted = new Painted(new Screen(0, MODE, () => {}), 32, 8);
    const { screen } = painted;
    const viewer = watch(screen);
    viewer.mayChange = false;
    for (const part of [at(3), painted.whole, at(4), painted.whole]) painted.flush(part);
    viewer.mayChange = true;
    screen.catchUp();
    expect(viewer.seen).toEqual([painted.whole]);
  });

  test('has copied everything before the memory goes away, and follows it when that is back', () => {
    const painted = new Painted(new Screen(0, MODE, () => {}), 32, 8);
    const { screen } = painted;
    const viewer = watch(screen);
    viewer.mayChange = false;
    painted.draw(at(3), [0, 0, 3]).flush(at(3));
    screen.freeze();
    expect([screen.isLate, shown(screen, 3)]).toEqual([false, 3]);
    painted.draw(at(4), [0, 0, 4]).draw(at(9), [0, 0, 9]).flush(at(4));
    expect([screen.isLate, shown(screen, 4)]).toEqual([true, 0]);
    viewer.mayChange = true;
    screen.catchUp();
    expect([shown(screen, 4), shown(screen, 9)]).toEqual([4, 9]);
    painted.draw(at(5), [0, 0, 5]).draw(at(6), [0, 0, 6]).flush(at(5));
    expect([shown(screen, 5), shown(screen, 6)]).toEqual([5, 0]);
  });

  test('forgets what was late with the picture', () => {
    const painted = new Painted(new Screen(0, MODE, () => {}), 32, 8);
    const { screen } = painted;
    const viewer = watch(screen);
    viewer.mayChange = false;
    painted.flush(at(31));
    const smaller = new Painted(screen, 16, 8);
    smaller.draw(smaller.whole, [0, 0, 7]);
    expect([screen.isLate, viewer.seen]).toEqual([false, ['replaced']]);
    screen.show(undefined);
    expect([screen.isLate, screen.frame]).toEqual([false, undefined]);
  });
});
