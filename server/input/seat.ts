/**
 * One keyboard and one pointer for everybody who looks: viewers and programs. Several may hold the same key; it is
 * pressed once, and released when the last one lets go. Nobody who leaves leaves anything pressed.
 */
import type { KeyboardDevice, Leds } from './keyboard.ts';
import { KEY_CODES } from './keys.ts';
import { MAX_WHEEL } from './limits.ts';
import { MAX_POSITION } from './protocol.ts';
import { BUTTONS, type TabletDevice } from './tablet.ts';
import type { TouchDevice } from './touch.ts';

/** Of what a display shows, in pixels. */
export interface DisplaySize {
  readonly width: number;
  readonly height: number;
}

export interface SeatOptions {
  readonly keyboard?: KeyboardDevice | undefined;
  readonly tablet?: TabletDevice | undefined;
  readonly touch?: TouchDevice | undefined;
  /** All displays, in order; guests have them in a row, as GET_DISPLAY_INFO says. */
  readonly displays: () => readonly DisplaySize[];
}

/** The devices of a seat. */
export type SeatDevice = 'keyboard' | 'tablet' | 'touch';

/** A place on a display, in pixels of its picture; what lies outside is moved to the edge. */
export interface Place {
  readonly display: number;
  readonly x: number;
  readonly y: number;
}

export interface PointerReport extends Place {
  /** Bits, from 1 on: left, middle, right, side, extra. */
  readonly buttons: number;
  /** In 120ths of a notch; positive is to the right. */
  readonly wheelX?: number;
  /** In 120ths of a notch; positive is up, away from the user. */
  readonly wheelY?: number;
}

export interface Contact extends Place {
  /** Chosen by the client: the same number is the same finger. */
  readonly id: number;
}

/** What one viewer or program does. */
export interface SeatClient {
  /**
   * Presses or releases a key (`KEY_*`); pressing what this client holds already does nothing, because guests repeat
   * keys themselves. False: it is on its way, but wait for `drained` before the next one.
   */
  key(code: number, down: boolean): boolean;
  /** Where the pointer is, and what is pressed on it. False as for keys. */
  pointer(report: PointerReport): boolean;
  /** All fingers of this client that touch now; those that are not named any more were lifted. False as for keys. */
  touch(contacts: readonly Contact[]): boolean;
  /** Resolves when the guest has caught up, or takes nothing at all. */
  drained(): Promise<void>;
  /**
   * Resolves with true when the guest has taken all that was reported to these devices until now; false: it has not
   * within `timeoutMs`, or has lost some. A device without a driver is not waited for.
   */
  delivered(devices: readonly SeatDevice[], timeoutMs: number): Promise<boolean>;
  /** Resolves with true when the guest is seen to take events of all of these devices; false: not within `timeoutMs`. */
  answers(devices: readonly SeatDevice[], timeoutMs: number): Promise<boolean>;
  /**
   * Closes, and takes back what these devices could not give to the guest, whoever reported it: a guest that takes
   * nothing loses reports, but what others hold. True when there was anything.
   */
  withdraw(devices: readonly SeatDevice[]): boolean;
  /** Releases all keys, buttons and contacts that only this client holds. What it does afterwards has no effect. */
  close(): void;
}

const KEYS: ReadonlySet<number> = new Set(KEY_CODES.values());

export class Seat {
  readonly #options: SeatOptions;
  readonly #clients = new Map<SeatClient, string>();
  /** How many clients hold a key or button, by code. */
  readonly #holders = new Map<number, number>();

  constructor(options: SeatOptions) {
    this.#options = options;
  }

  get hasKeyboard(): boolean {
    return this.#options.keyboard !== undefined;
  }

  get hasPointer(): boolean {
    return this.#options.tablet !== undefined;
  }

  get hasTouch(): boolean {
    return this.#options.touch !== undefined;
  }

  /** Whether a driver of the guest listens to the keyboard. */
  get isKeyboardHeard(): boolean {
    return this.#options.keyboard?.hasDriver === true;
  }

  /** Whether a driver of the guest listens to the tablet. */
  get isPointerHeard(): boolean {
    return this.#options.tablet?.hasDriver === true;
  }

  /** Whether a driver of the guest listens to the touch screen. */
  get isTouchHeard(): boolean {
    return this.#options.touch?.hasDriver === true;
  }

  /** As the guest has set them; undefined while no driver has set any. */
  get leds(): Leds | undefined {
    return this.#options.keyboard?.leds;
  }

