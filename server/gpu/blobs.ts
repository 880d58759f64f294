/** Commands on blobs, contexts and capability sets: one short function each, by the rules of `execute.ts`. */
import { OK, type Response } from './codec.ts';
import type { Job } from './contracts/window-memory.ts';
import { GpuFault } from './fault.ts';
import { MIN_SCANOUT_SIZE } from './limits.ts';
import {
  BYTES_PER_PIXEL,
  CONTEXT_NAME_MAX_BYTES,
  FORMATS,
  VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE,
  VIRTIO_GPU_BLOB_FLAGS,
  VIRTIO_GPU_BLOB_MEM_GUEST,
  VIRTIO_GPU_BLOB_MEM_HOST3D,
  VIRTIO_GPU_BLOB_MEM_HOST3D_GUEST,
  type VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE,
  type VIRTIO_GPU_CMD_CTX_CREATE,
  type VIRTIO_GPU_CMD_CTX_DESTROY,
  type VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE,
  type VIRTIO_GPU_CMD_GET_CAPSET,
  type VIRTIO_GPU_CMD_GET_CAPSET_INFO,
  type VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID,
  type VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB,
  type VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB,
  type VIRTIO_GPU_CMD_RESOURCE_UNMAP_BLOB,
  type VIRTIO_GPU_CMD_SET_SCANOUT_BLOB,
  type VIRTIO_GPU_CMD_SUBMIT_3D,
  VIRTIO_GPU_CONTEXT_INIT_CAPSET_ID_MASK,
  VIRTIO_GPU_F_BLOB_ALIGNMENT,
  VIRTIO_GPU_F_CONTEXT_INIT,
  VIRTIO_GPU_MAP_CACHE_CACHED,
  VIRTIO_GPU_RESP_ERR_UNSPEC,
  VIRTIO_GPU_RESP_OK_CAPSET,
  VIRTIO_GPU_RESP_OK_CAPSET_INFO,
  VIRTIO_GPU_RESP_OK_MAP_INFO,
  VIRTIO_GPU_RESP_OK_RESOURCE_UUID,
} from './protocol.ts';
import { type GuestBlob, type HostBlob, holdsBlob } from './resources.ts';
import {
  type Arm,
  checkMapped,
  contains,
  describe,
  type GpuState,
  hasFeature,
  type Later,
  refuse,
} from './state.ts';
import { requireWindow } from './window.ts';

const MAX_STRIDE_BYTES = 2 ** 31 - 1;
const MAX_OFFSET_BYTES = 2 ** 32 - 1;

// Capability sets.

export function getCapsetInfo(
  { contexts }: GpuState,
  { capsetIndex }: Arm<typeof VIRTIO_GPU_CMD_GET_CAPSET_INFO>,
): Response {
  const component = contexts.components[capsetIndex];
  if (!component) return refuse(`no capset ${capsetIndex}`);
  const { capsetId, maxVersion, capset } = component;
  return { type: VIRTIO_GPU_RESP_OK_CAPSET_INFO, capsetId, maxVersion, maxSize: capset.length };
}

export function getCapset(
  { contexts }: GpuState,
  { capsetId, version }: Arm<typeof VIRTIO_GPU_CMD_GET_CAPSET>,
): Response {
  const component = contexts.components.find((one) => one.capsetId === capsetId);
  if (!component || version > component.maxVersion) return refuse(`no capset ${capsetId} version ${version}`);
  return { type: VIRTIO_GPU_RESP_OK_CAPSET, data: component.capset };
}

// Contexts.

export function createContext(
  state: GpuState,
  { ctxId, nlen, contextInit, debugName }: Arm<typeof VIRTIO_GPU_CMD_CTX_CREATE>,
): Response {
  if (nlen > CONTEXT_NAME_MAX_BYTES) return refuse(`context name of ${nlen} bytes`);
  if (contextInit !== 0 && !hasFeature(state, VIRTIO_GPU_F_CONTEXT_INIT))
    return refuse('context_init without CONTEXT_INIT');
  const name = Buffer.from(debugName.subarray(0, nlen))
    .toString('latin1')
    .replaceAll(/[^ -~]+/g, '');
  state.contexts.create(ctxId, contextInit & VIRTIO_GPU_CONTEXT_INIT_CAPSET_ID_MASK, name);
  return OK;
}

