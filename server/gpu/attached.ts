/** Resources as the contexts they are attached to see them: bytes, and descriptors for others. */
import type { GuestMemory } from '../../pci/index.ts';
import type { AttachedResource } from './contracts/context.ts';
import type { Exports, MadeExport, MemoryExport } from './contracts/exports.ts';
import { GpuFault } from './fault.ts';
import { type GuestBytes, guestBytes } from './guest-bytes.ts';
import { VIRTIO_GPU_RESP_ERR_UNSPEC } from './protocol.ts';
import type { Quota } from './quota.ts';
import { type HostBlob, type Resource, sizeOf } from './resources.ts';
import { WINDOW_PAGE_BYTES, type Window } from './window.ts';

/** What resources are made of. */
export interface Memories {
  readonly memory: GuestMemory;
  readonly window: Window | undefined;
  /** Undefined where nothing can be handed to anybody. */
  readonly exports: Exports | undefined;
  /** Charged for what has been handed out, from then on until it is closed: copies, and pages that others may keep. */
  readonly exported: Quota;
}

export function attachedResource(memories: Memories, resource: Resource): AttachedResource {
  const { id, kind } = resource;
  const sizeBytes = sizeOf(resource);
  const bytes =
    resource.kind === 'host3d'
      ? windowBytes(memories.window, resource)
      : guestBytes(memories.memory, () => resource.backing);
  const isInside = (offset: number, { length }: Uint8Array) => offset >= 0 && offset + length <= sizeBytes;
  return {
    id,
    identity: resource,
    kind,
    sizeBytes,
    write: (offset, from) => isInside(offset, from) && bytes.write(offset, from),
    read: (offset, into) => isInside(offset, into) && bytes.read(offset, into),
    export: () =>
      resource.kind === 'host3d' ? exportBlob(memories, resource) : exportGuestPages(memories, resource),
  };
}

function windowBytes(window: Window | undefined, blob: HostBlob): GuestBytes {
  return {
    write: (offset, from) => {
      if (!window || !blob.place) return false;
      window.memory.write(blob.place.offset + offset, from);
      return true;
    },
    read: (offset, into) => {
      if (!window || !blob.place) return false;
      window.memory.read(blob.place.offset + offset, into);
      return true;
    },
  };
}

function exportBlob({ window, exports, exported }: Memories, blob: HostBlob): MemoryExport {
  const { place, sizeBytes } = blob;
  if (!window || !exports || !place) return cannotBeShown(blob);
  const made = exports.exportWindow(place.offset, sizeBytes, window.mayFill(sizeBytes));
  const charged = onlyWhile(made, exported, () => blob.place === place);
  if (made.kind === 'udmabuf') window.noteExported(place.offset);
  return charged;
}

function exportGuestPages({ exports, exported }: Memories, resource: Resource): MemoryExport {
  const { backing } = resource;
  if (!exports || !backing) return cannotBeShown(resource);
  return onlyWhile(exports.exportGuestPages(backing), exported, () => resource.backing === backing);
}

function cannotBeShown({ id }: Resource): never {
  throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, `resource ${id} has no memory that could be shown`);
}

/**
 * Charges for what an export keeps until it is closed. A copy has what was refreshed, and is refreshed only as long as
 * its source is what it was made of.
 */
function onlyWhile(made: MadeExport, exported: Quota, isThere: () => boolean): MemoryExport {
  const { kind, reason, sizeBytes } = made;
  let chargedBytes = made.populatedBytes();
  let isOpen = true;
  try {
    exported.charge(chargedBytes, 'an export');
  } catch (error) {
    made.close();
    throw error;
  }
  const account = () => {
    if (!isOpen) return true;
    const before = chargedBytes;
    chargedBytes = made.populatedBytes();
    const fits = exported.note(chargedBytes, before);
    return fits || chargedBytes <= before;
  };
  const refresh = (offset: number, lengthBytes: number) => {
    if (!isThere()) return undefined;
    // At most so much comes to what it has.
    const newBytes = Math.min(sizeBytes - chargedBytes, pagesTouched(offset, lengthBytes));
    if (newBytes <= 0) return made.refresh(offset, lengthBytes);
    exported.charge(chargedBytes + newBytes, 'a copy', chargedBytes);
    chargedBytes += newBytes;
    try {
      return made.refresh(offset, lengthBytes);
    } finally {
      account();
    }
  };
  return {
    kind,
    ...(reason === undefined ? {} : { reason }),
    sizeBytes,
    get chargedBytes() {
      return chargedBytes;
    },
    populatedBytes: () => made.populatedBytes(),
    lend: () => made.lend(),
    refresh,
    account,
    isCurrent: isThere,
    othersHoldIt: () => made.othersHoldIt(),
    close: () => {
      if (!isOpen) return;
      isOpen = false;
      exported.refund(chargedBytes);
      made.close();
    },
  };
}

/** Of the pages that a range lies in, all bytes. */
function pagesTouched(offset: number, lengthBytes: number): number {
  const start = Math.floor(offset / WINDOW_PAGE_BYTES) * WINDOW_PAGE_BYTES;
  return Math.ceil((offset + lengthBytes - start) / WINDOW_PAGE_BYTES) * WINDOW_PAGE_BYTES;
}
