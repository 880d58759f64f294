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
