/** modetest of libdrm, which knows nothing of us, agrees with what we offer and what we show. */
import { expect, test } from 'vitest';
import { paintPicture } from '../../tools/testbed/pictures.ts';
import { startGuest } from '../../tools/testbed/qemu.ts';
import { expectNoComplaints, expectShown, kernels, startServer } from './support.ts';

/** What every display offers besides its own mode. */
const otherModes =
  '640x480 800x600 1024x768 1280x720 1280x800 1280x1024 1600x900 1600x1200 1920x1080 1920x1440 2048x1152 ' +
  '1280x768 1360x768 1440x900 1400x1050 1680x1050 1920x1200';

test.each(kernels)('with Linux %s it lists the connector with its modes', async (kernel) => {
  await using server = await startServer({ displays: ['1366x768'] });
  await using guest = await startGuest({
    kernel,
    devices: [server.device],
    script: 'modetest -M virtio_gpu -c -e -p',
  });
  await guest.scriptSucceeds();
  const connectors = guest.serial.split('\nConnectors:\n')[1]!.split('\nCRTCs:\n')[0]!;
  // 1366x768 at 100 dpi.
  expect(connectors).toMatch(/^\d+\t\d+\tconnected\tVirtual-1 +\t350x200\t\t18\t\d+$/m);
  const modes = [...connectors.matchAll(/^ +#\d+ (\d+x\d+) ([\d.]+) .* type: (.*)$/gm)];
  expect(modes.filter(([, , , type]) => type!.includes('preferred')).map(([, name]) => name)).toEqual([
    '1366x768',
  ]);
  expect(modes.map(([, name]) => name).sort()).toEqual([...otherModes.split(' '), '1366x768'].sort());
  // CVT with reduced blanking comes close to 60 Hz from below, DMT's 800x600 from above.
  for (const [, name, refresh] of modes) expect(Math.abs(Number(refresh) - 60), name).toBeLessThan(0.4);
  // The console is shown, on a plane of the only format there is, and a cursor plane is there.
  expect(guest.serial).toMatch(/^\d+\t\d+\t\(0,0\)\t\(1366x768\)$/m);
  expect(guest.serial).toMatch(/^ {2}formats: XR24\n/m);
  expect(guest.serial).toMatch(/^ {2}formats: AR24\n/m);
  expectNoComplaints(server);
});

test('its tiles are shown as it draws them', async () => {
  await using server = await startServer({ displays: ['1280x800'] });
  await using guest = await startGuest({
    devices: [server.device],
    script: `
      connector=$(modetest -M virtio_gpu -c | awk '$3 == "connected" { print $1 }')
      for mode in 1280x800 1024x768; do modetest -M virtio_gpu -s "$connector:$mode" -F tiles; done`,
  });
  for (const [width, height] of [
    [1280, 800],
    [1024, 768],
  ] as const) {
    await guest.waitFor(`setting mode ${width}x${height}`);
    // fill_tiles of libdrm.
    const tiles = paintPicture(width, height, (x, y) => {
      const quotient = Math.floor((x + y) / width);
      const rest = (x + y) % width;
      return (0x00130502 * (quotient >> 6) + 0x000a1120 * (rest >> 6)) & 0xffffff;
    });
    await expectShown(server, tiles);
    // It shows its picture until it is given a line.
    guest.write('\n');
  }
  await guest.scriptSucceeds();
  expectNoComplaints(server);
});

test.each(kernels)('with Linux %s its page flips go on', async (kernel) => {
  await using server = await startServer();
  await using guest = await startGuest({
    kernel,
    devices: [server.device],
    script: `
      connector=$(modetest -M virtio_gpu -c | awk '$3 == "connected" { print $1 }')
      modetest -M virtio_gpu -s "$connector:1280x800" -v 2>&1`,
  });
  // Twice sixty flips.
  await guest.waitFor(/^freq: [\d.]+Hz\n/m);
  await guest.waitFor(/^freq: [\d.]+Hz\n/m);
  const [{ flushes } = { flushes: 0 }] = await server.displays();
  expect(flushes).toBeGreaterThan(100);
  guest.write('\n');
  await guest.scriptSucceeds();
  expectNoComplaints(server);
});
