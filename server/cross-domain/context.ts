/**
 * One guest context of the cross-domain kind: its commands, its rings, and the order of what comes and goes. What is
 * sent is never waited for; what comes is written to the channel ring, one message for each fence that the guest has
 * put there.
 */
import { closeSync } from 'node:fs';
import { createPipe } from '../../native/index.ts';
import type { AttachedResource, Context, ContextBlob, ContextHost } from '../gpu/contracts/context.ts';
import type { Counters } from '../gpu/contracts/counters.ts';
import type { LentFd } from '../gpu/contracts/exports.ts';
import { GpuFault } from '../gpu/fault.ts';
import { VIRTIO_GPU_MAP_CACHE_CACHED, VIRTIO_GPU_RESP_ERR_UNSPEC } from '../gpu/protocol.ts';
import { type Codec, encode, viewOf } from '../wire.ts';
import { Channel } from './channel.ts';
import { type Handover, Handovers } from './handovers.ts';
import { linearLayout } from './images.ts';
import { classify, type LingeringPipes, type PipeData, ReadPipe, WritePipe } from './pipes.ts';
import {
  CROSS_DOMAIN_CHANNEL_NONE,
  CROSS_DOMAIN_CHANNEL_WAYLAND,
  CROSS_DOMAIN_CMD_GET_IMAGE_REQUIREMENTS,
  CROSS_DOMAIN_CMD_INIT,
  CROSS_DOMAIN_CMD_POLL,
  CROSS_DOMAIN_CMD_READ,
  CROSS_DOMAIN_CMD_RECEIVE,
  CROSS_DOMAIN_CMD_SEND,
  CROSS_DOMAIN_CMD_WRITE,
  CROSS_DOMAIN_FIRST_READ_PIPE,
  CROSS_DOMAIN_ID_TYPE_READ_PIPE,
  CROSS_DOMAIN_ID_TYPE_VIRTGPU_BLOB,
  CROSS_DOMAIN_ID_TYPE_WRITE_PIPE,
  CROSS_DOMAIN_MAX_IDENTIFIERS,
  CROSS_DOMAIN_MAX_READ_BYTES,
  CROSS_DOMAIN_MAX_RECEIVE_BYTES,
  CROSS_DOMAIN_QUERY_RING,
  CROSS_DOMAIN_RINGS,
  commandHeader,
  getImageRequirements,
  type ImageRequirements,
  imageRequirements,
  init,
  initLegacy,
  NO_INDEX,
  pipeData,
  poll,
  transfer,
} from './protocol.ts';
import { MAX_RECEIVED_BYTES, readMemory } from './received-memory.ts';
import type { FromGuest, FromHost, GuestFd } from './wayland/connection.ts';

const PAGE_BYTES = 4096;
/** The largest page of a guest: its driver rounds sizes up to its own. */
const MAX_GUEST_PAGE_BYTES = 65_536;
/** More than any guest sends at once. */
const MAX_PAYLOAD_BYTES = 65_536;
/** Sizes of Wayland's pools are signed 32-bit numbers. */
const MAX_IMAGE_BYTES = 2 ** 31 - PAGE_BYTES;
/** Different images that one guest program may ask about: one that is resized asks about each size. */
const MAX_IMAGES = 8192;
/** In all contexts together. When there are as many, each context may still have some. */
const MAX_IMAGES_OF_ALL = 65_536;
const MAX_OBJECTS_OF_ALL = 262_144;
const MAX_WHEN_SCARCE = 1024;
/** Pipes to write to and received memory that one guest program may have: as many as the compositor has sent. */
const MAX_ITEMS = 4096;
/** Pipes to read from: the guest makes them. */
const MAX_READ_PIPES = 64;
/** What slow readers of pipes have not taken. */
const MAX_UNWRITTEN_BYTES = 64 * 2 ** 20;
const FIRST_ID = 2;
/** Read ahead for a guest that is slow, so that the compositor does not lose patience. */
const MAX_WAITING_BYTES = 256 * 1024;
/** Answers of our own to a guest that asks and does not listen; small ones cost more than their bytes. */
const MAX_INBOX_BYTES = 16 * 2 ** 20;
const MAX_INBOX_PIECES = 20_000;
/** Of a READ to nobody: every guest that does not know it gives up. */
const NO_PIPE = 0xffff_ffff;

