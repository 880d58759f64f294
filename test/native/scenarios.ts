/**
 * What may end the process, or needs one of its own: run as `node --import tsx scenarios.ts NAME` by
 * `support.ts`. A scenario prints its result as JSON when the process ends.
 */
import { closeSync, ftruncateSync, readdirSync, readFileSync, readlinkSync, writeSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import {
  clearInBackground,
  createEventfd,
  createMemfd,
  drainEventfd,
  GuestAddressSpace,
  gather,
  Mapping,
  READABLE,
  registrySize,
  scheduleInBackground,
  setSchedulingSlice,
  sigbusRepairs,
  signalEventfd,
  socketPair,
  Watch,
} from '../../native/index.ts';
import { type ScheduledThread, threadsOf } from '../support/threads.ts';

const page = 4096;

function print(result: unknown): void {
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

function collectGarbage(): void {
  (globalThis as { gc?: () => void }).gc!();
}

// ---- watches ----

function throwInCallback(): void {
  const fd = createEventfd();
  const caught: string[] = [];
  let calls = 0;
  process.on('uncaughtException', (error) => caught.push(error.message));
  signalEventfd(fd);
  const watch = new Watch(fd, READABLE, () => {
    calls++;
    if (calls === 3) return watch.close();
    throw new Error(`call ${calls}`);
  });
  process.on('exit', () => print({ caught, calls }));
}

function throwUnhandled(): void {
  const fd = createEventfd();
  signalEventfd(fd);
  new Watch(fd, READABLE, () => {
    throw new Error('nobody handles this');
  });
}

function aliveUntilClosed(): void {
  const fd = createEventfd();
  let closed = false;
  const watch = new Watch(fd, READABLE, () => {});
  setTimeout(() => {
    closed = true;
    watch.close();
  }, 50).unref();
  process.on('exit', () => print({ closed }));
}

/** Fails by a timeout of the test: the process would never end. */
function pausedLetsGo(): void {
  const watch = new Watch(createEventfd(), READABLE, () => {});
  watch.setEvents(0);
  process.on('exit', () => print({ ended: 'at once' }));
}

function unrefLetsGo(): void {
  const watch = new Watch(createEventfd(), READABLE, () => {});
  watch.unref();
  watch.ref();
  watch.unref();
  process.on('exit', () => print({ ended: 'at once' }));
}

async function watchOutlivesHandle(): Promise<void> {
  const fd = createEventfd();
  let calls = 0;
  (() => {
    new Watch(fd, READABLE, () => {
      calls += drainEventfd(fd);
      setImmediate(() => {
        print({ calls });
        process.exit(0);
      });
    });
  })();
  for (let i = 0; i < 5; i++) {
    collectGarbage();
    await turn();
  }
  signalEventfd(fd);
}

// ---- clears ----

/** More than the thread pool can have begun, and long enough that none is finished at once. */
function clearMany(): object[] {
  const fd = createMemfd('being cleared', 64 * 2 ** 20);
  for (let at = 0; at < 64; at++) writeSync(fd, new Uint8Array(2 ** 20).fill(1), 0, 2 ** 20, at * 2 ** 20);
  const clears = Array.from({ length: 16 }, () =>
    clearInBackground(fd, 0, 64 * 2 ** 20, () => process.stderr.write('called back\n')),
  );
  closeSync(fd);
  return clears;
}

function memfdsNamed(name: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes(name);
    } catch {
      return false; // the one that read the list
    }
  }).length;
}

function throwInDone(): void {
  const fd = createMemfd('cleared', page);
  const caught: string[] = [];
  process.on('uncaughtException', (error) => caught.push(error.message));
  for (const name of ['first', 'second']) {
    clearInBackground(fd, 0, page, () => {
      throw new Error(name);
    });
  }
  process.on('exit', () => print({ caught: caught.sort(), size: registrySize() }));
}

/** Nobody holds the handle; the loop is kept alive by the work alone. */
function clearOutlivesHandle(): void {
  const fd = createMemfd('cleared', page);
  clearInBackground(fd, 0, page, (error) => print({ error }));
  collectGarbage();
}

function exitInDone(): void {
  clearInBackground(createMemfd('cleared', page), 0, page, () => process.exit(7));
  clearMany();
}

