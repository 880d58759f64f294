/**
 * viewer.mjs SOCKET WIDTHxHEIGHT
 *
 * The built server with somebody who looks at its display and does nothing else. Prints `{}` when it listens. Answers
 * `look` with the flushes there were, the bytes copied for them, and nanoseconds of the fastest of the copies since the
 * last look; `look closely` also with the hash of what is seen (`picture_hash` in picture.c). Ends when its input does.
 */
import { createInterface } from 'node:readline';
import { GpuServer } from '../../dist/server/index.js';

const [socketPath = '', size = ''] = process.argv.slice(2);
const [width = 0, height = 0] = size.split('x').map(Number);
const gpu = new GpuServer({ socketPath, displays: [{ width, height, refreshHz: 60 }] });
const [screen] = gpu.screens;
screen.watch({ changed() {}, replaced() {}, cursorChanged() {}, modeChanged() {} });

/** What a flush does with the picture, the copy and nothing else to speak of. */
let fastestCopy = Number.POSITIVE_INFINITY;
const damage = screen.damage.bind(screen);
screen.damage = (rect) => {
  const start = process.hrtime.bigint();
  const copiedBytes = damage(rect);
  fastestCopy = Math.min(fastestCopy, Number(process.hrtime.bigint() - start));
  return copiedBytes;
};

/** The picture has blue, green and red in this order. */
function hashOf(pixels) {
  let hash = 0x811c9dc5;
  for (let at = 0; at < pixels.length; at += 4) {
    for (let channel = 0; channel < 3; channel++) hash = Math.imul(hash ^ pixels[at + channel], 0x01000193);
  }
  return hash >>> 0;
}

function look(withHash) {
  const { copiedBytes, flushes } = gpu.metrics();
  const hash = withHash ? hashOf(screen.frame?.bytes ?? []) : 0;
  const seen = { hash, fastestCopy, flushes: flushes[0], copiedBytes: copiedBytes.flushes };
  fastestCopy = Number.POSITIVE_INFINITY;
  return seen;
}

const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);
say({});
for await (const order of createInterface(process.stdin)) {
  if (order !== 'look' && order !== 'look closely') throw new Error(`no order ${order}`);
  say(look(order === 'look closely'));
}
gpu.close();
