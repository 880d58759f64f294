/** The numbers and layouts of vfio-user (docs/interop/vfio-user.rst of QEMU), and nothing else. */
import { array, bytes, pad, span, struct, u16, u32, u64 } from '../wire.ts';

/** The header: message id u16, command u16, message size u32 (header included), flags u32, error u32. */
export const HEADER_SIZE = 16;
export const HEADER_COMMAND = 2;
export const HEADER_MESSAGE_SIZE = 4;
export const HEADER_FLAGS = 8;
export const HEADER_ERROR = 12;

export const FLAG_TYPE_MASK = 0xf;
export const TYPE_COMMAND = 0;
export const TYPE_REPLY = 1;
export const FLAG_NO_REPLY = 0x10;
export const FLAG_ERROR = 0x20;

export const VERSION = 1;
export const DMA_MAP = 2;
export const DMA_UNMAP = 3;
export const DEVICE_GET_INFO = 4;
export const DEVICE_GET_REGION_INFO = 5;
export const DEVICE_GET_REGION_IO_FDS = 6;
export const DEVICE_GET_IRQ_INFO = 7;
export const DEVICE_SET_IRQS = 8;
export const REGION_READ = 9;
export const REGION_WRITE = 10;
export const DMA_READ = 11;
export const DMA_WRITE = 12;
export const DEVICE_RESET = 13;
export const REGION_WRITE_MULTI = 15;
export const DEVICE_FEATURE = 16;
export const MIG_DATA_READ = 17;
export const MIG_DATA_WRITE = 18;

export const COMMAND_NAMES: Readonly<Record<number, string>> = {
  [VERSION]: 'VERSION',
  [DMA_MAP]: 'DMA_MAP',
  [DMA_UNMAP]: 'DMA_UNMAP',
  [DEVICE_GET_INFO]: 'DEVICE_GET_INFO',
  [DEVICE_GET_REGION_INFO]: 'DEVICE_GET_REGION_INFO',
  [DEVICE_GET_REGION_IO_FDS]: 'DEVICE_GET_REGION_IO_FDS',
  [DEVICE_GET_IRQ_INFO]: 'DEVICE_GET_IRQ_INFO',
  [DEVICE_SET_IRQS]: 'DEVICE_SET_IRQS',
  [REGION_READ]: 'REGION_READ',
  [REGION_WRITE]: 'REGION_WRITE',
  [DMA_READ]: 'DMA_READ',
  [DMA_WRITE]: 'DMA_WRITE',
  [DEVICE_RESET]: 'DEVICE_RESET',
  [REGION_WRITE_MULTI]: 'REGION_WRITE_MULTI',
  [DEVICE_FEATURE]: 'DEVICE_FEATURE',
  [MIG_DATA_READ]: 'MIG_DATA_READ',
  [MIG_DATA_WRITE]: 'MIG_DATA_WRITE',
};

/** A VERSION body: this, then JSON text with its final NUL. */
export const version = struct(4, { major: u16, minor: u16 });

export const DMA_MAP_READABLE = 0x1;
export const DMA_MAP_WRITEABLE = 0x2;
/** Not in the specification, but libvfio-user's clients say how they expect the fd to be used. */
export const DMA_MAP_MMAP = 0x4;
export const DMA_MAP_FILE_IO = 0x8;
export const dmaMap = struct(32, { argsz: u32, flags: u32, offset: span, address: span, size: span });

export const DMA_UNMAP_GET_DIRTY = 0x1;
export const DMA_UNMAP_ALL = 0x2;
export const dmaUnmap = struct(24, { argsz: u32, flags: u32, address: span, size: span });

export const DEVICE_FLAGS_RESET = 0x1;
export const DEVICE_FLAGS_PCI = 0x2;
export const deviceInfo = struct(16, { argsz: u32, flags: u32, numRegions: u32, numIrqs: u32 });

export const REGION_FLAG_READ = 0x1;
export const REGION_FLAG_WRITE = 0x2;
export const REGION_FLAG_MMAP = 0x4;
export const REGION_FLAG_CAPS = 0x8;
export const regionInfo = struct(32, {
  argsz: u32,
  flags: u32,
  index: u32,
  capOffset: u32,
  size: span,
  offset: span,
});

/** A capability of a region, and the list of areas that may be mapped (id 1). */
export const REGION_INFO_CAP_SPARSE_MMAP = 1;
export const regionCapability = struct(8, { id: u16, version: u16, next: u32 });
export const sparseMmap = struct(16, { id: u16, version: u16, next: u32, nrAreas: u32, _reserved: pad(4) });
export const sparseArea = struct(16, { offset: span, size: span });

export const IO_FD_TYPE_IOEVENTFD = 0;
export const regionIoFds = struct(16, { argsz: u32, flags: u32, index: u32, count: u32 });
export const ioEventFd = struct(40, {
  offset: span,
  size: span,
  fdIndex: u32,
  type: u32,
  flags: u32,
  _padding: pad(4),
  datamatch: u64,
});

export const irqInfo = struct(16, { argsz: u32, flags: u32, index: u32, count: u32 });

export const IRQ_SET_DATA_NONE = 0x01;
export const IRQ_SET_DATA_BOOL = 0x02;
export const IRQ_SET_DATA_EVENTFD = 0x04;
export const IRQ_SET_ACTION_MASK = 0x08;
export const IRQ_SET_ACTION_UNMASK = 0x10;
export const IRQ_SET_ACTION_TRIGGER = 0x20;
export const setIrqs = struct(20, { argsz: u32, flags: u32, index: u32, start: u32, count: u32 });

/** REGION_READ and REGION_WRITE: this, then `count` bytes of data in the reply or the request. */
export const regionAccess = struct(16, { offset: span, region: u32, count: u32 });

/** DMA_READ and DMA_WRITE, sent by the server: this, then `count` bytes in the reply or the request. */
export const dmaAccess = struct(16, { address: span, count: span });
/** The same in the first releases of QEMU that are clients. */
export const earlyDmaAccess = struct(12, { address: span, count: u32 });

export const WRITE_MULTI_MAX_ENTRIES = 200;
export const WRITE_MULTI_MAX_BYTES = 8;
export const writeMulti = struct(8, { count: span });
export const writeMultiEntry = struct(24, { offset: span, region: u32, count: u32, data: bytes(8) });

/** DEVICE_FEATURE flags: bits 0 to 15 are the feature, then what to do with it. */
export const DEVICE_FEATURE_MASK = 0xffff;
export const DEVICE_FEATURE_GET = 1 << 16;
export const DEVICE_FEATURE_SET = 1 << 17;
export const DEVICE_FEATURE_PROBE = 1 << 18;
export const deviceFeature = struct(8, { argsz: u32, flags: u32 });

/** For tools that print areas of a sparse region. */
export const sparseAreas = (count: number) => array(sparseArea, count);
