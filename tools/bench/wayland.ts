/** A Wayland client in one round: over the device, and straight to the same compositor. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type Compositor, startCompositor } from '../testbed/compositor.ts';
import { type Distribution, type Drivers, micros, type Place } from './drivers.ts';
import { Program } from './programs.ts';
import type { Aim, Book } from './report.ts';

/** How often each thing is done in one round. */
const SYNCS = 500;
const FRAMES = 20;
const INSPECTED_FRAMES = 5000;

const INSPECTION_AIM: Aim = { value: 'at most', limit: 5 };

/** Arguments of a server whose guests have windows in this compositor. */
export const leadingTo = ({ socketPath }: Compositor) => [
  ...['--wayland-display', socketPath],
  ...['--host-visible-size', '256M'],
];

/** Weston, on one CPU. */
export async function startPinnedCompositor(cpu: number): Promise<Compositor> {
  const compositor = await startCompositor({ kind: 'weston', width: 1920, height: 1080 });
  execFileSync('taskset', ['--all-tasks', '--cpu-list', '--pid', String(cpu), String(compositor.pid)], {
    stdio: 'ignore',
  });
  return compositor;
}

/** `drivers` are those at a server that was started with `leadingTo`. */
export async function measureWayland(drivers: Drivers, book: Book, { name }: Place): Promise<void> {
  const more = { floor: 'straight to the compositor' };
  const exchanges = async (what: 'sync' | 'frames', count: number) => {
    const ask = (way: string) =>
      drivers
        .server<{ exchange: Distribution }>('wayland', what, way, count)
        .then(({ exchange }) => exchange);
    return { server: await ask('device'), floor: await ask('direct') };
  };
  book.note(`Wayland round trip, ${name}`, 'us', micros(await exchanges('sync', SYNCS)), more);
  const { server, floor } = await exchanges('frames', FRAMES);
  const rate = { value: 1e9 / server.median, floor: 1e9 / floor.median };
  book.note(`1080p frame to the compositor, ${name}`, '1/s', rate, more);
}

const CROWD_ROUNDS = 20;
const CROWD_AIM: Aim = { ratio: 'at most', limit: 1.2 };

/** 64 programs of a guest, of which four behave badly or not. */
export const startCrowd = (launcher: readonly string[], how: 'quiet' | 'crowded'): Promise<Program> =>
  Program.start([
    ...[...launcher, process.execPath, '--import', 'tsx'],
    ...[fileURLToPath(new URL('crowd.ts', import.meta.url)), how],
  ]);

export async function measureIsolation(crowded: Program, quiet: Program, book: Book): Promise<void> {
  const ask = async (program: Program) => (await program.order<{ exchange: number }>(CROWD_ROUNDS)).exchange;
  const figure = { value: await ask(crowded), floor: await ask(quiet) };
  const more = { floor: 'the four are silent', aim: CROWD_AIM };
  book.note('a message to and fro while four of 64 programs behave badly', 'us', figure, more);
}

/** Of a server's policy and inspector, on their own. */
export const startInspector = (launcher: readonly string[]): Promise<Program> =>
  Program.start([...launcher, process.execPath, fileURLToPath(new URL('inspect.mjs', import.meta.url))]);

export async function measureInspection(inspector: Program, book: Book): Promise<void> {
  const { message } = await inspector.order<{ message: number }>(INSPECTED_FRAMES);
  book.note(
    'policy and inspection of a Wayland message',
    'us',
    { value: message / 1000 },
    { aim: INSPECTION_AIM },
  );
}
