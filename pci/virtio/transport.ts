/**
 * A virtio device as a PCI function: config space, one register BAR, MSI-X and, if asked for, a shared-memory BAR
 * (virtio 1.3, 4.1).
 *
 * Register accesses only change state and note down doorbells; `service` runs the queues. So a client's access can
 * be answered before the work it asks for is done.
 */
import { defineBars } from '../bars.ts';
import { fromLittleEndian } from '../bytes.ts';
import {
  type BarRange,
  commonCapability,
  deviceCapability,
  isrCapability,
  msixCapability,
  notifyCapability,
  PCI_CFG_BAR,
  PCI_CFG_DATA,
  PCI_CFG_LENGTH,
  PCI_CFG_OFFSET,
  PCI_D0,
  PCI_D3HOT,
  PCI_MSIX_FLAGS,
  PCI_PM_CTRL,
  PCI_PM_CTRL_STATE_MASK,
  pciCfgCapability,
  powerManagementCapability,
  sharedMemoryCapability,
} from '../capabilities.ts';
import { ConfigSpace, PCI_COMMAND, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY } from '../config-space.ts';
import { Msix, type MsixTableOwner } from '../msix.ts';
import type {
  BarInfo,
  GuestMemory,
  InterruptSink,
  Observer,
  PciFunction,
  ResetCause,
  WorkBudget,
} from '../ports.ts';
import { RegisterBlock } from '../registers.ts';
import { QueueBroken } from './chain.ts';
import {
  type CommonState,
  commonConfigRegisters,
  initialCommonState,
  nextStatus,
  queueAddresses,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_PCI_COMMON_CFG_LENGTH,
} from './common-config.ts';
import {
  type DriverSession,
  VIRTIO_F_RING_EVENT_IDX,
  VIRTIO_F_RING_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  type VirtioDevice,
} from './device.ts';
import { SplitQueue } from './queue.ts';

const PCI_VENDOR_ID_REDHAT_QUMRANET = 0x1af4;
const VIRTIO_PCI_MODERN_DEVICE_ID_BASE = 0x1040;
/** 4.1.2.1: at least 1 for a device that is not transitional. */
const REVISION_ID = 1;

/** The register BAR comes first and is 32 bits wide: EDK2 counts BARs compactly (a 64-bit one counts once). */
export const REGISTER_BAR = 0;
/** The shared memory is alone in its BAR: Linux's virtio-gpu cannot claim a part of a BAR that is in use. */
export const SHARED_MEMORY_BAR = 4;

/** Every structure has pages of its own, so that a client can trap the MSI-X ones without touching the others. */
const PAGE = 0x1000;
const COMMON: BarRange = { bar: REGISTER_BAR, offset: 0x0000, lengthBytes: VIRTIO_PCI_COMMON_CFG_LENGTH };
const ISR: BarRange = { bar: REGISTER_BAR, offset: 0x1000, lengthBytes: 4 };
const DEVICE: BarRange = { bar: REGISTER_BAR, offset: 0x2000, lengthBytes: PAGE };
const NOTIFY: BarRange = { bar: REGISTER_BAR, offset: 0x3000, lengthBytes: PAGE };
const MSIX_TABLE: BarRange = { bar: REGISTER_BAR, offset: 0x4000, lengthBytes: PAGE };
const MSIX_PBA: BarRange = { bar: REGISTER_BAR, offset: 0x5000, lengthBytes: PAGE };
const REGISTER_BAR_SIZE = 0x8000;
const NOTIFY_OFF_MULTIPLIER = 4;

const VIRTIO_PCI_ISR_QUEUE = 1;
const VIRTIO_PCI_ISR_CONFIG = 2;

/** The doorbells inside the register BAR: one halfword per queue. */
export const doorbellRange = (queueIndex: number): BarRange => ({
  bar: REGISTER_BAR,
  offset: NOTIFY.offset + queueIndex * NOTIFY_OFF_MULTIPLIER,
  lengthBytes: 2,
});

export interface VirtioPciOptions {
  readonly memory: GuestMemory;
  readonly interrupts: InterruptSink;
  /** Called when `service` has something to do. */
  readonly wake: () => void;
  readonly observer?: Observer;
  readonly msixTableOwner?: MsixTableOwner;
  /** 24 bits: base class, sub class, programming interface. */
  readonly classCode: number;
  /** A shared-memory region that fills a BAR of its own; its size is a power of two. */
  readonly sharedMemory?: { readonly shmid: number; readonly sizeBytes: number };
}

