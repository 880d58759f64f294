/** Keyboard layouts and keysyms, judged by libxkbcommon. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { characterOfKeysym, strokeForKeysym } from '../../../server/input/keysyms.ts';
import {
  LAYOUT_NAMES,
  type LayoutName,
  layoutOf,
  type Stroke,
  strokesFor,
  UntypableError,
} from '../../../server/input/layouts.ts';

const folder = mkdtempSync(join(tmpdir(), 'layouts-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** The judge; undefined where the machine has no libxkbcommon for programs. */
const judge = ((): string | undefined => {
  const flags = spawnSync('pkg-config', ['--cflags', '--libs', 'xkbcommon'], { encoding: 'utf8' });
  if (flags.status !== 0) {
    console.warn('skipped: libxkbcommon-dev and pkg-config are not installed (tools/setup installs them)');
    return undefined;
  }
  const program = join(folder, 'xkb');
  const source = fileURLToPath(new URL('xkb.c', import.meta.url));
  const options = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-o', program, source];
  const built = spawnSync('gcc', [...options, ...flags.stdout.trim().split(' ')], { encoding: 'utf8' });
  if (built.status !== 0) throw new Error(built.stderr);
  return program;
})();

const ask = (layout: LayoutName, lines: readonly string[]): string[] => {
  const [name, variant = ''] = layout.split('-');
  const { status, stdout, stderr } = spawnSync(judge as string, [name as string, variant], {
    input: lines.map((line) => `${line}\n`).join(''),
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  if (status !== 0) throw new Error(stderr);
  return stdout.split('\n').slice(0, -1);
};
const write = (strokes: readonly Stroke[]) =>
  `strokes ${strokes.map(({ code, modifiers }) => [...modifiers, code].join('+')).join(' ')}`;
/** The text in an answer to that. */
const textOf = (line: string) => {
  const [text = '-'] = line.split(' ');
  return text === '-' ? '' : Buffer.from(text, 'hex').toString().replaceAll('\r', '\n');
};

const from = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i);
/** Everything that might be typed with some layout. */
const CANDIDATES = from(0x20, 0x3000 - 0x20)
  .map((code) => String.fromCharCode(code))
  .filter((character) => character.normalize('NFC') === character);
/** What no key of X11's usual keyboard gives, or another one: they mean what is printed on our key. */
const WITHOUT_KEY =
  /^(ISO_Level3_Shift|Multi_key|Zenkaku_Hankaku|KP_Separator|F1[3-9]|F2[0-4]|Shift_Lock|XF86Stop|XF86Refresh)$/;
const canType = (character: string, layout: LayoutName) => {
  try {
    return strokesFor(character, layout);
  } catch (error) {
    expect(error).toBeInstanceOf(UntypableError);
    return undefined;
  }
};

describe.skipIf(!judge)('according to libxkbcommon', () => {
  test.each(LAYOUT_NAMES)('%s types every character, and every text', (name) => {
    const { strokes, deadKeys } = layoutOf(name);
    const typable = CANDIDATES.flatMap((character) => {
      const typed = canType(character, name);
      return typed ? [{ character, typed }] : [];
    });
    expect(typable.filter(({ typed }) => typed.length === 1).length).toBe(strokes.size - '\n\t'.length);
    expect(typable.some(({ typed }) => typed.length === 2)).toBe(deadKeys.size > 0);

    const characters = [...typable.map(({ character }) => character), '\n', '\t'];
    const text = fc.array(fc.constantFrom(...characters), { maxLength: 40 }).map((list) => list.join(''));
    const texts = [...characters, ...fc.sample(text, 50)].map((one) => one.normalize('NFC'));
    const single = [...strokes.values(), ...deadKeys.values()];
    const lines = ask(name, [
      ...texts.map((one) => write(strokesFor(one, name))),
      ...single.map((stroke) => write([stroke])),
    ]);
    expect(lines.splice(0, texts.length).map(textOf)).toEqual(texts);
    // The other way round: the keysym that comes of a key is given by that key.
    const keysyms = lines.map((line) => Number.parseInt(line.split(' ')[1] as string, 16));
    expect(keysyms.map((keysym) => strokeForKeysym(keysym, name))).toEqual(single);
  });

  test('keysyms older than Unicode are the characters that they are there', () => {
    const keysyms = Array.from({ length: 0x2100 }, (_, i) => i).filter(
      (i) => characterOfKeysym(i) !== undefined,
    );
    expect(keysyms.length).toBeGreaterThan(500);
    const lines = ask(
      'us',
      keysyms.map((keysym) => `character ${keysym}`),
    );
    expect(keysyms.map(characterOfKeysym)).toEqual(
      lines.map((line) => String.fromCodePoint(Number.parseInt(line, 16))),
    );
  });

  test('the keysym of every character that can be typed is known', () => {
    const all = [...new Set(LAYOUT_NAMES.flatMap((name) => [...layoutOf(name).strokes.keys()]))].filter(
      (character) => character >= ' ',
    );
    const lines = ask(
      'us',
      all.map((character) => `keysym ${character.codePointAt(0)}`),
    );
    expect(lines.map((line) => characterOfKeysym(Number.parseInt(line, 16)))).toEqual(all);
  });

  test('keys that are no characters have their keysyms', () => {
    const codes = [
      1, 14, 15, 28, 29, 42, 54, 56, 58, 59, 68, 69, 70, 87, 88, 97, 99, 102, 103, 104, 105, 106, 107, 108,
      109, 110, 111, 119, 125, 126, 127, 113, 114, 115, 55, 74, 78, 96, 98,
    ];
    const lines = ask(
      'us',
      codes.map((code) => `strokes ${code}`),
    );
    const keysyms = lines.map((line) => Number.parseInt(line.split(' ')[1] as string, 16));
    expect(keysyms.map((keysym) => strokeForKeysym(keysym, 'us')?.code)).toEqual(codes);
  });

  test('a keysym that is no character is given by a key that has it, with something held or not', () => {
    const keysyms = [...from(0xfd00, 0x300), ...from(0x1008_fe00, 0x200)].filter((keysym) =>
      strokeForKeysym(keysym, 'us'),
    );
    expect(keysyms.length).toBeGreaterThan(120);
    const lines = ask(
      'us',
      keysyms.map((keysym) => `name ${keysym}`),
    );
    const others = lines.flatMap((line, i) => {
      const [name = '', ...codes] = line.split(' ');
      const ours = strokeForKeysym(keysyms[i] as number, 'us')?.code;
      return codes.includes(String(ours)) || WITHOUT_KEY.test(name) ? [] : [`${line}, not ${ours}`];
    });
    expect(others).toEqual([]);
  });
});

test('a text that cannot be typed names the character', () => {
  expect(() => strokesFor('ab→c', 'us')).toThrow(new UntypableError('→', 'us'));
  expect(() => strokesFor('a😀', 'de')).toThrow('the keyboard layout de cannot type "😀" (U+1F600)');
  expect(() => strokesFor('hello', 'ru')).toThrow('"h"');
});

test('lines end with Enter, however they are written, and letters with accents may be written in two parts', () => {
  expect(strokesFor('a\r\nb\rc\n', 'us').map(({ code }) => code)).toEqual([30, 28, 48, 28, 46, 28]);
  expect(strokesFor('e\u0301', 'fr')).toEqual(strokesFor('é', 'fr'));
});

test('é is one key on a French keyboard and two on a Spanish one', () => {
  expect(strokesFor('é', 'fr')).toEqual([{ code: 3, modifiers: [] }]);
  expect(strokesFor('é', 'es')).toEqual([
    { code: 40, modifiers: [] },
    { code: 18, modifiers: [] },
  ]);
});

test('keysyms that no key gives have none', () => {
  for (const keysym of [
    0, 0x1f, 0x7f, 0xe9, 0x1a0, 0xfe5d, 0xffff_ffff, 0x0100_0000, 0x0110_ffff, 0x0120_0000,
  ]) {
    expect(strokeForKeysym(keysym, 'us'), keysym.toString(16)).toBe(undefined);
  }
});