/** A buffer of the guest on its way to the host. */
export interface SentBlob {
  readonly kind: 'blob';
  readonly resourceId: number;
  readonly sizeBytes: number;
  readonly handover: Handover;
}

/** What understands the streams of one connection: `WaylandConnection`. */
export interface WaylandStream {
  readonly failure: Error | undefined;
  readonly counters: Counters;
  /** Objects of the protocol that exist now. */
  readonly objectCount: number;
  fromGuest(bytes: Uint8Array, fds: readonly GuestFd<SentBlob>[]): FromGuest<SentBlob>;
  fromHost(bytes: Uint8Array, fdCount: number): FromHost;
  closing(message: string): Uint8Array;
}

/** Where channels of type Wayland lead. */
export interface WaylandChannel {
  /** A connection to the compositor. Throws where there is none. */
  connect(): number;
  makeStream(context: ContextHost): WaylandStream;
}

/** What all contexts of a device have made together, which each gives back at its end. */
export interface Shared {
  /** Different images asked about. */
  images: number;
  /** Objects of the protocol. */
  objects: number;
  readonly lingering: LingeringPipes;
}

/** Where contexts of a device connect to, and what they count. */
export interface Channels {
  readonly shared: Shared;
  readonly host: ContextHost;
  /** Undefined where guests have none. */
  readonly wayland: WaylandChannel | undefined;
  /** Called once, at the end, with what the context has done. */
  ended(counters: Counters): void;
  note(message: string, fields: Record<string, unknown>): void;
  /** A guest program asked for a channel that it does not get. */
  refused(channelType: number, reason: string): void;
  /** Sees each command of the guest before it is done, and each message as it is put into the ring. */
  readonly observe?: ((message: Uint8Array) => void) | undefined;
}

interface Rings {
  readonly queryRingId: number;
  readonly channelRingId: number;
}

/** What came with a descriptor of the host, under the id that the guest knows it by. */
interface Item {
  readonly type: number;
  readonly id: number;
  readonly sizeBytes: number;
}

/** Whole messages for the guest, and what came with the first byte. */
interface Incoming {
  readonly bytes: Uint8Array;
  readonly items: readonly Item[];
}

/** Descriptors by the order in which they came. */
class Waiting<T> {
  readonly #drop: (one: T) => void;
  readonly #byOrder = new Map<number, T>();
  #count = 0;

  constructor(drop: (one: T) => void) {
    this.#drop = drop;
  }

  add(one: T): void {
    this.#byOrder.set(this.#count++, one);
  }

  take(order: number): T {
    const one = this.#byOrder.get(order) as T;
    this.#byOrder.delete(order);
    return one;
  }

  dropThese(orders: readonly number[]): void {
    for (const order of orders) this.#drop(this.take(order));
  }

  clear(): void {
    for (const one of this.#byOrder.values()) this.#drop(one);
    this.#byOrder.clear();
  }
}

const roundUp = (bytes: number, unit: number) => Math.ceil(bytes / unit) * unit;

function fail(message: string): never {
  throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, message);
}

