/**
 * The device thread's end of the viewing thread: tells it what screens show, does what viewers ask, and lets programs
 * look. The thread is started when it is first needed.
 */
import { openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { Log } from '../../log.ts';
import type { Address } from '../../sockets.ts';
import type { Rect } from '../display.ts';
import type { Screen, Viewer } from '../screen.ts';
import { ViewingError } from './error.ts';
import { FrameLock } from './frame-lock.ts';
import type {
  Answers,
  Calls,
  Capture,
  CaptureOptions,
  Change,
  DisplaySummary,
  FrameInfo,
  FromViewing,
  InputEvent,
  InputNews,
  ListenOptions,
  PartOptions,
  PixelsHash,
  Port,
  ToViewing,
  ViewerCounters,
} from './messages.ts';
import { SharedDamage } from './tiles.ts';

/** Where the keys and pointers of viewers go. */
export interface InputSink {
  readonly news: InputNews;
  /** Tells of every change of `news`. */
  onNews(listener: () => void): () => void;
  open(name: string): InputSinkClient;
}

export interface InputSinkClient {
  /** Resolves when there is room for more. */
  take(events: readonly InputEvent[]): Promise<void>;
  close(): void;
}

export interface ViewingOptions {
  readonly screens: readonly Screen[];
  readonly log: Log;
  /** Without one, viewers can only look. */
  readonly input?: InputSink;
  /** Starts the other end; a worker by default. */
  readonly start?: () => Thread;
}

/** After a failure: not at once, so that one that comes back at every start does not keep a processor busy. */
const RESTART_MS = 1000;
/** A thread that has not left by then is ended. */
const CLOSE_MS = 3000;

const leaving = () => new ViewingError('closed', 'the server is leaving');

type ThreadPort = Port<FromViewing, ToViewing>;

/** Something that runs a `ViewingThread`. */
export interface Thread {
  readonly port: ThreadPort;
  onFailure(listener: (error: Error) => void): void;
  terminate(): Promise<unknown>;
}

interface Pending {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export class Viewing {
  readonly #options: ViewingOptions;
  readonly #feeds: ScreenFeed[];
  readonly #pending = new Map<number, Pending>();
  readonly #clients = new Map<number, InputSinkClient>();
  /** What each of them does, one thing after the other. */
  readonly #doing = new Map<InputSinkClient, Promise<void>>();
  /** One piece of news is on its way at a time. */
  #inputNews: 'told' | 'on its way' | 'stale' = 'told';
  readonly #listeners = new Map<number, Set<(change: Change) => void>>();
  #thread: Thread | undefined;
  #stopInputNews: (() => void) | undefined;
  /** Where viewers connect, with the ports that were found. */
  readonly #addresses: ListenOptions[] = [];
  #restart: NodeJS.Timeout | undefined;
  #nextId = 1;
  #closed: (() => void) | undefined;
  #isClosing = false;

  constructor(options: ViewingOptions) {
    this.#options = options;
    this.#feeds = options.screens.map((screen) => new ScreenFeed(screen, (message) => this.#post(message)));
  }

  /** Takes a picture. @throws ViewingError for a display or a part that is not there */
  async capture(display: number, options: CaptureOptions): Promise<Capture> {
    await this.#feeds[display]?.tellAll();
    return await this.#call('capture', { display, options });
  }

  /** The hash of a part of a display. @throws ViewingError as `capture` does */
  async hash(display: number, options: PartOptions): Promise<PixelsHash> {
    await this.#feeds[display]?.tellAll();
    return await this.#call('hash', { display, options });
  }

  /** Opens a socket for viewers. Resolves with its address. @throws ViewingError when it cannot be had */
  async listen(options: ListenOptions): Promise<Address> {
    const address = await this.#call('listen', options);
    this.#addresses.push({ ...options, address });
    return address;
  }

  /** Tells of what really changes on a display, until the function returned is called. Resolves when it has begun. */
  async follow(display: number, listener: (change: Change) => void): Promise<() => void> {
    const listeners = this.#listeners.get(display) ?? new Set();
    this.#listeners.set(display, listeners);
    listeners.add(listener);
    const stop = () => {
      if (!listeners.delete(listener) || listeners.size > 0 || !this.#thread) return;
      this.#call('follow', { display, on: false }).catch(() => {});
    };
    try {
      await this.#call('follow', { display, on: true });
      return stop;
    } catch (error) {
      stop();
      throw error;
    }
  }

  /** What viewers there are and were; undefined while there can be none. */
  async counters(): Promise<ViewerCounters | undefined> {
    return this.#thread && (await this.#call('counters', {}));
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    clearTimeout(this.#restart);
    const thread = this.#thread;
    if (!thread) return;
    const closed = new Promise<void>((resolve) => {
      this.#closed = resolve;
      setTimeout(resolve, CLOSE_MS).unref();
    });
    this.#post({ type: 'close' });
    await closed;
    this.#lose(leaving());
    await thread.terminate();
  }

  async #call<K extends keyof Calls>(call: K, what: Calls[K]): Promise<Answers[K]> {
    if (this.#isClosing) throw leaving();
    this.#thread ??= this.#start();
    const id = this.#nextId++;
    return await new Promise<Answers[K]>((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve as (value: unknown) => void, reject });
      this.#post({ type: 'call', id, call, with: what } as ToViewing);
    });
  }

  #post(message: ToViewing): void {
    this.#thread?.port.postMessage(message);
  }

  #start(): Thread {
    const { screens, log, input, start } = this.#options;
    const thread = start?.() ?? startWorker(screens.length);
    thread.port.on('message', (message) => this.#receive(message));
    thread.onFailure((error) => {
      if (this.#thread !== thread) return;
      log.error({ err: error }, 'viewing failed: internal error');
      this.#lose(new ViewingError('internal', 'viewing failed'));
      clearTimeout(this.#restart);
      if (!this.#isClosing) this.#restart = setTimeout(() => void this.#startAgain(), RESTART_MS);
    });
    if (input) {
      this.#inputNews = 'told';
      this.#stopInputNews = input.onNews(() => this.#tellInput(thread));
      this.#tellInput(thread);
    }
    return thread;
  }

  #tellInput({ port }: Thread): void {
    const { input } = this.#options;
    if (!input) return;
    if (this.#inputNews !== 'told') {
      this.#inputNews = 'stale';
      return;
    }
    this.#inputNews = 'on its way';
    port.postMessage({ type: 'input', news: input.news });
  }

  /** Viewers have to come back, and can; programs that follow a display go on. */
  async #startAgain(): Promise<void> {
    const followed = [...this.#listeners].filter(([, listeners]) => listeners.size > 0);
    const whole = { cursor: false, region: { x: 0, y: 0, width: 1, height: 1 } };
    const again = [
      ...this.#addresses.map((options) => this.#call('listen', options)),
      ...followed.map(async ([display, listeners]) => {
        await this.#call('follow', { display, on: true });
        const { version, width, height } = await this.hash(display, whole);
        // Whatever happened meanwhile.
        const change = { display, version, width, height, rects: [{ x: 0, y: 0, width, height }] };
        for (const listener of listeners) listener(change);
      }),
    ];
    for (const outcome of await Promise.allSettled(again)) {
      if (outcome.status === 'fulfilled') continue;
      this.#options.log.error({ err: outcome.reason }, 'viewing could not be started again');
    }
  }

  /** The thread is gone, and with it everybody who looked. */
  #lose(error: Error): void {
    this.#thread = undefined;
    this.#stopInputNews?.();
    for (const feed of this.#feeds) feed.lose();
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
    this.#closed?.();
  }

  #receive(message: FromViewing): void {
    switch (message.type) {
      case 'watch':
        if (message.on) this.#feeds[message.display]?.start();
        else this.#feeds[message.display]?.stop();
        break;
      case 'taken':
        this.#feeds[message.display]?.taken();
        break;
      case 'looked':
        this.#feeds[message.display]?.looked();
        break;
      case 'summarize':
        this.#post({ type: 'summaries', summaries: this.#options.screens.map(summarize) });
        break;
      case 'answer':
        this.#settle(message.id)?.resolve(message.value);
        break;
      case 'refusal':
        this.#settle(message.id)?.reject(new ViewingError(message.code, message.message));
        break;
      case 'changed':
        for (const listener of this.#listeners.get(message.change.display) ?? []) listener(message.change);
        break;
      case 'resize':
        this.#resize(message.display, message.width, message.height);
        break;
      case 'inputNewsTaken': {
        const isStale = this.#inputNews === 'stale';
        this.#inputNews = 'told';
        if (isStale && this.#thread) this.#tellInput(this.#thread);
        break;
      }
      case 'inputOpen': {
        const client = this.#options.input?.open(message.name);
        if (client) this.#clients.set(message.client, client);
        break;
      }
      case 'input':
        void this.#input(message.client, message.events);
        break;
      case 'inputClose': {
        const client = this.#clients.get(message.client);
        this.#clients.delete(message.client);
        if (client) void this.#do(client, async () => client.close());
        break;
      }
      case 'log':
        this.#options.log[message.level](message.fields, message.message);
        break;
      case 'closed':
        this.#closed?.();
        break;
      default:
        message satisfies never;
    }
  }

  #settle(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    return pending;
  }

  async #input(client: number, events: readonly InputEvent[]): Promise<void> {
    const sink = this.#clients.get(client);
    if (sink) await this.#do(sink, () => sink.take(events));
    this.#post({ type: 'inputTaken', client });
  }

  /** After everything that the client has done before. */
  async #do(client: InputSinkClient, step: () => Promise<void>): Promise<void> {
    const done = (this.#doing.get(client) ?? Promise.resolve()).then(step);
    this.#doing.set(client, done);
    await done;
    if (this.#doing.get(client) === done) this.#doing.delete(client);
  }

  /** A size that no EDID can describe is the viewer's mistake, and nothing happens. */
  #resize(display: number, width: number, height: number): void {
    const screen = this.#options.screens[display];
    if (!screen) return;
    try {
      screen.setMode({ ...screen.mode, width, height });
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }
}

/** Tells the thread about one screen: one piece of news at a time, the next when that was taken. */
class ScreenFeed implements Viewer {
  readonly #screen: Screen;
  readonly #post: (message: ToViewing) => void;
  #leave: (() => void) | undefined;
  #damage: SharedDamage | undefined;
  #lock: FrameLock | undefined;
  #onItsWay = 0;
  #isNews = false;
  #isFrameNew = false;
  #isCursorImageNew = false;

  constructor(screen: Screen, post: (message: ToViewing) => void) {
    this.#screen = screen;
    this.#post = post;
  }

  start(): void {
    this.#leave ??= this.#screen.watch(this);
    this.#isCursorImageNew = true;
    this.replaced();
  }

  stop(): void {
    this.#leave?.();
    this.#leave = undefined;
    this.#isNews = false;
  }

  /** Nobody will say that anything was taken. */
  lose(): void {
    this.stop();
    this.#onItsWay = 0;
    this.#lock = undefined;
  }

  taken(): void {
    this.#onItsWay = Math.max(0, this.#onItsWay - 1);
    if (this.#isNews && this.#onItsWay === 0) this.#tell();
  }

  beginChange(): boolean {
    return this.#lock?.beginCopy() ?? true;
  }

  endChange(): void {
    this.#lock?.endCopy();
  }

  /** Nobody looks at the frame any more. */
  looked(): void {
    this.#screen.catchUp();
  }

  /** What a call that follows asks for has to have all news, whatever is on its way, and all that was flushed. */
  async tellAll(): Promise<void> {
    // A look takes a millisecond or two.
    while (this.#screen.isLate) {
      await sleep(1);
      this.#screen.catchUp();
    }
    if (this.#isNews) this.#tell();
  }

  changed(rect: Rect): void {
    if (this.#damage?.add(rect)) this.#post({ type: 'damage' });
  }

  replaced(): void {
    this.#isFrameNew = true;
    // What changes until the frame is told of will be in it.
    this.#damage = undefined;
    this.#lock = undefined;
    this.#note();
  }

  cursorChanged(image: boolean): void {
    this.#isCursorImageNew ||= image;
    this.#note();
  }

  modeChanged(): void {
    this.#note();
  }

  #note(): void {
    this.#isNews = true;
    if (this.#onItsWay === 0) this.#tell();
  }

  #tell(): void {
    const { index, mode, cursor } = this.#screen;
    this.#onItsWay++;
    this.#isNews = false;
    const news = {
      display: index,
      mode,
      cursor,
      ...(this.#isFrameNew ? { frame: this.#frame() } : {}),
      ...(this.#isCursorImageNew ? { cursorImage: this.#screen.cursorImage() } : {}),
    };
    this.#isFrameNew = false;
    this.#isCursorImageNew = false;
    this.#post({ type: 'display', news });
  }

  #frame(): FrameInfo | null {
    const { frame } = this.#screen;
    if (!frame) return null;
    const { width, height, strideBytes, order } = frame;
    let fd: number;
    try {
      fd = openSync(`/proc/self/fd/${frame.fd}`, 'r');
    } catch {
      // The host has no descriptors left; the guest, in the middle of whose command this is, goes on.
      return null;
    }
    this.#damage = new SharedDamage(width, height);
    this.#lock = new FrameLock();
    const [damage, lock] = [this.#damage.buffer, this.#lock.buffer];
    return { fd, width, height, strideBytes, order, damage, lock };
  }
}

function summarize({ index, mode, picture }: Screen): DisplaySummary {
  const { width, height } = picture ?? mode;
  return { display: index, mode, isShowing: picture !== undefined, width, height };
}

/** This file's neighbour, as a worker; in a checkout that is TypeScript, which a worker can run where its parent can. */
function startWorker(displays: number): Thread {
  const file = import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js';
  const worker = new Worker(new URL(file, import.meta.url), {
    workerData: { displays },
    // It closes descriptors that this thread has opened for it.
    trackUnmanagedFds: false,
  });
  return {
    port: worker,
    onFailure: (listener) => {
      worker.on('error', (error) => listener(error as Error));
    },
    terminate: () => worker.terminate(),
  };
}
