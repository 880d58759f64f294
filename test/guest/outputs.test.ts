/** As many outputs as virtio-gpu has. */
import { expect, test } from 'vitest';
import { patternPicture } from '../../tools/testbed/patterns.ts';
import { startGuest } from '../../tools/testbed/qemu.ts';
import { expectNoComplaints, expectShown, kernels, startServer } from './support.ts';

const sizes = Array.from({ length: 16 }, (_, output) => ({ width: 640 + 16 * output, height: 500 - output }));
const modes = sizes.map(({ width, height }) => `${width}x${height}`);

test.each(kernels)(
  'Linux %s lists sixteen connectors, each with its mode, and draws on all',
  async (kernel) => {
    await using server = await startServer({ displays: modes });
    await using guest = await startGuest({
      kernel,
      devices: [server.device],
      script: 'ls /sys/class/drm | grep Virtual\nkms --list --flips 3',
    });
    for (const [shot, frame] of [
      ['mode', 0],
      ['flips', 3],
    ] as const) {
      await guest.waitFor(`@@SHOT ${shot}\n`);
      for (const [display, { width, height }] of sizes.entries()) {
        await expectShown(server, patternPicture(width, height, display, frame), { display, frame });
      }
      guest.write('\n');
    }
    await guest.scriptSucceeds();
    const connectors = Array.from({ length: 16 }, (_, index) => `card0-Virtual-${index + 1}`);
    expect(guest.serial.match(/^card0-Virtual-\d+$/gm)?.sort()).toEqual(connectors.sort());
    const listed = [
      ...guest.serial.matchAll(/^KMS connector output=(\d+) connected=1 .* preferred=(\d+x\d+)@/gm),
    ];
    expect(listed.map(([, output, mode]) => [Number(output), mode])).toEqual([...modes.entries()]);
    expectNoComplaints(server);
  },
);
