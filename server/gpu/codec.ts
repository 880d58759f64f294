/**
 * Requests to `Command`, responses to bytes. A request is copied out of guest memory once, in two parts: the fixed
 * structure, then as many memory entries as it announces, after the count was checked against what is there.
 */

import type { Of } from '../wire.ts';
import { encode, viewOf } from '../wire.ts';
import type { Backing } from './contracts/backing.ts';
import { GpuFault } from './fault.ts';
import {
  attachBacking,
  COMMAND_NAMES,
  type CtrlHeader,
  capsetInfoResponse,
  ctrlHeader,
  ctxCreate,
  displayInfo,
  displayOne,
  edidResponse,
  getCapset,
  getCapsetInfo,
  getEdid,
  mapBlob,
  mapInfoResponse,
  memEntry,
  resourceCreate2d,
  resourceCreateBlob,
  resourceFlush,
  resourceRef,
  setScanout,
  setScanoutBlob,
  submit3d,
  transferToHost2d,
  updateCursor,
  uuidResponse,
  VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE,
  VIRTIO_GPU_CMD_CTX_CREATE,
  VIRTIO_GPU_CMD_CTX_DESTROY,
  VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE,
  VIRTIO_GPU_CMD_GET_CAPSET,
  VIRTIO_GPU_CMD_GET_CAPSET_INFO,
  VIRTIO_GPU_CMD_GET_DISPLAY_INFO,
  VIRTIO_GPU_CMD_GET_EDID,
  VIRTIO_GPU_CMD_MOVE_CURSOR,
  VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID,
  VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING,
  VIRTIO_GPU_CMD_RESOURCE_CREATE_2D,
  VIRTIO_GPU_CMD_RESOURCE_CREATE_3D,
  VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB,
  VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING,
  VIRTIO_GPU_CMD_RESOURCE_FLUSH,
  VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB,
  VIRTIO_GPU_CMD_RESOURCE_UNMAP_BLOB,
  VIRTIO_GPU_CMD_RESOURCE_UNREF,
  VIRTIO_GPU_CMD_SET_SCANOUT,
  VIRTIO_GPU_CMD_SET_SCANOUT_BLOB,
  VIRTIO_GPU_CMD_SUBMIT_3D,
  VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D,
  VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D,
  VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D,
  VIRTIO_GPU_CMD_UPDATE_CURSOR,
  VIRTIO_GPU_F_RESOURCE_BLOB,
  VIRTIO_GPU_F_RESOURCE_UUID,
  VIRTIO_GPU_F_VIRGL,
  VIRTIO_GPU_FLAG_FENCE,
  VIRTIO_GPU_FLAG_INFO_RING_IDX,
  VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER,
  VIRTIO_GPU_RESP_ERR_UNSPEC,
  VIRTIO_GPU_RESP_OK_CAPSET,
  VIRTIO_GPU_RESP_OK_CAPSET_INFO,
  VIRTIO_GPU_RESP_OK_DISPLAY_INFO,
  VIRTIO_GPU_RESP_OK_EDID,
  VIRTIO_GPU_RESP_OK_MAP_INFO,
  VIRTIO_GPU_RESP_OK_NODATA,
  VIRTIO_GPU_RESP_OK_RESOURCE_UUID,
} from './protocol.ts';

const CONTROL_BODIES = {
  [VIRTIO_GPU_CMD_RESOURCE_CREATE_2D]: resourceCreate2d,
  [VIRTIO_GPU_CMD_RESOURCE_UNREF]: resourceRef,
  [VIRTIO_GPU_CMD_SET_SCANOUT]: setScanout,
  [VIRTIO_GPU_CMD_RESOURCE_FLUSH]: resourceFlush,
  [VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D]: transferToHost2d,
  [VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING]: resourceRef,
  [VIRTIO_GPU_CMD_GET_CAPSET_INFO]: getCapsetInfo,
  [VIRTIO_GPU_CMD_GET_CAPSET]: getCapset,
  [VIRTIO_GPU_CMD_GET_EDID]: getEdid,
  [VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID]: resourceRef,
  [VIRTIO_GPU_CMD_SET_SCANOUT_BLOB]: setScanoutBlob,
  [VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB]: mapBlob,
  [VIRTIO_GPU_CMD_RESOURCE_UNMAP_BLOB]: resourceRef,
} as const;

/** Bodies of commands that act on the context named in the header. */
const CONTEXT_BODIES = {
  [VIRTIO_GPU_CMD_CTX_CREATE]: ctxCreate,
  [VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE]: resourceRef,
  [VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE]: resourceRef,
} as const;

