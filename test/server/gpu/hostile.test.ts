/**
 * What a hostile guest can send to the 2D device, and the answer it gets. The numbers in brackets are the rows of
 * the project's table of hostile input; rows 1 to 20 and 26 to 40 concern rings and registers and stand in
 * `test/pci/`.
 */
import { ftruncateSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createMemfd } from '../../../native/index.ts';
import {
  type Entry,
  GpuMachine,
  OK,
  OUT_OF_MEMORY,
  PARAMETER,
  RESOURCE_ID,
  SCANOUT_ID,
  UNSPEC,
} from '../../support/gpu-machine.ts';
import { reopen } from '../../support/real-memory.ts';

const FULL = { x: 0, y: 0, width: 64, height: 48 };
const NEEDS_RESET = 64;
const code = (machine: GpuMachine, address: number) => machine.memory.data(address, 4).getUint32(0, true);

describe('shapes of a request', () => {
  test('only room for an answer: UNSPEC where it fits (21)', () => {
    using machine = new GpuMachine();
    const room = machine.room(24);
    expect(machine.sendChain(0, [room])).toBe(24);
    expect(code(machine, room.address)).toBe(UNSPEC);
    expect(machine.sendChain(0, [machine.room(23)])).toBe(0);
  });

  test('no room for an answer: executed, used length 0 (22)', () => {
    using machine = new GpuMachine();
    expect(machine.sendChain(0, [machine.segment(GpuMachine.bytes(0x101, [1, 2, 64, 48]))])).toBe(0);
    expect(machine.unref(1)).toBe(OK);
  });

  test.each([1, 4, 23])('room for %i bytes: that many, exactly (23)', (length) => {
    using machine = new GpuMachine();
    const room = machine.room(length);
    expect(machine.sendChain(0, [machine.segment(GpuMachine.bytes(0x100, [])), room])).toBe(length);
  });

  test('header split over 24 descriptors of one byte: normal (24)', () => {
    using machine = new GpuMachine();
    const bytes = GpuMachine.bytes(0x101, [1, 2, 64, 48]);
    const room = machine.room(24);
    const segments = [...bytes].map((byte) => machine.segment(Uint8Array.of(byte)));
    expect(machine.sendChain(0, [...segments, room])).toBe(24);
    expect(code(machine, room.address)).toBe(OK);
  });

  test('64 KiB for a command of 32 bytes: the tail is ignored (25)', () => {
    using machine = new GpuMachine();
    const bytes = new Uint8Array(65536).fill(0xff);
    bytes.set(GpuMachine.bytes(0x102, [1, 0]));
    machine.create(1, 64, 48);
    expect(machine.send(bytes).type).toBe(OK);
  });

  test.each([0, 0x1100, 0x1200, 0x9999, 0xffff_ffff, 0x300, 0x301])(
    'type %i on queue 0: UNSPEC (42)',
    (type) => {
      using machine = new GpuMachine();
      expect(machine.command(type, 0, 0, 0, 0, 0, 0, 0, 0)).toBe(UNSPEC);
    },
  );

  test.each([0x100, 0x101, 0x104])('type %i on queue 1: ignored, used length 0 (42)', (type) => {
    using machine = new GpuMachine();
    const segment = machine.segment(GpuMachine.bytes(type, [1, 2, 64, 48, 0, 0, 0, 0]));
    expect(machine.sendChain(1, [segment, machine.room(24)])).toBe(0);
    expect(machine.unref(1)).toBe(RESOURCE_ID);
  });

  test.each([1, 8, 23])('%i bytes, no whole header: PARAMETER without a fence (43)', (length) => {
    using machine = new GpuMachine();
    const bytes = GpuMachine.bytes(0x102, [1, 0], { flags: 1, fenceId: 7n }).subarray(0, length);
    expect(machine.send(bytes)).toMatchObject({ type: PARAMETER, flags: 0, fenceId: 0n });
  });

  test.each([
    [0x101, 39],
    [0x102, 31],
    [0x103, 47],
    [0x104, 47],
    [0x105, 55],
    [0x106, 31],
    [0x107, 31],
    [0x108, 31],
    [0x109, 31],
    [0x10a, 31],
  ])('command 0x%s cut to %i bytes: PARAMETER, with its fence (44)', (type, length) => {
    using machine = new GpuMachine();
    const words = [1, 2, 64, 48, 0, 0, 0, 0];
    const bytes = GpuMachine.bytes(type, words, { flags: 1, fenceId: 7n }).subarray(0, length);
    expect(machine.send(bytes)).toMatchObject({ type: PARAMETER, flags: 1, fenceId: 7n });
  });

  test('unknown header flags: ignored (45)', () => {
    using machine = new GpuMachine();
    const reply = machine.send(GpuMachine.bytes(0x101, [1, 2, 64, 48], { flags: 0xffff_fff8 }));
    expect(reply).toMatchObject({ type: OK, flags: 0 });
  });

  test.each([0, 63, 64, 255])(
    'ring %i without CONTEXT_INIT: PARAMETER, fence and ring echoed (47)',
    (ringIdx) => {
      using machine = new GpuMachine();
      const fence = { flags: 3, fenceId: 5n, ctxId: 1, ringIdx };
      expect(machine.send(GpuMachine.bytes(0x101, [1, 2, 64, 48], fence))).toMatchObject({
        type: PARAMETER,
        ...fence,
      });
    },
  );

  test('fence on a failing command: the error carries it (48)', () => {
    using machine = new GpuMachine();
    const reply = machine.send(GpuMachine.bytes(0x104, [0, 0, 1, 1, 77, 0], { flags: 1, fenceId: 11n }));
    expect(reply).toMatchObject({ type: RESOURCE_ID, flags: 1, fenceId: 11n });
  });

  test('thousands of fenced commands: none is held back (49)', () => {
    using machine = new GpuMachine();
    machine.create(1, 64, 48);
    for (let i = 0; i < 2000; i++) {
      machine.driver
        .queue(0)
        .add([machine.segment(GpuMachine.bytes(0x104, [0, 0, 1, 1, 1, 0], { flags: 1 }))]);
      if (i % 200 === 199) machine.driver.kick(0).run();
    }
    expect(machine.driver.queue(0).takeUsed().length % 256).toBe(2000 % 256);
    expect(machine.fn.queueDepths).toEqual([0, 0]);
  });
});

