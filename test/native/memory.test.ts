import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import {
  CHUNK_BYTES,
  CHUNK_OVERLAP_BYTES,
  createEventfd,
  createMemfd,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  GuestAddressSpace,
  isOpenElsewhere,
  isOpenForMapping,
  type MapOptions,
  Mapping,
  punchHole,
  registrySize,
  SystemError,
  seals,
} from '../../native/index.ts';
import { addonPath, forTest, openFds, runScenario, temporaryFolder } from './support.ts';

const page = 4096;
const GiB = 2 ** 30;
const MiB = 2 ** 20;

function memfd(lengthBytes: number): number {
  return forTest(createMemfd('test', lengthBytes));
}

function map(fd: number, options: MapOptions): Mapping {
  const mapping = Mapping.map(fd, options);
  onTestFinished(() => mapping.close());
  return mapping;
}

// ---- memfds ----

test('a memfd is sparse, as long as asked, and close-on-exec', () => {
  const fd = memfd(6 * GiB);
  expect(fstatSync(fd).size).toBe(6 * GiB);
  expect(fstatSync(fd).blocks).toBe(0);
});

test('a memfd can have its size sealed, or not', () => {
  const sealed = forTest(createMemfd('sealed', page, { seals: 'size' }));
  expect(seals(sealed)).toBe(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  expect(() => ftruncateSync(sealed, 0)).toThrow(expect.objectContaining({ code: 'EPERM' }));
  expect(() => ftruncateSync(sealed, 2 * page)).toThrow(expect.objectContaining({ code: 'EPERM' }));

  const open = forTest(createMemfd('open', page));
  expect(seals(open)).toBe(0);
  expect(() => ftruncateSync(open, 2 * page)).not.toThrow();
  expect(seals(forTest(createMemfd('also open', page, { seals: 'none' })))).toBe(0);
});

test('a file that cannot have seals has none, a descriptor that is none is an error', () => {
  expect(seals(forTest(openSync(join(temporaryFolder(), 'file'), 'w')))).toBe(0);
  expect(seals(forTest(createEventfd()))).toBe(0);
  expect(() => seals(999_999)).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'fcntl' }));
});

test('a punched range reads as zeros and takes no memory, the length stays', () => {
  const fd = memfd(4 * page);
  writeSync(fd, new Uint8Array(4 * page).fill(7));
  punchHole(fd, page, 2 * page);
  expect(fstatSync(fd).size).toBe(4 * page);
  expect(fstatSync(fd).blocks).toBe((2 * page) / 512);
  const bytes = new Uint8Array(4 * page);
  readSync(fd, bytes, 0, 4 * page, 0);
  expect([bytes[page - 1], bytes[page], bytes[3 * page - 1], bytes[3 * page]]).toEqual([7, 0, 0, 7]);
  expect(() => punchHole(fd, 0, 0)).toThrow(
    expect.objectContaining({ code: 'EINVAL', syscall: 'fallocate' }),
  );
});

test('failed memfds leave nothing open', () => {
  const before = openFds();
  expect(() => createMemfd('x'.repeat(250), page)).toThrow(
    expect.objectContaining({ code: 'EINVAL', syscall: 'memfd_create' }),
  );
  expect(() => createMemfd('x', -1)).toThrow(RangeError);
  expect(() => createMemfd('x', 0.5)).toThrow(RangeError);
  expect(() => createMemfd('x\0y', page)).toThrow(TypeError);
  expect(() => createMemfd(1 as never, page)).toThrow(TypeError);
  expect(openFds()).toBe(before);
});

// ---- mappings ----

test('two mappings of a file see the same memory', () => {
  const fd = memfd(2 * page);
  const whole = map(fd, { lengthBytes: 2 * page, writable: true });
  const second = map(fd, { offset: page, lengthBytes: page });
  whole.bytes(page + 5, 1)[0] = 42;
  expect(second.bytes(5, 1)[0]).toBe(42);
  expect(second.lengthBytes).toBe(page);
});

test('a mapping may end anywhere in a page, and begin only where a guest page does', () => {
  const fd = memfd(2 * page);
  expect(map(fd, { lengthBytes: page + 1 }).bytes(0, page + 1).length).toBe(page + 1);
  expect(() => Mapping.map(fd, { offset: 1, lengthBytes: 1 })).toThrow(
    expect.objectContaining({ code: 'EINVAL', syscall: 'mmap' }),
  );
});

