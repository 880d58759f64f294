/**
 * A QEMU that was started without `share=on` either has no file behind the guest's memory that it could hand over, or
 * hands over one that it does not write to. Such devices cannot work. Their drivers must learn it at once: Linux 7.2 and
 * later releases of 6.12 would wait for answers for ever while they boot.
 */
import { describe, expect, test } from 'vitest';
import { patternPicture } from '../../tools/testbed/patterns.ts';
import { type Device, startGuest } from '../../tools/testbed/qemu.ts';
import type { Server } from '../../tools/testbed/server.ts';
import { expectNothingHeld, expectShown, kernels, startServer } from './support.ts';

/** Loads the drivers as any boot does, says how long that took, and shows what came of it. */
const script = `
  since() { awk -v from="$1" '{ printf "%d", ($1 - from) * 1000 }' /proc/uptime; }
  from=$(cut -d ' ' -f 1 /proc/uptime)
  load-modules gpu input
  echo "DRIVERS AFTER $(since "$from") MS"
  ls /dev/dri 2>/dev/null
  echo "INPUTS $(ls /dev/input 2>/dev/null | grep -c event)"
  dmesg | grep -i 'hung|blocked for more' && exit 1
  echo GOES ON
  read _
  echo STILL GOES ON`;

interface Info {
  readonly client: { readonly connected: boolean };
  readonly guest: { readonly features: string | null; readonly memorySharing: string };
}

/** What `GET /v1/info` says of the display and of the input devices. */
async function functionsOf(server: Server): Promise<Info[]> {
  const info = JSON.parse((await server.ask('GET', '/v1/info')).toString());
  return [info, ...info.input.devices];
}

/** Starts a guest with these devices; returns how long its drivers took, and what it said of them. */
async function boot(
  options: {
    kernel: (typeof kernels)[number];
    sharedMemory: boolean | 'private';
    devices: readonly Device[];
  },
  whileItRuns: () => Promise<void>,
): Promise<{ ms: number; said: string }> {
  await using guest = await startGuest({ ...options, modules: [], script });
  const [, ms] = await guest.waitFor(/^DRIVERS AFTER (\d+) MS\n/m);
  const [, said] = await guest.waitFor(/^((?:.*\n)*?)GOES ON\n/m);
  expect(await guest.qmp('query-status')).toMatchObject({ running: true });
  await whileItRuns();
  guest.write('\n');
  await guest.waitFor('STILL GOES ON\n');
  await guest.scriptSucceeds();
  expect(await guest.exited).toBe(0);
  return { ms: Number(ms), said: said! };
}

describe.each(kernels)('Linux %s', (kernel) => {
  test.each([
    ['no file', false, 'no-file'],
    ['a private file', 'private', 'private'],
  ] as const)(
    'with %s behind its memory boots on without the devices, and the next guest has its picture',
    async (...[_, sharedMemory, sharing]) => {
      await using server = await startServer({
        displays: ['1280x800'],
        inputs: ['keyboard', 'tablet', 'touch'],
      });
      const without = await boot({ kernel, sharedMemory, devices: [] }, async () => {});
      const { devices } = server;
      const { ms, said } = await boot({ kernel, sharedMemory, devices }, async () => {
        expect(await server.metric('dma_windows')).toBeGreaterThan(0);
        expect(await server.metric('commands_total')).toBe(0);
        expect((await server.displays())[0]).toMatchObject({ picture: null, flushes: 0 });
        const found = (await functionsOf(server)).map(({ guest }) => [guest.features, guest.memorySharing]);
        expect(found).toEqual([0, 1, 2, 3].map(() => [null, sharing]));
        // One line for each of the four devices, however often its driver tries.
        const complaints = server.log.filter(({ level }) => level >= 40);
        expect(new Set(complaints.map(({ socketPath }) => socketPath)).size).toBe(4);
        expect(complaints).toHaveLength(4);
        for (const complaint of complaints) {
          expect(complaint).toMatchObject({
            msg: 'guest memory is not shared with this device: its driver was turned away, and the guest goes on without it',
            hint: 'share guest memory: QEMU memory-backend-memfd,share=on; cloud-hypervisor --memory shared=on',
          });
        }
      });
      expect(said).toBe(without.said);
      console.log(
        `Linux ${kernel}, ${sharing}: drivers loaded after ${ms} ms, without the devices ${without.ms} ms`,
      );
      // Not a matter of speed: a driver that waits does so for five seconds at least.
      expect(ms - without.ms).toBeLessThan(2000);
      await expect
        .poll(async () => (await functionsOf(server)).map(({ client }) => client.connected), {
          timeout: 10_000,
        })
        .toEqual([false, false, false, false]);
      await expectNothingHeld(server);

      await using guest = await startGuest({ kernel, devices, script: 'kms' });
      await guest.waitFor('@@SHOT mode\n');
      await expectShown(server, patternPicture(1280, 800, 0, 0));
      expect((await functionsOf(server)).map(({ guest }) => guest.memorySharing)).toEqual(
        devices.map(() => 'shared'),
      );
      guest.write('\n');
      await guest.scriptSucceeds();
    },
  );
});