describe('commands of features that are not offered', () => {
  test.each([0x10c, 0x10d])('blob command 0x%s: PARAMETER', (type) => {
    using machine = new GpuMachine();
    expect(machine.command(type, ...new Array(20).fill(0))).toBe(PARAMETER);
  });

  test.each([0x10b, 0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207, 0x208, 0x209])(
    'command 0x%s: UNSPEC',
    (type) => {
      using machine = new GpuMachine();
      expect(machine.command(type, ...new Array(20).fill(0))).toBe(UNSPEC);
    },
  );

  test('capsets: PARAMETER for any index, id and version (79)', () => {
    using machine = new GpuMachine();
    expect(machine.command(0x108, 0, 0)).toBe(PARAMETER);
    expect(machine.command(0x109, 0, 0)).toBe(PARAMETER);
    expect(machine.command(0x109, 1, 99)).toBe(PARAMETER);
  });
});

describe('resources', () => {
  test('of impossible size: refused without allocation (50, 51)', () => {
    using machine = new GpuMachine();
    expect(machine.create(1, 65535, 65535)).toBe(PARAMETER);
    expect(machine.create(1, 2 ** 31, 2)).toBe(PARAMETER);
    expect(machine.create(1, 16384, 16384)).toBe(OUT_OF_MEMORY);
    expect(machine.create(1, 0, 5)).toBe(PARAMETER);
    expect(machine.gpu.counters.resources).toBe(0);
  });

  test('a million small ones: OUT_OF_MEMORY at the limit (53)', () => {
    using machine = new GpuMachine({ limits: { maxResources: 100 } });
    const codes = Array.from({ length: 150 }, (_, i) => machine.create(i + 1, 1, 1));
    expect(codes.filter((one) => one === OK)).toHaveLength(100);
    expect(new Set(codes.slice(100))).toEqual(new Set([OUT_OF_MEMORY]));
  });

  test('the host running out of memory is OUT_OF_MEMORY, and a line in the log', () => {
    const lines: string[] = [];
    const log = {
      debug: () => {},
      info: () => {},
      error: () => {},
      warn: (_: object, text: string) => lines.push(text),
    };
    using machine = new GpuMachine({ log, limits: { maxResourceBytes: 2 ** 50, maxDimension: 2 ** 31 } });
    expect(machine.create(1, 2 ** 31, 2 ** 14)).toBe(OUT_OF_MEMORY);
    expect(lines).toEqual(['the host failed']);
    expect(machine.gpu.counters.resourceBytes).toBe(0);
  });
});