const CURSOR_BODIES = {
  [VIRTIO_GPU_CMD_UPDATE_CURSOR]: updateCursor,
  [VIRTIO_GPU_CMD_MOVE_CURSOR]: updateCursor,
} as const;

type Bodies<T> = { [K in keyof T]: { readonly type: K } & Of<T[K]> }[keyof T];

interface OfContext {
  readonly ctxId: number;
}

/** A request of the control queue, one arm per command. */
export type ControlCommand =
  | Bodies<typeof CONTROL_BODIES>
  | (Bodies<typeof CONTEXT_BODIES> & OfContext)
  | { readonly type: typeof VIRTIO_GPU_CMD_GET_DISPLAY_INFO }
  | {
      readonly type: typeof VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING;
      readonly resourceId: number;
      readonly backing: Backing;
    }
  | ({ readonly type: typeof VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB; readonly backing: Backing } & Of<
      typeof resourceCreateBlob
    > &
      OfContext)
  | ({ readonly type: typeof VIRTIO_GPU_CMD_CTX_DESTROY } & OfContext)
  | ({ readonly type: typeof VIRTIO_GPU_CMD_SUBMIT_3D; readonly commands: Uint8Array } & OfContext);

/** A request of the cursor queue. */
export type CursorCommand = Bodies<typeof CURSOR_BODIES>;

/** What a request is read from: the readable part of a descriptor chain. */
export interface RequestSource {
  readonly readableBytes: number;
  read(into: Uint8Array, from?: number): number;
}

const LONGEST_FIXED_BODY = 72;
const fixedBytes = new Uint8Array(ctrlHeader.size + LONGEST_FIXED_BODY);
const fixedView = viewOf(fixedBytes);

/** The header of a request; undefined when the request is too short to have one. */
export function readHeader(source: RequestSource): CtrlHeader | undefined {
  if (source.readableBytes < ctrlHeader.size) return undefined;
  source.read(fixedBytes.subarray(0, Math.min(source.readableBytes, fixedBytes.length)));
  return ctrlHeader.get(fixedView, 0);
}

/** Most bytes of one command stream. */
export const MAX_SUBMIT_BYTES = 4 * 2 ** 20;

const unspec = (bit: number) => ({ bit, code: VIRTIO_GPU_RESP_ERR_UNSPEC });
/** Commands that exist only when the driver has negotiated a feature, and what it is told otherwise. */
const NEEDED_FEATURES: Readonly<Record<number, { readonly bit: number; readonly code: number }>> = {
  [VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB]: {
    bit: VIRTIO_GPU_F_RESOURCE_BLOB,
    code: VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER,
  },
  [VIRTIO_GPU_CMD_SET_SCANOUT_BLOB]: {
    bit: VIRTIO_GPU_F_RESOURCE_BLOB,
    code: VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER,
  },
  [VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB]: unspec(VIRTIO_GPU_F_RESOURCE_BLOB),
  [VIRTIO_GPU_CMD_RESOURCE_UNMAP_BLOB]: unspec(VIRTIO_GPU_F_RESOURCE_BLOB),
  [VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID]: unspec(VIRTIO_GPU_F_RESOURCE_UUID),
  [VIRTIO_GPU_CMD_CTX_CREATE]: unspec(VIRTIO_GPU_F_VIRGL),
  [VIRTIO_GPU_CMD_CTX_DESTROY]: unspec(VIRTIO_GPU_F_VIRGL),
  [VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE]: unspec(VIRTIO_GPU_F_VIRGL),
  [VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE]: unspec(VIRTIO_GPU_F_VIRGL),
  [VIRTIO_GPU_CMD_RESOURCE_CREATE_3D]: unspec(VIRTIO_GPU_F_VIRGL),
  [VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D]: unspec(VIRTIO_GPU_F_VIRGL),
  [VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D]: unspec(VIRTIO_GPU_F_VIRGL),
  [VIRTIO_GPU_CMD_SUBMIT_3D]: unspec(VIRTIO_GPU_F_VIRGL),
};

/**
 * Decodes what `readHeader` has just copied. Throws `GpuFault` with the response the reference names. `features` are
 * those the driver has negotiated.
 */
