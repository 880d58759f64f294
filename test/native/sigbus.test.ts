import { expect, test } from 'vitest';
import { sigbusRepairs } from '../../native/index.ts';
import { addonPath, runNode, runScenario } from './support.ts';

test('nothing was repaired yet', () => {
  expect(sigbusRepairs()).toBe(0);
});

test('lost pages read as zeros, can be written, and are counted once each', async () => {
  expect(await runScenario('repairInJavaScript')).toMatchObject({
    status: 0,
    result: { first: 1, afterReading: 255, second: 512, afterWriting: 255, guards: 0 },
  });
});

test('a file that shrinks under a hot loop does not stop it', async () => {
  const ended = await runScenario('repairUnderHotLoop');
  expect(ended).toMatchObject({ status: 0, result: { sum: 0, hot: true } });
  const { repairs } = ended.result as { repairs: number };
  expect(repairs).toBeGreaterThan(0);
  expect(repairs).toBeLessThanOrEqual(255);
});

test('gather copies zeros for lost pages', async () => {
  expect(await runScenario('repairInGather')).toMatchObject({
    status: 0,
    result: { copied: 256 * 4096, sum: 1, repairs: 255 },
  });
});

test('after 4096 pages the rest of a mapping is replaced at once', async () => {
  expect(await runScenario('repairWholeRange')).toMatchObject({
    status: 0,
    result: [4095, 4096, 4097, 4097],
  });
});

test('a mapping is replaced whole when the process has too many mappings for single pages', async () => {
  expect(await runScenario('repairWithTooManyMappings')).toMatchObject({
    status: 0,
    result: { all: 12, replacedWhole: true },
  });
});

test('a fault outside any guard ends the process', async () => {
  expect(await runScenario('outsideAnyGuard')).toMatchObject({ signal: 'SIGBUS', result: undefined });
});

test('a guard ends with its mapping', async () => {
  expect(await runScenario('afterTheGuard')).toMatchObject({ signal: 'SIGBUS', result: undefined });
});

test('a SIGBUS that somebody sent ends the process as ever', async () => {
  expect(await runScenario('sentFromOutside')).toMatchObject({ signal: 'SIGBUS', result: undefined });
});

test('the handler stays usable when the worker that brought it has ended', async () => {
  const inWorker = `
    const addon = require(${JSON.stringify(addonPath())});
    addon.map(addon.createMemfd('x', 4096, false), 0, 4096, false, true, false);`;
  const main = `
    const { Worker } = require('node:worker_threads');
    const worker = new Worker(${JSON.stringify(inWorker)}, { eval: true });
    worker.on('exit', (code) => { console.log(code); process.kill(process.pid, 'SIGBUS'); });
    setInterval(() => {}, 1000);`;
  expect(await runNode(['-e', main])).toMatchObject({ signal: 'SIGBUS', result: 0 });
});
