/** Screens, the viewing thread and what programs see of it, together. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { createMemfd, Mapping, registrySize } from '../../../../native/index.ts';
import { Canvas } from '../../../../server/displays/viewing/canvas.ts';
import { FrameLock } from '../../../../server/displays/viewing/frame-lock.ts';
import type { CaptureOptions, Change, ToViewing } from '../../../../server/displays/viewing/messages.ts';
import { SharedDamage, type TileSet } from '../../../../server/displays/viewing/tiles.ts';
import { Viewing } from '../../../../server/displays/viewing/viewing.ts';
import { SILENT_LOG } from '../../../../server/log.ts';
import { decodePng } from '../../../../tools/testbed/pictures.ts';
import { openFds } from '../../../support/fake-client.ts';
import { FakeViewer } from '../../../support/fake-viewer.ts';
import { makeScreen, Painted, texture } from '../../../support/screens.ts';
import { soon } from '../../../support/soon.ts';
import { viewingHere } from '../../../support/viewing.ts';

const WHOLE_PNG: CaptureOptions = {
  format: 'png',
  quality: 80,
  cursor: false,
  region: undefined,
  scale: 1,
  unlessTags: [],
};
let viewing: Viewing | undefined;
afterEach(async () => {
  await viewing?.close();
  viewing = undefined;
  for (const screen of screens.splice(0)) screen.close();
});

const screens: ReturnType<typeof makeScreen>[] = [];

function view(...shown: ReturnType<typeof makeScreen>[]): Viewing {
  screens.push(...shown);
  viewing = new Viewing({ screens: shown, log: SILENT_LOG, start: () => viewingHere(shown.length) });
  return viewing;
}

async function pixels(viewing: Viewing, options: Partial<CaptureOptions> = {}, display = 0) {
  const { image } = await viewing.capture(display, { ...WHOLE_PNG, ...options });
  return decodePng(Buffer.from(image as Uint8Array));
}
const rgbOf = (rgba: Buffer) => rgba.filter((_, i) => i % 4 !== 3);
/** Resolves when all that was flushed has been looked at, and who follows has been told: a call has to have it. */
const told = (viewing: Viewing) =>
  viewing.hash(0, { cursor: false, region: { x: 0, y: 0, width: 1, height: 1 } });

