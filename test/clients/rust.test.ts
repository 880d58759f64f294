/**
 * The server under the `vfio_user` crate, the client that cloud-hypervisor links: ten guests, one after the other, with
 * a driver, a picture and a hard end each. The program is in `rust/`; this side looks at the server while it runs.
 */
import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import { InputServer } from '../../server/input-server.ts';
import { comparePictures, isBlack, paintPicture } from '../../tools/testbed/pictures.ts';
import { type Server, startServer } from '../../tools/testbed/server.ts';
import { buildCrate, type Crate, programOf } from '../support/cargo.ts';
import { openFds, recordingLog } from '../support/fake-client.ts';

const crate: Crate = {
  name: 'the vfio_user crate',
  folder: fileURLToPath(new URL('rust', import.meta.url)),
  target: 'rust',
  program: 'vfio-user-client',
  shown: /^(vfio.user|vfio-bindings|vm-memory|vmm-sys-util)$/,
};
const refusedPerGuest = 3;

let whyNot: string | undefined;

beforeAll(async () => {
  whyNot = await buildCrate(crate);
});

test('ten guests of cloud-hypervisor, with a host-visible window', { timeout: 300_000 }, async ({ skip }) => {
  skip(whyNot !== undefined, whyNot);
  await runGuests({ guests: 10, windowBytes: 2 ** 35 });
});

test('four without a window', { timeout: 120_000 }, async ({ skip }) => {
  skip(whyNot !== undefined, whyNot);
  await runGuests({ guests: 4, windowBytes: 0 });
});

test('four that reboot, under a server with --once, which then leaves', { timeout: 120_000 }, async ({
  skip,
}) => {
  skip(whyNot !== undefined, whyNot);
  await using server = await startServer({ arguments: ['--once', '--host-visible-size', '0'] });
  await runGpuProgram(server, 4, 0);
  expect(await server.exited).toBe(0);
});

test('four with a keyboard, which this process serves', { timeout: 120_000 }, async ({ skip }) => {
  skip(whyNot !== undefined, whyNot);
  const folder = mkdtempSync(join(tmpdir(), 'rust-'));
  const socketPath = join(folder, 'keyboard.sock');
  const { log, lines } = recordingLog();
  const input = new InputServer({ sockets: { keyboard: socketPath }, displays: () => [], log });
  try {
    const { seat, functions } = input;
    const { served } = functions[0]!;
    const keyboard = seat.open('rust');
    const fdsAtStart = openFds();
    const held = await runProgram([socketPath, '4', '0', 'keyboard'], {
      async key(guest) {
        expect(served.info().guest.status).toBe(15);
        const code = 30 + guest;
        keyboard.key(code, true);
        keyboard.key(code, false);
        return String(code);
      },
      async lamp() {
        expect(seat.leds).toEqual({ numLock: false, capsLock: true, scrollLock: false });
        return '';
      },
      async reset() {
        expect(seat.leds).toBe(undefined);
        return '';
      },
      async unplugged() {
        expect(served.metrics().dmaWindows).toBe(0);
        return '';
      },
    });
    expect(held.filter((name) => name === 'key' || name === 'lamp')).toEqual(
      Array(4).fill(['key', 'lamp']).flat(),
    );
    await expect.poll(() => served.metrics().clientConnected, { timeout: 10_000 }).toBe(false);
    expect(openFds()).toBe(fdsAtStart);
    expect(served.metrics()).toMatchObject({
      dmaWindows: 0,
      guestErrors: {},
      clientErrors: { 'errno 22': refusedPerGuest * 4 },
    });
    expect(lines.filter(({ level }) => level === 'error')).toEqual([]);
  } finally {
    input.close();
    rmSync(folder, { recursive: true });
  }
});

async function runGuests({ guests, windowBytes }: { guests: number; windowBytes: number }): Promise<void> {
  await using server = await startServer({ arguments: ['--host-visible-size', String(windowBytes)] });
  const fdsAtStart = await countFds(server);
  const held = await runGpuProgram(server, guests, windowBytes);
  const perGuest = windowBytes > 0 ? ['window', 'resize', 'picture'] : ['resize', 'picture'];
  expect(held.filter((name) => perGuest.includes(name))).toEqual(Array(guests).fill(perGuest).flat());

  await expect.poll(() => server.metric('client_connected'), { timeout: 10_000 }).toBe(0);
  await expect.poll(() => countFds(server), { timeout: 10_000 }).toBe(fdsAtStart);
  expect(await server.metric('resources')).toBe(0);
  expect(await server.metric('dma_windows')).toBe(0);
  expect(await server.metric('client_errors_total', { kind: 'errno 22' })).toBe(refusedPerGuest * guests);
  expect(await server.metric('client_errors_total')).toBe(refusedPerGuest * guests);
  expect(await server.metric('guest_errors_total')).toBe(0);
  expect(isBlack(await server.screenshot())).toBe(true);
  expect(readFileSync(`/proc/${server.pid}/maps`, 'utf8')).not.toContain('rust-guest-ram');
}

