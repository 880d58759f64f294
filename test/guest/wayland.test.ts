/**
 * Programs in a guest whose windows are on the host's compositor: what they show arrives to the pixel, the selection
 * goes both ways, and nobody takes the device along when leaving.
 */
import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { DEFAULT_POLICY } from '../../server/cross-domain/wayland/policy.ts';
import {
  dirtiedPicture,
  dirtyRectangles,
  patternPicture,
  type Rectangle,
} from '../../tools/testbed/patterns.ts';
import { comparePictures, crop } from '../../tools/testbed/pictures.ts';
import { connectToWayland, readKeymap } from '../../tools/testbed/wayland-client.ts';
import { collectShots, expectSame, expectShown, memoryInUse, soon } from './support.ts';
import {
  copiedBytes,
  isWhite,
  programs,
  run,
  screen,
  screenWith,
  sha256,
  shown,
  simpleShmPicture,
  simpleShmTime,
  startProxy,
  westonPictures,
} from './wayland-bed.ts';

describe.each([
  ['weston', '6.12'],
  ['sway', '6.12'],
  ['sway', 'newest'],
] as const)('in %s, with Linux %s', (kind, kernel) => {
  const frames = 30;
  const steps = 8;
  // The second one has rows that are not whole words of anything, and the third one covers the screen.
  const sizes = [
    [300, 200],
    [123, 77],
    [screen.width, screen.height],
  ] as const;

  test('windows are exact, frame by frame, and change when they are committed and not before (H2, H10)', async () => {
    const script = sizes
      .map(
        ([width, height]) =>
          `wayland window ${width}x${height} --frames ${frames} --damage ${steps} --scribble || exit`,
      )
      .join('\n');
    const expected = sizes.flatMap(([width, height]) => [
      ['window', patternPicture(width, height, 0, 0)] as const,
      ['frames', patternPicture(width, height, 0, frames)] as const,
      ['damage', dirtiedPicture(width, height, 0, frames, steps)] as const,
      ['scribble', dirtiedPicture(width, height, 0, frames, steps)] as const,
    ]);
    await run(kind, `${script}\nshot gone`, { kernel }, async ({ compositor, server, guest }) => {
      const shots: string[] = [];
      for await (const shot of guest.shots()) {
        const [, window] = expected[shots.length] ?? [];
        shots.push(shot);
        // Shared memory may show what was not committed.
        if (shot === 'scribble' && (await copiedBytes(server)) === 0) continue;
        expectSame(await shown(compositor, screenWith(window)), screenWith(window), frames);
      }
      expect(shots).toEqual([...expected.map(([name]) => name), 'gone']);
      if ((await copiedBytes(server)) > 0) expect(await copiedBytes(server)).toBe(damagedBytes());
    });
  });

  /** What has to be copied of all windows: whole frames once each, and then the rows that a buffer has missed. */
  function damagedBytes(): number {
    return sizes.reduce((sum, [width, height]) => {
      let rows = (1 + frames) * height;
      for (let step = 0; step < steps; step++) {
        if (step === 0) rows += height;
        else rows += rowsOf([step - 1, step].flatMap((one) => dirtyRectangles(width, height, one)));
      }
      return sum + rows * width * 4;
    }, 0);
  }
});

/** How many rows a few rectangles touch. */
function rowsOf(rectangles: readonly Rectangle[]): number {
  const rows = rectangles.flatMap(({ y, height }) => Array.from({ length: height }, (_, row) => y + row));
  return new Set(rows).size;
}

test.each([
  ['weston', ['weston_capture_v1', 'weston_debug_v1']],
  ['sway', ['zwlr_screencopy_manager_v1', 'zwlr_data_control_manager_v1', 'zwp_virtual_keyboard_manager_v1']],
] as const)('of %s, guests see what windows need and not what watches others', async (kind, dangerous) => {
  await run(kind, 'wayland globals', {}, async ({ compositor, server, guest }) => {
    await guest.scriptEnds();
    // Sway also knows by itself who the guests are.
    const ownDoor = server.log.filter(
      ({ msg }) => msg === 'guests have a security context of the compositor',
    );
    expect(ownDoor.length).toBe(kind === 'sway' ? 1 : 0);
    const seen = [...guest.serial.matchAll(/^WAYLAND global (\S+) \d+$/gm)].map(([, name]) => name);
    for (const name of ['wl_compositor', 'wl_shm', 'xdg_wm_base', 'wl_data_device_manager', 'wl_output'])
      expect(seen).toContain(name);
    using client = await connectToWayland(compositor.socketPath);
    for (const name of dangerous) {
      expect(client.globals).toContain(name);
      expect(seen).not.toContain(name);
    }
  });
});

