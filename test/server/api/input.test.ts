/** Keys, text, pointer and touch over the control API: what a guest gets of them, and that nothing stays pressed. */
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { InputCalls } from '../../../server/api/input.ts';
import {
  MAX_BODY_BYTES,
  MAX_INPUT_REQUESTS,
  MAX_KEY_STEPS,
  MAX_TEXT_LENGTH,
} from '../../../server/api/limits.ts';
import { KeyboardDevice } from '../../../server/input/keyboard.ts';
import { MAX_CONTACTS } from '../../../server/input/limits.ts';
import { Seat } from '../../../server/input/seat.ts';
import { TabletDevice } from '../../../server/input/tablet.ts';
import { TouchDevice } from '../../../server/input/touch.ts';
import { SILENT_LOG } from '../../../server/log.ts';
import { type ApiHere, apiHere, apiWithInput } from '../../support/api-here.ts';
import { InputMachine } from '../../support/input-machine.ts';
import { Painted } from '../../support/screens.ts';
import { soon } from '../../support/soon.ts';

const [A, C, H, I, T, ENTER] = [30, 46, 35, 23, 20, 28];
const [CTRL, SHIFT, ALT, ALTGR] = [29, 42, 56, 100];
const SYN = '0 0 0';
const [LEFT, RIGHT] = [0x110, 0x111];

let here: ApiHere;
beforeEach(async () => {
  here = await apiWithInput();
});
afterEach(() => here[Symbol.asyncDispose]());

const post = (what: string, body: string | object, signal?: AbortSignal) =>
  here.ask('POST', `/v1/input/${what}`, body, signal ? { signal } : {});
/** Keys as the guest got them: `+code` is down, `-code` is up. */
const keysTaken = () =>
  (here.keyboard?.takeAll() ?? []).flatMap((line) => {
    const [type, code, value] = line.split(' ');
    return type === '1' ? [`${value === '1' ? '+' : '-'}${code}`] : [];
  });
const tapped = (...codes: number[]) => codes.flatMap((code) => [`+${code}`, `-${code}`]);

describe('keys', () => {
  test('of a chord go down in order and up in reverse, and have been taken when the answer comes', async () => {
    const { status, body } = await post('keys', { keys: ['ctrl+alt+t', 'Enter'], delayMs: 0 });
    expect([status, body.length]).toEqual([204, 0]);
    expect(keysTaken()).toEqual([
      ...[`+${CTRL}`, `+${ALT}`, `+${T}`, `-${T}`, `-${ALT}`, `-${CTRL}`],
      ...tapped(ENTER),
    ]);
  });

  test('go down and up by themselves, and those that did not go up do so at the end', async () => {
    const keys = [{ down: 'shift' }, 'a', { up: 'shift' }, { waitMs: 1 }, { down: 'ctrl+c' }];
    expect((await post('keys', { keys, delayMs: 0 })).status).toBe(204);
    const [last, ...before] = keysTaken().toReversed();
    expect(before.toReversed()).toEqual([
      ...[`+${SHIFT}`, ...tapped(A), `-${SHIFT}`],
      ...[`+${CTRL}`, `+${C}`, expect.any(String)],
    ]);
    expect([last, before[0]].sort()).toEqual([`-${CTRL}`, `-${C}`].sort());
  });

  test('that are single characters are where the layout has them', async () => {
    await post('keys', { keys: ['ctrl+y'], layout: 'de', delayMs: 0 });
    expect(keysTaken()).toEqual([`+${CTRL}`, '+44', '-44', `-${CTRL}`]);
    await post('keys', { keys: ['ctrl++'], layout: 'us', delayMs: 0 });
    expect(keysTaken()).toEqual([`+${CTRL}`, `+${SHIFT}`, '+13', '-13', `-${SHIFT}`, `-${CTRL}`]);
    await post('keys', { keys: ['ctrl+c'], layout: 'ru', delayMs: 0 });
    expect(keysTaken()).toEqual([`+${CTRL}`, `+${C}`, `-${C}`, `-${CTRL}`]);
  });

  test.each(['nosuchkey', 'ctrl+nosuchkey', '+', 'ctrl+', '++', 'ctrl++a'])(
    'like %j are refused when they are none, and nothing is pressed',
    async (chord) => {
      const isPlus = chord === '+';
      const { status, json } = await post('keys', { keys: ['a', chord], delayMs: 0 });
      expect(status).toBe(isPlus ? 204 : 400);
      if (isPlus) return;
      expect(json).toMatchObject({
        error: { code: 'bad_request', message: expect.stringMatching(/key|chord/) },
      });
      expect(keysTaken()).toEqual([]);
    },
  );

  test('are all released whatever the steps are', async () => {
    const name = fc.constantFrom('a', 'ctrl', 'shift', 'f5', 'ctrl+alt+delete', 'é', '+', 'A');
    const step = fc.oneof(
      name,
      name.map((down) => ({ down })),
      name.map((up) => ({ up })),
      fc.constant({ waitMs: 0 }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (keys) => {
        const { status } = await post('keys', { keys, layout: 'fr', delayMs: 0 });
        expect(status).toBe(204);
        expect(here.keyboard?.held).toEqual([]);
      }),
      { numRuns: 40 },
    );
  });
});

