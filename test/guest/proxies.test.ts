/**
 * Ordinary programs of a guest through a proxy that goes about it as the real ones do: what they show is on the host's
 * compositor to the pixel, at every size, what is typed and copied arrives, and a host that has copies of their buffers
 * copies what was damaged and no more.
 */
import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { assemble, cachePath } from '../../tools/testbed/cache.ts';
import type { ProgramResult } from '../../tools/testbed/compositor.ts';
import { crop, type Picture } from '../../tools/testbed/pictures.ts';
import { expectSame, soon } from './support.ts';
import {
  type Bed,
  copiedBytes,
  isWhite,
  programs,
  run,
  sha256,
  simpleShmPicture,
  simpleShmTime,
  startProxy,
  styles,
} from './wayland-bed.ts';

/** Runs what the host wants, line by line. */
const obey = `
  echo @@OBEYS
  while read -r line && [ "$line" != @@END ]; do
    eval "$line"
    printf '\\n@@DONE %s\\n' $?
  done`;

/** Programs of the disk image, beside the folders that they want. */
const prepareDisk = `
  in-disk /bin/true && mount -t tmpfs home /mnt/root || exit 1
  printf '[main]\\nfont=DejaVu Sans Mono:pixelsize=15\\ninitial-window-size-pixels=400x300\\n' >/mnt/root/foot.ini
  program() {
    in-disk /usr/bin/env HOME=/root SHELL=/bin/sh LANG=C.UTF-8 PATH=/usr/bin XDG_RUNTIME_DIR=/run \\
      WAYLAND_DISPLAY=wayland-0 "$@" >/run/log 2>&1 &
  }`;

interface Size {
  readonly width: number;
  readonly height: number;
}

/** What a program shows, in the words of the proxy. */
interface Shown extends Size {
  readonly hash: string;
}

/** A guest that obeys, with one program at a time. */
class Desk {
  readonly bed: Bed;
  constructor(bed: Bed) {
    this.bed = bed;
  }

  /** Runs a line in the guest. */
  async say(command: string): Promise<string> {
    const { guest } = this.bed;
    guest.write(`${command}\n`);
    const [, output, status] = await guest.waitFor(/^([\s\S]*?)\n@@DONE (\d+)\n/m);
    if (status !== '0') throw new Error(`${command} left with ${status}: ${output}`);
    return output!;
  }

  async asked(): Promise<Shown | undefined> {
    const { guest } = this.bed;
    const from = guest.serial.length;
    // One that leaves just now cannot be asked, and need not.
    await this.say('killall -USR1 proxy || true');
    await soon(
      async () => guest.serial.indexOf('\nPROXY damaged', from),
      (at) => at >= 0,
    );
    const [, width, height, hash] = /^PROXY window (\d+)x(\d+) (\S+)$/m.exec(guest.serial.slice(from)) ?? [];
    return hash === undefined ? undefined : { width: Number(width), height: Number(height), hash };
  }

  /** Waits for the compositor to show a program's window as the program has drawn it, of this size or any. */
  async settles(wanted?: Size): Promise<Shown> {
    const { compositor } = this.bed;
    const look = async () => {
      const shown = await this.asked();
      const picture = await compositor.screenshot();
      return { shown, seen: shown && hashOf(middleOf(picture, shown)) };
    };
    const isRight = ({ shown, seen }: Awaited<ReturnType<typeof look>>) =>
      shown !== undefined &&
      shown.hash === seen &&
      (!wanted || (shown.width === wanted.width && shown.height === wanted.height));
    const { shown, seen } = await soon(look, isRight, 30_000);
    expect(shown).toMatchObject({ ...wanted, hash: seen });
    return shown!;
  }

  async resize({ width, height }: Size): Promise<void> {
    const { compositor, outer } = this.bed;
    if (outer) await compositor.resize(width, height);
    else {
      const size = `width ${width} px height ${height} px`;
      await compositor.run('swaymsg', [`[title=".*"] resize set ${size}, move position center`]);
    }
  }

  /** Is as large as it is told to be, and draws all of it. */
  async takesSizes(): Promise<void> {
    for (const size of sizes) {
      await this.resize(size);
      await this.settles(size);
    }
  }

  async type(...keys: readonly number[]): Promise<void> {
    for (const key of keys) await this.bed.keyboard!.type(key);
  }
}

/** The part of a picture where a window is. */
function middleOf(picture: Picture, { width, height }: Size): Picture {
  const left = Math.floor((picture.width - width) / 2);
  const top = Math.floor((picture.height - height) / 2);
  return left < 0 || top < 0 ? picture : crop(picture, left, top, width, height);
}

