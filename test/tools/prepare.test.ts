/** `tools/prepare`: when it installs packages of npm. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Machine, repository } from './support.ts';

type Packages = Record<string, { version: string; integrity: string; optional?: boolean }>;

const wanted: Packages = {
  '': { version: '0.1.0', integrity: '' },
  'node_modules/hono': { version: '4.13.19', integrity: 'sha512-a' },
  'node_modules/@img/sharp-darwin-x64': { version: '0.35.5', integrity: 'sha512-b', optional: true },
};
const there: Packages = { 'node_modules/hono': { version: '4.13.19', integrity: 'sha512-a' } };

/** What `prepare` has npm do in a checkout with these packages; `undefined` without any. */
function npmCalls(installed: Packages | undefined): string[] {
  const machine = new Machine();
  machine.link('node');
  machine.program('npm', `echo "$1" >>${machine.folder}/calls`);
  machine.file('tools/prepare', readFileSync(join(repository, 'tools/prepare'), 'utf8'));
  machine.program('../tools/setup', '');
  machine.file('package-lock.json', JSON.stringify({ packages: wanted }));
  if (installed) machine.file('node_modules/.package-lock.json', JSON.stringify({ packages: installed }));
  const { status, output } = machine.run(join(machine.folder, 'tools/prepare'));
  expect({ status, output }).toMatchObject({ status: 0 });
  return machine.read('calls').trim().split('\n');
}

test('it installs none when npm has installed what is listed, whoever called npm', () => {
  expect(npmCalls(there)).toEqual(['run', 'run']);
});

test('it installs them when there are none, or others', () => {
  expect(npmCalls(undefined)).toEqual(['ci', 'run', 'run']);
  const older = { 'node_modules/hono': { version: '4.13.18', integrity: 'sha512-a' } };
  const changed = { 'node_modules/hono': { version: '4.13.19', integrity: 'sha512-c' } };
  const more = { ...there, 'node_modules/left-pad': { version: '1.3.0', integrity: 'sha512-d' } };
  for (const others of [older, changed, more, {}]) expect(npmCalls(others)).toEqual(['ci', 'run', 'run']);
});
