/** Stock kernels take our device for what it is, and put their text console on it. */
import { describe, expect, test } from 'vitest';
import { kernelInfo } from '../../tools/testbed/cache.ts';
import { consoleLine, parseConsoleFont } from '../../tools/testbed/console.ts';
import { startGuest } from '../../tools/testbed/qemu.ts';
import { expectNoComplaints, expectText, kernels, startServer } from './support.ts';

/** What the guest knows of the card, and what its kernel complains about in connection with it. */
const describeCard = `
  card=/sys/class/drm/card0/device
  bus=$(basename $(readlink -f $card))
  echo "CARD $(cat $card/vendor) $(cat $card/device) $(cat $card/class) $(basename $(readlink /sys/bus/virtio/devices/virtio*/driver))"
  echo "MSIX $(ls $card/msi_irqs | wc -l)"
  dmesg -r | grep -E '^<[0-4]>' | grep -E "drm|virtio|$bus" | sed 's/^/COMPLAINT /'
`;

describe.each(kernels)('with Linux %s', (kernel) => {
  test('virtio-gpu binds to our device and complains about nothing', async () => {
    await using server = await startServer({ displays: ['1280x800'] });
    await using guest = await startGuest({ kernel, devices: [server.device], script: describeCard });
    const [, version] = await guest.waitFor(/@@BOOTED (\S+)/);
    expect(version).toBe((await kernelInfo(kernel)).version);
    await guest.scriptSucceeds();
    expect(guest.serial).toContain('\nCARD 0x1af4 0x1050 0x038000 virtio_gpu\n');
    // Configuration changes, control queue, cursor queue.
    expect(guest.serial).toContain('\nMSIX 3\n');
    expect(guest.serial).not.toContain('COMPLAINT');
    expect(await guest.exited).toBe(0);
    expect(guest.stderr).toBe('');
    expectNoComplaints(server);
  });

  test('text written in the guest is read off the screenshot', async () => {
    await using server = await startServer({ displays: ['1280x800'] });
    const first = ['The quick brown fox', '', '    {[(<>)]}'];
    // To the last cell of the screen, which is 160 by 50 of them.
    const second = Array.from({ length: 50 }, (_, row) => `${row} `.padEnd(159, '#@0iW').concat('|'));
    await using guest = await startGuest({
      kernel,
      devices: [server.device],
      extraFiles: { '/second': second.join('\n') },
      script: `
        console ${first.map((line) => `'${line}'`).join(' ')}
        read _
        printf '\\033[2J\\033[H' >/dev/tty1
        cat /second >/dev/tty1
        read _`,
    });
    const font = parseConsoleFont(await guest.waitFor(consoleLine));
    expect(font).toMatchObject({ columns: 160, rows: 50, cellWidth: 8, cellHeight: 16 });
    await expectText(server, font, first);
    const [display] = await server.displays();
    expect(display!.picture).toEqual({ width: 1280, height: 800 });
    guest.write('\n');
    await expectText(server, font, second);
    guest.write('\n');
    await guest.scriptSucceeds();
    expectNoComplaints(server);
  });
});
