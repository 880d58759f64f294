/** Several viewers and programs at one keyboard and one pointer. */
import { describe, expect, test } from 'vitest';
import { KeyboardDevice } from '../../../server/input/keyboard.ts';
import { MAX_CONTACTS } from '../../../server/input/limits.ts';
import { type DisplaySize, Seat } from '../../../server/input/seat.ts';
import { TabletDevice } from '../../../server/input/tablet.ts';
import { TouchDevice } from '../../../server/input/touch.ts';
import { SILENT_LOG } from '../../../server/log.ts';
import { InputMachine } from '../../support/input-machine.ts';

const SYN = '0 0 0';
const A = 30;
const SHIFT = 42;
const LEFT = 0x110;
const RIGHT = 0x111;
const MIDDLE = 0x112;

function makeSeat(displays: readonly DisplaySize[] = [{ width: 1000, height: 500 }]) {
  const keyboard = new InputMachine(new KeyboardDevice(SILENT_LOG)).bringUp();
  const tablet = new InputMachine(new TabletDevice(SILENT_LOG)).bringUp();
  const touch = new InputMachine(new TouchDevice(SILENT_LOG)).bringUp();
  const seat = new Seat({
    keyboard: keyboard.device,
    tablet: tablet.device,
    touch: touch.device,
    displays: () => displays,
  });
  return { seat, keyboard, tablet, touch };
}

describe('keys', () => {
  test('that two clients hold are pressed once, and released when the second lets go', () => {
    const { seat, keyboard } = makeSeat();
    const [one, two] = [seat.open('one'), seat.open('two')];
    one.key(SHIFT, true);
    two.key(SHIFT, true);
    one.key(SHIFT, false);
    expect(keyboard.take()).toEqual([`1 ${SHIFT} 1`, SYN]);
    two.key(SHIFT, false);
    expect(keyboard.take()).toEqual([`1 ${SHIFT} 0`, SYN]);
  });

  test('that a client presses again, or lets go without holding them, change nothing', () => {
    const { seat, keyboard } = makeSeat();
    const [one, two] = [seat.open('one'), seat.open('two')];
    one.key(A, true);
    one.key(A, true);
    two.key(A, false);
    expect(keyboard.take()).toEqual([`1 ${A} 1`, SYN]);
    one.key(A, false);
    one.key(A, false);
    expect(keyboard.take()).toEqual([`1 ${A} 0`, SYN]);
  });

  test('that the keyboard does not have are ignored', () => {
    const { seat, keyboard } = makeSeat();
    const client = seat.open('one');
    for (const code of [0, -1, 84, 249, LEFT, 1.5, Number.NaN, 2 ** 40]) {
      expect(client.key(code, true)).toBe(true);
    }
    client.close();
    expect(keyboard.take()).toEqual([]);
  });

  test('and buttons that only a leaving client holds are released', () => {
    const { seat, keyboard, tablet } = makeSeat();
    const [one, two] = [seat.open('one'), seat.open('two')];
    for (const client of [one, two]) client.key(SHIFT, true);
    one.key(A, true);
    one.pointer({ display: 0, x: 0, y: 0, buttons: 5 });
    two.pointer({ display: 0, x: 0, y: 0, buttons: 1 });
    keyboard.take();
    tablet.take();
    expect(seat.clients).toEqual(['one', 'two']);
    one.close();
    expect(keyboard.take()).toEqual([`1 ${A} 0`, SYN]);
    expect(tablet.take()).toEqual([`1 ${RIGHT} 0`, SYN]);
    two.close();
    expect(keyboard.take()).toEqual([`1 ${SHIFT} 0`, SYN]);
    expect(tablet.take()).toEqual([`1 ${LEFT} 0`, SYN]);
    expect(seat.clients).toEqual([]);
  });

  test('of a client that has left do nothing', () => {
    const { seat, keyboard, tablet, touch } = makeSeat();
    const client = seat.open('one');
    client.close();
    client.close();
    client.key(A, true);
    client.pointer({ display: 0, x: 0, y: 0, buttons: 1 });
    client.touch([{ id: 1, display: 0, x: 0, y: 0 }]);
    expect([keyboard, tablet, touch].flatMap((machine) => machine.take())).toEqual([]);
  });
});

