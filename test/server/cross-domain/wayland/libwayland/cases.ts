/**
 * Cases for the judge: what programs and compositors say, most of it right, some of it not. A model keeps track of the
 * objects, so that connections get somewhere; where a wrong message made it wrong, the case just ends sooner.
 */
import {
  type InterfaceSpec,
  interfaceNamed,
  type MessageSpec,
} from '../../../../../server/cross-domain/wayland/schema.ts';
import type { Dice } from '../../../../support/dice.ts';
import { SIGNATURE_LETTERS } from '../../../../support/wayland-signature.ts';
import type { Oracle } from './oracle.ts';

/** As in `oracle.c`. */
export const COMPOSITOR = 1;
export const PROGRAM = 2;
const [SEND, LET_GO, POST, CALL, FORGET] = [1, 2, 3, 4, 5];
const NO_INTERFACE = 0xffff_ffff;

export const FIRST_SERVER_ID = 0xff00_0000;
const [DISPLAY, REGISTRY] = [1, 2];
const [SYNC, GET_REGISTRY, BIND, GLOBAL, DELETE_ID] = [0, 1, 0, 0, 1];

/** What the judge is told to do; some of it is told to ours as well. */
export type Step =
  | { readonly kind: 'send'; readonly bytes: Uint8Array; readonly fds: number }
  /** The judge itself says something: it is in its answer. */
  | {
      readonly kind: 'act';
      readonly words: readonly number[];
      readonly fds: number;
      readonly forgets?: number;
    };

export interface Case {
  readonly side: typeof COMPOSITOR | typeof PROGRAM;
  readonly steps: readonly Step[];
}

export const send = (bytes: Uint8Array, fds = 0): Step => ({ kind: 'send', bytes, fds });
const act = (words: readonly number[], fds = 0): Step => ({ kind: 'act', words, fds });
export const letGo = (id: number): Step => act([LET_GO, id, 0]);
export const post = (id: number, opcode: number): Step => act([POST, id, opcode]);
export const forget = (id: number): Step => ({ kind: 'act', words: [FORGET, id], fds: 0, forgets: id });

/** The places of interfaces in `known`. */
export const indexIn =
  ({ interfaces }: Oracle) =>
  (name: string): number =>
    interfaces.get(name)!.index;

/** A request of a program of libwayland's; strings are `text`, or the name of an interface by its index. */
export function call(
  indexOf: (name: string) => number,
  id: number,
  { interface: owner, opcode, args, destructor, fdCount }: MessageSpec,
  version: number,
  values: readonly number[],
  bound?: string,
): Step {
  const made = bound ?? args.find(({ kind }) => kind === 'new_id')?.interface;
  const interfaceIndex = made === undefined ? NO_INTERFACE : indexOf(made);
  const words = args.flatMap(({ kind }, i) => [SIGNATURE_LETTERS[kind].charCodeAt(0), values[i] ?? 0]);
  const target = indexOf(owner);
  const given = [
    CALL,
    id,
    target,
    opcode,
    interfaceIndex,
    version,
    destructor ? 1 : 0,
    args.length,
    ...words,
  ];
  return act(given, fdCount);
}

