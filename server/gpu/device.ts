/** The virtio-gpu device: features, configuration, and the driver's session. */
import {
  type DriverSession,
  fromLittleEndian,
  type GuestMemory,
  pump,
  type VirtioDevice,
  type WorkBudget,
} from '../../pci/index.ts';
import type { Display } from '../displays/display.ts';
import { type Log, RateLimitedLog } from '../log.ts';
import { viewOf } from '../wire.ts';
import { Contexts } from './contexts.ts';
import type { Backend2d } from './contracts/backend2d.ts';
import type { Component } from './contracts/context.ts';
import type { Counters } from './contracts/counters.ts';
import type { Exports } from './contracts/exports.ts';
import type { WindowMemory } from './contracts/window-memory.ts';
import { DisplayEvents } from './display-events.ts';
import type { GpuFault } from './fault.ts';
import { Fences } from './fences.ts';
import type { GuestContext } from './guest-context.ts';
import {
  type GpuLimits,
  HOST_VISIBLE_SIZE,
  type LimitOption,
  MAX_BLOB_MEMORY,
  MAX_RESOURCE_MEMORY,
} from './limits.ts';
import {
  COMMAND_NAMES,
  CONFIG_BYTES_WITHOUT_BLOB_ALIGNMENT,
  CONFIG_EVENTS_CLEAR,
  CONTROL_QUEUE,
  CURSOR_QUEUE,
  gpuConfig,
  RESPONSE_NAMES,
  VIRTIO_GPU_F_BLOB_ALIGNMENT,
  VIRTIO_GPU_F_CONTEXT_INIT,
  VIRTIO_GPU_F_EDID,
  VIRTIO_GPU_F_RESOURCE_BLOB,
  VIRTIO_GPU_F_RESOURCE_UUID,
  VIRTIO_GPU_F_VIRGL,
  VIRTIO_GPU_MAX_SCANOUTS,
  VIRTIO_ID_GPU,
} from './protocol.ts';
import { answerCursor, type PumpObserver, runControl } from './queues.ts';
import { Quota } from './quota.ts';
import { type Resource, Resources } from './resources.ts';
import { Scanouts } from './scanouts.ts';
import type { GpuState } from './state.ts';
import { Window } from './window.ts';

const configBytes = new Uint8Array(gpuConfig.size);
const configView = viewOf(configBytes);
/** A program of the guest that waits for something to come holds a slot, so there are more of them than contexts. */
const CONTROL_QUEUE_SIZE = 512;
const CURSOR_QUEUE_SIZE = 64;

export interface GpuOptions {
  readonly memory: GuestMemory;
  readonly backend: Backend2d;
  readonly displays: readonly Display[];
  readonly limits: GpuLimits;
  readonly log: Log;
  /** The memory of the host-visible window, where there is one. */
  readonly window?: WindowMemory;
  /** How contexts hand memory to processes of the host. */
  readonly exports?: Exports;
  /** Kinds of contexts. With any, guests are offered contexts, and use 2D resources for what they draw themselves. */
  readonly components?: readonly Component[];
  /** Offered to drivers when sizes and offsets of blobs must be multiples of more than guests assume. */
  readonly blobAlignmentBytes?: number;
}

/** What a device has done since it was made, and what it holds; plain numbers. */
export interface GpuCounters {
  /** Requests by command, then by response. */
  readonly commands: Map<string, Map<string, number>>;
  /** Guest bytes copied into host images, and out of what is shown for viewers. */
  readonly copiedBytes: { readonly transfers: number; readonly flushes: number };
  readonly resources: number;
  readonly resourceKinds: Record<Resource['kind'], number>;
  /** Charged for pixels of 2D resources and of blobs that displays show. */
  readonly resourceBytes: number;
  readonly memoryEntries: number;
  readonly contexts: number;
  /** What the contexts that there are have done. */
  readonly contextCounters: readonly {
    readonly context: number;
    readonly name: string;
    readonly counters: Counters;
  }[];
  /** What all contexts there ever were have done, by component. */
  readonly componentCounters: Readonly<Record<string, Counters>>;
  /** Sizes of blobs of contexts, with pages or not. */
  readonly blobBytes: number;
  /** Charged for what processes of the host have of them. */
  readonly exportedBytes: number;
  /** Requests that were refused because a limit was reached, by the option that sets it. */
  readonly refusals: Readonly<Record<LimitOption, number>>;
  /** Contexts that were ended because their blobs had too many pages. */
  readonly contextsEnded: number;
  /** Requests that are not answered yet. */
  readonly waiting: number;
}

const bits = (...numbers: readonly number[]) =>
  numbers.reduce((features, number) => features | (1n << BigInt(number)), 0n);

export class GpuDevice implements VirtioDevice {
  readonly virtioId = VIRTIO_ID_GPU;
  readonly features: bigint;
  readonly queueSizes = [CONTROL_QUEUE_SIZE, CURSOR_QUEUE_SIZE];
  readonly configLengthBytes: number;
  configGeneration = 0;
  readonly #log: RateLimitedLog;
  readonly #state: GpuState;
  readonly #commands = new Map<string, Map<string, number>>();
  readonly #observer: PumpObserver;
  readonly #fences = new Fences(() => this.#session?.wake(CONTROL_QUEUE));
  readonly #pixels: Quota;
  readonly #exported: Quota;
  readonly #refusals: Record<LimitOption, number> = { [MAX_RESOURCE_MEMORY]: 0, [MAX_BLOB_MEMORY]: 0 };
  #contextsEnded = 0;
  #session: DriverSession | undefined;
  #notify: () => void = () => {};

