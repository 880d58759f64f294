/**
 * The client side of the protocol, for the program's own tools and for tests: sends requests, matches replies by
 * id, and hands out what came with them. It sends what it is told, right or wrong.
 */
import { closeSync } from 'node:fs';
import { connectUnix, DISCONNECT, READABLE, receive, send, Watch, WOULD_BLOCK } from '../../native/index.ts';
import { decode, encode } from '../wire.ts';
import { isReply, MessageReader, putHeader } from './framing.ts';
import {
  COMMAND_NAMES,
  DEVICE_GET_INFO,
  DEVICE_GET_IRQ_INFO,
  DEVICE_GET_REGION_INFO,
  deviceInfo,
  FLAG_ERROR,
  FLAG_NO_REPLY,
  HEADER_SIZE,
  irqInfo,
  REGION_READ,
  REGION_WRITE,
  regionAccess,
  regionInfo,
  TYPE_COMMAND,
  VERSION,
} from './protocol.ts';
import { MAX_DATA_XFER_SIZE, MAX_MSG_FDS, versionRequest } from './version.ts';

/** A message of the server. Its descriptors are the receiver's to close. */
export interface Received {
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  /** The errno of an error reply, otherwise 0. */
  readonly error: number;
  readonly body: Uint8Array;
  readonly fds: readonly number[];
  /** Header included. */
  readonly sizeBytes: number;
}

interface Waiter {
  resolve(reply: Received): void;
  reject(error: Error): void;
}

export class VfioUserClient {
  readonly fd: number;
  /** Called with every command of the server; without it they are ignored. */
  onCommand: (command: Received) => void = () => {};
  /** Settles when the server has ended the connection. */
  readonly ended: Promise<void>;
  readonly #reader = new MessageReader(MAX_DATA_XFER_SIZE + 4096);
  readonly #receivedFds = new Int32Array(1 + MAX_MSG_FDS);
  readonly #waiters = new Map<number, Waiter>();
  readonly #watch: Watch;
  #end: () => void = () => {};
  #nextId = 0;
  #closed = false;

  constructor(fd: number) {
    this.fd = fd;
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.#watch = new Watch(fd, READABLE, (events) => this.#onEvents(events));
  }

