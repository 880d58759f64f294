/**
 * A QEMU that was started without `share=on` either has no file behind the guest's memory that it could hand over, or
 * hands over one that it does not write to. Such a device cannot work; it must fail in a way that hurts nobody else,
 * and the log must say what to do. Linux 7.2 waits for such a device for ever while it boots, 6.12 goes on.
 */
import { expect, test } from 'vitest';
import { patternPicture } from '../../tools/testbed/patterns.ts';
import { startGuest } from '../../tools/testbed/qemu.ts';
import { expectNothingHeld, expectShown, startServer } from './support.ts';

const hint = 'share guest memory: QEMU memory-backend-memfd,share=on; cloud-hypervisor --memory shared=on';

test.each([
  [
    'no file',
    '6.12',
    { sharedMemory: false, isMapped: false },
    { msg: 'guest error', kind: 'broken', detail: 'rings are not in mapped memory', hint },
  ],
  [
    'a private file',
    '6.12',
    { sharedMemory: 'private', isMapped: true },
    { msg: 'guest memory is not shared with this device: it will not work', hint },
  ],
] as const)(
  'with %s behind its memory Linux %s boots without a picture, and the next guest has one',
  async (_, kernel, { sharedMemory, isMapped }, complaint) => {
    await using server = await startServer({ displays: ['1280x800'] });
    {
      await using guest = await startGuest({
        kernel,
        devices: [server.device],
        sharedMemory,
        script: 'echo GOES ON\nread _\necho STILL GOES ON',
      });
      // The driver gives the device five seconds.
      await guest.waitFor('GOES ON\n');
      expect(await guest.qmp('query-status')).toMatchObject({ running: true });
      expect(await server.metric('dma_windows')).toBeGreaterThan(0);
      if (isMapped) expect(await server.metric('dma_bytes')).toBeGreaterThan(0);
      else expect(await server.metric('dma_bytes')).toBe(0);
      expect(await server.metric('commands_total')).toBe(0);
      const [display] = await server.displays();
      expect(display).toMatchObject({ picture: null, flushes: 0 });
      // One line, however often the guest tries.
      const complaints = server.log.filter(({ level }) => level >= 40);
      expect(complaints.map(({ level, time, ...rest }) => rest)).toEqual([complaint]);
      guest.write('\n');
      await guest.waitFor('STILL GOES ON\n');
      await guest.scriptSucceeds();
      expect(await guest.exited).toBe(0);
    }
    await server.waitForLog('client disconnected');
    await expectNothingHeld(server);

    await using guest = await startGuest({ kernel, devices: [server.device], script: 'kms' });
    await guest.waitFor('@@SHOT mode\n');
    await expectShown(server, patternPicture(1280, 800, 0, 0));
    guest.write('\n');
    await guest.scriptSucceeds();
  },
);
