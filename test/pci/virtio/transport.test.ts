import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { FakeDriver } from '../../../testing/fake-driver.ts';
import { powerOn } from '../../../testing/power-on.ts';
import { EchoDevice } from '../../support/echo-device.ts';

const ECHO = Uint8Array.of(1, 2, 3, 4);
const NEEDS_RESET = 64;

const bringUp = (options?: { queueSize?: number }) => {
  const machine = powerOn(new EchoDevice());
  machine.driver.bringUp(options);
  return machine;
};
/** Adds a request without telling the device. */
const addRequest = ({ driver, memory }: ReturnType<typeof bringUp>, queue = 0) => {
  const address = memory.allocate(4);
  return driver.queue(queue).add([{ address, length: 4 }]);
};
const pmOffset = (driver: FakeDriver) => driver.capability(0x01) + 4;

describe('a request', () => {
  test('goes from the doorbell to the used ring and the vector of its queue', () => {
    const { driver, fired, doorbells } = bringUp();
    expect([...driver.request(0, ECHO)]).toEqual([1, 2, 3, 4]);
    expect([...driver.request(1, ECHO)]).toEqual([1, 2, 3, 4]);
    expect(fired).toEqual([1, 2]);
    expect(doorbells).toEqual([0, 1]);
  });

  test('is only noted by the doorbell and done by service', () => {
    const machine = bringUp();
    addRequest(machine);
    machine.driver.kick(0);
    expect(machine.driver.queue(0).usedIdx).toBe(0);
    machine.driver.run();
    expect(machine.driver.queue(0).usedIdx).toBe(1);
  });

  test('wakes the host exactly when there is something to do', () => {
    const machine = bringUp();
    const before = machine.wakes.count;
    machine.driver.deviceConfig(0);
    expect(machine.wakes.count).toBe(before);
    machine.driver.kick(0);
    expect(machine.wakes.count).toBe(before + 1);
  });

  test('beyond the budget waits for the next turn', () => {
    const machine = bringUp();
    for (let i = 0; i < 5; i++) addRequest(machine);
    machine.driver.kick(0);
    let units = 3;
    expect(machine.fn.service({ spend: () => units-- > 0 })).toBe(true);
    expect(machine.driver.queue(0).usedIdx).toBe(3);
    units = 100;
    expect(machine.fn.service({ spend: () => units-- > 0 })).toBe(false);
    expect(machine.driver.queue(0).usedIdx).toBe(5);
  });

  test('is looked for again when the device asks for that, while it works or later', () => {
    const machine = bringUp();
    const { session } = machine.device;
    const runs: number[] = [];
    machine.device.run = (pending) => {
      runs.push(pending);
      if (runs.length === 1) session?.wake(1);
      return 0;
    };
    machine.driver.kick(0).run();
    expect(runs).toEqual([1, 2]);
    const before = machine.wakes.count;
    session?.wake(0);
    expect(machine.wakes.count).toBe(before + 1);
    machine.driver.run();
    expect(runs).toEqual([1, 2, 1]);
    // What a driver left behind is of no interest to the next one.
    machine.driver.bringUp();
    runs.length = 0;
    session?.wake(0);
    machine.driver.run();
    expect(runs).toEqual([]);
  });

  test('fires no vector where the queue has none', () => {
    const { driver, fired } = bringUp();
    driver.setCommon('queueSelect', 0).setCommon('queueVector', 0xffff);
    driver.request(0, ECHO);
    expect(fired).toEqual([]);
  });

  test('follows a vector that is bound anew while the queue runs', () => {
    const { driver, fired } = bringUp();
    driver.setCommon('queueSelect', 0).setCommon('queueVector', 2);
    driver.request(0, ECHO);
    expect(fired).toEqual([2]);
  });
});