test('a mapping beyond 4 GiB is seen through overlapping chunks', () => {
  const fd = forTest(createMemfd('guest RAM', 6 * GiB, { seals: 'size' }));
  const ram = map(fd, { lengthBytes: 6 * GiB, writable: true });
  expect(CHUNK_BYTES).toBe(2 * MiB);
  expect(CHUNK_OVERLAP_BYTES).toBe(MiB);
  const last = 6 * 512 - 1;
  expect(ram.chunk(0).byteLength).toBe(3 * MiB);
  expect(ram.chunk(last - 1).byteLength).toBe(3 * MiB);
  expect(ram.chunk(last).byteLength).toBe(2 * MiB);
  expect(ram.chunk(last)).toBe(ram.chunk(last));

  writeSync(fd, Buffer.from('beyond'), 0, 6, 5 * GiB - 3);
  expect(Buffer.from(ram.bytes(5 * GiB - 3, 6)).toString()).toBe('beyond');
  expect(Buffer.from(ram.chunk(5 * 512 - 1), 2 * MiB - 3, 6).toString()).toBe('beyond');
  expect(Buffer.from(ram.chunk(5 * 512), 0, 3).toString()).toBe('ond');

  ram.bytes(6 * GiB - 1, 1)[0] = 9;
  const byte = new Uint8Array(1);
  readSync(fd, byte, 0, 1, 6 * GiB - 1);
  expect(byte[0]).toBe(9);
});

test('a mapping made whole is one chunk', () => {
  const image = map(memfd(20 * MiB), { lengthBytes: 20 * MiB, writable: true, whole: true });
  expect(image.bytes(0, 20 * MiB).length).toBe(20 * MiB);
  expect(image.bytes(19 * MiB, MiB).buffer).toBe(image.chunk(0));
  expect(() => image.chunk(1)).toThrow(RangeError);
});

test('a range of a mebibyte lies in one chunk wherever it starts, a longer one need not', () => {
  const ram = map(memfd(6 * MiB), { lengthBytes: 6 * MiB });
  const chunk = 2 * MiB;
  expect(ram.bytes(chunk - 1, MiB).length).toBe(MiB);
  expect(ram.bytes(chunk - 1, MiB).buffer).toBe(ram.chunk(0));
  expect(ram.bytes(chunk, MiB).buffer).toBe(ram.chunk(1));
  expect(ram.bytes(0, chunk + MiB).length).toBe(chunk + MiB);
  expect(() => ram.bytes(0, chunk + MiB + 1)).toThrow(RangeError);
  expect(() => ram.bytes(chunk - 1, MiB + 2)).toThrow(RangeError);
});

test('views stay inside the mapping', () => {
  const mapping = map(memfd(2 * page), { lengthBytes: 2 * page });
  expect(mapping.bytes(2 * page, 0).length).toBe(0);
  expect(() => mapping.bytes(2 * page, 1)).toThrow(RangeError);
  expect(() => mapping.bytes(-1, 1)).toThrow(RangeError);
  expect(() => mapping.bytes(0, -1)).toThrow(RangeError);
  expect(() => mapping.bytes(Number.NaN, 1)).toThrow(RangeError);
  expect(() => mapping.chunk(1)).toThrow(RangeError);
  expect(() => mapping.chunk(-1)).toThrow(RangeError);
  expect(() => mapping.chunk(0.5)).toThrow(RangeError);
});

test('closing empties every view at once and unmaps', () => {
  const before = registrySize().mappings;
  const mapping = map(memfd(4 * page), { lengthBytes: 4 * page, writable: true });
  const bytes = mapping.bytes(0, page).fill(1);
  const data = new DataView(mapping.chunk(0));
  expect(mapping.closed).toBe(false);
  expect(registrySize().mappings).toBe(before + 1);

  mapping.close();
  expect(mapping.closed).toBe(true);
  expect(registrySize().mappings).toBe(before);
  expect(bytes.length).toBe(0);
  expect(bytes[0]).toBe(undefined);
  expect(() => data.getUint8(0)).toThrow(TypeError);
});

test('a closed mapping refuses everything but another close', () => {
  const fd = memfd(page);
  const mapping = map(fd, { lengthBytes: page });
  mapping.close();
  mapping.close();
  mapping[Symbol.dispose]();
  const gone = expect.objectContaining({ code: 'EBADF', syscall: 'chunk' });
  expect(() => mapping.chunk(0)).toThrow(gone);
  expect(() => mapping.bytes(0, 1)).toThrow(gone);
  expect(() => new GuestAddressSpace().add(0, page, mapping, 0, false)).toThrow(SystemError);
});

