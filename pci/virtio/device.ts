/**
 * The contract between a virtio device and its transport. The device never sees a register, a ring address or an
 * interrupt vector: it gets queues with three verbs, and is told to run them.
 */
import type { WorkBudget } from '../ports.ts';
import type { SplitQueue } from './queue.ts';

/** Feature bits of the ring and the transport (virtio 1.3, 6). */
export const VIRTIO_F_RING_INDIRECT_DESC = 28;
export const VIRTIO_F_RING_EVENT_IDX = 29;
export const VIRTIO_F_VERSION_1 = 32;

/** What a driver got when it said DRIVER_OK. It ends with the device's `reset`. */
export interface DriverSession {
  /** The features both sides agreed on. */
  readonly features: bigint;
  /** By queue index; undefined where the driver did not enable the queue, which is its right. */
  readonly queues: readonly (SplitQueue | undefined)[];
  /** The device was broken, or reset: nothing reaches this driver any more. */
  readonly isOver: boolean;
  /** Asks for another `run` of this queue, because something the device kept back can be answered now. */
  wake(index: number): void;
}

export interface VirtioDevice {
  /** Virtio device id; the PCI device id is 0x1040 above it. */
  readonly virtioId: number;
  /** Device feature bits; the transport adds its own. */
  readonly features: bigint;
  /** Largest size of each queue, a power of two up to 32768. */
  readonly queueSizes: readonly number[];
  /** Length of the device configuration; bytes behind it read as 0. */
  readonly configLengthBytes: number;
  /** Changes whenever anything a driver can read from the configuration has changed; only the low byte is used. */
  readonly configGeneration: number;
  /** Whether the device can work with this choice of its features: dependent bits need their base. */
  acceptsFeatures(features: bigint): boolean;
  readConfig(offset: number, into: Uint8Array): void;
  writeConfig(offset: number, from: Uint8Array): void;
  /** Called once, before the session, with what to call after a change of the configuration. */
  onConfigChange(notify: () => void): void;
  /** The driver is ready. All queues are run once after this. */
  activate(session: DriverSession): void;
  /**
   * Runs the queues of the bit set `pending` until they are empty or the budget is used up; returns the bit set of
   * queues with work left. Throws `QueueBroken` when a ring is corrupt.
   */
  run(pending: number, budget: WorkBudget): number;
  /** Forgets the driver and everything it made. Complete when it returns; nothing may touch its memory later. */
  reset(): void;
}
