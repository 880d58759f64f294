/** Recordings: whole files, true times, and frames that are what the display showed; read by a decoder that is not ours. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Problem } from '../../../server/api/problem.ts';
import type { RecordConfig } from '../../../server/cli.ts';
import { ApngWriter } from '../../../server/commands/apng.ts';
import { recordUntil } from '../../../server/commands/record.ts';
import type { Rect } from '../../../server/displays/display.ts';
import { type ApiHere, apiHere } from '../../support/api-here.ts';
import { play } from '../../support/apng-player.ts';
import { type Colour, makeScreen, Painted, texture } from '../../support/screens.ts';
import { soon } from '../../support/soon.ts';

const folder = mkdtempSync(join(tmpdir(), 'record-'));
afterAll(() => rmSync(folder, { recursive: true }));
const output = join(folder, 'recording.png');
const hasFfmpeg = spawnSync('ffmpeg', ['-version']).error === undefined;

const png = (width: number, height: number, [r, g, b]: Colour) =>
  sharp({ create: { width, height, channels: 3, background: { r, g, b } } })
    .png()
    .toBuffer();
const pixel = (frame: Buffer | undefined, width: number, x: number, y: number) => [
  ...(frame ?? Buffer.alloc(0)).subarray((y * width + x) * 4, (y * width + x) * 4 + 4),
];

describe('an animated PNG', () => {
  test('has the frames, at their places, for their times', async () => {
    const writer = await ApngWriter.create(output);
    await writer.add(await png(20, 10, [255, 0, 0]), 0, 0, 1000);
    await writer.add(await png(5, 4, [0, 255, 0]), 15, 6, 1040);
    await writer.add(await png(1, 1, [0, 0, 255]), 0, 0, 1540.4);
    expect(writer.frames).toBe(3);
    await writer.close(3000);
    const { width, height, frames, delaysMs } = play(output);
    expect([width, height, frames.length]).toEqual([20, 10, 3]);
    expect(delaysMs).toEqual([40, 500, 1460]);
    const colours = frames.map((frame) => [
      pixel(frame, 20, 0, 0),
      pixel(frame, 20, 15, 6),
      pixel(frame, 20, 14, 6),
    ]);
    const [red, green, blue] = [
      [255, 0, 0, 255],
      [0, 255, 0, 255],
      [0, 0, 255, 255],
    ];
    expect(colours).toEqual([
      [red, red, red],
      [red, green, red],
      [blue, green, red],
    ]);
  });

  test('does not lose time to rounding, and has pauses of minutes and hours', async () => {
    const writer = await ApngWriter.create(output);
    const times = [0, 16.6, 33.3, 50, 66.6, 100_000, 3_700_000];
    for (const atMs of times) await writer.add(await png(2, 2, [1, 2, 3]), 0, 0, atMs);
    await writer.close(3_700_010);
    const { delaysMs } = play(output);
    let atMs = 0;
    const starts = delaysMs.map((delay) => {
      atMs += delay;
      return atMs - delay;
    });
    for (const [i, start] of starts.entries())
      expect(Math.abs(start - (times[i] ?? 0))).toBeLessThanOrEqual(500);
    expect(starts.slice(0, 5)).toEqual([0, 17, 33, 50, 67]);
  });

  test('is whole after each frame, however the process ends', async () => {
    const writer = await ApngWriter.create(output);
    const path = join(folder, 'cut.png');
    for (let i = 0; i < 4; i++) {
      await writer.add(await png(8, 8, [i, i, i]), 0, 0, i * 100);
      writeFileSync(path, readFileSync(output));
      const { frames, delaysMs } = play(path);
      expect(frames.map((frame) => frame[0])).toEqual([0, 1, 2, 3].slice(0, i + 1));
      expect(delaysMs.slice(0, -1)).toEqual(Array(i).fill(100));
    }
    await writer.close(400);
    expect(play(output).delaysMs).toEqual([100, 100, 100, 100]);
  });

  test('takes no frame that does not fit, and nothing that is no PNG', async () => {
    const writer = await ApngWriter.create(output);
    await expect(writer.add(Buffer.from('no PNG at all'), 0, 0, 0)).rejects.toThrow('no PNG');
    const whole = await png(10, 10, [1, 1, 1]);
    await expect(writer.add(whole.subarray(0, whole.length - 12), 0, 0, 0)).rejects.toThrow('cut short');
    await writer.add(whole, 0, 0, 0);
    await expect(writer.add(await png(10, 10, [1, 1, 1]), 1, 0, 1)).rejects.toThrow('does not fit');
    const grey = await sharp(whole).toColourspace('b-w').png().toBuffer();
    await expect(writer.add(grey, 0, 0, 1)).rejects.toThrow('does not fit');
    await writer.close(10);
    expect(play(output).frames.length).toBe(1);
  });

  test('is not written to what is no file', async () => {
    await expect(ApngWriter.create('/dev/null')).rejects.toThrow('/dev/null is not a file');
  });
});

describe('a recording', () => {
  let here: ApiHere;
  let painted: Painted;
  let stop: AbortController;
  beforeEach(async () => {
    rmSync(output, { force: true });
    here = await apiHere({ displays: [{ width: 160, height: 120 }] });
    painted = new Painted(here.screens[0] ?? makeScreen(1, 1), 160, 120);
    painted.draw(painted.whole, texture).flush();
    stop = new AbortController();
  });
  afterEach(() => here[Symbol.asyncDispose]());

  const start = (options: Partial<RecordConfig> = {}) =>
    recordUntil(
      {
        command: 'record',
        apiSocketPath: here.socketPath,
        output,
        display: 0,
        durationMs: undefined,
        maxFps: 60,
        cursor: true,
        ...options,
      },
      stop.signal,
    );
  /** Waits until something has been written, and so the first frame was taken. */
  const isStarted = () => soon(() => expect(existsSync(output)).toBe(true));
  /** Waits until the recording shows what the display shows. */
  const isSeen = () => soon(() => expect(play(output).frames.at(-1)?.equals(painted.rgba)).toBe(true));
  const rest = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  const spot = (i: number): Rect => ({ x: (i * 53) % 150, y: (i * 31) % 110, width: 10, height: 10 });

  test('shows at every moment what the display showed, in that order', async () => {
    const states = [painted.rgba.toString('latin1')];
    const recording = start();
    await isStarted();
    for (let i = 0; i < 120; i++) {
      const [one, other] = [spot(i), spot(i + 60)];
      painted.draw(one, [i, 255 - i, 7]).draw(other, [i, i, 200]);
      painted.screen.damage({ x: 0, y: 0, width: 160, height: 120 });
      states.push(painted.rgba.toString('latin1'));
      await rest(i % 7);
    }
    await isSeen();
    stop.abort();
    const count = await recording;
    const { frames } = play(output);
    expect(frames.length).toBe(count);
    expect(count).toBeGreaterThan(5);
    const shown = frames.map((frame) => states.indexOf(frame.toString('latin1')));
    expect(shown).not.toContain(-1);
    expect(shown).toEqual(shown.toSorted((a, b) => a - b));
    expect([shown[0], shown.at(-1)]).toEqual([0, 120]);
  });

  test('has only what changed after its first frame, and takes no room while nothing does', async () => {
    const recording = start();
    await isStarted();
    painted.draw({ x: 100, y: 50, width: 1, height: 1 }, [1, 2, 3]).flush();
    await isSeen();
    stop.abort();
    expect(await recording).toBe(2);
    const bytes = readFileSync(output);
    const second = bytes.lastIndexOf('fcTL');
    const fields = Array.from({ length: 4 }, (_, i) => bytes.readUInt32BE(second + 8 + 4 * i));
    expect(fields).toEqual([16, 16, 96, 48]);
  });

  test('lasts as long as it was told to', async () => {
    const startMs = performance.now();
    expect(await start({ durationMs: 300 })).toBe(1);
    const [delayMs = Number.NaN] = play(output).delaysMs;
    expect(delayMs).toBeGreaterThan(0);
    expect(delayMs).toBeLessThanOrEqual(performance.now() - startMs);
  });

  test('has the cursor where it is, and nothing where it was', async () => {
    const image = new Painted(makeScreen(32, 32), 8, 8).draw(
      { x: 0, y: 0, width: 8, height: 8 },
      [255, 255, 255],
    );
    image.bytes.fill(255);
    const { screen } = painted;
    screen.setCursorImage({ ...image.picture, order: { b: 0, g: 1, r: 2, a: 3 }, hotX: 0, hotY: 0 });
    screen.moveCursor(20, 20);
    screen.showCursor(true);
    const recording = start();
    await isStarted();
    for (const [x, y] of [
      [60, 60],
      [-4, 100],
      [156, 116],
    ] as const) {
      screen.moveCursor(x, y);
      await rest(60);
    }
    stop.abort();
    await recording;
    const { frames } = play(output);
    const white = [255, 255, 255, 255];
    const at = (x: number, y: number) => pixel(frames.at(-1), 160, x, y);
    expect(at(157, 117)).toEqual(white);
    for (const [x, y] of [
      [21, 21],
      [61, 61],
      [1, 101],
    ] as const)
      expect(at(x, y)).toEqual([...texture(x, y), 255]);
  });

  test('keeps its size when the display takes another one: that is seen whole, on black', async () => {
    const recording = start();
    await isStarted();
    const large = new Painted(painted.screen, 320, 120);
    large.draw(large.whole, [200, 100, 50]).flush();
    await rest(200);
    const again = new Painted(painted.screen, 160, 120);
    again.draw(again.whole, [1, 2, 3]).flush();
    await rest(200);
    stop.abort();
    await recording;
    const { width, height, frames } = play(output);
    expect([width, height]).toEqual([160, 120]);
    const middles = frames.map((frame) => [pixel(frame, 160, 80, 60), pixel(frame, 160, 80, 10)]);
    expect(middles).toContainEqual([
      [200, 100, 50, 255],
      [0, 0, 0, 255],
    ]);
    expect(middles.at(-1)).toEqual([
      [1, 2, 3, 255],
      [1, 2, 3, 255],
    ]);
  });

  test('is whole when the server leaves', async () => {
    const recording = start();
    await isStarted();
    painted.draw(spot(3), [9, 9, 9]).flush();
    await isSeen();
    await here.stopListening();
    expect(await recording).toBe(2);
    expect(play(output).frames.length).toBe(2);
  });

  test('waits while others take too many pictures', async () => {
    const refusal = new Problem(503, 'busy', 'too many screenshots at a time');
    vi.spyOn(here.viewing, 'capture').mockRejectedValueOnce(refusal);
    expect(await start({ durationMs: 1000 })).toBe(1);
    expect(play(output).frames[0]?.equals(painted.rgba)).toBe(true);
  });

  test('of nobody, or of a display that is not there, is an error and no file', async () => {
    await expect(start({ display: 5 })).rejects.toThrow('there is no display 5');
    await expect(start({ apiSocketPath: join(folder, 'nobody') })).rejects.toThrow('no answer at');
    expect(existsSync(output)).toBe(false);
  });

  test('that needs ffmpeg is refused before it begins where there is none', async () => {
    const webm = join(folder, 'recording.webm');
    vi.stubEnv('PATH', '/nowhere');
    try {
      await expect(start({ output: webm })).rejects.toThrow('needs ffmpeg, which is not installed');
    } finally {
      vi.unstubAllEnvs();
    }
    expect(existsSync(`${webm}.recording.png`)).toBe(false);
  });

  describe('for a converter', () => {
    const converted = join(folder, 'converted.webm');
    const recordings = () => readdirSync(folder).filter((name) => name.startsWith('converted.'));
    /** An ffmpeg that copies its input, or does not. */
    const useConverter = (does: string) => {
      const script = '#!/bin/sh\n[ "$1" = -version ] && exit\nfrom=$7; for to in "$@"; do :; done\n';
      const bin = mkdtempSync(join(folder, 'bin-'));
      writeFileSync(join(bin, 'ffmpeg'), script + does, { mode: 0o755 });
      vi.stubEnv('PATH', `${bin}:${process.env.PATH}`);
    };
    afterEach(() => {
      vi.unstubAllEnvs();
      for (const name of recordings()) rmSync(join(folder, name));
    });

    test('that has no frames is not converted: there is no file, and no error', async () => {
      useConverter('echo called >"$to"');
      stop.abort();
      expect(await start({ output: converted })).toBe(0);
      expect(recordings()).toEqual([]);
    });

    test('leaves recordings alone that are there already', async () => {
      useConverter('cp "$from" "$to"');
      const before = ['', '-2'].map((number) => `${converted}.recording${number}.png`);
      for (const path of before) writeFileSync(path, 'of an earlier one');
      expect(await start({ output: converted, durationMs: 200 })).toBe(1);
      expect(play(converted).frames.length).toBe(1);
      expect(before.map((path) => readFileSync(path, 'utf8'))).toEqual(Array(2).fill('of an earlier one'));
      expect(recordings().length).toBe(3);
    });

    test('that fails is kept, and the error says where', async () => {
      useConverter('echo no such codec >&2; exit 1');
      const recording = `${converted}.recording.png`;
      await expect(start({ output: converted, durationMs: 200 })).rejects.toThrow(
        `ffmpeg: no such codec; the recording is in ${recording}`,
      );
      expect(play(recording).frames.length).toBe(1);
      await expect(start({ output: converted, display: 5 })).rejects.toThrow(/^there is no display 5$/);
    });
  });

  test.for(['webm', 'mp4', 'gif', 'webp'])('becomes %s where there is ffmpeg', async (kind, context) => {
    if (!hasFfmpeg) {
      console.log(`skipping "becomes ${kind}": ffmpeg is not installed`);
      context.skip();
    }
    const path = join(folder, `recording.${kind}`);
    const recording = start({ output: path });
    await soon(() => expect(existsSync(`${path}.recording.png`)).toBe(true));
    for (let i = 0; i < 5; i++) {
      painted.draw(spot(i), [i * 40, 9, 9]).flush();
      await rest(50);
    }
    stop.abort();
    await recording;
    expect(readFileSync(path).length).toBeGreaterThan(100);
    expect(existsSync(`${path}.recording.png`)).toBe(false);
  });
});

describe('vfio-user-gpu record', () => {
  const program = fileURLToPath(new URL('../../../dist/server/main.js', import.meta.url));

  test.each(['SIGINT', 'SIGTERM'] as const)('ends with %s: the file is whole, status 0', async (signal) => {
    await using here = await apiHere();
    rmSync(output, { force: true });
    const args = [program, 'record', '--api-socket', here.socketPath, '-o', output];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    const said: string[] = [];
    child.stderr.setEncoding('utf8').on('data', (text: string) => said.push(text));
    const status = new Promise((resolve) => {
      child.on('close', resolve);
    });
    await soon(() => expect(existsSync(output)).toBe(true));
    child.kill(signal);
    expect([await status, said.join('')]).toEqual([0, `${output}: 1 frames\n`]);
    expect(play(output)).toMatchObject({ width: 640, height: 480 });
  });
});
