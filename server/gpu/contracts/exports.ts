/** Whoever hands memory to processes of the host. */
import type { Backing } from './backing.ts';

/** A descriptor on its way to a process of the host. Released once it has been sent, or never will be. */
export interface LentFd {
  readonly fd: number;
  release(): void;
}

/** What a process of the host sees a blob through, and nothing else. */
export interface MemoryExport extends MadeExport {
  /** Whether what it was made of still is where it was; afterwards a copy cannot be refreshed. */
  isCurrent(): boolean;
  /** What it is charged for: what it had when it was made, refreshed or looked at. */
  readonly chargedBytes: number;
  /**
   * Charges for what it has now: whoever sees a copy makes pages, too, by reading where there are none. False when it has
   * got more and all exports together have more than they may.
   */
  account(): boolean;
}

/** The same without knowledge of what it was made of. */
export interface MadeExport {
  /** A udmabuf is the very pages; a copy shows what was in them at the last refresh. */
  readonly kind: 'udmabuf' | 'copy';
  /** Why it is a copy. */
  readonly reason?: string;
  /** What it gives access to: whole pages. */
  readonly sizeBytes: number;
  /** Memory that it keeps: all of a udmabuf, and of a copy what has pages. */
  populatedBytes(): number;
  /** A descriptor to send. To be released before `close`. Throws what the system says when there is none left. */
  lend(): LentFd;
  /**
   * Brings a range of a copy up to date with its source; a new copy is all zeros. What lies beyond the end is left out.
   * Returns the bytes copied: 0 for a udmabuf; undefined when a page of the source is not there.
   */
  refresh(offset: number, lengthBytes: number): number | undefined;
  /**
   * Whether anyone but us has it open or mapped, or a descriptor is lent, so that its pages live on. Throws what the
   * system says when it does not tell.
   */
  othersHoldIt(): boolean;
  /** Closes our descriptor. Safe to call twice. */
  close(): void;
}

/** Hands memory to processes of the host. Throws what the system says when there is no memory or descriptor left. */
export interface Exports {
  /** With `mayShare` as a udmabuf where that can be; it gives pages to all of the range. */
  exportWindow(offset: number, sizeBytes: number, mayShare: boolean): MadeExport;
  exportGuestPages(backing: Backing): MadeExport;
}
