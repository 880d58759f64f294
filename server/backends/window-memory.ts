/** The host-visible window: one sparse memfd that keeps its size, mapped here and by the VMM. */
import { closeSync, fstatSync } from 'node:fs';
import {
  clearInBackground,
  clearRange,
  createMemfd,
  dataBytes,
  GuestAddressSpace,
  gather,
  Mapping,
  nextData,
  punchHole,
} from '../../native/index.ts';
import type { PixelSource } from '../displays/display.ts';
import type { Job, WindowMemory } from '../gpu/contracts/window-memory.ts';

/** Clearing less takes less time than telling somebody else to. */
const CLEAR_AT_ONCE_BYTES = 64 * 1024;
const BLOCK_BYTES = 512;

export class MemfdWindow implements WindowMemory {
  readonly fd: number;
  readonly sizeBytes: number;
  /** The window once more, for native code that copies: addresses are offsets. */
  readonly addressSpace = new GuestAddressSpace();
  readonly #mapping: Mapping;

  /** Costs no memory before somebody writes to it. */
  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
    this.fd = createMemfd('host-visible', sizeBytes, { seals: 'size' });
    try {
      this.#mapping = Mapping.map(this.fd, { lengthBytes: sizeBytes, writable: true });
      this.addressSpace.add(0, sizeBytes, this.#mapping, 0, true);
    } catch (error) {
      closeSync(this.fd);
      throw error;
    }
  }

  isPopulated(offset: number, lengthBytes: number): boolean {
    const data = nextData(this.fd, offset);
    return data !== undefined && data < offset + lengthBytes;
  }

  populatedIn(offset: number, lengthBytes: number): number {
    return dataBytes(this.fd, offset, lengthBytes);
  }

  clear(offset: number, lengthBytes: number): Job | undefined {
    if (lengthBytes <= CLEAR_AT_ONCE_BYTES) {
      clearRange(this.fd, offset, lengthBytes);
      return undefined;
    }
    return new Clearing(this.fd, offset, lengthBytes);
  }

  punch(offset: number, lengthBytes: number): void {
    punchHole(this.fd, offset, lengthBytes);
  }

  write(offset: number, bytes: Uint8Array): void {
    this.addressSpace.write(offset, bytes);
  }

  read(offset: number, into: Uint8Array): void {
    this.addressSpace.read(offset, into);
  }

  pixels(offset: () => number | undefined): PixelSource {
    return {
      copyRows: (from, to, toRows, rowBytes, rows) => {
        const start = offset();
        if (start === undefined) return false;
        const entries = {
          addresses: Float64Array.of(start),
          ends: Float64Array.of(this.sizeBytes - start),
        };
        return gather(this.addressSpace, entries, from, to, toRows, rowBytes, rows) >= 0;
      },
    };
  }

  populatedBytes(): number {
    return fstatSync(this.fd).blocks * BLOCK_BYTES;
  }

  close(): void {
    this.addressSpace.close();
    this.#mapping.close();
    closeSync(this.fd);
  }
}

/** Zeros being written by another thread. A failure is a mistake of ours: the memory is there and can be written. */
class Clearing implements Job {
  readonly #work: { wait(): void };
  #callbacks: (() => void)[] | undefined = [];

  constructor(fd: number, offset: number, lengthBytes: number) {
    this.#work = clearInBackground(fd, offset, lengthBytes, (error) => {
      if (error) throw error;
      this.#finish();
    });
  }

  whenDone(callback: () => void): void {
    if (this.#callbacks) this.#callbacks.push(callback);
    else callback();
  }

  wait(): void {
    this.#work.wait();
    this.#finish();
  }

  #finish(): void {
    const callbacks = this.#callbacks;
    this.#callbacks = undefined;
    for (const callback of callbacks ?? []) callback();
  }
}
