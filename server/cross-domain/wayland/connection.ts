/**
 * The Wayland of one guest context, between the guest's bytes and the compositor's. Pure computation.
 *
 * Bytes and descriptors go in as they come, cut anywhere; whole messages come out. The caller
 *
 * 1. gives what the guest sent to `fromGuest`, does the copies of each chunk, sends the chunk with its descriptors to
 *    the compositor, and puts `reply` behind what it has for the guest;
 * 2. gives what the compositor sent to `fromHost`, sends the chunks to the guest, and `reply` to the compositor;
 * 3. closes the descriptors in `droppedFds`;
 * 4. ends the connection once `failure` is set: the guest has been told in its stream. Where the compositor has gone,
 *    `closing` gives the last words.
 *
 * Descriptors are named by the order in which they ever came, from 0, for each side. A chunk's descriptors go with its
 * first byte. Chunks and replies are whole messages, so each may be put behind any other.
 */
import { Filter, type PolicyCounters, type Replies } from './filter.ts';
import { type Copy, type CopyCounters, type GuestBlob, Inspector } from './inspector.ts';
import type { Message } from './message.ts';
import { FIRST_SERVER_ID, ObjectTable, type WaylandObject } from './objects.ts';
import type { Policy } from './policy.ts';
import { type ArgumentSpec, eventNamed, interfaceNamed, type MessageSpec, requestNamed } from './schema.ts';
import { Cutter, Gatherer } from './stream.ts';
import {
  encodeMessage,
  endOfWords,
  HEADER_BYTES,
  refuseTooShort,
  skipArgument,
  WaylandError,
  WL_DISPLAY_ERROR_IMPLEMENTATION,
  WL_DISPLAY_ERROR_INVALID_METHOD,
  WL_DISPLAY_ERROR_INVALID_OBJECT,
  WL_DISPLAY_ERROR_NO_MEMORY,
  WL_DISPLAY_ID,
} from './wire.ts';

export type { Copy, GuestBlob } from './inspector.ts';

/** A descriptor that came with bytes of the guest: one of its buffers, or a pipe. */
export type GuestFd<B extends GuestBlob = GuestBlob> = B | { readonly kind: 'pipe' };

/** Whole messages. The bytes may be part of what was given. */
export interface Chunk {
  readonly bytes: Uint8Array;
  /** Descriptors that go with the first byte. */
  readonly fds: readonly number[];
}

export interface GuestChunk<B extends GuestBlob = GuestBlob> extends Chunk {
  /** To be done before the bytes are sent. */
  readonly copies: readonly Copy<B>[];
}

export interface FromGuest<B extends GuestBlob = GuestBlob> {
  /** For the compositor, in order. */
  readonly forward: readonly GuestChunk<B>[];
  /** For the guest, behind everything that was sent to it so far. */
  readonly reply: Uint8Array;
  /** The guest's descriptors that go nowhere. */
  readonly droppedFds: readonly number[];
}

export interface FromHost {
  /** For the guest, in order. Each message with descriptors begins a chunk. */
  readonly forward: readonly Chunk[];
  /** For the compositor, behind everything that was sent to it so far. */
  readonly reply: Uint8Array;
  /** The compositor's descriptors that go nowhere. */
  readonly droppedFds: readonly number[];
}

export interface Counters {
  /** Whole messages that came, and those of them that did not go on. */
  guestMessages: number;
  guestMessagesDropped: number;
  hostMessages: number;
  hostMessagesDropped: number;
}

export interface WaylandOptions {
  /** Sees each whole message before the policy does. */
  readonly observe?: (message: Message) => void;
}

/** What libwayland takes with one message. */
export const MAX_CHUNK_FDS = 28;
/** Descriptors whose message has not come yet. */
export const MAX_WAITING_FDS = 1024;

