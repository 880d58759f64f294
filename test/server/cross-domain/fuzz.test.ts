/**
 * Guests and compositors that do anything, in any order: mostly what is well-formed and about objects that there are,
 * so that connections live and get somewhere; now and then what is not. A life goes on for a while after its connection
 * has ended; only the steps before that count. The seed is printed when something is wrong. More of it:
 *
 *     CROSS_DOMAIN_FUZZ=10000000 npx vitest run --config test/vitest.config.ts --project unit test/server/cross-domain/fuzz
 */
import { closeSync, readSync } from 'node:fs';
import { expect, test } from 'vitest';
import { createMemfd, createPipe, registrySize } from '../../../native/index.ts';
import type { SentBlob } from '../../../server/cross-domain/context.ts';
import { WaylandConnection } from '../../../server/cross-domain/wayland/connection.ts';
import { DEFAULT_POLICY } from '../../../server/cross-domain/wayland/policy.ts';
import { interfaceNamed, type MessageSpec } from '../../../server/cross-domain/wayland/schema.ts';
import { encodeMessage } from '../../../server/cross-domain/wayland/wire.ts';
import { GpuFault } from '../../../server/gpu/fault.ts';
import { Dice } from '../../support/dice.ts';
import { openFds } from '../../support/fake-client.ts';
import {
  CHANNEL,
  command,
  decodeMessage,
  FakeCompositor,
  fakeBuffer,
  GuestChannel,
  QUERY,
  sendCommand,
  words,
  writeCommand,
} from '../../support/guest-channel.ts';
import { event, request } from './wayland/talk.ts';

const total = Number(process.env.CROSS_DOMAIN_FUZZ ?? 60_000);
/** Steps of one context at most, and after the end of its channel. */
const LIFE = 400;
const AFTERLIFE = 20;

/** Any words: nearly always a message of no object or no method. */
function nonsense(dice: Dice): Uint8Array {
  const args = Array.from({ length: dice.roll(6) }, () =>
    dice.of([0, 1, 2, 3, 4, 5, 6, 7, 0xff00_0000, 0xffff_ffff]),
  );
  const size = 8 + 4 * args.length;
  const [claimed, opcode] = [dice.roll(40) === 0 ? dice.roll(70_000) : size, dice.roll(4)];
  return words(1 + dice.roll(6), ((claimed << 16) | opcode) >>> 0, ...args);
}

const GLOBALS = [
  ['wl_compositor', 6],
  ['wl_shm', 1],
  ['wl_seat', 9],
  ['xdg_wm_base', 6],
  ['wl_data_device_manager', 3],
  ['wl_subcompositor', 1],
  ['wl_output', 4],
  ['wp_viewporter', 1],
  ['zwp_primary_selection_device_manager_v1', 1],
  ['zwp_tablet_manager_v2', 2],
  ['xdg_toplevel_tag_manager_v1', 1],
] as const;
/** The compositor announces it, and the policy hides it. */
const FORBIDDEN = ['zwlr_screencopy_manager_v1', 3] as const;
const FORBIDDEN_NAME = GLOBALS.length + 1;
const [DISPLAY, REGISTRY] = [1, 2];
const BUFFERS = [500, 501, 502];
const BUFFER_BYTES = 65_536;
const FIRST_PIPE = 0x8000_0001;

type Identifier = readonly [type: number, id: number];
interface Said {
  readonly bytes: Uint8Array;
  /** What goes with a request. */
  readonly identifiers: readonly Identifier[];
}

