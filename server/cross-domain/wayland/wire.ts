/**
 * The Wayland wire format: a header of two words, then arguments of whole words. All numbers are little-endian here.
 * Descriptors take no bytes. Knows of no interface; what an argument means is in `schema.ts`.
 */
import { viewOf } from '../../wire.ts';

export const HEADER_BYTES = 8;
/** The size is a 16-bit number; what is written here is of whole words. */
export const MAX_MESSAGE_BYTES = 65_532;
/** What compositors with older libraries take. */
export const COMMON_MESSAGE_BYTES = 4096;

/** Codes of wl_display.error. */
export const WL_DISPLAY_ERROR_INVALID_OBJECT = 0;
export const WL_DISPLAY_ERROR_INVALID_METHOD = 1;
export const WL_DISPLAY_ERROR_NO_MEMORY = 2;
export const WL_DISPLAY_ERROR_IMPLEMENTATION = 3;

export const WL_DISPLAY_ID = 1;

/** A stream that cannot go on. It carries what wl_display.error tells the guest. */
export class WaylandError extends Error {
  override readonly name = 'WaylandError';
  readonly objectId: number;
  readonly code: number;

  constructor(code: number, message: string, objectId = WL_DISPLAY_ID) {
    super(message);
    this.code = code;
    this.objectId = objectId;
  }
}

export type ArgumentKind = 'int' | 'uint' | 'fixed' | 'string' | 'object' | 'new_id' | 'array' | 'fd';

export interface ArgumentShape {
  readonly kind: ArgumentKind;
  /** An absent string has no bytes, not even the final zero; an absent object has the number 0. */
  readonly nullable: boolean;
}

/** Numbers for all kinds of one word; null is an absent string, and what stands for a descriptor. */
export type Argument = number | string | Uint8Array | null;

const utf8 = new TextEncoder();
/** A byte order mark is a character: names that differ by it are different names. */
const text = new TextDecoder('utf-8', { ignoreBOM: true });

const padded = (lengthBytes: number) => Math.ceil(lengthBytes / 4) * 4;

function malformed(message: string): never {
  throw new WaylandError(WL_DISPLAY_ERROR_INVALID_METHOD, message);
}

/** Bytes of a message, as its first eight say: any number. */
export const messageSize = (view: DataView, at: number): number => view.getUint16(at + 6, true);

/** Refuses a size that no message has. */
export function refuseTooShort(sizeBytes: number): void {
  if (sizeBytes < HEADER_BYTES) malformed(`message of ${sizeBytes} bytes`);
}

/** Where the words of a message end. What is behind them is no argument. */
export const endOfWords = (at: number, sizeBytes: number): number => at + sizeBytes - (sizeBytes % 4);

/**
 * Where the argument behind one at `at` begins. Refuses what does not fit before `end`, a string without its final
 * zero, and an absent string or object where there must be one. What a string or an array is padded with may be anything.
 */
export function skipArgument({ kind, nullable }: ArgumentShape, view: DataView, at: number, end: number) {
  if (kind === 'fd') return at;
  if (at + 4 > end) malformed('message too short');
  if (kind !== 'string' && kind !== 'array') {
    const mustBe = (kind === 'object' || kind === 'new_id') && !nullable;
    if (mustBe && view.getUint32(at, true) === 0) malformed(`${kind} is absent`);
    return at + 4;
  }
  const lengthBytes = view.getUint32(at, true);
  const next = at + 4 + padded(lengthBytes);
  if (next > end) malformed(`${kind} of ${lengthBytes} bytes`);
  if (kind === 'string') {
    if (lengthBytes === 0 && !nullable) malformed('string is absent');
    if (lengthBytes > 0 && view.getUint8(at + 3 + lengthBytes) !== 0) malformed('string without end');
  }
  return next;
}

/**
 * The bytes of a string at its length, up to its first zero, where libwayland ends it, too; empty where it is absent.
 * Aliases the message.
 */
export function stringBytes(view: DataView, at: number): Uint8Array {
  const bytes = new Uint8Array(view.buffer, view.byteOffset + at + 4, view.getUint32(at, true));
  return bytes.subarray(0, Math.max(bytes.indexOf(0), 0));
}

/**
 * The arguments of a whole message, one for each shape. What stands behind the last one is nobody's, as for libwayland: a
 * library in use sends a word more per string, array and descriptor. Throws only `WaylandError`.
 */
export function decodeArguments(shapes: readonly ArgumentShape[], message: Uint8Array): Argument[] {
  const view = viewOf(message);
  if (message.length < HEADER_BYTES || messageSize(view, 0) !== message.length) malformed('not one message');
  const end = endOfWords(0, message.length);
  let at = HEADER_BYTES;
  return shapes.map((shape) => {
    const behind = skipArgument(shape, view, at, end);
    const value = decodeArgument(shape.kind, view, at);
    at = behind;
    return value;
  });
}

function decodeArgument(kind: ArgumentKind, view: DataView, at: number): Argument {
  switch (kind) {
    case 'int':
      return view.getInt32(at, true);
    case 'uint':
    case 'object':
    case 'new_id':
      return view.getUint32(at, true);
    case 'fixed':
      return view.getInt32(at, true) / 256;
    case 'string':
      return view.getUint32(at, true) === 0 ? null : text.decode(stringBytes(view, at));
    case 'array':
      return new Uint8Array(view.buffer, view.byteOffset + at + 4, view.getUint32(at, true)).slice();
    case 'fd':
      return null;
    default:
      return kind satisfies never;
  }
}

/** One message. A string may be given as bytes, without the final zero. Throws `WaylandError` when it is too long. */
export function encodeMessage(
  objectId: number,
  opcode: number,
  shapes: readonly ArgumentShape[],
  values: readonly Argument[],
): Uint8Array {
  const raw = values.map((value, i) => {
    if (typeof value !== 'string') return value;
    return shapes[i]?.kind === 'string' ? utf8.encode(value) : null;
  });
  const lengths = shapes.map(({ kind }, i) => {
    if (kind === 'fd') return 0;
    const value = raw[i];
    if (kind !== 'string' && kind !== 'array') return 4;
    if (!(value instanceof Uint8Array)) return 4;
    return 4 + padded(value.length + (kind === 'string' ? 1 : 0));
  });
  const size = lengths.reduce((sum, length) => sum + length, HEADER_BYTES);
  if (size > MAX_MESSAGE_BYTES) malformed(`message of ${size} bytes`);
  const out = new Uint8Array(size);
  const view = new DataView(out.buffer);
  view.setUint32(0, objectId, true);
  view.setUint16(4, opcode, true);
  view.setUint16(6, size, true);
  let at = HEADER_BYTES;
  for (const [i, { kind }] of shapes.entries()) {
    const value = raw[i];
    if (value instanceof Uint8Array) {
      view.setUint32(at, value.length + (kind === 'string' ? 1 : 0), true);
      out.set(value, at + 4);
    } else if (typeof value === 'number') {
      view.setUint32(at, kind === 'fixed' ? Math.round(value * 256) : value, true);
    }
    at += lengths[i] ?? 0;
  }
  return out;
}
