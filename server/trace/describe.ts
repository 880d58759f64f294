/**
 * Messages in words. Register names come from the device itself: a client's first read of the whole config space
 * tells where the virtio structures lie.
 */
import {
  VIRTIO_PCI_CAP_COMMON_CFG,
  VIRTIO_PCI_CAP_DEVICE_CFG,
  VIRTIO_PCI_CAP_ISR_CFG,
  VIRTIO_PCI_CAP_NOTIFY_CFG,
} from '../../pci/capabilities.ts';
import { commonConfigRegisters, initialCommonState } from '../../pci/virtio/common-config.ts';
import { IRQ_NAMES, REGION_CONFIG, REGION_NAMES } from '../host/contract.ts';
import {
  DEVICE_FEATURE,
  DEVICE_GET_INFO,
  DEVICE_GET_IRQ_INFO,
  DEVICE_GET_REGION_INFO,
  DEVICE_GET_REGION_IO_FDS,
  DEVICE_SET_IRQS,
  DMA_MAP,
  DMA_READ,
  DMA_UNMAP,
  DMA_WRITE,
  deviceFeature,
  deviceInfo,
  dmaAccess,
  dmaMap,
  dmaUnmap,
  FLAG_ERROR,
  FLAG_NO_REPLY,
  irqInfo,
  REGION_READ,
  REGION_WRITE,
  REGION_WRITE_MULTI,
  regionAccess,
  regionInfo,
  regionIoFds,
  setIrqs,
  VERSION,
  version,
  writeMulti,
} from '../vfio-user/protocol.ts';
import { decode, viewOf } from '../wire.ts';
import { commandName, type Direction } from './recording.ts';

export interface TracedMessage {
  readonly dir: Direction;
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  readonly error: number;
  readonly body: Uint8Array;
  readonly fdCount: number;
}

const PCI_CAP_ID_VNDR = 9;
const MAX_SHOWN_BYTES = 16;

const CONFIG_NAMES: Readonly<Record<number, string>> = {
  0: 'vendor',
  2: 'device',
  4: 'command',
  6: 'status',
  8: 'class/revision',
  14: 'header type',
  16: 'BAR0',
  20: 'BAR1',
  24: 'BAR2',
  28: 'BAR3',
  32: 'BAR4',
  36: 'BAR5',
  48: 'ROM',
  52: 'capabilities',
  60: 'interrupt line',
  61: 'interrupt pin',
};

const hex = (value: number) => `0x${value.toString(16)}`;

/** Names of the common configuration registers by offset: the table of the transport itself. */
function commonNames(): Map<number, string> {
  const registers = commonConfigRegisters({
    state: initialCommonState([]),
    offeredFeatures: 0n,
    vectorCount: 0,
    configGeneration: () => 0,
    writeStatus: () => {},
    guestError: () => {},
  });
  return new Map(registers.map(({ offset, name }) => [offset, name]));
}

interface Area {
  readonly region: number;
  readonly start: number;
  readonly end: number;
  readonly name: (offset: number) => string;
}

export class Describer {
  readonly #common = commonNames();
  #areas: Area[] = [];

  /** One line, without a line end. */
  describe(message: TracedMessage): string {
    const { dir, id, command, flags, error, fdCount } = message;
    const reply = (flags & 0xf) === 1;
    const arrow = dir === 'c2s' ? '>' : '<';
    const marks = [
      reply ? 'reply' : '',
      flags & FLAG_NO_REPLY ? 'posted' : '',
      flags & FLAG_ERROR ? `error ${error}` : '',
      fdCount > 0 ? `${fdCount} fd${fdCount > 1 ? 's' : ''}` : '',
    ].filter(Boolean);
    const words = [arrow, String(id).padStart(5), commandName(command), ...marks, this.#body(message, reply)];
    return words.filter(Boolean).join(' ');
  }

  #body({ command, body, flags }: TracedMessage, reply: boolean): string {
    if (flags & FLAG_ERROR || body.length === 0) return '';
    try {
      return this.#decode(command, body, reply);
    } catch {
      return `${body.length} bytes that do not fit: ${shown(body)}`;
    }
  }

