/** Keysyms of X11, which RFB viewers send: which key of a layout gives them. */
import { KEY_CODES } from './keys.ts';
import { type LayoutName, layoutOf, type Stroke } from './layouts.ts';

/** Keys that are no characters: keysyms, and names of `keys.ts`, from a first one on; `-` where there is none. */
const FUNCTION_KEYS: readonly [number, string][] = [
  [0xff08, 'backspace tab linefeed - - enter'],
  [0xff13, 'pause scrolllock sysrq'],
  [0xff1b, 'esc'],
  [0xff20, 'compose - muhenkan henkan - hiragana katakana katakanahiragana - - zenkakuhankaku'],
  [0xff31, 'hangeul - - hanja'],
  [0xff50, 'home left up right down pageup pagedown end'],
  [0xff60, '- sysrq - insert - undo again compose find stop help pause'],
  [0xff7f, 'numlock'],
  [0xff8d, 'kpenter'],
  [0xff95, 'kp7 kp4 kp8 kp6 kp2 kp9 kp3 kp1 kp5 kp0 kpdot'],
  [0xffaa, 'kpasterisk kpplus kpcomma kpminus kpdot kpslash kp0 kp1 kp2 kp3 kp4 kp5 kp6 kp7 kp8 kp9'],
  [0xffbd, 'kpequal f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 f11 f12 f13 f14 f15 f16 f17 f18 f19 f20 f21 f22 f23 f24'],
  [0xffe1, 'leftshift rightshift leftctrl rightctrl capslock capslock'],
  [0xffe7, 'leftalt rightalt leftalt rightalt leftmeta rightmeta'],
  [0xffff, 'delete'],
  // ISO_Level3_Shift, and Shift with Tab.
  [0xfe03, 'rightalt'],
  [0xfe20, 'tab'],
  // Those of XFree86: brightness, sound, programs.
  [0x1008ff02, 'brightnessup brightnessdown'],
  [0x1008ff11, 'volumedown mute volumeup playpause stopcd previoussong nextsong homepage mail - search'],
  [0x1008ff1d, 'calc'],
  [0x1008ff26, 'back forward stop refresh power wakeup - screenlock www sleep bookmarks playpause media'],
  [0x1008ffb2, 'micmute'],
];

/** Combining characters of the keysyms of dead keys. */
const DEAD_KEYSYMS: ReadonlyMap<number, string> = new Map([
  [0xfe50, '\u0300'],
  [0xfe51, '\u0301'],
  [0xfe52, '\u0302'],
  [0xfe53, '\u0303'],
  [0xfe54, '\u0304'],
  [0xfe55, '\u0306'],
  [0xfe56, '\u0307'],
  [0xfe57, '\u0308'],
  [0xfe58, '\u030a'],
  [0xfe59, '\u030b'],
  [0xfe5a, '\u030c'],
  [0xfe5b, '\u0327'],
  [0xfe5c, '\u0328'],
  [0xfe60, '\u0323'],
  [0xfe61, '\u0309'],
  [0xfe62, '\u031b'],
  [0xfe63, '\u0338'],
  [0xfe6e, '\u0326'],
]);

