/** The connection of one context to a server of the host: bytes and descriptors both ways, never waiting. */
import { closeSync } from 'node:fs';
import {
  DISCONNECT,
  READABLE,
  receive,
  SystemError,
  send,
  Watch,
  WOULD_BLOCK,
  WRITABLE,
} from '../../native/index.ts';
import type { LentFd } from '../gpu/contracts/exports.ts';

/** What the other side has not taken; more, and the connection is given up. */
const MAX_UNSENT_BYTES = 16 * 2 ** 20;
/** The same in calls of `send`: small ones cost more than their bytes. */
const MAX_UNSENT_PIECES = 20_000;
const READ_BYTES = 16_384;
/** As many as one message can have. */
const MAX_FDS = 253;
/** What sending fails with when the other side has gone. */
const GONE: readonly string[] = ['EPIPE', 'ECONNRESET'];
const NOBODY_READS = -2;

interface Outgoing {
  readonly bytes: Uint8Array;
  at: number;
  readonly fds: readonly LentFd[];
}

export interface ChannelEvents {
  /** Bytes and descriptors have come; the descriptors are the receiver's to close. */
  received(bytes: Uint8Array, fds: number[]): void;
  /** The other side has gone, or cannot be followed. */
  ended(reason: string): void;
}

export class Channel {
  readonly #fd: number;
  readonly #events: ChannelEvents;
  readonly #watch: Watch;
  readonly #buffer = new Uint8Array(READ_BYTES);
  readonly #fds = new Int32Array(1 + MAX_FDS);
  readonly #unsent: Outgoing[] = [];
  #unsentBytes = 0;
  #isReading = true;
  #closed = false;

  /** Takes ownership of the socket. */
  constructor(fd: number, events: ChannelEvents) {
    this.#fd = fd;
    this.#events = events;
    this.#watch = new Watch(fd, READABLE, (ready) => this.#onReady(ready));
  }

  /** Whether to go on reading: what is not read waits in the kernel, and then at the other side. */
  set reading(wanted: boolean) {
    if (wanted === this.#isReading) return;
    this.#isReading = wanted;
    this.#listen();
  }

  /**
   * Sends, or keeps in order for later. Descriptors go with the first byte. Throws when too much is waiting. To a side
   * that has gone it sends nothing, and does not fail: what that side has said last is still to be read, then `ended`.
   */
  send(bytes: Uint8Array, fds: readonly LentFd[]): void {
    this.#unsent.push({ bytes, at: 0, fds });
    this.#unsentBytes += bytes.length;
    if (this.#unsent.length === 1) this.#flush();
    if (this.#unsentBytes > MAX_UNSENT_BYTES || this.#unsent.length > MAX_UNSENT_PIECES)
      throw new Error('the other side does not take what is sent');
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch.close();
    closeSync(this.#fd);
    this.#forgetUnsent();
  }

  #onReady(ready: number): void {
    try {
      if (ready & DISCONNECT) this.#forgetUnsent();
      if (ready & WRITABLE) this.#flush();
      if (ready & (READABLE | DISCONNECT) && this.#isReading) this.#read();
      // It has paused the watch, and there may be more to read, or just the end.
      if (ready & DISCONNECT) this.#listen();
    } catch (error) {
      this.#end((error as Error).message);
    }
  }

  #read(): void {
    const count = receive(this.#fd, this.#buffer, 0, READ_BYTES, this.#fds);
    if (count === WOULD_BLOCK) return;
    if (count === 0) {
      this.#end('the other side has closed the connection');
      return;
    }
    const fds = Array.from(this.#fds.subarray(1, 1 + (this.#fds[0] as number)));
    this.#events.received(this.#buffer.slice(0, count), fds);
  }

  #flush(): void {
    for (let first = this.#unsent[0]; first && !this.#closed; first = this.#unsent[0]) {
      const count = this.#sendRest(first);
      if (count === WOULD_BLOCK) break;
      if (count === NOBODY_READS) {
        this.#forgetUnsent();
        break;
      }
      if (first.at === 0) for (const one of first.fds) one.release();
      first.at += count;
      this.#unsentBytes -= count;
      if (first.at === first.bytes.length) this.#unsent.shift();
    }
    this.#listen();
  }

  #sendRest({ bytes, at, fds }: Outgoing): number {
    const given = at === 0 ? fds.map(({ fd }) => fd) : [];
    try {
      return send(this.#fd, bytes, at, bytes.length - at, given);
    } catch (error) {
      if (error instanceof SystemError && GONE.includes(error.code)) return NOBODY_READS;
      throw error;
    }
  }

  #forgetUnsent(): void {
    for (const { at, fds } of this.#unsent.splice(0)) if (at === 0) for (const one of fds) one.release();
    this.#unsentBytes = 0;
  }

  #listen(): void {
    if (this.#closed) return;
    this.#watch.setEvents((this.#isReading ? READABLE : 0) | (this.#unsent.length > 0 ? WRITABLE : 0));
  }

  #end(reason: string): void {
    if (this.#closed) return;
    this.close();
    this.#events.ended(reason);
  }
}
