/** Waiting for a display: by the rules, in virtual time; and over the API, on real pixels. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { MAX_WAIT_MS, MAX_WAITS } from '../../../server/api/limits.ts';
import { Stillness, type WaitOptions, type WaitResult, waitFor } from '../../../server/api/wait.ts';
import { ViewingError } from '../../../server/displays/viewing/error.ts';
import type { Change } from '../../../server/displays/viewing/messages.ts';
import { type ApiHere, apiHere } from '../../support/api-here.ts';
import { Painted, texture } from '../../support/screens.ts';
import { soon } from '../../support/soon.ts';

/** A display of which nothing is known but hashes, and when they change. */
class FakeDisplay {
  hash = 'first';
  version = 1;
  hashes = 0;
  lookMs = 0;
  failure: Error | undefined;
  readonly followers = new Set<(change: Change) => void>();

  follow = async (_: number, listener: (change: Change) => void) => {
    this.followers.add(listener);
    return () => void this.followers.delete(listener);
  };

  viewing = {
    follow: this.follow,
    hash: async () => {
      this.hashes++;
      if (this.lookMs > 0) await new Promise((resolve) => setTimeout(resolve, this.lookMs));
      if (this.failure) throw this.failure;
      return { hash: this.hash, version: this.version, width: 100, height: 100 };
    },
  };

  change(hash: string, rect = { x: 0, y: 0, width: 16, height: 16 }): void {
    this.hash = hash;
    this.version++;
    const change = { display: 0, version: this.version, width: 100, height: 100, rects: [rect] };
    for (const follower of this.followers) follower(change);
  }

  wait(options: Partial<WaitOptions>, signal = new AbortController().signal): Promise<WaitResult> {
    const defaults = { until: 'stable' as const, region: undefined, quietMs: 500, timeoutMs: 10_000 };
    return waitFor(this.viewing, 0, { ...defaults, ...options }, signal);
  }
}

