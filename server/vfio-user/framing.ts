/**
 * Bytes and descriptors in, whole messages out. Knows the header and the limits, nothing else; bytes may come from
 * a socket, a file or a test, cut anywhere.
 *
 * The reader says how many bytes it wants next and never takes more: first exactly a header, then exactly its body.
 * So descriptors that arrive belong to the header being read, as the protocol has it (a larger read could return the
 * end of one message together with the descriptors of the next).
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

export class MessageReader {
  readonly #maxSizeBytes: number;
  #buffer = new Uint8Array(INITIAL_BUFFER_BYTES);
  #view = new DataView(this.#buffer.buffer);
  #filled = 0;
  #size = HEADER_SIZE;
  #fds: number[] = [];

  /** `maxSizeBytes` bounds a message, header included. */
  constructor(maxSizeBytes: number) {
    this.#maxSizeBytes = maxSizeBytes;
  }

  /** Where the next bytes go: `buffer` from `filled` on, at most `wanted` of them. */
  get buffer(): Uint8Array {
    return this.#buffer;
  }

  get filled(): number {
    return this.#filled;
  }

  get wanted(): number {
    return this.#size - this.#filled;
  }

  /** True between messages: nothing is owed to this reader. */
  get idle(): boolean {
    return this.#filled === 0;
  }

  /**
   * Notes that `count` bytes have been put into the buffer together with `fds`, which belong to the reader from here
   * on. Returns the message they complete. Throws `StreamError` when the stream cannot be followed any further.
   */
  advance(count: number, fds: readonly number[]): Message | undefined {
    if (fds.length > 0) {
      this.#fds.push(...fds);
      if (this.#filled > 0) throw new StreamError('descriptors in the middle of a message');
    }
    this.#filled += count;
    if (this.#filled === HEADER_SIZE && this.#size === HEADER_SIZE) this.#readSize();
    return this.#filled === this.#size ? this.#take() : undefined;
  }

  /** Closes what an unfinished message brought. */
  close(): void {
    new ReceivedFds(this.#fds).close();
    this.#fds = [];
  }

  #readSize(): void {
    const type = this.#view.getUint32(HEADER_FLAGS, true) & FLAG_TYPE_MASK;
    if (type > TYPE_REPLY) throw new StreamError(`message of type ${type}`);
    const size = this.#view.getUint32(HEADER_MESSAGE_SIZE, true);
    if (size < HEADER_SIZE || size > this.#maxSizeBytes)
      throw new StreamError(`message of ${size} bytes`, EINVAL);
    this.#size = size;
    if (size > this.#buffer.length) {
      const larger = new Uint8Array(Math.min(this.#maxSizeBytes, 2 ** Math.ceil(Math.log2(size))));
      larger.set(this.#buffer.subarray(0, HEADER_SIZE));
      this.#buffer = larger;
      this.#view = new DataView(larger.buffer);
    }
  }

  /** The header as far as it has been read: what an error reply to a refused message is made of. */
  get header(): { id: number; command: number } {
    return { id: this.#view.getUint16(0, true), command: this.#view.getUint16(HEADER_COMMAND, true) };
  }

  #take(): Message {
    const message: Message = {
      id: this.#view.getUint16(0, true),
      command: this.#view.getUint16(HEADER_COMMAND, true),
      flags: this.#view.getUint32(HEADER_FLAGS, true),
      error: this.#view.getUint32(HEADER_ERROR, true),
      body: this.#buffer.subarray(HEADER_SIZE, this.#size),
      fds: this.#fds.length > 0 ? new ReceivedFds(this.#fds) : NONE,
    };
    this.#filled = 0;
    this.#size = HEADER_SIZE;
    if (this.#fds.length > 0) this.#fds = [];
    return message;
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
