/**
 * Sits between a client and a server. Messages go through whole and unchanged, descriptors included, one at a time
 * in each direction, and are shown to an observer on the way.
 */
import { closeSync } from 'node:fs';
import { DISCONNECT, READABLE, receive, send, Watch, WOULD_BLOCK, WRITABLE } from '../../native/index.ts';
import { type Message, MessageReader } from '../vfio-user/framing.ts';
import { HEADER_SIZE } from '../vfio-user/protocol.ts';
import { MAX_DATA_XFER_SIZE } from '../vfio-user/version.ts';
import type { TracedMessage } from './describe.ts';
import type { Direction } from './recording.ts';

/** Larger than any message a well-behaved peer sends, so that the peers' own limits are what counts. */
const MAX_MESSAGE_BYTES = 64 * MAX_DATA_XFER_SIZE;
const MAX_FDS = 253;
const NO_FDS: readonly number[] = [];

/** One of the two connections: what comes from it goes to the other side. */
class Side {
  readonly #fd: number;
  readonly #dir: Direction;
  readonly #seen: (message: TracedMessage) => void;
  readonly #onEnd: (error?: unknown) => void;
  readonly #watch: Watch;
  readonly #reader = new MessageReader(MAX_MESSAGE_BYTES);
  readonly #fds = new Int32Array(1 + MAX_FDS);
  #other: Side | undefined;
  /** What this connection has not taken yet; until it has, the other side is not read from. */
  #unsent: Uint8Array | undefined;

  constructor(
    fd: number,
    dir: Direction,
    seen: (message: TracedMessage) => void,
    onEnd: (error?: unknown) => void,
  ) {
    this.#fd = fd;
    this.#dir = dir;
    this.#seen = seen;
    this.#onEnd = onEnd;
    this.#watch = new Watch(fd, 0, (events) => this.#onEvents(events));
  }

  start(other: Side): void {
    this.#other = other;
    this.#listen();
  }

  close(): void {
    this.#watch.close();
    this.#reader.close();
    closeSync(this.#fd);
  }

  #listen(): void {
    const readable = this.#other && !this.#other.#unsent ? READABLE : 0;
    this.#watch.setEvents(readable | (this.#unsent ? WRITABLE : 0));
  }

  #onEvents(events: number): void {
    try {
      if (events & WRITABLE) this.#sendUnsent();
      if (events & READABLE && !this.#receive()) this.#onEnd();
      else if (events & DISCONNECT) this.#onEnd();
    } catch (error) {
      this.#onEnd(error);
    }
  }

  /** Passes on what has arrived; false at the end of the stream. */
  #receive(): boolean {
    const reader = this.#reader;
    while (this.#other && !this.#other.#unsent) {
      const message = reader.next();
      if (message) {
        this.#forward(message, this.#other);
        continue;
      }
      const { buffer, filled } = reader;
      const count = receive(this.#fd, buffer, filled, buffer.length - filled, this.#fds);
      if (count === WOULD_BLOCK) return true;
      if (count === 0) return false;
      const fds = Array.from(this.#fds.subarray(1, 1 + (this.#fds[0] as number)));
      reader.advance(count, fds);
    }
    return true;
  }

  #forward(message: Message, other: Side): void {
    const { id, command, flags, error, body } = message;
    const fds = message.fds.takeAll();
    try {
      this.#seen({ dir: this.#dir, id, command, flags, error, body, fdCount: fds.length });
      const begin = body.byteOffset - HEADER_SIZE;
      other.#send(this.#reader.buffer.subarray(begin, begin + HEADER_SIZE + body.length), fds);
    } finally {
      for (const fd of fds) closeSync(fd);
    }
  }

  #send(bytes: Uint8Array, fds: readonly number[]): void {
    const sent = Math.max(0, send(this.#fd, bytes, 0, bytes.length, fds));
    if (sent === 0 && fds.length > 0) throw new Error('a message with descriptors found no room');
    if (sent < bytes.length) this.#keep(bytes.slice(sent));
  }

  #sendUnsent(): void {
    if (!this.#unsent) return;
    const sent = Math.max(0, send(this.#fd, this.#unsent, 0, this.#unsent.length, NO_FDS));
    this.#keep(sent < this.#unsent.length ? this.#unsent.subarray(sent) : undefined);
    // The other side may have read more before it had to wait.
    if (!this.#unsent && this.#other) this.#other.#onEvents(READABLE);
  }

  #keep(unsent: Uint8Array | undefined): void {
    this.#unsent = unsent;
    this.#listen();
    if (this.#other) this.#other.#listen();
  }
}

/** Resolves when either side has ended the connection. Takes both sockets over. */
export function relay(client: number, server: number, seen: (message: TracedMessage) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    let ended = false;
    const end = (error?: unknown) => {
      if (ended) return;
      ended = true;
      for (const side of sides) side.close();
      if (error) reject(error);
      else resolve();
    };
    const sides = [new Side(client, 'c2s', seen, end), new Side(server, 's2c', seen, end)] as const;
    sides[0].start(sides[1]);
    sides[1].start(sides[0]);
  });
}
