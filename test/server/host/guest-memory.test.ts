import { closeSync, fstatSync, ftruncateSync, openSync, readFileSync, readSync } from 'node:fs';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { CHUNK_BYTES, createMemfd, Mapping, registrySize } from '../../../native/index.ts';
import { EACCES, EEXIST, EINVAL, ENOSPC, ProtocolError } from '../../../server/errors.ts';
import { DmaMap, MAX_DMA_FILES } from '../../../server/host/guest-memory.ts';
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
/** The same numbers from 0 to 1 each time. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 0x7fff_ffff;
    return state / 0x7fff_ffff;
  };
}
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

  test('without a file, or without any access, has neither a mapping nor a guard', () => {
    const map = makeMap();
    const before = registrySize();
    map.map(window(0x1000, 0x1000), undefined);
    map.map({ ...window(0x4000, 0x1000), readable: false, writable: false }, createMemfd('ram', 0x1000));
    expect(registrySize()).toEqual(before);
    expect([map.windowCount, map.mappedBytes]).toEqual([2, 0]);
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

describe('windows of one file', () => {
  /** Windows of a page each, one behind the other in the guest and in the file. */
  function neighbours(count: number, fd = ram(count * 0x1000)): DmaMap {
    const map = makeMap();
    for (let i = 0; i < count; i++)
      map.map(window(0x1_0000 + i * 0x1000, 0x1000, { fileOffset: i * 0x1000 }), reopen(fd));
    closeSync(fd);
    return map;
  }
  const errno = (act: () => void) => {
    try {
      act();
      return 0;
    } catch (error) {
      if (error instanceof ProtocolError) return error.errno;
      throw error;
    }
  };

  test('that adjoin are one for whoever reads and writes, and share a mapping and a guard', () => {
    const before = registrySize();
    const map = neighbours(8, createMemfd('can shrink', 0x8000));
    expect([map.windowCount, map.addressSpace.windowCount]).toEqual([8, 1]);
    const after = registrySize();
    expect([after.mappings - before.mappings, after.guards - before.guards]).toEqual([1, 1]);
    expect(map.view(0x1_0800, 0x7000, 'write')?.bytes.length).toBe(0x7000);
    expect(map.fileAt(0x1_0800, 0x7000)).toMatchObject({ offset: 0x800 });
    expect([map.view(0x1_0800, 0x7801, 'read'), map.fileAt(0x1_0800, 0x7801)]).toEqual([
      undefined,
      undefined,
    ]);
  });

  test('that adjoin are taken away and refused as they were announced', () => {
    const map = neighbours(8);
    expect(errno(() => map.unmap(0x1_0000, 0x1800))).toBe(EINVAL);
    expect(errno(() => map.unmap(0x1_0800, 0x1800))).toBe(EINVAL);
    expect(errno(() => map.unmap(0x1_1800, 0x1000))).toBe(EINVAL);
    expect(errno(() => map.map(window(0x1_0000, 0x2000), ram(0x2000)))).toBe(EEXIST);
    expect(map.windowCount).toBe(8);
    map.unmap(0x1_2000, 0x3000);
    expect([map.windowCount, map.addressSpace.windowCount]).toEqual([5, 2]);
    expect(errno(() => map.map(window(0x1_2000, 0x4000), ram(0x4000)))).toBe(EEXIST);
  });

  test('that were taken out of the middle cannot be reached by address or by view, the others can', () => {
    const map = neighbours(8);
    const { epoch } = map;
    const views = [0x1_1000, 0x1_2000, 0x1_4000].map((at) => map.view(at, 0x1000, 'write'));
    expect(map.covers(0x1_0000, 0x8000, 'write')).toBe(true);
    map.unmap(0x1_2000, 0x2000);
    expect(map.epoch).toBeGreaterThan(epoch);
    expect(views[1]?.bytes.length).toBe(0);
    expect(map.covers(0x1_2000, 1, 'read')).toBe(false);
    expect(map.covers(0x1_0000, 0x8000, 'read')).toBe(false);
    expect(map.read(0x1_3fff, new Uint8Array(1))).toBe(false);
    expect(map.write(0x1_1fff, new Uint8Array(2))).toBe(false);
    expect(map.view(0x1_2000, 2, 'read')).toBe(undefined);
    expect(map.fileAt(0x1_1000, 0x1001)).toBe(undefined);
    expect(map.write(0x1_1000, new Uint8Array(0x1000).fill(7))).toBe(true);
    expect(map.view(0x1_4000, 0x4000, 'write')?.bytes.length).toBe(0x4000);
    expect(map.mappedBytes).toBe(0x6000);
  });

  test('are still one range after one was taken away and brought back', () => {
    const fd = ram(0x8000);
    const other = reopen(fd);
    const map = neighbours(8, fd);
    map.unmap(0x1_2000, 0x1000);
    map.map(window(0x1_2000, 0x1000, { fileOffset: 0x2000 }), other);
    expect([map.windowCount, map.addressSpace.windowCount]).toEqual([8, 1]);
  });

  test('may show the same pages twice: those stay for as long as one of the two shows them', () => {
    const map = makeMap();
    const fd = ram(0x2000);
    map.map(window(0x1000, 0x2000), reopen(fd));
    map.map(window(0x8000, 0x1000, { fileOffset: 0x1000 }), fd);
    map.unmap(0x1000, 0x2000);
    expect(map.write(0x8000, Uint8Array.of(3))).toBe(true);
    expect(map.read(0x1000, new Uint8Array(1))).toBe(false);
  });

  test('have a mapping each for reading and for writing', () => {
    const map = makeMap();
    const before = registrySize().mappings;
    const fd = ram(0x4000);
    map.map(window(0x1000, 0x1000), reopen(fd));
    map.map(window(0x2000, 0x1000, { fileOffset: 0x1000, writable: false }), reopen(fd));
    map.map(window(0x3000, 0x1000, { fileOffset: 0x2000 }), fd);
    expect(registrySize().mappings).toBe(before + 2);
    expect([0x1000, 0x2000, 0x3000].map((at) => map.covers(at, 16, 'write'))).toEqual([true, false, true]);
    expect(map.view(0x1ff0, 32, 'read')).toBe(undefined);
  });

  test('need a descriptor that is open for what they permit, also if another one was', () => {
    const map = makeMap();
    const fd = ram(0x4000);
    map.map(window(0x1000, 0x1000), reopen(fd));
    const readOnly = () => openSync(`/proc/self/fd/${fd}`, 'r');
    const before = openFds();
    expect(errno(() => map.map(window(0x8000, 0x1000), readOnly()))).toBe(EACCES);
    expect(openFds()).toBe(before);
    map.map(window(0x8000, 0x1000, { writable: false }), readOnly());
    map.map(window(0x9000, 0x1000), fd);
    expect(map.covers(0x9000, 1, 'write')).toBe(true);
  });

  test('may lie where the file has grown to', () => {
    const map = makeMap();
    const fd = createMemfd('grows', 0x1000);
    map.map(window(0x1000, 0x1000), reopen(fd));
    ftruncateSync(fd, 0x3000);
    map.map(window(0x2000, 0x2000, { fileOffset: 0x1000 }), reopen(fd));
    expect(map.write(0x1fff, new Uint8Array(0x2001).fill(5))).toBe(true);
    const before = openFds();
    map.unmap(0x1000, 0x1000);
    expect(openFds()).toBe(before - 1);
    map.map(window(0x1000, 0x1000), reopen(fd));
    expect(openFds()).toBe(before - 1);
    closeSync(fd);
    const into = new Uint8Array(0x3000);
    expect(map.read(0x1000, into)).toBe(true);
    expect([into[0xffe], into[0xfff], into[0x2fff]]).toEqual([0, 5, 5]);
  });

  test('are unmapped in pieces of 128 MiB, of which nothing is left in the process', () => {
    const PIECE = 128 * MIB;
    const name = 'unmapped in pieces';
    const isMapped = (piece: number) =>
      readFileSync('/proc/self/maps', 'utf8')
        .split('\n')
        .filter((line) => line.includes(name))
        .some((line) => {
          const [range = '', , offset = ''] = line.split(' ');
          const [start, end] = range.split('-').map((address) => Number.parseInt(address, 16)) as [
            number,
            number,
          ];
          const first = Number.parseInt(offset, 16);
          return first < (piece + 1) * PIECE && first + end - start > piece * PIECE;
        });
    const pieces = () => [0, 1, 2, 3].map(isMapped);
    const map = makeMap();
    const fd = createMemfd(name, 4 * PIECE - 64 * MIB, { seals: 'size' });
    map.map(window(0, MIB, { fileOffset: PIECE - MIB }), reopen(fd));
    expect(pieces()).toEqual([true, false, false, false]);
    map.unmap(0, MIB);
    expect(pieces()).toEqual([false, false, false, false]);
    for (let at = 0; at < 4 * PIECE - 64 * MIB; at += 32 * MIB)
      map.map(window(at, 32 * MIB, { fileOffset: at }), reopen(fd));
    closeSync(fd);
    expect(pieces()).toEqual([true, true, true, true]);
    map.write(PIECE, Uint8Array.of(1));
    const stale = map.view(PIECE - 16, 16, 'read');
    map.unmap(PIECE + 32 * MIB, 64 * MIB);
    expect(pieces()).toEqual([true, true, true, true]);
    map.unmap(PIECE, PIECE);
    expect(pieces()).toEqual([true, false, true, true]);
    expect(stale?.bytes.length).toBe(0);
    expect(map.covers(PIECE, 1, 'read')).toBe(false);
    map.unmap(3 * PIECE, 64 * MIB);
    expect(pieces()).toEqual([true, false, true, false]);
    expect([map.covers(0, PIECE, 'write'), map.covers(2 * PIECE, PIECE, 'write')]).toEqual([true, true]);
  });

  test('are refused beyond so many files, and files beyond so many addresses', () => {
    const map = makeMap();
    const fd = ram(0x1000);
    for (let i = 0; i < MAX_DMA_FILES - 1; i++)
      map.map(
        { ...window(i * 0x1000, 0x1000), writable: false },
        createMemfd('ram', 0x1000, { seals: 'size' }),
      );
    map.map(window(2 ** 40, 0x1000), reopen(fd));
    expect(errno(() => map.map(window(2 ** 41, 0x1000), ram(0x1000)))).toBe(ENOSPC);
    map.map(window(2 ** 41, 0x1000), fd);
    map.unmap(0, 0x1000);
    expect(errno(() => map.map(window(0, 0x1000), ram(16 * 2 ** 40)))).toBe(ENOSPC);
    map.map(window(0, 0x1000), ram(8 * 2 ** 40));
    expect(map.write(0, Uint8Array.of(1))).toBe(true);
  });
});

