/** What others install: the archive that `npm pack` makes, and what npm brings along with it. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { repository } from './support.ts';

const readJson = (name: string) => JSON.parse(readFileSync(join(repository, name), 'utf8'));

test('the archive has the program, the addon, and no sources', () => {
  const json = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: repository,
    encoding: 'utf8',
  });
  const [{ files }] = JSON.parse(json) as [{ files: { path: string }[] }];
  const paths = files.map(({ path }) => path);
  expect(paths.filter((path) => !path.startsWith('dist/')).sort()).toEqual([
    'CHANGELOG.md',
    'LICENSE',
    'README.md',
    'native/README.md',
    'native/build/Release/vfio_user_gpu.node',
    'package.json',
  ]);
  expect(paths.filter((path) => path.endsWith('.ts') && !path.endsWith('.d.ts'))).toEqual([]);
});

test('nothing runs when it is installed: npm 11 asks for leave, and users have no compiler', () => {
  const { scripts } = readJson('package.json');
  expect(
    Object.keys(scripts).filter((name) => /^(pre|post)?install$|^(pre|post)?prepare$/.test(name)),
  ).toEqual([]);
  const { packages } = readJson('package-lock.json') as {
    packages: Record<string, { dev?: boolean; hasInstallScript?: boolean }>;
  };
  const running = Object.entries(packages).filter(
    ([, { dev, hasInstallScript }]) => !dev && hasInstallScript,
  );
  expect(running).toEqual([]);
});

test('README names the archive as npm does', () => {
  const readme = readFileSync(join(repository, 'README.md'), 'utf8');
  const { name, version } = readJson('package.json');
  expect(new Set(readme.match(/\S+\.tgz/g))).toEqual(new Set([`./${name}-${version}.tgz`]));
});

test('npm takes no newer strip-json-comments for pino-pretty: 5.1 wants Node 22', () => {
  expect(readJson('package.json').dependencies['strip-json-comments']).toBe('~5.0.3');
});