describe('a doorbell', () => {
  test('before DRIVER_OK touches no memory and is forgotten, but DRIVER_OK looks at every queue', () => {
    const machine = powerOn(new EchoDevice());
    const { driver } = machine;
    driver.enableBusMaster().acknowledge().negotiate(driver.offeredFeatures());
    driver.setUpQueue(0);
    addRequest(machine);
    driver.kick(0).run();
    expect(driver.queue(0).usedIdx).toBe(0);
    driver.driverOk().run();
    expect(driver.queue(0).usedIdx).toBe(1);
  });

  test.each([
    ['past the last queue', 2, 2],
    ['of another queue than its address says', 0, 1],
    ['far away', 0x3ff, 0x3ff],
  ])('%s is ignored', (_, index, value) => {
    const { driver, doorbells } = bringUp();
    driver.write(0, 0x3000 + 4 * index, 2, value).run();
    expect(doorbells).toEqual([]);
  });

  test.each([1, 8])('of %i bytes is ignored', (width) => {
    const { driver, doorbells } = bringUp();
    driver.write(0, 0x3000, width, 0).run();
    expect(doorbells).toEqual([]);
  });

  test('of 4 bytes counts, and one between two doorbells does not', () => {
    const { driver, doorbells } = bringUp();
    driver.write(0, 0x3004, 4, 1).write(0, 0x3002, 2, 0).run();
    expect(doorbells).toEqual([1]);
  });

  test('of a queue the driver did not enable is ignored', () => {
    const { driver, doorbells, device } = powerOn(new EchoDevice());
    driver.enableBusMaster().acknowledge().negotiate(driver.offeredFeatures());
    driver.setUpQueue(0);
    driver.driverOk().run().kick(1).run();
    expect(device.session?.queues[1]).toBeUndefined();
    expect(doorbells).toEqual([]);
  });

  test('storm is one run of the queue', () => {
    const machine = bringUp();
    addRequest(machine);
    for (let i = 0; i < 1000; i++) machine.driver.kick(0);
    machine.driver.run();
    expect(machine.driver.queue(0).takeUsed()).toHaveLength(1);
  });

  test('rung through an ioeventfd looks at every queue', () => {
    const machine = bringUp();
    addRequest(machine, 0);
    addRequest(machine, 1);
    machine.fn.ringAllDoorbells();
    machine.driver.run();
    expect(machine.driver.queue(0).usedIdx + machine.driver.queue(1).usedIdx).toBe(2);
  });

  test('that is the first one and finds nothing is reported once, with the address of the avail index', () => {
    const { driver, emptyDoorbells } = bringUp();
    driver.kick(1).run().kick(1).run().kick(0).run();
    expect(emptyDoorbells).toEqual([[1, driver.queue(1).avail + 2]]);
    driver.bringUp({ queueSize: 16 }).kick(0).run();
    expect(emptyDoorbells).toHaveLength(2);
  });

  test('that finds nothing after there have been requests is nothing special', () => {
    const { driver, emptyDoorbells } = bringUp();
    driver.request(0, ECHO);
    driver.kick(0).run().kick(1).run();
    expect(emptyDoorbells).toEqual([]);
  });

  test('of a device that no driver has set up is told, and nothing else happens', () => {
    const { fn, driver, device, strayDoorbells, guestErrors, wakes, doorbells } = powerOn(new EchoDevice());
    driver.write(0, 0x3000, 2, 0).write(0, 0x3004, 2, 1);
    expect(strayDoorbells).toEqual([0, 1]);
    // There are two queues.
    driver.write(0, 0x3008, 2, 2);
    expect(strayDoorbells).toHaveLength(2);
    fn.ringAllDoorbells();
    expect(strayDoorbells).toHaveLength(4);
    expect([device.session, wakes.count, doorbells, guestErrors]).toEqual([undefined, 0, [], []]);
  });

  test('of a driver that is there, or just begins, is not astray', () => {
    const { driver, strayDoorbells } = powerOn(new EchoDevice());
    driver.acknowledge().write(0, 0x3000, 2, 0);
    driver.bringUp({ queueSize: 16 }).kick(0).run();
    expect(strayDoorbells).toEqual([]);
    driver.setCommon('status', 0).write(0, 0x3000, 2, 0);
    expect(strayDoorbells).toEqual([0]);
  });

  test('while bus mastering is off waits until it is on', () => {
    const machine = bringUp();
    addRequest(machine);
    machine.driver.writeConfig(4, 2, 0x0002).kick(0).run();
    expect(machine.driver.queue(0).usedIdx).toBe(0);
    machine.driver.writeConfig(4, 2, 0x0006).run();
    expect(machine.driver.queue(0).usedIdx).toBe(1);
  });
});

