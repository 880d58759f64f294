/** Prometheus metrics: read from the plain counters of the rooms when somebody asks, so that counting costs nothing. */
import { Counter, Gauge, Registry } from 'prom-client';
import type { ViewerCounters } from '../displays/viewing/messages.ts';

/** The numbers, taken at one moment. */
export interface MetricsSource {
  readonly commands: ReadonlyMap<string, ReadonlyMap<string, number>>;
  readonly doorbells: readonly number[];
  readonly interrupts: readonly number[];
  readonly copiedBytes: { readonly transfers: number; readonly flushes: number };
  readonly guestErrors: Readonly<Record<string, number>>;
  readonly clientMessages: Readonly<Record<string, number>>;
  readonly clientErrors: Readonly<Record<string, number>>;
  readonly queueDepths: readonly number[];
  /** By kind. */
  readonly resourceKinds: Readonly<Record<string, number>>;
  readonly resourceBytes: number;
  readonly maxResourceBytes: number;
  readonly memoryEntries: number;
  readonly contexts: number;
  readonly contextCounters: readonly {
    readonly context: number;
    readonly name: string;
    readonly counters: Readonly<Record<string, number>>;
  }[];
  readonly componentCounters: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly blobBytes: number;
  readonly maxBlobBytes: number;
  readonly exportedBytes: number;
  /** By option. */
  readonly refusals: Readonly<Record<string, number>>;
  readonly contextsEnded: number;
  readonly waiting: number;
  /** Of the host-visible window, by state. */
  readonly windowBytes: Readonly<Record<string, number>>;
  readonly dmaWindows: number;
  readonly dmaBytes: number;
  readonly clientConnected: boolean;
  readonly flushes: readonly number[];
  /** By kind; nothing while there can be none. */
  readonly viewers: Partial<ViewerCounters>;
  readonly inputs: readonly {
    readonly kind: string;
    readonly counters: Readonly<Record<string, number>>;
    /** Events that wait for buffers of the guest. */
    readonly waiting: number;
    readonly clientConnected: boolean;
  }[];
}

interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const PREFIX = 'vfio_user_gpu_';
const CONTROL_AND_CURSOR = ['control', 'cursor'];

const one = (value: number): Sample[] => [{ labels: {}, value }];
const byIndex = (label: string, values: readonly number[]): Sample[] =>
  values.map((value, index) => ({ labels: { [label]: String(index) }, value }));
const byQueue = (values: readonly number[]): Sample[] =>
  values.map((value, index) => ({ labels: { queue: CONTROL_AND_CURSOR[index] ?? String(index) }, value }));
const byKey = (label: string, values: Readonly<Record<string, number>>): Sample[] =>
  Object.entries(values).map(([key, value]) => ({ labels: { [label]: key }, value }));

