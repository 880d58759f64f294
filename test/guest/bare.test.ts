/**
 * The guest without a kernel (`bare/`) on our device: under QEMU with and without KVM, and under cloud-hypervisor where
 * there is one. It judges the device by itself; what it drew and wrote is looked at from this side.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access, open } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { cachePath } from '../../tools/testbed/cache.ts';
import { type Picture, paintPicture } from '../../tools/testbed/pictures.ts';
import { startGuest } from '../../tools/testbed/qemu.ts';
import type { Server } from '../../tools/testbed/server.ts';
import {
  type BareReport,
  buildBareGuest,
  cursor,
  cursorWord,
  pictureColor,
  readReport,
  windowPageBytes,
  windowWord,
  windowWords,
} from './bare/bare.ts';
import { expectShown, skipBecause, startServer } from './support.ts';

const MiB = 2 ** 20;
const image = cachePath('bare', 'bare.elf');
const doneLine = /^BARE DONE .*\n/m;
const timeoutMs = 120_000;

describe('under QEMU', () => {
  test.for([
    ['tcg', '1280x800', 256],
    ['tcg', '1366x768', 0],
    // Some machines with KVM emulate 32-bit code, slowly: hence less of everything.
    ['kvm', '640x480', 64],
  ] as const)(
    'with %s, a display of %s and a window of %s MiB all checks pass',
    async ([accel, display, windowMiB], context) => {
      const missing = accel === 'kvm' ? await kvmMissing() : undefined;
      if (missing) skipBecause(context, missing);
      buildBareGuest();
      await using server = await startServer({
        displays: [display],
        arguments: ['--host-visible-size', `${windowMiB}M`],
      });
      {
        await using guest = await startGuest({
          kernel: { image },
          append: 'wait',
          accel,
          smp: 1,
          memoryMiB: 256,
          devices: [server.device],
        });
        await guest.waitFor(doneLine, timeoutMs);
        const report = readReport(guest.serial);
        const unable = windowMiB === 0 ? ['window', 'window-capability', 'window-move'] : [];
        expectGood(report, unable);
        await expectDrawn(server, report);
        if (windowMiB > 0) expect(await wrongWords(server, windowMiB * MiB, windowWord)).toEqual([]);
        expectProvoked(server);
        await guest.quit();
      }
      await server.waitForLog('client disconnected');
      // The next guest finds no byte of this one.
      if (windowMiB > 0) expect(await wrongWords(server, windowMiB * MiB, () => 0)).toEqual([]);
    },
  );
});

describe('under cloud-hypervisor', () => {
  const { CLOUD_HYPERVISOR: program } = process.env;

  test.for([
    ['640x480', 0],
    ['800x600', 64],
  ] as const)(
    'with a display of %s and a window of %s MiB all checks pass',
    async ([display, windowMiB], context) => {
      const missing = program
        ? await kvmMissing()
        : 'CLOUD_HYPERVISOR does not name a cloud-hypervisor program';
      if (missing) skipBecause(context, missing);
      buildBareGuest();
      await using server = await startServer({
        displays: [display],
        arguments: ['--host-visible-size', `${windowMiB}M`],
      });
      const console = await runCloudHypervisor(program!, server, async (serial) => {
        const report = readReport(serial);
        // cloud-hypervisor keeps a 64-bit BAR above 4 GiB, where a KVM that emulates 32-bit code cannot look.
        const isOutOfReach = report.tests.get('window')?.detail.includes('out of reach') ?? false;
        const unable =
          windowMiB === 0
            ? ['window', 'window-capability', 'window-move']
            : ['window-move', ...(isOutOfReach ? ['window'] : [])];
        expectGood(report, unable);
        await expectDrawn(server, report);
        if (windowMiB > 0 && !isOutOfReach)
          expect(await wrongWords(server, windowMiB * MiB, windowWord)).toEqual([]);
      });
      expectProvoked(server);
      expect(console).not.toMatch(/ERROR|panicked/);
      await server.waitForLog('client disconnected');
    },
  );
});

/** Every check passed, but for those that had nothing to check. */
function expectGood(report: BareReport, skipped: readonly string[]): void {
  const others = [...report.tests].filter(([, { verdict }]) => verdict !== 'PASS');
  expect(others.filter(([, { verdict }]) => verdict === 'FAIL')).toEqual([]);
  expect(others.map(([name]) => name).sort()).toEqual([...skipped].sort());
  expect(report.notes).toEqual([]);
  expect(report.done).toEqual({
    passed: report.tests.size - skipped.length,
    failed: 0,
    skipped: skipped.length,
  });
  expect(report.tests.size).toBeGreaterThanOrEqual(66);
}

