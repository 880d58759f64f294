/**
 * Blobs, contexts and the host-visible window, with stock kernels and a program that uses them (`blobs`). The memory
 * of a blob is the window's own: the host looks into the file behind it.
 */
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { consoleLine, parseConsoleFont } from '../../tools/testbed/console.ts';
import { cursorPositions, dirtiedPicture, withCursor } from '../../tools/testbed/patterns.ts';
import { type Guest, startGuest } from '../../tools/testbed/qemu.ts';
import type { Server } from '../../tools/testbed/server.ts';
import {
  collectorArguments,
  expectNoComplaints,
  expectNothingHeld,
  expectShown,
  expectText,
  kernels,
  memoryInUse,
  soon,
  startServer,
} from './support.ts';

const KiB = 2 ** 10;
const MiB = 2 ** 20;
const GiB = 2 ** 30;
const PAGE_BYTES = 4096;

const inPages = (bytes: number) => Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;

/** What `blobs` writes into a blob; the formula is at the top of blobs.c. */
function pattern(seed: number, sizeBytes: number): Buffer {
  const words = new Uint32Array(sizeBytes / 4);
  const start = Math.imul(seed, 0x85ebca6b);
  for (let i = 0; i < words.length; i++) words[i] = Math.imul(i + 1, 0x9e3779b1) + start;
  return Buffer.from(words.buffer);
}

/** The file behind the window of a server. */
class WindowFile implements Disposable {
  readonly sizeBytes: number;
  readonly #fd: number;