  constructor(options: GpuOptions) {
    const { memory, backend, displays, limits, log, components = [], blobAlignmentBytes = 0 } = options;
    if (displays.length < 1 || displays.length > VIRTIO_GPU_MAX_SCANOUTS) {
      throw new Error(`${displays.length} displays: there must be 1 to ${VIRTIO_GPU_MAX_SCANOUTS}`);
    }
    this.features =
      bits(VIRTIO_GPU_F_EDID, VIRTIO_GPU_F_RESOURCE_UUID, VIRTIO_GPU_F_RESOURCE_BLOB) |
      (components.length > 0 ? bits(VIRTIO_GPU_F_VIRGL, VIRTIO_GPU_F_CONTEXT_INIT) : 0n) |
      (blobAlignmentBytes > 0 ? bits(VIRTIO_GPU_F_BLOB_ALIGNMENT) : 0n);
    this.configLengthBytes = blobAlignmentBytes > 0 ? gpuConfig.size : CONFIG_BYTES_WITHOUT_BLOB_ALIGNMENT;
    this.#log = new RateLimitedLog(log);
    this.#pixels = new Quota(limits.maxResourceBytes, MAX_RESOURCE_MEMORY);
    this.#exported = new Quota(limits.maxBlobBytes, MAX_BLOB_MEMORY);
    const window =
      options.window &&
      new Window(options.window, {
        maxBytes: limits.maxBlobBytes,
        onOverrun: (owner, bytes) => this.#endOf(owner, bytes),
        onFull: (mappedBytes) =>
          this.#log.write(
            'info',
            'full',
            { mappedBytes, option: HOST_VISIBLE_SIZE },
            'the window has no room for another blob as large as the last one: the driver of the guest will refuse it',
          ),
      });
    this.#state = {
      memory,
      backend,
      limits,
      window,
      blobAlignmentBytes,
      resources: new Resources(limits, backend, this.#pixels),
      scanouts: new Scanouts({ displays, backend, window, pixels: this.#pixels }),
      contexts: new Contexts({
        memories: { memory, window, exports: options.exports, exported: this.#exported },
        limits,
        components,
      }),
      events: new DisplayEvents(),
      copiedBytes: { transfers: 0, flushes: 0 },
      features: 0,
    };
    this.#observer = {
      command: (type, response) => this.#count(type, response),
      refused: (type, fault) => this.#noteRefusal(type, fault),
    };
  }

  get counters(): GpuCounters {
    const { resources, contexts, copiedBytes } = this.#state;
    return {
      commands: this.#commands,
      copiedBytes,
      resources: resources.count,
      resourceKinds: resources.counts,
      resourceBytes: this.#pixels.usedBytes,
      memoryEntries: resources.entries,
      contexts: contexts.count,
      contextCounters: [...contexts.all].map(({ id, name, context }) => ({
        context: id,
        name,
        counters: context.counters,
      })),
      componentCounters: contexts.counters,
      blobBytes: contexts.blobBytes,
      exportedBytes: this.#exported.usedBytes,
      refusals: this.#refusals,
      contextsEnded: this.#contextsEnded,
      waiting: this.#fences.waiting,
    };
  }

  /** Undefined where there is none. */
  get window(): Window | undefined {
    return this.#state.window;
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
      numCapsets: this.#state.contexts.components.length,
      blobAlignment: this.#state.blobAlignmentBytes,
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
    this.#state.features = Number(session.features & 0xffff_ffffn);
  }

  /** The cursor goes first: it is what the user's hand follows. */
  run(pending: number, budget: WorkBudget): number {
    const cursor = this.#session?.queues[CURSOR_QUEUE];
    if (cursor && pending & (1 << CURSOR_QUEUE)) {
      const empty = pump(cursor, budget, (chain) =>
        cursor.complete(chain, answerCursor(this.#state, chain, this.#observer)),
      );
      if (!empty) return pending;
    }
    const control = this.#session?.queues[CONTROL_QUEUE];
    if (control && pending & (1 << CONTROL_QUEUE)) {
      this.#fences.answerReady();
      const empty = pump(control, budget, (chain) =>
        runControl(this.#state, this.#fences, control, chain, this.#observer),
      );
      if (!empty) return 1 << CONTROL_QUEUE;
    }
    return 0;
  }

  reset(): void {
    const { scanouts, contexts, resources, window, events } = this.#state;
    this.#session = undefined;
    this.#state.features = 0;
    this.#fences.clear();
    scanouts.clear();
    contexts.clear();
    for (const resource of [...resources.all]) {
      resources.remove(resource);
      if (resource.kind === 'host3d') resource.blob.close();
    }
    window?.reset();
    events.reset();
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

  /** The guest has filled more than it may: whoever has the most does not go on. */
  #endOf(context: GuestContext, bytes: number): void {
    this.#contextsEnded++;
    this.#log.write(
      'warn',
      'overrun',
      { contextId: context.id, bytes, option: MAX_BLOB_MEMORY },
      'blobs have more memory than they may: the context that has the most has ended',
    );
    this.#state.contexts.end(context, 'its buffers have more memory than they may');
  }

  #noteRefusal(type: number, fault: GpuFault): void {
    const command = COMMAND_NAMES[type] ?? 'unknown';
    const fields = { command, code: RESPONSE_NAMES[fault.code], reason: fault.message };
    const { option } = fault;
    if (option) this.#refusals[option]++;
    if (fault.cause)
      this.#log.write('warn', `${command} failed`, { ...fields, err: fault.cause }, 'the host failed');
    else if (option)
      this.#log.write('warn', option, { ...fields, option }, 'a limit is reached: the guest was refused');
    else this.#log.write('debug', command, fields, 'guest request refused');
  }
}
