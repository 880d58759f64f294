import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as gpu from '../../server/gpu/protocol.ts';
import * as vfio from '../../server/vfio-user/protocol.ts';
import {
  array,
  bytes,
  type Codec,
  decode,
  encode,
  pad,
  span,
  struct,
  u8,
  u16,
  u32,
  u64,
  WireError,
} from '../../server/wire.ts';

/** Every layout the program has. */
const LAYOUTS = Object.entries<unknown>({ ...vfio, ...gpu }).filter(isLayout);

function isLayout(entry: [string, unknown]): entry is [string, Codec<unknown>] {
  return typeof entry[1] === 'object' && entry[1] !== null && 'size' in entry[1] && 'put' in entry[1];
}

describe('a layout', () => {
  test('is as long as it says, or fails when it is made', () => {
    expect(() => struct(8, { a: u32, b: u16 })).toThrow('adds up to 6 bytes, expected 8');
  });

  test('reads and writes little-endian numbers, hides padding, and nests', () => {
    const inner = struct(4, { x: u16, y: u16 });
    const codec = struct(24, { a: u8, _pad: pad(1), b: u16, c: u32, d: u64, inner, e: array(u16, 2) });
    const value = {
      a: 1,
      b: 0x0302,
      c: 0x0706_0504,
      d: 0x0f0e_0d0c_0b0a_0908n,
      inner: { x: 1, y: 2 },
      e: [3, 4],
    };
    const wire = encode(codec, value);
    expect([...wire]).toEqual([1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 1, 0, 2, 0, 3, 0, 4, 0]);
    expect(decode(codec, wire)).toEqual(value);
  });

  test('refuses bytes that are too few', () => {
    expect(() => decode(u32, new Uint8Array(3))).toThrow(WireError);
    const codec = struct(4, { a: u32 });
    expect(() => codec.get(new DataView(new ArrayBuffer(8)), 5)).toThrow(WireError);
  });

  test('decodes to a record of its own, which does not change with the buffer', () => {
    const codec = struct(4, { data: bytes(4) });
    const wire = Uint8Array.of(1, 2, 3, 4);
    const { data } = decode(codec, wire);
    wire.fill(9);
    expect([...data]).toEqual([1, 2, 3, 4]);
  });

  test('has addresses beyond 2^53 as a number nothing can be at', () => {
    const wire = Uint8Array.of(255, 255, 255, 255, 255, 255, 255, 255);
    expect(Number.isSafeInteger(decode(span, wire))).toBe(false);
  });

  test.each(LAYOUTS)('%s gives back what was put in, whatever it is', (_, codec) => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: codec.size, maxLength: codec.size }), (wire) => {
        const value = decode(codec, wire);
        expect(decode(codec, encode(codec, value))).toEqual(value);
      }),
      { numRuns: 50 },
    );
  });

  test('there are layouts to test', () => {
    expect(LAYOUTS.length).toBeGreaterThan(30);
  });
});
