/** A vfio-user client over a socket pair, with an echo device behind it: real protocol, real descriptors. */
import { closeSync, readdirSync } from 'node:fs';
import { createEventfd, createMemfd, socketPair } from '../../native/index.ts';
import { VirtioPciFunction } from '../../pci/index.ts';
import { FunctionHost } from '../../server/host/device-host.ts';
import { DmaMap } from '../../server/host/guest-memory.ts';
import type { Log } from '../../server/log.ts';
import { messageBytes, type Received, VfioUserClient } from '../../server/vfio-user/client.ts';
import {
  Connection,
  type ConnectionCounters,
  type ConnectionOptions,
} from '../../server/vfio-user/connection.ts';
import * as protocol from '../../server/vfio-user/protocol.ts';
import { encode } from '../../server/wire.ts';
import { EchoDevice } from './echo-device.ts';

export const openFds = (): number => readdirSync('/proc/self/fd').length;

export interface LogLine {
  readonly level: string;
  readonly message: string;
  readonly fields: Record<string, unknown>;
}

export function recordingLog(): { log: Log; lines: LogLine[] } {
  const lines: LogLine[] = [];
  const at = (level: string) => (fields: object, message: string) => {
    lines.push({ level, message, fields: fields as Record<string, unknown> });
  };
  return { log: { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }, lines };
}

export interface ServeOptions extends ConnectionOptions {
  /** A mappable BAR of this size. */
  readonly windowBytes?: number;
  /** Virtqueues of the device; it has a vector more. Default 2. */
  readonly queueCount?: number;
  /** Do the VERSION exchange first (default). */
  readonly handshake?: boolean;
}

export class Served implements Disposable {
  readonly device: EchoDevice;
  readonly memory = new DmaMap();
  readonly counters: ConnectionCounters = { messages: {}, errors: {} };
  readonly host: FunctionHost;
  readonly fn: VirtioPciFunction;
  readonly connection: Connection;
  readonly client: VfioUserClient;
  readonly lines: LogLine[];
  readonly failures: unknown[] = [];
  readonly #window: number | undefined;

  constructor(options: ServeOptions = {}) {
    const { log, lines } = recordingLog();
    this.lines = lines;
    const { windowBytes, queueCount = 2 } = options;
    this.device = new EchoDevice(Array.from({ length: queueCount }, (_, index) => (index === 0 ? 256 : 64)));
    this.#window = windowBytes ? createMemfd('window', windowBytes, { seals: 'size' }) : undefined;
    this.host = new FunctionHost({
      memory: this.memory,
      vectorCount: queueCount + 1,
      queueCount,
      onFailure: (error) => this.failures.push(error),
      ...(windowBytes ? { barMemory: { bar: 4, fd: this.#window as number, sizeBytes: windowBytes } } : {}),
    });
    this.fn = new VirtioPciFunction(this.device, {
      memory: this.memory,
      interrupts: this.host.interrupts,
      wake: () => this.host.wake(),
      msixTableOwner: 'client',
      classCode: 0x038000,
      ...(windowBytes ? { sharedMemory: { shmid: 1, sizeBytes: windowBytes } } : {}),
    });
    this.host.attach(this.fn, () => this.fn.ringAllDoorbells());
    const [server, client] = socketPair();
    this.connection = new Connection(
      server,
      this.host,
      log,
      this.counters,
      () => this.host.clientGone(),
      options,
    );
    this.client = new VfioUserClient(client);
  }

  static async start(options: ServeOptions = {}): Promise<Served> {
    const served = new Served(options);
    if (options.handshake !== false) await served.client.handshake();
    return served;
  }

  [Symbol.dispose](): void {
    this.client.close();
    this.connection.close();
    this.host.close();
    if (this.#window !== undefined) closeSync(this.#window);
  }

  /** Sends a command and returns the errno of the answer, 0 for success. Received descriptors are closed. */
  async errno(command: number, body: Uint8Array, fds: readonly number[] = []): Promise<number> {
    const reply = await this.client.request(command, body, fds);
    for (const fd of reply.fds) closeSync(fd);
    if ((reply.flags & protocol.FLAG_ERROR) === 0) return 0;
    return reply.error;
  }

  /** The same, with descriptors that are ours and closed afterwards. */
  async errnoWith(command: number, body: Uint8Array, fds: readonly number[]): Promise<number> {
    try {
      return await this.errno(command, body, fds);
    } finally {
      for (const fd of fds) closeSync(fd);
    }
  }

  /** Sends bytes as they are; resolves with what came back until the server closed the connection. */
  async untilClosed(send: (client: VfioUserClient) => unknown, id = 0): Promise<Received | undefined> {
    const reply = this.client.reply(id).catch(() => undefined);
    await send(this.client);
    await this.client.ended;
    return await reply;
  }

  /** The server still answers. */
  async alive(): Promise<boolean> {
    return (await this.client.deviceInfo()).numRegions === 9;
  }
}

/** Request bodies, with the fields that matter to a test. */
export const bodies = {
  dmaMap: (
    fields: Partial<{ argsz: number; flags: number; offset: number; address: number; size: number }> = {},
  ) =>
    encode(protocol.dmaMap, {
      argsz: 32,
      flags: 3,
      offset: 0,
      address: 0x10_0000,
      size: 0x10_0000,
      ...fields,
    }),
  dmaUnmap: (fields: Partial<{ argsz: number; flags: number; address: number; size: number }> = {}) =>
    encode(protocol.dmaUnmap, { argsz: 24, flags: 0, address: 0x10_0000, size: 0x10_0000, ...fields }),
  deviceInfo: (argsz = 16) => encode(protocol.deviceInfo, { argsz, flags: 0, numRegions: 0, numIrqs: 0 }),
  regionInfo: (index: number, argsz = 32) =>
    encode(protocol.regionInfo, { argsz, flags: 0, index, capOffset: 0, size: 0, offset: 0 }),
  regionIoFds: (index: number, fields: Partial<{ argsz: number; flags: number; count: number }> = {}) =>
    encode(protocol.regionIoFds, { argsz: 16, flags: 0, index, count: 0, ...fields }),
  irqInfo: (index: number, argsz = 16) => encode(protocol.irqInfo, { argsz, flags: 0, index, count: 0 }),
  setIrqs: (
    flags: number,
    index: number,
    start: number,
    count: number,
    extra: { argsz?: number; data?: readonly number[] } = {},
  ) => {
    const head = encode(protocol.setIrqs, { argsz: extra.argsz ?? 20, flags, index, start, count });
    return Uint8Array.from([...head, ...(extra.data ?? [])]);
  },
  access: (region: number, offset: number, count: number, data: readonly number[] = []) =>
    Uint8Array.from([...encode(protocol.regionAccess, { offset, region, count }), ...data]),
  writeMulti: (
    entries: readonly { region: number; offset: number; count: number; data: readonly number[] }[],
    announced = entries.length,
  ) =>
    Uint8Array.from([
      ...encode(protocol.writeMulti, { count: announced }),
      ...entries.flatMap((entry) => [
        ...encode(protocol.writeMultiEntry, { ...entry, data: Uint8Array.from(entry.data) }),
      ]),
    ]),
  version: (json: string | undefined, major = 0, minor = 0) => {
    const text = json === undefined ? [] : [...Buffer.from(json), 0];
    return Uint8Array.from([...encode(protocol.version, { major, minor }), ...text]);
  },
};

export const eventfds = (count: number): number[] => Array.from({ length: count }, () => createEventfd());

export { messageBytes };
