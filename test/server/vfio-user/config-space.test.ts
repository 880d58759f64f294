/** Config space and the sizes of BARs as a VMM reaches them: by messages of any width, at any offset. */
import { closeSync, fstatSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { DEVICE_GET_REGION_INFO, DEVICE_RESET, regionInfo } from '../../../server/vfio-user/protocol.ts';
import { decode } from '../../../server/wire.ts';
import { bodies, Served } from '../../support/fake-client.ts';

const GIB = 2 ** 30;
const CONFIG = 7;
const PCI_BASE_ADDRESS_4 = 0x20;

const bytesOf = (value: number, width: number) =>
  Uint8Array.from({ length: width }, (_, i) => Math.floor(value / 256 ** i) % 256);
const numberOf = (bytes: Uint8Array) => bytes.reduceRight((value, byte) => value * 256 + byte, 0);
const read = async (served: Served, offset: number, width: number) =>
  numberOf(await served.client.readRegion(CONFIG, offset, width));
const write = (served: Served, offset: number, value: number, width: number) =>
  served.client.writeRegion(CONFIG, offset, bytesOf(value, width));

/** Where a capability begins, as a client finds it. */
async function capability(served: Served, id: number): Promise<number> {
  for (let at = await read(served, 0x34, 1); at !== 0; at = await read(served, at + 1, 1)) {
    if ((await read(served, at, 1)) === id) return at;
  }
  throw new Error(`no capability ${id}`);
}

describe('the control word of MSI-X', () => {
  const MSIX = 0x11;
  const CONTROL = 2;
  /** The size of the table, less one: three vectors. */
  const SIZE = 2;
  const ENABLE = 0x8000;
  const MASK = 0x4000;

  test.each([
    ['all of it', CONTROL, 2, 0xffff, ENABLE | MASK],
    ['its lower byte, which is the size of the table', CONTROL, 1, 0xff, 0],
    ['its upper byte', CONTROL + 1, 1, 0x80, ENABLE],
    ['its upper byte, masked', CONTROL + 1, 1, 0xff, ENABLE | MASK],
    ['with the header in front', 0, 4, 0xc000_ffff, ENABLE | MASK],
    ['from the pointer on, four bytes at an odd offset', 1, 4, 0x00_c0_00_ff, ENABLE | MASK],
    ['with the table behind it', CONTROL, 4, 0xffff_8000, ENABLE],
    ['its upper byte and the table, four bytes at an odd offset', CONTROL + 1, 4, 0xffff_ff40, MASK],
    ['its upper byte and the next one', CONTROL + 1, 2, 0xff80, ENABLE],
    ['the pointer and its lower byte', 1, 2, 0xffff, 0],
    ['three bytes of it', 1, 3, 0xc0_00_ff, ENABLE | MASK],
    ['eight bytes around it', -4, 8, 0xc000_ffff * 2 ** 32, ENABLE | MASK],
    ['eight bytes from its upper one on', CONTROL + 1, 8, 0xc0, ENABLE | MASK],
    ['only what is in front of it', 0, 2, 0xffff, 0],
    ['only what is behind it', CONTROL + 2, 4, 0xffff_ffff, 0],
  ])('written as %s keeps its two bits and nothing else', async (_, offset, width, value, bits) => {
    using served = await Served.start();
    const at = await capability(served, MSIX);
    const before = await served.client.readRegion(CONFIG, 0, 256);
    await write(served, at + offset, value, width);
    expect(await read(served, at + CONTROL, 2)).toBe(SIZE | bits);
    expect([await read(served, at + CONTROL, 1), await read(served, at + CONTROL + 1, 1)]).toEqual([
      SIZE,
      bits >> 8,
    ]);
    const after = await served.client.readRegion(CONFIG, 0, 256);
    after[at + CONTROL + 1] = 0;
    expect(Buffer.compare(after, before)).toBe(0);
  });

  test('loses its bits one at a time, and all of them with a reset', async () => {
    using served = await Served.start();
    const at = (await capability(served, MSIX)) + CONTROL;
    const seen: number[] = [];
    for (const upper of [0xc0, 0x80, 0xc0, 0x40, 0x00]) {
      await write(served, at + 1, upper, 1);
      seen.push(await read(served, at, 2));
    }
    expect(seen).toEqual([0xc002, 0x8002, 0xc002, 0x4002, 0x0002]);
    await write(served, at, ENABLE, 2);
    await served.client.request(DEVICE_RESET, new Uint8Array(0));
    expect(await read(served, at, 2)).toBe(SIZE);
  });
});

describe('the power state', () => {
  const PM = 0x01;
  const PMCSR = 4;
  const NO_SOFT_RESET = 0x8;

  test.each([
    ['one byte', 0, 1, 0],
    ['two bytes', 0, 2, 0],
    ['four bytes', 0, 4, 0],
    ['the last of two bytes', -1, 2, 8],
    ['the last of four bytes', -3, 4, 24],
  ])('written as %s goes to D3hot and back to D0', async (_, offset, width, shift) => {
    using served = await Served.start();
    const at = (await capability(served, PM)) + PMCSR;
    const states: number[] = [];
    for (const state of [3, 0, 3]) {
      await write(served, at + offset, state * 2 ** shift, width);
      states.push(await read(served, at, 2));
    }
    expect(states).toEqual([NO_SOFT_RESET | 3, NO_SOFT_RESET, NO_SOFT_RESET | 3]);
  });

  test.each([1, 2])('D%i, which is not supported, is not gone to from any other', async (state) => {
    using served = await Served.start();
    const at = (await capability(served, PM)) + PMCSR;
    const seen: number[] = [];
    for (const width of [1, 2, 4]) {
      for (const from of [0, 3]) {
        await write(served, at, from, 1);
        await write(served, at, state, width);
        seen.push((await read(served, at, 1)) & 3);
      }
    }
    expect(seen).toEqual([0, 3, 0, 3, 0, 3]);
  });

  test('is all that can be written there: not its promise, not the upper byte', async () => {
    using served = await Served.start();
    const at = await capability(served, PM);
    const before = await served.client.readRegion(CONFIG, 0, 256);
    await write(served, at + PMCSR + 1, 0xff, 1);
    await write(served, at + PMCSR + 2, 0xffff, 2);
    await write(served, at, 0xffff_ffff, 4);
    await write(served, at + PMCSR, 0xf4, 1);
    expect(Buffer.compare(await served.client.readRegion(CONFIG, 0, 256), before)).toBe(0);
    await write(served, at + PMCSR, 0xffff, 2);
    expect(await read(served, at + PMCSR, 2)).toBe(NO_SOFT_RESET | 3);
  });

  test('of D3hot leaves config space to be read, and its registers as they were in D0 again', async () => {
    using served = await Served.start();
    const at = (await capability(served, PM)) + PMCSR;
    await served.client.writeRegion(0, 0x14, Uint8Array.of(3));
    await write(served, at, 3, 1);
    expect(await read(served, 0, 2)).toBe(0x1af4);
    await write(served, at, 0, 1);
    expect([...(await served.client.readRegion(0, 0x14, 1))]).toEqual([3]);
  });
});

describe.each([4, 8, 16])('a window of %i GiB', (gib) => {
  const sizeBytes = gib * GIB;

  test('says its size in the bits that stick, whatever the order and width of the writes', async () => {
    using served = await Served.start({ windowBytes: sizeBytes });
    const type = 0xc;
    const upper = 2 ** 32 - gib / 4;
    const low = PCI_BASE_ADDRESS_4;
    for (const writes of [
      [
        [low, 0xffff_ffff, 4],
        [low + 4, 0xffff_ffff, 4],
      ],
      [
        [low + 4, 0xffff_ffff, 4],
        [low, 0xffff_ffff, 4],
      ],
      [0, 1, 2, 3, 4, 5, 6, 7].map((i) => [low + i, 0xff, 1]),
      [
        [low, 0xffff, 2],
        [low + 2, 0xffff, 2],
        [low + 4, 0xffff, 2],
        [low + 6, 0xffff, 2],
      ],
      [
        [low - 1, 0xffff_ffff, 4],
        [low + 3, 0xffff_ffff, 4],
        [low + 7, 0xff, 1],
      ],
    ] as readonly (readonly (readonly [number, number, number])[])[]) {
      for (const [offset, value, width] of writes) await write(served, offset, value, width);
      expect([await read(served, low, 4), await read(served, low + 4, 4)]).toEqual([type, upper]);
      await write(served, low, 0, 4);
      await write(served, low + 4, 0, 4);
      expect([await read(served, low, 4), await read(served, low + 4, 4)]).toEqual([type, 0]);
    }
    await write(served, low + 4, 16, 4);
    expect(await read(served, low + 4, 4)).toBe(16);
  });

  test('is described as it is, with a file of its size, to whoever asks and however often', async () => {
    using served = await Served.start({ windowBytes: sizeBytes });
    for (const argsz of [32, 64, 1 << 20]) {
      const reply = await served.client.request(DEVICE_GET_REGION_INFO, bodies.regionInfo(4, argsz));
      expect(decode(regionInfo, reply.body)).toEqual({
        argsz: 32,
        flags: 7,
        index: 4,
        capOffset: 0,
        size: sizeBytes,
        offset: 0,
      });
      expect([reply.sizeBytes, reply.fds.length]).toEqual([48, 1]);
      const file = fstatSync(reply.fds[0] as number);
      expect([file.size, file.blocks]).toEqual([sizeBytes, 0]);
      closeSync(reply.fds[0] as number);
    }
    // The other half of its BAR is no region.
    expect((await served.client.regionInfo(5)).size).toBe(0);
  });

  test('is read and written by messages up to its last byte', async () => {
    using served = await Served.start({ windowBytes: sizeBytes });
    const last = sizeBytes - 8;
    await served.client.writeRegion(4, last, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    expect([...(await served.client.readRegion(4, last + 4, 4))]).toEqual([5, 6, 7, 8]);
    expect([...(await served.client.readRegion(4, last + 6, 4))]).toEqual([7, 8, 0, 0]);
    expect([...(await served.client.readRegion(4, sizeBytes, 4))]).toEqual([0, 0, 0, 0]);
  });
});
