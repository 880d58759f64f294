import { describe, expect, test } from 'vitest';
import { RegisterBlock } from '../../../pci/index.ts';
import { nextStatus } from '../../../pci/virtio/common-config.ts';
import type { FakeDriver } from '../../../testing/fake-driver.ts';
import { powerOn } from '../../../testing/power-on.ts';
import { ECHO_DEPENDENT_FEATURE, ECHO_FEATURE, EchoDevice } from '../../support/echo-device.ts';

const ACKNOWLEDGE = 1;
const DRIVER = 2;
const DRIVER_OK = 4;
const FEATURES_OK = 8;
const NEEDS_RESET = 64;
const FAILED = 128;
const VERSION_1 = 1n << 32n;

describe('the device status', () => {
  /** Every status, every written value, features acceptable or not. */
  const everyPair = Array.from({ length: 256 * 256 * 2 }, (_, i) => {
    const now = i & 0xff;
    const written = (i >> 8) & 0xff;
    const acceptable = i >= 256 * 256;
    return { now, written, acceptable, next: nextStatus(now, written, acceptable) };
  });

  test('never loses a bit by a write other than 0', () => {
    expect(everyPair.filter(({ now, next }) => (now & ~next) !== 0)).toEqual([]);
  });

  test('sets no bit that was not written', () => {
    expect(everyPair.filter(({ now, written, next }) => (next & ~now & ~written) !== 0)).toEqual([]);
  });

  test('gains ACKNOWLEDGE, DRIVER and FAILED whenever they are written', () => {
    const free = ACKNOWLEDGE | DRIVER | FAILED;
    expect(everyPair.filter(({ written, next }) => (written & free & ~next) !== 0)).toEqual([]);
  });

  test('gains FEATURES_OK exactly when it is written with acceptable features', () => {
    const wrong = everyPair.filter(({ now, written, acceptable, next }) => {
      const gained = (next & ~now & FEATURES_OK) !== 0;
      return gained !== ((now & FEATURES_OK) === 0 && (written & FEATURES_OK) !== 0 && acceptable);
    });
    expect(wrong).toEqual([]);
  });

  test('gains DRIVER_OK only together with or after FEATURES_OK', () => {
    const wrong = everyPair.filter(({ now, next }) => {
      const gained = (next & ~now & DRIVER_OK) !== 0;
      return gained && (next & FEATURES_OK) === 0;
    });
    expect(wrong).toEqual([]);
  });

  test('never gains NEEDS_RESET, SUSPEND or the unused bit from the driver', () => {
    const reserved = NEEDS_RESET | 16 | 32;
    expect(everyPair.filter(({ now, next }) => (next & ~now & reserved) !== 0)).toEqual([]);
  });
});

