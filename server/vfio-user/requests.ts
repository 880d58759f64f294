/**
 * One entry per command of the client: check the body against its layout, call one method of the host, return the
 * body of the reply. What is refused is refused before anything was done, with a `ProtocolError`.
 */
import { EINVAL, ENOSPC, ProtocolError } from '../errors.ts';
import { type DeviceHost, NUM_IRQS, NUM_REGIONS, type Region } from '../host/contract.ts';
import { type Codec, decode, encode, viewOf } from '../wire.ts';
import type { Message } from './framing.ts';

import {
  DEVICE_FEATURE,
  DEVICE_FLAGS_PCI,
  DEVICE_FLAGS_RESET,
  DEVICE_GET_INFO,
  DEVICE_GET_IRQ_INFO,
  DEVICE_GET_REGION_INFO,
  DEVICE_GET_REGION_IO_FDS,
  DEVICE_RESET,
  DEVICE_SET_IRQS,
  DMA_MAP,
  DMA_MAP_FILE_IO,
  DMA_MAP_MMAP,
  DMA_MAP_READABLE,
  DMA_MAP_WRITEABLE,
  DMA_UNMAP,
  DMA_UNMAP_ALL,
  DMA_UNMAP_GET_DIRTY,
  deviceFeature,
  deviceInfo,
  dmaMap,
  dmaUnmap,
  IO_FD_TYPE_IOEVENTFD,
  ioEventFd,
  irqInfo,
  MIG_DATA_READ,
  MIG_DATA_WRITE,
  REGION_FLAG_MMAP,
  REGION_FLAG_READ,
  REGION_FLAG_WRITE,
  REGION_READ,
  REGION_WRITE,
  REGION_WRITE_MULTI,
  regionAccess,
  regionInfo,
  regionIoFds,
  WRITE_MULTI_MAX_BYTES,
  WRITE_MULTI_MAX_ENTRIES,
  writeMulti,
  writeMultiEntry,
} from './protocol.ts';
import { parseSetIrqs } from './set-irqs.ts';
import { MAX_DATA_XFER_SIZE } from './version.ts';

/** What goes back: body bytes, and at most one descriptor, which stays the host's. */
export interface Reply {
  readonly body: Uint8Array;
  readonly fd?: number;
}

export interface RequestContext {
  readonly host: DeviceHost;
  /** Whether REGION_WRITE_MULTI was offered to this client. */
  readonly writeMultiple: boolean;
  /** DMA windows at one time, as negotiated. */
  readonly maxDmaMaps: number;
}

type Handler = (context: RequestContext, message: Message) => Reply;

const EMPTY: Reply = { body: new Uint8Array(0) };
/** Largest window libvfio-user takes, and more than any guest has. */
const MAX_DMA_SIZE_BYTES = 8 * 2 ** 40;
/** Beyond this an `argsz` is nonsense; nothing is ever allocated by it. */
const MAX_ARGSZ = 1 << 20;
/** Accesses a guest can cause are at most this wide: they never fail. */
const MAX_GUEST_ACCESS_BYTES = 8;

function refuse(message: string): never {
  throw new ProtocolError(EINVAL, message);
}

/** Decodes a body that must be at least as long as its layout. */
function parse<T>(codec: Codec<T>, message: Message): T {
  if (message.body.length < codec.size) refuse(`body of ${message.body.length} bytes, need ${codec.size}`);
  return decode(codec, message.body);
}

/** The same for a body that starts with `argsz`, which may not be less than the layout either. */
function parseArgs<T extends { readonly argsz: number }>(codec: Codec<T>, message: Message): T {
  const request = parse(codec, message);
  if (request.argsz < codec.size) refuse(`argsz ${request.argsz}, need ${codec.size}`);
  return request;
}

const mapDma: Handler = ({ host, maxDmaMaps }, message) => {
  const request = parseArgs(dmaMap, message);
  const { flags, address, size, offset } = request;
  const known = DMA_MAP_READABLE | DMA_MAP_WRITEABLE | DMA_MAP_MMAP | DMA_MAP_FILE_IO;
  if (flags & ~known) refuse(`DMA_MAP flags 0x${flags.toString(16)}`);
  if (message.fds.count > 1) refuse(`DMA_MAP with ${message.fds.count} descriptors`);
  if (flags & (DMA_MAP_MMAP | DMA_MAP_FILE_IO) && message.fds.count === 0)
    refuse('DMA_MAP of a file without one');
  if (size === 0 || !Number.isSafeInteger(address + size))
    refuse(`DMA_MAP of 0x${address.toString(16)}+${size}`);
  if (size > MAX_DMA_SIZE_BYTES) throw new ProtocolError(ENOSPC, `DMA_MAP of ${size} bytes`);
  if (!Number.isSafeInteger(offset + size)) refuse(`DMA_MAP at file offset ${offset}`);
  const window = {
    address,
    sizeBytes: size,
    readable: (flags & DMA_MAP_READABLE) !== 0,
    writable: (flags & DMA_MAP_WRITEABLE) !== 0,
    fileOffset: offset,
  };
  host.mapDma(window, message.fds.takeAll()[0], maxDmaMaps);
  return EMPTY;
};

