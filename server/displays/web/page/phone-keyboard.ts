/**
 * The keyboard of a phone types into a text field that nobody sees. Such keyboards correct and complete words, and say
 * little of keys; so what counts is how the text in the field has changed.
 */
import { KEYS, type KeySink, keysymOf } from './keys.ts';

/** There is something to delete in front of the caret, because a field that is empty does not tell of Backspace. */
const FILLING = '\u00a0'.repeat(64);

export class PhoneKeyboard {
  readonly #field: HTMLTextAreaElement;
  readonly #sink: () => KeySink | undefined;
  readonly #afterKey: () => void;
  #text = FILLING;

  /** `sink` says where keys go now; `afterKey` is called when one has been pressed. */
  constructor(field: HTMLTextAreaElement, sink: () => KeySink | undefined, afterKey: () => void) {
    this.#field = field;
    this.#sink = sink;
    this.#afterKey = afterKey;
    field.addEventListener('input', (event) => this.#changed((event as InputEvent).isComposing));
    field.addEventListener('compositionend', () => this.#changed(false));
    field.addEventListener('keydown', (event) => this.#key(event));
    field.addEventListener('blur', () => this.#reset());
  }

  get isOpen(): boolean {
    return document.activeElement === this.#field;
  }

  open(): void {
    this.#reset();
    this.#field.focus({ preventScroll: true });
  }

  close(): void {
    this.#field.blur();
  }

  #reset(): void {
    this.#field.value = FILLING;
    this.#text = FILLING;
    this.#field.setSelectionRange(FILLING.length, FILLING.length);
  }

  /** Named keys, of those keyboards that have them. Backspace and Enter change the text. */
  #key(event: KeyboardEvent): void {
    const key = KEYS[event.key];
    if (!key || event.key === 'Backspace' || event.key === 'Enter') return;
    event.preventDefault();
    this.#sink()?.sendKey(key.keysym, key.code);
    this.#afterKey();
  }

  #changed(isComposing: boolean): void {
    const before = [...this.#text];
    const now = [...this.#field.value];
    let same = 0;
    while (same < before.length && before[same] === now[same]) same++;
    const sink = this.#sink();
    const { keysym, code } = KEYS.Backspace as (typeof KEYS)[string];
    for (let i = same; i < before.length; i++) sink?.sendKey(keysym, code);
    for (const character of now.slice(same)) sink?.sendKey(keysymOf(character), null);
    this.#text = this.#field.value;
    if (now.length !== before.length) this.#afterKey();
    // A word that is still being written must not be taken away from the keyboard.
    if (!isComposing) this.#reset();
  }
}
