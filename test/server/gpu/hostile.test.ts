/**
 * What a hostile guest can send to the device, and the answer it gets. The numbers in brackets are the rows of
 * the project's table of hostile input; rows 1 to 20 and 26 to 40 concern rings and registers and stand in
 * `test/pci/`.
 */
import { ftruncateSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createMemfd } from '../../../native/index.ts';
import { CrossDomain } from '../../../server/cross-domain/component.ts';
import { SILENT_LOG } from '../../../server/log.ts';
import {
  CONTEXT_ID,
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
import { REFUSED_BLOB, TestComponent } from '../../support/test-component.ts';

const FULL = { x: 0, y: 0, width: 64, height: 48 };
const NEEDS_RESET = 64;
const MIB = 2 ** 20;
const VERSION_1 = 1n << 32n;
const OK_MAP = 0x1106;
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

describe('commands of features that were not negotiated', () => {
  test.each([0x10c, 0x10d])('blob command %i: PARAMETER', (type) => {
    using machine = new GpuMachine({ features: VERSION_1 });
    expect(machine.command(type, ...new Array(20).fill(0))).toBe(PARAMETER);
  });

  test.each([0x10b, 0x208, 0x209])('command %i of blobs and UUIDs: UNSPEC', (type) => {
    using machine = new GpuMachine({ features: VERSION_1 });
    expect(machine.command(type, ...new Array(20).fill(0))).toBe(UNSPEC);
  });

  test.each([0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207])(
    'command %i of contexts: UNSPEC, offered or not',
    (type) => {
      for (const components of [[], [new TestComponent()]]) {
        using machine = new GpuMachine({ components, features: VERSION_1 });
        expect(machine.command(type, ...new Array(20).fill(0))).toBe(UNSPEC);
      }
    },
  );

  test.each([0x204, 0x205, 0x206])('command %i of a 3D renderer: UNSPEC, negotiated or not', (type) => {
    using machine = new GpuMachine({ components: [new TestComponent()] });
    expect(machine.command(type, ...new Array(20).fill(0))).toBe(UNSPEC);
  });

  test('capsets: PARAMETER for any index, id and version (79)', () => {
    using machine = new GpuMachine();
    expect(machine.command(0x108, 0, 0)).toBe(PARAMETER);
    expect(machine.command(0x109, 0, 0)).toBe(PARAMETER);
    expect(machine.command(0x109, 1, 99)).toBe(PARAMETER);
  });
});

/** A machine whose driver has a context of id 1, and a window of 1 MiB. */
function contextMachine(): GpuMachine {
  const machine = new GpuMachine({ components: [new TestComponent()], windowBytes: MIB });
  machine.createContext(1, 7);
  return machine;
}
const HOST3D = { mem: 2, flags: 3, blobId: 5, ctxId: 1 } as const;
const PAGE = 4096;

describe('blobs', () => {
  test('of impossible size, memory or flags: PARAMETER (72)', () => {
    using machine = contextMachine();
    for (const size of [0, 2 ** 63, 2 ** 53]) expect(machine.createBlob(1, size)).toBe(PARAMETER);
    for (const mem of [0, 4, 0xffff_ffff]) expect(machine.createBlob(1, PAGE, { mem })).toBe(PARAMETER);
    for (const flags of [8, 0x8000_0000]) expect(machine.createBlob(1, PAGE, { flags })).toBe(PARAMETER);
    expect(machine.createBlob(1, PAGE, { ...HOST3D, mem: 3 })).toBe(UNSPEC);
    expect(machine.createBlob(1, 2 ** 40, HOST3D)).toBe(OUT_OF_MEMORY);
    expect(machine.gpu.counters).toMatchObject({ resources: 0, blobBytes: 0, memoryEntries: 0 });
  });

  test('of guest memory may have any size (72)', () => {
    using machine = new GpuMachine();
    const address = machine.memory.allocate(PAGE, PAGE);
    expect(machine.createBlob(1, 5, { entries: [{ address, length: PAGE }] })).toBe(OK);
  });

  test('of an id that is 0 or in use: RESOURCE_ID; beyond the count: OUT_OF_MEMORY', () => {
    using machine = new GpuMachine({ limits: { maxResources: 2 } });
    expect(machine.createBlob(0, PAGE)).toBe(RESOURCE_ID);
    machine.create(1, 64, 48);
    expect(machine.createBlob(1, PAGE)).toBe(RESOURCE_ID);
    expect(machine.createBlob(2, PAGE)).toBe(OK);
    expect(machine.createBlob(3, PAGE)).toBe(OUT_OF_MEMORY);
    expect(machine.create(2, 64, 48)).toBe(RESOURCE_ID);
  });

  test('of guest memory with an id of a context: ignored (73)', () => {
    using machine = new GpuMachine();
    const address = machine.memory.allocate(PAGE, PAGE);
    const entries = [{ address, length: PAGE }];
    expect(machine.createBlob(1, PAGE, { blobId: 99, ctxId: 5, entries })).toBe(OK);
  });

  test('of guest memory with pages that are too few, not there, or fewer than announced (54, 55, 57)', () => {
    using machine = new GpuMachine();
    const address = machine.memory.allocate(2 * PAGE, PAGE);
    const whole = { address, length: 2 * PAGE };
    expect(machine.createBlob(1, 2 * PAGE + 1, { entries: [whole] })).toBe(PARAMETER);
    expect(machine.createBlob(1, PAGE, { entries: [whole], announced: 2 })).toBe(UNSPEC);
    expect(machine.createBlob(1, PAGE, { entries: [whole], announced: 0xffff_ffff })).toBe(UNSPEC);
    expect(machine.createBlob(1, PAGE, { entries: [{ address: 2 ** 63, length: PAGE }] })).toBe(UNSPEC);
    expect(machine.createBlob(1, PAGE, { entries: [{ address: 0xfff, length: 0xffff_ffff }] })).toBe(UNSPEC);
    expect(machine.gpu.counters).toMatchObject({ resources: 0, memoryEntries: 0 });
  });

  test('of a context with guest pages, of a context that is not there or that refuses it (74)', () => {
    using machine = contextMachine();
    const address = machine.memory.allocate(PAGE, PAGE);
    expect(machine.createBlob(1, PAGE, { ...HOST3D, entries: [{ address, length: PAGE }] })).toBe(PARAMETER);
    expect(machine.createBlob(1, PAGE, { ...HOST3D, ctxId: 2 })).toBe(CONTEXT_ID);
    expect(machine.createBlob(1, PAGE, { ...HOST3D, ctxId: 0 })).toBe(CONTEXT_ID);
    expect(machine.createBlob(1, PAGE, { ...HOST3D, blobId: REFUSED_BLOB })).toBe(UNSPEC);
    expect(machine.gpu.counters).toMatchObject({ resources: 0, blobBytes: 0 });
  });

  test('mapped beyond the window, unaligned, wrapping, overlapping: PARAMETER; twice: UNSPEC (75, R7)', () => {
    using machine = contextMachine();
    for (const id of [1, 2]) machine.createBlob(id, 4 * PAGE, HOST3D);
    for (const offset of [
      1,
      PAGE - 1,
      MIB - 3 * PAGE,
      MIB,
      2 ** 32,
      2 ** 53,
      2 ** 64 - PAGE,
      2 ** 64 - 4 * PAGE,
    ]) {
      expect(machine.mapBlob(1, offset), String(offset)).toBe(PARAMETER);
    }
    expect(machine.mapBlob(1, 8 * PAGE)).toBe(OK_MAP);
    expect(machine.mapBlob(1, 16 * PAGE)).toBe(UNSPEC);
    for (const offset of [5, 8, 11]) expect(machine.mapBlob(2, offset * PAGE)).toBe(PARAMETER);
    expect(machine.mapBlob(2, 4 * PAGE)).toBe(OK_MAP);
    expect(machine.mapBlob(3, 0)).toBe(RESOURCE_ID);
  });

  test('of guest memory, without MAPPABLE, or without a window: UNSPEC (76)', () => {
    using machine = contextMachine();
    machine.createBlob(1, PAGE);
    machine.createBlob(2, PAGE, { ...HOST3D, flags: 2 });
    machine.create(3, 64, 48);
    for (const id of [1, 2, 3]) expect(machine.mapBlob(id, 0)).toBe(UNSPEC);
    using without = new GpuMachine({ components: [new TestComponent()] });
    without.createContext(1, 7);
    without.createBlob(1, PAGE, HOST3D);
    expect(without.mapBlob(1, 0)).toBe(UNSPEC);
    expect(without.unmapBlob(1)).toBe(OK);
    expect(without.unref(1)).toBe(OK);
  });

  test('unmapped that never were mapped, or twice: OK; unknown: RESOURCE_ID (77)', () => {
    using machine = contextMachine();
    machine.createBlob(1, PAGE, HOST3D);
    expect(machine.unmapBlob(1)).toBe(OK);
    machine.mapBlob(1, 0);
    expect(machine.unmapBlob(1)).toBe(OK);
    expect(machine.unmapBlob(1)).toBe(OK);
    expect(machine.unmapBlob(2)).toBe(RESOURCE_ID);
    machine.create(3, 64, 48);
    expect(machine.unmapBlob(3)).toBe(OK);
  });

  test('more pages than the host allows: the next blob is refused with OUT_OF_MEMORY, sizes cost nothing', () => {
    const lines: object[] = [];
    const log = { ...SILENT_LOG, warn: (fields: object) => lines.push(fields) };
    const limits = { maxBlobBytes: 8 * PAGE };
    using machine = new GpuMachine({ components: [new TestComponent()], windowBytes: MIB, limits, log });
    machine.createContext(1, 7);
    for (let id = 1; id <= 8; id++) {
      expect(machine.createBlob(id, 8 * PAGE, HOST3D)).toBe(OK);
      expect(machine.mapBlob(id, id * 8 * PAGE)).toBe(OK_MAP);
    }
    expect(machine.gpu.counters).toMatchObject({ resources: 8, blobBytes: 64 * PAGE });
    expect(lines).toEqual([]);
    machine.window!.write(8 * PAGE, new Uint8Array(PAGE).fill(1));
    expect(machine.createBlob(9, 8 * PAGE, HOST3D)).toBe(OUT_OF_MEMORY);
    expect(machine.createBlob(9, 7 * PAGE, HOST3D)).toBe(OK);
    expect(machine.gpu.counters).toMatchObject({ resources: 9, refusals: { '--max-blob-memory': 1 } });
    expect(lines).toMatchObject([{ command: 'RESOURCE_CREATE_BLOB', option: '--max-blob-memory' }]);
    // What cannot be mapped gets no pages in the window.
    expect(machine.createBlob(10, 8 * PAGE, { ...HOST3D, flags: 0 })).toBe(OK);
  });

  test('more pages than the host allows, in blobs that are there: whoever has the most has none any more', () => {
    const lines: object[] = [];
    const log = { ...SILENT_LOG, warn: (fields: object) => lines.push(fields) };
    const component = new TestComponent();
    const limits = { maxBlobBytes: 8 * PAGE };
    using machine = new GpuMachine({ components: [component], windowBytes: MIB, limits, log });
    for (const ctxId of [1, 2]) {
      machine.createContext(ctxId, 7);
      machine.createBlob(ctxId, 8 * PAGE, { ...HOST3D, ctxId });
      machine.mapBlob(ctxId, ctxId * 16 * PAGE);
    }
    const fill = (offset: number, pages: number) =>
      machine.window!.write(offset, new Uint8Array(pages * PAGE).fill(1));
    // What is in no blob goes first.
    fill(0, 16);
    fill(16 * PAGE, 3);
    machine.gpu.window!.check();
    expect(machine.window!.populatedBytes()).toBe(3 * PAGE);
    fill(32 * PAGE, 6);
    machine.gpu.window!.check();
    expect(machine.window!.populatedBytes()).toBe(3 * PAGE);
    const ends = [1, 2].map((id) => component.contexts.get(id)!.ends);
    expect(ends).toEqual([[], ['its buffers have more memory than they may']]);
    expect(machine.gpu.counters.contextsEnded).toBe(1);
    expect(lines).toMatchObject([{ contextId: 2, bytes: 6 * PAGE, option: '--max-blob-memory' }]);
    // It gets no blobs any more, and what it goes on to write is taken.
    expect(machine.createBlob(3, PAGE, { ...HOST3D, ctxId: 2 })).toBe(OUT_OF_MEMORY);
    fill(32 * PAGE, 6);
    machine.gpu.window!.check();
    expect(machine.window!.populatedBytes()).toBe(3 * PAGE);
    expect(machine.gpu.counters.contextsEnded).toBe(1);
    // The other one goes on, and the blob can be given up as any other.
    expect(machine.createBlob(3, PAGE, { ...HOST3D, ctxId: 1 })).toBe(OK);
    fill(32 * PAGE, 1);
    expect(machine.unmapBlob(2)).toBe(OK);
    expect(machine.window!.populatedBytes()).toBe(3 * PAGE);
  });

  test('the window written where nothing is mapped: nothing happens, and reset takes it away (78)', () => {
    using machine = contextMachine();
    machine.window!.write(MIB - PAGE, new Uint8Array(PAGE).fill(0xee));
    expect(machine.window!.populatedBytes()).toBe(PAGE);
    machine.driver.bringUp();
    expect(machine.window!.populatedBytes()).toBe(0);
  });

  test('on a display with a layout that does not fit, by 64-bit sums: PARAMETER (68)', () => {
    using machine = new GpuMachine();
    machine.makeGuestBlob(1, 64 * 48 * 4);
    const layouts: readonly Parameters<typeof machine.setScanoutBlob>[3][] = [
      { stride: 1 },
      { stride: 0xffff_ffff },
      { stride: 0x8000_0000 },
      { stride: 255 },
      { stride: 257 },
      { offset: 1 },
      { offset: 0xffff_ffff },
      { width: 63 },
      { width: 2 ** 31 },
      { height: 47 },
      { format: 0 },
      { format: 3000 },
    ];
    for (const layout of layouts)
      expect(machine.setScanoutBlob(0, 1, FULL, layout), JSON.stringify(layout)).toBe(PARAMETER);
    const tall = { ...FULL, height: 2 ** 31 };
    expect(machine.setScanoutBlob(0, 1, tall, { height: 2 ** 31 })).toBe(PARAMETER);
    expect(machine.setScanoutBlob(0, 1, { ...FULL, y: 0xffff_ffff }, { height: 48 })).toBe(PARAMETER);
    expect(machine.setScanoutBlob(0, 1, FULL)).toBe(OK);
  });

  test('on a display that is not there, unknown, tiny, or no blob (65, 66, 67)', () => {
    using machine = new GpuMachine();
    machine.makeGuestBlob(1, 64 * 48 * 4);
    machine.create(2, 64, 48);
    for (const scanout of [1, 16, 0xffff_ffff])
      expect(machine.setScanoutBlob(scanout, 1, FULL)).toBe(SCANOUT_ID);
    expect(machine.setScanoutBlob(0, 7, FULL)).toBe(RESOURCE_ID);
    expect(machine.setScanoutBlob(0, 2, FULL)).toBe(PARAMETER);
    expect(machine.setScanout(0, 1, FULL)).toBe(PARAMETER);
    expect(machine.setScanoutBlob(0, 1, { x: 0, y: 0, width: 1, height: 1 })).toBe(PARAMETER);
    expect(machine.setScanoutBlob(0, 0, { x: 5, y: 5, width: 0, height: 0 })).toBe(OK);
  });

  test('shown, and then without pages or with fewer: the last picture stays (69)', () => {
    using machine = new GpuMachine();
    const address = machine.makeGuestBlob(1, 64 * 48 * 4);
    machine.paint(address, 64, 48, () => [7, 8, 9, 0]);
    machine.setScanoutBlob(0, 1, FULL);
    machine.detach(1);
    expect(machine.attach(1, [{ address, length: PAGE }])).toBe(PARAMETER);
    expect(machine.pixel(63, 47)).toEqual([9, 8, 7]);
    machine.memory.dma.unmapAll();
    expect(machine.pixel(63, 47)).toEqual([9, 8, 7]);
  });

  test('shown from memory that the VMM takes away: black, and nothing worse (89)', () => {
    using machine = new GpuMachine();
    machine.makeGuestBlob(1, 64 * 48 * 4);
    machine.setScanoutBlob(0, 1, FULL);
    machine.memory.dma.unmapAll();
    expect(machine.pixel(1, 1)).toEqual([0, 0, 0]);
  });

  test('transferred to, whatever the rectangle: OK, nothing (64)', () => {
    using machine = contextMachine();
    machine.makeGuestBlob(1, PAGE);
    machine.createBlob(2, PAGE, HOST3D);
    for (const id of [1, 2]) {
      const rect = { x: 0xffff_ffff, y: 0xffff_ffff, width: 0xffff_ffff, height: 0xffff_ffff };
      expect(machine.transfer(id, rect, 2 ** 53)).toBe(OK);
      expect(machine.flush(id, rect)).toBe(OK);
    }
    expect(machine.attach(2, [])).toBe(UNSPEC);
    expect(machine.detach(2)).toBe(UNSPEC);
  });

  test('unreferenced while shown, attached and mapped: gone from everywhere (70)', () => {
    using machine = contextMachine();
    machine.createBlob(1, 64 * 48 * 4, HOST3D);
    machine.mapBlob(1, 0);
    machine.attachResource(1, 1);
    machine.setScanoutBlob(0, 1, FULL);
    expect(machine.unref(1)).toBe(OK);
    expect(machine.screens[0]?.picture).toBe(undefined);
    expect(machine.gpu.window?.mappedBytes).toBe(0);
    expect(machine.gpu.counters).toMatchObject({ resources: 0, blobBytes: 0, resourceBytes: 0 });
    expect(machine.createBlob(1, PAGE, HOST3D)).toBe(OK);
  });
});

describe('contexts', () => {
  test('of id 0, of a name that is too long, of no known kind: PARAMETER; a second one: CONTEXT_ID (80, C4)', () => {
    using machine = contextMachine();
    expect(machine.createContext(0, 7)).toBe(PARAMETER);
    expect(machine.createContext(1, 7)).toBe(CONTEXT_ID);
    for (const nlen of [65, 0xffff_ffff]) {
      const words = [nlen, 7, ...new Array(16).fill(0)];
      expect(machine.send(GpuMachine.bytes(0x200, words, { ctxId: 2 })).type).toBe(PARAMETER);
    }
    for (const capsetId of [1, 63, 255]) expect(machine.createContext(2, capsetId)).toBe(PARAMETER);
    expect(machine.gpu.counters.contexts).toBe(1);
  });

  test('with a kind, when only contexts without one were negotiated: PARAMETER', () => {
    using machine = new GpuMachine({ components: [new TestComponent()], features: VERSION_1 | 1n });
    expect(machine.createContext(1, 7)).toBe(PARAMETER);
    expect(machine.createContext(1, 0)).toBe(OK);
  });

  test('more than there may be: OUT_OF_MEMORY', () => {
    using machine = new GpuMachine({ components: [new TestComponent()], limits: { maxContexts: 3 } });
    expect([1, 2, 3, 4].map((id) => machine.createContext(id, 7))).toEqual([OK, OK, OK, OUT_OF_MEMORY]);
  });

  test('that are not there: CONTEXT_ID for all that needs one', () => {
    using machine = contextMachine();
    machine.makeGuestBlob(1, PAGE);
    expect(machine.destroyContext(9)).toBe(CONTEXT_ID);
    expect(machine.attachResource(9, 1)).toBe(CONTEXT_ID);
    expect(machine.detachResource(9, 1)).toBe(CONTEXT_ID);
    expect(machine.attachResource(1, 99)).toBe(RESOURCE_ID);
    expect(machine.submit(9, []).type).toBe(CONTEXT_ID);
    machine.destroyContext(1);
    expect(machine.submit(1, [1]).type).toBe(CONTEXT_ID);
  });

  test('command streams of wrong size: PARAMETER (82)', () => {
    using machine = contextMachine();
    const submit = (size: number, words: readonly number[]) =>
      machine.send(GpuMachine.bytes(0x207, [size, 0, ...words], { ctxId: 1 })).type;
    expect(submit(0xffff_ffff, [1])).toBe(PARAMETER);
    expect(submit(8, [1])).toBe(PARAMETER);
    // Not whole words, as cross-domain contexts have them: the context decides.
    expect(submit(3, [1])).toBe(OK);
    expect(submit(4 * MIB + 4, new Array(MIB + 1).fill(0))).toBe(PARAMETER);
    expect(submit(4 * MIB, new Array(MIB).fill(0))).toBe(OK);
    expect(submit(4, [1, 2, 3])).toBe(OK);
  });

  test('fences on rings that they do not have: PARAMETER, fence and ring echoed (47)', () => {
    using machine = contextMachine();
    for (const ringIdx of [4, 63, 64, 255]) {
      const fence = { flags: 3, fenceId: 5n, ctxId: 1, ringIdx };
      expect(machine.submit(1, [], fence)).toMatchObject({ type: PARAMETER, ...fence });
    }
    expect(machine.submit(2, [], { flags: 3, ringIdx: 0 }).type).toBe(PARAMETER);
  });

  test('thousands of fences that never pass: bounded by the ring, and freed by a reset (49)', () => {
    const component = new TestComponent();
    using machine = new GpuMachine({ components: [component] });
    machine.createContext(1, 7);
    component.contexts.get(1)!.passesAtOnce = false;
    const request = machine.segment(GpuMachine.bytes(0x207, [0, 0], { flags: 3, fenceId: 1n, ctxId: 1 }));
    for (let i = 0; i < 512; i++) machine.driver.queue(0).add([request]);
    machine.driver.kick(0).run();
    expect(machine.gpu.counters.waiting).toBe(512);
    expect(machine.guestErrors).toEqual([]);
    machine.driver.queue(0).add([request]);
    machine.driver.kick(0).run();
    expect(machine.guestErrors).toEqual([expect.stringContaining('made available twice')]);
    machine.driver.bringUp();
    expect(machine.gpu.counters.waiting).toBe(0);
    expect(machine.create(1, 64, 48)).toBe(OK);
  });

  test('an answer that waits for a fence while its memory is taken away: dropped (89)', () => {
    const component = new TestComponent();
    using machine = new GpuMachine({ components: [component] });
    machine.createContext(1, 7);
    const context = component.contexts.get(1)!;
    context.passesAtOnce = false;
    machine.post(GpuMachine.bytes(0x207, [0, 0], { flags: 3, fenceId: 1n, ctxId: 1 }));
    machine.memory.dma.unmapAll();
    context.fences[0]![0]!();
    machine.driver.run();
    expect(machine.guestErrors).toEqual(['broken: rings are not in mapped memory']);
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
      expect(machine.gpu.counters.copiedBytes.transfers).toBe(0);
    },
  );

  test('from the largest offset there is: OK with nothing copied (61)', () => {
    using machine = new GpuMachine();
    machine.makeResource(1, 64, 48);
    expect(machine.command(0x105, 0, 0, 64, 48, 0xffff_ffff, 0xffff_ffff, 1, 0)).toBe(OK);
    expect(machine.gpu.counters.copiedBytes.transfers).toBe(0);
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
    expect(machine.gpu.counters.copiedBytes.transfers).toBe(0);
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
    fc.integer({ min: 0x200, max: 0x209 }),
    fc.constantFrom(0, 0x300, 0x301, 0x1100),
  );
  const request = fc.record({
    queue: fc.constantFrom(0, 0, 0, 1),
    type,
    words: fc.array(word, { maxLength: 14 }),
    flags: fc.constantFrom(0, 0, 1, 3),
    ctxId: fc.integer({ min: 0, max: 3 }),
    ringIdx: fc.constantFrom(0, 0, 1, 4, 64),
    cut: fc.integer({ min: 0, max: 90 }),
    room: fc.constantFrom(0, 8, 24, 408, 1056),
  });

  test('is answered one for one, keeps the accounts, and leaves a working device', () => {
    fc.assert(
      fc.property(fc.array(request, { maxLength: 60 }), (requests) => {
        using machine = new GpuMachine({
          memoryBytes: 4 << 20,
          limits: { maxResourceBytes: 1 << 20, maxResources: 20 },
          components: [new TestComponent(), new CrossDomain()],
          windowBytes: 1 << 20,
        });
        for (const [id, capsetId] of [7, 5].entries()) machine.createContext(id + 1, capsetId);
        for (const { queue, type, words, flags, ctxId, ringIdx, cut, room } of requests) {
          const bytes = GpuMachine.bytes(type, words, { flags, fenceId: 5n, ctxId, ringIdx });
          const segment = machine.segment(
            bytes.subarray(0, Math.max(1, bytes.length - (cut > 60 ? cut - 60 : 0))),
          );
          const written = machine.sendChain(queue, room > 0 ? [segment, machine.room(room)] : [segment]);
          const { resources, resourceBytes, waiting } = machine.gpu.counters;
          if ((written < 0 && waiting === 0) || written > room) return false;
          if (resources > 20 || resourceBytes > 1 << 20) return false;
        }
        machine.driver.bringUp({ queueSize: 16 });
        const clean = machine.gpu.counters;
        return (
          clean.resources + clean.resourceBytes + clean.memoryEntries + clean.blobBytes + clean.waiting ===
            0 &&
          machine.gpu.window?.mappedBytes === 0 &&
          machine.create(1, 64, 48) === OK
        );
      }),
      { numRuns: 300 },
    );
  });
});