/** FNV-1a over red, green and blue of each pixel, as the proxy has it. */
function hashOf({ rgb }: Picture): string {
  let hash = 0x811c9dc5;
  for (const value of rgb) hash = Math.imul(hash ^ value, 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, '0');
}

/** What of all frames had to be copied, once the programs have left. */
function damagedBytes(serial: string): { damaged: number; all: number } {
  const left = [...serial.matchAll(/^PROXY left, damaged (\d+) of (\d+)$/gm)];
  const sum = (group: number) => left.reduce((bytes, match) => bytes + Number(match[group]), 0);
  return { damaged: sum(1), all: sum(2) };
}

const KEY = { h: 35, e: 18, l: 38, o: 24, c: 46, enter: 28, 1: 2, 2: 3, minus: 12, 5: 6, equal: 13 } as const;
const large = randomBytes(4 * 2 ** 20);
/** Terminals in windows have whole letters. */
const sizes = Array.from({ length: 10 }, (_, step) => ({
  width: 9 * (43 + 3 * step),
  height: 18 * (26 - ((step + 1) % 4)),
}));

describe.each(['sway', 'weston in sway'] as const)('in %s', (kind) => {
  test.each(styles)('programs show, type and copy through a proxy in the manner of %s', async (style) => {
    await assemble('desktop');
    const script = `${startProxy(style)}\n${prepareDisk}\n${obey}`;
    const options = {
      hasKeyboard: true,
      modules: ['gpu', 'input', 'disk'] as const,
      drive: cachePath('desktop', 'desktop.ext4'),
      extraFiles: { ...(await programs('weston-simple-shm', 'wl-copy', 'wl-paste')), '/large': large },
    };
    await run(kind, script, options, async (bed) => {
      const { compositor, guest, server } = bed;
      const desk = new Desk(bed);
      await guest.waitFor('@@OBEYS\n');

      await desk.say('program foot --config=/root/foot.ini sh -c "cat >/run/typed"');
      const terminal = await desk.settles();
      await desk.type(KEY.h, KEY.e, KEY.l, KEY.l, KEY.o, KEY.enter);
      await desk.say("until grep -q '^hello$' /run/typed; do sleep 0.1; done");
      expect((await desk.settles()).hash).not.toBe(terminal.hash);
      await desk.takesSizes();
      await desk.say('killall foot');

      await desk.say('program galculator');
      const calculator = await desk.settles();
      await desk.type(KEY[1], KEY[2], KEY.minus, KEY[5], KEY.equal);
      await soon(
        () => desk.asked(),
        (shown) => shown?.hash !== calculator.hash,
      );
      expect((await desk.settles()).hash).not.toBe(calculator.hash);
      await bed.keyboard!.typeWithControl(KEY.c);
      const result = () => compositor.run('wl-paste', ['--no-newline']);
      const isSeven = ({ stdout }: ProgramResult) => stdout.toString() === '7';
      expect((await soon(result, isSeven)).stdout.toString()).toBe('7');
      await desk.takesSizes();
      await desk.say('killall galculator');

      await desk.say('weston-simple-shm &');
      await soon(
        () => desk.asked(),
        (shown) => shown !== undefined,
        30_000,
      );
      for (const size of sizes) {
        await desk.resize(size);
        const isThere = (picture: Picture) => isWhite(picture, size);
        const picture = await soon(() => compositor.screenshot(), isThere, 30_000);
        const middle = middleOf(picture, size);
        expectSame(middle, simpleShmPicture(size, simpleShmTime(picture, size)));
      }
      await desk.say('killall weston-simple-shm');

      await compositor.run('wl-copy', ['--type', 'application/x-large'], large);
      const pasted = await desk.say('wl-paste --type application/x-large | sha256sum');
      expect(pasted).toContain(sha256(large));
      await desk.say('wl-copy --type application/x-large </large');
      const { stdout } = await compositor.run('wl-paste', ['--no-newline', '--type', 'application/x-large']);
      expect(sha256(stdout)).toBe(sha256(large));
      await desk.say('killall wl-copy');

      await desk.say('until [ $(pidof proxy | wc -w) = 1 ]; do sleep 0.1; done');
      const { damaged, all } = damagedBytes(guest.serial);
      const copied = await copiedBytes(server);
      if (copied > 0) expect(copied).toBe(damaged);
      expect(damaged).toBeLessThan(all);
      guest.write('@@END\n');
    });
  });
});
