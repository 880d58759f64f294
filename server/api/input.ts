/**
 * What programs do with keyboard, pointer and touch screen. A request becomes a list of steps before anything is done; then it is
 * played, one request after the other, at a pace that guests can follow. Whatever happens, nothing stays pressed.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOfName } from '../input/keys.ts';
import { type LayoutName, layoutOf, strokesFor, UntypableError } from '../input/layouts.ts';
import type {
  Contact,
  DisplaySize,
  Place,
  PointerReport,
  Seat,
  SeatClient,
  SeatDevice,
} from '../input/seat.ts';
import { MAX_INPUT_REQUESTS } from './limits.ts';
import { Places, Problem, type Progress } from './problem.ts';
import { Turns } from './turns.ts';

/** Where keys, pointers and fingers go. */
export interface ApiInput {
  readonly seat: Seat;
  /** What keys type in the guest, when a request does not say. */
  readonly layout: LayoutName;
}

export type KeyStep =
  | string
  | { readonly down: string }
  | { readonly up: string }
  | { readonly waitMs: number };

export const BUTTON_NAMES = ['left', 'middle', 'right', 'side', 'extra'] as const;
export type ButtonName = (typeof BUTTON_NAMES)[number];

export interface TypingOptions {
  /** Of the guest; by default what the server was started with. */
  readonly layout?: LayoutName | undefined;
  /** After each key. */
  readonly delayMs: number;
}

interface Point {
  readonly x: number;
  readonly y: number;
}

export type PointerAction = {
  readonly display: number;
  /** Keys that are held meanwhile, by name. */
  readonly modifiers: readonly string[];
} & (
  | ({ readonly action: 'move' } & Point)
  | ({ readonly action: 'click'; readonly button: ButtonName; readonly count: number } & Point)
  | {
      readonly action: 'drag';
      readonly path: readonly Point[];
      readonly button: ButtonName;
      readonly durationMs: number;
    }
  /** In notches. */
  | ({ readonly action: 'scroll'; readonly down: number; readonly right: number } & Point)
);

export type TouchAction = {
  readonly display: number;
  /** Keys that are held meanwhile, by name. */
  readonly modifiers: readonly string[];
} & (
  | ({ readonly action: 'tap'; readonly count: number; readonly holdMs: number } & Point)
  | { readonly action: 'swipe'; readonly path: readonly Point[]; readonly durationMs: number }
  | {
      readonly action: 'gesture';
      readonly contacts: readonly { readonly path: readonly Point[] }[];
      readonly durationMs: number;
    }
);

type Step =
  | { readonly type: 'key'; readonly code: number; readonly down: boolean }
  | { readonly type: 'pointer'; readonly report: PointerReport }
  | { readonly type: 'touch'; readonly contacts: readonly Contact[] }
  | { readonly type: 'pause'; readonly ms: number };

const DEVICE_OF = { key: 'keyboard', pointer: 'tablet', touch: 'touch' } as const;

/** A guest that takes nothing for so long is not waited for. */
const PATIENCE_MS = 5000;
/** libinput takes a button that comes back within 25 ms for a bouncing one. */
const BUTTON_MS = 40;
/** Between reports of a pointer or fingers that move. */
const MOVE_INTERVAL_MS = 16;
const NOTCH = 120;
const NOTCH_INTERVAL_MS = 10;

const press = (codes: readonly number[]) => codes.map((code): Step => ({ type: 'key', code, down: true }));
const release = (codes: readonly number[]) =>
  codes.toReversed().map((code): Step => ({ type: 'key', code, down: false }));
const pause = (ms: number): Step => ({ type: 'pause', ms });
/** Modifiers are keys too for the guest's queue. */
const strike = (codes: readonly number[], delayMs: number) => [
  ...press(codes),
  ...release(codes),
  pause(delayMs * codes.length),
];

export class InputCalls {
  readonly #input: ApiInput;
  readonly #places = new Places('requests for input', MAX_INPUT_REQUESTS);
  readonly #turns = new Turns();

  constructor(input: ApiInput) {
    this.#input = input;
  }