describe('in virtual time', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });
  const passes = (ms: number) => vi.advanceTimersByTimeAsync(ms);
  /** When a promise settles, with what. */
  const note = (promise: Promise<WaitResult>) => {
    const noted: { result?: WaitResult; error?: Error & { code?: string } } = {};
    promise.then(
      (result) => {
        noted.result = result;
      },
      (error) => {
        noted.error = error;
      },
    );
    return noted;
  };

  test('a display on which nothing changes is stable after the quiet time, and not before', async () => {
    const display = new FakeDisplay();
    const noted = note(display.wait({ quietMs: 500 }));
    await passes(499);
    expect(noted).toEqual({});
    await passes(1);
    expect(noted.result).toEqual({ reason: 'stable', hash: 'first', version: 1, waitedMs: 500 });
    expect(display.followers.size).toBe(0);
  });

  test('a change makes the quiet time begin anew', async () => {
    const display = new FakeDisplay();
    const noted = note(display.wait({ quietMs: 500 }));
    await passes(400);
    display.change('second');
    await passes(499);
    expect(noted).toEqual({});
    await passes(101);
    expect(noted.result).toMatchObject({ hash: 'second', version: 2 });
  });

  test('what is drawn and looks the same as before is no change', async () => {
    const display = new FakeDisplay();
    const noted = note(display.wait({ quietMs: 500 }));
    for (let i = 0; i < 5; i++) {
      await passes(90);
      display.change('first');
    }
    await passes(100);
    expect(noted.result).toMatchObject({ hash: 'first', waitedMs: 500 });
  });

  test('what blinks between two pictures is stable, what goes through three is not', async () => {
    const [cursor, spinner] = [new FakeDisplay(), new FakeDisplay()];
    const [blinking, spinning] = [
      note(cursor.wait({ timeoutMs: 3000 })),
      note(spinner.wait({ timeoutMs: 3000 })),
    ];
    for (let i = 0; i < 20; i++) {
      await passes(200);
      cursor.change(i % 2 ? 'off' : 'on');
      spinner.change(`frame ${i % 3}`);
    }
    expect(blinking.result?.waitedMs).toBeLessThan(1500);
    expect(spinning.error?.code).toBe('timeout');
  });

  test('what never rests is given up in time, and not looked at all the time', async () => {
    const display = new FakeDisplay();
    const noted = note(display.wait({ timeoutMs: 1000 }));
    for (let i = 0; i < 1000; i++) {
      display.change(`frame ${i}`);
      await passes(1);
    }
    expect(noted.error).toMatchObject({ status: 408, code: 'timeout', message: 'no stable within 1000 ms' });
    expect(display.hashes).toBeLessThanOrEqual(40);
    expect(display.followers.size).toBe(0);
  });

  test('a change is told of when it comes; or at once when it has come since the hash', async () => {
    const display = new FakeDisplay();
    const noted = note(display.wait({ until: 'change' }));
    await passes(700);
    expect(noted).toEqual({});
    display.change('second');
    await passes(0);
    expect(noted.result).toMatchObject({ reason: 'change', hash: 'second', waitedMs: 700 });
    const since = note(display.wait({ until: 'change', hash: 'first' }));
    await passes(0);
    expect(since.result).toMatchObject({ hash: 'second', waitedMs: 0 });
  });

  test('a match is told of when it comes, or at once', async () => {
    const display = new FakeDisplay();
    const noted = note(display.wait({ until: 'match', hash: 'third' }));
    await passes(100);
    display.change('second');
    await passes(100);
    expect(noted).toEqual({});
    display.change('third');
    await passes(30);
    expect(noted.result).toMatchObject({ reason: 'match', hash: 'third' });
    const again = note(display.wait({ until: 'match', hash: 'third', timeoutMs: 0 }));
    await passes(0);
    expect(again.result?.waitedMs).toBe(0);
  });

  test('a change outside of the region is not looked at', async () => {
    const display = new FakeDisplay();
    note(display.wait({ until: 'change', region: { x: 50, y: 50, width: 10, height: 10 } }));
    await passes(100);
    display.change('first');
    await passes(100);
    const before = display.hashes;
    display.change('first', { x: 0, y: 0, width: 48, height: 100 });
    await passes(100);
    expect(display.hashes).toBe(before);
    display.change('second', { x: 48, y: 48, width: 16, height: 16 });
    await passes(100);
    expect(display.hashes).toBe(before + 1);
  });

  test('a region that is not in the picture any more has changed, and is neither stable nor a match', async () => {
    const display = new FakeDisplay();
    const region = { x: 0, y: 0, width: 100, height: 100 };
    const changed = note(display.wait({ until: 'change', region }));
    const stable = note(display.wait({ until: 'stable', region, timeoutMs: 2000 }));
    await passes(10);
    display.failure = new ViewingError('bad_request', 'region is not in the picture');
    display.change('', region);
    await passes(100);
    expect(changed.result).toMatchObject({ reason: 'change', hash: '' });
    await passes(2000);
    expect(stable.error?.code).toBe('timeout');
  });

  test('a region that was never in the picture is an error at once, and so is a thread that fails', async () => {
    const display = new FakeDisplay();
    display.failure = new ViewingError('bad_request', 'region is not in the picture');
    await expect(display.wait({})).rejects.toThrow('region is not in the picture');
    display.failure = undefined;
    const noted = note(display.wait({}));
    await passes(10);
    display.failure = new ViewingError('internal', 'viewing failed');
    await passes(1000);
    expect(noted.error?.code).toBe('internal');
    expect(display.followers.size).toBe(0);
  });

  test('who hangs up is not waited for', async () => {
    const display = new FakeDisplay();
    const hangUp = new AbortController();
    const noted = note(display.wait({ until: 'change', timeoutMs: MAX_WAIT_MS }, hangUp.signal));
    await passes(1000);
    hangUp.abort();
    await passes(100);
    expect(noted.error?.name).toBe('AbortError');
    expect([display.followers.size, vi.getTimerCount()]).toEqual([0, 0]);
  });

  test('who hangs up waits for no rest, however slow looking was, and who had gone before does not look', async () => {
    const display = new FakeDisplay();
    const hangUp = new AbortController();
    display.lookMs = 1000;
    const noted = note(display.wait({ until: 'change', timeoutMs: MAX_WAIT_MS }, hangUp.signal));
    await passes(1500);
    hangUp.abort();
    await passes(0);
    expect(noted.error?.name).toBe('AbortError');
    await expect(display.wait({}, hangUp.signal)).rejects.toThrow('aborted');
    expect([display.hashes, display.followers.size, vi.getTimerCount()]).toEqual([1, 0, 0]);
  });

  test('whatever happens when: stable is told when nothing has changed for the quiet time, and soon after', async () => {
    const step = fc.record({ afterMs: fc.integer({ min: 0, max: 400 }), isSame: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 12 }),
        fc.integer({ min: 100, max: 300 }),
        async (steps, quietMs) => {
          const display = new FakeDisplay();
          const startMs = performance.now();
          let changedMs = 0;
          const noted = note(display.wait({ quietMs, timeoutMs: MAX_WAIT_MS }));
          for (const [i, { afterMs, isSame }] of steps.entries()) {
            await passes(afterMs);
            if (noted.result) break;
            if (!isSame) changedMs = performance.now() - startMs;
            display.change(isSame ? display.hash : `picture ${i}`);
          }
          await passes(quietMs + 100);
          const { waitedMs, hash } = noted.result ?? { waitedMs: Number.NaN };
          expect(hash).toBe(display.hash);
          expect(waitedMs).toBeGreaterThanOrEqual(changedMs + quietMs);
          expect(waitedMs).toBeLessThanOrEqual(changedMs + quietMs + 70);
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe('stillness', () => {
  test('lasts since the latest picture that was none of the two before', () => {
    const stillness = new Stillness();
    const lastsAfter = (hash: string, nowMs: number) => {
      stillness.note(hash, nowMs);
      return stillness.lasts(nowMs);
    };
    expect(lastsAfter('a', 1000)).toBe(0);
    expect(lastsAfter('a', 1100)).toBe(100);
    expect(lastsAfter('b', 1200)).toBe(0);
    expect(lastsAfter('a', 1300)).toBe(100);
    expect(lastsAfter('b', 1400)).toBe(200);
    expect(lastsAfter('c', 1500)).toBe(0);
    expect(lastsAfter('b', 1600)).toBe(100);
    expect(lastsAfter('a', 1700)).toBe(0);
  });

  test('agrees with a model, whatever is seen', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom('a', 'b', 'c', 'd')), (hashes) => {
        const stillness = new Stillness();
        hashes.forEach((hash, i) => {
          stillness.note(hash, i);
          // The longest end of what was seen that has two pictures at most begins here.
          const begin = hashes.findIndex((_, from) => new Set(hashes.slice(from, i + 1)).size <= 2);
          const second = hashes.findIndex((one, at) => at > begin && one !== hashes[begin]);
          const since = second < 0 || second > i ? begin : second;
          expect(stillness.lasts(i)).toBe(i - since);
        });
      }),
    );
  });
});

