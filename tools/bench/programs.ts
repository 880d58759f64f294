/** The processes of the benchmark. None of them outlives the runner, however that one ends. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const ORDER_TIMEOUT_MS = 120_000;
const END_TIMEOUT_MS = 10_000;
/** The unit of `st_blocks`. */
const BLOCK_BYTES = 512;

/** A program that `Makefile` builds. */
export function builtProgram(name: 'client' | 'floor' | 'launch' | 'watch' | 'guest'): string {
  return fileURLToPath(new URL(`../../cache/bench/${name}`, import.meta.url));
}

/** A process that answers every line with a line of JSON, and ends when its input does. */
export class Program<Ready = unknown> implements AsyncDisposable {
  static readonly #running = new Set<ChildProcess>();
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;
  readonly #ended: Promise<string>;
  #ready: Ready | undefined;

  /** Returns when the program has printed its first line. */
  static async start<Ready = unknown>(command: readonly string[]): Promise<Program<Ready>> {
    const program = new Program<Ready>(command);
    program.#ready = await program.#answer<Ready>();
    return program;
  }

  /** Ends all of them at once; whoever waits for one gets an error. */
  static killAll(): void {
    for (const child of Program.#running) child.kill('SIGKILL');
  }

  private constructor(command: readonly string[]) {
    const [file = '', ...rest] = command;
    this.#name = basename(file);
    this.#child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', file, ...rest], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child.stdin!.on('error', () => {}); // That a program has ended shows by its missing answer.
    this.#answers = createInterface(this.#child.stdout!)[Symbol.asyncIterator]();
    Program.#running.add(this.#child);
    this.#ended = new Promise((resolve) => {
      this.#child.on('error', (error) => resolve(`failed: ${error.message}`));
      this.#child.on('close', (status, signal) => resolve(`ended with ${signal ?? `status ${status}`}`));
    });
    this.#ended.then(() => Program.#running.delete(this.#child));
  }

  /** What the program said of itself when it was ready. */
  get ready(): Ready {
    return this.#ready as Ready;
  }

  /** Sends an order and waits for its answer. */
  order<T = unknown>(...words: readonly (string | number)[]): Promise<T> {
    this.#child.stdin!.write(`${words.join(' ')}\n`);
    return this.#answer<T>();
  }

  /** Ends the program and waits for that. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin!.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), END_TIMEOUT_MS);
    await this.#ended;
    clearTimeout(timer);
  }

  async #answer<T>(): Promise<T> {
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), ORDER_TIMEOUT_MS);
    const { value, done } = await this.#answers.next();
    clearTimeout(timer);
    if (done) throw new Error(`${this.#name} ${await this.#ended}`);
    return JSON.parse(value) as T;
  }
}

/** What the kernel has counted for a process, all threads together. */
export interface CpuUse {
  /** Time on a CPU, exact. */
  readonly milliseconds: number;
  /** utime + stime: what `top` shows, in steps of 10 ms. */
  readonly ticks: number;
  readonly contextSwitches: number;
}

export function cpuUse(pid: number): CpuUse {
  let nanoseconds = 0;
  let contextSwitches = 0;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    const folder = `/proc/${pid}/task/${task}`;
    nanoseconds += Number(readFileSync(`${folder}/schedstat`, 'utf8').split(' ')[0]);
    const status = readFileSync(`${folder}/status`, 'utf8');
    for (const [, count] of status.matchAll(/ctxt_switches:\s+(\d+)/g)) contextSwitches += Number(count);
  }
  // Fields 14 and 15; the name in parentheses may contain anything.
  const [utime, stime] = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .split(') ')
    .at(-1)!
    .split(' ')
    .slice(11, 13);
  return { milliseconds: nanoseconds / 1e6, ticks: Number(utime) + Number(stime), contextSwitches };
}

/** Memory of a process in MiB. */
export interface Memory {
  /** The sum of the next three. */
  readonly resident: number;
  /** Heaps and stacks: its own. */
  readonly anonymous: number;
  /** Programs and libraries, shared with other node processes. */
  readonly file: number;
  /** Pictures, and guest RAM that it has touched, or that the kernel mapped along with what it touched. */
  readonly shared: number;
  /** Each page divided by the number of processes that map it. */
  readonly proportional: number;
}

export function memoryOf(pid: number): Memory {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const mebibytes = (text: string, name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1]) / 1024;
  return {
    resident: mebibytes(status, 'VmRSS'),
    anonymous: mebibytes(status, 'RssAnon'),
    file: mebibytes(status, 'RssFile'),
    shared: mebibytes(status, 'RssShmem'),
    proportional: mebibytes(rollup, 'Pss'),
  };
}

/** Memory, also in swap, behind the memfd of this name that a process has open. */
export function memfdBytes(pid: number, name: string): number {
  const folder = `/proc/${pid}/fd`;
  const fd = readdirSync(folder).find((one) =>
    readlinkSync(`${folder}/${one}`).startsWith(`/memfd:${name} `),
  );
  if (!fd) throw new Error(`process ${pid} has no memfd ${name}`);
  return statSync(`${folder}/${fd}`).blocks * BLOCK_BYTES;
}

/** The CPUs this process may use. */
export function allowedCpus(): number[] {
  const list = /^Cpus_allowed_list:\s+(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return list.split(',').flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}