/** Guests of the gpu, one after the other, each with a connection of its own. */
async function runGpuProgram(server: Server, guests: number, windowBytes: number): Promise<string[]> {
  const looks = Object.entries(look).map(([name, at]): [string, Look] => [
    name,
    (guest, details) => at(server, guest, details),
  ]);
  return await runProgram(
    [server.socketPath, String(guests), String(windowBytes), 'gpu'],
    Object.fromEntries(looks),
    () => server.log.slice(-10).map((line) => JSON.stringify(line)),
  );
}

/** Of a server whose encoder of pictures is running: that one comes and goes, and has descriptors of its own. */
async function countFds(server: Server): Promise<number> {
  await server.screenshot();
  return server.processState().fds;
}

/** Looks, and does something, while the program waits; what the program is told then. */
type Look = (guest: number, details: string) => Promise<string>;

/** Runs the program to its end and answers its questions. Returns the names of them. */
async function runProgram(
  arguments_: readonly string[],
  looks: Readonly<Record<string, Look>>,
  log: () => readonly string[] = () => [],
): Promise<string[]> {
  const child = spawn(programOf(crate), arguments_, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<number | null>((resolve) => {
    child.on('error', () => resolve(null));
    child.on('close', resolve);
  });
  const lines: string[] = [];
  const held: string[] = [];
  try {
    for await (const line of createInterface({ input: child.stdout })) {
      lines.push(line);
      const hold = /^HOLD (\d+) (\S+) (.*)$/.exec(line);
      if (!hold) continue;
      const [, guest, name, details] = hold;
      held.push(name!);
      child.stdin.write(`${await looks[name!]!(Number(guest), details!)}\n`);
    }
  } finally {
    child.kill('SIGKILL');
  }
  const status = await ended;
  expect(status, [...lines.slice(-10), ...log()].join('\n')).toBe(0);
  expect(lines.at(-1)).toBe(`DONE guests=${arguments_[1]}`);
  return held;
}

/** What is looked at, and done, when the program waits. */
const look: Record<string, (server: Server, guest: number, details: string) => Promise<string>> = {
  async window(server, guest, details) {
    const [, offsets] = /offsets=(\S+)/.exec(details)!;
    const word = 0xc0ffee00_00000000n + BigInt(guest);
    for (const offset of offsets!.split(',').map(Number)) {
      const written = BigInt(offset) ^ 0x1122_3344_5566_7788n;
      expect(windowWord(server, offset)).toBe(written);
      expect(windowWord(server, offset + 8)).toBe(BigInt.asUintN(64, ~written));
      windowWord(server, offset + 16, word);
    }
    return String(word);
  },

  async resize(server, guest) {
    const [width, height] = [800 - 8 * guest, 480 + guest];
    await server.resize(0, width, height);
    return `${width}x${height}`;
  },

  async picture(server, guest, details) {
    const [, width, height] = /size=(\d+)x(\d+)/.exec(details)!;
    const color = (x: number, y: number) => (((y << 12) | x) ^ (guest * 0x01_0305)) & 0xff_ffff;
    const expected = paintPicture(Number(width), Number(height), color);
    expect(comparePictures(await server.screenshot(), expected)).toBe(undefined);
    expect((await server.displays())[0]!.cursor).toMatchObject({ x: 10 * guest, y: 20 * guest });
    expect(await server.metric('resources')).toBe(1);
    expect(await server.metric('dma_windows')).toBe(2);
    return '';
  },

  async reset(server) {
    expect(await server.metric('resources')).toBe(0);
    expect(await server.metric('dma_windows')).toBe(2);
    expect(isBlack(await server.screenshot())).toBe(true);
    return '';
  },

  async unplugged(server) {
    expect(await server.metric('dma_windows')).toBe(0);
    return '';
  },
};

/** Eight bytes of the server's side of the window, or new ones for there. */
function windowWord(server: Server, offset: number, value?: bigint): bigint {
  const fd = openSync(server.windowPath(), 'r+');
  const bytes = Buffer.alloc(8);
  if (value === undefined) {
    readSync(fd, bytes, 0, 8, offset);
  } else {
    bytes.writeBigUInt64LE(value);
    writeSync(fd, bytes, 0, 8, offset);
  }
  closeSync(fd);
  return bytes.readBigUInt64LE();
}