/** Makes a registry whose metrics are filled from `read` at every scrape. */
export function makeRegistry(read: () => MetricsSource): Registry {
  const registry = new Registry();
  const options = (name: string, help: string, labelNames: string[]) => ({
    name: PREFIX + name,
    help,
    labelNames,
    registers: [registry],
  });
  const counter = (
    name: string,
    help: string,
    labels: string[],
    samples: (source: MetricsSource) => Sample[],
  ) =>
    new Counter({
      ...options(name, help, labels),
      collect() {
        this.reset();
        for (const { labels, value } of samples(read())) this.inc(labels, value);
      },
    });
  const gauge = (
    name: string,
    help: string,
    labels: string[],
    samples: (source: MetricsSource) => Sample[],
  ) =>
    new Gauge({
      ...options(name, help, labels),
      collect() {
        this.reset();
        for (const { labels, value } of samples(read())) this.set(labels, value);
      },
    });

  counter('commands_total', 'virtio-gpu requests by command and response', ['command', 'result'], (source) =>
    [...source.commands].flatMap(([command, results]) =>
      [...results].map(([result, value]) => ({ labels: { command, result }, value })),
    ),
  );
  counter('doorbells_total', 'Doorbells rung by the guest', ['queue'], (source) => byQueue(source.doorbells));
  counter('interrupts_total', 'Interrupts fired, by MSI-X vector', ['vector'], (source) =>
    byIndex('vector', source.interrupts),
  );
  counter(
    'copied_bytes_total',
    'Guest bytes copied: into host images by transfers, and for viewers by flushes',
    ['by'],
    ({ copiedBytes }) => byKey('by', { transfer: copiedBytes.transfers, flush: copiedBytes.flushes }),
  );
  counter('flushes_total', 'Flushes that changed what is shown', ['display'], (source) =>
    byIndex('display', source.flushes),
  );
  counter('guest_errors_total', 'What guests did against the specification', ['kind'], (source) =>
    byKey('kind', source.guestErrors),
  );
  counter('client_messages_total', 'vfio-user messages received', ['command'], (source) =>
    byKey('command', source.clientMessages),
  );
  counter(
    'client_errors_total',
    'vfio-user requests refused and connections ended by errors',
    ['kind'],
    (source) => byKey('kind', source.clientErrors),
  );
  gauge('client_connected', '1 while a VMM is connected', [], (source) =>
    one(source.clientConnected ? 1 : 0),
  );
  gauge('queue_depth', 'Requests taken from the guest and not yet answered', ['queue'], (source) =>
    byQueue(source.queueDepths),
  );
  gauge('resources', 'Resources of the guest by kind: 2d, or blobs of guest or host3d', ['kind'], (source) =>
    byKey('kind', source.resourceKinds),
  );
  gauge('resource_bytes', 'Host memory charged for 2D resources and blobs that displays show', [], (source) =>
    one(source.resourceBytes),
  );
  gauge(
    'resource_bytes_limit',
    'Most host memory for 2D resources and blobs that displays show',
    [],
    (source) => one(source.maxResourceBytes),
  );
  gauge('contexts', 'Contexts of the guest', [], (source) => one(source.contexts));
  counter(
    'channel_total',
    'What contexts have done, by component and kind',
    ['component', 'kind'],
    ({ componentCounters }) =>
      Object.entries(componentCounters).flatMap(([component, counters]) =>
        Object.entries(counters).map(([kind, value]) => ({ labels: { component, kind }, value })),
      ),
  );
  gauge(
    'context_channel',
    'The same of each context that there is',
    ['context', 'name', 'kind'],
    ({ contextCounters }) =>
      contextCounters.flatMap(({ context, name, counters }) =>
        Object.entries(counters).map(([kind, value]) => ({
          labels: { context: String(context), name, kind },
          value,
        })),
      ),
  );
  gauge('blob_bytes', 'Sizes of blobs of contexts, with memory behind them or not', [], (source) =>
    one(source.blobBytes),
  );
  gauge(
    'blob_bytes_limit',
    'Most memory behind the window, and most that host processes have of blobs',
    [],
    (source) => one(source.maxBlobBytes),
  );
  counter('refused_total', 'Requests refused because a limit was reached', ['option'], (source) =>
    byKey('option', source.refusals),
  );
  counter(
    'contexts_ended_total',
    'Contexts ended because their blobs had too much memory',
    [],
    ({ contextsEnded }) => one(contextsEnded),
  );
  gauge('exported_bytes', 'Memory of blobs that host processes have, copies and udmabufs', [], (source) =>
    one(source.exportedBytes),
  );
  gauge('requests_waiting', 'Requests whose answer waits for a fence, or for work', [], (source) =>
    one(source.waiting),
  );
  gauge(
    'window_bytes',
    'Host-visible window: mapped to blobs, exported, kept for reuse, and with memory behind them',
    ['state'],
    (source) => byKey('state', source.windowBytes),
  );
  gauge('memory_entries', 'Entries of backing lists', [], (source) => one(source.memoryEntries));
  gauge('dma_windows', 'Windows of guest memory', [], (source) => one(source.dmaWindows));
  gauge('dma_bytes', 'Guest memory that can be reached', [], (source) => one(source.dmaBytes));
  counter(
    'input_total',
    'Input devices: events delivered and got (status), reports without a driver or refused, useless buffers',
    ['device', 'kind'],
    ({ inputs }) =>
      inputs.flatMap(({ kind: device, counters }) =>
        Object.entries(counters).map(([kind, value]) => ({ labels: { device, kind }, value })),
      ),
  );
  gauge('input_waiting', 'Input events that wait for buffers of the guest', ['device'], ({ inputs }) =>
    inputs.map(({ kind: device, waiting }) => ({ labels: { device }, value: waiting })),
  );
  gauge('input_client_connected', '1 while a VMM is connected to the device', ['device'], ({ inputs }) =>
    inputs.map(({ kind: device, clientConnected }) => ({
      labels: { device },
      value: clientConnected ? 1 : 0,
    })),
  );
  const byViewer = (key: 'connected' | 'updates' | 'sentBytes' | 'refused') => (source: MetricsSource) =>
    Object.entries(source.viewers).map(([kind, counters]) => ({ labels: { kind }, value: counters[key] }));
  gauge('viewers', 'Viewers that are connected', ['kind'], byViewer('connected'));
  counter('viewer_updates_total', 'Updates sent to viewers', ['kind'], byViewer('updates'));
  counter('viewer_sent_bytes_total', 'Bytes sent to viewers', ['kind'], byViewer('sentBytes'));
  counter(
    'viewers_refused_total',
    'Viewers turned away, or that did what no viewer does',
    ['kind'],
    byViewer('refused'),
  );
  gauge('process_resident_bytes', 'Resident memory of the server', [], () => one(process.memoryUsage.rss()));
  return registry;
}
