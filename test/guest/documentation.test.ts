/**
 * The lines of docs/qemu.md and README.md, run. Kernel and initramfs are those of the test bed, sockets in a folder of
 * ours, and the CPU is emulated.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { assemble } from '../../tools/testbed/cache.ts';
import { type Guest, qemuPath, startGuest } from '../../tools/testbed/qemu.ts';
import { askSocket } from '../support/api-here.ts';
import {
  type DocumentedCommand,
  documentedCommands,
  documentedMessages,
  documentedPage,
  withoutOptions,
} from '../support/documented.ts';
import { soon } from './support.ts';

const ours = ['-kernel', '-initrd', '-append', '-accel', '-cpu'];
const program = fileURLToPath(new URL('../../dist/server/main.js', import.meta.url));

let folder: string;
let server: ChildProcess | undefined;
let said: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'documentation-'));
});
afterEach(async () => {
  const ended = server && new Promise((resolve) => server!.on('close', resolve));
  server?.kill();
  await ended;
  server = undefined;
  rmSync(folder, { recursive: true });
});

/** As documented, but for the folder and the port. */
const here = (words: readonly string[]) =>
  words.map((word) => word.replaceAll('/run/vm1', folder).replace('127.0.0.1:8080', '127.0.0.1:0'));

/** Starts what a line starts; returns when a VMM can connect. */
async function serve({ arguments: words }: DocumentedCommand, ...more: string[]): Promise<void> {
  said = '';
  const started = spawn(process.execPath, [program, ...here([...words, ...more])]);
  server = started;
  await new Promise<void>((resolve, reject) => {
    started.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      if (said.includes('"QEMU >= 10.1"')) resolve();
    });
    started.on('close', () => reject(new Error(`the server ended: ${said}`)));
  });
}

/** Starts the guest of a line, which says what it has. */
async function boot({ arguments: words }: DocumentedCommand, more: readonly string[] = []): Promise<Guest> {
  const machine = withoutOptions(here(words), ...ours).filter((word) => word !== '...');
  return await startGuest({
    machine: [...machine, ...more],
    devices: [],
    script: `
      devices() { cat /sys/class/drm/card0/device/device; evdev list; grep MemTotal /proc/meminfo; echo LISTED; }
      devices
      read _
      for i in $(seq 100); do evdev list | grep -q touch && break; sleep 0.1; done
      devices
      read _`,
  });
}

const commandsOf = (page: string, name: string) =>
  documentedCommands(page).filter(
    (command) => command.program === name && !command.arguments[0]?.match(/^\w/),
  );
const served = () => commandsOf('docs/qemu.md', 'vfio-user-gpu');
const started = () => commandsOf('docs/qemu.md', 'qemu-system-x86_64');

describe('the lines for QEMU', () => {
  test.each(['README.md', 'docs/qemu.md'])('for one device, in %s', async (page) => {
    await serve(commandsOf(page, 'vfio-user-gpu')[0]!);
    await using guest = await boot(commandsOf(page, 'qemu-system-x86_64')[0]!);
    await guest.waitFor('0x1050\n');
    await guest.waitFor('LISTED\n');
    expect(guest.serial).not.toContain('vfio-user-gpu keyboard');
    // The size that the line gives the display.
    const { body } = await askSocket(join(folder, 'gpu-api.sock'), 'GET', '/v1/displays');
    expect(JSON.parse(body.toString())).toMatchObject({
      displays: [{ picture: { width: 1920, height: 1080 } }],
    });
  });

  test('for three devices, one that is added and memory that is plugged in', async () => {
    await serve(served()[1]!, '--touch-socket-path', '/run/vm1/touch.sock');
    await using guest = await boot(started()[1]!, ['-m', '4G,slots=1,maxmem=8G']);
    await guest.waitFor('0x1050\n');
    await guest.waitFor('LISTED\n');
    expect(guest.serial).toContain('vfio-user-gpu keyboard');
    expect(guest.serial).toContain('vfio-user-gpu tablet');
    expect(guest.serial).not.toContain('vfio-user-gpu touch screen');

    const [add] = documentedMessages('docs/qemu.md');
    await guest.qmp(add!.execute, JSON.parse(JSON.stringify(add!.arguments).replaceAll('/run/vm1', folder)));
    const size = 128 * 2 ** 20;
    await guest.qmp('object-add', { 'qom-type': 'memory-backend-memfd', id: 'more', size, share: true });
    const memory = async () => {
      const { body } = await askSocket(join(folder, 'gpu-api.sock'), 'GET', '/v1/info');
      return (JSON.parse(body.toString()) as { guest: { memoryBytes: number } }).guest.memoryBytes;
    };
    const before = await memory();
    await guest.qmp('device_add', { driver: 'pc-dimm', id: 'dimm', memdev: 'more' });
    expect(await soon(memory, (bytes) => bytes >= before + size)).toBe(before + size);
    guest.write('\n');
    await guest.waitFor('LISTED\n');
    expect(guest.serial).toContain('vfio-user-gpu touch screen');
  });

  test('what happens where memory is not shared is what the page says', async () => {
    const [line] = started();
    const words = line!.arguments.map((word) => word.replace('share=on', 'share=off'));
    await serve(served()[0]!);
    await using guest = await boot({ program: line!.program, arguments: words });
    await guest.waitFor('LISTED\n');
    expect(guest.serial).not.toContain('0x1050');
    const [message] = /guest memory is not shared[^"]*/.exec(said)!;
    expect(documentedPage('docs/qemu.md').replaceAll(/\s+/g, ' ')).toContain(`\`${message}\``);
    const { body } = await askSocket(join(folder, 'gpu-api.sock'), 'GET', '/v1/info');
    expect(JSON.parse(body.toString())).toMatchObject({ guest: { memorySharing: 'private' } });
  });

  test('without a server QEMU ends and names the socket', async () => {
    await assemble('qemu');
    const words = withoutOptions(here(started()[0]!.arguments), ...ours);
    const qemu = spawn(qemuPath(), [...words, '-display', 'none', '-nodefaults']);
    let complaint = '';
    qemu.stderr.setEncoding('utf8').on('data', (text: string) => {
      complaint += text;
    });
    expect(await new Promise((resolve) => qemu.on('close', resolve))).toBe(1);
    expect(complaint).toContain(join(folder, 'gpu.sock'));
  });
});