describe('the pointer', () => {
  /** The pixel that a guest finds for a position, as libinput and X do it. */
  const pixel = (position: number, size: number) => Math.floor((position * size) / 32768);
  const positionOf = (lines: readonly string[], axis: number) =>
    Number(lines.find((line) => line.startsWith(`3 ${axis} `))?.split(' ')[2]);

  test.each([
    [[{ width: 1280, height: 800 }]],
    [[{ width: 8192, height: 8191 }]],
    [[{ width: 32, height: 33 }]],
  ])('hits each pixel of a display: %j', (displays) => {
    const { seat, tablet } = makeSeat(displays);
    const client = seat.open('one');
    const { width, height } = displays[0] as DisplaySize;
    for (let x = 0; x < width; x += Math.ceil(width / 700)) {
      const y = Math.floor((x * height) / width);
      tablet.bringUp();
      client.pointer({ display: 0, x, y, buttons: 0 });
      const lines = tablet.take();
      expect([pixel(positionOf(lines, 0), width), pixel(positionOf(lines, 1), height)]).toEqual([x, y]);
    }
  });

  test('finds the second display right of the first, and below it nothing', () => {
    const displays = [
      { width: 1000, height: 500 },
      { width: 600, height: 800 },
    ];
    const { seat, tablet } = makeSeat(displays);
    seat.open('one').pointer({ display: 1, x: 10, y: 700, buttons: 0 });
    const lines = tablet.take();
    expect([pixel(positionOf(lines, 0), 1600), pixel(positionOf(lines, 1), 800)]).toEqual([1010, 700]);
  });

  test('stays on the displays, whatever is asked', () => {
    const { seat, tablet } = makeSeat();
    const client = seat.open('one');
    for (const [display, x, y] of [
      [0, -5, -1e9],
      [0, 1e9, Number.POSITIVE_INFINITY],
      [7, 3, 3],
      [0, Number.NaN, 1],
      [-1, 0, 0],
    ] as const) {
      tablet.bringUp();
      client.pointer({ display, x, y, buttons: 0 });
      const lines = tablet.take();
      for (const axis of [0, 1]) {
        expect(positionOf(lines, axis)).toBeGreaterThanOrEqual(0);
        expect(positionOf(lines, axis)).toBeLessThanOrEqual(32767);
      }
    }
  });

  test('has five buttons', () => {
    const { seat, tablet } = makeSeat();
    const client = seat.open('one');
    client.pointer({ display: 0, x: 0, y: 0, buttons: 0 });
    tablet.take();
    client.pointer({ display: 0, x: 0, y: 0, buttons: 0b11111 });
    expect(tablet.take()).toEqual(
      [LEFT, MIDDLE, RIGHT, 0x113, 0x114].map((code) => `1 ${code} 1`).concat(SYN),
    );
    client.pointer({ display: 0, x: 0, y: 0, buttons: 0b00010 });
    expect(tablet.take()).toEqual([LEFT, RIGHT, 0x113, 0x114].map((code) => `1 ${code} 0`).concat(SYN));
  });

  test('scrolls in parts of notches, and says when a notch is full', () => {
    const { seat, tablet } = makeSeat();
    const client = seat.open('one');
    const scroll = (wheelY: number, wheelX = 0) => {
      client.pointer({ display: 0, x: 0, y: 0, buttons: 0, wheelX, wheelY });
      return tablet.takeAndReturn();
    };
    scroll(0);
    expect(scroll(120)).toEqual(['2 8 1', '2 11 120', SYN]);
    expect(scroll(50)).toEqual(['2 11 50', SYN]);
    expect(scroll(69)).toEqual(['2 11 69', SYN]);
    expect(scroll(1)).toEqual(['2 8 1', '2 11 1', SYN]);
    expect(scroll(100)).toEqual(['2 11 100', SYN]);
    expect(scroll(-20)).toEqual(['2 11 -20', SYN]);
    expect(scroll(-250)).toEqual(['2 8 -2', '2 11 -250', SYN]);
    expect(scroll(0, -120)).toEqual(['2 6 -1', '2 12 -120', SYN]);
    expect(scroll(1e12)).toEqual(['2 8 100', '2 11 12000', SYN]);
    expect(scroll(Number.NaN)).toEqual([]);
  });
});

