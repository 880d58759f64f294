/**
 * The common configuration registers and the device status (virtio 1.3, 4.1.4.3 and 2.1), as data and a table.
 * What a write sets in motion is the transport's business.
 */
import { VIRTIO_MSI_NO_VECTOR } from '../msix.ts';
import type { Register } from '../registers.ts';
import type { QueueAddresses } from './queue.ts';

export const VIRTIO_CONFIG_S_ACKNOWLEDGE = 1;
export const VIRTIO_CONFIG_S_DRIVER = 2;
export const VIRTIO_CONFIG_S_DRIVER_OK = 4;
export const VIRTIO_CONFIG_S_FEATURES_OK = 8;
export const VIRTIO_CONFIG_S_NEEDS_RESET = 64;
export const VIRTIO_CONFIG_S_FAILED = 128;

/** Bits a driver sets freely. NEEDS_RESET is the device's; SUSPEND belongs to a feature that is not offered. */
const FREE_STATUS_BITS = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FAILED;

/**
 * The status after a driver wrote `written` (not 0, which is a reset) over `now`. Bits only ever get set; a driver
 * that clears one is wrong and not obeyed. FEATURES_OK is refused unless the features are acceptable, and DRIVER_OK
 * without FEATURES_OK is not latched.
 */
export function nextStatus(now: number, written: number, featuresAcceptable: boolean): number {
  let next = now | (written & FREE_STATUS_BITS);
  if (written & VIRTIO_CONFIG_S_FEATURES_OK && featuresAcceptable) next |= VIRTIO_CONFIG_S_FEATURES_OK;
  if (written & VIRTIO_CONFIG_S_DRIVER_OK && next & VIRTIO_CONFIG_S_FEATURES_OK)
    next |= VIRTIO_CONFIG_S_DRIVER_OK;
  return next;
}

export const VIRTIO_PCI_COMMON_CFG_LENGTH = 64;

/** Registers of one queue. Addresses are halves, as drivers write them. */
export interface QueueRegisters {
  readonly maxSize: number;
  size: number;
  vector: number;
  enabled: boolean;
  descLow: number;
  descHigh: number;
  driverLow: number;
  driverHigh: number;
  deviceLow: number;
  deviceHigh: number;
}

/** Everything a driver can set in the common configuration: plain data. */
export interface CommonState {
  deviceFeatureSelect: number;
  driverFeatureSelect: number;
  driverFeatures: bigint;
  configVector: number;
  status: number;
  queueSelect: number;
  readonly queues: QueueRegisters[];
}

export const initialCommonState = (queueSizes: readonly number[]): CommonState => ({
  deviceFeatureSelect: 0,
  driverFeatureSelect: 0,
  driverFeatures: 0n,
  configVector: VIRTIO_MSI_NO_VECTOR,
  status: 0,
  queueSelect: 0,
  queues: queueSizes.map((maxSize) => ({
    maxSize,
    size: maxSize,
    vector: VIRTIO_MSI_NO_VECTOR,
    enabled: false,
    descLow: 0,
    descHigh: 0,
    driverLow: 0,
    driverHigh: 0,
    deviceLow: 0,
    deviceHigh: 0,
  })),
});

export const queueAddresses = (queue: QueueRegisters): QueueAddresses => ({
  descriptors: queue.descHigh * 2 ** 32 + queue.descLow,
  avail: queue.driverHigh * 2 ** 32 + queue.driverLow,
  used: queue.deviceHigh * 2 ** 32 + queue.deviceLow,
});

/** What the registers need of the transport. */
export interface CommonConfigHost {
  readonly state: CommonState;
  readonly offeredFeatures: bigint;
  readonly vectorCount: number;
  readonly configGeneration: () => number;
  readonly writeStatus: (written: number) => void;
  readonly guestError: (kind: string, detail: string) => void;
}

const isPowerOfTwo = (value: number) => value > 0 && (value & (value - 1)) === 0;

