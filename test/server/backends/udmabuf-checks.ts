/**
 * What `/dev/udmabuf` has to do for exports, and that they use it well. Written once, with nothing but Node's own
 * modules: Vitest runs the checks on this machine where it has the device, and `test/guest/udmabuf.test.ts` in guests
 * whose kernel plays the host.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fstatSync, openSync, readdirSync, readFileSync } from 'node:fs';
import {
  clearInBackground,
  createMemfd,
  createUdmabuf,
  type EntryList,
  GuestAddressSpace,
  Mapping,
  nextData,
  punchHole,
  registrySize,
  syncDmaBuf,
} from '../../../native/index.ts';
import { Exporter } from '../../../server/backends/exports.ts';
import { MemfdWindow } from '../../../server/backends/window-memory.ts';
import type { SentBlob } from '../../../server/cross-domain/context.ts';
import { WaylandConnection } from '../../../server/cross-domain/wayland/connection.ts';
import { DEFAULT_POLICY } from '../../../server/cross-domain/wayland/policy.ts';
import type { AttachedResource } from '../../../server/gpu/contracts/context.ts';
import type { MadeExport } from '../../../server/gpu/contracts/exports.ts';
import { Window } from '../../../server/gpu/window.ts';
import { fakeResource } from '../../support/fake-resource.ts';
import { FakeCompositor, GuestChannel, sendCommand } from '../../support/guest-channel.ts';
import { bindShmAndCompositor, request } from '../cross-domain/wayland/talk.ts';

export interface Check {
  /** A sentence. */
  readonly name: string;
  /** Throws when it is not so. */
  run(bench: Bench): void | Promise<void>;
}

const device = '/dev/udmabuf';
const page = 4096;
const MiB = 2 ** 20;
const GiB = 2 ** 30;
const invalid = { code: 'EINVAL', syscall: 'UDMABUF_CREATE_LIST' };

/** Why the checks cannot run here; undefined where they can. */
export function udmabufMissing(): string | undefined {
  try {
    closeSync(openSync(device, 'r+'));
  } catch (error) {
    return (error as Error).message;
  }
  using exporter = Exporter.probe();
  // Any other reason is a failure.
  return exporter.method.reason.startsWith('huge pages') ? exporter.method.reason : undefined;
}

/** Runs a check with a bench of its own, and clears it up. */
export async function runCheck(check: Check): Promise<void> {
  const bench = new Bench();
  try {
    await check.run(bench);
  } finally {
    bench.close();
  }
}

/** A file in memory, mapped. */
interface Memory {
  readonly fd: number;
  readonly mapping: Mapping;
  readonly bytes: Uint8Array;
}

/** What a check works with. All of it is closed afterwards. */
export class Bench {
  readonly #closers: (() => void)[] = [];
  readonly device = this.#opened(openSync(device, 'r+'));
  /** In the window's place: the VMM's view of it is `window.bytes`. */
  readonly window = this.memory(MiB);
  readonly windowSpace = this.#spaceOf(this.window);

  exporter(): Exporter {
    const exporter = Exporter.probe();
    return this.#later(exporter, () => exporter.close());
  }

  /** A sparse memfd, sealed as the window is. */
  memory(lengthBytes: number, seals: 'size' | 'none' = 'size'): Memory {
    const fd = this.#opened(createMemfd('memory', lengthBytes, { seals }));
    const mapping = this.#mapping(fd, lengthBytes);
    return { fd, mapping, bytes: mapping.bytes(0, lengthBytes) };
  }

  /** A udmabuf over a part of the window. */
  udmabuf(offset: number, lengthBytes: number): number {
    return this.#opened(createUdmabuf(this.device, [{ fd: this.window.fd, offset, lengthBytes }]));
  }

  /** What one sees who maps a descriptor. */
  mapped(fd: number, lengthBytes: number): Uint8Array {
    return this.#mapping(fd, lengthBytes).bytes(0, lengthBytes);
  }

