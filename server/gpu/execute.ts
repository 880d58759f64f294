/**
 * One short function per command. Each checks ids before parameters, and changes nothing when it refuses. It is done
 * when it returns, but for what it says will be done later: guest pages are not touched after the answer. Refusals
 * are `GpuFault`s. What acts on contexts and blobs is in `blobs.ts`.
 */

import { makeEdid } from '../displays/edid.ts';
import {
  assignUuid,
  attachToContext,
  createBlob,
  createContext,
  destroyContext,
  detachFromContext,
  getCapset,
  getCapsetInfo,
  mapBlob,
  setScanoutBlob,
  submit,
  takeFromWindow,
  unmapBlob,
} from './blobs.ts';
import { type ControlCommand, type CursorCommand, OK, type Response } from './codec.ts';
import { GpuFault } from './fault.ts';
import { MIN_SCANOUT_SIZE } from './limits.ts';
import {
  FORMATS,
  VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE,
  VIRTIO_GPU_CMD_CTX_CREATE,
  VIRTIO_GPU_CMD_CTX_DESTROY,
  VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE,
  VIRTIO_GPU_CMD_GET_CAPSET,
  VIRTIO_GPU_CMD_GET_CAPSET_INFO,
  VIRTIO_GPU_CMD_GET_DISPLAY_INFO,
  VIRTIO_GPU_CMD_GET_EDID,
  VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID,
  VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING,
  VIRTIO_GPU_CMD_RESOURCE_CREATE_2D,
  VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB,
  VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING,
  VIRTIO_GPU_CMD_RESOURCE_FLUSH,
  VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB,
  VIRTIO_GPU_CMD_RESOURCE_UNMAP_BLOB,
  VIRTIO_GPU_CMD_RESOURCE_UNREF,
  VIRTIO_GPU_CMD_SET_SCANOUT,
  VIRTIO_GPU_CMD_SET_SCANOUT_BLOB,
  VIRTIO_GPU_CMD_SUBMIT_3D,
  VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D,
  VIRTIO_GPU_CMD_UPDATE_CURSOR,
  VIRTIO_GPU_RESP_ERR_UNSPEC,
  VIRTIO_GPU_RESP_OK_DISPLAY_INFO,
  VIRTIO_GPU_RESP_OK_EDID,
} from './protocol.ts';
import { holdsBlob } from './resources.ts';
import { type Arm, checkMapped, contains, describe, type GpuState, type Later, refuse } from './state.ts';

/** Executes a request of the control queue. */
export function executeControl(state: GpuState, command: ControlCommand): Response | Later {
  switch (command.type) {
    case VIRTIO_GPU_CMD_GET_DISPLAY_INFO:
      return getDisplayInfo(state);
    case VIRTIO_GPU_CMD_GET_EDID:
      return getEdid(state, command);
    case VIRTIO_GPU_CMD_RESOURCE_CREATE_2D:
      return createResource2d(state, command);
    case VIRTIO_GPU_CMD_RESOURCE_UNREF:
      return unrefResource(state, command);
    case VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING:
      return attachBacking(state, command);
    case VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING:
      return detachBacking(state, command);
    case VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID:
      return assignUuid(state, command);
    case VIRTIO_GPU_CMD_SET_SCANOUT:
      return setScanout(state, command);
    case VIRTIO_GPU_CMD_SET_SCANOUT_BLOB:
      return setScanoutBlob(state, command);
    case VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D:
      return transferToHost2d(state, command);
    case VIRTIO_GPU_CMD_RESOURCE_FLUSH:
      return flushResource(state, command);
    case VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB:
      return createBlob(state, command);
    case VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB:
      return mapBlob(state, command);
    case VIRTIO_GPU_CMD_RESOURCE_UNMAP_BLOB:
      return unmapBlob(state, command);
    case VIRTIO_GPU_CMD_GET_CAPSET_INFO:
      return getCapsetInfo(state, command);
    case VIRTIO_GPU_CMD_GET_CAPSET:
      return getCapset(state, command);
    case VIRTIO_GPU_CMD_CTX_CREATE:
      return createContext(state, command);
    case VIRTIO_GPU_CMD_CTX_DESTROY:
      return destroyContext(state, command);
    case VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE:
      return attachToContext(state, command);
    case VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE:
      return detachFromContext(state, command);
    case VIRTIO_GPU_CMD_SUBMIT_3D:
      return submit(state, command);
    default:
      return command satisfies never;
  }
}

/** Displays stand side by side, in their order. */
function getDisplayInfo({ scanouts, events }: GpuState): Response {
  events.noteDisplayInfoServed();
  let x = 0;
  const modes = scanouts.displays.map(({ mode }) => {
    const rect = { x, y: 0, width: mode.width, height: mode.height };
    x += mode.width;
    return { rect, enabled: 1, flags: 0 };
  });
  return { type: VIRTIO_GPU_RESP_OK_DISPLAY_INFO, modes };
}

function getEdid({ scanouts, events }: GpuState, { scanout }: Arm<typeof VIRTIO_GPU_CMD_GET_EDID>): Response {
  const display = scanouts.displays[scanout];
  if (!display) return refuse(`EDID of scanout ${scanout}`);
  events.noteEdidServed();
  return { type: VIRTIO_GPU_RESP_OK_EDID, edid: makeEdid({ mode: display.mode, outputIndex: scanout }) };
}

