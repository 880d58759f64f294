/**
 * A listening socket and the one client that may be connected to it. A second client waits in the backlog: after a
 * guest reboot cloud-hypervisor connects anew before we have seen the old connection end.
 */
import { closeSync, statSync, unlinkSync } from 'node:fs';
import { acceptUnix, listenUnix, READABLE, Watch } from '../../native/index.ts';
import type { DeviceHost } from '../host/contract.ts';
import type { Log } from '../log.ts';
import { removeStaleSocket } from '../sockets.ts';
import { Connection, type ConnectionCounters, type ConnectionOptions } from './connection.ts';

const RETRY_MS = 1000;

/** Clients that come and go, one at a time. */
export interface ServerEvents {
  connected?(): void;
  disconnected?(): void;
}

export class VfioUserServer {
  readonly socketPath: string;
  readonly counters: ConnectionCounters = { messages: {}, errors: {} };
  readonly #listener: number;
  readonly #inode: bigint;
  readonly #watch: Watch;
  readonly #device: DeviceHost;
  readonly #log: Log;
  readonly #events: ServerEvents;
  readonly #options: ConnectionOptions;
  #connection: Connection | undefined;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;

  /** Listens at `socketPath`. A stale socket there is replaced; a live one, or any other file, is an error. */
  constructor(
    socketPath: string,
    device: DeviceHost,
    log: Log,
    events: ServerEvents = {},
    options: ConnectionOptions = {},
  ) {
    this.socketPath = socketPath;
    this.#device = device;
    this.#log = log;
    this.#events = events;
    this.#options = options;
    removeStaleSocket(socketPath);
    this.#listener = listenUnix(socketPath);
    this.#inode = statSync(socketPath, { bigint: true }).ino;
    this.#watch = new Watch(this.#listener, READABLE, () => this.#accept());
  }

  /** The connected client, if there is one. */
  get connection(): Connection | undefined {
    return this.#connection;
  }

  /** Ends the connection, stops listening and removes the socket. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#watch.close();
    closeSync(this.#listener);
    // Somebody else may have replaced our socket by now; theirs stays.
    const found = statSync(this.socketPath, { bigint: true, throwIfNoEntry: false });
    if (found?.ino === this.#inode) unlinkSync(this.socketPath);
    this.#connection?.close();
  }

  #accept(): void {
    this.#watch.setEvents(0);
    try {
      this.#connect();
    } catch (error) {
      // No descriptors left, most likely. The client stays in the backlog, and the timer keeps the process alive.
      this.#log.error({ err: error }, 'a client could not be accepted');
      this.#retry = setTimeout(() => this.#listen(), RETRY_MS);
    }
  }

  #listen(): void {
    if (!this.#closed && !this.#connection) this.#watch.setEvents(READABLE);
  }

  #connect(): void {
    const fd = acceptUnix(this.#listener);
    if (fd === undefined) {
      this.#listen();
      return;
    }
    this.#log.info({}, 'client connected');
    this.#connection = new Connection(
      fd,
      this.#device,
      this.#log,
      this.counters,
      () => this.#disconnected(),
      this.#options,
    );
    this.#events.connected?.();
  }

  #disconnected(): void {
    this.#connection = undefined;
    this.#device.clientGone();
    this.#log.info({}, 'client disconnected');
    this.#events.disconnected?.();
    this.#listen();
  }
}
