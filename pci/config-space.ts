/**
 * Configuration space as three byte arrays: values, the bits software may write, and the bits software clears by
 * writing 1. There is one read path and one write path for every width; whatever has a side effect hooks a range.
 */
import { le16, le32 } from './bytes.ts';

export const PCI_VENDOR_ID = 0x00;
export const PCI_COMMAND = 0x04;
export const PCI_STATUS = 0x06;
export const PCI_CLASS_REVISION = 0x08;
export const PCI_CACHE_LINE_SIZE = 0x0c;
export const PCI_BASE_ADDRESS_0 = 0x10;
export const PCI_SUBSYSTEM_VENDOR_ID = 0x2c;
export const PCI_CAPABILITY_LIST = 0x34;
export const PCI_INTERRUPT_LINE = 0x3c;
/** First byte behind the standard header: capabilities live from here on. */
export const PCI_STD_HEADER_SIZEOF = 0x40;

export const PCI_COMMAND_MEMORY = 0x0002;
export const PCI_COMMAND_MASTER = 0x0004;
/** I/O, memory, bus master, parity, SERR, INTx disable. */
const COMMAND_WRITABLE = 0x0547;
const PCI_STATUS_CAP_LIST = 0x0010;
/** Master data parity error and the five error bits 11..15. */
const STATUS_CLEARABLE = 0xf900;

/** Who the function says it is. */
export interface PciIdentity {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly revisionId: number;
  /** Base class, sub class and programming interface, 24 bits. */
  readonly classCode: number;
  readonly subsystemVendorId: number;
  readonly subsystemId: number;
}

/** A capability as bytes behind the two-byte header, with the bits of them that software may write. */
export interface Capability {
  readonly name: string;
  readonly id: number;
  readonly body: readonly number[];
  readonly writable?: readonly number[];
}

interface Hook {
  readonly offset: number;
  readonly end: number;
  readonly run: () => void;
}

const overlaps = (hook: Hook, offset: number, length: number) =>
  hook.offset < offset + length && offset < hook.end;

export class ConfigSpace {
  readonly sizeBytes: number;
  readonly #values: Uint8Array;
  readonly #powerOn: Uint8Array;
  readonly #writable: Uint8Array;
  readonly #clearable: Uint8Array;
  readonly #readHooks: Hook[] = [];
  readonly #writeHooks: Hook[] = [];
  #capabilitiesEnd = PCI_STD_HEADER_SIZEOF;
  #lastPointer = PCI_CAPABILITY_LIST;

  /** A type 0 header without BARs, interrupt pin or capabilities (PCI 3.0, 6.1 and 6.2). */
  constructor(identity: PciIdentity, sizeBytes = 256) {
    this.sizeBytes = sizeBytes;
    this.#values = new Uint8Array(sizeBytes);
    this.#powerOn = new Uint8Array(sizeBytes);
    this.#writable = new Uint8Array(sizeBytes);
    this.#clearable = new Uint8Array(sizeBytes);
    this.define(PCI_VENDOR_ID, [...le16(identity.vendorId), ...le16(identity.deviceId)]);
    this.define(PCI_COMMAND, [0, 0], le16(COMMAND_WRITABLE));
    this.define(PCI_STATUS, [0, 0], undefined, le16(STATUS_CLEARABLE));
    this.define(PCI_CLASS_REVISION, le32(identity.classCode * 256 + identity.revisionId));
    this.define(PCI_CACHE_LINE_SIZE, [0, 0], [0xff, 0xff]);
    this.define(PCI_SUBSYSTEM_VENDOR_ID, [
      ...le16(identity.subsystemVendorId),
      ...le16(identity.subsystemId),
    ]);
    this.define(PCI_INTERRUPT_LINE, [0], [0xff]);
  }

  /** Sets the power-on value of a range, and which of its bits software may write or clear. */
  define(
    offset: number,
    values: readonly number[],
    writable?: readonly number[],
    clearable?: readonly number[],
  ): void {
    if (offset + values.length > this.sizeBytes) throw new Error(`offset ${offset} is beyond config space`);
    this.#powerOn.set(values, offset);
    this.#values.set(values, offset);
    if (writable) this.#writable.set(writable, offset);
    if (clearable) this.#clearable.set(clearable, offset);
  }

  /** Appends a capability to the list, 4-byte aligned, and returns its offset. */
  addCapability(capability: Capability): number {
    const offset = this.#capabilitiesEnd;
    const end = (offset + 2 + capability.body.length + 3) & ~3;
    if (end > 256) throw new Error(`no room for capability ${capability.name}`);
    this.define(offset, [capability.id, 0, ...capability.body], [0, 0, ...(capability.writable ?? [])]);
    this.define(this.#lastPointer, [offset]);
    this.define(PCI_STATUS, le16(PCI_STATUS_CAP_LIST));
    this.#lastPointer = offset + 1;
    this.#capabilitiesEnd = end;
    return offset;
  }

  /** Runs `refresh` before any read that touches the range; it may put new bytes there with `poke`. */
  onRead(offset: number, length: number, refresh: () => void): void {
    this.#readHooks.push({ offset, end: offset + length, run: refresh });
  }

  /** Runs `react` after any write that touches the range, with the new value already stored. */
  onWrite(offset: number, length: number, react: () => void): void {
    this.#writeHooks.push({ offset, end: offset + length, run: react });
  }

  /** Bytes outside config space read as 0. */
  read(offset: number, into: Uint8Array): void {
    for (const hook of this.#readHooks) if (overlaps(hook, offset, into.length)) hook.run();
    for (let i = 0; i < into.length; i++) into[i] = this.#values[offset + i] ?? 0;
  }

  /** Bits that are neither writable nor clearable, and bytes outside config space, are left alone. */
  write(offset: number, from: Uint8Array): void {
    for (let i = 0; i < from.length; i++) this.#writeByte(offset + i, from[i] as number);
    for (const hook of this.#writeHooks) if (overlaps(hook, offset, from.length)) hook.run();
  }

  /** The little-endian value of `width` bytes, without hooks: what the function itself looks at. */
  peek(offset: number, width: 1 | 2 | 4): number {
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = value * 256 + (this.#values[offset + i] ?? 0);
    return value;
  }

  /** Stores bytes whatever the masks say, without hooks: what the function itself sets. */
  poke(offset: number, bytes: Uint8Array): void {
    this.#values.set(bytes, offset);
  }

  /** Everything back to power-on values. No hook runs: whoever resets knows what follows from it. */
  reset(): void {
    this.#values.set(this.#powerOn);
  }

  #writeByte(offset: number, written: number): void {
    if (offset >= this.sizeBytes) return;
    const writable = this.#writable[offset] as number;
    const cleared = written & (this.#clearable[offset] as number);
    this.#values[offset] = ((this.#values[offset] as number) & ~writable & ~cleared) | (written & writable);
  }
}
