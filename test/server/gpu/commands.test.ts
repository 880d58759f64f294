import { readdirSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  GpuMachine,
  OK,
  OUT_OF_MEMORY,
  PARAMETER,
  RESOURCE_ID,
  SCANOUT_ID,
  UNSPEC,
} from '../../support/gpu-machine.ts';

const FULL = { x: 0, y: 0, width: 64, height: 48 };
/** Distinct in every channel, row and column. */
const pattern = (x: number, y: number) => [x * 3, y * 5, x ^ y, 0x77];

describe('the device configuration', () => {
  test('counts scanouts, and has no capsets and no events at first', () => {
    using machine = new GpuMachine({ modes: Array(3).fill({ width: 640, height: 480, refreshHz: 60 }) });
    expect([0, 4, 8, 12, 16].map((at) => machine.driver.deviceConfig(at))).toEqual([0, 0, 3, 0, 0]);
  });

  test('offers EDID, RESOURCE_UUID, RESOURCE_BLOB, INDIRECT_DESC, EVENT_IDX and VERSION_1', () => {
    using machine = new GpuMachine();
    expect(machine.driver.offeredFeatures()).toBe(0x1_3000_000en);
  });

  test('only events_clear can be written', () => {
    using machine = new GpuMachine();
    machine.screens[0]?.setMode({ width: 800, height: 600, refreshHz: 60 });
    for (const at of [0, 8, 12]) machine.driver.setDeviceConfig(at, 0xffff_ffff);
    machine.driver.setDeviceConfig(4, 0xff, 1);
    expect([0, 8, 12].map((at) => machine.driver.deviceConfig(at))).toEqual([1, 1, 0]);
  });

  test.each([0, 17])('%i displays are refused', (count) => {
    expect(
      () => new GpuMachine({ modes: Array(count).fill({ width: 64, height: 48, refreshHz: 60 }) }),
    ).toThrow();
  });
});

describe('GET_DISPLAY_INFO', () => {
  test('gives 16 entries, the configured displays side by side', () => {
    using machine = new GpuMachine({
      modes: [
        { width: 1280, height: 800, refreshHz: 60 },
        { width: 1024, height: 768, refreshHz: 60 },
      ],
    });
    const { type, bytes } = machine.displayInfo();
    const words = [...new Uint32Array(bytes.slice(24).buffer)];
    expect(type).toBe(0x1101);
    expect(bytes.length).toBe(408);
    expect(words.slice(0, 18)).toEqual([0, 0, 1280, 800, 1, 0, 1280, 0, 1024, 768, 1, 0, 0, 0, 0, 0, 0, 0]);
    expect(words.slice(18).every((word) => word === 0)).toBe(true);
  });
});

describe('GET_EDID', () => {
  test('gives the true size and a block whose bytes sum to 0', () => {
    using machine = new GpuMachine();
    const { type, bytes } = machine.edid(0);
    const size = new DataView(bytes.buffer, bytes.byteOffset).getUint32(24, true);
    const block = bytes.subarray(32, 32 + 128);
    expect(type).toBe(0x1104);
    expect(bytes.length).toBe(1056);
    expect(size % 128).toBe(0);
    expect(block.reduce((sum, byte) => (sum + byte) & 0xff, 0)).toBe(0);
  });

  test('is PARAMETER for a scanout that does not exist', () => {
    using machine = new GpuMachine();
    expect(machine.edid(1).type).toBe(PARAMETER);
  });
});

