/**
 * Programs that draw by themselves: mode sets, page flips, damage and the cursor arrive on the displays to the
 * pixel, and QEMU's own device shows the same for the same program.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import type { KernelName } from '../../tools/testbed/cache.ts';
import {
  cursorHotspot,
  cursorPositions,
  cursorSize,
  dirtiedPicture,
  patternPicture,
  withCursor,
} from '../../tools/testbed/patterns.ts';
import { comparePictures, type Picture } from '../../tools/testbed/pictures.ts';
import { type Guest, startGuest } from '../../tools/testbed/qemu.ts';
import type { DisplayState, Server } from '../../tools/testbed/server.ts';
import {
  collectShots,
  expectNoComplaints,
  expectSame,
  kernels,
  screenshotSoon,
  soon,
  startServer,
} from './support.ts';

const sizes = [
  { width: 1280, height: 800 },
  { width: 800, height: 600 },
] as const;
const modes = sizes.map(({ width, height }) => `${width}x${height}`);
const flips = 300;
const dirtySteps = 8;

const script = `
  kms --list ${modes.map((mode, output) => `--output ${output}=${mode}`).join(' ')} \\
    --flips ${flips} --dirty ${dirtySteps} --cursor`;
const drawn = ['mode', 'flips', 'dirty', 'cursor-corner', 'cursor'];

/** What programs draw into: pages that the host looks at, or, where there are contexts, images that are copied to it. */
const paths = [
  { into: 'guest blobs', kind: 'guest', serverArguments: [] },
  { into: '2D resources', kind: '2d', serverArguments: ['--context-types', 'cross-domain'] },
] as const;
type Path = (typeof paths)[number];

/** What an output must show at a picture, without the cursor. */
function expectedPicture(shot: string, output: number): Picture {
  const { width, height } = sizes[output]!;
  if (shot === 'mode') return patternPicture(width, height, output, 0);
  if (shot === 'flips') return patternPicture(width, height, output, flips);
  return dirtiedPicture(width, height, output, flips, dirtySteps);
}

/** Where the cursor must be at a picture; nowhere at most of them. */
function expectedCursor(shot: string, output: number): { x: number; y: number } | undefined {
  const { width, height } = sizes[output]!;
  const { corner, inside } = cursorPositions(width, height);
  return shot === 'cursor-corner' ? corner : shot === 'cursor' ? inside : undefined;
}

/** The same with the cursor. */
function expectedComposed(shot: string, output: number): Picture {
  const picture = expectedPicture(shot, output);
  const at = expectedCursor(shot, output);
  return at ? withCursor(picture, at.x, at.y) : picture;
}

interface Shown {
  readonly plain: Picture;
  readonly composed: Picture;
  readonly state: DisplayState;
}

/** What the displays show at a picture; a moment later where it is not right at once. */
async function shownBy(server: Server, shot: string): Promise<Shown[]> {
  const shown: Shown[] = [];
  for (const display of [0, 1]) {
    const plain = await screenshotSoon(server, expectedPicture(shot, display), { display });
    const composed = await screenshotSoon(server, expectedComposed(shot, display), { display, cursor: true });
    shown.push({ plain, composed, state: (await server.displays())[display]! });
  }
  return shown;
}

async function shownByQemu(guest: Guest, shot: string): Promise<Picture[]> {
  const dump = (output: number) =>
    soon(
      () => guest.screendump(output),
      (picture) => comparePictures(picture, expectedPicture(shot, output)) === undefined,
    );
  return [await dump(0), await dump(1)];
}

/** What is shown on our displays at each picture. */
async function drawOnOurs(
  kernel: KernelName,
  { kind, serverArguments }: Path,
): Promise<Map<string, Shown[]>> {
  await using server = await startServer({ displays: modes, arguments: serverArguments });
  await using guest = await startGuest({ kernel, devices: [server.device], script });
  const shown = await collectShots(guest, async (shot) => {
    for (const { kind: other } of paths) {
      const count = await server.metric('resources', { kind: other });
      if (other === kind) expect(count).toBeGreaterThan(0);
      else expect(count, other).toBe(0);
    }
    return await shownBy(server, shot);
  });
  await guest.scriptSucceeds();
  for (const output of [0, 1]) {
    expect(guest.serial).toMatch(
      new RegExp(`^KMS connector output=${output} connected=1 .* preferred=${modes[output]}@`, 'm'),
    );
  }
  const transferred = await server.metric('copied_bytes_total', { by: 'transfer' });
  if (kind === '2d') expect(transferred).toBeGreaterThan(0);
  else expect(transferred).toBe(0);
  expectNoComplaints(server);
  return shown;
}

