/** The window by itself: any order of mapping, unmapping, exporting and resetting keeps owners apart. */
import fc from 'fast-check';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { MemfdWindow } from '../../../server/backends/window-memory.ts';
import type { Job, WindowMemory } from '../../../server/gpu/contracts/window-memory.ts';
import { endOf, overlap, type Range, RangeSet } from '../../../server/gpu/ranges.ts';
import { Window } from '../../../server/gpu/window.ts';

const page = 4096;
const pages = 16;

/** A page of the model is a number: who wrote it last, 0 when it reads as zeros. */
class FakeMemory implements WindowMemory {
  readonly sizeBytes: number = pages * page;
  readonly content = new Array<number>(pages).fill(0);
  readonly populated = new Set<number>();
  /** Clears that have not been done. */
  readonly jobs: (() => void)[] = [];
  clearsInBackground = false;
  punches = 0;

  isPopulated(offset: number, lengthBytes: number): boolean {
    let found = false;
    this.#each(offset, lengthBytes, (at) => {
      found ||= this.populated.has(at);
    });
    return found;
  }

  populatedIn(offset: number, lengthBytes: number): number {
    let pages = 0;
    this.#each(offset, lengthBytes, (at) => {
      if (this.populated.has(at)) pages++;
    });
    return pages * page;
  }

  clear(offset: number, lengthBytes: number): Job | undefined {
    const zero = () => this.#each(offset, lengthBytes, (at) => (this.content[at] = 0));
    if (!this.clearsInBackground) {
      zero();
      return undefined;
    }
    let callbacks: (() => void)[] | undefined = [];
    const finish = () => {
      if (!callbacks) return;
      zero();
      for (const callback of callbacks.splice(0)) callback();
      callbacks = undefined;
    };
    this.jobs.push(finish);
    return {
      whenDone: (callback) => (callbacks ? callbacks.push(callback) : callback()),
      wait: finish,
    };
  }

  punch(offset: number, lengthBytes: number): void {
    this.punches++;
    this.#each(offset, lengthBytes, (at) => {
      this.content[at] = 0;
      this.populated.delete(at);
    });
  }

  guestWrites(offset: number, lengthBytes: number, value: number): void {
    this.#each(offset, lengthBytes, (at) => {
      this.content[at] = value;
      this.populated.add(at);
    });
  }

  seen(offset: number, lengthBytes: number): Set<number> {
    const values = new Set<number>();
    this.#each(offset, lengthBytes, (at) => values.add(this.content[at]!));
    return values;
  }

  #each(offset: number, lengthBytes: number, act: (at: number) => void): void {
    for (let at = offset / page; at < (offset + lengthBytes) / page; at++) act(at);
  }

  write(): void {}
  read(): void {}
  pixels(): never {
    throw new Error('not for this test');
  }
  populatedBytes(): number {
    return this.populated.size * page;
  }
}

type Step =
  | { readonly do: 'map'; readonly at: number; readonly count: number; readonly written: number }
  | { readonly do: 'unmap' | 'export'; readonly which: number }
  | { readonly do: 'reset' | 'job' | 'idle' | 'check' };
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('map' as const),
      at: fc.nat(pages),
      count: fc.integer({ min: 1, max: 5 }),
      written: fc.nat(5),
    }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('unmap' as const), which: fc.nat(9) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('export' as const), which: fc.nat(9) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constantFrom('reset' as const, 'job' as const, 'idle' as const) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('check' as const) }) },
);

