/**
 * Starts a guest in QEMU and talks to it: to its serial line, where a script in the guest does the test, and
 * to QEMU's control socket (QMP). Nothing here sleeps: everything waits for something to be said.
 *
 *     await using guest = await startGuest({
 *       devices: [{ kind: 'vfio-user', socketPath }],
 *       script: 'kms --output 0=1280x800 --flips 60',
 *     });
 *     for await (const name of guest.shots()) pictures.set(name, await takePicture());
 *     await guest.scriptSucceeds();
 *
 * The guest cannot outlive this process, however that ends.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { appendFile, copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as setTimeoutAsync } from 'node:timers/promises';
import { assemble, cachePath, type KernelName, type Part, PartMissing } from './cache.ts';
import { packCpio } from './cpio.ts';
import { decodePpm, type Picture } from './pictures.ts';

export type Device =
  /** A device that another process serves. */
  | { readonly kind: 'vfio-user'; readonly socketPath: string; readonly id?: string }
  /** QEMU's own virtio-gpu, to compare with. The id is `gpu0` unless given. */
  | {
      readonly kind: 'virtio-gpu';
      readonly id?: string;
      readonly outputs?: number;
      /** The size the first output prefers. */
      readonly width?: number;
      readonly height?: number;
      readonly properties?: Readonly<Record<string, string | number | boolean>>;
    }
  /** Anything else, as QEMU arguments. */
  | { readonly kind: 'raw'; readonly arguments: readonly string[] };

export interface GuestOptions {
  readonly devices: readonly Device[];
  /**
   * What to boot: a kernel of the test bed with its initramfs (default 6.12, or the newest where there is no 6.12; `kvm`
   * is for `kvm-host.ts`), a file of your own that QEMU's `-kernel` understands, or nothing but firmware.
   */
  readonly kernel?: KernelName | 'kvm' | 'none' | { readonly image: string; readonly initrd?: string };
  /** Run by busybox `sh` in the guest; when it ends the guest switches off. Without it there is a shell. */
  readonly script?: string;
  /** More files for the guest, by absolute path. All are executable. */
  readonly extraFiles?: Readonly<Record<string, string | Uint8Array>>;
  /**
   * Module sets to load before the script: `gpu` and `input` by default, `disk` and `rng` on demand. The kernel `kvm` has `kvm` and
   * `share` instead.
   */
  readonly modules?: readonly ('gpu' | 'input' | 'disk' | 'rng' | 'kvm' | 'share')[];
  /** More kernel arguments. */
  readonly append?: string;
  readonly memoryMiB?: number;
  /**
   * Guest memory that a vfio-user server can map (default true). Without it there is no file behind that memory;
   * `private` is a file whose changes QEMU keeps to itself: a server can map it, and sees nothing in it.
   */
  readonly sharedMemory?: boolean | 'private';
  /** QEMU arguments in place of those for the machine, its memory and its CPUs. */
  readonly machine?: readonly string[];
  readonly smp?: number;
  readonly accel?: 'tcg' | 'kvm';
  readonly firmware?: 'seabios' | 'ovmf';
  /** A raw disk image, attached read-only as the first virtio disk. */
  readonly drive?: string;
  /** Whether a reset of the guest starts it again. By default it ends QEMU, as does a kernel panic. */
  readonly reboots?: boolean;
  /**
   * Whether the guest is going to suspend to memory (`suspend` in a script). It then boots a second slower, with one
   * CPU unless told otherwise, since the second one takes seconds to wake: QEMU forgets at wake-up that
   * a kernel it had loaded unpacked has been running, and loads it again over itself.
   */
  readonly suspends?: boolean;
  /** QEMU trace events, such as `virtio_gpu_*`; they appear in `stderr`. */
  readonly traces?: readonly string[];
  /** More QEMU arguments. */
  readonly qemuArguments?: readonly string[];
  /** Is given what comes over the serial line, as it comes. */
  readonly onSerial?: (text: string) => void;
}

