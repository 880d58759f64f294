/** The bytes of one viewer, both ways. What is not asked for stays with its sender; what does not leave is noticed. */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type SecureContext, TLSSocket } from 'node:tls';
import type { ViewerCounter } from '../viewing/messages.ts';
import { Refusal } from './refusal.ts';

/** The other side has left, or is to be left. */
export class StreamEnded extends Error {
  override readonly name = 'StreamEnded';
}

const SKIPPED_AT_ONCE_BYTES = 4096;
const MAX_UNREAD_ANSWER_BYTES = 2 ** 16;

export class ViewerStream {
  readonly #counter: ViewerCounter;
  #stream: Duplex;
  #error: Error | undefined;
  #isBlocked = false;
  /** Of answers, since the viewer does not read. */
  #answeredBytes = 0;
  #onDrain: () => void = () => {};
  #wake: (() => void) | undefined;

  constructor(stream: Duplex, counter: ViewerCounter) {
    this.#stream = stream;
    this.#counter = counter;
    this.#listen();
  }

  /** Whether something that was written has not left this process yet. */
  get isBlocked(): boolean {
    return this.#isBlocked;
  }

  /** Calls `listener` whenever everything has left. */
  set onDrain(listener: () => void) {
    this.#onDrain = listener;
  }

  /** Exactly so many bytes. @throws StreamEnded when they do not come */
  async read(lengthBytes: number): Promise<Buffer> {
    if (lengthBytes === 0) return Buffer.alloc(0);
    for (;;) {
      const bytes: Buffer | null = this.#stream.read(lengthBytes);
      if (bytes?.length === lengthBytes) return bytes;
      if (bytes || this.hasEnded) {
        throw new StreamEnded(this.#error?.message ?? 'the viewer left');
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async u8(): Promise<number> {
    return (await this.read(1)).readUInt8();
  }

  async u32(): Promise<number> {
    return (await this.read(4)).readUInt32BE();
  }

  /** Lets bytes pass without keeping them. */
  async skip(lengthBytes: number): Promise<void> {
    for (let left = lengthBytes; left > 0; ) {
      const part = Math.min(left, SKIPPED_AT_ONCE_BYTES);
      await this.read(part);
      left -= part;
    }
  }

  /** Whether there is nobody any more. */
  get hasEnded(): boolean {
    return this.#error !== undefined || this.#stream.readableEnded || this.#stream.destroyed;
  }

  /** Writes what the viewer has asked for by a message. @throws Refusal for one that asks and asks, and does not read */
  answer(...parts: readonly Uint8Array[]): void {
    if (this.#isBlocked) this.#answeredBytes += parts.reduce((sum, { length }) => sum + length, 0);
    if (this.#answeredBytes > MAX_UNREAD_ANSWER_BYTES) throw new Refusal('the viewer asks and does not read');
    this.write(...parts);
  }

  write(...parts: readonly Uint8Array[]): void {
    if (this.#stream.destroyed) return;
    this.#stream.cork();
    for (const part of parts) {
      this.#counter.sentBytes += part.length;
      if (!this.#stream.write(part)) this.#isBlocked = true;
    }
    this.#stream.uncork();
  }

  /** From here on everything goes through TLS, of which this is the server. */
  encrypt(secureContext: SecureContext): void {
    const plain = this.#stream;
    for (const event of ['readable', 'end', 'close', 'error', 'drain']) plain.removeAllListeners(event);
    plain.on('error', () => {});
    // Only sockets come here: web sockets are encrypted below.
    this.#stream = new TLSSocket(plain as Socket, { isServer: true, secureContext });
    this.#listen();
  }

  destroy(): void {
    this.#stream.destroy();
  }

  #listen(): void {
    const wake = () => this.#wake?.();
    this.#stream.on('readable', wake);
    this.#stream.on('end', wake);
    this.#stream.on('close', wake);
    this.#stream.on('error', (error) => {
      this.#error = error;
      wake();
    });
    this.#stream.on('drain', () => {
      this.#isBlocked = false;
      this.#answeredBytes = 0;
      this.#onDrain();
    });
  }
}
