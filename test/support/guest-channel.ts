/** A guest program that speaks cross-domain, and a compositor on the other end that does what the test says. */
import { closeSync, mkdtempSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  acceptUnix,
  connectUnix,
  createMemfd,
  listenUnix,
  receive,
  send,
  WOULD_BLOCK,
} from '../../native/index.ts';
import {
  CrossDomainContext,
  type SentBlob,
  type Shared,
  type WaylandStream,
} from '../../server/cross-domain/context.ts';
import { describe as inWords } from '../../server/cross-domain/describe.ts';
import { LingeringPipes } from '../../server/cross-domain/pipes.ts';
import type { AttachedResource } from '../../server/gpu/contracts/context.ts';
import type { MemoryExport } from '../../server/gpu/contracts/exports.ts';
import { fakeResource } from './fake-resource.ts';

export const QUERY = 11;
export const CHANNEL = 12;
const turn = () => new Promise((resolve) => setTimeout(resolve, 1));

/** A stream that lets everything pass, and copies every buffer whole before each message. */
export function passThrough(): WaylandStream {
  let [sent, received] = [0, 0];
  const blobs: SentBlob[] = [];
  const nothing = new Uint8Array(0);
  return {
    failure: undefined,
    counters: {},
    objectCount: 0,
    fromGuest(bytes, fds) {
      const orders = fds.map(() => sent++);
      for (const fd of fds) if (fd.kind === 'blob') blobs.push(fd);
      const copies = blobs.map((blob) => ({ blob, offset: 0, lengthBytes: blob.sizeBytes }));
      return {
        forward: bytes.length > 0 ? [{ bytes, fds: orders, copies }] : [],
        reply: nothing,
        droppedFds: [],
      };
    },
    fromHost(bytes, fdCount) {
      const fds = Array.from({ length: fdCount }, () => received++);
      return { forward: [{ bytes, fds }], reply: nothing, droppedFds: [] };
    },
    closing: () => Uint8Array.of(1, 0, 0, 0),
  };
}

/** A command as the guest writes it: its size is in the header. */
export function command(number: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(8 + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, number);
  view.setUint16(2, bytes.length, true);
  bytes.set(body, 8);
  return bytes;
}

export const words = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);

/** SEND: identifiers are pairs of type and id. */
export function sendCommand(
  data: Uint8Array,
  identifiers: readonly (readonly [number, number])[] = [],
): Uint8Array {
  const slots = (at: 0 | 1) => Array.from({ length: 28 }, (_, i) => identifiers[i]?.[at] ?? 0);
  const head = words(identifiers.length, data.length, ...slots(1), ...slots(0), ...new Array(28).fill(0));
  return command(4, Buffer.concat([head, data]));
}

export const writeCommand = (id: number, data: Uint8Array, hangUp = 0): Uint8Array =>
  command(7, Buffer.concat([words(id, hangUp, data.length, 0), data]));

/** What a message in the channel ring says. */
export type Delivered =
  | {
      readonly command: 5;
      readonly data: Buffer;
      readonly items: readonly { readonly type: number; readonly id: number; readonly size: number }[];
    }
  | { readonly command: 6; readonly data: Buffer; readonly id: number; readonly hangUp: number };

export function decodeMessage(bytes: Uint8Array): Delivered {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const word = (at: number) => view.getUint32(at, true);
  if (view.getBigUint64(0, true) === 6n) {
    return {
      command: 6,
      id: word(8),
      hangUp: word(12),
      data: Buffer.from(bytes.subarray(24, 24 + word(16))),
    };
  }
  if (view.getBigUint64(0, true) !== 5n)
    throw new Error(`header ${Buffer.from(bytes.subarray(0, 8)).toString('hex')}`);
  const items = Array.from({ length: word(8) }, (_, i) => ({
    id: word(16 + 4 * i),
    type: word(128 + 4 * i),
    size: word(240 + 4 * i),
  }));
  return { command: 5, items, data: Buffer.from(bytes.subarray(352, 352 + word(12))) };
}

/** Who leaves with something unread resets the connection. */
function receiveOrEnd(fd: number, bytes: Uint8Array, fds: Int32Array): number {
  try {
    return receive(fd, bytes, 0, bytes.length, fds);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ECONNRESET') throw error;
    return 0;
  }
}

