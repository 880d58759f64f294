import { closeSync, fstatSync } from 'node:fs';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { CHUNK_BYTES, createMemfd, Mapping, registrySize } from '../../../native/index.ts';
import { ProtocolError } from '../../../server/errors.ts';
import { DmaMap } from '../../../server/host/guest-memory.ts';
import { openFds } from '../../support/fake-client.ts';
import { reopen } from '../../support/real-memory.ts';

const MIB = 1 << 20;
const maps: DmaMap[] = [];

function makeMap(): DmaMap {
  const map = new DmaMap();
  maps.push(map);
  return map;
}
afterEach(() => {
  for (const map of maps.splice(0)) {
    map.unmapAll();
    map.addressSpace.close();
  }
});

const window = (
  address: number,
  sizeBytes: number,
  rest: { writable?: boolean; fileOffset?: number } = {},
) => ({
  address,
  sizeBytes,
  readable: true,
  writable: true,
  fileOffset: 0,
  ...rest,
});
const ram = (sizeBytes: number) => createMemfd('ram', sizeBytes, { seals: 'size' });

describe('a window', () => {
  test('is seen through views, reads and writes', () => {
    const map = makeMap();
    map.map(window(0x1000, 0x2000), ram(0x2000));
    expect(map.write(0x1ffe, Uint8Array.of(1, 2, 3, 4))).toBe(true);
    const view = map.view(0x1ffe, 4, 'read');
    expect([...(view?.bytes ?? [])]).toEqual([1, 2, 3, 4]);
    expect([...(view?.halfwords ?? [])]).toEqual([0x0201, 0x0403]);
    expect(view?.data.getUint32(0, true)).toBe(0x0403_0201);
  });

  test('that is read-only can be read and not written', () => {
    const map = makeMap();
    map.map(window(0x1000, 0x1000, { writable: false }), ram(0x1000));
    expect(map.covers(0x1000, 16, 'read')).toBe(true);
    expect(map.covers(0x1000, 16, 'write')).toBe(false);
    expect(map.write(0x1000, Uint8Array.of(1))).toBe(false);
    expect(map.view(0x1000, 16, 'write')).toBeUndefined();
  });

  test('without a file is known and unusable', () => {
    const map = makeMap();
    map.map(window(0x1000, 0x1000), undefined);
    expect(map.windowCount).toBe(1);
    expect(map.mappedBytes).toBe(0);
    expect(map.covers(0x1000, 1, 'read')).toBe(false);
    expect(() => map.map(window(0x1800, 0x1000), undefined)).toThrow(ProtocolError);
  });

  test('changes the epoch when it comes and when it goes', () => {
    const map = makeMap();
    const epochs = [map.epoch];
    map.map(window(0x1000, 0x1000), ram(0x1000));
    epochs.push(map.epoch);
    map.unmap(0x1000, 0x1000);
    epochs.push(map.epoch);
    expect(new Set(epochs).size).toBe(3);
  });

  test('is unmapped from the process when it goes', () => {
    const map = makeMap();
    const before = registrySize().mappings;
    map.map(window(0x1000, 0x1000), ram(0x1000));
    map.map(window(0x4000, 0x1000), ram(0x1000));
    map.unmap(0x1000, 0x1000);
    expect(registrySize().mappings).toBe(before + 1);
    map.unmapAll();
    expect(registrySize().mappings).toBe(before);
  });

  test('of a file that can shrink is guarded, of one that cannot is not', () => {
    const map = makeMap();
    const before = registrySize().guards;
    map.map(window(0x1000, 0x1000), createMemfd('can shrink', 0x1000));
    map.map(window(0x4000, 0x1000), ram(0x1000));
    expect(registrySize().guards).toBe(before + 1);
  });
});

