/**
 * One client: the read loop, the version exchange, order, and the only place that answers.
 *
 * Every message is handled to its end before the next one is read, and answered before the work it asked for is
 * done (`host.settle`), because a vCPU stands still until the answer comes. A client that does not take its answers
 * is not read from.
 */
import { closeSync } from 'node:fs';
import {
  DISCONNECT,
  READABLE,
  receive,
  send,
  sigbusRepairs,
  Watch,
  WOULD_BLOCK,
  WRITABLE,
} from '../../native/index.ts';
import { EINVAL, ProtocolError, StreamError } from '../errors.ts';
import type { DeviceHost } from '../host/contract.ts';
import { type Log, RateLimitedLog } from '../log.ts';
import { decode, encode, viewOf, WireError } from '../wire.ts';
import { isReply, type Message, MessageReader, putHeader, wantsNoReply } from './framing.ts';
import {
  COMMAND_NAMES,
  DMA_READ,
  DMA_WRITE,
  dmaAccess,
  earlyDmaAccess,
  FLAG_ERROR,
  HEADER_SIZE,
  TYPE_COMMAND,
  TYPE_REPLY,
  VERSION,
} from './protocol.ts';
import { HANDLERS, type Reply, type RequestContext, refusalBody } from './requests.ts';
import {
  type ClientCapabilities,
  MAX_DATA_XFER_SIZE,
  MAX_MSG_FDS,
  parseVersion,
  versionReply,
} from './version.ts';

/** Header, fixed part and data of the largest region access. */
const MAX_MESSAGE_BYTES = MAX_DATA_XFER_SIZE + 32;
/** Messages handled before others get their turn. */
const MESSAGES_PER_TURN = 64;
/** Replies to nothing that are put up with. */
const MAX_STRAY_REPLIES = 16;
const MAX_UNSENT_BYTES = 4 * MAX_MESSAGE_BYTES;
const MAX_ERRNO = 4096;

export interface ConnectionOptions {
  /** Offer REGION_WRITE_MULTI. */
  readonly writeMultiple?: boolean;
  /** Time for the first message. */
  readonly handshakeTimeoutMs?: number;
  /** Time for the rest of a message that has begun, and for the client to take an answer. */
  readonly stallTimeoutMs?: number;
}

/** What a connection counts; plain numbers for whoever shows them. */
export interface ConnectionCounters {
  /** By command name. */
  readonly messages: Record<string, number>;
  /** By errno, and by kind for what ended a connection. */
  readonly errors: Record<string, number>;
}

const count = (counters: Record<string, number>, key: string) => {
  counters[key] = (counters[key] ?? 0) + 1;
};

interface PendingCommand {
  readonly command: number;
  readonly address: number;
  readonly count: number;
  resolve(data: Uint8Array): void;
  reject(error: Error): void;
}

export class Connection {
  readonly #fd: number;
  readonly #host: DeviceHost;
  readonly #log: Log;
  readonly #noise: RateLimitedLog;
  readonly #counters: ConnectionCounters;
  readonly #onClose: () => void;
  readonly #options: Required<ConnectionOptions>;
  #context: RequestContext;
  readonly #watch: Watch;
  readonly #reader = new MessageReader(MAX_MESSAGE_BYTES);
  readonly #receivedFds = new Int32Array(1 + MAX_MSG_FDS);
  readonly #repairsAtStart = sigbusRepairs();
  #out = new Uint8Array(4096);
  #outView = viewOf(this.#out);
  /** Bytes the socket did not take yet. */
  #unsent: Uint8Array | undefined;
  #client: ClientCapabilities | undefined;
  #deadline: NodeJS.Timeout | undefined;
  #closed = false;
  #strayReplies = 0;
  #nextCommandId = 0;
  /** Set while messages that have been read wait for their turn. */
  #nextTurn: NodeJS.Immediate | undefined;
  readonly #pendingCommands = new Map<number, PendingCommand>();

