import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import {
  createEventfd,
  DISCONNECT,
  drainEventfd,
  READABLE,
  receive,
  registrySize,
  SystemError,
  send,
  signalEventfd,
  socketPair,
  Watch,
  WRITABLE,
} from '../../native/index.ts';
import { forTest, openFds, runScenario, temporaryFolder } from './support.ts';

/** A watch that is closed before its descriptor is. */
function watch(fd: number, events: number, callback: (events: number) => void): Watch {
  const made = new Watch(fd, events, callback);
  onTestFinished(() => made.close());
  return made;
}

/** Enough turns of the loop for everything ready to be reported. */
async function turns(): Promise<void> {
  for (let i = 0; i < 3; i++) await turn();
}

// ---- eventfds ----

test('an eventfd counts signals until it is drained', () => {
  const fd = forTest(createEventfd());
  expect(drainEventfd(fd)).toBe(0);
  signalEventfd(fd);
  signalEventfd(fd);
  signalEventfd(fd);
  expect(drainEventfd(fd)).toBe(3);
  expect(drainEventfd(fd)).toBe(0);
});

test('a full counter counts as signalled', () => {
  const fd = forTest(createEventfd());
  writeSync(fd, new BigUint64Array([0xffff_ffff_ffff_fffen]));
  expect(() => signalEventfd(fd)).not.toThrow();
  expect(drainEventfd(fd)).toBe(2 ** 64);
  expect(drainEventfd(fd)).toBe(0);
});

test('signalling what is no descriptor fails with its errno', () => {
  const fd = createEventfd();
  closeSync(fd);
  expect(() => signalEventfd(fd)).toThrow(SystemError);
  expect(() => signalEventfd(fd)).toThrow(
    expect.objectContaining({
      errno: 9,
      code: 'EBADF',
      syscall: 'write',
      message: 'write: EBADF, bad file descriptor',
    }),
  );
  expect(() => drainEventfd(fd)).toThrow(
    expect.objectContaining({ errno: 9, code: 'EBADF', syscall: 'read' }),
  );
  expect(() => signalEventfd(-1)).toThrow(RangeError);
  expect(() => signalEventfd(1.5)).toThrow(RangeError);
  expect(() => signalEventfd(null as never)).toThrow(TypeError);
});

// ---- watches ----

test('a watch reports until the condition is gone', async () => {
  const fd = forTest(createEventfd());
  const seen: number[] = [];
  watch(fd, READABLE, (events) => {
    seen.push(events);
    if (seen.length === 3) drainEventfd(fd);
  });
  await turns();
  expect(seen).toEqual([]);
  signalEventfd(fd);
  await expect.poll(() => seen.length).toBe(3);
  await turns();
  expect(seen).toEqual([READABLE, READABLE, READABLE]);
});

test('a watch reports room to write, and both conditions at once', async () => {
  const [left, right] = socketPair().map(forTest) as [number, number];
  const seen: number[] = [];
  const both = watch(left, READABLE | WRITABLE, (events) => {
    seen.push(events);
    both.setEvents(0);
  });
  await expect.poll(() => seen).toEqual([WRITABLE]);
  send(right, Buffer.from('x'), 0, 1);
  both.setEvents(READABLE | WRITABLE);
  await expect.poll(() => seen).toEqual([WRITABLE, READABLE | WRITABLE]);
});

test('a paused watch reports nothing, and what has happened meanwhile when it resumes', async () => {
  const fd = forTest(createEventfd());
  const seen: number[] = [];
  const paused = watch(fd, 0, () => seen.push(drainEventfd(fd)));
  signalEventfd(fd);
  await turns();
  expect(seen).toEqual([]);
  paused.setEvents(READABLE);
  await expect.poll(() => seen).toEqual([1]);
  paused.setEvents(0);
  signalEventfd(fd);
  await turns();
  expect(seen).toEqual([1]);
});

test('the end of a stream is readable, and a disconnect to those who ask', async () => {
  const [left, right] = socketPair();
  forTest(right);
  const seen: number[] = [];
  const ending = watch(right, READABLE | DISCONNECT, (events) => {
    seen.push(events);
    ending.close();
  });
  closeSync(left);
  await expect.poll(() => seen).toEqual([READABLE | DISCONNECT]);
  expect(receive(right, new Uint8Array(1), 0, 1, new Int32Array(1))).toBe(0);
});

test('an error of the descriptor is a disconnect, once, and pauses the watch', async () => {
  const [left, right] = socketPair();
  forTest(left);
  // Closing with unread bytes resets the connection: the other end has a pending ECONNRESET, EPOLLERR.
  send(left, Buffer.from('unread'), 0, 6);
  const seen: number[] = [];
  watch(left, DISCONNECT, (events) => seen.push(events));
  closeSync(right);
  await expect.poll(() => seen).toEqual([DISCONNECT]);
  await turns();
  expect(seen).toEqual([DISCONNECT]);
});