  #decode(command: number, body: Uint8Array, reply: boolean): string {
    switch (command) {
      case VERSION: {
        const { major, minor } = decode(version, body);
        return `${major}.${minor} ${Buffer.from(body.subarray(4)).toString('utf8').replace(/\0$/, '')}`;
      }
      case DMA_MAP: {
        const { flags, offset, address, size } = decode(dmaMap, body);
        const access = `${flags & 1 ? 'r' : '-'}${flags & 2 ? 'w' : '-'}`;
        return `${hex(address)}+${hex(size)} ${access} file offset ${hex(offset)}`;
      }
      case DMA_UNMAP: {
        const { flags, address, size } = decode(dmaUnmap, body);
        return `${hex(address)}+${hex(size)}${flags ? ` flags ${hex(flags)}` : ''}`;
      }
      case DEVICE_GET_INFO: {
        const { flags, numRegions, numIrqs } = decode(deviceInfo, body);
        return reply ? `flags ${hex(flags)}, ${numRegions} regions, ${numIrqs} interrupt indexes` : '';
      }
      case DEVICE_GET_REGION_INFO: {
        const { argsz, flags, index, size } = decode(regionInfo, body);
        return `${regionName(index)}${reply ? ` size ${hex(size)} flags ${hex(flags)}` : ''} argsz ${argsz}`;
      }
      case DEVICE_GET_REGION_IO_FDS: {
        const { index, count } = decode(regionIoFds, body);
        return `${regionName(index)}${reply ? ` ${count} sub-regions` : ''}`;
      }
      case DEVICE_GET_IRQ_INFO: {
        const { index, flags, count } = decode(irqInfo, body);
        return `${irqName(index)}${reply ? ` ${count} vectors, flags ${hex(flags)}` : ''}`;
      }
      case DEVICE_SET_IRQS: {
        const { flags, index, start, count } = decode(setIrqs, body);
        return `${irqName(index)} ${irqFlags(flags)} ${start}+${count}`;
      }
      case REGION_READ:
      case REGION_WRITE:
        return this.#access(command, body, reply);
      case REGION_WRITE_MULTI:
        return `${decode(writeMulti, body).count} writes`;
      case DMA_READ:
      case DMA_WRITE: {
        const { address, count } = decode(dmaAccess, body);
        return `${hex(address)}+${count}`;
      }
      case DEVICE_FEATURE:
        return `flags ${hex(decode(deviceFeature, body).flags)}`;
      default:
        return shown(body);
    }
  }

  #access(command: number, body: Uint8Array, reply: boolean): string {
    const { offset, region, count } = decode(regionAccess, body);
    const data = body.subarray(regionAccess.size);
    if (command === REGION_READ && reply && region === REGION_CONFIG && offset === 0) this.#learn(data);
    const where = `${regionName(region)}+${hex(offset)} ${this.#registerName(region, offset)}`.trimEnd();
    return `${where} ${data.length > 0 ? `= ${shown(data)}` : `${count} bytes`}`;
  }

  #registerName(region: number, offset: number): string {
    if (region === REGION_CONFIG) return CONFIG_NAMES[offset] ?? '';
    const area = this.#areas.find((one) => one.region === region && offset >= one.start && offset < one.end);
    return area?.name(offset - area.start) ?? '';
  }

  /** Finds the virtio structures in a config space. */
  #learn(config: Uint8Array): void {
    if (config.length < 256) return;
    const view = viewOf(config);
    this.#areas = [];
    let at = view.getUint8(0x34);
    for (let n = 0; at >= 0x40 && at <= 0xec && n < 48; n++, at = view.getUint8(at + 1)) {
      if (view.getUint8(at) !== PCI_CAP_ID_VNDR) continue;
      const name = this.#areaNames(view.getUint8(at + 3));
      const start = view.getUint32(at + 8, true);
      const end = start + view.getUint32(at + 12, true);
      if (name) this.#areas.push({ region: view.getUint8(at + 4), start, end, name });
    }
  }

  #areaNames(type: number): ((offset: number) => string) | undefined {
    switch (type) {
      case VIRTIO_PCI_CAP_COMMON_CFG:
        return (offset) => this.#common.get(offset) ?? 'common';
      case VIRTIO_PCI_CAP_NOTIFY_CFG:
        return (offset) => `doorbell ${offset / 4}`;
      case VIRTIO_PCI_CAP_ISR_CFG:
        return () => 'ISR';
      case VIRTIO_PCI_CAP_DEVICE_CFG:
        return (offset) => `device config ${offset}`;
      default:
        return undefined;
    }
  }
}

const regionName = (index: number) => REGION_NAMES[index] ?? `region ${index}`;
const irqName = (index: number) => IRQ_NAMES[index] ?? `irq ${index}`;

function irqFlags(flags: number): string {
  const names = ['none', 'bool', 'eventfd', 'MASK', 'UNMASK', 'TRIGGER'];
  return names.filter((_, bit) => flags & (1 << bit)).join(' ');
}

/** Up to 4 bytes as a number, more as bytes. */
function shown(bytes: Uint8Array): string {
  if (bytes.length <= 4 && bytes.length > 0)
    return hex(bytes.reduceRight((value, byte) => value * 256 + byte, 0));
  const head = Buffer.from(bytes.subarray(0, MAX_SHOWN_BYTES)).toString('hex');
  return bytes.length > MAX_SHOWN_BYTES ? `${head}... (${bytes.length} bytes)` : head;
}
