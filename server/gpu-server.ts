/**
 * One virtio-gpu function and everything behind it, put together: displays, the window, the device, and the function
 * on its socket. The only place besides `main.ts` that knows every concrete class.
 */
import { pageBytes } from '../native/index.ts';
import { Exporter } from './backends/exports.ts';
import { Plain2d } from './backends/plain2d.ts';
import { MemfdWindow } from './backends/window-memory.ts';
import type { Mode } from './displays/mode.ts';
import { Screen } from './displays/screen.ts';
import { FunctionServer, type FunctionServerOptions } from './function-server.ts';
import type { Component } from './gpu/contracts/context.ts';
import type { Exports } from './gpu/contracts/exports.ts';
import { GpuDevice } from './gpu/device.ts';
import { DEFAULT_LIMITS, type GpuLimits, MAX_BLOB_MEMORY } from './gpu/limits.ts';
import { PCI_CLASS_DISPLAY_OTHER } from './gpu/protocol.ts';
import { WINDOW_PAGE_BYTES } from './gpu/window.ts';
import { DmaMap } from './host/guest-memory.ts';
import { type Log, SILENT_LOG } from './log.ts';

/** Shared memory region of virtio-gpu that the guest maps (virtio 1.3, 5.7.2). */
const VIRTIO_GPU_SHM_ID_HOST_VISIBLE = 1;

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
  readonly events?: FunctionServerOptions['events'];
}

export class GpuServer {
  readonly screens: readonly Screen[];
  readonly limits: GpuLimits;
  readonly hostVisibleBytes: number;
  readonly device: GpuDevice;
  /** The device as a PCI function on its socket. */
  readonly served: FunctionServer;
  readonly #memory = new DmaMap();
  readonly #window: MemfdWindow | undefined;
  /** How memory is handed to processes of the host. */
  readonly #exporter: Exporter;

  /** Listens when it returns. Throws when the socket cannot be had; nothing is left behind then. */
  constructor(options: GpuServerOptions) {
    const log = options.log ?? SILENT_LOG;
    this.limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.hostVisibleBytes = options.hostVisibleBytes ?? 0;
    this.screens = options.displays.map(
      (mode, index) => new Screen(index, mode, () => this.device.displaysChanged()),
    );
    this.#window = this.hostVisibleBytes > 0 ? new MemfdWindow(this.hostVisibleBytes) : undefined;
    this.#exporter = Exporter.probe();
    this.device = new GpuDevice({
      memory: this.#memory,
      backend: new Plain2d(this.#memory.addressSpace),
      displays: this.screens,
      limits: this.limits,
      log,
      components: options.components ?? [],
      blobAlignmentBytes: pageBytes() > WINDOW_PAGE_BYTES ? pageBytes() : 0,
      ...(this.#window ? { window: this.#window } : {}),
      exports: this.#exports(),
    });
    try {
      this.served = new FunctionServer({
        socketPath: options.socketPath,
        device: this.device,
        classCode: PCI_CLASS_DISPLAY_OTHER,
        memory: this.#memory,
        window: this.#window && {
          shmid: VIRTIO_GPU_SHM_ID_HOST_VISIBLE,
          fd: this.#window.fd,
          sizeBytes: this.#window.sizeBytes,
        },
        log,
        events: {
          // Whatever the guest's registers say: some VMMs let it write from the beginning.
          connected: () => {
            this.device.window?.watch();
            options.events?.connected?.();
          },
          disconnected: () => {
            this.device.window?.unwatch();
            options.events?.disconnected?.();
          },
        },
      });
    } catch (error) {
      this.#closeDevice();
      throw error;
    }
  }

  /** Ends the connection, removes the socket and frees everything. */
  close(): void {
    this.served.close();
    this.#closeDevice();
  }

  /** What is known of the server, its client and its guest: plain data. */
  info(version: string) {
    const { resources, resourceBytes, contexts, blobBytes, exportedBytes, refusals, contextsEnded } =
      this.device.counters;
    return {
      name: 'vfio-user-gpu',
      version,
      pid: process.pid,
      uptimeSeconds: process.uptime(),
      ...this.served.info(),
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
        populatedBytes: this.#window?.populatedBytes() ?? 0,
        exportedBytes,
        maxContexts: this.limits.maxContexts,
        maxBytes: this.limits.maxBlobBytes,
        refused: refusals[MAX_BLOB_MEMORY],
        contextsEnded,
      },
      sharing: this.#exporter.method,
    };
  }

  /** Everything that is counted, at this moment. */
  metrics() {
    const { window } = this.device;
    return {
      ...this.device.counters,
      ...this.served.metrics(),
      maxResourceBytes: this.limits.maxResourceBytes,
      maxBlobBytes: this.limits.maxBlobBytes,
      windowBytes: {
        mapped: window?.mappedBytes ?? 0,
        exported: window?.exportedBytes ?? 0,
        kept: window?.keptBytes ?? 0,
        populated: this.#window?.populatedBytes() ?? 0,
      },
      flushes: this.screens.map(({ flushes }) => flushes),
    };
  }

  #exports(): Exports {
    const window = this.#window;
    const { addressSpace } = this.#memory;
    const guest = {
      space: addressSpace,
      resolve: (address: number, lengthBytes: number) => this.#memory.fileAt(address, lengthBytes),
    };
    return {
      exportWindow: (offset, sizeBytes, mayShare) => {
        if (!window) throw new Error('there is no window to export');
        const { fd, addressSpace: space } = window;
        return this.#exporter.exportWindow({ fd, space }, offset, sizeBytes, mayShare);
      },
      exportGuestPages: (backing) => this.#exporter.exportGuestPages(guest, backing),
    };
  }

  #closeDevice(): void {
    for (const screen of this.screens) screen.close();
    this.device.window?.unwatch();
    this.#exporter.close();
    this.#window?.close();
  }
}