describe('a text', () => {
  test('is typed as the layout of the server has it', async () => {
    expect((await post('text', { text: 'Hi\n', delayMs: 0 })).status).toBe(204);
    expect(keysTaken()).toEqual([`+${SHIFT}`, `+${H}`, `-${H}`, `-${SHIFT}`, ...tapped(I, ENTER)]);
  });

  test('or as the layout that is named has it, with AltGr and dead keys', async () => {
    await post('text', { text: '@é', layout: 'de', delayMs: 0 });
    expect(keysTaken()).toEqual([`+${ALTGR}`, '+16', '-16', `-${ALTGR}`, ...tapped(13, 18)]);
  });

  test('with a character that the layout cannot type is not typed at all, and the answer names it', async () => {
    const { status, json } = await post('text', { text: 'naïve 漢', layout: 'fr' });
    expect(status).toBe(400);
    expect(json).toMatchObject({ error: { code: 'untypable', message: expect.stringContaining('漢') } });
    expect(keysTaken()).toEqual([]);
  });

  test('that is long is taken whole, in order', async () => {
    expect((await post('text', { text: 'act'.repeat(300), delayMs: 0 })).status).toBe(204);
    expect(keysTaken()).toEqual(
      Array(300)
        .fill(tapped(A, C, T))
        .flat(),
    );
  });

  test('of the largest size is not refused', async () => {
    const hangUp = new AbortController();
    const asked = post('text', { text: 'a'.repeat(MAX_TEXT_LENGTH) }, hangUp.signal);
    await soon(() => expect(here.keyboard?.taken.length).toBeGreaterThan(0));
    hangUp.abort();
    await expect(asked).rejects.toThrow('aborted');
  });

  test('is typed in one piece, whoever types at the same time', async () => {
    const texts = ['aaaa', 'cccc', 'tttt'];
    await Promise.all(texts.map((text) => post('text', { text, delayMs: 1 })));
    const typed = keysTaken().filter((key) => key.startsWith('+'));
    const runs = typed.filter((key, i) => key !== typed[i - 1]);
    expect(runs.toSorted()).toEqual([`+${A}`, `+${C}`, `+${T}`].toSorted());
    expect(typed.length).toBe(12);
  });
});