  constructor(server: Server) {
    this.#fd = openSync(server.windowPath(), 'r+');
    this.sizeBytes = fstatSync(this.#fd).size;
  }

  /** Memory that the file has. None is none at all: everything reads as zeros. */
  get populatedBytes(): number {
    return fstatSync(this.#fd).blocks * 512;
  }

  read(offset: number, sizeBytes: number): Buffer {
    const bytes = Buffer.alloc(sizeBytes);
    expect(readSync(this.#fd, bytes, 0, sizeBytes, offset)).toBe(sizeBytes);
    return bytes;
  }

  write(offset: number, bytes: Buffer): void {
    expect(writeSync(this.#fd, bytes, 0, bytes.length, offset)).toBe(bytes.length);
  }

  /** Where a blob with this pattern is, all of it. */
  find(seed: number, sizeBytes: number): number {
    const whole = pattern(seed, inPages(sizeBytes));
    const start = whole.subarray(0, 16);
    for (const [offset, chunk] of this.#chunks()) {
      for (let at = chunk.indexOf(start); at >= 0; at = chunk.indexOf(start, at + 1)) {
        if (at % PAGE_BYTES !== 0) continue;
        expect(this.read(offset + at, whole.length).equals(whole), `seed ${seed}`).toBe(true);
        return offset + at;
      }
    }
    throw new Error(`no blob with seed ${seed} in the window`);
  }

  isZero(): boolean {
    const zeros = Buffer.alloc(CHUNK_BYTES);
    return [...this.#chunks()].every(([, chunk]) => chunk.equals(zeros));
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  *#chunks(): Generator<[number, Buffer]> {
    for (let offset = 0; offset < this.sizeBytes; offset += CHUNK_BYTES) {
      yield [offset, this.read(offset, CHUNK_BYTES)];
    }
  }
}
const CHUNK_BYTES = 16 * MiB;

/** Runs what is written to it, line by line, once it has said that it is ready. */
const commandLoop = `
  echo @@READY
  while read -r line; do
    eval "$line"
    echo "@@RAN $?"
  done`;

/** Has the guest run a command. At each of these pictures, in this order, the host does something; returns its words. */
async function run(
  guest: Guest,
  command: string,
  atShots: Readonly<Record<string, () => unknown>> = {},
): Promise<string> {
  const from = guest.serial.length;
  const next = async () => (await guest.waitFor(/^@@(SHOT \S+|RAN \d+)$/m))[1];
  guest.write(`${command}\n`);
  for (const [name, act] of Object.entries(atShots)) {
    expect(await next(), guest.serial.slice(from)).toBe(`SHOT ${name}`);
    await act();
    guest.write('\n');
  }
  expect(await next(), guest.serial.slice(from)).toBe('RAN 0');
  return guest.serial.slice(from);
}

async function untilMetric(
  server: Server,
  name: string,
  labels: Readonly<Record<string, string>>,
  value: number,
): Promise<void> {
  const read = () => server.metric(name, labels);
  expect(await soon(read, (now) => now === value), `${name} ${JSON.stringify(labels)}`).toBe(value);
}
const untilMapped = (server: Server, bytes: number) =>
  untilMetric(server, 'window_bytes', { state: 'mapped' }, bytes);

/** Every blob is gone. */
async function expectNoBlobs(server: Server): Promise<void> {
  await untilMapped(server, 0);
  await untilMetric(server, 'resources', { kind: 'host3d' }, 0);
  await untilMetric(server, 'blob_bytes', {}, 0);
  await untilMetric(server, 'requests_waiting', {}, 0);
}

/** And nothing of what was in them. */
async function expectEmpty(server: Server, window: WindowFile): Promise<void> {
  await expectNoBlobs(server);
  expect(window.isZero()).toBe(true);
}

/** No program has anything, and the window is as new. Linux 6.12 has a context for its console. */
async function expectUnused(server: Server, window: WindowFile): Promise<void> {
  await expectNoBlobs(server);
  const contexts = () => server.metric('contexts');
  expect(await soon(contexts, (count) => count <= 1)).toBeLessThanOrEqual(1);
  expect(window.populatedBytes).toBe(0);
  expect(await server.metric('window_bytes')).toBe(0);
}

/** When nothing comes and goes any more, the server gives all memory back that is in no blob. */
async function untilGivenBack(window: WindowFile, server: Server): Promise<void> {
  await soon(
    async () => window.populatedBytes,
    (bytes) => bytes === 0,
    30_000,
  );
  await expectUnused(server, window);
}

/** What the kernel has to complain about. */
const complaints = `dmesg -r | grep -E '^<[0-4]>' | grep -E 'drm|virtio|blobs|BUG|WARN|cut here' | sed 's/^/COMPLAINT /'; true`;

const driverLeaves = `
  driver=/sys/bus/virtio/drivers/virtio_gpu; device=$(basename $driver/virtio*); echo $device >$driver/unbind`;
const driverComes = 'echo $device >$driver/bind';
const oneLine = (script: string) => script.trim().replaceAll(/\s*\n\s*/g, ' ');

describe.each(kernels)('with Linux %s and a window of 256 MiB', (kernel) => {
  let server: Server;
  let window: WindowFile;
  let guest: Guest;
  let atStart: ReturnType<Server['processState']>;
  let heapAtStart: number;

  const start = () => startGuest({ kernel, reboots: true, devices: [server.device], script: commandLoop });

  beforeAll(async () => {
    server = await startServer({
      arguments: ['--context-types', 'cross-domain', '--host-visible-size', '256M'],
      nodeArguments: collectorArguments,
    });
    window = new WindowFile(server);
    guest = await start();
    await guest.waitFor('@@READY\n');
    await run(guest, 'blobs churn 300');
    await expectEmpty(server, window);
    atStart = server.processState();
    ({ heapBytes: heapAtStart } = await memoryInUse(server));
  });
  afterAll(async () => {
    await guest?.[Symbol.asyncDispose]();
    window?.[Symbol.dispose]();
    await server?.stop();
  });

  test('the driver finds the window, and programs the cross-domain contexts', async () => {
    const said = await run(guest, "dmesg | grep -E 'Host memory window|features:'; blobs params");
    expect(said).toMatch(/Host memory window: 0x[0-9a-f]+ \+0x10000000$/m);
    expect(said).toContain('+virgl +edid +resource_blob +host_visible');
    expect(said).toContain('+context_init');
    // 3D, its capsets can be asked for, blobs, window, blobs for other devices, contexts.
    for (const param of [1, 2, 3, 4, 5, 6]) expect(said).toContain(`BLOBS param=${param} value=1\n`);
    expect(said).toContain(`BLOBS param=7 value=${1 << 5}\n`);
    // Version 1, and no channel.
    expect(said).toContain('BLOBS capset=5 bytes=01000000000000000000000000000000\n');
  });

  test('the host sees what the guest writes, the guest what the host writes, and then nobody anything', async () => {
    const sizes = [PAGE_BYTES, 480_000, 64 * MiB, 1, 1920 * 1080 * 4];
    const totalBytes = sizes.reduce((sum, size) => sum + inPages(size), 0);
    const offsets: number[] = [];
    await run(guest, `blobs window ${sizes.join(' ')}`, {
      written: async () => {
        await untilMapped(server, totalBytes);
        expect(window.populatedBytes).toBe(totalBytes);
        for (const [i, size] of sizes.entries()) {
          const offset = window.find(i + 1, size);
          offsets.push(offset);
          window.write(offset, pattern(i + 101, inPages(size)));
        }
      },
      closed: async () => {
        await expectEmpty(server, window);
      },
    });
    expect(new Set(offsets).size).toBe(sizes.length);
  });

  test('a blob has nothing of the one of another program that was there before it', async () => {
    const offsets: number[] = [];
    await run(guest, `blobs owners ${MiB}`, {
      a: () => offsets.push(window.find(1, MiB)),
      b: () => offsets.push(window.find(2, MiB)),
    });
    // Nor when that ended without tidying up.
    for (const seed of [3, 4]) {
      await run(guest, `blobs leave ${MiB} ${seed}`, { left: () => offsets.push(window.find(seed, MiB)) });
    }
    expect(new Set(offsets).size).toBe(1);
    await expectEmpty(server, window);
  });

  test('whoever waits for a message that never comes holds up nobody, and can leave', async () => {
    const waits: number[] = [];
    const pending = async () => waits.push(await server.metric('requests_waiting'));
    const said = await run(guest, 'blobs poll', { pending, 'pending-buffer': pending });
    expect(waits).toEqual([1, 1]);
    expect(said.match(/^BLOBS poll .*$/gm)).toEqual([
      'BLOBS poll buffer=0 told=0',
      'BLOBS poll buffer=1 told=0',
    ]);
    await expectEmpty(server, window);
  });

  test('ten thousand blobs come and go: each is empty at first, and keeps what is written to it', async () => {
    const said = await run(guest, 'blobs churn 10000');
    expect(said).toMatch(/^BLOBS churn count=10000 /m);
    await expectEmpty(server, window);
    await untilGivenBack(window, server);
    const { fds, memfdMappings, memfdMappedBytes } = atStart;
    // The connection of the last question may not be quite gone.
    const now = await soon(
      async () => server.processState(),
      (state) => state.fds <= fds,
    );
    expect(now).toMatchObject({ memfdMappings, memfdMappedBytes });
    expect(now.fds).toBeLessThanOrEqual(fds);
    // Whatever was kept of each blob, would be more than this.
    const { heapBytes } = await memoryInUse(server);
    expect(heapBytes - heapAtStart).toBeLessThan(10_000 * 64);
  });

  test('the kernel and the server complain about none of that', async () => {
    expect(await run(guest, complaints)).not.toContain('COMPLAINT');
    expectNoComplaints(server);
  });

  /** What the host is told of the program that asks for a channel of a kind that there is not. */
  const isOfOtherChannel = ({ kind, channelType }: Readonly<Record<string, unknown>>) =>
    kind === 'refused' && channelType === 127;
  const expectNoOtherComplaints = () =>
    expect(server.log.filter((line) => line.level >= 40 && !isOfOtherChannel(line))).toEqual([]);

  test('what cannot be had is refused, and nothing is left of it', async () => {
    const said = await run(guest, 'blobs refused');
    expect(said.match(/^BLOBS refused .*$/gm)).toEqual([
      'BLOBS refused what=no-context mmap=EINVAL',
      'BLOBS refused what=capset-2 init=EINVAL',
      'BLOBS refused what=no-init untouched=1',
      'BLOBS refused what=blob-id-0 mmap=EINVAL',
      'BLOBS refused what=blob-id-999 mmap=EINVAL',
      'BLOBS refused what=smaller mmap=EINVAL',
      'BLOBS refused what=larger mmap=EINVAL',
      'BLOBS refused what=not-mappable mmap=EINVAL',
      'BLOBS refused what=of-another mmap=EINVAL',
      'BLOBS refused what=no-pixels size=0 id=0',
      'BLOBS refused what=too-large size=0 id=0',
      'BLOBS refused what=larger-than-window create=ENOSPC',
      'BLOBS refused what=ring-2 submit=EINVAL',
      'BLOBS refused done',
    ]);
    const refusals = (result: string) =>
      server.metric('commands_total', { command: 'RESOURCE_CREATE_BLOB', result });
    // Without a context, of another one, ids 0 and 999, smaller and larger.
    expect(await refusals('ERR_UNSPEC')).toBe(6);
    await expectEmpty(server, window);
    const kernelSays = await run(guest, complaints);
    for (const line of kernelSays.match(/^COMPLAINT .*$/gm) ?? [])
      expect(line).toMatch(/\*ERROR\* response 0x12/);
    expect(server.log.filter(isOfOtherChannel).map(({ level }) => level)).toEqual([40]);
    expectNoOtherComplaints();
  });

  /** A program has a blob, and it is in the window. */
  const hold = (seed: number) =>
    run(guest, `blobs hold 1000000 ${seed}`, { held: () => window.find(seed, 1_000_000) });

  test('nothing is in the window when the driver has gone and come again', async () => {
    await hold(5);
    await run(guest, oneLine(driverLeaves));
    await expectUnused(server, window);
    await run(guest, driverComes);
    expect(window.populatedBytes).toBe(0);
    // What it makes is empty.
    await hold(6);
    expectNoOtherComplaints();
  });

  test('nothing is in the window when the guest has rebooted', async () => {
    await hold(7);
    guest.write('reboot -f\n');
    await guest.waitFor('@@READY\n');
    await expectUnused(server, window);
    await hold(8);
    expectNoOtherComplaints();
  });

  test('nothing is in the window when QEMU was killed and comes back, and nothing has grown', async () => {
    await hold(9);
    const from = server.log.length;
    guest.kill();
    await server.waitForLog('client disconnected', 60_000, from);
    await expectUnused(server, window);
    await expectNothingHeld(server);
    await guest[Symbol.asyncDispose]();
    guest = await start();
    await guest.waitFor('@@READY\n');
    expect(window.populatedBytes).toBe(0);
    await hold(10);
    expectNoOtherComplaints();
  });
});

describe.each(kernels)('with Linux %s', (kernel) => {
  test.each([1, 8])('the driver finds a window of %i GiB, which costs nothing', async (size) => {
    await using server = await startServer({
      arguments: ['--context-types', 'cross-domain', '--host-visible-size', `${size}G`],
    });
    using window = new WindowFile(server);
    await using guest = await startGuest({
      kernel,
      devices: [server.device],
      script: "dmesg | grep 'Host memory window'; blobs leave 1000000 1 && blobs params",
    });
    await guest.waitFor('@@SHOT left\n');
    expect(window.sizeBytes).toBe(size * GiB);
    expect(window.populatedBytes).toBe(inPages(1_000_000));
    guest.write('\n');
    await guest.scriptSucceeds();
    const [, length] = /Host memory window: 0x[0-9a-f]+ \+0x([0-9a-f]+)$/m.exec(guest.serial)!;
    expect(Number.parseInt(length!, 16)).toBe(size * GiB);
    expect(guest.serial).toContain('BLOBS param=4 value=1\n');
    expectNoComplaints(server);
  });

  test('the console and programs that draw are shown without one copy, while nobody looks', async () => {
    const [width, height, flips, dirtySteps] = [1280, 800, 100, 8];
    await using server = await startServer({ displays: [`${width}x${height}`] });
    await using guest = await startGuest({ kernel, devices: [server.device], script: commandLoop });
    await guest.waitFor('@@READY\n');
    const copied = () => server.metric('copied_bytes_total');
    const flushed = async () => (await server.displays())[0]!.flushes;
    const seen: number[] = [];
    const look = async () => seen.push(await copied());

    await run(guest, "console 'no copies'");
    expect(await soon(flushed, (count) => count > 0)).toBeGreaterThan(0);
    await look();
    const ignore = () => {};
    const drawn = dirtiedPicture(width, height, 0, flips, dirtySteps);
    const { inside } = cursorPositions(width, height);
    await run(guest, `kms --flips ${flips} --dirty ${dirtySteps} --cursor`, {
      mode: ignore,
      flips: ignore,
      dirty: ignore,
      'cursor-corner': look,
      cursor: async () => {
        expect(await flushed()).toBeGreaterThan(flips);
        expect(await server.metric('resources', { kind: '2d' })).toBe(0);
        expect(await server.metric('resources', { kind: 'guest' })).toBeGreaterThan(1);
        await look();
        await expectShown(server, drawn, { frame: flips });
        await expectShown(server, withCursor(drawn, inside.x, inside.y), { cursor: true });
      },
    });
    expect(seen).toEqual([0, 0, 0]);
    // The console has its screen again.
    const font = parseConsoleFont(consoleLine.exec(guest.serial)!);
    await expectText(server, font, ['no copies']);
    expectNoComplaints(server);
  });
});

describe('memory that blobs have, not their sizes', () => {
  const withContexts = (...more: string[]) =>
    startServer({ arguments: ['--context-types', 'cross-domain', ...more] });
  const startFor = (server: Server) =>
    startGuest({ devices: [server.device], memoryMiB: 1024, script: commandLoop });

  test('counts: by default there is room for 60 pools of 512 MiB with 5 MiB in each, three for each of 20 windows', async () => {
    await using server = await withContexts();
    using window = new WindowFile(server);
    await using guest = await startFor(server);
    await guest.waitFor('@@READY\n');
    const [count, sizeBytes, endPages] = [60, 512 * MiB, 640];
    await run(guest, `blobs sparse ${count} ${sizeBytes} ${endPages}`, {
      sparse: async () => {
        await untilMapped(server, count * sizeBytes);
        expect(window.populatedBytes).toBe(count * 2 * endPages * PAGE_BYTES);
        const { blobs } = JSON.parse((await server.ask('GET', '/v1/info')).toString());
        expect(blobs).toMatchObject({
          bytes: count * sizeBytes,
          populatedBytes: count * 5 * MiB,
          maxBytes: GiB,
          refused: 0,
        });
      },
    });
    await expectNoBlobs(server);
    await untilGivenBack(window, server);
    expectNoComplaints(server);
  });

  test('has a limit, at which the next blob is refused, and the log names the option', async () => {
    await using server = await withContexts('--max-blob-memory', '160M');
    await using guest = await startFor(server);
    await guest.waitFor('@@READY\n');
    const said = await run(guest, `blobs fill ${16 * MiB}`);
    expect(said.match(/^BLOBS fill .*$/gm)).toEqual(Array(2).fill('BLOBS fill made=10 mmap=EINVAL'));
    expect(await server.metric('refused_total', { option: '--max-blob-memory' })).toBe(2);
    expect(await server.metric('contexts_ended_total')).toBe(0);
    const complaints = server.log.filter(({ level }) => level >= 40);
    expect(complaints).toMatchObject(
      Array(2).fill({
        level: 40,
        msg: 'a limit is reached: the guest was refused',
        option: '--max-blob-memory',
        command: 'RESOURCE_CREATE_BLOB',
      }),
    );
  });

  test('is taken from a program that fills more than there may be, and its host stays as it is', async () => {
    const [limitBytes, count, sizeBytes, rounds] = [256 * MiB, 16, 64 * MiB, 3];
    await using server = await withContexts('--max-blob-memory', String(limitBytes));
    using window = new WindowFile(server);
    await using guest = await startFor(server);
    await guest.waitFor('@@READY\n');
    let most = 0;
    const watch = setInterval(() => {
      most = Math.max(most, window.populatedBytes);
    }, 5);
    const said = await run(guest, `blobs overrun ${count} ${sizeBytes} ${rounds}`, {
      overrun: async () => {
        clearInterval(watch);
        expect(await server.metric('contexts_ended_total')).toBe(1);
        const held = async () => window.populatedBytes;
        expect(await soon(held, (bytes) => bytes <= limitBytes)).toBeLessThanOrEqual(limitBytes);
      },
    });
    // It has written four times as much, and again. How far it gets in the time between two looks is its speed.
    expect(most).toBeGreaterThan(limitBytes / 2);
    expect(most).toBeLessThan(2 * limitBytes);
    expect(said).toContain('BLOBS overrun more=EINVAL bystander=OK\n');
    expect(await server.metric('refused_total', { option: '--max-blob-memory' })).toBe(1);
    const [overrun, ...others] = server.log.filter(({ level }) => level >= 40);
    expect(overrun).toMatchObject({ level: 40, kind: 'overrun', option: '--max-blob-memory' });
    expect(others).toMatchObject([{ option: '--max-blob-memory' }]);
    await untilGivenBack(window, server);
  });
});

test('what the guest writes outside of blobs is its own, until a blob goes or the driver leaves', async () => {
  await using server = await startServer({
    arguments: ['--context-types', 'cross-domain', '--host-visible-size', '64M'],
  });
  using window = new WindowFile(server);
  const steps = window.sizeBytes / (64 * KiB);
  // Linux lets nobody touch what a driver has, unless told otherwise.
  await using guest = await startGuest({
    devices: [server.device],
    append: 'iomem=relaxed',
    script: commandLoop,
  });
  await guest.waitFor('@@READY\n');
  const touch = async () => {
    let populatedBytes = 0;
    const said = await run(guest, 'blobs bar $(readlink -f /sys/class/drm/card0/device)/resource4', {
      touched: () => {
        ({ populatedBytes } = window);
      },
    });
    const [, sizeBytes, used, kept] = /^BLOBS bar bytes=(\d+) .* used=(\d+) kept=(\d+)$/m.exec(said) ?? [];
    expect(Number(sizeBytes)).toBe(window.sizeBytes);
    return { used: Number(used), kept: Number(kept), populatedBytes };
  };
  const isNew = { used: 0, kept: steps, populatedBytes: steps * PAGE_BYTES };

  expect(await touch()).toEqual(isNew);
  expect(await touch()).toEqual({ ...isNew, used: steps });
  // Blobs are made all the same; a while after the last one nothing is left.
  await run(guest, 'blobs churn 1');
  await untilGivenBack(window, server);
  expect(await touch()).toEqual(isNew);

  await run(guest, oneLine(driverLeaves));
  await expectUnused(server, window);
  await run(guest, driverComes);
  expect(await touch()).toEqual(isNew);
  expectNoComplaints(server);
});
