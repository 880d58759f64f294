/** RFB as viewers see it: a fake one that checks every byte, over a socket pair. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { InputEvent, InputNews, VncOptions } from '../../../../server/displays/viewing/messages.ts';
import { type InputSink, Viewing } from '../../../../server/displays/viewing/viewing.ts';
import { SERVER_PIXEL_FORMAT } from '../../../../server/displays/vnc/pixel-format.ts';
import { SILENT_LOG } from '../../../../server/log.ts';
import { FakeViewer } from '../../../support/fake-viewer.ts';
import { makeScreen, Painted, texture } from '../../../support/screens.ts';
import { soon } from '../../../support/soon.ts';
import { viewingHere } from '../../../support/viewing.ts';

const RAW = 0;
const COPY_RECT = 1;
const TIGHT = 7;
const ZRLE = 16;
const DESKTOP_SIZE = -223;
const LAST_RECT = -224;
const CURSOR = -239;
const EXTENDED_KEY = -258;
const POINTER_MOTION = -257;
const LED_STATE = -261;
const EXTENDED_DESKTOP_SIZE = -308;
const FENCE = -312;
const CONTINUOUS_UPDATES = -313;
const PASSWORDS = { control: 'secret78', view: 'look' };
const ALPHA_CURSOR = -314;
const EXTENDED_MOUSE_BUTTONS = -316;

let folder: string;
let viewing: Viewing;
let screen: ReturnType<typeof makeScreen>;
let events: InputEvent[];
let clients: string[];
let news: InputNews;
let tellNews: () => void;
const viewers: FakeViewer[] = [];

const input: InputSink = {
  get news() {
    return news;
  },
  onNews(listener) {
    tellNews = listener;
    return () => {};
  },
  open(name) {
    clients.push(name);
    return {
      take: async (taken) => void events.push(...taken),
      close: () => clients.splice(clients.indexOf(name), 1),
    };
  },
};

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vnc-'));
  screen = makeScreen(160, 120);
  events = [];
  clients = [];
  news = { hasKeyboard: true, hasPointer: true, keyboardLayout: 'us', leds: undefined };
  viewing = new Viewing({ screens: [screen], log: SILENT_LOG, input, start: () => viewingHere(1) });
});
afterEach(async () => {
  for (const viewer of viewers.splice(0)) viewer.close();
  await viewing.close();
  screen.close();
  rmSync(folder, { recursive: true });
});

let sockets = 0;
async function listen(options: Partial<VncOptions> = {}): Promise<string> {
  const address = { path: join(folder, `vnc${sockets++}.sock`) };
  const usual = { display: 0, viewOnly: false, passwords: undefined, tls: undefined };
  await viewing.listen({ kind: 'vnc', address, ...usual, ...options });
  return address.path;
}

function stranger(path: string): FakeViewer {
  const viewer = new FakeViewer(createConnection(path));
  viewers.push(viewer);
  return viewer;
}

async function connect(...encodings: readonly number[]): Promise<FakeViewer> {
  const viewer = await stranger(await listen()).connect();
  if (encodings.length > 0) viewer.setEncodings(...encodings);
  return viewer;
}

const until = (isRight: () => boolean) => soon(() => expect(isRight()).toBe(true));

describe('a viewer', () => {
  test.each(['003.003', '003.005', '003.007', '003.008', '003.889'])(
    'of version %s gets in',
    async (version) => {
      const viewer = await stranger(await listen()).connect({
        version: version === '003.005' ? '003.003' : version,
      });
      expect([viewer.width, viewer.height, viewer.name]).toEqual([160, 120, 'vfio-user-gpu display 0']);
    },
  );

  test.each([
    ['comes where people only watch', { viewOnly: true }, undefined, 0],
    [
      'knows a password, and comes where people only watch',
      { viewOnly: true, passwords: PASSWORDS },
      'secret78',
      0,
    ],
    ['knows the password of those who only watch', { passwords: PASSWORDS }, 'look', 0],
    ['knows the other one', { passwords: PASSWORDS }, 'secret78', 1],
  ])('that %s sees the guest, and does what it may', async (_, options, password, inputs) => {
    const painted = new Painted(screen, 160, 120);
    painted.draw(painted.whole, texture);
    const viewer = await stranger(await listen(options)).connect(password === undefined ? {} : { password });
    viewer.setEncodings(RAW, EXTENDED_DESKTOP_SIZE);
    viewer.request(false);
    await viewer.updatesUntil(() => viewer.picture.equals(painted.rgba));
    expect(clients).toHaveLength(inputs);
    viewer.key(0x61, true);
    viewer.key(0x61, false);
    viewer.pointer(3, 4, 1);
    viewer.setDesktopSize(320, 240);
    viewer.request();
    const asked = () =>
      viewer.pseudo.find(([encoding, by]) => encoding === EXTENDED_DESKTOP_SIZE && by === 1);
    await viewer.messagesUntil(() => asked() !== undefined);
    // 1: prohibited; 4: passed on to the guest.
    expect(asked()?.[2]).toBe(inputs === 0 ? 1 : 4);
    await until(() => events.length === 3 * inputs);
    await until(() => screen.mode.width === (inputs === 0 ? 160 : 320));
  });

  test('with the right password gets in, with another one only hears that it is wrong', async () => {
    const path = await listen({ passwords: PASSWORDS });
    await stranger(path).connect({ password: 'secret78' });
    await expect(stranger(path).connect({ password: 'wrong' })).rejects.toThrow('refused: wrong password');
  });

  test('reaches a server with a certificate through VeNCrypt only, with the password and without one', async () => {
    const tls = { certificate: join(folder, 'certificate.pem'), key: join(folder, 'key.pem') };
    const subject = ['-subj', '/CN=screen.example', '-nodes', '-days', '2'];
    const files = ['-keyout', tls.key, '-out', tls.certificate];
    execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', ...subject, ...files], {
      stdio: 'ignore',
    });
    const painted = new Painted(screen, 160, 120);
    painted.draw(painted.whole, texture);
    const open = await stranger(await listen({ tls })).connect();
    expect(open.certificate).toBe('screen.example');
    open.setEncodings(TIGHT);
    open.request(false);
    await open.update();
    expect(open.picture.equals(painted.rgba)).toBe(true);

    const path = await listen({ passwords: PASSWORDS, tls });
    expect((await stranger(path).connect({ password: 'secret78' })).certificate).toBe('screen.example');
    await expect(stranger(path).connect({ password: 'secret' })).rejects.toThrow('refused: wrong password');
    await expect(stranger(path).connect({ version: '003.003' })).rejects.toThrow('hung up');
  });

  test('that guesses passwords at many connections at once gets one answer a second', async () => {
    const path = await listen({ passwords: PASSWORDS });
    const start = performance.now();
    await Promise.allSettled(['a', 'b', 'c'].map((password) => stranger(path).connect({ password })));
    // Not how fast, but how slow: two of the three have waited for another one.
    expect(performance.now() - start).toBeGreaterThan(1900);
  });

  test.each([
    ['raw', RAW],
    ['zrle', ZRLE],
    ['tight', TIGHT],
  ])('that prefers %s has exactly the picture of the guest, and follows it', async (_, encoding) => {
    const painted = new Painted(screen, 150, 110);
    painted.draw(painted.whole, texture);
    const viewer = await connect(encoding, RAW);
    expect([viewer.width, viewer.height]).toEqual([150, 110]);
    viewer.request(false);
    const rects = await viewer.update();
    expect(new Set(rects.map((rect) => rect.encoding))).toEqual(new Set([encoding]));
    expect(viewer.picture.equals(painted.rgba)).toBe(true);
    for (let i = 0; i < 20; i++) {
      const rect = { x: (i * 37) % 140, y: (i * 23) % 100, width: 9, height: 9 };
      painted.draw(rect, [i, 255 - i, 128]).flush(rect);
      viewer.request();
      await viewer.update();
      expect(viewer.picture.equals(painted.rgba)).toBe(true);
    }
  });

  test('gets only what has changed, and nothing before something has', async () => {
    const painted = new Painted(screen, 160, 120);
    const viewer = await connect(RAW);
    viewer.request(false);
    await viewer.update();
    viewer.request();
    painted.flush();
    const update = viewer.update();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(viewer.receivedBytes).toBe(12 + 2 + 4 + 24 + viewer.name.length + 16 + 160 * 120 * 4);
    painted.draw({ x: 20, y: 20, width: 4, height: 4 }, [1, 2, 3]).flush();
    expect(await update).toMatchObject([{ x: 16, y: 16, width: 16, height: 16 }]);
  });

  test('that asks for a part gets that part, by whole tiles', async () => {
    new Painted(screen, 160, 120);
    const viewer = await connect(RAW);
    viewer.request(false, { x: 40, y: 40, width: 10, height: 10 });
    expect(await viewer.update()).toMatchObject([{ x: 32, y: 32, width: 32, height: 32 }]);
  });

  test('that knows no sizes keeps the one it has, and sees what fits', async () => {
    new Painted(screen, 160, 120);
    const viewer = await connect(RAW);
    const larger = new Painted(screen, 200, 150).draw({ x: 0, y: 0, width: 200, height: 150 }, texture);
    larger.flush();
    viewer.request(false);
    await viewer.updatesUntil(() => viewer.pixel(159, 119).join() === texture(159, 119).join());
    expect([viewer.width, viewer.height]).toEqual([160, 120]);
  });

  test.each([DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE])(
    'that knows %d hears of another size',
    async (encoding) => {
      const viewer = await connect(TIGHT, encoding);
      const painted = new Painted(screen, 333, 77);
      painted.draw(painted.whole, texture).flush();
      await viewer.updatesUntil(() => viewer.width === 333);
      await viewer.updatesUntil(() => viewer.picture.equals(painted.rgba));
      new Painted(screen, 100, 50);
      await viewer.updatesUntil(() => viewer.width === 100 && viewer.height === 50);
    },
  );

  test('can ask for a size, is told that it was passed on, and hears when the guest has it', async () => {
    const viewer = await connect(RAW, EXTENDED_DESKTOP_SIZE);
    viewer.request(false);
    await viewer.update();
    viewer.setDesktopSize(320, 240);
    await viewer.updatesUntil(() => viewer.pseudo.at(-1)?.[1] === 1);
    expect(viewer.pseudo.at(-1)).toEqual([EXTENDED_DESKTOP_SIZE, 1, 4, 160, 120]);
    await until(() => screen.mode.width === 320);
    viewer.setDesktopSize(5, 5);
    await viewer.updatesUntil(() => viewer.pseudo.some(([, x, y]) => x === 1 && y === 3));
    expect(screen.mode).toMatchObject({ width: 320, height: 240 });
  });

  test('that draws the cursor gets its image, also with alpha, and a hidden one as empty', async () => {
    new Painted(screen, 160, 120);
    const image = new Painted(makeScreen(32, 32), 16, 16).draw(
      { x: 0, y: 0, width: 16, height: 16 },
      [10, 20, 30],
    );
    for (let at = 3; at < image.bytes.length; at += 4) image.bytes[at] = 128;
    screen.setCursorImage({ ...image.picture, order: { b: 0, g: 1, r: 2, a: 3 }, hotX: 3, hotY: 5 });
    screen.showCursor(true);
    const both = await connect(RAW, CURSOR, ALPHA_CURSOR);
    both.request();
    await both.update();
    expect(both.cursor).toMatchObject({ width: 16, height: 16, hotX: 3, hotY: 5 });
    expect([...(both.cursor?.rgba.subarray(0, 4) ?? [])]).toEqual([10, 20, 30, 128]);
    const plain = await connect(RAW, CURSOR);
    plain.request();
    await plain.update();
    expect([...(plain.cursor?.rgba.subarray(0, 4) ?? [])]).toEqual([20, 40, 60, 255]);
    screen.showCursor(false);
    await plain.updatesUntil(() => plain.cursor?.width === 0);
  });

  test('that does not draw the cursor has it in the picture, where it was no more', async () => {
    const painted = new Painted(screen, 160, 120);
    const image = new Painted(makeScreen(32, 32), 8, 8).draw(
      { x: 0, y: 0, width: 8, height: 8 },
      [200, 0, 0],
    );
    for (let at = 3; at < image.bytes.length; at += 4) image.bytes[at] = 255;
    screen.setCursorImage({ ...image.picture, order: { b: 0, g: 1, r: 2, a: 3 }, hotX: 0, hotY: 0 });
    screen.moveCursor(40, 40);
    screen.showCursor(true);
    const viewer = await connect(RAW);
    viewer.request(false);
    await viewer.update();
    expect(viewer.pixel(44, 44)).toEqual([200, 0, 0]);
    screen.moveCursor(100, 60);
    await viewer.updatesUntil(() => viewer.pixel(104, 64)[0] === 200);
    expect(viewer.pixel(44, 44)).toEqual([0, 0, 0]);
    screen.showCursor(false);
    await viewer.updatesUntil(() => viewer.pixel(104, 64)[0] === 0);
    expect(viewer.picture.equals(painted.rgba)).toBe(true);
  });

  test('hears of LEDs, and what it can use is acknowledged once', async () => {
    news = { ...news, leds: { numLock: true, capsLock: false, scrollLock: false } };
    const viewer = await connect(RAW, LED_STATE, EXTENDED_KEY, POINTER_MOTION, EXTENDED_MOUSE_BUTTONS);
    viewer.request();
    await viewer.update();
    expect(viewer.leds).toBe(2);
    expect(viewer.pseudo).toEqual([
      [EXTENDED_KEY, 0, 0, 0, 0],
      [POINTER_MOTION, 1, 0, 0, 0],
      [EXTENDED_MOUSE_BUTTONS, 0, 0, 0, 0],
      [LED_STATE, 0, 0, 0, 0],
    ]);
    news = { ...news, leds: { numLock: false, capsLock: true, scrollLock: true } };
    tellNews();
    viewer.request();
    await viewer.updatesUntil(() => viewer.leds === 5);
  });

  test('that wants all updates gets them without asking, as long as it confirms them', async () => {
    const painted = new Painted(screen, 160, 120);
    const viewer = await connect(RAW, FENCE, CONTINUOUS_UPDATES);
    viewer.enableContinuousUpdates();
    for (let i = 0; i < 10; i++) {
      painted.draw({ x: 16 * i, y: 0, width: 16, height: 16 }, [i + 1, 0, 0]).flush();
      while (viewer.pixel(16 * i, 0)[0] !== i + 1) await viewer.update();
    }
    expect(viewer.endsOfContinuousUpdates).toBe(1);
    viewer.confirmsFences = false;
    let updates = 0;
    const reading = (async () => {
      for (;;) {
        await viewer.update();
        updates++;
      }
    })().catch(() => {});
    for (let i = 0; i < 20; i++) {
      painted.draw({ x: 0, y: 16 * (i % 7), width: 16, height: 16 }, [0, i + 1, 0]).flush();
      await new Promise((resolve) => setTimeout(resolve, 15));
    }
    expect([updates > 0, updates <= 4]).toEqual([true, true]);
    viewer.close();
    await reading;
  });

  test.each([RAW, ZRLE, TIGHT])(
    'that knows LastRect gets large updates in pieces, with encoding %d',
    async (encoding) => {
      const painted = new Painted(screen, 1000, 700);
      painted.draw(painted.whole, texture);
      const viewer = await connect(encoding, LAST_RECT, COPY_RECT, CURSOR);
      viewer.request(false);
      const rects = await viewer.update();
      expect(rects.length).toBeGreaterThan(4);
      expect(viewer.picture.equals(painted.rgba)).toBe(true);
      // What changes and moves while pieces go out is right in the end.
      for (let round = 1; round < 12; round++) {
        painted.draw({ x: 0, y: 0, width: 1000, height: 300 }, [round, 0, 0]).flush();
        viewer.request();
        const update = viewer.update();
        for (let step = 0; step < 4; step++) {
          await new Promise((resolve) => setImmediate(resolve));
          painted.scroll({ x: 0, y: 0, width: 1000, height: 700 }, -13, [0, round, step]).flush();
        }
        await update;
        await viewer.updatesUntil(() => viewer.picture.equals(painted.rgba));
      }
    },
  );

  test('that says this and that while pieces of an update come gets whole messages, each in its order', async () => {
    const painted = new Painted(screen, 1200, 800);
    painted.draw(painted.whole, texture);
    const viewer = await connect(ZRLE, LAST_RECT, FENCE, CONTINUOUS_UPDATES);
    await viewer.messagesUntil(() => viewer.endsOfContinuousUpdates === 1);
    for (let round = 0; round < 6; round++) {
      viewer.enableContinuousUpdates();
      viewer.request(false);
      for (let i = 0; i < 5; i++) viewer.fence(0x8000_0001, [round, i]);
      viewer.enableContinuousUpdates(false);
      await viewer.messagesUntil(() => viewer.endsOfContinuousUpdates === round + 2);
      // From here on nothing comes that was not asked for, so that the format can be another one.
      const format = round % 2 ? SERVER_PIXEL_FORMAT : { ...SERVER_PIXEL_FORMAT, bigEndian: true };
      viewer.setPixelFormat(format);
      viewer.request(false);
      await viewer.updatesUntil(() => viewer.picture.equals(painted.rgba));
    }
    expect(viewer.fences.filter(({ payload }) => payload.length === 2).length).toBe(30);
  });

  test('that hears of another size while pieces come has the whole of it in the end', async () => {
    const painted = new Painted(screen, 1000, 700);
    painted.draw(painted.whole, texture);
    const viewer = await connect(TIGHT, LAST_RECT, EXTENDED_DESKTOP_SIZE);
    let shown = painted;
    for (let round = 0; round < 8; round++) {
      viewer.request(false);
      const update = viewer.update();
      await new Promise((resolve) => setTimeout(resolve, round));
      shown = new Painted(screen, 900 + 37 * round, 650 + 21 * round);
      shown.draw(shown.whole, texture).flush();
      await update;
      // Only for what is new: no viewer asks for all of it again.
      await viewer.updatesUntil(() => viewer.picture.equals(shown.rgba));
    }
  });

  test('that has asked for a part gets the rest when it asks for what is new', async () => {
    const painted = new Painted(screen, 160, 120);
    painted.draw(painted.whole, texture);
    const viewer = await connect(RAW, COPY_RECT, CURSOR);
    viewer.request(false, { x: 0, y: 0, width: 16, height: 16 });
    await viewer.update();
    viewer.request();
    await viewer.updatesUntil(() => viewer.picture.equals(painted.rgba));
  });

  test('that asks again while an update comes gets another one', async () => {
    const painted = new Painted(screen, 800, 600);
    painted.draw(painted.whole, texture);
    const viewer = await connect(TIGHT);
    for (let round = 0; round < 5; round++) {
      viewer.request(false);
      viewer.request();
      const first = viewer.update();
      await new Promise((resolve) => setTimeout(resolve, 2));
      viewer.request();
      await first;
      painted.draw({ x: round, y: 0, width: 1, height: 1 }, [round, 1, 1]).flush();
      await viewer.update();
    }
  });

  test('that can copy is told what was scrolled, and gets the rest as pixels', async () => {
    const painted = new Painted(screen, 160, 120);
    painted.draw(painted.whole, texture);
    const viewer = await connect(TIGHT, COPY_RECT, CURSOR);
    viewer.request(false);
    await viewer.update();
    for (const down of [-16, 7, -40, 33]) {
      painted.scroll({ x: 20, y: 10, width: 120, height: 100 }, down, [down & 255, 0, 0]).flush();
      viewer.request();
      const rects = await viewer.update();
      expect(rects[0]?.encoding).toBe(COPY_RECT);
      expect(viewer.picture.equals(painted.rgba)).toBe(true);
    }
  });

  test('that is late has the right picture, whatever was scrolled meanwhile', async () => {
    const painted = new Painted(screen, 160, 120);
    painted.draw(painted.whole, texture);
    const viewer = await connect(ZRLE, COPY_RECT, CURSOR);
    viewer.request(false);
    await viewer.update();
    const other = await stranger(await listen()).connect();
    other.setEncodings(RAW, COPY_RECT, CURSOR);
    for (let round = 0; round < 30; round++) {
      for (let step = 0; step < 1 + (round % 3); step++) {
        painted.scroll({ x: 0, y: 0, width: 160, height: 120 }, (round % 5) - 9, [round, step, 0]);
        if (round % 4 === 0) painted.draw({ x: 5 * round, y: 3 * round, width: 9, height: 9 }, [0, round, 0]);
        painted.flush();
        other.request();
        await other.update();
      }
      viewer.request();
      await viewer.update();
      await viewer.updatesUntil(() => viewer.picture.equals(painted.rgba));
    }
    await other.updatesUntil(() => other.picture.equals(painted.rgba));
  });

  test('gets its fences back, and no more of the flags than are understood', async () => {
    const viewer = await connect(RAW, FENCE);
    viewer.fence(0x8000_00ff, [1, 2, 3]);
    viewer.request(false);
    await viewer.update();
    expect(viewer.fences.at(-1)).toEqual({ flags: 3, payload: Buffer.from([1, 2, 3]) });
  });

  test.each([
    [
      '16 bits',
      { bitsPerPixel: 16, depth: 16, redMax: 31, greenMax: 63, blueMax: 31, redShift: 11, greenShift: 5 },
    ],
    ['big-endian', { bigEndian: true }],
  ] as const)('with pixels of %s sees the same', async (_, change) => {
    const painted = new Painted(screen, 160, 120).draw(
      { x: 0, y: 0, width: 160, height: 120 },
      [255, 0, 255],
    );
    const viewer = await connect(ZRLE);
    viewer.setPixelFormat({ ...SERVER_PIXEL_FORMAT, ...change });
    viewer.request(false);
    await viewer.update();
    expect(viewer.picture.equals(painted.rgba)).toBe(true);
  });
});

describe('input', () => {
  test('reaches the sink as it was made: moves, buttons, the wheel', async () => {
    new Painted(screen, 160, 120);
    const viewer = await connect(RAW);
    viewer.pointer(10, 20);
    viewer.pointer(10, 20, 1);
    viewer.pointer(500, 20, 1 | 4);
    viewer.pointer(10, 20, 8);
    viewer.pointer(10, 20, 8);
    viewer.pointer(10, 20, 16);
    viewer.pointer(10, 20, 64);
    await until(() => events.length === 7);
    const none = { type: 'pointer', display: 0, x: 10, y: 20, buttons: 0, wheelX: 0, wheelY: 0 };
    expect(events).toEqual([
      none,
      { ...none, buttons: 1 },
      { ...none, x: 500, buttons: 5 },
      { ...none, wheelY: 120 },
      none,
      { ...none, wheelY: -120 },
      { ...none, wheelX: 120 },
    ]);
  });

  const typed = () =>
    events.flatMap((event) => (event.type === 'key' ? [`${event.down ? '+' : '-'}${event.code}`] : []));
  const [A, A_KEY, SHIFT, LEFTSHIFT, RIGHTALT] = [0x41, 30, 0xffe1, 42, 100];

  test('of a viewer that says which key it was is that key, whatever it types', async () => {
    const viewer = await connect(RAW, EXTENDED_KEY);
    viewer.extendedKey(0x71, 0x1e, true);
    viewer.extendedKey(0x71, 0x1e, false);
    viewer.extendedKey(0xff51, 0xcb, true);
    viewer.extendedKey(0xff51, 0xcb, false);
    await until(() => events.length === 4);
    expect(typed()).toEqual(['+30', '-30', '+105', '-105']);
  });

  test('of a viewer that says what was typed has Shift and AltGr as the layout needs, and as long as that', async () => {
    news = { ...news, keyboardLayout: 'de' };
    const viewer = await connect(RAW);
    viewer.key(A, true);
    viewer.key(A, false);
    viewer.key(0x40, true);
    viewer.key(0x40, false);
    await until(() => events.length === 8);
    expect(typed()).toEqual([
      `+${LEFTSHIFT}`,
      `+${A_KEY}`,
      `-${LEFTSHIFT}`,
      `-${A_KEY}`,
      `+${RIGHTALT}`,
      '+16',
      `-${RIGHTALT}`,
      '-16',
    ]);
  });

  test('knows a key again that was pressed as what it types, and released as which key it is', async () => {
    const viewer = await connect(RAW, EXTENDED_KEY);
    viewer.key(0x61, true);
    viewer.extendedKey(0x61, 0x1e, false);
    viewer.extendedKey(0x41, 0x1e, true);
    viewer.extendedKey(0x41, 0x1e, true);
    viewer.key(0x41, false);
    await until(() => events.length === 4);
    expect(typed()).toEqual(['+30', '-30', '+30', '-30']);
  });

  test('leaves Shift alone that is held already, and takes it away for what is typed without', async () => {
    const viewer = await connect(RAW);
    viewer.key(SHIFT, true);
    viewer.key(A, true);
    viewer.key(A, false);
    viewer.key(0x61, true);
    viewer.key(0x61, false);
    viewer.key(SHIFT, false);
    await until(() => events.length === 8);
    expect(typed()).toEqual(['+42', '+30', '-30', '-42', '+30', '+42', '-30', '-42']);
  });

  test('with Caps Lock in the guest types letters as they should be', async () => {
    news = { ...news, leds: { numLock: false, capsLock: true, scrollLock: false } };
    const viewer = await connect(RAW);
    viewer.key(A, true);
    viewer.key(A, false);
    await until(() => events.length === 2);
    expect(typed()).toEqual(['+30', '-30']);
  });

  test('has no more keys at once than hands can hold, and none that there is not', async () => {
    const viewer = await connect(RAW, EXTENDED_KEY);
    viewer.extendedKey(0, 0xff, true);
    viewer.key(0x1234_5678, true);
    for (let scancode = 1; scancode < 0x59; scancode++) viewer.extendedKey(0, scancode, true);
    viewer.pointer(1, 1);
    await until(() => events.at(-1)?.type === 'pointer');
    const presses = events.filter((event) => event.type === 'key' && event.down);
    expect(presses.length).toBe(64);
  });

  test('of a viewer that types and leaves at once is all of it', async () => {
    const viewer = await connect(RAW, EXTENDED_KEY);
    for (const scancode of [30, 31, 32, 33]) {
      viewer.extendedKey(0, scancode, true);
      viewer.extendedKey(0, scancode, false);
    }
    viewer.stream.end();
    await until(() => clients.length === 0 && events.length > 0);
    expect(typed()).toEqual(['+30', '-30', '+31', '-31', '+32', '-32', '+33', '-33']);
  });

  test('of a viewer that leaves is closed', async () => {
    const viewer = await connect(RAW);
    await until(() => clients.length === 1);
    viewer.close();
    await until(() => clients.length === 0);
  });
});

describe('what no viewer says', () => {
  test.each([
    ['another protocol', async (viewer: FakeViewer) => viewer.write(Buffer.from('GET / HTTP/1'))],
    [
      'an unknown way to log in',
      async (viewer: FakeViewer) => {
        viewer.write(Buffer.from('RFB 003.008\n'), [77]);
      },
    ],
    [
      'an unknown message',
      async (viewer: FakeViewer) => {
        await viewer.connect();
        viewer.write([77]);
      },
    ],
    [
      'a pixel format that cannot be',
      async (viewer: FakeViewer) => {
        await viewer.connect();
        viewer.write([0, 0, 0, 0], new Uint8Array(16));
      },
    ],
    [
      'a fence that is too long',
      async (viewer: FakeViewer) => {
        await viewer.connect();
        viewer.write([248, 0, 0, 0, 0, 0, 0, 0, 65]);
      },
    ],
  ])('%s ends the session, and no other', async (_, misbehave) => {
    const path = await listen();
    const good = await stranger(path).connect();
    const bad = stranger(path);
    await misbehave(bad);
    const hungUp = (async () => {
      for (;;) await bad.read(1);
    })();
    await expect(hungUp).rejects.toThrow('hung up');
    good.request(false);
    await good.update();
  });
});

describe('a viewer that never reads', () => {
  test('costs one update, and others go on', async () => {
    const painted = new Painted(screen, 1000, 1000);
    const path = await listen();
    const still = await stranger(path).connect();
    still.stream.pause();
    still.setEncodings(RAW);
    const good = await stranger(path).connect();
    for (let i = 0; i < 20; i++) {
      painted.draw(painted.whole, [i + 1, i, i]).flush();
      still.request(false);
      good.request();
      await good.update();
    }
    const { vnc } = (await viewing.counters()) as { vnc: { sentBytes: number } };
    expect(vnc.sentBytes).toBeLessThan(good.receivedBytes + 3 * 4_000_100);
  });
});
