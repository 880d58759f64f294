/** Whoever keeps the memory behind the host-visible BAR. */
import type { PixelSource } from '../../displays/display.ts';

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
