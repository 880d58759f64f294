/** Host memory that a guest may make the host use: charged before it is used, refunded exactly once. */
import { GpuFault } from './fault.ts';
import { VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY } from './protocol.ts';

export class Quota {
  readonly limitBytes: number;
  #usedBytes = 0;

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Charges `bytes` in the place of `insteadOf`, which were charged before. A fault when that is too much. */
  charge(bytes: number, what: string, insteadOf = 0): void {
    const usedBytes = this.#usedBytes + bytes - insteadOf;
    if (usedBytes > this.limitBytes) {
      throw new GpuFault(VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY, `no room for ${what} of ${bytes} bytes`);
    }
    this.#usedBytes = usedBytes;
  }

  refund(bytes: number): void {
    this.#usedBytes -= bytes;
  }
}