test('what is harmless in sway is all announced, and a guest asks it for tablets and for the frame of its window', async () => {
  await run('sway', 'wayland globals && wayland tablet', {}, async ({ compositor, guest }) => {
    await guest.scriptEnds();
    const seen = [...guest.serial.matchAll(/^WAYLAND global (\S+) \d+$/gm)].map(([, name]) => name!);
    using client = await connectToWayland(compositor.socketPath);
    // The last one is sway's own decision about guests.
    const allowed = Object.keys(DEFAULT_POLICY.globals).filter((name) => name !== 'zxdg_output_manager_v1');
    expect([...new Set(seen)].sort()).toEqual(client.globals.filter((name) => allowed.includes(name)).sort());
    for (const name of [
      'zwp_tablet_manager_v2',
      'org_kde_kwin_server_decoration_manager',
      'zxdg_exporter_v1',
    ])
      expect(seen).toContain(name);
    expect(seen).not.toContain('ext_idle_notifier_v1');
    // 2 is what the compositor of this test is set to: it draws the frames.
    expect(guest.serial).toContain('WAYLAND decoration mode=2\n');
    expect(guest.serial).toContain('WAYLAND asked for tablets\n');
  });
});

test('a window says which machine it belongs to', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'policy-'));
  const policyFile = join(folder, 'policy.json');
  await writeFile(policyFile, JSON.stringify({ titlePrefix: '[work] ', appIdPrefix: 'work.' }));
  const script = "wayland window 300x200 --title 'a title'";
  await run('sway', script, { policyFile }, async ({ compositor, guest }) => {
    for await (const _ of guest.shots()) {
      const { stdout } = await compositor.run('swaymsg', ['--type', 'get_tree', '--raw']);
      expect(stdout.toString()).toContain('"name": "[work] a title"');
      expect(stdout.toString()).toContain('"app_id": "work.guest"');
    }
  });
  await rm(folder, { recursive: true });
});

test('three hundred buffers, one after the other, leave nothing (H11)', async () => {
  // The first run is for what is made once.
  await run('weston', 'wayland resize 60\nwayland resize 300', {}, async ({ compositor, server, guest }) => {
    const look = async () => ({
      ...server.descriptors(),
      compositorFds: readdirSync(`/proc/${compositor.pid}/fd`).length,
      resources: await server.metric('resources'),
      ...(await memoryInUse(server)),
    });
    const looks: Awaited<ReturnType<typeof look>>[] = [];
    const isSettled = ({ memfds }: { memfds: number }) => memfds < 4 + (looks[0]?.memfds ?? memfds);
    // What the compositor still has when the guest gives it up, the server looks at again a little later.
    for await (const _ of guest.shots()) looks.push(await soon(look, isSettled));
    const [first, , before, after] = looks;
    expect(guest.serial).toContain('WAYLAND resized 300 times');
    expect(after!.memfds - first!.memfds).toBeLessThan(4);
    expect(after!.compositorFds).toBe(before!.compositorFds);
    expect(after!.resources).toBe(before!.resources);
    expect(after!.heapBytes - before!.heapBytes).toBeLessThan(2e6);
  });
});

