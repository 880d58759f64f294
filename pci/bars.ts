/**
 * Base address registers. Software learns a BAR's size by writing all ones and reading back which bits stuck
 * (PCI 3.0, 6.2.5.1), so a BAR is nothing but a writable mask over its address bits. What software stores there has
 * no meaning for us: the VMM routes accesses by BAR number.
 */

import { le32 } from './bytes.ts';
import type { ConfigSpace } from './config-space.ts';
import { PCI_BASE_ADDRESS_0 } from './config-space.ts';
import type { BarInfo } from './ports.ts';

export const BAR_COUNT = 6;
const PCI_BASE_ADDRESS_MEM_TYPE_64 = 0x4;
const PCI_BASE_ADDRESS_MEM_PREFETCH = 0x8;
/** Smallest memory BAR: the low four bits are type bits. */
const MIN_SIZE_BYTES = 16;

export interface BarLayout extends BarInfo {
  readonly index: number;
}

/** Puts memory BARs into config space. Throws on a layout no client accepts. */
export function defineBars(config: ConfigSpace, bars: readonly BarLayout[]): (BarInfo | undefined)[] {
  const table: (BarInfo | undefined)[] = new Array(BAR_COUNT).fill(undefined);
  const taken = new Set<number>();
  for (const bar of bars) {
    const indices = bar.is64Bit ? [bar.index, bar.index + 1] : [bar.index];
    for (const index of indices) {
      if (index < 0 || index >= BAR_COUNT || taken.has(index))
        throw new Error(`BAR ${bar.index} does not fit`);
      taken.add(index);
    }
    if (!isPowerOfTwo(bar.sizeBytes) || bar.sizeBytes < MIN_SIZE_BYTES) {
      throw new Error(`BAR ${bar.index}: ${bar.sizeBytes} bytes is not a power of two`);
    }
    if (!bar.is64Bit && bar.sizeBytes > 2 ** 31) throw new Error(`BAR ${bar.index} is too large for 32 bits`);
    const type =
      (bar.is64Bit ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0) |
      (bar.prefetchable ? PCI_BASE_ADDRESS_MEM_PREFETCH : 0);
    const offset = PCI_BASE_ADDRESS_0 + 4 * bar.index;
    config.define(offset, le32(type), le32(addressMaskLow(bar.sizeBytes)));
    if (bar.is64Bit) config.define(offset + 4, le32(0), le32(addressMaskHigh(bar.sizeBytes)));
    table[bar.index] = bar;
  }
  return table;
}

/** Address bits of the lower register: those at or above the size, without the four type bits. */
const addressMaskLow = (sizeBytes: number) => (sizeBytes >= 2 ** 32 ? 0 : (2 ** 32 - sizeBytes) & ~0xf) >>> 0;

/** Address bits of the upper register of a 64-bit BAR. */
const addressMaskHigh = (sizeBytes: number) => (2 ** 32 - Math.max(1, sizeBytes / 2 ** 32)) >>> 0;

const isPowerOfTwo = (value: number) =>
  Number.isSafeInteger(value) && value > 0 && Number.isInteger(Math.log2(value));