/** An event that QEMU announced on its control socket. */
export interface QmpEvent {
  readonly event: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

/** What went wrong with a guest, with the end of everything it said. */
export class GuestError extends Error {
  override readonly name = 'GuestError';
}

/** QEMU refused a command of the control socket. */
export class QmpError extends Error {
  override readonly name = 'QmpError';
}

const defaultTimeoutMs = 60_000;

/** Starts a guest. Returns when QEMU has made all devices and the guest begins to run. */
export async function startGuest(wanted: GuestOptions): Promise<Guest> {
  const options = { ...wanted, kernel: await assembleFor(wanted) };
  const folder = await mkdtemp(join(tmpdir(), 'testbed-'));
  try {
    const arguments_ = [
      ...machineArguments(options),
      ...(await firmwareArguments(options, folder)),
      ...(await bootArguments(options, folder)),
      ...options.devices.flatMap(deviceArguments),
      ...(options.drive
        ? ['-drive', `file=${escapeComma(options.drive)},if=virtio,format=raw,readonly=on`]
        : []),
      ...(options.traces ?? []).flatMap((pattern) => ['-trace', pattern]),
      ...(options.qemuArguments ?? []),
    ];
    // A dying parent takes QEMU along: the kernel sees to that. The two pipes are connected sockets that need
    // no name in the file system.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', qemuPath(), ...arguments_], {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'],
    });
    const guest = new Guest(child, folder, arguments_, options.onSerial);
    await guest.started();
    // QEMU has read it, and it is large.
    await rm(join(folder, 'initrd'), { force: true });
    return guest;
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

/** The QEMU of the test bed, to start it in other ways. Present after `assemble('qemu')`. */
export function qemuPath(): string {
  return cachePath('bin', 'qemu-system-x86_64');
}

/** A running guest. `startGuest` makes them. Dispose of it, or `await using` it. */
export class Guest implements AsyncDisposable {
  readonly pid: number;
  /** QEMU's exit status, or null when a signal ended it. */
  readonly exited: Promise<number | null>;
  /** Events that nobody has waited for yet, oldest first. */
  readonly events: QmpEvent[] = [];

  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #arguments: readonly string[];
  readonly #serialPort: Duplex;
  readonly #control: Duplex;
  #serial = '';
  #searchFrom = 0;
  #stderr = '';
  #greeted = false;
  #end: { status: number | null } | undefined;
  #watchers = new Set<() => void>();
  #commands = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #commandCount = 0;
  #dumpCount = 0;

