/**
 * One descriptor chain: the bounded walk that finds its segments, and reading and writing over them
 * (virtio 1.3, 2.7.4 and 2.7.5).
 *
 * Each descriptor is loaded once; only the copy is checked and used, because the guest may change the table at any
 * time. Whatever the table holds, the walk ends: at most as many descriptors as the table has, one level of
 * indirection, and a limit on segments.
 */
import type { GuestMemory, GuestView } from '../ports.ts';

export const DESCRIPTOR_SIZE = 16;
export const VIRTQ_DESC_F_NEXT = 1;
export const VIRTQ_DESC_F_WRITE = 2;
export const VIRTQ_DESC_F_INDIRECT = 4;

/** Own limit: a 4 MiB command stream in scattered pages has 1026 segments, so this is well above need. */
export const MAX_SEGMENTS = 4096;
/** Own limit on the descriptors of one indirect table, checked before the table is copied. */
export const MAX_INDIRECT_DESCRIPTORS = 4096;
const MAX_CHAIN_BYTES = 2 ** 32 - 1;

/** The ring or a chain is beyond repair: the queue must not be touched again before a reset. */
export class QueueBroken extends Error {
  override readonly name = 'QueueBroken';
}

/** A request the driver made available: readable segments first, then writable ones, by guest address. */
export class Chain {
  readonly head: number;
  readonly readableBytes: number;
  readonly writableBytes: number;
  readonly #memory: GuestMemory;
  readonly #segments: Segments;

  constructor(head: number, memory: GuestMemory, segments: Segments) {
    this.head = head;
    this.#memory = memory;
    this.#segments = segments;
    this.readableBytes = segments.readableBytes;
    this.writableBytes = segments.writableBytes;
  }

  /** Copies request bytes from byte `from` on into `into`; returns how many there were. */
  read(into: Uint8Array, from = 0): number {
    const { addresses, lengths, readableCount } = this.#segments;
    let skip = from;
    let copied = 0;
    for (let i = 0; i < readableCount && copied < into.length; i++) {
      const length = lengths[i] as number;
      if (skip >= length) {
        skip -= length;
        continue;
      }
      const count = Math.min(length - skip, into.length - copied);
      const target = count === into.length ? into : into.subarray(copied, copied + count);
      if (!this.#memory.read((addresses[i] as number) + skip, target)) break;
      copied += count;
      skip = 0;
    }
    return copied;
  }

  /** Stores response bytes from the start of the writable part; returns how many fitted and are still mapped. */
  write(bytes: Uint8Array): number {
    const { addresses, lengths, readableCount } = this.#segments;
    let written = 0;
    for (let i = readableCount; i < addresses.length && written < bytes.length; i++) {
      const count = Math.min(lengths[i] as number, bytes.length - written);
      const source = count === bytes.length ? bytes : bytes.subarray(written, written + count);
      if (!this.#memory.write(addresses[i] as number, source)) break;
      written += count;
    }
    return written;
  }
}

/** The segments of a chain while it is walked. */
class Segments {
  readonly addresses: number[] = [];
  readonly lengths: number[] = [];
  readableCount = 0;
  readableBytes = 0;
  writableBytes = 0;

  add(memory: GuestMemory, address: number, length: number, writable: boolean): void {
    if (!writable && this.writableBytes > 0)
      throw new QueueBroken('readable descriptor after a writable one');
    if (length === 0) return;
    if (this.addresses.length === MAX_SEGMENTS) throw new QueueBroken(`more than ${MAX_SEGMENTS} segments`);
    if (!memory.covers(address, length, writable ? 'write' : 'read')) {
      throw new QueueBroken(`descriptor at 0x${address.toString(16)}+${length} is not mapped`);
    }
    this.addresses.push(address);
    this.lengths.push(length);
    if (writable) {
      this.writableBytes += length;
    } else {
      this.readableCount++;
      this.readableBytes += length;
    }
    if (this.readableBytes + this.writableBytes > MAX_CHAIN_BYTES)
      throw new QueueBroken('chain of 4 GiB or more');
  }
}

/** Copies indirect tables and walks chains; one per queue, because it reuses its buffer. */
export class ChainWalker {
  readonly #memory: GuestMemory;
  readonly #indirectAllowed: boolean;
  #indirect = new DataView(new ArrayBuffer(0));

  constructor(memory: GuestMemory, indirectAllowed: boolean) {
    this.#memory = memory;
    this.#indirectAllowed = indirectAllowed;
  }

  /** The chain that starts at `head` of a table of `size` descriptors. Throws `QueueBroken` on a malformed one. */
  walk(table: GuestView, size: number, head: number): Chain {
    const segments = new Segments();
    const indirect = this.#walkTable(table.data, size, head, segments);
    if (indirect) {
      const count = this.#loadIndirect(indirect.address, indirect.length);
      const nested = this.#walkTable(this.#indirect, count, 0, segments);
      if (nested) throw new QueueBroken('indirect descriptor inside an indirect table');
    }
    if (segments.addresses.length === 0) throw new QueueBroken('chain without any bytes');
    return new Chain(head, this.#memory, segments);
  }

  /** Adds the segments of one table; returns the indirect descriptor that ended it, if one did. */
  #walkTable(
    table: DataView,
    size: number,
    head: number,
    segments: Segments,
  ): { address: number; length: number } | undefined {
    let index = head;
    for (let visited = 0; visited < size; visited++) {
      const at = index * DESCRIPTOR_SIZE;
      const address = table.getUint32(at + 4, true) * 2 ** 32 + table.getUint32(at, true);
      const length = table.getUint32(at + 8, true);
      const flagsAndNext = table.getUint32(at + 12, true);
      const flags = flagsAndNext & 0xffff;
      if (flags & VIRTQ_DESC_F_INDIRECT) {
        if (!this.#indirectAllowed) throw new QueueBroken('indirect descriptor without the feature');
        if (flags & VIRTQ_DESC_F_NEXT) throw new QueueBroken('indirect descriptor with a next one');
        return { address, length };
      }
      segments.add(this.#memory, address, length, (flags & VIRTQ_DESC_F_WRITE) !== 0);
      if (!(flags & VIRTQ_DESC_F_NEXT)) return undefined;
      index = flagsAndNext >>> 16;
      if (index >= size) throw new QueueBroken(`next descriptor ${index} of a table of ${size}`);
    }
    throw new QueueBroken('descriptor chain is a loop');
  }

  /** Copies an indirect table as a whole and returns its number of descriptors. */
  #loadIndirect(address: number, lengthBytes: number): number {
    const count = lengthBytes / DESCRIPTOR_SIZE;
    if (count === 0 || !Number.isInteger(count) || count > MAX_INDIRECT_DESCRIPTORS) {
      throw new QueueBroken(`indirect table of ${lengthBytes} bytes`);
    }
    if (this.#indirect.byteLength < lengthBytes) this.#indirect = new DataView(new ArrayBuffer(lengthBytes));
    if (!this.#memory.read(address, new Uint8Array(this.#indirect.buffer, 0, lengthBytes))) {
      throw new QueueBroken(`indirect table at 0x${address.toString(16)} is not mapped`);
    }
    return count;
  }
}