/** The register table of 4.1.4.3. Selects beyond what exists read zeros and write nothing. */
export function commonConfigRegisters(host: CommonConfigHost): Register[] {
  const { state } = host;
  const selected = () => state.queues[state.queueSelect];
  const featureWord = (features: bigint, select: number) =>
    select < 4 ? Number((features >> BigInt(32 * select)) & 0xffff_ffffn) : 0;
  const validVector = (vector: number) => (vector < host.vectorCount ? vector : VIRTIO_MSI_NO_VECTOR);

  const writeDriverFeatures = (word: number) => {
    // 2.2.1: features are settled once FEATURES_OK is set.
    if (state.status & VIRTIO_CONFIG_S_FEATURES_OK || state.driverFeatureSelect >= 4) return;
    const shift = BigInt(32 * state.driverFeatureSelect);
    state.driverFeatures = (state.driverFeatures & ~(0xffff_ffffn << shift)) | (BigInt(word) << shift);
  };
  /** 4.1.4.3.2: a queue's registers are the driver's until it enables the queue. */
  const whileDisabled = (change: (queue: QueueRegisters) => void) => {
    const queue = selected();
    if (queue && !queue.enabled) change(queue);
  };
  const writeQueueSize = (size: number) =>
    whileDisabled((queue) => {
      if (isPowerOfTwo(size) && size <= queue.maxSize) queue.size = size;
    });
  const writeQueueEnable = (value: number) => {
    const queue = selected();
    if (!queue || value === 0) return;
    if (value === 1) queue.enabled = true;
    else host.guestError('queue-enable', `queue_enable = ${value}`);
  };
  type Half = 'descLow' | 'descHigh' | 'driverLow' | 'driverHigh' | 'deviceLow' | 'deviceHigh';
  const half = (name: Half) => ({
    read: () => selected()?.[name] ?? 0,
    write: (value: number) =>
      whileDisabled((queue) => {
        queue[name] = value;
      }),
  });

  return [
    {
      name: 'device_feature_select',
      offset: 0x00,
      width: 4,
      read: () => state.deviceFeatureSelect,
      write: (value) => {
        state.deviceFeatureSelect = value;
      },
    },
    {
      name: 'device_feature',
      offset: 0x04,
      width: 4,
      read: () => featureWord(host.offeredFeatures, state.deviceFeatureSelect),
    },
    {
      name: 'driver_feature_select',
      offset: 0x08,
      width: 4,
      read: () => state.driverFeatureSelect,
      write: (value) => {
        state.driverFeatureSelect = value;
      },
    },
    {
      name: 'driver_feature',
      offset: 0x0c,
      width: 4,
      read: () => featureWord(state.driverFeatures, state.driverFeatureSelect),
      write: writeDriverFeatures,
    },
    {
      name: 'config_msix_vector',
      offset: 0x10,
      width: 2,
      read: () => state.configVector,
      write: (value) => {
        state.configVector = validVector(value);
      },
    },
    { name: 'num_queues', offset: 0x12, width: 2, read: () => state.queues.length },
    { name: 'device_status', offset: 0x14, width: 1, read: () => state.status, write: host.writeStatus },
    { name: 'config_generation', offset: 0x15, width: 1, read: () => host.configGeneration() & 0xff },
    {
      name: 'queue_select',
      offset: 0x16,
      width: 2,
      read: () => state.queueSelect,
      write: (value) => {
        state.queueSelect = value;
      },
    },
    { name: 'queue_size', offset: 0x18, width: 2, read: () => selected()?.size ?? 0, write: writeQueueSize },
    {
      name: 'queue_msix_vector',
      offset: 0x1a,
      width: 2,
      read: () => selected()?.vector ?? VIRTIO_MSI_NO_VECTOR,
      write: (value) => {
        const queue = selected();
        if (queue) queue.vector = validVector(value);
      },
    },
    {
      name: 'queue_enable',
      offset: 0x1c,
      width: 2,
      read: () => (selected()?.enabled ? 1 : 0),
      write: writeQueueEnable,
    },
    { name: 'queue_notify_off', offset: 0x1e, width: 2, read: () => (selected() ? state.queueSelect : 0) },
    { name: 'queue_desc_lo', offset: 0x20, width: 4, wide: true, ...half('descLow') },
    { name: 'queue_desc_hi', offset: 0x24, width: 4, ...half('descHigh') },
    { name: 'queue_driver_lo', offset: 0x28, width: 4, wide: true, ...half('driverLow') },
    { name: 'queue_driver_hi', offset: 0x2c, width: 4, ...half('driverHigh') },
    { name: 'queue_device_lo', offset: 0x30, width: 4, wide: true, ...half('deviceLow') },
    { name: 'queue_device_hi', offset: 0x34, width: 4, ...half('deviceHigh') },
    // Registers of features that are not offered: Linux reads them to learn that they are not there.
    { name: 'queue_notif_config_data', offset: 0x38, width: 2 },
    { name: 'queue_reset', offset: 0x3a, width: 2 },
    { name: 'admin_queue_index', offset: 0x3c, width: 2 },
    { name: 'admin_queue_num', offset: 0x3e, width: 2 },
  ];
}