export class CrossDomainContext implements Context {
  readonly ringCount = CROSS_DOMAIN_RINGS;
  readonly #counters = {
    bytesFromGuest: 0,
    bytesFromHost: 0,
    descriptorsFromGuest: 0,
    descriptorsFromHost: 0,
    copiedBytes: 0,
    pipeBytesFromGuest: 0,
    pipeBytesFromHost: 0,
  };
  readonly #channels: Channels;
  readonly #attached = new Map<number, AttachedResource>();
  /** Bytes of the image, by the id that a blob of it is made with. */
  readonly #requirements = new Map<number, number>();
  readonly #ids = new Map<string, number>();
  /** Memory that has come from the host, until the guest makes a blob of it. */
  readonly #memories = new Map<number, { readonly fd: number; readonly sizeBytes: number }>();
  readonly #readPipes = new Map<number, ReadPipe>();
  readonly #writePipes = new Map<number, WritePipe>();
  readonly #handovers = new Handovers((reason) => this.#disconnect(reason));
  #nextId = FIRST_ID;
  /** Those of a good INIT. */
  #rings: Rings | undefined;
  /** Where messages go; a refused INIT has one, too. */
  #channelRingId: number | undefined;
  #channel: Channel | undefined;
  #stream: WaylandStream | undefined;
  /** Objects of the stream that have been counted. */
  #objects = 0;
  /** Descriptors that have come and not gone on yet, by the order in which they came. */
  readonly #fromGuest = new Waiting<LentFd>((one) => one.release());
  readonly #fromHost = new Waiting<number>((fd) => closeSync(fd));
  /** What has come for the guest, in order. */
  readonly #inbox: Incoming[] = [];
  #inboxBytes = 0;
  /** The guest's wishes to be told, in order. */
  #credits: (() => void)[] = [];
  /** Set between a message and the moment at which the guest has been told of it. */
  #turn: NodeJS.Immediate | undefined;
  /** Whose turn it is among the pipes. */
  #lastPipe = 0;
  /** Messages that make the guest's program leave; undefined while there is no reason to. */
  #closing: Uint8Array[] | undefined;
  /** Those that the guest has done with and whose readers have not. */
  readonly #endingPipes = new Set<WritePipe>();
  #closed = false;

  constructor(channels: Channels) {
    this.#channels = channels;
  }

  get counters(): Counters {
    return { ...this.#counters, exports: this.#handovers.made, ...this.#stream?.counters };
  }

  submit(commands: Uint8Array): void {
    if (commands.length > MAX_PAYLOAD_BYTES) fail(`${commands.length} bytes of commands`);
    const view = viewOf(commands);
    for (let at = 0; at < commands.length; ) {
      if (commands.length - at < commandHeader.size) fail('half a command');
      const { command, sizeBytes } = commandHeader.get(view, at);
      if (sizeBytes < commandHeader.size || sizeBytes > commands.length - at)
        fail(`command ${command} of ${sizeBytes} bytes`);
      this.#channels.observe?.(commands.subarray(at, at + sizeBytes));
      this.#execute(command, commands.subarray(at + commandHeader.size, at + sizeBytes));
      at += sizeBytes;
    }
  }

  fence(ringIdx: number, passed: () => void): void {
    if (ringIdx === CROSS_DOMAIN_QUERY_RING) {
      passed();
      return;
    }
    this.#credits.push(passed);
    this.#deliver();
  }

  createBlob(blobId: bigint, sizeBytes: number): ContextBlob {
    const id = Number(blobId);
    const memory = this.#memories.get(id);
    if (memory) {
      this.#requireSize(sizeBytes, memory.sizeBytes);
      this.#memories.delete(id);
      try {
        return { initial: readMemory(memory.fd, memory.sizeBytes), close: () => {} };
      } catch (error) {
        return fail(`received memory ${id} cannot be read: ${(error as Error).message}`);
      } finally {
        closeSync(memory.fd);
      }
    }
    const required = this.#requirements.get(id);
    if (required === undefined) return fail(`no image of id ${blobId}`);
    this.#requireSize(sizeBytes, required);
    return { close: () => {} };
  }

  #requireSize(sizeBytes: number, required: number): void {
    if (sizeBytes < required || sizeBytes > roundUp(required, MAX_GUEST_PAGE_BYTES))
      fail(`blob of ${sizeBytes} bytes for ${required}`);
  }

  attach(resource: AttachedResource): void {
    this.#attached.set(resource.id, resource);
  }

  detach(resourceId: number): void {
    this.#attached.delete(resourceId);
    this.#handovers.lookLater();
  }

  end(reason: string): void {
    this.#disconnect(reason);
  }

  close(): void {
    this.#channels.ended(this.counters);
    this.#channels.shared.images -= this.#ids.size;
    this.#channels.shared.objects -= this.#objects;
    this.#closed = true;
    clearImmediate(this.#turn);
    this.#credits = [];
    this.#dropChannel();
    this.#closeReadPipes();
    for (const pipe of this.#writePipes.values()) pipe.close();
    for (const pipe of this.#endingPipes) this.#channels.shared.lingering.take(pipe);
    for (const { fd } of this.#memories.values()) closeSync(fd);
    this.#writePipes.clear();
    this.#memories.clear();
    this.#handovers.close();
    this.#attached.clear();
  }

  #execute(command: number, body: Uint8Array): void {
    switch (command) {
      case CROSS_DOMAIN_CMD_INIT:
        this.#init(body);
        break;
      case CROSS_DOMAIN_CMD_GET_IMAGE_REQUIREMENTS:
        this.#getImageRequirements(body);
        break;
      case CROSS_DOMAIN_CMD_POLL:
        decodeBody(poll, body);
        break;
      case CROSS_DOMAIN_CMD_SEND:
        this.#send(body);
        break;
      case CROSS_DOMAIN_CMD_WRITE:
        this.#write(body);
        break;
      default:
        fail(`command ${command}`);
    }
  }

  // ---- INIT and images ----

  #init(body: Uint8Array): void {
    if (this.#rings) fail('a second INIT');
    const { rings, channelType } = decodeInit(body);
    const { wayland } = this.#channels;
    const isGuestBlob = (id: number) => this.#attached.get(id)?.kind === 'guest';
    if (!isGuestBlob(rings.channelRingId))
      fail(`ring ${rings.channelRingId} is no guest blob of this context`);
    // The one before may have been refused, and ended.
    this.#closing = undefined;
    this.#inbox.length = 0;
    this.#inboxBytes = 0;
    this.#channelRingId = rings.channelRingId;
    if (!isGuestBlob(rings.queryRingId))
      this.#refuse(channelType, `ring ${rings.queryRingId} is no guest blob of this context`);
    if (channelType === CROSS_DOMAIN_CHANNEL_NONE) {
      this.#rings = rings;
      return;
    }
    if (channelType !== CROSS_DOMAIN_CHANNEL_WAYLAND || !wayland)
      this.#refuse(channelType, `channel of type ${channelType}`);
    this.#rings = rings;
    this.#stream = wayland.makeStream(this.#channels.host);
    this.#connect(wayland);
  }

  /** Guests do not look at the answer to INIT: they wait for a message, and this one makes them leave. */
  #refuse(channelType: number, reason: string): never {
    this.#channels.refused(channelType, reason);
    this.#closing = lastMessages();
    this.#deliver();
    fail(reason);
  }

  #connect(wayland: WaylandChannel): void {
    let fd: number;
    try {
      fd = wayland.connect();
    } catch (error) {
      this.#disconnect((error as Error).message);
      this.#stream = undefined;
      this.#rings = undefined;
      fail(`no compositor: ${(error as Error).message}`);
    }
    this.#channel = new Channel(fd, {
      received: (bytes, fds) => this.#received(bytes, fds),
      ended: (reason) => this.#disconnect(reason),
    });
  }

  #getImageRequirements(body: Uint8Array): void {
    const request = decodeBody(getImageRequirements, body);
    const layout = linearLayout(request.width, request.height, request.format);
    const sizeBytes = roundUp(layout?.sizeBytes ?? 0, PAGE_BYTES);
    if (!layout || sizeBytes > MAX_IMAGE_BYTES) {
      this.#answer({ strides: [], offsets: [], sizeBytes: 0, blobId: 0, mapInfo: 0 });
      fail(`image of ${request.width}x${request.height}, format 0x${request.format.toString(16)}`);
    }
    const { width, height, format, flags } = request;
    const blobId = this.#idOf(`${width} ${height} ${format} ${flags}`, sizeBytes);
    const { strides, offsets } = layout;
    this.#answer({ strides, offsets, sizeBytes, blobId, mapInfo: VIRTIO_GPU_MAP_CACHE_CACHED });
  }

  /** The same image has the same id as long as the context lives: guests remember ids. */
  #idOf(image: string, sizeBytes: number): number {
    const known = this.#ids.get(image);
    if (known !== undefined) return known;
    const { shared } = this.#channels;
    const most = shared.images < MAX_IMAGES_OF_ALL ? MAX_IMAGES : MAX_WHEN_SCARCE;
    if (this.#ids.size >= most) fail('too many different images');
    shared.images++;
    const id = this.#nextId++;
    this.#ids.set(image, id);
    this.#requirements.set(id, sizeBytes);
    return id;
  }

  #answer({
    sizeBytes,
    strides,
    offsets,
    ...rest
  }: { readonly sizeBytes: number } & Pick<
    ImageRequirements,
    'strides' | 'offsets' | 'blobId' | 'mapInfo'
  >): void {
    const four = (values: readonly number[]) => Array.from({ length: 4 }, (_, i) => values[i] ?? 0);
    const answer = encode(imageRequirements, {
      ...rest,
      strides: four(strides),
      offsets: four(offsets),
      modifier: 0n,
      sizeBytes: BigInt(sizeBytes),
      memoryIdx: NO_INDEX,
      physicalDeviceIdx: NO_INDEX,
    });
    const ring = this.#rings && this.#attached.get(this.#rings.queryRingId);
    if (!ring?.write(0, answer)) fail('there is no query ring');
  }

  // ---- from the guest ----

  #send(body: Uint8Array): void {
    const { count, dataBytes, ids, types } = decodeBody(transfer, body);
    const data = body.subarray(transfer.size, transfer.size + dataBytes);
    if (count > CROSS_DOMAIN_MAX_IDENTIFIERS || data.length !== dataBytes)
      fail(`SEND of ${count} identifiers and ${dataBytes} bytes`);
    if (!this.#channel || !this.#stream) fail('there is no channel');
    try {
      const fds = Array.from({ length: count }, (_, i) => this.#openIdentifier(types[i]!, ids[i]!));
      // The host may hold on to too much by now.
      if (!this.#channel) fail('the channel has ended');
      this.#counters.bytesFromGuest += data.length;
      this.#counters.descriptorsFromGuest += fds.length;
      this.#forward(this.#channel, this.#stream.fromGuest(data.slice(), fds));
    } catch (error) {
      // Something is missing in the stream now: whoever reads it would understand anything.
      this.#disconnect((error as Error).message);
      throw error instanceof GpuFault ? error : fail((error as Error).message);
    }
    if (this.#stream.failure) this.#disconnect(this.#stream.failure.message);
  }

  #openIdentifier(type: number, id: number): GuestFd<SentBlob> {
    switch (type) {
      case CROSS_DOMAIN_ID_TYPE_VIRTGPU_BLOB: {
        const resource = this.#attached.get(id);
        if (resource?.kind !== 'host3d') return fail(`resource ${id} is no buffer of this context`);
        const handover = this.#handovers.of(resource);
        this.#fromGuest.add(handover.lend());
        return { kind: 'blob', resourceId: id, sizeBytes: resource.sizeBytes, handover };
      }
      case CROSS_DOMAIN_ID_TYPE_READ_PIPE:
        this.#fromGuest.add(this.#openReadPipe(id));
        return { kind: 'pipe' };
      default:
        return fail(`identifier of type ${type}`);
    }
  }

  /** A pipe that the host will write to; the guest has chosen the id. */
  #openReadPipe(id: number): LentFd {
    if (
      id < CROSS_DOMAIN_FIRST_READ_PIPE ||
      this.#readPipes.has(id) ||
      this.#readPipes.size >= MAX_READ_PIPES
    )
      fail(`read pipe ${id}`);
    const [read, write] = createPipe();
    this.#readPipes.set(id, new ReadPipe(read, () => this.#deliver()));
    return { fd: write, release: () => closeSync(write) };
  }

  #forward(channel: Channel, { forward, reply, droppedFds }: FromGuest<SentBlob>): void {
    for (const { bytes, fds, copies } of forward) {
      for (const { blob, offset, lengthBytes } of copies)
        this.#counters.copiedBytes += blob.handover.refresh(offset, lengthBytes);
      channel.send(
        bytes,
        fds.map((order) => this.#fromGuest.take(order)),
      );
    }
    this.#fromGuest.dropThese(droppedFds);
    this.#enqueue(reply, []);
    if (this.#inboxBytes > MAX_INBOX_BYTES || this.#inbox.length > MAX_INBOX_PIECES)
      throw new Error('the guest does not take what it is answered');
    this.#countObjects();
  }

  #countObjects(): void {
    const { shared } = this.#channels;
    const count = this.#stream?.objectCount ?? 0;
    shared.objects += count - this.#objects;
    this.#objects = count;
    if (shared.objects > MAX_OBJECTS_OF_ALL && count > MAX_WHEN_SCARCE)
      throw new Error('there are too many objects of the protocol');
  }

  #write(body: Uint8Array): void {
    const { id, hangUp, dataBytes } = decodeBody(pipeData, body);
    const data = body.subarray(pipeData.size, pipeData.size + dataBytes);
    if (data.length !== dataBytes) fail(`WRITE of ${dataBytes} bytes in ${body.length}`);
    const pipe = this.#writePipes.get(id);
    if (!pipe) fail(`no pipe ${id}`);
    this.#counters.pipeBytesFromGuest += dataBytes;
    // Whoever reads so slowly gets no more.
    if (this.#unwrittenBytes + dataBytes > MAX_UNWRITTEN_BYTES) pipe.close();
    pipe.write(data.slice());
    if (hangUp === 0) return;
    this.#writePipes.delete(id);
    this.#endingPipes.add(pipe);
    pipe.end(() => this.#endingPipes.delete(pipe));
  }

  get #unwrittenBytes(): number {
    let sum = 0;
    for (const pipe of this.#writePipes.values()) sum += pipe.unwrittenBytes;
    for (const pipe of this.#endingPipes) sum += pipe.unwrittenBytes;
    return sum;
  }

  // ---- from the host ----

  #received(bytes: Uint8Array, fds: number[]): void {
    this.#counters.bytesFromHost += bytes.length;
    this.#counters.descriptorsFromHost += fds.length;
    for (const fd of fds) this.#fromHost.add(fd);
    const stream = this.#stream as WaylandStream;
    const { forward, reply, droppedFds } = stream.fromHost(bytes, fds.length);
    for (const chunk of forward) {
      const items = chunk.fds.map((order) => this.#makeItem(this.#fromHost.take(order)));
      this.#enqueue(chunk.bytes, items);
    }
    this.#fromHost.dropThese(droppedFds);
    if (reply.length > 0) this.#channel?.send(reply, []);
    if (stream.failure) this.#disconnect(stream.failure.message);
    this.#countObjects();
    this.#deliver();
  }

  /** Takes ownership of the descriptor. Throws when the guest has not done with too many. */
  #makeItem(fd: number): Item {
    try {
      return this.#itemOf(fd);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  #itemOf(fd: number): Item {
    const { kind, sizeBytes } = classify(fd);
    if (kind === 'memory' && sizeBytes <= MAX_RECEIVED_BYTES && this.#memories.size < MAX_ITEMS) {
      const id = this.#nextId++;
      this.#memories.set(id, { fd, sizeBytes });
      return { type: CROSS_DOMAIN_ID_TYPE_VIRTGPU_BLOB, id, sizeBytes };
    }
    if (this.#writePipes.size >= MAX_ITEMS) throw new Error('the guest leaves too many pipes open');
    // What cannot be passed on is a pipe that nobody reads: the guest's descriptors stay in step.
    const pipe = new WritePipe(kind === 'pipe' ? fd : undefined);
    if (kind !== 'pipe') {
      this.#channels.note('a descriptor of the compositor means nothing to guests', { kind, sizeBytes });
      closeSync(fd);
    }
    const id = this.#nextId++;
    this.#writePipes.set(id, pipe);
    return { type: CROSS_DOMAIN_ID_TYPE_WRITE_PIPE, id, sizeBytes: 0 };
  }

  #enqueue(bytes: Uint8Array, items: readonly Item[]): void {
    if (bytes.length === 0) return;
    this.#inbox.push({ bytes, items });
    this.#inboxBytes += bytes.length;
    if (this.#channel) this.#channel.reading = this.#inboxBytes < MAX_WAITING_BYTES;
  }

  // ---- to the guest ----

  /** Writes one message to the channel ring, if there is one and the guest waits for it. */
  #deliver(): void {
    if (this.#turn || this.#credits.length === 0 || this.#closed) return;
    const message = this.#nextMessage();
    if (!message) return;
    const ring = this.#channelRingId === undefined ? undefined : this.#attached.get(this.#channelRingId);
    if (!ring?.write(0, message)) {
      this.#disconnect('the channel ring is gone');
      return;
    }
    this.#channels.observe?.(message);
    const passed = this.#credits.shift() as () => void;
    // The ring holds one message: the next one waits until the guest has been told of this one.
    this.#turn = setImmediate(() => {
      this.#turn = undefined;
      this.#deliver();
    });
    passed();
  }

  /** The stream goes first, then one pipe after the other. */
  #nextMessage(): Uint8Array | undefined {
    if (this.#inbox.length > 0) return this.#nextReceive();
    return this.#closing ? this.#closing.shift() : this.#nextRead();
  }

  /** As many whole messages as fit, with at most one pipe: some guests understand no more. */
  #nextReceive(): Uint8Array {
    const parts: Uint8Array[] = [];
    const items: Item[] = [];
    let bytes = 0;
    for (let first = this.#inbox[0]; first; first = this.#inbox[0]) {
      const room = CROSS_DOMAIN_MAX_RECEIVE_BYTES - bytes;
      if (parts.length > 0 && (first.bytes.length > room || !fitsTogether(items, first.items))) break;
      this.#inbox.shift();
      items.push(...first.items);
      parts.push(first.bytes.subarray(0, room));
      bytes += Math.min(room, first.bytes.length);
      if (first.bytes.length > room) this.#inbox.unshift({ bytes: first.bytes.subarray(room), items: [] });
    }
    this.#inboxBytes -= bytes;
    if (this.#channel) this.#channel.reading = this.#inboxBytes < MAX_WAITING_BYTES;
    return receiveMessage(items, parts);
  }

  #nextRead(): Uint8Array | undefined {
    const ready = [...this.#readPipes].filter(([, pipe]) => pipe.isReady);
    const start = ready.findIndex(([id]) => id > this.#lastPipe);
    const inTurn = start < 0 ? ready : [...ready.slice(start), ...ready.slice(0, start)];
    for (const [id, pipe] of inTurn) {
      const data = pipe.read(CROSS_DOMAIN_MAX_READ_BYTES);
      if (!data) continue;
      this.#lastPipe = id;
      if (data.hangUp) {
        pipe.close();
        this.#readPipes.delete(id);
      }
      this.#counters.pipeBytesFromHost += data.bytes.length;
      return readMessage(id, data);
    }
    return undefined;
  }

  // ---- the end of a channel ----

  /**
   * What has come in the stream is still delivered; then the guest is told, in the three ways that guests understand.
   * What pipes hold is dropped.
   */
  #disconnect(reason: string): void {
    if (this.#closing || this.#closed) return;
    this.#channels.note('a channel has ended', { reason });
    this.#enqueue(
      this.#stream?.closing('the connection to the compositor has ended') ?? new Uint8Array(0),
      [],
    );
    this.#closing = lastMessages();
    this.#dropChannel();
    this.#handovers.close();
    this.#closeReadPipes();
    this.#deliver();
  }

  #closeReadPipes(): void {
    for (const pipe of this.#readPipes.values()) pipe.close();
    this.#readPipes.clear();
  }

  #dropChannel(): void {
    this.#channel?.close();
    this.#channel = undefined;
    this.#fromGuest.clear();
    this.#fromHost.clear();
  }
}

