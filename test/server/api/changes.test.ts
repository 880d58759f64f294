/** The stream of changes: what readers get of it, whether they read or not. */
import { get, type IncomingMessage } from 'node:http';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { changeStream } from '../../../server/api/changes.ts';
import { MAX_CHANGE_READERS, MAX_CHANGE_RECTS } from '../../../server/api/limits.ts';
import type { Rect } from '../../../server/displays/display.ts';
import type { Change } from '../../../server/displays/viewing/messages.ts';
import { type ApiHere, apiHere } from '../../support/api-here.ts';
import { makeScreen, Painted, texture } from '../../support/screens.ts';
import { soon } from '../../support/soon.ts';

interface Told {
  readonly version: number;
  readonly width: number;
  readonly height: number;
  readonly rects: readonly Rect[];
  readonly cursor?: { readonly x: number };
}

let here: ApiHere;
let painted: Painted;
beforeEach(async () => {
  here = await apiHere({ displays: [{ width: 320, height: 200 }] });
  painted = new Painted(here.screens[0] ?? makeScreen(1, 1), 320, 200);
});
afterEach(() => here[Symbol.asyncDispose]());

/** A reader of the stream, as programs are. */
class Reader implements Disposable {
  readonly events: Told[] = [];
  text = '';
  ended: 'cleanly' | 'cut' | undefined;
  readonly response: IncomingMessage;

  constructor(response: IncomingMessage) {
    this.response = response;
    response.setEncoding('utf8').on('data', (text: string) => {
      this.text += text;
      const blocks = this.text.split('\n\n');
      this.text = blocks.pop() ?? '';
      for (const block of blocks) {
        const data = /^data: (.*)$/m.exec(block)?.[1];
        if (data) this.events.push(JSON.parse(data));
      }
    });
    response.on('error', () => {});
    response.on('close', () => {
      this.ended = response.complete ? 'cleanly' : 'cut';
    });
  }

  /** Waits until so many events have come. */
  async until(count: number): Promise<Told> {
    await soon(() => expect(this.events.length).toBeGreaterThanOrEqual(count));
    return this.events[count - 1] as Told;
  }

  [Symbol.dispose]() {
    this.response.destroy();
  }
}

/** Asks for the stream; nobody reads what comes. */
const open = (query = '') =>
  new Promise<IncomingMessage>((resolve, reject) => {
    const path = `/v1/displays/0/changes${query}`;
    get({ socketPath: here.socketPath, path, agent: false }, resolve).on('error', reject);
  });
const read = async (query = '') => new Reader(await open(query));
const spot = (x: number, y: number): Rect => ({ x, y, width: 1, height: 1 });

describe('a reader', () => {
  test('is told of the whole picture, then of what really changes, tile by tile', async () => {
    using reader = await read();
    expect(reader.response.headers['content-type']).toBe('text/event-stream');
    expect(await reader.until(1)).toMatchObject({
      width: 320,
      height: 200,
      rects: [{ x: 0, y: 0, width: 320, height: 200 }],
    });
    painted.draw(spot(100, 50), [1, 2, 3]).flush();
    const second = await reader.until(2);
    expect(second.rects).toEqual([{ x: 96, y: 48, width: 16, height: 16 }]);
    expect(second.version).toBeGreaterThan(reader.events[0]?.version ?? 0);
    expect(second.cursor).toBeUndefined();
  });

  test('is told nothing of what is drawn and looks the same', async () => {
    using reader = await read();
    await reader.until(1);
    painted.flush();
    painted.draw(spot(0, 0), [1, 1, 1]).flush(spot(0, 0));
    expect((await reader.until(2)).rects).toEqual([{ x: 0, y: 0, width: 16, height: 16 }]);
    expect(reader.events.length).toBe(2);
  });

  test('is told of another size, and of the cursor', async () => {
    using reader = await read();
    await reader.until(1);
    new Painted(painted.screen, 100, 80);
    expect(await reader.until(2)).toMatchObject({
      width: 100,
      height: 80,
      rects: [{ x: 0, y: 0, width: 100, height: 80 }],
    });
    painted.screen.moveCursor(7, 8);
    expect(await reader.until(3)).toMatchObject({ rects: [], cursor: { x: 7, y: 8 } });
  });

  test('that wants fewer events gets the union of what it has missed', async () => {
    using reader = await read('?intervalMs=150');
    await reader.until(1);
    for (let i = 0; i < 10; i++) {
      painted.draw(spot(i * 32, 0), [i + 1, 0, 0]).flush(spot(i * 32, 0));
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    const { rects } = await reader.until(2);
    expect(rects).toEqual(Array.from({ length: 10 }, (_, i) => ({ x: i * 32, y: 0, width: 16, height: 16 })));
  });

  test('is cut off by nothing but the end of the server, and then cleanly', async () => {
    using reader = await read();
    await reader.until(1);
    await here.stopListening();
    await soon(() => expect(reader.ended).toBe('cleanly'));
  });
});

describe('readers that never read', () => {
  test('do not delay those who do, keep nothing after they leave, and do not keep the server', async () => {
    const silent = await Promise.all(Array.from({ length: 50 }, () => open()));
    for (const response of silent) {
      response.on('error', () => {});
      response.pause();
    }
    using reader = await read();
    await reader.until(1);
    for (let i = 1; i <= 100; i++) {
      painted.draw(painted.whole, (x, y) => [(x + i) & 255, y, i]).flush();
      await reader.until(i + 1);
    }
    for (const response of silent) response.destroy();
    await soon(async () => {
      const free = await Promise.all(Array.from({ length: MAX_CHANGE_READERS - 1 }, () => open()));
      const statuses = free.map(({ statusCode }) => statusCode);
      for (const response of free) response.on('error', () => {}).destroy();
      expect(new Set(statuses)).toEqual(new Set([200]));
    });
  });

  test('are ended with the server', async () => {
    const response = await open();
    response.on('error', () => {}).pause();
    await here.stopListening();
    await expect(open()).rejects.toThrow();
  });

  test('get the union when they read at last: one event, however much happened', async () => {
    const { tell, next, stop } = await streamOf(4096);
    expect((await next()).rects).toEqual([{ x: 0, y: 0, width: 4096, height: 4096 }]);
    for (let i = 0; i < 1000; i++) tell([spot((i % 20) * 64, 0)]);
    const few = await next();
    expect([few.version, few.rects.length]).toEqual([1001, 20]);
    for (let i = 0; i < 10_000; i++) tell([spot((i % 100) * 32, Math.floor(i / 100) * 32)]);
    expect(MAX_CHANGE_RECTS).toBeLessThan(10_000);
    expect((await next()).rects).toEqual([{ x: 0, y: 0, width: 3184, height: 3184 }]);
    expect(await stop()).toEqual({ followers: 0, ends: 1 });
  });

  test('miss nothing and are told nothing else, whenever they read', async () => {
    const place = fc.integer({ min: 0, max: 19 });
    const step = fc.oneof(fc.record({ column: place, row: place }), fc.constant('read' as const));
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const { tell, next, stop } = await streamOf(320);
        await next();
        let missed = new Set<string>();
        for (const one of steps) {
          if (one !== 'read') {
            tell([spot(one.column * 16 + 3, one.row * 16 + 5)]);
            missed.add(`${one.column},${one.row}`);
          } else if (missed.size > 0) {
            const { rects } = await next();
            const told = rects.flatMap(({ x, y, width, height }) =>
              Array.from({ length: (width * height) / 256 }, (_, i) => {
                const [column, row] = [i % (width / 16), Math.floor(i / (width / 16))];
                return `${x / 16 + column},${y / 16 + row}`;
              }),
            );
            expect(told.toSorted()).toEqual([...missed].toSorted());
            missed = new Set();
          }
        }
        await stop();
      }),
    );
  });
});