  lent(made: MadeExport): number {
    const { fd, release } = made.lend();
    return this.#later(fd, release);
  }

  exportWindow(exporter: Exporter, offset: number, sizeBytes: number): MadeExport {
    const window = { fd: this.window.fd, space: this.windowSpace };
    const made = exporter.exportWindow(window, offset, sizeBytes);
    return this.#later(made, () => made.close());
  }

  /** A guest whose memory is `files`, each at a multiple of a gibibyte. */
  exportGuestPages(exporter: Exporter, files: readonly Memory[], entries: EntryList): MadeExport {
    const space = this.#spaceOf(...files);
    const resolve = (address: number, lengthBytes: number) => {
      const file = files[Math.floor(address / GiB)];
      const offset = address % GiB;
      return file && offset + lengthBytes <= file.bytes.length ? { fd: file.fd, offset } : undefined;
    };
    const made = exporter.exportGuestPages({ space, resolve }, entries);
    return this.#later(made, () => made.close());
  }

  /** A guest program with a connection to a compositor, whose end is `socket`. */
  waylandGuest(): { guest: GuestChannel; socket: number } {
    const compositor = this.#later(new FakeCompositor(), (made) => made[Symbol.dispose]());
    const makeStream = () => new WaylandConnection<SentBlob>(DEFAULT_POLICY);
    const guest = this.#later(new GuestChannel(compositor.path, makeStream), (made) =>
      made[Symbol.dispose](),
    );
    guest.init();
    return { guest, socket: compositor.accept()! };
  }

  /** What a compositor was handed. */
  received(socket: number): number[] {
    return FakeCompositor.take(socket).fds.map((fd) => this.#opened(fd));
  }

  close(): void {
    for (const close of this.#closers.splice(0).reverse()) close();
  }

  #spaceOf(...files: readonly Memory[]): GuestAddressSpace {
    const space = new GuestAddressSpace();
    for (const [index, { mapping }] of files.entries())
      space.add(index * GiB, mapping.lengthBytes, mapping, 0, true);
    return this.#later(space, () => space.close());
  }

  #mapping(fd: number, lengthBytes: number): Mapping {
    const mapping = Mapping.map(fd, { lengthBytes, writable: true, whole: true });
    return this.#later(mapping, () => mapping.close());
  }

  #opened(fd: number): number {
    return this.#later(fd, () => closeSync(fd));
  }

  #later<T>(made: T, close: (made: T) => void): T {
    this.#closers.push(() => close(made));
    return made;
  }
}

/** The byte at the beginning of each page, and whether the rest of the page has the same. */
function pages(bytes: Uint8Array): (number | 'mixed')[] {
  return Array.from({ length: bytes.length / page }, (_, index) => {
    const one = bytes.subarray(index * page, (index + 1) * page);
    return one.every((byte) => byte === one[0]) ? one[0]! : 'mixed';
  });
}

/** Fills page n of a range with `first + n`. */
function fillPages(bytes: Uint8Array, first: number): void {
  for (let index = 0; index < bytes.length / page; index++)
    bytes.fill(first + index, index * page, (index + 1) * page);
}

function openFds(): number {
  return readdirSync('/proc/self/fd').length - 1;
}

function availableBytes(): number {
  return Number(/^MemAvailable: +(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))![1]) * 1024;
}

function moduleParameter(name: string): number {
  return Number(readFileSync(`/sys/module/udmabuf/parameters/${name}`, 'utf8'));
}

/** Entries of one page each. */
function pageEntries(addresses: readonly number[]): EntryList {
  return {
    addresses: Float64Array.from(addresses),
    ends: Float64Array.from(addresses, (_, index) => (index + 1) * page),
  };
}

