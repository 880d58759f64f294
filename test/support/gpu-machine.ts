/** A virtio-gpu with its PCI face, real guest memory, and the verbs of a gpu driver. */
import { VirtioPciFunction } from '../../pci/index.ts';
import { Exporter } from '../../server/backends/exports.ts';
import { Plain2d } from '../../server/backends/plain2d.ts';
import { MemfdWindow } from '../../server/backends/window-memory.ts';
import type { Mode } from '../../server/displays/mode.ts';
import { Screen, type Snapshot } from '../../server/displays/screen.ts';
import type { Component } from '../../server/gpu/contracts/context.ts';
import { GpuDevice } from '../../server/gpu/device.ts';
import { DEFAULT_LIMITS, type GpuLimits } from '../../server/gpu/limits.ts';
import { type Log, SILENT_LOG } from '../../server/log.ts';
import { type Descriptor, FakeDriver } from '../../testing/fake-driver.ts';
import { RealMemory } from './real-memory.ts';

export const OK = 0x1100;
export const UNSPEC = 0x1200;
export const OUT_OF_MEMORY = 0x1201;
export const SCANOUT_ID = 0x1202;
export const RESOURCE_ID = 0x1203;
export const CONTEXT_ID = 0x1204;
export const PARAMETER = 0x1205;

/** B8G8R8X8, the format of every Linux console. */
export const XRGB = 2;

export interface MachineOptions {
  readonly modes?: readonly Mode[];
  readonly limits?: Partial<GpuLimits>;
  readonly memoryBytes?: number;
  readonly log?: Log;
  readonly windowBytes?: number;
  readonly components?: readonly Component[];
  readonly blobAlignmentBytes?: number;
  /** What the driver negotiates, if not everything. */
  readonly features?: bigint;
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

/** A 64-bit number as two words. */
const wide = (value: number) => [value % 2 ** 32, Math.floor(value / 2 ** 32)];
const entryWords = (entries: readonly Entry[]) =>
  entries.flatMap(({ address, length }) => [...wide(address), length, 0]);
const rectWords = ({ x, y, width, height }: Rect) => [x, y, width, height];

export class GpuMachine implements Disposable {
  readonly memory: RealMemory;
  readonly screens: Screen[];
  readonly window: MemfdWindow | undefined;
  readonly exporter = Exporter.probe({ devicePath: '/nowhere' });
  readonly gpu: GpuDevice;
  readonly fn: VirtioPciFunction;
  readonly driver: FakeDriver;
  readonly fired: number[] = [];
  readonly guestErrors: string[] = [];
  readonly #posted = new Map<number, { readonly room: number }>();

