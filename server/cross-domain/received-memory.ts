/** Memory that came from the host, such as a keymap: read once, for the blob that the guest makes of it. */
import { readSync } from 'node:fs';
import { Mapping, syncDmaBuf } from '../../native/index.ts';

/** Larger than any keymap or table. */
export const MAX_RECEIVED_BYTES = 64 * 2 ** 20;

/** The first bytes of a file, or of a dma-buf. What was cut off meanwhile is zeros. */
export function readMemory(fd: number, lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  try {
    for (let at = 0; at < lengthBytes; ) {
      const count = readSync(fd, bytes, at, lengthBytes - at, at);
      if (count === 0) break;
      at += count;
    }
    return bytes;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
  }
  // A dma-buf cannot be read, only mapped.
  const mapping = Mapping.map(fd, { lengthBytes, guard: true, whole: true });
  try {
    syncDmaBuf(fd, 'start', 'read');
    bytes.set(mapping.bytes(0, lengthBytes));
    syncDmaBuf(fd, 'end', 'read');
    return bytes;
  } finally {
    mapping.close();
  }
}