describe('who hangs up', () => {
  test('types no more, and leaves nothing pressed', async () => {
    const hangUp = new AbortController();
    const keys = [{ down: 'shift' }, { waitMs: 10_000 }, 'a'];
    const asked = post('keys', { keys, delayMs: 0 }, hangUp.signal);
    await soon(() => expect(here.keyboard?.held).toEqual([SHIFT]));
    hangUp.abort();
    await expect(asked).rejects.toThrow('aborted');
    await soon(() => expect(here.keyboard?.held).toEqual([]));
    expect(here.seat.clients).toEqual([]);
    await post('text', { text: 't', delayMs: 0 });
    expect(keysTaken()).toEqual([`+${SHIFT}`, `-${SHIFT}`, ...tapped(T)]);
  });

  test('while others are served gives the place to somebody else at once', async () => {
    const calls = new InputCalls({ seat: here.seat, layout: 'us' });
    const stop = new AbortController();
    const first = calls.keys([{ waitMs: 10_000 }], { delayMs: 0 }, stop.signal);
    const others = Array.from({ length: MAX_INPUT_REQUESTS - 1 }, () => new AbortController());
    const gone = others.map(({ signal }) => calls.text('c', { delayMs: 0 }, signal));
    for (const hangUp of others) hangUp.abort(new Error('gone'));
    for (const one of gone) await expect(one).rejects.toThrow('gone');
    const more = others.map(() => calls.text('t', { delayMs: 0 }, new AbortController().signal));
    await expect(calls.text('a', { delayMs: 0 }, stop.signal)).rejects.toMatchObject({ code: 'busy' });
    stop.abort();
    await expect(first).rejects.toThrow('aborted');
    await Promise.all(more);
    expect(keysTaken()).toEqual(others.flatMap(() => tapped(T)));
  });

  test('is not served when the turn comes', async () => {
    const hangUp = new AbortController();
    const first = post('keys', { keys: [{ waitMs: 50 }, 'a'], delayMs: 0 });
    const second = post('text', { text: 'c' }, hangUp.signal);
    second.catch(() => {});
    await soon(() => expect(here.seat.clients.length).toBe(1));
    hangUp.abort();
    await first;
    await post('text', { text: 't', delayMs: 0 });
    expect(keysTaken()).toEqual(tapped(A, T));
  });

  test('and a server that leaves, end what goes on: 503, nothing pressed', async () => {
    const asked = post('keys', { keys: [{ down: 'shift' }, { waitMs: 10_000 }] });
    await soon(() => expect(here.keyboard?.held).toEqual([SHIFT]));
    await here.stopListening();
    const { status, json } = await asked;
    expect([status, json]).toEqual([503, { error: { code: 'closed', message: 'the server is leaving' } }]);
    expect(here.seat.clients).toEqual([]);
  });
});

describe('without anybody who listens', () => {
  const reasons = (answers: { status: number; json: unknown }[]) =>
    answers.map(({ status, json }) => [status, (json as { error: { code: string } }).error.code]);
  const askAll = async (api: ApiHere) =>
    reasons([
      await api.ask('POST', '/v1/input/keys', { keys: ['a'] }),
      await api.ask('POST', '/v1/input/text', { text: 'a' }),
      await api.ask('POST', '/v1/input/pointer', { action: 'move', x: 1, y: 1 }),
      await api.ask('POST', '/v1/input/touch', { action: 'tap', x: 1, y: 1 }),
    ]);

  test('because there are no devices: 409', async () => {
    await using api = await apiHere();
    expect(await askAll(api)).toEqual([
      [409, 'no_keyboard'],
      [409, 'no_keyboard'],
      [409, 'no_tablet'],
      [409, 'no_touch'],
    ]);
  });

  test('because no driver has come: 503', async () => {
    const { keyboard, tablet, touch } = here;
    for (const guest of [keyboard, tablet, touch]) guest?.machine.driver.reset();
    expect(await askAll(here)).toEqual(Array(4).fill([503, 'no_driver']));
  });

  test('because the driver leaves on the way: 503, and the key is up for the next one', async () => {
    const asked = post('keys', { keys: [{ down: 'a' }, { waitMs: 500 }, 'c'] });
    await soon(() => expect(here.keyboard?.held).toEqual([A]));
    here.keyboard?.machine.driver.reset();
    expect(reasons([await asked])).toEqual([[503, 'no_driver']]);
    here.keyboard?.takeAll();
    here.keyboard?.bringUp();
    await post('text', { text: 't', delayMs: 0 });
    expect(keysTaken()).toEqual(tapped(T));
  });
});

