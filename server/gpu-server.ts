/**
 * One virtio-gpu function and everything behind it, put together: guest memory, interrupts, displays, the device,
 * its PCI face and the socket a VMM connects to. The only place besides `main.ts` that knows every concrete class.
 */
import { pageBytes } from '../native/index.ts';
import { VirtioPciFunction } from '../pci/index.ts';
import { SHARED_MEMORY_BAR } from '../pci/virtio/transport.ts';
import { Exporter } from './backends/exports.ts';
import { Plain2d } from './backends/plain2d.ts';
import { MemfdWindow } from './backends/window-memory.ts';
import type { Mode } from './displays/mode.ts';
import { Screen } from './displays/screen.ts';
import type { Component, Exports } from './gpu/backend.ts';
import { GpuDevice } from './gpu/device.ts';
import { DEFAULT_LIMITS, type GpuLimits } from './gpu/limits.ts';
import { PCI_CLASS_DISPLAY_OTHER } from './gpu/protocol.ts';
import { WINDOW_PAGE_BYTES } from './gpu/window.ts';
import { FunctionHost } from './host/device-host.ts';
import { DmaMap } from './host/guest-memory.ts';
import { type Log, RateLimitedLog, SILENT_LOG } from './log.ts';
import { VfioUserServer } from './vfio-user/server.ts';

/** Shared memory region of virtio-gpu that the guest maps (virtio 1.3, 5.7.2). */
const VIRTIO_GPU_SHM_ID_HOST_VISIBLE = 1;

const SHARING_HINT =
  'share guest memory: QEMU memory-backend-memfd,share=on; cloud-hypervisor --memory shared=on';

export interface GpuServerOptions {
  readonly socketPath: string;
  /** One per output, 1 to 16. */
  readonly displays: readonly Mode[];
  readonly limits?: Partial<GpuLimits>;
  /** Size of the host-visible window, a power of two; 0 for none. */
  readonly hostVisibleBytes?: number;
  /** Kinds of contexts that guests are offered. */
  readonly components?: readonly Component[];
  readonly log?: Log;
  readonly onDisconnect?: () => void;
}

export class GpuServer {
  readonly screens: readonly Screen[];
  readonly limits: GpuLimits;
  readonly hostVisibleBytes: number;
  readonly memory = new DmaMap();
  readonly device: GpuDevice;
  readonly fn: VirtioPciFunction;
  readonly host: FunctionHost;
  readonly vfioUser: VfioUserServer;
  /** Doorbells by queue, and guest errors by kind. */
  readonly doorbells: number[];
  readonly guestErrors: Record<string, number> = {};
  readonly #window: MemfdWindow | undefined;
  /** How memory is handed to processes of the host. */
  readonly #exporter: Exporter;

  /** Listens when it returns. Throws when the socket cannot be had; nothing is left behind then. */
  constructor(options: GpuServerOptions) {
    const log = options.log ?? SILENT_LOG;
    const noise = new RateLimitedLog(log);
    this.limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.hostVisibleBytes = options.hostVisibleBytes ?? 0;
    this.screens = options.displays.map(
      (mode, index) => new Screen(index, mode, () => this.device.displaysChanged()),
    );
    this.#window = this.hostVisibleBytes > 0 ? new MemfdWindow(this.hostVisibleBytes) : undefined;
    this.#exporter = Exporter.probe();
    this.device = new GpuDevice({
      memory: this.memory,
      backend: new Plain2d(this.memory.addressSpace),
      displays: this.screens,
      limits: this.limits,
      log,
      components: options.components ?? [],
      blobAlignmentBytes: pageBytes() > WINDOW_PAGE_BYTES ? pageBytes() : 0,
      ...(this.#window ? { window: this.#window } : {}),
      exports: this.#exports(),
    });
    this.doorbells = this.device.queueSizes.map(() => 0);
    const barMemory = this.#window && {
      bar: SHARED_MEMORY_BAR,
      fd: this.#window.fd,
      sizeBytes: this.#window.sizeBytes,
    };
    this.host = new FunctionHost({
      memory: this.memory,
      vectorCount: this.device.queueSizes.length + 1,
      queueCount: this.device.queueSizes.length,
      ...(barMemory ? { barMemory } : {}),
      onFailure: (error) => {
        log.error({ err: error }, 'device failed: internal error');
        this.vfioUser.connection?.close();
      },
    });
    this.fn = new VirtioPciFunction(this.device, {
      memory: this.memory,
      interrupts: this.host.interrupts,
      wake: () => this.host.wake(),
      observer: {
        doorbell: (index) => {
          this.doorbells[index] = (this.doorbells[index] ?? 0) + 1;
        },
        guestError: (kind, detail) => {
          this.guestErrors[kind] = (this.guestErrors[kind] ?? 0) + 1;
          // Not the guest's fault then: the VMM announced its memory without a file.
          const hint =
            this.memory.windowCount > 0 && this.memory.mappedBytes === 0 ? { hint: SHARING_HINT } : {};
          noise.write('warn', kind, { detail, ...hint }, 'guest error');
        },
        emptyFirstDoorbell: (_, address) => void this.#checkSharedMemory(address, log),
      },
      msixTableOwner: 'client',
      classCode: PCI_CLASS_DISPLAY_OTHER,
      ...(this.#window
        ? { sharedMemory: { shmid: VIRTIO_GPU_SHM_ID_HOST_VISIBLE, sizeBytes: this.hostVisibleBytes } }
        : {}),
    });
    this.host.attach(this.fn, () => this.fn.ringAllDoorbells());
    try {
      this.vfioUser = new VfioUserServer(options.socketPath, this.host, log, {
        disconnected: () => options.onDisconnect?.(),
      });
    } catch (error) {
      this.#closeDevice();
      throw error;
    }
  }

