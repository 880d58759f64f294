/**
 * The test bed tests itself, on QEMU's own virtio-gpu: what holds here is what the device tests lean on.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { kernelInfo } from '../../tools/testbed/cache.ts';
import { consoleLine, parseConsoleFont, readConsole } from '../../tools/testbed/console.ts';
import { compareIgt, runIgt } from '../../tools/testbed/igt.ts';
import { dirtiedPicture, explainPattern, patternPicture } from '../../tools/testbed/patterns.ts';
import {
  colorAt,
  comparePictures,
  decodePng,
  decodePpm,
  encodePng,
  isBlack,
  type Picture,
  paintPicture,
} from '../../tools/testbed/pictures.ts';
import { GuestError, type GuestOptions, startGuest } from '../../tools/testbed/qemu.ts';
import { isRunning } from '../support/processes.ts';

const ownGpu = { kind: 'virtio-gpu' } as const;

describe.each(['6.12', 'newest'] as const)('with Linux %s', (kernel) => {
  test('the console comes up, and its text can be read off the picture', async () => {
    await using guest = await startGuest({
      kernel,
      devices: [ownGpu],
      script: `console 'The quick brown fox' '' '{[(<>)]}'\nread _`,
    });
    const [, version] = await guest.waitFor(/@@BOOTED (\S+)/);
    expect(version).toBe((await kernelInfo(kernel)).version);
    const font = parseConsoleFont(await guest.waitFor(consoleLine));
    const text = ['The quick brown fox', '', '{[(<>)]}'];
    await guest.screenShows((picture) => readConsole(picture, font).join('\n') === text.join('\n'));
    guest.write('\n');
    await guest.scriptSucceeds();
    expect(await guest.exited).toBe(0);
  });

  test('kms draws exactly the pattern on two outputs, one of them disconnected', async () => {
    await using guest = await startGuest({
      kernel,
      devices: [{ ...ownGpu, outputs: 2 }],
      script: 'kms --list --edid --output 0=1280x800 --output 1=1100x700 --flips 61 --dirty 5 --cursor',
      traces: ['virtio_gpu_update_cursor'],
    });
    const shots: string[] = [];
    for await (const shot of guest.shots()) {
      shots.push(shot);
      expectPattern(await guest.screendump(0), expectedAt(shot, 1280, 800, 0));
      expectPattern(await guest.screendump(1), expectedAt(shot, 1100, 700, 1));
    }
    await guest.scriptSucceeds();
    expect(shots).toEqual(['mode', 'flips', 'dirty', 'cursor-corner', 'cursor']);
    expect(guest.serial).toMatch(/^KMS connector output=0 connected=1 .*preferred=1280x800@/m);
    expect(guest.serial).toMatch(/^KMS connector output=1 connected=0 /m);
    expect(guest.serial).toMatch(/^KMS edid output=0 bytes=\d+ valid=1 hex=00ffffffffffff00/m);
    expect(guest.serial).toMatch(/^KMS set output=1 mode=1100x700@60\.\d+ from=formula$/m);
    expect(guest.serial).toMatch(/^KMS output=0 mode=1280x800 flips=61 seconds=/m);
    expect(await guest.exited).toBe(0);
    // The device has seen the path: from beyond one corner to beyond the other, and the hiding at the end.
    for (const place of ['x -64, y -64, update', 'x 1280, y 800, move', 'x -20, y -10, move']) {
      expect(guest.stderr).toContain(`scanout 0, ${place}`);
    }
    expect(guest.stderr).toMatch(/scanout 1, x 366, y 233, move.*scanout 1, x 0, y 0, update, res 0x0/s);
  });

  test('the driver can be unbound and bound again', async () => {
    await using guest = await startGuest({
      kernel,
      devices: [ownGpu],
      script: `
        driver=/sys/bus/virtio/drivers/virtio_gpu
        device=$(basename $driver/virtio*)
        for round in 1 2 3; do
          echo $device >$driver/unbind && ! test -e /dev/dri/card0 || exit 1
          echo $device >$driver/bind && test -e /dev/dri/card0 || exit 2
        done
        kms --output 0=1024x768`,
    });
    for await (const _ of guest.shots()) {
      expectPattern(await guest.screendump(), patternPicture(1024, 768, 0, 0));
    }
    await guest.scriptSucceeds();
  });

  test('the guest suspends to memory, wakes up, goes on and switches off', async () => {
    await using guest = await startGuest({
      kernel,
      suspends: true,
      devices: [ownGpu],
      script: 'echo good night\nsuspend || exit 1\necho good morning',
    });
    await guest.waitForEvent('SUSPEND');
    await guest.qmp('system_wakeup');
    await guest.waitForEvent('WAKEUP');
    await guest.waitFor(/good night\ngood morning\n/);
    await guest.scriptSucceeds();
    expect(await guest.exited).toBe(0);
  });
});

test('a guest that reboots starts again, from inside and from outside', async () => {
  await using guest = await startGuest({
    reboots: true,
    devices: [ownGpu],
    script: 'kms --output 0=1024x768 --hold\nreboot -f',
  });
  for (const reset of [() => guest.write('\n'), () => guest.qmp('system_reset'), () => guest.kill()]) {
    await guest.waitFor('@@SHOT mode\n');
    expectPattern(await guest.screendump(), patternPicture(1024, 768, 0, 0));
    // The first line answers the request for a picture, the second lets the program go on to its end.
    guest.write('\n');
    await reset();
  }
  expect(await guest.exited).toBe(null);
});

test('a change of the viewer reaches the guest as a hotplug', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'vnc-'));
  try {
    const socketPath = join(folder, 'vnc');
    await using guest = await startGuest({
      devices: [ownGpu],
      script: 'kms --hotplug 1',
      qemuArguments: ['-vnc', `unix:${socketPath}`],
    });
    await guest.waitFor('KMS waiting for hotplug');
    await resizeByVnc(socketPath, 1000, 600);
    await guest.waitFor(/KMS hotplug output=0 connected=1 .*preferred=1000x600@.* listed_as_preferred=1\n/);
    await guest.waitFor(/KMS edid output=0 bytes=\d+ valid=1 /);
    await guest.scriptSucceeds();
  } finally {
    await rm(folder, { recursive: true });
  }
});

describe('with EDK2', () => {
  test('the firmware draws by itself', async () => {
    await using guest = await startGuest({ kernel: 'none', firmware: 'ovmf', devices: [ownGpu] });
    // Before, QEMU shows words of its own, on 640x480. The logo is in the middle, on black.
    const picture = await guest.screenShows(
      ({ width, ...rest }) => width === 1280 && !isBlack({ width, ...rest }),
    );
    expect(colorAt(picture, 0, 0)).toBe(0);
    expect(colorAt(picture, 640, 385)).not.toBe(0);
  });

  test('the firmware hands the device over to Linux', async () => {
    await using guest = await startGuest({
      firmware: 'ovmf',
      devices: [ownGpu],
      script: '[ -d /sys/firmware/efi ] || exit 1\nkms --output 0=1024x768',
    });
    for await (const _ of guest.shots()) {
      expectPattern(await guest.screendump(), patternPicture(1024, 768, 0, 0));
    }
    await guest.scriptSucceeds();
  });
});

test('IGT runs, and reports can be compared', async () => {
  const report = await runIgt({
    device: ownGpu,
    programs: ['core_getversion', 'kms_addfb_basic', 'kms_flip --run-subtest basic-plain-flip'],
  });
  expect(report.results['core_getversion@basic']?.outcome).toBe('pass');
  expect(report.results['kms_flip@basic-plain-flip']?.outcome).toBe('pass');
  expect(report.results['kms_addfb_basic@unused-handle']?.outcome).toBe('skip');
  expect(compareIgt(report, report)).toEqual([]);
  const { 'core_getversion@basic': changed, ...others } = report.results;
  const other = {
    ...report,
    results: { ...others, 'kms_flip@basic-plain-flip': { ...changed!, outcome: 'fail' } },
  };
  expect(compareIgt(other as typeof report, report)).toEqual([
    'core_getversion@basic: did not run, expected pass',
    'kms_flip@basic-plain-flip: fail, expected pass',
  ]);
});

test('a test brings files of its own', async () => {
  await using guest = await startGuest({
    devices: [],
    extraFiles: { '/deep/er/hello': '#!/bin/sh\necho "hello from $0"\n', '/data': Buffer.alloc(5, 1) },
    script: '/deep/er/hello\nwc -c </data\nexit 3',
  });
  await guest.waitFor('hello from /deep/er/hello\n5\n');
  expect(await guest.scriptEnds()).toBe(3);
});

describe('when things go wrong', () => {
  const idle: GuestOptions = { kernel: 'none', devices: [] };

  test("a device that QEMU refuses fails the start with QEMU's own words", async () => {
    const device = { kind: 'raw', arguments: ['-device', 'no-such-device'] } as const;
    await expect(startGuest({ ...idle, devices: [device] })).rejects.toThrow(
      /'no-such-device' is not a valid/,
    );
  });

  test('a vfio-user server that is not there fails the start, too', async () => {
    const device = { kind: 'vfio-user', socketPath: '/nonexistent/server' } as const;
    await expect(startGuest({ ...idle, devices: [device] })).rejects.toThrow(
      /connect.*\/nonexistent\/server/i,
    );
  });

  test('errors show what the guest and its kernel said', async () => {
    await using guest = await startGuest({
      devices: [],
      modules: [],
      script: 'echo last words\nread _\nfalse',
    });
    await guest.waitFor('last words');
    await expect(guest.waitFor('never said', 100)).rejects.toThrow(/never said.*last words/s);
    guest.write('\n');
    await expect(guest.scriptSucceeds()).rejects.toThrow(/status 1.*@@DMESG/s);
  });

  test('a wait ends when QEMU does', async () => {
    await using guest = await startGuest(idle);
    const wait = guest.waitFor('never said');
    guest.kill();
    await expect(wait).rejects.toThrow(GuestError);
    await expect(guest.qmp('query-status')).rejects.toThrow(GuestError);
  });

  test('QEMU does not outlive the process that started it', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'outlive-'));
    try {
      const program = `
        import { startGuest } from ${JSON.stringify(new URL('../../tools/testbed/qemu.ts', import.meta.url).href)};
        const guest = await startGuest({ kernel: 'none', devices: [] });
        console.log(guest.pid);`;
      const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', program], {
        env: { ...process.env, TMPDIR: folder },
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const [output] = (await once(child.stdout, 'data')) as [Buffer];
      const pid = Number(output.toString());
      expect(isRunning(pid)).toBe(true);
      child.kill('SIGKILL');
      await once(child, 'exit');
      while (isRunning(pid)) await setTimeout(20);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

describe('pictures', () => {
  const picture = paintPicture(5, 3, (x, y) => (x << 16) | (y << 8) | 7);

  test('survive PNG and PPM', () => {
    expect(comparePictures(decodePng(encodePng(picture)), picture)).toBe(undefined);
    const ppm = Buffer.concat([Buffer.from('P6\n5 3\n255\n'), picture.rgb]);
    expect(comparePictures(decodePpm(ppm), picture)).toBe(undefined);
    const rows = [0, 15, 30].map((at) => Buffer.concat([picture.rgb.subarray(at, at + 15), Buffer.alloc(1)]));
    const padded = Buffer.concat([Buffer.from('P6\n5 3\n255\n'), ...rows]);
    expect(comparePictures(decodePpm(padded), picture)).toBe(undefined);
  });

  test('that differ are told apart in words', () => {
    const expected = patternPicture(300, 200, 1, 2);
    const actual = { ...expected, rgb: Buffer.from(expected.rgb) };
    actual.rgb.writeUIntBE(colorAt(expected, 290, 100), (50 * 300 + 7) * 3, 3);
    expect(comparePictures(actual, expected, explainPattern(expected, [{ output: 1, frame: 2 }]))).toMatch(
      /^1 of 60000 pixels differ, all within 1x1 at \(7, 50\); the first is \(7, 50\): #[0-9a-f]{6} \(\(290, 100\) of output 1, frame 2\), expected #[0-9a-f]{6} \(\(7, 50\) of output 1, frame 2\)$/,
    );
    expect(comparePictures(picture, expected)).toBe('the picture is 5x3, expected 300x200');
  });
});

function expectPattern(actual: Picture, expected: Picture): void {
  const frames = [0, 1, 60, 61, 62].flatMap((frame) => [0, 1].map((output) => ({ output, frame })));
  expect(comparePictures(actual, expected, explainPattern(expected, frames))).toBe(undefined);
}

/** What `kms --flips 61 --dirty 5` shows at its picture of that name. */
function expectedAt(shot: string, width: number, height: number, output: number): Picture {
  if (shot === 'mode') return patternPicture(width, height, output, 0);
  if (shot === 'flips') return patternPicture(width, height, output, 61);
  return dirtiedPicture(width, height, output, 61, 5);
}

