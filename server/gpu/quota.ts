/** Host memory that a guest may make the host use: charged before it is used, refunded exactly once. */
import { GpuFault } from './fault.ts';
import type { LimitOption } from './limits.ts';
import { VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY } from './protocol.ts';

export class Quota {
  readonly limitBytes: number;
  readonly #option: LimitOption;
  #usedBytes = 0;

  /** `option` is how users set the limit. */
  constructor(limitBytes: number, option: LimitOption) {
    this.limitBytes = limitBytes;
    this.#option = option;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Charges `bytes` in the place of `insteadOf`, which were charged before. A fault when that is too much. */
  charge(bytes: number, what: string, insteadOf = 0): void {
    const usedBytes = this.#usedBytes + bytes - insteadOf;
    if (usedBytes > this.limitBytes) {
      const message = `no room for ${what} of ${bytes} bytes: ${this.#usedBytes} of ${this.limitBytes} are used`;
      throw new GpuFault(VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY, message, { option: this.#option });
    }
    this.#usedBytes = usedBytes;
  }

  /** The same for what is used already: never a fault, but false when it is too much. */
  note(bytes: number, insteadOf: number): boolean {
    this.#usedBytes += bytes - insteadOf;
    return this.#usedBytes <= this.limitBytes;
  }

  refund(bytes: number): void {
    this.#usedBytes -= bytes;
  }
}