describe('RESOURCE_CREATE_2D', () => {
  test.each([1, 2, 3, 4, 67, 68, 121, 134])('takes format %i', (format) => {
    using machine = new GpuMachine();
    expect(machine.create(1, 64, 48, format)).toBe(OK);
  });

  test.each([0, 5, 66, 3000])('refuses format %i with PARAMETER', (format) => {
    using machine = new GpuMachine();
    expect(machine.create(1, 64, 48, format)).toBe(PARAMETER);
  });

  test('refuses id 0 and an id in use with RESOURCE_ID, before looking at anything else', () => {
    using machine = new GpuMachine();
    expect(machine.create(0, 64, 48)).toBe(RESOURCE_ID);
    expect(machine.create(1, 64, 48)).toBe(OK);
    expect(machine.create(1, 0, 0, 3000)).toBe(RESOURCE_ID);
  });

  test.each([
    [0, 48],
    [64, 0],
    [16385, 1],
    [1, 16385],
    [65535, 65535],
    [2 ** 31, 2],
  ])('refuses %i x %i with PARAMETER', (width, height) => {
    using machine = new GpuMachine();
    expect(machine.create(1, width, height)).toBe(PARAMETER);
  });

  test('takes exactly the quota and refuses one pixel more with OUT_OF_MEMORY', () => {
    using machine = new GpuMachine({ limits: { maxResourceBytes: 64 * 48 * 4 } });
    expect(machine.create(1, 64, 48)).toBe(OK);
    expect(machine.create(2, 1, 1)).toBe(OUT_OF_MEMORY);
    expect(machine.unref(1)).toBe(OK);
    expect(machine.create(2, 1, 1)).toBe(OK);
  });

  test('refuses one resource more than the limit with OUT_OF_MEMORY', () => {
    using machine = new GpuMachine({ limits: { maxResources: 3 } });
    expect([1, 2, 3, 4].map((id) => machine.create(id, 16, 16))).toEqual([OK, OK, OK, OUT_OF_MEMORY]);
  });

  test('starts black', () => {
    using machine = new GpuMachine();
    machine.create(1, 64, 48);
    machine.setScanout(0, 1, FULL);
    expect(machine.pixel(3, 4)).toEqual([0, 0, 0]);
  });
});

describe('backing', () => {
  test('is attached once and detached once', () => {
    using machine = new GpuMachine();
    machine.create(1, 64, 48);
    const entry = { address: machine.memory.allocate(4096, 4096), length: 4096 };
    expect(machine.detach(1)).toBe(UNSPEC);
    expect(machine.attach(1, [entry])).toBe(OK);
    expect(machine.attach(1, [entry])).toBe(UNSPEC);
    expect(machine.detach(1)).toBe(OK);
    expect(machine.detach(1)).toBe(UNSPEC);
    expect(machine.attach(1, [entry])).toBe(OK);
  });

  test('of an unknown resource is RESOURCE_ID', () => {
    using machine = new GpuMachine();
    expect(machine.attach(7, [{ address: machine.memory.address, length: 16 }])).toBe(RESOURCE_ID);
    expect(machine.detach(7)).toBe(RESOURCE_ID);
  });

  test('entries may be split over several descriptors', () => {
    using machine = new GpuMachine();
    machine.create(1, 64, 48);
    const address = machine.memory.allocate(8192, 4096);
    const head = machine.segment(GpuMachine.bytes(0x106, [1, 2]));
    const first = machine.segment(
      new Uint8Array(new Uint32Array([address, 0, 4096, 0, address + 4096]).buffer),
    );
    const second = machine.segment(new Uint8Array(new Uint32Array([0, 4096, 0]).buffer));
    const room = machine.room(24);
    expect(machine.sendChain(0, [head, first, second, room])).toBe(24);
    expect(machine.memory.data(room.address, 4).getUint32(0, true)).toBe(OK);
    expect(machine.gpu.counters.memoryEntries).toBe(2);
  });
});

