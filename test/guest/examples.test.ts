/** The devices of `examples/`, made of nothing but what the package exports, are used by real guests. */
import { describe, expect, test } from 'vitest';
import { kernelInfo } from '../../tools/testbed/cache.ts';
import { startGuest } from '../../tools/testbed/qemu.ts';
import { startExample } from '../support/example.ts';
import { kernels, skipBecause } from './support.ts';

describe.each(kernels)('with Linux %s', (kernel) => {
  test('virtio_rng takes the entropy device, and /dev/hwrng reads from it', async (context) => {
    const { modules } = await kernelInfo(kernel);
    if (!modules.rng.includes('virtio_rng')) skipBecause(context, 'the packages have no virtio_rng');
    await using example = await startExample('entropy');
    await using guest = await startGuest({
      kernel,
      devices: [{ kind: 'vfio-user', socketPath: example.socketPath }],
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
        devices: [{ kind: 'vfio-user', socketPath: example.socketPath }],
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