describe('in sway, with a keyboard', () => {
  test('a guest gets the keymap that a host client gets (H12)', async () => {
    const script = 'wayland keymap /tmp/keymap && sha256sum /tmp/keymap';
    await run('sway', script, { hasKeyboard: true }, async ({ compositor, guest }) => {
      const keymap = await readKeymap(compositor.socketPath);
      expect(keymap.length).toBeGreaterThan(50_000);
      await guest.scriptEnds();
      expect(guest.serial).toContain(`WAYLAND keymap format=1 bytes=${keymap.length} xkb_keymap {\n`);
      expect(guest.serial).toContain(`${sha256(keymap)}  /tmp/keymap`);
    });
  });

  test('text and eight megabytes are copied on the host and pasted in the guest', async () => {
    const large = randomBytes(8 * 2 ** 20);
    const script = `
      shot text && wayland paste text/plain /tmp/text && cat /tmp/text && echo
      shot large && wayland paste application/x-large /tmp/large && sha256sum /tmp/large`;
    await run('sway', script, { hasKeyboard: true }, async ({ compositor, guest }) => {
      for await (const shot of guest.shots()) {
        const { status } =
          shot === 'text'
            ? await compositor.run('wl-copy', ['from the host: äöü ✓'])
            : await compositor.run('wl-copy', ['--type', 'application/x-large'], large);
        expect(status).toBe(0);
      }
      expect(guest.serial).toMatch(/^from the host: äöü ✓$/m);
      expect(guest.serial).toContain(`${sha256(large)}  /tmp/large`);
    });
  });

  test('text and eight megabytes are copied in the guest and pasted on the host', async () => {
    const large = randomBytes(8 * 2 ** 20);
    const script = `
      printf 'from the guest' >/tmp/text
      wayland copy text/plain /tmp/text 2 && wayland copy application/x-large /large 1`;
    const options = { hasKeyboard: true, extraFiles: { '/large': large } };
    await run('sway', script, options, async ({ compositor, guest }) => {
      const paste = async (type: string) =>
        (await compositor.run('wl-paste', ['--no-newline', '--type', type])).stdout;
      await guest.waitFor('WAYLAND owns the selection');
      expect((await paste('text/plain')).toString()).toBe('from the guest');
      expect((await paste('text/plain')).toString()).toBe('from the guest');
      await guest.waitFor('WAYLAND owns the selection');
      expect(sha256(await paste('application/x-large'))).toBe(sha256(large));
    });
  });

  test('whoever stops reading half-way disturbs nobody (T3, W8)', async () => {
    const large = randomBytes(8 * 2 ** 20);
    // What is written to /dev/full fails, and so does the program.
    const script = `
      shot copied
      wayland paste application/x-large /dev/full; echo "the first one has left with $?"
      wayland paste application/x-large /tmp/large && sha256sum /tmp/large
      wayland copy application/x-other /large 2`;
    const options = { hasKeyboard: true, extraFiles: { '/large': large } };
    await run('sway', script, options, async ({ compositor, guest }) => {
      await guest.waitFor('@@SHOT copied\n');
      await compositor.run('wl-copy', ['--type', 'application/x-large'], large);
      guest.write('\n');
      await guest.waitFor('the first one has left with 1\n');
      await guest.waitFor(`${sha256(large)}  /tmp/large\n`);
      await guest.waitFor('WAYLAND owns the selection\n');
      // The one that reads is `true`, which does not.
      const watcher = compositor.launch('wl-paste', ['--type', 'application/x-other', '--watch', 'true']);
      await guest.waitFor('WAYLAND sent bytes=8388608\n');
      watcher.kill();
      const { stdout } = await compositor.run('wl-paste', ['--no-newline', '--type', 'application/x-other']);
      expect(sha256(stdout)).toBe(sha256(large));
    });
  });
});

test('eight megabytes are dragged out of one window of a guest and dropped on another', async () => {
  const large = randomBytes(8 * 2 ** 20);
  const script = `
    wayland drop application/x-large /tmp/dropped & drop=$!
    wayland drag application/x-large /large && wait $drop && sha256sum /tmp/dropped`;
  const options = { hasPointer: true, extraFiles: { '/large': large } };
  await run('sway', script, options, async ({ compositor, guest, pointer }) => {
    for (let program = 0; program < 2; program++)
      await guest.waitFor(/^WAYLAND waits (for a drop|to be dragged)\n/m);
    const move = '[title=drag] move position 20 20; [title=drop] move position 320 200';
    await compositor.run('swaymsg', [move]);
    const window = patternPicture(200, 100, 0, 0);
    const there = await soon(
      () => compositor.screenshot(),
      (picture) =>
        [crop(picture, 20, 20, 200, 100), crop(picture, 320, 200, 200, 100)].every(
          (part) => !comparePictures(part, window),
        ),
    );
    expectSame(crop(there, 320, 200, 200, 100), window);
    await pointer!.moveTo(100, 60);
    await pointer!.press(true);
    await guest.waitFor('WAYLAND drags\n');
    for (let step = 1; step <= 10; step++) await pointer!.moveTo(100 + 30 * step, 60 + 20 * step);
    await guest.waitFor('WAYLAND entered with application/x-large\n');
    await pointer!.press(false);
    await guest.scriptEnds();
    expect(guest.serial).toContain(`${sha256(large)}  /tmp/dropped`);
  });
});