/** A stream of a square display that changes when the test says so, and a reader that reads when the test says so. */
async function streamOf(size: number) {
  const followers = new Set<(change: Change) => void>();
  const viewing = {
    follow: async (_: number, listener: (change: Change) => void) => {
      followers.add(listener);
      return () => void followers.delete(listener);
    },
    hash: async () => ({ hash: '', version: 1, width: size, height: size }),
  };
  let ends = 0;
  let version = 1;
  const { signal } = new AbortController();
  const onEnd = () => ends++;
  const events = (await changeStream(viewing, { display: 0, intervalMs: 0, signal, onEnd })).getReader();
  return {
    tell: (rects: Rect[]) => {
      version++;
      for (const follower of followers) follower({ display: 0, version, width: size, height: size, rects });
    },
    next: async () => {
      const { value } = await events.read();
      const text = new TextDecoder().decode(value);
      return JSON.parse(/^data: (.*)$/m.exec(text)?.[1] ?? 'null') as Told;
    },
    stop: async () => {
      await events.cancel();
      return { followers: followers.size, ends };
    },
  };
}

describe('a quiet stream', () => {
  test('has a comment now and then, so that both ends notice when the other one is gone', async () => {
    vi.useFakeTimers();
    try {
      const viewing = {
        follow: async () => () => {},
        hash: async () => ({ hash: '', version: 1, width: 10, height: 10 }),
      };
      const leave = new AbortController();
      const options = { display: 0, intervalMs: 0, signal: leave.signal, onEnd: () => {} };
      const events = (await changeStream(viewing, options)).getReader();
      await events.read();
      const comment = events.read();
      await vi.advanceTimersByTimeAsync(15_000);
      expect(new TextDecoder().decode((await comment).value)).toMatch(/^:.*\n\n$/);
      const last = events.read();
      leave.abort();
      expect((await last).done).toBe(true);
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe('a stream', () => {
  test('of a display that is not there is 404 and takes no place', async () => {
    for (let i = 0; i < MAX_CHANGE_READERS + 1; i++) {
      expect((await here.ask('GET', '/v1/displays/3/changes')).status).toBe(404);
    }
  });

  test.each(['-1', 'x', '60001'])('with an interval of %s is refused', async (intervalMs) => {
    expect((await here.ask('GET', `/v1/displays/0/changes?intervalMs=${intervalMs}`)).status).toBe(400);
  });

  test('too many are refused with a code', async () => {
    const readers = await Promise.all(Array.from({ length: MAX_CHANGE_READERS }, () => open()));
    expect(new Set(readers.map(({ statusCode }) => statusCode))).toEqual(new Set([200]));
    const { status, json } = await here.ask('GET', '/v1/displays/0/changes');
    expect([status, json]).toMatchObject([503, { error: { code: 'busy' } }]);
    for (const reader of readers) reader.on('error', () => {}).destroy();
  });

  test('begins with what is there, whatever was shown before', async () => {
    painted.draw(painted.whole, texture).flush();
    using first = await read();
    await first.until(1);
    using second = await read();
    expect((await second.until(1)).rects).toEqual([painted.whole]);
  });
});