describe('a frame', () => {
  test.each([
    [1, [0, 1, 2], 'B8G8R8A8'],
    [2, [0, 1, 2], 'B8G8R8X8'],
    [3, [3, 2, 1], 'A8R8G8B8'],
    [4, [3, 2, 1], 'X8R8G8B8'],
    [67, [2, 1, 0], 'R8G8B8A8'],
    [68, [1, 2, 3], 'X8B8G8R8'],
    [121, [1, 2, 3], 'A8B8G8R8'],
    [134, [2, 1, 0], 'R8G8B8X8'],
  ])('in format %i shows the colours its name says', (format, [blue, green, red]) => {
    using machine = new GpuMachine();
    const address = machine.makeResource(1, 64, 48, format);
    machine.paint(address, 64, 48, () => {
      const bytes = [9, 9, 9, 9];
      bytes[red as number] = 200;
      bytes[green as number] = 100;
      bytes[blue as number] = 50;
      return bytes;
    });
    expect(machine.transfer(1, FULL)).toBe(OK);
    expect(machine.setScanout(0, 1, FULL)).toBe(OK);
    expect(machine.flush(1, FULL)).toBe(OK);
    expect(machine.pixel(5, 6)).toEqual([200, 100, 50]);
  });

  test('from scattered pages in any order is whole', () => {
    using machine = new GpuMachine();
    const pages = [0, 1, 2].map(() => machine.memory.allocate(4096, 4096));
    machine.create(1, 64, 48);
    machine.attach(
      1,
      [2, 0, 1].map((i) => ({ address: pages[i] as number, length: 4096 })),
    );
    for (const [i, page] of [2, 0, 1].entries()) {
      machine.memory.bytes(pages[page] as number, 4096).fill(10 + i);
    }
    machine.transfer(1, FULL);
    machine.setScanout(0, 1, FULL);
    expect([machine.pixel(0, 0), machine.pixel(63, 16), machine.pixel(63, 47)]).toEqual([
      [10, 10, 10],
      [11, 11, 11],
      [12, 12, 12],
    ]);
  });

  test('is updated by a rectangle with the offset of its first pixel', () => {
    using machine = new GpuMachine();
    const address = machine.makeResource(1, 64, 48);
    machine.transfer(1, FULL);
    machine.paint(address, 64, 48, pattern);
    machine.transfer(1, { x: 10, y: 20, width: 8, height: 4 }, (20 * 64 + 10) * 4);
    machine.setScanout(0, 1, FULL);
    expect(machine.pixel(10, 20)).toEqual([10 ^ 20, 100, 30]);
    expect(machine.pixel(17, 23)).toEqual([17 ^ 23, 115, 51]);
    expect(machine.pixel(9, 20)).toEqual([0, 0, 0]);
    expect(machine.pixel(18, 23)).toEqual([0, 0, 0]);
    expect(machine.pixel(10, 24)).toEqual([0, 0, 0]);
  });

  test('counts the copied bytes', () => {
    using machine = new GpuMachine();
    machine.makeResource(1, 64, 48);
    machine.transfer(1, { x: 0, y: 0, width: 8, height: 4 });
    expect(machine.gpu.counters.copiedBytes).toEqual({ transfers: 128, flushes: 0 });
  });

  test('shows a part of a larger resource', () => {
    using machine = new GpuMachine();
    const address = machine.makeResource(1, 128, 96);
    machine.paint(address, 128, 96, pattern);
    machine.transfer(1, { x: 0, y: 0, width: 128, height: 96 });
    machine.setScanout(0, 1, { x: 30, y: 40, width: 64, height: 48 });
    expect(machine.snapshot()).toMatchObject({ width: 64, height: 48 });
    expect(machine.pixel(0, 0)).toEqual([30 ^ 40, 200, 90]);
    expect(machine.pixel(63, 47)).toEqual([93 ^ 87, (87 * 5) & 0xff, (93 * 3) & 0xff]);
  });

  test('of one resource can be on two displays', () => {
    const mode = { width: 64, height: 48, refreshHz: 60 };
    using machine = new GpuMachine({ modes: [mode, mode] });
    const address = machine.makeResource(1, 64, 48);
    machine.paint(address, 64, 48, pattern);
    machine.setScanout(0, 1, FULL);
    machine.setScanout(1, 1, FULL);
    machine.transfer(1, FULL);
    machine.flush(1, FULL);
    expect(machine.pixel(7, 9, 1)).toEqual(machine.pixel(7, 9, 0));
    expect(machine.screens.map(({ flushes }) => flushes)).toEqual([1, 1]);
  });

  test('that lies outside of what is shown flushes no display', () => {
    using machine = new GpuMachine();
    machine.makeResource(1, 128, 96);
    machine.setScanout(0, 1, FULL);
    machine.flush(1, { x: 64, y: 48, width: 64, height: 48 });
    expect(machine.screens[0]?.flushes).toBe(0);
  });
});

