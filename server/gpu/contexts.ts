/** The guest's contexts: who has which id, what is attached to whom, and what their blobs cost. */
import { attachedResource, type Memories } from './attached.ts';
import type { Component, Context, ContextBlob } from './contracts/context.ts';
import { type Counters, sumOf } from './contracts/counters.ts';
import { GpuFault } from './fault.ts';
import type { GuestContext } from './guest-context.ts';
import { type GpuLimits, MAX_BLOB_MEMORY } from './limits.ts';
import {
  VIRTIO_GPU_MAX_RINGS,
  VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID,
  VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER,
  VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY,
  VIRTIO_GPU_RESP_ERR_UNSPEC,
} from './protocol.ts';
import { Quota } from './quota.ts';
import type { Resource } from './resources.ts';

export interface ContextsOptions {
  readonly memories: Memories;
  readonly limits: GpuLimits;
  readonly components: readonly Component[];
}

export class Contexts {
  readonly components: readonly Component[];
  readonly #options: ContextsOptions;
  readonly #table = new Map<number, GuestContext>();
  /** Sizes of all blobs of all contexts. */
  #blobBytes = 0;
  /** What blobs have in them when they are mapped, which is kept outside of the window. */
  readonly #initial: Quota;

  constructor(options: ContextsOptions) {
    this.#options = options;
    this.components = options.components;
    this.#initial = new Quota(options.limits.maxBlobBytes, MAX_BLOB_MEMORY);
  }

  get count(): number {
    return this.#table.size;
  }

  get blobBytes(): number {
    return this.#blobBytes;
  }

  get all(): Iterable<GuestContext> {
    return this.#table.values();
  }

  /** What contexts have done, those that have ended included, by component. */
  get counters(): Record<string, Counters> {
    const entries = this.components.map((component): [string, Counters] => {
      const live = [...this.#table.values()].filter((one) => one.component === component);
      return [
        component.name,
        sumOf([component.pastCounters, ...live.map(({ context }) => context.counters)]),
      ];
    });
    return Object.fromEntries(entries);
  }

  has(id: number): boolean {
    return this.#table.has(id);
  }

  /** The context; a fault where there is none. */
  get(id: number): GuestContext {
    const context = this.#table.get(id);
    if (!context) throw new GpuFault(VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID, `no context ${id}`);
    return context;
  }

  /** `capsetId` 0 makes a context that can do nothing: Linux makes one for whoever asks for no kind. */
  create(id: number, capsetId: number, name: string): void {
    if (id === 0) throw new GpuFault(VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER, 'context 0');
    if (this.#table.has(id))
      throw new GpuFault(VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID, `context ${id} exists`);
    const { maxContexts } = this.#options.limits;
    if (this.#table.size >= maxContexts) {
      throw new GpuFault(VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY, `${maxContexts} contexts are too many`);
    }
    const component = this.components.find((one) => one.capsetId === capsetId);
    if (capsetId !== 0 && !component) {
      throw new GpuFault(VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER, `no context of capset ${capsetId}`);
    }
    this.#table.set(id, {
      id,
      name,
      component,
      context: component ? component.createContext({ contextId: id, name }) : new InertContext(),
      attached: new Set(),
      isOver: false,
    });
  }

  destroy(id: number): void {
    const { context } = this.get(id);
    this.#table.delete(id);
    context.close();
  }

  /** Makes the host side of a blob, and charges for what is in it until it is closed. */
  createBlob(
    { context, isOver }: GuestContext,
    blobId: bigint,
    sizeBytes: number,
    flags: number,
  ): ContextBlob {
    if (isOver) {
      const message = 'blobs of this context had too much memory';
      throw new GpuFault(VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY, message, { option: MAX_BLOB_MEMORY });
    }
    const blob = context.createBlob(blobId, sizeBytes, flags);
    const initialBytes = blob.initial?.length ?? 0;
    try {
      this.#initial.charge(initialBytes, 'what is in a blob');
    } catch (error) {
      blob.close();
      throw error;
    }
    this.#blobBytes += sizeBytes;
    return {
      ...(blob.initial ? { initial: blob.initial } : {}),
      close: () => {
        blob.close();
        this.#initial.refund(initialBytes);
        this.#blobBytes -= sizeBytes;
      },
    };
  }

  /** A context whose blobs had too many pages does nothing more, also where it has been destroyed by now. */
  end(context: GuestContext, reason: string): void {
    context.isOver = true;
    if (this.#table.get(context.id) === context) context.context.end(reason);
  }

  attach({ context, attached }: GuestContext, resource: Resource): void {
    if (attached.has(resource.id)) return;
    context.attach(attachedResource(this.#options.memories, resource));
    attached.add(resource.id);
  }

  detach({ context, attached }: GuestContext, resourceId: number): void {
    if (attached.delete(resourceId)) context.detach(resourceId);
  }

  /** Detaches a resource from every context, because it is going away. */
  forget(resource: Resource): void {
    for (const one of this.#table.values()) this.detach(one, resource.id);
  }

  clear(): void {
    for (const id of [...this.#table.keys()]) this.destroy(id);
  }
}

/** A context of no kind: it can be there, and has nothing to do. */
class InertContext implements Context {
  readonly ringCount = VIRTIO_GPU_MAX_RINGS;
  readonly counters = {};

  submit(commands: Uint8Array): void {
    if (commands.length > 0)
      throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, 'this context understands no commands');
  }

  fence(_ringIdx: number, passed: () => void): void {
    passed();
  }

  createBlob(): never {
    throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, 'this context has no blobs');
  }

  attach(): void {}
  detach(): void {}
  end(): void {}
  close(): void {}
}
