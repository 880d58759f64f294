import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Chain, QueueBroken } from '../../../pci/index.ts';
import {
  MAX_SEGMENTS,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from '../../../pci/virtio/chain.ts';
import { passesEvent, SplitQueue } from '../../../pci/virtio/queue.ts';
import { type Descriptor, FakeQueue } from '../../../testing/fake-driver.ts';
import { FlatMemory } from '../../../testing/flat-memory.ts';

const NEXT = VIRTQ_DESC_F_NEXT;
const WRITE = VIRTQ_DESC_F_WRITE;
const INDIRECT = VIRTQ_DESC_F_INDIRECT;

interface Setup {
  readonly size?: number;
  readonly eventIdx?: boolean;
  readonly indirect?: boolean;
  readonly memorySize?: number;
}

/** A device queue and the driver's half over the same memory. */
function setUp({ size = 8, eventIdx = false, indirect = true, memorySize = 1 << 20 }: Setup = {}) {
  const memory = new FlatMemory(memorySize);
  const driver = new FakeQueue(memory, size, eventIdx ? 'event-idx' : 'flags');
  let interrupts = 0;
  const queue = new SplitQueue({
    memory,
    size,
    addresses: { descriptors: driver.descriptors, avail: driver.avail, used: driver.used },
    eventIdx,
    indirect,
    interrupt: () => interrupts++,
  });
  const buffer = (bytes: number[]) => {
    const address = memory.allocate(bytes.length);
    memory.bytes(address, bytes.length).set(bytes);
    return address;
  };
  return { memory, driver, queue, buffer, interrupts: () => interrupts };
}

const readAll = (chain: Chain) => {
  const bytes = new Uint8Array(chain.readableBytes);
  chain.read(bytes);
  return [...bytes];
};

describe('taking requests', () => {
  test('an empty ring has none', () => {
    expect(setUp().queue.pop()).toBeUndefined();
  });

  test('come in the order the driver made them available, each once', () => {
    const { queue, driver, buffer } = setUp();
    driver.add([{ address: buffer([1]), length: 1 }]);
    driver.add([{ address: buffer([2]), length: 1 }]);
    const taken = [queue.pop(), queue.pop(), queue.pop()];
    expect(taken.map((chain) => chain && readAll(chain))).toEqual([[1], [2], undefined]);
  });

  test('are the readable segments in order, then room in the writable ones', () => {
    const { queue, driver, buffer, memory } = setUp();
    const response = memory.allocate(6);
    driver.add([
      { address: buffer([1, 2]), length: 2 },
      { address: buffer([3]), length: 1 },
      { address: response, length: 2, flags: WRITE },
      { address: response + 2, length: 4, flags: WRITE },
    ]);
    const chain = queue.pop() as Chain;
    expect(readAll(chain)).toEqual([1, 2, 3]);
    expect(chain.writableBytes).toBe(6);
    expect(chain.write(Uint8Array.of(9, 8, 7, 6, 5))).toBe(5);
    expect([...memory.bytes(response, 6)]).toEqual([9, 8, 7, 6, 5, 0]);
  });

  test('can be read from any byte on', () => {
    const { queue, driver, buffer } = setUp();
    driver.add([1, 2, 3].map((value) => ({ address: buffer([value, value + 10]), length: 2 })));
    const chain = queue.pop() as Chain;
    const part = new Uint8Array(3);
    expect(chain.read(part, 1)).toBe(3);
    expect([...part]).toEqual([11, 2, 12]);
    expect(chain.read(part, 5)).toBe(1);
    expect(chain.read(part, 6)).toBe(0);
  });

  test('a response longer than the room is cut, not padded', () => {
    const { queue, driver, buffer, memory } = setUp();
    const response = memory.allocate(4);
    driver.add([
      { address: buffer([1]), length: 1 },
      { address: response, length: 2, flags: WRITE },
    ]);
    expect((queue.pop() as Chain).write(Uint8Array.of(5, 6, 7))).toBe(2);
    expect([...memory.bytes(response, 4)]).toEqual([5, 6, 0, 0]);
  });

  test('a request split over 24 descriptors of one byte is whole again', () => {
    const { queue, driver, buffer } = setUp({ size: 32 });
    const bytes = Array.from({ length: 24 }, (_, i) => i);
    driver.add(bytes.map((value) => ({ address: buffer([value]), length: 1 })));
    expect(readAll(queue.pop() as Chain)).toEqual(bytes);
  });

  test('a segment that spans two mappings is read and written across them', () => {
    const { queue, driver, memory } = setUp();
    memory.map(0x80_0000, 0x1000);
    memory.map(0x80_1000, 0x1000);
    memory.bytes(0x80_0ffe, 2).set([1, 2]);
    memory.bytes(0x80_1000, 2).set([3, 4]);
    driver.add([
      { address: 0x80_0ffe, length: 4 },
      { address: 0x80_0ffd, length: 4, flags: WRITE },
    ]);
    const chain = queue.pop() as Chain;
    expect(readAll(chain)).toEqual([1, 2, 3, 4]);
    expect(chain.write(Uint8Array.of(5, 6, 7, 8))).toBe(4);
    expect([...memory.bytes(0x80_1000, 1)]).toEqual([8]);
  });

  test('descriptors of length 0 between others are skipped', () => {
    const { queue, driver, buffer } = setUp();
    const address = buffer([7]);
    driver.add([
      { address, length: 0 },
      { address, length: 1 },
      { address: 0, length: 0, flags: WRITE },
    ]);
    const chain = queue.pop() as Chain;
    expect(readAll(chain)).toEqual([7]);
    expect(chain.writableBytes).toBe(0);
  });

  test('1026 segments, a 4 MiB command stream in scattered pages, are one request', () => {
    const { queue, driver, buffer } = setUp({ memorySize: 8 << 20 });
    const address = buffer([1, 2, 3, 4]);
    driver.addIndirect(Array.from({ length: 1026 }, () => ({ address, length: 4 })));
    expect((queue.pop() as Chain).readableBytes).toBe(4104);
  });

  test('an indirect table may be longer than the queue', () => {
    const { queue, driver, buffer } = setUp({ size: 2 });
    driver.addIndirect([1, 2, 3, 4].map((value) => ({ address: buffer([value]), length: 1 })));
    expect(readAll(queue.pop() as Chain)).toEqual([1, 2, 3, 4]);
  });

  test('normal descriptors may come before the one that refers to a table', () => {
    const { queue, driver, buffer, memory } = setUp();
    const table = memory.allocate(16);
    driver.setDescriptor(0, { address: buffer([2]), length: 1 }, table);
    driver.add([
      { address: buffer([1]), length: 1 },
      { address: table, length: 16, flags: INDIRECT },
    ]);
    expect(readAll(queue.pop() as Chain)).toEqual([1, 2]);
  });

  test('the WRITE flag on a descriptor that refers to a table means nothing', () => {
    const { queue, driver, buffer, memory } = setUp();
    const table = memory.allocate(16);
    driver.setDescriptor(0, { address: buffer([2]), length: 1 }, table);
    driver.add([{ address: table, length: 16, flags: INDIRECT | WRITE }]);
    expect(readAll(queue.pop() as Chain)).toEqual([2]);
  });

  test('a ring of one descriptor works', () => {
    const { queue, driver, buffer } = setUp({ size: 1 });
    for (const value of [1, 2, 3]) {
      driver.add([{ address: buffer([value]), length: 1 }]);
      const chain = queue.pop() as Chain;
      expect(readAll(chain)).toEqual([value]);
      queue.complete(chain, 0);
      queue.flush();
    }
    expect(driver.takeUsed()).toHaveLength(3);
  });

  test('survive a change of the memory map between two of them', () => {
    const { queue, driver, buffer, memory } = setUp();
    driver.add([{ address: buffer([1]), length: 1 }]);
    expect(queue.pop()).toBeDefined();
    memory.map(0x80_0000, 0x1000);
    driver.add([{ address: buffer([2]), length: 1 }]);
    expect(readAll(queue.pop() as Chain)).toEqual([2]);
  });
});

describe('a broken ring', () => {
  const broken = (corrupt: (setup: ReturnType<typeof setUp>) => void, options?: Setup) => {
    const setup = setUp(options);
    corrupt(setup);
    expect(() => setup.queue.pop()).toThrow(QueueBroken);
  };
  const oneTable = (descriptors: Descriptor[], options?: Setup) =>
    broken(({ driver, memory }) => {
      const table = memory.allocate(16 * descriptors.length);
      for (const [i, descriptor] of descriptors.entries()) driver.setDescriptor(i, descriptor, table);
      driver.add([{ address: table, length: 16 * descriptors.length, flags: INDIRECT }]);
    }, options);

  test('avail index jumps by more than the queue size', () => {
    broken(({ driver }) => driver.setAvailIdx(9));
  });

  test('avail index moves backwards', () => {
    broken(({ driver }) => driver.setAvailIdx(-1));
  });

  test('head beyond the table', () => {
    broken(({ driver }) => driver.makeAvailable(8));
  });

  test('next beyond the table', () => {
    broken(({ driver, buffer }) => {
      driver.setDescriptor(0, { address: buffer([1]), length: 1, flags: NEXT, next: 8 });
      driver.makeAvailable(0);
    });
  });

  test.each([0, 1])('chain that loops back to descriptor %i', (target) => {
    broken(({ driver, buffer }) => {
      const address = buffer([1]);
      driver.setDescriptor(0, { address, length: 1, flags: NEXT, next: 1 });
      driver.setDescriptor(1, { address, length: 1, flags: NEXT, next: target });
      driver.makeAvailable(0);
    });
  });

  test('loop of descriptors without bytes', () => {
    broken(({ driver }) => {
      driver.setDescriptor(0, { address: 0, length: 0, flags: NEXT, next: 0 });
      driver.makeAvailable(0);
    });
  });

  test('indirect table inside an indirect table', () => {
    oneTable([{ address: 0x10_0000, length: 16, flags: INDIRECT }]);
  });

  test('indirect descriptor that refers to its own table', () => {
    broken(({ driver }) => {
      driver.add([{ address: driver.descriptors, length: 16 * 8, flags: INDIRECT }]);
    });
  });

  test('INDIRECT and NEXT together', () => {
    broken(({ driver, memory }) => {
      driver.setDescriptor(0, { address: memory.allocate(16), length: 16, flags: INDIRECT | NEXT, next: 1 });
      driver.makeAvailable(0);
    });
  });

  test('INDIRECT that was not negotiated', () => {
    oneTable([{ address: 0x10_0000, length: 1 }], { indirect: false });
  });

  test.each([0, 8, 17, 16 * 4097, 2 ** 32 - 16])('indirect table of %i bytes', (length) => {
    broken(({ driver, memory }) => {
      driver.add([{ address: memory.allocate(64), length, flags: INDIRECT }]);
    });
  });

  test('indirect table that crosses the end of memory', () => {
    broken(({ driver }) => {
      driver.add([{ address: 0x10_0000 + (1 << 20) - 16, length: 32, flags: INDIRECT }]);
    });
  });

  test('next beyond the indirect table', () => {
    oneTable([
      { address: 0x10_0000, length: 1, flags: NEXT, next: 2 },
      { address: 0x10_0000, length: 1 },
    ]);
  });

  test('readable descriptor after a writable one', () => {
    broken(({ driver, buffer }) => {
      driver.add([
        { address: buffer([1]), length: 1, flags: WRITE },
        { address: buffer([1]), length: 1 },
      ]);
    });
  });

  test('chain of no bytes at all', () => {
    broken(({ driver, buffer }) => {
      driver.add([{ address: buffer([1]), length: 0 }]);
    });
  });

  test.each([
    ['wraps 2^64', 2 ** 64 - 2048, 4096],
    ['lies beyond 2^53', 2 ** 60, 16],
    ['lies in a hole', 0x4000_0000, 16],
    ['runs past the end of memory', 0x10_0000 + (1 << 20) - 8, 16],
  ])('descriptor that %s', (_, address, length) => {
    broken(({ driver }) => {
      driver.add([{ address, length }]);
    });
  });

  test('writable descriptor in read-only memory', () => {
    broken(({ driver, memory }) => {
      memory.map(0xfffc_0000, 0x1000, false);
      driver.add([{ address: 0xfffc_0000, length: 16, flags: WRITE }]);
    });
  });

  test('more segments than the limit', () => {
    broken(
      ({ driver, buffer, memory }) => {
        const address = buffer([1]);
        const table = memory.allocate(16 * 4096);
        for (let i = 0; i < 4096; i++) {
          driver.setDescriptor(i, { address, length: 1, flags: i < 4095 ? NEXT : 0, next: i + 1 }, table);
        }
        driver.add([
          { address, length: 1 },
          { address: table, length: 16 * 4096, flags: INDIRECT },
        ]);
        expect(MAX_SEGMENTS).toBe(4096);
      },
      { memorySize: 4 << 20 },
    );
  });

  test('chain of 4 GiB', () => {
    broken(
      ({ driver, memory }) => {
        const table = memory.allocate(16 * 4096);
        for (let i = 0; i < 4096; i++) {
          const flags = i < 4095 ? NEXT : 0;
          driver.setDescriptor(i, { address: 0x10_0000, length: 1 << 20, flags, next: i + 1 }, table);
        }
        driver.add([{ address: table, length: 16 * 4096, flags: INDIRECT }]);
      },
      { memorySize: 4 << 20 },
    );
  });

  test('head made available again while the device still holds it', () => {
    const { queue, driver, buffer } = setUp();
    const head = driver.add([{ address: buffer([1]), length: 1 }]);
    expect(queue.pop()).toBeDefined();
    driver.makeAvailable(head);
    expect(() => queue.pop()).toThrow('made available twice');
  });

  test('ring memory that was unmapped', () => {
    const { queue, driver, buffer, memory } = setUp();
    driver.add([{ address: buffer([1]), length: 1 }]);
    memory.unmap(0x10_0000);
    expect(() => queue.pop()).toThrow(QueueBroken);
  });

  test.each([
    ['descriptors at an address that is not a multiple of 16', { descriptors: 8, avail: 0, used: 0 }],
    ['avail ring at an odd address', { descriptors: 0, avail: 1, used: 0 }],
    ['used ring at an address that is not a multiple of 4', { descriptors: 0, avail: 0, used: 2 }],
    ['descriptors in a hole', { descriptors: 0x4000_0000, avail: 0, used: 0 }],
    ['used ring that runs past the end', { descriptors: 0, avail: 0, used: (1 << 20) - 16 }],
  ])('%s is refused when the queue is made', (_, offsets) => {
    const memory = new FlatMemory();
    const addresses = {
      descriptors: 0x10_0000 + offsets.descriptors,
      avail: 0x10_0000 + offsets.avail,
      used: 0x10_0000 + offsets.used,
    };
    const make = () =>
      new SplitQueue({ memory, size: 8, addresses, eventIdx: true, indirect: true, interrupt: () => {} });
    expect(make).toThrow(QueueBroken);
  });

  test('used ring over the avail ring hurts nobody but the guest', () => {
    const memory = new FlatMemory();
    const driver = new FakeQueue(memory, 8, 'flags');
    const addresses = { descriptors: driver.descriptors, avail: driver.avail, used: driver.avail & ~3 };
    const queue = new SplitQueue({
      memory,
      size: 8,
      addresses,
      eventIdx: false,
      indirect: true,
      interrupt: () => {},
    });
    const address = memory.allocate(1);
    const run = () => {
      for (let i = 0; i < 100; i++) {
        driver.add([{ address, length: 1 }]);
        const chain = queue.pop();
        if (chain) queue.complete(chain, 0);
        queue.flush();
      }
    };
    expect(() => {
      try {
        run();
      } catch (error) {
        if (!(error instanceof QueueBroken)) throw error;
      }
    }).not.toThrow();
  });
});

describe('giving requests back', () => {
  test('the driver sees nothing before the flush, then everything with its written length', () => {
    const { queue, driver, buffer } = setUp();
    const heads = [1, 2].map((value) => driver.add([{ address: buffer([value]), length: 1 }]));
    const chains = [queue.pop() as Chain, queue.pop() as Chain];
    queue.complete(chains[1] as Chain, 24);
    queue.complete(chains[0] as Chain, 0);
    expect(driver.usedIdx).toBe(0);
    queue.flush();
    expect(driver.takeUsed()).toEqual([
      { head: heads[1], written: 24 },
      { head: heads[0], written: 0 },
    ]);
  });

  test('a batch interrupts once', () => {
    const { queue, driver, buffer, interrupts } = setUp();
    for (const value of [1, 2, 3]) driver.add([{ address: buffer([value]), length: 1 }]);
    for (let chain = queue.pop(); chain; chain = queue.pop()) queue.complete(chain, 0);
    queue.flush();
    queue.flush();
    expect(interrupts()).toBe(1);
  });

  test('a flush with nothing new does nothing', () => {
    const { queue, interrupts } = setUp();
    queue.flush();
    expect(interrupts()).toBe(0);
  });

  test('without EVENT_IDX the driver turns interrupts off with a flag', () => {
    const { queue, driver, buffer, interrupts } = setUp();
    driver.setAvailFlags(1);
    driver.add([{ address: buffer([1]), length: 1 }]);
    queue.complete(queue.pop() as Chain, 0);
    queue.flush();
    expect(interrupts()).toBe(0);
  });

  test('with EVENT_IDX the interrupt comes when the used index passes the event', () => {
    const { queue, driver, buffer, interrupts } = setUp({ eventIdx: true });
    const finishOne = () => {
      driver.add([{ address: buffer([1]), length: 1 }]);
      queue.complete(queue.pop() as Chain, 0);
      queue.flush();
    };
    finishOne();
    expect(interrupts()).toBe(1);
    driver.setUsedEvent(2);
    finishOne();
    expect(interrupts()).toBe(1);
    finishOne();
    expect(interrupts()).toBe(2);
  });

  test('held requests are counted until they are completed', () => {
    const { queue, driver, buffer } = setUp();
    driver.add([{ address: buffer([1]), length: 1 }]);
    const chain = queue.pop() as Chain;
    expect(queue.heldCount).toBe(1);
    queue.complete(chain, 0);
    expect(queue.heldCount).toBe(0);
  });
});

describe('doorbells', () => {
  test('without EVENT_IDX are switched off while there is work and on when there is none', () => {
    const { queue, driver, buffer } = setUp();
    expect(driver.wantsDoorbell).toBe(true);
    driver.add([{ address: buffer([1]), length: 1 }]);
    queue.pop();
    expect(driver.wantsDoorbell).toBe(false);
    queue.pop();
    expect(driver.wantsDoorbell).toBe(true);
  });

  test('with EVENT_IDX the event index follows only when the ring is empty', () => {
    const { queue, driver, buffer } = setUp({ eventIdx: true });
    driver.add([{ address: buffer([1]), length: 1 }]);
    driver.add([{ address: buffer([2]), length: 1 }]);
    queue.pop();
    queue.pop();
    expect(driver.availEvent).toBe(0);
    queue.pop();
    expect(driver.availEvent).toBe(2);
    expect(driver.wantsDoorbell).toBe(true);
  });
});

describe('properties', () => {
  /** What the specification says in words: is `event` one of the indices from `from` to `to - 1`? */
  function naivePasses(event: number, from: number, to: number): boolean {
    for (let index = from; index !== to; index = (index + 1) & 0xffff) if (index === event) return true;
    return false;
  }

  test('event index arithmetic agrees with counting, also across the wrap', () => {
    const near = fc.integer({ min: -40, max: 40 }).map((offset) => offset & 0xffff);
    const anywhere = fc.integer({ min: 0, max: 0xffff });
    fc.assert(
      fc.property(
        fc.oneof(near, anywhere),
        fc.integer({ min: 0, max: 64 }),
        fc.integer({ min: -70, max: 70 }),
        (from, step, distance) => {
          const to = (from + step) & 0xffff;
          const event = (from + distance) & 0xffff;
          return passesEvent(event, from, to) === naivePasses(event, from, to);
        },
      ),
      { numRuns: 2000 },
    );
  });

  test('the walk of any descriptor table ends, and never with more segments than descriptors', () => {
    const descriptor = fc.record({
      address: fc.constantFrom(0x10_0000, 0x10_8000, 0x4000_0000, 2 ** 60),
      length: fc.constantFrom(0, 1, 16, 64, 4096, 2 ** 32 - 1),
      flags: fc.integer({ min: 0, max: 7 }),
      next: fc.integer({ min: 0, max: 9 }),
    });
    fc.assert(
      fc.property(
        fc.array(descriptor, { minLength: 8, maxLength: 8 }),
        fc.integer({ min: 0, max: 9 }),
        (table, head) => {
          const { queue, driver } = setUp();
          for (const [i, entry] of table.entries()) driver.setDescriptor(i, entry);
          driver.makeAvailable(head);
          try {
            const chain = queue.pop() as Chain;
            return chain.readableBytes + chain.writableBytes > 0;
          } catch (error) {
            return error instanceof QueueBroken;
          }
        },
      ),
      { numRuns: 2000 },
    );
  });

  test('any series of requests, completions and flushes returns each head once and never one too many', () => {
    type Step = 'add' | 'pop' | 'complete' | 'completeNewest' | 'flush';
    const step = fc.constantFrom<Step>('add', 'add', 'pop', 'pop', 'complete', 'completeNewest', 'flush');
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), fc.boolean(), (steps, eventIdx) => {
        const { queue, driver, buffer, memory } = setUp({ size: 4, eventIdx, memorySize: 4 << 20 });
        const address = buffer([1]);
        const model = { outstanding: new Set<number>(), held: [] as Chain[] };
        const free = [0, 1, 2, 3];
        for (const action of steps) {
          if (action === 'add' && free.length > 0) {
            const head = free.shift() as number;
            driver.setDescriptor(head, { address, length: 1 });
            driver.makeAvailable(head);
            model.outstanding.add(head);
          } else if (action === 'pop') {
            const chain = queue.pop();
            if (chain) model.held.push(chain);
          } else if (action === 'complete' || action === 'completeNewest') {
            const chain = action === 'complete' ? model.held.shift() : model.held.pop();
            if (chain) queue.complete(chain, 0);
          } else if (action === 'flush') {
            queue.flush();
            for (const { head } of driver.takeUsed()) {
              if (!model.outstanding.delete(head)) return false;
              free.push(head);
            }
          }
          if (((driver.availIdx - driver.usedIdx) & 0xffff) > 4) return false;
        }
        return memory.epoch === 1;
      }),
    );
  });
});