  constructor(options: MachineOptions = {}) {
    this.memory = new RealMemory(options.memoryBytes);
    const modes = options.modes ?? [{ width: 64, height: 48, refreshHz: 60 }];
    this.screens = modes.map((mode, index) => new Screen(index, mode, () => this.gpu.displaysChanged()));
    this.window = options.windowBytes ? new MemfdWindow(options.windowBytes) : undefined;
    const { window, exporter } = this;
    this.gpu = new GpuDevice({
      ...(window ? { window } : {}),
      components: options.components ?? [],
      blobAlignmentBytes: options.blobAlignmentBytes ?? 0,
      exports: {
        exportWindow: (offset, sizeBytes, mayShare) =>
          exporter.exportWindow({ fd: window!.fd, space: window!.addressSpace }, offset, sizeBytes, mayShare),
        exportGuestPages: (backing) =>
          exporter.exportGuestPages(
            { space: this.memory.dma.addressSpace, resolve: () => undefined },
            backing,
          ),
      },
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
    const { features } = options;
    if (!options.poweredOnOnly) this.driver.bringUp(features === undefined ? {} : { features });
  }

  [Symbol.dispose](): void {
    this.fn.reset('disconnect');
    for (const screen of this.screens) screen.close();
    this.window?.close();
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
    return this.send(GpuMachine.bytes(0x106, [id, announced, ...entryWords(entries)])).type;
  }

  detach(id: number): number {
    return this.command(0x107, id, 0);
  }

  // Blobs and contexts.

  /** CREATE_BLOB of any kind; by default guest memory. */
  createBlob(
    id: number,
    sizeBytes: number,
    {
      mem = 1,
      flags = 2,
      blobId = 0,
      ctxId = 0,
      entries = [],
      announced = entries.length,
    }: {
      readonly mem?: number;
      readonly flags?: number;
      readonly blobId?: number;
      readonly ctxId?: number;
      readonly entries?: readonly Entry[];
      readonly announced?: number;
    } = {},
  ): number {
    const words = [id, mem, flags, announced, ...wide(blobId), ...wide(sizeBytes), ...entryWords(entries)];
    return this.send(GpuMachine.bytes(0x10c, words, { ctxId })).type;
  }

  /** A guest blob in one piece; returns the guest address of its first byte. */
  makeGuestBlob(id: number, sizeBytes: number): number {
    const address = this.memory.allocate(sizeBytes, 4096);
    this.createBlob(id, sizeBytes, { entries: [{ address, length: sizeBytes }] });
    return address;
  }

  setScanoutBlob(
    scanout: number,
    id: number,
    rect: Rect,
    {
      width = rect.x + rect.width,
      height = rect.y + rect.height,
      format = XRGB,
      stride = width * 4,
      offset = 0,
    }: {
      readonly width?: number;
      readonly height?: number;
      readonly format?: number;
      readonly stride?: number;
      readonly offset?: number;
    } = {},
  ): number {
    const planes = [stride, 0, 0, 0, offset, 0, 0, 0];
    return this.command(0x10d, ...rectWords(rect), scanout, id, width, height, format, 0, ...planes);
  }

  uuid(id: number): Reply {
    return this.send(GpuMachine.bytes(0x10b, [id, 0]));
  }

  mapBlob(id: number, offset: number): number {
    return this.command(0x208, id, 0, ...wide(offset));
  }

  unmapBlob(id: number): number {
    return this.command(0x209, id, 0);
  }

  createContext(ctxId: number, capsetId = 0, name = 'test'): number {
    const text = Buffer.alloc(64);
    text.write(name, 'latin1');
    const words = [...new Uint32Array(text.buffer, text.byteOffset, 16)];
    return this.send(GpuMachine.bytes(0x200, [Math.min(name.length, 64), capsetId, ...words], { ctxId }))
      .type;
  }

  destroyContext(ctxId: number): number {
    return this.send(GpuMachine.bytes(0x201, [], { ctxId })).type;
  }

  attachResource(ctxId: number, id: number): number {
    return this.send(GpuMachine.bytes(0x202, [id, 0], { ctxId })).type;
  }

  detachResource(ctxId: number, id: number): number {
    return this.send(GpuMachine.bytes(0x203, [id, 0], { ctxId })).type;
  }

  /** SUBMIT_3D of whole words. */
  submit(
    ctxId: number,
    words: readonly number[],
    header: Partial<Omit<Reply, 'bytes' | 'type'>> = {},
  ): Reply {
    return this.send(GpuMachine.bytes(0x207, [words.length * 4, 0, ...words], { ...header, ctxId }));
  }

  /** Makes a request available on the control queue and lets the device work; see `arrived`. */
  post(bytes: Uint8Array): void {
    const room = this.room(64);
    const head = this.driver.queue(0).add([this.segment(bytes), room]);
    this.#posted.set(head, { room: room.address });
    this.driver.kick(0).run();
  }

  /** Answers to what was posted, in the order in which they came, since the last call. */
  arrived(): Reply[] {
    this.driver.run();
    return this.driver
      .queue(0)
      .takeUsed()
      .map(({ head, written }) => {
        const { room } = this.#posted.get(head)!;
        return GpuMachine.reply(this.memory.bytes(room, written).slice());
      });
  }

  /** Posts a request whose answer may take a while. */
  async ask(bytes: Uint8Array): Promise<Reply> {
    this.post(bytes);
    for (;;) {
      const [reply] = this.arrived();
      if (reply) return reply;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
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