describe('a guest that stands still', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());
  const { signal } = new AbortController();
  /** Reports of nothing are none for guests. */
  const isSomething = (line: string, index: number, all: string[]) =>
    line !== SYN || (index > 0 && all[index - 1] !== SYN);
  const keysOf = (lines: readonly string[]) => lines.filter((line) => line.startsWith('1 '));

  test.each([0, 3, 64])(
    'with %i buffers is not typed to, and gets nothing when it goes on',
    async (buffers) => {
      const keyboard = new InputMachine(new KeyboardDevice(SILENT_LOG)).bringUp(buffers);
      const seat = new Seat({ keyboard: keyboard.device, displays: () => [] });
      const calls = new InputCalls({ seat, layout: 'us' });
      const typed = calls.text('aC', { delayMs: 0 }, signal);
      const progress = { done: 0, of: 2 };
      const refused = expect(typed).rejects.toMatchObject({ status: 503, code: 'not_taken', progress });
      await vi.advanceTimersByTimeAsync(10_000);
      await refused;
      keyboard.take();
      keyboard.supply(64);
      expect(keyboard.take()).toEqual([]);
      // A retry types it once.
      const again = calls.text('aC', { delayMs: 0 }, signal);
      const taken: string[] = [];
      const guest = setInterval(() => taken.push(...keyboard.takeAndReturn()), 1);
      await vi.advanceTimersByTimeAsync(1000);
      clearInterval(guest);
      await expect(again).resolves.toBe(undefined);
      expect(keysOf(taken)).toEqual([
        ...[`1 ${A} 1`, `1 ${A} 0`],
        ...[`1 ${SHIFT} 1`, `1 ${C} 1`, `1 ${C} 0`, `1 ${SHIFT} 0`],
      ]);
    },
  );

  test.each([1, 2, 5, 7, 8, 30, 31])(
    'after %i events of a text gets so many characters as the answer says, once it goes on, and they go up',
    async (events) => {
      const keyboard = new InputMachine(new KeyboardDevice(SILENT_LOG)).bringUp(8);
      const seat = new Seat({ keyboard: keyboard.device, displays: () => [] });
      const calls = new InputCalls({ seat, layout: 'us' });
      const text = 'aCaCaCaCaCaC';
      const typed = calls.text(text, { delayMs: 0 }, signal);
      const caught = typed.catch((error: unknown) => error);
      const taken: string[] = [];
      const guest = setInterval(() => {
        if (taken.length <= events) taken.push(...keyboard.takeAndReturn());
      }, 1);
      await vi.advanceTimersByTimeAsync(20_000);
      clearInterval(guest);
      const error = await caught;
      expect(error).toMatchObject({ code: 'not_taken', progress: { of: text.length } });
      const { done } = (error as { progress: { done: number } }).progress;
      expect((error as Error).message).toContain(`it has ${done} of ${text.length}, and gets no more`);
      for (let lines = ['']; lines.length > 0; taken.push(...lines)) lines = keyboard.takeAndReturn();
      const presses = keysOf(taken).filter((line) => line.endsWith(' 1') && line !== `1 ${SHIFT} 1`);
      expect(presses).toEqual([...text.slice(0, done)].map((c) => `1 ${c === 'a' ? A : C} 1`));
      expect(done).toBeLessThan(text.length);
      for (const code of [A, C, SHIFT])
        expect(keysOf(taken).findLast((line) => line.startsWith(`1 ${code} `)) ?? `1 ${code} 0`).toBe(
          `1 ${code} 0`,
        );
    },
  );

  test('is not pointed at or touched later: neither a position, nor a button, nor the wheel, nor a finger', async () => {
    const tablet = new InputMachine(new TabletDevice(SILENT_LOG)).bringUp(64);
    const touch = new InputMachine(new TouchDevice(SILENT_LOG)).bringUp(64);
    const seat = new Seat({
      tablet: tablet.device,
      touch: touch.device,
      displays: () => [{ width: 9, height: 9 }],
    });
    const calls = new InputCalls({ seat, layout: 'us' });
    const size = { width: 9, height: 9 };
    const place = { display: 0, modifiers: [], x: 1, y: 1 } as const;
    const asked = [
      calls.pointer({ ...place, action: 'click', button: 'left', count: 1 }, size, signal),
      calls.pointer({ ...place, action: 'scroll', down: 1, right: 0 }, size, signal),
      calls.touch({ ...place, action: 'tap', count: 1, holdMs: 0 }, size, signal),
    ];
    const refused = asked.map((one) => expect(one).rejects.toMatchObject({ code: 'not_taken' }));
    await vi.advanceTimersByTimeAsync(30_000);
    await Promise.all(refused);
    for (const machine of [tablet, touch])
      expect([...machine.takeAndReturn(), ...machine.takeAndReturn()].filter(isSomething)).toEqual([]);
  });
});