function exitWhileClearing(): void {
  clearMany();
  process.on('exit', () => print(registrySize()));
  process.exit(7);
}

async function clearManyAndReport(): Promise<void> {
  const { parentPort } = await import('node:worker_threads');
  clearMany();
  parentPort?.postMessage('clearing');
}

async function clearManyAndStay(): Promise<void> {
  await clearManyAndReport();
  for (;;); // so that no callback can come before the end
}

async function clearManyAndExit(): Promise<void> {
  clearMany();
  process.exit(7);
}

async function workerEndsWhileClearing(): Promise<void> {
  const codes = [
    await inWorker('clearManyAndStay', (worker) => void worker.terminate()),
    await inWorker('clearManyAndExit'),
  ];
  print({ codes, fds: memfdsNamed('being cleared'), size: registrySize() });
}

/** All four threads of the pool are busy, with 64 MiB each. */
function waitBehindBusyPool(): void {
  const clears = clearMany() as { wait(): void }[];
  clears.at(-1)!.wait();
  clears[0]!.wait();
  for (const clear of clears) clear.wait();
  process.on('exit', () => print({ size: registrySize(), fds: memfdsNamed('being cleared') }));
}

// ---- SIGBUS ----

function sumOfFirstBytes(view: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < view.length; at += page) sum += view[at]!;
  return sum;
}

/** A mapping of 256 pages of ones, of which all but one are gone. */
function shrunk(guard: boolean): { mapping: Mapping; view: Uint8Array } {
  const fd = createMemfd('shrinks', 256 * page);
  const mapping = Mapping.map(fd, { lengthBytes: 256 * page, writable: true, guard });
  const view = mapping.bytes(0, 256 * page).fill(1);
  ftruncateSync(fd, page);
  return { mapping, view };
}

function repairInJavaScript(): void {
  const { mapping, view } = shrunk(true);
  const before = sigbusRepairs();
  const first = sumOfFirstBytes(view);
  const afterReading = sigbusRepairs() - before;
  view.fill(2);
  const second = sumOfFirstBytes(view);
  const afterWriting = sigbusRepairs() - before;
  mapping.close();
  print({ first, afterReading, second, afterWriting, guards: registrySize().guards });
}

/** A worker shrinks the file while compiled code runs over the mapping. */
function repairUnderHotLoop(): void {
  const fd = createMemfd('shrinks', 256 * page);
  const view = Mapping.map(fd, { lengthBytes: 256 * page, guard: true }).bytes(0, 256 * page);
  const source = `setTimeout(() => require('node:fs').ftruncateSync(${fd}, ${page}), 50)`;
  new Worker(source, { eval: true });
  const deadline = Date.now() + 10_000;
  let rounds = 0;
  let sum = 0;
  while (sigbusRepairs() === 0 && Date.now() < deadline) {
    for (const byte of view) sum += byte;
    rounds++;
  }
  print({ sum, hot: rounds > 1, repairs: sigbusRepairs() });
}

function repairInGather(): void {
  const { mapping } = shrunk(true);
  const space = new GuestAddressSpace();
  space.add(0, 256 * page, mapping, 0, true);
  const entries = { addresses: new Float64Array([0]), ends: new Float64Array([256 * page]) };
  const span = { offset: 0, strideBytes: page };
  const image = new Uint8Array(256 * page).fill(9);
  const copied = gather(space, entries, span, image, span, page, 256);
  print({ copied, sum: sumOfFirstBytes(image), repairs: sigbusRepairs() });
}

/** Reads every second page of a file that is gone, so that each repair splits the mapping. */
function readLostPages(pages: number): number {
  const fd = createMemfd('shrinks', pages * page);
  const view = Mapping.map(fd, { lengthBytes: pages * page, guard: true, whole: true }).bytes(
    0,
    pages * page,
  );
  ftruncateSync(fd, 0);
  const before = sigbusRepairs();
  for (let at = 0; at < view.length; at += 2 * page) if (view[at] !== 0) throw new Error('not zero');
  return sigbusRepairs() - before;
}

function repairWholeRange(): void {
  print([readLostPages(8190), readLostPages(8192), readLostPages(8194), readLostPages(200_000)]);
}

