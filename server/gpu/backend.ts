/**
 * Where pixels and blobs live and who works on them: the contracts between command execution and what does the work
 * in bulk, or outside of this process.
 */
import type { PixelSource, Rect } from '../displays/display.ts';

/**
 * A stream of bytes cut into entries: the guest pages of a resource. Entry i holds the bytes from `ends[i - 1]`
 * (or 0) to `ends[i]`, at guest address `addresses[i]`. Guest addresses are the truth; nothing is resolved ahead.
 */
export interface Backing {
  readonly addresses: Float64Array;
  readonly ends: Float64Array;
}

export const backingLength = (backing: Backing): number => backing.ends.at(-1) ?? 0;

/** Pixels the host keeps for a 2D resource: 4 bytes each, rows of `strideBytes`. */
export interface Image extends PixelSource {
  readonly bytes: Uint8Array;
  readonly strideBytes: number;
  /** Frees the memory now; nothing can be read afterwards. */
  close(): void;
}

export interface Backend2d {
  /** A zeroed image. Throws when the host has no memory for it. */
  createImage(width: number, height: number): Image;
  /**
   * Copies a rectangle of guest pages into the image. Its first pixel is at byte `offset` of the backing, rows are
   * as far apart as in the image. What lies beyond the backing is left as it is. Returns the bytes copied, or
   * undefined when a page is not in guest memory any more.
   */
  transferToHost(backing: Backing, offset: number, image: Image, rect: Rect): number | undefined;
  /** Guest pages as pixels, read when somebody asks; `backing` says which they are then. */
  guestPixels(backing: () => Backing | undefined): PixelSource;
}

/** Work that goes on elsewhere. */
export interface Job {
  /** Calls back once, when the work is done; at once when it is. */
  whenDone(callback: () => void): void;
  /** Returns when the work is done. */
  wait(): void;
}

/** The memory behind the host-visible BAR. Offsets and lengths are whole pages inside it. */
export interface WindowMemory {
  readonly sizeBytes: number;
  /** Whether a range has any pages. */
  isPopulated(offset: number, lengthBytes: number): boolean;
  /** Bytes of the pages that a range has: takes the longer, the more pieces they are in. */
  populatedIn(offset: number, lengthBytes: number): number;
  /** Bytes of all pages, at once. */
  populatedBytes(): number;
  /** Makes a range read as zeros and keeps its pages where it has some. Undefined when it is done on return. */
  clear(offset: number, lengthBytes: number): Job | undefined;
  /** Makes a range read as zeros and gives its pages back to the host. */
  punch(offset: number, lengthBytes: number): void;
  write(offset: number, bytes: Uint8Array): void;
  read(offset: number, into: Uint8Array): void;
  /** A range as pixels, read when somebody asks; `offset` says where it is then. */
  pixels(offset: () => number | undefined): PixelSource;
}

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

/** What contexts have done, by name: numbers that only grow. */
export type Counters = Readonly<Record<string, number>>;

export const sumOf = (all: Iterable<Counters>): Counters => {
  const sum: Record<string, number> = {};
  for (const counters of all)
    for (const [name, value] of Object.entries(counters)) sum[name] = (sum[name] ?? 0) + value;
  return sum;
};

/** One kind of context: what `--context-types` names. A capability set tells guests of it. */
export interface Component {
  /** As in `--context-types`. */
  readonly name: string;
  readonly capsetId: number;
  readonly maxVersion: number;
  /** The same for every guest and as long as the device lives, because guests keep what they have read. */
  readonly capset: Uint8Array;
  /** Of contexts that have ended. */
  readonly pastCounters: Counters;
  createContext(host: ContextHost): Context;
}

/** What a context can ask of the device. */
export interface ContextHost {
  readonly contextId: number;
  /** What the guest calls it; printable. */
  readonly name: string;
}

/** A resource as the contexts it is attached to see it. It stays valid until it is detached. */
export interface AttachedResource {
  readonly id: number;
  /** The same object whenever the same resource is attached; another one for another resource of the same id. */
  readonly identity: object;
  readonly kind: '2d' | 'guest' | 'host3d';
  readonly sizeBytes: number;
  /** Copies bytes in; false when they do not lie in memory that is there now. */
  write(offset: number, bytes: Uint8Array): boolean;
  /** Copies bytes out; false as above. */
  read(offset: number, into: Uint8Array): boolean;
  /**
   * Hands it to a process of the host. Whoever asked closes the export, and does not refresh it after `detach`. A
   * `GpuFault` when the resource has no memory now that could be shown.
   */
  export(): MemoryExport;
}

/** What a context made for the guest to map. */
export interface ContextBlob {
  /** What is in it before the guest sees it: written into the zeroed range of the window when it is mapped. */
  readonly initial?: Uint8Array;
  /** The guest will not see it any more. */
  close(): void;
}

/**
 * One guest context, made by a `Component`. Every method does its part before it returns, and refuses by throwing
 * `GpuFault`. What takes longer shows only in when a fence passes.
 */
export interface Context {
  /** Rings that fences may be on, from 0; at most 64. */
  readonly ringCount: number;
  readonly counters: Counters;
  /** Runs a command stream: a private copy, of any length. */
  submit(commands: Uint8Array): void;
  /**
   * Calls back once, when everything submitted before on this ring is done; possibly before it returns. After `close`
   * nothing is called back any more.
   */
  fence(ringIdx: number, passed: () => void): void;
  /** Makes the host side of a blob. There is room for it. */
  createBlob(blobId: bigint, sizeBytes: number, flags: number): ContextBlob;
  attach(resource: AttachedResource): void;
  detach(resourceId: number): void;
  /**
   * Ends what it does, and tells the guest's program where it can: its blobs have lost what was in them. It lets go of
   * what the host has of its resources, and stays until `close`. `reason` is for the log.
   */
  end(reason: string): void;
  /** Ends it and all it holds. Its blobs are closed one by one, later. */
  close(): void;
}