  /**
   * Presses chords and keys. Resolves when the guest has taken all of them.
   *
   * @throws Problem for a key that is not there, or a guest that takes nothing
   */
  keys(
    steps: readonly KeyStep[],
    { layout = this.#input.layout, delayMs }: TypingOptions,
    signal: AbortSignal,
  ): Promise<void> {
    return this.#play(
      steps.map((step): Step[] => {
        if (typeof step === 'string') return strike(chordOf(step, layout), delayMs);
        if ('waitMs' in step) return [pause(step.waitMs)];
        if ('down' in step) return [...press(chordOf(step.down, layout)), pause(delayMs)];
        return [...release(chordOf(step.up, layout)), pause(delayMs)];
      }),
      signal,
    );
  }

  /**
   * Types a text. Resolves when the guest has taken all of it.
   *
   * @throws Problem for a character that the layout cannot type (nothing is typed), or a guest that takes nothing
   */
  text(
    text: string,
    { layout = this.#input.layout, delayMs }: TypingOptions,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      const parts = strokesFor(text, layout).map(({ code, modifiers }) =>
        strike([...modifiers, code], delayMs),
      );
      return this.#play(parts, signal);
    } catch (error) {
      if (error instanceof UntypableError) throw new Problem(400, 'untypable', error.message);
      throw error;
    }
  }

  /**
   * Moves, clicks, drags or scrolls on a display that is `size` large. Resolves when the guest has taken it.
   *
   * @throws Problem for a place that is not on the display, or a guest that takes nothing
   */
  pointer(action: PointerAction, size: DisplaySize, signal: AbortSignal): Promise<void> {
    return this.#playWith(action.modifiers, pointerSteps(action, size), signal);
  }

  /**
   * Touches a display that is `size` large: taps, swipes, or moves several fingers. Resolves when the guest has taken
   * it.
   *
   * @throws Problem as `pointer` does
   */
  touch(action: TouchAction, size: DisplaySize, signal: AbortSignal): Promise<void> {
    return this.#playWith(action.modifiers, touchSteps(action, size), signal);
  }

  #playWith(modifiers: readonly string[], steps: readonly Step[], signal: AbortSignal): Promise<void> {
    const keys = [...new Set(modifiers.flatMap((name) => chordOf(name, this.#input.layout)))];
    return this.#play([[...press(keys), ...steps, ...release(keys)]], signal);
  }

  /** Plays all parts of a request. */
  async #play(parts: readonly (readonly Step[])[], signal: AbortSignal): Promise<void> {
    this.#requireDevices(parts.flat());
    const leave = this.#places.take();
    try {
      const end = await this.#turns.take(signal);
      await this.#playNow(parts, signal).finally(end);
    } finally {
      leave();
    }
  }

  /**
   * A request that ends early takes back what the guest has not: whoever is told that something was not typed types it
   * again.
   */
  async #playNow(parts: readonly (readonly Step[])[], signal: AbortSignal): Promise<void> {
    const client = this.#input.seat.open('control API');
    const devices = devicesOf(parts.flat());
    let done = 0;
    let left: readonly Step[] = [];
    try {
      signal.throwIfAborted();
      // A guest that stands still has buffers for what is sent first, and would do it when it goes on.
      if (!(await client.answers(devices, PATIENCE_MS))) throw notTaken();
      for (const part of parts) {
        for (const [index, step] of part.entries()) {
          left = part.slice(index);
          signal.throwIfAborted();
          await this.#do(client, step, signal);
        }
        left = [];
        done++;
      }
      client.close();
      await deliver(client, devices);
    } catch (error) {
      const isWithdrawn = client.withdraw(devices);
      if (!(error instanceof Problem) || error.code !== 'not_taken') throw error;
      // Whatever is down now will be up again: the part is done.
      const rest = isWithdrawn ? left : left.slice(1);
      if (left.length > 0 && !rest.some(isEffect)) done++;
      throw notTaken({ done, of: parts.length });
    }
  }

  async #do(client: SeatClient, step: Step, signal: AbortSignal): Promise<void> {
    this.#requireDevices([step]);
    switch (step.type) {
      case 'key':
        client.key(step.code, step.down);
        break;
      case 'pointer':
        client.pointer(step.report);
        break;
      case 'touch':
        client.touch(step.contacts);
        break;
      case 'pause':
        if (step.ms > 0) await sleep(step.ms, undefined, { signal });
        break;
      default:
        step satisfies never;
    }
    await deliver(client, devicesOf([step]));
  }

  /** @throws Problem when there is no device for a step, or nobody in the guest who listens to it */
  #requireDevices(steps: readonly Step[]): void {
    const { seat } = this.#input;
    const needed = devicesOf(steps);
    if (needed.includes('keyboard')) requireDevice('keyboard', seat.hasKeyboard, seat.isKeyboardHeard);
    if (needed.includes('tablet')) requireDevice('tablet', seat.hasPointer, seat.isPointerHeard);
    if (needed.includes('touch')) requireDevice('touch', seat.hasTouch, seat.isTouchHeard);
  }
}

