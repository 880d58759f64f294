/** Guest memory the way a VMM shares it: a file in memory, which a device maps, and which is mapped here as well. */
import { closeSync } from 'node:fs';
import { createMemfd, Mapping } from '../native/index.ts';
import type { DriverMemory } from './fake-driver.ts';

export class SharedMemory implements DriverMemory {
  /** Guest physical address of its first byte. */
  readonly address: number;
  readonly sizeBytes: number;
  /** The driver's own mapping. */
  readonly mapping: Mapping;
  /** The file, which `close` closes. */
  readonly fd: number;
  #next: number;

  /** Memory of zeros: `sizeBytes` of it at guest physical address `address`. */
  constructor(sizeBytes = 64 << 20, address = 0x10_0000) {
    this.address = address;
    this.sizeBytes = sizeBytes;
    this.#next = address;
    this.fd = createMemfd('guest', sizeBytes, { seals: 'size' });
    this.mapping = Mapping.map(this.fd, { lengthBytes: sizeBytes, writable: true, whole: true });
  }

  /** The guest address of a piece that nobody else has. Throws when there is none left. */
  allocate(lengthBytes: number, alignment = 16): number {
    const address = Math.ceil(this.#next / alignment) * alignment;
    this.#next = address + lengthBytes;
    if (this.#next > this.address + this.sizeBytes) throw new Error('the test needs more guest memory');
    return address;
  }

  /** The bytes at a guest address, in place. */
  bytes(address: number, lengthBytes: number): Uint8Array {
    return new Uint8Array(this.mapping.chunk(0), address - this.address, lengthBytes);
  }

  /** The same as numbers. */
  data(address: number, lengthBytes: number): DataView {
    return new DataView(this.mapping.chunk(0), address - this.address, lengthBytes);
  }

  close(): void {
    this.mapping.close();
    closeSync(this.fd);
  }
}
