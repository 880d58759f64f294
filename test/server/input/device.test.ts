/** The virtio-input device as a driver meets it. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { KeyboardDevice } from '../../../server/input/keyboard.ts';
import { KEY_CODES } from '../../../server/input/keys.ts';
import { HIGH_WATER_EVENTS, MAX_QUEUED_EVENTS } from '../../../server/input/limits.ts';
import { TabletDevice } from '../../../server/input/tablet.ts';
import { TouchDevice } from '../../../server/input/touch.ts';
import { SILENT_LOG } from '../../../server/log.ts';
import { bitsOf, EVENTS, InputMachine, STATUS, statusBytes } from '../../support/input-machine.ts';

const SYN = '0 0 0';
const A = 30;
const B = 48;
const NEEDS_RESET = 0x40;
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();

const keyboard = () => new InputMachine(new KeyboardDevice(SILENT_LOG));
const tablet = () => new InputMachine(new TabletDevice(SILENT_LOG));
const touch = () => new InputMachine(new TouchDevice(SILENT_LOG));

/** Presses and releases. */
const tap = ({ device }: InputMachine<KeyboardDevice>, code: number) => {
  device.key(code, true);
  return device.key(code, false);
};
const tapLines = (code: number) => [`1 ${code} 1`, SYN, `1 ${code} 0`, SYN];

describe('the configuration (virtio 1.3, 5.8.4)', () => {
  test('names the devices', () => {
    expect([keyboard(), tablet(), touch()].map((one) => text(one.config(1)))).toEqual([
      'vfio-user-gpu keyboard',
      'vfio-user-gpu tablet',
      'vfio-user-gpu touch screen',
    ]);
    expect([keyboard(), tablet(), touch()].map((one) => text(one.config(2)))).toEqual([
      'keyboard-0',
      'tablet-0',
      'touch-0',
    ]);
  });

  test('has ids: a virtual bus, the vendor of virtio, a product each', () => {
    expect([keyboard(), tablet(), touch()].map((one) => [...one.config(3)])).toEqual([
      [6, 0, 0xf4, 0x1a, 1, 0, 1, 0],
      [6, 0, 0xf4, 0x1a, 2, 0, 1, 0],
      [6, 0, 0xf4, 0x1a, 3, 0, 1, 0],
    ]);
  });

  test('the keyboard has every key, three LEDs and autorepeat', () => {
    const machine = keyboard();
    const all = Array.from(
      { length: 0x20 },
      (_, type) => [type, bitsOf(machine.config(0x11, type))] as const,
    );
    expect(all.filter(([, bits]) => bits.length > 0)).toEqual([
      [1, [...KEY_CODES.values()]],
      [0x11, [0, 1, 2]],
      [0x14, [0, 1]],
    ]);
    expect(machine.config(0x10)).toHaveLength(0);
  });

  test('the tablet has five buttons, wheels both ways and two axes to 32767', () => {
    const machine = tablet();
    expect([1, 2, 3].map((type) => bitsOf(machine.config(0x11, type)))).toEqual([
      [0x110, 0x111, 0x112, 0x113, 0x114],
      [6, 8, 11, 12],
      [0, 1],
    ]);
    for (const axis of [0, 1]) {
      expect([...new Int32Array(machine.config(0x12, axis).buffer)]).toEqual([0, 32767, 0, 0, 0]);
    }
    expect(machine.config(0x12, 2)).toHaveLength(0);
    expect(machine.config(0x10)).toHaveLength(0);
  });

  test('the touch screen is touched directly, by ten contacts', () => {
    const machine = touch();
    expect(bitsOf(machine.config(0x10))).toEqual([1]);
    expect([1, 3].map((type) => bitsOf(machine.config(0x11, type)))).toEqual([
      [0x14a],
      [0x2f, 0x35, 0x36, 0x39],
    ]);
    expect([...new Int32Array(machine.config(0x12, 0x2f).buffer)]).toEqual([0, 9, 0, 0, 0]);
  });

  test('what is not there has size 0, whatever is selected', () => {
    const machine = keyboard();
    for (const [select, subsel] of [
      [0, 0],
      [1, 1],
      [2, 7],
      [3, 1],
      [0x10, 1],
      [0x11, 0],
      [0x11, 2],
      [0x12, 0],
      [0x13, 0],
      [0xff, 0xff],
    ] as const) {
      expect(machine.config(select, subsel), `${select} ${subsel}`).toHaveLength(0);
    }
  });

  test('select and subsel can be written at any width, and nothing else', () => {
    const { driver } = keyboard();
    for (const width of [2, 4]) {
      driver.setDeviceConfig(0, 0x1111, width);
      expect([driver.deviceConfig(0, 1), driver.deviceConfig(1, 1), driver.deviceConfig(2, 1)]).toEqual([
        0x11, 0x11, 1,
      ]);
      driver.setDeviceConfig(0, 0, width);
      expect(driver.deviceConfig(0, 4)).toBe(0);
    }
    driver.setDeviceConfig(0, 0x0001, 2).setDeviceConfig(2, 99, 1).setDeviceConfig(8, 99, 4);
    expect(driver.deviceConfig(2, 1)).toBe('vfio-user-gpu keyboard'.length);
    expect(driver.deviceConfig(8, 1)).toBe('v'.charCodeAt(0));
    expect(driver.deviceConfig(134, 4)).toBe(0);
  });

  test('is unselected by a reset', () => {
    const machine = keyboard();
    machine.config(1);
    machine.driver.reset();
    expect([machine.driver.deviceConfig(0, 2), machine.driver.deviceConfig(2, 1)]).toEqual([0, 0]);
  });
});