test('a device that takes nothing is waited for by those who use it only', async () => {
  vi.useFakeTimers();
  try {
    const keyboard = new InputMachine(new KeyboardDevice(SILENT_LOG)).bringUp(64);
    const tablet = new InputMachine(new TabletDevice(SILENT_LOG)).bringUp(0);
    const seat = new Seat({
      keyboard: keyboard.device,
      tablet: tablet.device,
      displays: () => [{ width: 9, height: 9 }],
    });
    const calls = new InputCalls({ seat, layout: 'us' });
    const { signal } = new AbortController();
    const move = { action: 'move', display: 0, modifiers: [], x: 1, y: 1 } as const;
    const moved = calls.pointer(move, { width: 9, height: 9 }, signal);
    const refused = expect(moved).rejects.toMatchObject({ code: 'not_taken' });
    const typed = calls.text('a', { delayMs: 0 }, signal);
    const taken: string[] = [];
    const guest = setInterval(() => taken.push(...keyboard.takeAndReturn()), 10);
    await vi.advanceTimersByTimeAsync(12_000);
    clearInterval(guest);
    await refused;
    await expect(typed).resolves.toBe(undefined);
    expect(taken).toEqual([SYN, `1 ${A} 1`, SYN, `1 ${A} 0`, SYN]);
  } finally {
    vi.useRealTimers();
  }
});

describe('the pointer', () => {
  /** Positions in pixels of a display of 640x480, buttons and turns of the wheel. */
  const pointerTaken = () => {
    let x = 0;
    let y = 0;
    return (here.tablet?.takeAll() ?? []).flatMap((line) => {
      const [type, code, value] = line.split(' ').map(Number) as [number, number, number];
      if (type === 1) return [`${value ? '+' : '-'}${code}`];
      if (type === 2) return [`wheel ${code} ${value}`];
      if (type === 3 && code === 0) x = Math.floor((value * 640) / 32768);
      if (type === 3 && code === 1) y = Math.floor((value * 480) / 32768);
      return type === 0 ? [`at ${x},${y}`] : [];
    });
  };

  test('moves to a pixel, also to a part of one', async () => {
    expect((await post('pointer', { action: 'move', x: 639.9, y: 479.5 })).status).toBe(204);
    expect(pointerTaken()).toEqual(['at 639,479']);
  });

  test('clicks where it is told, with the button it is told, as often as it is told, keys held', async () => {
    const click = { action: 'click', x: 100, y: 50, button: 'right', count: 2, modifiers: ['ctrl', 'shift'] };
    expect((await post('pointer', click)).status).toBe(204);
    expect(pointerTaken().filter((line) => !line.startsWith('at'))).toEqual([
      `+${RIGHT}`,
      `-${RIGHT}`,
      `+${RIGHT}`,
      `-${RIGHT}`,
    ]);
    expect(keysTaken()).toEqual([`+${CTRL}`, `+${SHIFT}`, `-${SHIFT}`, `-${CTRL}`]);
  });

  test('drags along a path: pressed at its beginning, through its corners, released at its end', async () => {
    const path = [
      { x: 10, y: 20 },
      { x: 110, y: 20 },
      { x: 110, y: 70 },
    ];
    await post('pointer', { action: 'drag', path, durationMs: 100 });
    const taken = pointerTaken();
    const [down, up] = [taken.indexOf(`+${LEFT}`), taken.indexOf(`-${LEFT}`)];
    expect(taken.slice(0, down)).toEqual(['at 10,20']);
    const onTheWay = taken.slice(down + 2, up);
    expect(onTheWay).toContain('at 110,20');
    expect(onTheWay.at(-1)).toBe('at 110,70');
    expect(onTheWay.length).toBeGreaterThanOrEqual(5);
    for (const place of onTheWay) expect(place).toMatch(/^at (\d+,20|110,\d+)$/);
  });

  test('turns the wheel by notches and parts of them', async () => {
    await post('pointer', { action: 'scroll', x: 5, y: 6, down: 2.5 });
    expect(pointerTaken().filter((line) => line.startsWith('wheel 8'))).toEqual(['wheel 8 -1', 'wheel 8 -1']);
    await post('pointer', { action: 'scroll', x: 5, y: 6, right: -1 });
    expect(pointerTaken().filter((line) => line.startsWith('wheel 6'))).toEqual(['wheel 6 -1']);
  });

  test('goes by what the guest shows, not by the mode', async () => {
    const screen = here.screens[0];
    if (!screen) throw new Error('there is a screen');
    new Painted(screen, 320, 240);
    expect((await post('pointer', { action: 'move', x: 319, y: 239 })).status).toBe(204);
    const { status, json } = await post('pointer', { action: 'move', x: 320, y: 0 });
    expect(status).toBe(400);
    expect(json).toMatchObject({ error: { message: '320,0 is not in the picture of 320x240' } });
  });

  test('on a display that is not there is 404', async () => {
    expect((await post('pointer', { action: 'move', display: 1, x: 0, y: 0 })).status).toBe(404);
  });
});

