/**
 * One server process through the lives of many guests: reboots, drivers that come and go, VMMs that are killed at any
 * moment. It must hold nothing afterwards and be no larger than before.
 */
import { closeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createEventfd, createMemfd } from '../../native/index.ts';
import { VfioUserClient } from '../../server/vfio-user/client.ts';
import { DEVICE_SET_IRQS, DMA_MAP, REGION_WRITE, VERSION } from '../../server/vfio-user/protocol.ts';
import { cachePath } from '../../tools/testbed/cache.ts';
import { patternPicture } from '../../tools/testbed/patterns.ts';
import { startGuest } from '../../tools/testbed/qemu.ts';
import type { Server } from '../../tools/testbed/server.ts';
import { bodies, messageBytes } from '../support/fake-client.ts';
import { buildBareGuest } from './bare/bare.ts';
import {
  collectorArguments,
  compareMemory,
  expectNothingHeld,
  expectShown,
  type MemoryInUse,
  memoryInUse,
  startServer,
} from './support.ts';

const MiB = 2 ** 20;

let server: Server;
let atStart: ReturnType<typeof handles>;

beforeAll(async () => {
  buildBareGuest();
  server = await startServer({
    displays: ['1280x800'],
    arguments: ['--host-visible-size', '64M'],
    // Freed memory goes back to the kernel, so that what is resident is what is used.
    environment: { MALLOC_ARENA_MAX: '1', MALLOC_TRIM_THRESHOLD_: '65536', MALLOC_MMAP_THRESHOLD_: '65536' },
    nodeArguments: collectorArguments,
  });
  // Whoever looks has a thread, which stays.
  await server.screenshot();
  atStart = await settledHandles();
});
afterAll(() => server.stop());

const handles = () => {
  const { fds, memfdMappings, memfdMappedBytes } = server.processState();
  return { fds, memfdMappings, memfdMappedBytes };
};

/** Once the server has read all its code, and its last caller's connection has gone. */
async function settledHandles() {
  await expectNothingHeld(server);
  let settled = handles();
  for (let since = Date.now(); Date.now() - since < 6000; await sleep(100)) {
    const now = handles();
    if (now.fds !== settled.fds) since = Date.now();
    settled = now;
  }
  return settled;
}

/** What is in use at a moment without a client. */
async function measure(): Promise<MemoryInUse> {
  await expectNothingHeld(server);
  // The memory file of the cursor is kept. Five seconds after the last screenshot the display is looked at no more.
  await expect.poll(handles, { timeout: 30_000, interval: 100 }).toEqual({
    fds: atStart.fds + 1,
    memfdMappings: atStart.memfdMappings + 1,
    memfdMappedBytes: atStart.memfdMappedBytes + 256 * 256 * 4,
  });
  // V8's young generation is empty after a collection, but keeps up to 32 MiB for each thread: as much as it found useful
  // while there was something to do. Its compiler needs up to 10 MiB for moments. Ten quiet seconds later both is over,
  // so that nothing has to be left out of what is resident.
  await sleep(10_000);
  let memory: MemoryInUse | undefined;
  const young = async () => {
    memory = await memoryInUse(server);
    return memory.youngBytes;
  };
  await expect.poll(young, { timeout: 60_000, interval: 5000 }).toBeLessThan(1 * MiB);
  return memory!;
}

/** Does something with a client, and waits for the server to have seen it go. */
async function session(act: () => Promise<void>): Promise<void> {
  const from = server.log.length;
  await act();
  await server.waitForLog('client disconnected', 60_000, from);
}

const sizes = [
  [1280, 800],
  [1024, 768],
  [1366, 768],
  [801, 601],
  [1920, 1080],
] as const;
const sizeOf = (round: number) => sizes[round % sizes.length] as (typeof sizes)[number];

/** A guest that boots `times` times, and draws in another size each time. Returns what was held at each picture. */
async function bootAgainAndAgain(times: number) {
  const held: string[] = [];
  await server.resize(0, 1280, 800);
  await session(async () => {
    await using guest = await startGuest({
      reboots: true,
      devices: [server.device],
      script: 'kms --flips 20\nreboot -f',
    });
    for (let boot = 0; boot < times; boot++) {
      const [width, height] = sizeOf(boot);
      await guest.waitFor('@@SHOT mode\n');
      await expectShown(server, patternPicture(width, height, 0, 0));
      guest.write('\n');
      await guest.waitFor('@@SHOT flips\n');
      await expectShown(server, patternPicture(width, height, 0, 20), { frame: 20 });
      const names = ['resources', 'dma_windows', 'dma_bytes'];
      const counts = await Promise.all(names.map((name) => server.metric(name)));
      held.push(
        JSON.stringify({ names, counts, ...server.descriptors(), ...handles(), fds: 0, memfdMappedBytes: 0 }),
      );
      const [nextWidth, nextHeight] = sizeOf(boot + 1);
      await server.resize(0, nextWidth, nextHeight);
      guest.write('\n');
    }
  });
  return held;
}