/** Characters of the keysyms that are older than Unicode, from 0xNNa0 on; `∅` where there is none. */
const LEGACY: ReadonlyMap<number, string> = new Map([
  [0x1, '∅Ą˘Ł∅ĽŚ∅∅ŠŞŤŹ∅ŽŻ∅ą˛ł∅ľśˇ∅šşťź˝žżŔ∅∅Ă∅ĹĆ∅Č∅Ę∅Ě∅∅ĎĐŃŇ∅∅Ő∅∅ŘŮ∅Ű∅∅Ţ∅ŕ∅∅ă∅ĺć∅č∅ę∅ě∅∅ďđńň∅∅ő∅∅řů∅ű∅∅ţ˙'],
  [0x2, '∅Ħ∅∅∅∅Ĥ∅∅İ∅ĞĴ∅∅∅∅ħ∅∅∅∅ĥ∅∅ı∅ğĵ∅∅∅∅∅∅∅∅ĊĈ∅∅∅∅∅∅∅∅∅∅∅∅∅∅Ġ∅∅Ĝ∅∅∅∅ŬŜ∅∅∅∅∅∅ċĉ∅∅∅∅∅∅∅∅∅∅∅∅∅∅ġ∅∅ĝ∅∅∅∅ŭŝ'],
  [0x3, '∅∅ĸŖ∅ĨĻ∅∅∅ĒĢŦ∅∅∅∅∅∅ŗ∅ĩļ∅∅∅ēģŧŊ∅ŋĀ∅∅∅∅∅∅Į∅∅∅∅Ė∅∅Ī∅ŅŌĶ∅∅∅∅∅Ų∅∅∅ŨŪ∅ā∅∅∅∅∅∅į∅∅∅∅ė∅∅ī∅ņōķ∅∅∅∅∅ų∅∅∅ũū'],
  [0x6, '∅ђѓёєѕіїјљњћќґўџ№ЂЃЁЄЅІЇЈЉЊЋЌҐЎЏюабцдефгхийклмнопярстужвьызшэщчъЮАБЦДЕФГХИЙКЛМНОПЯРСТУЖВЬЫЗШЭЩЧЪ'],
  [0x7, '∅ΆΈΉΊΪ∅ΌΎΫ∅Ώ∅∅΅―∅άέήίϊΐόύϋΰώ∅∅∅∅∅ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣ∅ΤΥΦΧΨΩ∅∅∅∅∅∅∅αβγδεζηθικλμνξοπρσςτυφχψω'],
  [0x8, '∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅≤≠≥∅∅∅∞∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∧∨∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅←↑→↓'],
  [0xa, '∅∅∅∅∅∅∅∅∅—–∅∅∅…∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅⅛⅜⅝⅞∅∅™∅∅∅∅∅∅‘’“”∅‰′″∅∅∅∅∅∅∅∅∅∅∅∅∅∅•∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅‚„'],
  [0x13, '∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅∅ŒœŸ'],
  [0x20, '∅∅∅∅∅∅∅∅∅∅∅∅€'],
]);

const FUNCTION_CODES: ReadonlyMap<number, number> = new Map(
  FUNCTION_KEYS.flatMap(([first, names]) =>
    names.split(' ').flatMap((name, index): [number, number][] => {
      const code = KEY_CODES.get(name);
      return code === undefined ? [] : [[first + index, code]];
    }),
  ),
);

/** The character that a keysym stands for; undefined for those that stand for none. */
export function characterOfKeysym(keysym: number): string | undefined {
  const isLatin1 = (keysym >= 0x20 && keysym <= 0x7e) || (keysym >= 0xa0 && keysym <= 0xff);
  if (isLatin1) return String.fromCharCode(keysym);
  const codePoint = keysym - 0x0100_0000;
  if (codePoint >= 0x100 && codePoint <= 0x10_ffff) return String.fromCodePoint(codePoint);
  const character = LEGACY.get(keysym >> 8)?.charAt((keysym & 0xff) - 0xa0);
  return character === '∅' ? undefined : character || undefined;
}

/**
 * The key that gives this keysym, and what has to be held with it; undefined where no single key does: a character
 * may still be typed with dead keys (`strokesFor`).
 */
export function strokeForKeysym(keysym: number, layout: LayoutName): Stroke | undefined {
  const code = FUNCTION_CODES.get(keysym);
  if (code !== undefined) return { code, modifiers: [] };
  const { strokes, deadKeys } = layoutOf(layout);
  const character = characterOfKeysym(keysym);
  if (character !== undefined) return strokes.get(character);
  return deadKeys.get(DEAD_KEYSYMS.get(keysym) ?? '');
}