/** Picture and cursor are where and as the guest drew them. */
async function expectDrawn(server: Server, { picture }: BareReport): Promise<void> {
  const { width, height } = picture!;
  const [display] = await server.displays();
  expect(display).toMatchObject({
    mode: { width, height },
    picture: { width, height },
    cursor: {
      visible: true,
      x: cursor.x,
      y: cursor.y,
      width: cursor.side,
      height: cursor.side,
      hotX: cursor.hotX,
      hotY: cursor.hotY,
    },
  });
  const drawn = paintPicture(width, height, (x, y) => pictureColor(x, y, width, height));
  await expectShown(server, drawn);
  await expectShown(server, withBareCursor(drawn), { cursor: true });
}

function withBareCursor({ width, height, rgb }: Picture): Picture {
  const picture = { width, height, rgb: Buffer.from(rgb) };
  for (let y = 0; y < cursor.side; y++) {
    for (let x = 0; x < cursor.side; x++) {
      const word = cursorWord(x, y);
      const at = ((y + cursor.y) * width + x + cursor.x) * 3;
      for (let channel = 0; channel < 3; channel++) {
        const under = Math.round((rgb[at + channel]! * (255 - (word >>> 24))) / 255);
        picture.rgb[at + channel] = ((word >>> (16 - 8 * channel)) & 0xff) + under;
      }
    }
  }
  return picture;
}

/** The words of the window that are others than they should be, at most ten of them. */
async function wrongWords(
  server: Server,
  sizeBytes: number,
  expected: (page: number, word: number) => number,
): Promise<string[]> {
  const wrong: string[] = [];
  await using file = await open(server.windowPath());
  expect((await file.stat()).size).toBe(sizeBytes);
  const part = Buffer.alloc(Math.min(sizeBytes, 16 * MiB));
  for (let offset = 0; offset < sizeBytes; offset += part.length) {
    await file.read(part, 0, part.length, offset);
    for (let at = 0; at < part.length; at += windowPageBytes) {
      const page = (offset + at) / windowPageBytes;
      for (const word of windowWords) {
        const [is, should] = [part.readUInt32LE(at + 4 * word), expected(page, word)];
        if (is !== should && wrong.length < 10)
          wrong.push(`word ${word} of page ${page} is ${is}, not ${should}`);
      }
    }
  }
  return wrong;
}

/** The guest does wrong on purpose; the server says so, in just these words. */
function expectProvoked(server: Server): void {
  const complaints = server.log.filter(({ level }) => level >= 40);
  expect(complaints.map(({ msg, kind, detail }) => ({ msg, kind, detail }))).toEqual([
    { msg: 'guest error', kind: 'features', detail: 'refused 0x0' },
    { msg: 'guest error', kind: 'features', detail: 'refused 0x140000000' },
    { msg: 'guest error', kind: 'broken', detail: 'head 16 of a queue of 16' },
  ]);
}

/** Runs the image until it has said everything, calls `look`, and ends it. Returns what cloud-hypervisor said itself. */
async function runCloudHypervisor(
  program: string,
  server: Server,
  look: (serial: string) => Promise<void>,
): Promise<string> {
  const child = spawn(
    'setpriv',
    [
      ...['--pdeathsig', 'KILL', '--', program, '--kernel', image, '--cmdline', 'wait'],
      ...['--cpus', 'boot=1', '--memory', 'size=256M,shared=on', '--serial', 'tty', '--console', 'off'],
      ...['--user-device', `socket=${server.socketPath}`],
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let [serial, complaints] = ['', ''];
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints += text;
  });
  const ended = new Promise((resolve) => child.on('close', resolve));
  try {
    await new Promise<void>((resolve, reject) => {
      const fail = (what: string) => reject(new Error(`${what}\n${serial}\n${complaints}`));
      const timer = setTimeout(() => fail('cloud-hypervisor: no end in time'), timeoutMs);
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        serial += text.replaceAll('\r', '');
        if (doneLine.test(serial)) resolve();
      });
      void ended.then(() => {
        clearTimeout(timer);
        fail('cloud-hypervisor ended early');
      });
    });
    await look(serial);
  } finally {
    child.kill();
    await ended;
  }
  return complaints;
}

/** Why KVM cannot be used here; undefined where it can. */
async function kvmMissing(): Promise<string | undefined> {
  try {
    await access('/dev/kvm', constants.R_OK | constants.W_OK);
    await using _ = await startGuest({ kernel: 'none', accel: 'kvm', devices: [] });
    return undefined;
  } catch (error) {
    const { message } = error as Error;
    return `KVM cannot be used: ${/.*kvm.*/i.exec(message)?.[0] ?? message}`;
  }
}