describe('SET_SCANOUT', () => {
  test('with resource 0 switches off, whatever the rectangle', () => {
    using machine = new GpuMachine();
    machine.makeResource(1, 64, 48);
    machine.setScanout(0, 1, FULL);
    expect(machine.setScanout(0, 0, { x: 9, y: 9, width: 2 ** 32 - 1, height: 0 })).toBe(OK);
    expect(machine.screens[0]?.picture).toBeUndefined();
  });

  test('of a resource without backing shows what the host has', () => {
    using machine = new GpuMachine();
    const address = machine.makeResource(1, 64, 48);
    machine.paint(address, 64, 48, () => [1, 2, 3, 0]);
    machine.transfer(1, FULL);
    machine.detach(1);
    expect(machine.setScanout(0, 1, FULL)).toBe(OK);
    expect(machine.pixel(0, 0)).toEqual([3, 2, 1]);
  });

  test.each([1, 16, 0xffff_ffff])('on scanout %i is SCANOUT_ID where there is one display', (scanout) => {
    using machine = new GpuMachine();
    machine.makeResource(1, 64, 48);
    expect(machine.setScanout(scanout, 1, FULL)).toBe(SCANOUT_ID);
  });

  test('of an unknown resource is RESOURCE_ID', () => {
    using machine = new GpuMachine();
    expect(machine.setScanout(0, 9, FULL)).toBe(RESOURCE_ID);
  });

  test.each([
    { x: 0, y: 0, width: 1, height: 1 },
    { x: 0, y: 0, width: 15, height: 48 },
    { x: 1, y: 0, width: 64, height: 48 },
    { x: 0, y: 0, width: 64, height: 49 },
    { x: 0xffff_ffff, y: 0, width: 32, height: 32 },
  ])('of rectangle %o in 64x48 is PARAMETER', (rect) => {
    using machine = new GpuMachine();
    machine.makeResource(1, 64, 48);
    expect(machine.setScanout(0, 1, rect)).toBe(PARAMETER);
  });
});

describe('RESOURCE_UNREF', () => {
  test('of what is shown blanks the display', () => {
    using machine = new GpuMachine();
    machine.makeResource(1, 64, 48);
    machine.setScanout(0, 1, FULL);
    expect(machine.unref(1)).toBe(OK);
    expect(machine.screens[0]?.picture).toBeUndefined();
    expect(machine.gpu.counters).toMatchObject({ resources: 0, resourceBytes: 0, memoryEntries: 0 });
  });

  test('frees the id for the same batch', () => {
    using machine = new GpuMachine();
    machine.create(1, 64, 48);
    const requests = [
      GpuMachine.bytes(0x102, [1, 0]),
      GpuMachine.bytes(0x101, [1, 2, 32, 32]),
      GpuMachine.bytes(0x101, [1, 2, 32, 32]),
    ];
    const rooms = requests.map((bytes) => {
      const room = machine.room(24);
      machine.driver.queue(0).add([machine.segment(bytes), room]);
      return room;
    });
    machine.driver.kick(0).run();
    const codes = rooms.map(({ address }) => machine.memory.data(address, 4).getUint32(0, true));
    expect(codes).toEqual([OK, OK, RESOURCE_ID]);
  });

  test('of an unknown resource is RESOURCE_ID', () => {
    using machine = new GpuMachine();
    expect(machine.unref(5)).toBe(RESOURCE_ID);
  });
});

