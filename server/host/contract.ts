/**
 * A device as VFIO numbers its parts, and what the protocol needs of it: the interface between `vfio-user/` and this
 * room. Requests arrive here checked against the protocol; what the device itself refuses, it refuses with a
 * `ProtocolError`.
 */

/** Regions by index: the six BARs, then these. */
export const REGION_CONFIG = 7;
export const NUM_REGIONS = 9;
export const REGION_NAMES = ['BAR0', 'BAR1', 'BAR2', 'BAR3', 'BAR4', 'BAR5', 'ROM', 'CONFIG', 'VGA'] as const;

/** Interrupts by index. */
export const IRQ_INTX = 0;
export const IRQ_MSI = 1;
export const IRQ_MSIX = 2;
export const IRQ_ERR = 3;
export const IRQ_REQ = 4;
export const NUM_IRQS = 5;
export const IRQ_NAMES = ['INTX', 'MSI', 'MSIX', 'ERR', 'REQ'] as const;
/** The only thing our interrupts can do: be signalled through an eventfd. */
export const IRQ_INFO_EVENTFD = 0x1;

/** A region as GET_REGION_INFO describes it. Size 0 means absent. */
export interface Region {
  readonly sizeBytes: number;
  /** The file behind a region the client may map as a whole; it stays the host's. */
  readonly fd?: number;
}

export interface IrqIndex {
  readonly count: number;
  readonly flags: number;
}

/** Windows at one time, at most: a guest of 1 TiB has half as many where each 2 MiB are one, as with virtio-mem. */
export const MAX_DMA_WINDOWS = 1 << 20;

/** Guest memory the client announces. */
export interface DmaWindow {
  readonly address: number;
  readonly sizeBytes: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** Where the window starts in the file that came with it. */
  readonly fileOffset: number;
}

/** A register whose writes may come through an eventfd instead of a message. */
export interface Doorbell {
  readonly region: number;
  readonly offset: number;
  readonly sizeBytes: number;
  readonly datamatch: bigint;
}

export interface DeviceHost {
  /** One entry per region index. */
  readonly regions: readonly Region[];
  /** One entry per interrupt index. */
  readonly irqs: readonly IrqIndex[];
  readonly doorbells: readonly Doorbell[];
  /** The eventfd that rings every doorbell; made when first asked for. */
  doorbellEventfd(): number;
  readRegion(region: number, offset: number, into: Uint8Array): void;
  writeRegion(region: number, offset: number, from: Uint8Array): void;
  /**
   * Takes ownership of `fd`, also when it throws. Without one the window is only recorded. More than `maxWindows` at one
   * time are refused.
   */
  mapDma(window: DmaWindow, fd: number | undefined, maxWindows: number): void;
  /** Complete when it returns: nothing touches the window any more. */
  unmapDma(address: number, sizeBytes: number): void;
  unmapAllDma(): void;
  /** Signal these vectors through these eventfds from now on; takes ownership of them. */
  attachEventfds(index: number, start: number, fds: readonly number[]): void;
  detachEventfds(index: number, start: number, count: number): void;
  /** The client asks for these interrupts. */
  triggerIrqs(index: number, vectors: readonly number[]): void;
  reset(): void;
  /** Does what the last request asked for beyond its answer; called after every answer. */
  settle(): void;
  /** The client is gone; the next one must find a clean device. */
  clientGone(): void;
}