export function destroyContext(
  { contexts }: GpuState,
  { ctxId }: Arm<typeof VIRTIO_GPU_CMD_CTX_DESTROY>,
): Response {
  contexts.destroy(ctxId);
  return OK;
}

export function attachToContext(
  { contexts, resources }: GpuState,
  { ctxId, resourceId }: Arm<typeof VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE>,
): Response {
  const context = contexts.get(ctxId);
  contexts.attach(context, resources.get(resourceId));
  return OK;
}

export function detachFromContext(
  { contexts, resources }: GpuState,
  { ctxId, resourceId }: Arm<typeof VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE>,
): Response {
  const context = contexts.get(ctxId);
  contexts.detach(context, resources.get(resourceId).id);
  return OK;
}

export function submit(
  { contexts }: GpuState,
  { ctxId, commands }: Arm<typeof VIRTIO_GPU_CMD_SUBMIT_3D>,
): Response {
  contexts.get(ctxId).context.submit(commands);
  return OK;
}

// Blobs.

export function createBlob(
  state: GpuState,
  command: Arm<typeof VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB>,
): Response {
  const { resourceId, blobMem, blobFlags, sizeBytes } = command;
  state.resources.requireRoom(resourceId);
  if (sizeBytes === 0 || !Number.isSafeInteger(sizeBytes)) return refuse(`blob of ${sizeBytes} bytes`);
  if (blobFlags & ~VIRTIO_GPU_BLOB_FLAGS) return refuse(`blob flags 0x${blobFlags.toString(16)}`);
  if (hasFeature(state, VIRTIO_GPU_F_BLOB_ALIGNMENT) && sizeBytes % state.blobAlignmentBytes !== 0)
    return refuse(`blob of ${sizeBytes} bytes, which must be a multiple of ${state.blobAlignmentBytes}`);
  switch (blobMem) {
    case VIRTIO_GPU_BLOB_MEM_GUEST:
      return createGuestBlob(state, command);
    case VIRTIO_GPU_BLOB_MEM_HOST3D:
      return createHostBlob(state, command);
    case VIRTIO_GPU_BLOB_MEM_HOST3D_GUEST:
      throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, 'no context has blobs with guest pages');
    default:
      return refuse(`blob memory ${blobMem}`);
  }
}

function createGuestBlob(
  { resources, memory }: GpuState,
  { resourceId, sizeBytes, nrEntries, backing }: Arm<typeof VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB>,
): Response {
  if (nrEntries > 0) {
    if (!holdsBlob(backing, sizeBytes)) return refuse(`backing of a blob of ${sizeBytes} bytes is too short`);
    checkMapped(memory, backing);
  }
  const resource: GuestBlob = {
    kind: 'guest',
    id: resourceId,
    sizeBytes,
    backing: undefined,
    uuid: undefined,
  };
  if (nrEntries > 0) resources.attach(resource, backing);
  resources.addBlob(resource);
  return OK;
}

function createHostBlob(
  { contexts, resources, window }: GpuState,
  command: Arm<typeof VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB>,
): Response {
  const { resourceId, ctxId, blobId, blobFlags, nrEntries, sizeBytes } = command;
  const context = contexts.get(ctxId);
  if (nrEntries > 0) return refuse('a blob of a context has no guest pages');
  const isMappable = (blobFlags & VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE) !== 0;
  if (isMappable) window?.requireRoom(sizeBytes);
  const blob = contexts.createBlob(context, blobId, sizeBytes, blobFlags);
  resources.addBlob({
    kind: 'host3d',
    id: resourceId,
    sizeBytes,
    isMappable,
    owner: context,
    blob,
    place: undefined,
    backing: undefined,
    uuid: undefined,
  });
  return OK;
}