  /** Use `startGuest`. */
  constructor(
    child: ChildProcess,
    folder: string,
    arguments_: readonly string[],
    onSerial?: (text: string) => void,
  ) {
    this.#child = child;
    this.#folder = folder;
    this.#arguments = arguments_;
    this.pid = child.pid ?? -1;
    this.#control = child.stdio[3] as Duplex;
    this.#serialPort = child.stdio[4] as Duplex;
    this.exited = new Promise((resolve) => {
      child.on('error', (error) => {
        this.#stderr += `${error.message}\n`;
        this.#finish(null);
        resolve(null);
      });
      // Not 'exit': the last words are still in the pipes then.
      child.on('close', (status) => {
        this.#finish(status);
        resolve(status);
      });
    });
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
    let unfinishedLine = '';
    this.#control.setEncoding('utf8').on('data', (text: string) => {
      const lines = (unfinishedLine + text).split('\n');
      unfinishedLine = lines.pop()!;
      for (const line of lines) this.#receiveControl(JSON.parse(line) as ControlMessage);
    });
    this.#serialPort.setEncoding('utf8').on('data', (text: string) => {
      onSerial?.(text);
      this.#serial += text.replaceAll('\r', '');
      this.#changed();
    });
    // QEMU's end going away is seen by 'close' above; a write that loses that race must not throw.
    for (const stream of [this.#control, this.#serialPort]) stream.on('error', () => {});
  }

  /** Everything that came over the serial line so far, without carriage returns. */
  get serial(): string {
    return this.#serial;
  }

  /** Everything QEMU printed so far: complaints, and traces if asked for. */
  get stderr(): string {
    return this.#stderr;
  }

  /** Waits for QEMU to be ready for commands. `startGuest` has done that. */
  async started(): Promise<void> {
    await this.#until('QEMU to start', defaultTimeoutMs, () => this.#greeted || undefined);
    await this.qmp('qmp_capabilities');
  }

  /**
   * Waits for the guest to print a line, or several. Each call looks at what follows the match of the call before,
   * so a series of them follows the guest's story without missing anything. A line is looked at once it is
   * complete; `waitForPrompt` is for those that never are.
   */
  waitFor(pattern: RegExp | string, timeoutMs = defaultTimeoutMs): Promise<RegExpExecArray> {
    return this.#waitForText(pattern, timeoutMs, () => this.#serial.lastIndexOf('\n') + 1);
  }

  /** Like `waitFor`, but looks at an unfinished line as well, such as the prompt of a shell. */
  waitForPrompt(pattern: RegExp | string, timeoutMs = defaultTimeoutMs): Promise<RegExpExecArray> {
    return this.#waitForText(pattern, timeoutMs, () => this.#serial.length);
  }

  /** Types into the serial line. */
  write(text: string): void {
    this.#serialPort.write(text);
  }

  /**
   * The guest's requests for pictures (`shot NAME` in a script), one by one, until its script ends. The guest
   * waits while the loop body runs.
   */
  async *shots(timeoutMs = defaultTimeoutMs): AsyncGenerator<string, void, void> {
    for (;;) {
      const match = await this.waitFor(/^@@(?:SHOT (\S+)|EXIT \d+)\n/m, timeoutMs);
      if (match[1] === undefined) return;
      yield match[1];
      this.write('\n');
    }
  }

  /** Waits for the guest's script to end and gives its exit status. */
  scriptEnds(timeoutMs = defaultTimeoutMs): Promise<number> {
    return this.#until('the script to end', timeoutMs, () => {
      const match = /^@@EXIT (\d+)$/m.exec(this.#serial);
      return match ? Number(match[1]) : undefined;
    });
  }

  /** Waits for the guest's script to end, and throws with the guest's words if it failed. */
  async scriptSucceeds(timeoutMs = defaultTimeoutMs): Promise<void> {
    const status = await this.scriptEnds(timeoutMs);
    if (status !== 0) throw this.#error(`the script failed with status ${status}`);
  }

  /** Runs a command of QEMU's control socket and returns its answer. */
  qmp(command: string, arguments_: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    if (this.#end) return Promise.reject(this.#error(`QEMU has ended, no ${command} any more`));
    const id = ++this.#commandCount;
    return new Promise((resolve, reject) => {
      this.#commands.set(id, { resolve, reject });
      this.#control.write(`${JSON.stringify({ execute: command, arguments: arguments_, id })}\n`);
    });
  }

  /** Waits for an event of QEMU's, such as RESET, SUSPEND, WAKEUP or SHUTDOWN. Each is given out once. */
  waitForEvent(name: string, timeoutMs = defaultTimeoutMs): Promise<QmpEvent> {
    return this.#until(`QEMU's event ${name}`, timeoutMs, () => {
      const index = this.events.findIndex((event) => event.event === name);
      return index < 0 ? undefined : this.events.splice(index, 1)[0];
    });
  }

  /** The picture on an output of one of QEMU's own devices. */
  async screendump(head = 0, device = 'gpu0'): Promise<Picture> {
    const filename = join(this.#folder, `screen-${this.#dumpCount++}.ppm`);
    await this.qmp('screendump', { filename, device, head, format: 'ppm' });
    const file = await readFile(filename);
    await rm(filename);
    return decodePpm(file);
  }

  /**
   * Waits until an output of one of QEMU's own devices shows something in particular. QEMU announces no frames, so
   * this looks a few times a second.
   */
  async screenShows(
    check: (picture: Picture) => boolean,
    { head = 0, device = 'gpu0', timeoutMs = defaultTimeoutMs } = {},
  ): Promise<Picture> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const picture = await this.screendump(head, device);
      if (check(picture)) return picture;
      if (Date.now() > deadline)
        throw this.#error(`waited ${timeoutMs} ms for a certain picture on output ${head}`);
      await setTimeoutAsync(150);
    }
  }

  /** Ends QEMU as if by its own menu. */
  async quit(): Promise<void> {
    if (!this.#end) await this.qmp('quit').catch(() => {});
    await this.exited;
  }

  /** Sends QEMU a signal. */
  kill(signal: NodeJS.Signals = 'SIGKILL'): void {
    this.#child.kill(signal);
  }

  /** Ends QEMU, whatever it is doing, and removes what it left. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#end) this.kill();
    await this.exited;
    await rm(this.#folder, { recursive: true, force: true });
  }

  #waitForText(
    pattern: RegExp | string,
    timeoutMs: number,
    searchEnd: () => number,
  ): Promise<RegExpExecArray> {
    const expression =
      typeof pattern === 'string' ? new RegExp(pattern.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')) : pattern;
    return this.#until(`${pattern} on the serial line`, timeoutMs, () => {
      const match = expression.exec(this.#serial.slice(this.#searchFrom, searchEnd()));
      if (!match) return undefined;
      this.#searchFrom += match.index + match[0].length;
      return match;
    });
  }

  /** Waits until `check` returns something, looking whenever the guest or QEMU said something. */
  #until<T>(what: string, timeoutMs: number, check: () => T | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const settle = () => {
        this.#watchers.delete(look);
        clearTimeout(timer);
      };
      const look = () => {
        const value = check();
        if (value !== undefined) {
          settle();
          resolve(value);
        } else if (this.#end) {
          settle();
          const how =
            this.#end.status === null ? 'was ended by a signal' : `ended with status ${this.#end.status}`;
          reject(this.#error(`QEMU ${how} while waiting for ${what}`));
        }
      };
      const timer = setTimeout(() => {
        settle();
        reject(this.#error(`waited ${timeoutMs} ms for ${what}`));
      }, timeoutMs);
      this.#watchers.add(look);
      look();
    });
  }

  #changed(): void {
    for (const look of [...this.#watchers]) look();
  }

  #finish(status: number | null): void {
    this.#end ??= { status };
    this.#changed();
    for (const { reject } of this.#commands.values()) reject(this.#error('QEMU ended before it answered'));
    this.#commands.clear();
  }

  #receiveControl(message: ControlMessage): void {
    if ('QMP' in message) {
      this.#greeted = true;
    } else if ('event' in message) {
      this.events.push(message);
    } else {
      const command = this.#commands.get(message.id);
      this.#commands.delete(message.id);
      if ('error' in message) command?.reject(new QmpError(message.error.desc));
      else command?.resolve(message.return);
    }
    this.#changed();
  }

  #error(what: string): GuestError {
    const lastLines = (text: string) => text.trimEnd().split('\n').slice(-40).join('\n');
    // After a failure the kernel's log follows, which must not push the guest's own words out of view.
    const said = this.#serial.replace(/^@@DMESG .*\n/gm, '');
    const kernelLog = this.#serial.match(/^@@DMESG .*$/gm) ?? [];
    return new GuestError(
      [
        what,
        ...kernelLog,
        '--- end of the serial line',
        lastLines(said),
        "--- end of QEMU's output",
        lastLines(this.#stderr),
        `--- qemu-system-x86_64 ${this.#arguments.join(' ')}`,
      ].join('\n'),
    );
  }
}

