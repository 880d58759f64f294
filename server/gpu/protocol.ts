/** The numbers and layouts of virtio-gpu (virtio 1.3, 5.7), and nothing else. */
import type { PixelOrder } from '../displays/display.ts';
import { array, bytes, type Of, pad, span, struct, u8, u32, u64 } from '../wire.ts';

export const VIRTIO_ID_GPU = 16;
/** Display controller that is neither VGA nor 3D. */
export const PCI_CLASS_DISPLAY_OTHER = 0x038000;

/** Feature bits (5.7.3). */
export const VIRTIO_GPU_F_VIRGL = 0;
export const VIRTIO_GPU_F_EDID = 1;
export const VIRTIO_GPU_F_RESOURCE_UUID = 2;
export const VIRTIO_GPU_F_RESOURCE_BLOB = 3;
export const VIRTIO_GPU_F_CONTEXT_INIT = 4;
export const VIRTIO_GPU_F_BLOB_ALIGNMENT = 5;

export const CONTROL_QUEUE = 0;
export const CURSOR_QUEUE = 1;

export const VIRTIO_GPU_MAX_SCANOUTS = 16;

/** Device configuration (5.7.4); the last field is there with BLOB_ALIGNMENT only. */
export const gpuConfig = struct(20, {
  eventsRead: u32,
  eventsClear: u32,
  numScanouts: u32,
  numCapsets: u32,
  blobAlignment: u32,
});
export const CONFIG_BYTES_WITHOUT_BLOB_ALIGNMENT = 16;
export const CONFIG_EVENTS_CLEAR = 4;
export const VIRTIO_GPU_EVENT_DISPLAY = 1;

export const VIRTIO_GPU_CMD_GET_DISPLAY_INFO = 0x0100;
export const VIRTIO_GPU_CMD_RESOURCE_CREATE_2D = 0x0101;
export const VIRTIO_GPU_CMD_RESOURCE_UNREF = 0x0102;
export const VIRTIO_GPU_CMD_SET_SCANOUT = 0x0103;
export const VIRTIO_GPU_CMD_RESOURCE_FLUSH = 0x0104;
export const VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D = 0x0105;
export const VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING = 0x0106;
export const VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING = 0x0107;
export const VIRTIO_GPU_CMD_GET_CAPSET_INFO = 0x0108;
export const VIRTIO_GPU_CMD_GET_CAPSET = 0x0109;
export const VIRTIO_GPU_CMD_GET_EDID = 0x010a;
export const VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID = 0x010b;
export const VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB = 0x010c;
export const VIRTIO_GPU_CMD_SET_SCANOUT_BLOB = 0x010d;
export const VIRTIO_GPU_CMD_CTX_CREATE = 0x0200;
export const VIRTIO_GPU_CMD_CTX_DESTROY = 0x0201;
export const VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE = 0x0202;
export const VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE = 0x0203;
export const VIRTIO_GPU_CMD_RESOURCE_CREATE_3D = 0x0204;
export const VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D = 0x0205;
export const VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D = 0x0206;
export const VIRTIO_GPU_CMD_SUBMIT_3D = 0x0207;
export const VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB = 0x0208;
export const VIRTIO_GPU_CMD_RESOURCE_UNMAP_BLOB = 0x0209;
export const VIRTIO_GPU_CMD_UPDATE_CURSOR = 0x0300;
export const VIRTIO_GPU_CMD_MOVE_CURSOR = 0x0301;

