/** The numbers and layouts of the cross-domain channel: capset, commands, answers. No standard has them. */
import { array, type Of, pad, struct, u8, u16, u32, u64 } from '../wire.ts';

export const VIRTIO_GPU_CAPSET_CROSS_DOMAIN = 5;

/** `supportedChannels` has bit 1 << type for each type of channel. */
export const crossDomainCapset = struct(16, {
  version: u32,
  supportedChannels: u32,
  supportsDmabuf: u32,
  supportsExternalGpuMemory: u32,
});
export const CROSS_DOMAIN_VERSION = 1;

export const CROSS_DOMAIN_CHANNEL_NONE = 0;
export const CROSS_DOMAIN_CHANNEL_WAYLAND = 1;

export const CROSS_DOMAIN_CMD_INIT = 1;
export const CROSS_DOMAIN_CMD_GET_IMAGE_REQUIREMENTS = 2;
export const CROSS_DOMAIN_CMD_POLL = 3;
export const CROSS_DOMAIN_CMD_SEND = 4;
/** To the channel ring, as the next one is. */
export const CROSS_DOMAIN_CMD_RECEIVE = 5;
export const CROSS_DOMAIN_CMD_READ = 6;
export const CROSS_DOMAIN_CMD_WRITE = 7;

/** Kinds of identifiers: a resource or received memory, a pipe the host reads for the guest, one it writes. */
export const CROSS_DOMAIN_ID_TYPE_VIRTGPU_BLOB = 1;
export const CROSS_DOMAIN_ID_TYPE_READ_PIPE = 3;
export const CROSS_DOMAIN_ID_TYPE_WRITE_PIPE = 4;
export const CROSS_DOMAIN_MAX_IDENTIFIERS = 28;
/** Guests number the pipes they want to read from here on. */
export const CROSS_DOMAIN_FIRST_READ_PIPE = 0x8000_0001;
/** Data of one RECEIVE; guests have buffers of one page. */
export const CROSS_DOMAIN_MAX_RECEIVE_BYTES = 3744;
/** Data of one READ. */
export const CROSS_DOMAIN_MAX_READ_BYTES = 4072;

/** Fences on this ring pass when the commands before them are done; on the other one, when a message has come. */
export const CROSS_DOMAIN_QUERY_RING = 0;
export const CROSS_DOMAIN_RINGS = 2;

export const commandHeader = struct(8, { command: u8, ringIdx: u8, sizeBytes: u16, _padding: pad(4) });

/** INIT as it was first: one ring for everything. */
export const initLegacy = struct(8, { queryRingId: u32, channelType: u32 });
/** INIT as it is; longer ones have more behind it. */
export const init = struct(12, { queryRingId: u32, channelRingId: u32, channelType: u32 });
export const getImageRequirements = struct(16, { width: u32, height: u32, format: u32, flags: u32 });
export const poll = struct(8, { _padding: pad(8) });

const identifiers = array(u32, CROSS_DOMAIN_MAX_IDENTIFIERS);
/** Behind the header of SEND and RECEIVE; the data follow. Unused identifiers are 0. */
export const transfer = struct(344, {
  count: u32,
  dataBytes: u32,
  ids: identifiers,
  types: identifiers,
  sizes: identifiers,
});
/** Behind the header of READ and WRITE; the data follow. */
export const pipeData = struct(16, { id: u32, hangUp: u32, dataBytes: u32, _padding: pad(4) });

/** What the query ring holds after GET_IMAGE_REQUIREMENTS. */
export const imageRequirements = struct(64, {
  strides: array(u32, 4),
  offsets: array(u32, 4),
  modifier: u64,
  sizeBytes: u64,
  blobId: u32,
  mapInfo: u32,
  memoryIdx: u32,
  physicalDeviceIdx: u32,
});
export type ImageRequirements = Of<typeof imageRequirements>;
/** Of an index: there is none. */
export const NO_INDEX = 0xffff_ffff;
