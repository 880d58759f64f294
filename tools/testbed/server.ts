/**
 * Starts the built server (`npm run build`) as a process of its own and talks to its control API. It cannot outlive
 * this process.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { decodePng, type Picture } from './pictures.ts';
import type { Device } from './qemu.ts';

export type InputKind = 'keyboard' | 'tablet' | 'touch';

export interface ServerOptions {
  /** Modes as `--display` takes them; default one of 1280x800. */
  readonly displays?: readonly string[];
  /** Input devices that it serves as well. */
  readonly inputs?: readonly InputKind[];
  /** More arguments of `serve`. */
  readonly arguments?: readonly string[];
  /** Arguments of node itself, such as `--expose-gc`. */
  readonly nodeArguments?: readonly string[];
  /** A command that starts the server, such as `taskset -c 1`. */
  readonly launcher?: readonly string[];
  /** Environment variables besides this process's own. */
  readonly environment?: Readonly<Record<string, string>>;
}

export interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly [field: string]: unknown;
}

export interface DisplayState {
  readonly index: number;
  readonly mode: { readonly width: number; readonly height: number; readonly refreshHz: number };
  readonly picture: { readonly width: number; readonly height: number } | null;
  readonly cursor: { readonly visible: boolean; readonly x: number; readonly y: number };
  readonly flushes: number;
}

/** What the kernel knows of a process: how to see that nothing leaks. */
export interface ProcessState {
  readonly fds: number;
  readonly mappings: number;
  /** Those of the mappings that show memory files: pixels, cursors, guest memory, the window. The others are node's. */
  readonly memfdMappings: number;
  readonly memfdMappedBytes: number;
}

/**
 * Kinds of resident memory: pages of programs and libraries, as they are in their files and as they were changed; memory
 * files; malloc's arena; stacks of threads; code that V8 made; and V8's heaps with the blocks that malloc maps.
 */
export type MemoryKind = 'files' | 'fileData' | 'shared' | 'arena' | 'stacks' | 'code' | 'anonymous';

/** What glibc puts below the stack of a thread. */
const GUARD_BYTES = 4096;

const program = fileURLToPath(new URL('../../dist/server/main.js', import.meta.url));
const startTimeoutMs = 60_000;

/** Starts a server. Returns when a VMM can connect. */
export async function startServer(options: ServerOptions = {}): Promise<Server> {
  if (!existsSync(program)) throw new Error('the server is not built: npm run build');
  const folder = await mkdtemp(join(tmpdir(), 'vfio-user-gpu-'));
  const server = new Server(folder, options);
  try {
    await server.waitForLog('listening', startTimeoutMs);
    // What is loaded after that has been loaded when the API answers.
    await server.displays();
    return server;
  } catch (error) {
    await server.stop();
    throw error;
  }
}

export class Server implements AsyncDisposable {
  readonly pid: number;
  readonly socketPath: string;
  readonly apiSocketPath: string;
  /** The server's log so far. */
  readonly log: LogLine[] = [];
  /** Exit status, or null when a signal ended it. */
  readonly exited: Promise<number | null>;
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #inputs: readonly InputKind[];
  readonly #watchers = new Set<() => void>();
  #ended = false;
  #unfinishedLine = '';