export function readControlCommand(
  header: CtrlHeader,
  source: RequestSource,
  maxEntries: number,
  features: number,
): ControlCommand {
  const { type, ctxId } = header;
  const layout = CONTROL_BODIES[type as keyof typeof CONTROL_BODIES];
  const needed = NEEDED_FEATURES[type];
  if (needed && !((features >>> needed.bit) & 1)) {
    throw new GpuFault(needed.code, `${commandName(type)} without feature ${needed.bit}`);
  }
  if (layout) {
    // Not `{ type, ...fields }`: V8 makes a new hidden class for each object spread so, and every use of it is slow.
    const command = body<object>(layout, source) as { type: number };
    command.type = type;
    return command as ControlCommand;
  }
  switch (type) {
    case VIRTIO_GPU_CMD_GET_DISPLAY_INFO:
      return { type };
    case VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING: {
      const { resourceId, nrEntries } = body(attachBacking, source);
      const backing = readEntries(source, ctrlHeader.size + attachBacking.size, nrEntries, maxEntries);
      return { type, resourceId, backing };
    }
    case VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB: {
      const blob = body(resourceCreateBlob, source);
      const from = ctrlHeader.size + resourceCreateBlob.size;
      return { type, ctxId, ...blob, backing: readEntries(source, from, blob.nrEntries, maxEntries) };
    }
    case VIRTIO_GPU_CMD_CTX_DESTROY:
      return { type, ctxId };
    case VIRTIO_GPU_CMD_SUBMIT_3D:
      return { type, ctxId, commands: readCommands(source) };
    default: {
      const contextLayout = CONTEXT_BODIES[type as keyof typeof CONTEXT_BODIES];
      if (!contextLayout)
        throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, `command ${commandName(type)} on the control queue`);
      return { type, ctxId, ...body<object>(contextLayout, source) } as ControlCommand;
    }
  }
}

/** The command stream behind a SUBMIT_3D, copied once. Cross-domain contexts have streams that are not whole words. */
function readCommands(source: RequestSource): Uint8Array {
  const { size } = body(submit3d, source);
  const from = ctrlHeader.size + submit3d.size;
  if (size > MAX_SUBMIT_BYTES || source.readableBytes - from < size) {
    throw new GpuFault(
      VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER,
      `command stream of ${size} bytes in a request of ${source.readableBytes}`,
    );
  }
  const commands = new Uint8Array(size);
  source.read(commands, from);
  return commands;
}

/** The same for the cursor queue. */
export function readCursorCommand(header: CtrlHeader, source: RequestSource): CursorCommand {
  const layout = CURSOR_BODIES[header.type as keyof typeof CURSOR_BODIES];
  if (!layout)
    throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, `command ${commandName(header.type)} on the cursor queue`);
  return { type: header.type, ...body(layout, source) } as CursorCommand;
}

/** Whether the type belongs on the cursor queue: only these are answered there. */
export const isCursorCommand = (header: CtrlHeader | undefined): boolean =>
  header !== undefined && header.type in CURSOR_BODIES;

const commandName = (type: number): string => COMMAND_NAMES[type] ?? `0x${type.toString(16)}`;

/** The fixed body behind the header, which has been copied already. Longer requests are cut, shorter ones refused. */
function body<T>(layout: { size: number; get(view: DataView, at: number): T }, source: RequestSource): T {
  if (source.readableBytes < ctrlHeader.size + layout.size) {
    throw new GpuFault(VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER, `request of ${source.readableBytes} bytes`);
  }
  return layout.get(fixedView, ctrlHeader.size);
}

/**
 * Memory entries follow the fixed structure without padding. Entries of length 0 are dropped. No entries at all are an
 * empty list: whether that makes sense depends on the command.
 */
function readEntries(source: RequestSource, from: number, nrEntries: number, maxEntries: number): Backing {
  const lengthBytes = nrEntries * memEntry.size;
  if (nrEntries > maxEntries || source.readableBytes - from < lengthBytes) {
    throw new GpuFault(
      VIRTIO_GPU_RESP_ERR_UNSPEC,
      `${nrEntries} memory entries in ${source.readableBytes - from} bytes, at most ${maxEntries}`,
    );
  }
  const list = new Uint8Array(lengthBytes);
  source.read(list, from);
  const view = viewOf(list);
  const addresses = new Float64Array(nrEntries);
  const ends = new Float64Array(nrEntries);
  let kept = 0;
  let end = 0;
  for (let at = 0; at < lengthBytes; at += memEntry.size) {
    const length = view.getUint32(at + 8, true);
    if (length === 0) continue;
    end += length;
    addresses[kept] = view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
    ends[kept] = end;
    kept++;
  }
  return { addresses: addresses.subarray(0, kept), ends: ends.subarray(0, kept) };
}