describe.each(['weston', 'sway'] as const)('when %s', (kind) => {
  test('ends, its clients leave, and new ones find the next one; the display goes on (T4)', async () => {
    const script = `
      wayland window 300x200 --stay >/tmp/one & one=$!
      until grep -q stays /tmp/one; do sleep 0.05; done
      wayland window 200x100 --stay >/tmp/two & two=$!
      until grep -q stays /tmp/two; do sleep 0.05; done
      shot both
      wait $one; echo "one has left with $?"; grep ended /tmp/one
      wait $two; echo "two has left with $?"; grep ended /tmp/two
      wayland globals; echo "without a compositor $?"
      shot none
      kms
      wayland window 300x200`;
    await run(kind, script, {}, async ({ compositor, server, guest }) => {
      const window = screenWith(patternPicture(300, 200, 0, 0));
      const shots = await collectShots(guest, async (shot) => {
        if (shot === 'both') await compositor.stop('SIGKILL');
        if (shot === 'none') await compositor.start();
        if (shot === 'mode') await expectShown(server, patternPicture(1280, 800, 0, 0));
        if (shot === 'window') expectSame(await shown(compositor, window), window);
      });
      expect([...shots.keys()]).toEqual(['both', 'none', 'mode', 'window']);
      expect(guest.serial.match(/^WAYLAND ended: error event$/gm)).toHaveLength(3);
      for (const end of ['one has left with 3', 'two has left with 3', 'without a compositor 3'])
        expect(guest.serial).toContain(end);
    });
  });

  test('shows a window of a program that is killed, the window vanishes', async () => {
    const script = `
      wayland window 300x200 --stay >/tmp/log & program=$!
      until grep -q stays /tmp/log; do sleep 0.05; done
      shot there
      kill -9 $program
      shot gone`;
    await run(kind, script, {}, async ({ compositor, guest }) => {
      const shots = await collectShots(guest, async (name) => {
        const expected = name === 'there' ? screenWith(patternPicture(300, 200, 0, 0)) : screenWith();
        expectSame(await shown(compositor, expected), expected);
      });
      expect([...shots.keys()]).toEqual(['there', 'gone']);
    });
  });
});

describe.each(['weston', 'sway'] as const)('in %s', (kind) => {
  test("a program of Debian's, behind a proxy, shows whole frames, exactly", async () => {
    const script = `
      ${startProxy()}
      weston-simple-shm & program=$!
      shot there
      kill $program
      shot gone`;
    await run(kind, script, { extraFiles: await programs('weston-simple-shm') }, async (bed) => {
      const { compositor, guest } = bed;
      const sides = kind === 'weston' ? screen : { width: 250, height: 250 };
      const shots = await collectShots(guest, async (shot) => {
        if (shot === 'gone') {
          expectSame(await shown(compositor, screenWith()), screenWith());
          return;
        }
        let last = -1;
        for (let frame = 0; frame < 5; frame++) {
          const picture = await soon(
            () => compositor.screenshot(),
            (picture) => isWhite(picture, sides) && simpleShmTime(picture, sides) !== last,
            // Until the first one, a program has to be loaded.
            frame === 0 ? 60_000 : undefined,
          );
          expect(simpleShmTime(picture, sides)).not.toBe(last);
          last = simpleShmTime(picture, sides);
          expectSame(picture, screenWith(simpleShmPicture(sides, last)));
        }
      });
      expect([...shots.keys()]).toEqual(['there', 'gone']);
    });
  });
});

test('wl-copy and wl-paste work in a guest, behind a proxy', async () => {
  const large = randomBytes(8 * 2 ** 20);
  const script = `
    ${startProxy()}
    shot copied
    wl-paste
    wl-copy --type application/x-large </large
    shot pasted`;
  const extraFiles = { ...(await programs('wl-copy', 'wl-paste')), '/large': large };
  await run('sway', script, { hasKeyboard: true, extraFiles }, async ({ compositor, guest }) => {
    await collectShots(guest, async (shot) => {
      if (shot === 'copied') await compositor.run('wl-copy', ['from the host']);
      if (shot !== 'pasted') return;
      const { stdout } = await compositor.run('wl-paste', ['--no-newline', '--type', 'application/x-large']);
      expect(sha256(stdout)).toBe(sha256(large));
    });
    expect(guest.serial).toMatch(/^from the host$/m);
  });
});

test("what is typed on the host arrives as letters in a program of Debian's, behind a proxy", async () => {
  // It compiles the keymap, and wants a folder for more.
  const script = `
    ${startProxy('wl-cross')}
    export XKB_CONFIG_ROOT=/tmp
    weston-eventdemo --log-key --log-focus & program=$!
    shot typed
    kill $program`;
  const extraFiles = { ...(await programs('weston-eventdemo')), ...(await westonPictures()) };
  const options = { hasKeyboard: true, extraFiles };
  await run('sway', script, options, async ({ guest, keyboard }) => {
    await guest.waitFor(/^focus /m);
    for (const [key, letter] of [
      [30, 'a'],
      [44, 'z'],
    ] as const) {
      await keyboard!.type(key);
      const line = `key key: ${key}, unicode: ${letter.charCodeAt(0)}, state: pressed, modifiers: 0x0\n`;
      await guest.waitFor(line);
    }
    guest.write('\n');
  });
});