describe('a capture', () => {
  test('of nothing is black and as large as the mode, also after the mode has changed', async () => {
    const screen = makeScreen(64, 48);
    const viewing = view(screen);
    const before = await pixels(viewing);
    expect([before.width, before.height, before.rgb.every((value) => value === 0)]).toEqual([64, 48, true]);
    screen.setMode({ width: 80, height: 50, refreshHz: 60 });
    const after = await pixels(viewing);
    expect([after.width, after.height]).toEqual([80, 50]);
  });

  test('is exactly what the guest shows, and follows what it flushes', async () => {
    const screen = makeScreen(640, 480);
    const painted = new Painted(screen, 100, 70).draw({ x: 0, y: 0, width: 100, height: 70 }, texture);
    const viewing = view(screen);
    expect((await pixels(viewing)).rgb).toEqual(rgbOf(painted.rgba));
    painted
      .draw({ x: 33, y: 20, width: 5, height: 9 }, [1, 2, 3])
      .flush({ x: 33, y: 20, width: 5, height: 9 });
    expect((await pixels(viewing)).rgb).toEqual(rgbOf(painted.rgba));
  });

  test('has nothing in it that was drawn and not flushed while somebody looks', async () => {
    const painted = new Painted(makeScreen(64, 64), 64, 64);
    const viewing = view(painted.screen);
    await pixels(viewing);
    painted.draw(painted.whole, [9, 9, 9]).flush({ x: 0, y: 0, width: 16, height: 16 });
    const { rgb } = await pixels(viewing);
    expect([rgb[0], rgb[3 * 15], rgb[3 * 16]]).toEqual([9, 9, 0]);
  });

  test('has what was flushed before it was asked for, also while somebody looked', async () => {
    const painted = new Painted(makeScreen(64, 64), 64, 64);
    let lock: FrameLock | undefined;
    viewing = new Viewing({
      screens: [painted.screen],
      log: SILENT_LOG,
      start: () => {
        const thread = viewingHere(1);
        const postMessage = (message: ToViewing) => {
          if (message.type === 'display' && message.news.frame) lock = new FrameLock(message.news.frame.lock);
          thread.port.postMessage(message);
        };
        return { ...thread, port: { postMessage, on: (...event) => thread.port.on(...event) } };
      },
    });
    screens.push(painted.screen);
    await pixels(viewing);
    const flush = () => painted.draw(painted.whole, [7, 8, 9]).flush();
    expect(lock?.look(flush)).toBe(true);
    expect([painted.screen.isLate, painted.screen.frame?.bytes[0]]).toEqual([true, 0]);
    expect((await pixels(viewing)).rgb.subarray(0, 3)).toEqual(Buffer.from([7, 8, 9]));
  });

  test('follows the guest to another size, another order of channels, and to nothing', async () => {
    const screen = makeScreen(50, 40);
    const viewing = view(screen);
    await pixels(viewing);
    const small = new Painted(screen, 48, 32).draw({ x: 0, y: 0, width: 48, height: 32 }, texture);
    expect((await pixels(viewing)).width).toBe(48);
    small.flush();
    expect((await pixels(viewing)).rgb).toEqual(rgbOf(small.rgba));
    screen.show({ ...small.picture, order: { r: 0, g: 1, b: 2, a: -1 } });
    screen.damage(small.whole);
    const turned = await pixels(viewing);
    expect([...turned.rgb.subarray(0, 3)]).toEqual([...small.bytes.subarray(0, 3)]);
    screen.show(undefined);
    const nothing = await pixels(viewing);
    expect([nothing.width, nothing.rgb.every((value) => value === 0)]).toEqual([50, true]);
  });

  test('that follows on changes of the size has the last of them', async () => {
    const screen = makeScreen(50, 40);
    const viewing = view(screen);
    await pixels(viewing);
    for (let size = 20; size < 40; size++) {
      new Painted(screen, size, size);
      const painted = new Painted(screen, 2 * size, size).draw(
        { x: 0, y: 0, width: size, height: 1 },
        [9, 9, 9],
      );
      painted.flush();
      const { width, height, rgb } = await pixels(viewing);
      expect([width, height, rgb[0]]).toEqual([2 * size, size, 9]);
    }
  });

  test('of a region is that part, and scaled is as large as asked for', async () => {
    const painted = new Painted(makeScreen(64, 64), 60, 40);
    painted.draw(painted.whole, texture);
    const viewing = view(painted.screen);
    const part = await pixels(viewing, { region: { x: 7, y: 9, width: 20, height: 11 } });
    expect([part.width, part.height]).toEqual([20, 11]);
    expect([...part.rgb.subarray(0, 3)]).toEqual([...texture(7, 9)]);
    expect([...part.rgb.subarray(-3)]).toEqual([...texture(26, 19)]);
    const half = await pixels(viewing, { scale: 0.5 });
    expect([half.width, half.height]).toEqual([30, 20]);
  });

  test('is exact of what cannot be compressed, and no larger than its pixels, and of one row', async () => {
    const noise = new Uint32Array(200 * 100).map((_, i) => Math.imul(i ^ (i >>> 3), 0x9e3779b1) ^ (i << 11));
    const painted = new Painted(makeScreen(64, 64), 200, 100).draw(
      { x: 0, y: 0, width: 200, height: 100 },
      (x, y) => {
        const value = Math.imul(noise[y * 200 + x] as number, 0x85ebca6b) >>> 0;
        return [value & 255, (value >>> 8) & 255, (value >>> 16) & 255];
      },
    );
    const viewing = view(painted.screen);
    const { image } = await viewing.capture(0, WHOLE_PNG);
    expect(image?.length).toBeLessThan(200 * 100 * 3 * 1.02);
    expect((await pixels(viewing)).rgb).toEqual(rgbOf(painted.rgba));
    const row = await pixels(viewing, { region: { x: 0, y: 99, width: 200, height: 1 } });
    expect(row.rgb).toEqual(rgbOf(painted.rgba).subarray(-600));
  });

  test('of a region that leaves the picture, of a display that there is not, and of a huge scale is refused', async () => {
    const viewing = view(makeScreen(640, 480));
    const region = { x: 630, y: 0, width: 11, height: 1 };
    await expect(viewing.capture(0, { ...WHOLE_PNG, region })).rejects.toMatchObject({ code: 'bad_request' });
    await expect(viewing.capture(1, WHOLE_PNG)).rejects.toMatchObject({ code: 'not_found' });
    await expect(viewing.capture(0, { ...WHOLE_PNG, scale: 1000 })).rejects.toMatchObject({
      code: 'bad_request',
    });
  });

  test('has the same tag for the same image, and none is made for a tag that is known', async () => {
    const painted = new Painted(makeScreen(64, 64), 64, 64);
    const viewing = view(painted.screen);
    const first = await viewing.capture(0, WHOLE_PNG);
    const again = await viewing.capture(0, { ...WHOLE_PNG, unlessTags: ['x', first.tag] });
    expect(again).toMatchObject({ image: undefined, tag: first.tag });
    const jpeg = await viewing.capture(0, { ...WHOLE_PNG, format: 'jpeg', unlessTags: [first.tag] });
    expect([...(jpeg.image?.subarray(0, 2) ?? [])]).toEqual([0xff, 0xd8]);
    expect(jpeg.pixelsHash).toBe(first.pixelsHash);
    painted.draw({ x: 0, y: 0, width: 1, height: 1 }, [1, 0, 0]).flush();
    const changed = await viewing.capture(0, { ...WHOLE_PNG, unlessTags: [first.tag] });
    expect(changed.tag).not.toBe(first.tag);
    expect((await viewing.hash(0, { cursor: false, region: undefined })).hash).toBe(changed.pixelsHash);
  });

  test('has the cursor in it only if asked for', async () => {
    const screen = makeScreen(64, 64);
    new Painted(screen, 64, 64);
    const cursor = new Painted(makeScreen(32, 32), 8, 8).draw(
      { x: 0, y: 0, width: 8, height: 8 },
      [200, 100, 50],
    );
    for (let at = 3; at < cursor.bytes.length; at += 4) cursor.bytes[at] = 255;
    screen.setCursorImage({ ...cursor.picture, order: { b: 0, g: 1, r: 2, a: 3 }, hotX: 0, hotY: 0 });
    screen.moveCursor(10, 20);
    screen.showCursor(true);
    const viewing = view(screen);
    const at = 3 * (20 * 64 + 10);
    expect([...(await pixels(viewing, { cursor: true })).rgb.subarray(at, at + 3)]).toEqual([200, 100, 50]);
    expect([...(await pixels(viewing)).rgb.subarray(at, at + 3)]).toEqual([0, 0, 0]);
  });
});

