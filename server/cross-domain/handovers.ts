/**
 * Buffers of one context that have been handed to the host: one export per resource, made when it is first sent, and
 * kept as long as its memory stays where it is. A resource may be detached and attached in between as often as the
 * guest likes.
 */
import type { AttachedResource, MemoryExport } from '../gpu/backend.ts';

/** Memory that the guest has given up and others still hold. */
const MAX_ORPHANED_BYTES = 256 * 2 ** 20;
const MAX_HANDOVERS = 1024;
const LOOK_MS = 1000;

/** A buffer in the hands of the host. */
export interface Handover {
  /** Never used again for another one of this context. */
  readonly id: number;
  readonly fd: number;
  readonly isShared: boolean;
  /** Brings a copy up to date; returns the bytes copied. */
  refresh(offset: number, lengthBytes: number): number;
}

interface Kept extends Handover {
  readonly export: MemoryExport;
  /** Not sent yet: the descriptor is needed. */
  pins: number;
}

export class Handovers {
  readonly #byResource = new Map<object, Kept>();
  readonly #byId = new Map<number, Kept>();
  /** Udmabufs whose memory the guest has given up, until the last one else lets go. */
  #orphans: MemoryExport[] = [];
  #nextId = 1;
  #look: NodeJS.Timeout | undefined;
  readonly #onTooMuch: () => void;

  /** `onTooMuch` is called when the host holds on to more than there may be. */
  constructor(onTooMuch: () => void) {
    this.#onTooMuch = onTooMuch;
  }

  /** Exports made so far. */
  get made(): number {
    return this.#nextId - 1;
  }

  get orphanedBytes(): number {
    return this.#orphans.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  /** The buffer of a resource, with what is in it now. Throws what `AttachedResource.export` throws. */
  of(resource: AttachedResource): Handover {
    this.#prune();
    const known = this.#byResource.get(resource.identity);
    if (known) return known;
    if (this.#byId.size >= MAX_HANDOVERS) throw new Error('too many buffers are in the hands of the host');
    const made = resource.export();
    const handover: Kept = {
      id: this.#nextId++,
      fd: made.fd,
      isShared: made.kind === 'udmabuf',
      export: made,
      pins: 0,
      refresh: (offset, lengthBytes) => made.refresh(offset, lengthBytes) ?? 0,
    };
    this.#byResource.set(resource.identity, handover);
    this.#byId.set(handover.id, handover);
    return handover;
  }

  /** The descriptor will be needed until this is called. */
  pin({ id }: Handover): () => void {
    const kept = this.#byId.get(id) as Kept;
    kept.pins++;
    return () => {
      kept.pins--;
    };
  }

  close(): void {
    clearInterval(this.#look);
    for (const { export: made } of this.#byId.values()) made.close();
    for (const made of this.#orphans) made.close();
    this.#byId.clear();
    this.#byResource.clear();
    this.#orphans = [];
  }

  /** Lets go of what the guest has given up. */
  #prune(): void {
    for (const [identity, kept] of this.#byResource) {
      if (kept.export.isCurrent() || kept.pins > 0) continue;
      this.#byResource.delete(identity);
      this.#byId.delete(kept.id);
      if (kept.export.othersHoldIt()) this.#orphans.push(kept.export);
      else kept.export.close();
    }
    this.#orphans = this.#orphans.filter((made) => {
      if (made.othersHoldIt()) return true;
      made.close();
      return false;
    });
    if (this.#orphans.length === 0) {
      clearInterval(this.#look);
      this.#look = undefined;
    } else {
      this.#look ??= setInterval(() => this.#prune(), LOOK_MS).unref();
    }
    if (this.orphanedBytes > MAX_ORPHANED_BYTES) this.#onTooMuch();
  }
}
