/** Memory for pixels that workers and other processes can map as well. */
import { closeSync } from 'node:fs';
import { createMemfd, Mapping } from '../../native/index.ts';

export class PixelMemory {
  /** A memfd that keeps its size. */
  readonly fd: number;
  /** Empty once closed. */
  readonly bytes: Uint8Array;
  readonly #mapping: Mapping;

  /** Zeroed. Throws when the host has no memory for it. */
  constructor(name: string, lengthBytes: number) {
    this.fd = createMemfd(name, lengthBytes, { seals: 'size' });
    try {
      this.#mapping = Mapping.map(this.fd, { lengthBytes, writable: true, whole: true });
    } catch (error) {
      closeSync(this.fd);
      throw error;
    }
    this.bytes = this.#mapping.bytes(0, lengthBytes);
  }

  close(): void {
    this.#mapping.close();
    closeSync(this.fd);
  }
}
