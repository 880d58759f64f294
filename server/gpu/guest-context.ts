/** A context of the guest, as the device knows it. */
import type { Component, Context } from './contracts/context.ts';

export interface GuestContext {
  readonly id: number;
  /** What the guest calls it; printable. */
  readonly name: string;
  readonly context: Context;
  /** Undefined for a context of no kind. */
  readonly component: Component | undefined;
  readonly attached: Set<number>;
  /** Its blobs had too many pages: it gets no more of them. */
  isOver: boolean;
}
