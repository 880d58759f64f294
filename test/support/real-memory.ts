/** Guest memory as a device has it: shared, and announced with DMA_MAP. */
import { openSync } from 'node:fs';
import { DmaMap } from '../../server/host/guest-memory.ts';
import { SharedMemory } from '../../testing/shared-memory.ts';

export class RealMemory extends SharedMemory {
  readonly dma = new DmaMap();

  constructor(sizeBytes?: number, address?: number) {
    super(sizeBytes, address);
    this.announce();
  }

  /** DMA_MAP of all of it. */
  announce(): void {
    const fd = reopen(this.fd);
    const { address, sizeBytes } = this;
    this.dma.map({ address, sizeBytes, readable: true, writable: true, fileOffset: 0 }, fd);
  }

  override close(): void {
    this.dma.unmapAll();
    this.dma.addressSpace.close();
    super.close();
  }
}

/** Another descriptor of the same file, as a message would bring it. */
export const reopen = (fd: number): number => openSync(`/proc/self/fd/${fd}`, 'r+');
