/** What the tests with real guests share. */
import { setTimeout } from 'node:timers/promises';
import { expect, onTestFailed, type TestContext, TestRunner } from 'vitest';
import { type ConsoleFont, readConsole } from '../../tools/testbed/console.ts';
import { explainPattern } from '../../tools/testbed/patterns.ts';
import { comparePictures, type Picture } from '../../tools/testbed/pictures.ts';
import type { Guest } from '../../tools/testbed/qemu.ts';
import { type Server, type ServerOptions, startServer as start } from '../../tools/testbed/server.ts';

/** The guest kernels that every claim about Linux is made for. */
export const kernels = ['6.12', 'newest'] as const;

/** Starts a server. When the test fails, what it said is shown. */
export async function startServer(options?: ServerOptions): Promise<Server> {
  const server = await start(options);
  if (TestRunner.getCurrentTest()) {
    onTestFailed(async () => {
      const log = server.log.map((line) => JSON.stringify(line)).join('\n');
      console.log(`--- server ${server.pid}, exit status ${await server.exited}, said\n${log}`);
    });
  }
  return server;
}

/** Arguments of node with which a server can be asked by `memoryInUse`. Every thread has garbage of its own. */
export const collectorArguments = [
  '--expose-gc',
  '--import',
  `data:text/javascript,${encodeURIComponent(`
    import { getHeapCodeStatistics, getHeapSpaceStatistics, getHeapStatistics } from 'node:v8';
    import { BroadcastChannel, isMainThread } from 'node:worker_threads';
    const channel = new BroadcastChannel('collector');
    channel.unref();
    const collect = () => {
      for (let round = 0; round < 3; round++) gc();
      const { heapUsed, external } = process.memoryUsage();
      const code = getHeapCodeStatistics();
      return {
        usedBytes: heapUsed,
        codeBytes: code.code_and_metadata_size + code.bytecode_and_metadata_size,
        externalBytes: external,
        v8Bytes: getHeapStatistics().malloced_memory,
        spaces: getHeapSpaceStatistics().map((space) => ({
          name: space.space_name,
          usedBytes: space.space_used_size,
          residentBytes: space.physical_space_size,
        })),
      };
    };
    if (isMainThread) {
      let workers = 0;
      let heaps = [];
      const add = (heap) => {
        heaps.push(heap);
        if (heaps.length > workers) process.stderr.write(JSON.stringify({ level: 30, msg: 'memory', heaps }) + '\\n');
      };
      channel.onmessage = ({ data }) => {
        if (data === 'started') workers++;
        else add(data);
      };
      process.on('SIGUSR2', () => {
        heaps = [];
        add(collect());
        if (workers > 0) channel.postMessage('collect');
      });
    } else {
      channel.onmessage = ({ data }) => {
        if (data === 'collect') channel.postMessage(collect());
      };
      channel.postMessage('started');
    }`)}`,
] as const;

/** What a thread's heap says of itself after a collection. */
interface Heap {
  readonly usedBytes: number;
  readonly codeBytes: number;
  readonly externalBytes: number;
  /** What V8 has for itself besides the heap, its compiler most of all. */
  readonly v8Bytes: number;
  readonly spaces: readonly { name: string; usedBytes: number; residentBytes: number }[];
}

export interface MemoryInUse {
  /** Of the main thread's heap, without code, which grows as it is found worth compiling. */
  readonly heapBytes: number;
  readonly residentBytes: number;
  /** Of the resident: V8's young generations, of all threads. They are empty, but may have kept their pages. */
  readonly youngBytes: number;
  /** What is resident, by kind; then what each thread's heap says it holds of that. For people: nothing is judged by it. */
  readonly kinds: Readonly<Record<string, number>>;
}

/** What a server uses when garbage has been collected. */
export async function memoryInUse(server: Server): Promise<MemoryInUse> {
  const from = server.log.length;
  server.kill('SIGUSR2');
  const said = await server.waitForLog('memory', 60_000, from);
  const heaps = said.heaps as readonly Heap[];
  const resident = server.residentMemory();
  const kinds: Record<string, number> = { ...resident };
  for (const [i, heap] of heaps.entries()) {
    const thread = i === 0 ? 'main' : `worker ${i}`;
    kinds[`${thread}: used`] = heap.usedBytes;
    kinds[`${thread}: external`] = heap.externalBytes;
    kinds[`${thread}: V8 itself`] = heap.v8Bytes;
    for (const { name, usedBytes, residentBytes } of heap.spaces) {
      if (residentBytes > 0) kinds[`${thread}: empty in ${name}`] = residentBytes - usedBytes;
    }
  }
  const { usedBytes, codeBytes, externalBytes } = heaps[0]!;
  return {
    heapBytes: usedBytes - codeBytes + externalBytes,
    residentBytes: Object.values(resident).reduce((sum, bytes) => sum + bytes, 0),
    youngBytes: heaps
      .flatMap(({ spaces }) => spaces)
      .filter(({ name }) => name === 'new_space')
      .reduce((sum, space) => sum + space.residentBytes, 0),
    kinds,
  };
}

