/** Copies, and the choice between the two ways. What needs `/dev/udmabuf` is in `udmabuf-checks.ts`. */
import {
  closeSync,
  fstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  readSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  createMemfd,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  GuestAddressSpace,
  Mapping,
  receive,
  registrySize,
  seals,
  send,
  socketPair,
} from '../../../native/index.ts';
import { Exporter } from '../../../server/backends/exports.ts';
import type { MadeExport } from '../../../server/gpu/contracts/exports.ts';
import { forTest, openFds, runNode, temporaryFolder } from '../../native/support.ts';

const page = 4096;
const windowPages = 64;

/** An exporter that has to copy. */
function copier(): Exporter {
  const exporter = Exporter.probe({ devicePath: '/dev/null' });
  onTestFinished(() => exporter.close());
  return exporter;
}

/** A window whose page n is filled with n + 1. */
function filledWindow(): { fd: number; space: GuestAddressSpace; bytes: Uint8Array } {
  const lengthBytes = windowPages * page;
  const fd = forTest(createMemfd('window', lengthBytes, { seals: 'size' }));
  const mapping = Mapping.map(fd, { lengthBytes, writable: true });
  onTestFinished(() => mapping.close());
  const space = new GuestAddressSpace();
  space.add(0, lengthBytes, mapping, 0, true);
  const bytes = mapping.bytes(0, lengthBytes);
  for (let index = 0; index < windowPages; index++) bytes.fill(index + 1, index * page, (index + 1) * page);
  return { fd, space, bytes };
}

function closedInTheEnd<T extends MadeExport>(made: T): T {
  onTestFinished(() => made.close());
  return made;
}

/** What a descriptor of ours is; nothing for one that has gone. */
function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return '';
  }
}

function withLent<T>(made: MadeExport, look: (fd: number) => T): T {
  const { fd, release } = made.lend();
  const seen = look(fd);
  release();
  return seen;
}

/** What a host process sees, page by page: its first byte and its last. */
function seenThrough(made: MadeExport): [first: number, last: number][] {
  const { sizeBytes } = made;
  const bytes = Buffer.alloc(sizeBytes);
  withLent(made, (fd) => readSync(fd, bytes, 0, sizeBytes, 0));
  return Array.from({ length: sizeBytes / page }, (_, index) => [
    bytes[index * page]!,
    bytes[(index + 1) * page - 1]!,
  ]);
}

describe('the choice', () => {
  test('without the device it is the copy, and says what is missing', () => {
    const devicePath = join(temporaryFolder(), 'udmabuf');
    using exporter = Exporter.probe({ devicePath });
    expect(exporter.method.kind).toBe('copy');
    expect(exporter.method.reason).toContain(`ENOENT: no such file or directory, open '${devicePath}'`);
  });

  test.each(['/dev/null', '/proc/self/mem'])('with %s for the device it is the copy', (devicePath) => {
    const before = openFds();
    using exporter = Exporter.probe({ devicePath });
    expect(exporter.method).toEqual({
      kind: 'copy',
      reason: 'UDMABUF_CREATE_LIST: ENOTTY, inappropriate ioctl for device',
    });
    expect(openFds()).toBe(before);
  });

  test.each([
    ['always', 'never'],
    ['force', 'never'],
    ['within_size', 'inherit'],
    ['never', 'always'],
    ['advise', 'within_size'],
  ])('where huge pages may back a memfd (%s, of one size %s) it is the copy (H7)', (all, ofOneSize) => {
    const { reason } = probeWithPolicies(all, ofOneSize);
    expect(reason).toMatch(/^huge pages may back files in memory: (hugepages-64kB\/)?shmem_enabled is \w+$/);
  });

  test.each([
    ['never', 'inherit'],
    ['deny', 'never'],
    ['advise', 'advise'],
  ])('where they may not (%s, of one size %s) the device is tried', (all, ofOneSize) => {
    expect(probeWithPolicies(all, ofOneSize).reason).toMatch(/ENOTTY/);
  });

  function probeWithPolicies(all: string, ofOneSize: string): Exporter['method'] {
    const hugePagesPath = temporaryFolder();
    const show = (chosen: string) =>
      `always inherit within_size advise never deny force\n`.replace(chosen, `[${chosen}]`);
    writeFileSync(join(hugePagesPath, 'shmem_enabled'), show(all));
    mkdirSync(join(hugePagesPath, 'hugepages-64kB'));
    writeFileSync(join(hugePagesPath, 'hugepages-64kB', 'shmem_enabled'), show(ofOneSize));
    using exporter = Exporter.probe({
      devicePath: '/dev/null',
      hugePagesPath,
    });
    return exporter.method;
  }
});

