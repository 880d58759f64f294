/** Blobs, the host-visible window, contexts, capability sets and fences: what they do for a driver that behaves. */
import { fstatSync, readSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { Mapping } from '../../../native/index.ts';
import { CrossDomain } from '../../../server/cross-domain/component.ts';
import type { MemoryExport } from '../../../server/gpu/contracts/exports.ts';
import { openFds } from '../../support/fake-client.ts';
import {
  CONTEXT_ID,
  type Entry,
  GpuMachine,
  type MachineOptions,
  OK,
  OUT_OF_MEMORY,
  PARAMETER,
  RESOURCE_ID,
  type Reply,
  UNSPEC,
} from '../../support/gpu-machine.ts';
import { REFUSED_WORD, TestComponent, type TestContext } from '../../support/test-component.ts';

const page = 4096;
const MiB = 2 ** 20;
const OK_CAPSET_INFO = 0x1102;
const OK_CAPSET = 0x1103;
const OK_UUID = 0x1105;
const OK_MAP = 0x1106;
const FULL = { x: 0, y: 0, width: 64, height: 48 };
const BYTES = 64 * 48 * 4;
/** HOST3D, mappable and shareable, as Linux asks for it. */
const HOST3D = { mem: 2, flags: 3, blobId: 5 } as const;
const words = (bytes: Uint8Array, at: number) => [...new Uint32Array(bytes.slice(at).buffer)];
const bgr = (x: number, y: number) => [x, y, x ^ y, 0];
const rgb = (x: number, y: number) => [x ^ y, y, x];

/** A machine with a window and one context of the test's own kind, of id 1. */
function contextMachine(options: MachineOptions = {}): {
  machine: GpuMachine;
  component: TestComponent;
  context: TestContext;
} {
  const component = new TestComponent();
  const machine = new GpuMachine({ windowBytes: 16 * MiB, components: [component], ...options });
  expect(machine.createContext(1, component.capsetId, 'one')).toBe(OK);
  return { machine, component, context: component.contexts.get(1)! };
}

const windowBytes = (machine: GpuMachine, offset: number, lengthBytes: number): Buffer => {
  const bytes = Buffer.alloc(lengthBytes);
  readSync(machine.window!.fd, bytes, 0, lengthBytes, offset);
  return bytes;
};
/** Writes as a guest does: through another mapping of the same pages. */
const guestWrites = (machine: GpuMachine, offset: number, value: number, lengthBytes: number) =>
  machine.window!.write(offset, new Uint8Array(lengthBytes).fill(value));
const unmap = (machine: GpuMachine, id: number) => machine.ask(GpuMachine.bytes(0x209, [id, 0]));

describe('a guest blob', () => {
  test('is shown straight from guest pages: nothing is copied by transfer or flush', () => {
    using machine = new GpuMachine();
    const address = machine.makeGuestBlob(1, BYTES);
    machine.paint(address, 64, 48, bgr);
    expect(machine.setScanoutBlob(0, 1, FULL)).toBe(OK);
    expect(machine.transfer(1, FULL)).toBe(OK);
    expect(machine.flush(1, FULL)).toBe(OK);
    expect(machine.gpu.counters.copiedBytes).toEqual({ transfers: 0, flushes: 0 });
    expect(machine.screens[0]?.flushes).toBe(1);
    for (const [x, y] of [
      [0, 0],
      [63, 47],
      [17, 33],
    ] as const) {
      expect(machine.pixel(x, y)).toEqual(rgb(x, y));
    }
  });

  test('of scattered pages is the same picture', () => {
    using machine = new GpuMachine();
    const pages = [3, 0, 2].map((index) => machine.memory.address + 32 * MiB + index * page);
    const entries = pages.map((address): Entry => ({ address, length: page }));
    expect(machine.createBlob(1, BYTES, { entries })).toBe(OK);
    const bytes = new Uint8Array(BYTES).map((_, i) => bgr((i >> 2) % 64, Math.floor(i / 256))[i % 4]!);
    pages.forEach((address, i) => {
      machine.memory.bytes(address, page).set(bytes.subarray(i * page, (i + 1) * page));
    });
    expect(machine.setScanoutBlob(0, 1, FULL)).toBe(OK);
    for (let y = 0; y < 48; y++) expect(machine.pixel(5, y)).toEqual(rgb(5, y));
  });

  test.each([1, 2, 3, 4, 67, 68, 121, 134])('in format %i has its channels where they belong', (format) => {
    using machine = new GpuMachine();
    const order: Record<number, readonly [r: number, g: number, b: number]> = {
      1: [2, 1, 0],
      2: [2, 1, 0],
      3: [1, 2, 3],
      4: [1, 2, 3],
      67: [0, 1, 2],
      68: [3, 2, 1],
      121: [3, 2, 1],
      134: [0, 1, 2],
    };
    const address = machine.makeGuestBlob(1, BYTES);
    machine.paint(address, 64, 48, () => [10, 20, 30, 40]);
    expect(machine.setScanoutBlob(0, 1, FULL, { format })).toBe(OK);
    expect(machine.pixel(1, 1)).toEqual(order[format]!.map((at) => [10, 20, 30, 40][at]));
  });

  test('is shown from any offset, with any stride, as any rectangle that fits to the last byte', () => {
    using machine = new GpuMachine();
    const stride = 80 * 4;
    const offset = 12;
    const rect = { x: 8, y: 4, width: 32, height: 20 };
    const sizeBytes = offset + stride * (4 + 19) + (8 + 32) * 4;
    const address = machine.makeGuestBlob(1, sizeBytes);
    const bytes = machine.memory.bytes(address, sizeBytes);
    for (let at = offset, i = 0; at + 4 <= sizeBytes; at += 4, i++)
      bytes.set(bgr(i % 80, Math.floor(i / 80)), at);
    const layout = { width: 64, height: 48, stride, offset };
    expect(machine.setScanoutBlob(0, 1, rect, layout)).toBe(OK);
    expect(machine.snapshot()).toMatchObject({ width: 32, height: 20 });
    expect(machine.pixel(0, 0)).toEqual(rgb(8, 4));
    expect(machine.pixel(31, 19)).toEqual(rgb(39, 23));
    expect(machine.setScanoutBlob(0, 1, { ...rect, height: 21 }, layout)).toBe(PARAMETER);
    expect(machine.setScanoutBlob(0, 1, rect, { ...layout, offset: offset + 1 })).toBe(PARAMETER);
  });

  test('can get its pages later, and other ones after that', () => {
    using machine = new GpuMachine();
    expect(machine.createBlob(1, BYTES)).toBe(OK);
    expect(machine.setScanoutBlob(0, 1, FULL)).toBe(OK);
    expect(machine.pixel(3, 3)).toEqual([0, 0, 0]);
    const [first, second] = [0, 1].map(() => machine.memory.allocate(BYTES, page)) as [number, number];
    machine.paint(first, 64, 48, () => [1, 2, 3, 0]);
    machine.paint(second, 64, 48, () => [4, 5, 6, 0]);
    expect(machine.attach(1, [{ address: first, length: BYTES }])).toBe(OK);
    expect(machine.pixel(3, 3)).toEqual([3, 2, 1]);
    expect(machine.detach(1)).toBe(OK);
    expect(machine.attach(1, [{ address: second, length: BYTES - 1 }])).toBe(PARAMETER);
    expect(machine.attach(1, [{ address: second, length: BYTES }])).toBe(OK);
    expect(machine.flush(1, FULL)).toBe(OK);
    expect(machine.pixel(3, 3)).toEqual([6, 5, 4]);
  });

  test('stays on the screen when its pages go, and they are not looked at again', () => {
    using machine = new GpuMachine();
    const address = machine.makeGuestBlob(1, BYTES);
    machine.paint(address, 64, 48, bgr);
    machine.setScanoutBlob(0, 1, FULL);
    expect(machine.detach(1)).toBe(OK);
    machine.paint(address, 64, 48, () => [9, 9, 9, 9]);
    expect(machine.flush(1, FULL)).toBe(OK);
    expect(machine.pixel(20, 30)).toEqual(rgb(20, 30));
    expect(machine.unref(1)).toBe(OK);
    expect(machine.pixel(20, 30)).toEqual([0, 0, 0]);
  });

  test('is copied by a flush for those who watch, only where it says so, and only then', () => {
    using machine = new GpuMachine();
    const address = machine.makeGuestBlob(1, BYTES);
    machine.setScanoutBlob(0, 1, FULL);
    const [screen] = machine.screens;
    const seen: unknown[] = [];
    const leave = screen!.watch({
      beginChange: () => true,
      endChange: () => {},
      changed: (rect) => seen.push(rect),
      replaced: () => seen.push('replaced'),
      cursorChanged: () => {},
      modeChanged: () => {},
    });
    machine.paint(address, 64, 48, bgr);
    expect(machine.pixel(10, 10)).toEqual([0, 0, 0]);
    const damage = { x: 8, y: 8, width: 16, height: 4 };
    machine.flush(1, damage);
    expect(seen).toEqual([damage]);
    expect(machine.gpu.counters.copiedBytes).toEqual({ transfers: 0, flushes: 16 * 4 * 4 });
    expect(machine.pixel(10, 10)).toEqual(rgb(10, 10));
    expect(machine.pixel(10, 12)).toEqual([0, 0, 0]);
    leave();
    expect(screen!.frame).toBe(undefined);
    expect(machine.pixel(10, 12)).toEqual(rgb(10, 12));
  });

  test('is a cursor of 64x64 when it is large enough for one', () => {
    using machine = new GpuMachine({ modes: [{ width: 256, height: 256, refreshHz: 60 }] });
    const address = machine.makeGuestBlob(1, 64 * 64 * 4);
    machine.paint(address, 64, 64, (x, y) => [x, y, 7, 255]);
    machine.createBlob(2, 64 * 64 * 4 - 1, { entries: [{ address, length: 64 * 64 * 4 }] });
    machine.updateCursor(0, 1, 20, 30, 5, 6);
    expect(machine.screens[0]?.cursor).toEqual({
      visible: true,
      ...{ x: 20, y: 30, width: 64, height: 64, hotX: 5, hotY: 6 },
    });
    expect(machine.pixel(20 + 9, 30 + 11, 0, { cursor: true })).toEqual([7, 11, 9]);
    // Its image is a copy: later changes need another update.
    machine.paint(address, 64, 64, () => [0, 0, 0, 255]);
    expect(machine.pixel(20 + 9, 30 + 11, 0, { cursor: true })).toEqual([7, 11, 9]);
    machine.updateCursor(0, 2, 21, 30, 1, 1);
    expect(machine.screens[0]?.cursor).toMatchObject({ x: 21, hotX: 5 });
  });

  test('costs the host nothing but entries', () => {
    using machine = new GpuMachine();
    machine.makeGuestBlob(1, MiB);
    const { resources, resourceKinds, resourceBytes, memoryEntries, blobBytes } = machine.gpu.counters;
    expect({ resources, resourceKinds, resourceBytes, memoryEntries, blobBytes }).toEqual({
      resources: 1,
      resourceKinds: { '2d': 0, guest: 1, host3d: 0 },
      resourceBytes: 0,
      memoryEntries: 1,
      blobBytes: 0,
    });
  });

  test('is charged for the copy that may be made of it, as long as it is shown', () => {
    using machine = new GpuMachine({
      modes: [
        { width: 64, height: 48, refreshHz: 60 },
        { width: 64, height: 48, refreshHz: 60 },
      ],
      limits: { maxResourceBytes: 2 * BYTES - 1 },
    });
    machine.makeGuestBlob(1, BYTES);
    machine.makeGuestBlob(2, BYTES);
    expect(machine.setScanoutBlob(0, 1, FULL)).toBe(OK);
    expect(machine.setScanoutBlob(0, 2, FULL)).toBe(OK);
    expect(machine.setScanoutBlob(1, 1, FULL)).toBe(OUT_OF_MEMORY);
    expect(machine.create(3, 64, 48)).toBe(OUT_OF_MEMORY);
    expect(machine.gpu.counters.resourceBytes).toBe(BYTES);
    expect(machine.setScanoutBlob(0, 0, FULL)).toBe(OK);
    expect(machine.gpu.counters.resourceBytes).toBe(0);
    expect(machine.setScanoutBlob(1, 1, FULL)).toBe(OK);
    machine.unref(1);
    expect(machine.gpu.counters.resourceBytes).toBe(0);
  });
});

describe('a UUID', () => {
  test('is 16 bytes that stay the same for a resource and are nobody else’s', () => {
    using machine = new GpuMachine();
    machine.makeGuestBlob(1, page);
    machine.create(2, 64, 48);
    const first = machine.uuid(1);
    expect(first.type).toBe(OK_UUID);
    expect(first.bytes.length).toBe(40);
    expect(machine.uuid(1).bytes).toEqual(first.bytes);
    expect(machine.uuid(2).bytes).not.toEqual(first.bytes);
    expect(machine.uuid(3).type).toBe(RESOURCE_ID);
    machine.unref(1);
    machine.makeGuestBlob(1, page);
    expect(machine.uuid(1).bytes).not.toEqual(first.bytes);
  });
});

describe('features', () => {
  const bit = (number: number) => 1n << BigInt(number);

  test('of contexts are offered when there are any, the others always', () => {
    const [virgl, uuid, blob, contextInit, alignment] = [0, 2, 3, 4, 5].map(bit) as [
      bigint,
      bigint,
      bigint,
      bigint,
      bigint,
    ];
    using plain = new GpuMachine();
    expect(plain.gpu.features).toBe(bit(1) | uuid | blob);
    using contexts = new GpuMachine({ components: [new TestComponent()] });
    expect(contexts.gpu.features).toBe(bit(1) | uuid | blob | virgl | contextInit);
    using aligned = new GpuMachine({ blobAlignmentBytes: 65_536 });
    expect(aligned.gpu.features).toBe(bit(1) | uuid | blob | alignment);
  });

  test('BLOB_ALIGNMENT comes with its size in the configuration, and holds', () => {
    const component = new TestComponent();
    using machine = new GpuMachine({
      components: [component],
      windowBytes: MiB,
      blobAlignmentBytes: 65_536,
    });
    const config = new Uint8Array(20);
    machine.gpu.readConfig(0, config);
    expect(words(config, 16)).toEqual([65_536]);
    expect(machine.createBlob(1, 65_536 + page)).toBe(PARAMETER);
    machine.createContext(1, 7);
    expect(machine.createBlob(1, 65_536, { ...HOST3D, ctxId: 1 })).toBe(OK);
    expect(machine.mapBlob(1, page)).toBe(PARAMETER);
    expect(machine.mapBlob(1, 65_536)).toBe(OK_MAP);
  });

  test('BLOB_ALIGNMENT that was not negotiated holds nobody back', () => {
    using machine = new GpuMachine({ blobAlignmentBytes: 65_536, features: bit(32) | bit(3) });
    expect(machine.createBlob(1, page)).toBe(OK);
  });
});

describe('capability sets', () => {
  test('are listed by index, and given by id and version (C1)', () => {
    const { machine, component } = contextMachine();
    using _ = machine;
    const config = new Uint8Array(16);
    machine.gpu.readConfig(0, config);
    expect(words(config, 12)).toEqual([1]);
    const info = machine.send(GpuMachine.bytes(0x108, [0, 0]));
    expect([info.type, info.bytes.length, ...words(info.bytes, 24)]).toEqual([
      OK_CAPSET_INFO,
      40,
      7,
      3,
      20,
      0,
    ]);
    for (const version of [0, 3]) {
      const capset = machine.send(GpuMachine.bytes(0x109, [7, version]));
      expect(capset.type).toBe(OK_CAPSET);
      expect(capset.bytes.subarray(24)).toEqual(component.capset);
    }
    expect(machine.command(0x109, 7, 4)).toBe(PARAMETER);
    expect(machine.command(0x109, 0, 0)).toBe(PARAMETER);
    expect(machine.command(0x108, 1, 0)).toBe(PARAMETER);
    // A buffer that is too short gets what fits.
    const short = machine.send(GpuMachine.bytes(0x109, [7, 0]), 30);
    expect([short.type, short.bytes.length]).toEqual([OK_CAPSET, 30]);
  });

  test('of cross-domain has the 16 bytes that guests know (C2)', () => {
    using machine = new GpuMachine({ components: [new CrossDomain()] });
    const info = machine.send(GpuMachine.bytes(0x108, [0, 0]));
    expect(words(info.bytes, 24)).toEqual([5, 0, 16, 0]);
    expect(words(machine.send(GpuMachine.bytes(0x109, [5, 0])).bytes, 24)).toEqual([1, 0, 0, 0]);
  });
});

describe('a context', () => {
  test('runs what is submitted to it, by its id', () => {
    const { machine, component, context } = contextMachine();
    using _ = machine;
    expect(machine.createContext(2, 7, 'two')).toBe(OK);
    expect(machine.submit(1, [1, 2, 3]).type).toBe(OK);
    expect(machine.submit(2, [4]).type).toBe(OK);
    expect(machine.submit(1, []).type).toBe(OK);
    expect(context.submitted).toEqual([[1, 2, 3], []]);
    expect(component.contexts.get(2)?.submitted).toEqual([[4]]);
    expect(machine.submit(1, [REFUSED_WORD]).type).toBe(UNSPEC);
    expect(machine.submit(3, [1]).type).toBe(CONTEXT_ID);
  });

  test('is known by the printable part of its name', () => {
    const { machine, component } = contextMachine();
    using _ = machine;
    machine.createContext(2, 7, 'a\n\x1b[2Jb\u00ff c');
    expect(component.contexts.get(2)?.host).toEqual({ contextId: 2, name: 'a[2Jb c' });
  });

  test('sees what is attached to it, and can read and write it', () => {
    const { machine, context } = contextMachine();
    using _ = machine;
    const address = machine.makeGuestBlob(1, 2 * page);
    expect(machine.attachResource(1, 1)).toBe(OK);
    const ring = context.attached.get(1)!;
    expect(ring).toMatchObject({ id: 1, kind: 'guest', sizeBytes: 2 * page });
    expect(ring.write(page - 2, Uint8Array.of(1, 2, 3, 4))).toBe(true);
    expect([...machine.memory.bytes(address + page - 2, 4)]).toEqual([1, 2, 3, 4]);
    const into = new Uint8Array(4);
    expect(ring.read(page - 2, into)).toBe(true);
    expect([...into]).toEqual([1, 2, 3, 4]);
    expect(ring.write(2 * page - 3, Uint8Array.of(1, 2, 3, 4))).toBe(false);
    machine.detach(1);
    expect(ring.write(0, into)).toBe(false);
    expect(machine.detachResource(1, 1)).toBe(OK);
    expect(context.attached.size).toBe(0);
    expect(machine.detachResource(1, 1)).toBe(OK);
  });

  test('of scattered pages is written in all its parts', () => {
    const { machine, context } = contextMachine();
    using _ = machine;
    const addresses = [2, 0].map((index) => machine.memory.address + 32 * MiB + index * page);
    machine.createBlob(1, 300, {
      entries: [
        { address: addresses[0]!, length: 100 },
        { address: addresses[1]!, length: 200 },
      ],
    });
    machine.attachResource(1, 1);
    expect(context.attached.get(1)!.write(98, Uint8Array.of(1, 2, 3))).toBe(true);
    expect([...machine.memory.bytes(addresses[0]! + 98, 2)]).toEqual([1, 2]);
    expect([...machine.memory.bytes(addresses[1]!, 1)]).toEqual([3]);
  });

  test('loses what is unreferenced, and keeps nothing when it is destroyed', () => {
    const { machine, context } = contextMachine();
    using _ = machine;
    machine.makeGuestBlob(1, page);
    machine.attachResource(1, 1);
    machine.unref(1);
    expect(context.attached.size).toBe(0);
    expect(machine.destroyContext(1)).toBe(OK);
    expect(context.closed).toBe(true);
    expect(machine.destroyContext(1)).toBe(CONTEXT_ID);
    expect(machine.createContext(1, 7)).toBe(OK);
  });

  test('of no kind is there and does nothing (C3)', () => {
    const { machine } = contextMachine();
    using _ = machine;
    expect(machine.createContext(2, 0)).toBe(OK);
    expect(machine.submit(2, [], { flags: 3, fenceId: 8n, ringIdx: 1 })).toMatchObject({
      type: OK,
      flags: 3,
    });
    expect(machine.submit(2, [1], { flags: 3, fenceId: 9n }).type).toBe(UNSPEC);
    expect(machine.createBlob(1, page, { ...HOST3D, ctxId: 2 })).toBe(UNSPEC);
  });

  test('can hand over what is attached to it as a copy, refreshed as long as it is there', () => {
    const { machine, context } = contextMachine();
    using _ = machine;
    const address = machine.makeGuestBlob(1, page);
    machine.attachResource(1, 1);
    machine.createBlob(2, 3 * page, { ...HOST3D, ctxId: 1 });
    machine.attachResource(1, 2);
    const [guest, host] = [1, 2].map((id) => context.attached.get(id)!);
    expect(() => host!.export()).toThrow('no memory that could be shown');
    machine.mapBlob(2, 8 * page);
    const exports = [guest!.export(), host!.export()] as const;
    machine.memory.bytes(address, page).fill(5);
    guestWrites(machine, 8 * page, 6, 3 * page);
    const shown = exports.map(({ lend, sizeBytes, refresh }) => {
      const copied = refresh(page / 2, page);
      const bytes = Buffer.alloc(sizeBytes);
      const { fd, release } = lend();
      readSync(fd, bytes, 0, sizeBytes, 0);
      release();
      return [copied, bytes[page / 2 - 1], bytes[page / 2], bytes[page - 1], bytes.at(-1)];
    });
    expect(shown).toEqual([
      [page / 2, 0, 5, 5, 5],
      [page, 0, 6, 6, 0],
    ]);
    machine.detach(1);
    machine.unmapBlob(2);
    expect(exports.map(({ refresh }) => refresh(0, page))).toEqual([undefined, undefined]);
    for (const one of exports) one.close();
  });
});

describe('what contexts hand over', () => {
  const shownBlob = () => {
    const made = contextMachine({ limits: { maxBlobBytes: 8 * page } });
    const { machine } = made;
    machine.createBlob(2, 3 * page, { ...HOST3D, ctxId: 1 });
    machine.mapBlob(2, 8 * page);
    return made;
  };

  test('counts as long as it is open, for each context that has it, and has a limit', () => {
    const { machine, component } = shownBlob();
    using _ = machine;
    const contexts = [1, 2, 3].map((ctxId) => {
      if (ctxId > 1) machine.createContext(ctxId, 7);
      machine.attachResource(ctxId, 2);
      return component.contexts.get(ctxId)!.attached.get(2)!;
    });
    const before = openFds();
    const exports = contexts.map((one) => one.export());
    expect(machine.gpu.counters.exportedBytes).toBe(0);
    // A copy costs the pages that it has got.
    expect(exports[0]!.refresh(page, 1)).toBe(1);
    expect(machine.gpu.counters.exportedBytes).toBe(page);
    for (const one of exports.slice(0, 2)) expect(one.refresh(0, 3 * page)).toBe(3 * page);
    expect(machine.gpu.counters.exportedBytes).toBe(6 * page);
    expect(() => exports[2]!.refresh(0, 3 * page)).toThrow('no room for a copy');
    expect(machine.gpu.counters.exportedBytes).toBe(6 * page);
    expect(exports[2]!.refresh(2 * page, page)).toBe(page);
    expect(exports[0]!.refresh(0, 3 * page)).toBe(3 * page);
    expect(machine.gpu.counters.exportedBytes).toBe(7 * page);
    expect(openFds()).toBe(before + 3);
    // Gone for the guest, and still there for the others.
    machine.unref(2);
    expect(machine.gpu.counters).toMatchObject({ blobBytes: 0, exportedBytes: 7 * page });
    for (const one of exports) one.close();
    for (const one of exports) one.close();
    expect(machine.gpu.counters.exportedBytes).toBe(0);
    expect(openFds()).toBe(before);
  });

  test('counts what its readers have made of it, and whoever has got more is told of too much', () => {
    const { machine, context } = shownBlob();
    using _ = machine;
    const attached = [2, 3, 4].map((id) => {
      if (id > 2) {
        machine.createBlob(id, 8 * page, { ...HOST3D, ctxId: 1 });
        machine.mapBlob(id, 8 * page * id);
      }
      machine.attachResource(1, id);
      return context.attached.get(id)!.export();
    });
    const read = (one: MemoryExport, pages: number) => {
      const { fd, release } = one.lend();
      const mapping = Mapping.map(fd, { lengthBytes: pages * page });
      const bytes = mapping.bytes(0, pages * page);
      for (let at = 0; at < pages; at++) expect(bytes[at * page]).toBe(0);
      mapping.close();
      release();
    };
    const accounts = () => attached.map((one) => one.account());
    read(attached[0]!, 3);
    read(attached[1]!, 5);
    expect(accounts()).toEqual([true, true, true]);
    expect(attached.map(({ chargedBytes }) => chargedBytes)).toEqual([3 * page, 5 * page, 0]);
    expect(machine.gpu.counters.exportedBytes).toBe(8 * page);
    read(attached[2]!, 1);
    expect(accounts()).toEqual([true, true, false]);
    expect(machine.gpu.counters.exportedBytes).toBe(9 * page);
    for (const one of attached) one.close();
    expect(machine.gpu.counters.exportedBytes).toBe(0);
  });

  test('is not refreshed from what comes to its place later, not even from the same blob', () => {
    const { machine, context } = shownBlob();
    using _ = machine;
    machine.attachResource(1, 2);
    const made = context.attached.get(2)!.export();
    expect([made.isCurrent(), made.refresh(0, page)]).toEqual([true, page]);
    machine.unmapBlob(2);
    machine.mapBlob(2, 8 * page);
    expect([made.isCurrent(), made.refresh(0, page)]).toEqual([false, undefined]);
    made.close();
  });
});

describe('a blob of a context', () => {
  test('is the memory of the window where the driver maps it (R8)', () => {
    const { machine, context } = contextMachine();
    using _ = machine;
    expect(machine.createBlob(9, 2 * page, { ...HOST3D, ctxId: 1 })).toBe(OK);
    const mapped = machine.send(GpuMachine.bytes(0x208, [9, 0, 3 * page, 0]));
    expect([mapped.type, mapped.bytes.length, ...words(mapped.bytes, 24)]).toEqual([OK_MAP, 32, 1, 0]);
    machine.attachResource(1, 9);
    const attached = context.attached.get(9)!;
    expect(attached).toMatchObject({ kind: 'host3d', sizeBytes: 2 * page });
    expect(attached.write(page, Uint8Array.of(1, 2, 3))).toBe(true);
    expect([...windowBytes(machine, 4 * page, 3)]).toEqual([1, 2, 3]);
    guestWrites(machine, 3 * page, 77, 5);
    const into = new Uint8Array(6);
    attached.read(0, into);
    expect([...into]).toEqual([77, 77, 77, 77, 77, 0]);
    expect(machine.unmapBlob(9)).toBe(OK);
    expect(attached.read(0, into)).toBe(false);
  });

  test('has what its context put into it, and zeros behind that', () => {
    const { machine, context } = contextMachine();
    using _ = machine;
    context.initial.set(
      5,
      Uint8Array.from({ length: page + 5 }, (_, i) => i % 251),
    );
    machine.createBlob(9, 2 * page, { ...HOST3D, ctxId: 1 });
    machine.mapBlob(9, 0);
    const bytes = windowBytes(machine, 0, 3 * page);
    expect([...bytes.subarray(0, page + 5)]).toEqual([...context.initial.get(5)!]);
    expect(bytes.subarray(page + 5).every((byte) => byte === 0)).toBe(true);
  });

  test('can be shown', () => {
    const { machine } = contextMachine();
    using _ = machine;
    machine.createBlob(9, 3 * page, { ...HOST3D, ctxId: 1 });
    expect(machine.setScanoutBlob(0, 9, FULL)).toBe(OK);
    expect(machine.pixel(0, 0)).toEqual([0, 0, 0]);
    machine.mapBlob(9, 5 * page);
    guestWrites(machine, 5 * page, 50, BYTES);
    expect(machine.flush(9, FULL)).toBe(OK);
    expect(machine.pixel(63, 47)).toEqual([50, 50, 50]);
    machine.unmapBlob(9);
    expect(machine.pixel(63, 47)).toEqual([50, 50, 50]);
  });

  test.each([
    ['a page', page],
    ['so much that it is cleared in the background', 4 * MiB],
  ])('of %s is gone from the window when UNMAP is answered, and the offset is free', async (_, sizeBytes) => {
    const { machine, context } = contextMachine();
    using _machine = machine;
    for (const value of [1, 2, 3]) {
      machine.createBlob(9, sizeBytes, { ...HOST3D, ctxId: 1 });
      expect(machine.mapBlob(9, page)).toBe(OK_MAP);
      expect(windowBytes(machine, page, sizeBytes).every((byte) => byte === 0)).toBe(true);
      guestWrites(machine, page, value, sizeBytes);
      expect((await unmap(machine, 9)).type).toBe(OK);
      expect(windowBytes(machine, page, sizeBytes).every((byte) => byte === 0)).toBe(true);
      expect(machine.unref(9)).toBe(OK);
    }
    expect(context.openBlobs).toBe(0);
    expect(machine.gpu.counters).toMatchObject({ resources: 0, blobBytes: 0, waiting: 0 });
  });

  test('that is unreferenced without UNMAP is gone all the same, and the answer waits for that (R10)', async () => {
    const { machine, context } = contextMachine();
    using _ = machine;
    machine.createBlob(9, 8 * MiB, { ...HOST3D, ctxId: 1 });
    machine.mapBlob(9, 0);
    guestWrites(machine, 0, 255, 8 * MiB);
    expect((await machine.ask(GpuMachine.bytes(0x102, [9, 0]))).type).toBe(OK);
    expect(windowBytes(machine, 0, 8 * MiB).every((byte) => byte === 0)).toBe(true);
    expect(context.openBlobs).toBe(0);
  });

  test('keeps nobody waiting but who asked: others are answered while it is cleared', async () => {
    const { machine } = contextMachine();
    using _ = machine;
    machine.createBlob(9, 8 * MiB, { ...HOST3D, ctxId: 1 });
    machine.mapBlob(9, 0);
    guestWrites(machine, 0, 255, 8 * MiB);
    machine.post(GpuMachine.bytes(0x209, [9, 0], { flags: 1, fenceId: 1n }));
    machine.post(GpuMachine.bytes(0x104, [0, 0, 1, 1, 77, 0], { fenceId: 2n }));
    expect(machine.arrived().map(({ type }) => type)).toEqual([RESOURCE_ID]);
    let late: Reply[] = [];
    while (late.length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      late = machine.arrived();
    }
    expect(late.map(({ type, fenceId }) => [type, fenceId])).toEqual([[OK, 1n]]);
  });

  test('of another owner never shows a byte of the one before, also after a reset (R9)', async () => {
    const { machine, component } = contextMachine();
    using _ = machine;
    const check = async (ctxId: number, value: number) => {
      machine.createBlob(9, 2 * MiB, { ...HOST3D, ctxId });
      machine.mapBlob(9, MiB);
      expect(windowBytes(machine, MiB, 2 * MiB).every((byte) => byte === 0)).toBe(true);
      guestWrites(machine, MiB, value, 2 * MiB);
    };
    machine.createContext(2, 7);
    await check(1, 1);
    await unmap(machine, 9);
    machine.unref(9);
    await check(2, 2);
    machine.driver.bringUp();
    machine.createContext(3, component.capsetId);
    expect(fstatSync(machine.window!.fd).blocks).toBe(0);
    await check(3, 3);
  });

  test('that is being cleared does not disturb the next driver', () => {
    const { machine, component } = contextMachine();
    using _ = machine;
    machine.createBlob(9, 16 * MiB, { ...HOST3D, ctxId: 1 });
    machine.mapBlob(9, 0);
    guestWrites(machine, 0, 255, 16 * MiB);
    machine.post(GpuMachine.bytes(0x209, [9, 0]));
    machine.driver.bringUp();
    machine.createContext(1, component.capsetId);
    machine.createBlob(9, 16 * MiB, { ...HOST3D, ctxId: 1 });
    expect(machine.mapBlob(9, 0)).toBe(OK_MAP);
    guestWrites(machine, 0, 7, 16 * MiB);
    machine.driver.run();
    expect(windowBytes(machine, 0, 16 * MiB).every((byte) => byte === 7)).toBe(true);
    expect(machine.gpu.counters.waiting).toBe(0);
  });

  test('costs what it has in it when it is made until it is unreferenced, also when its context is gone', () => {
    const { machine, context } = contextMachine({ limits: { maxBlobBytes: 4 * page } });
    using _ = machine;
    context.initial.set(5, new Uint8Array(3 * page));
    const received = { ...HOST3D, ctxId: 1, blobId: 5 };
    expect(machine.createBlob(1, 3 * page, received)).toBe(OK);
    expect(machine.createBlob(2, 3 * page, received)).toBe(OUT_OF_MEMORY);
    expect([context.openBlobs, machine.gpu.counters.blobBytes]).toEqual([1, 3 * page]);
    machine.destroyContext(1);
    expect(machine.gpu.counters.blobBytes).toBe(3 * page);
    machine.unref(1);
    expect(machine.gpu.counters.blobBytes).toBe(0);
  });
});

describe('fences of contexts', () => {
  const fence = (fenceId: bigint, ctxId: number, ringIdx: number) => ({ flags: 3, fenceId, ctxId, ringIdx });
  const post = (machine: GpuMachine, id: bigint, ctxId: number, ringIdx: number) =>
    machine.post(GpuMachine.bytes(0x207, [0, 0], fence(id, ctxId, ringIdx)));
  const ids = (replies: readonly Reply[]) => replies.map(({ fenceId }) => Number(fenceId));

  test('are answered when they pass, with context and ring, and others go on meanwhile', () => {
    const { machine, context } = contextMachine();
    using _ = machine;
    context.passesAtOnce = false;
    post(machine, 10n, 1, 2);
    expect(machine.arrived()).toEqual([]);
    expect(machine.gpu.counters.waiting).toBe(1);
    machine.post(GpuMachine.bytes(0x104, [0, 0, 1, 1, 77, 0], { flags: 1, fenceId: 11n }));
    expect(ids(machine.arrived())).toEqual([11]);
    context.fences[2]!.shift()!();
    expect(machine.arrived()).toMatchObject([{ type: OK, ...fence(10n, 1, 2) }]);
    expect(machine.fn.queueDepths).toEqual([0, 0]);
  });

  test('pass in any order between rings and contexts, and in order on one ring', () => {
    const { machine, component, context } = contextMachine();
    using _ = machine;
    machine.createContext(2, 7);
    const other = component.contexts.get(2)!;
    for (const one of [context, other]) one.passesAtOnce = false;
    post(machine, 1n, 1, 0);
    post(machine, 2n, 1, 0);
    post(machine, 3n, 1, 1);
    post(machine, 4n, 2, 0);
    other.fences[0]![0]!();
    context.fences[1]![0]!();
    context.fences[0]![1]!();
    expect(ids(machine.arrived())).toEqual([4, 3]);
    context.fences[0]![0]!();
    expect(ids(machine.arrived())).toEqual([1, 2]);
  });

  test('that pass twice are answered once', () => {
    const { machine, context } = contextMachine();
    using _ = machine;
    context.passesAtOnce = false;
    post(machine, 1n, 1, 0);
    const [passed] = context.fences[0]!;
    passed!();
    passed!();
    expect(ids(machine.arrived())).toEqual([1]);
    passed!();
    expect(machine.arrived()).toEqual([]);
  });

  test('are all answered when their context is destroyed, before that is', () => {
    const { machine, context } = contextMachine();
    using _ = machine;
    context.passesAtOnce = false;
    for (const [id, ring] of [
      [1n, 0],
      [2n, 1],
      [3n, 1],
    ] as const) {
      post(machine, id, 1, ring);
    }
    machine.post(GpuMachine.bytes(0x201, [], { flags: 1, fenceId: 4n, ctxId: 1 }));
    expect(ids(machine.arrived())).toEqual([1, 2, 3, 4]);
    expect(machine.gpu.counters.waiting).toBe(0);
  });

  test('are forgotten at a reset, and may pass later without harm', () => {
    const { machine, context } = contextMachine();
    using _ = machine;
    context.passesAtOnce = false;
    post(machine, 1n, 1, 0);
    post(machine, 2n, 1, 0);
    machine.driver.bringUp();
    expect(machine.gpu.counters.waiting).toBe(0);
    for (const passed of context.fences[0]!) passed();
    expect(machine.arrived()).toEqual([]);
    expect(machine.create(1, 64, 48)).toBe(OK);
  });

  test('of refused requests are answered with the error at once', () => {
    const { machine, context } = contextMachine();
    using _ = machine;
    context.passesAtOnce = false;
    expect(machine.submit(1, [REFUSED_WORD], fence(5n, 1, 1))).toMatchObject({
      type: UNSPEC,
      ...fence(5n, 1, 1),
    });
  });

  test('are interrupted for, once for all that passed together', () => {
    const { machine, context } = contextMachine();
    using _ = machine;
    context.passesAtOnce = false;
    for (const id of [1n, 2n, 3n]) post(machine, id, 1, 0);
    machine.driver.queue(0).setUsedEvent(machine.driver.queue(0).usedIdx);
    const before = machine.fired.length;
    for (const passed of context.fences[0]!) passed();
    machine.driver.run();
    expect(machine.fired.length).toBe(before + 1);
    expect(ids(machine.arrived())).toEqual([1, 2, 3]);
  });
});