/** As much of a VNC viewer as it takes to ask for another size (RFC 6143, and the extended desktop size). */
async function resizeByVnc(socketPath: string, width: number, height: number): Promise<void> {
  const socket = connect(socketPath);
  try {
    const read = async (length: number): Promise<Buffer> => {
      for (;;) {
        const data = socket.read(length) as Buffer | null;
        if (data) return data;
        await once(socket, 'readable');
      }
    };
    socket.write(await read('RFB 003.008\n'.length));
    await read((await read(1))[0]!);
    socket.write(Buffer.from([1])); // no security
    await read(4);
    socket.write(Buffer.from([1])); // shared
    const serverInit = await read(24);
    await read(serverInit.readUInt32BE(20));
    const encodings = Buffer.alloc(12);
    encodings.writeUInt8(2);
    encodings.writeUInt16BE(2, 2);
    encodings.writeInt32BE(0, 4); // raw
    encodings.writeInt32BE(-308, 8); // extended desktop size
    const resize = Buffer.alloc(24);
    resize.writeUInt8(251);
    resize.writeUInt8(1, 6); // one screen
    for (const at of [2, 16]) {
      resize.writeUInt16BE(width, at);
      resize.writeUInt16BE(height, at + 2);
    }
    socket.write(Buffer.concat([encodings, resize]));
    // The answer means that the request was read.
    await read(4);
  } finally {
    socket.destroy();
  }
}
