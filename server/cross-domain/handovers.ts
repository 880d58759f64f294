/**
 * Buffers of one context that have been handed to the host: one export per resource, made when it is first sent, and
 * kept as long as its memory stays where it is. A resource may be detached and attached in between as often as the
 * guest likes.
 */
import type { AttachedResource } from '../gpu/contracts/context.ts';
import type { LentFd, MemoryExport } from '../gpu/contracts/exports.ts';

/** Memory that the guest has given up and others still hold, in bytes and in exports, of which each has a descriptor. */
const MAX_ORPHANED_BYTES = 256 * 2 ** 20;
const MAX_ORPHANS = 1024;
const MAX_HANDOVERS = 1024;
const LOOK_MS = 1000;

/** A buffer in the hands of the host. */
export class Handover {
  readonly #made: MemoryExport;
  /** One for all messages that wait to be sent. */
  #lent: LentFd | undefined;
  #waiting = 0;

  constructor(made: MemoryExport) {
    this.#made = made;
  }

  /** Whether its memory still is the resource's. */
  get isCurrent(): boolean {
    return this.#made.isCurrent();
  }

  /** Whether it is on its way, or others have it; also where the system does not tell. */
  get isHeld(): boolean {
    try {
      return this.#waiting > 0 || this.#made.othersHoldIt();
    } catch {
      return true;
    }
  }

  /** Memory that it keeps, as far as we know. */
  get heldBytes(): number {
    return this.#made.chargedBytes;
  }

  /** As of the export. */
  account(): boolean {
    return this.#made.account();
  }

  /** A descriptor to send. Throws what `MadeExport.lend` throws. */
  lend(): LentFd {
    this.#lent ??= this.#made.lend();
    this.#waiting++;
    return {
      fd: this.#lent.fd,
      release: () => {
        this.#waiting--;
        if (this.#waiting === 0) this.#takeBack();
      },
    };
  }

  /** Brings a copy up to date; returns the bytes copied. */
  refresh(offset: number, lengthBytes: number): number {
    return this.#made.refresh(offset, lengthBytes) ?? 0;
  }

  close(): void {
    this.#takeBack();
    this.#made.close();
  }

  #takeBack(): void {
    this.#lent?.release();
    this.#lent = undefined;
  }
}

export class Handovers {
  readonly #byResource = new Map<object, Handover>();
  /** Those whose memory the guest has given up, until the last one else lets go. */
  #orphans: Handover[] = [];
  #made = 0;
  #closed = false;
  #look: NodeJS.Timeout | undefined;
  readonly #onTooMuch: (reason: string) => void;

  /** `onTooMuch` is called when the host holds on to more than there may be. */
  constructor(onTooMuch: (reason: string) => void) {
    this.#onTooMuch = onTooMuch;
  }

  /** Exports made so far. */
  get made(): number {
    return this.#made;
  }

  /** The buffer of a resource, with what is in it now. Throws what `AttachedResource.export` throws. */
  of(resource: AttachedResource): Handover {
    this.#findOrphans();
    if (this.#areTooMany) this.#lookAtOrphans();
    if (this.#closed) throw new Error('the channel has ended');
    const known = this.#byResource.get(resource.identity);
    if (known) return known;
    if (this.#byResource.size >= MAX_HANDOVERS)
      throw new Error('too many buffers are in the hands of the host');
    const handover = new Handover(resource.export());
    this.#made++;
    this.#byResource.set(resource.identity, handover);
    // Nobody tells when the guest gives up its memory.
    this.lookLater();
    return handover;
  }

  /** Memory may have been given up: it is looked at soon. */
  lookLater(): void {
    if (this.#closed) return;
    this.#look ??= setInterval(() => {
      this.#findOrphans();
      this.#lookAtOrphans();
      this.#account();
      if (this.#orphans.length > 0 || this.#byResource.size > 0) return;
      clearInterval(this.#look);
      this.#look = undefined;
    }, LOOK_MS).unref();
  }

  /** Lets go of all, and has none any more. Safe to call twice. */
  close(): void {
    this.#closed = true;
    clearInterval(this.#look);
    this.#look = undefined;
    for (const handover of [...this.#byResource.values(), ...this.#orphans]) handover.close();
    this.#byResource.clear();
    this.#orphans = [];
  }

  get #areTooMany(): boolean {
    const bytes = this.#orphans.reduce((sum, { heldBytes }) => sum + heldBytes, 0);
    return this.#orphans.length > MAX_ORPHANS || bytes > MAX_ORPHANED_BYTES;
  }

  /** Copies grow also by being looked at. */
  #account(): void {
    let isTooMuch = false;
    for (const handover of [...this.#byResource.values(), ...this.#orphans])
      if (!handover.account()) isTooMuch = true;
    if (isTooMuch) this.#onTooMuch('what the host has of buffers is more than --max-blob-memory');
  }

  /** Lets go of what the guest has given up. */
  #findOrphans(): void {
    for (const [identity, handover] of this.#byResource) {
      if (handover.isCurrent) continue;
      this.#byResource.delete(identity);
      if (handover.isHeld) this.#orphans.push(handover);
      else handover.close();
    }
    if (this.#orphans.length > 0) this.lookLater();
  }

  #lookAtOrphans(): void {
    this.#orphans = this.#orphans.filter((handover) => {
      if (handover.isHeld) return true;
      handover.close();
      return false;
    });
    if (this.#areTooMany) this.#onTooMuch('the host holds on to too many buffers');
  }
}