describe('memory entries', () => {
  test('more announced than there are: UNSPEC before allocation (54)', () => {
    using machine = new GpuMachine();
    machine.create(1, 64, 48);
    const entry = { address: machine.memory.address, length: 16 };
    expect(machine.attach(1, [entry], 0xffff_ffff)).toBe(UNSPEC);
    expect(machine.attach(1, [entry], 2)).toBe(UNSPEC);
    expect(machine.attach(1, [entry], 0)).toBe(UNSPEC);
  });

  test('more than the limit: UNSPEC', () => {
    using machine = new GpuMachine({ limits: { maxEntriesPerResource: 4, maxEntries: 6 } });
    const entry = { address: machine.memory.address, length: 16 };
    for (const id of [1, 2, 3]) machine.create(id, 64, 48);
    expect(machine.attach(1, new Array<Entry>(5).fill(entry))).toBe(UNSPEC);
    expect(machine.attach(1, new Array<Entry>(4).fill(entry))).toBe(OK);
    expect(machine.attach(2, new Array<Entry>(3).fill(entry))).toBe(UNSPEC);
    expect(machine.attach(2, new Array<Entry>(2).fill(entry))).toBe(OK);
    machine.detach(1);
    expect(machine.attach(3, new Array<Entry>(4).fill(entry))).toBe(OK);
  });

  test.each([
    ['near 2^64', 2 ** 64 - 2048, 0xffff_ffff],
    ['at 2^53', 2 ** 53, 16],
    ['over a hole', 0x8000_0000, 4096],
    ['across the end of memory', 0x10_0000 + (64 << 20) - 16, 32],
  ])('%s: UNSPEC (55, 57)', (_, address, length) => {
    using machine = new GpuMachine();
    machine.create(1, 64, 48);
    expect(machine.attach(1, [{ address, length }])).toBe(UNSPEC);
    expect(machine.gpu.counters.memoryEntries).toBe(0);
  });

  test('over a window without file, as a BAR of the device is announced: UNSPEC (57)', () => {
    using machine = new GpuMachine();
    const window = {
      address: 0xe000_0000,
      sizeBytes: 0x1000_0000,
      readable: true,
      writable: true,
      fileOffset: 0,
    };
    machine.memory.dma.map(window, undefined);
    machine.create(1, 64, 48);
    expect(machine.attach(1, [{ address: 0xe000_0000, length: 4096 }])).toBe(UNSPEC);
  });

  test('over the rings: allowed, and only read (57)', () => {
    using machine = new GpuMachine();
    const { descriptors, size } = machine.driver.queue(0);
    machine.create(1, 32, 32);
    expect(machine.attach(1, [{ address: descriptors, length: 16 * size }])).toBe(OK);
    expect(machine.transfer(1, { x: 0, y: 0, width: 32, height: 32 })).toBe(OK);
    expect(machine.unref(1)).toBe(OK);
  });

  test('of length 0: accepted and skipped (56)', () => {
    using machine = new GpuMachine();
    const address = machine.memory.allocate(64 * 48 * 4, 4096);
    machine.paint(address, 64, 48, () => [1, 2, 3, 0]);
    machine.create(1, 64, 48);
    const entries = [
      { address: 2 ** 60, length: 0 },
      { address, length: 64 * 48 * 4 },
      { address: 0, length: 0 },
    ];
    expect(machine.attach(1, entries)).toBe(OK);
    expect(machine.transfer(1, FULL)).toBe(OK);
    machine.setScanout(0, 1, FULL);
    expect(machine.pixel(63, 47)).toEqual([3, 2, 1]);
  });

  test('one page 65536 times: allowed, and costs nothing by its length (58)', () => {
    using machine = new GpuMachine();
    machine.create(1, 64, 48);
    const before = machine.gpu.counters.resourceBytes;
    const page = { address: machine.memory.allocate(4096, 4096), length: 4096 };
    expect(machine.attach(1, new Array<Entry>(65_536).fill(page))).toBe(OK);
    expect(machine.transfer(1, FULL)).toBe(OK);
    expect(machine.gpu.counters.resourceBytes).toBe(before);
  });

  test('attached or detached twice: UNSPEC (59)', () => {
    using machine = new GpuMachine();
    machine.makeResource(1, 64, 48);
    expect(machine.attach(1, [{ address: machine.memory.address, length: 16 }])).toBe(UNSPEC);
    expect(machine.detach(1)).toBe(OK);
    expect(machine.detach(1)).toBe(UNSPEC);
  });
});

