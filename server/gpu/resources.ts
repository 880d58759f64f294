/** The table of resources: who has which id, and what that costs the host. */
import type { PixelOrder } from '../displays/display.ts';
import type { Backend2d, Image } from './contracts/backend2d.ts';
import { type Backing, backingLength } from './contracts/backing.ts';
import type { ContextBlob } from './contracts/context.ts';
import { GpuFault } from './fault.ts';
import type { GuestContext } from './guest-context.ts';
import type { GpuLimits } from './limits.ts';
import {
  BYTES_PER_PIXEL,
  VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID,
  VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY,
  VIRTIO_GPU_RESP_ERR_UNSPEC,
} from './protocol.ts';
import type { Quota } from './quota.ts';

interface AnyResource {
  readonly id: number;
  /** Guest pages; for a host blob there never are any. */
  backing: Backing | undefined;
  /** Made when somebody asks for it. */
  uuid: Uint8Array | undefined;
}

/** Pixels in host memory that the guest fills by transfers. */
export interface Resource2d extends AnyResource {
  readonly kind: '2d';
  readonly width: number;
  readonly height: number;
  readonly order: PixelOrder;
  readonly image: Image;
}

/** Guest pages without a host copy. What is in them only those know who use them. */
export interface GuestBlob extends AnyResource {
  readonly kind: 'guest';
  readonly sizeBytes: number;
}

/** Memory of a context, which the guest sees through the window while it is mapped there. */
export interface HostBlob extends AnyResource {
  readonly kind: 'host3d';
  readonly sizeBytes: number;
  readonly isMappable: boolean;
  /** The context that it was made in, which may have ended. */
  readonly owner: GuestContext;
  readonly blob: ContextBlob;
  /** Where in the window it is mapped: another object each time, also at the same offset. */
  place: { readonly offset: number } | undefined;
}

export type Blob = GuestBlob | HostBlob;
export type Resource = Resource2d | Blob;

export class Resources {
  readonly #limits: GpuLimits;
  readonly #backend: Backend2d;
  readonly #pixels: Quota;
  readonly #table = new Map<number, Resource>();
  #entries = 0;

  /** `pixels` is charged for images. */
  constructor(limits: GpuLimits, backend: Backend2d, pixels: Quota) {
    this.#limits = limits;
    this.#backend = backend;
    this.#pixels = pixels;
  }

  get all(): Iterable<Resource> {
    return this.#table.values();
  }

  get count(): number {
    return this.#table.size;
  }

  /** By kind. */
  get counts(): Record<Resource['kind'], number> {
    const counts = { '2d': 0, guest: 0, host3d: 0 };
    for (const { kind } of this.#table.values()) counts[kind]++;
    return counts;
  }

  get entries(): number {
    return this.#entries;
  }

  /** The resource, or undefined where there is none. */
  find(id: number): Resource | undefined {
    return this.#table.get(id);
  }

  /** The resource; a fault where there is none. */
  get(id: number): Resource {
    const resource = this.#table.get(id);
    if (!resource) throw new GpuFault(VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID, `no resource ${id}`);
    return resource;
  }

  /** A fault unless there can be a new resource of this id. */
  requireRoom(id: number): void {
    if (id === 0 || this.#table.has(id)) {
      throw new GpuFault(VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID, `resource ${id} exists`);
    }
    if (this.#table.size >= this.#limits.maxResources) {
      throw new GpuFault(VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY, `${this.#table.size} resources are too many`);
    }
  }

  /** Charges for the pixels, then makes the image. There must be room. */
  create2d(id: number, width: number, height: number, order: PixelOrder): void {
    const bytes = imageBytes({ width, height });
    this.#pixels.charge(bytes, 'an image');
    try {
      const image = this.#backend.createImage(width, height);
      this.#table.set(id, {
        kind: '2d',
        id,
        width,
        height,
        order,
        image,
        backing: undefined,
        uuid: undefined,
      });
    } catch (cause) {
      this.#pixels.refund(bytes);
      throw new GpuFault(VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY, `no memory for ${width}x${height}`, { cause });
    }
  }

  /** There must be room. */
  addBlob(blob: Blob): void {
    this.#table.set(blob.id, blob);
  }

  /** A fault when these are more entries than there may be. */
  attach(resource: Resource, backing: Backing): void {
    if (this.#entries + backing.addresses.length > this.#limits.maxEntries) {
      throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, 'too many memory entries');
    }
    this.#entries += backing.addresses.length;
    resource.backing = backing;
  }

  detach(resource: Resource): void {
    this.#entries -= resource.backing?.addresses.length ?? 0;
    resource.backing = undefined;
  }

  /** Frees what the table holds of the resource. Nobody may use it any more. */
  remove(resource: Resource): void {
    this.detach(resource);
    this.#table.delete(resource.id);
    if (resource.kind !== '2d') return;
    this.#pixels.refund(imageBytes(resource));
    resource.image.close();
  }
}

const imageBytes = ({ width, height }: { width: number; height: number }) => width * height * BYTES_PER_PIXEL;

/** Bytes of a resource, whatever it is made of. */
export const sizeOf = (resource: Resource): number =>
  resource.kind === '2d' ? imageBytes(resource) : resource.sizeBytes;

/** Whether the guest pages are enough for the blob. */
export const holdsBlob = (backing: Backing, sizeBytes: number): boolean =>
  backingLength(backing) >= sizeBytes;