type ControlMessage =
  | { readonly QMP: unknown }
  | QmpEvent
  | { readonly id: number; readonly return: unknown }
  | { readonly id: number; readonly error: { readonly class: string; readonly desc: string } };

interface KnownKernel extends GuestOptions {
  readonly kernel: NonNullable<GuestOptions['kernel']>;
}

/** Has everything assembled that a guest needs, and says what it boots. */
async function assembleFor(options: GuestOptions): Promise<KnownKernel['kernel']> {
  const { kernel = '6.12' } = options;
  try {
    await assemble(...neededParts({ ...options, kernel }));
    return kernel;
  } catch (error) {
    const isOnlyKernel = error instanceof PartMissing && error.parts.join() === 'kernel-6.12';
    if (!isOnlyKernel || options.kernel !== undefined) throw error;
    await assemble(...neededParts({ ...options, kernel: 'newest' })).catch((other) => {
      if (!(other instanceof PartMissing)) throw other;
      throw new PartMissing([...error.parts, ...other.parts], `${error.message}\n${other.message}`);
    });
    console.error('testbed: there is no Linux 6.12 here, the guest gets the newest Linux');
    return 'newest';
  }
}

function neededParts({ kernel, firmware }: KnownKernel): Part[] {
  const parts: Part[] = ['qemu'];
  if (firmware === 'ovmf') parts.push('ovmf');
  if (typeof kernel === 'string' && kernel !== 'none') parts.push(`kernel-${kernel}`, 'initramfs');
  return parts;
}

