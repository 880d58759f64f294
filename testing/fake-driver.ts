/**
 * The guest side of a virtio-pci function, in the driver's verbs. It finds everything through the capability list,
 * as a real driver does, and does what it is told, right or wrong.
 */
import {
  VIRTIO_PCI_CAP_COMMON_CFG,
  VIRTIO_PCI_CAP_DEVICE_CFG,
  VIRTIO_PCI_CAP_ISR_CFG,
  VIRTIO_PCI_CAP_NOTIFY_CFG,
} from '../pci/capabilities.ts';
import { fromLittleEndian, type PciFunction, toLittleEndian } from '../pci/index.ts';
import { VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE } from '../pci/virtio/chain.ts';
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
} from '../pci/virtio/common-config.ts';

/** What the driver's side needs of guest memory: to allocate it and to look at it. */
export interface DriverMemory {
  allocate(lengthBytes: number, alignment?: number): number;
  bytes(address: number, lengthBytes: number): Uint8Array;
  data(address: number, lengthBytes: number): DataView;
}

export interface FoundCapability {
  readonly offset: number;
  readonly id: number;
  readonly lengthBytes: number;
}

interface Place {
  readonly bar: number;
  readonly offset: number;
}

/** A descriptor as the driver writes it. */
export interface Descriptor {
  readonly address: number;
  readonly length: number;
  readonly flags?: number;
  readonly next?: number;
}

export interface Used {
  readonly head: number;
  readonly written: number;
}

/** Registers of the common configuration: offset and width (virtio 1.3, 4.1.4.3). */
const COMMON = {
  deviceFeatureSelect: [0x00, 4],
  deviceFeature: [0x04, 4],
  driverFeatureSelect: [0x08, 4],
  driverFeature: [0x0c, 4],
  configVector: [0x10, 2],
  numQueues: [0x12, 2],
  status: [0x14, 1],
  generation: [0x15, 1],
  queueSelect: [0x16, 2],
  queueSize: [0x18, 2],
  queueVector: [0x1a, 2],
  queueEnable: [0x1c, 2],
  notifyOff: [0x1e, 2],
} as const;

export type CommonRegister = keyof typeof COMMON;

export class FakeDriver {
  readonly fn: PciFunction;
  readonly memory: DriverMemory;
  readonly queues: FakeQueue[] = [];
  readonly #places = new Map<number, Place>();
  readonly #notifyMultiplier: number = 0;

