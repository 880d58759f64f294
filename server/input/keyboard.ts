/** The keyboard: all the keys there are, repeated by the guest itself, with three LEDs. */
import type { Log } from '../log.ts';
import { InputDevice } from './device.ts';
import { KEY_CODES } from './keys.ts';
import {
  EV_KEY,
  EV_LED,
  EV_REP,
  LED_CAPSL,
  LED_NUML,
  LED_SCROLLL,
  REP_DELAY,
  REP_PERIOD,
} from './protocol.ts';
import type { InputEvent } from './state.ts';

export interface Leds {
  readonly numLock: boolean;
  readonly capsLock: boolean;
  readonly scrollLock: boolean;
}

const ALL_OFF: Leds = { numLock: false, capsLock: false, scrollLock: false };
const LED_NAMES = new Map<number, keyof Leds>([
  [LED_NUML, 'numLock'],
  [LED_CAPSL, 'capsLock'],
  [LED_SCROLLL, 'scrollLock'],
]);

const isSame = (a: Leds | undefined, b: Leds | undefined) =>
  a?.numLock === b?.numLock && a?.capsLock === b?.capsLock && a?.scrollLock === b?.scrollLock;

export class KeyboardDevice extends InputDevice {
  #leds: Leds | undefined;
  #heardLeds: Leds | undefined;
  readonly #listeners = new Set<() => void>();

  constructor(log: Log) {
    super(
      {
        name: 'vfio-user-gpu keyboard',
        serial: 'keyboard-0',
        productId: 1,
        events: new Map<number, readonly number[]>([
          [EV_KEY, [...KEY_CODES.values()]],
          [EV_LED, [...LED_NAMES.keys()]],
          [EV_REP, [REP_DELAY, REP_PERIOD]],
        ]),
      },
      log,
    );
  }

  /** As the guest has set them; undefined while no driver has set any. */
  get leds(): Leds | undefined {
    return this.#leds;
  }

  /** Calls `listener` after a change of the LEDs, until the function returned is called. */
  onLeds(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Presses or releases the key `code` (`KEY_*`). False when the sender should wait for `drained`. */
  key(code: number, down: boolean): boolean {
    this.state.key(code, down);
    return this.report();
  }

  override reset(): void {
    super.reset();
    this.#heardLeds = undefined;
    this.statusTaken();
  }

  protected override takeStatus({ type, code, value }: InputEvent): void {
    const name = type === EV_LED ? LED_NAMES.get(code) : undefined;
    if (name) this.#heardLeds = { ...(this.#heardLeds ?? ALL_OFF), [name]: value !== 0 };
  }

  protected override statusTaken(): void {
    if (isSame(this.#leds, this.#heardLeds)) return;
    this.#leds = this.#heardLeds;
    for (const listener of [...this.#listeners]) listener();
  }
}