describe('a broken ring', () => {
  test('stops the device, sets NEEDS_RESET and interrupts for the configuration', () => {
    const { driver, fired, guestErrors } = bringUp();
    driver.queue(0).setAvailIdx(5000);
    driver.kick(0).run();
    expect(driver.common('status') & NEEDS_RESET).toBe(NEEDS_RESET);
    expect(fired).toEqual([0]);
    expect(guestErrors).toHaveLength(1);
    driver.kick(0).kick(1).run();
    expect(fired).toEqual([0]);
    expect(guestErrors).toHaveLength(1);
  });

  test('is repaired by a reset', () => {
    const { driver } = bringUp();
    driver.queue(0).setAvailIdx(5000);
    driver.kick(0).run();
    driver.bringUp();
    expect([...driver.request(0, ECHO)]).toEqual([1, 2, 3, 4]);
  });

  test('found at DRIVER_OK is NEEDS_RESET at once', () => {
    const { driver, device } = powerOn(new EchoDevice());
    driver.enableBusMaster().acknowledge().negotiate(driver.offeredFeatures());
    driver.setCommon('queueSelect', 0).setQueueAddresses(0x10_0008, 0x10_0001, 0x10_0002);
    driver.setCommon('queueEnable', 1).driverOk();
    expect(driver.common('status') & NEEDS_RESET).toBe(NEEDS_RESET);
    expect(device.session).toBeUndefined();
  });
});

describe('the device configuration', () => {
  test('reads at any width, 0 behind its end', () => {
    const { driver } = bringUp();
    expect(driver.deviceConfig(1, 1)).toBe(1);
    expect(driver.deviceConfig(2, 2)).toBe(0x0302);
    expect(driver.deviceConfig(6, 4)).toBe(0x0706);
    expect(driver.deviceConfig(8, 4)).toBe(0);
    expect(driver.deviceConfig(0xffc, 4)).toBe(0);
  });

  test('a change moves the generation and interrupts a running driver', () => {
    const { driver, device, fired } = bringUp();
    const before = driver.common('generation');
    device.changeConfig(7);
    expect(driver.common('generation')).not.toBe(before);
    expect(fired).toEqual([0]);
  });

  test('a change without a driver interrupts nobody', () => {
    const { device, driver, fired } = powerOn(new EchoDevice());
    device.changeConfig(7);
    expect(fired).toEqual([]);
    expect(driver.common('generation')).toBe(1);
  });

  test('a write that reaches beyond its end is dropped', () => {
    const { driver, device } = bringUp();
    driver.setDeviceConfig(6, 0xffff_ffff);
    expect([...device.config]).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });
});

describe('the ISR register', () => {
  test('tells queue and configuration apart and is cleared by reading', () => {
    const { driver, device } = bringUp();
    driver.request(0, ECHO);
    expect(driver.readIsr()).toBe(1);
    device.changeConfig(1);
    expect(driver.readIsr()).toBe(2);
    expect(driver.readIsr()).toBe(0);
  });

  test('ignores writes', () => {
    const { driver } = bringUp();
    driver.request(0, ECHO);
    driver.write(0, 0x1000, 1, 0);
    expect(driver.readIsr()).toBe(1);
  });
});

