import { once } from 'node:events';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { type ClientOptions, createWebSocketStream, WebSocket } from 'ws';
import { paintPicture } from '../../../../tools/testbed/pictures.ts';
import { openFds } from '../../../support/fake-client.ts';
import { FakeViewer } from '../../../support/fake-viewer.ts';
import { soon } from '../../../support/soon.ts';
import { WebStage } from '../../../support/web.ts';

const TOKENS = { control: 'control-token-0123456789', view: 'view-token-0123456789' };
const ZRLE = 16;
const EXTENDED_KEYS = -258;
const picture = (width: number, height: number, seed = 0) =>
  paintPicture(
    width,
    height,
    (x, y) => (((x * 7 + seed) % 256) << 16) | (((y * 3) % 256) << 8) | ((x ^ y) & 255),
  );
/** Incompressible. */
const noise = (width: number, height: number) =>
  paintPicture(width, height, () => Math.floor(Math.random() * 0x100_0000));

let stage: WebStage;
const streams: Duplex[] = [];
afterEach(async () => {
  for (const stream of streams.splice(0)) stream.destroy();
  await stage.close();
});

async function start(...[options]: Parameters<WebStage['listen']>): Promise<void> {
  stage = new WebStage(2);
  await stage.listen(options);
}

/** Resolves with the status that the server answered instead, or the open socket. */
function open(
  path: string,
  options: ClientOptions = {},
  protocols: string[] = [],
): Promise<WebSocket | number> {
  const socket = new WebSocket(new URL(path, stage.url.replace('http', 'ws')), protocols, options);
  return new Promise((resolve, reject) => {
    socket.on('open', () => resolve(socket));
    socket.on('unexpected-response', (request, response) => {
      request.destroy();
      resolve(response.statusCode as number);
    });
    socket.on('error', reject);
  });
}

async function opened(...[path, options, protocols]: Parameters<typeof open>): Promise<WebSocket> {
  const socket = await open(path, options, protocols);
  if (typeof socket === 'number') throw new Error(`refused with ${socket}`);
  return socket;
}

async function view(path: string, protocols: string[] = []): Promise<FakeViewer & { socket: WebSocket }> {
  const socket = new WebSocket(new URL(path, stage.url.replace('http', 'ws')), protocols);
  const stream = createWebSocketStream(socket);
  // The fake viewer listens anew with every read.
  stream.setMaxListeners(0);
  streams.push(stream);
  return Object.assign(await new FakeViewer(stream).connect(), { socket });
}

const connected = async () => (await stage.viewing.counters())?.web.connected;
const rgbOf = ({ picture }: FakeViewer) => Buffer.from(picture.filter((_, i) => i % 4 !== 3));

