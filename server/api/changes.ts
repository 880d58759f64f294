/**
 * What changes on a display, as server-sent events. A reader that does not read costs one set of tiles: it gets the
 * union of what it has missed.
 */
import type { CursorState } from '../displays/cursor.ts';
import { union } from '../displays/rects.ts';
import type { Change } from '../displays/viewing/messages.ts';
import { TileSet } from '../displays/viewing/tiles.ts';
import type { Viewing } from '../displays/viewing/viewing.ts';
import { MAX_CHANGE_RECTS } from './limits.ts';

export interface ChangeStreamOptions {
  readonly display: number;
  /** Between two events at least. */
  readonly intervalMs: number;
  /** Ends the stream. */
  readonly signal: AbortSignal;
  /** Called when it has ended, by whomever. */
  readonly onEnd: () => void;
}

/** Comments go out so often when there is nothing else, so that either end notices that the other one is gone. */
const HEARTBEAT_MS = 15_000;

/** Begins with an event for the whole picture. @throws ViewingError for a display that is not there */
export async function changeStream(
  viewing: Pick<Viewing, 'follow' | 'hash'>,
  { display, intervalMs, signal, onEnd }: ChangeStreamOptions,
): Promise<ReadableStream<Uint8Array>> {
  const missed = new Missed();
  let wake = () => {};
  const stop = await viewing.follow(display, (change) => {
    missed.note(change);
    wake();
  });
  const end = () => {
    stop();
    onEnd();
    wake();
  };
  const { version, width, height } = await viewing
    .hash(display, { cursor: false, region: { x: 0, y: 0, width: 1, height: 1 } })
    .catch((error) => {
      stop();
      throw error;
    });
  missed.noteAll(version, width, height);

  let isOver = false;
  let lastMs = Number.NEGATIVE_INFINITY;
  /** Resolves after `ms`, or when `wake` is called. */
  const rest = (ms: number) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  const encoder = new TextEncoder();
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        const close = () => {
          if (isOver) return;
          isOver = true;
          end();
          controller.close();
        };
        if (signal.aborted) close();
        else signal.addEventListener('abort', close, { once: true });
      },
      // Called when the reader has room for one more.
      async pull(controller) {
        while (!isOver && performance.now() - lastMs < intervalMs) {
          await rest(intervalMs - (performance.now() - lastMs));
        }
        if (!isOver && !missed.isAny) await rest(HEARTBEAT_MS);
        if (isOver) return;
        const change = missed.take();
        lastMs = performance.now();
        controller.enqueue(encoder.encode(change === undefined ? ': still here\n\n' : eventOf(change)));
      },
      cancel() {
        isOver = true;
        end();
      },
    },
    { highWaterMark: 0 },
  );
}

type Told = Omit<Change, 'display'>;

const eventOf = (change: Told) => `id: ${change.version}\nevent: change\ndata: ${JSON.stringify(change)}\n\n`;

/** The union of changes that nobody has been told of. */
class Missed {
  #tiles = new TileSet(0, 0);
  #version = 0;
  #cursor: CursorState | undefined;
  #isAny = false;

  get isAny(): boolean {
    return this.#isAny;
  }

  note({ version, width, height, rects, cursor }: Change): void {
    this.#resize(width, height);
    for (const rect of rects) this.#tiles.add(rect);
    this.#cursor = cursor ?? this.#cursor;
    this.#version = version;
    this.#isAny = true;
  }

  noteAll(version: number, width: number, height: number): void {
    this.#resize(width, height);
    this.#tiles.addAll();
    this.#version = Math.max(this.#version, version);
    this.#isAny = true;
  }

  take(): Told | undefined {
    if (!this.#isAny) return undefined;
    this.#isAny = false;
    const { width, height } = this.#tiles;
    const rects = this.#tiles.rects();
    const cursor = this.#cursor;
    this.#cursor = undefined;
    this.#tiles = new TileSet(width, height);
    return {
      version: this.#version,
      width,
      height,
      rects: rects.length > MAX_CHANGE_RECTS ? [rects.reduce(union)] : rects,
      ...(cursor ? { cursor } : {}),
    };
  }

  #resize(width: number, height: number): void {
    if (this.#tiles.width === width && this.#tiles.height === height) return;
    this.#tiles = new TileSet(width, height);
    this.#tiles.addAll();
  }
}
