/**
 * One short function per command. Each checks ids before parameters, changes nothing when it refuses, and is done
 * when it returns: guest pages are not touched after the answer. Refusals are `GpuFault`s.
 */

import type { GuestMemory } from '../../pci/index.ts';
import type { Rect } from '../displays/display.ts';
import { makeEdid } from '../displays/edid.ts';
import type { Backend2d, Backing } from './backend.ts';
import { type ControlCommand, type CursorCommand, OK, type Response } from './codec.ts';
import type { DisplayEvents } from './display-events.ts';
import { GpuFault } from './fault.ts';
import { type GpuLimits, MIN_SCANOUT_SIZE } from './limits.ts';
import {
  FORMATS,
  VIRTIO_GPU_CMD_GET_CAPSET,
  VIRTIO_GPU_CMD_GET_CAPSET_INFO,
  VIRTIO_GPU_CMD_GET_DISPLAY_INFO,
  VIRTIO_GPU_CMD_GET_EDID,
  VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING,
  VIRTIO_GPU_CMD_RESOURCE_CREATE_2D,
  VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING,
  VIRTIO_GPU_CMD_RESOURCE_FLUSH,
  VIRTIO_GPU_CMD_RESOURCE_UNREF,
  VIRTIO_GPU_CMD_SET_SCANOUT,
  VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D,
  VIRTIO_GPU_CMD_UPDATE_CURSOR,
  VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER,
  VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID,
  VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID,
  VIRTIO_GPU_RESP_ERR_UNSPEC,
  VIRTIO_GPU_RESP_OK_DISPLAY_INFO,
  VIRTIO_GPU_RESP_OK_EDID,
} from './protocol.ts';
import type { Resources } from './resources.ts';
import type { Scanouts } from './scanouts.ts';

/** What commands work on. */
export interface GpuState {
  readonly memory: GuestMemory;
  readonly backend: Backend2d;
  readonly limits: GpuLimits;
  readonly resources: Resources;
  readonly scanouts: Scanouts;
  readonly events: DisplayEvents;
  /** Guest bytes copied into images. */
  copiedBytes: number;
}

type Arm<T extends ControlCommand['type']> = Extract<ControlCommand, { readonly type: T }>;

function refuse(message: string): never {
  throw new GpuFault(VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER, message);
}

/** Executes a request of the control queue. */
export function executeControl(state: GpuState, command: ControlCommand): Response {
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
    case VIRTIO_GPU_CMD_SET_SCANOUT:
      return setScanout(state, command);
    case VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D:
      return transferToHost2d(state, command);
    case VIRTIO_GPU_CMD_RESOURCE_FLUSH:
      return flushResource(state, command);
    case VIRTIO_GPU_CMD_GET_CAPSET_INFO:
      return refuse(`no capset ${command.capsetIndex}`);
    case VIRTIO_GPU_CMD_GET_CAPSET:
      return refuse(`no capset of id ${command.capsetId}`);
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
  if (resourceId === 0 || resources.has(resourceId)) {
    throw new GpuFault(VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID, `resource ${resourceId} exists`);
  }
  const order = FORMATS.get(format);
  if (!order) return refuse(`format ${format}`);
  const fits = (size: number) => size > 0 && size <= limits.maxDimension;
  if (!fits(width) || !fits(height)) return refuse(`resource of ${width}x${height}`);
  resources.create(resourceId, width, height, order);
  return OK;
}

function unrefResource(
  { resources, scanouts }: GpuState,
  { resourceId }: Arm<typeof VIRTIO_GPU_CMD_RESOURCE_UNREF>,
): Response {
  const resource = resources.get(resourceId);
  scanouts.forget(resource);
  resources.remove(resource);
  return OK;
}

function attachBacking(
  { resources, memory }: GpuState,
  { resourceId, backing }: Arm<typeof VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING>,
): Response {
  const resource = resources.get(resourceId);
  if (resource.backing) throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, `resource ${resourceId} has backing`);
  checkMapped(memory, backing);
  resources.attach(resource, backing);
  return OK;
}

/** Every entry must be guest memory now. Whether it still is, each transfer finds out anew. */
function checkMapped(memory: GuestMemory, { addresses, ends }: Backing): void {
  let start = 0;
  for (let i = 0; i < addresses.length; i++) {
    const end = ends[i] as number;
    const address = addresses[i] as number;
    if (!memory.covers(address, end - start, 'read')) {
      throw new GpuFault(
        VIRTIO_GPU_RESP_ERR_UNSPEC,
        `backing at 0x${address.toString(16)} is not guest memory`,
      );
    }
    start = end;
  }
}

function detachBacking(
  { resources }: GpuState,
  { resourceId }: Arm<typeof VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING>,
): Response {
  const resource = resources.get(resourceId);
  if (!resource.backing)
    throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, `resource ${resourceId} has no backing`);
  resources.detach(resource);
  return OK;
}

function setScanout(
  { resources, scanouts }: GpuState,
  { scanoutId, resourceId, rect }: Arm<typeof VIRTIO_GPU_CMD_SET_SCANOUT>,
): Response {
  if (scanoutId >= scanouts.displays.length) {
    throw new GpuFault(VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID, `no scanout ${scanoutId}`);
  }
  if (resourceId === 0) {
    // Linux sends the mode's size along with the request to switch off.
    scanouts.blank(scanoutId);
    return OK;
  }
  const resource = resources.get(resourceId);
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
  if (!resource.backing)
    throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, `resource ${resourceId} has no backing`);
  if (!contains(resource, rect)) return refuse(`transfer of ${describe(rect)}`);
  if (rect.width === 0 || rect.height === 0) return OK;
  const copied = state.backend.transferToHost(resource.backing, offset, resource.image, rect);
  if (copied === undefined)
    throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, 'backing is not guest memory any more');
  state.copiedBytes += copied;
  return OK;
}

function flushResource(
  { resources, scanouts }: GpuState,
  { resourceId, rect }: Arm<typeof VIRTIO_GPU_CMD_RESOURCE_FLUSH>,
): Response {
  const resource = resources.get(resourceId);
  if (!contains(resource, rect)) return refuse(`flush of ${describe(rect)}`);
  scanouts.flush(resource, rect);
  return OK;
}

/** Coordinates are unsigned 32-bit numbers; their sums here are exact. */
const contains = ({ width, height }: { width: number; height: number }, rect: Rect) =>
  rect.x + rect.width <= width && rect.y + rect.height <= height;

const describe = ({ x, y, width, height }: Rect) => `${width}x${height}+${x}+${y}`;

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
