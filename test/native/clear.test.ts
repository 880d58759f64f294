import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import {
  type BackgroundClear,
  clearInBackground,
  clearRange,
  createMemfd,
  Mapping,
  nextData,
  registrySize,
  SystemError,
} from '../../native/index.ts';
import { forTest, openFds, runScenario, temporaryFolder } from './support.ts';

const page = 4096;
const MiB = 2 ** 20;

/** A sparse file of a mebibyte, with ones in pages 2, 3 and 6, and in the last. */
function spotted(): number {
  const fd = forTest(createMemfd('spotted', MiB, { seals: 'size' }));
  for (const index of [2, 3, 6, 255]) writeSync(fd, new Uint8Array(page).fill(1), 0, page, index * page);
  return fd;
}

/** The pages that the file has memory for. */
function pagesOf(fd: number): number {
  return (fstatSync(fd).blocks * 512) / page;
}

/** Where ones begin and end: what is left of them. */
function onesOf(fd: number): [start: number, end: number][] {
  const bytes = Buffer.alloc(MiB);
  readSync(fd, bytes, 0, MiB, 0);
  const ranges: [number, number][] = [];
  for (let at = bytes.indexOf(1); at >= 0; at = bytes.indexOf(1, at)) {
    const end = bytes.indexOf(0, at);
    ranges.push([at, end < 0 ? MiB : end]);
    at = ranges.at(-1)![1];
  }
  return ranges;
}

/** Clears in the background; resolves once `done` is called. */
function clearSoon(fd: number, offset: number, lengthBytes: number): Promise<SystemError | undefined> {
  return new Promise((done) => void clearInBackground(fd, offset, lengthBytes, done));
}

/** Enough for the thread pool to hand everything back. */
async function untilNothingRuns(): Promise<void> {
  while (registrySize().clears > 0) await turn();
}

// ---- holes ----

test('data is found behind holes, to the page, up to the end of the file', () => {
  const fd = spotted();
  expect(nextData(fd, 0)).toBe(2 * page);
  expect(nextData(fd, 2 * page + 5)).toBe(2 * page + 5);
  expect(nextData(fd, 4 * page)).toBe(6 * page);
  expect(nextData(fd, 7 * page)).toBe(255 * page);
  expect(nextData(fd, MiB)).toBe(undefined);
  expect(nextData(forTest(createMemfd('empty', MiB)), 0)).toBe(undefined);
  expect(() => nextData(999_999, 0)).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'lseek' }));
  expect(() => nextData(fd, -1)).toThrow(RangeError);
});

// ---- at once ----

test('a cleared range is zeros, holes stay holes and pages stay', () => {
  const fd = spotted();
  clearRange(fd, 0, MiB);
  expect(onesOf(fd)).toEqual([]);
  expect(pagesOf(fd)).toBe(4);
  expect(fstatSync(fd).size).toBe(MiB);
});

test('only the range is cleared, to the byte', () => {
  const fd = spotted();
  clearRange(fd, 3 * page + 5, 4 * page);
  expect(onesOf(fd)).toEqual([
    [2 * page, 3 * page + 5],
    [255 * page, MiB],
  ]);
  clearRange(fd, 2 * page + 1, 1);
  clearRange(fd, 2 * page + 3, 0);
  clearRange(fd, MiB - 1, 5 * MiB);
  expect(onesOf(fd)).toEqual([
    [2 * page, 2 * page + 1],
    [2 * page + 2, 3 * page + 5],
    [255 * page, MiB - 1],
  ]);
  expect(pagesOf(fd)).toBe(4);
});

test('clearing a range of 5 MiB of data and of nothing works', () => {
  const fd = forTest(createMemfd('large', 9 * MiB));
  writeSync(fd, new Uint8Array(5 * MiB).fill(1), 0, 5 * MiB, 0);
  clearRange(fd, 0, 9 * MiB);
  using mapping = Mapping.map(fd, { lengthBytes: 9 * MiB, whole: true });
  expect(mapping.bytes(0, 9 * MiB).some((byte) => byte !== 0)).toBe(false);
  expect(fstatSync(fd).size).toBe(9 * MiB);
  expect(() => clearRange(fd, 8 * MiB, 0)).not.toThrow();
});

test('what cannot be cleared is refused', () => {
  const path = join(temporaryFolder(), 'file');
  const writeOnce = forTest(openSync(path, 'w'));
  writeSync(writeOnce, 'text');
  const readOnly = forTest(openSync(path, 'r'));
  expect(() => clearRange(readOnly, 0, 4)).toThrow(expect.objectContaining({ syscall: 'pwrite' }));
  expect(() => clearRange(999_999, 0, 4)).toThrow(expect.objectContaining({ code: 'EBADF' }));
  expect(() => clearRange(readOnly, 0.5, 4)).toThrow(RangeError);
  expect(() => clearRange(readOnly, 0, -4)).toThrow(RangeError);
});