describe('who follows a display', () => {
  test('hears of what is different, and not of what was flushed and is the same', async () => {
    const painted = new Painted(makeScreen(320, 200), 320, 200);
    const viewing = view(painted.screen);
    const changes: Change[] = [];
    const stop = await viewing.follow(0, (change) => changes.push(change));
    painted.flush();
    await told(viewing);
    expect(changes).toEqual([]);
    painted.draw({ x: 100, y: 50, width: 3, height: 3 }, [1, 1, 1]).flush();
    const change = { rects: [{ x: 96, y: 48, width: 16, height: 16 }], width: 320, height: 200 };
    await soon(() => expect(changes).toMatchObject([change]));
    stop();
    painted.draw({ x: 0, y: 0, width: 3, height: 3 }, [1, 1, 1]).flush();
    await told(viewing);
    expect(changes.length).toBe(1);
  });

  test('hears of another size, and of the cursor without rectangles', async () => {
    const screen = makeScreen(100, 100);
    const viewing = view(screen);
    const changes: Change[] = [];
    await viewing.follow(0, (change) => changes.push(change));
    new Painted(screen, 90, 80);
    const resized = { width: 90, height: 80, rects: [{ x: 0, y: 0, width: 90, height: 80 }] };
    await soon(() => expect(changes.at(-1)).toMatchObject(resized));
    screen.moveCursor(3, 4);
    await soon(() => expect(changes.at(-1)).toMatchObject({ rects: [] }));
  });
});

describe('several who follow', () => {
  test('hear of changes in their order, also if one comes while they are told of another', () => {
    const fd = createMemfd('frame', 64 * 64 * 4);
    const damage = new SharedDamage(64, 64);
    const mapping = Mapping.map(fd, { lengthBytes: 64 * 64 * 4, writable: true, whole: true });
    const canvas = new Canvas(0, { width: 64, height: 64, refreshHz: 60 }, () => {});
    const frame = {
      ...{ fd, width: 64, height: 64, strideBytes: 256 },
      order: { b: 0, g: 1, r: 2, a: -1 },
      damage: damage.buffer,
      lock: new FrameLock().buffer,
    };
    const { cursor, mode } = canvas;
    canvas.update({ display: 0, mode, frame, cursor });
    const draw = (tile: number) => {
      mapping.bytes(0, 64 * 64 * 4)[tile * 64] = 1;
      damage.add({ x: 16 * tile, y: 0, width: 1, height: 1 });
    };
    const heard: string[] = [];
    const follower = (name: string, then = () => {}) => ({
      isWaiting: true,
      changed: (tiles: TileSet) => {
        heard.push(`${name} ${tiles.rects().map(({ x }) => x / 16)}`);
        then();
      },
      resized: () => {},
      cursorChanged: () => {},
    });
    let isFirst = true;
    canvas.follow(
      follower('a', () => {
        // What an update does: the device goes on meanwhile.
        if (isFirst) draw(2);
        isFirst = false;
        canvas.absorb();
      }),
    );
    canvas.follow(follower('b'));
    draw(1);
    canvas.absorb();
    canvas.absorb();
    expect(heard).toEqual(['a 1', 'b 1', 'a 2', 'b 2']);
    canvas.close();
    mapping.close();
  });
});