describe('over the API', () => {
  let here: ApiHere;
  let painted: Painted;
  beforeEach(async () => {
    here = await apiHere({ displays: [{ width: 64, height: 64 }] });
    painted = new Painted(here.screens[0] as never, 64, 64).draw(
      { x: 0, y: 0, width: 64, height: 64 },
      texture,
    );
    painted.flush();
  });
  afterEach(() => here[Symbol.asyncDispose]());
  const wait = (query: string) => here.ask('GET', `/v1/displays/0/wait?${query}`);
  const hashOf = async (query = '') =>
    (await here.ask('GET', `/v1/displays/0/screenshot?${query}`)).headers['pixels-hash'] as string;

  test('a display is still, with the hash that a screenshot has', async () => {
    const { status, json } = await wait('until=stable&quietMs=50');
    expect(status).toBe(200);
    expect(json).toMatchObject({ reason: 'stable', hash: await hashOf(), version: expect.any(Number) });
  });

  test('a region changes when a pixel in it does, whatever changes around it', async () => {
    const region = 'region=20,20,10,10';
    const before = await hashOf(region);
    const waiting = wait(`until=change&${region}`);
    const elsewhere = { x: 19, y: 20, width: 1, height: 1 };
    await soon(() => expect(here.screens[0]?.frame).toBeDefined());
    painted.draw(elsewhere, [1, 1, 1]).flush(elsewhere);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await hashOf(region)).toBe(before);
    const inside = { x: 29, y: 29, width: 1, height: 1 };
    painted.draw(inside, [1, 1, 1]).flush(inside);
    const { json } = await waiting;
    expect(json).toMatchObject({ reason: 'change', hash: await hashOf(region) });
    expect((json as WaitResult).hash).not.toBe(before);
  });

  test('a change before the request came is told of by its hash', async () => {
    const before = await hashOf();
    painted.draw({ x: 0, y: 0, width: 1, height: 1 }, [1, 1, 1]).flush();
    const { json } = await wait(`until=change&hash=${before}`);
    expect(json).toMatchObject({ reason: 'change' });
  });

  test('a picture that was seen before is recognised', async () => {
    const before = await hashOf();
    painted.draw({ x: 0, y: 0, width: 9, height: 9 }, [1, 1, 1]).flush();
    const waiting = wait(`until=match&hash=${before}`);
    painted.draw({ x: 0, y: 0, width: 9, height: 9 }, texture).flush();
    expect((await waiting).json).toMatchObject({ reason: 'match', hash: before });
  });

  test('what does not come is 408, with a code', async () => {
    const { status, json } = await wait('until=change&timeoutMs=50');
    expect([status, json]).toEqual([408, { error: { code: 'timeout', message: 'no change within 50 ms' } }]);
  });

  test.each([
    '',
    'until=never',
    'until=match',
    'until=match&hash=xyz',
    'until=stable&quietMs=-1',
    'until=stable&quietMs=1e9',
    'until=stable&timeoutMs=300001',
    'until=stable&timeoutMs=x',
    'until=stable&region=0,0,0,0',
    'until=stable&region=0,0,65,64',
    'until=stable&region=1,2,3',
    'until=stable&region=99999,99999,99999,99999',
  ])('the query "%s" is refused', async (query) => {
    const { status, json } = await wait(query);
    expect(status).toBe(400);
    expect(json).toMatchObject({ error: { code: 'bad_request' } });
  });

  test('a display that is not there is 404', async () => {
    expect((await here.ask('GET', '/v1/displays/1/wait?until=stable')).status).toBe(404);
  });

  test('too many that wait are refused, and those that hang up make room', async () => {
    const hangUps = Array.from({ length: MAX_WAITS + 3 }, () => new AbortController());
    const path = '/v1/displays/0/wait?until=change&timeoutMs=300000';
    const statuses: number[] = [];
    for (const hangUp of hangUps) {
      here.ask('GET', path, undefined, { signal: hangUp.signal }).then(
        ({ status }) => statuses.push(status),
        () => {},
      );
    }
    await soon(() => expect(statuses).toEqual([503, 503, 503]));
    for (const hangUp of hangUps) hangUp.abort();
    await soon(async () => expect((await wait('until=stable&quietMs=0')).status).toBe(200));
  });

  test('a server that leaves tells those who wait', async () => {
    const waiting = wait('until=change&timeoutMs=300000');
    await soon(() => expect(here.screens[0]?.frame).toBeDefined());
    await here.stopListening();
    const { status, json } = await waiting;
    expect([status, json]).toMatchObject([503, { error: { code: 'closed' } }]);
  });

  test('and those whose request comes while it leaves', async () => {
    const socket = connect(here.socketPath);
    let answer = '';
    socket.on('data', (bytes) => {
      answer += bytes;
    });
    const ended = once(socket, 'close');
    socket.write('GET /v1/displays/0/wait?until=change&timeoutMs=300000 HTTP/1.1\r\n');
    // One that is served came later: the server has read the line by then.
    await wait('until=stable&quietMs=0');
    const left = here.stopListening();
    await setImmediate();
    socket.write('Host: localhost\r\n\r\n');
    await ended;
    await left;
    expect(answer).toMatch(/^HTTP\/1\.1 503 .*"closed"/s);
  });
});
