import { expect, test } from 'vitest';
import { runScenario } from './support.ts';

test('a process ends although everything is open', async () => {
  const ended = await runScenario('exitWithEverythingOpen');
  expect(ended).toMatchObject({ status: 0, result: { mappings: 1, watches: 2, guards: 1 }, stderr: '' });
});

test('a process can exit inside a callback', async () => {
  expect(await runScenario('exitInCallback')).toMatchObject({ status: 7, signal: null, stderr: '' });
});

test('a process can end while a watch is closing', async () => {
  expect(await runScenario('closeWatchAndExit')).toMatchObject({ status: 0, signal: null, stderr: '' });
});

test('a worker that ends, is terminated or exits with everything open leaves nothing mapped', async () => {
  expect(await runScenario('workerEndsWithEverythingOpen')).toMatchObject({
    status: 0,
    result: {
      codes: [0, 1, 7],
      mappings: 0,
      size: { mappings: 0, watches: 0, guards: 0, clears: 0 },
      alive: 1,
    },
    stderr: '',
  });
});

test('forgotten mappings are unmapped once collected, unless a view or an address space needs them', async () => {
  expect(await runScenario('garbageCollected', ['--expose-gc'])).toMatchObject({
    status: 0,
    result: { size: { mappings: 2, guards: 2 }, mapped: 2, kept: 3, covered: true },
  });
});

test('a process can end while clears run, and nobody is called back', async () => {
  expect(await runScenario('exitWhileClearing')).toMatchObject({
    status: 7,
    result: { clears: 16 },
    stderr: '',
  });
});

test('a process can end inside the callback of a clear while others run', async () => {
  expect(await runScenario('exitInDone')).toMatchObject({ status: 7, signal: null, stderr: '' });
});

test('a worker that is terminated or exits while clears run leaves no descriptor open', async () => {
  expect(await runScenario('workerEndsWhileClearing')).toMatchObject({
    status: 0,
    result: { codes: [1, 7], fds: 0, size: { clears: 0 } },
    stderr: '',
  });
});