describe('a thread that fails', () => {
  test('is started again: viewers can come back, and programs that follow go on', async () => {
    const fdsBefore = openFds();
    const folder = mkdtempSync(join(tmpdir(), 'viewing-'));
    const address = { path: join(folder, 'vnc.sock') };
    const painted = new Painted(makeScreen(64, 64), 64, 64);
    let fail: () => Promise<void> = async () => {};
    const errors: string[] = [];
    const viewing = new Viewing({
      screens: [painted.screen],
      log: { ...SILENT_LOG, error: (_, message) => void errors.push(message) },
      start: () => {
        const thread = viewingHere(1);
        return {
          ...thread,
          onFailure: (listener) => {
            fail = async () => {
              const closed = new Promise<void>((resolve) => {
                thread.port.on('message', ({ type }) => type === 'closed' && resolve());
              });
              thread.port.postMessage({ type: 'close' });
              await closed;
              listener(new Error('a mistake'));
            };
          },
        };
      },
    });
    const changes: Change[] = [];
    await viewing.follow(0, (change) => changes.push(change));
    await viewing.listen({
      kind: 'vnc',
      address,
      display: 0,
      viewOnly: false,
      passwords: undefined,
      tls: undefined,
    });
    const before = await new FakeViewer(createConnection(address.path)).connect();
    const lost = viewing.capture(0, WHOLE_PNG);
    const [failed] = await Promise.allSettled([lost, fail()]);
    expect(failed.status === 'fulfilled' || failed.reason.code === 'internal').toBe(true);
    await expect(before.update()).rejects.toThrow('hung up');
    changes.length = 0;
    await soon(() => expect(changes).toMatchObject([{ rects: [{ width: 64, height: 64 }] }]));
    painted.draw({ x: 0, y: 0, width: 2, height: 2 }, [9, 9, 9]).flush();
    await soon(() => expect(changes.at(-1)).toMatchObject({ rects: [{ width: 16, height: 16 }] }));
    const after = await new FakeViewer(createConnection(address.path)).connect();
    after.request(false);
    await after.update();
    expect(after.pixel(1, 1)).toEqual([9, 9, 9]);
    expect(errors).toEqual(['viewing failed: internal error']);
    after.close();
    await viewing.close();
    painted.screen.close();
    rmSync(folder, { recursive: true });
    await soon(() => expect(openFds()).toBe(fdsBefore));
  });
});

describe('the device thread', () => {
  test('posts one message for a thousand flushes that nobody has taken', async () => {
    const fdsBefore = openFds();
    const painted = new Painted(makeScreen(320, 200), 320, 200);
    let posted = 0;
    const thread = viewingHere(1);
    const viewing = new Viewing({
      screens: [painted.screen],
      log: SILENT_LOG,
      start: () => ({
        ...thread,
        port: {
          postMessage: (message, transfer) => {
            posted++;
            thread.port.postMessage(message, transfer);
          },
          on: (event, listener) => thread.port.on(event, listener),
        },
      }),
    });
    await viewing.follow(0, () => {});
    posted = 0;
    for (let i = 0; i < 1000; i++) painted.flush();
    for (let i = 0; i < 1000; i++) painted.screen.moveCursor(i, i);
    for (let i = 0; i < 1000; i++) new Painted(painted.screen, 10 + (i % 2), 10);
    expect(posted).toBe(2);
    await viewing.close();
    painted.screen.close();
    // The last frame was still on its way.
    await soon(() => expect(openFds()).toBe(fdsBefore));
  });

  test('copies nothing when nobody has looked for a while, and nothing stays open after close', async () => {
    const before = { fds: openFds(), ...registrySize() };
    const painted = new Painted(makeScreen(64, 64), 64, 64);
    const viewing = view(painted.screen);
    await pixels(viewing);
    expect(painted.screen.frame).toBeDefined();
    await viewing.close();
    expect(painted.screen.frame).toBe(undefined);
    painted.screen.close();
    expect({ fds: openFds(), ...registrySize() }).toEqual(before);
  });
});
