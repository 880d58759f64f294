/** EDK2 has a driver of its own for virtio-gpu: it draws before any operating system does, and hands over to Linux. */
import { expect, test } from 'vitest';
import { consoleLine, parseConsoleFont } from '../../tools/testbed/console.ts';
import { patternPicture } from '../../tools/testbed/patterns.ts';
import { colorAt, comparePictures, crop, isBlack, type Picture } from '../../tools/testbed/pictures.ts';
import { startGuest } from '../../tools/testbed/qemu.ts';
import { expectNoComplaints, expectShown, expectText, kernels, startServer } from './support.ts';

test("the firmware's logo and shell are those that QEMU's own device shows, to the pixel", async () => {
  // The logo stays for some seconds.
  const firmwareOnly = {
    kernel: 'none',
    firmware: 'ovmf',
    qemuArguments: ['-boot', 'menu=on,splash-time=3000'],
  } as const;
  await using server = await startServer({ displays: ['1280x800'] });
  await using guest = await startGuest({ ...firmwareOnly, devices: [server.device] });
  const ownDevice = { kind: 'virtio-gpu', width: 1280, height: 800 } as const;
  await using reference = await startGuest({ ...firmwareOnly, devices: [ownDevice] });

  const hasLogo = (picture: Picture) =>
    picture.width === 1280 && colorAt(picture, 0, 0) === 0 && colorAt(picture, 545, 373) === 0xffffff;
  const [logo, sameLogo] = await Promise.all([server.screenShows(hasLogo), reference.screenShows(hasLogo)]);
  // Below it a bar shows the time pass.
  const upper = (picture: Picture) => crop(picture, 0, 0, 1280, 700);
  expect(comparePictures(upper(logo), upper(sameLogo))).toBe(undefined);

  // There is nothing to boot, so it ends in its shell, which it has on the serial line as well.
  await Promise.all([guest.waitForPrompt('Shell> '), reference.waitForPrompt('Shell> ')]);
  await expect
    .poll(async () => comparePictures(await server.screenshot(), await reference.screendump()), {
      timeout: 60_000,
      interval: 200,
    })
    .toBe(undefined);
  expectNoComplaints(server);
});

test.each(kernels)('the firmware hands over to Linux %s: console, then programs', async (kernel) => {
  await using server = await startServer({ displays: ['1280x800'] });
  await using guest = await startGuest({
    kernel,
    firmware: 'ovmf',
    devices: [server.device],
    script: `
      [ -d /sys/firmware/efi ] || exit 1
      console 'out of the firmware'
      read _
      kms --output 0=1024x768`,
  });
  await server.screenShows((picture) => !isBlack(picture));
  const [shown] = await server.displays();
  expect(shown!.picture).toEqual({ width: 1280, height: 800 });
  expect(guest.serial).not.toContain('@@BOOTED');
  const font = parseConsoleFont(await guest.waitFor(consoleLine));
  await expectText(server, font, ['out of the firmware']);
  guest.write('\n');
  await guest.waitFor('@@SHOT mode\n');
  await expectShown(server, patternPicture(1024, 768, 0, 0));
  guest.write('\n');
  await guest.scriptSucceeds();
  expectNoComplaints(server);
});