describe('transfers and flushes', () => {
  test('from backing smaller than the image: what exists is copied, the rest unchanged, OK (60)', () => {
    using machine = new GpuMachine();
    const address = machine.memory.allocate(64 * 48 * 4, 4096);
    machine.paint(address, 64, 48, () => [1, 2, 3, 0]);
    machine.create(1, 64, 48);
    machine.attach(1, [{ address, length: 64 * 4 * 10 + 40 }]);
    expect(machine.transfer(1, FULL)).toBe(OK);
    machine.setScanout(0, 1, FULL);
    expect([machine.pixel(63, 9), machine.pixel(9, 10), machine.pixel(10, 10)]).toEqual([
      [3, 2, 1],
      [3, 2, 1],
      [0, 0, 0],
    ]);
  });

  test.each([2 ** 63, 2 ** 53, 2 ** 32, 64 * 48 * 4])(
    'from offset %i: OK with nothing copied (61)',
    (offset) => {
      using machine = new GpuMachine();
      machine.makeResource(1, 64, 48);
      expect(machine.transfer(1, FULL, offset)).toBe(OK);
      expect(machine.gpu.counters.copiedBytes).toBe(0);
    },
  );

  test('from the largest offset there is: OK with nothing copied (61)', () => {
    using machine = new GpuMachine();
    machine.makeResource(1, 64, 48);
    expect(machine.command(0x105, 0, 0, 64, 48, 0xffff_ffff, 0xffff_ffff, 1, 0)).toBe(OK);
    expect(machine.gpu.counters.copiedBytes).toBe(0);
  });

  test.each([
    { x: 0xffff_ffff, y: 0, width: 2, height: 1 },
    { x: 0, y: 0xffff_ffff, width: 1, height: 2 },
    { x: 65, y: 0, width: 0, height: 0 },
    { x: 1, y: 0, width: 64, height: 1 },
    { x: 0, y: 1, width: 1, height: 48 },
    { x: 0, y: 0, width: 0xffff_ffff, height: 0xffff_ffff },
  ])('of rectangle %o: PARAMETER (62)', (rect) => {
    using machine = new GpuMachine();
    machine.makeResource(1, 64, 48);
    expect(machine.transfer(1, rect)).toBe(PARAMETER);
    expect(machine.flush(1, rect)).toBe(PARAMETER);
  });

  test.each([
    { x: 0, y: 0, width: 0, height: 48 },
    { x: 64, y: 48, width: 0, height: 0 },
    { x: 3, y: 4, width: 5, height: 0 },
  ])('of empty rectangle %o: OK, nothing (63)', (rect) => {
    using machine = new GpuMachine();
    machine.makeResource(1, 64, 48);
    machine.setScanout(0, 1, FULL);
    expect(machine.transfer(1, rect)).toBe(OK);
    expect(machine.flush(1, rect)).toBe(OK);
    expect(machine.gpu.counters.copiedBytes).toBe(0);
    expect(machine.screens[0]?.flushes).toBe(0);
  });

  test('of an unknown resource: RESOURCE_ID; without backing: UNSPEC', () => {
    using machine = new GpuMachine();
    expect(machine.transfer(9, FULL)).toBe(RESOURCE_ID);
    expect(machine.flush(9, FULL)).toBe(RESOURCE_ID);
    machine.create(1, 64, 48);
    expect(machine.transfer(1, FULL)).toBe(UNSPEC);
  });
});

