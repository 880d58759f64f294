/**
 * One PCI function on one socket: a virtio device with its PCI face, guest memory, interrupts and the socket a VMM
 * connects to. What is special about a device is its own business.
 */
import { type VirtioDevice, VirtioPciFunction } from '../pci/index.ts';
import { SHARED_MEMORY_BAR } from '../pci/virtio/transport.ts';
import { FunctionHost } from './host/device-host.ts';
import { DmaMap } from './host/guest-memory.ts';
import { type Log, RateLimitedLog, SILENT_LOG } from './log.ts';
import type { Connection } from './vfio-user/connection.ts';
import { type ServerEvents, VfioUserServer } from './vfio-user/server.ts';

const SHARING_HINT =
  'share guest memory: QEMU memory-backend-memfd,share=on; cloud-hypervisor --memory shared=on';

export interface FunctionServerOptions {
  readonly socketPath: string;
  readonly device: VirtioDevice;
  /** 24 bits: base class, sub class, programming interface. */
  readonly classCode: number;
  /** Guest memory, for devices that look into it themselves; made here if not given. Closed with the server. */
  readonly memory?: DmaMap;
  /** A file that the guest maps as shared memory region `shmid`; it stays the caller's. */
  readonly window?: { readonly shmid: number; readonly fd: number; readonly sizeBytes: number } | undefined;
  readonly log?: Log;
  /** Is told of each client. */
  readonly events?: ServerEvents | undefined;
}

export class FunctionServer {
  readonly memory: DmaMap;
  readonly fn: VirtioPciFunction;
  readonly host: FunctionHost;
  readonly vfioUser: VfioUserServer;
  /** Doorbells by queue, and guest errors by kind. */
  readonly doorbells: number[];
  readonly guestErrors: Record<string, number> = {};
  /** Since the client came. */
  #strayDoorbells = 0;
  /** The one line about memory that is not shared was written for this client. */
  #hasComplained = false;
  /** The client has been asked what the guest sees, and has not answered. */
  #isAsking = false;

  /** Listens when it returns. Throws when the socket cannot be had; nothing is left behind then. */
  constructor({ device, window, ...options }: FunctionServerOptions) {
    const log = options.log ?? SILENT_LOG;
    const noise = new RateLimitedLog(log);
    const queueCount = device.queueSizes.length;
    this.memory = options.memory ?? new DmaMap();
    this.doorbells = device.queueSizes.map(() => 0);
    this.host = new FunctionHost({
      memory: this.memory,
      vectorCount: queueCount + 1,
      queueCount,
      ...(window ? { barMemory: { bar: SHARED_MEMORY_BAR, ...window } } : {}),
      onFailure: (error) => {
        log.error({ err: error }, 'device failed: internal error');
        this.vfioUser.connection?.close();
      },
    });
    this.fn = new VirtioPciFunction(device, {
      memory: this.memory,
      interrupts: this.host.interrupts,
      wake: () => this.host.wake(),
      observer: {
        doorbell: (index) => {
          this.doorbells[index] = (this.doorbells[index] ?? 0) + 1;
        },
        guestError: (kind, detail) => {
          this.guestErrors[kind] = (this.guestErrors[kind] ?? 0) + 1;
          noise.write('warn', kind, { detail }, 'guest error');
        },
        emptyFirstDoorbell: (_, address) => void this.#checkRing(address, log),
        strayDoorbell: () => {
          if (this.#strayDoorbells++ === 0) {
            const hint = 'reboot the guest, or have its driver look for the device anew';
            const { socketPath } = this.vfioUser;
            log.warn(
              { socketPath, hint },
              'the guest rings a device that it has not set up: it gets no answer',
            );
          }
        },
        guestArrives: () => void this.#checkMemory(),
        driverTurnedAway: () => {
          this.guestErrors.memory = (this.guestErrors.memory ?? 0) + 1;
          this.#complain(log, 'its driver was turned away, and the guest goes on without it');
        },
      },
      msixTableOwner: 'client',
      classCode: options.classCode,
      ...(window ? { sharedMemory: window } : {}),
    });
    this.host.attach(this.fn, () => this.fn.ringAllDoorbells());
    try {
      this.vfioUser = new VfioUserServer(options.socketPath, this.host, log, {
        connected: () => options.events?.connected?.(),
        disconnected: () => {
          this.#hasComplained = false;
          this.#strayDoorbells = 0;
          options.events?.disconnected?.();
        },
      });
    } catch (error) {
      this.host.close();
      throw error;
    }
  }