describe('any sequence of map, unmap, export and reset', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  test('keeps ranges disjoint, the accounts right, and every owner’s bytes from all others', () => {
    vi.useFakeTimers();
    const maxPages = 10;
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.boolean(), (steps, clearsInBackground) => {
        const memory = new FakeMemory();
        memory.clearsInBackground = clearsInBackground;
        const lost: number[] = [];
        const window = new Window<number>(memory, {
          maxBytes: maxPages * page,
          idleMs: 1000,
          onOverrun: (owner) => lost.push(owner),
        });
        let live: (Range & { owner: number; written: number })[] = [];
        const held = ({ offset, lengthBytes }: Range) => memory.populatedIn(offset, lengthBytes);
        /** Pages whose UNMAP has not been answered yet. */
        let unanswered = 0;
        let owner = 0;
        for (const one of steps) {
          if (one.do === 'map') {
            const range = { offset: one.at * page, lengthBytes: one.count * page };
            const isFree = !live.some((other) => overlap(other, range)) && endOf(range) <= memory.sizeBytes;
            let mapped = true;
            try {
              window.map(range.offset, range.lengthBytes, owner + 1);
            } catch {
              mapped = false;
            }
            if (mapped !== isFree) return false;
            if (mapped) {
              // Not a byte of anybody before.
              if ([...memory.seen(range.offset, range.lengthBytes)].some((value) => value !== 0))
                return false;
              owner++;
              const written = Math.min(one.written, one.count) * page;
              live.push({ ...range, owner, written });
              memory.guestWrites(range.offset, written, owner);
            }
          } else if (one.do === 'unmap') {
            const [range] = live.splice(one.which % Math.max(1, live.length), 1);
            if (!range) continue;
            const job = window.unmap(range.offset);
            unanswered++;
            const answered = () => {
              unanswered--;
            };
            if (job) job.whenDone(answered);
            else {
              answered();
              if ([...memory.seen(range.offset, range.lengthBytes)].some((value) => value !== 0))
                return false;
            }
          } else if (one.do === 'export') {
            const range = live[one.which % Math.max(1, live.length)];
            if (range) window.noteExported(range.offset);
          } else if (one.do === 'job') {
            memory.jobs.shift()?.();
          } else if (one.do === 'idle') {
            vi.advanceTimersByTime(2000);
            if (window.keptBytes !== 0 || vi.getTimerCount() !== 0) return false;
            if (memory.populatedBytes() !== live.reduce((sum, range) => sum + held(range), 0)) return false;
          } else if (one.do === 'check') {
            lost.length = 0;
            const before = new Map(live.map((range) => [range.owner, held(range)]));
            window.check();
            // Those who have the most lose it, and no more of them than it takes.
            let rest = [...before.values()].reduce((sum, bytes) => sum + bytes, 0);
            for (const whose of lost) {
              const bytes = before.get(whose) ?? 0;
              if (rest <= maxPages * page || bytes < Math.max(...before.values())) return false;
              rest -= bytes;
              before.set(whose, 0);
              for (const range of live) if (range.owner === whose) range.written = 0;
            }
            if (rest > maxPages * page || memory.populatedBytes() > maxPages * page) return false;
          } else {
            window.reset();
            live = [];
            if (unanswered !== 0 || memory.populatedBytes() !== 0) return false;
            if ([...memory.seen(0, memory.sizeBytes)].some((value) => value !== 0)) return false;
          }
          if (window.mappedBytes !== live.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0))
            return false;
          if (memory.populatedBytes() > window.mappedBytes + window.keptBytes) return false;
          // What is live is never touched, unless it was too much.
          for (const { offset, lengthBytes, owner: whose, written } of live) {
            if ([...memory.seen(offset, written)].some((value) => value !== whose)) return false;
            const rest = memory.seen(offset + written, lengthBytes - written);
            if ([...rest].some((value) => value !== 0)) return false;
          }
        }
        window.reset();
        return true;
      }),
      { numRuns: 2000 },
    );
  });
});

test('a blob where the guest has written without one does not show that', () => {
  const memory = new FakeMemory();
  const window = new Window<string>(memory, { maxBytes: pages * page });
  memory.guestWrites(0, 8 * page, 7);
  window.map(2 * page, 4 * page, 'owner');
  expect(memory.seen(2 * page, 4 * page)).toEqual(new Set([0]));
  expect(memory.seen(6 * page, 2 * page)).toEqual(new Set([7]));
});