describe('the cursor', () => {
  const cursorMachine = () => {
    const machine = new GpuMachine();
    const screen = machine.makeResource(1, 64, 48);
    machine.paint(screen, 64, 48, () => [100, 100, 100, 0]);
    machine.transfer(1, FULL);
    machine.setScanout(0, 1, FULL);
    const cursor = machine.makeResource(2, 8, 8);
    return { machine, cursor };
  };
  const ALL = { x: 0, y: 0, width: 8, height: 8 };

  test('is answered with used length 0, as Linux leaves no room', () => {
    const { machine } = cursorMachine();
    using _ = machine;
    expect(machine.updateCursor(0, 2, 0, 0)).toBe(0);
    expect(machine.moveCursor(0, 2, 0, 0)).toBe(0);
  });

  test('with room for a header is answered with one', () => {
    const { machine } = cursorMachine();
    using _ = machine;
    const room = machine.room(24);
    const bytes = GpuMachine.bytes(0x301, [0, 1, 2, 0, 2, 0, 0, 0]);
    expect(machine.sendChain(1, [machine.segment(bytes), room])).toBe(24);
    expect(machine.memory.data(room.address, 4).getUint32(0, true)).toBe(OK);
  });

  test('covers the picture where it is opaque and mixes where it is not', () => {
    const { machine, cursor } = cursorMachine();
    using _ = machine;
    machine.paint(
      cursor,
      8,
      8,
      (x) =>
        [
          [10, 20, 30, 255],
          [0, 0, 0, 0],
          [40, 40, 40, 128],
        ][x % 3] as number[],
    );
    machine.transfer(2, ALL);
    machine.updateCursor(0, 2, 4, 5, 1, 1);
    const at = (x: number) => machine.pixel(x, 5, 0, { cursor: true });
    expect(at(4)).toEqual([30, 20, 10]);
    expect(at(5)).toEqual([100, 100, 100]);
    expect(at(6)).toEqual([90, 90, 90]);
    expect(at(3)).toEqual([100, 100, 100]);
    expect(machine.pixel(4, 5)).toEqual([100, 100, 100]);
  });

  test('keeps the image of the moment it was set', () => {
    const { machine, cursor } = cursorMachine();
    using _ = machine;
    machine.paint(cursor, 8, 8, () => [1, 2, 3, 255]);
    machine.transfer(2, ALL);
    machine.updateCursor(0, 2, 0, 0);
    machine.paint(cursor, 8, 8, () => [9, 9, 9, 255]);
    machine.transfer(2, ALL);
    machine.unref(2);
    expect(machine.pixel(0, 0, 0, { cursor: true })).toEqual([3, 2, 1]);
  });

  test('moves, also out of the picture on the left and at the top', () => {
    const { machine, cursor } = cursorMachine();
    using _ = machine;
    machine.paint(cursor, 8, 8, (x, y) => [x, y, 0, 255]);
    machine.transfer(2, ALL);
    machine.updateCursor(0, 2, 0, 0);
    machine.moveCursor(0, 2, -3, -5);
    expect(machine.screens[0]?.cursor).toMatchObject({ x: -3, y: -5, visible: true });
    expect(machine.pixel(0, 0, 0, { cursor: true })).toEqual([0, 5, 3]);
    machine.moveCursor(0, 2, 60, 44);
    expect(machine.pixel(63, 47, 0, { cursor: true })).toEqual([0, 3, 3]);
  });

  test('is hidden by resource 0, in an update and in a move', () => {
    const { machine } = cursorMachine();
    using _ = machine;
    machine.updateCursor(0, 2, 0, 0);
    expect(machine.screens[0]?.cursor.visible).toBe(true);
    machine.updateCursor(0, 0, 0, 0);
    expect(machine.screens[0]?.cursor.visible).toBe(false);
    machine.moveCursor(0, 2, 0, 0);
    expect(machine.screens[0]?.cursor.visible).toBe(true);
    machine.moveCursor(0, 0, 0, 0);
    expect(machine.screens[0]?.cursor.visible).toBe(false);
  });

  test('remembers its hotspot', () => {
    const { machine } = cursorMachine();
    using _ = machine;
    machine.updateCursor(0, 2, 0, 0, 3, 4);
    expect(machine.screens[0]?.cursor).toMatchObject({ hotX: 3, hotY: 4, width: 8, height: 8 });
  });
});

