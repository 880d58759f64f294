/** The table of 2D resources: who has which id, and what that costs the host. */
import type { PixelOrder } from '../displays/display.ts';
import type { Backend2d, Backing, Image } from './backend.ts';
import { GpuFault } from './fault.ts';
import type { GpuLimits } from './limits.ts';
import {
  BYTES_PER_PIXEL,
  VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID,
  VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY,
  VIRTIO_GPU_RESP_ERR_UNSPEC,
} from './protocol.ts';

export interface Resource {
  readonly id: number;
  readonly width: number;
  readonly height: number;
  readonly order: PixelOrder;
  readonly image: Image;
  backing: Backing | undefined;
}

export class Resources {
  readonly #limits: GpuLimits;
  readonly #backend: Backend2d;
  readonly #table = new Map<number, Resource>();
  #bytes = 0;
  #entries = 0;

  constructor(limits: GpuLimits, backend: Backend2d) {
    this.#limits = limits;
    this.#backend = backend;
  }

  get count(): number {
    return this.#table.size;
  }

  /** Host memory charged for images. */
  get bytes(): number {
    return this.#bytes;
  }

  get entries(): number {
    return this.#entries;
  }

  has(id: number): boolean {
    return this.#table.has(id);
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

  /** Charges the quota, then makes the image. The id must be free. */
  create(id: number, width: number, height: number, order: PixelOrder): Resource {
    const bytes = width * height * BYTES_PER_PIXEL;
    if (
      this.#table.size >= this.#limits.maxResources ||
      this.#bytes + bytes > this.#limits.maxResourceBytes
    ) {
      throw new GpuFault(VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY, `no room for ${width}x${height}`);
    }
    const image = this.#createImage(width, height);
    this.#bytes += bytes;
    const resource = { id, width, height, order, image, backing: undefined };
    this.#table.set(id, resource);
    return resource;
  }

  #createImage(width: number, height: number): Image {
    try {
      return this.#backend.createImage(width, height);
    } catch (cause) {
      throw new GpuFault(VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY, `no memory for ${width}x${height}`, { cause });
    }
  }

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

  /** Frees the resource. Nobody may show it any more. */
  remove(resource: Resource): void {
    this.detach(resource);
    this.#table.delete(resource.id);
    this.#bytes -= resource.width * resource.height * BYTES_PER_PIXEL;
    resource.image.close();
  }

  clear(): void {
    for (const resource of [...this.#table.values()]) this.remove(resource);
  }
}