describe('a viewer on a WebSocket', () => {
  test('sees the display of its path, pixel by pixel, and what becomes of it', async () => {
    await start();
    stage.draw(0, picture(64, 48));
    stage.draw(1, picture(100, 80));
    const viewer = await view('/displays/1/control');
    expect([viewer.width, viewer.height]).toEqual([100, 80]);
    viewer.setEncodings(ZRLE);
    viewer.request(false);
    await viewer.update();
    expect(rgbOf(viewer).equals(picture(100, 80).rgb)).toBe(true);
    stage.draw(1, picture(100, 80, 50));
    await viewer.updatesUntil(() => rgbOf(viewer).equals(picture(100, 80, 50).rgb));
  });

  test('has its keys and its pointer in the guest', async () => {
    await start();
    const viewer = await view('/displays/1/control');
    viewer.setEncodings(EXTENDED_KEYS);
    viewer.extendedKey(0x61, 0x1e, true);
    viewer.extendedKey(0x61, 0x1e, false);
    viewer.pointer(310, 190, 1);
    await soon(() => expect(stage.events).toHaveLength(3));
    expect(stage.events).toEqual([
      { type: 'key', code: 30, down: true },
      { type: 'key', code: 30, down: false },
      { type: 'pointer', display: 1, x: 310, y: 190, buttons: 1, wheelX: 0, wheelY: 0 },
    ]);
  });

  test('that says goodbye right behind its last keys has said them', async () => {
    await start();
    const viewer = await view('/displays/0/control');
    viewer.setEncodings(EXTENDED_KEYS);
    for (let i = 0; i < 500; i++) viewer.extendedKey(0x61, 0x1e, i % 2 === 0);
    viewer.stream.end();
    await soon(() => expect(stage.keys).toHaveLength(500));
    await soon(async () => expect(await connected()).toBe(0));
  });

  test('that may only look changes nothing, whatever it sends', async () => {
    await start();
    stage.draw(0, picture(64, 48));
    const viewer = await view('/displays/0/view');
    viewer.setEncodings(EXTENDED_KEYS, ZRLE);
    viewer.extendedKey(0x61, 0x1e, true);
    viewer.key(0x61, true);
    viewer.pointer(5, 5, 7);
    viewer.setDesktopSize(640, 480);
    viewer.request(false);
    await viewer.updatesUntil(() => rgbOf(viewer).equals(picture(64, 48).rgb));
    expect(stage.events).toEqual([]);
    expect(stage.screens[0]?.mode).toMatchObject({ width: 320, height: 200 });
    const other = await view('/displays/0/control');
    other.setDesktopSize(640, 480);
    await soon(() => expect(stage.screens[0]?.mode).toMatchObject({ width: 640, height: 480 }));
  });

  test('that does not read costs the memory of an update, and has the latest picture when it reads', async () => {
    await start();
    const [width, height] = [640, 480];
    const noises = [noise(width, height), noise(width, height)] as const;
    stage.draw(0, noises[0]);
    const viewer = await view('/displays/0/control');
    const { socket } = viewer;
    // Raw, and every change at once; without fences only what the stream says of itself holds the server back.
    viewer.setEncodings(0, -313);
    viewer.request(false);
    viewer.enableContinuousUpdates();
    socket.pause();
    const sent = async () => (await stage.viewing.counters())?.web.sentBytes ?? 0;
    let stalledAt = -1;
    for (let same = 0, i = 0; same < 20; i++) {
      stage.draw(0, noises[i % 2 === 0 ? 0 : 1]);
      await new Promise((resolve) => setTimeout(resolve, 10));
      const now = await sent();
      same = now === stalledAt ? same + 1 : 0;
      stalledAt = now;
    }
    // What fits into the sockets, and what had been begun.
    expect(stalledAt).toBeLessThan(20e6);
    const last = picture(width, height, 99);
    stage.draw(0, last);
    socket.resume();
    while (!rgbOf(viewer).equals(last.rgb)) await viewer.update();
  });

  test('is one of 64', async () => {
    await start();
    const sockets = await Promise.all(Array.from({ length: 64 }, () => opened('/displays/0/view')));
    expect(await open('/displays/0/view')).toBe(503);
    sockets[0]?.close();
    await soon(async () => expect(await connected()).toBe(63));
    (await opened('/displays/0/view')).terminate();
    for (const socket of sockets) socket.terminate();
    await soon(async () => expect(await connected()).toBe(0));
  });

  test('is let go when the server leaves', async () => {
    await start();
    const socket = await opened('/displays/0/control');
    const closed = once(socket, 'close');
    await stage.close();
    await closed;
    await expect(open('/displays/0/control')).rejects.toThrow('ECONNREFUSED');
  });
});

describe('who opens a WebSocket', () => {
  test('has to name a display and what for', async () => {
    await start();
    const wrong = [
      '/',
      '/view',
      '/displays/2/control',
      '/displays/00000/view',
      '/displays/0/watch',
      '/displays/-1/view',
    ];
    for (const path of wrong) expect([path, await open(path)]).toEqual([path, 404]);
  });

  test('is a page of this server, or a program', async () => {
    await start();
    const { host } = new URL(stage.url);
    const from = (origin: string) => open('/displays/0/control', { headers: { origin } });
    for (const origin of [
      'http://evil.example',
      `http://${host}.evil.example`,
      'null',
      'http://localhost:1',
      '%',
    ])
      expect([origin, await from(origin)]).toEqual([origin, 403]);
    expect(
      await open('/displays/0/view', { headers: { host: 'evil.example', origin: 'http://evil.example' } }),
    ).toBe(421);
    expect(await from(`http://${host}`)).toBeInstanceOf(WebSocket);
  });

  test('has the token for it', async () => {
    await start({ tokens: TOKENS });
    expect(await open('/displays/0/view')).toBe(401);
    expect(await open(`/displays/0/control?token=${TOKENS.view}`)).toBe(403);
    expect(await open(`/displays/0/view?token=${TOKENS.view}`)).toBeInstanceOf(WebSocket);
    expect(await open(`/displays/0/control?token=${TOKENS.control}`)).toBeInstanceOf(WebSocket);
    // A page of another server on the same host has its cookies sent along.
    const { host, port } = new URL(stage.url);
    const cookie = `vfio-user-gpu-${port}-control=${TOKENS.control}`;
    const from = (origin: string) => open('/displays/0/control', { headers: { cookie, origin } });
    expect(await from('http://127.0.0.1:1')).toBe(403);
    expect(await from(`http://${host}`)).toBeInstanceOf(WebSocket);
  });

  test('may know only RFB, or have the news with it', async () => {
    await start();
    expect((await opened('/displays/0/view')).protocol).toBe('');
    expect((await opened('/displays/0/view', {}, ['binary'])).protocol).toBe('binary');
    expect((await opened('/displays/0/view', {}, ['binary', 'vfio-user-gpu'])).protocol).toBe(
      'vfio-user-gpu',
    );
  });
});

