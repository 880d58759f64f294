/** Keys by name and by what other protocols call them. Codes are Linux's (`KEY_*`, input-event-codes.h). */

/** Names in the order of their codes, from 1 on; `-` where there is no key. */
const NAMES_FROM_1 = `
  esc 1 2 3 4 5 6 7 8 9 0 minus equal backspace tab q w e r t y u i o p leftbrace rightbrace enter leftctrl
  a s d f g h j k l semicolon apostrophe grave leftshift backslash z x c v b n m comma dot slash rightshift
  kpasterisk leftalt space capslock f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 numlock scrolllock kp7 kp8 kp9 kpminus
  kp4 kp5 kp6 kpplus kp1 kp2 kp3 kp0 kpdot - zenkakuhankaku 102nd f11 f12 ro katakana hiragana henkan
  katakanahiragana muhenkan kpjpcomma kpenter rightctrl kpslash sysrq rightalt linefeed home up pageup left
  right end down pagedown insert delete macro mute volumedown volumeup power kpequal kpplusminus pause scale
  kpcomma hangeul hanja yen leftmeta rightmeta compose stop again props undo front copy open paste find cut
  help menu calc setup sleep wakeup file - - - - - www - screenlock - - mail bookmarks computer back forward -
  - - nextsong playpause previoussong stopcd - - - - config homepage refresh - - - - - kpleftparen
  kprightparen - - f13 f14 f15 f16 f17 f18 f19 f20 f21 f22 f23 f24`;

/** Every key that the keyboard has, by name. */
export const KEY_CODES: ReadonlyMap<string, number> = new Map([
  ...NAMES_FROM_1.trim()
    .split(/\s+/)
    .flatMap((name, index): [string, number][] => (name === '-' ? [] : [[name, index + 1]])),
  ['search', 217],
  ['brightnessdown', 224],
  ['brightnessup', 225],
  ['media', 226],
  ['micmute', 248],
]);

/** Other names that people and programs use. What is printed on a key means the key of a US keyboard. */
const ALIASES: Readonly<Record<string, string>> = {
  escape: 'esc',
  return: 'enter',
  ' ': 'space',
  del: 'delete',
  ins: 'insert',
  pgup: 'pageup',
  pgdn: 'pagedown',
  ctrl: 'leftctrl',
  control: 'leftctrl',
  shift: 'leftshift',
  alt: 'leftalt',
  option: 'leftalt',
  altgr: 'rightalt',
  meta: 'leftmeta',
  super: 'leftmeta',
  win: 'leftmeta',
  cmd: 'leftmeta',
  command: 'leftmeta',
  print: 'sysrq',
  printscreen: 'sysrq',
  break: 'pause',
  contextmenu: 'compose',
  arrowup: 'up',
  arrowdown: 'down',
  arrowleft: 'left',
  arrowright: 'right',
  kpmultiply: 'kpasterisk',
  kpdivide: 'kpslash',
  '-': 'minus',
  '=': 'equal',
  '[': 'leftbrace',
  ']': 'rightbrace',
  ';': 'semicolon',
  "'": 'apostrophe',
  '`': 'grave',
  '\\': 'backslash',
  ',': 'comma',
  '.': 'dot',
  '/': 'slash',
};

/** The code of a key by its name, in any case: `ctrl`, `Enter`, `f5`, `a`, `kp0`; undefined for what is none. */
export function codeOfName(name: string): number | undefined {
  const lower = name.toLowerCase();
  return KEY_CODES.get(Object.hasOwn(ALIASES, lower) ? (ALIASES[lower] as string) : lower);
}

/** Up to this one, codes are the scancodes of a PC keyboard (set 1), which is where they come from. */
const LAST_SAME_SCANCODE = 0x58;
/** Scancodes behind 0xe0 have this bit instead, as RFB's extended key events do it. */
const E0 = 0x80;