export function mapBlob(
  state: GpuState,
  { resourceId, offset }: Arm<typeof VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB>,
): Response {
  const resource = state.resources.get(resourceId);
  const window = requireWindow(state.window);
  if (resource.kind !== 'host3d' || !resource.isMappable)
    throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, `resource ${resourceId} cannot be mapped`);
  if (resource.place) throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, `resource ${resourceId} is mapped`);
  if (hasFeature(state, VIRTIO_GPU_F_BLOB_ALIGNMENT) && offset % state.blobAlignmentBytes !== 0)
    return refuse(`offset 0x${offset.toString(16)}, which must be a multiple of ${state.blobAlignmentBytes}`);
  window.map(offset, resource.sizeBytes, resource.owner, resource.blob.initial);
  resource.place = { offset };
  return { type: VIRTIO_GPU_RESP_OK_MAP_INFO, mapInfo: VIRTIO_GPU_MAP_CACHE_CACHED };
}

export function unmapBlob(
  state: GpuState,
  { resourceId }: Arm<typeof VIRTIO_GPU_CMD_RESOURCE_UNMAP_BLOB>,
): Response | Later {
  const resource = state.resources.get(resourceId);
  if (resource.kind !== 'host3d') return OK;
  const job = takeFromWindow(state, resource);
  return job ? { type: 'later', response: OK, job } : OK;
}

/** Unmaps a blob, if it is mapped. Its range reads as zeros when the job, if there is one, is done. */
export function takeFromWindow({ window, scanouts }: GpuState, blob: HostBlob): Job | undefined {
  const { place } = blob;
  if (!window || !place) return undefined;
  scanouts.freeze(blob);
  blob.place = undefined;
  return window.unmap(place.offset);
}

export function setScanoutBlob(
  { resources, scanouts, limits }: GpuState,
  command: Arm<typeof VIRTIO_GPU_CMD_SET_SCANOUT_BLOB>,
): Response {
  const { scanoutId, resourceId, rect, width, height, format, strides, offsets } = command;
  scanouts.require(scanoutId);
  if (resourceId === 0) {
    scanouts.blank(scanoutId);
    return OK;
  }
  const resource = resources.get(resourceId);
  if (resource.kind === '2d') return refuse('not a blob');
  const fits = (size: number) => size >= MIN_SCANOUT_SIZE && size <= limits.maxDimension;
  if (!fits(rect.width) || !fits(rect.height) || !contains({ width, height }, rect))
    return refuse(`scanout of ${describe(rect)} in ${width}x${height}`);
  const order = FORMATS.get(format);
  if (!order) return refuse(`format ${format}`);
  const [strideBytes = 0] = strides;
  const [offset = 0] = offsets;
  const start = offset + rect.y * strideBytes + rect.x * BYTES_PER_PIXEL;
  const end = start + strideBytes * (rect.height - 1) + rect.width * BYTES_PER_PIXEL;
  const strideFits = strideBytes >= width * BYTES_PER_PIXEL && strideBytes <= MAX_STRIDE_BYTES;
  if (!strideFits || start > MAX_OFFSET_BYTES || end > resource.sizeBytes) {
    return refuse(`${width}x${height} with rows of ${strideBytes} bytes in ${resource.sizeBytes} bytes`);
  }
  scanouts.showBlob(scanoutId, resource, rect, { order, offset, strideBytes });
  return OK;
}

/** 16 bytes that nobody else has; always the same for one resource. */
export function assignUuid(
  { resources }: GpuState,
  { resourceId }: Arm<typeof VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID>,
): Response {
  const resource = resources.get(resourceId);
  resource.uuid ??= crypto.getRandomValues(new Uint8Array(16));
  return { type: VIRTIO_GPU_RESP_OK_RESOURCE_UUID, uuid: resource.uuid };
}