describe('pages without a blob', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  test('are kept for the next blob there, so that it need not fetch new ones', () => {
    const memory = new FakeMemory();
    const window = new Window<string>(memory, { maxBytes: pages * page });
    for (let round = 0; round < 100; round++) {
      window.map(0, 4 * page, 'owner');
      memory.guestWrites(0, 4 * page, 1);
      window.unmap(0);
    }
    expect(memory.punches).toBe(0);
    expect(window.keptBytes).toBe(4 * page);
  });

  test('go back to the host when nothing has happened for a while, also those the guest touched by itself', () => {
    vi.useFakeTimers();
    const memory = new FakeMemory();
    const window = new Window<string>(memory, { maxBytes: pages * page, idleMs: 1000 });
    window.map(0, 2 * page, 'owner');
    window.map(8 * page, page, 'owner');
    memory.guestWrites(0, pages * page, 1);
    window.unmap(0);
    vi.advanceTimersByTime(1000);
    expect(memory.populatedBytes()).toBe(pages * page);
    vi.advanceTimersByTime(1000);
    expect(memory.populatedBytes()).toBe(page);
    expect(memory.content[8]).toBe(1);
    // A driver that uses no blobs has a window that is just memory.
    memory.guestWrites(0, 4 * page, 2);
    vi.advanceTimersByTime(100_000);
    expect(memory.populatedBytes()).toBe(5 * page);
    window.reset();
    expect(vi.getTimerCount()).toBe(0);
  });

  test('of an exported blob go at once: others keep them, and must not see what comes after', () => {
    const memory = new FakeMemory();
    const window = new Window<string>(memory, { maxBytes: pages * page });
    window.map(0, 2 * page, 'owner');
    window.noteExported(0);
    expect(window.exportedBytes).toBe(2 * page);
    memory.guestWrites(0, 2 * page, 1);
    expect(window.unmap(0)).toBe(undefined);
    expect(memory.populatedBytes()).toBe(0);
    expect([window.keptBytes, window.exportedBytes]).toEqual([0, 0]);
  });
});

test('a window without room for another blob of the same size says so: the driver refuses that by itself', () => {
  const full: number[] = [];
  const window = new Window<string>(new FakeMemory(), {
    maxBytes: pages * page,
    onFull: (mappedBytes) => full.push(mappedBytes / page),
  });
  window.map(0, 6 * page, 'one');
  window.map(6 * page, page, 'one');
  expect(full).toEqual([]);
  window.map(7 * page, 5 * page, 'one');
  expect(full).toEqual([12]);
  window.map(12 * page, 2 * page, 'one');
  expect(full).toEqual([12]);
  window.unmap(0);
  window.map(0, 6 * page, 'one');
  expect(full).toEqual([12, 14]);
});

describe('pages that are too many', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  /** A limit of 8 pages in a window of 16, and a guest that writes while nobody is told. */
  const watched = () => {
    vi.useFakeTimers();
    const memory = new FakeMemory();
    const overruns: [string, number][] = [];
    const window = new Window<string>(memory, {
      maxBytes: 8 * page,
      onOverrun: (owner, bytes) => overruns.push([owner, bytes]),
    });
    window.watch();
    return { memory, window, overruns };
  };

  test('are noticed while somebody can write, and by no timer otherwise', () => {
    const { memory, window } = watched();
    memory.guestWrites(0, 9 * page, 1);
    vi.advanceTimersByTime(1000);
    expect(memory.populatedBytes()).toBe(0);
    window.unwatch();
    expect(vi.getTimerCount()).toBe(0);
    memory.guestWrites(0, 9 * page, 1);
    vi.advanceTimersByTime(10_000);
    expect(memory.populatedBytes()).toBe(9 * page);
  });

  test('are not feared of a blob of more than 64 MiB while a sixteenth is left, of a smaller one unless all of it fits', () => {
    const memory = Object.assign(new FakeMemory(), { sizeBytes: 2 ** 35, punch: () => {} });
    let populatedMiB = 0;
    memory.populatedBytes = () => populatedMiB * 2 ** 20;
    const window = new Window<string>(memory, { maxBytes: 512 * 2 ** 20 });
    const fits = (sizeMiB: number) => {
      try {
        window.requireRoom(sizeMiB * 2 ** 20);
        return true;
      } catch (error) {
        expect(error).toMatchObject({ option: '--max-blob-memory' });
        return false;
      }
    };
    populatedMiB = 448;
    expect([fits(64), fits(512), fits(32_768)]).toEqual([true, true, true]);
    populatedMiB = 480;
    expect([fits(32), fits(33), fits(64), fits(65), fits(512)]).toEqual([true, false, false, true, true]);
    populatedMiB = 481;
    expect([fits(31), fits(32), fits(65), fits(512)]).toEqual([true, false, false, false]);
    expect(() => window.requireRoom(2 ** 35 + 1)).toThrow('more than the window');
  });

  test('cannot be where the window is no larger than its limit, so nobody looks', () => {
    vi.useFakeTimers();
    const window = new Window<string>(new FakeMemory(), { maxBytes: pages * page });
    window.watch();
    expect(vi.getTimerCount()).toBe(0);
  });

  test('are taken from whoever has the most, again and again while the guest goes on to write there', () => {
    const { memory, window, overruns } = watched();
    window.map(0, 6 * page, 'small');
    window.map(8 * page, 8 * page, 'large');
    memory.guestWrites(0, 4 * page, 1);
    for (let round = 0; round < 3; round++) {
      memory.guestWrites(8 * page, 8 * page, 2);
      vi.advanceTimersByTime(1000);
      expect(memory.populatedBytes()).toBe(4 * page);
      expect(memory.seen(8 * page, 8 * page)).toEqual(new Set([0]));
    }
    expect(overruns).toEqual([['large', 8 * page]]);
    expect(memory.seen(0, 4 * page)).toEqual(new Set([1]));
    window.unwatch();
  });

  test('are looked for the sooner, the fewer are left: after 250 ms of 1 GiB, after 10 ms at the limit', () => {
    vi.useFakeTimers();
    const memory = new FakeMemory();
    let populatedBytes = 0;
    let looks = 0;
    memory.populatedBytes = () => {
      looks++;
      return populatedBytes;
    };
    const window = new Window<string>(Object.assign(memory, { sizeBytes: 2 ** 35 }), { maxBytes: 2 ** 30 });
    const looksIn = (ms: number) => {
      const before = looks;
      vi.advanceTimersByTime(ms);
      return (looks - before) / 2;
    };
    window.watch();
    expect(looksIn(256 * 8)).toBe(8);
    populatedBytes = 2 ** 30 - 4096;
    looksIn(256);
    expect(looksIn(1000)).toBe(100);
    window.unwatch();
  });

  test('are not made by exports, when there are many already', () => {
    const { memory, window } = watched();
    expect([window.mayFill(4 * page), window.mayFill(5 * page)]).toEqual([true, false]);
    memory.guestWrites(0, 2 * page, 1);
    expect([window.mayFill(2 * page), window.mayFill(3 * page)]).toEqual([true, false]);
    window.unwatch();
  });
});

