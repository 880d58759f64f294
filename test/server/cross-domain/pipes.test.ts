/** Pipes whose guests have gone: who gets what is left, and how much that may be. */
import { closeSync, readSync } from 'node:fs';
import { afterEach, expect, test, vi } from 'vitest';
import { createPipe } from '../../../native/index.ts';
import { LingeringPipes, WritePipe } from '../../../server/cross-domain/pipes.ts';
import { openFds } from '../../support/fake-client.ts';

const MiB = 2 ** 20;
/** What a pipe of Linux holds. */
const PIPE_BYTES = 65_536;

let readers: number[] = [];
afterEach(() => {
  for (const fd of readers) closeSync(fd);
  readers = [];
  vi.useRealTimers();
});

/** A pipe with so much that its reader has not taken, and has not been able to. */
function fullPipe(unwrittenBytes: number): WritePipe {
  const [read, write] = createPipe();
  readers.push(read);
  const pipe = new WritePipe(write);
  pipe.write(new Uint8Array(PIPE_BYTES));
  pipe.write(new Uint8Array(unwrittenBytes));
  expect(pipe.unwrittenBytes).toBe(unwrittenBytes);
  return pipe;
}

test('a pipe without a reader that reads ends after ten seconds', () => {
  vi.useFakeTimers();
  const before = openFds();
  const lingering = new LingeringPipes();
  lingering.take(fullPipe(100));
  vi.advanceTimersByTime(9_999);
  expect([lingering.count, openFds()]).toEqual([1, before + 2]);
  vi.advanceTimersByTime(1);
  expect([lingering.count, openFds()]).toEqual([0, before + 1]);
});

test('there are 64 of them at most, and what is beyond ends at once', () => {
  const before = openFds();
  const lingering = new LingeringPipes();
  for (let i = 0; i < 65; i++) lingering.take(fullPipe(100));
  expect([lingering.count, openFds()]).toEqual([64, before + 65 + 64]);
  lingering.close();
  expect([lingering.count, openFds()]).toEqual([0, before + 65]);
});

test('all of them hold 64 MiB at most', () => {
  const lingering = new LingeringPipes();
  lingering.take(fullPipe(40 * MiB));
  lingering.take(fullPipe(24 * MiB + 1));
  expect(lingering.count).toBe(1);
  lingering.take(fullPipe(24 * MiB));
  expect(lingering.count).toBe(2);
  lingering.close();
});

test('one whose reader goes is gone', async () => {
  const lingering = new LingeringPipes();
  lingering.take(fullPipe(100));
  for (const fd of readers.splice(0)) closeSync(fd);
  await vi.waitFor(() => expect(lingering.count).toBe(0));
});

test('one whose reader reads is written to its end', async () => {
  const lingering = new LingeringPipes();
  lingering.take(fullPipe(100));
  const bytes = new Uint8Array(PIPE_BYTES);
  expect(readSync(readers[0]!, bytes)).toBe(PIPE_BYTES);
  await vi.waitFor(() => expect(lingering.count).toBe(0));
  expect(readSync(readers[0]!, bytes)).toBe(100);
  expect(readSync(readers[0]!, bytes)).toBe(0);
});
