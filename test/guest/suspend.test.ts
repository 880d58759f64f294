/**
 * Suspend to memory. The function promises to keep everything through D3hot (No_Soft_Reset), and the driver of
 * virtio-gpu relies on it: it has nothing to restore itself with. QEMU's own device is reset by the wake-up and stays
 * dark.
 */
import { expect, test } from 'vitest';
import type { KernelName } from '../../tools/testbed/cache.ts';
import { consoleLine, parseConsoleFont } from '../../tools/testbed/console.ts';
import { cursorPositions, patternPicture, withCursor } from '../../tools/testbed/patterns.ts';
import { startGuest } from '../../tools/testbed/qemu.ts';
import type { Server } from '../../tools/testbed/server.ts';
import { expectNoComplaints, expectSame, expectShown, expectText, kernels, startServer } from './support.ts';

const [width, height] = [1280, 800];

/**
 * A program draws, and holds its picture and cursor through the suspension; the lines it waits for come through a pipe,
 * the last one after the wake-up. Then other programs draw, and the change of the display still arrives.
 */
const script = `
  mkfifo /run/lines
  for round in 1 2; do
    kms --output 0=${width}x${height} --flips $round --cursor </run/lines &
    exec 3>/run/lines
    printf '\\n\\n\\n' >&3
    read _
    suspend || exit 1
    shot awake
    echo >&3
    wait
    exec 3>&-
    kms --output 0=${width}x${height} --flips 5 || exit 1
  done
  console 'good morning'
  read _
  kms --hotplug 1`;

async function suspendTwice(kernel: KernelName, server: Server): Promise<void> {
  await using guest = await startGuest({ kernel, suspends: true, devices: [server.device], script });
  const { inside } = cursorPositions(width, height);
  for (const round of [1, 2]) {
    const picture = patternPicture(width, height, 0, round);
    const composed = withCursor(picture, inside.x, inside.y);
    const expectUnchanged = async () => {
      expectSame(await server.screenshot(), picture, round);
      expectSame(await server.screenshot(0, { cursor: true }), composed, round);
    };
    await guest.waitFor('@@SHOT cursor\n');
    await expectShown(server, picture, { frame: round });
    await expectShown(server, composed, { frame: round, cursor: true });
    guest.write('\n');
    await guest.waitForEvent('SUSPEND');
    await expectUnchanged();
    await guest.qmp('system_wakeup');
    await guest.waitForEvent('WAKEUP');
    await guest.waitFor('@@SHOT awake\n');
    await expectUnchanged();
    guest.write('\n');
    await guest.waitFor('@@SHOT mode\n');
    await expectShown(server, patternPicture(width, height, 0, 0));
    guest.write('\n');
    await guest.waitFor('@@SHOT flips\n');
    await expectShown(server, patternPicture(width, height, 0, 5), { frame: 5 });
    guest.write('\n');
  }
  const font = parseConsoleFont(await guest.waitFor(consoleLine));
  await expectText(server, font, ['good morning']);
  guest.write('\n');
  await guest.waitFor('KMS waiting for hotplug');
  await server.resize(0, 1024, 768);
  await guest.waitFor(/KMS hotplug output=0 .* preferred=1024x768@/);
  await guest.scriptSucceeds();
  expect(await guest.exited).toBe(0);
}

test.each(kernels)(
  'with Linux %s the picture stays through suspend to memory, twice, and drawing goes on',
  async (kernel) => {
    await using server = await startServer({ displays: [`${width}x${height}`] });
    await suspendTwice(kernel, server);
    expectNoComplaints(server);
  },
);
