import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ConfigSpace, fromLittleEndian, type PciIdentity } from '../../pci/index.ts';
import { powerOn } from '../../testing/power-on.ts';
import { EchoDevice } from '../support/echo-device.ts';

const IDENTITY: PciIdentity = {
  vendorId: 0x1af4,
  deviceId: 0x1050,
  revisionId: 1,
  classCode: 0x038000,
  subsystemVendorId: 0x1af4,
  subsystemId: 0x1050,
};
const WINDOW = { shmid: 1, sizeBytes: 256 * 2 ** 20 };
const snapshot = (fn: { readConfig(offset: number, into: Uint8Array): void }) => {
  const bytes = new Uint8Array(256);
  fn.readConfig(0, bytes);
  return bytes;
};

describe('the header of the function', () => {
  test('says 1af4:1050, revision 1, display controller that is not VGA, type 0', () => {
    const { driver } = powerOn(new EchoDevice());
    expect(driver.config(0x00, 4)).toBe(0x1050_1af4);
    expect(driver.config(0x08, 4)).toBe(0x0380_0001);
    expect(driver.config(0x0e, 1)).toBe(0x00);
    expect(driver.config(0x2c, 4)).toBe(0x1050_1af4);
  });

  test('has no interrupt pin and no expansion ROM, whatever is written there', () => {
    const { driver } = powerOn(new EchoDevice());
    driver.writeConfig(0x30, 4, 0xffff_f800).writeConfig(0x3d, 1, 1);
    expect(driver.config(0x30, 4)).toBe(0);
    expect(driver.config(0x3d, 1)).toBe(0);
  });

  test('keeps the command bits that mean something and none of the others', () => {
    const { driver } = powerOn(new EchoDevice());
    driver.writeConfig(0x04, 2, 0xffff);
    expect(driver.config(0x04, 2)).toBe(0x0547);
    expect(driver.config(0x06, 2)).toBe(0x0010);
  });

  test('lists MSI-X first, then power management, then the virtio structures', () => {
    const { driver } = powerOn(new EchoDevice(), { sharedMemory: WINDOW });
    const types = driver
      .capabilities()
      .map(({ id, offset }) => (id === 9 ? `v${driver.config(offset + 3, 1)}` : id));
    expect(types).toEqual([0x11, 0x01, 'v1', 'v3', 'v4', 'v2', 'v5', 'v8']);
  });

  test('ends the capability list inside the first 256 bytes, at offsets that are multiples of 4', () => {
    const { driver } = powerOn(new EchoDevice(), { sharedMemory: WINDOW });
    for (const { offset } of driver.capabilities()) {
      expect(offset % 4).toBe(0);
      expect(offset).toBeGreaterThanOrEqual(0x40);
      expect(offset).toBeLessThan(0x100);
    }
  });

  test('offers three vectors with table and PBA on pages of their own in BAR 0', () => {
    const { driver } = powerOn(new EchoDevice());
    const msix = driver.capability(0x11);
    expect(driver.config(msix + 2, 2)).toBe(0x0002);
    expect(driver.config(msix + 4, 4)).toBe(0x0000_4000);
    expect(driver.config(msix + 8, 4)).toBe(0x0000_5000);
  });

  test('promises No_Soft_Reset and stores the power state', () => {
    const { driver } = powerOn(new EchoDevice());
    const pm = driver.capability(0x01);
    expect(driver.config(pm + 4, 2)).toBe(0x0008);
    driver.writeConfig(pm + 4, 2, 0xffff);
    expect(driver.config(pm + 4, 2)).toBe(0x000b);
  });

  test('describes a 8 GiB window with a 64-bit length in BAR 4', () => {
    const { driver } = powerOn(new EchoDevice(), { sharedMemory: { shmid: 1, sizeBytes: 8 * 2 ** 30 } });
    const shm = driver
      .capabilities()
      .find(({ offset, id }) => id === 9 && driver.config(offset + 3, 1) === 8);
    const at = shm?.offset ?? 0;
    expect(driver.config(at + 2, 1)).toBe(24);
    expect(driver.config(at + 4, 2)).toBe(0x0104);
    expect(driver.config(at + 12, 4)).toBe(0);
    expect(driver.config(at + 20, 4)).toBe(2);
  });
});

