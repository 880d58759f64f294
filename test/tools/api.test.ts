/** The page of what others can build on, and what is exported. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { repository } from './support.ts';

const read = (name: string) => readFileSync(join(repository, name), 'utf8');

/** Where the modules of the page come from. */
const modules = {
  'vfio-user-gpu/pci': 'pci/index.ts',
  'vfio-user-gpu/vfio-user': 'server/vfio-user.ts',
};

/** The names that a module exports. It lists them, and has nothing else. */
function exportsOf(source: string): string[] {
  const rest = source.replaceAll(/\/\*[\s\S]*?\*\//g, '');
  const lists = [...rest.matchAll(/export (?:type )?\{([^}]*)\} from '[^']+';/g)];
  expect(lists.reduce((text, [list]) => text.replace(list, ''), rest).trim()).toBe('');
  return lists.flatMap(([, names]) => [...names!.matchAll(/(?:type )?(\w+),?/g)].map(([, name]) => name!));
}

/** The names in the tables of a section. */
function documentedIn(heading: string): string[] {
  const [, section = ''] = read('docs/api.md').split(`\n## \`${heading}\`\n`);
  const [own = ''] = section.split('\n## ');
  return [...own.matchAll(/^\| `(\w+)` +\| \S/gm)].map(([, name]) => name!);
}

describe.each(Object.entries(modules))('%s', (module, file) => {
  test('exports what the page names, each once', () => {
    expect(documentedIn(module).sort()).toEqual(exportsOf(read(file)).sort());
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