/** Each of these mappings falls into 8190: the ninth is beyond what a process may have. */
function repairWithTooManyMappings(): void {
  const repairs = Array.from({ length: 12 }, () => readLostPages(8190));
  print({ all: repairs.length, replacedWhole: repairs.some((count) => count < 4095) });
}

function outsideAnyGuard(): void {
  shrunk(true);
  print({ sum: sumOfFirstBytes(shrunk(false).view) });
}

function afterTheGuard(): void {
  const { mapping } = shrunk(true);
  mapping.close();
  print({ sum: sumOfFirstBytes(shrunk(false).view) });
}

function sentFromOutside(): void {
  shrunk(true);
  process.kill(process.pid, 'SIGBUS');
  setTimeout(() => print('survived'), 1000);
}

// ---- the end of an environment ----

/** Everything there is, left open. */
function openEverything(): void {
  const fd = createMemfd('left-open', 64 * page);
  const mapping = Mapping.map(fd, { lengthBytes: 64 * page, writable: true, guard: true });
  mapping.bytes(0, 64 * page).fill(1);
  const space = new GuestAddressSpace();
  space.add(0, 64 * page, mapping, 0, true);
  const [left] = socketPair();
  new Watch(left, READABLE, () => {}).unref();
  const paused = new Watch(createEventfd(), 0, () => {});
  Object.assign(globalThis, { mapping, space, paused });
}

function exitWithEverythingOpen(): void {
  openEverything();
  process.on('exit', () => print(registrySize()));
}

function exitInCallback(): void {
  openEverything();
  const fd = createEventfd();
  signalEventfd(fd);
  new Watch(fd, READABLE, () => process.exit(7));
}

function closeWatchAndExit(): void {
  openEverything();
  const watch = new Watch(createEventfd(), READABLE, () => {});
  setImmediate(() => watch.close());
}

function mappingsOf(name: string): number {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes(name)).length;
}

/** Runs a scenario in a worker; resolves to its exit code. */
function inWorker(name: string, whenOnline: (worker: Worker) => void = () => {}): Promise<number> {
  // A worker of Node 20 does not inherit the loader of --import.
  const load = `register(); return import(${JSON.stringify(import.meta.url)})`;
  const source = `import('tsx/esm/api').then(({ register }) => { ${load}; })`;
  // A worker warns of descriptors that `fs` closes and did not open.
  const worker = new Worker(source, { eval: true, argv: [name], trackUnmanagedFds: false });
  worker.on('error', (error) => process.stderr.write(`${error.stack}\n`));
  worker.on('message', () => whenOnline(worker));
  return new Promise((resolve) => worker.on('exit', resolve));
}

async function openEverythingAndReport(): Promise<void> {
  const { parentPort } = await import('node:worker_threads');
  openEverything();
  parentPort?.postMessage('open');
}

async function openEverythingAndStay(): Promise<void> {
  await openEverythingAndReport();
  const fd = createEventfd();
  signalEventfd(fd);
  new Watch(fd, READABLE, () => {});
}

async function openEverythingAndExit(): Promise<void> {
  await openEverythingAndReport();
  const fd = createEventfd();
  signalEventfd(fd);
  new Watch(fd, READABLE, () => process.exit(7));
}

async function workerEndsWithEverythingOpen(): Promise<void> {
  const codes = [
    await inWorker('openEverythingAndReport'),
    await inWorker('openEverythingAndStay', (worker) => void worker.terminate()),
    await inWorker('openEverythingAndExit'),
  ];
  print({
    codes,
    mappings: mappingsOf('left-open'),
    size: registrySize(),
    alive: sumOfFirstBytes(shrunk(true).view),
  });
}

async function garbageCollected(): Promise<void> {
  const fd = createMemfd('collected', 64 * page);
  const space = new GuestAddressSpace();
  const options = { lengthBytes: 64 * page, writable: true, guard: true };
  const kept = (() => {
    for (let i = 0; i < 50; i++) Mapping.map(fd, options).bytes(0, page)[0] = 1;
    for (let i = 0; i < 50; i++) new GuestAddressSpace().add(0, page, Mapping.map(fd, options), 0, true);
    space.add(0, page, Mapping.map(fd, options), 0, true);
    return Mapping.map(fd, options).bytes(page, page).fill(3);
  })();
  for (let i = 0; i < 20 && registrySize().mappings > 2; i++) {
    collectGarbage();
    await turn();
  }
  print({
    size: registrySize(),
    mapped: mappingsOf('collected'),
    kept: kept[page - 1],
    covered: space.covers(0, page, true),
  });
}

