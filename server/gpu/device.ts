/** The virtio-gpu device: features, configuration, and the driver's session. */
import {
  type DriverSession,
  fromLittleEndian,
  type GuestMemory,
  type VirtioDevice,
  type WorkBudget,
} from '../../pci/index.ts';
import type { Display } from '../displays/display.ts';
import { type Log, RateLimitedLog } from '../log.ts';
import { viewOf } from '../wire.ts';
import type { Backend2d } from './backend.ts';
import { DisplayEvents } from './display-events.ts';
import type { GpuState } from './execute.ts';
import type { GpuFault } from './fault.ts';
import type { GpuLimits } from './limits.ts';
import {
  COMMAND_NAMES,
  CONFIG_EVENTS_CLEAR,
  CONTROL_QUEUE,
  CURSOR_QUEUE,
  gpuConfig,
  RESPONSE_NAMES,
  VIRTIO_GPU_F_EDID,
  VIRTIO_GPU_MAX_SCANOUTS,
  VIRTIO_ID_GPU,
} from './protocol.ts';
import { answerControl, answerCursor, type PumpObserver, pump } from './queues.ts';
import { Resources } from './resources.ts';
import { Scanouts } from './scanouts.ts';

const configBytes = new Uint8Array(gpuConfig.size);
const configView = viewOf(configBytes);
const CONTROL_QUEUE_SIZE = 256;
const CURSOR_QUEUE_SIZE = 64;

export interface GpuOptions {
  readonly memory: GuestMemory;
  readonly backend: Backend2d;
  readonly displays: readonly Display[];
  readonly limits: GpuLimits;
  readonly log: Log;
  /** Called when the driver and everything it made are gone. */
  readonly onReset?: () => void;
}

/** What a device has done since it was made; plain numbers. */
export interface GpuCounters {
  /** Requests by command, then by response. */
  readonly commands: Map<string, Map<string, number>>;
  /** Guest bytes copied into host images. */
  readonly copiedBytes: number;
  readonly resources: number;
  readonly resourceBytes: number;
  readonly memoryEntries: number;
}

export class GpuDevice implements VirtioDevice {
  readonly virtioId = VIRTIO_ID_GPU;
  readonly features = 1n << BigInt(VIRTIO_GPU_F_EDID);
  readonly queueSizes = [CONTROL_QUEUE_SIZE, CURSOR_QUEUE_SIZE];
  readonly configLengthBytes = gpuConfig.size;
  configGeneration = 0;
  readonly #log: RateLimitedLog;
  readonly #state: GpuState;
  readonly #commands = new Map<string, Map<string, number>>();
  readonly #observer: PumpObserver;
  readonly #onReset: () => void;
  #session: DriverSession | undefined;
  #notify: () => void = () => {};

  constructor({ memory, backend, displays, limits, log, onReset }: GpuOptions) {
    if (displays.length < 1 || displays.length > VIRTIO_GPU_MAX_SCANOUTS) {
      throw new Error(`${displays.length} displays: there must be 1 to ${VIRTIO_GPU_MAX_SCANOUTS}`);
    }
    this.#log = new RateLimitedLog(log);
    this.#onReset = onReset ?? (() => {});
    this.#state = {
      memory,
      backend,
      limits,
      resources: new Resources(limits, backend),
      scanouts: new Scanouts(displays),
      events: new DisplayEvents(),
      copiedBytes: 0,
    };
    this.#observer = {
      command: (type, response) => this.#count(type, response),
      refused: (type, fault) => this.#noteRefusal(type, fault),
    };
  }

  get counters(): GpuCounters {
    const { resources, copiedBytes } = this.#state;
    return {
      commands: this.#commands,
      copiedBytes,
      resources: resources.count,
      resourceBytes: resources.bytes,
      memoryEntries: resources.entries,
    };
  }

  /** A display has another mode than before: the guest is told. */
  displaysChanged(): void {
    this.#state.events.change();
    this.#configChanged();
  }

  acceptsFeatures(): boolean {
    return true;
  }

  readConfig(offset: number, into: Uint8Array): void {
    gpuConfig.put(configView, 0, {
      eventsRead: this.#state.events.eventsRead,
      eventsClear: 0,
      numScanouts: this.#state.scanouts.displays.length,
      numCapsets: 0,
    });
    for (let i = 0; i < into.length; i++) into[i] = configBytes[offset + i] ?? 0;
  }

  writeConfig(offset: number, from: Uint8Array): void {
    if (offset !== CONFIG_EVENTS_CLEAR || from.length !== 4) return;
    const before = this.#state.events.eventsRead;
    const raisedAgain = this.#state.events.clear(fromLittleEndian(from));
    if (raisedAgain) this.#configChanged();
    else if (before !== this.#state.events.eventsRead) this.configGeneration++;
  }

  onConfigChange(notify: () => void): void {
    this.#notify = notify;
  }

  activate(session: DriverSession): void {
    this.#session = session;
  }

  /** The cursor goes first: it is what the user's hand follows. */
  run(pending: number, budget: WorkBudget): number {
    const cursor = this.#session?.queues[CURSOR_QUEUE];
    if (cursor && pending & (1 << CURSOR_QUEUE)) {
      const empty = pump(cursor, budget, (chain) => answerCursor(this.#state, chain, this.#observer));
      if (!empty) return pending;
    }
    const control = this.#session?.queues[CONTROL_QUEUE];
    if (control && pending & (1 << CONTROL_QUEUE)) {
      const empty = pump(control, budget, (chain) => answerControl(this.#state, chain, this.#observer));
      if (!empty) return 1 << CONTROL_QUEUE;
    }
    return 0;
  }

  reset(): void {
    this.#session = undefined;
    this.#state.scanouts.clear();
    this.#state.resources.clear();
    this.#state.events.reset();
    this.#onReset();
  }

  #configChanged(): void {
    this.configGeneration++;
    this.#notify();
  }

  #count(type: number, response: number): void {
    // Whatever a guest invents is one entry, not four billion.
    const command = COMMAND_NAMES[type] ?? 'unknown';
    const result = RESPONSE_NAMES[response] ?? 'none';
    const results = this.#commands.get(command) ?? new Map<string, number>();
    this.#commands.set(command, results);
    results.set(result, (results.get(result) ?? 0) + 1);
  }

  #noteRefusal(type: number, fault: GpuFault): void {
    const command = COMMAND_NAMES[type] ?? 'unknown';
    const fields = { command, code: RESPONSE_NAMES[fault.code], reason: fault.message };
    if (fault.cause)
      this.#log.write('warn', `${command} failed`, { ...fields, err: fault.cause }, 'the host failed');
    else this.#log.write('debug', command, fields, 'guest request refused');
  }
}