const unmapDma: Handler = ({ host }, message) => {
  const { argsz, flags, address, size } = parseArgs(dmaUnmap, message);
  if (argsz > MAX_ARGSZ) refuse(`argsz ${argsz}`);
  if (flags & DMA_UNMAP_GET_DIRTY) refuse('DMA_UNMAP asks for dirty pages, which are not tracked');
  if (flags & ~DMA_UNMAP_ALL) refuse(`DMA_UNMAP flags 0x${flags.toString(16)}`);
  if (flags & DMA_UNMAP_ALL) {
    if (address !== 0 || size !== 0) refuse('DMA_UNMAP of everything with a range');
    host.unmapAllDma();
  } else {
    if (size === 0 || !Number.isSafeInteger(address + size))
      refuse(`DMA_UNMAP of 0x${address.toString(16)}+${size}`);
    host.unmapDma(address, size);
  }
  return { body: message.body.slice(0, dmaUnmap.size) };
};

const getInfo: Handler = (_, message) => {
  parseArgs(deviceInfo, message);
  const flags = DEVICE_FLAGS_RESET | DEVICE_FLAGS_PCI;
  return {
    body: encode(deviceInfo, { argsz: deviceInfo.size, flags, numRegions: NUM_REGIONS, numIrqs: NUM_IRQS }),
  };
};

const getRegionInfo: Handler = ({ host }, message) => {
  const { index } = parseArgs(regionInfo, message);
  const region = host.regions[index] ?? refuse(`region ${index}`);
  const access = region.sizeBytes > 0 ? REGION_FLAG_READ | REGION_FLAG_WRITE : 0;
  const body = encode(regionInfo, {
    argsz: regionInfo.size,
    flags: access | (region.fd === undefined ? 0 : REGION_FLAG_MMAP),
    index,
    capOffset: 0,
    size: region.sizeBytes,
    offset: 0,
  });
  return region.fd === undefined ? { body } : { body, fd: region.fd };
};

const getRegionIoFds: Handler = ({ host }, message) => {
  const { argsz, flags, index, count } = parseArgs(regionIoFds, message);
  if (argsz > MAX_ARGSZ || flags !== 0 || count !== 0)
    refuse('REGION_IO_FDS with flags, a count or a huge argsz');
  existing(host, index);
  const doorbells = host.doorbells.filter(({ region }) => region === index);
  const size = regionIoFds.size + doorbells.length * ioEventFd.size;
  const head = encode(regionIoFds, { argsz: size, flags: 0, index, count: doorbells.length });
  if (argsz < size || doorbells.length === 0) return { body: head };
  // All doorbells share one eventfd, because some clients take no more than one descriptor from a reply.
  const body = new Uint8Array(size);
  body.set(head);
  doorbells.forEach(({ offset, sizeBytes, datamatch }, i) => {
    const entry = { offset, size: sizeBytes, fdIndex: 0, type: IO_FD_TYPE_IOEVENTFD, flags: 0, datamatch };
    ioEventFd.put(viewOf(body), regionIoFds.size + i * ioEventFd.size, { ...entry });
  });
  return { body, fd: host.doorbellEventfd() };
};

const getIrqInfo: Handler = ({ host }, message) => {
  const { index } = parseArgs(irqInfo, message);
  const irq = host.irqs[index] ?? refuse(`interrupt index ${index}`);
  return { body: encode(irqInfo, { argsz: irqInfo.size, flags: irq.flags, index, count: irq.count }) };
};

const setIrqs: Handler = ({ host }, message) => {
  const request = parseSetIrqs(message.body, message.fds, host.irqs);
  switch (request.kind) {
    case 'attach':
      host.attachEventfds(request.index, request.start, request.fds);
      return EMPTY;
    case 'detach':
      host.detachEventfds(request.index, request.start, request.count);
      return EMPTY;
    case 'trigger':
      host.triggerIrqs(request.index, request.vectors);
      return EMPTY;
    default:
      return request satisfies never;
  }
};

/** A region that is there. */
function existing(host: DeviceHost, index: number): Region {
  const region = host.regions[index];
  return region && region.sizeBytes > 0 ? region : refuse(`region ${index} does not exist`);
}

/** Any access as wide as a guest's succeeds wherever it points; a wider one must lie inside the region. */
function checkAccess(
  host: DeviceHost,
  { region, offset, count }: { region: number; offset: number; count: number },
) {
  const { sizeBytes } = existing(host, region);
  if (count > MAX_DATA_XFER_SIZE) refuse(`access of ${count} bytes`);
  if (count > MAX_GUEST_ACCESS_BYTES && offset + count > sizeBytes) refuse(`access beyond region ${region}`);
}

