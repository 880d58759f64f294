/**
 * The viewing thread: everything that has to do with people and programs that look at displays happens here, so that
 * none of them can delay the device. It keeps a canvas per display, encodes, and talks to viewers; the device thread
 * tells it what has been flushed, and does what viewers ask of the guest.
 */
import { closeSync } from 'node:fs';
import { codeOfScancode } from '../../input/keys.ts';
import { strokeForKeysym } from '../../input/keysyms.ts';
import type { Log } from '../../log.ts';
import type { Address } from '../../sockets.ts';
import type { CursorState } from '../cursor.ts';
import type { Rect } from '../display.ts';
import { Canvas } from './canvas.ts';
import { ViewingError } from './error.ts';
import type { Follower } from './follower.ts';
import type {
  Answers,
  Calls,
  DisplaySummary,
  FromViewing,
  InputEvent,
  InputNews,
  ListenOptions,
  Port,
  ToViewing,
  ViewerCounters,
} from './messages.ts';
import { capture, hash } from './picture.ts';
import type { InputClient, KeyboardKnowledge, Listener, Listeners, Stage } from './stage.ts';

/** Canvases look at what was flushed at most this often: faster than any viewer, and not as often as a guest can flush. */
const MIN_LOOK_INTERVAL_MS = 1000 / 120;
/** A display that nobody looks at any more is followed a little longer: who takes one picture often takes another. */
const UNWATCH_AFTER_MS = 5000;
/** What one viewer may have told us that the device thread has not taken yet. */
const MAX_WAITING_EVENTS = 256;

interface Watched {
  canvas: Canvas | undefined;
  /** How many look, or are about to. */
  count: number;
  /** Called when the first news are there. */
  waiting: ((canvas: Canvas) => void)[];
  unwatch: NodeJS.Timeout | undefined;
}

