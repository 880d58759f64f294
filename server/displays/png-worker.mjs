// @ts-check
/**
 * Encodes pictures in a thread of its own. Plain JavaScript, because a worker is started from its file: this one
 * is the same file from source and in the built package.
 */
import { parentPort } from 'node:worker_threads';
import { encode } from 'fast-png';

parentPort?.on('message', ({ id, width, height, rgba }) => {
  const png = encode({ width, height, data: rgba, channels: 4, depth: 8 });
  parentPort?.postMessage({ id, png }, [/** @type {ArrayBuffer} */ (png.buffer)]);
});