describe('a range', () => {
  test('may span adjacent windows of different files', () => {
    const map = makeMap();
    map.map(window(0x1000, 0x1000), ram(0x1000));
    map.map(window(0x2000, 0x1000), ram(0x1000));
    expect(map.write(0x1ffe, Uint8Array.of(1, 2, 3, 4))).toBe(true);
    const into = new Uint8Array(4);
    expect(map.read(0x1ffe, into)).toBe(true);
    expect([...into]).toEqual([1, 2, 3, 4]);
    expect(map.view(0x1ffe, 4, 'read')).toBeUndefined();
  });

  test('that is not wholly writable is not written at all', () => {
    const map = makeMap();
    map.map(window(0x1000, 0x1000), ram(0x1000));
    map.map(window(0x2000, 0x1000, { writable: false }), ram(0x1000));
    expect(map.write(0x1ffe, Uint8Array.of(1, 2, 3, 4))).toBe(false);
    expect([...(map.view(0x1ffe, 2, 'read')?.bytes ?? [])]).toEqual([0, 0]);
  });

  test.each([
    [2 ** 60, 16],
    [2 ** 64 - 8, 16],
    [0xfff, 1],
    [0x3000, 1],
    [0x2fff, 2],
    [0x2ffe, 4],
  ])('%i+%i outside of memory is not mapped', (address, length) => {
    const map = makeMap();
    map.map(window(0x1000, 0x2000), ram(0x2000));
    expect(map.covers(address, length, 'read')).toBe(false);
    expect(map.read(address, new Uint8Array(length))).toBe(false);
    if (address % 2 === 0) expect(map.view(address, length, 'read')).toBeUndefined();
  });

  test('above 4 GiB is reached at its file offset, as QEMU maps RAM', () => {
    const map = makeMap();
    const sizeBytes = 5 * 2 ** 30;
    const fd = ram(sizeBytes + 2 ** 30);
    const mine = Mapping.map(fd, { offset: 2 ** 30, lengthBytes: sizeBytes, writable: true });
    map.map(window(2 ** 32, sizeBytes, { fileOffset: 2 ** 30 }), fd);
    const last = sizeBytes - 8;
    mine.bytes(last, 2).set([5, 6]);
    const into = new Uint8Array(2);
    expect(map.read(2 ** 32 + last, into)).toBe(true);
    expect([...into]).toEqual([5, 6]);
    mine.close();
  });

  test('across the chunks of one mapping is in one piece', () => {
    const map = makeMap();
    map.map(window(0, CHUNK_BYTES + MIB), ram(CHUNK_BYTES + MIB));
    const data = Uint8Array.from({ length: 64 }, (_, i) => i);
    expect(map.write(CHUNK_BYTES - 32, data)).toBe(true);
    const into = new Uint8Array(64);
    expect(map.read(CHUNK_BYTES - 32, into)).toBe(true);
    expect(into).toEqual(data);
    expect([...(map.view(CHUNK_BYTES - 32, 64, 'write')?.bytes ?? [])]).toEqual([...data]);
  });
});

describe('any series of maps and unmaps', () => {
  test('answers like a list of pages', () => {
    const PAGES = 16;
    const page = fc.integer({ min: 0, max: PAGES - 1 });
    const step = fc.record({
      map: fc.boolean(),
      first: page,
      count: fc.integer({ min: 1, max: 6 }),
      writable: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const map = makeMap();
        const model = new Map<number, { start: number; count: number; writable: boolean }>();
        for (const { map: doMap, first, count, writable } of steps) {
          const pages = Array.from({ length: count }, (_, i) => first + i);
          const address = first * 4096;
          const size = count * 4096;
          const isInside = ({ start, count: length }: { start: number; count: number }) =>
            start >= first && start + length <= first + count;
          const touched = pages.flatMap((one) => model.get(one) ?? []);
          const before = map.windowCount;
          try {
            if (doMap) map.map(window(address, size, { writable }), ram(size));
            else map.unmap(address, size);
          } catch (error) {
            if (!(error instanceof ProtocolError)) throw error;
            // Only what overlaps, and only what cuts, is refused, and changes nothing.
            expect(doMap ? touched.length > 0 : !touched.every(isInside)).toBe(true);
            expect(map.windowCount).toBe(before);
            continue;
          }
          if (!doMap) expect(touched.every(isInside)).toBe(true);
          for (const one of pages) {
            if (doMap) model.set(one, { start: first, count, writable });
            else model.delete(one);
          }
        }
        for (let one = 0; one < PAGES; one++) {
          expect(map.covers(one * 4096, 4096, 'read')).toBe(model.has(one));
          expect(map.covers(one * 4096, 4096, 'write')).toBe(model.get(one)?.writable ?? false);
          expect(map.addressSpace.covers(one * 4096, 4096, false)).toBe(model.has(one));
        }
        map.unmapAll();
        expect(map.windowCount).toBe(0);
      }),
      { numRuns: 100 },
    );
  });
});