/** A guest whose driver comes and goes. */
async function bindAgainAndAgain(times: number) {
  await session(async () => {
    await using guest = await startGuest({
      devices: [server.device],
      script: `
        driver=/sys/bus/virtio/drivers/virtio_gpu
        device=$(basename $driver/virtio*)
        for round in $(seq ${times}); do
          echo $device >$driver/unbind || exit 1
          echo "UNBOUND $round"
          read _
          echo $device >$driver/bind || exit 2
          kms --flips 5 || exit 3
        done`,
    });
    for (let round = 1; round <= times; round++) {
      const [width, height] = sizeOf(round);
      await guest.waitFor(`UNBOUND ${round}\n`);
      for (const name of ['resources', 'resource_bytes', 'memory_entries']) {
        expect(await server.metric(name), name).toBe(0);
      }
      await server.resize(0, width, height);
      guest.write('\n');
      await guest.waitFor('@@SHOT mode\n');
      guest.write('\n');
      await guest.waitFor('@@SHOT flips\n');
      await expectShown(server, patternPicture(width, height, 0, 5), { frame: 5 });
      guest.write('\n');
    }
    await guest.scriptSucceeds();
  });
}

/** Moments at which the bare guest is killed: while it does what comes after these. */
const moments = [
  'found',
  'PASS pci-capability-list',
  'PASS virtio-queue-registers',
  'PASS ring-event-idx',
  'PASS gpu-bring-up',
  'PASS gpu-create-2d',
  'PASS gpu-backing-entries',
  'PASS gpu-set-scanout',
  'PASS picture',
  'PASS cursor',
  'PASS window',
  'DONE',
];

/** QEMU dies at some moment of the bare guest's life. */
function killBare(moment: string): Promise<void> {
  return session(async () => {
    await using guest = await startGuest({
      kernel: { image: cachePath('bare', 'bare.elf') },
      append: 'wait',
      smp: 1,
      memoryMiB: 256,
      devices: [server.device],
    });
    await guest.waitFor(new RegExp(`^BARE ${moment}\\b`, 'm'));
  });
}

/** QEMU dies as soon as it has attached the device, with the firmware just beginning. */
function killEarly(): Promise<void> {
  return session(async () => {
    await using guest = await startGuest({ kernel: 'none', devices: [server.device] });
    expect(await server.metric('dma_windows')).toBeGreaterThan(0);
    guest.kill();
  });
}

/** QEMU dies while Linux loads the driver. */
function killProbing(): Promise<void> {
  return session(async () => {
    await using guest = await startGuest({
      devices: [server.device],
      modules: ['input'],
      script: 'echo PROBING\nload-modules gpu\nread _',
    });
    await guest.waitFor('PROBING\n');
    guest.kill();
  });
}

/** QEMU dies while a program draws and the display is resized. */
function killDrawing(): Promise<void> {
  return session(async () => {
    await using guest = await startGuest({
      devices: [server.device],
      script: 'kms --output 0=1280x800 --flips 1000000',
    });
    await guest.waitFor('@@SHOT mode\n');
    const [before] = await server.displays();
    guest.write('\n');
    await expect
      .poll(async () => (await server.displays())[0]!.flushes, { timeout: 60_000, interval: 20 })
      .toBeGreaterThan(before!.flushes);
    await server.resize(0, 1111, 777);
    guest.kill();
  });
}

