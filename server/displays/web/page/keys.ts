/** Keys by name, text as keys, and modifiers that stay down until another key was pressed. */

/** A key: what it types (X11's keysym), and which one it is (KeyboardEvent.code). */
export interface Key {
  readonly keysym: number;
  readonly code: string;
}

/** What presses keys: noVNC's RFB. */
export interface KeySink {
  sendKey(keysym: number, code: string | null, down?: boolean): void;
}

const XK_F1 = 0xffbe;

export const KEYS: Readonly<Record<string, Key>> = {
  Backspace: { keysym: 0xff08, code: 'Backspace' },
  Tab: { keysym: 0xff09, code: 'Tab' },
  Enter: { keysym: 0xff0d, code: 'Enter' },
  Escape: { keysym: 0xff1b, code: 'Escape' },
  Home: { keysym: 0xff50, code: 'Home' },
  ArrowLeft: { keysym: 0xff51, code: 'ArrowLeft' },
  ArrowUp: { keysym: 0xff52, code: 'ArrowUp' },
  ArrowRight: { keysym: 0xff53, code: 'ArrowRight' },
  ArrowDown: { keysym: 0xff54, code: 'ArrowDown' },
  PageUp: { keysym: 0xff55, code: 'PageUp' },
  PageDown: { keysym: 0xff56, code: 'PageDown' },
  End: { keysym: 0xff57, code: 'End' },
  Delete: { keysym: 0xffff, code: 'Delete' },
  Shift: { keysym: 0xffe1, code: 'ShiftLeft' },
  Control: { keysym: 0xffe3, code: 'ControlLeft' },
  Alt: { keysym: 0xffe9, code: 'AltLeft' },
  Super: { keysym: 0xffeb, code: 'MetaLeft' },
  ...Object.fromEntries(
    Array.from({ length: 12 }, (_, i) => [`F${i + 1}`, { keysym: XK_F1 + i, code: `F${i + 1}` }]),
  ),
};

const MODIFIERS: readonly string[] = ['Shift', 'Control', 'Alt', 'Meta', 'AltGraph', 'CapsLock'];

/** Whether a `KeyboardEvent.key` types nothing by itself. */
export const isModifier = (key: string) => MODIFIERS.includes(key);

/** Presses keys one after another and lets go of them in turn: `Control+Alt+Delete`. */
export function pressCombination(sink: KeySink, combination: string): void {
  const keys = combination.split('+').flatMap((name) => KEYS[name] ?? []);
  for (const { keysym, code } of keys) sink.sendKey(keysym, code, true);
  for (const { keysym, code } of keys.toReversed()) sink.sendKey(keysym, code, false);
}

/** The keysym that types a character (X11 protocol, appendix A: Latin-1 as it is, the rest by its code point). */
export function keysymOf(character: string): number {
  const codePoint = character.codePointAt(0) as number;
  if (character === '\n' || character === '\r') return 0xff0d;
  if (character === '\t') return 0xff09;
  return codePoint < 0x100 ? codePoint : 0x0100_0000 + codePoint;
}

/** Linux drops what is more than sixteen keys ahead of the program that reads them, and that one may be busy. */
const TYPING_INTERVAL_MS = 20;

/** Types a text, one character after another. Resolves with how many were typed when it is done or `signal` says so. */
export async function typeText(sink: KeySink, text: string, signal: AbortSignal): Promise<number> {
  const characters = [...text.replaceAll('\r\n', '\n')];
  let typed = 0;
  for (const character of characters) {
    if (signal.aborted) break;
    sink.sendKey(keysymOf(character), null);
    typed++;
    await new Promise((resolve) => setTimeout(resolve, TYPING_INTERVAL_MS));
  }
  return typed;
}

/** Modifiers held by buttons until another key has been pressed. */
export class HeldModifiers {
  readonly #held = new Set<string>();
  readonly #onChange: (name: string, isHeld: boolean) => void;

  constructor(onChange: (name: string, isHeld: boolean) => void) {
    this.#onChange = onChange;
  }

  toggle(sink: KeySink, name: string): void {
    const key = KEYS[name];
    if (!key) return;
    const isHeld = !this.#held.has(name);
    if (isHeld) this.#held.add(name);
    else this.#held.delete(name);
    sink.sendKey(key.keysym, key.code, isHeld);
    this.#onChange(name, isHeld);
  }

  release(sink: KeySink): void {
    for (const name of [...this.#held]) this.toggle(sink, name);
  }

  /** The connection has gone, and with it everything that was held. */
  forget(): void {
    for (const name of this.#held) this.#onChange(name, false);
    this.#held.clear();
  }
}
