/**
 * The VMM's side of a device on a socket, for tests: guest memory that the device maps, its registers, and its MSI-X
 * vectors. The protocol and the descriptors are real; there is no guest.
 */
import { closeSync } from 'node:fs';
import { createEventfd, drainEventfd, READABLE, Watch } from '../native/index.ts';
import { fromLittleEndian, toLittleEndian } from '../pci/index.ts';
import { IRQ_MSIX, REGION_CONFIG } from '../server/host/contract.ts';
import { VfioUserClient } from '../server/vfio-user/client.ts';
import {
  DEVICE_RESET,
  DEVICE_SET_IRQS,
  DMA_MAP,
  DMA_MAP_READABLE,
  DMA_MAP_WRITEABLE,
  dmaMap,
  IRQ_SET_ACTION_TRIGGER,
  IRQ_SET_DATA_EVENTFD,
  setIrqs,
} from '../server/vfio-user/protocol.ts';
import { MAX_MSG_FDS } from '../server/vfio-user/version.ts';
import { encode } from '../server/wire.ts';
import { SharedMemory } from './shared-memory.ts';

const INTERRUPT_TIMEOUT_MS = 20_000;

/** What a vector has done, and who waits for it. */
interface Vector {
  readonly fd: number;
  readonly watch: Watch;
  /** Interrupts that nobody has taken yet. */
  fired: number;
  taker: (() => void) | undefined;
}

export class FakeClient implements Disposable {
  /** Everything else that a client can say. */
  readonly protocol: VfioUserClient;
  /** The guest's memory, all of which the device knows. */
  readonly memory: SharedMemory;
  readonly #vectors: Vector[] = [];

  private constructor(protocol: VfioUserClient, memory: SharedMemory) {
    this.protocol = protocol;
    this.memory = memory;
  }

  /**
   * Connects, announces guest memory and listens to every vector. Rejects when the device refuses any of that. The memory is
   * closed with the client.
   */
  static async connect(socketPath: string, memory = new SharedMemory(1 << 20)): Promise<FakeClient> {
    const client = new FakeClient(VfioUserClient.connect(socketPath), memory);
    try {
      await client.protocol.handshake();
      await client.#announceMemory();
      await client.#listenToVectors();
    } catch (error) {
      client.close();
      throw error;
    }
    return client;
  }

  /** Memory decoding and bus master on, as a driver begins. */
  async enable(): Promise<void> {
    await this.writeConfig(4, 2, 0x0006);
  }

  /** The number in 1 to 4 bytes of config space. */
  readConfig(offset: number, width: 1 | 2 | 4): Promise<number> {
    return this.read(REGION_CONFIG, offset, width);
  }

  writeConfig(offset: number, width: 1 | 2 | 4, value: number): Promise<void> {
    return this.write(REGION_CONFIG, offset, width, value);
  }

  /** The number in 1 to 4 bytes of a BAR. */
  async read(bar: number, offset: number, width: 1 | 2 | 4): Promise<number> {
    return fromLittleEndian(await this.protocol.readRegion(bar, offset, width));
  }

  async write(bar: number, offset: number, width: 1 | 2 | 4, value: number): Promise<void> {
    const bytes = new Uint8Array(width);
    toLittleEndian(value, bytes);
    await this.protocol.writeRegion(bar, offset, bytes);
  }

  /** Waits for an interrupt of this vector, which may have come already, and takes it. Rejects when none comes in 20 s. */
  async interrupt(vector: number): Promise<void> {
    const waiting = this.#vectors[vector];
    if (!waiting) throw new Error(`the device has no vector ${vector}`);
    if (waiting.fired === 0) {
      await new Promise<void>((resolve, reject) => {
        const timeout = setTimeout(
          () => reject(new Error(`no interrupt of vector ${vector}`)),
          INTERRUPT_TIMEOUT_MS,
        );
        waiting.taker = () => {
          clearTimeout(timeout);
          resolve();
        };
      });
    }
    waiting.fired--;
  }

  /** How often a vector was signalled and nobody has taken it. */
  pendingInterrupts(vector: number): number {
    return this.#vectors[vector]?.fired ?? 0;
  }

  /** The reset of a machine that is reset. */
  async reset(): Promise<void> {
    await this.protocol.ask(DEVICE_RESET, new Uint8Array());
  }

  /** Leaves, as a VMM that ends. */
  close(): void {
    this.protocol.close();
    for (const { fd, watch } of this.#vectors.splice(0)) {
      watch.close();
      closeSync(fd);
    }
    this.memory.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #announceMemory(): Promise<void> {
    const { address, sizeBytes, fd } = this.memory;
    const flags = DMA_MAP_READABLE | DMA_MAP_WRITEABLE;
    const body = encode(dmaMap, { argsz: dmaMap.size, flags, offset: 0, address, size: sizeBytes });
    await this.protocol.ask(DMA_MAP, body, [fd]);
  }

  async #listenToVectors(): Promise<void> {
    const { count } = await this.protocol.irqInfo(IRQ_MSIX);
    for (let vector = 0; vector < count; vector++) this.#vectors.push(this.#makeVector());
    for (let start = 0; start < count; start += MAX_MSG_FDS) {
      const fds = this.#vectors.slice(start, start + MAX_MSG_FDS).map(({ fd }) => fd);
      const flags = IRQ_SET_DATA_EVENTFD | IRQ_SET_ACTION_TRIGGER;
      const header = { argsz: setIrqs.size, flags, index: IRQ_MSIX, start, count: fds.length };
      await this.protocol.ask(DEVICE_SET_IRQS, encode(setIrqs, header), fds);
    }
  }

  #makeVector(): Vector {
    const fd = createEventfd();
    const watch = new Watch(fd, READABLE, () => {
      vector.fired += drainEventfd(fd);
      vector.taker?.();
      vector.taker = undefined;
    });
    const vector: Vector = { fd, watch, fired: 0, taker: undefined };
    return vector;
  }
}