/** Clients of our own, that leave in the middle of something. */
const rudeClients: readonly ((client: VfioUserClient) => unknown)[] = [
  () => {},
  (client) => client.sendBytes(new Uint8Array(5)),
  (client) => client.handshake(),
  async (client) => {
    await client.handshake();
    await mapMemory(client);
    await attachInterrupts(client);
    await client.deviceInfo();
  },
  async (client) => {
    await client.handshake();
    await mapMemory(client);
    // The driver's status register, and half of a doorbell.
    await client.writeRegion(0, 0x14, Uint8Array.of(3));
    const doorbell = messageBytes(
      { id: 99, command: REGION_WRITE, flags: 0 },
      bodies.access(0, 0x3000, 2, [0, 0]),
    );
    client.sendBytes(doorbell.subarray(0, 20));
  },
  async (client) => {
    await client.handshake();
    // Half of a message that has brought its descriptor already.
    const fd = createMemfd('guest', MiB);
    const message = messageBytes({ id: 99, command: DMA_MAP, flags: 0 }, bodies.dmaMap());
    client.sendBytes(message.subarray(0, 30), [fd]);
    closeSync(fd);
  },
  // Not understood, so the server ends it.
  (client) => client.sendBytes(messageBytes({ id: 1, command: DMA_MAP, flags: 0 }, bodies.dmaMap())),
  (client) => client.sendBytes(messageBytes({ id: 1, command: VERSION, flags: 0 }, bodies.version('{'))),
];

async function mapMemory(client: VfioUserClient): Promise<void> {
  const fd = createMemfd('guest', MiB);
  await client.request(DMA_MAP, bodies.dmaMap(), [fd]);
  closeSync(fd);
}

async function attachInterrupts(client: VfioUserClient): Promise<void> {
  const fds = [createEventfd(), createEventfd(), createEventfd()];
  // Eventfds to be triggered, for the vectors of MSI-X.
  await client.request(DEVICE_SET_IRQS, bodies.setIrqs(0x24, 2, 0, 3), fds);
  for (const fd of fds) closeSync(fd);
}

async function comeAndGo(times: number): Promise<void> {
  for (let time = 0; time < times; time++) {
    await session(async () => {
      const client = VfioUserClient.connect(server.socketPath);
      await rudeClients[time % rudeClients.length]!(client);
      client.close();
    });
  }
}

/** Once through everything, so that all code has run and everything that is made once has been made. */
async function warmUp(): Promise<void> {
  await bootAgainAndAgain(2);
  await bindAgainAndAgain(sizes.length);
  await killProbing();
  await killDrawing();
  await killEarly();
  for (const moment of ['PASS picture', 'DONE']) await killBare(moment);
  await comeAndGo(2000);
}

let before: MemoryInUse;

test('everything once', async () => {
  await warmUp();
  before = await measure();
});

test('the guest reboots ten times, and at no boot more is in use than at the one before', async () => {
  const held = await bootAgainAndAgain(11);
  expect(new Set(held.slice(1)).size, held.join('\n')).toBe(1);
  await expectNothingHeld(server);
});

test('the driver is unbound and bound twenty times', async () => {
  await bindAgainAndAgain(20);
  await expectNothingHeld(server);
});

test('QEMU is killed and comes back fifty times', async () => {
  for (let round = 0; round < 3; round++) {
    for (const moment of moments) await killBare(moment);
  }
  for (let round = 0; round < 6; round++) await killEarly();
  for (let round = 0; round < 4; round++) await killProbing();
  for (let round = 0; round < 4; round++) await killDrawing();
  await expectNothingHeld(server);
});

test('rude clients come and go two thousand times', async () => {
  await comeAndGo(2000);
  await expectNothingHeld(server);
});

test('after all of that the server holds what it held before, and is no larger', async () => {
  const after = await measure();
  const report = compareMemory(before, after);
  console.log(report);
  // There were 2050 clients and 70 drivers: this is half a KiB of JavaScript for each of the former, and 60 KiB of
  // anything for each of the latter.
  expect(after.heapBytes - before.heapBytes, report).toBeLessThan(1 * MiB);
  expect(after.residentBytes - before.residentBytes, report).toBeLessThan(4 * MiB);
});

test('the picture is right after all of that, and the server leaves in peace', async () => {
  await using guest = await startGuest({
    devices: [server.device],
    script: 'kms --output 0=1280x800 --flips 9',
  });
  await guest.waitFor('@@SHOT mode\n');
  guest.write('\n');
  await guest.waitFor('@@SHOT flips\n');
  await expectShown(server, patternPicture(1280, 800, 0, 9), { frame: 9 });
  guest.write('\n');
  await guest.scriptSucceeds();
  await guest.exited;
  // Errors are ours; warnings were asked for.
  expect(server.log.filter(({ level }) => level >= 50)).toEqual([]);
  expect(await server.stop()).toBe(0);
});