describe('base address registers', () => {
  const probe = (bar: number, sizeBytes = WINDOW.sizeBytes) => {
    const { driver } = powerOn(new EchoDevice(), { sharedMemory: { shmid: 1, sizeBytes } });
    return driver.writeConfig(0x10 + 4 * bar, 4, 0xffff_ffff).config(0x10 + 4 * bar, 4);
  };

  test('BAR 0 is 32 KiB of 32-bit memory that is not prefetchable', () => {
    expect(probe(0)).toBe(0xffff_8000);
  });

  test.each([1, 2, 3])('BAR %i is absent and reads 0', (bar) => {
    expect(probe(bar)).toBe(0);
  });

  test.each([
    [2 ** 12, 0xffff_f00c, 0xffff_ffff],
    [256 * 2 ** 20, 0xf000_000c, 0xffff_ffff],
    [2 * 2 ** 30, 0x8000_000c, 0xffff_ffff],
    [4 * 2 ** 30, 0x0000_000c, 0xffff_ffff],
    [8 * 2 ** 30, 0x0000_000c, 0xffff_fffe],
    [1024 * 2 ** 30, 0x0000_000c, 0xffff_ff00],
  ])('a window of %i bytes sizes as %#x and %#x', (sizeBytes, low, high) => {
    expect(probe(4, sizeBytes)).toBe(low);
    expect(probe(5, sizeBytes)).toBe(high);
  });

  test('without a window BAR 4 and 5 are absent', () => {
    const { driver } = powerOn(new EchoDevice());
    expect(driver.writeConfig(0x20, 4, 0xffff_ffff).config(0x20, 4)).toBe(0);
    expect(driver.writeConfig(0x24, 4, 0xffff_ffff).config(0x24, 4)).toBe(0);
  });

  test('keep the address software assigned, type bits apart', () => {
    const { driver } = powerOn(new EchoDevice(), { sharedMemory: WINDOW });
    driver.writeConfig(0x10, 4, 0xfebf_0000).writeConfig(0x20, 4, 0xe000_0000).writeConfig(0x24, 4, 0x80);
    expect([driver.config(0x10, 4), driver.config(0x20, 4), driver.config(0x24, 4)]).toEqual([
      0xfebf_0000, 0xe000_000c, 0x80,
    ]);
  });

  test('can be probed byte by byte', () => {
    const { driver } = powerOn(new EchoDevice());
    for (let i = 0; i < 4; i++) driver.writeConfig(0x10 + i, 1, 0xff);
    expect(driver.config(0x10, 4)).toBe(0xffff_8000);
  });

  test('refuse layouts no client accepts', () => {
    expect(() => powerOn(new EchoDevice(), { sharedMemory: { shmid: 1, sizeBytes: 3 * 2 ** 20 } })).toThrow(
      'not a power of two',
    );
  });
});