test('closing inside the own callback ends it there', async () => {
  const fd = forTest(createEventfd());
  signalEventfd(fd);
  let calls = 0;
  const once = watch(fd, READABLE, () => {
    calls++;
    once.close();
    once.close();
  });
  await turns();
  expect(calls).toBe(1);
  expect(registrySize().watches).toBe(0);
});

test('a watch closed by another one in the same turn is not called any more', async () => {
  const fds = [forTest(createEventfd()), forTest(createEventfd())];
  for (const fd of fds) signalEventfd(fd);
  let calls = 0;
  const watches = fds.map((fd) =>
    watch(fd, READABLE, () => {
      calls++;
      for (const each of watches) each.close();
    }),
  );
  await turns();
  expect(calls).toBe(1);
});

test('a descriptor number can be watched again at once, also when it is another file now', async () => {
  const first = createEventfd();
  signalEventfd(first);
  let calls = 0;
  const gone = watch(first, READABLE, () => calls++);
  gone.close();
  closeSync(first);
  const second = forTest(createEventfd());
  expect(second).toBe(first);
  const seen: number[] = [];
  watch(second, READABLE, () => seen.push(drainEventfd(second)));
  await turns();
  signalEventfd(second);
  await expect.poll(() => seen).toEqual([1]);
  expect(calls).toBe(0);
});

test('promises and ticks settle after each callback', async () => {
  const fds = [forTest(createEventfd()), forTest(createEventfd())];
  const order: string[] = [];
  fds.forEach((fd, i) => {
    watch(fd, READABLE, () => {
      drainEventfd(fd);
      order.push(`callback ${i}`);
      process.nextTick(() => order.push(`tick ${i}`));
      Promise.resolve().then(() => order.push(`promise ${i}`));
    });
    signalEventfd(fd);
  });
  await expect.poll(() => order.length).toBe(6);
  expect(order).toEqual(['callback 0', 'tick 0', 'promise 0', 'callback 1', 'tick 1', 'promise 1']);
});

test('what a callback throws is an uncaught exception, and the watch goes on', async () => {
  const ended = await runScenario('throwInCallback');
  expect(ended).toMatchObject({ status: 0, result: { caught: ['call 1', 'call 2'], calls: 3 } });
});

test('an exception that nobody handles ends the process', async () => {
  const ended = await runScenario('throwUnhandled');
  expect(ended.status).toBe(1);
  expect(ended.stderr).toContain('Error: nobody handles this');
});

test('an open watch keeps the process alive, a closed, paused or unreferenced one does not', async () => {
  expect(await runScenario('aliveUntilClosed')).toMatchObject({ status: 0, result: { closed: true } });
  expect(await runScenario('pausedLetsGo')).toMatchObject({ status: 0, result: { ended: 'at once' } });
  expect(await runScenario('unrefLetsGo')).toMatchObject({ status: 0, result: { ended: 'at once' } });
});

test('a watch goes on although its handle was collected', async () => {
  expect(await runScenario('watchOutlivesHandle', ['--expose-gc'])).toMatchObject({
    status: 0,
    result: { calls: 1 },
  });
});

test('what cannot be watched is refused, and nothing stays open', () => {
  const fd = forTest(createEventfd());
  const file = forTest(openSync(join(temporaryFolder(), 'file'), 'w'));
  const nothing = () => {};
  watch(fd, READABLE, nothing);
  const before = openFds();
  expect(() => new Watch(fd, READABLE, nothing)).toThrow(
    expect.objectContaining({ code: 'EEXIST', syscall: 'uv_poll_init' }),
  );
  expect(() => new Watch(file, READABLE, nothing)).toThrow(expect.objectContaining({ code: 'EPERM' }));
  expect(() => new Watch(999_999, READABLE, nothing)).toThrow(expect.objectContaining({ code: 'EBADF' }));
  expect(() => new Watch(fd, 8, nothing)).toThrow(RangeError);
  expect(() => new Watch(fd, -1, nothing)).toThrow(RangeError);
  expect(() => new Watch(-1, READABLE, nothing)).toThrow(RangeError);
  expect(() => new Watch(fd, READABLE, 'call me' as never)).toThrow(TypeError);
  expect(registrySize().watches).toBe(1);
  expect(openFds()).toBe(before);
});

test('a closed watch refuses everything but another close', () => {
  const closed = new Watch(forTest(createEventfd()), READABLE, () => {});
  closed.close();
  closed.close();
  closed[Symbol.dispose]();
  expect(() => closed.setEvents(READABLE)).toThrow(expect.objectContaining({ code: 'EBADF' }));
  expect(() => closed.ref()).toThrow(SystemError);
  expect(() => closed.unref()).toThrow(SystemError);
});

test('methods borrowed onto another receiver are refused', () => {
  expect(() => Watch.prototype.close.call({} as Watch)).toThrow(TypeError);
  expect(() => Watch.prototype.setEvents.call(Object.create(Watch.prototype), 1)).toThrow(TypeError);
});
