/**
 * windows.mjs
 *
 * The table of DMA windows of the built server, on its own. Prints `{}` when it is ready. Each line is a number of windows
 * and how they come: `neighbours` are blocks of 2 MiB of one file, in order; `shuffled` the same in any order; `scattered`
 * are pages of one file in any order and at any place, as behind an IOMMU. It answers with means of the main thread's time
 * on its CPU, in nanoseconds, and with the memory that a window takes, in bytes. Ends when its input does.
 */
import { closeSync, openSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setImmediate as turn } from 'node:timers/promises';
import { createMemfd } from '../../dist/native/index.js';
import { DmaMap } from '../../dist/server/host/guest-memory.js';

const [PAGE, BLOCK] = [4096, 2 ** 21];
const BASE = 2 ** 32;
const LOOKUPS = 200_000;
/** 128 MiB of blocks of 2 MiB, as virtio-mem takes them away. */
const TAKEN_AT_ONCE = 64;

let state = 1;
const below = (limit) => {
  state = (state * 48_271) % 0x7fff_ffff;
  return Math.floor((state / 0x7fff_ffff) * limit);
};
function shuffled(numbers) {
  for (let i = numbers.length - 1; i > 0; i--) {
    const j = below(i + 1);
    [numbers[i], numbers[j]] = [numbers[j], numbers[i]];
  }
  return numbers;
}
const upTo = (count) => Array.from({ length: count }, (_, i) => i);

/** Nanoseconds of the main thread on a CPU while something is done so often, each time. */
function timeOf(times, action) {
  const spent = () => Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ')[0]);
  const before = spent();
  action();
  return (spent() - before) / times;
}
/** What is alive in the engine's heap, and all of that of malloc, which the table and the addon use. */
function usedBytes() {
  globalThis.gc();
  const heap = readFileSync('/proc/self/smaps', 'utf8').split('[heap]')[1];
  return process.memoryUsage().heapUsed + Number(/^Rss:\s+(\d+) kB/m.exec(heap)[1]) * 1024;
}

async function measure(count, kind) {
  const sizeBytes = kind === 'scattered' ? PAGE : BLOCK;
  const order = kind === 'neighbours' ? upTo(count) : shuffled(upTo(count));
  const places = kind === 'scattered' ? shuffled(upTo(count)) : upTo(count);
  const file = createMemfd('guest RAM', count * sizeBytes, { seals: 'size' });
  const descriptor = () => openSync(`/proc/self/fd/${file}`, 'r+');
  const map = new DmaMap();
  const add = (i) => {
    const window = { address: BASE + i * sizeBytes, sizeBytes, fileOffset: places[i] * sizeBytes };
    map.map({ ...window, readable: true, writable: true }, descriptor());
  };
  const opened = timeOf(count, () => {
    for (let i = 0; i < count; i++) closeSync(descriptor());
  });
  const probes = Array.from({ length: LOOKUPS }, () => BASE + below(count) * sizeBytes + 16);
  await turn();
  const before = usedBytes();
  const mapped = timeOf(count, () => order.forEach(add));
  await turn();
  const memory = (usedBytes() - before) / count;
  let found = 0;
  const lookedUp = timeOf(LOOKUPS, () => {
    for (const address of probes) if (map.covers(address, 16, 'write')) found++;
  });
  const lookedUpNatively = timeOf(LOOKUPS, () => {
    for (const address of probes) if (map.addressSpace.covers(address, 16, true)) found++;
  });
  const batches = Math.floor(count / (4 * TAKEN_AT_ONCE));
  const taken = timeOf(batches, () => {
    for (let i = 0; i < batches; i++)
      map.unmap(BASE + i * 4 * TAKEN_AT_ONCE * sizeBytes, TAKEN_AT_ONCE * sizeBytes);
  });
  const left = map.windowCount;
  const allTaken = timeOf(1, () => map.unmap(0, 2 ** 52));
  if (found !== 2 * LOOKUPS || left !== count - batches * TAKEN_AT_ONCE || map.windowCount !== 0)
    throw new Error('the table is wrong');
  map.addressSpace.close();
  closeSync(file);
  return { opened, mapped, lookedUp, lookedUpNatively, taken, allTaken, memory };
}

const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);
say({});
for await (const line of createInterface(process.stdin)) {
  const [count, kind] = line.split(' ');
  say(await measure(Number(count), kind));
}