describe('the touch screen', () => {
  const at = (x: number, y: number) => ({ x, y });
  /** Each report: the fingers that are there, by slot, in pixels of a display of 640x480. */
  const touchTaken = () => {
    const fingers = new Map<number, { x: number; y: number }>();
    let slot = 0;
    let isTouched = false;
    return (here.touch?.takeAll() ?? []).flatMap((line) => {
      const [type, code, value] = line.split(' ').map(Number) as [number, number, number];
      if (type === 1 && code === 0x14a) isTouched = value === 1;
      if (type === 3 && code === 0x2f) slot = value;
      if (type === 3 && code === 0x39 && value >= 0) fingers.set(slot, at(0, 0));
      if (type === 3 && code === 0x39 && value < 0) fingers.delete(slot);
      const finger = fingers.get(slot) ?? at(0, 0);
      if (type === 3 && code === 0x35) finger.x = Math.floor((value * 640) / 32768);
      if (type === 3 && code === 0x36) finger.y = Math.floor((value * 480) / 32768);
      if (type !== 0) return [];
      expect(isTouched).toBe(fingers.size > 0);
      const places = [...fingers].sort(([a], [b]) => a - b).map(([, { x, y }]) => `${x},${y}`);
      return [places.join(' ')];
    });
  };

  test('is tapped where it is told, as often as it is told, and has been when the answer comes', async () => {
    const { status } = await post('touch', { action: 'tap', x: 100.5, y: 50, count: 2, holdMs: 20 });
    expect(status).toBe(204);
    expect(touchTaken()).toEqual(['100,50', '', '100,50', '']);
  });

  test('is tapped with keys held', async () => {
    expect((await post('touch', { action: 'tap', x: 1, y: 2, modifiers: ['ctrl'] })).status).toBe(204);
    expect(keysTaken()).toEqual(tapped(CTRL));
    expect(touchTaken()).toEqual(['1,2', '']);
  });

  test('is swiped along a path, through its corners, and the finger is lifted at its end', async () => {
    const path = [at(10, 20), at(110, 20), at(110, 70)];
    expect((await post('touch', { action: 'swipe', path, durationMs: 100 })).status).toBe(204);
    const taken = touchTaken();
    expect([taken[0], ...taken.slice(-2)]).toEqual(['10,20', '110,70', '']);
    expect(taken).toContain('110,20');
    expect(taken.length).toBeGreaterThan(6);
    for (const place of taken.slice(0, -1)) expect(place).toMatch(/^(\d+,20|110,\d+)$/);
  });

  test('is pinched: fingers come down, move and are lifted together', async () => {
    const contacts = [{ path: [at(300, 200), at(100, 200)] }, { path: [at(340, 200), at(540, 200)] }];
    expect((await post('touch', { action: 'gesture', contacts, durationMs: 100 })).status).toBe(204);
    const taken = touchTaken();
    expect([taken[0], ...taken.slice(-2)]).toEqual(['300,200 340,200', '100,200 540,200', '']);
    expect(taken.length).toBeGreaterThan(6);
    const distances = taken.slice(0, -1).map((places) => {
      const [left = 0, right = 0] = [...places.matchAll(/(\d+),200/g)].map(([, x]) => Number(x));
      expect(Math.abs(left + right - 640)).toBeLessThanOrEqual(1);
      return right - left;
    });
    expect(distances).toEqual(distances.toSorted((a, b) => a - b));
  });

  test('holds ten fingers still, or some that stand while others move', async () => {
    const still = Array.from({ length: MAX_CONTACTS }, (_, i) => ({ path: [at(i * 50, i)] }));
    await post('touch', { action: 'gesture', contacts: still, durationMs: 0 });
    expect(touchTaken()).toEqual([still.map(({ path }) => `${path[0]?.x},${path[0]?.y}`).join(' '), '']);
    const contacts = [{ path: [at(5, 5)] }, { path: [at(9, 9), at(9, 9)] }, { path: [at(0, 0), at(60, 0)] }];
    await post('touch', { action: 'gesture', contacts, durationMs: 0 });
    expect(touchTaken()).toEqual(['5,5 9,9 0,0', '5,5 9,9 60,0', '']);
  });

  test('is left by the fingers of who hangs up', async () => {
    const hangUp = new AbortController();
    const asked = post('touch', { action: 'tap', x: 1, y: 1, holdMs: 10_000 }, hangUp.signal);
    await soon(() => expect(here.touch?.held).toEqual([0x14a]));
    hangUp.abort();
    await expect(asked).rejects.toThrow('aborted');
    await soon(() => expect(here.touch?.held).toEqual([]));
    expect(touchTaken()).toEqual(['1,1', '']);
  });

  test('has the size of what the guest shows, and is on displays that are there', async () => {
    const { status, json } = await post('touch', { action: 'tap', x: 640, y: 0 });
    expect([status, json]).toMatchObject([
      400,
      { error: { message: '640,0 is not in the picture of 640x480' } },
    ]);
    expect((await post('touch', { action: 'tap', display: 1, x: 0, y: 0 })).status).toBe(404);
    expect(touchTaken()).toEqual([]);
  });
});

