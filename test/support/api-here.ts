/** The control API on a socket, with screens that a test paints and a guest that notes what is typed and pointed at. */
import { mkdtempSync, rmSync } from 'node:fs';
import { type IncomingHttpHeaders, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Api, serveApi } from '../../server/api/server.ts';
import type { Screen } from '../../server/displays/screen.ts';
import { Viewing } from '../../server/displays/viewing/viewing.ts';
import { GpuServer } from '../../server/gpu-server.ts';
import type { InputDevice } from '../../server/input/device.ts';
import { KeyboardDevice } from '../../server/input/keyboard.ts';
import { Seat } from '../../server/input/seat.ts';
import { TabletDevice } from '../../server/input/tablet.ts';
import { TouchDevice } from '../../server/input/touch.ts';
import { SILENT_LOG } from '../../server/log.ts';
import { InputMachine } from './input-machine.ts';
import { viewingHere } from './viewing.ts';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly type: string;
  readonly body: Buffer;
  readonly json: unknown;
}

export interface AskOptions {
  readonly type?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Hangs up. */
  readonly signal?: AbortSignal;
}

/** One request over a socket. */
export function askSocket(
  socketPath: string,
  method: string,
  path: string,
  body?: string | object,
  { type = 'application/json', headers = {}, signal }: AskOptions = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
    const sent = request(
      {
        socketPath,
        method,
        path,
        headers: { ...(text === undefined ? {} : { 'Content-Type': type }), ...headers },
        ...(signal ? { signal } : {}),
      },
      (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.on('error', reject);
        response.on('end', () => {
          const body = Buffer.concat(parts);
          const type = response.headers['content-type'] ?? '';
          const json = type.startsWith('application/json') ? JSON.parse(body.toString()) : undefined;
          resolve({ status: response.statusCode ?? 0, headers: response.headers, type, body, json });
        });
      },
    );
    sent.on('error', reject);
    sent.end(text);
  });
}

const SYN = '0 0 0';

/** A device whose guest takes events as they come, and gives the buffers back. */
export class TakingGuest<D extends InputDevice> {
  readonly machine: InputMachine<D>;
  /** Lines of type, code and value. */
  readonly taken: string[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor(device: D) {
    this.machine = new InputMachine(device);
    this.#timer = setInterval(() => this.#take(), 1);
  }

  bringUp(): this {
    this.machine.bringUp();
    return this;
  }

  /** What has been taken since the last call. */
  takeAll(): string[] {
    return this.taken.splice(0);
  }

  /** Keys and buttons that are down, by code. */
  get held(): number[] {
    const held = new Set<number>();
    for (const line of this.taken) {
      const [type, code, value] = line.split(' ').map(Number) as [number, number, number];
      if (type !== 1) continue;
      if (value === 1) held.add(code);
      else held.delete(code);
    }
    return [...held];
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #take(): void {
    if (!this.machine.device.hasDriver) return;
    for (const line of this.machine.takeAndReturn()) {
      // As Linux does: a report of nothing is none.
      if (line !== SYN || (this.taken.length > 0 && this.taken.at(-1) !== SYN)) this.taken.push(line);
    }
  }
}

export interface ApiHereOptions {
  readonly displays?: readonly { readonly width: number; readonly height: number }[];
  readonly keyboard?: TakingGuest<KeyboardDevice> | undefined;
  readonly tablet?: TakingGuest<TabletDevice> | undefined;
  readonly touch?: TakingGuest<TouchDevice> | undefined;
}

/** What an API of this process has behind it. Close it. */
export class ApiHere implements AsyncDisposable {
  readonly socketPath: string;
  readonly screens: readonly Screen[];
  readonly keyboard: TakingGuest<KeyboardDevice> | undefined;
  readonly tablet: TakingGuest<TabletDevice> | undefined;
  readonly touch: TakingGuest<TouchDevice> | undefined;
  readonly seat: Seat;
  readonly viewing: Viewing;
  readonly #folder: string;
  readonly #gpu: GpuServer;
  #api: Api | undefined;

  /** Use `apiHere`. */
  constructor({ displays = [{ width: 640, height: 480 }], keyboard, tablet, touch }: ApiHereOptions) {
    this.#folder = mkdtempSync(join(tmpdir(), 'api-'));
    this.socketPath = join(this.#folder, 'api.sock');
    this.keyboard = keyboard;
    this.tablet = tablet;
    this.touch = touch;
    this.#gpu = new GpuServer({
      socketPath: join(this.#folder, 'gpu.sock'),
      displays: displays.map((size) => ({ ...size, refreshHz: 60 })),
    });
    this.screens = this.#gpu.screens;
    this.seat = new Seat({
      keyboard: keyboard?.machine.device,
      tablet: tablet?.machine.device,
      touch: touch?.machine.device,
      displays: () => this.screens.map(({ picture, mode }) => picture ?? mode),
    });
    this.viewing = new Viewing({
      screens: this.screens,
      log: SILENT_LOG,
      start: () => viewingHere(displays.length),
    });
  }

  async listen(): Promise<void> {
    this.#api = await serveApi({
      socketPath: this.socketPath,
      version: '1.2.3',
      screens: this.screens,
      viewing: this.viewing,
      input: { seat: this.seat, layout: 'us' },
      info: () => ({
        ...this.#gpu.info('1.2.3'),
        input: { leds: this.seat.leds ?? null, clients: [...this.seat.clients], devices: [] },
      }),
      metricsSource: () => ({ ...this.#gpu.metrics(), inputs: [] }),
    });
  }

  ask(method: string, path: string, body?: string | object, options?: AskOptions): Promise<Answer> {
    return askSocket(this.socketPath, method, path, body, options);
  }

  /** The API leaves; what is behind it stays. */
  async stopListening(): Promise<void> {
    await this.#api?.close();
    this.#api = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopListening();
    await this.viewing.close();
    this.keyboard?.close();
    this.tablet?.close();
    this.touch?.close();
    this.#gpu.close();
    rmSync(this.#folder, { recursive: true });
  }
}

export async function apiHere(options: ApiHereOptions = {}): Promise<ApiHere> {
  const here = new ApiHere(options);
  await here.listen();
  return here;
}

/** An API with a keyboard, a tablet and a touch screen, and a guest that listens to all. */
export function apiWithInput(options: ApiHereOptions = {}): Promise<ApiHere> {
  return apiHere({
    keyboard: new TakingGuest(new KeyboardDevice(SILENT_LOG)).bringUp(),
    tablet: new TakingGuest(new TabletDevice(SILENT_LOG)).bringUp(),
    touch: new TakingGuest(new TouchDevice(SILENT_LOG)).bringUp(),
    ...options,
  });
}
