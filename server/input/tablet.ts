/**
 * The tablet: a pointer with positions instead of movements, five buttons and a wheel both ways. It has what QEMU's
 * has and no INPUT_PROP: udev and libinput know a device with buttons of a mouse and ABS_X, ABS_Y as a mouse that
 * says where it is.
 */
import type { Log } from '../log.ts';
import { InputDevice } from './device.ts';
import {
  ABS_X,
  ABS_Y,
  BTN_EXTRA,
  BTN_LEFT,
  BTN_MIDDLE,
  BTN_RIGHT,
  BTN_SIDE,
  EV_ABS,
  EV_KEY,
  EV_REL,
  MAX_POSITION,
  REL_HWHEEL,
  REL_HWHEEL_HI_RES,
  REL_WHEEL,
  REL_WHEEL_HI_RES,
} from './protocol.ts';
import type { InputEvent } from './state.ts';

/** In the order of the bits of a report. */
export const BUTTONS = [BTN_LEFT, BTN_MIDDLE, BTN_RIGHT, BTN_SIDE, BTN_EXTRA] as const;

/** What a wheel turns by in one notch. */
const NOTCH = 120;

export interface TabletReport {
  /** 0 to `MAX_POSITION`. */
  readonly x: number;
  readonly y: number;
  /** `BTN_*` */
  readonly buttons: ReadonlyMap<number, boolean>;
  /** In 120ths of a notch; positive: to the right, and away from the user. */
  readonly wheelX: number;
  readonly wheelY: number;
}

export class TabletDevice extends InputDevice {
  readonly #horizontal = new Wheel(REL_HWHEEL, REL_HWHEEL_HI_RES);
  readonly #vertical = new Wheel(REL_WHEEL, REL_WHEEL_HI_RES);

  constructor(log: Log) {
    super(
      {
        name: 'vfio-user-gpu tablet',
        serial: 'tablet-0',
        productId: 2,
        events: new Map<number, readonly number[]>([
          [EV_KEY, BUTTONS],
          [EV_REL, [REL_HWHEEL, REL_WHEEL, REL_WHEEL_HI_RES, REL_HWHEEL_HI_RES]],
          [EV_ABS, [ABS_X, ABS_Y]],
        ]),
        axes: new Map([
          [ABS_X, MAX_POSITION],
          [ABS_Y, MAX_POSITION],
        ]),
      },
      log,
    );
  }

  /** False when the sender should wait for `drained`. */
  pointer({ x, y, buttons, wheelX, wheelY }: TabletReport): boolean {
    this.state.axis(ABS_X, x);
    this.state.axis(ABS_Y, y);
    this.#press(buttons);
    return this.report([...this.#vertical.turn(wheelY), ...this.#horizontal.turn(wheelX)]);
  }

  /** Changes buttons where the pointer is. */
  press(buttons: TabletReport['buttons']): boolean {
    this.#press(buttons);
    return this.report();
  }

  #press(buttons: TabletReport['buttons']): void {
    for (const [button, down] of buttons) this.state.key(button, down);
  }
}

/** Parts of notches, and whole ones for programs that know only those. */
class Wheel {
  readonly #notches: number;
  readonly #parts: number;
  #rest = 0;

  constructor(notches: number, parts: number) {
    this.#notches = notches;
    this.#parts = parts;
  }

  turn(by: number): InputEvent[] {
    if (by === 0) return [];
    // Turning back starts a new notch.
    if (Math.sign(by) !== Math.sign(this.#rest)) this.#rest = 0;
    const total = this.#rest + by;
    const notches = Math.trunc(total / NOTCH);
    this.#rest = total - notches * NOTCH;
    const events = [{ type: EV_REL, code: this.#parts, value: by }];
    if (notches !== 0) events.unshift({ type: EV_REL, code: this.#notches, value: notches });
    return events;
  }
}
