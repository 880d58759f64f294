import { expect, onTestFinished, test } from 'vitest';
import { createMemfd, GuestAddressSpace, Mapping, SystemError } from '../../native/index.ts';
import { forTest } from './support.ts';

const page = 4096;
const GiB = 2 ** 30;

function map(lengthBytes: number, writable = true): Mapping {
  const mapping = Mapping.map(forTest(createMemfd('test', lengthBytes)), { lengthBytes, writable });
  onTestFinished(() => mapping.close());
  return mapping;
}

/** Guest pages 16, 17 (two windows, the second read-only) and 19 of a file of four pages. */
function space(): { space: GuestAddressSpace; mapping: Mapping } {
  const mapping = map(4 * page);
  const space = new GuestAddressSpace();
  space.add(16 * page, page, mapping, 0, true);
  space.add(19 * page, page, mapping, 3 * page, true);
  space.add(17 * page, page, mapping, 2 * page, false);
  return { space, mapping };
}

function filled(length: number, value: number): Uint8Array {
  return new Uint8Array(length).fill(value);
}

test('a read translates the address', () => {
  const { space: guest, mapping } = space();
  mapping.bytes(3 * page + 7, 2).set([1, 2]);
  const into = new Uint8Array(2);
  expect(guest.read(19 * page + 7, into)).toBe(true);
  expect([...into]).toEqual([1, 2]);
});

test('a read may span windows that adjoin in the guest and not in the file', () => {
  const { space: guest, mapping } = space();
  mapping.bytes(page - 1, 1)[0] = 1;
  mapping.bytes(2 * page, 1)[0] = 2;
  const into = new Uint8Array(2);
  expect(guest.read(17 * page - 1, into)).toBe(true);
  expect([...into]).toEqual([1, 2]);
});

test('a read of a byte that is not mapped fails', () => {
  const { space: guest } = space();
  expect(guest.read(16 * page - 1, new Uint8Array(2))).toBe(false);
  expect(guest.read(18 * page - 1, new Uint8Array(2))).toBe(false);
  expect(guest.read(0, new Uint8Array(1))).toBe(false);
  expect(guest.read(2 ** 53 - 1, new Uint8Array(1))).toBe(false);
});

test('a write goes to the file', () => {
  const { space: guest, mapping } = space();
  expect(guest.write(16 * page + 3, new Uint8Array([4, 5]))).toBe(true);
  expect([...mapping.bytes(3, 2)]).toEqual([4, 5]);
});

test('a write that reaches a read-only window, or a gap, writes nothing', () => {
  const { space: guest, mapping } = space();
  expect(guest.write(17 * page - 1, filled(2, 9))).toBe(false);
  expect(guest.write(20 * page - 1, filled(2, 9))).toBe(false);
  expect(guest.write(17 * page, filled(1, 9))).toBe(false);
  expect(mapping.bytes(page - 1, 1)[0]).toBe(0);
  expect(mapping.bytes(4 * page - 1, 1)[0]).toBe(0);
  expect(mapping.bytes(2 * page, 1)[0]).toBe(0);
});

test('covers tells what read and write would do', () => {
  const { space: guest } = space();
  expect(guest.covers(16 * page, 2 * page, false)).toBe(true);
  expect(guest.covers(16 * page, 2 * page, true)).toBe(false);
  expect(guest.covers(16 * page, page, true)).toBe(true);
  expect(guest.covers(16 * page, 2 * page + 1, false)).toBe(false);
  expect(guest.covers(16 * page - 1, 1, false)).toBe(false);
  expect(guest.covers(18 * page, 1, false)).toBe(false);
  expect(guest.covers(0, 2 ** 53 - 1, false)).toBe(false);
});

test('an empty range is covered wherever it is', () => {
  const { space: guest } = space();
  expect(guest.covers(0, 0, true)).toBe(true);
  expect(guest.read(0, new Uint8Array(0))).toBe(true);
  expect(guest.write(0, new Uint8Array(0))).toBe(true);
});

test('windows above 4 GiB are found among those below', () => {
  const mapping = map(2 * page);
  const guest = new GuestAddressSpace();
  guest.add(5 * GiB, page, mapping, page, true);
  guest.add(GiB, page, mapping, 0, true);
  mapping
    .bytes(0, 2 * page)
    .fill(1, 0, page)
    .fill(2, page);
  const low = new Uint8Array(1);
  const high = new Uint8Array(1);
  expect([guest.read(GiB, low), guest.read(5 * GiB, high), guest.read(GiB, low)]).toEqual([true, true, true]);
  expect([low[0], high[0]]).toEqual([1, 2]);
});