  constructor(fn: PciFunction, memory: DriverMemory) {
    this.fn = fn;
    this.memory = memory;
    for (const capability of this.capabilities()) {
      if (capability.id !== 9) continue;
      const type = this.config(capability.offset + 3, 1);
      const place = {
        bar: this.config(capability.offset + 4, 1),
        offset: this.config(capability.offset + 8, 4),
      };
      if (!this.#places.has(type)) this.#places.set(type, place);
      if (type === VIRTIO_PCI_CAP_NOTIFY_CFG) this.#notifyMultiplier = this.config(capability.offset + 16, 4);
    }
  }

  // Config space.

  config(offset: number, width: number): number {
    const bytes = new Uint8Array(width);
    this.fn.readConfig(offset, bytes);
    return fromLittleEndian(bytes);
  }

  writeConfig(offset: number, width: number, value: number): this {
    const bytes = new Uint8Array(width);
    toLittleEndian(value, bytes);
    this.fn.writeConfig(offset, bytes);
    return this;
  }

  capabilities(): FoundCapability[] {
    const found: FoundCapability[] = [];
    for (let at = this.config(0x34, 1); at !== 0 && found.length < 48; at = this.config(at + 1, 1)) {
      found.push({ offset: at, id: this.config(at, 1), lengthBytes: this.config(at + 2, 1) });
    }
    return found;
  }

  capability(id: number): number {
    const found = this.capabilities().find((capability) => capability.id === id);
    if (!found) throw new Error(`no capability ${id}`);
    return found.offset;
  }

  /** Memory decode and bus master on. */
  enableBusMaster(): this {
    return this.writeConfig(4, 2, 0x0006);
  }

  // Registers.

  read(bar: number, offset: number, width: number): number {
    const bytes = new Uint8Array(width).fill(0xee);
    this.fn.readBar(bar, offset, bytes);
    return fromLittleEndian(bytes);
  }

  write(bar: number, offset: number, width: number, value: number): this {
    const bytes = new Uint8Array(width);
    toLittleEndian(value, bytes);
    this.fn.writeBar(bar, offset, bytes);
    return this;
  }

  place(type: number): Place {
    const place = this.#places.get(type);
    if (!place) throw new Error(`no virtio capability of type ${type}`);
    return place;
  }

  common(register: CommonRegister): number {
    const { bar, offset } = this.place(VIRTIO_PCI_CAP_COMMON_CFG);
    const [at, width] = COMMON[register];
    return this.read(bar, offset + at, width);
  }

  setCommon(register: CommonRegister, value: number): this {
    const { bar, offset } = this.place(VIRTIO_PCI_CAP_COMMON_CFG);
    const [at, width] = COMMON[register];
    return this.write(bar, offset + at, width, value);
  }

  deviceConfig(at: number, width = 4): number {
    const { bar, offset } = this.place(VIRTIO_PCI_CAP_DEVICE_CFG);
    return this.read(bar, offset + at, width);
  }

  setDeviceConfig(at: number, value: number, width = 4): this {
    const { bar, offset } = this.place(VIRTIO_PCI_CAP_DEVICE_CFG);
    return this.write(bar, offset + at, width, value);
  }

  readIsr(): number {
    const { bar, offset } = this.place(VIRTIO_PCI_CAP_ISR_CFG);
    return this.read(bar, offset, 1);
  }

  // Initialisation (virtio 1.3, 3.1.1).

  reset(): this {
    return this.setCommon('status', 0);
  }

  setStatus(bits: number): this {
    return this.setCommon('status', this.common('status') | bits);
  }

  acknowledge(): this {
    return this.setStatus(VIRTIO_CONFIG_S_ACKNOWLEDGE).setStatus(VIRTIO_CONFIG_S_DRIVER);
  }

  offeredFeatures(): bigint {
    const low = this.setCommon('deviceFeatureSelect', 0).common('deviceFeature');
    const high = this.setCommon('deviceFeatureSelect', 1).common('deviceFeature');
    return (BigInt(high) << 32n) | BigInt(low);
  }

  /** Writes the features and FEATURES_OK; true when the device took them. */
  negotiate(features: bigint): boolean {
    this.setCommon('driverFeatureSelect', 0).setCommon('driverFeature', Number(features & 0xffff_ffffn));
    this.setCommon('driverFeatureSelect', 1).setCommon('driverFeature', Number(features >> 32n));
    this.setStatus(VIRTIO_CONFIG_S_FEATURES_OK);
    return (this.common('status') & VIRTIO_CONFIG_S_FEATURES_OK) !== 0;
  }

  /** Lays the rings out in memory, tells the device, binds vector `index + 1` and enables the queue. */
  setUpQueue(index: number, options: { size?: number; features?: bigint } = {}): FakeQueue {
    this.setCommon('queueSelect', index);
    if (options.size !== undefined) this.setCommon('queueSize', options.size);
    const size = this.common('queueSize');
    const queue = new FakeQueue(
      this.memory,
      size,
      (options.features ?? 0n) & (1n << 29n) ? 'event-idx' : 'flags',
    );
    this.setQueueAddresses(queue.descriptors, queue.avail, queue.used);
    this.setCommon('queueVector', index + 1).setCommon('queueEnable', 1);
    this.queues[index] = queue;
    return queue;
  }

  /** Of the selected queue, as six 32-bit writes. */
  setQueueAddresses(descriptors: number, avail: number, used: number): this {
    const { bar, offset } = this.place(VIRTIO_PCI_CAP_COMMON_CFG);
    [descriptors, avail, used].forEach((address, i) => {
      this.write(bar, offset + 0x20 + 8 * i, 4, address % 2 ** 32);
      this.write(bar, offset + 0x24 + 8 * i, 4, Math.floor(address / 2 ** 32));
    });
    return this;
  }

  driverOk(): this {
    return this.setStatus(VIRTIO_CONFIG_S_DRIVER_OK);
  }

  /** Reset to DRIVER_OK with all queues, config vector 0, and the offered features unless told otherwise. */
  bringUp(options: { features?: bigint; queueSize?: number } = {}): this {
    this.enableBusMaster().reset().acknowledge();
    const features = options.features ?? this.offeredFeatures();
    if (!this.negotiate(features)) throw new Error('features were refused');
    this.setCommon('configVector', 0);
    for (let index = 0; index < this.common('numQueues'); index++) {
      this.setUpQueue(index, { features, ...(options.queueSize ? { size: options.queueSize } : {}) });
    }
    return this.driverOk().run();
  }

  // Queues.

  queue(index: number): FakeQueue {
    const queue = this.queues[index];
    if (!queue) throw new Error(`queue ${index} is not set up`);
    return queue;
  }

  /** Writes the doorbell of the queue. */
  kick(index: number): this {
    const { bar, offset } = this.place(VIRTIO_PCI_CAP_NOTIFY_CFG);
    return this.write(bar, offset + index * this.#notifyMultiplier, 2, index);
  }

  /** Lets the device work until it has nothing left to do. */
  run(): this {
    while (this.fn.service({ spend: () => true })) {
      // Nothing: `service` does the work.
    }
    return this;
  }

  /** Sends one request and returns what the device wrote back, cut to the used length. */
  request(index: number, request: Uint8Array, responseLength = 24): Uint8Array {
    const queue = this.queue(index);
    const out = this.memory.allocate(request.length);
    this.memory.bytes(out, request.length).set(request);
    const into = responseLength > 0 ? this.memory.allocate(responseLength) : 0;
    const segments: Descriptor[] = [{ address: out, length: request.length }];
    if (responseLength > 0)
      segments.push({ address: into, length: responseLength, flags: VIRTQ_DESC_F_WRITE });
    queue.add(segments);
    this.kick(index).run();
    const used = queue.takeUsed();
    if (used.length !== 1) throw new Error(`expected one used entry, got ${used.length}`);
    return this.memory.bytes(into, (used[0] as Used).written).slice();
  }
}

/** The driver's half of a split queue. */
export class FakeQueue {
  readonly memory: DriverMemory;
  readonly size: number;
  readonly descriptors: number;
  readonly avail: number;
  readonly used: number;
  readonly #events: 'event-idx' | 'flags';
  #nextDescriptor = 0;
  #availIdx = 0;
  #usedIdx = 0;

  constructor(memory: DriverMemory, size: number, events: 'event-idx' | 'flags') {
    this.memory = memory;
    this.size = size;
    this.#events = events;
    this.descriptors = memory.allocate(16 * size, 16);
    this.avail = memory.allocate(6 + 2 * size, 2);
    this.used = memory.allocate(6 + 8 * size, 4);
  }

  get availIdx(): number {
    return this.#availIdx;
  }

  /** Writes one descriptor as it is. */
  setDescriptor(index: number, descriptor: Descriptor, table = this.descriptors): void {
    const data = this.memory.data(table + 16 * index, 16);
    data.setUint32(0, descriptor.address % 2 ** 32, true);
    data.setUint32(4, Math.floor(descriptor.address / 2 ** 32), true);
    data.setUint32(8, descriptor.length, true);
    data.setUint16(12, descriptor.flags ?? 0, true);
    data.setUint16(14, descriptor.next ?? 0, true);
  }

  /** Links the segments into a chain and makes it available; returns its head. */
  add(segments: readonly Descriptor[]): number {
    const heads = segments.map((_, i) => (this.#nextDescriptor + i) % this.size);
    segments.forEach((segment, i) => {
      const last = i === segments.length - 1;
      const flags = (segment.flags ?? 0) | (last ? 0 : VIRTQ_DESC_F_NEXT);
      this.setDescriptor(heads[i] as number, {
        ...segment,
        flags,
        next: last ? 0 : (heads[i + 1] as number),
      });
    });
    this.#nextDescriptor = (this.#nextDescriptor + segments.length) % this.size;
    this.makeAvailable(heads[0] as number);
    return heads[0] as number;
  }

  /** The same through an indirect table: one descriptor of the ring. */
  addIndirect(segments: readonly Descriptor[]): number {
    const table = this.memory.allocate(16 * segments.length, 16);
    segments.forEach((segment, i) => {
      const last = i === segments.length - 1;
      const flags = (segment.flags ?? 0) | (last ? 0 : VIRTQ_DESC_F_NEXT);
      this.setDescriptor(i, { ...segment, flags, next: i + 1 }, table);
    });
    return this.add([{ address: table, length: 16 * segments.length, flags: VIRTQ_DESC_F_INDIRECT }]);
  }

  makeAvailable(head: number): void {
    this.memory.data(this.avail + 4 + 2 * (this.#availIdx % this.size), 2).setUint16(0, head, true);
    this.#availIdx = (this.#availIdx + 1) & 0xffff;
    this.setAvailIdx(this.#availIdx);
  }

  /** Writes the avail index as it is, also a wrong one. */
  setAvailIdx(index: number): void {
    this.memory.data(this.avail + 2, 2).setUint16(0, index & 0xffff, true);
  }

  /** Avail flags: bit 0 asks for no interrupts (without EVENT_IDX). */
  setAvailFlags(flags: number): void {
    this.memory.data(this.avail, 2).setUint16(0, flags, true);
  }

  /** The used index after which the driver wants an interrupt (with EVENT_IDX). */
  setUsedEvent(index: number): void {
    this.memory.data(this.avail + 4 + 2 * this.size, 2).setUint16(0, index & 0xffff, true);
  }

  get usedIdx(): number {
    return this.memory.data(this.used + 2, 2).getUint16(0, true);
  }

  get availEvent(): number {
    return this.memory.data(this.used + 4 + 8 * this.size, 2).getUint16(0, true);
  }

  /** Whether the device asks for a doorbell at the next request. */
  get wantsDoorbell(): boolean {
    if (this.#events === 'event-idx') return this.availEvent === this.#availIdx;
    return (this.memory.data(this.used, 2).getUint16(0, true) & 1) === 0;
  }

  /** Used entries since the last call. */
  takeUsed(): Used[] {
    const taken: Used[] = [];
    for (; this.#usedIdx !== this.usedIdx; this.#usedIdx = (this.#usedIdx + 1) & 0xffff) {
      const data = this.memory.data(this.used + 4 + 8 * (this.#usedIdx % this.size), 8);
      taken.push({ head: data.getUint32(0, true), written: data.getUint32(4, true) });
    }
    return taken;
  }
}