  /** Calls `listener` after a change of the LEDs, until the function returned is called. */
  onLeds(listener: () => void): () => void {
    return this.#options.keyboard?.onLeds(listener) ?? (() => {});
  }

  /** The names of all clients. */
  get clients(): readonly string[] {
    return [...this.#clients.values()];
  }

  /** A client of its own for each viewer or program; `name` is for people. */
  open(name: string): SeatClient {
    const { keyboard, tablet, touch } = this.#options;
    const held = new Set<number>();
    const contacts = new Map<number, number>();

    /** Whether this changes the key or button for the guest. */
    const hold = (code: number, down: boolean): boolean => {
      if (held.has(code) === down) return false;
      if (down) held.add(code);
      else held.delete(code);
      const holders = (this.#holders.get(code) ?? 0) + (down ? 1 : -1);
      this.#holders.set(code, holders);
      return holders === (down ? 1 : 0);
    };
    const holdButtons = (buttons: number) =>
      new Map(
        BUTTONS.map((code, bit) => [code, ((buttons >> bit) & 1) === 1] as const).filter(([code, down]) =>
          hold(code, down),
        ),
      );
    const client: SeatClient = {
      key: (code, down) => {
        if (!keyboard || !isOpen() || !KEYS.has(code)) return true;
        return hold(code, down) ? keyboard.key(code, down) : true;
      },
      pointer: (report) => {
        if (!tablet || !isOpen()) return true;
        return tablet.pointer({
          ...this.#scale(report),
          buttons: holdButtons(report.buttons),
          wheelX: wheel(report.wheelX),
          wheelY: wheel(report.wheelY),
        });
      },
      touch: (now) => {
        if (!touch || !isOpen()) return true;
        const ids = new Set(now.map(({ id }) => id));
        for (const [id, slot] of contacts) {
          if (ids.has(id)) continue;
          contacts.delete(id);
          touch.end(slot);
        }
        for (const contact of now) {
          const slot = contacts.get(contact.id) ?? touch.begin();
          if (slot === undefined) continue;
          contacts.set(contact.id, slot);
          const { x, y } = this.#scale(contact);
          touch.move(slot, x, y);
        }
        return touch.touch();
      },
      drained: async () => {
        await Promise.all([keyboard?.drained(), tablet?.drained(), touch?.drained()]);
      },
      delivered: async (devices, timeoutMs) => {
        const heard = devices.map((name) => this.#options[name]).filter((device) => device?.hasDriver);
        const taken = await Promise.all(heard.map((device) => device?.delivered(timeoutMs)));
        return taken.every((isTaken) => isTaken);
      },
      answers: async (devices, timeoutMs) => {
        const answered = await Promise.all(
          devices.map((name) => this.#options[name]?.answers(timeoutMs) ?? false),
        );
        return answered.every((isAnswered) => isAnswered);
      },
      withdraw: (names) => {
        const devices = names.map((name) => this.#options[name]);
        const withdrawn = devices.map((device) => device?.withdraw() === true);
        client.close();
        for (const device of devices) device?.catchUp();
        return withdrawn.includes(true);
      },
      close: () => {
        if (!isOpen()) return;
        const buttons = holdButtons(0);
        if (buttons.size > 0) tablet?.press(buttons);
        for (const code of [...held]) client.key(code, false);
        if (contacts.size > 0) client.touch([]);
        this.#clients.delete(client);
      },
    };
    const isOpen = () => this.#clients.has(client);
    this.#clients.set(client, name);
    return client;
  }

  /** The middle of a pixel, as a position over all displays. */
  #scale({ display, x, y }: Place): { x: number; y: number } {
    const displays = this.#options.displays();
    const left = displays.slice(0, display).reduce((sum, { width }) => sum + width, 0);
    const { width = 1, height = 1 } = displays[display] ?? {};
    const all = displays.reduce((sum, one) => sum + one.width, 0);
    const tallest = Math.max(1, ...displays.map((one) => one.height));
    return {
      x: position(left + within(x, width), all),
      y: position(within(y, height), tallest),
    };
  }
}

const clamp = (value: number, least: number, most: number) => Math.min(Math.max(value, least), most);

/** A whole pixel from 0 to `size`, whatever was said. */
const within = (pixel: number, size: number) => clamp(Math.floor(pixel) || 0, 0, size - 1);

const position = (pixel: number, size: number) =>
  clamp(Math.floor(((pixel + 0.5) * (MAX_POSITION + 1)) / Math.max(1, size)), 0, MAX_POSITION);

const wheel = (by = 0) => clamp(Math.round(by) || 0, -MAX_WHEEL, MAX_WHEEL);
