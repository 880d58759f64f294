/** The devices of `examples/`, made of nothing but what the package exports, are used by real guests. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { kernelInfo } from '../../tools/testbed/cache.ts';
import { type Device, startGuest } from '../../tools/testbed/qemu.ts';
import { kernels, skipBecause } from './support.ts';

const repository = fileURLToPath(new URL('../..', import.meta.url));

/** Runs an example as its head says, until it listens. */
async function startExample(name: string) {
  const folder = await mkdtemp(join(tmpdir(), 'example-'));
  const socketPath = join(folder, 'socket');
  const child = spawn(process.execPath, ['--import', 'tsx', `examples/${name}.ts`, socketPath], {
    cwd: repository,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit').then(([status]) => status as number | null);
  const lines = createInterface({ input: child.stdout });
  const said = await Promise.race([once(lines, 'line').then(([line]) => line as string), exited]);
  expect(said).toBe(`listening at ${socketPath}`);
  const device: Device = { kind: 'vfio-user', socketPath };
  return {
    device,
    /** Ends it as a service is ended. */
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      const status = await exited;
      const isLeft = existsSync(socketPath);
      await rm(folder, { recursive: true });
      expect({ status, isLeft }).toEqual({ status: 0, isLeft: false });
    },
  };
}

describe.each(kernels)('with Linux %s', (kernel) => {
  test('virtio_rng takes the entropy device, and /dev/hwrng reads from it', async (context) => {
    const { modules } = await kernelInfo(kernel);
    if (!modules.rng.includes('virtio_rng')) skipBecause(context, 'the packages have no virtio_rng');
    await using example = await startExample('entropy');
    await using guest = await startGuest({
      kernel,
      devices: [example.device],
      modules: ['rng'],
      script: `
        echo "CURRENT $(cat /sys/class/misc/hw_random/rng_current)"
        for name in first second; do
          dd if=/dev/hwrng of=/tmp/$name bs=64 count=256 iflag=fullblock 2>/dev/null || exit 1
          echo "LENGTH $(wc -c </tmp/$name)"
        done
        cmp -s /tmp/first /tmp/second && exit 2
        # Bytes at random cannot be made shorter; what nobody has written can.
        echo "COMPRESSED $(gzip -c /tmp/first | wc -c)"
        grep virtio /proc/interrupts | grep -v config`,
    });
    await guest.scriptSucceeds();
    expect(guest.serial).toMatch(/^CURRENT virtio_rng\.0$/m);
    expect(guest.serial.match(/^LENGTH \d+$/gm)).toEqual(['LENGTH 16384', 'LENGTH 16384']);
    const [, compressed] = /^COMPRESSED (\d+)$/m.exec(guest.serial)!;
    expect(Number(compressed)).toBeGreaterThan(16384);
    expect(guest.serial).toMatch(/^ *\d+: .*virtio0-input/m);
  });

  test('the scratchpad is driven by a program: registers, a BAR that is memory, DMA, MSI-X', async () => {
    await using example = await startExample('scratchpad');
    for (const guestNumber of [1, 2]) {
      // What the first guest leaves in the memory is not to be found by the second.
      await using guest = await startGuest({
        kernel,
        devices: [example.device],
        modules: [],
        script: 'scratchpad',
      });
      await guest.scriptSucceeds();
      const steps = guest.serial.match(/^SCRATCHPAD .*$/gm)!.map((line) => line.slice('SCRATCHPAD '.length));
      expect(steps, `guest ${guestNumber}`).toEqual([
        'has MSI-X',
        'has one vector',
        'id register',
        'memory is empty',
        'interrupt came',
        'stored to guest memory',
        'guest memory has what the BAR had',
        'interrupt came',
        'loaded from guest memory',
        'the BAR has what guest memory had',
        'the BAR keeps the rest',
        'interrupt came',
        'nothing beyond the end of the BAR',
        'interrupt came',
        'nothing from where no memory is',
        'interrupt came',
        'no command 7',
        'nothing was touched',
      ]);
    }
  });
});
