/**
 * Between the device, which copies into a frame, and a thread that looks at it: who looks sees no half of a copy, and
 * the device waits for nobody. While somebody looks, it notes what is to be copied and does that later.
 */

/** Words of the shared memory. */
const LOOKING = 0;
const COPYING = 1;
const LATE = 2;
const WORDS = 3;

export class FrameLock {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;

  /** A new one, or that of the other thread. */
  constructor(buffer = new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
  }

  /** The device's: whether it may copy now, until `endCopy`. If not, who looks will say when it has finished. */
  beginCopy(): boolean {
    // Each side says what it wants before it asks for the other one: one of the two sees the other.
    Atomics.store(this.#words, COPYING, 1);
    if (Atomics.load(this.#words, LOOKING) === 0) return true;
    Atomics.store(this.#words, LATE, 1);
    // Who has stopped looking in between may not have seen that.
    if (Atomics.load(this.#words, LOOKING) === 0) return true;
    this.endCopy();
    return false;
  }

  endCopy(): void {
    Atomics.store(this.#words, COPYING, 0);
    Atomics.notify(this.#words, COPYING);
  }

  /** The other side's: looks when no copy is under way. Returns whether the device has something to copy since. */
  look(look: () => void): boolean {
    Atomics.store(this.#words, LOOKING, 1);
    while (Atomics.load(this.#words, COPYING) !== 0) Atomics.wait(this.#words, COPYING, 1);
    try {
      look();
    } finally {
      Atomics.store(this.#words, LOOKING, 0);
    }
    return Atomics.exchange(this.#words, LATE, 0) !== 0;
  }
}