export const COMMAND_NAMES: Readonly<Record<number, string>> = {
  [VIRTIO_GPU_CMD_GET_DISPLAY_INFO]: 'GET_DISPLAY_INFO',
  [VIRTIO_GPU_CMD_RESOURCE_CREATE_2D]: 'RESOURCE_CREATE_2D',
  [VIRTIO_GPU_CMD_RESOURCE_UNREF]: 'RESOURCE_UNREF',
  [VIRTIO_GPU_CMD_SET_SCANOUT]: 'SET_SCANOUT',
  [VIRTIO_GPU_CMD_RESOURCE_FLUSH]: 'RESOURCE_FLUSH',
  [VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D]: 'TRANSFER_TO_HOST_2D',
  [VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING]: 'RESOURCE_ATTACH_BACKING',
  [VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING]: 'RESOURCE_DETACH_BACKING',
  [VIRTIO_GPU_CMD_GET_CAPSET_INFO]: 'GET_CAPSET_INFO',
  [VIRTIO_GPU_CMD_GET_CAPSET]: 'GET_CAPSET',
  [VIRTIO_GPU_CMD_GET_EDID]: 'GET_EDID',
  [VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID]: 'RESOURCE_ASSIGN_UUID',
  [VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB]: 'RESOURCE_CREATE_BLOB',
  [VIRTIO_GPU_CMD_SET_SCANOUT_BLOB]: 'SET_SCANOUT_BLOB',
  [VIRTIO_GPU_CMD_CTX_CREATE]: 'CTX_CREATE',
  [VIRTIO_GPU_CMD_CTX_DESTROY]: 'CTX_DESTROY',
  [VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE]: 'CTX_ATTACH_RESOURCE',
  [VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE]: 'CTX_DETACH_RESOURCE',
  [VIRTIO_GPU_CMD_RESOURCE_CREATE_3D]: 'RESOURCE_CREATE_3D',
  [VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D]: 'TRANSFER_TO_HOST_3D',
  [VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D]: 'TRANSFER_FROM_HOST_3D',
  [VIRTIO_GPU_CMD_SUBMIT_3D]: 'SUBMIT_3D',
  [VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB]: 'RESOURCE_MAP_BLOB',
  [VIRTIO_GPU_CMD_RESOURCE_UNMAP_BLOB]: 'RESOURCE_UNMAP_BLOB',
  [VIRTIO_GPU_CMD_UPDATE_CURSOR]: 'UPDATE_CURSOR',
  [VIRTIO_GPU_CMD_MOVE_CURSOR]: 'MOVE_CURSOR',
};

export const VIRTIO_GPU_RESP_OK_NODATA = 0x1100;
export const VIRTIO_GPU_RESP_OK_DISPLAY_INFO = 0x1101;
export const VIRTIO_GPU_RESP_OK_CAPSET_INFO = 0x1102;
export const VIRTIO_GPU_RESP_OK_CAPSET = 0x1103;
export const VIRTIO_GPU_RESP_OK_EDID = 0x1104;
export const VIRTIO_GPU_RESP_OK_RESOURCE_UUID = 0x1105;
export const VIRTIO_GPU_RESP_OK_MAP_INFO = 0x1106;
export const VIRTIO_GPU_RESP_ERR_UNSPEC = 0x1200;
export const VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY = 0x1201;
export const VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID = 0x1202;
export const VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID = 0x1203;
export const VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID = 0x1204;
export const VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER = 0x1205;

export const RESPONSE_NAMES: Readonly<Record<number, string>> = {
  [VIRTIO_GPU_RESP_OK_NODATA]: 'OK_NODATA',
  [VIRTIO_GPU_RESP_OK_DISPLAY_INFO]: 'OK_DISPLAY_INFO',
  [VIRTIO_GPU_RESP_OK_CAPSET_INFO]: 'OK_CAPSET_INFO',
  [VIRTIO_GPU_RESP_OK_CAPSET]: 'OK_CAPSET',
  [VIRTIO_GPU_RESP_OK_EDID]: 'OK_EDID',
  [VIRTIO_GPU_RESP_OK_RESOURCE_UUID]: 'OK_RESOURCE_UUID',
  [VIRTIO_GPU_RESP_OK_MAP_INFO]: 'OK_MAP_INFO',
  [VIRTIO_GPU_RESP_ERR_UNSPEC]: 'ERR_UNSPEC',
  [VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY]: 'ERR_OUT_OF_MEMORY',
  [VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID]: 'ERR_INVALID_SCANOUT_ID',
  [VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID]: 'ERR_INVALID_RESOURCE_ID',
  [VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID]: 'ERR_INVALID_CONTEXT_ID',
  [VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER]: 'ERR_INVALID_PARAMETER',
};

export const VIRTIO_GPU_FLAG_FENCE = 1;
export const VIRTIO_GPU_FLAG_INFO_RING_IDX = 2;
/** Rings of a context, for fences. */
export const VIRTIO_GPU_MAX_RINGS = 64;

/** Where the memory of a blob is (5.7.6.8, RESOURCE_CREATE_BLOB). */
export const VIRTIO_GPU_BLOB_MEM_GUEST = 1;
export const VIRTIO_GPU_BLOB_MEM_HOST3D = 2;
export const VIRTIO_GPU_BLOB_MEM_HOST3D_GUEST = 3;
export const VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE = 1;
export const VIRTIO_GPU_BLOB_FLAGS = 7;
export const VIRTIO_GPU_MAP_CACHE_CACHED = 1;
/** Bits of `contextInit`. */
export const VIRTIO_GPU_CONTEXT_INIT_CAPSET_ID_MASK = 0xff;

