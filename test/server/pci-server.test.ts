/** A PCI function of one's own on a socket. */
import { closeSync, mkdtempSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createMemfd, drainEventfd } from '../../native/index.ts';
import type { PciFunction } from '../../pci/index.ts';
import { IRQ_MSIX, REGION_CONFIG } from '../../server/host/contract.ts';
import { PciServer, type Surroundings } from '../../server/pci-server.ts';
import { VfioUserClient } from '../../server/vfio-user/client.ts';
import { DEVICE_SET_IRQS, DMA_MAP } from '../../server/vfio-user/protocol.ts';
import { bodies, eventfds, openFds } from '../support/fake-client.ts';
import { soon } from '../support/soon.ts';

/** Work that a register asks for: the guest address that was written there gets a mark, and vector 1 fires. */
class Marker implements PciFunction {
  readonly configSizeBytes = 256;
  readonly bars = [{ sizeBytes: 16, prefetchable: false, is64Bit: false, mappable: false }];
  readonly vectorCount = 2;
  readonly seen: string[] = [];
  readonly #surroundings: Surroundings;
  #address: number | undefined;

  constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings;
  }

  readConfig(_: number, into: Uint8Array): void {
    into.fill(0xc0);
  }

  writeConfig(): void {}

  readBar(_: number, offset: number, into: Uint8Array): void {
    into.fill(offset);
  }

  writeBar(_bar: number, _offset: number, from: Uint8Array): void {
    this.#address = new DataView(from.buffer, from.byteOffset).getUint32(0, true);
    this.#surroundings.wake();
    this.seen.push('write');
  }

  reset(cause: string): void {
    this.seen.push(cause);
  }

  service(): boolean {
    if (this.#address === undefined) return false;
    this.seen.push('service');
    this.#surroundings.memory.write(this.#address, Uint8Array.of(0x5a));
    this.#surroundings.interrupts.fire(1);
    this.#address = undefined;
    return false;
  }
}

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pci-server-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

test('a function has its registers, guest memory and interrupts, and works after the answer to an access', async () => {
  const socketPath = join(folder, 'socket');
  const server = new PciServer({ socketPath, createFunction: (surroundings) => new Marker(surroundings) });
  const client = VfioUserClient.connect(socketPath);
  await client.handshake();
  expect(await client.irqInfo(IRQ_MSIX)).toMatchObject({ count: 2 });
  expect(await client.regionInfo(0)).toMatchObject({ size: 16 });
  expect([...(await client.readRegion(REGION_CONFIG, 0, 2))]).toEqual([0xc0, 0xc0]);
  expect([...(await client.readRegion(0, 4, 1))]).toEqual([4]);

  const memory = createMemfd('guest', 0x10_0000);
  await client.request(DMA_MAP, bodies.dmaMap(), [memory]);
  const [interrupt] = eventfds(1);
  await client.request(DEVICE_SET_IRQS, bodies.setIrqs(0x24, IRQ_MSIX, 1, 1), [interrupt!]);
  await client.writeRegion(0, 0, Uint8Array.of(0x34, 0x12, 0x10, 0));
  await soon(() => expect(drainEventfd(interrupt!)).toBe(1));
  const mark = new Uint8Array(1);
  readSync(memory, mark, 0, 1, 0x1234);
  expect(mark[0]).toBe(0x5a);

  client.close();
  await soon(() => expect(server.fn.seen).toEqual(['write', 'service', 'disconnect']));
  server.close();
  for (const fd of [memory, interrupt!]) closeSync(fd);
});

test('a socket that cannot be had leaves nothing behind', () => {
  const before = openFds();
  const socketPath = join(folder, 'no', 'socket');
  expect(() => new PciServer({ socketPath, createFunction: (given) => new Marker(given) })).toThrow();
  expect(openFds()).toBe(before);
});