function createResource2d(
  { resources, limits }: GpuState,
  { resourceId, format, width, height }: Arm<typeof VIRTIO_GPU_CMD_RESOURCE_CREATE_2D>,
): Response {
  resources.requireRoom(resourceId);
  const order = FORMATS.get(format);
  if (!order) return refuse(`format ${format}`);
  const fits = (size: number) => size > 0 && size <= limits.maxDimension;
  if (!fits(width) || !fits(height)) return refuse(`resource of ${width}x${height}`);
  resources.create2d(resourceId, width, height, order);
  return OK;
}

function unrefResource(
  state: GpuState,
  { resourceId }: Arm<typeof VIRTIO_GPU_CMD_RESOURCE_UNREF>,
): Response | Later {
  const { resources, scanouts, contexts } = state;
  const resource = resources.get(resourceId);
  scanouts.forget(resource);
  contexts.forget(resource);
  resources.remove(resource);
  if (resource.kind !== 'host3d') return OK;
  const job = takeFromWindow(state, resource);
  resource.blob.close();
  return job ? { type: 'later', response: OK, job } : OK;
}

function attachBacking(
  { resources, memory }: GpuState,
  { resourceId, backing }: Arm<typeof VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING>,
): Response {
  const resource = resources.get(resourceId);
  if (resource.backing) throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, `resource ${resourceId} has backing`);
  if (resource.kind === 'host3d')
    throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, `resource ${resourceId} has no guest pages`);
  if (resource.kind === '2d' && backing.addresses.length === 0)
    throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, 'no memory entries');
  if (resource.kind === 'guest' && !holdsBlob(backing, resource.sizeBytes))
    return refuse(`backing of a blob of ${resource.sizeBytes} bytes is too short`);
  checkMapped(memory, backing);
  resources.attach(resource, backing);
  return OK;
}

function detachBacking(
  { resources, scanouts }: GpuState,
  { resourceId }: Arm<typeof VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING>,
): Response {
  const resource = resources.get(resourceId);
  if (!resource.backing)
    throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, `resource ${resourceId} has no backing`);
  if (resource.kind === 'guest') scanouts.freeze(resource);
  resources.detach(resource);
  return OK;
}

function setScanout(
  { resources, scanouts }: GpuState,
  { scanoutId, resourceId, rect }: Arm<typeof VIRTIO_GPU_CMD_SET_SCANOUT>,
): Response {
  scanouts.require(scanoutId);
  if (resourceId === 0) {
    // Linux sends the mode's size along with the request to switch off.
    scanouts.blank(scanoutId);
    return OK;
  }
  const resource = resources.get(resourceId);
  if (resource.kind !== '2d') return refuse('a blob has no size and no format');
  if (rect.width < MIN_SCANOUT_SIZE || rect.height < MIN_SCANOUT_SIZE || !contains(resource, rect)) {
    return refuse(`scanout of ${describe(rect)} in ${resource.width}x${resource.height}`);
  }
  scanouts.show(scanoutId, resource, rect);
  return OK;
}

function transferToHost2d(
  state: GpuState,
  { resourceId, rect, offset }: Arm<typeof VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D>,
): Response {
  const resource = state.resources.get(resourceId);
  // The pages are looked at when the blob is flushed.
  if (resource.kind !== '2d') return OK;
  if (!resource.backing)
    throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, `resource ${resourceId} has no backing`);
  if (!contains(resource, rect)) return refuse(`transfer of ${describe(rect)}`);
  if (rect.width === 0 || rect.height === 0) return OK;
  const copied = state.backend.transferToHost(resource.backing, offset, resource.image, rect);
  if (copied === undefined)
    throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, 'backing is not guest memory any more');
  state.copiedBytes.transfers += copied;
  return OK;
}

function flushResource(
  { resources, scanouts, copiedBytes }: GpuState,
  { resourceId, rect }: Arm<typeof VIRTIO_GPU_CMD_RESOURCE_FLUSH>,
): Response {
  const resource = resources.get(resourceId);
  if (resource.kind === '2d' && !contains(resource, rect)) return refuse(`flush of ${describe(rect)}`);
  copiedBytes.flushes += scanouts.flush(resource, rect);
  return OK;
}

/** Executes a request of the cursor queue. Nothing is ever refused: the driver could not be told. */
export function executeCursor({ resources, scanouts }: GpuState, command: CursorCommand): void {
  const { position, resourceId, hotX, hotY } = command;
  if (position.scanoutId >= scanouts.displays.length) return;
  if (command.type === VIRTIO_GPU_CMD_UPDATE_CURSOR && resourceId !== 0) {
    scanouts.setCursor(position.scanoutId, resources.find(resourceId), hotX, hotY);
  }
  // Positions left of or above the screen arrive as large unsigned numbers. A moved cursor without a resource is
  // hidden, as Linux leaves the id of the last update in the request.
  scanouts.moveCursor(position.scanoutId, position.x | 0, position.y | 0, resourceId !== 0);
}
