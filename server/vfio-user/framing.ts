/**
 * Bytes and descriptors in, whole messages out. Knows the header and the limits, nothing else; bytes may come from
 * a socket, a file or a test, cut anywhere.
 *
 * A read may return several messages. One that returns descriptors ends with the bytes they were sent with
 * (unix(7): ancillary data is a barrier), so they belong to the last message that begins in it.
 */
import { closeSync } from 'node:fs';
import { EINVAL, StreamError } from '../errors.ts';
import {
  FLAG_NO_REPLY,
  FLAG_TYPE_MASK,
  HEADER_COMMAND,
  HEADER_ERROR,
  HEADER_FLAGS,
  HEADER_MESSAGE_SIZE,
  HEADER_SIZE,
  TYPE_REPLY,
} from './protocol.ts';

/** Descriptors that came with a message. Whoever wants one takes it; the rest is closed with the message. */
export class ReceivedFds {
  #fds: number[];

  constructor(fds: readonly number[] = []) {
    this.#fds = [...fds];
  }

  get count(): number {
    return this.#fds.length;
  }

  /** Whether the predicate holds for each; they stay here. */
  every(predicate: (fd: number) => boolean): boolean {
    return this.#fds.every(predicate);
  }

  /** All of them; from now on the caller closes them. */
  takeAll(): number[] {
    const taken = this.#fds;
    this.#fds = [];
    return taken;
  }

  /** Closes what nobody took. */
  close(): void {
    for (const fd of this.#fds) closeSync(fd);
    this.#fds = [];
  }
}

/** Most messages bring none. */
const NONE = new ReceivedFds();

/** One message. `body` is only valid until the next call of the reader that made it. */
export interface Message {
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  /** The errno of an error reply; without meaning in a command. */
  readonly error: number;
  readonly body: Uint8Array;
  readonly fds: ReceivedFds;
}

export const isReply = (message: Message): boolean => (message.flags & FLAG_TYPE_MASK) === TYPE_REPLY;
export const wantsNoReply = (message: Message): boolean => (message.flags & FLAG_NO_REPLY) !== 0;

const INITIAL_BUFFER_BYTES = 4096;

/** Descriptors that one read returned, and where in the buffer its bytes lie. */
interface Arrival {
  begin: number;
  end: number;
  readonly fds: readonly number[];
}

export class MessageReader {
  readonly #maxSizeBytes: number;
  #buffer = new Uint8Array(INITIAL_BUFFER_BYTES);
  #view = new DataView(this.#buffer.buffer);
  /** Where the next message begins. */
  #begin = 0;
  #filled = 0;
  /** Where the message begins that was looked at last. */
  #current = 0;
  /** At most two: with the message that is unfinished, and with the one that the read which ends it begins. */
  readonly #arrivals: Arrival[] = [];

  /** `maxSizeBytes` bounds a message, header included. */
  constructor(maxSizeBytes: number) {
    this.#maxSizeBytes = maxSizeBytes;
  }

  /** Where the next bytes go, when `next` has no more messages: `buffer` from `filled` on, as many as fit. */
  get buffer(): Uint8Array {
    return this.#buffer;
  }

  get filled(): number {
    return this.#filled;
  }

  /** True between messages: nothing is owed to this reader, and nothing is left in it. */
  get idle(): boolean {
    return this.#filled === this.#begin;
  }

  /** Notes that `count` bytes have been put into the buffer together with `fds`, which are the reader's from here on. */
  advance(count: number, fds: readonly number[]): void {
    const begin = this.#filled;
    this.#filled += count;
    if (fds.length > 0) this.#arrivals.push({ begin, end: this.#filled, fds });
  }

  /** The next whole message, if there is one. Throws `StreamError` when the stream cannot be followed any further. */
  next(): Message | undefined {
    const begin = this.#begin;
    const available = this.#filled - begin;
    if (available === 0) {
      this.#begin = 0;
      this.#filled = 0;
      return undefined;
    }
    this.#current = begin;
    const sizeBytes = available < HEADER_SIZE ? HEADER_SIZE : this.#readSize();
    const end = begin + sizeBytes;
    if (end > this.#filled) {
      this.#expect(sizeBytes);
      return undefined;
    }
    this.#begin = end;
    return {
      id: this.#view.getUint16(begin, true),
      command: this.#view.getUint16(begin + HEADER_COMMAND, true),
      flags: this.#view.getUint32(begin + HEADER_FLAGS, true),
      error: this.#view.getUint32(begin + HEADER_ERROR, true),
      body: this.#buffer.subarray(begin + HEADER_SIZE, end),
      fds: this.#arrivals.length > 0 ? this.#takeFds(end) : NONE,
    };
  }

  /** Closes what messages brought that nobody has asked for. */
  close(): void {
    for (const { fds } of this.#arrivals.splice(0)) new ReceivedFds(fds).close();
  }

  /** The header of the message looked at last: what an error reply to a refused message is made of. */
  get header(): { id: number; command: number } {
    return {
      id: this.#view.getUint16(this.#current, true),
      command: this.#view.getUint16(this.#current + HEADER_COMMAND, true),
    };
  }

  #readSize(): number {
    const type = this.#view.getUint32(this.#begin + HEADER_FLAGS, true) & FLAG_TYPE_MASK;
    if (type > TYPE_REPLY) throw new StreamError(`message of type ${type}`);
    const sizeBytes = this.#view.getUint32(this.#begin + HEADER_MESSAGE_SIZE, true);
    if (sizeBytes < HEADER_SIZE || sizeBytes > this.#maxSizeBytes)
      throw new StreamError(`message of ${sizeBytes} bytes`, EINVAL);
    return sizeBytes;
  }

  /** Makes room for the rest of a message of which only a part is here. */
  #expect(sizeBytes: number): void {
    const begin = this.#begin;
    if (this.#arrivals.some((arrival) => arrival.begin > begin)) this.#refuseFds();
    if (begin + sizeBytes <= this.#buffer.length) return;
    const part = this.#buffer.subarray(begin, this.#filled);
    if (sizeBytes > this.#buffer.length) {
      this.#buffer = new Uint8Array(Math.min(this.#maxSizeBytes, 2 ** Math.ceil(Math.log2(sizeBytes))));
      this.#view = new DataView(this.#buffer.buffer);
    }
    this.#buffer.set(part);
    for (const arrival of this.#arrivals) {
      arrival.begin -= begin;
      arrival.end -= begin;
    }
    this.#filled -= begin;
    this.#begin = 0;
    this.#current = 0;
  }

  /** The descriptors of the message that begins at `#current` and ends at `end`. */
  #takeFds(end: number): ReceivedFds {
    const [arrival, another] = this.#arrivals;
    if (!arrival || arrival.end > end) return NONE;
    if (arrival.begin > this.#current || (another && another.end <= end)) this.#refuseFds();
    this.#arrivals.shift();
    return new ReceivedFds(arrival.fds);
  }

  #refuseFds(): never {
    throw new StreamError('descriptors in the middle of a message');
  }
}

/** Writes a header; returns the same buffer. */
export function putHeader(
  into: DataView,
  fields: { id: number; command: number; sizeBytes: number; flags: number; error?: number },
): void {
  into.setUint16(0, fields.id, true);
  into.setUint16(HEADER_COMMAND, fields.command, true);
  into.setUint32(HEADER_MESSAGE_SIZE, fields.sizeBytes, true);
  into.setUint32(HEADER_FLAGS, fields.flags, true);
  into.setUint32(HEADER_ERROR, fields.error ?? 0, true);
}
