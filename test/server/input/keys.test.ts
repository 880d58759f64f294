/** Names and scancodes of keys. */
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { codeOfName, codeOfScancode, KEY_CODES } from '../../../server/input/keys.ts';

const HEADER = '/usr/include/linux/input-event-codes.h';
if (!existsSync(HEADER)) console.warn(`skipped: ${HEADER} is not there (tools/setup installs it)`);

test.skipIf(!existsSync(HEADER))('names are those of Linux', () => {
  const codes = new Map(
    [...readFileSync(HEADER, 'utf8').matchAll(/^#define KEY_(\w+)\s+(0x[0-9a-f]+|\d+|KEY_\w+)/gm)].map(
      ([, name, code]) => [(name as string).toLowerCase(), code as string],
    ),
  );
  const resolve = (name: string): number => {
    const code = codes.get(name) ?? '';
    return code.startsWith('KEY_') ? resolve(code.slice(4).toLowerCase()) : Number(code);
  };
  expect([...KEY_CODES].filter(([name, code]) => resolve(name) !== code)).toEqual([]);
  expect(new Set(KEY_CODES.values()).size).toBe(KEY_CODES.size);
});

describe('a key has the name', () => {
  test.each([
    ['a', 30],
    ['A', 30],
    ['Enter', 28],
    ['return', 28],
    ['ctrl', 29],
    ['AltGr', 100],
    ['super', 125],
    ['f5', 63],
    ['F24', 194],
    ['1', 2],
    ['kp1', 79],
    ['pgdn', 109],
    ['PrintScreen', 99],
    ['contextmenu', 127],
    [' ', 57],
    ['\\', 43],
    ['/', 53],
  ])('%s', (name, code) => {
    expect(codeOfName(name)).toBe(code);
  });

  test.each(['', 'nosuchkey', 'constructor', '__proto__', 'kp', 'ctrl+c', '-1'])('but not %j', (name) => {
    expect(codeOfName(name)).toBe(undefined);
  });
});

describe('scancodes', () => {
  test('of the original keys are their codes', () => {
    for (let code = 1; code <= 0x53; code++) expect(codeOfScancode(code)).toBe(code);
    expect([0x56, 0x57, 0x58].map(codeOfScancode)).toEqual([0x56, 0x57, 0x58]);
  });

  test.each([
    ['the right control key', 0x9d, 97],
    ['AltGr', 0xb8, 100],
    ['Enter of the keypad', 0x9c, 96],
    ['the slash of the keypad', 0xb5, 98],
    ['the cursor keys', 0xc8, 103],
    ['Delete', 0xd3, 111],
    ['Print Screen', 0xb7, 99],
    ['Print Screen with Alt', 0x54, 99],
    ['Pause', 0xc6, 119],
    ['the left Windows key', 0xdb, 125],
    ['the menu key', 0xdd, 127],
    ['ro of Japanese and Brazilian keyboards', 0x73, 89],
    ['yen', 0x7d, 124],
    ['henkan', 0x79, 92],
    ['muhenkan', 0x7b, 94],
    ['katakana and hiragana', 0x70, 93],
    ['louder', 0xb0, 115],
    ['F13', 0x5d, 183],
  ])('of %s', (_, scancode, code) => {
    expect(codeOfScancode(scancode)).toBe(code);
  });

  test('are those of nothing, or of a key that the keyboard has', () => {
    const codes = Array.from({ length: 0x200 }, (_, i) => codeOfScancode(i - 0x80)).filter(
      (code) => code !== undefined,
    );
    expect(codes.filter((code) => ![...KEY_CODES.values()].includes(code))).toEqual([]);
    expect([0, -1, 0x80, 0xff, 0x100, 1.5, Number.NaN].map(codeOfScancode)).toEqual(
      new Array(7).fill(undefined),
    );
  });

  test('reach every key that has one', () => {
    const reached = new Set(Array.from({ length: 0x100 }, (_, i) => codeOfScancode(i)));
    const unreached = [...KEY_CODES].filter(([, code]) => !reached.has(code)).map(([name]) => name);
    expect(unreached).toEqual(['kpleftparen', 'kprightparen', 'brightnessdown', 'brightnessup', 'micmute']);
  });
});