// ---- in the background ----

test('a range is cleared in the background, and then the callback comes, without an error', async () => {
  const fd = spotted();
  let isCalled = false;
  const clear = clearInBackground(fd, 0, 4 * page, () => {
    isCalled = true;
  });
  expect(isCalled).toBe(false);
  await untilNothingRuns();
  expect(isCalled).toBe(true);
  expect(onesOf(fd).map(([start]) => start)).toEqual([6 * page, 255 * page]);
  expect(pagesOf(fd)).toBe(4);
  expect(() => clear.wait()).not.toThrow();
});

test('the descriptor that was passed in may be closed at once', async () => {
  const fd = createMemfd('closed', page);
  using mapping = Mapping.map(fd, { lengthBytes: page, writable: true });
  mapping.bytes(0, page).fill(1);
  const done = clearSoon(fd, 0, page);
  closeSync(fd);
  expect(await done).toBe(undefined);
  expect(mapping.bytes(0, 1)[0]).toBe(0);
});

test('whoever waits finds the range cleared, and is not called back', async () => {
  const fd = spotted();
  let calls = 0;
  const clear = clearInBackground(fd, 0, MiB, () => calls++);
  clear.wait();
  expect(onesOf(fd)).toEqual([]);
  clear.wait();
  await untilNothingRuns();
  await turn();
  expect(calls).toBe(0);
});

test('waiting does not queue behind a busy thread pool', async () => {
  expect(await runScenario('waitBehindBusyPool')).toMatchObject({
    status: 0,
    result: { size: { clears: 0 }, fds: 0 },
    stderr: '',
  });
});

test('a callback may wait for its own clear, and for another', async () => {
  const fd = spotted();
  const calls: number[] = [];
  const clears: BackgroundClear[] = [0, 1].map((index) =>
    clearInBackground(fd, 0, MiB, () => {
      calls.push(index);
      for (const clear of clears) clear.wait();
    }),
  );
  await untilNothingRuns();
  expect(calls.length).toBe(1);
});

test('a thousand clears, some waited for, leave nothing behind', async () => {
  const before = openFds();
  const fd = spotted();
  let calls = 0;
  const clears = Array.from({ length: 1000 }, (_, index) =>
    clearInBackground(fd, (index % 256) * page, page, (error) => {
      if (!error) calls++;
    }),
  );
  for (const [index, clear] of clears.entries()) if (index % 4 === 0) clear.wait();
  await untilNothingRuns();
  expect(calls).toBe(750);
  expect(onesOf(fd)).toEqual([]);
  expect(pagesOf(fd)).toBe(4);
  expect(openFds()).toBe(before + 1);
});

test('what fails is told to the callback, or to whoever waits', async () => {
  const path = join(temporaryFolder(), 'file');
  writeSync(forTest(openSync(path, 'w')), 'text');
  const readOnly = forTest(openSync(path, 'r'));
  const failure = expect.objectContaining({ code: 'EBADF', syscall: 'pwrite' });
  const error = await clearSoon(readOnly, 0, 4);
  expect(error).toBeInstanceOf(SystemError);
  expect(error).toEqual(failure);
  const clear = clearInBackground(readOnly, 0, 4, () => expect.unreachable());
  expect(() => clear.wait()).toThrow(failure);
  expect(() => clear.wait()).toThrow(failure);
  await untilNothingRuns();
});

test('wrong arguments are refused, and nothing stays open', () => {
  const fd = spotted();
  const before = openFds();
  const nothing = () => {};
  expect(() => clearInBackground(999_999, 0, 1, nothing)).toThrow(expect.objectContaining({ code: 'EBADF' }));
  expect(() => clearInBackground(fd, -1, 1, nothing)).toThrow(RangeError);
  expect(() => clearInBackground(fd, 0, Number.NaN, nothing)).toThrow(RangeError);
  expect(() => clearInBackground(fd, 0, 1, 'done' as never)).toThrow(TypeError);
  expect(openFds()).toBe(before);
  expect(registrySize().clears).toBe(0);
});

test('what a callback throws is an uncaught exception, and the next is called all the same', async () => {
  expect(await runScenario('throwInDone')).toMatchObject({
    status: 0,
    result: { caught: ['first', 'second'], size: { clears: 0 } },
  });
});

test('a clear goes on, and keeps the process alive, although its handle was collected', async () => {
  expect(await runScenario('clearOutlivesHandle', ['--expose-gc'])).toMatchObject({ status: 0, result: {} });
});
