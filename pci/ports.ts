/**
 * What a PCI function needs from the machine around it, and what it offers in return.
 *
 * Everything that has an address in the guest, an eventfd or a clock is behind one of these interfaces; the rest
 * of `pci/` is computation. Addresses and lengths are bytes. Addresses are numbers: exact below 2^53, and above
 * that nothing can be mapped, so a rounded address is refused like any other hole.
 */

/** Which way an access to guest memory goes, seen from the device. */
export type Access = 'read' | 'write';

/** Three ways to look at the same bytes of guest memory. The guest may change them at any time. */
export interface GuestView {
  readonly bytes: Uint8Array;
  readonly data: DataView;
  /** For ring indices, which are read and written with `Atomics`. The view starts at an even guest address. */
  readonly halfwords: Uint16Array;
}

/** Guest RAM by guest physical address. Nothing here throws: an unmapped range is an answer, not an accident. */
export interface GuestMemory {
  /** Grows whenever a window is added or removed. A view taken at an older epoch must not be used any more. */
  readonly epoch: number;
  /**
   * False once it is known that nothing of what a driver writes can be seen here. A driver's features are refused then,
   * so that it gives up at once: one that came further would wait for answers for ever.
   */
  readonly isUsable: boolean;
  /**
   * A view of `lengthBytes` at `address`, which must be even; undefined unless the whole range lies in one window
   * that permits `access`.
   */
  view(address: number, lengthBytes: number, access: Access): GuestView | undefined;
  /** Whether every byte of the range is mapped and permits `access`. It may span adjacent windows. */
  covers(address: number, lengthBytes: number, access: Access): boolean;
  /** Fills `into` from `address`. False when a byte is not mapped; `into` is then unspecified. */
  read(address: number, into: Uint8Array): boolean;
  /** Stores `from` at `address`. False, with nothing written, when a byte is not mapped or is read-only. */
  write(address: number, from: Uint8Array): boolean;
}

/** Where interrupts go: one call is one message of that MSI-X vector. */
export interface InterruptSink {
  fire(vector: number): void;
}

/** What a function tells its surroundings while it runs; for logs and counters only. */
export interface Observer {
  /** A doorbell of an enabled queue was rung. */
  doorbell(queueIndex: number): void;
  /** The guest did something the specification forbids; the function has already dealt with it. */
  guestError(kind: string, detail: string): void;
  /**
   * A driver rang its first doorbell and there is no request to be seen. Either it is an odd driver, or what we see at
   * `availIdxAddress` is not the memory that the driver writes. Called once per bring-up at most.
   */
  emptyFirstDoorbell?(queueIndex: number, availIdxAddress: number): void;
  /**
   * A doorbell rang although no driver has set the device up since its last reset: a guest that was restored, or that
   * believes in a device which has been made anew since. It gets no answer.
   */
  strayDoorbell?(queueIndex: number): void;
  /** Firmware or a driver begins: it turned the registers on, or reset the virtio device. Often several times. */
  guestArrives?(): void;
  /** A driver was turned away at FEATURES_OK because guest memory is not usable. */
  driverTurnedAway?(): void;
}

/** How much may be done before others get their turn. The host decides what a unit costs. */
export interface WorkBudget {
  /** Takes one unit; false when the budget is used up and nothing more may be started. */
  spend(): boolean;
}

/** One base address register as a client sees it. */
export interface BarInfo {
  readonly sizeBytes: number;
  readonly prefetchable: boolean;
  /** A 64-bit BAR takes this index and the next. */
  readonly is64Bit: boolean;
  /** True for memory the client maps instead of trapping; its bytes belong to the host, not to the function. */
  readonly mappable: boolean;
}

/**
 * - `client`: the VMM asked for it, as on a system reset.
 * - `disconnect`: the VMM is gone; the next one must find the function as after power-on.
 */
export type ResetCause = 'client' | 'disconnect';

/** A PCI function driven by register accesses. No access fails: odd ones read zeros and write nothing. */
export interface PciFunction {
  readonly configSizeBytes: number;
  /** Six entries; undefined where there is no BAR, or where the upper half of a 64-bit BAR lies. */
  readonly bars: readonly (BarInfo | undefined)[];
  /** Entries of the MSI-X table. */
  readonly vectorCount: number;
  readConfig(offset: number, into: Uint8Array): void;
  writeConfig(offset: number, from: Uint8Array): void;
  readBar(bar: number, offset: number, into: Uint8Array): void;
  writeBar(bar: number, offset: number, from: Uint8Array): void;
  reset(cause: ResetCause): void;
  /**
   * Does the work that doorbells asked for, which register accesses only note down, so that an access can be
   * answered before its work is done. True when work is left because the budget ran out.
   */
  service(budget: WorkBudget): boolean;
}
