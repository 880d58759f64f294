/** A virtio-gpu with its PCI face, real guest memory, and the verbs of a gpu driver. */
import { VirtioPciFunction } from '../../pci/index.ts';
import { Plain2d } from '../../server/backends/plain2d.ts';
import type { Mode } from '../../server/displays/mode.ts';
import { Screen, type Snapshot } from '../../server/displays/screen.ts';
import { GpuDevice } from '../../server/gpu/device.ts';
import { DEFAULT_LIMITS, type GpuLimits } from '../../server/gpu/limits.ts';
import { type Log, SILENT_LOG } from '../../server/log.ts';
import { type Descriptor, FakeDriver } from './fake-driver.ts';
import { RealMemory } from './real-memory.ts';

export const OK = 0x1100;
export const UNSPEC = 0x1200;
export const OUT_OF_MEMORY = 0x1201;
export const SCANOUT_ID = 0x1202;
export const RESOURCE_ID = 0x1203;
export const PARAMETER = 0x1205;

/** B8G8R8X8, the format of every Linux console. */
export const XRGB = 2;

export interface MachineOptions {
  readonly modes?: readonly Mode[];
  readonly limits?: Partial<GpuLimits>;
  readonly memoryBytes?: number;
  readonly log?: Log;
  /** Leave the driver where it is after power-on. */
  readonly poweredOnOnly?: boolean;
}

export interface Rect {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface Entry {
  readonly address: number;
  readonly length: number;
}

export interface Reply {
  readonly type: number;
  readonly flags: number;
  readonly fenceId: bigint;
  readonly ctxId: number;
  readonly ringIdx: number;
  readonly bytes: Uint8Array;
}

const rectWords = ({ x, y, width, height }: Rect) => [x, y, width, height];

export class GpuMachine implements Disposable {
  readonly memory: RealMemory;
  readonly screens: Screen[];
  readonly gpu: GpuDevice;
  readonly fn: VirtioPciFunction;
  readonly driver: FakeDriver;
  readonly fired: number[] = [];
  readonly guestErrors: string[] = [];

  constructor(options: MachineOptions = {}) {
    this.memory = new RealMemory(options.memoryBytes);
    const modes = options.modes ?? [{ width: 64, height: 48, refreshHz: 60 }];
    this.screens = modes.map((mode, index) => new Screen(index, mode, () => this.gpu.displaysChanged()));
    this.gpu = new GpuDevice({
      memory: this.memory.dma,
      backend: new Plain2d(this.memory.dma.addressSpace),
      displays: this.screens,
      limits: { ...DEFAULT_LIMITS, ...options.limits },
      log: options.log ?? SILENT_LOG,
    });
    this.fn = new VirtioPciFunction(this.gpu, {
      memory: this.memory.dma,
      interrupts: { fire: (vector) => this.fired.push(vector) },
      wake: () => {},
      observer: {
        doorbell: () => {},
        guestError: (kind, detail) => this.guestErrors.push(`${kind}: ${detail}`),
      },
      msixTableOwner: 'client',
      classCode: 0x038000,
    });
    this.driver = new FakeDriver(this.fn, this.memory);
    if (!options.poweredOnOnly) this.driver.bringUp();
  }

  [Symbol.dispose](): void {
    this.fn.reset('disconnect');
    for (const screen of this.screens) screen.close();
    this.memory.close();
  }

  // Requests as bytes.

  /** Header and body words; `fence` makes the request fenced. */
  static bytes(
    type: number,
    words: readonly number[],
    header: Partial<Omit<Reply, 'bytes' | 'type'>> = {},
  ): Uint8Array {
    const bytes = new Uint8Array(24 + 4 * words.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, type, true);
    view.setUint32(4, header.flags ?? 0, true);
    view.setBigUint64(8, header.fenceId ?? 0n, true);
    view.setUint32(16, header.ctxId ?? 0, true);
    view.setUint8(20, header.ringIdx ?? 0);
    for (const [i, word] of words.entries()) view.setUint32(24 + 4 * i, word >>> 0, true);
    return bytes;
  }

  static reply(bytes: Uint8Array): Reply {
    if (bytes.length < 24) return { type: 0, flags: 0, fenceId: 0n, ctxId: 0, ringIdx: 0, bytes };
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    return {
      type: view.getUint32(0, true),
      flags: view.getUint32(4, true),
      fenceId: view.getBigUint64(8, true),
      ctxId: view.getUint32(16, true),
      ringIdx: view.getUint8(20),
      bytes,
    };
  }

