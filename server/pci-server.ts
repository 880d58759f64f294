/**
 * Any PCI function on one socket: guest memory, interrupts and turns of work around what its maker wrote. For a virtio
 * device there is `FunctionServer`, which also says what is wrong with a guest's memory.
 */
import type { GuestMemory, InterruptSink, PciFunction } from '../pci/index.ts';
import { type BarMemory, FunctionHost } from './host/device-host.ts';
import { DmaMap } from './host/guest-memory.ts';
import { type Log, SILENT_LOG } from './log.ts';
import { type ServerEvents, VfioUserServer } from './vfio-user/server.ts';

/** What a function is given to work with. It may keep it, and use it once it has been made. */
export interface Surroundings {
  readonly memory: GuestMemory;
  readonly interrupts: InterruptSink;
  /** Has the function's `service` called soon: after the answer to the access that is being handled, if there is one. */
  readonly wake: () => void;
}

export interface PciServerOptions<F extends PciFunction> {
  readonly socketPath: string;
  /** Makes the function; called once. */
  readonly createFunction: (surroundings: Surroundings) => F;
  /** The file behind the BAR that the function calls mappable; it stays the caller's. */
  readonly barMemory?: BarMemory;
  readonly log?: Log;
  /** Is told of each client. */
  readonly events?: ServerEvents;
}

export class PciServer<F extends PciFunction = PciFunction> {
  readonly fn: F;
  readonly #host: FunctionHost;
  readonly #vfioUser: VfioUserServer;

  /** Listens when it returns. Throws when the socket cannot be had; nothing is left behind then. */
  constructor(options: PciServerOptions<F>) {
    const { socketPath, createFunction, barMemory, log = SILENT_LOG, events } = options;
    const memory = new DmaMap();
    this.fn = createFunction({
      memory,
      interrupts: { fire: (vector) => this.#host.interrupts.fire(vector) },
      wake: () => this.#host.wake(),
    });
    this.#host = new FunctionHost({
      memory,
      vectorCount: this.fn.vectorCount,
      queueCount: 0,
      ...(barMemory ? { barMemory } : {}),
      onFailure: (error) => {
        log.error({ err: error }, 'device failed: internal error');
        this.#vfioUser.connection?.close();
      },
    });
    this.#host.attach(this.fn, () => {});
    try {
      this.#vfioUser = new VfioUserServer(socketPath, this.#host, log, events);
    } catch (error) {
      this.#host.close();
      throw error;
    }
  }

  /** Ends the connection, removes the socket and lets go of guest memory. */
  close(): void {
    this.#vfioUser.close();
    this.#host.close();
  }
}