test('overlapping windows are refused on each edge, adjoining ones are not', () => {
  const mapping = map(4 * page);
  const guest = new GuestAddressSpace();
  const overlap = expect.objectContaining({ code: 'EEXIST', syscall: 'add' });
  guest.add(10 * page, 2 * page, mapping, 0, true);
  expect(() => guest.add(10 * page, page, mapping, 0, true)).toThrow(overlap);
  expect(() => guest.add(11 * page, page, mapping, 0, true)).toThrow(overlap);
  expect(() => guest.add(9 * page, page + 1, mapping, 0, true)).toThrow(overlap);
  expect(() => guest.add(9 * page, 4 * page, mapping, 0, true)).toThrow(overlap);
  expect(() => guest.add(12 * page - 1, page, mapping, 0, true)).toThrow(overlap);
  guest.add(9 * page, page, mapping, 0, true);
  guest.add(12 * page, page, mapping, 0, true);
  expect(guest.covers(9 * page, 4 * page, true)).toBe(true);
});

test('windows lie in their mapping, and are writable only where it is', () => {
  const mapping = map(2 * page, false);
  const guest = new GuestAddressSpace();
  const outside = expect.objectContaining({ code: 'EINVAL' });
  expect(() => guest.add(0, 0, mapping, 0, false)).toThrow(outside);
  expect(() => guest.add(0, 2 * page + 1, mapping, 0, false)).toThrow(outside);
  expect(() => guest.add(0, page, mapping, page + 1, false)).toThrow(outside);
  expect(() => guest.add(0, 1, mapping, 2 ** 53 - 1, false)).toThrow(outside);
  expect(() => guest.add(0, page, mapping, page, true)).toThrow(expect.objectContaining({ code: 'EACCES' }));
  expect(() => guest.add(0, page, mapping, page, false)).not.toThrow();
});

test('a removed window is gone, its neighbours stay', () => {
  const { space: guest } = space();
  guest.remove(17 * page, page);
  expect(guest.covers(17 * page, 1, false)).toBe(false);
  expect(guest.covers(16 * page, page, true)).toBe(true);
  expect(guest.covers(19 * page, page, true)).toBe(true);
  guest.remove(17 * page, 2 * page);
  guest.remove(0, 16 * page);
  guest.remove(16 * page, 0);
  guest.remove(2 ** 53 - 1, 2 ** 53 - 1);
  expect(guest.windowCount).toBe(2);
});

test('a range is removed from all windows that reach into it, and the rest of them stays where it was', () => {
  const mapping = map(8 * page);
  mapping.bytes(0, 8 * page).forEach((_, i, bytes) => {
    bytes[i] = i / page;
  });
  for (const [from, to, left] of [
    [0, 8, 0],
    [1, 2, 2],
    [0, 1, 1],
    [7, 8, 1],
    [2, 6, 2],
    [3, 20, 1],
  ] as const) {
    const guest = new GuestAddressSpace();
    guest.add(4 * page, 8 * page, mapping, 0, true);
    guest.remove((4 + from) * page, (to - from) * page);
    expect(guest.windowCount).toBe(left);
    for (let i = 0; i < 8; i++) {
      const into = new Uint8Array(1);
      const isThere = i < from || i >= to;
      expect(guest.read((4 + i) * page + 9, into)).toBe(isThere);
      expect(into[0]).toBe(isThere ? i : 0);
    }
  }
});

test('neighbours in the guest that are neighbours in the mapping are one window, in whatever order they come', () => {
  const mapping = map(6 * page);
  for (const order of [
    [0, 1, 2, 3, 4, 5],
    [5, 4, 3, 2, 1, 0],
    [0, 2, 4, 1, 3, 5],
    [3, 1, 5, 0, 4, 2],
  ]) {
    const guest = new GuestAddressSpace();
    for (const i of order) guest.add((8 + i) * page, page, mapping, i * page, true);
    expect(guest.windowCount).toBe(1);
    expect(guest.covers(8 * page, 6 * page, true)).toBe(true);
    guest.remove(10 * page, page);
    expect(guest.windowCount).toBe(2);
    expect(guest.covers(10 * page, 1, false)).toBe(false);
    guest.add(10 * page, page, mapping, 2 * page, true);
    expect(guest.windowCount).toBe(1);
  }
});