const EMPTY = new Uint8Array(0);
const NONE: readonly never[] = [];
const DISPLAY_ERROR = eventNamed('wl_display.error');
/** libwayland-server answers it by itself, and has done with the callback at once. */
const SYNC = requestNamed('wl_display.sync');
const GLOBAL_REMOVE = eventNamed('wl_registry.global_remove');
/** Compositors count their globals from 1. */
const NO_GLOBAL = 0xffff_ffff;
/** The last of the ids that are the compositor's to give, and it gives them in order. */
const NO_OBJECT = 0xffff_ffff;
const DELETE_ID = eventNamed('wl_display.delete_id');
/** Of a message to a guest: its own buffers are small. */
const MAX_ERROR_CHARACTERS = 512;

/** wl_display.error as the guest gets it. */
const displayError = (message: string, code = WL_DISPLAY_ERROR_IMPLEMENTATION, id = WL_DISPLAY_ID) =>
  encodeMessage(WL_DISPLAY_ID, DISPLAY_ERROR.opcode, DISPLAY_ERROR.args, [
    id,
    code,
    message.slice(0, MAX_ERROR_CHARACTERS),
  ]);

/** The end of a global that never was: programs ignore it. */
const goneGlobal = (registryId: number) =>
  encodeMessage(registryId, GLOBAL_REMOVE.opcode, GLOBAL_REMOVE.args, [NO_GLOBAL]);

/**
 * An event of an object that never was. libwayland ignores it, and so does wl-cross-domain-proxy. wayland-proxy-virtwl
 * only logs errors, and at the end of a stream keeps its programs waiting: this makes it give them up.
 */
const eventOfNothing = encodeMessage(NO_OBJECT, 0, [], []);

const noticeOf = ({ message, code, objectId }: WaylandError) => displayError(message, code, objectId);