export class ViewingThread implements Stage {
  readonly log: Log;
  readonly displays: number;
  readonly counters: ViewerCounters = { vnc: noViewers(), web: noViewers() };
  readonly keyboard: KeyboardKnowledge = {
    codeOfScancode,
    strokeOfKeysym: (keysym) => strokeForKeysym(keysym, this.input.keyboardLayout),
  };
  input: InputNews = {
    hasKeyboard: false,
    hasPointer: false,
    keyboardLayout: 'us',
    leds: undefined,
  };
  readonly #port: Port<ToViewing, FromViewing>;
  readonly #watched: Watched[];
  readonly #openListener: Listeners;
  readonly #listeners: Listener[] = [];
  readonly #inputListeners = new Set<() => void>();
  readonly #clients = new Map<number, WaitingInput>();
  readonly #follows = new Map<number, Promise<() => void>>();
  /** Who waits for the summaries that were asked for. */
  readonly #summaryListeners: ((summaries: readonly DisplaySummary[]) => void)[] = [];
  readonly #calls: { [K in keyof Calls]: (what: Calls[K]) => Promise<Answers[K]> } = {
    capture: ({ display, options }) => this.#withCanvas(display, (canvas) => capture(canvas, options)),
    hash: ({ display, options }) => this.#withCanvas(display, (canvas) => hash(canvas, options)),
    follow: ({ display, on }) => this.#follow(display, on),
    listen: (options) => this.#listen(options),
    counters: async () => this.counters,
  };
  #nextClient = 1;
  #lastLookMs = 0;
  #look: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(port: Port<ToViewing, FromViewing>, displays: number, listeners: Listeners) {
    this.#port = port;
    this.#openListener = listeners;
    this.displays = displays;
    this.#watched = Array.from({ length: displays }, () => ({
      canvas: undefined,
      count: 0,
      waiting: [],
      unwatch: undefined,
    }));
    const write = (level: keyof Log) => (fields: object, message: string) =>
      port.postMessage({ type: 'log', level, fields: plain(fields), message });
    this.log = { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') };
    port.on('message', (message) => this.#receive(message));
  }

  look(display: number): Promise<{ canvas: Canvas; leave: () => void }> {
    const watched = this.#watched[display];
    if (!watched) return Promise.reject(new ViewingError('not_found', `there is no display ${display}`));
    watched.count++;
    clearTimeout(watched.unwatch);
    watched.unwatch = undefined;
    if (watched.count === 1 && !watched.canvas) this.#port.postMessage({ type: 'watch', display, on: true });
    let isLooking = true;
    const leave = () => {
      if (!isLooking) return;
      isLooking = false;
      watched.count--;
      if (watched.count > 0) return;
      watched.unwatch = setTimeout(() => this.#unwatch(display, watched), UNWATCH_AFTER_MS);
      watched.unwatch.unref();
    };
    const { canvas } = watched;
    if (canvas) {
      canvas.absorb();
      return Promise.resolve({ canvas, leave });
    }
    return new Promise((resolve) => {
      watched.waiting.push((made) => resolve({ canvas: made, leave }));
    });
  }

  summarize(): Promise<readonly DisplaySummary[]> {
    if (this.#summaryListeners.length === 0) this.#port.postMessage({ type: 'summarize' });
    return new Promise((resolve) => {
      this.#summaryListeners.push(resolve);
    });
  }

  openInput(name: string, onRoom: () => void): InputClient {
    const id = this.#nextClient++;
    const post = (events: readonly InputEvent[]) =>
      this.#port.postMessage({ type: 'input', client: id, events });
    const waiting = new WaitingInput(post, onRoom);
    this.#clients.set(id, waiting);
    this.#port.postMessage({ type: 'inputOpen', client: id, name });
    return {
      send: (event) => waiting.send(event),
      close: () => {
        if (!this.#clients.delete(id)) return;
        // Who types and leaves has typed.
        waiting.postAll();
        this.#port.postMessage({ type: 'inputClose', client: id });
      },
    };
  }

  onInputNews(listener: () => void): () => void {
    this.#inputListeners.add(listener);
    return () => this.#inputListeners.delete(listener);
  }

  resize(display: number, width: number, height: number): void {
    this.#port.postMessage({ type: 'resize', display, width, height });
  }

  #receive(message: ToViewing): void {
    switch (message.type) {
      case 'display':
        this.#update(message.news.display, message);
        break;
      case 'damage':
        this.#lookSoon();
        break;
      case 'summaries':
        for (const resolve of this.#summaryListeners.splice(0)) resolve(message.summaries);
        break;
      case 'input':
        this.#port.postMessage({ type: 'inputNewsTaken' });
        this.input = message.news;
        for (const listener of this.#inputListeners) listener();
        break;
      case 'inputTaken':
        this.#clients.get(message.client)?.taken();
        break;
      case 'call':
        void this.#answer(message.id, () => this.#calls[message.call](message.with as never));
        break;
      case 'close':
        void this.#close();
        break;
      default:
        message satisfies never;
    }
  }

  #update(display: number, { news }: Extract<ToViewing, { type: 'display' }>): void {
    const watched = this.#watched[display] as Watched;
    this.#port.postMessage({ type: 'taken', display });
    if (this.#isClosed || (watched.count === 0 && !watched.canvas)) {
      // It crossed our word that nobody looks any more.
      if (news.frame) closeSync(news.frame.fd);
      return;
    }
    // Said before the device thread heard that somebody looks again; the first of what it says then has the frame.
    if (!watched.canvas && news.frame === undefined) return;
    watched.canvas ??= new Canvas(display, news.mode, () =>
      this.#port.postMessage({ type: 'looked', display }),
    );
    watched.canvas.update(news);
    for (const resolve of watched.waiting.splice(0)) resolve(watched.canvas);
  }

  #unwatch(display: number, watched: Watched): void {
    watched.canvas?.close();
    watched.canvas = undefined;
    this.#port.postMessage({ type: 'watch', display, on: false });
  }

  /** At once when the last look was long ago, which is when a delay would be seen. */
  #lookSoon(): void {
    if (this.#look) return;
    const wait = this.#lastLookMs + MIN_LOOK_INTERVAL_MS - performance.now();
    if (wait <= 0) this.#lookNow();
    else this.#look = setTimeout(() => this.#lookNow(), wait);
  }

  #lookNow(): void {
    this.#look = undefined;
    this.#lastLookMs = performance.now();
    for (const { canvas } of this.#watched) canvas?.noticeDamage();
  }

  async #answer(id: number, call: () => Promise<unknown>): Promise<void> {
    try {
      this.#port.postMessage({ type: 'answer', id, value: await call() });
    } catch (error) {
      const { message } = error as Error;
      const code = error instanceof ViewingError ? error.code : 'internal';
      this.#port.postMessage({ type: 'refusal', id, code, message });
    }
  }

  async #withCanvas<T>(display: number, use: (canvas: Canvas) => Promise<T>): Promise<T> {
    const { canvas, leave } = await this.look(display);
    try {
      return await use(canvas);
    } finally {
      leave();
    }
  }

  /** Tells the device thread of what changes, for programs. */
  async #follow(display: number, on: boolean): Promise<undefined> {
    const followed = this.#follows.get(display);
    if (!on) {
      this.#follows.delete(display);
      (await followed)?.();
      return undefined;
    }
    if (!followed) this.#follows.set(display, this.#beginToFollow(display));
    await this.#follows.get(display);
    return undefined;
  }

  async #beginToFollow(display: number): Promise<() => void> {
    const { canvas, leave } = await this.look(display);
    const tell = (rects: readonly Rect[], cursor?: CursorState) => {
      const { version, width, height } = canvas;
      this.#port.postMessage({
        type: 'changed',
        change: { display, version, width, height, rects, ...(cursor ? { cursor } : {}) },
      });
    };
    const follower: Follower = {
      isWaiting: true,
      changed: (tiles) => tell(tiles.rects()),
      resized: () => tell([canvas.whole]),
      cursorChanged: () => tell([], canvas.cursor),
    };
    const unfollow = canvas.follow(follower);
    return () => {
      unfollow();
      leave();
    };
  }

  async #listen(options: ListenOptions): Promise<Address> {
    const listener = await this.#openListener(this, options);
    if (this.#isClosed) await listener.close();
    this.#listeners.push(listener);
    return listener.address;
  }

  async #close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#look);
    await Promise.all(this.#listeners.map((listener) => listener.close()));
    for (const { canvas, unwatch } of this.#watched) {
      clearTimeout(unwatch);
      canvas?.close();
    }
    this.#port.postMessage({ type: 'closed' });
  }
}

/** Events of one client: one batch is on its way, and the rest waits. */
class WaitingInput {
  readonly #post: (events: readonly InputEvent[]) => void;
  readonly #onRoom: () => void;
  #events: InputEvent[] = [];
  #isOnItsWay = false;

  constructor(post: (events: readonly InputEvent[]) => void, onRoom: () => void) {
    this.#post = post;
    this.#onRoom = onRoom;
  }

  send(event: InputEvent): boolean {
    this.#events.push(event);
    if (!this.#isOnItsWay) this.postAll();
    return this.#events.length < MAX_WAITING_EVENTS;
  }

  taken(): void {
    this.#isOnItsWay = false;
    if (this.#events.length === 0) return;
    const wasFull = this.#events.length >= MAX_WAITING_EVENTS;
    this.postAll();
    if (wasFull) this.#onRoom();
  }

  postAll(): void {
    if (this.#events.length === 0) return;
    this.#isOnItsWay = true;
    this.#post(this.#events);
    this.#events = [];
  }
}

const noViewers = () => ({ connected: 0, updates: 0, sentBytes: 0, refused: 0 });

/** Errors do not survive being posted as fields of a line. */
const plain = (fields: object): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [key, value instanceof Error ? value.message : value]),
  );
