/** Guest memory the way a VMM shares it: a memfd, announced to the device with DMA_MAP and mapped here as well. */
import { closeSync, openSync } from 'node:fs';
import { createMemfd, Mapping } from '../../native/index.ts';
import { DmaMap } from '../../server/host/guest-memory.ts';
import type { DriverMemory } from './fake-driver.ts';

export class RealMemory implements DriverMemory {
  readonly dma = new DmaMap();
  readonly address: number;
  readonly sizeBytes: number;
  /** The driver's own mapping. */
  readonly mapping: Mapping;
  readonly fd: number;
  #next: number;

  constructor(sizeBytes = 64 << 20, address = 0x10_0000) {
    this.address = address;
    this.sizeBytes = sizeBytes;
    this.#next = address;
    this.fd = createMemfd('guest', sizeBytes, { seals: 'size' });
    this.mapping = Mapping.map(this.fd, { lengthBytes: sizeBytes, writable: true, whole: true });
    this.announce();
  }

  /** DMA_MAP of all of it. */
  announce(): void {
    const fd = reopen(this.fd);
    const { address, sizeBytes } = this;
    this.dma.map({ address, sizeBytes, readable: true, writable: true, fileOffset: 0 }, fd);
  }

  allocate(lengthBytes: number, alignment = 16): number {
    const address = Math.ceil(this.#next / alignment) * alignment;
    this.#next = address + lengthBytes;
    if (this.#next > this.address + this.sizeBytes) throw new Error('the test needs more guest memory');
    return address;
  }

  bytes(address: number, lengthBytes: number): Uint8Array {
    return new Uint8Array(this.mapping.chunk(0), address - this.address, lengthBytes);
  }

  data(address: number, lengthBytes: number): DataView {
    return new DataView(this.mapping.chunk(0), address - this.address, lengthBytes);
  }

  close(): void {
    this.dma.unmapAll();
    this.dma.addressSpace.close();
    this.mapping.close();
    closeSync(this.fd);
  }
}

/** Another descriptor of the same file, as a message would bring it. */
export const reopen = (fd: number): number => openSync(`/proc/self/fd/${fd}`, 'r+');