/** The socket that the server connects to. */
export class FakeCompositor implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'compositor-'));
  readonly path = join(this.folder, 'wayland-0');
  readonly #listener = listenUnix(this.path, 64);
  readonly #connections: number[] = [];

  /** The next connection; undefined when nobody has connected. */
  accept(): number | undefined {
    const fd = acceptUnix(this.#listener);
    if (fd !== undefined) this.#connections.push(fd);
    return fd;
  }

  hangUp(fd: number): void {
    this.#connections.splice(this.#connections.indexOf(fd), 1);
    closeSync(fd);
  }

  /** What has arrived: bytes, and descriptors, which are the test's; and whether nobody is there to send more. */
  static take(fd: number): { data: Buffer; fds: number[]; hasLeft: boolean } {
    const parts: Buffer[] = [];
    const fds: number[] = [];
    const bytes = new Uint8Array(65_536);
    const received = new Int32Array(254);
    for (;;) {
      const count = receiveOrEnd(fd, bytes, received);
      if (count === WOULD_BLOCK || count === 0)
        return { data: Buffer.concat(parts), fds, hasLeft: count === 0 };
      parts.push(Buffer.from(bytes.slice(0, count)));
      fds.push(...received.subarray(1, 1 + received[0]!));
    }
  }

  static send(fd: number, data: Uint8Array, fds: readonly number[] = []): void {
    if (send(fd, data, 0, data.length, fds) !== data.length) throw new Error('the socket is full');
  }

  [Symbol.dispose](): void {
    for (const fd of this.#connections.splice(0)) closeSync(fd);
    closeSync(this.#listener);
    rmSync(this.folder, { recursive: true });
  }
}

/** A context, its rings, and what the guest's program has been told. */
export class GuestChannel implements Disposable {
  readonly context: CrossDomainContext;
  readonly notes: string[] = [];
  readonly shared: Shared;
  /** What went over the channel last. */
  lastInWords = '';
  readonly query = fakeResource(QUERY);
  readonly ring = fakeResource(CHANNEL);
  /** Fences that have passed, by the order in which they were made. */
  readonly passed: number[] = [];
  readonly delivered: Delivered[] = [];
  #polls = 0;

  constructor(
    waylandPath?: string,
    makeStream: () => WaylandStream = passThrough,
    shared: Shared = { images: 0, objects: 0, lingering: new LingeringPipes() },
  ) {
    this.shared = shared;
    this.context = new CrossDomainContext({
      host: { contextId: 1, name: 'test' },
      shared: this.shared,
      wayland:
        waylandPath === undefined
          ? undefined
          : { connect: () => connectUnix(waylandPath, { wait: false }), makeStream },
      ended: () => {},
      observe: (message) => {
        this.lastInWords = inWords(message);
      },
      refused: (channelType, reason) => this.notes.push(`refused ${channelType}: ${reason}`),
      note: (message, { reason }) => this.notes.push(`${message}: ${reason ?? ''}`),
    });
    this.context.attach(this.query);
    this.context.attach(this.ring);
  }

  init(channelType = 1): this {
    this.context.submit(command(1, words(QUERY, CHANNEL, channelType)));
    return this;
  }

  /** A fence on the channel ring. When it passes, what is in the ring is taken. */
  poll(): this {
    const number = this.#polls++;
    this.context.submit(command(3, words(0, 0)));
    this.context.fence(1, () => {
      this.passed.push(number);
      this.delivered.push(decodeMessage(this.ring.bytes));
    });
    return this;
  }

  /** Polls until `count` messages have come. */
  async messages(count: number): Promise<Delivered[]> {
    const from = this.delivered.length;
    for (let waits = 0; this.delivered.length < from + count; waits++) {
      if (this.passed.length === this.#polls) this.poll();
      await turn();
      if (waits > 3000) throw new Error(`${this.delivered.length - from} of ${count} messages have come`);
    }
    return this.delivered.slice(from);
  }

  /** Whether nothing comes for a while, with a poll that waits. */
  async isSilent(): Promise<boolean> {
    const before = this.delivered.length;
    if (this.passed.length === this.#polls) this.poll();
    for (let i = 0; i < 20; i++) await turn();
    return this.delivered.length === before;
  }

  /** A buffer of the guest, attached: its bytes are the memory of the guest. */
  buffer(id: number, sizeBytes = 4096): Uint8Array {
    const bytes = new Uint8Array(sizeBytes);
    this.context.attach(fakeBuffer(id, bytes));
    return bytes;
  }

  [Symbol.dispose](): void {
    this.context.close();
    this.shared.lingering.close();
  }
}

/** A buffer whose exports are copies. */
export function fakeBuffer(id: number, bytes: Uint8Array): AttachedResource & { isThere: boolean } {
  const resource = {
    ...fakeResource(id, bytes.length),
    kind: 'host3d' as const,
    isThere: true,
    export(): MemoryExport {
      const fd = createMemfd('copy', bytes.length, { seals: 'size' });
      let open = true;
      return {
        kind: 'copy',
        lend: () => ({ fd, release: () => {} }),
        sizeBytes: bytes.length,
        chargedBytes: bytes.length,
        populatedBytes: () => bytes.length,
        account: () => true,
        refresh(offset, lengthBytes) {
          if (!resource.isThere) return undefined;
          const part = bytes.subarray(offset, offset + Math.min(lengthBytes, bytes.length - offset));
          writeSync(fd, part, 0, part.length, offset);
          return part.length;
        },
        isCurrent: () => resource.isThere,
        othersHoldIt: () => false,
        close() {
          if (open) closeSync(fd);
          open = false;
        },
      };
    },
  };
  return resource;
}