const devicesOf = (steps: readonly Step[]): SeatDevice[] => [
  ...new Set(steps.flatMap(({ type }) => (type === 'pause' ? [] : DEVICE_OF[type]))),
];

function requireDevice(device: SeatDevice, isThere: boolean, isHeard: boolean): void {
  const name = device === 'touch' ? 'touch screen' : device;
  if (!isThere) {
    const how = `start the server with --${device}-socket-path`;
    throw new Problem(409, `no_${device}`, `there is no ${name}: ${how}`);
  }
  if (!isHeard) throw new Problem(503, 'no_driver', `no driver in the guest listens to the ${name}`);
}

async function deliver(client: SeatClient, devices: readonly SeatDevice[]): Promise<void> {
  if (!(await client.delivered(devices, PATIENCE_MS))) throw notTaken();
}

function notTaken(progress: Progress = { done: 0, of: 1 }): Problem {
  const { done, of } = progress;
  const many = of > 1 ? `: it has ${done} of ${of}, and gets no more` : '';
  return new Problem(
    503,
    'not_taken',
    `the guest does not take what is typed or pointed at${many}`,
    progress,
  );
}

/** Whether something more would happen in the guest than that keys and buttons are let go of. */
const isEffect = (step: Step) => step.type !== 'pause' && !(step.type === 'key' && !step.down);

/**
 * The keys of a chord like `ctrl+alt+t`, in order. A single character is the key that types it on the layout, with
 * what has to be held for it; anything else is the name of a key.
 */
function chordOf(chord: string, layout: LayoutName): number[] {
  const names = [...chord.matchAll(/(\+|[^+]+)(?:\+|$)/g)].map(([, name]) => name as string);
  if (names.length === 0 || names.join('+') !== chord) {
    throw new Problem(400, 'bad_request', `"${chord}" is no chord; write for example ctrl+alt+t`);
  }
  const codes = names.flatMap((name) => {
    const stroke = layoutOf(layout).strokes.get(name.toLowerCase());
    if (stroke) return [...stroke.modifiers, stroke.code];
    const code = codeOfName(name);
    if (code === undefined) throw new Problem(400, 'bad_request', `there is no key "${name}"`);
    return [code];
  });
  return [...new Set(codes)];
}

function pointerSteps(action: PointerAction, size: DisplaySize): Step[] {
  const { display } = action;
  const at = ({ x, y }: Point, more: Partial<PointerReport> = {}): Step => ({
    type: 'pointer',
    report: { buttons: 0, ...more, ...placeOn(display, size, x, y) },
  });
  switch (action.action) {
    case 'move':
      return [at(action)];
    case 'click': {
      const buttons = 1 << BUTTON_NAMES.indexOf(action.button);
      const click = [at(action, { buttons }), pause(BUTTON_MS), at(action), pause(BUTTON_MS)];
      return [
        at(action),
        pause(MOVE_INTERVAL_MS),
        ...Array.from({ length: action.count }, () => click).flat(),
      ];
    }
    case 'drag': {
      const buttons = 1 << BUTTON_NAMES.indexOf(action.button);
      const [first, last] = [action.path[0] as Point, action.path.at(-1) as Point];
      const [, ...moments] = along([action.path], action.durationMs);
      return [
        ...[at(first), pause(MOVE_INTERVAL_MS), at(first, { buttons }), pause(BUTTON_MS)],
        ...moments.flatMap(({ waitMs, points: [point = last] }) => [pause(waitMs), at(point, { buttons })]),
        ...[pause(BUTTON_MS), at(last)],
      ];
    }
    case 'scroll': {
      const turns = [
        ...notches(-action.down).map((wheelY) => ({ wheelY })),
        ...notches(action.right).map((wheelX) => ({ wheelX })),
      ];
      return [at(action), ...turns.flatMap((turn) => [pause(NOTCH_INTERVAL_MS), at(action, turn)])];
    }
    default:
      return action satisfies never;
  }
}

