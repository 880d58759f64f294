/** The host asks for other modes, and guests follow: the EDID, the mode list, programs, the text console. */
import { describe, expect, test } from 'vitest';
import { edidComplaints, edidDecodeMissing } from '../../tools/testbed/edid-decode.ts';
import { patternPicture } from '../../tools/testbed/patterns.ts';
import { type Guest, startGuest } from '../../tools/testbed/qemu.ts';
import { expectNoComplaints, expectShown, kernels, skipBecause, startServer } from './support.ts';

type Size = readonly [width: number, height: number, refreshHz: number];

const sizes: readonly Size[] = [
  [1024, 768, 60],
  [1920, 1080, 60],
  [1366, 768, 60],
  [1001, 777, 60],
  [641, 481, 60],
  [1920, 1080, 75],
  [800, 600, 60],
  [1921, 1081, 60],
  [1080, 1920, 60],
  [333, 777, 60],
  [2560, 1440, 144],
  [65, 67, 60],
  [3840, 2160, 30],
  [4095, 2161, 60],
  [4096, 2160, 60],
  [5120, 2880, 60],
  [7680, 4320, 60],
  [8192, 8192, 60],
  [640, 480, 60],
  [1280, 801, 60],
  [1280, 800, 60],
];

interface Seen {
  readonly refreshHz: number;
  readonly listedAsPreferred: boolean;
  /** What the program in the guest found by its own check of header and checksums. */
  readonly edidValid: boolean;
  readonly edid: Buffer;
}

/** Waits for the guest to see this size on an output, after a change. */
async function seenInGuest(guest: Guest, output: number, [width, height]: Size): Promise<Seen> {
  const [, refreshHz, listed, valid, hex] = await guest.waitFor(
    new RegExp(
      `^KMS hotplug output=${output} connected=1 modes=\\d+ preferred=${width}x${height}@([\\d.]+) listed_as_preferred=(\\d)\\n` +
        `KMS edid output=${output} bytes=\\d+ valid=(\\d) hex=([0-9a-f]+)\\n`,
      'm',
    ),
  );
  return {
    refreshHz: Number(refreshHz),
    listedAsPreferred: listed === '1',
    edidValid: valid === '1',
    edid: Buffer.from(hex!, 'hex'),
  };
}

describe.each(kernels)('with Linux %s', (kernel) => {
  test('each of 21 modes asked for in turn is the preferred one in the guest, by a valid EDID', async () => {
    await using server = await startServer({ displays: ['1280x720', '800x600'] });
    await using guest = await startGuest({ kernel, devices: [server.device], script: 'kms --hotplug 1000' });
    await guest.waitFor('KMS waiting for hotplug');
    const edids: Buffer[] = [];
    for (const size of sizes) {
      await server.resize(0, ...size);
      const seen = await seenInGuest(guest, 0, size);
      expect(seen, size.join('x')).toMatchObject({ listedAsPreferred: true, edidValid: true });
      expect(Math.abs(seen.refreshHz / size[2] - 1), size.join('x')).toBeLessThan(0.01);
      edids.push(seen.edid);
    }
    expect(new Set(edids.map((edid) => edid.toString('hex'))).size).toBe(sizes.length);
    // The other output never changed, until it is asked to.
    await guest.waitFor('KMS hotplug done\n');
    const others = new Set(guest.serial.match(/^KMS (?:hotplug|edid) output=1 .*$/gm));
    expect(others.size).toBe(2);
    expect([...others][0]).toContain('preferred=800x600@');
    await server.resize(1, 1022, 766);
    await seenInGuest(guest, 1, [1022, 766, 60]);
    expectNoComplaints(server);
  });

  test('a program that follows draws in every new size, also one asked for while there was no driver', async () => {
    const followed: readonly Size[] = [
      [1366, 768, 60],
      [1001, 777, 60],
      [65, 67, 60],
      [2560, 1440, 60],
      [640, 480, 60],
    ];
    await using server = await startServer({ displays: ['1280x720'] });
    // Before there is a client.
    await server.resize(0, 1152, 864);
    await using guest = await startGuest({
      kernel,
      devices: [server.device],
      memoryMiB: 768,
      script: `
        set -e
        kms
        for size in ${followed.map(() => 'x').join(' ')}; do
          kms --hotplug 1
          kms
        done
        driver=/sys/bus/virtio/drivers/virtio_gpu
        device=$(basename $driver/virtio*)
        echo $device >$driver/unbind
        echo UNBOUND
        read _
        echo $device >$driver/bind
        kms`,
    });
    const expectDrawn = async ([width, height]: Size) => {
      await guest.waitFor(`KMS set output=0 mode=${width}x${height}@`);
      await guest.waitFor('@@SHOT mode\n');
      await expectShown(server, patternPicture(width, height, 0, 0));
      guest.write('\n');
    };
    await expectDrawn([1152, 864, 60]);
    for (const size of followed) {
      await guest.waitFor('KMS waiting for hotplug');
      await server.resize(0, ...size);
      await expectDrawn(size);
    }
    await guest.waitFor('UNBOUND');
    await server.resize(0, 1440, 900);
    guest.write('\n');
    await expectDrawn([1440, 900, 60]);
    await guest.scriptSucceeds();
    expectNoComplaints(server);
  });

  test('of many changes at once the guest ends up with the last', async () => {
    await using server = await startServer({ displays: ['1280x720'] });
    await using guest = await startGuest({ kernel, devices: [server.device], script: 'kms --hotplug 1000' });
    await guest.waitFor('KMS waiting for hotplug');
    for (let step = 1; step <= 60; step++) await server.resize(0, 800 + 7 * step, 600 + 3 * step);
    await server.resize(0, 1111, 666);
    const { edidValid } = await seenInGuest(guest, 0, [1111, 666, 60]);
    expect(edidValid).toBe(true);
    expectNoComplaints(server);
  });

  test('the text console changes to a smaller mode and back', async () => {
    await using server = await startServer({ displays: ['1280x800'] });
    await using guest = await startGuest({ kernel, devices: [server.device], script: 'echo UP\nread _' });
    await guest.waitFor('UP\n');
    const shows = (width: number, height: number) =>
      server.screenShows((picture) => picture.width === width && picture.height === height);
    await shows(1280, 800);
    await server.resize(0, 1024, 768);
    await shows(1024, 768);
    await server.resize(0, 1280, 800);
    await shows(1280, 800);
    guest.write('\n');
    await guest.scriptSucceeds();
    expectNoComplaints(server);
  });
});

test('edid-decode has nothing against what the guest got', async (context) => {
  const missing = edidDecodeMissing();
  if (missing) skipBecause(context, missing);
  await using server = await startServer();
  await using guest = await startGuest({ devices: [server.device], script: 'kms --hotplug 1000' });
  await guest.waitFor('KMS waiting for hotplug');
  for (const size of sizes) {
    await server.resize(0, ...size);
    const { edid } = await seenInGuest(guest, 0, size);
    expect(edidComplaints(edid), size.join('x')).toEqual([]);
  }
});