function machineArguments(options: GuestOptions): string[] {
  const memory = options.sharedMemory === false ? 'memory-backend-ram' : 'memory-backend-memfd';
  const share =
    options.sharedMemory === false ? '' : `,share=${options.sharedMemory === 'private' ? 'off' : 'on'}`;
  const machine = [
    ['-object', `${memory},id=memory,size=${options.memoryMiB ?? 512}M${share}`],
    ['-machine', `q35,memory-backend=memory,accel=${options.accel ?? 'tcg'}`],
    ['-cpu', options.accel === 'kvm' ? 'host' : 'max'],
    ['-smp', `${options.smp ?? (options.suspends ? 1 : 2)}`],
  ].flat();
  return [
    ['-nodefaults', '-no-user-config', '-display', 'none', '-vga', 'none'],
    options.machine ?? machine,
    ['-chardev', 'socket,id=control,fd=3', '-qmp', 'chardev:control'],
    ['-chardev', 'socket,id=serial,fd=4', '-serial', 'chardev:serial'],
    options.reboots ? [] : ['-no-reboot'],
  ].flat();
}

async function firmwareArguments({ firmware }: GuestOptions, folder: string): Promise<string[]> {
  if (firmware !== 'ovmf') return [];
  // The firmware writes its variables, so each guest has its own.
  const variables = join(folder, 'variables.fd');
  await copyFile(cachePath('ovmf', 'OVMF_VARS_4M.fd'), variables);
  return [
    [
      '-drive',
      `if=pflash,unit=0,format=raw,readonly=on,file=${escapeComma(cachePath('ovmf', 'OVMF_CODE_4M.fd'))}`,
    ],
    ['-drive', `if=pflash,unit=1,format=raw,file=${escapeComma(variables)}`],
  ].flat();
}

async function bootArguments(options: KnownKernel, folder: string): Promise<string[]> {
  const { kernel, append = '' } = options;
  if (kernel === 'none') return [];
  if (typeof kernel === 'object') {
    const initrd = kernel.initrd === undefined ? [] : ['-initrd', kernel.initrd];
    return ['-kernel', kernel.image, ...initrd, ...(append ? ['-append', append] : [])];
  }
  // Linux unpacks archives that are joined end to end, the later over the earlier.
  const initrd = join(folder, 'initrd');
  const ownFiles = {
    ...options.extraFiles,
    ...(options.script === undefined ? {} : { '/test.sh': options.script }),
  };
  await copyFile(cachePath('initramfs', 'base.cpio'), initrd);
  await appendFile(initrd, await readFile(cachePath(`kernel-${kernel}`, 'modules.cpio')));
  await appendFile(initrd, packCpio(ownFiles));
  const modules = options.modules ?? ['gpu', 'input'];
  // EDK2 starts only kernels as they are shipped. Otherwise QEMU can start the unpacked one: a second less.
  const image = options.firmware === 'ovmf' || options.suspends ? 'vmlinuz' : 'vmlinux';
  return [
    '-kernel',
    cachePath(`kernel-${kernel}`, image),
    '-initrd',
    initrd,
    '-append',
    // Linux tries its timer for a moment as it starts. On a busy host an emulated one can seem dead, and Linux panics.
    `console=tty0 console=ttyS0 quiet loglevel=3 panic=-1 no_timer_check guest_modules=${modules.join(',')} ${append}`.trim(),
  ];
}

function deviceArguments(device: Device): string[] {
  switch (device.kind) {
    case 'vfio-user': {
      const socket = { type: 'unix', path: device.socketPath };
      const id = device.id === undefined ? {} : { id: device.id };
      return ['-device', JSON.stringify({ driver: 'vfio-user-pci', ...id, socket })];
    }
    case 'virtio-gpu': {
      const properties = {
        driver: 'virtio-gpu-pci',
        id: device.id ?? 'gpu0',
        max_outputs: device.outputs ?? 1,
        // No option ROM: there is none to be had for it.
        romfile: '',
        ...(device.width === undefined ? {} : { xres: device.width }),
        ...(device.height === undefined ? {} : { yres: device.height }),
        ...device.properties,
      };
      return ['-device', JSON.stringify(properties)];
    }
    case 'raw':
      return [...device.arguments];
  }
}

/** QEMU's option syntax doubles commas inside values. */
function escapeComma(value: string): string {
  return value.replaceAll(',', ',,');
}