/** Two measurements in words, in MiB: the sums, then every kind of which there is any. */
export function compareMemory(before: MemoryInUse, after: MemoryInUse): string {
  const line = (name: string, from = 0, to = 0) =>
    `${name} ${[from, to].map((bytes) => (bytes / 2 ** 20).toFixed(1)).join(' -> ')}`;
  const names = new Set([...Object.keys(before.kinds), ...Object.keys(after.kinds)]);
  return [
    `in MiB: ${line('heap', before.heapBytes, after.heapBytes)}, ${line('resident', before.residentBytes, after.residentBytes)}`,
    ...[...names].map((name) => line(`  ${name}`, before.kinds[name], after.kinds[name])),
  ].join('\n');
}

/** Skips the running test, and says why where a person sees it. */
export function skipBecause(context: TestContext, reason: string): never {
  console.log(`skipping "${context.task.name}": ${reason}`);
  return context.skip(reason);
}

/**
 * Takes something again and again until it is right, or time is up, and returns the last one. What a
 * guest says on its serial line can be here before what it did to the device just before that.
 */
export async function soon<T>(
  take: () => Promise<T>,
  isRight: (value: T) => boolean,
  timeoutMs = 10_000,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = await take();
    if (isRight(value) || Date.now() > deadline) return value;
    await setTimeout(50);
  }
}

/** Every pixel is as computed. A wrong one is explained by the frames around the one expected. */
export function expectSame(actual: Picture, expected: Picture, frame = 0): void {
  const nearby = [-2, -1, 0, 1, 2].map((step) => frame + step).filter((number) => number >= 0);
  const candidates = [...new Set([0, ...nearby])].flatMap((number) =>
    [0, 1].map((output) => ({ output, frame: number })),
  );
  expect(comparePictures(actual, expected, explainPattern(expected, candidates))).toBe(undefined);
}

/** What a display shows, as soon as it is this, or after a while. */
export function screenshotSoon(
  server: Server,
  expected: Picture,
  { display = 0, cursor = false } = {},
): Promise<Picture> {
  return soon(
    () => server.screenshot(display, { cursor }),
    (picture) => comparePictures(picture, expected) === undefined,
  );
}

/** A display shows exactly this, now or soon. */
export async function expectShown(
  server: Server,
  expected: Picture,
  options: { display?: number; cursor?: boolean; frame?: number } = {},
): Promise<void> {
  expectSame(await screenshotSoon(server, expected, options), expected, options.frame);
}

/** The console on a display has exactly these lines of text, now or soon. */
export async function expectText(
  server: Server,
  font: ConsoleFont,
  lines: readonly string[],
  display = 0,
): Promise<void> {
  const read = async () => readConsole(await server.screenshot(display), font).join('\n');
  expect(await soon(read, (text) => text === lines.join('\n'))).toBe(lines.join('\n'));
}

/** Every request for a picture that the guest makes is answered with what `take` returns; the guest waits meanwhile. */
export async function collectShots<T>(
  guest: Guest,
  take: (name: string) => Promise<T>,
  timeoutMs?: number,
): Promise<Map<string, T>> {
  const shots = new Map<string, T>();
  for await (const name of guest.shots(timeoutMs)) shots.set(name, await take(name));
  return shots;
}

/** The server's log holds nothing that a well-behaved guest and VMM should cause. */
export function expectNoComplaints(server: Server): void {
  expect(server.log.filter(({ level }) => level >= 40)).toEqual([]);
}

/** Nothing of a client is left in the server. */
export async function expectNothingHeld(server: Server): Promise<void> {
  const names = [
    'client_connected',
    'resources',
    'resource_bytes',
    'memory_entries',
    'dma_windows',
    'dma_bytes',
  ];
  const values = await Promise.all(names.map(async (name) => [name, await server.metric(name)]));
  expect(Object.fromEntries(values)).toEqual(Object.fromEntries(names.map((name) => [name, 0])));
}
