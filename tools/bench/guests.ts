/**
 * The same guest program (guest.c) at our device and at QEMU's own, each with the VNC server that goes with it, and the
 * same viewer (watch.c) at both, in turns.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Device, type Guest, startGuest } from '../testbed/qemu.ts';
import { startServer } from '../testbed/server.ts';
import type { Distribution } from './drivers.ts';
import { builtProgram, Program } from './programs.ts';
import type { Aim, Book } from './report.ts';

const BOOT_TIMEOUT_MS = 120_000;
const FIVE_TIMES_AIM: Aim = { ratio: 'at most', limit: 0.2 };

/** What goes on: steps of `scene.h`, how many, and how many milliseconds after one another on average. */
const ACTIVITIES = [
  { step: 'typing', what: 'typing', count: 40, everyMs: 120 },
  { step: 'scroll', what: 'scrolling', count: 30, everyMs: 100 },
  { step: 'window', what: 'a window moves', count: 60, everyMs: 33 },
  { step: 'video', what: 'a video', count: 50, everyMs: 40 },
] as const;
const ASKING = { novnc: 'as noVNC asks', raw: 'Raw' } as const;

/** What `watch.c` tells. */
interface Followed {
  readonly updates: number;
  readonly bytes: number;
  readonly firstByte: Distribution;
}

/** A guest, and who looks at it. */
class Watched implements AsyncDisposable {
  readonly #guest: Guest;
  readonly #watch: Program;

  /** `arguments_` are QEMU's that are not about marks. */
  static async start(device: Device, vncPath: string, arguments_: readonly string[] = []): Promise<Watched> {
    const marksPath = `${vncPath}.marks`;
    const guest = await startGuest({
      devices: [device],
      script: '/bench-guest',
      extraFiles: { '/bench-guest': await readFile(builtProgram('guest')) },
      qemuArguments: [
        ...['-chardev', `socket,id=marks,path=${marksPath},server=on,wait=off`],
        ...['-device', 'isa-debugcon,iobase=0x402,chardev=marks'],
        ...arguments_,
      ],
    });
    try {
      await guest.waitFor(/^DRAWN \d+$/m, BOOT_TIMEOUT_MS);
      return new Watched(guest, await Program.start([builtProgram('watch'), vncPath, marksPath]));
    } catch (error) {
      await guest[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(guest: Guest, watch: Program) {
    this.#guest = guest;
    this.#watch = watch;
  }

  async connect(encodings: keyof typeof ASKING): Promise<void> {
    await this.#watch.order('connect', encodings);
  }

  /** Lets something go on, and looks. */
  async follow({ step, count, everyMs }: (typeof ACTIVITIES)[number]): Promise<Followed> {
    const followed = this.#watch.order<Followed>('marks', count);
    await this.#draw(`${step} ${count} ${everyMs}`);
    return await followed;
  }

  /** The hashes of what the guest has drawn and of what the viewer is sent. */
  async look(): Promise<{ drawn: number; seen: number }> {
    const marks = this.#watch.order('marks', 1);
    const drawn = await this.#draw('paint text');
    await marks;
    return { drawn, seen: (await this.#watch.order<{ hash: number }>('look')).hash };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#watch[Symbol.asyncDispose]();
    await this.#guest[Symbol.asyncDispose]();
  }

  async #draw(order: string): Promise<number> {
    this.#guest.write(`${order}\n`);
    return Number((await this.#guest.waitFor(/^DRAWN (\d+)$/m))[1]);
  }
}

type Side = 'ours' | 'qemu';

/** One after the other, who begins changes from round to round. */
async function both<T>(
  round: number,
  sides: Readonly<Record<Side, Watched>>,
  ask: (watched: Watched) => Promise<T>,
): Promise<Record<Side, T>> {
  if (round % 2 === 0) {
    const qemu = await ask(sides.qemu);
    return { qemu, ours: await ask(sides.ours) };
  }
  const ours = await ask(sides.ours);
  return { ours, qemu: await ask(sides.qemu) };
}

async function measureRound(sides: Record<Side, Watched>, book: Book, round: number): Promise<void> {
  const more = { floor: "QEMU's own" };
  for (const [encodings, asking] of Object.entries(ASKING) as [keyof typeof ASKING, string][]) {
    await both(round, sides, (watched) => watched.connect(encodings));
    for (const activity of ACTIVITIES) {
      const { ours, qemu } = await both(round, sides, (watched) => watched.follow(activity));
      book.raw.push({ round, who: 'guests', activity: activity.what, asking, ours, qemu });
      const note = (what: string, unit: string, figure: (one: Followed) => number, aim?: Aim) =>
        book.note(
          `guest, ${activity.what}, ${asking}: ${what}`,
          unit,
          { value: figure(ours), floor: figure(qemu) },
          aim ? { ...more, aim } : more,
        );
      note('draw to a viewer', 'ms', ({ firstByte }) => firstByte.median / 1e6, FIVE_TIMES_AIM);
      note('99th percentile', 'ms', ({ firstByte }) => firstByte.p99 / 1e6);
      note('updates', '', ({ updates }) => updates);
      note('bytes', 'KiB', ({ bytes }) => bytes / 1024);
    }
    const { ours, qemu } = await both(round, sides, (watched) => watched.look());
    if (new Set([ours.drawn, ours.seen, qemu.drawn, qemu.seen]).size > 1)
      throw new Error(`guests and viewers have other pictures: ${JSON.stringify({ ours, qemu })}`);
  }
}

/** Two guests at a time, of which one is idle. */
export async function measureGuests(
  book: Book,
  count: number,
  display: string,
  say: (text: string) => void,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'vfio-user-gpu-bench-'));
  try {
    const path = (side: Side) => join(folder, `${side}.sock`);
    const [width = 0, height = 0] = display.split('x').map(Number);
    say('guests boot');
    await using server = await startServer({
      displays: [display],
      arguments: ['--vnc', `unix:${path('ours')}`],
    });
    await using ours = await Watched.start(server.device, path('ours'));
    // As good as it gets: without the word it never sends JPEG, whatever viewers ask.
    const vnc = ['-vnc', `unix:${path('qemu')},lossy=on`];
    await using qemu = await Watched.start({ kind: 'virtio-gpu', width, height }, path('qemu'), vnc);
    for (let round = 0; round < count; round++) {
      say(`guests, round ${round + 1} of ${count}`);
      await measureRound({ ours, qemu }, book, round);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
