/** An X server without a screen, for programs that need one: what it shows can be read, and hands can be played. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Picture } from './pictures.ts';

const run = promisify(execFile);

export class XDisplay implements AsyncDisposable {
  readonly #server: ChildProcess;
  readonly #folder: string;
  readonly #name: string;
  readonly #programs: ChildProcess[] = [];

  private constructor(server: ChildProcess, folder: string, name: string) {
    this.#server = server;
    this.#folder = folder;
    this.#name = name;
  }

  /** Starts Xvfb with a screen of this size. Returns when programs can connect. */
  static async start(width: number, height: number): Promise<XDisplay> {
    const folder = await mkdtemp(join(tmpdir(), 'x-'));
    // Without -noreset it forgets everything, the pointer too, whenever the last program has left.
    const screen = ['-noreset', '-screen', '0', `${width}x${height}x24`, '-fbdir', folder];
    const command = ['--pdeathsig', 'KILL', '--', 'Xvfb', '-displayfd', '3', '-nolisten', 'tcp', ...screen];
    const server = spawn('setpriv', command, { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] });
    const number = await new Promise<string>((resolve, reject) => {
      server.once('error', reject);
      server.once('exit', () => reject(new Error('Xvfb ended')));
      server.stdio[3]?.once('data', (text: Buffer) => resolve(text.toString().trim()));
    }).catch(async (error) => {
      await rm(folder, { recursive: true });
      throw error;
    });
    return new XDisplay(server, folder, `:${number}`);
  }

  /** Starts a program on this display. It ends with the display. */
  spawn(command: string, ...args: readonly string[]): ChildProcess {
    const program = spawn('setpriv', ['--pdeathsig', 'KILL', '--', command, ...args], {
      env: { ...process.env, DISPLAY: this.#name },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#programs.push(program);
    return program;
  }

  /** Plays hands: a command of xdotool. */
  async do(...args: readonly string[]): Promise<string> {
    const { stdout } = await run('xdotool', args, { env: { ...process.env, DISPLAY: this.#name } });
    return stdout.trim();
  }

  /** What is on the screen, the pointer included. Reads Xvfb's memory, which is an XWD file. */
  async picture(): Promise<Picture> {
    const file = await readFile(join(this.#folder, 'Xvfb_screen0'));
    const word = (index: number) => file.readUInt32BE(4 * index);
    const [headerBytes, width, height, strideBytes, colours] = [
      word(0),
      word(4),
      word(5),
      word(12),
      word(19),
    ];
    const start = headerBytes + 12 * colours;
    const rgb = Buffer.alloc(width * height * 3);
    for (let y = 0, to = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const at = start + y * strideBytes + 4 * x;
        rgb[to++] = file[at + 2] as number;
        rgb[to++] = file[at + 1] as number;
        rgb[to++] = file[at] as number;
      }
    }
    return { width, height, rgb };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const program of [...this.#programs, this.#server]) program.kill('SIGKILL');
    await rm(this.#folder, { recursive: true, force: true });
  }
}
