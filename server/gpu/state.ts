/** What all commands share: the state they work on, and a few words. */
import type { GuestMemory } from '../../pci/index.ts';
import type { Rect } from '../displays/display.ts';
import type { ControlCommand, Response } from './codec.ts';
import type { Contexts } from './contexts.ts';
import type { Backend2d } from './contracts/backend2d.ts';
import type { Backing } from './contracts/backing.ts';
import type { Job } from './contracts/window-memory.ts';
import type { DisplayEvents } from './display-events.ts';
import { GpuFault } from './fault.ts';
import type { GpuLimits } from './limits.ts';
import { VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER, VIRTIO_GPU_RESP_ERR_UNSPEC } from './protocol.ts';
import type { Resources } from './resources.ts';
import type { Scanouts } from './scanouts.ts';
import type { Window } from './window.ts';

/** What commands work on. */
export interface GpuState {
  readonly memory: GuestMemory;
  readonly backend: Backend2d;
  readonly limits: GpuLimits;
  readonly resources: Resources;
  readonly scanouts: Scanouts;
  readonly contexts: Contexts;
  /** Undefined where the device has none. */
  readonly window: Window | undefined;
  /** Sizes and offsets of blobs are multiples of this, when the driver has negotiated that. */
  readonly blobAlignmentBytes: number;
  readonly events: DisplayEvents;
  /** Guest bytes copied: into images by transfers, and out of what is shown, for viewers, by flushes. */
  readonly copiedBytes: { transfers: number; flushes: number };
  /** What the driver has negotiated of the device's own bits, which are below 32. */
  features: number;
}

/** An answer that may be given when the job is done. */
export interface Later {
  readonly type: 'later';
  readonly response: Response;
  readonly job: Job;
}

export type Arm<T extends ControlCommand['type']> = Extract<ControlCommand, { readonly type: T }>;

export function refuse(message: string): never {
  throw new GpuFault(VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER, message);
}

export const hasFeature = ({ features }: { readonly features: number }, bit: number): boolean =>
  ((features >>> bit) & 1) === 1;

/** Every entry must be guest memory now. Whether it still is, each transfer finds out anew. */
export function checkMapped(memory: GuestMemory, { addresses, ends }: Backing): void {
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

/** Coordinates are unsigned 32-bit numbers; their sums here are exact. */
export const contains = ({ width, height }: { width: number; height: number }, rect: Rect) =>
  rect.x + rect.width <= width && rect.y + rect.height <= height;

export const describe = ({ x, y, width, height }: Rect) => `${width}x${height}+${x}+${y}`;