const isPipe = ({ type }: Item) => type === CROSS_DOMAIN_ID_TYPE_WRITE_PIPE;
const fitsTogether = (some: readonly Item[], more: readonly Item[]) =>
  some.length + more.length <= CROSS_DOMAIN_MAX_IDENTIFIERS && !(some.some(isPipe) && more.some(isPipe));

/** Guests compare the first word as a whole: only the command is in the header. */
const ringHeader = (command: number) => encode(commandHeader, { command, ringIdx: 0, sizeBytes: 0 });

function receiveMessage(items: readonly Item[], parts: readonly Uint8Array[]): Uint8Array {
  const data = Buffer.concat(parts);
  const of = (value: (item: Item) => number) =>
    Array.from({ length: CROSS_DOMAIN_MAX_IDENTIFIERS }, (_, i) => (items[i] ? value(items[i]) : 0));
  const body = encode(transfer, {
    count: items.length,
    dataBytes: data.length,
    ids: of(({ id }) => id),
    types: of(({ type }) => type),
    sizes: of(({ sizeBytes }) => sizeBytes),
  });
  return Buffer.concat([ringHeader(CROSS_DOMAIN_CMD_RECEIVE), body, data]);
}

/** Of a channel: what guests understand as its end, one or the other. */
const lastMessages = () => [
  receiveMessage([], []),
  readMessage(NO_PIPE, { bytes: new Uint8Array(0), hangUp: true }),
];

function readMessage(id: number, { bytes, hangUp }: PipeData): Uint8Array {
  const body = encode(pipeData, { id, hangUp: hangUp ? 1 : 0, dataBytes: bytes.length });
  return Buffer.concat([ringHeader(CROSS_DOMAIN_CMD_READ), body, bytes]);
}

/** The body of a command; what is behind it is of no interest. */
function decodeBody<T>(codec: Codec<T>, body: Uint8Array): T {
  if (body.length < codec.size) fail(`command of ${body.length + commandHeader.size} bytes`);
  return codec.get(viewOf(body), 0);
}

/** INIT has grown; it is known by its length. */
function decodeInit(body: Uint8Array): { rings: Rings; channelType: number } {
  if (body.length >= init.size) {
    const { channelType, ...rings } = decodeBody(init, body);
    return { rings, channelType };
  }
  const { queryRingId, channelType } = decodeBody(initLegacy, body);
  return { rings: { queryRingId, channelRingId: queryRingId }, channelType };
}
