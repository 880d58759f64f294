/** zlib streams that viewers keep the other end of. */
import { constants, createDeflate, type Deflate } from 'node:zlib';

/** Of what comes out at a time. */
const CHUNK_BYTES = 64 * 1024;

/** zlib's level where the viewer has not asked for one. */
const DEFAULT_LEVEL = 3;
/** Beyond this, a few percent of the bytes cost a multiple of the time. */
const MAX_LEVEL = 7;

/** zlib's level for one of a viewer's pseudo-encoding, 0 to 9. */
export function zlibLevel(compressLevel: number = DEFAULT_LEVEL): number {
  return Math.min(compressLevel, MAX_LEVEL);
}

const STRATEGY = { default: constants.Z_DEFAULT_STRATEGY, runs: constants.Z_RLE } as const;

/**
 * One zlib stream. Compresses on the thread pool, in the order of the calls; what comes out for one call can be
 * decompressed without waiting for the next.
 */
export class DeflateStream {
  readonly #deflate: Deflate;
  readonly #strategy: number;
  #level: number;
  #output: Uint8Array[] = [];
  #last: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  /** `level` is zlib's, 0 to 9; `runs` is for data that repeats nothing but single bytes. */
  constructor(level: number, strategy: keyof typeof STRATEGY = 'default') {
    this.#level = level;
    this.#strategy = STRATEGY[strategy];
    this.#deflate = createDeflate({
      level,
      strategy: this.#strategy,
      flush: constants.Z_SYNC_FLUSH,
      chunkSize: CHUNK_BYTES,
    });
    this.#deflate.on('data', (chunk: Buffer) => this.#output.push(chunk));
    // Whoever writes is told, by the callback.
    this.#deflate.on('error', () => {});
  }

  /**
   * Reads `bytes` until the promise is settled. Rejects when the stream was closed.
   * @param level of zlib, from these bytes on
   */
  compress(bytes: Uint8Array, level: number): Promise<Uint8Array> {
    const result = this.#last.then(() => this.#compress(bytes, level));
    this.#last = result.catch(() => {});
    return result;
  }

  /** What is under way ends first: Node throws where nobody can catch it when a stream goes in the middle of `params`. */
  close(): void {
    this.#isClosed = true;
    void this.#last.then(() => this.#deflate.destroy());
  }

  async #compress(bytes: Uint8Array, level: number): Promise<Uint8Array> {
    if (level !== this.#level) {
      await this.#finished((done) => this.#deflate.params(level, this.#strategy, done));
      this.#level = level;
    }
    await this.#finished((done) => void this.#deflate.write(bytes, done));
    while (this.#deflate.read() !== null);
    const output = this.#output;
    this.#output = [];
    return output.length === 1 ? output[0]! : Buffer.concat(output);
  }

  #finished(start: (done: (error?: Error | null) => void) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#isClosed) return reject(new Error('the stream is closed'));
      start((error) => {
        if (error) reject(error);
        else if (this.#isClosed) reject(new Error('the stream was closed'));
        else resolve();
      });
    });
  }
}
