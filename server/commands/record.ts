/**
 * `vfio-user-gpu record`: what a display shows, as an animated PNG. The first frame is all of the picture, later ones
 * are what has changed; each is exactly what the display showed at its time.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { extname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import type { RecordConfig } from '../cli.ts';
import type { CursorState } from '../displays/cursor.ts';
import type { Rect } from '../displays/display.ts';
import { contains, intersection, union } from '../displays/rects.ts';
import { ApiClient, ApiError, type ChangeEvent } from './api-client.ts';
import { ApngWriter } from './apng.ts';

/** What ffmpeg is told besides the files, by the ending of the output's name. */
const CONVERSIONS: Readonly<Record<string, readonly string[]>> = {
  // Many players want this kind of colours, which comes in pairs of pixels.
  '.mp4': ['-vf', 'pad=ceil(iw/2)*2:ceil(ih/2)*2', '-c:v', 'libx264', '-pix_fmt', 'yuv420p'],
  '.webm': ['-c:v', 'libvpx-vp9', '-crf', '30', '-b:v', '0'],
  '.gif': ['-filter_complex', 'split[a][b];[a]palettegen[p];[b][p]paletteuse'],
  '.webp': ['-c:v', 'libwebp_anim', '-lossless', '1'],
};

/** A part of a picture that goes on changing elsewhere is asked for again so often; then all of it is taken. */
const MAX_PARTS = 3;
/** Until a server that was busy is asked again. */
const BUSY_MS = 50;

/** Records until the time is over, SIGINT or SIGTERM, or the server leaves. */
export async function record(config: RecordConfig): Promise<number> {
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
  const frames = await recordUntil(config, stop.signal);
  process.stderr.write(`${config.output}: ${frames > 0 ? `${frames} frames` : 'not written, no frames'}\n`);
  return 0;
}

/**
 * Resolves with the number of frames when the recording has ended and its file is whole; without any there is none.
 *
 * @throws Error when it cannot be made or converted; what was recorded before is left, and named
 */
export async function recordUntil(config: RecordConfig, signal: AbortSignal): Promise<number> {
  const { output } = config;
  const conversion = CONVERSIONS[extname(output).toLowerCase()];
  if (conversion === undefined) return await recordApng(new Recorder(config, output), signal);
  if (spawnSync('ffmpeg', ['-version'], { stdio: 'ignore' }).error) {
    throw new Error(`${output} needs ffmpeg, which is not installed; a .png needs nothing`);
  }
  const recording = unusedName(output);
  const recorder = new Recorder(config, recording, 'wx');
  try {
    const frames = await recordApng(recorder, signal);
    if (frames === 0) return 0;
    await convert(recording, conversion, output);
    await rm(recording);
    return frames;
  } catch (error) {
    if (recorder.frames === 0) throw error;
    throw new Error(`${(error as Error).message}; the recording is in ${recording}`, { cause: error });
  }
}

/** A recording that is there is one that could not be converted; it is all that is left of something. */
function unusedName(output: string): string {
  for (let number = 1; ; number++) {
    const name = `${output}.recording${number === 1 ? '' : `-${number}`}.png`;
    if (!existsSync(name)) return name;
  }
}

async function recordApng(recorder: Recorder, signal: AbortSignal): Promise<number> {
  try {
    await recorder.run(signal);
  } finally {
    await recorder.close();
  }
  return recorder.frames;
}

async function convert(from: string, options: readonly string[], to: string): Promise<void> {
  const args = ['-y', '-v', 'error', '-f', 'apng', '-i', from, ...options, '-fps_mode', 'vfr', to];
  const ffmpeg = spawn('ffmpeg', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let complaints = '';
  ffmpeg.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints = (complaints + text).slice(-2000);
  });
  const status = await new Promise((resolve, reject) => {
    ffmpeg.on('error', reject);
    ffmpeg.on('close', resolve);
  });
  if (status !== 0) throw new Error(`ffmpeg: ${complaints.trim() || `status ${status}`}`);
}