describe('hostile bodies', () => {
  const xy = { x: 1, y: 1 };
  test.each<[string, string, string | object, number]>([
    ['keys', 'no JSON', '{"keys":', 400],
    ['keys', 'an array', [], 400],
    ['keys', 'nothing', {}, 400],
    ['keys', 'no keys', { keys: [] }, 400],
    ['keys', 'too many keys', { keys: Array(MAX_KEY_STEPS + 1).fill('a') }, 400],
    ['keys', 'numbers', { keys: [30] }, 400],
    ['keys', 'an unknown kind of step', { keys: [{ hold: 'a' }] }, 400],
    ['keys', 'two steps in one', { keys: [{ down: 'a', up: 'a' }] }, 400],
    ['keys', 'an unknown member', { keys: ['a'], repeat: 1000 }, 400],
    ['keys', 'a pause that is too long', { keys: [{ waitMs: 1e9 }] }, 400],
    ['keys', 'a delay before now', { keys: ['a'], delayMs: -1 }, 400],
    ['keys', 'a delay that is too long', { keys: ['a'], delayMs: 1e9 }, 400],
    ['keys', 'a chord that is too long', { keys: [Array(100).fill('a').join('+')] }, 400],
    ['keys', 'names of every object', { keys: ['constructor', '__proto__'] }, 400],
    ['keys', 'a layout that is none', { keys: ['a'], layout: '__proto__' }, 400],
    ['text', 'nothing', { text: '' }, 400],
    ['text', 'a number', { text: 5 }, 400],
    ['text', 'a text that is too long', { text: 'a'.repeat(MAX_TEXT_LENGTH + 1) }, 400],
    ['text', 'a megabyte of text', { text: 'a'.repeat(2 ** 20) }, 413],
    ['text', 'a body that is too large', `{"text":"a"}${' '.repeat(MAX_BODY_BYTES)}`, 413],
    ['text', 'half a character', { text: '\ud800' }, 400],
    ['text', 'a control character', { text: '\u0007' }, 400],
    ['pointer', 'no action', xy, 400],
    ['pointer', 'an unknown action', { action: 'jump', ...xy }, 400],
    ['pointer', 'no place', { action: 'move' }, 400],
    ['pointer', 'a place outside', { action: 'move', x: -1, y: 0 }, 400],
    ['pointer', 'a place that is no number', '{"action":"move","x":1e999,"y":0}', 400],
    ['pointer', 'a button that is none', { action: 'click', ...xy, button: 'top' }, 400],
    ['pointer', 'too many clicks', { action: 'click', ...xy, count: 1000 }, 400],
    ['pointer', 'a path of one point', { action: 'drag', path: [xy] }, 400],
    ['pointer', 'a path that is too long', { action: 'drag', path: Array(1000).fill(xy) }, 400],
    ['pointer', 'a path that leaves', { action: 'drag', path: [xy, { x: 1e9, y: 1 }] }, 400],
    ['pointer', 'a drag that is too long', { action: 'drag', path: [xy, xy], durationMs: 1e9 }, 400],
    ['pointer', 'too many notches', { action: 'scroll', ...xy, down: 1e9 }, 400],
    ['pointer', 'a display that is none', { action: 'move', ...xy, display: -1 }, 400],
    ['touch', 'no action', xy, 400],
    ['touch', 'a place outside', { action: 'tap', x: -1, y: 0 }, 400],
    ['touch', 'too many taps', { action: 'tap', ...xy, count: 1000 }, 400],
    ['touch', 'a tap that is too long', { action: 'tap', ...xy, holdMs: 1e9 }, 400],
    ['touch', 'a swipe to nowhere', { action: 'swipe', path: [xy] }, 400],
    ['touch', 'a path that leaves', { action: 'swipe', path: [xy, { x: 1e9, y: 1 }] }, 400],
    ['touch', 'no fingers', { action: 'gesture', contacts: [] }, 400],
    ['touch', 'a finger without a place', { action: 'gesture', contacts: [{ path: [] }] }, 400],
    ['touch', 'too many fingers', { action: 'gesture', contacts: Array(11).fill({ path: [xy] }) }, 400],
    ['touch', 'a path that is too long', { action: 'swipe', path: Array(1000).fill(xy) }, 400],
    ['pointer', 'a modifier that is none', { action: 'move', ...xy, modifiers: ['hyper'] }, 400],
  ])('for %s with %s are refused, and the guest gets nothing', async (what, _, body, expected) => {
    const { status, json } = await post(what, body);
    expect(status).toBe(expected);
    expect(json).toMatchObject({ error: { code: expect.any(String), message: expect.stringMatching(/\S/) } });
    const guests = [here.keyboard, here.tablet, here.touch];
    expect(guests.map((guest) => guest?.takeAll())).toEqual([[], [], []]);
  });

  test('that come in pieces without end are cut off', async () => {
    const body = 'a'.repeat(MAX_BODY_BYTES + 1);
    const { status } = await here.ask('POST', '/v1/input/text', body, {
      headers: { 'Transfer-Encoding': 'chunked' },
    });
    expect(status).toBe(413);
  });

  test('and requests beyond a number that wait for their turn are refused', async () => {
    const hangUp = new AbortController();
    const first = post('keys', { keys: [{ waitMs: 10_000 }] }, hangUp.signal);
    first.catch(() => {});
    await soon(() => expect(here.seat.clients.length).toBe(1));
    const statuses: number[] = [];
    const more = Array.from({ length: MAX_INPUT_REQUESTS + 3 }, async () => {
      statuses.push((await post('keys', { keys: ['a'], delayMs: 0 })).status);
    });
    await soon(() => expect(statuses).toEqual(Array(4).fill(503)));
    hangUp.abort();
    await Promise.all(more);
    expect(statuses).toEqual([...Array(4).fill(503), ...Array(MAX_INPUT_REQUESTS - 1).fill(204)]);
    expect(keysTaken()).toEqual(
      Array(MAX_INPUT_REQUESTS - 1)
        .fill(tapped(A))
        .flat(),
    );
  });
});
