/**
 * What programs do with keyboard and pointer. A request becomes a list of steps before anything is done; then it is
 * played, one request after the other, at a pace that guests can follow. Whatever happens, nothing stays pressed.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOfName } from '../input/keys.ts';
import { type LayoutName, layoutOf, strokesFor, UntypableError } from '../input/layouts.ts';
import type { DisplaySize, Place, PointerReport, Seat, SeatClient } from '../input/seat.ts';
import { MAX_INPUT_REQUESTS } from './limits.ts';
import { Places, Problem } from './problem.ts';

/** Where keys and pointers go. */
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

type Step =
  | { readonly type: 'key'; readonly code: number; readonly down: boolean }
  | { readonly type: 'pointer'; readonly report: PointerReport }
  | { readonly type: 'pause'; readonly ms: number };

/** A guest that takes nothing for so long is not waited for. */
const PATIENCE_MS = 5000;
/** libinput takes a button that comes back within 25 ms for a bouncing one. */
const BUTTON_MS = 40;
/** Between reports of a pointer that moves. */
const MOVE_INTERVAL_MS = 16;
const NOTCH = 120;
const NOTCH_INTERVAL_MS = 10;

const press = (codes: readonly number[]) => codes.map((code): Step => ({ type: 'key', code, down: true }));
const release = (codes: readonly number[]) =>
  codes.toReversed().map((code): Step => ({ type: 'key', code, down: false }));
const pause = (ms: number): Step => ({ type: 'pause', ms });

export class InputCalls {
  readonly #input: ApiInput;
  readonly #places = new Places('requests for input', MAX_INPUT_REQUESTS);
  /** Settles when the requests so far are done. */
  #last: Promise<unknown> = Promise.resolve();

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
      steps.flatMap((step): Step[] => {
        if (typeof step === 'string') {
          const codes = chordOf(step, layout);
          return [...press(codes), ...release(codes), pause(delayMs)];
        }
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
      const steps = strokesFor(text, layout).flatMap(({ code, modifiers }) => {
        const codes = [...modifiers, code];
        return [...press(codes), ...release(codes), pause(delayMs)];
      });
      return this.#play(steps, signal);
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
    const keys = [...new Set(action.modifiers.flatMap((name) => chordOf(name, this.#input.layout)))];
    return this.#play([...press(keys), ...pointerSteps(action, size), ...release(keys)], signal);
  }

  async #play(steps: readonly Step[], signal: AbortSignal): Promise<void> {
    this.#requireDevices(steps);
    const leave = this.#places.take();
    const played = this.#last.then(() => this.#playNow(steps, signal));
    this.#last = played.catch(() => {});
    try {
      await played;
    } finally {
      leave();
    }
  }

  async #playNow(steps: readonly Step[], signal: AbortSignal): Promise<void> {
    const client = this.#input.seat.open('control API');
    try {
      for (const step of steps) {
        signal.throwIfAborted();
        await this.#do(client, step, signal);
      }
    } finally {
      client.close();
    }
    await deliver(client);
  }

  async #do(client: SeatClient, step: Step, signal: AbortSignal): Promise<void> {
    switch (step.type) {
      case 'key':
        this.#requireDevices([step]);
        client.key(step.code, step.down);
        return await deliver(client);
      case 'pointer':
        this.#requireDevices([step]);
        client.pointer(step.report);
        return await deliver(client);
      case 'pause':
        return step.ms > 0 ? await sleep(step.ms, undefined, { signal }) : undefined;
      default:
        step satisfies never;
    }
  }

  /** @throws Problem when there is no device for a step, or nobody in the guest who listens to it */
  #requireDevices(steps: readonly Step[]): void {
    const { seat } = this.#input;
    const needs = (type: Step['type']) => steps.some((step) => step.type === type);
    if (needs('key')) requireDevice('keyboard', seat.hasKeyboard, seat.isKeyboardHeard);
    if (needs('pointer')) requireDevice('tablet', seat.hasPointer, seat.isPointerHeard);
  }
}

function requireDevice(kind: 'keyboard' | 'tablet', isThere: boolean, isHeard: boolean): void {
  if (!isThere) {
    const how = `start the server with --${kind}-socket-path`;
    throw new Problem(409, `no_${kind}`, `there is no ${kind}: ${how}`);
  }
  if (!isHeard) throw new Problem(503, 'no_driver', `no driver in the guest listens to the ${kind}`);
}

async function deliver(client: SeatClient): Promise<void> {
  if (await client.delivered(PATIENCE_MS)) return;
  throw new Problem(503, 'not_taken', 'the guest does not take what is typed or pointed at');
}

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
      const points = along(action.path, Math.ceil(action.durationMs / MOVE_INTERVAL_MS));
      const stepMs = action.durationMs / points.length;
      return [
        ...[at(first), pause(MOVE_INTERVAL_MS), at(first, { buttons }), pause(BUTTON_MS)],
        ...points.flatMap((point) => [at(point, { buttons }), pause(stepMs)]),
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

/** Points on the way behind the first one: all corners, and about `count` in even steps. */
function along(path: readonly Point[], count: number): Point[] {
  const distance = (a: Point, b: Point) => Math.hypot(b.x - a.x, b.y - a.y);
  const corners = path.slice(1);
  const before = (index: number) => path[index] as Point;
  const length = corners.reduce((sum, corner, index) => sum + distance(before(index), corner), 0);
  return corners.flatMap((to, index) => {
    const from = before(index);
    const steps = Math.max(1, Math.round((count * distance(from, to)) / Math.max(1, length)));
    return Array.from({ length: steps }, (_, i) => {
      const part = (i + 1) / steps;
      return { x: from.x + (to.x - from.x) * part, y: from.y + (to.y - from.y) * part };
    });
  });
}

/** A turn of the wheel in 120ths of a notch, a notch at a time; what is left comes last. */
function notches(count: number): number[] {
  const whole = Math.trunc(count);
  const rest = Math.round((count - whole) * NOTCH);
  const turns = Array.from({ length: Math.abs(whole) }, () => Math.sign(whole) * NOTCH);
  return rest === 0 ? turns : [...turns, rest];
}