test('a mapping outlives the descriptor it was made from', () => {
  const fd = createMemfd('closed early', page);
  const mapping = map(fd, { lengthBytes: page, writable: true });
  closeSync(fd);
  mapping.bytes(0, 1)[0] = 5;
  expect(mapping.bytes(0, 1)[0]).toBe(5);
});

test('a file that is too short is refused, instead of faulting later', () => {
  const fd = memfd(2 * page);
  const tooShort = expect.objectContaining({ code: 'EINVAL', syscall: 'mmap' });
  expect(() => Mapping.map(fd, { lengthBytes: 2 * page + 1 })).toThrow(tooShort);
  expect(() => Mapping.map(fd, { offset: page, lengthBytes: 2 * page })).toThrow(tooShort);
  expect(() => Mapping.map(fd, { offset: 2 ** 52, lengthBytes: 2 ** 52 })).toThrow(tooShort);
  expect(() => Mapping.map(fd, { lengthBytes: 0 })).toThrow(tooShort);
});

test('what cannot be mapped is refused with the errno of the system', () => {
  const before = registrySize();
  const path = join(temporaryFolder(), 'file');
  const writeOnly = forTest(openSync(path, 'w'));
  ftruncateSync(writeOnly, page);
  const readOnly = forTest(openSync(path, 'r'));
  expect(() => Mapping.map(writeOnly, { lengthBytes: page })).toThrow(
    expect.objectContaining({ code: 'EACCES', syscall: 'mmap' }),
  );
  expect(() => Mapping.map(readOnly, { lengthBytes: page, writable: true })).toThrow(
    expect.objectContaining({ code: 'EACCES' }),
  );
  expect(() => Mapping.map(forTest(createEventfd()), { lengthBytes: page })).toThrow(
    expect.objectContaining({ code: 'ENODEV' }),
  );
  expect(() => Mapping.map(999_999, { lengthBytes: page })).toThrow(
    expect.objectContaining({ code: 'EBADF', syscall: 'fstatfs' }),
  );
  expect(registrySize()).toEqual(before);
});

/** Addresses for a file of eight chunks, in which nothing is mapped yet. */
function reserve(lengthBytes = 8 * CHUNK_BYTES, writable = true): { fd: number; mapping: Mapping } {
  const fd = memfd(lengthBytes);
  const mapping = Mapping.reserve(fd, { lengthBytes, writable, guard: false });
  onTestFinished(() => mapping.close());
  return { fd, mapping };
}

test('of a reserved mapping what was filled is the file, elsewhere are zeros and no memory', () => {
  const { fd, mapping } = reserve();
  expect(mapping.filePageBytes).toBe(page);
  writeSync(fd, Buffer.from('here'), 0, 4, CHUNK_BYTES);
  writeSync(fd, Buffer.from('there'), 0, 5, 3 * CHUNK_BYTES);
  expect([mapping.bytes(CHUNK_BYTES, 1)[0], mapping.bytes(3 * CHUNK_BYTES, 1)[0]]).toEqual([0, 0]);
  const { blocks } = fstatSync(fd);
  mapping.fill(fd, CHUNK_BYTES, CHUNK_BYTES);
  expect(Buffer.from(mapping.bytes(CHUNK_BYTES, 4)).toString()).toBe('here');
  mapping.bytes(CHUNK_BYTES + 4, 1)[0] = 33;
  const byte = new Uint8Array(1);
  readSync(fd, byte, 0, 1, CHUNK_BYTES + 4);
  expect(byte[0]).toBe(33);
  for (const at of [0, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES, 8 * CHUNK_BYTES - 1])
    expect(mapping.bytes(at, 1)[0]).toBe(0);
  expect(fstatSync(fd).blocks).toBe(blocks);
});

test('of a reserved mapping what was dropped is zeros, its views are empty, and the rest stays', () => {
  const { fd, mapping } = reserve();
  writeSync(fd, new Uint8Array(8 * CHUNK_BYTES).fill(7));
  mapping.fill(fd, 0, 8 * CHUNK_BYTES);
  const views = [0, 1, 2, 3, 4, 5].map((i) => mapping.bytes(i * CHUNK_BYTES, page));
  mapping.drop(2 * CHUNK_BYTES + page, CHUNK_BYTES);
  // A chunk begins in each of two, and one reaches into the first.
  expect(views.map(({ length }) => length)).toEqual([page, 0, 0, 0, page, page]);
  const seen = [-1, 0, CHUNK_BYTES - 1, CHUNK_BYTES].map(
    (i) => mapping.bytes(2 * CHUNK_BYTES + page + i, 1)[0],
  );
  expect(seen).toEqual([7, 0, 0, 7]);
  mapping.fill(fd, 2 * CHUNK_BYTES + page, CHUNK_BYTES);
  expect(mapping.bytes(2 * CHUNK_BYTES + page, 1)[0]).toBe(7);
});

