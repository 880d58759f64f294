/** Guest pages of a resource as a run of bytes, for the few that contexts write and read; pixels go by native code. */
import type { GuestMemory } from '../../pci/index.ts';
import { type Backing, backingLength } from './contracts/backing.ts';
import { firstEndAfter } from './ranges.ts';

export interface GuestBytes {
  /** False when the pages are not all there; then a part may have been written. */
  write(offset: number, bytes: Uint8Array): boolean;
  read(offset: number, into: Uint8Array): boolean;
}

/** `backing` says at every use which pages they are. */
export function guestBytes(memory: GuestMemory, backing: () => Backing | undefined): GuestBytes {
  const eachPart = (
    offset: number,
    bytes: Uint8Array,
    copy: (address: number, part: Uint8Array) => boolean,
  ): boolean => {
    const entries = backing();
    if (!entries || offset + bytes.length > backingLength(entries)) return false;
    let index = firstEndAfter(entries.ends.length, (entry) => entries.ends[entry] as number, offset);
    for (let done = 0; done < bytes.length; index++) {
      const start = index === 0 ? 0 : (entries.ends[index - 1] as number);
      const inEntry = offset + done - start;
      const count = Math.min(bytes.length - done, (entries.ends[index] as number) - start - inEntry);
      if (!copy((entries.addresses[index] as number) + inEntry, bytes.subarray(done, done + count)))
        return false;
      done += count;
    }
    return true;
  };
  return {
    write: (offset, bytes) => eachPart(offset, bytes, (address, part) => memory.write(address, part)),
    read: (offset, into) => eachPart(offset, into, (address, part) => memory.read(address, part)),
  };
}