/** What goes back to the guest: a response code and, for some, a body. */
export type Response =
  | { readonly type: typeof VIRTIO_GPU_RESP_OK_NODATA }
  | {
      readonly type: typeof VIRTIO_GPU_RESP_OK_DISPLAY_INFO;
      readonly modes: readonly Of<typeof displayOne>[];
    }
  | { readonly type: typeof VIRTIO_GPU_RESP_OK_EDID; readonly edid: Uint8Array }
  | ({ readonly type: typeof VIRTIO_GPU_RESP_OK_CAPSET_INFO } & Of<typeof capsetInfoResponse>)
  | { readonly type: typeof VIRTIO_GPU_RESP_OK_CAPSET; readonly data: Uint8Array }
  | { readonly type: typeof VIRTIO_GPU_RESP_OK_RESOURCE_UUID; readonly uuid: Uint8Array }
  | { readonly type: typeof VIRTIO_GPU_RESP_OK_MAP_INFO; readonly mapInfo: number }
  | { readonly type: 'error'; readonly code: number };

export const OK: Response = { type: VIRTIO_GPU_RESP_OK_NODATA };

export const responseCode = (response: Response): number =>
  response.type === 'error' ? response.code : response.type;

const EMPTY_MODE: Of<typeof displayOne> = { rect: { x: 0, y: 0, width: 0, height: 0 }, enabled: 0, flags: 0 };

type Mapped = Extract<Response, { readonly type: typeof VIRTIO_GPU_RESP_OK_MAP_INFO }>;

function encodeBody(response: Exclude<Response, Mapped>): Uint8Array | undefined {
  switch (response.type) {
    case VIRTIO_GPU_RESP_OK_NODATA:
    case 'error':
      return undefined;
    case VIRTIO_GPU_RESP_OK_DISPLAY_INFO: {
      const count = displayInfo.size / displayOne.size;
      const modes = Array.from({ length: count }, (_, i) => response.modes[i] ?? EMPTY_MODE);
      return encode(displayInfo, { modes });
    }
    case VIRTIO_GPU_RESP_OK_EDID:
      return encode(edidResponse, { size: response.edid.length, edid: response.edid });
    case VIRTIO_GPU_RESP_OK_CAPSET_INFO:
      return encode(capsetInfoResponse, response);
    case VIRTIO_GPU_RESP_OK_CAPSET:
      return response.data;
    case VIRTIO_GPU_RESP_OK_RESOURCE_UUID:
      return encode(uuidResponse, response);
    default:
      return response satisfies never;
  }
}

/**
 * The bytes of a response. A fenced request gets its fence back, with the context and ring it belongs to
 * (5.7.6.7); everything else in the header is 0. The buffer may be reused by the next response.
 */
export function encodeResponse(request: CtrlHeader | undefined, response: Response): Uint8Array {
  const type = responseCode(response);
  const header =
    request && request.flags & VIRTIO_GPU_FLAG_FENCE
      ? fencedHeader(type, request)
      : { type, flags: 0, fenceId: 0n, ctxId: 0, ringIdx: 0 };
  if (response.type === VIRTIO_GPU_RESP_OK_MAP_INFO) {
    ctrlHeader.put(mappedView, 0, header);
    mapInfoResponse.put(mappedView, ctrlHeader.size, response);
    return mappedResponse;
  }
  const responseBody = encodeBody(response);
  if (!responseBody) {
    ctrlHeader.put(plainView, 0, header);
    return plainResponse;
  }
  const out = new Uint8Array(ctrlHeader.size + responseBody.length);
  ctrlHeader.put(viewOf(out), 0, header);
  out.set(responseBody, ctrlHeader.size);
  return out;
}

const plainResponse = new Uint8Array(ctrlHeader.size);
const plainView = viewOf(plainResponse);
/** Guests map and unmap often. */
const mappedResponse = new Uint8Array(ctrlHeader.size + mapInfoResponse.size);
const mappedView = viewOf(mappedResponse);

function fencedHeader(type: number, { flags, fenceId, ctxId, ringIdx }: CtrlHeader): CtrlHeader {
  const withRing = (flags & VIRTIO_GPU_FLAG_INFO_RING_IDX) !== 0;
  return {
    type,
    flags: flags & (VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX),
    fenceId,
    ctxId,
    ringIdx: withRing ? ringIdx : 0,
  };
}
