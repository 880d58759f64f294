/** `tools/build-native` where there is nothing to build with. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Machine, repository } from './support.ts';

test.each([
  [['make', 'cmake'], 'g++'],
  [['g++', 'cmake'], 'make'],
  [['c++', 'ninja'], 'cmake'],
  [[], 'g++ make cmake'],
])('with %j it says that the addon needs the rest', (programs, missing) => {
  const machine = new Machine();
  for (const name of programs) machine.program(name, '');
  machine.file('tools/build-native', readFileSync(join(repository, 'tools/build-native'), 'utf8'));
  expect(machine.run(join(machine.folder, 'tools/build-native'))).toEqual({
    status: 1,
    output: `build-native: the addon needs ${missing}; as root: apt-get update && apt-get install ${missing}\n`,
  });
});

test('before `npm ci` it names that', () => {
  const machine = new Machine();
  for (const name of ['g++', 'make', 'cmake']) machine.program(name, '');
  machine.file('tools/build-native', readFileSync(join(repository, 'tools/build-native'), 'utf8'));
  expect(machine.run(join(machine.folder, 'tools/build-native')).output).toMatch(/run: npm ci\n$/);
});
