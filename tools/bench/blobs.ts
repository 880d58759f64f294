/** Blobs in one round: mapped into the host-visible window and unmapped, flushed with and without somebody who looks. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  BATCH,
  BATCHES,
  type BatchTimes,
  type Distribution,
  type Drivers,
  FRAMES,
  type FrameTimes,
  micros,
  PICTURE_BYTES,
  type Place,
  perSecond,
  speeds,
  TRANSFER_AIM,
} from './drivers.ts';
import { Program } from './programs.ts';
import type { Aim, Book } from './report.ts';

/** Arguments of a server that has a window, and contexts that make blobs for it. */
export const WITH_WINDOW = ['--context-types', 'cross-domain', '--host-visible-size', '256M'];

/** How often each thing is done in one round. */
const PAIRS = 16;
const BATCHES_OF_PAIRS = 300;
const SINGLE_PAIRS = 300;
const WRITTEN_BATCHES = 3;
const WRITTEN_SINGLE = 10;

const PAIR_AIM: Aim = { value: 'at most', limit: 5 };

// ---- the window ----

/** Of MAP_BLOB and UNMAP_BLOB, in nanoseconds. */
interface PairTimes {
  /** What the device's main thread, and all its threads, used of a CPU for one pair. */
  readonly mainThread: number;
  readonly allThreads: number;
}

/** From the first doorbell until all of a batch are done. */
interface UntouchedTimes extends PairTimes {
  readonly pair: Distribution;
}

interface WrittenTimes extends PairTimes {
  readonly unmap: Distribution;
  /** Of one blob, by the driver. */
  readonly write: Distribution;
}

async function measureUntouched(drivers: Drivers, book: Book, { name }: Place): Promise<void> {
  const more = { floor: 'device in C' };
  const batches = await drivers.both<UntouchedTimes>('pairs', 'untouched', PAIRS, BATCHES_OF_PAIRS);
  const used = { value: batches.server.mainThread / 1000, floor: batches.floor.mainThread / 1000 };
  book.note(`map + unmap of a blob, device time, ${name}`, 'us', used, { ...more, aim: PAIR_AIM });
  const batch = micros({ server: batches.server.pair, floor: batches.floor.pair });
  const pair = { value: batch.value / PAIRS, floor: batch.floor / PAIRS };
  book.note(`map + unmap of a blob, batches of ${PAIRS}, ${name}`, 'us', pair, more);
  const single = await drivers.both<UntouchedTimes>('pairs', 'untouched', 1, SINGLE_PAIRS);
  const times = micros({ server: single.server.pair, floor: single.floor.pair });
  book.note(`map + unmap of a blob to interrupt, ${name}`, 'us', times, more);
}

async function measureWritten(drivers: Drivers, book: Book, { name }: Place): Promise<void> {
  const more = { floor: 'punching in C' };
  const { server, floor } = await drivers.both<WrittenTimes>('pairs', 'written', PAIRS, WRITTEN_BATCHES);
  const used = (threads: keyof PairTimes) => ({
    value: server[threads] / 1000,
    floor: floor[threads] / 1000,
  });
  book.note(`written blob: map + unmap, device time, ${name}`, 'us', used('mainThread'), more);
  book.note(`written blob: map + unmap, all threads, ${name}`, 'us', used('allThreads'), more);
  const writes = micros({ server: server.write, floor: floor.write });
  book.note(`written blob: to write it again, ${name}`, 'us', writes, more);
  const single = await drivers.both<WrittenTimes>('pairs', 'written', 1, WRITTEN_SINGLE);
  const unmaps = micros({ server: single.server.unmap, floor: single.floor.unmap });
  book.note(`written blob: unmap to interrupt, ${name}`, 'us', unmaps, more);
}

// ---- the screen ----

async function measureUnwatched(drivers: Drivers, book: Book, { name }: Place): Promise<void> {
  const { server, floor } = await drivers.both<BatchTimes>('commands', BATCH, BATCHES);
  const figure = { value: perSecond(server, BATCH), floor: perSecond(floor, BATCH) };
  book.note(`1080p blob flushed, nobody looks, ${name}`, '1/s', figure, { floor: 'device in C' });
}

async function measureWatched(
  drivers: Drivers,
  viewer: Viewer,
  book: Book,
  { name, isJudged }: Place,
): Promise<void> {
  const more = { floor: 'gather loop' };
  for (const data of ['written', 'unmodified'] as const) {
    await viewer.look();
    const times = await drivers.server<FrameTimes>('frames', data, FRAMES);
    const { fastestCopy } = await viewer.look();
    const judged = data === 'written' && isJudged.transfer ? { ...more, aim: TRANSFER_AIM } : more;
    const { value, floor } = speeds(times);
    book.note(`1080p blob to a viewer, ${data}, ${name}`, 'GB/s', { value, floor }, judged);
    const copy = { value: PICTURE_BYTES / fastestCopy, floor };
    book.note(`1080p blob to a viewer, ${data}, its copy alone, ${name}`, 'GB/s', copy, judged);
    const time = { value: times.frame.median / 1e6, floor: times.gather.median / 1e6 };
    book.note(`1080p blob to a viewer, ${data}, median time, ${name}`, 'ms', time, more);
  }
}

/** `drivers` are at a server started `WITH_WINDOW`, `watched` at the viewer's; both show a blob. */
export async function measureBlobs(
  drivers: Drivers,
  watched: Drivers,
  viewer: Viewer,
  book: Book,
  place: Place,
): Promise<void> {
  await measureUntouched(drivers, book, place);
  // On one CPU the driver and what clears pages would take turns.
  if (place.isJudged.transfer) await measureWritten(drivers, book, place);
  await measureUnwatched(drivers, book, place);
  await measureWatched(watched, viewer, book, place);
}

// ---- a viewer ----

/** What `viewer.mjs` says of itself. */
interface Seen {
  readonly hash: number;
  readonly fastestCopy: number;
  readonly flushes: number;
  readonly copiedBytes: number;
}

/** A server with somebody who looks at what it shows. */
export class Viewer implements AsyncDisposable {
  readonly #program: Program;
  readonly #folder: string;

  static async start(launcher: readonly string[], display: string): Promise<Viewer> {
    const folder = await mkdtemp(join(tmpdir(), 'vfio-user-gpu-bench-'));
    const file = fileURLToPath(new URL('viewer.mjs', import.meta.url));
    const command = [...launcher, process.execPath, file, join(folder, 'gpu.sock'), display];
    return new Viewer(await Program.start(command), folder);
  }

  private constructor(program: Program, folder: string) {
    this.#program = program;
    this.#folder = folder;
  }

  get socketPath(): string {
    return join(this.#folder, 'gpu.sock');
  }

  /** Also forgets how long copies took until now. */
  look(): Promise<Seen> {
    return this.#program.order<Seen>('look');
  }

  /** Every flush must have been one copy, and the last one of what the driver painted. */
  async check(client: Program): Promise<void> {
    const before = await this.look();
    const { hash: painted } = await client.order<{ hash: number }>('frames', 'written', 1);
    const { hash, flushes, copiedBytes } = await this.#program.order<Seen>('look', 'closely');
    if (hash !== painted) throw new Error('the viewer does not see what the driver painted');
    if (flushes !== before.flushes + 1 || copiedBytes !== before.copiedBytes + PICTURE_BYTES)
      throw new Error(`${copiedBytes - before.copiedBytes} bytes were copied for a viewer`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#program[Symbol.asyncDispose]();
    await rm(this.#folder, { recursive: true, force: true });
  }
}