/** Answers to reads as wide as a guest's, by width: one buffer each for ever, sent before the next is made. */
const SMALL = Array.from({ length: MAX_GUEST_ACCESS_BYTES + 1 }, (_, count) => {
  const body = new Uint8Array(regionAccess.size + count);
  return { reply: { body }, data: body.subarray(regionAccess.size) };
});

const readRegion: Handler = ({ host }, message) => {
  const access = parse(regionAccess, message);
  checkAccess(host, access);
  const small = SMALL[access.count];
  if (small) {
    small.reply.body.set(message.body.subarray(0, regionAccess.size));
    if (access.count > 0) host.readRegion(access.region, access.offset, small.data);
    return small.reply;
  }
  const body = new Uint8Array(regionAccess.size + access.count);
  body.set(message.body.subarray(0, regionAccess.size));
  if (access.count > 0) host.readRegion(access.region, access.offset, body.subarray(regionAccess.size));
  return { body };
};

const writeRegion: Handler = ({ host }, message) => {
  const access = parse(regionAccess, message);
  checkAccess(host, access);
  const data = message.body.subarray(regionAccess.size);
  if (data.length !== access.count) refuse(`${data.length} bytes of data for a write of ${access.count}`);
  if (access.count > 0) host.writeRegion(access.region, access.offset, data);
  return { body: message.body.subarray(0, regionAccess.size) };
};

const writeRegionMulti: Handler = ({ host, writeMultiple }, message) => {
  if (!writeMultiple) refuse('REGION_WRITE_MULTI was not offered');
  const { count } = parse(writeMulti, message);
  if (count < 1 || count > WRITE_MULTI_MAX_ENTRIES) refuse(`${count} writes in one message`);
  if (message.body.length !== writeMulti.size + count * writeMultiEntry.size)
    refuse('entries do not fill the body');
  const view = viewOf(message.body);
  const entries = Array.from({ length: count }, (_, i) =>
    writeMultiEntry.get(view, writeMulti.size + i * writeMultiEntry.size),
  );
  for (const entry of entries) {
    if (entry.count > WRITE_MULTI_MAX_BYTES) refuse(`write of ${entry.count} bytes`);
    checkAccess(host, entry);
  }
  for (const { region, offset, count: width, data } of entries) {
    if (width > 0) host.writeRegion(region, offset, data.subarray(0, width));
  }
  return { body: message.body.slice(0, writeMulti.size) };
};

const reset: Handler = ({ host }) => {
  host.reset();
  return EMPTY;
};

/** Migration and dirty-page logging are not offered, so no feature can be got, set or even probed. */
const feature: Handler = (_, message) => {
  const { flags } = parse(deviceFeature, message);
  return refuse(`DEVICE_FEATURE 0x${flags.toString(16)}`);
};

const noMigration: Handler = () => refuse('there is no migration');

/** Layouts of the answers that have any, by command. Those to REGION_READ have `count` bytes more. */
const ANSWERS: Readonly<Record<number, { readonly size: number }>> = {
  [DMA_UNMAP]: dmaUnmap,
  [DEVICE_GET_INFO]: deviceInfo,
  [DEVICE_GET_REGION_INFO]: regionInfo,
  [DEVICE_GET_REGION_IO_FDS]: regionIoFds,
  [DEVICE_GET_IRQ_INFO]: irqInfo,
  [REGION_READ]: regionAccess,
  [REGION_WRITE]: regionAccess,
  [REGION_WRITE_MULTI]: writeMulti,
};

/**
 * The body of an error reply for clients that wait for a whole answer whatever its header says, as cloud-hypervisor's
 * does under a lock that its vCPUs need: as long as the answer would have been, with the beginning of the request, and
 * zeros as data. Empty for a read of more than a message holds, which no client waits for that has agreed on the limit.
 */
export function refusalBody({ command, body }: Message): Uint8Array {
  const size = ANSWERS[command]?.size ?? 0;
  const isRead = command === REGION_READ && body.length >= regionAccess.size;
  const dataBytes = isRead ? decode(regionAccess, body).count : 0;
  if (dataBytes > MAX_DATA_XFER_SIZE) return EMPTY.body;
  const answer = new Uint8Array(size + dataBytes);
  answer.set(body.subarray(0, size));
  return answer;
}

export const HANDLERS: Readonly<Record<number, Handler>> = {
  [DMA_MAP]: mapDma,
  [DMA_UNMAP]: unmapDma,
  [DEVICE_GET_INFO]: getInfo,
  [DEVICE_GET_REGION_INFO]: getRegionInfo,
  [DEVICE_GET_REGION_IO_FDS]: getRegionIoFds,
  [DEVICE_GET_IRQ_INFO]: getIrqInfo,
  [DEVICE_SET_IRQS]: setIrqs,
  [REGION_READ]: readRegion,
  [REGION_WRITE]: writeRegion,
  [REGION_WRITE_MULTI]: writeRegionMulti,
  [DEVICE_RESET]: reset,
  [DEVICE_FEATURE]: feature,
  [MIG_DATA_READ]: noMigration,
  [MIG_DATA_WRITE]: noMigration,
};