export class WaylandConnection<B extends GuestBlob = GuestBlob> {
  readonly #objects = new ObjectTable();
  readonly #filter: Filter;
  readonly #inspector: Inspector<B>;
  readonly #guest: Side<GuestFd<B>, GuestChunk<B>>;
  readonly #host: Side<undefined, Chunk>;
  readonly #counters: Counters = {
    guestMessages: 0,
    guestMessagesDropped: 0,
    hostMessages: 0,
    hostMessagesDropped: 0,
  };
  readonly #observe: ((message: Message) => void) | undefined;
  #hostFailed = false;
  #failure: WaylandError | undefined;

  constructor(policy: Policy, { observe }: WaylandOptions = {}) {
    this.#observe = observe;
    this.#guest = new Side({
      splits: (fds, more) => fds + more > MAX_CHUNK_FDS,
      chunk: (bytes, fds) => ({ bytes, fds, copies: this.#inspector.takeCopies() }),
    });
    this.#host = new Side({ splits: (_, more) => more > 0, chunk: (bytes, fds) => ({ bytes, fds }) });
    const replies: Replies = {
      toGuest: (message) => this.#guest.reply(message),
      toHost: (message) => this.#host.reply(message),
    };
    this.#filter = new Filter(policy, this.#objects, replies);
    this.#inspector = new Inspector(this.#objects, (index) => {
      const fd = this.#guest.taken(index);
      return fd?.kind === 'blob' ? fd : undefined;
    });
  }

  /** Why the connection must end; undefined as long as it need not. */
  get failure(): WaylandError | undefined {
    return this.#failure;
  }

  /** The compositor has said why it ends the connection. */
  get hostFailed(): boolean {
    return this.#hostFailed;
  }

  get counters(): Readonly<Counters & PolicyCounters & CopyCounters> {
    return { ...this.#counters, ...this.#filter.counters, ...this.#inspector.counters };
  }

  /** Objects that exist for one of the two ends. */
  get objectCount(): number {
    return this.#objects.count;
  }

  /** What the guest has sent. Never throws for what is in it: see `failure`. */
  fromGuest(bytes: Uint8Array, fds: readonly GuestFd<B>[]): FromGuest<B> {
    const error = this.#run(this.#guest, bytes, fds, (incoming) => this.#request(incoming));
    if (error && !this.#hostFailed) this.#guest.reply(noticeOf(error));
    return this.#guest.finish(this.#failure !== undefined);
  }

  /** What the compositor has sent. Never throws for what is in it: see `failure`. */
  fromHost(bytes: Uint8Array, fdCount: number): FromHost {
    const fds = fdCount === 0 ? NONE : new Array<undefined>(fdCount).fill(undefined);
    const error = this.#run(this.#host, bytes, fds, (incoming) => this.#event(incoming));
    if (error && !this.#hostFailed) this.#host.forward(displayError(error.message));
    return this.#host.finish(this.#failure !== undefined);
  }

  /**
   * The last bytes for the guest when the compositor has gone: wl_display.error, where it has not been told already; an
   * event of its registry, because libwayland wakes no reader for an event of the display alone; and an event of no
   * object, for guests that take no error for the end. Half an event of the compositor never went on.
   */
  closing(message: string): Uint8Array {
    const isTold = this.#hostFailed || this.#failure !== undefined;
    const error = isTold ? EMPTY : displayError(message);
    const registry = this.#objects.firstOf('wl_registry');
    return Buffer.concat([error, registry ? goneGlobal(registry.id) : EMPTY, eventOfNothing]);
  }

  /** Returns what the connection fails of just now. */
  #run<F, C>(
    side: Side<F, C>,
    bytes: Uint8Array,
    fds: readonly F[],
    take: (incoming: Incoming) => void,
  ): WaylandError | undefined {
    side.give(fds);
    if (this.#failure) return undefined;
    try {
      if (side.waiting > MAX_WAITING_FDS)
        throw new WaylandError(WL_DISPLAY_ERROR_NO_MEMORY, 'descriptors without messages');
      side.cutter.push(bytes, (source, view, at, sizeBytes) => take({ source, view, at, sizeBytes }));
      return undefined;
    } catch (error) {
      if (!(error instanceof WaylandError)) throw error;
      this.#failure = error;
      return error;
    }
  }

  #request(incoming: Incoming): void {
    const { view, at } = incoming;
    this.#counters.guestMessages++;
    const id = view.getUint32(at, true);
    const object = this.#objects.named(id);
    if (!object) throw new WaylandError(WL_DISPLAY_ERROR_INVALID_OBJECT, `invalid object ${id}`);
    const opcode = view.getUint16(at + 4, true);
    const spec = object.interface.requests[opcode];
    if (!spec || spec.since > object.version) throw invalidMethod(object, opcode);
    checkMessage(spec, incoming, object, (arg, named) => {
      if (arg.kind === 'new_id') this.#objects.refuseUsed(named);
      else checkObject(arg, named, this.#objects.named(named));
    });
    const fd = this.#guest.take(spec.fdCount);
    const created = spec.creates && this.#create(spec.creates, object, incoming);
    const message = whole(true, object, spec, incoming, created, fd);
    this.#observe?.(message);
    const verdict = this.#filter.judge(message);
    if (verdict === 'drop') {
      this.#counters.guestMessagesDropped++;
      this.#guest.drop(fd, spec.fdCount);
      return;
    }
    this.#inspector.follow(message);
    if (spec.destructor) this.#objects.destroy(object);
    if (spec === SYNC && created) this.#objects.retire(created);
    this.#guest.pass(verdict, incoming, fd, spec.fdCount);
  }

  #event(incoming: Incoming): void {
    const { view, at } = incoming;
    this.#counters.hostMessages++;
    const id = view.getUint32(at, true);
    refuseTooShort(incoming.sizeBytes);
    const object = this.#objects.sending(id);
    const opcode = view.getUint16(at + 4, true);
    const spec = object?.interface.events[opcode];
    if (!object || object.destroyed || object.hidden) {
      this.#forget(object, spec, incoming);
      return;
    }
    if (!spec) throw invalidMethod(object, opcode);
    checkMessage(spec, incoming, object, (arg, named) => {
      if (arg.kind === 'object') checkObject(arg, named, this.#mentioned(named));
    });
    const fd = this.#host.take(spec.fdCount);
    const created = spec.creates && this.#announce(spec.creates, object, incoming);
    const message = whole(false, object, spec, incoming, created, fd);
    this.#observe?.(message);
    if (spec === DISPLAY_ERROR) this.#hostFailed = true;
    const verdict = this.#filter.judge(message);
    if (spec === DELETE_ID) this.#objects.release(view.getUint32(at + HEADER_BYTES, true));
    if (verdict === 'drop') {
      this.#counters.hostMessagesDropped++;
      this.#host.drop(fd, spec.fdCount);
      return;
    }
    this.#host.pass(verdict, incoming, fd, spec.fdCount);
  }

  /** An event of what the guest does not know, or no more, whatever is in it. Its descriptors are known by the opcode. */
  #forget(
    object: WaylandObject | undefined,
    spec: MessageSpec | undefined,
    { view, at, sizeBytes }: Incoming,
  ): void {
    this.#counters.hostMessagesDropped++;
    const fdCount = Math.min(spec?.fdCount ?? 0, this.#host.waiting);
    this.#host.drop(this.#host.take(fdCount), fdCount);
    if (!object || !spec?.creates || sizeBytes < spec.creates.at + 4) return;
    // The compositor goes on to speak of what it has made.
    const id = view.getUint32(at + spec.creates.at, true);
    if (this.#objects.canAnnounce(id)) this.#announce(spec.creates, object, { view, at });
  }

  /** What an event can mention: also what the guest has destroyed, if it was the guest's. */
  #mentioned(id: number): WaylandObject | undefined {
    const object = this.#objects.sending(id);
    return object?.destroyed && !object.hidden && id >= FIRST_SERVER_ID ? undefined : object;
  }

  #create({ interface: name, at }: Creates, { version }: WaylandObject, { view, at: start }: Incoming) {
    return this.#objects.create(view.getUint32(start + at, true), interfaceNamed(name), version);
  }

  #announce(
    { interface: name, at }: Creates,
    parent: WaylandObject,
    { view, at: start }: Pick<Incoming, 'view' | 'at'>,
  ) {
    const made = this.#objects.announce(
      view.getUint32(start + at, true),
      interfaceNamed(name),
      parent.version,
    );
    made.hidden = parent.hidden;
    made.destroyed = parent.destroyed;
    return made;
  }
}

