/**
 * A block of registers as a table of name, offset, width, read and write.
 *
 * Registers are reached by an access of exactly their width at exactly their offset. Anything else (another width,
 * an access across two registers, a hole) reads zeros and writes nothing, as drivers must not do it
 * (virtio 1.3, 4.1.3.1). The one exception are pairs marked `wide`: some VMMs merge the two halves of a 64-bit field.
 */
import { fromLittleEndian, toLittleEndian } from './bytes.ts';

export interface Register {
  readonly name: string;
  readonly offset: number;
  readonly width: 1 | 2 | 4;
  /** Absent: reads as 0. */
  readonly read?: () => number;
  /** Absent: writes are ignored. */
  readonly write?: (value: number) => void;
  /** This is the lower half of a 64-bit field whose upper half is the next register. */
  readonly wide?: boolean;
}

export class RegisterBlock {
  readonly #byOffset = new Map<number, Register>();

  constructor(registers: readonly Register[]) {
    let end = 0;
    for (const register of registers) {
      if (register.offset < end) throw new Error(`register ${register.name} overlaps the one before it`);
      end = register.offset + register.width;
      this.#byOffset.set(register.offset, register);
    }
  }

  read(offset: number, into: Uint8Array): void {
    const register = this.#byOffset.get(offset);
    if (register?.width === into.length) {
      toLittleEndian(register.read?.() ?? 0, into);
    } else if (register?.wide && into.length === 8) {
      this.read(offset, into.subarray(0, 4));
      this.read(offset + 4, into.subarray(4));
    } else {
      into.fill(0);
    }
  }

  write(offset: number, from: Uint8Array): void {
    const register = this.#byOffset.get(offset);
    if (register?.width === from.length) {
      register.write?.(fromLittleEndian(from));
    } else if (register?.wide && from.length === 8) {
      this.write(offset, from.subarray(0, 4));
      this.write(offset + 4, from.subarray(4));
    }
  }
}