test('the descriptor of a refused window is closed', () => {
  const map = makeMap();
  map.map(window(0x1000, 0x1000), ram(0x1000));
  const before = openFds();
  expect(() => map.map(window(0x1000, 0x2000), ram(0x2000))).toThrow('overlaps');
  expect(() => map.map(window(0x8000, 0x2000), ram(0x1000))).toThrow('in a file of 4096 bytes');
  expect(openFds()).toBe(before);
  closeSync(ram(1));
});

describe('the file behind a window', () => {
  test('is kept open once, however many windows it has, and as long as it has one', () => {
    const map = makeMap();
    const before = openFds();
    const fd = ram(0x4000);
    for (const at of [0, 0x1000, 0x2000])
      map.map(window(0x1_0000 + at, 0x1000, { fileOffset: at }), reopen(fd));
    closeSync(fd);
    expect(openFds()).toBe(before + 1);
    map.unmap(0x1_0000, 0x1000);
    map.unmap(0x1_2000, 0x1000);
    expect(openFds()).toBe(before + 1);
    map.unmap(0x1_1000, 0x1000);
    expect(openFds()).toBe(before);
  });

  test('is found by guest address, where all of a range is in it and can be written', () => {
    const map = makeMap();
    map.map(window(0x1_0000, 0x2000, { fileOffset: 0x1000 }), ram(0x4000));
    map.map(window(0x1_2000, 0x1000), ram(0x1000));
    map.map(window(0x2_0000, 0x1000, { writable: false }), ram(0x1000));
    map.map(window(0x3_0000, 0x1000), undefined);
    expect(map.fileAt(0x1_0800, 0x1800)).toMatchObject({ offset: 0x1800 });
    expect(map.fileAt(0x1_0800, 0x1801)).toBe(undefined);
    expect(map.fileAt(0x1_2000, 0x1000)?.fd).not.toBe(map.fileAt(0x1_0000, 1)?.fd);
    expect(map.fileAt(0x2_0000, 1)).toBe(undefined);
    expect(map.fileAt(0x3_0000, 1)).toBe(undefined);
    expect(map.fileAt(0x9_0000, 1)).toBe(undefined);
  });
});

describe('whether the guest shares its memory', () => {
  test('is unknown without a window: there may be an IOMMU', () => {
    const map = makeMap();
    expect([map.sharing, map.isUsable, map.beginning()]).toEqual(['unknown', true, undefined]);
    map.found('private');
    expect(map.sharing).toBe('unknown');
  });

  test('is known when no window has a file, and again when one has', () => {
    const map = makeMap();
    map.map(window(0x1000, 0x1000), undefined);
    expect([map.sharing, map.isUsable]).toEqual(['no-file', false]);
    map.map(window(0x2000, 0x1000), ram(0x1000));
    expect([map.sharing, map.isUsable]).toEqual(['unknown', true]);
    map.unmap(0x2000, 0x1000);
    expect([map.sharing, map.isUsable]).toEqual(['no-file', false]);
  });

  test.each(['shared', 'private'] as const)('is what was found (%s) until all windows have gone', (found) => {
    const map = makeMap();
    map.map(window(0x1000, 0x1000), ram(0x1000));
    map.map(window(0x2000, 0x1000), ram(0x1000));
    map.found(found);
    map.unmap(0x1000, 0x1000);
    expect([map.sharing, map.isUsable]).toEqual([found, found === 'shared']);
    map.unmapAll();
    map.map(window(0x1000, 0x1000), ram(0x1000));
    expect([map.sharing, map.isUsable]).toEqual(['unknown', true]);
  });

  test('shows in what the lowest file begins with, which is read without making pages', () => {
    const map = makeMap();
    map.map(window(0x10_0000, 0x1000), ram(0x1000));
    map.map(window(0x1000, 0x1000), undefined);
    const fd = ram(4 * MIB);
    const other = reopen(fd);
    map.map(window(0x8000, 0x4_0000, { fileOffset: 0x1000 }), fd);
    const beginning = map.beginning();
    expect([beginning?.address, beginning?.bytes.length]).toEqual([0x8000, 0x1_0000]);
    expect(beginning?.bytes.every((byte) => byte === 0)).toBe(true);
    expect(fstatSync(other).blocks).toBe(0);
    map.write(0x8001, Uint8Array.of(7));
    expect(map.beginning()?.bytes[1]).toBe(7);
    closeSync(other);
  });
});