  /** Use `startServer`. */
  constructor(folder: string, options: ServerOptions) {
    this.#folder = folder;
    this.#inputs = options.inputs ?? [];
    this.socketPath = join(folder, 'gpu.sock');
    this.apiSocketPath = join(folder, 'api.sock');
    const command = [
      ...['setpriv', '--pdeathsig', 'KILL', '--'],
      ...(options.launcher ?? []),
      process.execPath,
      ...(options.nodeArguments ?? []),
      program,
      ...['--socket-path', this.socketPath, '--api-socket', this.apiSocketPath, '--log-format', 'json'],
      ...(options.displays ?? []).flatMap((mode) => ['--display', mode]),
      ...this.#inputs.flatMap((kind) => [`--${kind}-socket-path`, this.#inputSocketPath(kind)]),
      ...(options.arguments ?? []),
    ];
    this.#child = spawn(command[0] as string, command.slice(1), {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ...options.environment },
    });
    this.pid = this.#child.pid ?? -1;
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => this.#receive(text));
    this.exited = new Promise((resolve) => {
      this.#child.on('error', () => resolve(null));
      this.#child.on('close', (status) => {
        this.#ended = true;
        this.#changed();
        resolve(status);
      });
    });
  }

  /** The device it serves, for `startGuest`. */
  get device(): Device {
    return { kind: 'vfio-user', socketPath: this.socketPath };
  }

  /** All devices it serves, for `startGuest`: the display, then the input devices in the order asked for. */
  get devices(): Device[] {
    return this.socketPaths.map((socketPath) => ({ kind: 'vfio-user', socketPath }));
  }

  /** Where they are served, in the same order. */
  get socketPaths(): string[] {
    return [this.socketPath, ...this.#inputs.map((kind) => this.#inputSocketPath(kind))];
  }

  /** Waits for a log line with this message, from `from` lines on. */
  waitForLog(message: string, timeoutMs = 30_000, from = 0): Promise<LogLine> {
    return new Promise((resolve, reject) => {
      const finish = () => {
        clearTimeout(timer);
        this.#watchers.delete(look);
      };
      const complain = (what: string) => {
        finish();
        const last = this.log.slice(-20).map((line) => JSON.stringify(line));
        reject(new Error(`${what} "${message}"\n${last.join('\n')}`));
      };
      const look = () => {
        const line = this.log.slice(from).find(({ msg }) => msg === message);
        if (line) {
          finish();
          resolve(line);
        } else if (this.#ended) {
          complain('the server ended before it said');
        }
      };
      const timer = setTimeout(() => complain(`waited ${timeoutMs} ms for the server to say`), timeoutMs);
      this.#watchers.add(look);
      look();
    });
  }

  /** One request to the control API; the body of a good answer. */
  ask(method: string, path: string, body?: object): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const headers = { Connection: 'close', ...(body ? { 'Content-Type': 'application/json' } : {}) };
      const sent = request({ socketPath: this.apiSocketPath, method, path, headers }, (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.on('error', reject);
        response.on('end', () => {
          const answer = Buffer.concat(parts);
          if (Math.floor((response.statusCode ?? 0) / 100) === 2) resolve(answer);
          else reject(new Error(`${method} ${path}: ${response.statusCode} ${answer}`));
        });
      });
      sent.on('error', reject);
      sent.end(body ? JSON.stringify(body) : undefined);
    });
  }

  /** What a display shows. */
  async screenshot(display = 0, options: { cursor?: boolean } = {}): Promise<Picture> {
    const png = await this.ask('GET', `/v1/displays/${display}/screenshot?cursor=${options.cursor ? 1 : 0}`);
    return decodePng(png);
  }

  /** Waits until a display shows something in particular; looks a few times a second. */
  async screenShows(
    check: (picture: Picture) => boolean,
    { display = 0, timeoutMs = 60_000 } = {},
  ): Promise<Picture> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const picture = await this.screenshot(display);
      if (check(picture)) return picture;
      if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms for a certain picture`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  async displays(): Promise<DisplayState[]> {
    return JSON.parse((await this.ask('GET', '/v1/displays')).toString()).displays;
  }

  /** Asks the guest for another mode. */
  async resize(display: number, width: number, height: number, refreshHz?: number): Promise<void> {
    await this.ask('PUT', `/v1/displays/${display}`, { width, height, ...(refreshHz ? { refreshHz } : {}) });
  }

  /** The value of a metric: the sum over all label sets that contain `labels`. */
  async metric(name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
    const text = (await this.ask('GET', '/metrics')).toString();
    const wanted = Object.entries(labels).map(([key, value]) => `${key}="${value}"`);
    return text
      .split('\n')
      .filter((line) => line.startsWith(`vfio_user_gpu_${name}`) && /[ {]/.test(line[14 + name.length] ?? ''))
      .filter((line) => wanted.every((label) => line.includes(label)))
      .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
  }

  /** Descriptors and mappings of the server process, from /proc. */
  processState(): ProcessState {
    const proc = `/proc/${this.pid}`;
    const mappings = readFileSync(`${proc}/maps`, 'utf8').split('\n').slice(0, -1);
    const memfds = mappings.filter((line) => line.includes(' /memfd:'));
    const sizes = memfds.map((line) => {
      const [from, to] = line.split(' ', 1)[0]!.split('-');
      return Number.parseInt(to!, 16) - Number.parseInt(from!, 16);
    });
    return {
      fds: readdirSync(`${proc}/fd`).length,
      mappings: mappings.length,
      memfdMappings: memfds.length,
      memfdMappedBytes: sizes.reduce((sum, size) => sum + size, 0),
    };
  }

  /** The resident memory of the server process by kind, in bytes: together it is all of it. */
  residentMemory(): Record<MemoryKind, number> {
    const kinds = { files: 0, fileData: 0, shared: 0, arena: 0, stacks: 0, code: 0, anonymous: 0 };
    let isAboveGuard = false;
    for (const text of readFileSync(`/proc/${this.pid}/smaps`, 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
      const [range, access, , , , name = ''] = text.split('\n', 1)[0]!.split(/ +/);
      const [from, to] = range!.split('-').map((address) => Number.parseInt(address, 16));
      const bytes = (field: string) =>
        Number(new RegExp(`^${field}: +(\\d+) kB`, 'm').exec(text)?.[1]) * 1024;
      const [resident, anonymous] = [bytes('Rss'), bytes('Anonymous')];
      if (/^\/(memfd:|dev\/shm\/|dev\/zero)/.test(name)) {
        kinds.shared += resident;
      } else if (name.startsWith('/')) {
        kinds.files += resident - anonymous;
        kinds.fileData += anonymous;
      } else if (name === '[heap]') {
        kinds.arena += resident;
      } else if (access!.includes('x')) {
        kinds.code += resident;
      } else if (name === '[stack]' || isAboveGuard) {
        kinds.stacks += resident;
      } else {
        kinds.anonymous += resident;
      }
      isAboveGuard = name === '' && access!.startsWith('---') && to! - from! === GUARD_BYTES;
    }
    return kinds;
  }

  /** How many descriptors of each kind the server process has that only devices use: memory files and eventfds. */
  descriptors(): { memfds: number; eventfds: number } {
    const targets = Object.values(this.#openFiles());
    return {
      memfds: targets.filter((target) => target.startsWith('/memfd:')).length,
      eventfds: targets.filter((target) => target === 'anon_inode:[eventfd]').length,
    };
  }

  /** A path that opens the file behind the host-visible window, which has no name anywhere else. */
  windowPath(): string {
    const found = Object.entries(this.#openFiles()).find(([, target]) =>
      target.startsWith('/memfd:host-visible'),
    );
    if (!found) throw new Error('the server has no host-visible window');
    return found[0];
  }

  kill(signal: NodeJS.Signals = 'SIGKILL'): void {
    this.#child.kill(signal);
  }

  /** Ends the server as a service manager would, and removes what it left. */
  async stop(): Promise<number | null> {
    if (!this.#ended) this.kill('SIGTERM');
    const status = await this.exited;
    await rm(this.#folder, { recursive: true, force: true });
    return status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #inputSocketPath(kind: InputKind): string {
    return join(this.#folder, `${kind}.sock`);
  }

  /** What the descriptors of the process point at, by the path that opens it again. */
  #openFiles(): Record<string, string> {
    const files: Record<string, string> = {};
    for (const fd of readdirSync(`/proc/${this.pid}/fd`)) {
      const path = `/proc/${this.pid}/fd/${fd}`;
      try {
        files[path] = readlinkSync(path);
      } catch {
        // Closed just now.
      }
    }
    return files;
  }

  #receive(text: string): void {
    const lines = (this.#unfinishedLine + text).split('\n');
    this.#unfinishedLine = lines.pop() ?? '';
    for (const line of lines) {
      try {
        this.log.push(JSON.parse(line));
      } catch {
        // Not the log: node itself, or a complaint about arguments.
        this.log.push({ level: 60, msg: line });
      }
    }
    this.#changed();
  }

  #changed(): void {
    for (const look of [...this.#watchers]) look();
  }
}