/** An image, and what it is of. */
interface Shot {
  readonly png: Buffer;
  readonly width: number;
  readonly height: number;
  /** Of the display when it was taken. */
  readonly version: number;
  readonly atMs: number;
}

class Recorder {
  readonly #client: ApiClient;
  readonly #config: RecordConfig;
  readonly #output: string;
  readonly #flags: 'w' | 'wx';
  readonly #damage: Damage;
  #writer: ApngWriter | undefined;

  /** Nothing is written before there is a frame; `wx`: to no file that is there. */
  constructor(config: RecordConfig, output: string, flags: 'w' | 'wx' = 'w') {
    this.#client = new ApiClient(config.apiSocketPath);
    this.#config = config;
    this.#output = output;
    this.#flags = flags;
    this.#damage = new Damage(config.cursor);
  }

  get frames(): number {
    return this.#writer?.frames ?? 0;
  }

  /** Resolves at the end of the time, when `signal` is aborted, or when the server has left. */
  async run(signal: AbortSignal): Promise<void> {
    const { durationMs, maxFps } = this.#config;
    const over = new AbortController();
    const end = () => over.abort();
    const timer = durationMs === undefined ? undefined : setTimeout(end, durationMs);
    signal.addEventListener('abort', end, { once: true });
    if (signal.aborted) end();
    const listening = this.#listen(over.signal);
    try {
      while (await this.#damage.any()) {
        const atMs = await this.#frame();
        const restMs = atMs + 1000 / maxFps - performance.now();
        if (restMs > 0) await sleep(restMs, undefined, { signal: over.signal }).catch(() => {});
      }
    } finally {
      clearTimeout(timer);
      end();
    }
    const failure = await listening;
    if (failure && this.frames === 0) throw failure;
  }

  /** The last frame is seen until now. */
  async close(): Promise<void> {
    await this.#writer?.close(performance.now());
  }

  /** Notes what changes until it is over, or the server leaves; resolves with why, if that was no end of ours. */
  async #listen(signal: AbortSignal): Promise<Error | undefined> {
    try {
      for await (const event of this.#client.changes(this.#config.display, signal)) this.#damage.note(event);
      return undefined;
    } catch (error) {
      return signal.aborted ? undefined : (error as Error);
    } finally {
      this.#damage.end();
    }
  }

  /** Adds what has changed, as it is at one moment; returns when that was. */
  async #frame(): Promise<number> {
    let part = this.#damage.take();
    for (let attempt = 1; part !== undefined; attempt++) {
      const isWhole = attempt > MAX_PARTS || !this.#fits || contains(part, this.#damage.whole);
      const shot = await this.#shoot(isWhole ? undefined : part);
      // What changed before this moment somewhere else has to be in the same frame.
      const missed = shot && (await this.#damage.takeUntil(shot.version));
      if (shot && isWhole) return await this.#add(shot, undefined);
      if (this.#damage.isOver) break;
      if (shot && (missed === undefined || contains(part, missed))) return await this.#add(shot, part);
      part = missed === undefined ? this.#damage.whole : union(part, missed);
    }
    return performance.now();
  }

  /** Whether the picture is as large as the recording, so that parts of it are parts of that. */
  get #fits(): boolean {
    const size = this.#writer?.size;
    const { width, height } = this.#damage.whole;
    return size?.width === width && size.height === height;
  }

