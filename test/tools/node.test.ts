/** Node.js in guests: what goes on the disk. */
import { symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { scriptsOf } from '../../tools/testbed/node.ts';
import { Machine } from './support.ts';

test('scripts that a program names by their whole path belong to it, links too, if they are there', async () => {
  const { folder } = new Machine();
  const [lexer, undici, program] = ['lexer.js', 'undici.js', 'node'].map((name) => join(folder, name));
  writeFileSync(lexer!, '');
  symlinkSync('lexer.js', undici!);
  const names = [undici, lexer, lexer, '/nonexistent/acorn.js', 'lexer.js', `see ${lexer}`, `${lexer}on`];
  writeFileSync(program!, `\0${names.join('\0')}\0`);
  expect(await scriptsOf([program!])).toEqual([lexer, undici]);
});
