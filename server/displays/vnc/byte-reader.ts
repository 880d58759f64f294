/** Reads so many bytes after another from a stream. What is not asked for stays with its sender. */
import type { Duplex } from 'node:stream';

/** The other side has left, or is to be left. */
export class StreamEnded extends Error {
  override readonly name = 'StreamEnded';
}

export class ByteReader {
  #stream: Duplex;
  #error: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(stream: Duplex) {
    this.#stream = stream;
    this.#listen();
  }

  /** From here on the bytes come from another stream, which took over the first one. */
  replace(stream: Duplex): void {
    for (const event of ['readable', 'end', 'close', 'error']) this.#stream.removeAllListeners(event);
    this.#stream = stream;
    this.#listen();
  }

  /** Exactly so many bytes. @throws StreamEnded when they do not come */
  async read(lengthBytes: number): Promise<Buffer> {
    if (lengthBytes === 0) return Buffer.alloc(0);
    for (;;) {
      const bytes: Buffer | null = this.#stream.read(lengthBytes);
      if (bytes?.length === lengthBytes) return bytes;
      if (bytes || this.#error || this.#stream.readableEnded || this.#stream.destroyed) {
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
      const part = Math.min(left, 4096);
      await this.read(part);
      left -= part;
    }
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
  }
}
