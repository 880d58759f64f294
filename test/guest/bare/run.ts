/**
 * Builds the bare guest, boots it under QEMU, prints its console and compares the screen with the picture.
 *
 *   npx tsx test/guest/bare/run.ts [--accel kvm|tcg] [--append WORDS] [-- QEMU ARGUMENTS]
 *
 * Without QEMU arguments the device is QEMU's own virtio-gpu-pci. The environment variable QEMU names another
 * emulator than that of the test bed. Exit status 0 when no test failed and the picture is right.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { type BareReport, buildBareGuest, pictureColor, readReport } from './bare.ts';

const here = import.meta.dirname;
const cache = join(here, '../../../cache');

const { values: options, positionals: qemuArguments } = parseArgs({
  options: {
    accel: { type: 'string', default: 'tcg' },
    append: { type: 'string', default: '' },
  },
  allowPositionals: true,
});
const { QEMU = join(cache, 'bin/qemu-system-x86_64') } = process.env;
const hasOwnDevice = qemuArguments.length > 0;

buildBareGuest();
const scratch = mkdtempSync(join(tmpdir(), 'bare-'));
process.on('exit', () => rmSync(scratch, { recursive: true }));

const qemu = spawn(
  QEMU,
  [
    ...['-machine', 'q35', '-accel', options.accel, '-m', '256', '-nodefaults', '-no-reboot'],
    ...['-display', 'none', '-serial', 'stdio', '-qmp', `unix:${scratch}/qmp,server=on,wait=off`],
    ...['-kernel', join(cache, 'bare/bare.elf')],
    ...['-append', `wait ${hasOwnDevice ? '' : 'device=other'} ${options.append}`],
    ...(hasOwnDevice ? qemuArguments : ['-device', 'virtio-gpu-pci,romfile=']),
  ],
  { stdio: ['ignore', 'pipe', 'inherit'] },
);
process.on('exit', () => qemu.kill());

const report = await waitUntilDone();
const isRight = report.picture === undefined || (await comparePicture(report.picture));
process.exit(report.done?.failed === 0 && isRight ? 0 : 1);

async function waitUntilDone(): Promise<BareReport> {
  let serial = '';
  for await (const line of createInterface(qemu.stdout)) {
    console.log(line);
    serial += `${line}\n`;
    const soFar = readReport(serial);
    if (soFar.done) return soFar;
  }
  return readReport(serial);
}

async function comparePicture({ width, height }: { width: number; height: number }): Promise<boolean> {
  const screen = await screendump();
  if (screen.width !== width || screen.height !== height) {
    console.log(`screen is ${screen.width}x${screen.height}`);
    return false;
  }
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const found = screen.pixels.readUIntBE(y * screen.stride + x * 3, 3);
      const expected = pictureColor(x, y, width, height);
      if (found === expected) continue;
      console.log(`pixel ${x},${y} is ${found.toString(16)}, expected ${expected.toString(16)}`);
      return false;
    }
  }
  console.log(`screen: all ${width * height} pixels as drawn`);
  return true;
}

interface Screen {
  width: number;
  height: number;
  stride: number;
  pixels: Buffer;
}

async function screendump(): Promise<Screen> {
  const file = join(scratch, 'screen.ppm');
  const monitor = createConnection(join(scratch, 'qmp'));
  const replies = createInterface(monitor)[Symbol.asyncIterator]();
  for (const command of [
    { execute: 'qmp_capabilities' },
    { execute: 'screendump', arguments: { filename: file } },
  ]) {
    monitor.write(`${JSON.stringify(command)}\n`);
    await replyOf(replies);
  }
  monitor.destroy();
  const ppm = readFileSync(file);
  const header = /^P6\n(\d+) (\d+)\n255\n/.exec(ppm.toString('latin1', 0, 64))!;
  const pixels = ppm.subarray(header[0].length);
  const height = Number(header[2]);
  // QEMU pads the rows of a PPM to four bytes.
  return { width: Number(header[1]), height, stride: pixels.length / height, pixels };
}

/** Skips the greeting and events. */
async function replyOf(lines: AsyncIterator<string>): Promise<void> {
  for (;;) {
    const { value, done } = await lines.next();
    if (done || 'error' in JSON.parse(value)) throw new Error(`QMP: ${value}`);
    if ('return' in JSON.parse(value)) return;
  }
}
