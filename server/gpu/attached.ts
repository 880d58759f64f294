/** Resources as the contexts they are attached to see them: bytes, and descriptors for others. */
import type { GuestMemory } from '../../pci/index.ts';
import type { AttachedResource, Exports, MadeExport, MemoryExport } from './backend.ts';
import { GpuFault } from './fault.ts';
import { type GuestBytes, guestBytes } from './guest-bytes.ts';
import { VIRTIO_GPU_RESP_ERR_UNSPEC } from './protocol.ts';
import { type HostBlob, type Resource, sizeOf } from './resources.ts';
import type { Window } from './window.ts';

/** What resources are made of. */
export interface Memories {
  readonly memory: GuestMemory;
  readonly window: Window | undefined;
  /** Undefined where nothing can be handed to anybody. */
  readonly exports: Exports | undefined;
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
      if (!window || blob.offset === undefined) return false;
      window.memory.write(blob.offset + offset, from);
      return true;
    },
    read: (offset, into) => {
      if (!window || blob.offset === undefined) return false;
      window.memory.read(blob.offset + offset, into);
      return true;
    },
  };
}

function exportBlob({ window, exports }: Memories, blob: HostBlob): MemoryExport {
  const { offset, sizeBytes } = blob;
  if (!window || !exports || offset === undefined) return cannotBeShown(blob);
  const made = exports.exportWindow(offset, sizeBytes);
  if (made.kind === 'udmabuf') window.noteExported(offset);
  return onlyWhile(made, () => blob.offset === offset);
}

function exportGuestPages({ exports }: Memories, resource: Resource): MemoryExport {
  const { backing } = resource;
  if (!exports || !backing) return cannotBeShown(resource);
  return onlyWhile(exports.exportGuestPages(backing), () => resource.backing === backing);
}

function cannotBeShown({ id }: Resource): never {
  throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, `resource ${id} has no memory that could be shown`);
}

/** A copy is refreshed only as long as its source is what it was made of. */
function onlyWhile(made: MadeExport, isThere: () => boolean): MemoryExport {
  const { fd, kind, reason, sizeBytes } = made;
  return {
    fd,
    kind,
    ...(reason === undefined ? {} : { reason }),
    sizeBytes,
    refresh: (offset, lengthBytes) => (isThere() ? made.refresh(offset, lengthBytes) : undefined),
    isCurrent: isThere,
    othersHoldIt: () => made.othersHoldIt(),
    close: () => made.close(),
  };
}