async function drawOnQemus(kernel: KernelName): Promise<Map<string, Picture[]>> {
  const device = { kind: 'virtio-gpu', outputs: 2, width: 1280, height: 800 } as const;
  await using guest = await startGuest({ kernel, devices: [device], script });
  const shown = await collectShots(guest, (shot) => shownByQemu(guest, shot));
  await guest.scriptSucceeds();
  return shown;
}

describe.each(kernels)('with Linux %s, two outputs', (kernel) => {
  const ours = new Map<Path, Map<string, Shown[]>>();
  let own: Map<string, Picture[]>;

  // All guests at the same time: that also saves time.
  beforeAll(async () => {
    const onOurs = paths.map(async (path) => ours.set(path, await drawOnOurs(kernel, path)));
    [own] = await Promise.all([drawOnQemus(kernel), ...onOurs]);
    for (const shown of [own, ...ours.values()]) expect([...shown.keys()]).toEqual(drawn);
  });

  describe.each(paths)('drawing into $into', (path) => {
    test.each(drawn)('the screenshots at "%s" are exact, with and without the cursor', (shot) => {
      for (const [output, { plain, composed }] of ours.get(path)!.get(shot)!.entries()) {
        expectSame(plain, expectedPicture(shot, output), flips);
        expectSame(composed, expectedComposed(shot, output), flips);
      }
    });

    test.each(drawn)('at "%s" QEMU\'s own device shows the same', (shot) => {
      for (const [output, { plain }] of ours.get(path)!.get(shot)!.entries()) {
        expect(comparePictures(plain, own.get(shot)![output]!)).toBe(undefined);
      }
    });

    test('the cursor has the image, the hotspot and the place that the program gave it', () => {
      const image = { width: cursorSize, height: cursorSize, hotX: cursorHotspot.x, hotY: cursorHotspot.y };
      for (const [shot, displays] of ours.get(path)!) {
        for (const [output, { state }] of displays.entries()) {
          const at = expectedCursor(shot, output);
          if (at) expect(state.cursor).toEqual({ visible: true, ...image, ...at });
          else expect(state.cursor.visible, shot).toBe(false);
        }
      }
    });
  });
});

test('the cursor goes with the program that brought it', async () => {
  await using server = await startServer({ displays: [modes[0]!] });
  await using guest = await startGuest({ devices: [server.device], script: 'kms --cursor\nshot afterwards' });
  const cursorAt = async (shot: string) => {
    const isVisible = shot.startsWith('cursor');
    const [display] = await soon(
      () => server.displays(),
      ([first]) => first?.cursor.visible === isVisible,
    );
    return display!.cursor.visible;
  };
  const visible = await collectShots(guest, cursorAt);
  await guest.scriptSucceeds();
  expect(Object.fromEntries(visible)).toEqual({
    mode: false,
    'cursor-corner': true,
    cursor: true,
    afterwards: false,
  });
});

test('whoever looks while the guest flips sees whole frames', async () => {
  const { width, height } = sizes[0];
  // More than will be needed: Linux 6.12 does some thousands a second.
  const count = 1_000_000;
  await using server = await startServer({ displays: [modes[0]!] });
  await using guest = await startGuest({
    devices: [server.device],
    script: `kms --output 0=${modes[0]} --flips ${count}`,
  });
  await guest.waitFor('@@SHOT mode\n');
  guest.write('\n');
  const frames = [count, count - 1].map((frame) => patternPicture(width, height, 0, frame));
  await server.screenShows((picture) => frames.some((frame) => !comparePictures(picture, frame)));
  for (let look = 0; look < 50; look++) {
    const [before] = await server.displays();
    const picture = await server.screenshot();
    // It goes on, at the pace of the machine.
    const flushes = async () => (await server.displays())[0]!.flushes;
    expect(await soon(flushes, (now) => now > before!.flushes)).toBeGreaterThan(before!.flushes);
    expect(frames.map((frame) => comparePictures(picture, frame))).toContain(undefined);
  }
  expectNoComplaints(server);
});
