/** Who may import whom: what the check refuses. */
import { expect, test } from 'vitest';
import { circlesOf, importsOf, judge } from '../../tools/check-rooms.ts';

test('an import that the table has is allowed, and no other', () => {
  expect(judge('server/gpu/window.ts', '../../pci/index.ts')).toBe(undefined);
  expect(judge('pci/bars.ts', '../server/log.ts')).toMatchObject({ imported: 'server/log.ts' });
  expect(judge('server/gpu/window.ts', 'node:fs')).toMatchObject({ imported: 'node:fs' });
  expect(judge('server/api/app.ts', '../commands/serve.ts')?.reason).toContain('may not be imported');
  expect(judge('examples/entropy.ts', 'vfio-user-gpu/pci')).toBe(undefined);
  expect(judge('examples/entropy.ts', '../pci/index.ts')?.reason).toContain('examples/ may import');
  expect(judge('server/function-server.ts', '../testing/index.ts')?.reason).toContain('may not be imported');
  expect(judge('nowhere/file.ts', './other.ts')?.reason).toBe('the file belongs to no room');
});

test('imports are seen in every form, types among them, but not in comments', () => {
  const source = `import type { A } from './a.ts';\nexport * from './b.ts';\nimport './c.ts';
    const d = await import('./d.ts'); // import './e.ts'\n// import './f.ts';\n/* import './g.ts' */`;
  expect(importsOf(source).slice(0, 4)).toEqual(['./a.ts', './b.ts', './c.ts', './d.ts']);
  expect(importsOf(source)).not.toContain('./f.ts');
  expect(importsOf(source)).not.toContain('./g.ts');
});

test('circles are found, however long, and whichever way in', () => {
  const files = { 'a.ts': ['./x/b.ts'], 'x/b.ts': ['./c.ts', 'node:fs'], 'x/c.ts': ['../d.ts'], 'd.ts': [] };
  expect(circlesOf(new Map(Object.entries(files)))).toEqual([]);
  const round = new Map(Object.entries({ ...files, 'd.ts': ['./x/b.ts'] }));
  expect(circlesOf(round)).toEqual([['x/b.ts', 'x/c.ts', 'd.ts', 'x/b.ts']]);
  expect(circlesOf(new Map([['a.ts', ['./a.ts']]]))).toEqual([['a.ts', 'a.ts']]);
});