describe('scanouts', () => {
  test.each([1, 16, 0xffff_ffff])('%i: SCANOUT_ID (65)', (scanout) => {
    using machine = new GpuMachine();
    machine.makeResource(1, 64, 48);
    expect(machine.setScanout(scanout, 1, FULL)).toBe(SCANOUT_ID);
  });

  test.each([
    { x: 0, y: 0, width: 1, height: 1 },
    { x: 60, y: 0, width: 16, height: 16 },
    { x: 0xffff_fff0, y: 0, width: 32, height: 32 },
  ])('of rectangle %o: PARAMETER (66)', (rect) => {
    using machine = new GpuMachine();
    machine.makeResource(1, 64, 48);
    expect(machine.setScanout(0, 1, rect)).toBe(PARAMETER);
  });

  test('whose resource goes away are blank, its id is free at once (70, 71)', () => {
    using machine = new GpuMachine();
    machine.makeResource(1, 64, 48);
    machine.setScanout(0, 1, FULL);
    machine.updateCursor(0, 1, 0, 0);
    expect(machine.unref(1)).toBe(OK);
    expect(machine.screens[0]?.picture).toBeUndefined();
    expect(machine.create(1, 32, 32)).toBe(OK);
    expect(machine.flush(1, { x: 0, y: 0, width: 32, height: 32 })).toBe(OK);
    expect(machine.screens[0]?.picture).toBeUndefined();
  });

  test('that change a thousand times: only the last one counts (91)', () => {
    using machine = new GpuMachine();
    machine.makeResource(1, 256, 256);
    for (let i = 0; i < 1000; i++)
      machine.setScanout(0, 1, { x: 0, y: 0, width: 16 + (i % 240), height: 16 });
    expect(machine.snapshot()).toMatchObject({ width: 16 + (999 % 240), height: 16 });
  });
});

