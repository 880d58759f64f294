/** Guest memory for tests: a few windows of plain bytes, and an allocator for the driver's side. */
import type { Access, GuestMemory, GuestView } from '../pci/index.ts';

interface Window {
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly writable: boolean;
}

export class FlatMemory implements GuestMemory {
  epoch = 0;
  isUsable = true;
  #windows: Window[] = [];
  #next: number;

  /** One writable window of `sizeBytes` at `address`; more can be added. */
  constructor(sizeBytes = 1 << 20, address = 0x10_0000) {
    this.#next = address;
    this.map(address, sizeBytes);
  }

  map(address: number, sizeBytes: number, writable = true): void {
    this.#windows.push({ address, bytes: new Uint8Array(sizeBytes), writable });
    this.epoch++;
  }

  unmap(address: number): void {
    this.#windows = this.#windows.filter((window) => window.address !== address);
    this.epoch++;
  }

  /** Driver side: an aligned piece of the first window, zeroed. */
  allocate(lengthBytes: number, alignment = 16): number {
    const address = Math.ceil(this.#next / alignment) * alignment;
    this.#next = address + lengthBytes;
    const first = this.#windows[0];
    if (!first || this.#next > first.address + first.bytes.length)
      throw new Error('the test needs more guest memory');
    return address;
  }

  /** Driver side: direct access, whatever the window permits the device. */
  bytes(address: number, lengthBytes: number): Uint8Array {
    const window = this.#find(address);
    if (!window) throw new Error(`no window at 0x${address.toString(16)}`);
    return window.bytes.subarray(address - window.address, address - window.address + lengthBytes);
  }

  data(address: number, lengthBytes: number): DataView {
    const bytes = this.bytes(address, lengthBytes);
    return new DataView(bytes.buffer, bytes.byteOffset, lengthBytes);
  }

  view(address: number, lengthBytes: number, access: Access): GuestView | undefined {
    const window = this.#find(address);
    if (!window || (access === 'write' && !window.writable)) return undefined;
    if (address + lengthBytes > window.address + window.bytes.length) return undefined;
    const bytes = this.bytes(address, lengthBytes);
    return {
      bytes,
      data: new DataView(bytes.buffer, bytes.byteOffset, lengthBytes),
      halfwords: new Uint16Array(bytes.buffer, bytes.byteOffset, lengthBytes >> 1),
    };
  }

  covers(address: number, lengthBytes: number, access: Access): boolean {
    if (!Number.isSafeInteger(address + lengthBytes)) return false;
    let at = address;
    while (at < address + lengthBytes) {
      const window = this.#find(at);
      if (!window || (access === 'write' && !window.writable)) return false;
      at = window.address + window.bytes.length;
    }
    return true;
  }

  read(address: number, into: Uint8Array): boolean {
    if (!this.covers(address, into.length, 'read')) return false;
    for (let i = 0; i < into.length; i++) into[i] = this.#byte(address + i);
    return true;
  }

  write(address: number, from: Uint8Array): boolean {
    if (!this.covers(address, from.length, 'write')) return false;
    for (let i = 0; i < from.length; i++) {
      const window = this.#find(address + i) as Window;
      window.bytes[address + i - window.address] = from[i] as number;
    }
    return true;
  }

  #byte(address: number): number {
    const window = this.#find(address) as Window;
    return window.bytes[address - window.address] as number;
  }

  #find(address: number): Window | undefined {
    return this.#windows.find((w) => address >= w.address && address < w.address + w.bytes.length);
  }
}