describe('fences', () => {
  test('come back with the answer, context included; everything else in the header is 0', () => {
    using machine = new GpuMachine();
    const fence = { flags: 1, fenceId: 0xffff_ffff_ffff_ffffn, ctxId: 7 };
    const reply = machine.send(GpuMachine.bytes(0x101, [1, 2, 64, 48], fence));
    expect(reply).toMatchObject({
      type: OK,
      flags: 1,
      fenceId: 0xffff_ffff_ffff_ffffn,
      ctxId: 7,
      ringIdx: 0,
    });
    const plain = machine.send(GpuMachine.bytes(0x102, [1, 0], { fenceId: 5n, ctxId: 7, ringIdx: 3 }));
    expect(plain).toMatchObject({ type: OK, flags: 0, fenceId: 0n, ctxId: 0, ringIdx: 0 });
  });

  test('come back with an error at once', () => {
    using machine = new GpuMachine();
    const reply = machine.send(GpuMachine.bytes(0x102, [9, 0], { flags: 1, fenceId: 3n }));
    expect(reply).toMatchObject({ type: RESOURCE_ID, flags: 1, fenceId: 3n });
  });

  test('come back with display info and EDID', () => {
    using machine = new GpuMachine();
    expect(machine.send(GpuMachine.bytes(0x100, [], { flags: 1, fenceId: 8n }))).toMatchObject({
      fenceId: 8n,
    });
    expect(machine.send(GpuMachine.bytes(0x10a, [0, 0], { flags: 1, fenceId: 9n }))).toMatchObject({
      fenceId: 9n,
    });
  });

  test.each([0n, 1n, 2n ** 64n - 1n])('of id %i are echoed, repeated or decreasing', (fenceId) => {
    using machine = new GpuMachine();
    for (let i = 0; i < 2; i++) {
      expect(machine.send(GpuMachine.bytes(0x100, [], { flags: 1, fenceId })).fenceId).toBe(fenceId);
    }
  });
});

describe('reset', () => {
  test('frees everything and shows nothing', () => {
    using machine = new GpuMachine();
    machine.makeResource(1, 64, 48);
    machine.makeResource(2, 8, 8);
    machine.setScanout(0, 1, FULL);
    machine.updateCursor(0, 2, 0, 0);
    machine.driver.reset();
    expect(machine.gpu.counters).toMatchObject({ resources: 0, resourceBytes: 0, memoryEntries: 0 });
    expect(machine.screens[0]?.picture).toBeUndefined();
    expect(machine.screens[0]?.cursor.visible).toBe(false);
  });

  test('forgets old ids', () => {
    using machine = new GpuMachine();
    machine.makeResource(1, 64, 48);
    machine.driver.bringUp();
    expect(machine.unref(1)).toBe(RESOURCE_ID);
    expect(machine.create(1, 64, 48)).toBe(OK);
  });

  test('keeps the mode the host asked for', () => {
    using machine = new GpuMachine();
    machine.screens[0]?.setMode({ width: 800, height: 600, refreshHz: 60 });
    machine.driver.bringUp();
    expect(machine.driver.deviceConfig(0)).toBe(0);
    expect([...new Uint32Array(machine.displayInfo().bytes.slice(24, 40).buffer)]).toEqual([0, 0, 800, 600]);
  });

  test('a hundred times with everything in use leaks nothing', () => {
    using machine = new GpuMachine();
    const openFds = () => readdirSync('/proc/self/fd').length;
    const before = openFds();
    for (let i = 0; i < 100; i++) {
      machine.create(1, 64, 48);
      machine.create(2, 64, 48);
      machine.setScanout(0, 1, FULL);
      machine.driver.bringUp({ queueSize: 16 });
    }
    expect(openFds()).toBe(before);
  });
});