  static connect(path: string): VfioUserClient {
    return new VfioUserClient(connectUnix(path));
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Stops reading, like a client that hangs. */
  pause(): void {
    this.#watch.setEvents(0);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch.close();
    this.#reader.close();
    closeSync(this.fd);
    for (const waiter of this.#waiters.values()) waiter.reject(new Error('the connection has ended'));
    this.#waiters.clear();
    this.#end();
  }

  /** Writes bytes as they are. Throws when the socket does not take them whole. */
  sendBytes(bytes: Uint8Array, fds: readonly number[] = []): void {
    const sent = send(this.fd, bytes, 0, bytes.length, fds);
    if (sent !== bytes.length) throw new Error(`the socket took ${sent} of ${bytes.length} bytes`);
  }

  /** Sends a command and does not wait. The descriptors stay the caller's. Returns the message id. */
  post(command: number, body: Uint8Array, fds: readonly number[] = [], flags = TYPE_COMMAND): number {
    const id = this.#nextId;
    this.#nextId = (id + 1) & 0xffff;
    this.sendBytes(messageBytes({ id, command, flags }, body), fds);
    return id;
  }

  /** Sends a command and waits for its reply, good or bad. */
  request(command: number, body: Uint8Array, fds: readonly number[] = []): Promise<Received> {
    const reply = this.reply(this.#nextId);
    try {
      this.post(command, body, fds);
    } catch (error) {
      reply.catch(() => {});
      this.close();
      throw error;
    }
    return reply;
  }

  /** The next reply with this id. */
  reply(id: number): Promise<Received> {
    return new Promise((resolve, reject) => {
      if (this.#closed) reject(new Error('the connection has ended'));
      else this.#waiters.set(id, { resolve, reject });
    });
  }

  /** The same for callers that want nothing but success: returns the body, throws what the server refused. */
  async ask(command: number, body: Uint8Array, fds: readonly number[] = []): Promise<Uint8Array> {
    const reply = await this.request(command, body, fds);
    for (const fd of reply.fds) closeSync(fd);
    if (reply.flags & FLAG_ERROR) {
      throw new Error(`${COMMAND_NAMES[command] ?? command} was refused with errno ${reply.error}`);
    }
    return reply.body;
  }

  /** The VERSION exchange; returns the server's JSON text. */
  async handshake(): Promise<string> {
    const body = await this.ask(VERSION, versionRequest());
    return Buffer.from(body.subarray(4)).toString('utf8').replace(/\0$/, '');
  }

  async deviceInfo() {
    return decode(deviceInfo, await this.ask(DEVICE_GET_INFO, argsz(deviceInfo.size)));
  }

  async regionInfo(index: number) {
    const request = encode(regionInfo, { argsz: 32, flags: 0, index, capOffset: 0, size: 0, offset: 0 });
    return decode(regionInfo, await this.ask(DEVICE_GET_REGION_INFO, request));
  }

  async irqInfo(index: number) {
    const request = encode(irqInfo, { argsz: 16, flags: 0, index, count: 0 });
    return decode(irqInfo, await this.ask(DEVICE_GET_IRQ_INFO, request));
  }

  async readRegion(region: number, offset: number, count: number): Promise<Uint8Array> {
    const body = await this.ask(REGION_READ, encode(regionAccess, { offset, region, count }));
    return body.subarray(regionAccess.size);
  }

  async writeRegion(region: number, offset: number, data: Uint8Array): Promise<void> {
    await this.ask(REGION_WRITE, writeBody(region, offset, data));
  }

  /** A write the server does not answer. */
  postWrite(region: number, offset: number, data: Uint8Array): void {
    this.post(REGION_WRITE, writeBody(region, offset, data), [], TYPE_COMMAND | FLAG_NO_REPLY);
  }

  #onEvents(events: number): void {
    try {
      this.#receive();
      if (events & DISCONNECT) this.close();
    } catch {
      this.close();
    }
  }

  #receive(): void {
    while (!this.#closed) {
      const reader = this.#reader;
      const { buffer, filled } = reader;
      const count = receive(this.fd, buffer, filled, buffer.length - filled, this.#receivedFds);
      if (count === WOULD_BLOCK) return;
      if (count === 0) {
        this.close();
        return;
      }
      const fds = Array.from(this.#receivedFds.subarray(1, 1 + (this.#receivedFds[0] as number)));
      reader.advance(count, fds);
      for (let message = reader.next(); message; message = reader.next()) {
        const { id, command, flags, error, body } = message;
        const received = { id, command, flags, error, body: body.slice(), fds: message.fds.takeAll() };
        this.#deliver({ ...received, sizeBytes: HEADER_SIZE + body.length }, isReply(message));
      }
    }
  }

  #deliver(received: Received, reply: boolean): void {
    if (!reply) {
      this.onCommand(received);
      return;
    }
    const waiter = this.#waiters.get(received.id);
    this.#waiters.delete(received.id);
    waiter?.resolve(received);
  }
}

/** A message as bytes, header and body. */
export function messageBytes(
  header: { id: number; command: number; flags: number; error?: number; sizeBytes?: number },
  body: Uint8Array,
): Uint8Array {
  const bytes = new Uint8Array(HEADER_SIZE + body.length);
  putHeader(new DataView(bytes.buffer), { sizeBytes: bytes.length, ...header });
  bytes.set(body, HEADER_SIZE);
  return bytes;
}

function writeBody(region: number, offset: number, data: Uint8Array): Uint8Array {
  const body = new Uint8Array(regionAccess.size + data.length);
  body.set(encode(regionAccess, { offset, region, count: data.length }));
  body.set(data, regionAccess.size);
  return body;
}

/** The body of a request that is only an `argsz` and zeros. */
function argsz(size: number): Uint8Array {
  const body = new Uint8Array(size);
  new DataView(body.buffer).setUint32(0, size, true);
  return body;
}