type Creates = NonNullable<MessageSpec['creates']>;
type Incoming = Pick<Message, 'source' | 'view' | 'at' | 'sizeBytes'>;

const invalidMethod = ({ interface: { name }, id, version }: WaylandObject, opcode: number) =>
  new WaylandError(
    WL_DISPLAY_ERROR_INVALID_METHOD,
    `invalid method ${opcode}, object ${name}#${id} of version ${version}`,
  );

/** Refuses arguments that do not fit, and what `check` refuses of objects, old and new. */
function checkMessage(
  spec: MessageSpec,
  { view, at, sizeBytes }: Incoming,
  object: WaylandObject,
  check: (arg: ArgumentSpec, id: number) => void,
): void {
  try {
    refuseTooShort(sizeBytes);
    const end = endOfWords(at, sizeBytes);
    let next = at + HEADER_BYTES;
    for (const arg of spec.args) {
      const behind = skipArgument(arg, view, next, end);
      if (arg.kind === 'object' || arg.kind === 'new_id') check(arg, view.getUint32(next, true));
      next = behind;
    }
  } catch (error) {
    if (!(error instanceof WaylandError)) throw error;
    const where = `${spec.interface}#${object.id}.${spec.name}`;
    throw new WaylandError(WL_DISPLAY_ERROR_INVALID_METHOD, `${where}: ${error.message}`);
  }
}

/** Refuses an object that is none, or of another interface. What is destroyed can be mentioned, and means nothing. */
function checkObject({ interface: name }: ArgumentSpec, id: number, object: WaylandObject | undefined): void {
  if (id === 0) return;
  if (!object) throw new WaylandError(WL_DISPLAY_ERROR_INVALID_METHOD, `no object ${id}`);
  if (name !== undefined && !object.destroyed && object.interface.name !== name)
    throw new WaylandError(WL_DISPLAY_ERROR_INVALID_METHOD, `object ${id} is a ${object.interface.name}`);
}

