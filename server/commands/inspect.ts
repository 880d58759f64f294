/** `vfio-user-gpu inspect`: what a vfio-user server says it is, for people or for `lspci -F`. */
import {
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_PM,
  PCI_CAP_ID_VNDR,
  VIRTIO_PCI_CAP_COMMON_CFG,
  VIRTIO_PCI_CAP_DEVICE_CFG,
  VIRTIO_PCI_CAP_ISR_CFG,
  VIRTIO_PCI_CAP_NOTIFY_CFG,
  VIRTIO_PCI_CAP_PCI_CFG,
  VIRTIO_PCI_CAP_SHARED_MEMORY_CFG,
} from '../../pci/capabilities.ts';
import type { InspectConfig } from '../cli.ts';
import { IRQ_NAMES, REGION_CONFIG, REGION_NAMES } from '../host/contract.ts';
import { VfioUserClient } from '../vfio-user/client.ts';
import { DEVICE_FLAGS_PCI, REGION_FLAG_MMAP } from '../vfio-user/protocol.ts';
import { viewOf } from '../wire.ts';

const STATUS_CAP_LIST = 0x10;
const BAR_IO = 0x1;
const BAR_64_BIT = 0x4;
const BAR_PREFETCHABLE = 0x8;
const MAX_CAPABILITIES = 48;

interface Region {
  readonly index: number;
  readonly sizeBytes: number;
  readonly flags: number;
}

export async function inspect(config: InspectConfig): Promise<number> {
  const client = VfioUserClient.connect(config.socketPath);
  try {
    await client.handshake();
    const { flags, numRegions, numIrqs } = await client.deviceInfo();
    if (!(flags & DEVICE_FLAGS_PCI)) throw new Error('the server is not a PCI device');
    const regions: Region[] = [];
    for (let index = 0; index < numRegions; index++) {
      const { size, flags } = await client.regionInfo(index);
      regions.push({ index, sizeBytes: size, flags });
    }
    const bytes = await client.readRegion(REGION_CONFIG, 0, regions[REGION_CONFIG]?.sizeBytes ?? 256);
    if (config.hex) {
      process.stdout.write(hexDump(bytes));
      return 0;
    }
    const irqs: number[] = [];
    for (let index = 0; index < numIrqs; index++) irqs.push((await client.irqInfo(index)).count);
    process.stdout.write(describe(bytes, regions, irqs));
    return 0;
  } finally {
    client.close();
  }
}

/** Config space as `lspci -xxx` prints it. */
export function hexDump(bytes: Uint8Array): string {
  const lines = ['00:00.0 vfio-user device'];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = Array.from(bytes.subarray(at, at + 16), (byte) => hex(byte, 2));
    lines.push(`${hex(at, 2)}: ${row.join(' ')}`);
  }
  return `${lines.join('\n')}\n\n`;
}

/** The same for people. */
export function describe(config: Uint8Array, regions: readonly Region[], irqs: readonly number[]): string {
  const view = viewOf(config);
  const u8 = (at: number) => view.getUint8(at);
  const u16 = (at: number) => view.getUint16(at, true);
  const u32 = (at: number) => view.getUint32(at, true);
  const lines = [
    `device      ${hex(u16(0), 4)}:${hex(u16(2), 4)} revision ${hex(u8(8), 2)} class ${hex(u32(8) >>> 8, 6)}`,
    `subsystem   ${hex(u16(0x2c), 4)}:${hex(u16(0x2e), 4)}`,
    `interrupts  ${irqs.map((count, index) => `${IRQ_NAMES[index] ?? index} ${count}`).join(', ')}`,
  ];
  for (const { index, sizeBytes, flags } of regions) {
    if (sizeBytes === 0) continue;
    const kind = index < 6 ? `, ${barKind(u32(0x10 + 4 * index))}` : '';
    const mappable = flags & REGION_FLAG_MMAP ? ', mappable' : '';
    lines.push(`region      ${REGION_NAMES[index] ?? index}: ${size(sizeBytes)}${kind}${mappable}`);
  }
  if (u16(6) & STATUS_CAP_LIST) {
    let at = u8(0x34);
    for (let n = 0; at >= 0x40 && at + 2 <= config.length && n < MAX_CAPABILITIES; n++, at = u8(at + 1)) {
      lines.push(`capability  [${hex(at, 2)}] ${describeCapability(config.subarray(at))}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

function barKind(register: number): string {
  if (register & BAR_IO) return 'I/O ports';
  const width = register & BAR_64_BIT ? '64-bit' : '32-bit';
  return `${width} memory${register & BAR_PREFETCHABLE ? ', prefetchable' : ''}`;
}

function describeCapability(bytes: Uint8Array): string {
  // A capability at the end of config space may be cut; what is missing reads as zeros.
  const whole = new Uint8Array(64);
  whole.set(bytes.subarray(0, 64));
  const view = viewOf(whole);
  const u32 = (at: number) => view.getUint32(at, true);
  const place = (word: number) => `BAR${word & 7}+0x${(word & ~7).toString(16)}`;
  switch (whole[0]) {
    case PCI_CAP_ID_MSIX: {
      const control = view.getUint16(2, true);
      const state = control & 0x8000 ? 'enabled' : 'disabled';
      return `MSI-X: ${(control & 0x7ff) + 1} vectors, ${state}, table ${place(u32(4))}, PBA ${place(u32(8))}`;
    }
    case PCI_CAP_ID_PM: {
      const control = view.getUint16(4, true);
      return `power management: D${control & 3}${control & 8 ? ', no soft reset' : ''}`;
    }
    case PCI_CAP_ID_VNDR:
      return describeVirtio(view);
    default:
      return `id ${hex(whole[0] ?? 0, 2)}`;
  }
}

const VIRTIO_STRUCTURES: Readonly<Record<number, string>> = {
  [VIRTIO_PCI_CAP_COMMON_CFG]: 'common configuration',
  [VIRTIO_PCI_CAP_NOTIFY_CFG]: 'notifications',
  [VIRTIO_PCI_CAP_ISR_CFG]: 'ISR',
  [VIRTIO_PCI_CAP_DEVICE_CFG]: 'device configuration',
  [VIRTIO_PCI_CAP_PCI_CFG]: 'window into BARs',
  [VIRTIO_PCI_CAP_SHARED_MEMORY_CFG]: 'shared memory',
};

function describeVirtio(view: DataView): string {
  const type = view.getUint8(3);
  const name = VIRTIO_STRUCTURES[type];
  if (!name) return `vendor specific, type ${type}`;
  const shared = type === VIRTIO_PCI_CAP_SHARED_MEMORY_CFG;
  const upper = (at: number) => (shared ? view.getUint32(at, true) * 2 ** 32 : 0);
  const offset = view.getUint32(8, true) + upper(16);
  const length = view.getUint32(12, true) + upper(20);
  const multiplier = type === VIRTIO_PCI_CAP_NOTIFY_CFG ? `, multiplier ${view.getUint32(16, true)}` : '';
  const id = shared ? ` ${view.getUint8(5)}` : '';
  return `virtio ${name}${id}: BAR${view.getUint8(4)}+0x${offset.toString(16)}, ${size(length)}${multiplier}`;
}

const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0');

/** A size in the largest unit that keeps it whole. */
function size(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB'];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && value % 1024 === 0 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value} ${units[unit]}`;
}