/** Of requests and responses alike (5.7.6.7). */
export const ctrlHeader = struct(24, {
  type: u32,
  flags: u32,
  fenceId: u64,
  ctxId: u32,
  ringIdx: u8,
  _padding: pad(3),
});
export type CtrlHeader = Of<typeof ctrlHeader>;

export const rect = struct(16, { x: u32, y: u32, width: u32, height: u32 });

/** Bodies behind the header. */
export const resourceCreate2d = struct(16, { resourceId: u32, format: u32, width: u32, height: u32 });
export const resourceRef = struct(8, { resourceId: u32, _padding: pad(4) });
export const setScanout = struct(24, { rect, scanoutId: u32, resourceId: u32 });
export const resourceFlush = struct(24, { rect, resourceId: u32, _padding: pad(4) });
export const transferToHost2d = struct(32, { rect, offset: span, resourceId: u32, _padding: pad(4) });
export const attachBacking = struct(8, { resourceId: u32, nrEntries: u32 });
export const memEntry = struct(16, { address: span, length: u32, _padding: pad(4) });
export const getCapsetInfo = struct(8, { capsetIndex: u32, _padding: pad(4) });
export const getCapset = struct(8, { capsetId: u32, version: u32 });
export const getEdid = struct(8, { scanout: u32, _padding: pad(4) });
export const resourceCreateBlob = struct(32, {
  resourceId: u32,
  blobMem: u32,
  blobFlags: u32,
  nrEntries: u32,
  blobId: u64,
  sizeBytes: span,
});
export const setScanoutBlob = struct(72, {
  rect,
  scanoutId: u32,
  resourceId: u32,
  width: u32,
  height: u32,
  format: u32,
  _padding: pad(4),
  strides: array(u32, 4),
  offsets: array(u32, 4),
});
export const mapBlob = struct(16, { resourceId: u32, _padding: pad(4), offset: span });
export const CONTEXT_NAME_MAX_BYTES = 64;
export const ctxCreate = struct(72, {
  nlen: u32,
  contextInit: u32,
  debugName: bytes(CONTEXT_NAME_MAX_BYTES),
});
export const submit3d = struct(8, { size: u32, _padding: pad(4) });
export const cursorPosition = struct(16, { scanoutId: u32, x: u32, y: u32, _padding: pad(4) });
export const updateCursor = struct(32, {
  position: cursorPosition,
  resourceId: u32,
  hotX: u32,
  hotY: u32,
  _padding: pad(4),
});

/** Bodies of responses behind the header. */
export const displayOne = struct(24, { rect, enabled: u32, flags: u32 });
export const displayInfo = struct(384, { modes: array(displayOne, VIRTIO_GPU_MAX_SCANOUTS) });
export const VIRTIO_GPU_EDID_MAX_BYTES = 1024;
export const edidResponse = struct(1032, {
  size: u32,
  _padding: pad(4),
  edid: bytes(VIRTIO_GPU_EDID_MAX_BYTES),
});

export const capsetInfoResponse = struct(16, {
  capsetId: u32,
  maxVersion: u32,
  maxSize: u32,
  _padding: pad(4),
});
export const uuidResponse = struct(16, { uuid: bytes(16) });
export const mapInfoResponse = struct(8, { mapInfo: u32, _padding: pad(4) });

/** Every format has 4 bytes per pixel. */
export const BYTES_PER_PIXEL = 4;

/** Formats by value (5.7.6.8): their names give the bytes in memory, lowest address first. */
export const FORMATS: ReadonlyMap<number, PixelOrder> = new Map([
  [1, { b: 0, g: 1, r: 2, a: 3 }], // B8G8R8A8
  [2, { b: 0, g: 1, r: 2, a: -1 }], // B8G8R8X8
  [3, { a: 0, r: 1, g: 2, b: 3 }], // A8R8G8B8
  [4, { a: -1, r: 1, g: 2, b: 3 }], // X8R8G8B8
  [67, { r: 0, g: 1, b: 2, a: 3 }], // R8G8B8A8
  [68, { a: -1, b: 1, g: 2, r: 3 }], // X8B8G8R8
  [121, { a: 0, b: 1, g: 2, r: 3 }], // A8B8G8R8
  [134, { r: 0, g: 1, b: 2, a: -1 }], // R8G8B8X8
]);
