/** The guest asked for something it may not have. It is told `code`, a VIRTIO_GPU_RESP_ERR_ value, and goes
 * on. With a `cause` it was the host that failed; with an `option` it was the limit that this option sets. */
import type { LimitOption } from './limits.ts';

export interface GpuFaultOptions extends ErrorOptions {
  readonly option?: LimitOption;
}

export class GpuFault extends Error {
  override readonly name = 'GpuFault';
  readonly code: number;
  readonly option: LimitOption | undefined;

  constructor(code: number, message: string, options: GpuFaultOptions = {}) {
    super(message, options);
    this.code = code;
    this.option = options.option;
  }
}