describe('feature negotiation', () => {
  test('offers the device features, INDIRECT_DESC, EVENT_IDX and VERSION_1', () => {
    const { driver } = powerOn(new EchoDevice());
    expect(driver.offeredFeatures()).toBe(0x1_3000_0018n);
  });

  test('windows 2, 3 and beyond read 0', () => {
    const { driver } = powerOn(new EchoDevice());
    const windows = [2, 3, 4, 0xffff_ffff].map((select) =>
      driver.setCommon('deviceFeatureSelect', select).common('deviceFeature'),
    );
    expect(windows).toEqual([0, 0, 0, 0]);
  });

  test('accepts writes of 0 to windows 2 and 3, as Linux 7.1 sends them', () => {
    const { driver } = powerOn(new EchoDevice());
    for (const select of [2, 3])
      driver.setCommon('driverFeatureSelect', select).setCommon('driverFeature', 0);
    expect(driver.acknowledge().negotiate(VERSION_1)).toBe(true);
  });

  test.each([
    ['without VERSION_1', ECHO_FEATURE],
    ['with a bit that was not offered', VERSION_1 | (1n << 34n)],
    ['with a dependent bit but not its base', VERSION_1 | ECHO_DEPENDENT_FEATURE],
  ])('FEATURES_OK is refused %s', (_, features) => {
    const { driver, guestErrors } = powerOn(new EchoDevice());
    expect(driver.acknowledge().negotiate(features)).toBe(false);
    expect(guestErrors).toHaveLength(1);
  });

  test('FEATURES_OK is refused with a bit in window 2', () => {
    const { driver } = powerOn(new EchoDevice());
    driver.acknowledge().setCommon('driverFeatureSelect', 2).setCommon('driverFeature', 1);
    expect(driver.negotiate(VERSION_1)).toBe(false);
  });

  test('FEATURES_OK is refused while guest memory is not usable, which is no mistake of the guest', () => {
    const { driver, memory, guestErrors, arrivals, device } = powerOn(new EchoDevice());
    memory.isUsable = false;
    expect(driver.acknowledge().negotiate(VERSION_1)).toBe(false);
    driver.driverOk();
    expect(driver.common('status')).toBe(ACKNOWLEDGE | DRIVER);
    expect(device.session).toBeUndefined();
    expect(guestErrors).toEqual([]);
    expect(arrivals.turnedAway).toBe(1);

    memory.isUsable = true;
    expect(driver.setCommon('status', 0).acknowledge().negotiate(VERSION_1)).toBe(true);
    expect(arrivals.turnedAway).toBe(1);
  });

  test('a driver that works is not disturbed when memory stops being usable', () => {
    const { driver, memory, arrivals } = powerOn(new EchoDevice());
    driver.bringUp({ queueSize: 16 });
    memory.isUsable = false;
    const status = driver.common('status');
    driver.setCommon('status', status);
    expect(driver.common('status')).toBe(status);
    expect(arrivals.turnedAway).toBe(0);
  });

  test('whoever turns the registers on, or resets the device, is announced', () => {
    const { driver, arrivals } = powerOn(new EchoDevice());
    driver.writeConfig(4, 2, 0x0006);
    expect(arrivals.count).toBe(1);
    driver.writeConfig(4, 2, 0x0000);
    expect(arrivals.count).toBe(1);
    driver.setCommon('status', 0);
    expect(arrivals.count).toBe(2);
    driver.acknowledge();
    expect(arrivals.count).toBe(2);
  });

  test('a window select of 0xffffffff is kept and its features go nowhere', () => {
    const { driver } = powerOn(new EchoDevice());
    driver
      .acknowledge()
      .setCommon('driverFeatureSelect', 0xffff_ffff)
      .setCommon('driverFeature', 0xffff_ffff);
    expect(driver.common('driverFeatureSelect')).toBe(0xffff_ffff);
    expect(driver.common('driverFeature')).toBe(0);
    expect(driver.negotiate(VERSION_1)).toBe(true);
  });

  test('features written after FEATURES_OK change nothing', () => {
    const { driver, device } = powerOn(new EchoDevice());
    driver.acknowledge().negotiate(VERSION_1);
    driver.setCommon('driverFeatureSelect', 0).setCommon('driverFeature', 0xffff_ffff);
    driver.driverOk();
    expect(device.session?.features).toBe(VERSION_1);
  });

  test('refused features can be corrected', () => {
    const { driver } = powerOn(new EchoDevice());
    expect(driver.acknowledge().negotiate(ECHO_FEATURE)).toBe(false);
    expect(driver.negotiate(ECHO_FEATURE | VERSION_1)).toBe(true);
  });

  test('DRIVER_OK without FEATURES_OK is not latched and starts nothing', () => {
    const { driver, device } = powerOn(new EchoDevice());
    driver.acknowledge().driverOk();
    expect(driver.common('status')).toBe(ACKNOWLEDGE | DRIVER);
    expect(device.session).toBeUndefined();
  });
});