describe('news for pages', () => {
  test('say what people can do, and the lights of the keyboard as they change', async () => {
    await start();
    const socket = new WebSocket(new URL('/displays/0/view', stage.url.replace('http', 'ws')), [
      'vfio-user-gpu',
    ]);
    const news: Record<string, unknown>[] = [];
    socket.on('message', (data, isBinary) => {
      if (!isBinary) news.push(JSON.parse(String(data)));
    });
    await soon(() => expect(news[0]).toEqual({ hasKeyboard: true, hasPointer: true }));
    await soon(() => expect(news.at(-1)?.roundTripMs).toBeGreaterThan(0));
    const leds = { numLock: true, capsLock: false, scrollLock: true };
    stage.setInput({ leds, hasPointer: false });
    await soon(() => expect(news.at(-1)).toMatchObject({ hasKeyboard: true, hasPointer: false, leds }));
    socket.terminate();
  });

  test('are no faster than they are taken', async () => {
    await start();
    const socket = await opened('/displays/0/view', {}, ['vfio-user-gpu']);
    let texts = 0;
    let last: unknown;
    socket.on('message', (data, isBinary) => {
      if (isBinary) return;
      texts++;
      last = JSON.parse(String(data)).leds;
    });
    const blink = (i: number) => ({ numLock: i % 2 === 0, capsLock: false, scrollLock: i === 9999 });
    for (let i = 0; i < 10_000; i++) stage.setInput({ leds: blink(i) });
    await soon(() => expect(last).toEqual(blink(9999)));
    expect(texts).toBeLessThan(1000);
    socket.terminate();
  });

  test('do not come to viewers that know only RFB', async () => {
    await start();
    const viewer = await view('/displays/0/view', ['binary']);
    const texts: unknown[] = [];
    viewer.socket.on('message', (data, isBinary) => void (isBinary || texts.push(data)));
    stage.setInput({ leds: { numLock: true, capsLock: true, scrollLock: true } });
    viewer.request(false);
    await viewer.update();
    expect(texts).toEqual([]);
    viewer.close();
  });
});

describe('what no viewer sends', () => {
  const closeCode = async (send: (socket: WebSocket) => void) => {
    const socket = await opened('/displays/0/control');
    socket.on('error', () => {});
    const closed = once(socket, 'close');
    send(socket);
    return (await closed)[0] as number;
  };

  test('ends its connection: text, and messages that are too large', async () => {
    await start();
    expect(await closeCode((socket) => socket.send('text'))).toBe(1003);
    expect(await closeCode((socket) => socket.send(Buffer.alloc(1024 * 1024 + 1)))).toBe(1009);
    expect(await connected()).toBe(0);
  });

  test('ends its connection: RFB that is none', async () => {
    await start();
    await closeCode((socket) => socket.send(Buffer.from('GET / HTTP/1.1\r\n')));
    const viewer = await view('/displays/0/control');
    viewer.write([77]);
    await once(viewer.socket, 'close');
    expect(await connected()).toBe(0);
    expect((await stage.viewing.counters())?.web.refused).toBe(2);
  });

  test('of any kind, as frames or in them, leaves the server as it was', async () => {
    await start();
    stage.draw(0, picture(64, 48));
    const { hostname, port } = new URL(stage.url);
    const before = openFds();
    const upgrade = [
      'GET /displays/0/control HTTP/1.1',
      `Host: ${hostname}:${port}`,
      'Connection: Upgrade',
      'Upgrade: websocket',
      'Sec-WebSocket-Version: 13',
      'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
      '\r\n',
    ].join('\r\n');
    const frame = fc
      .tuple(
        fc.constantFrom(0x82, 0x81, 0x80, 0x02, 0x88, 0x89, 0x8a, 0xc2, 0xf3),
        fc.uint8Array({ maxLength: 120 }),
      )
      .map(([head, payload]) => Buffer.from([head, 0x80 | payload.length, 0, 0, 0, 0, ...payload]));
    const hello = Buffer.from([0x82, 0x8c, 0, 0, 0, 0, ...Buffer.from('RFB 003.008\n')]);
    const init = Buffer.from([0x82, 0x82, 0, 0, 0, 0, 1, 1]);
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.array(frame, { maxLength: 8 }).map((frames) => Buffer.concat(frames)),
      fc.array(frame, { maxLength: 8 }).map((frames) => Buffer.concat([hello, init, ...frames])),
    );
    await fc.assert(
      fc.asyncProperty(bytes, async (sent) => {
        const socket = connect(Number(port), hostname);
        socket.on('error', () => {});
        socket.resume();
        const closed = once(socket, 'close').catch(() => {});
        socket.write(upgrade);
        socket.end(sent);
        await closed;
      }),
      { numRuns: 200, interruptAfterTimeLimit: 10_000 },
    );
    await soon(async () => expect(await connected()).toBe(0));
    const viewer = await view('/displays/0/control');
    viewer.request(false);
    await viewer.updatesUntil(() => rgbOf(viewer).equals(picture(64, 48).rgb));
    viewer.close();
    await soon(() => expect(openFds()).toBeLessThanOrEqual(before + 1));
  });
});
