/**
 * The virtio-input device (virtio 1.3, 5.8): what it is like is a description, what it reports comes from senders.
 *
 * Without a driver nothing is sent. A guest that does not keep up makes its senders wait, and a guest that takes
 * nothing at all loses reports, but never the state: see `state.ts`.
 */
import {
  type Chain,
  type DriverSession,
  pump,
  type SplitQueue,
  type VirtioDevice,
  type WorkBudget,
} from '../../pci/index.ts';
import { type Log, RateLimitedLog } from '../log.ts';
import { decode, encode } from '../wire.ts';
import { EventQueue } from './event-queue.ts';
import { ANSWER_POLL_MS, HIGH_WATER_EVENTS, STALL_MS } from './limits.ts';
import {
  BUS_VIRTUAL,
  CONFIG_WRITABLE_BYTES,
  EV_SYN,
  EVENT_QUEUE,
  inputAbsInfo,
  inputConfig,
  inputDevIds,
  inputEvent,
  STATUS_QUEUE,
  SYN_REPORT,
  VIRTIO_ID_INPUT,
  VIRTIO_INPUT_CFG_ABS_INFO,
  VIRTIO_INPUT_CFG_EV_BITS,
  VIRTIO_INPUT_CFG_ID_DEVIDS,
  VIRTIO_INPUT_CFG_ID_NAME,
  VIRTIO_INPUT_CFG_ID_SERIAL,
  VIRTIO_INPUT_CFG_PROP_BITS,
  VIRTIO_INPUT_CFG_UNSET,
} from './protocol.ts';
import { type InputEvent, InputState } from './state.ts';

/** As QEMU's, and as many as Linux ever fills. */
const QUEUE_SIZE = 64;
const VENDOR_ID = 0x1af4;
const VERSION = 1;
const NOTHING = new Uint8Array(0);

/** A report of nothing, which guests take and forget. */
const SYN: InputEvent = { type: EV_SYN, code: SYN_REPORT, value: 0 };

/** What guests are told of a device. */
export interface InputDescription {
  readonly name: string;
  readonly serial: string;
  readonly productId: number;
  /** `INPUT_PROP_*` */
  readonly properties?: readonly number[];
  /** Event codes by event type. */
  readonly events: ReadonlyMap<number, readonly number[]>;
  /** Largest value by absolute axis; all of them begin at 0. */
  readonly axes?: ReadonlyMap<number, number>;
}

/** What a device has done since it was made, and what it holds. */
export interface InputCounters {
  /** Events in buffers of the guest. */
  delivered: number;
  /** Events that wait for buffers. */
  waiting: number;
  /** Reports that no driver was there for. */
  unheard: number;
  /** Reports that the guest had no room for. */
  refused: number;
  /** Events that were taken back from a guest that did not take them. */
  withdrawn: number;
  /** Events from the guest. */
  status: number;
  /** Buffers of the guest that are none. */
  uselessBuffers: number;
}