const whole = (
  fromGuest: boolean,
  object: WaylandObject,
  spec: MessageSpec,
  { source, view, at, sizeBytes }: Incoming,
  created: WaylandObject | undefined,
  fd: number,
): Message => ({ fromGuest, object, spec, source, view, at, sizeBytes, created, fd });

interface SideOptions<C> {
  /** Whether a message with so many more descriptors begins a new chunk. */
  readonly splits: (fds: number, more: number) => boolean;
  readonly chunk: (bytes: Uint8Array, fds: readonly number[]) => C;
}

/** What comes from one of the two ends: its descriptors, what goes on of it, and what it is told. */
class Side<F, C> {
  readonly cutter = new Cutter();
  readonly #options: SideOptions<C>;
  readonly #bytes = new Gatherer();
  readonly #replies = new Gatherer();
  #fds: number[] = [];
  #chunks: C[] = [];
  #dropped: number[] = [];
  readonly #waiting: F[] = [];
  /** Index of the first that waits. */
  #next = 0;
  /** Index of the first that has neither gone on nor been dropped. */
  #settled = 0;
  /** Those of the latest message that had any. */
  #taken: readonly F[] = NONE;

  constructor(options: SideOptions<C>) {
    this.#options = options;
  }

  /** Descriptors whose message has not come. */
  get waiting(): number {
    return this.#waiting.length;
  }

  give(fds: readonly F[]): void {
    if (fds.length > 0) this.#waiting.push(...fds);
  }

  /** Takes the descriptors of a message; the index of the first. */
  take(count: number): number {
    if (count === 0) return this.#next;
    if (count > this.#waiting.length)
      throw new WaylandError(WL_DISPLAY_ERROR_INVALID_METHOD, 'message without its descriptor');
    this.#taken = this.#waiting.splice(0, count);
    this.#next += count;
    return this.#next - count;
  }

  /** One of those that were taken last. */
  taken(index: number): F | undefined {
    return this.#taken[index - this.#next + this.#taken.length];
  }

  pass(verdict: 'pass' | Uint8Array, { source, at, sizeBytes }: Incoming, fd: number, fdCount: number): void {
    if (fdCount > 0) {
      if (this.#options.splits(this.#fds.length, fdCount)) this.#close();
      for (let i = 0; i < fdCount; i++) this.#fds.push(fd + i);
      this.#settled = fd + fdCount;
    }
    if (verdict === 'pass') this.#bytes.add(source, at, sizeBytes);
    else this.forward(verdict);
  }

  /** A message of our own among those that go on. */
  forward(message: Uint8Array): void {
    this.#bytes.add(message, 0, message.length);
  }

  drop(fd: number, fdCount: number): void {
    if (fdCount === 0) return;
    for (let i = 0; i < fdCount; i++) this.#dropped.push(fd + i);
    this.#settled = fd + fdCount;
  }

  reply(message: Uint8Array): void {
    this.#replies.add(message, 0, message.length);
  }

  /** All since the last call. At the end nothing waits any more. */
  finish(ended: boolean): { forward: readonly C[]; reply: Uint8Array; droppedFds: readonly number[] } {
    this.#close();
    if (ended) {
      this.#next += this.#waiting.length;
      this.#waiting.length = 0;
      this.drop(this.#settled, this.#next - this.#settled);
    }
    const forward = this.#chunks;
    const droppedFds = this.#dropped;
    if (forward.length > 0) this.#chunks = [];
    if (droppedFds.length > 0) this.#dropped = [];
    return { forward, reply: this.#replies.empty ? EMPTY : this.#replies.take(), droppedFds };
  }

  #close(): void {
    if (this.#bytes.empty) return;
    this.#chunks.push(this.#options.chunk(this.#bytes.take(), this.#fds));
    this.#fds = [];
  }
}