  /** Takes ownership of `fd`. `onClose` is called once, when nothing of the connection is left. */
  constructor(
    fd: number,
    host: DeviceHost,
    log: Log,
    counters: ConnectionCounters,
    onClose: () => void,
    options: ConnectionOptions = {},
  ) {
    this.#fd = fd;
    this.#host = host;
    this.#log = log;
    this.#noise = new RateLimitedLog(log);
    this.#counters = counters;
    this.#onClose = onClose;
    this.#options = { writeMultiple: false, handshakeTimeoutMs: 10_000, stallTimeoutMs: 30_000, ...options };
    this.#context = { host, writeMultiple: this.#options.writeMultiple, maxDmaMaps: 0 };
    this.#watch = new Watch(fd, READABLE, (events) => this.#onEvents(events));
    this.#startDeadline(this.#options.handshakeTimeoutMs, 'no VERSION in time');
  }

  /** What the client proposed; undefined before the handshake. */
  get client(): ClientCapabilities | undefined {
    return this.#client;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Ends the connection and everything that belongs to it. Safe to call twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#deadline);
    clearImmediate(this.#nextTurn);
    this.#watch.close();
    this.#reader.close();
    closeSync(this.#fd);
    for (const pending of this.#pendingCommands.values()) pending.reject(new Error('the client is gone'));
    this.#pendingCommands.clear();
    this.#onClose();
  }

  /**
   * Reads guest memory through the client. Never awaited by anything that a client waits for: a client that is
   * waiting for an answer of ours cannot answer this. Rejects where the client does not take commands.
   */
  dmaRead(address: number, lengthBytes: number): Promise<Uint8Array> {
    return this.#command(DMA_READ, address, lengthBytes, new Uint8Array(0));
  }

  /** Writes guest memory through the client; see `dmaRead`. */
  async dmaWrite(address: number, data: Uint8Array): Promise<void> {
    await this.#command(DMA_WRITE, address, data.length, data);
  }

  #onEvents(events: number): void {
    if (events & WRITABLE) this.#sendUnsent();
    if (events & (READABLE | DISCONNECT) && !this.#closed && !this.#unsent) this.#readMessages();
  }

  #readMessages(): void {
    try {
      for (let handled = 0; handled < MESSAGES_PER_TURN; handled++) {
        const message = this.#receive();
        if (!message) return;
        this.#handle(message);
        // On one CPU the client has run while we answered, and has often asked again: that saves a turn of the loop.
        if (this.#closed || this.#unsent) return;
      }
      this.#continueLater();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** The loop tells of what the socket still holds; nobody but the reader knows of what has been read already. */
  #continueLater(): void {
    if (this.#reader.idle) return;
    this.#nextTurn ??= setImmediate(() => {
      this.#nextTurn = undefined;
      if (!this.#unsent) this.#readMessages();
    });
  }

  /** The next whole message; undefined when the socket has no more for now, or has ended. */
  #receive(): Message | undefined {
    const reader = this.#reader;
    for (;;) {
      const message = reader.next();
      if (message) {
        if (this.#deadline && this.#client) this.#stopDeadline();
        return message;
      }
      const { buffer, filled } = reader;
      const received = receive(this.#fd, buffer, filled, buffer.length - filled, this.#receivedFds);
      if (received === WOULD_BLOCK) {
        if (!reader.idle && !this.#deadline)
          this.#startDeadline(this.#options.stallTimeoutMs, 'message unfinished');
        return undefined;
      }
      if (received === 0) {
        if (!reader.idle) throw new StreamError('end of stream inside a message');
        this.close();
        return undefined;
      }
      const fdCount = this.#receivedFds[0] as number;
      const fds = fdCount > 0 ? Array.from(this.#receivedFds.subarray(1, 1 + fdCount)) : NO_FDS;
      reader.advance(received, fds);
    }
  }

  #handle(message: Message): void {
    try {
      this.#dispatch(message);
    } finally {
      message.fds.close();
    }
  }

  #dispatch(message: Message): void {
    count(this.#counters.messages, COMMAND_NAMES[message.command] ?? 'unknown');
    if (isReply(message)) {
      this.#handleReply(message);
      return;
    }
    const silent = wantsNoReply(message);
    try {
      const reply = this.#client ? this.#execute(message) : this.#handshake(message);
      if (!silent || message.command === VERSION) this.#reply(message, reply);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#noteRefusal(message, error);
      if (!silent) this.#refuse(message, error.errno);
    }
    this.#host.settle();
    if (sigbusRepairs() !== this.#repairsAtStart)
      throw new StreamError('the client truncated memory it had mapped');
  }

  #execute(message: Message): Reply {
    const handler = HANDLERS[message.command];
    if (!handler) throw new ProtocolError(EINVAL, `command ${message.command}`);
    return handler(this.#context, message);
  }

  #handshake(message: Message): Reply {
    if (message.command !== VERSION) throw new StreamError('first message is not VERSION', EINVAL);
    const client = parseVersion(message.body);
    this.#client = client;
    this.#context = { ...this.#context, maxDmaMaps: client.maxDmaMaps };
    this.#stopDeadline();
    this.#log.info({ client }, 'client negotiated');
    return { body: versionReply(this.#options.writeMultiple, client.maxDmaMaps) };
  }

  #noteRefusal(message: Message, error: ProtocolError): void {
    count(this.#counters.errors, `errno ${error.errno}`);
    const command = COMMAND_NAMES[message.command] ?? message.command;
    const fields = { id: message.id, command, errno: error.errno, reason: error.message };
    this.#noise.write('warn', 'request refused', fields, 'request refused');
  }

  /** The stream or we ourselves are at fault: the connection ends on purpose. */
  #fail(error: unknown): void {
    if (error instanceof StreamError) {
      count(this.#counters.errors, 'stream');
      this.#log.warn({ reason: error.message }, 'connection ended: the client broke the protocol');
      if (error.errno !== undefined) this.#trySendError(error.errno);
    } else if (isSystemError(error)) {
      count(this.#counters.errors, error.code);
      this.#log.warn({ err: error }, 'connection ended: the socket failed');
    } else {
      count(this.#counters.errors, 'internal');
      this.#log.error({ err: error }, 'connection ended: internal error');
    }
    this.close();
  }

  #reply({ id, command }: Message, { body, fd }: Reply): void {
    this.#send(id, command, TYPE_REPLY, 0, body, fd === undefined ? undefined : [fd]);
  }

  /** A client that is not known to read error replies gets one that is as long as the answer it waits for. */
  #refuse(message: Message, errno: number): void {
    const body = this.#client?.answersCommands === false ? refusalBody(message) : NO_BYTES;
    this.#send(message.id, message.command, TYPE_REPLY | FLAG_ERROR, errno, body);
  }

  #replyError({ id, command }: { id: number; command: number }, errno: number): void {
    this.#send(id, command, TYPE_REPLY | FLAG_ERROR, errno, NO_BYTES);
  }

  #trySendError(errno: number): void {
    try {
      this.#replyError(this.#reader.header, errno);
    } catch {
      // The connection ends anyway.
    }
  }

  /** One `sendmsg` for header, body and descriptors, as both known clients need it. */
  #send(
    id: number,
    command: number,
    flags: number,
    error: number,
    body: Uint8Array,
    fds?: readonly number[],
  ): void {
    const sizeBytes = HEADER_SIZE + body.length;
    if (this.#out.length < sizeBytes) {
      this.#out = new Uint8Array(sizeBytes);
      this.#outView = viewOf(this.#out);
    }
    putHeader(this.#outView, { id, command, sizeBytes, flags, error });
    this.#out.set(body, HEADER_SIZE);
    if (this.#unsent) {
      this.#keepUnsent(this.#out.subarray(0, sizeBytes));
      return;
    }
    const sent = send(this.#fd, this.#out, 0, sizeBytes, fds);
    if (sent === sizeBytes) return;
    // Descriptors ride on the first byte; a socket that takes none of it would need them again later.
    if (sent === WOULD_BLOCK && fds) throw new StreamError('the client does not take its answers');
    this.#keepUnsent(this.#out.subarray(Math.max(sent, 0), sizeBytes));
  }

  #keepUnsent(bytes: Uint8Array): void {
    const before = this.#unsent ?? NO_BYTES;
    if (before.length + bytes.length > MAX_UNSENT_BYTES)
      throw new StreamError('the client does not take its answers');
    const joined = new Uint8Array(before.length + bytes.length);
    joined.set(before);
    joined.set(bytes, before.length);
    this.#unsent = joined;
    this.#watch.setEvents(WRITABLE);
    this.#startDeadline(this.#options.stallTimeoutMs, 'the client does not take its answers');
  }

  #sendUnsent(): void {
    if (!this.#unsent) return;
    try {
      const sent = send(this.#fd, this.#unsent, 0, this.#unsent.length);
      if (sent === WOULD_BLOCK) return;
      const rest = this.#unsent.subarray(sent);
      this.#unsent = rest.length > 0 ? rest : undefined;
      if (this.#unsent) return;
      this.#stopDeadline();
      this.#watch.setEvents(READABLE);
      this.#continueLater();
    } catch (error) {
      this.#fail(error);
    }
  }

  #command(command: number, address: number, lengthBytes: number, data: Uint8Array): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      if (this.#closed || !this.#client?.answersCommands) {
        reject(new Error('the client does not answer commands'));
        return;
      }
      const id = this.#nextCommandId;
      this.#nextCommandId = (id + 1) & 0xffff;
      this.#pendingCommands.set(id, { command, address, count: lengthBytes, resolve, reject });
      const body = new Uint8Array(dmaAccess.size + data.length);
      body.set(encode(dmaAccess, { address, count: lengthBytes }));
      body.set(data, dmaAccess.size);
      this.#send(id, command, TYPE_COMMAND, 0, body);
    });
  }

  #handleReply(message: Message): void {
    if (this.#pendingCommands.size === 0) {
      if (++this.#strayReplies > MAX_STRAY_REPLIES) throw new StreamError('replies to nothing');
      return;
    }
    const pending = this.#pendingCommands.get(message.id);
    if (pending?.command !== message.command)
      throw new StreamError(`reply ${message.id} to nothing we asked`);
    if (message.flags & FLAG_ERROR) {
      pending.reject(new ProtocolError(validErrno(message.error), 'the client refused'));
    } else {
      pending.resolve(checkedDmaReply(pending, message.body));
    }
    this.#pendingCommands.delete(message.id);
  }

  #startDeadline(timeoutMs: number, reason: string): void {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.#fail(new StreamError(reason)), timeoutMs);
    this.#deadline.unref();
  }

  #stopDeadline(): void {
    clearTimeout(this.#deadline);
    this.#deadline = undefined;
  }
}

const NO_FDS: readonly number[] = [];
const NO_BYTES = new Uint8Array(0);

const validErrno = (errno: number) => (errno > 0 && errno <= MAX_ERRNO ? errno : EINVAL);

/**
 * The data of a reply that answers exactly what was asked. Early releases of QEMU count in 32 bits, with the data right
 * behind: their answers to DMA_READ are understood as well.
 */
function checkedDmaReply({ command, address, count }: PendingCommand, body: Uint8Array): Uint8Array {
  const early = earlyDmaAccess.size;
  if (command === DMA_READ && body.length === early + count) {
    const echoed = decode(earlyDmaAccess, body);
    if (echoed.address === address && echoed.count === count) return body.slice(early);
  }
  let echoed: { address: number; count: number };
  try {
    echoed = decode(dmaAccess, body);
  } catch (error) {
    if (error instanceof WireError) throw new StreamError('reply too short');
    throw error;
  }
  const expected = dmaAccess.size + (command === DMA_READ ? count : 0);
  if (echoed.address !== address || echoed.count !== count || body.length !== expected) {
    throw new StreamError('reply to another access than the one we asked for');
  }
  return body.slice(dmaAccess.size);
}

const isSystemError = (error: unknown): error is Error & { code: string } =>
  error instanceof Error && 'syscall' in error && 'code' in error;