test('views can be emptied while what they showed stays mapped', () => {
  const { fd, mapping } = reserve();
  mapping.fill(fd, 0, 8 * CHUNK_BYTES);
  const made = Array.from({ length: 8 }, (_, i) => mapping.bytes(i * CHUNK_BYTES, page));
  mapping.detach(5 * CHUNK_BYTES, 1);
  expect(made.map(({ length }) => length)).toEqual([page, page, page, page, 0, 0, page, page]);
  mapping.detach(0, 8 * CHUNK_BYTES);
  expect(made.every(({ length }) => length === 0)).toBe(true);
  mapping.bytes(5 * CHUNK_BYTES, 1)[0] = 1;
  expect(mapping.bytes(5 * CHUNK_BYTES, 1)[0]).toBe(1);
  mapping.detach(0, 0);
});

test('a reserved mapping may end anywhere in a page, and is filled and dropped by pages of the file', () => {
  const { fd, mapping } = reserve(3 * page + 5);
  const refused = expect.objectContaining({ code: 'EINVAL', syscall: 'mmap' });
  mapping.fill(fd, 3 * page, 5);
  writeSync(fd, Uint8Array.of(9), 0, 1, 3 * page + 4);
  expect(mapping.bytes(3 * page + 4, 1)[0]).toBe(9);
  mapping.drop(0, 3 * page + 5);
  expect(mapping.bytes(3 * page + 4, 1)[0]).toBe(0);
  expect(() => mapping.fill(fd, 1, page)).toThrow(refused);
  expect(() => mapping.fill(fd, 0, 4 * page + 1)).toThrow(refused);
  expect(() => mapping.fill(fd, 4 * page, page)).toThrow(refused);
  expect(() => mapping.fill(fd, 0, 0)).toThrow(refused);
  expect(() => mapping.drop(2 ** 52, page)).toThrow(refused);
  expect(() => mapping.fill(fd, -page, page)).toThrow(RangeError);
  const plain = map(fd, { lengthBytes: page });
  expect(() => plain.fill(fd, 0, page)).toThrow(refused);
  expect(() => plain.drop(0, page)).toThrow(refused);
});

test('a reserved mapping is filled by a descriptor that permits it, and not after its close', () => {
  const { fd, mapping } = reserve(page);
  const readOnly = forTest(openSync(`/proc/self/fd/${fd}`, 'r'));
  expect(() => mapping.fill(readOnly, 0, page)).toThrow(expect.objectContaining({ code: 'EACCES' }));
  mapping.fill(fd, 0, page);
  mapping.close();
  const closed = expect.objectContaining({ code: 'EBADF' });
  expect(() => mapping.fill(fd, 0, page)).toThrow(closed);
  expect(() => mapping.drop(0, page)).toThrow(closed);
  const options = { lengthBytes: 2 ** 47, writable: true, guard: false };
  expect(() => Mapping.reserve(fd, options)).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
  expect(() => Mapping.reserve(fd, { ...options, lengthBytes: 2 ** 49 })).toThrow(RangeError);
  expect(() => Mapping.reserve(fd, { ...options, guard: 1 as never })).toThrow(TypeError);
});

test('64 reserved mappings of a terabyte each take no memory', () => {
  const before = registrySize().mappings;
  const made = Array.from({ length: 64 }, () => reserve(2 ** 40, false).mapping);
  expect(registrySize().mappings).toBe(before + 64);
  for (const mapping of made) mapping.close();
  expect(registrySize().mappings).toBe(before);
});

test('a descriptor is open for reading, for writing, or for both', () => {
  const fd = memfd(page);
  const again = (flags: string) => forTest(openSync(`/proc/self/fd/${fd}`, flags));
  expect(['r', 'r+', 'a'].map((flags) => isOpenForMapping(again(flags), false))).toEqual([true, true, false]);
  expect(['r', 'r+', 'a'].map((flags) => isOpenForMapping(again(flags), true))).toEqual([false, true, false]);
  expect(() => isOpenForMapping(999_999, true)).toThrow(
    expect.objectContaining({ code: 'EBADF', syscall: 'fcntl' }),
  );
});