interface Area {
  read(offset: number, into: Uint8Array): void;
  write(offset: number, from: Uint8Array): void;
}

const SILENT: Observer = { doorbell: () => {}, guestError: () => {} };

export class VirtioPciFunction implements PciFunction {
  readonly configSizeBytes: number;
  readonly bars: readonly (BarInfo | undefined)[];
  readonly vectorCount: number;
  /** Features offered to the driver: the device's and the transport's. */
  readonly offeredFeatures: bigint;
  readonly #device: VirtioDevice;
  readonly #options: VirtioPciOptions;
  readonly #observer: Observer;
  readonly #config: ConfigSpace;
  readonly #msix: Msix;
  readonly #areas: ReadonlyMap<number, Area>;
  readonly #state: CommonState;
  readonly #msixOffset: number;
  readonly #pmOffset: number;
  readonly #pciCfgOffset: number;
  #session: DriverSession | undefined;
  #isr = 0;
  /** Bit set of queues that are to be run. */
  #pending = 0;
  /** Bit set of queues whose doorbell has been rung; undefined once one of them has held a request. */
  #rung: number | undefined = 0;
  #powerState = PCI_D0;
  /** Back from D3hot, and the guest has not touched the function since. */
  #justWoke = false;

  constructor(device: VirtioDevice, options: VirtioPciOptions) {
    this.#device = device;
    this.#options = options;
    this.#observer = options.observer ?? SILENT;
    this.vectorCount = device.queueSizes.length + 1;
    this.offeredFeatures =
      device.features |
      (1n << BigInt(VIRTIO_F_RING_INDIRECT_DESC)) |
      (1n << BigInt(VIRTIO_F_RING_EVENT_IDX)) |
      (1n << BigInt(VIRTIO_F_VERSION_1));
    this.#msix = new Msix(this.vectorCount, options.interrupts, options.msixTableOwner ?? 'function');
    this.#state = initialCommonState(device.queueSizes);

    const deviceId = VIRTIO_PCI_MODERN_DEVICE_ID_BASE + device.virtioId;
    this.#config = new ConfigSpace({
      vendorId: PCI_VENDOR_ID_REDHAT_QUMRANET,
      deviceId,
      revisionId: REVISION_ID,
      classCode: options.classCode,
      subsystemVendorId: PCI_VENDOR_ID_REDHAT_QUMRANET,
      subsystemId: deviceId,
    });
    this.configSizeBytes = this.#config.sizeBytes;
    const { sharedMemory } = options;
    this.bars = defineBars(this.#config, [
      {
        index: REGISTER_BAR,
        sizeBytes: REGISTER_BAR_SIZE,
        is64Bit: false,
        prefetchable: false,
        mappable: false,
      },
      ...(sharedMemory
        ? [
            {
              index: SHARED_MEMORY_BAR,
              sizeBytes: sharedMemory.sizeBytes,
              is64Bit: true,
              prefetchable: true,
              mappable: true,
            },
          ]
        : []),
    ]);
    // MSI-X comes first: cloud-hypervisor walks the list up to it on every config read of the guest.
    this.#msixOffset = this.#config.addCapability(msixCapability(this.vectorCount, MSIX_TABLE, MSIX_PBA));
    this.#pmOffset = this.#config.addCapability(powerManagementCapability());
    this.#config.addCapability(commonCapability(COMMON));
    this.#config.addCapability(isrCapability(ISR));
    this.#config.addCapability(deviceCapability(DEVICE));
    this.#config.addCapability(notifyCapability(NOTIFY, NOTIFY_OFF_MULTIPLIER));
    this.#pciCfgOffset = this.#config.addCapability(pciCfgCapability());
    if (sharedMemory) {
      const range = { bar: SHARED_MEMORY_BAR, offset: 0, lengthBytes: sharedMemory.sizeBytes };
      this.#config.addCapability(sharedMemoryCapability(range, sharedMemory.shmid));
    }
    this.#hookConfig();
    this.#areas = this.#defineAreas();
    device.onConfigChange(() => this.#configChanged());
  }

  /** The status register: what `inspect` and counters show. */
  get status(): number {
    return this.#state.status;
  }

  /** What the driver agreed to; undefined while there is no driver. */
  get negotiatedFeatures(): bigint | undefined {
    return this.#session?.features;
  }

  /** Requests the device holds, by queue index. */
  get queueDepths(): number[] {
    return this.#state.queues.map((_, index) => this.#session?.queues[index]?.heldCount ?? 0);
  }

  readConfig(offset: number, into: Uint8Array): void {
    this.#config.read(offset, into);
  }

  writeConfig(offset: number, from: Uint8Array): void {
    this.#config.write(offset, from);
  }

  readBar(bar: number, offset: number, into: Uint8Array): void {
    this.#justWoke = false;
    forEachAccess(offset, into, (at, part) => {
      const area = bar === REGISTER_BAR ? this.#areas.get(at - (at % PAGE)) : undefined;
      if (area) area.read(at % PAGE, part);
      else part.fill(0);
    });
  }

  writeBar(bar: number, offset: number, from: Uint8Array): void {
    this.#justWoke = false;
    forEachAccess(offset, from, (at, part) => {
      if (bar === REGISTER_BAR) this.#areas.get(at - (at % PAGE))?.write(at % PAGE, part);
    });
  }

  /** A doorbell rung through an ioeventfd, which does not say whose it is: every queue is looked at. */
  ringAllDoorbells(): void {
    for (let index = 0; index < this.#state.queues.length; index++) this.#ring(index);
  }

  reset(cause: ResetCause): void {
    // A VMM that wakes the machine from suspend to RAM brings the function to D0 and then resets it, but the driver
    // was promised (No_Soft_Reset) that it finds everything as it was. The driver's own reset comes before any
    // other use of the device, so nothing of an old guest can be seen by a new one.
    const promised = cause === 'client' && (this.#powerState === PCI_D3HOT || this.#justWoke);
    this.#config.reset();
    this.#msix.reset();
    this.#followPowerState();
    if (cause === 'disconnect') this.#justWoke = false;
    if (!promised) this.#resetVirtio();
  }

  service(budget: WorkBudget): boolean {
    const session = this.#session;
    if (!session || this.#pending === 0 || !this.#busMaster) return false;
    const pending = this.#pending;
    this.#pending = 0;
    try {
      const rest = this.#device.run(pending, budget);
      // Only now is it read: the device may have woken queues meanwhile.
      this.#pending |= rest;
      if (this.#rung) this.#noteEmptyDoorbell(session);
    } catch (error) {
      if (!(error instanceof QueueBroken)) throw error;
      this.#breakDevice(error.message);
    }
    return this.#pending !== 0;
  }

  #noteEmptyDoorbell({ queues }: DriverSession): void {
    const index = queues.findIndex((queue, i) => queue && !queue.used && ((this.#rung ?? 0) >> i) & 1);
    const anyUsed = queues.some((queue) => queue?.used);
    this.#rung = undefined;
    const empty = queues[index];
    if (empty && !anyUsed) this.#observer.emptyFirstDoorbell?.(index, empty.availIdxAddress);
  }

  get #busMaster(): boolean {
    return (this.#config.peek(PCI_COMMAND, 2) & PCI_COMMAND_MASTER) !== 0;
  }

  #hookConfig(): void {
    const config = this.#config;
    config.onWrite(PCI_COMMAND, 2, () => {
      if (config.peek(PCI_COMMAND, 2) & PCI_COMMAND_MEMORY) {
        this.#justWoke = false;
        this.#observer.guestArrives?.();
      }
      // Doorbells that rang while the function was not allowed to touch memory are made up for.
      if (this.#busMaster) this.#runAllQueues();
    });
    config.onWrite(this.#msixOffset + PCI_MSIX_FLAGS, 2, () => {
      this.#msix.setControl(config.peek(this.#msixOffset + PCI_MSIX_FLAGS, 2));
    });
    config.onWrite(this.#pmOffset + PCI_PM_CTRL, 2, () => this.#followPowerState());
    const data = this.#pciCfgOffset + PCI_CFG_DATA;
    config.onRead(data, 4, () => {
      const bytes = new Uint8Array(4);
      const target = this.#pciCfgTarget();
      if (target) this.readBar(REGISTER_BAR, target.offset, bytes.subarray(0, target.length));
      config.poke(data, bytes);
    });
    config.onWrite(data, 4, () => {
      const target = this.#pciCfgTarget();
      if (!target) return;
      const value = config.peek(data, 4);
      const bytes = Uint8Array.from({ length: target.length }, (_, i) => value >>> (8 * i));
      this.writeBar(REGISTER_BAR, target.offset, bytes);
    });
  }

  /** Where the PCI_CFG window points (4.1.4.9); undefined when it points at nothing that has registers. */
  #pciCfgTarget(): { offset: number; length: number } | undefined {
    const bar = this.#config.peek(this.#pciCfgOffset + PCI_CFG_BAR, 1);
    const offset = this.#config.peek(this.#pciCfgOffset + PCI_CFG_OFFSET, 4);
    const length = this.#config.peek(this.#pciCfgOffset + PCI_CFG_LENGTH, 4);
    if (bar !== REGISTER_BAR || ![1, 2, 4].includes(length) || offset % length !== 0) return undefined;
    return offset + length <= REGISTER_BAR_SIZE ? { offset, length } : undefined;
  }

  #followPowerState(): void {
    const at = this.#pmOffset + PCI_PM_CTRL;
    const control = this.#config.peek(at, 2);
    const state = control & PCI_PM_CTRL_STATE_MASK;
    if (state !== PCI_D0 && state !== PCI_D3HOT) {
      // Power management 1.2, 3.2.4: a write of a state that is not supported is discarded.
      this.#config.poke(at, Uint8Array.of((control & ~PCI_PM_CTRL_STATE_MASK) | this.#powerState));
      return;
    }
    if (this.#powerState === PCI_D3HOT && state === PCI_D0) this.#justWoke = true;
    this.#powerState = state;
  }

  #defineAreas(): Map<number, Area> {
    const common = new RegisterBlock(
      commonConfigRegisters({
        state: this.#state,
        offeredFeatures: this.offeredFeatures,
        vectorCount: this.vectorCount,
        configGeneration: () => this.#device.configGeneration,
        writeStatus: (written) => this.#writeStatus(written),
        guestError: (kind, detail) => this.#observer.guestError(kind, detail),
      }),
    );
    return new Map<number, Area>([
      [COMMON.offset, common],
      [ISR.offset, { read: (offset, into) => this.#readIsr(offset, into), write: () => {} }],
      [DEVICE.offset, this.#deviceArea()],
      [
        NOTIFY.offset,
        { read: (_, into) => into.fill(0), write: (offset, from) => this.#notify(offset, from) },
      ],
      [
        MSIX_TABLE.offset,
        {
          read: (offset, into) => this.#msix.readTable(offset, into),
          write: (offset, from) => this.#msix.writeTable(offset, from),
        },
      ],
      [MSIX_PBA.offset, { read: (offset, into) => this.#msix.readPending(offset, into), write: () => {} }],
    ]);
  }

  #deviceArea(): Area {
    const device = this.#device;
    return {
      read: (offset, into) => {
        const available = device.configLengthBytes - offset;
        if (available >= into.length) {
          device.readConfig(offset, into);
          return;
        }
        into.fill(0);
        if (available > 0) device.readConfig(offset, into.subarray(0, available));
      },
      write: (offset, from) => {
        if (offset + from.length <= device.configLengthBytes) device.writeConfig(offset, from);
      },
    };
  }

  /** 4.1.4.5: reading takes the bits away. */
  #readIsr(offset: number, into: Uint8Array): void {
    into.fill(0);
    if (offset !== 0) return;
    into[0] = this.#isr;
    this.#isr = 0;
  }

  /** 4.1.4.4: the address says which queue; a driver that writes another number there is not obeyed. */
  #notify(offset: number, from: Uint8Array): void {
    const index = offset / NOTIFY_OFF_MULTIPLIER;
    if (from.length < 2 || from.length > 4 || !Number.isInteger(index)) return;
    if ((fromLittleEndian(from) & 0xffff) === index) this.#ring(index);
  }

  #ring(index: number): void {
    if (!this.#session?.queues[index]) {
      if (this.#state.status === 0 && index < this.#state.queues.length)
        this.#observer.strayDoorbell?.(index);
      return;
    }
    this.#observer.doorbell(index);
    this.#pending |= 1 << index;
    if (this.#rung !== undefined) this.#rung |= 1 << index;
    this.#options.wake();
  }

  #wakeQueue(session: DriverSession, index: number): void {
    // Something late of a driver that is gone.
    if (this.#session !== session) return;
    this.#pending |= 1 << index;
    this.#options.wake();
  }

  #runAllQueues(): void {
    if (!this.#session) return;
    this.#session.queues.forEach((queue, index) => {
      if (queue) this.#pending |= 1 << index;
    });
    if (this.#pending !== 0) this.#options.wake();
  }

  #writeStatus(written: number): void {
    if (written === 0) {
      this.#resetVirtio();
      this.#observer.guestArrives?.();
      return;
    }
    const before = this.#state.status;
    const { isUsable } = this.#options.memory;
    this.#state.status = nextStatus(before, written, isUsable && this.#featuresAcceptable());
    if (written & VIRTIO_CONFIG_S_FEATURES_OK && !(this.#state.status & VIRTIO_CONFIG_S_FEATURES_OK)) {
      if (isUsable)
        this.#observer.guestError('features', `refused 0x${this.#state.driverFeatures.toString(16)}`);
      else this.#observer.driverTurnedAway?.();
    }
    if (~before & this.#state.status & VIRTIO_CONFIG_S_DRIVER_OK) this.#activate();
  }

  /** 3.1.1 step 5 and 6.1: only what was offered, and never without VERSION_1. */
  #featuresAcceptable(): boolean {
    const { driverFeatures } = this.#state;
    const version1 = (driverFeatures >> BigInt(VIRTIO_F_VERSION_1)) & 1n;
    const deviceBits = driverFeatures & this.#device.features;
    const offeredOnly = (driverFeatures & ~this.offeredFeatures) === 0n;
    return version1 === 1n && offeredOnly && this.#device.acceptsFeatures(deviceBits);
  }

  #activate(): void {
    const features = this.#state.driverFeatures;
    const has = (bit: number) => ((features >> BigInt(bit)) & 1n) === 1n;
    try {
      const queues = this.#state.queues.map((registers, index) =>
        registers.enabled
          ? new SplitQueue({
              memory: this.#options.memory,
              size: registers.size,
              addresses: queueAddresses(registers),
              eventIdx: has(VIRTIO_F_RING_EVENT_IDX),
              indirect: has(VIRTIO_F_RING_INDIRECT_DESC),
              interrupt: () => this.#interruptQueue(index),
            })
          : undefined,
      );
      const isCurrent = () => this.#session === session;
      const session: DriverSession = {
        features,
        queues,
        get isOver() {
          return !isCurrent();
        },
        wake: (index) => this.#wakeQueue(session, index),
      };
      this.#session = session;
    } catch (error) {
      if (!(error instanceof QueueBroken)) throw error;
      this.#breakDevice(error.message);
      return;
    }
    this.#rung = 0;
    this.#device.activate(this.#session);
    this.#runAllQueues();
  }

  /** 2.1.2: the device cannot go on; only a reset helps. What it last showed stays. */
  #breakDevice(reason: string): void {
    this.#state.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    this.#pending = 0;
    this.#session = undefined;
    this.#observer.guestError('broken', reason);
    this.#signalConfigChange();
  }

  #resetVirtio(): void {
    this.#pending = 0;
    this.#isr = 0;
    this.#session = undefined;
    this.#device.reset();
    Object.assign(this.#state, initialCommonState(this.#device.queueSizes));
  }

  #configChanged(): void {
    if (this.#session) this.#signalConfigChange();
  }

  #signalConfigChange(): void {
    if (this.#state.status & VIRTIO_CONFIG_S_DRIVER_OK) {
      this.#interrupt(this.#state.configVector, VIRTIO_PCI_ISR_CONFIG);
    }
  }

  #interruptQueue(index: number): void {
    this.#interrupt(this.#state.queues[index]?.vector ?? 0, VIRTIO_PCI_ISR_QUEUE);
  }

  /** 4.1.5.1.2: the ISR register is for drivers without MSI-X; VIRTIO_MSI_NO_VECTOR is no entry of the table. */
  #interrupt(vector: number, isrBit: number): void {
    if (!this.#msix.enabled) this.#isr |= isrBit;
    this.#msix.fire(vector);
  }
}

/** Accesses beyond 8 bytes are dumps: they are done in order as aligned accesses of at most 4 bytes. */
function forEachAccess(
  offset: number,
  bytes: Uint8Array,
  access: (at: number, part: Uint8Array) => void,
): void {
  if (bytes.length <= 8) {
    access(offset, bytes);
    return;
  }
  for (let done = 0; done < bytes.length; ) {
    const at = offset + done;
    const width = Math.min(4 - (at % 4), bytes.length - done);
    access(at, bytes.subarray(done, done + width));
    done += width;
  }
}
