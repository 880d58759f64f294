import { release } from 'node:os';
import { afterEach, expect, test, vi } from 'vitest';
import { scheduleInBackground, setSchedulingSlice } from '../../native/index.ts';
import { SCHED_BATCH, SCHED_OTHER, type ScheduledThread } from '../support/threads.ts';
import { runScenario } from './support.ts';

afterEach(() => {
  vi.unstubAllEnvs();
});

test.each([undefined, '1', '9'])(
  'a worker and the whole thread pool give way, the thread that had them does not; UV_THREADPOOL_SIZE is %s',
  async (poolThreads) => {
    vi.stubEnv('UV_THREADPOOL_SIZE', poolThreads);
    const { result, status, stderr } = await runScenario('workerGivesWay');
    expect([status, stderr]).toEqual([0, '']);
    const { before, after } = result as { before: ScheduledThread; after: ScheduledThread[] };
    expect(before.policy).toBe(SCHED_OTHER);
    expect(after[0]).toEqual(before);
    const background = after.filter(({ policy }) => policy === SCHED_BATCH).map(({ nice }) => nice);
    const niceOfEach = Math.min(before.nice + 5, 19);
    expect(background).toEqual(Array.from({ length: 1 + Number(poolThreads ?? 4) }, () => niceOfEach));
  },
);

test('a worker can end before the pool has changed', async () => {
  expect(await runScenario('workerGivesWayAndEnds')).toMatchObject({
    status: 0,
    result: { code: 7 },
    stderr: '',
  });
});

test('a thread has a shorter slice, and then what is usual, and nothing else is different', async (context) => {
  const { result, status } = await runScenario('shortSlice');
  expect(status).toBe(0);
  const { usual, short, again, unchanged } = result as Record<string, unknown>;
  expect(unchanged).toBe(true);
  const [major = 0, minor = 0] = release().split('.').map(Number);
  if (usual === undefined || major < 6 || (major === 6 && minor < 12)) {
    console.log(
      `skipping "${context.task.name}": Linux ${release()} has no slices, or does not tell of them`,
    );
    context.skip();
  }
  expect(short).toBe(300_000);
  expect(again).not.toBe(300_000);
});

test('numbers out of range are refused', () => {
  for (const wrong of [-1, 20, 1.5, Number.NaN])
    expect(() => scheduleInBackground(wrong)).toThrow(RangeError);
  for (const wrong of [-1, Number.NaN]) expect(() => setSchedulingSlice(wrong)).toThrow(RangeError);
});