describe('holes', () => {
  test('in the register BAR and beyond it read 0 and take any write', () => {
    const { driver } = bringUp();
    for (const at of [0x0040, 0x0ffc, 0x1004, 0x6000, 0x7ffc, 0x7ffe, 0x8000, 2 ** 40]) {
      driver.write(0, at, 4, 0xffff_ffff);
      expect(driver.read(0, at, 4)).toBe(0);
    }
  });

  test('a BAR that does not exist reads 0', () => {
    const { driver } = bringUp();
    expect(driver.write(2, 0, 4, 1).read(2, 0, 4)).toBe(0);
  });

  test('a read of a whole page is the registers one after the other', () => {
    const { fn, driver } = bringUp();
    const page = new Uint8Array(64).fill(0xee);
    fn.readBar(0, 0x2000, page);
    expect([...page.subarray(0, 12)]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0]);
    expect(driver.common('status')).toBe(15);
  });
});

describe('the PCI_CFG window', () => {
  const pciCfg = (driver: FakeDriver) =>
    driver.capabilities().find(({ id, offset }) => id === 9 && driver.config(offset + 3, 1) === 5)?.offset ??
    0;
  const aim = (driver: FakeDriver, bar: number, offset: number, length: number) => {
    const at = pciCfg(driver);
    driver
      .writeConfig(at + 4, 1, bar)
      .writeConfig(at + 8, 4, offset)
      .writeConfig(at + 12, 4, length);
    return at + 16;
  };

  test('reads and writes any register of the BAR', () => {
    const { driver } = powerOn(new EchoDevice());
    const data = aim(driver, 0, 0x12, 2);
    expect(driver.config(data, 2)).toBe(2);
    driver.writeConfig(aim(driver, 0, 0x14, 1), 1, 1);
    expect(driver.common('status')).toBe(1);
    driver.writeConfig(aim(driver, 0, 0x00, 4), 4, 0x1234_5678);
    expect(driver.common('deviceFeatureSelect')).toBe(0x1234_5678);
  });

  test('rings a doorbell', () => {
    const machine = bringUp();
    addRequest(machine);
    machine.driver.writeConfig(aim(machine.driver, 0, 0x3000, 2), 2, 0).run();
    expect(machine.driver.queue(0).usedIdx).toBe(1);
  });

  test.each([
    ['a BAR without structures', 4, 0, 4],
    ['BAR 7', 7, 0, 4],
    ['an offset of 2^32 - 1', 0, 0xffff_ffff, 1],
    ['the end of the BAR', 0, 0x8000, 4],
    ['a length of 3', 0, 0, 3],
    ['a length of 0', 0, 0, 0],
    ['a length of 8', 0, 0x20, 8],
    ['an offset that is not a multiple of the length', 0, 0x13, 2],
  ])('aimed at %s reads 0 and does nothing', (_, bar, offset, length) => {
    const { driver } = bringUp();
    const data = aim(driver, bar, offset, length);
    driver.writeConfig(data, 4, 0xffff_ffff);
    expect(driver.config(data, 4)).toBe(0);
    expect(driver.common('status')).toBe(15);
  });
});

describe('reset', () => {
  test('by the driver is complete when the write returns', () => {
    const { driver, device } = bringUp();
    driver.setCommon('status', 0);
    expect(driver.common('status')).toBe(0);
    expect(device.session).toBeUndefined();
    driver.setCommon('queueSelect', 0);
    expect(driver.common('queueEnable')).toBe(0);
    expect(driver.common('queueSize')).toBe(256);
    expect(driver.common('queueVector')).toBe(0xffff);
    expect(driver.common('configVector')).toBe(0xffff);
  });

  test('fires no interrupt and touches no memory afterwards', () => {
    const machine = bringUp();
    addRequest(machine);
    machine.driver.kick(0).setCommon('status', 0).run();
    machine.device.changeConfig(3);
    expect(machine.fired).toEqual([]);
    expect(machine.driver.queue(0).usedIdx).toBe(0);
  });

  test('by the client also brings config space back', () => {
    const { driver, fn, device } = bringUp();
    driver.writeConfig(driver.capability(0x11) + 2, 2, 0x8000);
    fn.reset('client');
    expect(driver.config(4, 2)).toBe(0);
    expect(driver.config(driver.capability(0x11) + 2, 2)).toBe(0x0002);
    expect(device.session).toBeUndefined();
  });

  test('may come twice in a row', () => {
    const { driver, fn } = bringUp();
    fn.reset('client');
    fn.reset('client');
    driver.bringUp();
    expect([...driver.request(0, ECHO)]).toEqual([1, 2, 3, 4]);
  });

  test('with DRIVER_OK right after it and the same rings works', () => {
    const { driver } = bringUp();
    for (let i = 0; i < 20; i++) driver.bringUp({ queueSize: 16 });
    expect([...driver.request(0, ECHO)]).toEqual([1, 2, 3, 4]);
  });
});

