/** The page of what others can build on, and what is exported. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { repository } from './support.ts';

const read = (name: string) => readFileSync(join(repository, name), 'utf8');

/** Where the modules of the page come from. */
const modules = {
  'vfio-user-gpu/pci': 'pci/index.ts',
  'vfio-user-gpu/vfio-user': 'server/vfio-user.ts',
  'vfio-user-gpu/testing': 'testing/index.ts',
};

/** The names that a module exports. It lists them, and has nothing else. */
function exportsOf(source: string, kind: 'all' | 'values' = 'all'): string[] {
  const rest = source.replaceAll(/\/\*[\s\S]*?\*\//g, '');
  const lists = [...rest.matchAll(/export (?:type )?\{([^}]*)\} from '[^']+';/g)];
  expect(lists.reduce((text, [list]) => text.replace(list, ''), rest).trim()).toBe('');
  return lists
    .filter(([list]) => kind === 'all' || !list.startsWith('export type'))
    .flatMap(([, names]) => names!.split(','))
    .map((name) => name.trim())
    .filter((name) => name !== '' && (kind === 'all' || !name.startsWith('type ')))
    .map((name) => name.replace('type ', ''))
    .sort();
}

/** The values that a module has for a program that has installed the package: this one may import itself. */
function importedFrom(module: string): string[] {
  const program = `import * as module from '${module}'; console.log(JSON.stringify(Object.keys(module)))`;
  const arguments_ = ['--input-type=module', '--eval', program];
  return JSON.parse(execFileSync(process.execPath, arguments_, { cwd: repository, encoding: 'utf8' }));
}

/** The names in the tables of a section. */
function documentedIn(heading: string): string[] {
  const [, section = ''] = read('docs/api.md').split(`\n## \`${heading}\`\n`);
  const [own = ''] = section.split('\n## ');
  return [...own.matchAll(/^\| `(\w+)` +\| \S/gm)].map(([, name]) => name!);
}

describe.each(Object.entries(modules))('%s', (module, file) => {
  test('exports what the page names, each once', () => {
    expect(documentedIn(module).sort()).toEqual(exportsOf(read(file)));
  });

  test('can be imported as it is built', () => {
    expect(importedFrom(module).sort()).toEqual(exportsOf(read(file), 'values'));
  });

  test('is the file that the package says', () => {
    const { exports } = JSON.parse(read('package.json'));
    expect(exports[module.replace('vfio-user-gpu', '.')]).toEqual({
      types: `./dist/${file.replace('.ts', '.d.ts')}`,
      default: `./dist/${file.replace('.ts', '.js')}`,
    });
  });
});

test('the page names every module of the package but the device itself', () => {
  const { exports } = JSON.parse(read('package.json'));
  const others = Object.keys(exports).filter((name) => !['.', './package.json'].includes(name));
  expect(others.map((name) => name.replace('.', 'vfio-user-gpu')).sort()).toEqual(
    Object.keys(modules).sort(),
  );
});
