/** Little-endian numbers in byte arrays of 1 to 4 bytes: the currency of register accesses. */

/** The unsigned value of up to four bytes. */
export function fromLittleEndian(bytes: Uint8Array): number {
  let value = 0;
  for (let i = bytes.length - 1; i >= 0; i--) value = value * 256 + (bytes[i] as number);
  return value;
}

/** Stores the low bytes of `value`; whatever does not fit is dropped. */
export function toLittleEndian(value: number, into: Uint8Array): void {
  for (let i = 0; i < into.length; i++) into[i] = i < 4 ? value >>> (8 * i) : 0;
}

/** The bytes of a 16-bit number. */
export const le16 = (value: number): number[] => [value & 0xff, (value >>> 8) & 0xff];

/** The bytes of a 32-bit number. */
export const le32 = (value: number): number[] => [...le16(value & 0xffff), ...le16(value >>> 16)];