describe('suspend to RAM', () => {
  /** What QEMU does to every device when the machine wakes up, before the guest runs. */
  const clientWake = ({ driver, fn }: ReturnType<typeof bringUp>) => {
    driver.writeConfig(pmOffset(driver), 2, 0x0008).writeConfig(4, 2, 0);
    fn.reset('client');
    for (let bar = 0; bar < 6; bar++) driver.writeConfig(0x10 + 4 * bar, 4, 0);
    driver.writeConfig(4, 2, 0);
    fn.reset('client');
  };

  test('keeps the driver alive: queues work again after the wake-up reset', () => {
    const machine = bringUp();
    machine.driver.writeConfig(pmOffset(machine.driver), 2, 0x000b);
    clientWake(machine);
    expect(machine.device.session).toBeDefined();
    machine.driver.enableBusMaster();
    expect([...machine.driver.request(0, ECHO)]).toEqual([1, 2, 3, 4]);
  });

  test('keeps the driver alive when the client resets in D3hot', () => {
    const machine = bringUp();
    machine.driver.writeConfig(pmOffset(machine.driver), 2, 0x000b);
    machine.fn.reset('client');
    machine.fn.reset('client');
    expect(machine.device.session).toBeDefined();
    expect(machine.driver.config(pmOffset(machine.driver), 2)).toBe(0x0008);
  });

  test('a reset after the guest used the function again is a reset', () => {
    const machine = bringUp();
    machine.driver.writeConfig(pmOffset(machine.driver), 2, 0x000b);
    clientWake(machine);
    machine.driver.enableBusMaster();
    machine.fn.reset('client');
    expect(machine.device.session).toBeUndefined();
  });

  test('does not survive a disconnect', () => {
    const machine = bringUp();
    machine.driver.writeConfig(pmOffset(machine.driver), 2, 0x000b);
    machine.fn.reset('disconnect');
    expect(machine.device.session).toBeUndefined();
    machine.driver.bringUp();
    machine.fn.reset('client');
    expect(machine.device.session).toBeUndefined();
  });

  test('D1 and D2, which the function does not have, are not entered', () => {
    const { driver } = bringUp();
    driver.writeConfig(pmOffset(driver), 2, 1);
    expect(driver.config(pmOffset(driver), 2)).toBe(0x0008);
  });
});

describe('any series of accesses', () => {
  const access = fc.record({
    where: fc.constantFrom('config', 'bar0', 'bar4'),
    offset: fc.oneof(fc.integer({ min: 0, max: 0x100 }), fc.integer({ min: 0, max: 0x9000 })),
    width: fc.constantFrom(1, 2, 3, 4, 8, 16),
    value: fc.oneof(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 0, max: 0xffff_ffff })),
  });

  test('is answered, and a driver can bring the device up afterwards', () => {
    fc.assert(
      fc.property(fc.array(access, { maxLength: 60 }), (accesses) => {
        const { driver, fn } = bringUp({ queueSize: 16 });
        for (const { where, offset, width, value } of accesses) {
          if (where === 'config') driver.writeConfig(offset, width, value).config(offset, width);
          else driver.write(where === 'bar0' ? 0 : 4, offset, width, value).read(0, offset, width);
          let units = 64;
          fn.service({ spend: () => units-- > 0 });
        }
        driver.bringUp({ queueSize: 16 });
        return driver.request(0, ECHO).length === 4;
      }),
      { numRuns: 300 },
    );
  });
});
