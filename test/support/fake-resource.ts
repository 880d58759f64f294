import type { AttachedResource } from '../../server/gpu/contracts/context.ts';
import { GpuFault } from '../../server/gpu/fault.ts';

/** Memory as the device shows it to contexts. */
export function fakeResource(
  id: number,
  sizeBytes = 4096,
): AttachedResource & { readonly bytes: Uint8Array } {
  const bytes = new Uint8Array(sizeBytes);
  const isInside = (offset: number, length: number) => offset >= 0 && offset + length <= sizeBytes;
  return {
    id,
    identity: {},
    kind: 'guest',
    sizeBytes,
    bytes,
    write(offset, from) {
      if (!isInside(offset, from.length)) return false;
      bytes.set(from, offset);
      return true;
    },
    read(offset, into) {
      if (!isInside(offset, into.length)) return false;
      into.set(bytes.subarray(offset, offset + into.length));
      return true;
    },
    export() {
      throw new GpuFault(0x1200, 'not for tests');
    },
  };
}