describe('queue registers', () => {
  const selected = (index: number) => {
    const machine = powerOn(new EchoDevice());
    machine.driver.acknowledge().negotiate(VERSION_1);
    machine.driver.setCommon('queueSelect', index);
    return machine;
  };

  test('start with the maximum size, no vector, not enabled', () => {
    const { driver } = selected(1);
    expect(driver.common('queueSize')).toBe(64);
    expect(driver.common('queueVector')).toBe(0xffff);
    expect(driver.common('queueEnable')).toBe(0);
    expect(driver.common('notifyOff')).toBe(1);
    expect(driver.common('numQueues')).toBe(2);
  });

  test.each([0, 3, 100, 128, 0xffff])('a queue size of %i is not taken where 64 is the maximum', (size) => {
    const { driver } = selected(1);
    expect(driver.setCommon('queueSize', size).common('queueSize')).toBe(64);
  });

  test.each([1, 2, 32, 64])('a queue size of %i is taken', (size) => {
    const { driver } = selected(1);
    expect(driver.setCommon('queueSize', size).common('queueSize')).toBe(size);
  });

  test('a vector beyond the table reads back as none', () => {
    const { driver } = selected(0);
    expect(driver.setCommon('queueVector', 0x7fff).common('queueVector')).toBe(0xffff);
    expect(driver.setCommon('queueVector', 2).common('queueVector')).toBe(2);
    expect(driver.setCommon('configVector', 3).common('configVector')).toBe(0xffff);
  });

  test('a queue that does not exist has size 0 and takes nothing', () => {
    const { driver } = selected(0xffff);
    driver.setCommon('queueSize', 16).setCommon('queueVector', 1).setCommon('queueEnable', 1);
    expect(driver.common('queueSelect')).toBe(0xffff);
    expect(driver.common('queueSize')).toBe(0);
    expect(driver.common('queueEnable')).toBe(0);
  });

  test('queue_enable takes 1, ignores 0, and complains about 2', () => {
    const { driver, guestErrors } = selected(0);
    expect(driver.setCommon('queueEnable', 2).common('queueEnable')).toBe(0);
    expect(guestErrors).toEqual(['queue-enable: queue_enable = 2']);
    expect(driver.setCommon('queueEnable', 1).common('queueEnable')).toBe(1);
    expect(driver.setCommon('queueEnable', 0).common('queueEnable')).toBe(1);
  });

  test('size and addresses of an enabled queue stand', () => {
    const { driver, memory } = selected(0);
    const queue = driver.setUpQueue(0, { size: 16 });
    driver.setCommon('queueSize', 8).setQueueAddresses(0x1000, 0x2000, 0x3000);
    expect(driver.common('queueSize')).toBe(16);
    const { bar, offset } = driver.place(1);
    expect(driver.read(bar, offset + 0x20, 4)).toBe(queue.descriptors);
    expect(memory.bytes(queue.used, 4)).toBeDefined();
  });

  test('64-bit addresses take halves in any order and a merged 8-byte write', () => {
    const { driver, fn } = selected(0);
    const { bar, offset } = driver.place(1);
    driver.write(bar, offset + 0x2c, 4, 0x1).write(bar, offset + 0x28, 4, 0x2000);
    fn.writeBar(bar, offset + 0x30, Uint8Array.of(0x00, 0x30, 0, 0, 2, 0, 0, 0));
    const read = new Uint8Array(8);
    fn.readBar(bar, offset + 0x28, read);
    expect([...read]).toEqual([0x00, 0x20, 0, 0, 1, 0, 0, 0]);
    fn.readBar(bar, offset + 0x30, read);
    expect([...read]).toEqual([0x00, 0x30, 0, 0, 2, 0, 0, 0]);
  });

  test('registers of features that are not offered read 0', () => {
    const { driver } = selected(0);
    const { bar, offset } = driver.place(1);
    expect([0x38, 0x3a, 0x3c, 0x3e].map((at) => driver.read(bar, offset + at, 2))).toEqual([0, 0, 0, 0]);
  });
});

describe('access width', () => {
  const WIDTHS: Record<number, number> = {
    0: 4,
    4: 4,
    8: 4,
    12: 4,
    16: 2,
    18: 2,
    20: 1,
    21: 1,
    22: 2,
    24: 2,
    26: 2,
    28: 2,
    30: 2,
    32: 4,
    36: 4,
    40: 4,
    44: 4,
    48: 4,
    52: 4,
    56: 2,
    58: 2,
    60: 2,
    62: 2,
  };
  const WIDE = [0x20, 0x28, 0x30];
  const legal = (at: number, width: number) => WIDTHS[at] === width || (width === 8 && WIDE.includes(at));

  /** Every register that can be non-zero is. */
  function filled(): FakeDriver {
    const { driver } = powerOn(new EchoDevice());
    driver.acknowledge().setCommon('deviceFeatureSelect', 0).setCommon('driverFeatureSelect', 0);
    driver
      .setCommon('driverFeature', 0xffff_ffff)
      .setCommon('queueSelect', 1)
      .setCommon('configVector', 0xffff);
    return driver.setQueueAddresses(0x1111_1111_1111, 0x2222_2222_2222, 0x3333_3333_3333);
  }

  test('any access that is not one whole register reads 0', () => {
    const driver = filled();
    const wrong: string[] = [];
    for (let at = 0; at < 0x44; at++) {
      for (const width of [1, 2, 3, 4, 5, 6, 7, 8]) {
        if (!legal(at, width) && driver.read(0, at, width) !== 0) wrong.push(`${at}/${width}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('any access that is not one whole register writes nothing', () => {
    const driver = filled();
    const registers = Object.entries(WIDTHS).map(([at, width]) => [Number(at), width] as const);
    const dump = () => registers.map(([at, width]) => driver.read(0, at, width));
    const before = dump();
    for (let at = 0; at < 0x44; at++) {
      for (const width of [1, 2, 3, 4, 5, 6, 7, 8]) {
        if (!legal(at, width)) driver.write(0, at, width, 0xaaaa_aaaa);
      }
    }
    expect(dump()).toEqual(before);
  });

  test('a table whose registers overlap is refused', () => {
    const block = () =>
      new RegisterBlock([
        { name: 'a', offset: 0, width: 4 },
        { name: 'b', offset: 2, width: 2 },
      ]);
    expect(block).toThrow('register b overlaps');
  });
});