describe('half a million windows', () => {
  /**
   * Blocks of 2 MiB of more than 1 TiB, that come in any order. Of each thousand the even ones lie in the file as in the guest, the
   * odd ones anywhere. One in sixteen windows has two blocks, one in sixteen blocks has no window.
   */
  const BLOCK = 2 * MIB;
  const BLOCKS = 570_000;
  const blockInFile = (block: number) => {
    const thousand = block - (block % 1000);
    return (thousand / 1000) % 2 === 0 ? block : thousand + (((block % 1000) * 7) % 1000);
  };

  test('answer like a list of blocks, whatever is taken away and brought back', () => {
    const random = randomNumbers(1);
    const below = (limit: number) => Math.floor(random() * limit);
    const map = makeMap();
    const fd = ram(BLOCKS * BLOCK);
    const mine = reopen(fd);

    // For each block where its window begins and ends, or -1.
    const starts = new Int32Array(BLOCKS).fill(-1);
    const ends = new Int32Array(BLOCKS).fill(-1);
    const announce = (start: number, count: number) => {
      const fileOffset = blockInFile(start) * BLOCK;
      // The descriptor is the map's own already: nothing is opened and closed half a million times.
      map.map(window(start * BLOCK, count * BLOCK, { fileOffset }), fd);
      starts.fill(start, start, start + count);
      ends.fill(start + count, start, start + count);
    };
    const all: number[] = [];
    for (let block = 0; block < BLOCKS; ) {
      const kind = below(16);
      if (kind > 0)
        all.push(kind === 1 && block + 2 <= BLOCKS && blockInFile(block) + 2 <= BLOCKS ? -block - 1 : block);
      block += kind === 1 ? 2 : 1;
    }
    for (let i = all.length - 1; i > 0; i--) {
      const j = below(i + 1);
      [all[i], all[j]] = [all[j] as number, all[i] as number];
    }
    for (const one of all) announce(one < 0 ? -one - 1 : one, one < 0 ? 2 : 1);
    let windows = all.length;
    expect(windows).toBeGreaterThan(500_000);
    expect(map.windowCount).toBe(windows);
    expect(readFileSync('/proc/self/maps', 'utf8').split('\n').length).toBeLessThan(10_000);

    const isCut = (edge: number) =>
      edge < BLOCKS && (starts[edge] as number) >= 0 && (starts[edge] as number) < edge;
    const inFile = (block: number) =>
      (blockInFile(starts[block] as number) + block - (starts[block] as number)) * BLOCK;
    /** What the guest would see there, through the file; undefined where a byte has no window. */
    const seen = (address: number, lengthBytes: number) => {
      const bytes = new Uint8Array(lengthBytes);
      for (let at = 0; at < lengthBytes; ) {
        const block = Math.floor((address + at) / BLOCK);
        if ((starts[block] ?? -1) < 0) return undefined;
        const into = (address + at) % BLOCK;
        const length = Math.min(lengthBytes - at, BLOCK - into);
        readSync(mine, bytes, at, length, inFile(block) + into);
        at += length;
      }
      return bytes;
    };
    const compareAt = (address: number, lengthBytes: number) => {
      const before = seen(address, lengthBytes);
      const read = new Uint8Array(lengthBytes);
      expect(map.read(address, read)).toBe(before !== undefined);
      if (before) expect(Buffer.compare(read, before)).toBe(0);
      const written = Uint8Array.from({ length: lengthBytes }, () => below(256));
      expect(map.write(address, written)).toBe(before !== undefined);
      if (before) expect(Buffer.compare(seen(address, lengthBytes) as Uint8Array, written)).toBe(0);
      expect(map.covers(address, lengthBytes, 'write')).toBe(before !== undefined);
    };

    let removed = 0;
    for (let step = 0; step < 400; step++) {
      const first = below(BLOCKS);
      const end = Math.min(BLOCKS, first + 1 + below(step % 4 === 0 ? 4000 : 64));
      const touched = new Set(starts.subarray(first, end));
      touched.delete(-1);
      const refused = isCut(first) || isCut(end);
      let error: unknown;
      try {
        map.unmap(first * BLOCK, (end - first) * BLOCK);
      } catch (thrown) {
        error = thrown;
      }
      expect(error instanceof ProtocolError ? error.errno : error).toBe(refused ? EINVAL : undefined);
      if (!refused) {
        windows -= touched.size;
        removed += touched.size;
        starts.fill(-1, first, end);
      }
      // Some of it comes back, in other cuts: two blocks where the file has two.
      for (let block = first; !refused && step % 3 === 0 && block < end; block += 2) {
        announce(block, block + 2 <= end && blockInFile(block) + 2 <= BLOCKS ? 2 : 1);
        windows++;
      }
      expect(map.windowCount).toBe(windows);
      // At the edges of what changed, across blocks, and anywhere.
      for (const edge of [first, end, below(BLOCKS)]) compareAt(Math.max(0, edge * BLOCK - 40), 80);
      compareAt(below(BLOCKS) * BLOCK + below(BLOCK / 4096) * 4096, 4096);
    }
    compareAt(below(BLOCKS - 4) * BLOCK + BLOCK - 16, 3 * BLOCK);
    expect(removed).toBeGreaterThan(10_000);

    let wrong = 0;
    for (let block = 0; block < BLOCKS; block++) {
      const isThere = (starts[block] as number) >= 0;
      if (map.covers(block * BLOCK, BLOCK, 'read') !== isThere) wrong++;
      if (block % 5 === 0 && map.addressSpace.covers(block * BLOCK + 1, BLOCK - 2, true) !== isThere) wrong++;
    }
    expect(wrong).toBe(0);
    map.unmap(0, BLOCKS * BLOCK);
    expect([map.windowCount, map.mappedBytes, map.addressSpace.windowCount]).toEqual([0, 0, 0]);
    closeSync(mine);
  }, 120_000);
});

describe('any series of maps and unmaps', () => {
  test('answers like a list of pages', () => {
    const PAGES = 16;
    const shared = ram((PAGES + 6) * 4096);
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
            // Half of the windows are of one file, at their place in it: many of these are neighbours there, too.
            if (doMap && count % 2 === 0)
              map.map(window(address, size, { writable, fileOffset: address }), reopen(shared));
            else if (doMap) map.map(window(address, size, { writable }), ram(size));
            else map.unmap(address, size);
          } catch (error) {
            if (!(error instanceof ProtocolError)) throw error;
            // Only what overlaps, and only what cuts, is refused, and changes nothing.
            expect(doMap ? touched.length > 0 : !touched.every(isInside)).toBe(true);
            expect(map.windowCount).toBe(before);
            continue;
          }
          if (!doMap) expect(touched.every(isInside)).toBe(true);
          // Accepted although it was there: an exact repeat.
          else if (touched.length > 0)
            expect([touched[0], map.windowCount]).toEqual([{ start: first, count, writable }, before]);
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
    closeSync(shared);
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