export abstract class InputDevice implements VirtioDevice {
  readonly virtioId = VIRTIO_ID_INPUT;
  readonly features = 0n;
  readonly queueSizes = [QUEUE_SIZE, QUEUE_SIZE];
  readonly configLengthBytes = inputConfig.size;
  /** The driver changes what it reads, nobody else does. */
  readonly configGeneration = 0;
  protected readonly state = new InputState();
  readonly #description: InputDescription;
  readonly #log: RateLimitedLog;
  readonly #selection = new Uint8Array(CONFIG_WRITABLE_BYTES);
  readonly #events = new EventQueue();
  readonly #counters: Omit<InputCounters, 'waiting'> = {
    delivered: 0,
    unheard: 0,
    refused: 0,
    withdrawn: 0,
    status: 0,
    uselessBuffers: 0,
  };
  #session: DriverSession | undefined;
  /** The buffer that the next event goes to. */
  #buffer: Chain | undefined;
  /** Runs while senders wait for the guest; starts anew with every event that it takes. */
  #patience: NodeJS.Timeout | undefined;
  #isGivenUp = false;
  /** What is let go of meanwhile was never pressed, for the guest. */
  #isHeldBack = false;
  #waiting: (() => void)[] = [];
  /** Who wants to know when so many events have been delivered. */
  readonly #confirmations = new Set<{ readonly upTo: number; settle(isDelivered: boolean): void }>();

  constructor(description: InputDescription, log: Log) {
    this.#description = description;
    this.#log = new RateLimitedLog(log);
  }

  get counters(): Readonly<InputCounters> {
    return { ...this.#counters, waiting: this.#events.length };
  }

  /** Resolves when the guest has taken most of what waits, or is not waited for any more. */
  drained(): Promise<void> {
    if (this.#isGivenUp || this.#events.length <= HIGH_WATER_EVENTS / 2) return Promise.resolve();
    this.#patience ??= setTimeout(() => this.#giveUp(), STALL_MS);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Whether a driver of the guest listens. */
  get hasDriver(): boolean {
    return this.#session !== undefined && !this.#session.isOver;
  }

  /**
   * Resolves with true when the guest has taken all that was reported until now; with false when it has not within
   * `timeoutMs`, or has lost reports, or its driver goes.
   */
  delivered(timeoutMs: number): Promise<boolean> {
    if (!this.hasDriver || this.#isGivenUp) return Promise.resolve(false);
    if (this.#events.length === 0) return Promise.resolve(true);
    const upTo = this.#counters.delivered + this.#events.length;
    return new Promise((resolve) => {
      const confirmation = {
        upTo,
        settle: (isDelivered: boolean) => {
          clearTimeout(timer);
          this.#confirmations.delete(confirmation);
          resolve(isDelivered);
        },
      };
      const timer = setTimeout(() => confirmation.settle(false), timeoutMs);
      this.#confirmations.add(confirmation);
    });
  }

  /**
   * Resolves with true when the guest is seen to take events: it is sent a report of nothing and gives a buffer back.
   * With false when it has not within `timeoutMs`, or its driver goes: a VM that is paused has buffers all the same.
   */
  async answers(timeoutMs: number): Promise<boolean> {
    const session = this.#session;
    const queue = session?.queues[EVENT_QUEUE];
    if (!session || !queue || !this.hasDriver || this.#isGivenUp || !this.#events.push([SYN])) return false;
    const before = queue.availIdx;
    session.wake(EVENT_QUEUE);
    for (const until = performance.now() + timeoutMs; performance.now() < until; ) {
      // The guest rings no doorbell for a buffer while the device still has one.
      await new Promise((resolve) => setTimeout(resolve, ANSWER_POLL_MS));
      if (this.#session !== session || session.isOver) return false;
      if (queue.availIdx !== before) return true;
    }
    return false;
  }

  /**
   * Takes back all reports that are not in buffers of the guest, so that they do not come when nobody expects them any
   * more. True when there were any; a report that the guest has a part of is not taken back. Nothing
   * is reported until `catchUp`.
   */
  withdraw(): boolean {
    this.#isHeldBack = true;
    const waiting = this.#events.length;
    const rest = this.#events.keepBegun();
    const withdrawn = waiting - rest.length;
    this.#counters.withdrawn += withdrawn;
    this.state.withdraw(rest);
    for (const { settle } of [...this.#confirmations]) settle(false);
    this.#releaseWaiting();
    return withdrawn > 0;
  }

  /** Tells the guest what it should know of what is held, and does not. */
  catchUp(): void {
    this.#isHeldBack = false;
    if (this.#session && this.state.isChanged) this.report();
  }

  acceptsFeatures(): boolean {
    return true;
  }

  readConfig(offset: number, into: Uint8Array): void {
    const [select = 0, subsel = 0] = this.#selection;
    const u = this.#answer(select, subsel);
    const config = encode(inputConfig, { select, subsel, size: u.length, u });
    into.set(config.subarray(offset, offset + into.length));
  }

  writeConfig(offset: number, from: Uint8Array): void {
    for (let i = 0; i < from.length && offset + i < CONFIG_WRITABLE_BYTES; i++)
      this.#selection[offset + i] = from[i] as number;
  }

  /** It never changes by itself. */
  onConfigChange(): void {}

  activate(session: DriverSession): void {
    this.#session = session;
    this.state.forget();
  }

  run(pending: number, budget: WorkBudget): number {
    const { queues } = this.#session ?? {};
    const status = queues?.[STATUS_QUEUE];
    const event = queues?.[EVENT_QUEUE];
    let left = 0;
    if (status && pending & (1 << STATUS_QUEUE)) {
      const empty = pump(status, budget, (chain) => this.#takeStatus(status, chain));
      this.statusTaken();
      if (!empty) left |= 1 << STATUS_QUEUE;
    }
    if (event && pending & (1 << EVENT_QUEUE) && !this.#deliver(event, budget)) left |= 1 << EVENT_QUEUE;
    return left;
  }

  reset(): void {
    this.#session = undefined;
    this.#selection.fill(0);
    this.#buffer = undefined;
    this.#events.clear();
    this.#isGivenUp = false;
    this.#settle();
  }

  /** The guest sends an event (5.8.5: the status queue). */
  protected takeStatus(_event: InputEvent): void {}

  /** All that the guest had to say has been heard. */
  protected statusTaken(): void {}

  /**
   * Tells the guest what has changed, and what else happened, as one report. False when the sender should wait for
   * `drained` before the next one.
   */
  protected report(happened: readonly InputEvent[] = []): boolean {
    if (!this.#session || this.#session.isOver) {
      this.#counters.unheard++;
      return true;
    }
    if (this.#isHeldBack) return true;
    const events = [...this.state.difference(), ...happened];
    if (events.length === 0) return true;
    events.push(SYN);
    if (this.#isGivenUp || !this.#events.push(events)) {
      this.#counters.refused++;
      return this.#isGivenUp;
    }
    this.state.tell();
    this.#session.wake(EVENT_QUEUE);
    if (this.#events.length < HIGH_WATER_EVENTS) return true;
    this.#patience ??= setTimeout(() => this.#giveUp(), STALL_MS);
    return false;
  }

  /** Fills buffers until there are none, or no events (true), or the budget is used up (false). */
  #deliver(queue: SplitQueue, budget: WorkBudget): boolean {
    const deliveredBefore = this.#counters.delivered;
    try {
      for (;;) {
        // One is taken before there is anything to put into it: the transport sees then that we see the ring.
        this.#buffer ??= queue.pop();
        const event = this.#events.peek();
        if (!this.#buffer || !event) return true;
        // A report is one unit, so that it is not cut in two; so is a buffer that is none.
        if (this.#events.atStart && !budget.spend()) return false;
        const bytes = encode(inputEvent, { ...event, value: event.value >>> 0 });
        const fits = this.#buffer.writableBytes >= bytes.length;
        const written = fits ? this.#buffer.write(bytes) : 0;
        queue.complete(this.#buffer, written);
        this.#buffer = undefined;
        if (written === bytes.length) {
          this.#events.shift();
          this.state.delivered(event);
          this.#counters.delivered++;
        } else {
          this.#noteUseless('event buffer');
          if (!budget.spend()) return false;
        }
      }
    } finally {
      queue.flush();
      if (this.#counters.delivered > deliveredBefore) this.#settle();
    }
  }

  #takeStatus(queue: SplitQueue, chain: Chain): void {
    const bytes = new Uint8Array(inputEvent.size);
    if (chain.read(bytes) === bytes.length) {
      this.#counters.status++;
      const { type, code, value } = decode(inputEvent, bytes);
      this.takeStatus({ type, code, value: value | 0 });
    } else {
      this.#noteUseless('status buffer');
    }
    queue.complete(chain, 0);
  }

  #noteUseless(kind: string): void {
    this.#counters.uselessBuffers++;
    this.#log.write('debug', kind, {}, 'guest buffer is of no use');
  }

  /** The guest has taken something, or is gone: patience starts anew, and what it has missed is made up for. */
  #settle(): void {
    for (const { upTo, settle } of [...this.#confirmations]) {
      if (!this.#session || this.#counters.delivered >= upTo) settle(this.#session !== undefined);
    }
    const wasPatient = this.#patience !== undefined;
    clearTimeout(this.#patience);
    this.#patience = undefined;
    if (this.#events.length > HIGH_WATER_EVENTS / 2) {
      if (wasPatient) this.#patience = setTimeout(() => this.#giveUp(), STALL_MS);
      return;
    }
    this.#isGivenUp = false;
    this.catchUp();
    this.#releaseWaiting();
  }

  #giveUp(): void {
    this.#patience = undefined;
    this.#isGivenUp = true;
    this.#log.write('debug', 'stalled', { waiting: this.#events.length }, 'guest takes no input');
    this.#releaseWaiting();
  }

  #releaseWaiting(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resume of waiting) resume();
  }

  #answer(select: number, subsel: number): Uint8Array {
    const { name, serial, productId, properties = [], events, axes } = this.#description;
    const isWhole = subsel === 0;
    switch (select) {
      case VIRTIO_INPUT_CFG_UNSET:
        return NOTHING;
      case VIRTIO_INPUT_CFG_ID_NAME:
        return isWhole ? text(name) : NOTHING;
      case VIRTIO_INPUT_CFG_ID_SERIAL:
        return isWhole ? text(serial) : NOTHING;
      case VIRTIO_INPUT_CFG_ID_DEVIDS:
        return isWhole ? encode(inputDevIds, [BUS_VIRTUAL, VENDOR_ID, productId, VERSION]) : NOTHING;
      case VIRTIO_INPUT_CFG_PROP_BITS:
        return isWhole ? bitmap(properties) : NOTHING;
      case VIRTIO_INPUT_CFG_EV_BITS:
        return bitmap(events.get(subsel) ?? []);
      case VIRTIO_INPUT_CFG_ABS_INFO: {
        const maximum = axes?.get(subsel);
        return maximum === undefined ? NOTHING : encode(inputAbsInfo, [0, maximum, 0, 0, 0]);
      }
      default:
        return NOTHING;
    }
  }
}

const text = (value: string) => new TextEncoder().encode(value);

/** Bit `code` of byte `code / 8` for each code, as long as it has to be. */
function bitmap(codes: readonly number[]): Uint8Array {
  const bits = new Uint8Array(codes.length > 0 ? (Math.max(...codes) >> 3) + 1 : 0);
  for (const code of codes) bits[code >> 3] = (bits[code >> 3] as number) | (1 << (code & 7));
  return bits;
}