describe('events', () => {
  test('of one report are published together, with one interrupt', () => {
    const machine = tablet().bringUp();
    const buttons = new Map([[0x110, true]]);
    machine.device.pointer({ x: 1, y: 2, buttons, wheelX: 0, wheelY: 0 });
    expect(machine.machine.fired).toEqual([]);
    expect(machine.take()).toEqual(['3 0 1', '3 1 2', '1 272 1', SYN]);
    expect(machine.machine.fired).toEqual([1]);
  });

  test('of several reports too, when they wait together', () => {
    const machine = keyboard().bringUp();
    tap(machine, A);
    tap(machine, B);
    expect(machine.take()).toEqual([...tapLines(A), ...tapLines(B)]);
    expect(machine.machine.fired).toEqual([1]);
  });

  test('are sent only for what changes', () => {
    const machine = tablet().bringUp();
    const report = { x: 5, y: 6, buttons: new Map(), wheelX: 0, wheelY: 0 };
    machine.device.pointer(report);
    machine.device.pointer(report);
    machine.device.pointer({ ...report, y: 7 });
    expect(machine.take()).toEqual(['3 0 5', '3 1 6', SYN, '3 1 7', SYN]);
  });

  test('all come, in order, to a driver that has few buffers', () => {
    for (const buffers of [1, 2, 3, 5]) {
      const machine = keyboard().bringUp(buffers);
      for (let i = 0; i < 20; i++) tap(machine, A + i);
      const seen: string[] = [];
      for (let taken = machine.takeAndReturn(); taken.length > 0; taken = machine.takeAndReturn()) {
        expect(taken.length).toBeLessThanOrEqual(buffers);
        seen.push(...taken);
      }
      expect(seen).toEqual(Array.from({ length: 20 }, (_, i) => tapLines(A + i)).flat());
    }
  });

  test('without a driver are dropped and counted', () => {
    const machine = keyboard();
    expect(tap(machine, A)).toBe(true);
    machine.bringUp();
    expect(machine.take()).toEqual([]);
    expect(machine.device.counters).toMatchObject({ unheard: 2, delivered: 0 });
    tap(machine, B);
    expect(machine.take()).toEqual(tapLines(B));
  });

  test('of what is held while a driver comes are part of the first report', () => {
    const machine = keyboard().bringUp();
    machine.device.key(A, true);
    expect(machine.take()).toEqual([`1 ${A} 1`, SYN]);
    machine.bringUp();
    expect(machine.take()).toEqual([]);
    machine.device.key(B, true);
    expect(machine.take()).toEqual([`1 ${A} 1`, `1 ${B} 1`, SYN]);
  });

  test('that a driver did not take are nothing to the next one', () => {
    const machine = keyboard().bringUp(0);
    tap(machine, A);
    machine.bringUp();
    expect(machine.take()).toEqual([]);
    expect(machine.device.counters.waiting).toBe(0);
  });
});