/** A later V8 can move the memory to another ArrayBuffer, which `close` does not know. */
async function closeAfterTransfer(): Promise<void> {
  const fd = createMemfd('moved', page);
  const mapping = Mapping.map(fd, { lengthBytes: page, writable: true });
  mapping.bytes(0, page).fill(5);
  const chunk = mapping.chunk(0) as ArrayBuffer & { transfer(): ArrayBuffer };
  let moved: Uint8Array | undefined = new Uint8Array(chunk.transfer());
  const before = moved[0];
  mapping.close();
  const after = moved[0];
  const mapped = mappingsOf('moved');
  moved = undefined;
  collectGarbage();
  await turn();
  print({ before, after, mapped });
}

function closeTwiceAndMapAgain(): void {
  const fd = createMemfd('again', 16 * page);
  for (let i = 0; i < 20_000; i++) {
    const mapping = Mapping.map(fd, { lengthBytes: 16 * page, guard: true });
    mapping.bytes(0, page);
    mapping.close();
    mapping.close();
  }
  closeSync(fd);
  print({ size: registrySize(), mapped: mappingsOf('again') });
}

// ---- threads ----

async function toBackgroundAndStay(): Promise<void> {
  const { parentPort } = await import('node:worker_threads');
  scheduleInBackground(5);
  // The pool's threads change one beside the other.
  setTimeout(() => parentPort?.postMessage('done'), 200);
}

async function workerGivesWay(): Promise<void> {
  const before = threadsOf(process.pid)[0];
  let after: ScheduledThread[] = [];
  await inWorker('toBackgroundAndStay', () => {
    after = threadsOf(process.pid);
  });
  print({ before, after });
}

function toBackgroundAndExit(): void {
  scheduleInBackground(5);
  process.exit(7);
}

async function workerGivesWayAndEnds(): Promise<void> {
  print({ code: await inWorker('toBackgroundAndExit') });
}

/** The slice in nanoseconds; undefined where this kernel does not tell. */
function slice(): number | undefined {
  try {
    const told = /se\.slice\s*:\s*(\d+)/.exec(readFileSync('/proc/self/sched', 'utf8'))?.[1];
    return told === undefined ? undefined : Number(told);
  } catch {
    return undefined;
  }
}

function shortSlice(): void {
  const usual = slice();
  const before = threadsOf(process.pid)[0];
  setSchedulingSlice(300);
  const short = slice();
  setSchedulingSlice(0);
  print({
    usual,
    short,
    again: slice(),
    unchanged: JSON.stringify(before) === JSON.stringify(threadsOf(process.pid)[0]),
  });
}

const scenarios: Record<string, () => void | Promise<void>> = {
  throwInCallback,
  throwUnhandled,
  aliveUntilClosed,
  pausedLetsGo,
  unrefLetsGo,
  watchOutlivesHandle,
  throwInDone,
  clearOutlivesHandle,
  exitInDone,
  exitWhileClearing,
  clearManyAndStay,
  clearManyAndExit,
  workerEndsWhileClearing,
  waitBehindBusyPool,
  repairInJavaScript,
  repairUnderHotLoop,
  repairInGather,
  repairWholeRange,
  repairWithTooManyMappings,
  outsideAnyGuard,
  afterTheGuard,
  sentFromOutside,
  exitWithEverythingOpen,
  exitInCallback,
  closeWatchAndExit,
  openEverythingAndReport,
  openEverythingAndStay,
  openEverythingAndExit,
  workerEndsWithEverythingOpen,
  garbageCollected,
  closeAfterTransfer,
  closeTwiceAndMapAgain,
  toBackgroundAndStay,
  workerGivesWay,
  toBackgroundAndExit,
  workerGivesWayAndEnds,
  shortSlice,
};

await scenarios[process.argv[2]!]!();