describe('a copy of a range of the window', () => {
  test('is a file of its own, of whole pages, whose size is sealed', () => {
    const made = closedInTheEnd(copier().exportWindow(filledWindow(), 8 * page, 2 * page + 1));
    expect(made.kind).toBe('copy');
    expect(made.reason).toMatch(/ENOTTY/);
    expect(made.sizeBytes).toBe(3 * page);
    expect(withLent(made, (fd) => fstatSync(fd).size)).toBe(3 * page);
    expect(withLent(made, seals)).toBe(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    expect(made.othersHoldIt()).toBe(false);
  });

  test('is zeros until it is refreshed', () => {
    const made = closedInTheEnd(copier().exportWindow(filledWindow(), 8 * page, 2 * page));
    expect(seenThrough(made)).toEqual([
      [0, 0],
      [0, 0],
    ]);
    expect(made.refresh(0, 2 * page)).toBe(2 * page);
    expect(seenThrough(made)).toEqual([
      [9, 9],
      [10, 10],
    ]);
  });

  test('follows the window where it is refreshed, and only there', () => {
    const window = filledWindow();
    const made = closedInTheEnd(copier().exportWindow(window, 8 * page, 3 * page));
    made.refresh(0, 3 * page);
    window.bytes.fill(77, 8 * page, 11 * page);
    expect(made.refresh(page, page - 1)).toBe(page - 1);
    expect(seenThrough(made)).toEqual([
      [9, 9],
      [77, 10],
      [11, 11],
    ]);
  });

  test('leaves out what lies beyond its end', () => {
    const made = closedInTheEnd(copier().exportWindow(filledWindow(), 8 * page, 2 * page));
    expect(made.refresh(page, 100 * page)).toBe(page);
    expect(made.refresh(2 * page, 1)).toBe(0);
    expect(made.refresh(9 * page, page)).toBe(0);
    expect(made.refresh(0, 0)).toBe(0);
    expect(() => made.refresh(-1, 1)).toThrow(RangeError);
    expect(seenThrough(made)).toEqual([
      [0, 0],
      [10, 10],
    ]);
  });

  test('is held by others while a descriptor is lent, in flight, open or mapped, and not any longer', () => {
    const made = closedInTheEnd(copier().exportWindow(filledWindow(), 0, page));
    made.refresh(0, page);
    expect(made.othersHoldIt()).toBe(false);
    const { fd, release } = made.lend();
    const [left, right] = socketPair();
    const [bytes, fds] = [new Uint8Array(1), new Int32Array(2)];
    send(left, bytes, 0, 1, [fd]);
    release();
    expect(made.othersHoldIt()).toBe(true);
    receive(right, bytes, 0, 1, fds);
    expect(made.othersHoldIt()).toBe(true);
    const mapping = Mapping.map(fds[1]!, { lengthBytes: page });
    closeSync(fds[1]!);
    expect(made.othersHoldIt()).toBe(true);
    expect(mapping.bytes(0, page)[0]).toBe(1);
    mapping.close();
    expect(made.othersHoldIt()).toBe(false);
    for (const socket of [left, right]) closeSync(socket);
  });

  test('may be opened by another process of the same user while we ask: nobody is ended by that', async () => {
    const made = closedInTheEnd(copier().exportWindow(filledWindow(), 0, page));
    const ours = readdirSync('/proc/self/fd').find((fd) => linkOf(fd).includes('virtio-gpu-copy'));
    const path = `/proc/${process.pid}/fd/${ours}`;
    const opens = `const { openSync, closeSync } = require('node:fs');
      for (let i = 0; i < 20_000; i++) closeSync(openSync('${path}'));`;
    let isRunning = true;
    const ended = runNode(['-e', opens]).finally(() => {
      isRunning = false;
    });
    const answers = new Set<boolean>();
    while (isRunning) {
      for (let i = 0; i < 1000; i++) answers.add(made.othersHoldIt());
      await new Promise((done) => setImmediate(done));
    }
    expect((await ended).status).toBe(0);
    expect(answers).toEqual(new Set([false, true]));
    expect(made.othersHoldIt()).toBe(false);
  });

  test('goes neither way by itself', () => {
    const window = filledWindow();
    const made = closedInTheEnd(copier().exportWindow(window, 0, page));
    withLent(made, (fd) => writeSync(fd, Buffer.of(42), 0, 1, 0));
    expect(window.bytes[0]).toBe(1);
    made.refresh(0, 1);
    expect(seenThrough(made)).toEqual([[1, 0]]);
  });

  test('has the pages that were copied to it, whatever its size: sixty of 512 MiB', () => {
    const exporter = copier();
    const [sizeBytes, shownBytes] = [512 * 2 ** 20, 5 * page];
    const fd = forTest(createMemfd('window', 2 ** 35, { seals: 'size' }));
    const mapping = Mapping.map(fd, { lengthBytes: 2 ** 35, writable: true });
    onTestFinished(() => mapping.close());
    const space = new GuestAddressSpace();
    space.add(0, 2 ** 35, mapping, 0, true);
    for (let index = 0; index < 60; index++) {
      const offset = index * sizeBytes;
      writeSync(fd, Buffer.alloc(shownBytes, index + 1), 0, shownBytes, offset + page);
      const made = closedInTheEnd(exporter.exportWindow({ fd, space }, offset, sizeBytes));
      expect(made.populatedBytes()).toBe(0);
      expect(made.refresh(page, shownBytes)).toBe(shownBytes);
      expect([made.sizeBytes, made.populatedBytes()]).toEqual([sizeBytes, shownBytes]);
      const seen = Buffer.alloc(shownBytes);
      withLent(made, (lent) => readSync(lent, seen, 0, shownBytes, page));
      expect(seen.every((byte) => byte === index + 1)).toBe(true);
    }
    expect(fstatSync(fd).blocks * 512).toBe(60 * shownBytes);
  });

  test('is exact where it was refreshed, and nowhere else, over millions of bytes', () => {
    const exporter = copier();
    const sizeBytes = 8 * 2 ** 20;
    const fd = forTest(createMemfd('window', sizeBytes, { seals: 'size' }));
    const mapping = Mapping.map(fd, { lengthBytes: sizeBytes, writable: true, whole: true });
    onTestFinished(() => mapping.close());
    const words = new Uint32Array(mapping.bytes(0, sizeBytes).buffer, 0, sizeBytes / 4).map((_, i) => i + 1);
    writeSync(fd, new Uint8Array(words.buffer), 0, sizeBytes, 0);
    const space = new GuestAddressSpace();
    space.add(0, sizeBytes, mapping, 0, true);
    const made = closedInTheEnd(exporter.exportWindow({ fd, space }, 0, sizeBytes));
    const expected = Buffer.alloc(sizeBytes);
    const source = Buffer.from(words.buffer);
    for (const [start, end] of [
      [2 ** 21 - 8, 2 ** 21 + 4],
      [2 ** 22, 2 ** 22 + 2 ** 21],
      [5 * 2 ** 20 + 4, 7 * 2 ** 20 + 12],
      [sizeBytes - 4, sizeBytes + 100],
    ] as const) {
      expect(made.refresh(start, end - start)).toBe(Math.min(end, sizeBytes) - start);
      source.copy(expected, start, start, end);
      const seen = Buffer.alloc(sizeBytes);
      withLent(made, (lent) => readSync(lent, seen, 0, sizeBytes, 0));
      expect(seen.equals(expected)).toBe(true);
    }
    expect(made.refresh(sizeBytes, 4)).toBe(0);
  });

  test('survives the exporter, and may be closed twice', () => {
    const exporter = copier();
    const made = exporter.exportWindow(filledWindow(), 0, page);
    exporter.close();
    exporter.close();
    expect(made.refresh(0, page)).toBe(page);
    const before = openFds();
    made.close();
    made.close();
    expect(openFds()).toBe(before - 1);
    expect(made.othersHoldIt()).toBe(false);
  });

  test('leaves nothing behind, a thousand times', () => {
    const exporter = copier();
    const window = filledWindow();
    const before = { ...registrySize(), fds: openFds() };
    for (let index = 0; index < 1000; index++) {
      const made = exporter.exportWindow(window, page, page);
      made.refresh(0, page);
      made.close();
    }
    expect({ ...registrySize(), fds: openFds() }).toEqual(before);
  });

  test('an impossible size leaves nothing open', () => {
    const exporter = copier();
    const window = filledWindow();
    const before = openFds();
    expect(() => exporter.exportWindow(window, 0, 0)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => exporter.exportWindow(window, 0, 2 ** 60)).toThrow();
    expect(openFds()).toBe(before);
  });
});

describe('a copy of pages of the guest', () => {
  const nowhere = () => undefined;

  test('has them in the order of the entries, and is rounded up to pages', () => {
    const { space } = filledWindow();
    const entries = {
      addresses: Float64Array.of(5 * page, 2 * page + 10),
      ends: Float64Array.of(page, page + 100),
    };
    const made = closedInTheEnd(copier().exportGuestPages({ space, resolve: nowhere }, entries));
    expect(made.sizeBytes).toBe(2 * page);
    expect(made.refresh(0, 2 * page)).toBe(page + 100);
    expect(seenThrough(made)).toEqual([
      [6, 6],
      [3, 0],
    ]);
  });

  test('says so when a page is not mapped any more', () => {
    const { space } = filledWindow();
    const entries = { addresses: Float64Array.of(0), ends: Float64Array.of(page) };
    const made = closedInTheEnd(copier().exportGuestPages({ space, resolve: nowhere }, entries));
    expect(made.refresh(0, page)).toBe(page);
    space.remove(0, page);
    expect(made.refresh(0, page)).toBe(undefined);
    expect(seenThrough(made)).toEqual([[1, 1]]);
  });
});

test('a descriptor of an export that was closed can be used for something else', () => {
  const window = filledWindow();
  const exporter = copier();
  const before = openFds();
  const made = exporter.exportWindow(window, 0, page);
  expect(openFds()).toBe(before + 1);
  made.close();
  // One of these has its number.
  const others = [createMemfd('other', page), createMemfd('other', page)];
  made.close();
  for (const other of others) expect(fstatSync(other).size).toBe(page);
  for (const other of others) closeSync(other);
});