describe('a guest that is slow', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  /** Taps until told to wait; returns how often. */
  function fill(machine: InputMachine<KeyboardDevice>): number {
    for (let taps = 1; ; taps++) if (!tap(machine, A)) return taps;
  }
  const settled = async (promise: Promise<void>) => {
    let isSettled = false;
    void promise.then(() => {
      isSettled = true;
    });
    await Promise.resolve();
    await Promise.resolve();
    return isSettled;
  };

  test('makes senders wait until half of it is taken, and loses nothing', async () => {
    const machine = keyboard().bringUp(64);
    const taps = fill(machine);
    expect(taps).toBe(HIGH_WATER_EVENTS / 4);
    const drained = machine.device.drained();
    const seen = machine.take();
    expect(seen).toHaveLength(64);
    expect(await settled(drained)).toBe(false);
    machine.supply(64);
    seen.push(...machine.take());
    expect(await settled(drained)).toBe(true);
    while (machine.device.counters.waiting > 0) {
      machine.supply(64);
      seen.push(...machine.take());
    }
    expect(seen).toEqual(Array.from({ length: taps }, () => tapLines(A)).flat());
    expect(vi.getTimerCount()).toBe(0);
  });

  test('has a second between buffers', async () => {
    const machine = keyboard().bringUp(1);
    fill(machine);
    const drained = machine.device.drained();
    for (let i = 0; i < 5; i++) {
      vi.advanceTimersByTime(900);
      machine.supply(1);
      machine.take();
    }
    expect(await settled(drained)).toBe(false);
    vi.advanceTimersByTime(1000);
    expect(await settled(drained)).toBe(true);
  });

  test('that takes nothing is not waited for, and what it misses is counted', async () => {
    const machine = keyboard().bringUp(0);
    const taps = fill(machine);
    const drained = machine.device.drained();
    vi.advanceTimersByTime(999);
    expect(await settled(drained)).toBe(false);
    vi.advanceTimersByTime(1);
    expect(await settled(drained)).toBe(true);
    expect(await settled(machine.device.drained())).toBe(true);
    expect(tap(machine, B)).toBe(true);
    expect(machine.device.counters).toMatchObject({ waiting: taps * 4, refused: 1 });
  });

  test('is told the difference when it takes again: nothing stays pressed, what is held is pressed', async () => {
    const machine = keyboard().bringUp(0);
    machine.device.key(B, true);
    fill(machine);
    vi.advanceTimersByTime(1000);
    machine.device.key(B, false);
    machine.device.key(A, true);
    machine.device.key(A + 1, true);
    machine.device.key(A + 1, false);
    const seen: string[] = [];
    for (let i = 0; i < 20; i++) {
      machine.supply(64);
      seen.push(...machine.take());
    }
    expect(seen.slice(-3)).toEqual([`1 ${B} 0`, `1 ${A} 1`, SYN]);
    expect(machine.device.counters.waiting).toBe(0);
  });

  test('with less than makes senders wait is not waited for longer either', async () => {
    const machine = keyboard().bringUp(0);
    for (let taps = 0; taps < HIGH_WATER_EVENTS / 4 - 10; taps++) expect(tap(machine, A)).toBe(true);
    const drained = machine.device.drained();
    expect(await settled(drained)).toBe(false);
    vi.advanceTimersByTime(1000);
    expect(await settled(drained)).toBe(true);
  });

  test('never costs more than the queue, also with senders that do not wait', () => {
    const machine = keyboard().bringUp(0);
    for (let i = 0; i < MAX_QUEUED_EVENTS; i++) tap(machine, A);
    const { waiting, refused } = machine.device.counters;
    expect(waiting).toBe(MAX_QUEUED_EVENTS);
    expect(refused).toBeGreaterThan(0);
  });

  test('that resets leaves no sender waiting and no timer', async () => {
    const machine = keyboard().bringUp(0);
    fill(machine);
    const drained = machine.device.drained();
    machine.driver.reset();
    expect(await settled(drained)).toBe(true);
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe('LEDs', () => {
  const led = (code: number, value: number) => ({ type: 0x11, code, value });

  test('are unknown until a driver sets one, and after it has gone', () => {
    const machine = keyboard().bringUp();
    const heard: unknown[] = [];
    const stop = machine.device.onLeds(() => heard.push(machine.device.leds));
    expect(machine.device.leds).toBe(undefined);
    machine.sendStatus(led(1, 1));
    expect(machine.device.leds).toEqual({ numLock: false, capsLock: true, scrollLock: false });
    machine.sendStatus(led(0, 1), led(1, 0), led(2, 5));
    expect(machine.device.leds).toEqual({ numLock: true, capsLock: false, scrollLock: true });
    machine.driver.reset();
    expect(machine.device.leds).toBe(undefined);
    expect(heard).toHaveLength(3);
    machine.bringUp();
    for (let i = 0; i < 10; i++) machine.sendStatus(led(1, 1));
    expect(heard).toHaveLength(4);
    stop();
    machine.sendStatus(led(1, 0));
    expect(heard).toHaveLength(4);
  });

  test('other events and other lamps are taken and mean nothing', () => {
    const machine = keyboard().bringUp();
    machine.sendStatus(led(3, 1), { type: 0x14, code: 0, value: 250 }, { type: 0, code: 0, value: 0 });
    expect(machine.device.leds).toBe(undefined);
    expect(machine.device.counters).toMatchObject({ status: 3, uselessBuffers: 0 });
    expect(machine.driver.queue(STATUS).takeUsed()).toHaveLength(3);
  });

  test('a device without any takes them too', () => {
    const machine = tablet().bringUp();
    machine.sendStatus(led(0, 1));
    expect(machine.device.counters.status).toBe(1);
  });
});

describe('a hostile driver', () => {
  test('with event buffers that are too small, or not to be written, gets them back empty; no event is lost', () => {
    const machine = keyboard().bringUp(0);
    const { memory, eventQueue } = machine;
    const address = memory.allocate(64);
    tap(machine, A);
    eventQueue.add([{ address, length: 7, flags: 2 }]);
    eventQueue.add([{ address, length: 64 }]);
    eventQueue.add([{ address, length: 1, flags: 2 }]);
    machine.driver.kick(EVENTS);
    expect(machine.driver.run() && eventQueue.takeUsed().map(({ written }) => written)).toEqual([0, 0, 0]);
    expect(machine.device.counters).toMatchObject({ uselessBuffers: 3, waiting: 4 });
    machine.supply(4);
    expect(machine.take()).toEqual(tapLines(A));
  });

  test('may cut an event buffer in pieces, put a readable part before it, or make it too large', () => {
    const machine = keyboard().bringUp(0);
    const { memory, eventQueue } = machine;
    const address = memory.allocate(256);
    const at = (offset: number, length: number, flags = 2) => ({ address: address + offset, length, flags });
    machine.device.key(A, true);
    machine.device.key(A, false);
    eventQueue.add([at(0, 3), at(3, 1), at(4, 4)]);
    eventQueue.add([at(200, 20, 0), at(8, 8)]);
    eventQueue.addIndirect([at(16, 100)]);
    eventQueue.add([at(24, 8)]);
    machine.driver.kick(EVENTS).run();
    expect(eventQueue.takeUsed().map(({ written }) => written)).toEqual([8, 8, 8, 8]);
    expect([...new Uint32Array(memory.bytes(address, 32).slice().buffer)]).toEqual([
      (A << 16) | 1,
      1,
      0,
      0,
      (A << 16) | 1,
      0,
      0,
      0,
    ]);
  });

  test('with status buffers that are too short, or not to be read, gets them back', () => {
    const machine = keyboard().bringUp();
    const queue = machine.driver.queue(STATUS);
    machine.sendStatus(new Uint8Array(7));
    queue.add([{ address: machine.memory.allocate(64), length: 64, flags: 2 }]);
    machine.driver.kick(STATUS).run();
    expect(queue.takeUsed().map(({ written }) => written)).toEqual([0, 0]);
    expect(machine.device.counters).toMatchObject({ status: 0, uselessBuffers: 2 });
    expect(machine.device.leds).toBe(undefined);
  });

  test('with long or many status buffers is heard once each', () => {
    const machine = keyboard().bringUp();
    const long = new Uint8Array(4096);
    long.set(statusBytes({ type: 0x11, code: 1, value: 1 }));
    machine.sendStatus(...Array.from({ length: 64 }, () => long));
    expect(machine.device.counters.status).toBe(64);
    expect(machine.device.leds).toMatchObject({ capsLock: true });
  });

  test.each([
    [
      'that makes too many buffers available',
      (machine: InputMachine) => machine.eventQueue.setAvailIdx(1000),
    ],
    [
      'whose buffer lies nowhere',
      ({ eventQueue }: InputMachine) => eventQueue.add([{ address: 2 ** 40, length: 8, flags: 2 }]),
    ],
    ['whose head is none', ({ eventQueue }: InputMachine) => eventQueue.makeAvailable(64)],
  ])('%s: NEEDS_RESET, senders do not fail, and the next driver is served', (_, breakRing) => {
    const machine = keyboard().bringUp(0);
    breakRing(machine);
    machine.driver.kick(EVENTS).run();
    tap(machine, A);
    machine.driver.run();
    expect(machine.driver.common('status') & NEEDS_RESET).toBe(NEEDS_RESET);
    expect(machine.machine.guestErrors).toHaveLength(1);
    tap(machine, A);
    machine.bringUp();
    tap(machine, B);
    expect(machine.take()).toEqual(tapLines(B));
  });

  test('that takes away the memory of its buffers loses no event that fits elsewhere', () => {
    const machine = keyboard().bringUp(0);
    const { memory, eventQueue } = machine;
    memory.map(0x100_0000, 4096);
    eventQueue.add([{ address: 0x100_0000, length: 8, flags: 2 }]);
    machine.driver.kick(EVENTS).run();
    memory.unmap(0x100_0000);
    tap(machine, A);
    machine.driver.run();
    expect(eventQueue.takeUsed().map(({ written }) => written)).toEqual([0]);
    machine.supply(8);
    expect(machine.take()).toEqual(tapLines(A));
  });

  test('without an event queue, or without a status queue, breaks nothing', () => {
    const machine = keyboard();
    const { driver } = machine;
    driver.enableBusMaster().reset().acknowledge();
    driver.negotiate(driver.offeredFeatures());
    driver.driverOk().run();
    tap(machine, A);
    driver.kick(EVENTS).kick(STATUS).run();
    expect(driver.common('status') & NEEDS_RESET).toBe(0);
    expect(machine.device.counters.delivered).toBe(0);
  });
});
