import { Worker } from 'node:worker_threads';
import { expect, onTestFinished, test } from 'vitest';
import { FrameLock } from '../../../../server/displays/viewing/frame-lock.ts';

test('who looks keeps the device from copying until it has finished, and hears that there is something to copy', () => {
  const lock = new FrameLock();
  const device = new FrameLock(lock.buffer);
  const copies = () => {
    const may = device.beginCopy();
    if (may) device.endCopy();
    return may;
  };
  expect(copies()).toBe(true);
  expect(lock.look(() => {})).toBe(false);
  expect(lock.look(() => expect(copies()).toBe(false))).toBe(true);
  expect(copies()).toBe(true);
  expect(lock.look(() => {})).toBe(false);
});

test('a look that fails is over', () => {
  const lock = new FrameLock();
  const look = () => {
    throw new Error('no');
  };
  expect(() => lock.look(look)).toThrow('no');
  expect(lock.beginCopy()).toBe(true);
});

test('on two threads no look sees half of a copy, and no copy that could not be made is forgotten', async () => {
  const lock = new FrameLock();
  const frame = new Int32Array(new SharedArrayBuffer(2 ** 16));
  const device = `
    const { parentPort, workerData } = require('node:worker_threads');
    const { once } = require('node:events');
    (async () => {
      const { FrameLock } = await import(workerData.module);
      const lock = new FrameLock(workerData.lock);
      const frame = new Int32Array(workerData.frame);
      for (let i = 1; ; i++) {
        // Were it forgotten, nobody would ever say so.
        while (!lock.beginCopy()) await once(parentPort, 'message');
        for (let at = 0; at < frame.length; at++) frame[at] = i;
        lock.endCopy();
        if (i % 3 === 0) await new Promise(setImmediate);
      }
    })();
  `;
  const module = new URL('../../../../dist/server/displays/viewing/frame-lock.js', import.meta.url).href;
  const worker = new Worker(device, {
    eval: true,
    workerData: { module, lock: lock.buffer, frame: frame.buffer },
  });
  onTestFinished(async () => void (await worker.terminate()));
  const nothing = new Int32Array(new SharedArrayBuffer(4));
  const seen = new Set<number>();
  let late = 0;
  // Until both have met often, in both orders.
  while (seen.size < 200 || late < 10 || (frame[0] as number) < 20000) {
    const isLate = lock.look(() => {
      const first = frame[0] as number;
      seen.add(first);
      if (!frame.every((word) => word === first))
        throw new Error(`half of a copy, the other half is ${first}`);
      // On a busy machine the device may have no CPU while somebody looks.
      if (late < 10) Atomics.wait(nothing, 0, 0, 2);
    });
    if (isLate) {
      late++;
      worker.postMessage('looked');
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
});