describe('config space as bytes', () => {
  test('a read of any width is the bytes of a whole read, at every offset', () => {
    const { fn, driver } = powerOn(new EchoDevice(), { sharedMemory: WINDOW });
    const all = snapshot(fn);
    const expected: number[] = [];
    const seen: number[] = [];
    for (let offset = 0; offset < 0x100; offset++) {
      for (const width of [1, 2, 4]) {
        const bytes = Array.from({ length: width }, (_, i) => all[offset + i] ?? 0);
        expected.push(fromLittleEndian(Uint8Array.from(bytes)));
        seen.push(driver.config(offset, width));
      }
    }
    expect(seen).toEqual(expected);
  });

  test('beyond its end reads are 0 and writes go nowhere', () => {
    const { fn, driver } = powerOn(new EchoDevice());
    const before = snapshot(fn);
    driver
      .writeConfig(0x100, 4, 0xffff_ffff)
      .writeConfig(0xffc, 4, 0xffff_ffff)
      .writeConfig(0xfe, 4, 0xffff_ffff);
    expect(driver.config(0x100, 4)).toBe(0);
    expect(driver.config(0xffc, 4)).toBe(0);
    expect(snapshot(fn)).toEqual(before);
  });

  test('a write of all ones at every offset and width changes only what is writable', () => {
    for (const width of [1, 2, 4]) {
      for (let offset = 0; offset < 0x100; offset++) {
        const { fn, driver } = powerOn(new EchoDevice(), { sharedMemory: WINDOW });
        const masks = writableMasks();
        const before = snapshot(fn);
        driver.writeConfig(offset, width, 0xffff_ffff);
        const after = snapshot(fn);
        const stray = Array.from(
          after,
          (value, i) => (value ^ (before[i] as number)) & ~(masks[i] as number) & 0xff,
        );
        expect(stray.every((bits) => bits === 0)).toBe(true);
      }
    }
  });

  /** What the headers and capabilities of this function let software write. */
  function writableMasks(): Uint8Array {
    const masks = new Uint8Array(256);
    const { driver } = powerOn(new EchoDevice(), { sharedMemory: WINDOW });
    masks.set([0x47, 0x05], 0x04);
    masks.set([0xff, 0xff], 0x0c);
    masks.set([0x00, 0x80, 0xff, 0xff], 0x10);
    masks.set([0x00, 0x00, 0x00, 0xf0, 0xff, 0xff, 0xff, 0xff], 0x20);
    masks[0x3c] = 0xff;
    masks[driver.capability(0x11) + 3] = 0xc0;
    masks[driver.capability(0x01) + 4] = 0x03;
    const window = driver
      .capabilities()
      .find(({ offset, id }) => id === 9 && driver.config(offset + 3, 1) === 5);
    const pciCfg = window?.offset ?? 0;
    masks[pciCfg + 4] = 0xff;
    masks.fill(0xff, pciCfg + 8, pciCfg + 20);
    return masks;
  }

  test('any series of writes leaves read-only bits alone', () => {
    const masks = writableMasks();
    const write = fc.record({
      offset: fc.integer({ min: 0, max: 0x110 }),
      width: fc.constantFrom(1, 2, 4),
      value: fc.integer({ min: 0, max: 0xffff_ffff }),
    });
    fc.assert(
      fc.property(fc.array(write, { maxLength: 40 }), (writes) => {
        const { fn, driver } = powerOn(new EchoDevice(), { sharedMemory: WINDOW });
        const before = snapshot(fn);
        for (const { offset, width, value } of writes) driver.writeConfig(offset, width, value);
        const after = snapshot(fn);
        for (let i = 0; i < 256; i++) {
          const mask = ~(masks[i] as number) & 0xff;
          if (((after[i] as number) & mask) !== ((before[i] as number) & mask)) return false;
        }
        return true;
      }),
    );
  });

  test('bits that clear on writing 1 clear on nothing else', () => {
    const config = new ConfigSpace(IDENTITY);
    config.poke(0x06, Uint8Array.of(0x10, 0xf9));
    config.write(0x06, Uint8Array.of(0x00, 0x11));
    const status = new Uint8Array(2);
    config.read(0x06, status);
    expect([...status]).toEqual([0x10, 0xe8]);
  });

  test('a reset brings back the power-on bytes', () => {
    const { fn, driver } = powerOn(new EchoDevice(), { sharedMemory: WINDOW });
    const before = snapshot(fn);
    for (let offset = 0; offset < 0x100; offset += 4) driver.writeConfig(offset, 4, 0xa5a5_a5a5);
    fn.reset('client');
    fn.reset('client');
    expect(snapshot(fn)).toEqual(before);
  });

  test('a capability that does not fit is refused', () => {
    const config = new ConfigSpace(IDENTITY);
    const capability = { name: 'large', id: 9, body: new Array(100).fill(0) };
    config.addCapability(capability);
    expect(() => config.addCapability(capability)).toThrow('no room');
  });
});
