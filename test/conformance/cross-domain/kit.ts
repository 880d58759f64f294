/**
 * Vectors for the host side of the cross-domain channel: what a guest and a compositor do, and the bytes that the host
 * side must answer with. `play` runs one against any host side, `Recorder` writes one. README.md has the format.
 */
import { closeSync, fstatSync, readSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { createMemfd, createPipe, setNonBlocking } from '../../../native/index.ts';
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

/**
 * Descriptors that the compositor sends: memory of so many bytes, the end of a pipe to write to, or the end to read from,
 * which means nothing to a guest.
 */
export type SentFd = { readonly memoryBytes: number; readonly fill: number } | 'pipe' | 'pipe to read';

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
  | {
      /** The memory behind a descriptor that it has read: which one, counted from 0, and the bytes at its beginning. */
      readonly do: 'compositor looks';
      readonly fd: number;
      readonly hex: string;
    }
  | {
      /** Writes into a pipe that it has read, counted like that, and closes it. */
      readonly do: 'compositor fills';
      readonly fd: number;
      readonly bytes: number;
      readonly fill: number;
    }
  | {
      /** What comes out of a pipe that it has sent: which one, counted from 0. */
      readonly do: 'compositor drains';
      readonly pipe: number;
      readonly hex: string;
      readonly hasEnded: boolean;
    }
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
export const PATIENCE_MS = 2000;
/** In place of a descriptor that has been closed. */
const GONE = -1;

/** A host side, a compositor, and what they do. Every verb returns what came back. */
export class Stage implements AsyncDisposable {
  readonly compositor: FakeCompositor;
  readonly host: HostSide;
  readonly vainMs: number;
  readonly answerMs: number;
  #socket: number | undefined;
  /** A poll that has not passed yet. */
  #pending: Promise<Uint8Array> | undefined;
  /** Descriptors that have come, and ends of pipes whose other ends have gone, in their order. */
  readonly #received: number[] = [];
  readonly #pipes: number[] = [];

  /**
   * `vainMs` is how long a message that should not come is waited for: long enough for one that will come all the same.
   * `answerMs` is for the answer to a call, of a program that may still be starting.
   */
  constructor(compositor: FakeCompositor, host: HostSide, { vainMs = 100, answerMs = 20_000 } = {}) {
    this.compositor = compositor;
    this.host = host;
    this.vainMs = vainMs;
    this.answerMs = answerMs;
  }

  async query(ringId: number): Promise<string> {
    const ring = await inTime(
      this.host.fence(0, ringId),
      PATIENCE_MS,
      'a fence of the query ring does not pass',
    );
    return hexOf(ring.subarray(0, QUERY_ANSWER_BYTES));
  }

  /** The message that a fence on the channel ring passes with; undefined when none has. It stays then, for the next poll. */
  async poll(ringId: number, patienceMs = PATIENCE_MS): Promise<string | undefined> {
    this.#pending ??= this.host.fence(1, ringId);
    const ring = await within(this.#pending, patienceMs);
    if (!ring) return undefined;
    this.#pending = undefined;
    return hexOf(messageIn(ring));
  }

  async accept(): Promise<void> {
    this.#socket = await patiently(() => this.compositor.accept());
    if (this.#socket === undefined) throw new Error('nobody has connected');
  }

  /** What the guest has sent, up to so many bytes or more. */
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
        this.#received.push(fd);
      }
      return length >= leastBytes ? true : undefined;
    });
    return { hex: hexOf(Buffer.concat(parts)), fdSizes };
  }

  look(fd: number, lengthBytes: number): string {
    const bytes = Buffer.alloc(lengthBytes);
    return hexOf(bytes.subarray(0, readSync(this.#fd(this.#received, fd), bytes, 0, lengthBytes, 0)));
  }

  fill(fd: number, bytes: Uint8Array): void {
    const pipe = this.#fd(this.#received, fd);
    if (writeSync(pipe, bytes) !== bytes.length) throw new Error('the pipe is full');
    closeSync(pipe);
    this.#received[fd] = GONE;
  }

  /** What has come through a pipe, up to so many bytes or its end. */
  async drain(
    pipe: number,
    leastBytes: number,
    untilEnd: boolean,
  ): Promise<{ hex: string; hasEnded: boolean }> {
    const fd = this.#fd(this.#pipes, pipe);
    const parts: Uint8Array[] = [];
    let [length, hasEnded] = [0, false];
    await patiently(() => {
      for (let part = readPipe(fd); part && !hasEnded; part = readPipe(fd)) {
        parts.push(part);
        length += part.length;
        hasEnded = part.length === 0;
      }
      return hasEnded || (length >= leastBytes && !untilEnd) ? true : undefined;
    });
    return { hex: hexOf(Buffer.concat(parts)), hasEnded };
  }

  #fd(list: readonly number[], at: number): number {
    const fd = list[at] ?? GONE;
    if (fd === GONE) throw new Error(`there is no descriptor ${at}`);
    return fd;
  }

  write(hex: string, fds: readonly SentFd[]): void {
    const made = fds.map((kind) => {
      if (kind === 'pipe' || kind === 'pipe to read') {
        const [read, write] = createPipe();
        setNonBlocking(read);
        this.#pipes.push(kind === 'pipe' ? read : write);
        return kind === 'pipe' ? write : read;
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
    for (const fd of [...this.#received.splice(0), ...this.#pipes.splice(0)]) if (fd !== GONE) closeSync(fd);
    this.compositor[Symbol.dispose]();
  }
}

/** What `look` finds, as soon as it does; undefined when it does not. */
async function patiently<T>(look: () => T | undefined): Promise<T | undefined> {
  for (const deadline = Date.now() + PATIENCE_MS; Date.now() < deadline; await sleep(1)) {
    const found = look();
    if (found !== undefined) return found;
  }
  return look();
}

/** What a promise comes to; undefined when it takes too long. */
async function within<T>(promise: Promise<T>, patienceMs: number): Promise<T | undefined> {
  const early = new AbortController();
  try {
    return await Promise.race([
      promise,
      sleep(patienceMs, undefined, { signal: early.signal }).catch(() => undefined),
    ]);
  } finally {
    early.abort();
  }
}

async function inTime<T>(promise: Promise<T>, patienceMs: number, complaint: string): Promise<T> {
  const come = promise.then((value) => [value] as const);
  const got = await within(come, patienceMs);
  if (!got) throw new Error(complaint);
  return got[0];
}

/** What is in a pipe: nothing at its end, undefined where nothing has come yet. */
function readPipe(fd: number): Uint8Array | undefined {
  const bytes = Buffer.alloc(65_536);
  try {
    return bytes.subarray(0, readSync(fd, bytes));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    return undefined;
  }
}

/**
 * Does a step. Returns it with what really came back: another step, where a message came that should not, or none did.
 * Throws where there is nothing to go on with.
 */
async function perform(stage: Stage, step: Step): Promise<Step> {
  const { host } = stage;
  const answered = <T>(promise: Promise<T>) =>
    inTime(promise, stage.answerMs, 'the host side does not answer');
  switch (step.do) {
    case 'attach ring':
      await answered(host.attachRing(step.id, step.sizeBytes));
      return step;
    case 'attach buffer':
      await answered(host.attachBuffer(step.id, step.sizeBytes, step.fill));
      return step;
    case 'submit':
      return { ...step, isGood: await answered(host.submit(bytesOf(step.hex))) };
    case 'query':
      return { ...step, hex: await stage.query(step.ringId) };
    case 'poll': {
      const hex = await stage.poll(step.ringId);
      return hex === undefined ? { do: 'poll in vain', ringId: step.ringId } : { ...step, hex };
    }
    case 'poll in vain': {
      const hex = await stage.poll(step.ringId, stage.vainMs);
      return hex === undefined ? step : { do: 'poll', ringId: step.ringId, hex };
    }
    case 'create blob': {
      const bytes = await answered(host.createBlob(step.id, step.sizeBytes));
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
    case 'compositor looks':
      return { ...step, hex: stage.look(step.fd, step.hex.length / 2) };
    case 'compositor fills':
      stage.fill(step.fd, new Uint8Array(step.bytes).fill(step.fill));
      return step;
    case 'compositor drains':
      return { ...step, ...(await stage.drain(step.pipe, step.hex.length / 2, step.hasEnded)) };
    case 'compositor leaves':
      stage.leave();
      return step;
    default:
      return step satisfies never;
  }
}

/** A step that went otherwise: its number from 0, and what really came back, or why the vector ends with it. */
export interface Difference {
  readonly number: number;
  readonly actual: Step | string;
}

/** Plays a vector to its end, or to the first step that cannot be done. Returns all steps that went otherwise. */
export async function play(vector: Vector, stage: Stage): Promise<Difference[]> {
  const differences: Difference[] = [];
  for (const [number, expected] of vector.steps.entries()) {
    try {
      const actual = await perform(stage, expected);
      if (JSON.stringify(actual) !== JSON.stringify(expected)) differences.push({ number, actual });
    } catch (error) {
      return [...differences, { number, actual: (error as Error).message }];
    }
  }
  return differences;
}

/** Performs steps of which only the doing is known, and keeps what came back: the vector. */
export async function record(name: string, script: readonly Step[], stage: Stage): Promise<Vector> {
  const steps: Step[] = [];
  for (const [number, step] of script.entries()) {
    const done = await perform(stage, step);
    const lengthOf = (one: Step) => ('hex' in one && one.hex ? one.hex.length : 0);
    if (done.do !== step.do || lengthOf(done) < lengthOf(step))
      throw new Error(`${name}, step ${number}: ${JSON.stringify(step)} was ${JSON.stringify(done)}`);
    steps.push(done);
  }
  return { name, steps };
}