  /** Undefined when there is no such part any more, or too many others take pictures. */
  async #shoot(part: Rect | undefined): Promise<Shot | undefined> {
    const { display, cursor } = this.#config;
    const region = part === undefined ? '' : `&region=${part.x},${part.y},${part.width},${part.height}`;
    const atMs = performance.now();
    try {
      const path = `/v1/displays/${display}/screenshot?cursor=${cursor ? 1 : 0}${region}`;
      const { body: png, headers } = await this.#client.ask('GET', path);
      const version = Number(headers['picture-version']);
      return { png, width: png.readUInt32BE(16), height: png.readUInt32BE(20), version, atMs };
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 400 && part !== undefined) return undefined;
      if (error.code !== 'busy') throw error;
      await sleep(BUSY_MS);
      return undefined;
    }
  }

  /** Undefined is all of the picture. Returns the time of it. */
  async #add({ png, width, height, atMs }: Shot, part: Rect | undefined): Promise<number> {
    this.#writer ??= await ApngWriter.create(this.#output, this.#flags);
    const { x, y } = part ?? { x: 0, y: 0 };
    const { size } = this.#writer;
    if (part || size === undefined || (width === size.width && height === size.height)) {
      await this.#writer.add(png, x, y, atMs);
      return atMs;
    }
    // The display has another size now: all of it, in the middle, on black.
    const fitted = sharp(png).resize(size.width, size.height, { fit: 'contain', background: '#000' });
    await this.#writer.add(await fitted.removeAlpha().png({ compressionLevel: 1 }).toBuffer(), x, y, atMs);
    return atMs;
  }
}

/** What has changed and is in no frame yet. */
class Damage {
  readonly #withCursor: boolean;
  /** In the order of versions. */
  #parts: { readonly version: number; readonly rect: Rect }[] = [];
  #version = 0;
  #width = 0;
  #height = 0;
  /** Where it was last; undefined while that is not known. */
  #cursor: CursorState | undefined;
  #isOver = false;
  #wake = () => {};

  constructor(withCursor: boolean) {
    this.#withCursor = withCursor;
  }

  get whole(): Rect {
    return { x: 0, y: 0, width: this.#width, height: this.#height };
  }

  /** Nothing will be noted any more; what was taken last may not be all. */
  get isOver(): boolean {
    return this.#isOver;
  }

  note({ version, width, height, rects, cursor }: ChangeEvent): void {
    this.#width = width;
    this.#height = height;
    this.#version = version;
    const changed = [...rects, ...(cursor && this.#withCursor ? this.#cursorMoved(cursor) : [])];
    if (changed.length > 0) this.#parts.push({ version, rect: changed.reduce(union) });
    this.#wake();
  }

  /** Nothing will be noted any more. */
  end(): void {
    this.#isOver = true;
    this.#wake();
  }

  /** Waits until there is some; false when there will be none. */
  async any(): Promise<boolean> {
    await this.#until(() => this.#parts.length > 0);
    return !this.#isOver;
  }

  /** All of it. */
  take(): Rect | undefined {
    return this.#parts
      .splice(0)
      .map(({ rect }) => rect)
      .reduce<Rect | undefined>((all, rect) => (all === undefined ? rect : union(all, rect)), undefined);
  }

  /**
   * Waits until all is known that changed until `version`, and takes it. What came in one event with later changes is
   * in the answer too, and stays.
   */
  async takeUntil(version: number): Promise<Rect | undefined> {
    await this.#until(() => this.#version >= version);
    const later = this.#parts.findIndex((part) => part.version > version);
    const taken = this.#parts.splice(0, later < 0 ? this.#parts.length : later);
    const isMixed = later >= 0 && taken.at(-1)?.version !== version;
    const rects = [...taken, ...(isMixed ? this.#parts.slice(0, 1) : [])].map(({ rect }) => rect);
    return rects.length > 0 ? rects.reduce(union) : undefined;
  }

  /** Where the cursor was and is, as far as that is in the picture. */
  #cursorMoved(cursor: CursorState): Rect[] {
    const before = this.#cursor;
    this.#cursor = cursor;
    if (before === undefined) return [this.whole];
    return [before, cursor]
      .filter(({ visible }) => visible)
      .flatMap((one) => intersection(one, this.whole) ?? []);
  }

  async #until(isSo: () => boolean): Promise<void> {
    while (!isSo() && !this.#isOver) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
