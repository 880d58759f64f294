/** Viewers at the devices of a guest: whatever they do at once, a guest that takes events gets all of them. */
import { expect, test } from 'vitest';
import type { InputEvent } from '../../../../server/displays/viewing/messages.ts';
import { seatInput } from '../../../../server/displays/viewing/seat-input.ts';
import { KeyboardDevice } from '../../../../server/input/keyboard.ts';
import { Seat } from '../../../../server/input/seat.ts';
import { TabletDevice } from '../../../../server/input/tablet.ts';
import { SILENT_LOG } from '../../../../server/log.ts';
import { InputMachine } from '../../../support/input-machine.ts';
import { soon } from '../../../support/soon.ts';

const wheel = (x: number): InputEvent => ({
  type: 'pointer',
  display: 0,
  x,
  y: 0,
  buttons: x & 1,
  wheelX: 0,
  wheelY: 120,
});

test('bursts of several viewers reach a guest that takes them, click by click and turn by turn', async () => {
  const tablet = new InputMachine(new TabletDevice(SILENT_LOG)).bringUp();
  const keyboard = new InputMachine(new KeyboardDevice(SILENT_LOG)).bringUp();
  const seat = new Seat({
    keyboard: keyboard.device,
    tablet: tablet.device,
    displays: () => [{ width: 2000, height: 100 }],
  });
  const input = seatInput(seat, 'us');
  const viewers = [1, 2, 3].map((name) => input.open(`viewer ${name}`));
  const seen: string[] = [];
  const take = setInterval(() => seen.push(...tablet.takeAndReturn()), 0);
  await Promise.all(viewers.map((viewer) => viewer.take(Array.from({ length: 255 }, (_, x) => wheel(x)))));
  await soon(() => expect(tablet.device.counters.waiting).toBe(0));
  clearInterval(take);
  seen.push(...tablet.take());
  expect(tablet.device.counters.refused).toBe(0);
  expect(seen.filter((line) => line === '2 8 1').length).toBe(3 * 255);
});

test('news are what the seat has, and the layout', () => {
  const seat = new Seat({ keyboard: new KeyboardDevice(SILENT_LOG), displays: () => [] });
  expect(seatInput(seat, 'de').news).toEqual({
    hasKeyboard: true,
    hasPointer: false,
    keyboardLayout: 'de',
    leds: undefined,
  });
});
