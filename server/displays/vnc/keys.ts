/**
 * Keys of a viewer to keys of the guest. A viewer that says which key it was (QEMU's extended key event) gets that key,
 * whatever is printed on it. One that only says what was typed gets a key that types this on the guest's layout, with
 * Shift and AltGr as that needs, for as long as the press takes.
 */
import type { Stroke } from '../../input/layouts.ts';
import type { KeyboardLeds } from '../viewing/messages.ts';
import type { KeyboardKnowledge } from '../viewing/stage.ts';

export interface KeyChange {
  readonly code: number;
  readonly down: boolean;
}

interface Held {
  readonly keysym: number;
  readonly code: number;
}

const KEY_LEFTSHIFT = 42;
const KEY_RIGHTSHIFT = 54;
const KEY_RIGHTALT = 100;
/** A viewer that holds more keys is typing with more than hands. */
const MAX_HELD_KEYS = 64;

export class KeyTranslator {
  readonly #knowledge: KeyboardKnowledge;
  readonly #leds: () => KeyboardLeds | undefined;
  /** What is pressed, and what the viewer called it. */
  #held: Held[] = [];

  constructor(knowledge: KeyboardKnowledge, leds: () => KeyboardLeds | undefined) {
    this.#knowledge = knowledge;
    this.#leds = leds;
  }

  /** What happens on the guest's keyboard, in order. Nothing for a key that there is not. */
  translate(down: boolean, keysym: number, scancode: number | undefined): KeyChange[] {
    return down ? this.#press(keysym, scancode) : this.#release(keysym, scancode);
  }

  #press(keysym: number, scancode: number | undefined): KeyChange[] {
    const known = scancode ? this.#knowledge.codeOfScancode(scancode) : undefined;
    const stroke = known === undefined ? this.#knowledge.strokeOfKeysym(keysym) : undefined;
    const code = known ?? stroke?.code;
    // Guests repeat held keys themselves.
    const isHeld = this.#held.some((held) => held.code === code);
    if (code === undefined || isHeld || this.#held.length >= MAX_HELD_KEYS) return [];
    const modifiers = stroke && isPrinted(keysym) ? this.#modifiersFor(stroke, keysym) : [];
    this.#held.push({ keysym, code });
    return [
      ...modifiers,
      { code, down: true },
      ...modifiers.map((change) => ({ code: change.code, down: !change.down })).reverse(),
    ];
  }

  /** A viewer may learn between press and release that it can say which key it is. */
  #release(keysym: number, scancode: number | undefined): KeyChange[] {
    const code = scancode ? this.#knowledge.codeOfScancode(scancode) : undefined;
    const released =
      this.#held.find((held) => held.code === code) ?? this.#held.find((held) => held.keysym === keysym);
    if (!released) return [];
    this.#held = this.#held.filter((held) => held !== released);
    return [{ code: released.code, down: false }];
  }

  /** What has to change for a moment so that this stroke types what it should. */
  #modifiersFor({ modifiers }: Stroke, keysym: number): KeyChange[] {
    const shift = modifiers.includes(KEY_LEFTSHIFT);
    const altGr = modifiers.includes(KEY_RIGHTALT);
    const held = this.#held.map(({ code }) => code);
    const heldShifts = held.filter((code) => code === KEY_LEFTSHIFT || code === KEY_RIGHTSHIFT);
    const isAltGrHeld = held.includes(KEY_RIGHTALT);
    // With Caps Lock the guest turns letters around by itself.
    const needsShift = isLetter(keysym) && this.#leds()?.capsLock ? !shift : shift;
    return [
      ...(needsShift && heldShifts.length === 0 ? [{ code: KEY_LEFTSHIFT, down: true }] : []),
      ...(needsShift ? [] : heldShifts.map((code) => ({ code, down: false }))),
      ...(altGr === isAltGrHeld ? [] : [{ code: KEY_RIGHTALT, down: altGr }]),
    ];
  }
}

/** Latin-1 and Unicode keysyms, and those of other scripts; function keys begin at 0xfe00. */
const isPrinted = (keysym: number) => (keysym >= 0x20 && keysym < 0xfe00) || keysym >= 0x0100_0000;

const isLetter = (keysym: number) => /^\p{L}$/u.test(String.fromCodePoint(keysym & 0xff_ffff));