test('a file knows how much memory it has, and each range how much of it', () => {
  const memory = new MemfdWindow(2 ** 35);
  for (const at of [0, 3, 4, 2 ** 22]) memory.write(at * page, Uint8Array.of(1));
  expect(memory.populatedBytes()).toBe(4 * page);
  expect(memory.populatedIn(0, memory.sizeBytes)).toBe(4 * page);
  expect(memory.populatedIn(page, 2 ** 34)).toBe(3 * page);
  expect(memory.populatedIn(page, 3 * page)).toBe(page);
  expect(memory.populatedIn(page, 2 * page)).toBe(0);
  expect(memory.populatedIn(2 ** 35 - page, page)).toBe(0);
  memory.close();
});

test('a real window of 8 GiB costs nothing before it is used, and nothing after', () => {
  const memory = new MemfdWindow(2 ** 33);
  const window = new Window<string>(memory, { maxBytes: 2 ** 30 });
  expect(memory.populatedBytes()).toBe(0);
  const offset = 2 ** 33 - page;
  window.map(offset, page, 'owner', Uint8Array.of(1, 2, 3));
  const into = new Uint8Array(4);
  memory.read(offset, into);
  expect([...into]).toEqual([1, 2, 3, 0]);
  expect(memory.populatedBytes()).toBe(page);
  window.reset();
  expect(memory.populatedBytes()).toBe(0);
  memory.close();
});

describe('a set of ranges', () => {
  test('holds just what was added and not removed', () => {
    const range = fc.record({ offset: fc.nat(40), lengthBytes: fc.integer({ min: 1, max: 12 }) });
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), range)), (changes) => {
        const set = new RangeSet();
        const model = new Set<number>();
        for (const [add, one] of changes) {
          const points = Array.from({ length: one.lengthBytes }, (_, i) => one.offset + i);
          if (add && points.every((point) => !model.has(point))) {
            set.add(one);
            for (const point of points) model.add(point);
          } else {
            set.remove(one);
            for (const point of points) model.delete(point);
          }
          const held = set.ranges.flatMap(({ offset, lengthBytes }) =>
            Array.from({ length: lengthBytes }, (_, i) => offset + i),
          );
          expect(held).toEqual([...model].sort((a, b) => a - b));
          expect(set.bytes).toBe(model.size);
        }
      }),
    );
  });
});