describe('touch', () => {
  const at = (id: number, x = 0, y = 0) => ({ id, display: 0, x, y });

  test('is contacts in slots, with a new number for each', () => {
    const { seat, touch } = makeSeat([{ width: 32768, height: 32768 }]);
    const client = seat.open('one');
    client.touch([at(7, 10, 20)]);
    expect(touch.takeAndReturn()).toEqual(['3 47 0', '3 57 0', '3 53 10', '3 54 20', '1 330 1', SYN]);
    client.touch([at(7, 11, 20), at(9, 5, 6)]);
    expect(touch.takeAndReturn()).toEqual(['3 53 11', '3 47 1', '3 57 1', '3 53 5', '3 54 6', SYN]);
    client.touch([at(9, 5, 6)]);
    expect(touch.takeAndReturn()).toEqual(['3 47 0', '3 57 -1', SYN]);
    client.touch([at(9, 5, 6), at(7, 11, 20)]);
    expect(touch.takeAndReturn()).toEqual(['3 57 2', '3 53 11', '3 54 20', SYN]);
    client.touch([]);
    expect(touch.takeAndReturn()).toEqual(['3 47 1', '3 57 -1', '3 47 0', '3 57 -1', '1 330 0', SYN]);
  });

  test('of two clients with the same numbers are different contacts, and end with their client', () => {
    const { seat, touch } = makeSeat([{ width: 32768, height: 32768 }]);
    const [one, two] = [seat.open('one'), seat.open('two')];
    one.touch([at(1, 1, 1)]);
    two.touch([at(1, 2, 2)]);
    touch.takeAndReturn();
    one.close();
    expect(touch.takeAndReturn()).toEqual(['3 47 0', '3 57 -1', SYN]);
    two.close();
    expect(touch.takeAndReturn()).toEqual(['3 47 1', '3 57 -1', '1 330 0', SYN]);
  });

  test('has ten contacts; an eleventh is not there until another has ended', () => {
    const { seat, touch } = makeSeat([{ width: 32768, height: 32768 }]);
    const client = seat.open('one');
    const all = Array.from({ length: MAX_CONTACTS + 1 }, (_, id) => at(id, id, id));
    client.touch(all);
    const first = touch.takeAndReturn();
    expect(first.filter((line) => line.startsWith('3 57 '))).toHaveLength(MAX_CONTACTS);
    client.touch(all.slice(1));
    expect(touch.takeAndReturn()).toEqual(['3 47 0', '3 57 -1', SYN]);
    client.touch(all.slice(1));
    expect(touch.takeAndReturn()).toEqual(['3 57 10', '3 53 10', '3 54 10', SYN]);
  });
});

test('a seat without devices says so and takes everything', async () => {
  const seat = new Seat({ displays: () => [] });
  expect([seat.hasKeyboard, seat.hasPointer, seat.hasTouch, seat.leds]).toEqual([
    false,
    false,
    false,
    undefined,
  ]);
  seat.onLeds(() => {})();
  const client = seat.open('one');
  expect(client.key(A, true)).toBe(true);
  expect(client.pointer({ display: 0, x: 1, y: 1, buttons: 1 })).toBe(true);
  expect(client.touch([{ id: 0, display: 0, x: 1, y: 1 }])).toBe(true);
  await client.drained();
  client.close();
});
