import { describe, expect, test } from 'vitest';
import type { FakeDriver } from '../../testing/fake-driver.ts';
import { powerOn } from '../../testing/power-on.ts';
import { EchoDevice } from '../support/echo-device.ts';

const TABLE = 0x4000;
const PBA = 0x5000;
const ECHO = Uint8Array.of(1, 2, 3, 4);

/** A driver that owns the table: enabled, every vector unmasked unless the test masks it. */
function tableOwner() {
  const machine = powerOn(new EchoDevice(), { msixTableOwner: 'function' });
  machine.driver.bringUp();
  control(machine.driver, 0x8000);
  for (let vector = 0; vector < 3; vector++) mask(machine.driver, vector, false);
  return machine;
}
const control = (driver: FakeDriver, value: number) =>
  driver.writeConfig(driver.capability(0x11) + 2, 2, value);
const mask = (driver: FakeDriver, vector: number, masked: boolean) =>
  driver.write(0, TABLE + 16 * vector + 12, 4, masked ? 1 : 0);
const pending = (driver: FakeDriver) => driver.read(0, PBA, 4);

describe('a function that owns its MSI-X table', () => {
  test('has every vector masked and nothing pending after power-on', () => {
    const { driver } = powerOn(new EchoDevice(), { msixTableOwner: 'function' });
    const controls = [0, 1, 2].map((vector) => driver.read(0, TABLE + 16 * vector + 12, 4));
    expect(controls).toEqual([1, 1, 1]);
    expect(pending(driver)).toBe(0);
  });

  test('keeps what is written into the table', () => {
    const { driver } = tableOwner();
    driver
      .write(0, TABLE + 16, 4, 0xfee0_0000)
      .write(0, TABLE + 20, 4, 0x1)
      .write(0, TABLE + 24, 4, 0x4041);
    expect([16, 20, 24].map((at) => driver.read(0, TABLE + at, 4))).toEqual([0xfee0_0000, 0x1, 0x4041]);
  });

  test('ignores table writes that are not aligned words or double words, and those beyond the table', () => {
    const { driver } = tableOwner();
    driver
      .write(0, TABLE, 2, 0xffff)
      .write(0, TABLE + 2, 4, 0xffff_ffff)
      .write(0, TABLE + 48, 4, 0xffff_ffff);
    expect(driver.read(0, TABLE, 4)).toBe(0);
    expect(driver.read(0, TABLE + 48, 4)).toBe(0);
  });

  test('fires an unmasked vector at once', () => {
    const { driver, fired } = tableOwner();
    driver.request(0, ECHO);
    expect(fired).toEqual([1]);
  });

  test('delivers a vector fired twice while masked once, on unmask', () => {
    const { driver, fired } = tableOwner();
    mask(driver, 1, true);
    driver.request(0, ECHO);
    driver.queue(0).setUsedEvent(1);
    driver.request(0, ECHO);
    expect(fired).toEqual([]);
    expect(pending(driver)).toBe(0b010);
    mask(driver, 1, false);
    expect(fired).toEqual([1]);
    expect(pending(driver)).toBe(0);
  });

  test('the function mask holds back every vector until it is cleared', () => {
    const { driver, device, fired } = tableOwner();
    control(driver, 0xc000);
    driver.request(0, ECHO);
    driver.request(1, ECHO);
    device.changeConfig(9);
    expect(fired).toEqual([]);
    expect(pending(driver)).toBe(0b111);
    control(driver, 0x8000);
    expect(fired).toEqual([0, 1, 2]);
  });

  test('fires nothing and remembers nothing while MSI-X is off, and sets the ISR bits instead', () => {
    const { driver, device, fired } = tableOwner();
    control(driver, 0);
    driver.request(0, ECHO);
    device.changeConfig(9);
    expect(fired).toEqual([]);
    expect(pending(driver)).toBe(0);
    expect(driver.readIsr()).toBe(0b11);
    expect(driver.readIsr()).toBe(0);
  });

  test('has no pending vector left after a reset', () => {
    const { driver, fn, fired } = tableOwner();
    mask(driver, 1, true);
    driver.request(0, ECHO);
    fn.reset('client');
    expect(pending(driver)).toBe(0);
    control(driver, 0x8000);
    mask(driver, 1, false);
    expect(fired).toEqual([]);
  });
});

describe('a function whose client owns the table', () => {
  test('passes every vector on, masked or not: the client applies the masks', () => {
    const { driver, device, fired } = powerOn(new EchoDevice(), { msixTableOwner: 'client' });
    driver.bringUp();
    driver.request(0, ECHO);
    device.changeConfig(1);
    expect(fired).toEqual([1, 0]);
  });
});
