/**
 * Where firmware puts the host-visible window, which is large: by default in every machine there is, and where it cannot
 * be put anywhere the device works without.
 */
import { describe, expect, test } from 'vitest';
import { cachePath } from '../../tools/testbed/cache.ts';
import { patternPicture } from '../../tools/testbed/patterns.ts';
import { type Guest, type GuestOptions, startGuest } from '../../tools/testbed/qemu.ts';
import { buildBareGuest, readReport } from './bare/bare.ts';
import { expectNoComplaints, expectShown, startServer } from './support.ts';

const WINDOW_BYTES = 2 ** 35;

const withContexts = (...more: string[]) =>
  startServer({ arguments: ['--context-types', 'cross-domain', ...more] });

/** Bytes of the window that the driver has found; undefined where it has none. */
async function windowOf(guest: Guest): Promise<number | undefined> {
  const [, size] = await guest.waitFor(/^WINDOW .*\+0x([0-9a-f]+)$|^WINDOW none$/m);
  return size === undefined ? undefined : Number.parseInt(size, 16);
}
const sayWindow = `
  window=$(dmesg | grep 'Host memory window')
  echo "WINDOW \${window:-none}"`;

type Machine = readonly [firmware: 'seabios' | 'ovmf', machine: string, addressBits: number];
const machine = ([firmware, name, addressBits]: Machine): Omit<GuestOptions, 'devices'> => ({
  firmware,
  memoryMiB: 1024,
  qemuArguments: ['-machine', name, '-cpu', `max,phys-bits=${addressBits}`],
});

describe('the default window', () => {
  test.each<Machine>([
    ['seabios', 'q35', 40],
    ['seabios', 'q35', 36],
    ['seabios', 'pc', 40],
    ['ovmf', 'q35', 39],
    ['ovmf', 'q35', 36],
  ])('is placed by %s in a machine of type %s with %i bits of addresses', async (...where) => {
    await using server = await withContexts();
    await using guest = await startGuest({
      ...machine(where),
      devices: [server.device],
      script: `${sayWindow}
        blobs leave 1000000 1`,
    });
    expect(await windowOf(guest)).toBe(WINDOW_BYTES);
    await guest.waitFor('@@SHOT left\n');
    guest.write('\n');
    await guest.scriptSucceeds();
    expectNoComplaints(server);
  });

  test('is placed when the device is plugged in while the guest runs, behind a port that reserves addresses', async () => {
    expect(await hotPlugged('pref64-reserve=32G')).toBe(WINDOW_BYTES);
  });
});

describe('without a place for the window there are displays all the same', () => {
  test('where firmware has too few addresses', async () => {
    await using server = await withContexts('--host-visible-size', '64G');
    await using guest = await startGuest({
      ...machine(['ovmf', 'q35', 39]),
      devices: [server.device],
      script: `${sayWindow}
        kms --output 0=1024x768
        blobs leave 1000000 1 | grep CREATE_BLOB`,
    });
    expect(await windowOf(guest)).toBe(undefined);
    await expectPicture(guest, server);
    await guest.waitFor('BLOBS error: CREATE_BLOB: Invalid argument\n');
    await guest.scriptSucceeds();
    expectNoComplaints(server);
  });

  test('behind a port that reserves nothing, in a guest that runs', async () => {
    expect(await hotPlugged('')).toBe(undefined);
  });

  test('in a machine of 32 bits, which no address above 4 GiB can be used in', async () => {
    buildBareGuest();
    await using server = await withContexts();
    await using guest = await startGuest({
      kernel: { image: cachePath('bare', 'bare.elf') },
      append: 'window=no',
      memoryMiB: 256,
      smp: 1,
      qemuArguments: ['-cpu', 'qemu32'],
      devices: [server.device],
    });
    await guest.waitFor(/^BARE DONE .*\n/m);
    const { tests, done } = readReport(guest.serial);
    expect([...tests].filter(([, { verdict }]) => verdict !== 'PASS')).toEqual([]);
    expect(done).toMatchObject({ failed: 0, skipped: 0 });
  });
});

async function expectPicture(guest: Guest, server: Awaited<ReturnType<typeof startServer>>): Promise<void> {
  await guest.waitFor('@@SHOT mode\n');
  await expectShown(server, patternPicture(1024, 768, 0, 0));
  guest.write('\n');
}

/** Plugs the device into a port of a running guest, which then shows a picture; the window that it has there. */
async function hotPlugged(port: string): Promise<number | undefined> {
  await using server = await withContexts();
  await using guest = await startGuest({
    devices: [],
    memoryMiB: 1024,
    qemuArguments: ['-device', `pcie-root-port,id=root1,chassis=1${port && `,${port}`}`],
    script: `
      echo @@READY
      while ! [ -e /dev/dri/card0 ]; do sleep 0.1; done
      ${sayWindow}
      kms --output 0=1024x768`,
  });
  await guest.waitFor('@@READY\n');
  const socket = { type: 'unix', path: server.socketPath };
  await guest.qmp('device_add', { driver: 'vfio-user-pci', id: 'gpu', bus: 'root1', socket });
  const windowBytes = await windowOf(guest);
  await expectPicture(guest, server);
  await guest.scriptSucceeds();
  expectNoComplaints(server);
  return windowBytes;
}
