/** A PCI function of one's own on a socket. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { PciFunction } from '../../pci/index.ts';
import { IRQ_MSIX } from '../../server/host/contract.ts';
import { PciServer, type Surroundings } from '../../server/pci-server.ts';
import { FakeClient } from '../../testing/index.ts';
import { openFds } from '../support/fake-client.ts';
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
  {
    using client = await FakeClient.connect(socketPath);
    expect(await client.protocol.irqInfo(IRQ_MSIX)).toMatchObject({ count: 2 });
    expect(await client.protocol.regionInfo(0)).toMatchObject({ size: 16 });
    expect(await client.readConfig(0, 2)).toBe(0xc0c0);
    expect(await client.read(0, 4, 1)).toBe(4);
    await client.enable();
    const address = client.memory.allocate(1);
    await client.write(0, 0, 4, address);
    await client.interrupt(1);
    expect(client.memory.bytes(address, 1)[0]).toBe(0x5a);
    expect(client.pendingInterrupts(0)).toBe(0);
    await client.reset();
  }
  await soon(() => expect(server.fn.seen).toEqual(['write', 'service', 'client', 'disconnect']));
  server.close();
});

test('a socket that cannot be had leaves nothing behind', () => {
  const before = openFds();
  const socketPath = join(folder, 'no', 'socket');
  expect(() => new PciServer({ socketPath, createFunction: (given) => new Marker(given) })).toThrow();
  expect(openFds()).toBe(before);
});
