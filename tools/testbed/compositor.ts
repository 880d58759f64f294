/**
 * Starts a Wayland compositor on this machine, without a screen: Weston or sway of the test bed, drawing with the CPU.
 * It needs no root, and cannot outlive this process.
 *
 *     await using compositor = await startCompositor({ kind: 'sway', width: 640, height: 480 });
 *     const { stdout } = await compositor.run('wl-paste', ['--no-newline']);
 *     const picture = await compositor.screenshot();
 *
 * Weston shows windows in the middle of a black screen and has no seat. Sway does so on a dark gray one; its seat has a
 * keyboard as long as a client makes one (`WaylandClient` in `wayland-client.ts`). Weston in a window of a sway has the
 * sway's seat, and its screen can be resized.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { assemble, cachePath } from './cache.ts';
import { decodePng, type Picture } from './pictures.ts';

export type CompositorKind = 'weston' | 'sway';

export interface CompositorOptions {
  readonly kind: CompositorKind;
  readonly width: number;
  readonly height: number;
  /** Of Weston: the sway in which it is to have a window. */
  readonly inside?: Compositor;
}

/** How a program on the host ended. */
export interface ProgramResult {
  readonly status: number | null;
  readonly stdout: Buffer;
}

const startTimeoutMs = 20_000;

/** Starts a compositor. Returns when clients can connect. */
export async function startCompositor(options: CompositorOptions): Promise<Compositor> {
  await assemble('compositors');
  // Sockets have short names.
  const compositor = new Compositor(options, await mkdtemp(join(tmpdir(), 'wayland-')));
  try {
    await compositor.start();
    return compositor;
  } catch (error) {
    await compositor.close();
    throw error;
  }
}

export class Compositor implements AsyncDisposable {
  readonly kind: CompositorKind;
  /** Where clients connect to, also after a new start. */
  readonly socketPath: string;
  readonly #options: CompositorOptions;
  readonly #folder: string;
  readonly #log: string;
  readonly #programs = new Set<ChildProcess>();
  #process: ChildProcess | undefined;
  #exited: Promise<void> = Promise.resolve();
  #lastWords = '';

  /** Use `startCompositor`. */
  constructor(options: CompositorOptions, folder: string) {
    this.kind = options.kind;
    this.#options = options;
    this.#folder = folder;
    this.#log = join(folder, 'log');
    // The name that sway chooses.
    this.socketPath = join(folder, 'wayland-1');
  }