  /** Ends the connection, removes the socket and frees everything. */
  close(): void {
    this.vfioUser.close();
    this.#closeDevice();
  }

  /** What is known of the server, its client and its guest: plain data. */
  info(version: string) {
    const { connection } = this.vfioUser;
    const { resources, resourceBytes, contexts, blobBytes } = this.device.counters;
    const features = this.fn.negotiatedFeatures;
    return {
      name: 'vfio-user-gpu',
      version,
      pid: process.pid,
      uptimeSeconds: process.uptime(),
      socketPath: this.vfioUser.socketPath,
      client: { connected: connection !== undefined, maxMsgFds: connection?.client?.maxMsgFds ?? null },
      guest: {
        status: this.fn.status,
        features: features === undefined ? null : `0x${features.toString(16)}`,
        memoryBytes: this.memory.mappedBytes,
      },
      resources: {
        count: resources,
        bytes: resourceBytes,
        maxCount: this.limits.maxResources,
        maxBytes: this.limits.maxResourceBytes,
      },
      hostVisibleBytes: this.hostVisibleBytes,
      blobs: {
        contexts,
        bytes: blobBytes,
        maxContexts: this.limits.maxContexts,
        maxBytes: this.limits.maxBlobBytes,
        maxContextBytes: this.limits.maxContextBlobBytes,
      },
      sharing: this.#exporter.method,
    };
  }

  /** Everything that is counted, at this moment. */
  metrics() {
    const { window } = this.device;
    const { messages, errors } = this.vfioUser.counters;
    return {
      ...this.device.counters,
      doorbells: this.doorbells,
      interrupts: this.host.interrupts.fired,
      guestErrors: this.guestErrors,
      clientMessages: messages,
      clientErrors: errors,
      queueDepths: this.fn.queueDepths,
      maxResourceBytes: this.limits.maxResourceBytes,
      maxBlobBytes: this.limits.maxBlobBytes,
      windowBytes: {
        mapped: window?.mappedBytes ?? 0,
        exported: window?.exportedBytes ?? 0,
        kept: window?.keptBytes ?? 0,
        populated: this.#window?.populatedBytes() ?? 0,
      },
      dmaWindows: this.memory.windowCount,
      dmaBytes: this.memory.mappedBytes,
      clientConnected: this.vfioUser.connection !== undefined,
      flushes: this.screens.map(({ flushes }) => flushes),
    };
  }

  /**
   * A guest rings and we see nothing: most likely the VMM gave us memory that it does not share with the guest, which
   * no message ever says. A client that answers is asked what the guest sees there.
   */
  async #checkSharedMemory(availIdxAddress: number, log: Log): Promise<void> {
    const ours = new Uint8Array(2);
    this.memory.read(availIdxAddress, ours);
    const theirs = await this.vfioUser.connection
      ?.dmaRead(availIdxAddress, ours.length)
      .catch(() => undefined);
    if (theirs && Buffer.from(theirs).equals(ours)) return;
    const certain = theirs !== undefined;
    const message = certain
      ? 'guest memory is not shared with this device: it will not work'
      : 'the guest rings, but no request is to be seen: is its memory shared with this device?';
    log.warn({ hint: SHARING_HINT }, message);
  }

  #exports(): Exports {
    const window = this.#window;
    const { addressSpace } = this.memory;
    const guest = {
      space: addressSpace,
      resolve: (address: number, lengthBytes: number) => this.memory.fileAt(address, lengthBytes),
    };
    return {
      exportWindow: (offset, sizeBytes) => {
        if (!window) throw new Error('there is no window to export');
        const { fd, addressSpace: space } = window;
        return this.#exporter.exportWindow({ fd, space }, offset, sizeBytes);
      },
      exportGuestPages: (backing) => this.#exporter.exportGuestPages(guest, backing),
    };
  }

  #closeDevice(): void {
    this.host.close();
    for (const screen of this.screens) screen.close();
    this.#exporter.close();
    this.#window?.close();
  }
}