/** Cases in the judge's form. */
export function batchOf(cases: readonly Case[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const words = (...numbers: number[]) => parts.push(new Uint8Array(Uint32Array.from(numbers).buffer));
  for (const { side, steps } of cases) {
    words(side, steps.length);
    for (const step of steps) {
      if (step.kind === 'act') {
        words(...step.words);
        continue;
      }
      words(SEND!, step.bytes.length, step.fds);
      parts.push(step.bytes, new Uint8Array(-step.bytes.length & 3));
    }
  }
  return Buffer.concat(parts);
}

interface Part {
  readonly kind: MessageSpec['args'][number]['kind'];
  readonly at: number;
}

/** A message before it is sent, and where its arguments are. */
interface Draft {
  bytes: Buffer;
  parts: Part[];
  fds: number;
}

type Value = number | Uint8Array | null;

function draft(id: number, { opcode, args, fdCount }: MessageSpec, values: readonly Value[]): Draft {
  const pieces: Buffer[] = [Buffer.alloc(8)];
  const parts: Part[] = [];
  let size = 8;
  for (const [i, { kind }] of args.entries()) {
    parts.push({ kind, at: size });
    if (kind === 'fd') continue;
    const value = values[i] ?? 0;
    const word = Buffer.alloc(4);
    pieces.push(word);
    size += 4;
    if (typeof value === 'number') {
      word.writeUInt32LE(value >>> 0);
      continue;
    }
    word.writeUInt32LE(value.length);
    const padding = Buffer.alloc(-value.length & 3);
    pieces.push(Buffer.from(value), padding);
    size += value.length + padding.length;
  }
  const bytes = Buffer.concat(pieces);
  bytes.writeUInt32LE(id, 0);
  bytes.writeUInt32LE(((size << 16) | opcode) >>> 0, 4);
  return { bytes, parts, fds: fdCount };
}

interface Known {
  readonly spec: InterfaceSpec;
  readonly version: number;
}

const utf8 = new TextEncoder();
const zeroEnded = (text: string) => utf8.encode(`${text}\0`);
const STRINGS = ['', 'a', 'abc', 'text/plain', 'four', 'a title, somewhat longer', 'grüße', '\u{feff}x'].map(
  zeroEnded,
);
const NUMBERS = [0, 1, 2, 3, 4, 16, 1000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

/** What both ends do: messages, wrong ones among them, cut into pieces, with descriptors in their places or not. */
abstract class Maker {
  protected readonly dice: Dice;
  protected readonly oracle: Oracle;
  protected readonly steps: Step[] = [];
  protected readonly objects = new Map<number, Known>();
  protected nextId = REGISTRY;
  protected readonly free: number[] = [];
  protected nextServerId = FIRST_SERVER_ID;
  protected readonly freeServer: number[] = [];
  /** Half a message may wait for its end. */
  protected isRagged = false;
  /** Not sent yet. */
  #bytes: Buffer[] = [];
  #fds = 0;
  #isOver = false;

  constructor(oracle: Oracle, dice: Dice) {
    this.oracle = oracle;
    this.dice = dice;
    this.objects.set(DISPLAY, { spec: interfaceNamed('wl_display'), version: 1 });
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  protected flush(): void {
    const bytes = Buffer.concat(this.#bytes);
    this.#bytes = [];
    // Nothing goes without a byte.
    if (bytes.length === 0) return;
    const fds = Math.min(this.#fds, 28);
    this.#fds -= fds;
    if (bytes.length > 1 && this.dice.roll(12) === 0) {
      const at = 1 + this.dice.roll(bytes.length - 1);
      this.steps.push(send(bytes.subarray(0, at), fds), send(bytes.subarray(at)));
    } else {
      this.steps.push(send(bytes, fds));
    }
  }

  protected add({ bytes, fds }: Draft): void {
    this.#bytes.push(bytes);
    this.#fds += fds;
  }

  protected addFds(count: number): void {
    this.#fds += count;
  }

  /** What can be said is what both know. */
  protected countOf({ name }: InterfaceSpec, side: 'requests' | 'events'): number {
    const judged = this.oracle.interfaces.get(name)!;
    return Math.min(
      interfaceNamed(name)[side].length,
      side === 'requests' ? judged.requestCount : judged.eventCount,
    );
  }

  protected objectOf(name: string | undefined): number | undefined {
    const some: number[] = [];
    for (const [id, { spec }] of this.objects) if (name === undefined || spec.name === name) some.push(id);
    return some.length > 0 ? this.dice.of(some) : undefined;
  }

  protected freshId(): number {
    if (this.free.length > 0 && this.dice.roll(2) === 0)
      return this.free.splice(this.dice.roll(this.free.length), 1)[0]!;
    return this.nextId++;
  }

  /** Arguments that are right; undefined where there is no object for one. `makes` gives the id of a new object. */
  protected values({ args }: MessageSpec, makes: () => number): Value[] | undefined {
    const values: Value[] = [];
    for (const { kind, nullable, interface: name } of args) {
      switch (kind) {
        case 'int':
        case 'uint':
        case 'fixed':
          values.push(this.dice.of(NUMBERS));
          break;
        case 'string':
          values.push(nullable && this.dice.roll(3) === 0 ? 0 : this.dice.of(STRINGS));
          break;
        case 'array':
          values.push(new Uint8Array(this.dice.roll(10)).fill(this.dice.roll(256)));
          break;
        case 'object': {
          const id = this.objectOf(name);
          if (id === undefined && !nullable) return undefined;
          values.push(id === undefined || (nullable && this.dice.roll(3) === 0) ? 0 : id);
          break;
        }
        case 'new_id':
          values.push(makes());
          break;
        case 'fd':
          values.push(null);
          break;
        default:
          kind satisfies never;
      }
    }
    return values;
  }

  /** Says it, perhaps wrongly; whether it was right. */
  protected say(made: Draft, side: 'requests' | 'events', isAlone = false): boolean {
    if (this.dice.roll(7) > 0) {
      this.add(made);
      if (isAlone || this.dice.roll(3) > 0) this.flush();
      return true;
    }
    this.flush();
    this.#spoil(made, side);
    this.add(made);
    this.flush();
    return false;
  }

  /** Makes one thing about a message wrong, or just odd. */
  #spoil(made: Draft, side: 'requests' | 'events'): void {
    const { dice } = this;
    const { bytes, parts } = made;
    const size = bytes.length;
    const claim = (sizeBytes: number) => {
      bytes.writeUInt16LE(sizeBytes & 0xffff, 6);
      this.isRagged = true;
    };
    const ofKind = (...kinds: Part['kind'][]) => {
      const some = parts.filter(({ kind }) => kinds.includes(kind));
      return some.length > 0 ? dice.of(some) : undefined;
    };
    const noise = (count: number) => Buffer.from(Array.from({ length: count }, () => dice.roll(256)));
    const ways: readonly (() => void)[] = [
      () => {
        const count = dice.of([1, 2, 3, 4, 5, 8, 12, 40]);
        claim(size + count);
        made.bytes = Buffer.concat([bytes, noise(count)]);
      },
      () => {
        const count = Math.min(dice.of([1, 2, 3, 4, 4, 4, 8]), size - 8);
        claim(size - count);
        if (dice.roll(2) === 0) made.bytes = bytes.subarray(0, size - count);
      },
      () => claim(dice.of([0, 1, 4, 7, 8, 9, 12, 16, size + 4, size + 400])),
      () => {
        claim(dice.of([4096, 4100, 0x8000, 0xffff]));
        this.#isOver = true;
      },
      () => bytes.writeUInt32LE(this.#someId(), 0),
      () => {
        const known = this.objects.get(bytes.readUInt32LE(0));
        const count = known ? this.countOf(known.spec, side) : 1;
        const most = known ? Math.max(interfaceNamed(known.spec.name)[side].length, 64) : 64;
        bytes.writeUInt16LE(
          dice.roll(2) === 0 ? dice.roll(count + 1) % Math.max(count, 1) : dice.of([most, 0xffff]),
          4,
        );
      },
      () => {
        if (size > 8) bytes.writeUInt32LE(this.#someId(), 8 + 4 * dice.roll((size - 8) >> 2));
      },
      () => {
        const part = ofKind('object') ?? ofKind('new_id');
        if (part) bytes.writeUInt32LE(this.#someId(), part.at);
      },
      () => {
        const part = ofKind('object');
        if (part) bytes.writeUInt32LE(this.#someId(), part.at);
      },
      () => {
        const part = ofKind('new_id');
        if (part) bytes.writeUInt32LE(this.#someId(), part.at);
      },
      () => this.#spoilBytes(made, ofKind('string', 'array')),
      () => this.#spoilBytes(made, ofKind('string')),
      () => {
        made.fds = Math.max(made.fds + dice.of([-1, 1, 2, 27]), 0);
      },
      () => {
        // Too late, or too early.
        const late = made.fds;
        made.fds = 0;
        if (late > 0 && dice.roll(2) === 0) {
          this.add({ bytes: made.bytes, parts, fds: 0 });
          this.flush();
          made.bytes = Buffer.alloc(0);
        }
        this.addFds(late);
      },
    ];
    dice.of(ways)();
    // libwayland's programs do not survive that an object of the compositor is deleted.
    if (bytes.length >= 12 && bytes.readUInt32LE(0) === DISPLAY && bytes.readUInt16LE(4) === DELETE_ID) {
      if (bytes.readUInt32LE(8) >= FIRST_SERVER_ID) bytes.writeUInt32LE(5, 8);
    }
  }

  #spoilBytes({ bytes }: Draft, part: Part | undefined): void {
    if (!part) return;
    const { dice } = this;
    const { at, kind } = part;
    const length = bytes.readUInt32LE(at);
    const end = at + 4 + length;
    const ways: readonly (() => void)[] = [
      () => bytes.fill(0xa5, end, end + (-length & 3)),
      () => bytes.writeUInt32LE(dice.of([0, 1, length - 1, length + 1, length + 4]) >>> 0, at),
      () => bytes.writeUInt32LE(dice.of([0xffff_fffc, 0xffff_fffd, 0xffff_ffff, 0x8000_0000, 0x1_0000]), at),
      () => {
        if (length > 0) bytes[end - 1] = dice.of([1, 0x61, 0xff]);
      },
      () => {
        if (length > 1 && (kind === 'array' || !refusesZeros(this.oracle)))
          bytes[at + 4 + dice.roll(length - 1)] = 0;
      },
      () => {
        if (length > 1) bytes[at + 4 + dice.roll(length - 1)] = dice.of([0x80, 0xc3, 0xff, 0xef]);
      },
    ];
    dice.of(ways)();
  }

  /** Of something or nothing. */
  #someId(): number {
    const { dice } = this;
    return dice.of([
      () => this.objectOf(undefined) ?? 1,
      () => this.objectOf(undefined) ?? 1,
      () => (this.free.length > 0 ? dice.of(this.free) : 0),
      () => dice.of([0, 1, 2, 3, 0xff_ffff, 0xfeff_ffff, FIRST_SERVER_ID, FIRST_SERVER_ID + 1, 0xffff_ffff]),
      () => this.nextId + dice.of([-1, 0, 1, 2, 100]),
      () => this.nextServerId + dice.of([-1, 0, 1]),
    ])();
  }
}

/** From 1.24 on libwayland refuses strings with zeros in them. */
export const refusesZeros = ({ version }: Oracle): boolean => {
  const [major = 0, minor = 0, micro = 0] = version.split('.').map(Number);
  return major > 1 || minor > 23 || micro > 90;
};

/** A program that talks to a compositor of libwayland. */
class ProgramMaker extends Maker {
  make(count: number): Case {
    this.add(draft(DISPLAY, interfaceNamed('wl_display').requests[GET_REGISTRY]!, [REGISTRY]));
    this.flush();
    this.objects.set(REGISTRY, { spec: interfaceNamed('wl_registry'), version: 1 });
    this.nextId = REGISTRY + 1;
    for (let i = 0; i < 5; i++) this.#bind();
    for (let i = 0; i < count && !this.isOver; i++) this.#turn();
    this.flush();
    return { side: COMPOSITOR, steps: this.steps };
  }

  #turn(): void {
    const { dice } = this;
    switch (dice.roll(40)) {
      case 0:
      case 1:
        this.#bind();
        return;
      case 2: {
        this.flush();
        const id = this.objectOf('wl_callback') ?? this.objectOf(undefined)!;
        if (id === DISPLAY || id >= FIRST_SERVER_ID || this.isRagged) return;
        // The compositor says so with the next thing that it says.
        this.steps.push(letGo(id));
        const callback = this.freshId();
        this.add(draft(DISPLAY, interfaceNamed('wl_display').requests[SYNC]!, [callback]));
        this.flush();
        this.objects.delete(id);
        this.free.push(id, callback);
        return;
      }
      case 3:
        this.#post();
        return;
      default: {
        const id = this.objectOf(undefined)!;
        const { spec, version } = this.objects.get(id)!;
        const requests = spec.requests.slice(0, this.countOf(spec, 'requests'));
        const request = requests.length > 0 ? dice.of(requests) : undefined;
        if (!request || (request.since > version && dice.roll(20) > 0)) return;
        if (spec.name === 'wl_registry' || (id === DISPLAY && dice.roll(4) > 0)) return;
        if (request.destructor && dice.roll(3) > 0) return;
        this.#request(id, request);
      }
    }
  }

  #request(id: number, request: MessageSpec): void {
    const made: number[] = [];
    const isSync = id === DISPLAY && request.opcode === SYNC;
    const { nextId } = this;
    const values = this.values(request, () => made[made.push(this.freshId()) - 1]!);
    if (!values) {
      this.nextId = nextId;
      this.free.push(...made.filter((id) => id < nextId));
      return;
    }
    const right = this.say(draft(id, request, values), 'requests');
    if (!right) return;
    const version = this.objects.get(id)!.version;
    for (const one of made) {
      if (isSync) this.free.push(one);
      else this.objects.set(one, { spec: interfaceNamed(request.creates!.interface), version });
    }
    if (!request.destructor) return;
    this.objects.delete(id);
    if (id < FIRST_SERVER_ID) this.free.push(id);
    else this.freeServer.push(id);
  }

  /** The compositor makes an object, where there is an event that does nothing else. */
  #post(): void {
    const makers = [...this.objects].flatMap(([id, { spec, version }]) =>
      spec.events
        .slice(0, this.countOf(spec, 'events'))
        .flatMap(({ args, opcode, creates, since }) =>
          creates && args.length === 1 && since <= version ? [{ id, version, opcode, creates }] : [],
        ),
    );
    if (makers.length === 0) return;
    const { id, version, opcode, creates } = this.dice.of(makers);
    this.flush();
    this.steps.push(post(id, opcode));
    const made = this.freeServer.pop() ?? this.nextServerId++;
    this.objects.set(made, { spec: interfaceNamed(creates.interface), version });
  }

  #bind(): void {
    const { dice, oracle } = this;
    const place = dice.roll(oracle.globals.length);
    const [name, most] = oracle.globals[place]!;
    const version = dice.roll(3) === 0 ? 1 + dice.roll(most) : most;
    const bind = interfaceNamed('wl_registry').requests[BIND]!;
    const wrong = [name, 'wl_nothing', `\u{feff}${name}`, '', 'wl_compositor'];
    const odd = dice.roll(60) === 0;
    const id = this.freshId();
    const values: Value[] = odd
      ? [
          dice.of([place + 1, 0, oracle.globals.length + 1, 0xffff_ffff]),
          zeroEnded(dice.of(refusesZeros(oracle) ? wrong : [...wrong, `${name}\0x`])),
          dice.of([0, version, most + 1, 0xffff_ffff]),
          id,
        ]
      : [place + 1, zeroEnded(name), version, id];
    if (this.say(draft(REGISTRY, bind, values), 'requests'))
      this.objects.set(id, { spec: interfaceNamed(name), version });
  }
}

/** A compositor that talks to a program of libwayland. */
class CompositorMaker extends Maker {
  /** Destroyed by the program, and not let go of. */
  readonly #zombies = new Map<number, Known>();

  make(count: number): Case {
    const { oracle } = this;
    this.#call(DISPLAY, interfaceNamed('wl_display').requests[GET_REGISTRY]!, [0]);
    const global = interfaceNamed('wl_registry').events[GLOBAL]!;
    for (const [i, [name, version]] of oracle.globals.entries())
      this.add(draft(REGISTRY, global, [i + 1, zeroEnded(name), version]));
    this.flush();
    for (let i = 0; i < 3; i++) this.#bind();
    for (let i = 0; i < 8; i++) this.#make();
    for (let i = 0; i < count && !this.isOver; i++) this.#turn();
    this.flush();
    return { side: PROGRAM, steps: this.steps };
  }

  #turn(): void {
    const { dice } = this;
    switch (dice.roll(24)) {
      case 0:
        this.#bind();
        return;
      case 1:
      case 2:
        this.#make();
        return;
      case 3:
        this.#destroy();
        return;
      case 4:
        this.#deleteZombie();
        return;
      case 5:
        this.#endCallback();
        return;
      default:
        this.#event();
    }
  }

  #event(): void {
    const { dice } = this;
    const isDead = this.#zombies.size > 0 && dice.roll(8) === 0;
    const some = isDead ? this.#zombies : this.objects;
    const id = dice.of([...some.keys()]);
    const known = some.get(id)!;
    const events = known.spec.events.slice(0, this.countOf(known.spec, 'events'));
    const event = events.length > 0 ? dice.of(events) : undefined;
    if (!event || (id === DISPLAY && dice.roll(60) > 0)) return;
    const values = this.values(event, () => this.freeServer.pop() ?? this.nextServerId);
    if (!values) return;
    const alone = id === DISPLAY;
    if (alone) this.flush();
    const isRight = this.say(draft(id, event, values), 'events', alone);
    if (!isRight || isDead || !event.creates) return;
    const made = values[event.args.findIndex(({ kind }) => kind === 'new_id')] as number;
    if (made === this.nextServerId) this.nextServerId++;
    this.objects.set(made, { spec: interfaceNamed(event.creates.interface), version: known.version });
  }

  /** Something that the program makes. */
  #make(): void {
    const id = this.objectOf(undefined)!;
    const { spec, version } = this.objects.get(id)!;
    const makers = spec.requests
      .slice(0, this.countOf(spec, 'requests'))
      .filter(({ creates, since }) => creates && since <= version);
    if (makers.length === 0) return;
    const request = this.dice.of(makers);
    if (id === DISPLAY && request.opcode === GET_REGISTRY) return;
    const values = this.values(request, () => 0);
    if (values) this.#call(id, request, values);
  }

  #destroy(): void {
    const id = this.objectOf(undefined)!;
    const { spec, version } = this.objects.get(id)!;
    const destructors = spec.requests
      .slice(0, this.countOf(spec, 'requests'))
      .filter(({ destructor, since, args }) => destructor && since <= version && args.length === 0);
    if (destructors.length > 0) this.#call(id, this.dice.of(destructors), []);
  }

  #bind(): void {
    const { dice, oracle } = this;
    const place = dice.roll(oracle.globals.length);
    const [name, version] = oracle.globals[place]!;
    this.#call(
      REGISTRY,
      interfaceNamed('wl_registry').requests[BIND]!,
      [place + 1, 0, version, 0],
      [name, version],
    );
  }

  #call(id: number, request: MessageSpec, values: readonly Value[], bound?: readonly [string, number]): void {
    this.flush();
    const { version } = this.objects.get(id)!;
    const numbers = values.map((value, i) => {
      if (typeof value === 'number' && request.args[i]!.kind !== 'string') return value;
      return bound ? indexIn(this.oracle)(bound[0]) : NO_INTERFACE;
    });
    if (request.args.some(({ kind }) => kind === 'array')) return;
    this.steps.push(call(indexIn(this.oracle), id, request, bound?.[1] ?? version, numbers, bound?.[0]));
    const made = bound?.[0] ?? request.creates?.interface;
    if (made)
      this.objects.set(this.free.pop() ?? this.nextId++, {
        spec: interfaceNamed(made),
        version: bound?.[1] ?? version,
      });
    if (!request.destructor) return;
    this.objects.delete(id);
    if (id >= FIRST_SERVER_ID) this.freeServer.push(id);
    else this.#zombies.set(id, { spec: interfaceNamed(request.interface), version });
  }

  #deleteZombie(): void {
    if (this.#zombies.size === 0) return;
    this.flush();
    const id = this.dice.of([...this.#zombies.keys()]);
    if (this.say(draft(DISPLAY, interfaceNamed('wl_display').events[DELETE_ID]!, [id]), 'events', true)) {
      this.#zombies.delete(id);
      this.free.push(id);
    }
  }

  /** A program is done with a callback without a word. */
  #endCallback(): void {
    const id = this.objectOf('wl_callback');
    if (id === undefined || this.isRagged) return;
    this.flush();
    this.add(draft(id, interfaceNamed('wl_callback').events[0]!, [7]));
    this.flush();
    this.steps.push(forget(id));
    this.add(draft(DISPLAY, interfaceNamed('wl_display').events[DELETE_ID]!, [id]));
    this.flush();
    this.objects.delete(id);
    this.free.push(id);
  }
}

/** The case of a seed: as many messages as said at most, after those that connections begin with. */
export function caseOf(oracle: Oracle, dice: Dice, count: number): Case {
  return dice.roll(2) === 0
    ? new ProgramMaker(oracle, dice).make(count)
    : new CompositorMaker(oracle, dice).make(count);
}
