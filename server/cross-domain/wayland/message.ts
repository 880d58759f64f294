/** A whole message on its way, with what it speaks of: what filter, inspector and observers are given. */
import type { WaylandObject } from './objects.ts';
import type { MessageSpec } from './schema.ts';
import { HEADER_BYTES } from './wire.ts';

/** Valid until the call it is given to returns: the bytes belong to whoever gave them. */
export interface Message {
  readonly fromGuest: boolean;
  readonly object: WaylandObject;
  readonly spec: MessageSpec;
  /** The stream or part of it; the message is `sizeBytes` of it from `at`. */
  readonly source: Uint8Array;
  readonly view: DataView;
  readonly at: number;
  readonly sizeBytes: number;
  /** What it makes. */
  readonly created: WaylandObject | undefined;
  /** Index of its first descriptor among all that ever came; without meaning where it has none. */
  readonly fd: number;
}

/** An argument of one word, counted in words behind the header. */
export const uintAt = ({ view, at }: Message, word: number): number =>
  view.getUint32(at + HEADER_BYTES + 4 * word, true);
export const intAt = ({ view, at }: Message, word: number): number =>
  view.getInt32(at + HEADER_BYTES + 4 * word, true);

export const bytesOf = ({ source, at, sizeBytes }: Message): Uint8Array =>
  source.subarray(at, at + sizeBytes);
