/**
 * Capabilities as bytes and masks: MSI-X, power management, and virtio's vendor capabilities
 * (virtio 1.3, 4.1.4). Bodies start behind the two-byte header of id and next pointer.
 */
import { le16, le32 } from './bytes.ts';
import type { Capability } from './config-space.ts';

export const PCI_CAP_ID_PM = 0x01;
export const PCI_CAP_ID_VNDR = 0x09;
export const PCI_CAP_ID_MSIX = 0x11;

export const PCI_MSIX_FLAGS = 2;
export const PCI_MSIX_FLAGS_ENABLE = 0x8000;
export const PCI_MSIX_FLAGS_MASKALL = 0x4000;

export const PCI_PM_CTRL = 4;
export const PCI_PM_CTRL_STATE_MASK = 0x0003;
export const PCI_D0 = 0;
export const PCI_D3HOT = 3;
export const PCI_PM_CTRL_NO_SOFT_RESET = 0x0008;

export const VIRTIO_PCI_CAP_COMMON_CFG = 1;
export const VIRTIO_PCI_CAP_NOTIFY_CFG = 2;
export const VIRTIO_PCI_CAP_ISR_CFG = 3;
export const VIRTIO_PCI_CAP_DEVICE_CFG = 4;
export const VIRTIO_PCI_CAP_PCI_CFG = 5;
export const VIRTIO_PCI_CAP_SHARED_MEMORY_CFG = 8;

/** A place inside a BAR. */
export interface BarRange {
  readonly bar: number;
  readonly offset: number;
  readonly lengthBytes: number;
}

/** PCI 3.0, 6.8.2: message control, then table and PBA as offset with the BAR number in the low three bits. */
export function msixCapability(vectorCount: number, table: BarRange, pba: BarRange): Capability {
  return {
    name: 'MSI-X',
    id: PCI_CAP_ID_MSIX,
    body: [...le16(vectorCount - 1), ...le32(table.offset | table.bar), ...le32(pba.offset | pba.bar)],
    writable: le16(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL),
  };
}

/**
 * PCI power management 1.2, 3.2, with No_Soft_Reset: going to D3hot and back keeps all state. Without that bit
 * Linux's virtio-gpu has a dead display after a suspend to RAM.
 */
export function powerManagementCapability(): Capability {
  const version = 3;
  return {
    name: 'power management',
    id: PCI_CAP_ID_PM,
    body: [...le16(version), ...le16(PCI_PM_CTRL_NO_SOFT_RESET), 0, 0],
    writable: [0, 0, ...le16(PCI_PM_CTRL_STATE_MASK), 0, 0],
  };
}

function virtioCapability(
  name: string,
  cfgType: number,
  range: BarRange,
  id: number,
  extra: readonly number[] = [],
): Capability {
  const length = 16 + extra.length;
  const { bar, offset, lengthBytes } = range;
  const place = [...le32(offset % 2 ** 32), ...le32(lengthBytes % 2 ** 32)];
  return {
    name,
    id: PCI_CAP_ID_VNDR,
    body: [length, cfgType, bar, id, 0, 0, ...place, ...extra],
  };
}

export const commonCapability = (range: BarRange): Capability =>
  virtioCapability('virtio common', VIRTIO_PCI_CAP_COMMON_CFG, range, 0);

export const isrCapability = (range: BarRange): Capability =>
  virtioCapability('virtio ISR', VIRTIO_PCI_CAP_ISR_CFG, range, 0);

export const deviceCapability = (range: BarRange): Capability =>
  virtioCapability('virtio device', VIRTIO_PCI_CAP_DEVICE_CFG, range, 0);

export const notifyCapability = (range: BarRange, multiplier: number): Capability =>
  virtioCapability('virtio notify', VIRTIO_PCI_CAP_NOTIFY_CFG, range, 0, le32(multiplier));

/** A range that may lie beyond 4 GiB: the upper halves of offset and length follow (virtio 1.3, 4.1.4.7). */
export function sharedMemoryCapability(range: BarRange, shmid: number): Capability {
  const upper = [
    ...le32(Math.floor(range.offset / 2 ** 32)),
    ...le32(Math.floor(range.lengthBytes / 2 ** 32)),
  ];
  return virtioCapability('virtio shared memory', VIRTIO_PCI_CAP_SHARED_MEMORY_CFG, range, shmid, upper);
}

/** Offsets inside the PCI_CFG capability of what software writes (virtio 1.3, 4.1.4.9). */
export const PCI_CFG_BAR = 4;
export const PCI_CFG_OFFSET = 8;
export const PCI_CFG_LENGTH = 12;
export const PCI_CFG_DATA = 16;

/** The window through which BARs can be reached from config space: BAR, offset, length and data are software's. */
export function pciCfgCapability(): Capability {
  const capability = virtioCapability(
    'virtio PCI_CFG',
    VIRTIO_PCI_CAP_PCI_CFG,
    { bar: 0, offset: 0, lengthBytes: 0 },
    0,
    le32(0),
  );
  const writable = capability.body.map((_, i) => {
    const offset = i + 2;
    return offset === PCI_CFG_BAR || offset >= PCI_CFG_OFFSET ? 0xff : 0;
  });
  return { ...capability, writable };
}