/** The objects that both sides know of, and what may be said about them. */
class Session {
  readonly #dice: Dice;
  readonly #objects = new Map<number, { readonly name: string; readonly version: number }>([
    [DISPLAY, { name: 'wl_display', version: 1 }],
    [REGISTRY, { name: 'wl_registry', version: 1 }],
  ]);
  readonly #dead: number[] = [];
  #nextId = REGISTRY + 1;
  #nextHostId = 0xff00_0000;
  #nextPipe = FIRST_PIPE;

  constructor(dice: Dice) {
    this.#dice = dice;
  }

  /** Binds the n-th global. */
  bind(index: number): Said {
    const [name, version] = GLOBALS[index]!;
    const id = this.#nextId++;
    this.#objects.set(id, { name, version });
    return { bytes: request('wl_registry.bind', REGISTRY, index + 1, name, version, id), identifiers: [] };
  }

  /** A well-formed request; undefined when the dice found none. */
  request(): Said | undefined {
    const [id, spec] = this.#choose('requests');
    switch (spec && `${spec.interface}.${spec.name}`) {
      case undefined:
      case 'wl_display.get_registry':
        return undefined;
      case 'wl_registry.bind':
        return this.bind(this.#dice.roll(GLOBALS.length));
      default:
        return this.#say(id, spec!, () => this.#nextId++);
    }
  }

  /** A well-formed event, without its descriptors. */
  event(): { readonly bytes: Uint8Array; readonly fdCount: number } | undefined {
    const [id, spec] = this.#choose('events');
    if (!spec || (spec.name === 'error' && this.#dice.roll(20) > 0)) return undefined;
    if (spec.name === 'delete_id') {
      const dead = this.#dead.pop();
      return dead === undefined
        ? undefined
        : { bytes: event('wl_display.delete_id', DISPLAY, dead), fdCount: 0 };
    }
    const said = this.#say(id, spec, () => this.#nextHostId++);
    return said && { bytes: said.bytes, fdCount: spec.fdCount };
  }

  #choose(side: 'requests' | 'events'): [number, MessageSpec | undefined] {
    const [id, { name, version }] = this.#dice.of([...this.#objects]);
    const specs = interfaceNamed(name)[side].filter(({ since }) => since <= version);
    return [id, specs.length > 0 ? this.#dice.of(specs) : undefined];
  }

  #say(id: number, spec: MessageSpec, makeId: () => number): Said | undefined {
    const dice = this.#dice;
    const { version } = this.#objects.get(id)!;
    const made: [number, string][] = [];
    const identifiers: Identifier[] = [];
    const values: (number | string | Uint8Array | null)[] = [];
    for (const { kind, interface: name, nullable } of spec.args) {
      switch (kind) {
        case 'int':
        case 'fixed':
          values.push(dice.of([0, 1, 2, 16, 64, 1000, -1]));
          break;
        case 'uint':
          values.push(dice.of([0, 1, 2, 3, 16, 1000]));
          break;
        case 'string':
          values.push(dice.of(['text/plain', 'a', '', 'x'.repeat(100)]));
          break;
        case 'array':
          values.push(new Uint8Array(dice.roll(16)));
          break;
        case 'object': {
          const known = [...this.#objects].filter(([, one]) => name === undefined || one.name === name);
          if (known.length === 0 && !nullable) return undefined;
          values.push(known.length === 0 || (nullable && dice.roll(4) === 0) ? 0 : dice.of(known)[0]);
          break;
        }
        case 'new_id': {
          if (name === undefined) return undefined;
          const fresh = makeId();
          made.push([fresh, name]);
          values.push(fresh);
          break;
        }
        case 'fd':
          identifiers.push(
            spec.interface === 'wl_shm' ? [1, dice.of(BUFFERS)] : ([3, this.#nextPipe++] as const),
          );
          values.push(null);
          break;
        default:
          kind satisfies never;
      }
    }
    // Pools are never larger than what is behind them, and buffers mostly lie in them.
    if (spec.interface === 'wl_shm') values[2] = dice.of([4096, BUFFER_BYTES]);
    if (spec.name === 'create_buffer' && dice.roll(20) > 0) {
      const [width, height] = [1 + dice.roll(16), 1 + dice.roll(16)];
      values.splice(1, 5, dice.roll(4) * 256, width, height, width * 4, dice.roll(2));
    }
    if (spec.name === 'resize') values[0] = BUFFER_BYTES;
    for (const [fresh, name] of made)
      this.#objects.set(fresh, { name, version: Math.min(version, interfaceNamed(name).version) });
    if (spec.destructor) {
      this.#objects.delete(id);
      if (id < 0xff00_0000) this.#dead.push(id);
    }
    return { bytes: encodeMessage(id, spec.opcode, spec.args, values), identifiers };
  }
}

interface Life {
  /** Before the channel had ended. */
  readonly steps: number;
  readonly guestMessages: number;
  readonly hostMessages: number;
}

async function live(seed: number): Promise<Life> {
  const dice = new Dice(seed);
  using compositor = new FakeCompositor();
  using guest = new GuestChannel(compositor.path, () => new WaylandConnection<SentBlob>(DEFAULT_POLICY));
  const submit = (bytes: Uint8Array) => {
    try {
      guest.context.submit(bytes);
    } catch (error) {
      if (!(error instanceof GpuFault)) throw error;
    }
  };
  const hasEnded = () => guest.notes.some((note) => note.startsWith('a channel has ended'));
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  if (dice.roll(20) > 0) submit(command(1, words(QUERY, CHANNEL, 1)));
  let socket = compositor.accept();
  for (const id of BUFFERS) guest.context.attach(fakeBuffer(id, new Uint8Array(BUFFER_BYTES)));
  const session = new Session(dice);
  const say = (said: Said | undefined) => {
    if (said) submit(sendCommand(said.bytes, said.identifiers));
  };
  // What a program begins with, so that there is something to go wrong.
  submit(sendCommand(request('wl_display.get_registry', DISPLAY, REGISTRY)));
  if (socket !== undefined) {
    const globals = [...GLOBALS, FORBIDDEN].map(([name, version], i) =>
      event('wl_registry.global', REGISTRY, i + 1, name, version),
    );
    FakeCompositor.send(socket, Buffer.concat(globals));
    await new Promise((resolve) => setTimeout(resolve, 1));
    for (const i of GLOBALS.keys()) say(session.bind(i));
  }
  const pipes: number[] = [];
  /** What the compositor reads. Whoever binds a global has to name its interface. */
  const read = (from: number) => {
    const { data, fds } = FakeCompositor.take(from);
    if (data.includes(FORBIDDEN[0])) throw new Error('the compositor was asked for what the policy forbids');
    return fds;
  };
  const identifiers = () =>
    Array.from({ length: dice.roll(20) === 0 ? dice.roll(29) : dice.roll(2) }, () =>
      dice.of([
        [1, dice.of(BUFFERS)],
        [1, dice.roll(600)],
        [3, FIRST_PIPE + dice.roll(6)],
        [dice.roll(6), dice.roll(20)],
      ] as const),
    );
  const send = (bytes: Uint8Array, fds: readonly number[]) => {
    try {
      if (socket !== undefined) FakeCompositor.send(socket, bytes, fds);
    } catch {
      // The context has left.
    }
    for (const fd of fds) closeSync(fd);
  };
  const someFds = (count: number) =>
    Array.from({ length: count }, () => {
      if (dice.roll(2) === 0) return createMemfd('fuzz', dice.roll(20_000));
      const [forReading, forWriting] = createPipe();
      pipes.push(forReading);
      return forWriting;
    });
  const readSome = () => {
    if (socket === undefined) return;
    for (const fd of read(socket)) {
      if (dice.roll(3) === 0) pipes.push(fd);
      else closeSync(fd);
    }
  };
  const sayWell = () => say(session.request());
  const answerWell = () => {
    const said = session.event();
    if (said) send(said.bytes, someFds(said.fdCount));
  };
  const listen = () => guest.context.fence(1, () => void decodeMessage(guest.ring.bytes));
  /** These go on living, mostly. */
  const acts: readonly (() => void)[] = [
    ...Array.from({ length: 12 }, () => sayWell),
    ...Array.from({ length: 6 }, () => answerWell),
    ...[listen, listen, readSome, readSome],
    () => {
      // Several requests as one, and then one in two pieces.
      const [one, other] = [session.request(), session.request()];
      if (!one || !other || one.identifiers.length + other.identifiers.length > 0) {
        say(one);
        say(other);
        return;
      }
      const bytes = Buffer.concat([one.bytes, other.bytes]);
      const at = dice.roll(bytes.length);
      submit(sendCommand(bytes.subarray(0, at)));
      submit(sendCommand(bytes.subarray(at)));
    },
    () => submit(writeCommand(dice.roll(12), new Uint8Array(dice.roll(3000)), dice.roll(2))),
    () => submit(command(2, words(dice.roll(5000), dice.roll(3000), 0x3432_5258, 0x11))),
    () => submit(command(dice.roll(16), words(...Array.from({ length: dice.roll(9) }, () => dice.roll(20))))),
    () => guest.context.fence(0, () => {}),
    () => {
      try {
        guest.context.createBlob(BigInt(dice.roll(20)), dice.roll(20_000)).close();
      } catch (error) {
        if (!(error instanceof GpuFault)) throw error;
      }
    },
    () => guest.context.attach(fakeBuffer(dice.of(BUFFERS), new Uint8Array(BUFFER_BYTES))),
    () => {
      const fd = pipes.pop();
      if (fd === undefined) return;
      try {
        readSync(fd, Buffer.alloc(1));
      } catch {
        // Not for reading, or nothing there.
      }
      closeSync(fd);
    },
  ];
  /** These end a connection, nearly always. */
  const crimes: readonly (() => void)[] = [
    () => submit(sendCommand(nonsense(dice), identifiers())),
    () => submit(sendCommand(nonsense(dice))),
    () =>
      submit(
        sendCommand(request('wl_registry.bind', REGISTRY, FORBIDDEN_NAME, ...FORBIDDEN, 900 + dice.roll(9))),
      ),
    () => {
      // A good command with a few wrong bytes.
      const said = session.request();
      if (!said) return;
      const bytes = sendCommand(said.bytes, said.identifiers);
      for (let i = dice.roll(4); i >= 0; i--) bytes[dice.roll(bytes.length)] = dice.roll(256);
      submit(bytes.subarray(0, dice.roll(3) === 0 ? dice.roll(bytes.length) : bytes.length));
    },
    () => guest.context.detach(dice.of([...BUFFERS, CHANNEL, 99])),
    () => send(nonsense(dice), someFds(dice.roll(2))),
    () => {
      if (socket === undefined) return;
      compositor.hangUp(socket);
      socket = undefined;
    },
  ];
  let [steps, after] = [0, 0];
  while (steps < LIFE && after < AFTERLIFE) {
    dice.of(dice.roll(150) === 0 ? crimes : acts)();
    if ((steps + after) % 20 === 0) await turn();
    if (hasEnded() || socket === undefined) after++;
    else steps++;
  }
  if (socket !== undefined) for (const fd of read(socket)) closeSync(fd);
  for (const fd of pipes) closeSync(fd);
  const { guestMessages = 0, hostMessages = 0 } = guest.context.counters;
  return { steps, guestMessages, hostMessages };
}

test(`${total} steps of guests and compositors that do anything leave nothing behind`, async () => {
  const before = { fds: openFds(), registry: registrySize() };
  let [done, guestMessages, hostMessages] = [0, 0, 0];
  for (let seed = 7919; done < total; seed += 7919) {
    try {
      const life = await live(seed);
      done += life.steps;
      guestMessages += life.guestMessages;
      hostMessages += life.hostMessages;
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
  expect({ fds: openFds(), registry: registrySize() }).toEqual(before);
  // They got somewhere.
  expect(guestMessages).toBeGreaterThan(total / 4);
  expect(hostMessages).toBeGreaterThan(total / 16);
}, 36_000_000);
