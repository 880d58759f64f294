/**
 * Guests and compositors that do anything, in any order. The seed is printed when something is wrong. More of it:
 *
 *     CROSS_DOMAIN_FUZZ=10000000 npx vitest run --config test/vitest.config.ts --project unit test/server/cross-domain/fuzz
 */
import { closeSync, readSync } from 'node:fs';
import { expect, test } from 'vitest';
import { createMemfd, createPipe, registrySize } from '../../../native/index.ts';
import type { SentBlob } from '../../../server/cross-domain/context.ts';
import { WaylandConnection } from '../../../server/cross-domain/wayland/connection.ts';
import { DEFAULT_POLICY } from '../../../server/cross-domain/wayland/policy.ts';
import { GpuFault } from '../../../server/gpu/fault.ts';
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
/** Commands of one context. */
const PER_CONTEXT = 400;

/** Numbers that are the same for the same seed. */
class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 1;
  }

  /** 0 to `sides` - 1. */
  roll(sides: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % sides;
  }

  of<T>(choices: readonly T[]): T {
    return choices[this.roll(choices.length)]!;
  }
}

/** A Wayland message with small numbers in it, which are often ids that exist. */
function message(dice: Dice): Uint8Array {
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
] as const;
/** The compositor announces it, and the policy hides it. */
const FORBIDDEN = ['zwlr_screencopy_manager_v1', 3] as const;
const FORBIDDEN_NAME = GLOBALS.length + 1;

async function live(seed: number, commands: number): Promise<void> {
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
  if (dice.roll(20) > 0) submit(command(1, words(QUERY, CHANNEL, 1)));
  let socket = compositor.accept();
  const ids = [500, 501, 502];
  for (const id of ids) guest.context.attach(fakeBuffer(id, new Uint8Array(4096)));
  // What a program begins with, so that there is something to go wrong.
  submit(sendCommand(request('wl_display.get_registry', 1, 2)));
  if (socket !== undefined) {
    const globals = [...GLOBALS, FORBIDDEN].map(([name, version], i) =>
      event('wl_registry.global', 2, i + 1, name, version),
    );
    FakeCompositor.send(socket, Buffer.concat(globals));
    await new Promise((resolve) => setTimeout(resolve, 1));
    for (const [i, [name, version]] of GLOBALS.entries())
      submit(sendCommand(request('wl_registry.bind', 2, i + 1, name, version, 3 + i)));
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
        [1, dice.of(ids)],
        [1, dice.roll(600)],
        [3, 0x8000_0001 + dice.roll(6)],
        [dice.roll(6), dice.roll(20)],
      ] as const),
    );
  const acts: readonly (() => void)[] = [
    () => submit(sendCommand(message(dice), identifiers())),
    () => submit(sendCommand(message(dice))),
    () => submit(sendCommand(request('wl_registry.bind', 2, FORBIDDEN_NAME, ...FORBIDDEN, 3 + dice.roll(9)))),
    () => submit(sendCommand(Buffer.concat([message(dice), message(dice)]))),
    () => submit(writeCommand(dice.roll(12), new Uint8Array(dice.roll(3000)), dice.roll(2))),
    () => submit(command(2, words(dice.roll(5000), dice.roll(3000), 0x3432_5258, 0x11))),
    () => submit(command(dice.roll(16), words(...Array.from({ length: dice.roll(9) }, () => dice.roll(20))))),
    () => {
      // A good command with a few wrong bytes.
      const bytes = sendCommand(message(dice), identifiers());
      for (let i = dice.roll(4); i >= 0; i--) bytes[dice.roll(bytes.length)] = dice.roll(256);
      submit(bytes.subarray(0, dice.roll(3) === 0 ? dice.roll(bytes.length) : bytes.length));
    },
    () => guest.context.fence(0, () => {}),
    () => guest.context.fence(1, () => void decodeMessage(guest.ring.bytes)),
    () => {
      try {
        guest.context.createBlob(BigInt(dice.roll(20)), dice.roll(20_000)).close();
      } catch (error) {
        if (!(error instanceof GpuFault)) throw error;
      }
    },
    () => guest.context.detach(dice.of([...ids, 99])),
    () => guest.context.attach(fakeBuffer(dice.of(ids), new Uint8Array(4096))),
    () => {
      if (socket === undefined) return;
      const fds = dice.of([
        () => [],
        () => [createMemfd('fuzz', dice.roll(20_000))],
        () => [...createPipe()],
      ])() as number[];
      try {
        FakeCompositor.send(socket, message(dice), fds);
      } catch {
        // The context has left.
      }
      for (const fd of fds) closeSync(fd);
    },
    () => {
      if (socket === undefined) return;
      for (const fd of read(socket)) {
        if (dice.roll(3) === 0) pipes.push(fd);
        else closeSync(fd);
      }
    },
    () => {
      const fd = pipes.pop();
      if (fd === undefined) return;
      try {
        readSync(fd, Buffer.alloc(1));
      } catch {
        // Not for reading.
      }
      closeSync(fd);
    },
    () => {
      if (socket === undefined || dice.roll(60) > 0) return;
      compositor.hangUp(socket);
      socket = undefined;
    },
  ];
  for (let i = 0; i < commands; i++) {
    dice.of(acts)();
    if (i % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  if (socket !== undefined) for (const fd of read(socket)) closeSync(fd);
  for (const fd of pipes) closeSync(fd);
}

test(`${total} steps of guests and compositors that do anything leave nothing behind`, async () => {
  const before = { fds: openFds(), registry: registrySize() };
  for (let done = 0, seed = 1; done < total; done += PER_CONTEXT, seed++) {
    try {
      await live(seed * 7919, PER_CONTEXT);
    } catch (error) {
      throw new Error(`seed ${seed * 7919}`, { cause: error });
    }
  }
  expect({ fds: openFds(), registry: registrySize() }).toEqual(before);
}, 36_000_000);
