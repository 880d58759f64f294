/**
 * A guest of the test bed under cloud-hypervisor. It runs what it is told, line by line. Where KVM is: on this machine,
 * or in a program of `kvm-host.ts`. The program is the one that the environment variable CLOUD_HYPERVISOR names.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { appendFile, copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cachePath } from './cache.ts';
import { packCpio } from './cpio.ts';

export interface CloudHypervisorOptions {
  /** All but what the guest boots and where its serial line and the API are. */
  readonly arguments: readonly string[];
}

const guestScript = `
  load-modules memory
  echo READY
  while read -r line; do eval "$line"; echo "DONE $?"; done`;

const defaultTimeoutMs = 60_000;

/** Starts a guest. Its kernel, the test bed's `kvm`, and the initramfs have to be assembled. */
export async function startCloudHypervisor(options: CloudHypervisorOptions): Promise<CloudHypervisor> {
  const folder = await mkdtemp(join(tmpdir(), 'cloud-hypervisor-'));
  const initramfs = join(folder, 'initramfs');
  await copyFile(cachePath('initramfs', 'base.cpio'), initramfs);
  await appendFile(initramfs, await readFile(cachePath('kernel-kvm', 'modules.cpio')));
  await appendFile(initramfs, packCpio({ '/test.sh': guestScript }));
  return new CloudHypervisor(folder, options);
}

/** A running VM. `startCloudHypervisor` makes them. */
export class CloudHypervisor implements AsyncDisposable {
  /** Exit status of the VMM, or null when a signal ended it. */
  readonly exited: Promise<number | null>;
  readonly apiSocketPath: string;
  readonly #folder: string;
  readonly #child: ChildProcess;
  #serialPort: Socket | undefined;
  #serial = '';
  #searchFrom = 0;
  #stderr = '';
  #ended = false;

  /** Use `startCloudHypervisor`. */
  constructor(folder: string, options: CloudHypervisorOptions) {
    this.#folder = folder;
    this.apiSocketPath = join(folder, 'api.sock');
    const arguments_ = [
      ...['--api-socket', `path=${this.apiSocketPath}`],
      ...['--kernel', cachePath('kernel-kvm', 'vmlinux'), '--initramfs', join(folder, 'initramfs')],
      '--cmdline',
      // Memory that is plugged in is to be taken out again.
      'console=tty0 console=ttyS0 quiet loglevel=3 panic=-1 no_timer_check memhp_default_state=online_movable',
      ...['--console', 'off'],
      ...['--serial', `socket=${join(folder, 'serial.sock')}`],
      ...options.arguments,
    ];
    const program = process.env.CLOUD_HYPERVISOR as string;
    this.#child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', program, ...arguments_], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
    this.exited = new Promise((resolve) => {
      this.#child.on('close', (status) => {
        this.#ended = true;
        resolve(status);
      });
    });
    this.#connect();
  }

  /** What the VMM printed itself. */
  get stderr(): string {
    return this.#stderr;
  }

  /** Waits for the guest to print something; each call looks at what follows the match of the call before. */
  async waitFor(pattern: RegExp | string, timeoutMs = defaultTimeoutMs): Promise<RegExpExecArray> {
    const expression =
      typeof pattern === 'string' ? new RegExp(pattern.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')) : pattern;
    for (const deadline = Date.now() + timeoutMs; ; await sleep(20)) {
      const match = expression.exec(this.#serial.slice(this.#searchFrom));
      if (match) {
        this.#searchFrom += match.index + match[0].length;
        return match;
      }
      if (this.#ended || Date.now() > deadline) {
        const last = (text: string) => text.split('\n').slice(-30).join('\n');
        const what = this.#ended ? 'cloud-hypervisor ended before' : `waited ${timeoutMs} ms for`;
        throw new Error(`${what} ${pattern}\n${last(this.#serial)}\n--- it said\n${last(this.#stderr)}`);
      }
    }
  }

  /** Waits for a guest that has booted, at first or anew. */
  async ready(timeoutMs?: number): Promise<void> {
    await this.waitFor('\nREADY\n', timeoutMs);
  }

  /** Has the guest run a line of shell. */
  write(line: string): void {
    this.#serialPort?.write(`${line}\n`);
  }

  /** Has the guest run a line of shell to its end; returns what it printed. Throws when it failed. */
  async run(line: string, timeoutMs?: number): Promise<string> {
    const from = this.#serial.length;
    this.write(line);
    await this.waitFor(/^DONE \d+\n/m, timeoutMs);
    const said = this.#serial.slice(from, this.#searchFrom);
    const [, output, status] = /^([\s\S]*)DONE (\d+)\n$/.exec(said)!;
    if (status !== '0') throw new Error(`${line}: status ${status}\n${output}`);
    return output!;
  }

  /** One call of cloud-hypervisor's API (docs/api.md there), such as `vm.pause`. Returns what it answers. */
  api(call: string, body?: object): Promise<string> {
    return new Promise((resolve, reject) => {
      const method = call === 'vm.info' ? 'GET' : 'PUT';
      const text = body === undefined ? '' : JSON.stringify(body);
      const headers = { 'Content-Type': 'application/json', 'Content-Length': text.length };
      const path = `/api/v1/${call}`;
      const sent = request({ socketPath: this.apiSocketPath, method, path, headers }, (response) => {
        let answer = '';
        response.setEncoding('utf8').on('data', (part: string) => {
          answer += part;
        });
        response.on('end', () => {
          if (Math.floor((response.statusCode ?? 0) / 100) === 2) resolve(answer);
          else reject(new Error(`${call}: ${response.statusCode} ${answer}`));
        });
      });
      sent.on('error', reject);
      sent.end(text);
    });
  }

  /** To the serial line, which every VM that the VMM makes has anew, a moment after its start. */
  #connect(): void {
    const port = connect(join(this.#folder, 'serial.sock'));
    port.setEncoding('utf8').on('data', (text: string) => {
      this.#serial += text.replaceAll('\r', '');
    });
    port.on('error', () => {});
    port.on('connect', () => {
      this.#serialPort = port;
    });
    port.on('close', () => {
      if (!this.#ended) setTimeout(() => this.#connect(), 20);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#ended) this.#child.kill('SIGKILL');
    await this.exited;
    await rm(this.#folder, { recursive: true, force: true });
  }
}