function placeOn(display: number, { width, height }: DisplaySize, x: number, y: number): Place {
  if (x < 0 || y < 0 || x >= width || y >= height) {
    throw new Problem(400, 'bad_request', `${x},${y} is not in the picture of ${width}x${height}`);
  }
  return { display, x, y };
}

function touchSteps(action: TouchAction, size: DisplaySize): Step[] {
  const fingers = (paths: readonly (readonly Point[])[], durationMs: number): Step[] => [
    ...along(paths, durationMs).flatMap(({ waitMs, points }): Step[] => [
      pause(waitMs),
      {
        type: 'touch',
        contacts: points.map(({ x, y }, id) => ({ id, ...placeOn(action.display, size, x, y) })),
      },
    ]),
    ...[{ type: 'touch', contacts: [] } as const, pause(BUTTON_MS)],
  ];
  switch (action.action) {
    case 'tap': {
      const tap = fingers([[action]], action.holdMs);
      return Array.from({ length: action.count }, () => tap).flat();
    }
    case 'swipe':
      return fingers([action.path], action.durationMs);
    case 'gesture':
      return fingers(
        action.contacts.map(({ path }) => path),
        action.durationMs,
      );
    default:
      return action satisfies never;
  }
}

/** Where all that move along paths are at the same time, and how long after the moment before. */
interface Moment {
  readonly waitMs: number;
  readonly points: readonly Point[];
}

/** From all beginnings to all ends, evenly along each path: every corner, and moments at the pace of reports. */
function along(paths: readonly (readonly Point[])[], durationMs: number): Moment[] {
  const count = Math.ceil(durationMs / MOVE_INTERVAL_MS);
  const even = Array.from({ length: count }, (_, i) => (i + 1) / count);
  const corners = paths.map(cornersOf);
  const moments = [...new Set([0, ...even, ...corners.flat()])].sort((a, b) => a - b);
  const walks = paths.map((path, index) => walk(path, corners[index] as readonly number[], moments));
  return moments.map((moment, i) => ({
    waitMs: (moment - (moments[i - 1] ?? 0)) * durationMs,
    points: walks.map((points) => points[i] as Point),
  }));
}

/** At which part of the way, from 0 to 1, each point of a path comes. */
function cornersOf(path: readonly Point[]): number[] {
  let length = 0;
  const lengths = path.map(({ x, y }, i) => {
    const before = path[i - 1];
    if (before) length += Math.hypot(x - before.x, y - before.y);
    return length;
  });
  return lengths.map((one, i) => (length > 0 ? one / length : i / Math.max(1, path.length - 1)));
}

/** Where one is on a path at parts of the way, which ascend. */
function walk(path: readonly Point[], corners: readonly number[], moments: readonly number[]): Point[] {
  let next = 0;
  return moments.map((moment) => {
    while (next < path.length - 1 && (corners[next] as number) < moment) next++;
    const to = path[next] as Point;
    const from = path[next - 1];
    if (!from || moment >= (corners[next] as number)) return to;
    const [start, end] = [corners[next - 1] as number, corners[next] as number];
    const part = (moment - start) / (end - start);
    return { x: from.x + (to.x - from.x) * part, y: from.y + (to.y - from.y) * part };
  });
}

/** A turn of the wheel in 120ths of a notch, a notch at a time; what is left comes last. */
function notches(count: number): number[] {
  const whole = Math.trunc(count);
  const rest = Math.round((count - whole) * NOTCH);
  const turns = Array.from({ length: Math.abs(whole) }, () => Math.sign(whole) * NOTCH);
  return rest === 0 ? turns : [...turns, rest];
}