test('wrong options are refused', () => {
  const fd = memfd(page);
  expect(() => Mapping.map(fd, {} as never)).toThrow(TypeError);
  expect(() => Mapping.map(fd, { lengthBytes: -1 })).toThrow(RangeError);
  expect(() => Mapping.map(fd, { lengthBytes: Number.POSITIVE_INFINITY })).toThrow(RangeError);
  expect(() => Mapping.map(fd, { lengthBytes: page, offset: -page })).toThrow(RangeError);
  expect(() => Mapping.map(fd, { lengthBytes: page, writable: 1 as never })).toThrow(TypeError);
  expect(() => Mapping.map(-1, { lengthBytes: page })).toThrow(RangeError);
});

test('chunks cannot be transferred away: Node refuses, before Node 21 it copies', () => {
  const mapping = map(memfd(page), { lengthBytes: page });
  const chunk = mapping.chunk(0);
  try {
    structuredClone(chunk, { transfer: [chunk] });
  } catch (error) {
    expect(error).toMatchObject({ name: 'DataCloneError' });
  }
  expect(chunk.byteLength).toBe(page);
});

test('a chunk moved away by other means sees zeros after the close', async () => {
  const flags = 'transfer' in ArrayBuffer.prototype ? [] : ['--harmony-rab-gsab-transfer'];
  const ended = await runScenario('closeAfterTransfer', [...flags, '--expose-gc']);
  expect(ended).toMatchObject({ status: 0, result: { before: 5, after: 0, mapped: 0 } });
});

test('methods borrowed onto another receiver are refused', () => {
  const mapping = map(memfd(page), { lengthBytes: page });
  const space = new GuestAddressSpace();
  expect(() => Mapping.prototype.close.call(space as never)).toThrow(TypeError);
  expect(() => Mapping.prototype.chunk.call(Object.create(Mapping.prototype), 0)).toThrow(TypeError);
  expect(() => GuestAddressSpace.prototype.close.call(mapping as never)).toThrow(TypeError);
  expect(() => space.add(0, page, {} as Mapping, 0, false)).toThrow(TypeError);
  expect(mapping.closed).toBe(false);
});

test('handles of another kind are refused natively too', () => {
  const addon = createRequire(import.meta.url)(addonPath());
  const space = addon.makeSpace();
  const region = addon.map(memfd(page), 0, page, false, false, false);
  expect(() => addon.closeSpace(region)).toThrow(TypeError);
  expect(() => addon.unmap(space, [])).toThrow(TypeError);
  expect(() => addon.unmap({}, [])).toThrow(TypeError);
  expect(() => addon.unmap(undefined, [])).toThrow(TypeError);
  expect(() => addon.unmap(region, undefined)).toThrow(TypeError);
  expect(() => addon.closeWatch(space)).toThrow(TypeError);
  expect(() => addon.chunk(region, 0, page + 1)).toThrow(RangeError);
  addon.unmap(region, ['not an ArrayBuffer']);
  expect(() => addon.chunk(region, 0, page)).toThrow(SystemError);
});

test('20,000 mappings one after the other leave nothing behind', async () => {
  expect(await runScenario('closeTwiceAndMapAgain')).toMatchObject({
    status: 0,
    result: { size: { mappings: 0, guards: 0 }, mapped: 0 },
  });
});

test('there is room for 8192 guards, and freed ones are used again', () => {
  const fd = memfd(page);
  const options = { lengthBytes: page, guard: true };
  const before = registrySize();
  const mappings = Array.from({ length: 8192 - before.guards }, () => map(fd, options));
  expect(registrySize().guards).toBe(8192);
  expect(() => Mapping.map(fd, options)).toThrow(expect.objectContaining({ code: 'ENOSPC' }));
  expect(registrySize().mappings).toBe(before.mappings + mappings.length);
  mappings[4000]!.close();
  expect(() => map(fd, options)).not.toThrow();
  expect(() => Mapping.map(fd, options)).toThrow(SystemError);
});

test('whether a file is open elsewhere is asked of one open file description, with its mappings', () => {
  const made = createMemfd('asked', page);
  const ours = forTest(openSync(`/proc/self/fd/${made}`, 'r+'));
  map(ours, { lengthBytes: page, writable: true });
  closeSync(made);
  expect(isOpenElsewhere(ours)).toBe(false);
  const reader = openSync(`/proc/self/fd/${ours}`, 'r');
  expect(isOpenElsewhere(ours)).toBe(true);
  closeSync(reader);
  expect(isOpenElsewhere(ours)).toBe(false);
});

test('a memfd as it was made is open elsewhere, whatever is; what cannot be asked fails', () => {
  expect(isOpenElsewhere(memfd(page))).toBe(true);
  expect(() => isOpenElsewhere(-1)).toThrow(RangeError);
  expect(() => isOpenElsewhere(2 ** 30)).toThrow(expect.objectContaining({ code: 'EBADF' }));
});