  /** Ends the connection, removes the socket and lets go of guest memory. */
  close(): void {
    this.vfioUser.close();
    this.host.close();
  }

  /** What is known of the client and its guest: plain data. */
  info() {
    const { connection } = this.vfioUser;
    const features = this.fn.negotiatedFeatures;
    return {
      socketPath: this.vfioUser.socketPath,
      client: { connected: connection !== undefined, maxMsgFds: connection?.client?.maxMsgFds ?? null },
      guest: {
        status: this.fn.status,
        features: features === undefined ? null : `0x${features.toString(16)}`,
        memoryBytes: this.memory.mappedBytes,
        memorySharing: this.memory.sharing,
        strayDoorbells: this.#strayDoorbells,
      },
    };
  }

  /** Everything that is counted, at this moment. */
  metrics() {
    const { messages, errors } = this.vfioUser.counters;
    return {
      doorbells: this.doorbells,
      interrupts: this.host.interrupts.fired,
      guestErrors: this.guestErrors,
      clientMessages: messages,
      clientErrors: errors,
      queueDepths: this.fn.queueDepths,
      dmaWindows: this.memory.windowCount,
      dmaBytes: this.memory.mappedBytes,
      clientConnected: this.vfioUser.connection !== undefined,
    };
  }

  /**
   * A guest begins, so its memory is not empty. Where all we see of the beginning is zeros, the VMM most likely gave us
   * memory that it does not share with the guest, which no message ever says: a client that answers is asked what the
   * guest sees there. Drivers that come after its answer are turned away.
   */
  async #checkMemory(): Promise<void> {
    if (this.#isAsking || this.memory.sharing !== 'unknown') return;
    const ours = this.memory.beginning();
    if (!ours) return;
    if (!isZero(ours.bytes)) {
      this.memory.found('shared');
      return;
    }
    const { connection } = this.vfioUser;
    this.#isAsking = true;
    const theirs = await clientSees(connection, ours.address, ours.bytes.length);
    this.#isAsking = false;
    if (this.vfioUser.connection !== connection) return;
    const now = this.memory.beginning();
    if (now && !isZero(now.bytes)) this.memory.found('shared');
    else if (now && theirs && !isZero(theirs)) this.memory.found('private');
  }

  /**
   * A guest rings and we see nothing. What lies in the file at the start of guest memory told nothing then, or the client
   * had not answered yet. This driver waits for ever; the next one is turned away.
   */
  async #checkRing(availIdxAddress: number, log: Log): Promise<void> {
    const look = () => {
      const bytes = new Uint8Array(2);
      this.memory.read(availIdxAddress, bytes);
      return bytes;
    };
    const { connection } = this.vfioUser;
    const before = look();
    const theirs = await clientSees(connection, availIdxAddress, before.length);
    if (this.vfioUser.connection !== connection) return;
    if (!theirs) {
      log.warn(
        { hint: SHARING_HINT },
        'the guest rings, but no request is to be seen: is its memory shared with this device?',
      );
      return;
    }
    // An index that moves here, too, is shared.
    const after = look();
    if (!isEqual(before, after) || isEqual(theirs, after)) return;
    this.memory.found('private');
    this.#complain(log, 'it will not work');
  }

  #complain(log: Log, consequence: string): void {
    if (this.#hasComplained) return;
    this.#hasComplained = true;
    const { socketPath } = this.vfioUser;
    log.warn(
      { socketPath, hint: SHARING_HINT },
      `guest memory is not shared with this device: ${consequence}`,
    );
  }
}

/** What the client sees in guest memory; undefined where it does not tell. */
const clientSees = (connection: Connection | undefined, address: number, lengthBytes: number) =>
  connection?.dmaRead(address, lengthBytes).catch(() => undefined);

const isEqual = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;
// A guest can have this done with each reset: 65,536 calls of a function would take longer than all the rest.
const isZero = (bytes: Uint8Array) => isEqual(bytes, new Uint8Array(bytes.length));
