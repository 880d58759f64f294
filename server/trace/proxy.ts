/**
 * Sits between a client and a server. Messages go through whole and unchanged, descriptors included, one at a time
 * in each direction, and are shown to an observer on the way.
 */
import { closeSync } from 'node:fs';
import { DISCONNECT, READABLE, receive, send, Watch, WOULD_BLOCK } from '../../native/index.ts';
import { type Message, MessageReader } from '../vfio-user/framing.ts';
import { HEADER_SIZE } from '../vfio-user/protocol.ts';
import { MAX_DATA_XFER_SIZE } from '../vfio-user/version.ts';
import type { TracedMessage } from './describe.ts';
import type { Direction } from './recording.ts';

/** Larger than any message a well-behaved peer sends, so that the peers' own limits are what counts. */
const MAX_MESSAGE_BYTES = 64 * MAX_DATA_XFER_SIZE;
const MAX_FDS = 253;
const RETRY_MS = 1;
const NEVER_SET = new Int32Array(new SharedArrayBuffer(4));

/** One direction: reads from one socket, writes to the other. */
class Pipe {
  readonly #from: number;
  readonly #to: number;
  readonly #dir: Direction;
  readonly #reader = new MessageReader(MAX_MESSAGE_BYTES);
  readonly #fds = new Int32Array(1 + MAX_FDS);
  readonly #seen: (message: TracedMessage) => void;

  constructor(from: number, to: number, dir: Direction, seen: (message: TracedMessage) => void) {
    this.#from = from;
    this.#to = to;
    this.#dir = dir;
    this.#seen = seen;
  }

  /** Passes on what has arrived; false at the end of the stream. */
  pass(): boolean {
    for (;;) {
      const reader = this.#reader;
      const count = receive(this.#from, reader.buffer, reader.filled, reader.wanted, this.#fds);
      if (count === WOULD_BLOCK) return true;
      if (count === 0) return false;
      const fds = Array.from(this.#fds.subarray(1, 1 + (this.#fds[0] as number)));
      const message = reader.advance(count, fds);
      if (message) this.#forward(message);
    }
  }

  close(): void {
    this.#reader.close();
  }

  #forward(message: Message): void {
    const { id, command, flags, error, body } = message;
    const fds = message.fds.takeAll();
    try {
      this.#seen({ dir: this.#dir, id, command, flags, error, body, fdCount: fds.length });
      const bytes = this.#reader.buffer.subarray(0, HEADER_SIZE + body.length);
      for (let sent = 0; sent < bytes.length; ) {
        const count = send(this.#to, bytes, sent, bytes.length - sent, sent === 0 ? fds : []);
        // A tracer may wait where a server may not: the other side has its reasons.
        if (count === WOULD_BLOCK) Atomics.wait(NEVER_SET, 0, 0, RETRY_MS);
        else sent += count;
      }
    } finally {
      for (const fd of fds) closeSync(fd);
    }
  }
}

/** Resolves when either side has ended the connection. Takes both sockets over. */
export function relay(client: number, server: number, seen: (message: TracedMessage) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const toServer = new Pipe(client, server, 'c2s', seen);
    const toClient = new Pipe(server, client, 's2c', seen);
    const watches: Watch[] = [];
    const finish = (error?: unknown) => {
      for (const watch of watches.splice(0)) watch.close();
      toServer.close();
      toClient.close();
      closeSync(client);
      closeSync(server);
      if (error) reject(error);
      else resolve();
    };
    const run = (pipe: Pipe) => (events: number) => {
      if (watches.length === 0) return;
      try {
        if (!pipe.pass() || events & DISCONNECT) finish();
      } catch (error) {
        finish(error);
      }
    };
    watches.push(new Watch(client, READABLE, run(toServer)), new Watch(server, READABLE, run(toClient)));
  });
}
