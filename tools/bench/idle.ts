/** Servers without work: what they use, how much memory they hold, and how fast they are there. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { allowedCpus, builtProgram, cpuUse, memfdBytes, memoryOf, Program } from './programs.ts';
import type { Aim, Book } from './report.ts';

/** V8 collects garbage 8 s after the last work, perhaps again after 8 s more, and then never. */
const SETTLE_MS = 25_000;
const FRAMES = 60;

const START_AIM: Aim = { value: 'at most', limit: 200 };
/** The kernel's unit is 10 ms; less than a tenth of it is rounding. */
const IDLE_AIM: Aim = { value: 'at most', limit: 1, shown: '0' };
const NEVER_AIM: Aim = { value: 'at most', limit: 0, shown: '0' };
const WINDOW_SIZE = '8G';
const WINDOW_AIM: Aim = { value: 'at most', limit: 1, shown: '< 1' };

/** What `launch` says. */
interface Launched {
  readonly ns: number;
  readonly pid: number;
}

const program = fileURLToPath(new URL('../../dist/server/main.js', import.meta.url));
const launch = (mode: 'ready' | 'exit', command: readonly string[]) =>
  Program.start<Launched>([builtProgram('launch'), mode, ...command]);

/** Command lines of servers, and a folder for their sockets. */
class Servers implements AsyncDisposable {
  readonly #folder: string;
  readonly #display: string;

  private constructor(folder: string, display: string) {
    this.#folder = folder;
    this.#display = display;
  }

  static async in(display: string): Promise<Servers> {
    return new Servers(await mkdtemp(join(tmpdir(), 'vfio-user-gpu-bench-')), display);
  }

  socketPath(name: string): string {
    return join(this.#folder, `${name}.sock`);
  }

  command(name: string, options: { api?: boolean; windowSize?: string } = {}): string[] {
    return [
      ...[process.execPath, program, '--socket-path', this.socketPath(name)],
      ...['--display', this.#display, '--log-level', 'warn'],
      ...(options.api ? ['--api-socket', this.socketPath(`${name}-api`)] : []),
      ...(options.windowSize
        ? ['--context-types', 'cross-domain', '--host-visible-size', options.windowSize]
        : []),
    ];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** Starts and ends servers, and bare node as their floor, in turns. */
export async function measureStarts(book: Book, count: number, display: string): Promise<void> {
  await using servers = await Servers.in(display);
  const milliseconds = async (mode: 'ready' | 'exit', command: readonly string[]) => {
    await using launched = await launch(mode, command);
    return launched.ready.ns / 1e6;
  };
  for (let round = -1; round < count; round++) {
    const floor = await milliseconds('exit', [process.execPath, '-e', '0']);
    const plain = await milliseconds('ready', servers.command('gpu'));
    const api = await milliseconds('ready', servers.command('gpu', { api: true }));
    if (round < 0) continue; // Files come from disk the first time.
    book.raw.push({ round, who: 'start', answer: { floor, plain, api } });
    const more = { floor: 'node -e 0', aim: START_AIM };
    book.note('start to listening', 'ms', { value: plain, floor }, more);
    book.note('start to listening, --api-socket', 'ms', { value: api, floor }, more);
  }
}

/**
 * Watches servers doing nothing while `meanwhile` runs: others can slow an idle process down, but not wake it. Then
 * looks at what their windows cost, and at the memory of one that works.
 */
export async function measureIdle(
  book: Book,
  seconds: number,
  display: string,
  meanwhile: () => Promise<void>,
): Promise<void> {
  await using servers = await Servers.in(display);
  const sayPid = 'console.log(JSON.stringify({ pid: process.pid })); process.stdin.resume();';
  await using bare = await Program.start<Launched>([process.execPath, '-e', sayPid]);
  await using alone = await launch('ready', servers.command('alone'));
  await using api = await launch('ready', servers.command('api', { api: true }));
  await using connected = await launch('ready', servers.command('connected'));
  await using windowed = await launch('ready', servers.command('windowed', { windowSize: WINDOW_SIZE }));
  await sleep(500);
  const memory = (started: { readonly ready: Launched }) => memoryOf(started.ready.pid);
  const atStart = memory(connected);
  const atStartWithApi = memory(api);
  const someCpu = String(allowedCpus()[0]);
  const startClient = (name: string) =>
    Program.start([builtProgram('client'), servers.socketPath(name), someCpu]);
  await using client = await startClient('connected');
  await using _silent = await startClient('windowed');
  const broughtUp = memory(connected);

  const watch = async ({ ready: { pid } }: { readonly ready: Launched }) => {
    await sleep(SETTLE_MS);
    const before = cpuUse(pid);
    await sleep(seconds * 1000);
    return { before, after: cpuUse(pid) };
  };
  const [aloneUse, connectedUse, windowedUse] = await Promise.all([
    watch(alone),
    watch(connected),
    watch(windowed),
    meanwhile(),
  ]);
  const never = { cpu: IDLE_AIM, switches: NEVER_AIM };
  // What a guest has written into its window is counted 4 times a second.
  const counts: typeof never = {
    cpu: { value: 'at most', limit: seconds },
    switches: { value: 'at most', limit: 20 * seconds },
  };
  for (const [who, { before, after }, aims] of [
    ['no client', aloneUse, never],
    ['silent client', connectedUse, never],
    [`window of ${WINDOW_SIZE}`, windowedUse, counts],
  ] as const) {
    book.raw.push({ who: 'idle', what: who, answer: { before, after } });
    const used = { value: after.milliseconds - before.milliseconds };
    const switches = { value: after.contextSwitches - before.contextSwitches };
    book.note(`CPU in ${seconds} s idle, ${who}`, 'ms', used, { aim: aims.cpu });
    book.note(`context switches, ${who}`, '', switches, { aim: aims.switches });
  }

  const [without, withWindow] = [memory(connected), memory(windowed)];
  const windowBytes = memfdBytes(windowed.ready.pid, 'host-visible');
  book.raw.push({ who: 'memory', what: 'window', answer: { without, withWindow, windowBytes } });
  const more = { value: withWindow.resident - without.resident };
  book.note(`resident, window of ${WINDOW_SIZE}, above none`, 'MiB', more, { aim: WINDOW_AIM });
  const behind = { value: withWindow.shared - without.shared + windowBytes / 2 ** 20 };
  book.note(`memory of a window of ${WINDOW_SIZE}`, 'MiB', behind, { aim: WINDOW_AIM });

  await client.order('frames', 'written', FRAMES);
  const floor = memory(bare);
  for (const [what, answer] of [
    ['at start', atStart],
    ['brought up', broughtUp],
    [`after ${FRAMES} frames`, memory(connected)],
    ['at start, --api-socket', atStartWithApi],
  ] as const) {
    book.raw.push({ who: 'memory', what, answer, floor });
    const more = { floor: 'bare node' };
    book.note(`resident, ${what}`, 'MiB', { value: answer.resident, floor: floor.resident }, more);
    book.note(`anonymous, ${what}`, 'MiB', { value: answer.anonymous, floor: floor.anonymous }, more);
  }
}