  /** Sends bytes on the control queue. */
  send(bytes: Uint8Array, responseLength = 2048): Reply {
    return GpuMachine.reply(this.driver.request(0, bytes, responseLength));
  }

  /** Sends a chain of any shape on a queue and returns the used length. */
  sendChain(queue: number, segments: readonly Descriptor[]): number {
    this.driver.queue(queue).add(segments);
    this.driver.kick(queue).run();
    return this.driver.queue(queue).takeUsed()[0]?.written ?? -1;
  }

  /** Response code of a command given by its body words. */
  command(type: number, ...words: number[]): number {
    return this.send(GpuMachine.bytes(type, words)).type;
  }

  // The driver's verbs. All return the response code.

  displayInfo(): Reply {
    return this.send(GpuMachine.bytes(0x100, []));
  }

  edid(scanout: number): Reply {
    return this.send(GpuMachine.bytes(0x10a, [scanout, 0]));
  }

  create(id: number, width: number, height: number, format = XRGB): number {
    return this.command(0x101, id, format, width, height);
  }

  unref(id: number): number {
    return this.command(0x102, id, 0);
  }

  setScanout(scanout: number, id: number, rect: Rect): number {
    return this.command(0x103, ...rectWords(rect), scanout, id);
  }

  flush(id: number, rect: Rect): number {
    return this.command(0x104, ...rectWords(rect), id, 0);
  }

  transfer(id: number, rect: Rect, offset = 0): number {
    return this.command(0x105, ...rectWords(rect), offset % 2 ** 32, Math.floor(offset / 2 ** 32), id, 0);
  }

  attach(id: number, entries: readonly Entry[], announced = entries.length): number {
    const words = entries.flatMap(({ address, length }) => [
      address % 2 ** 32,
      Math.floor(address / 2 ** 32),
      length,
      0,
    ]);
    return this.send(GpuMachine.bytes(0x106, [id, announced, ...words])).type;
  }

  detach(id: number): number {
    return this.command(0x107, id, 0);
  }

  /** UPDATE_CURSOR as Linux sends it: no room for an answer. Returns the used length. */
  updateCursor(scanout: number, id: number, x: number, y: number, hotX = 0, hotY = 0): number {
    return this.#cursor(0x300, scanout, id, x, y, hotX, hotY);
  }

  moveCursor(scanout: number, id: number, x: number, y: number): number {
    return this.#cursor(0x301, scanout, id, x, y, 0, 0);
  }

  #cursor(
    type: number,
    scanout: number,
    id: number,
    x: number,
    y: number,
    hotX: number,
    hotY: number,
  ): number {
    const bytes = GpuMachine.bytes(type, [scanout, x, y, 0, id, hotX, hotY, 0]);
    return this.sendChain(1, [this.segment(bytes)]);
  }

  /** Bytes put into guest memory, as a readable segment. */
  segment(bytes: Uint8Array): Descriptor {
    const address = this.memory.allocate(bytes.length);
    this.memory.bytes(address, bytes.length).set(bytes);
    return { address, length: bytes.length };
  }

  /** A writable segment. */
  room(length: number): Descriptor {
    return { address: this.memory.allocate(length), length, flags: 2 };
  }

  // Pictures.

  /** A resource with backing in one piece; returns the guest address of its pixels. */
  makeResource(id: number, width: number, height: number, format = XRGB): number {
    const address = this.memory.allocate(width * height * 4, 4096);
    this.create(id, width, height, format);
    this.attach(id, [{ address, length: width * height * 4 }]);
    return address;
  }

  /** Fills guest pixels: `pixel` gives the four bytes in memory order. */
  paint(
    address: number,
    width: number,
    height: number,
    pixel: (x: number, y: number) => readonly number[],
  ): void {
    const bytes = this.memory.bytes(address, width * height * 4);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) bytes.set(pixel(x, y), (y * width + x) * 4);
    }
  }

  snapshot(display = 0, options = { cursor: false }): Snapshot {
    return (this.screens[display] as Screen).snapshot(options);
  }

  /** Red, green and blue of one pixel of what a display shows. */
  pixel(x: number, y: number, display = 0, options = { cursor: false }): number[] {
    const { width, rgba } = this.snapshot(display, options);
    return [...rgba.subarray((y * width + x) * 4, (y * width + x) * 4 + 3)];
  }
}