describe('cursor commands', () => {
  test.each([
    ['on scanout 99', 99, 2, 0, 0],
    ['on scanout 2^32 - 1', 0xffff_ffff, 2, 0, 0],
  ])('%s: ignored (83)', (_, scanout, id, x, y) => {
    using machine = new GpuMachine();
    machine.makeResource(2, 64, 64);
    expect(machine.updateCursor(scanout, id, x, y)).toBe(0);
    expect(machine.screens[0]?.cursor.visible).toBe(false);
  });

  test('with an unknown resource or one of 1x1: the image stays (83)', () => {
    using machine = new GpuMachine();
    machine.makeResource(2, 64, 64);
    machine.makeResource(3, 1, 1);
    machine.makeResource(4, 257, 64);
    machine.updateCursor(0, 2, 0, 0, 5, 6);
    for (const id of [9, 3, 4]) {
      machine.updateCursor(0, id, 1, 1, 0, 0);
      expect(machine.screens[0]?.cursor).toMatchObject({ width: 64, height: 64, hotX: 5, hotY: 6 });
    }
  });

  test('with hotspot and position 2^31: clamped into the image, taken as signed (83)', () => {
    using machine = new GpuMachine();
    machine.makeResource(2, 64, 64);
    machine.updateCursor(0, 2, 2 ** 31, 2 ** 31, 2 ** 31, 2 ** 31);
    expect(machine.screens[0]?.cursor).toMatchObject({ x: -(2 ** 31), y: -(2 ** 31), hotX: 63, hotY: 63 });
    expect(machine.pixel(0, 0, 0, { cursor: true })).toEqual([0, 0, 0]);
    machine.moveCursor(0, 2, 2 ** 31 - 1, 2 ** 31 - 1);
    expect(machine.pixel(63, 47, 0, { cursor: true })).toEqual([0, 0, 0]);
  });

  test.each([1, 23, 24, 55])('cut to %i bytes: ignored, used length 0 (84)', (length) => {
    using machine = new GpuMachine();
    machine.makeResource(2, 64, 64);
    const bytes = GpuMachine.bytes(0x300, [0, 0, 0, 0, 2, 0, 0, 0]).subarray(0, length);
    expect(machine.sendChain(1, [machine.segment(bytes)])).toBe(0);
    expect(machine.screens[0]?.cursor.visible).toBe(false);
  });
});

describe('guest memory that goes away', () => {
  test('under the rings: NEEDS_RESET at the next doorbell (89)', () => {
    using machine = new GpuMachine();
    machine.memory.dma.unmapAll();
    machine.driver.kick(0).run();
    expect(machine.driver.common('status') & NEEDS_RESET).toBe(NEEDS_RESET);
    machine.memory.announce();
    machine.driver.bringUp();
    expect(machine.create(1, 64, 48)).toBe(OK);
  });

  test('under a backing: UNSPEC, and good again when it is back (89)', () => {
    using machine = new GpuMachine();
    const address = 0x8000_0000;
    const window = { address, sizeBytes: 1 << 20, readable: true, writable: true, fileOffset: 0 };
    const fd = createMemfd('hot-plugged', 1 << 20);
    machine.memory.dma.map(window, reopen(fd));
    machine.create(1, 64, 48);
    machine.attach(1, [{ address, length: 64 * 48 * 4 }]);
    expect(machine.transfer(1, FULL)).toBe(OK);
    machine.memory.dma.unmap(address, 1 << 20);
    expect(machine.transfer(1, FULL)).toBe(UNSPEC);
    machine.memory.dma.map(window, fd);
    expect(machine.transfer(1, FULL)).toBe(OK);
  });

  test('in the file under a backing: zeros, and the process lives (92)', () => {
    using machine = new GpuMachine();
    const address = 0x8000_0000;
    const fd = createMemfd('to be cut', 1 << 20);
    const window = { address, sizeBytes: 1 << 20, readable: true, writable: true, fileOffset: 0 };
    machine.memory.dma.map(window, reopen(fd));
    machine.create(1, 64, 48);
    machine.attach(1, [{ address, length: 64 * 48 * 4 }]);
    ftruncateSync(fd, 0);
    expect(machine.transfer(1, FULL)).toBe(OK);
    machine.setScanout(0, 1, FULL);
    expect(machine.pixel(0, 0)).toEqual([0, 0, 0]);
  });
});

