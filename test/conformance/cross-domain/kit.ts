/**
 * Vectors for the host side of the cross-domain channel: what a guest and a compositor do, and the bytes that the host
 * side must answer with. `play` runs one against any host side, `Recorder` writes one. README.md has the format.
 */
import { closeSync, fstatSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { createMemfd, createPipe } from '../../../native/index.ts';
import { FakeCompositor } from '../../support/guest-channel.ts';

/** What can be done to a host side: the guest's end of one context, which finds its compositor at a path given before. */
export interface HostSide {
  /** A guest blob of zeros, attached to the context; it may become a ring. */
  attachRing(id: number, sizeBytes: number): Promise<void>;
  /** A HOST3D buffer of the guest, attached, whose bytes are all `fill`. */
  attachBuffer(id: number, sizeBytes: number, fill: number): Promise<void>;
  /** SUBMIT_3D; false where the answer is an error. */
  submit(bytes: Uint8Array): Promise<boolean>;
  /** What is in a ring, when a fence on ring 0 or 1 that is made now has passed. */
  fence(ringIdx: 0 | 1, ringId: number): Promise<Uint8Array>;
  /** CREATE_BLOB of HOST3D and MAP_BLOB: what the guest sees; undefined where it is refused. */
  createBlob(blobId: number, sizeBytes: number): Promise<Uint8Array | undefined>;
  close(): Promise<void>;
}

/** Descriptors that the compositor sends: memory of so many bytes, or the end of a pipe to write to. */
export type SentFd = { readonly memoryBytes: number; readonly fill: number } | 'pipe';

export type Step =
  | { readonly do: 'attach ring'; readonly id: number; readonly sizeBytes: number }
  | {
      readonly do: 'attach buffer';
      readonly id: number;
      readonly sizeBytes: number;
      readonly fill: number;
    }
  | { readonly do: 'submit'; readonly hex: string; readonly isGood: boolean }
  | { readonly do: 'query'; readonly ringId: number; readonly hex: string }
  | { readonly do: 'poll'; readonly ringId: number; readonly hex: string }
  | { readonly do: 'poll in vain'; readonly ringId: number }
  | {
      readonly do: 'create blob';
      readonly id: number;
      readonly sizeBytes: number;
      readonly hex: string | null;
    }
  | { readonly do: 'compositor accepts' }
  | {
      readonly do: 'compositor reads';
      readonly hex: string;
      /** Sizes of the descriptors that come along; 0 for pipes. */
      readonly fdSizes: readonly number[];
    }
  | { readonly do: 'compositor writes'; readonly hex: string; readonly fds: readonly SentFd[] }
  | { readonly do: 'compositor leaves' };

export interface Vector {
  readonly name: string;
  readonly steps: readonly Step[];
}

const hexOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const bytesOf = (hex: string) => new Uint8Array(Buffer.from(hex, 'hex'));
/** Bytes behind a message in a ring are whatever was there before: the message says how long it is. */
const messageIn = (ring: Uint8Array): Uint8Array => {
  const word = (at: number) => new DataView(ring.buffer, ring.byteOffset).getUint32(at, true);
  return ring.subarray(0, word(0) === 5 ? 352 + word(12) : 24 + word(16));
};
const QUERY_ANSWER_BYTES = 64;
const PATIENCE_MS = 2000;
const VAIN_MS = 100;

/** A host side, a compositor, and what they do. Every verb returns what came back. */
export class Stage implements AsyncDisposable {
  readonly compositor: FakeCompositor;
  readonly host: HostSide;
  #socket: number | undefined;
  /** A poll that has not passed yet. */
  #pending: Promise<Uint8Array> | undefined;
  readonly #fds: number[] = [];

  constructor(compositor: FakeCompositor, host: HostSide) {
    this.compositor = compositor;
    this.host = host;
  }

  async query(ringId: number): Promise<string> {
    return hexOf((await this.host.fence(0, ringId)).subarray(0, QUERY_ANSWER_BYTES));
  }

  /** The message that a fence on the channel ring passes with. */
  async poll(ringId: number): Promise<string> {
    const passed = this.#pending ?? this.host.fence(1, ringId);
    this.#pending = undefined;
    return hexOf(messageIn(await inTime(passed, 'no message')));
  }

  /** Whether nothing comes. The fence stays, and is the next poll. */
  async pollInVain(ringId: number): Promise<boolean> {
    this.#pending ??= this.host.fence(1, ringId);
    return await Promise.race([this.#pending.then(() => false), sleep(VAIN_MS, true)]);
  }

  async accept(): Promise<void> {
    this.#socket = await patiently(() => this.compositor.accept(), 'nobody has connected');
  }

  /** What the guest has sent, of at least so many bytes. */
  async read(leastBytes: number): Promise<{ hex: string; fdSizes: number[] }> {
    const parts: Buffer[] = [];
    const fdSizes: number[] = [];
    let length = 0;
    await patiently(() => {
      const { data, fds } = FakeCompositor.take(this.#socket!);
      parts.push(data);
      length += data.length;
      for (const fd of fds) {
        const stat = fstatSync(fd);
        fdSizes.push(stat.isFIFO() ? 0 : stat.size);
        this.#fds.push(fd);
      }
      return length >= leastBytes ? true : undefined;
    }, `${leastBytes} bytes have not come`);
    return { hex: hexOf(Buffer.concat(parts)), fdSizes };
  }

  write(hex: string, fds: readonly SentFd[]): void {
    const made = fds.map((kind) => {
      if (kind === 'pipe') {
        const [read, write] = createPipe();
        this.#fds.push(read);
        return write;
      }
      const fd = createMemfd('vector', kind.memoryBytes);
      writeSync(fd, Buffer.alloc(kind.memoryBytes, kind.fill));
      return fd;
    });
    FakeCompositor.send(this.#socket!, bytesOf(hex), made);
    for (const fd of made) closeSync(fd);
  }

  leave(): void {
    this.compositor.hangUp(this.#socket!);
    this.#socket = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.host.close();
    for (const fd of this.#fds.splice(0)) closeSync(fd);
    this.compositor[Symbol.dispose]();
  }
}

async function patiently<T>(look: () => T | undefined, complaint: string): Promise<T> {
  for (const deadline = Date.now() + PATIENCE_MS; Date.now() < deadline; await sleep(1)) {
    const found = look();
    if (found !== undefined) return found;
  }
  throw new Error(complaint);
}

async function inTime<T>(promise: Promise<T>, complaint: string): Promise<T> {
  const late = new AbortController();
  try {
    const alarm = sleep(PATIENCE_MS, undefined, { signal: late.signal }).then(() => {
      throw new Error(complaint);
    });
    alarm.catch(() => {});
    return await Promise.race([promise, alarm]);
  } finally {
    late.abort();
  }
}

/** Does a step. Returns it with what really came back. */
async function perform(stage: Stage, step: Step): Promise<Step> {
  const { host } = stage;
  switch (step.do) {
    case 'attach ring':
      await host.attachRing(step.id, step.sizeBytes);
      return step;
    case 'attach buffer':
      await host.attachBuffer(step.id, step.sizeBytes, step.fill);
      return step;
    case 'submit':
      return { ...step, isGood: await host.submit(bytesOf(step.hex)) };
    case 'query':
      return { ...step, hex: await stage.query(step.ringId) };
    case 'poll':
      return { ...step, hex: await stage.poll(step.ringId) };
    case 'poll in vain':
      if (!(await stage.pollInVain(step.ringId))) throw new Error('a message came');
      return step;
    case 'create blob': {
      const bytes = await host.createBlob(step.id, step.sizeBytes);
      return { ...step, hex: bytes ? hexOf(bytes) : null };
    }
    case 'compositor accepts':
      await stage.accept();
      return step;
    case 'compositor reads':
      return { ...step, ...(await stage.read(step.hex.length / 2)) };
    case 'compositor writes':
      stage.write(step.hex, step.fds);
      return step;
    case 'compositor leaves':
      stage.leave();
      return step;
    default:
      return step satisfies never;
  }
}

/** Plays a vector. Returns the first step that went otherwise, with what it should have been; undefined when none did. */
export async function play(
  vector: Vector,
  stage: Stage,
): Promise<{ readonly number: number; readonly expected: Step; readonly actual: Step | string } | undefined> {
  for (const [number, expected] of vector.steps.entries()) {
    try {
      const actual = await perform(stage, expected);
      if (JSON.stringify(actual) !== JSON.stringify(expected)) return { number, expected, actual };
    } catch (error) {
      return { number, expected, actual: (error as Error).message };
    }
  }
  return undefined;
}

/** Performs steps of which only the doing is known, and keeps what came back: the vector. */
export async function record(name: string, script: readonly Step[], stage: Stage): Promise<Vector> {
  const steps: Step[] = [];
  for (const step of script) steps.push(await perform(stage, step));
  return { name, steps };
}
