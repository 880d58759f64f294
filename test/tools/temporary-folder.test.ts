/** A run of tests leaves nothing behind in the temporary folder, or fails. */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Machine, repository } from './support.ts';

/** Runs a test that does this in the temporary folder, as `folder`. */
function run(action: string): { status: number | null; output: string; left: string[] } {
  const machine = new Machine();
  const globalSetup = JSON.stringify(join(repository, 'test/temporary-folder.ts'));
  machine.file(
    'project/config.mjs',
    `export default { test: { globals: true, globalSetup: ${globalSetup} } };`,
  );
  machine.file(
    'project/one.test.mjs',
    `import { mkdirSync, rmdirSync } from 'node:fs';
     import { tmpdir } from 'node:os';
     const folder = tmpdir();
     test('one', () => { ${action} });`,
  );
  machine.file('temporary/of-others', '');
  const vitest = join(repository, 'node_modules/vitest/vitest.mjs');
  const arguments_ = [vitest, 'run', '--root', join(machine.folder, 'project'), '--config', 'config.mjs'];
  const { status, stdout, stderr } = spawnSync(process.execPath, arguments_, {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, TMPDIR: join(machine.folder, 'temporary') },
  });
  return { status, output: stdout + stderr, left: readdirSync(join(machine.folder, 'temporary')) };
}

test('what a test leaves is named, removed, and fails the run', () => {
  const { status, output, left } = run("mkdirSync(folder + '/map-1'); mkdirSync(folder + '/cli-2');");
  expect(output).toContain('the tests left in the temporary folder: cli-2 map-1');
  expect(output).toContain('1 passed');
  expect(status).toBe(1);
  expect(left).toEqual(['of-others']);
});

test('a run that tidies up passes', () => {
  const { status, output, left } = run("mkdirSync(folder + '/map-1'); rmdirSync(folder + '/map-1');");
  expect({ status, output }).toMatchObject({ status: 0 });
  expect(left).toEqual(['of-others']);
});
