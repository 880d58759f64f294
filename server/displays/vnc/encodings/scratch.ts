/** Memory for what is between pixels and compressed bytes, kept from one update to the next. */

/** More than this is not kept: about a frame of 2560x1600. */
const MAX_KEPT_BYTES = 16 * 2 ** 20;

export class Scratch {
  #kept: Uint8Array | undefined;

  /** Bytes of any content. */
  take(lengthBytes: number): Uint8Array {
    const kept = this.#kept;
    this.#kept = undefined;
    return kept && kept.length >= lengthBytes ? kept : Buffer.allocUnsafeSlow(lengthBytes);
  }

  /** Nobody uses these bytes any more. */
  giveBack(bytes: Uint8Array): void {
    if (bytes.length <= MAX_KEPT_BYTES && bytes.length > (this.#kept?.length ?? 0)) this.#kept = bytes;
  }

  clear(): void {
    this.#kept = undefined;
  }
}
