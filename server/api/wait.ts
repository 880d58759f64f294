/**
 * Waiting for a display: until it is still, until a part changes, or until a part shows what is known. What is compared
 * are hashes of pixels, so that it counts what is different and not what was drawn.
 */
import type { Rect } from '../displays/display.ts';
import { intersection } from '../displays/rects.ts';
import { ViewingError } from '../displays/viewing/error.ts';
import type { Change, PixelsHash } from '../displays/viewing/messages.ts';
import type { Viewing } from '../displays/viewing/viewing.ts';
import { Problem } from './problem.ts';

export interface WaitOptions {
  readonly until: 'stable' | 'change' | 'match';
  /** All of the picture by default. */
  readonly region: Rect | undefined;
  /** For `stable`. */
  readonly quietMs: number;
  /** What to match; or what it is to change from: what is there now, by default. */
  readonly hash?: string | undefined;
  readonly timeoutMs: number;
}

export interface WaitResult {
  readonly reason: 'stable' | 'change' | 'match';
  readonly hash: string;
  readonly version: number;
  readonly waitedMs: number;
}

/** However much changes, it is looked at this often at most, and for a tenth of the time: others look too. */
const MIN_LOOK_INTERVAL_MS = 30;
const LOOKS_TO_REST = 9;

/**
 * Resolves when it has come to pass.
 *
 * @throws Problem `timeout` when it has not in time
 * @throws ViewingError for a display or a region that is not there
 */
export async function waitFor(
  viewing: Pick<Viewing, 'follow' | 'hash'>,
  display: number,
  options: WaitOptions,
  signal: AbortSignal,
): Promise<WaitResult> {
  signal.throwIfAborted();
  const { until, region, quietMs, timeoutMs } = options;
  const startMs = performance.now();
  const news = new News(region, signal);
  const stop = await viewing.follow(display, (change) => news.note(change));
  try {
    const stillness = new Stillness();
    let baseline = options.hash;
    let seen = await viewing.hash(display, { cursor: false, region });
    for (let lookedMs = startMs; ; ) {
      baseline ??= seen.hash;
      stillness.note(seen.hash, performance.now());
      const isDone = {
        stable: stillness.lasts(performance.now()) >= quietMs && seen.hash !== NOT_THERE,
        change: seen.hash !== baseline,
        match: seen.hash === baseline,
      }[until];
      const waitedMs = Math.round(performance.now() - startMs);
      if (isDone) return { reason: until, hash: seen.hash, version: seen.version, waitedMs };
      if (waitedMs >= timeoutMs) throw new Problem(408, 'timeout', `no ${until} within ${timeoutMs} ms`);
      const restMs = Math.max(MIN_LOOK_INTERVAL_MS, LOOKS_TO_REST * (performance.now() - lookedMs));
      const leftMs = timeoutMs - waitedMs;
      const quietLeftMs = quietMs - stillness.lasts(performance.now());
      await pause(Math.min(restMs, leftMs), signal);
      await news.within(Math.min(leftMs, until === 'stable' ? quietLeftMs : leftMs) - restMs);
      signal.throwIfAborted();
      lookedMs = performance.now();
      seen = await look(viewing, display, region);
    }
  } finally {
    stop();
  }
}

/** The hash of a region that was in the picture before and is not any more. */
const NOT_THERE = '';

async function look(
  viewing: Pick<Viewing, 'hash'>,
  display: number,
  region: Rect | undefined,
): Promise<PixelsHash> {
  try {
    return await viewing.hash(display, { cursor: false, region });
  } catch (error) {
    if (!(error instanceof ViewingError) || error.code !== 'bad_request') throw error;
    return { hash: NOT_THERE, version: 0, width: 0, height: 0 };
  }
}

/** Resolves after `ms`, or when the signal is aborted. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, signal.aborted ? 0 : ms);
    signal.addEventListener('abort', end);
  });
}

/** Whether anything may have changed in a region. */
class News {
  readonly #region: Rect | undefined;
  #size = '';
  #isNew = false;
  #wake = () => {};

  constructor(region: Rect | undefined, signal: AbortSignal) {
    this.#region = region;
    const end = () => {
      this.#isNew = true;
      this.#wake();
    };
    signal.addEventListener('abort', end, { once: true });
  }

  note({ width, height, rects }: Change): void {
    const size = `${width}x${height}`;
    const region = this.#region;
    const isTouched = rects.some((rect) => region === undefined || intersection(rect, region));
    if (!isTouched && this.#size === size) return;
    this.#size = size;
    this.#isNew = true;
    this.#wake();
  }

  /** Resolves when something is new since the last time, or after `ms`, or when the signal is aborted. */
  async within(ms: number): Promise<void> {
    if (!this.#isNew && ms > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, ms);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#isNew = false;
  }
}

/** How long a picture has been still. What blinks between two pictures, as a text cursor does, is still. */
export class Stillness {
  /** The hashes of the last two pictures, the latest first. */
  #last: readonly string[] = [];
  #sinceMs = 0;

  note(hash: string, nowMs: number): void {
    if (!this.#last.includes(hash)) this.#sinceMs = nowMs;
    const other = this.#last.find((one) => one !== hash);
    this.#last = other === undefined ? [hash] : [hash, other];
  }

  lasts(nowMs: number): number {
    return nowMs - this.#sinceMs;
  }
}