test('neighbours in the guest stay apart with another access, another place in the mapping, or another mapping', () => {
  const mapping = map(4 * page);
  for (const [offset, writable, other] of [
    [page, false, mapping],
    [2 * page, true, mapping],
    [0, true, mapping],
    [page, true, map(4 * page)],
  ] as const) {
    const guest = new GuestAddressSpace();
    guest.add(8 * page, page, mapping, 0, true);
    guest.add(9 * page, page, other, offset, writable);
    expect(guest.windowCount).toBe(2);
  }
});

test('a window found last and then removed is not found again', () => {
  const { space: guest } = space();
  expect(guest.covers(19 * page, page, true)).toBe(true);
  guest.remove(19 * page, page);
  expect(guest.covers(19 * page, page, true)).toBe(false);
  expect(guest.covers(17 * page, page, false)).toBe(true);
  guest.clear();
  expect(guest.covers(17 * page, page, false)).toBe(false);
});

test('a mapping that was closed while listed reads as not mapped', () => {
  const { space: guest, mapping } = space();
  expect(guest.covers(16 * page, page, true)).toBe(true);
  mapping.close();
  expect(guest.covers(16 * page, 1, false)).toBe(false);
  expect(guest.read(16 * page, new Uint8Array(1))).toBe(false);
  expect(guest.write(16 * page, new Uint8Array(1))).toBe(false);
  expect(() => guest.add(16 * page, page, map(page), 0, true)).toThrow(
    expect.objectContaining({ code: 'EEXIST' }),
  );
  guest.remove(16 * page, page);
  expect(() => guest.add(16 * page, page, map(page), 0, true)).not.toThrow();
});

test('reading and writing through views of the same guest memory is a copy like any other', () => {
  const { space: guest, mapping } = space();
  mapping.bytes(0, 6).set([1, 2, 3, 4, 5, 6]);
  expect(guest.read(16 * page, mapping.bytes(2, 4))).toBe(true);
  expect([...mapping.bytes(0, 6)]).toEqual([1, 2, 1, 2, 3, 4]);
});

test('a closed address space refuses everything but another close', () => {
  const { space: guest, mapping } = space();
  guest.close();
  guest.close();
  guest[Symbol.dispose]();
  const closed = expect.objectContaining({ code: 'EBADF' });
  expect(() => guest.add(0, page, mapping, 0, true)).toThrow(closed);
  expect(() => guest.remove(16 * page, page)).toThrow(closed);
  expect(() => guest.windowCount).toThrow(closed);
  expect(() => guest.clear()).toThrow(closed);
  expect(() => guest.covers(16 * page, 1, false)).toThrow(closed);
  expect(() => guest.read(16 * page, new Uint8Array(1))).toThrow(SystemError);
  expect(() => guest.write(16 * page, new Uint8Array(1))).toThrow(SystemError);
});

test('wrong types and numbers are refused', () => {
  const { space: guest, mapping } = space();
  expect(() => guest.add(-1, page, mapping, 0, true)).toThrow(RangeError);
  expect(() => guest.add(2 ** 53, page, mapping, 0, true)).toThrow(RangeError);
  expect(() => guest.add(0.5, page, mapping, 0, true)).toThrow(RangeError);
  expect(() => guest.add(0, Number.NaN, mapping, 0, true)).toThrow(RangeError);
  expect(() => guest.add(0, page, mapping, 0, undefined as never)).toThrow(TypeError);
  expect(() => guest.add(0n as never, page, mapping, 0, true)).toThrow(TypeError);
  expect(() => guest.covers(0, -1, false)).toThrow(RangeError);
  expect(() => guest.remove(-1, page)).toThrow(RangeError);
  expect(() => guest.remove(0, 0.5)).toThrow(RangeError);
  expect(() => guest.read(Number.NaN, new Uint8Array(1))).toThrow(RangeError);
  expect(() => guest.read(0, new Uint16Array(1) as never)).toThrow(TypeError);
  expect(() => guest.write(0, [1] as never)).toThrow(TypeError);
});