export const udmabufChecks: readonly Check[] = [
  // ---- the device ----
  {
    name: 'an aligned part of a sealed memfd becomes a dma-buf of just its size, close-on-exec',
    run(bench) {
      const fd = bench.udmabuf(4 * page, 3 * page);
      assert.equal(fstatSync(fd).size, 3 * page);
      const [, flags] = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))!;
      assert.equal(Number.parseInt(flags!, 8) & 0o2000000, 0o2000000);
    },
  },
  {
    name: 'ranges that are unaligned, empty or beyond the file are refused with EINVAL, and nothing stays open',
    run(bench) {
      const before = openFds();
      const end = bench.window.bytes.length;
      assert.throws(() => bench.udmabuf(1, page), invalid);
      assert.throws(() => bench.udmabuf(512, page), invalid);
      assert.throws(() => bench.udmabuf(0, page + 1), invalid);
      assert.throws(() => bench.udmabuf(0, page - 1), invalid);
      assert.throws(() => bench.udmabuf(0, 0), invalid);
      assert.throws(() => bench.udmabuf(end, page), invalid);
      assert.throws(() => bench.udmabuf(end - page, 2 * page), invalid);
      assert.throws(() => bench.udmabuf(2 ** 52, page), invalid);
      assert.throws(() => createUdmabuf(bench.device, []), invalid);
      assert.equal(openFds(), before);
    },
  },
  {
    name: 'a memfd that could shrink is refused, and so is what is no memfd',
    run(bench) {
      const unsealed = bench.memory(page, 'none');
      const of = (fd: number) => () => createUdmabuf(bench.device, [{ fd, offset: 0, lengthBytes: page }]);
      assert.throws(of(unsealed.fd), invalid);
      assert.throws(of(bench.device), { syscall: 'UDMABUF_CREATE_LIST' });
      assert.throws(of(999_999), { syscall: 'UDMABUF_CREATE_LIST' });
    },
  },
  {
    name: 'what one side writes the other sees at once, in both directions',
    run(bench) {
      const { bytes: window } = bench.window;
      window.fill(1, 2 * page, 4 * page);
      const fd = bench.udmabuf(2 * page, 2 * page);
      const shared = bench.mapped(fd, 2 * page);
      syncDmaBuf(fd, 'start', 'readwrite');
      assert.deepEqual(pages(shared), [1, 1]);
      window.fill(2, 3 * page, 4 * page);
      assert.deepEqual(pages(shared), [1, 2]);
      shared.fill(3, 0, page);
      assert.deepEqual(pages(window.subarray(2 * page, 4 * page)), [3, 2]);
      syncDmaBuf(fd, 'end', 'readwrite');
      assert.throws(() => syncDmaBuf(bench.window.fd, 'start', 'read'), { code: 'ENOTTY' });
    },
  },
  {
    name: 'its neighbours are out of reach and untouched (H4)',
    run(bench) {
      const { bytes: window } = bench.window;
      fillPages(window.subarray(0, 6 * page), 1);
      const fd = bench.udmabuf(2 * page, 2 * page);
      const beyond = { code: 'EINVAL', syscall: 'mmap' };
      assert.throws(() => bench.mapped(fd, 2 * page + 1), beyond);
      assert.throws(() => Mapping.map(fd, { offset: page, lengthBytes: 2 * page }), beyond);
      assert.throws(() => Mapping.map(fd, { offset: 2 * page, lengthBytes: page }), beyond);
      bench.mapped(fd, 2 * page).fill(99);
      assert.deepEqual(pages(window.subarray(0, 6 * page)), [1, 2, 99, 99, 5, 6]);
    },
  },
  {
    name: 'after a punch it keeps its bytes, the window has zeros, and a new one sees new bytes only',
    run(bench) {
      const range = bench.window.bytes.subarray(2 * page, 4 * page);
      range.fill(1);
      const old = bench.mapped(bench.udmabuf(2 * page, 2 * page), 2 * page);
      punchHole(bench.window.fd, 2 * page, 2 * page);
      assert.deepEqual(
        [pages(old), pages(range)],
        [
          [1, 1],
          [0, 0],
        ],
      );
      const young = bench.mapped(bench.udmabuf(2 * page, 2 * page), 2 * page);
      assert.deepEqual(pages(young), [0, 0]);

      range.fill(2);
      assert.deepEqual([pages(old)[0], pages(young)[0], pages(range)[0]], [1, 2, 2]);
      young.fill(3);
      assert.deepEqual([pages(old)[0], pages(young)[0], pages(range)[0]], [1, 3, 3]);
      old.fill(4);
      assert.deepEqual([pages(old)[0], pages(young)[0], pages(range)[0]], [4, 3, 3]);
      punchHole(bench.window.fd, 2 * page, 2 * page);
      assert.deepEqual([pages(old)[0], pages(young)[0], pages(range)[0]], [4, 3, 0]);
    },
  },
  {
    name: 'a punch of a part parts with this part only',
    run(bench) {
      const range = bench.window.bytes.subarray(0, 3 * page);
      range.fill(1);
      const shared = bench.mapped(bench.udmabuf(0, 3 * page), 3 * page);
      punchHole(bench.window.fd, page, page);
      range.fill(2);
      assert.deepEqual(pages(shared), [2, 1, 2]);
    },
  },
  {
    name: 'a range that is cleared in the background stays shared',
    async run(bench) {
      const range = bench.window.bytes.subarray(0, 2 * page);
      range.fill(1);
      const shared = bench.mapped(bench.udmabuf(0, 2 * page), 2 * page);
      const failed = await new Promise((done) => clearInBackground(bench.window.fd, 0, 2 * page, done));
      assert.equal(failed, undefined);
      assert.deepEqual(pages(shared), [0, 0]);
      range.fill(2);
      assert.deepEqual(pages(shared), [2, 2]);
    },
  },
  {
    name: 'ranges of a list, of two files, follow one another in its order',
    run(bench) {
      const other = bench.memory(4 * page);
      fillPages(bench.window.bytes.subarray(0, 8 * page), 1);
      fillPages(other.bytes, 101);
      const fd = createUdmabuf(bench.device, [
        { fd: bench.window.fd, offset: 6 * page, lengthBytes: 2 * page },
        { fd: other.fd, offset: 3 * page, lengthBytes: page },
        { fd: bench.window.fd, offset: 0, lengthBytes: page },
      ]);
      try {
        assert.equal(fstatSync(fd).size, 4 * page);
        const shared = bench.mapped(fd, 4 * page);
        assert.deepEqual(pages(shared), [7, 8, 104, 1]);
        shared.fill(9, 2 * page, 3 * page);
        assert.deepEqual(pages(other.bytes), [101, 102, 103, 9]);
      } finally {
        closeSync(fd);
      }
    },
  },

  // ---- exports ----
  {
    name: 'the exporter chooses udmabuf',
    run(bench) {
      assert.deepEqual(bench.exporter().method, { kind: 'udmabuf', reason: '/dev/udmabuf works' });
    },
  },
  {
    name: 'what may have few pages is copied, because a udmabuf has them all',
    run(bench) {
      const memory = new MemfdWindow(2 ** 30);
      const window = { fd: memory.fd, space: memory.addressSpace };
      const exporter = bench.exporter();
      const made = [
        exporter.exportWindow(window, 0, MiB, false),
        exporter.exportWindow(window, 0, 128 * MiB + 1),
      ];
      for (const one of made) {
        assert.deepEqual([one.kind, one.reason], ['copy', 'it may have few pages']);
        one.close();
      }
      assert.equal(memory.populatedBytes(), 0);
      const shared = exporter.exportWindow(window, 0, MiB, true);
      assert.deepEqual([shared.kind, shared.populatedBytes()], ['udmabuf', MiB]);
      shared.close();
      memory.close();
    },
  },
  {
    name: 'a blob that is unmapped while it is exported is gone from the window, and the export keeps it',
    run(bench) {
      const memory = new MemfdWindow(MiB);
      const window = new Window<string>(memory, { maxBytes: MiB });
      const owner = (value: number) => {
        window.map(4 * page, 2 * page, 'context');
        const before = memory.populatedBytes();
        const made = bench
          .exporter()
          .exportWindow({ fd: memory.fd, space: memory.addressSpace }, 4 * page, 2 * page);
        window.noteExported(4 * page);
        const seen = bench.mapped(bench.lent(made), made.sizeBytes);
        assert.deepEqual(pages(seen), [0, 0]);
        memory.write(4 * page, new Uint8Array(2 * page).fill(value));
        assert.deepEqual(pages(seen), [value, value]);
        return { made, seen, before };
      };
      const first = owner(1);
      assert.equal(window.unmap(4 * page), undefined);
      assert.equal(memory.populatedBytes(), first.before);
      const second = owner(2);
      assert.deepEqual(pages(first.seen), [1, 1]);
      first.seen.fill(9);
      assert.deepEqual(pages(second.seen), [2, 2]);
      window.reset();
      assert.deepEqual(
        [pages(first.seen), pages(second.seen)],
        [
          [9, 9],
          [2, 2],
        ],
      );
      assert.equal(memory.populatedBytes(), 0);
      for (const { made } of [first, second]) made.close();
      memory.close();
    },
  },
  {
    name: 'an export of the window is shared without refreshing, rounded up to pages',
    run(bench) {
      const made = bench.exportWindow(bench.exporter(), 4 * page, page + 1);
      assert.equal(made.kind, 'udmabuf');
      assert.equal(made.reason, undefined);
      assert.equal(made.sizeBytes, 2 * page);
      bench.window.bytes.fill(7, 4 * page, 6 * page);
      assert.equal(made.refresh(0, 2 * page), 0);
      assert.deepEqual(pages(bench.mapped(bench.lent(made), made.sizeBytes)), [7, 7]);
    },
  },
  {
    name: 'an export lives on when the exporter is closed, and may be closed twice',
    run(bench) {
      const exporter = bench.exporter();
      const made = bench.exportWindow(exporter, 0, page);
      exporter.close();
      assert.equal(bench.exportWindow(exporter, 0, page).kind, 'copy');
      bench.window.bytes.fill(7, 0, page);
      assert.deepEqual(pages(bench.mapped(bench.lent(made), page)), [7]);
      made.close();
      made.close();
      assert.equal(made.othersHoldIt(), false);
    },
  },
  {
    name: 'beyond the limit of the module the device refuses, and the exporter makes a copy (H2, H3)',
    run(bench) {
      const limit = moduleParameter('size_limit_mb') * MiB;
      const large = bench.memory(limit + 2 * page);
      const range = { fd: large.fd, offset: page };
      closeSync(createUdmabuf(bench.device, [{ ...range, lengthBytes: limit }]));
      punchHole(large.fd, 0, large.bytes.length);
      assert.throws(() => createUdmabuf(bench.device, [{ ...range, lengthBytes: limit + page }]), invalid);

      const exporter = bench.exporter();
      const entries = { addresses: Float64Array.of(page), ends: Float64Array.of(limit + page) };
      const made = bench.exportGuestPages(exporter, [large], entries);
      assert.deepEqual([made.kind, made.reason], ['copy', 'UDMABUF_CREATE_LIST: EINVAL, invalid argument']);
      assert.equal(made.sizeBytes, limit + page);
      assert.equal(made.othersHoldIt(), false);
      large.bytes.fill(5, limit + page, limit + 2 * page);
      assert.equal(made.refresh(limit, page), page);
      const shown = bench.mapped(bench.lent(made), made.sizeBytes);
      assert.deepEqual(pages(shown.subarray(limit - page)), [0, 5]);
      assert.equal(exporter.method.kind, 'udmabuf');
      assert.equal(bench.exportWindow(exporter, 0, page).kind, 'udmabuf');
    },
  },
  {
    name: 'scattered pages of a guest, of two files, are shared in the order of the entries',
    run(bench) {
      const [low, high] = [bench.memory(8 * page), bench.memory(8 * page)];
      fillPages(low.bytes, 1);
      fillPages(high.bytes, 101);
      const entries = {
        addresses: Float64Array.of(6 * page, GiB + page, GiB + 7 * page, 0, 4 * page),
        ends: Float64Array.from([2, 3, 4, 4, 5], (end) => end * page),
      };
      const made = bench.exportGuestPages(bench.exporter(), [low, high], entries);
      assert.deepEqual([made.kind, made.sizeBytes], ['udmabuf', 5 * page]);
      const shared = bench.mapped(bench.lent(made), made.sizeBytes);
      assert.deepEqual(pages(shared), [7, 8, 102, 108, 5]);
      high.bytes.fill(200, page, 2 * page);
      shared.fill(201, 4 * page, 5 * page);
      assert.deepEqual(pages(shared), [7, 8, 200, 108, 201]);
      assert.deepEqual(pages(low.bytes), [1, 2, 3, 4, 201, 6, 7, 8]);
      assert.deepEqual(pages(high.bytes), [101, 200, 103, 104, 105, 106, 107, 108]);
    },
  },
  {
    name: 'entries that are neighbours count as one for the limit of the module; too many apart are copied',
    run(bench) {
      const count = moduleParameter('list_limit') + 1;
      const memory = bench.memory(2 * count * page);
      const exporter = bench.exporter();
      const neighbours = pageEntries(Array.from({ length: count }, (_, index) => index * page));
      assert.equal(bench.exportGuestPages(exporter, [memory], neighbours).kind, 'udmabuf');
      const apart = pageEntries(Array.from({ length: count }, (_, index) => 2 * index * page));
      const copy = bench.exportGuestPages(exporter, [memory], apart);
      assert.deepEqual([copy.kind, copy.reason], ['copy', 'UDMABUF_CREATE_LIST: EINVAL, invalid argument']);
      const last = (count - 1) * page;
      memory.bytes.fill(5, 2 * last, 2 * last + page);
      assert.equal(copy.refresh(last, page), page);
      assert.deepEqual(pages(bench.mapped(bench.lent(copy), copy.sizeBytes).subarray(last - page)), [0, 5]);
    },
  },
  {
    name: 'guest pages that cannot be shared are copied, and each time it is said why',
    run(bench) {
      const exporter = bench.exporter();
      const one = { addresses: Float64Array.of(page), ends: Float64Array.of(page) };
      const reasonOf = (memory: Memory, entries: EntryList) => {
        fillPages(memory.bytes, 1);
        const made = bench.exportGuestPages(exporter, [memory], entries);
        assert.equal(made.kind, 'copy');
        assert.ok(made.refresh(0, page)! > 0);
        assert.equal(bench.mapped(bench.lent(made), made.sizeBytes)[0], 2);
        return made.reason;
      };
      assert.equal(
        reasonOf(bench.memory(4 * page, 'none'), one),
        'guest memory is not sealed against shrinking',
      );
      const notWhole = 'the memory is not whole pages';
      const start = { addresses: Float64Array.of(page + 8), ends: Float64Array.of(page) };
      assert.equal(reasonOf(bench.memory(4 * page), start), notWhole);
      const end = { addresses: Float64Array.of(page), ends: Float64Array.of(page - 8) };
      assert.equal(reasonOf(bench.memory(4 * page), end), notWhole);
      const missing = { addresses: Float64Array.of(page, 2 ** 40), ends: Float64Array.of(page, 2 * page) };
      assert.equal(
        reasonOf(bench.memory(4 * page), missing),
        'the memory is not mapped, or lies in several files',
      );
    },
  },
  {
    name: 'a compositor sees what a guest draws without a copy, and nothing that comes to the same place afterwards (H1, H5)',
    async run(bench) {
      const exporter = bench.exporter();
      const { guest, socket } = bench.waylandGuest();
      const [width, height] = [64, 32];
      const sizeBytes = 2 * page;
      const place = bench.window.bytes.subarray(3 * page, 3 * page + sizeBytes);
      const buffer: AttachedResource = {
        ...fakeResource(50, sizeBytes),
        kind: 'host3d',
        export: () =>
          Object.assign(bench.exportWindow(exporter, 3 * page, sizeBytes), {
            isCurrent: () => true,
            chargedBytes: sizeBytes,
            account: () => true,
          }),
      };
      guest.context.attach(buffer);
      const say = (bytes: Uint8Array, buffers: readonly (readonly [number, number])[] = []) =>
        guest.context.submit(sendCommand(bytes, buffers));
      await bindShmAndCompositor(guest, socket);
      say(request('wl_shm.create_pool', 3, 5, null, sizeBytes), [[1, 50]]);
      say(request('wl_shm_pool.create_buffer', 5, 6, 0, width, height, width * 4, 1));
      say(request('wl_compositor.create_surface', 4, 7));
      const [fd, ...others] = bench.received(socket);
      assert.deepEqual(others, []);
      const seen = bench.mapped(fd!, sizeBytes);
      for (const colour of [1, 2, 3]) {
        place.fill(colour);
        say(request('wl_surface.attach', 7, 6, 0, 0));
        say(request('wl_surface.damage_buffer', 7, 0, 0, width, height));
        say(request('wl_surface.commit', 7));
        assert.deepEqual(pages(seen), [colour, colour]);
      }
      assert.equal(guest.context.counters.copiedBytes, 0);
      // The blob goes while the compositor still shows it, and the next one comes to its place.
      punchHole(bench.window.fd, 3 * page, sizeBytes);
      assert.deepEqual(pages(place), [0, 0]);
      place.fill(9);
      assert.deepEqual(pages(seen), [3, 3]);
    },
  },
  {
    name: 'a thousand exports, punched and closed, leave descriptors and memory as they were',
    run(bench) {
      const exporter = bench.exporter();
      const size = 64 * page;
      const cycle = () => {
        const made = exporter.exportWindow({ fd: bench.window.fd, space: bench.windowSpace }, 0, size);
        assert.equal(made.kind, 'udmabuf');
        punchHole(bench.window.fd, 0, size);
        made.close();
      };
      cycle();
      const before = { fds: openFds(), ...registrySize() };
      const availableBefore = availableBytes();
      for (let count = 0; count < 1000; count++) cycle();
      assert.deepEqual({ fds: openFds(), ...registrySize() }, before);
      // Had they stayed, it would be 250 MiB.
      assert.ok(availableBefore - availableBytes() < 64 * MiB);
      assert.equal(nextData(bench.window.fd, 0), undefined);
    },
  },
  {
    name: 'a mapping of an export counts as somebody who holds it',
    run(bench) {
      const made = bench.exportWindow(bench.exporter(), 0, page);
      assert.equal(made.othersHoldIt(), false);
      const mapping = Mapping.map(bench.lent(made), { lengthBytes: page });
      assert.equal(made.othersHoldIt(), true);
      mapping.close();
      assert.equal(made.othersHoldIt(), false);
    },
  },
  {
    name: 'another process counts as somebody who holds it, until it ends, also when the range was punched',
    async run(bench) {
      const made = bench.exportWindow(bench.exporter(), 0, page);
      const script = "process.stdin.resume(); process.stdout.write('here')";
      const child = spawn(process.execPath, ['-e', script], {
        stdio: ['pipe', 'pipe', 'inherit', bench.lent(made)],
        env: {},
      });
      const ended = once(child, 'close');
      try {
        await once(child.stdout!, 'data');
        assert.equal(made.othersHoldIt(), true);
        punchHole(bench.window.fd, 0, page);
        assert.equal(made.othersHoldIt(), true);
      } finally {
        child.stdin!.end();
        await ended;
      }
      assert.equal(made.othersHoldIt(), false);
    },
  },
];
