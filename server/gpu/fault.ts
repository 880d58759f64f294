/** The guest asked for something it may not have. It is told `code`, a VIRTIO_GPU_RESP_ERR_ value, and goes
 * on. With a `cause` it was the host that failed. */
export class GpuFault extends Error {
  override readonly name = 'GpuFault';
  readonly code: number;

  constructor(code: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