describe('what the guest changes while it is looked at', () => {
  test('used ring, descriptors and requests after the doorbell: only the copies count (85, 86, 88)', () => {
    using machine = new GpuMachine();
    const request = machine.segment(GpuMachine.bytes(0x101, [1, 2, 64, 48]));
    const room = machine.room(24);
    const queue = machine.driver.queue(0);
    machine.sendChain(0, [request, room]);
    machine.memory.bytes(queue.used + 4, 64).fill(0xff);
    machine.memory.bytes(queue.descriptors, 64).fill(0xff);
    machine.memory.bytes(request.address, request.length).fill(0xff);
    expect(machine.unref(1)).toBe(OK);
  });

  test('events_clear with all ones clears known bits only; other fields are read-only (90)', () => {
    using machine = new GpuMachine();
    machine.screens[0]?.setMode({ width: 800, height: 600, refreshHz: 60 });
    machine.displayInfo();
    machine.driver
      .setDeviceConfig(0, 0xffff_ffff)
      .setDeviceConfig(8, 0xffff_ffff)
      .setDeviceConfig(4, 0xffff_ffff);
    expect([0, 4, 8, 12].map((at) => machine.driver.deviceConfig(at))).toEqual([0, 0, 1, 0]);
  });
});

describe('resets at the wrong moment (41)', () => {
  test('in the middle of a batch: complete, bounded, nothing left', () => {
    using machine = new GpuMachine();
    for (let round = 0; round < 50; round++) {
      for (let i = 0; i < 20; i++) {
        machine.driver
          .queue(0)
          .add([machine.segment(GpuMachine.bytes(0x101, [i + 1, 2, 64, 48])), machine.room(24)]);
      }
      machine.driver.kick(0);
      let units = 7;
      machine.fn.service({ spend: () => units-- > 0 });
      expect(machine.gpu.counters.resources).toBe(7);
      machine.driver.reset();
      expect(machine.gpu.counters).toMatchObject({ resources: 0, resourceBytes: 0 });
      machine.driver.bringUp({ queueSize: 64 });
    }
  });
});

describe('any series of requests', () => {
  const word = fc.oneof(
    fc.integer({ min: 0, max: 70 }),
    fc.constantFrom(2 ** 31, 2 ** 32 - 1, 0x10_0000, 0x20_0000, 4096, 65536),
  );
  const type = fc.oneof(
    fc.integer({ min: 0x100, max: 0x10d }),
    fc.constantFrom(0, 0x200, 0x300, 0x301, 0x1100),
  );
  const request = fc.record({
    queue: fc.constantFrom(0, 0, 0, 1),
    type,
    words: fc.array(word, { maxLength: 14 }),
    flags: fc.constantFrom(0, 0, 1, 3),
    cut: fc.integer({ min: 0, max: 90 }),
    room: fc.constantFrom(0, 8, 24, 408, 1056),
  });

  test('is answered one for one, keeps the accounts, and leaves a working device', () => {
    fc.assert(
      fc.property(fc.array(request, { maxLength: 60 }), (requests) => {
        using machine = new GpuMachine({
          memoryBytes: 4 << 20,
          limits: { maxResourceBytes: 1 << 20, maxResources: 20 },
        });
        for (const { queue, type, words, flags, cut, room } of requests) {
          const bytes = GpuMachine.bytes(type, words, { flags, fenceId: 5n });
          const segment = machine.segment(
            bytes.subarray(0, Math.max(1, bytes.length - (cut > 60 ? cut - 60 : 0))),
          );
          const written = machine.sendChain(queue, room > 0 ? [segment, machine.room(room)] : [segment]);
          if (written < 0 || written > room) return false;
          const { resources, resourceBytes } = machine.gpu.counters;
          if (resources > 20 || resourceBytes > 1 << 20) return false;
        }
        machine.driver.bringUp({ queueSize: 16 });
        const clean = machine.gpu.counters;
        return (
          clean.resources + clean.resourceBytes + clean.memoryEntries === 0 &&
          machine.create(1, 64, 48) === OK
        );
      }),
      { numRuns: 300 },
    );
  });
});