  /** The process that runs now. */
  get pid(): number {
    if (!this.#process?.pid) throw new Error('the compositor is not running');
    return this.#process.pid;
  }

  /** Resolves when the compositor has left, for whatever reason. */
  get exited(): Promise<void> {
    return this.#exited;
  }

  /** Everything that it and the programs that talk to it have complained about. */
  get log(): string {
    return existsSync(this.#log) ? readFileSync(this.#log, 'utf8') : this.#lastWords;
  }

  /** Starts it again, at the same socket. */
  async start(): Promise<void> {
    const { kind, width, height, inside } = this.#options;
    const config = join(this.#folder, 'sway.conf');
    await writeFile(config, swayConfig(width, height));
    await rm(this.socketPath, { force: true });
    const sizes = [`--width=${width}`, `--height=${height}`];
    // Without --debug Weston lets nobody take pictures.
    const command =
      kind === 'weston'
        ? [
            'weston',
            `--backend=${inside ? 'wayland' : 'headless'}`,
            '--renderer=pixman',
            '--shell=kiosk',
            '--debug',
            '--no-config',
          ].concat(['--idle-time=0', '--socket=wayland-1', ...sizes])
        : ['sway', '--config', config];
    const child = this.#spawn(command, { stdin: 'ignore', stdout: 'ignore' });
    this.#process = child;
    this.#exited = ended(child).then(() => {
      if (this.#process === child) this.#process = undefined;
    });
    const deadline = Date.now() + startTimeoutMs;
    while (!existsSync(this.socketPath)) {
      if (!this.#process || Date.now() > deadline) throw new Error(`${kind} did not start:\n${this.log}`);
      await setTimeout(10);
    }
  }

  /** Runs a program of the tree, such as wl-copy, to its end. */
  async run(program: string, args: readonly string[] = [], input?: Uint8Array): Promise<ProgramResult> {
    const child = this.#spawn([program, ...args], { stdin: 'pipe', stdout: 'pipe' });
    const parts: Buffer[] = [];
    child.stdout!.on('data', (part: Buffer) => parts.push(part));
    // A program that does not read to the end has its reasons.
    child.stdin!.on('error', () => {}).end(input);
    const status = await ended(child);
    return { status, stdout: Buffer.concat(parts) };
  }

  /** Starts a program of the tree that goes on until it, or the compositor, is stopped. */
  launch(program: string, args: readonly string[] = [], input?: Uint8Array): ChildProcess {
    const child = this.#spawn([program, ...args], { stdin: 'pipe', stdout: 'ignore' });
    child.stdin!.on('error', () => {}).end(input);
    return child;
  }

  /** What is on its screen. */
  async screenshot(): Promise<Picture> {
    if (this.kind === 'sway') {
      const { status, stdout } = await this.run('grim', ['-']);
      if (status !== 0) throw new Error(`grim left with status ${status}:\n${this.log}`);
      return decodePng(stdout);
    }
    // It chooses the name of its file, and ends with status 0 without one as well.
    const folder = join(this.#folder, 'screenshot');
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder);
    await ended(this.#spawn(['weston-screenshooter'], { stdin: 'ignore', stdout: 'ignore', folder }));
    const [name] = await readdir(folder);
    if (name === undefined) throw new Error(`weston-screenshooter has left no file:\n${this.log}`);
    return decodePng(await readFile(join(folder, name)));
  }

  /** Gives a Weston inside of a sway another screen. */
  async resize(width: number, height: number): Promise<void> {
    const size = `width ${width + WESTON_FRAME.width} px height ${height + WESTON_FRAME.height} px`;
    await this.#options.inside!.run('swaymsg', [`[title="Weston Compositor.*"] resize set ${size}`]);
  }

  /** Ends the compositor, and waits for its end. `start` starts a new one. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    this.#process?.kill(signal);
    await this.#exited;
  }

  /** Ends everything, and removes what it left. */
  async close(): Promise<void> {
    await this.stop('SIGKILL');
    await Promise.all(
      [...this.#programs].map((child) => {
        child.kill('SIGKILL');
        return ended(child);
      }),
    );
    this.#lastWords = this.log;
    await rm(this.#folder, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Where a program finds its compositor. */
  #display(isItself: boolean): Readonly<Record<string, string>> {
    if (!isItself) return { WAYLAND_DISPLAY: 'wayland-1' };
    const { inside } = this.#options;
    return inside ? { WAYLAND_DISPLAY: inside.socketPath } : headless;
  }

  #spawn(
    command: readonly string[],
    how: { stdin: 'pipe' | 'ignore'; stdout: 'pipe' | 'ignore'; folder?: string },
  ): ChildProcess {
    const log = openSync(this.#log, 'a');
    const child = spawn(
      'setpriv',
      ['--pdeathsig', 'KILL', '--', cachePath('compositors', 'run'), ...command],
      {
        cwd: how.folder ?? this.#folder,
        stdio: [how.stdin, how.stdout, log],
        env: {
          PATH: process.env.PATH,
          XDG_RUNTIME_DIR: this.#folder,
          ...this.#display(command[0] === this.kind),
          SWAYSOCK: join(this.#folder, 'sway.sock'),
        },
      },
    );
    closeSync(log);
    this.#programs.add(child);
    void ended(child).then(() => this.#programs.delete(child));
    return child;
  }
}

/** What Weston has around its screen in a window. */
const WESTON_FRAME = { width: 12, height: 33 };

/** Sway looks at these; Weston has options for the same. */
const headless = { WLR_BACKENDS: 'headless', WLR_RENDERER: 'pixman', WLR_LIBINPUT_NO_DEVICES: '1' };

/** Windows as large as they want to be, with nothing around them. */
const swayConfig = (width: number, height: number) => `
output HEADLESS-1 resolution ${width}x${height}
default_border none
default_floating_border none
for_window [all] floating enable
xwayland disable
`;

function ended(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve(child.exitCode);
    child.on('error', () => resolve(null));
    child.on('close', (status) => resolve(status));
  });
}