/** Other scancodes by name, from `0x59` on, and those behind 0xe0. */
const SCANCODES: readonly (readonly [string, number])[] = [
  ['kpequal', 0x59],
  ['f20', 0x5a],
  ['linefeed', 0x5b],
  ['kpjpcomma', 0x5c],
  ['f13', 0x5d],
  ['f14', 0x5e],
  ['f15', 0x5f],
  ['open', 0x64],
  ['paste', 0x65],
  ['setup', 0x66],
  ['file', 0x67],
  ['f23', 0x6d],
  ['f24', 0x6f],
  ['katakanahiragana', 0x70],
  ['hanja', 0x71],
  ['hangeul', 0x72],
  ['ro', 0x73],
  ['f21', 0x74],
  ['zenkakuhankaku', 0x76],
  ['hiragana', 0x77],
  ['katakana', 0x78],
  ['henkan', 0x79],
  ['muhenkan', 0x7b],
  ['yen', 0x7d],
  ['kpcomma', 0x7e],
  ['config', E0 | 0x01],
  ['www', E0 | 0x02],
  ['f17', E0 | 0x03],
  ['f19', E0 | 0x04],
  ['again', E0 | 0x05],
  ['props', E0 | 0x06],
  ['undo', E0 | 0x07],
  ['scale', E0 | 0x0b],
  ['front', E0 | 0x0c],
  ['previoussong', E0 | 0x10],
  ['screenlock', E0 | 0x12],
  ['nextsong', E0 | 0x19],
  ['kpenter', E0 | 0x1c],
  ['rightctrl', E0 | 0x1d],
  ['menu', E0 | 0x1e],
  ['mute', E0 | 0x20],
  ['calc', E0 | 0x21],
  ['playpause', E0 | 0x22],
  ['stopcd', E0 | 0x24],
  ['volumedown', E0 | 0x2e],
  ['volumeup', E0 | 0x30],
  ['homepage', E0 | 0x32],
  ['kpslash', E0 | 0x35],
  ['sysrq', E0 | 0x37],
  ['rightalt', E0 | 0x38],
  ['cut', E0 | 0x3c],
  ['find', E0 | 0x41],
  ['pause', E0 | 0x46],
  ['home', E0 | 0x47],
  ['up', E0 | 0x48],
  ['pageup', E0 | 0x49],
  ['left', E0 | 0x4b],
  ['right', E0 | 0x4d],
  ['kpplusminus', E0 | 0x4e],
  ['end', E0 | 0x4f],
  ['down', E0 | 0x50],
  ['pagedown', E0 | 0x51],
  ['insert', E0 | 0x52],
  ['delete', E0 | 0x53],
  ['leftmeta', E0 | 0x5b],
  ['rightmeta', E0 | 0x5c],
  ['compose', E0 | 0x5d],
  ['power', E0 | 0x5e],
  ['sleep', E0 | 0x5f],
  ['wakeup', E0 | 0x63],
  ['search', E0 | 0x65],
  ['bookmarks', E0 | 0x66],
  ['refresh', E0 | 0x67],
  ['stop', E0 | 0x68],
  ['forward', E0 | 0x69],
  ['back', E0 | 0x6a],
  ['computer', E0 | 0x6b],
  ['mail', E0 | 0x6c],
  ['media', E0 | 0x6d],
  ['macro', E0 | 0x6f],
  ['help', E0 | 0x75],
  ['f18', E0 | 0x77],
  ['copy', E0 | 0x78],
  ['f22', E0 | 0x79],
  // Alt with Print Screen, and F16, have numbers that are other keys' codes.
  ['sysrq', 0x54],
  ['f16', 0x55],
];

const CODES_BY_SCANCODE: ReadonlyMap<number, number> = new Map([
  ...[...KEY_CODES.values()]
    .filter((code) => code <= LAST_SAME_SCANCODE)
    .map((code) => [code, code] as const),
  ...SCANCODES.map(([name, scancode]) => [scancode, KEY_CODES.get(name) as number] as const),
]);

/** The code of a key by its set 1 scancode, `0x80 | code` for those behind 0xe0; undefined for what is none. */
export const codeOfScancode = (scancode: number): number | undefined => CODES_BY_SCANCODE.get(scancode);
