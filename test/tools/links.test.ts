/** Links between the documents of this repository lead somewhere. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';

const repository = new URL('../..', import.meta.url).pathname;
const listed = ['ls-files', '-z', '--cached', '--others', '--exclude-standard', '*.md'];
const documents = execFileSync('git', listed, { cwd: repository, encoding: 'utf8' })
  .split('\0')
  .filter((name) => name !== '' && existsSync(join(repository, name)));

/** As in web pages of a repository: small letters, words joined by hyphens, no other signs. */
const anchorOf = (heading: string) =>
  heading
    .toLowerCase()
    .replaceAll(/[^\w\s-]/g, '')
    .trim()
    .replaceAll(/\s/g, '-');

const anchorsOf = (text: string) =>
  [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) => anchorOf(heading!));

/** What links of a document lead to, without those to other places of the world. */
function brokenLinks(name: string): string[] {
  const text = readFileSync(join(repository, name), 'utf8');
  const targets = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!);
  return targets.filter((target) => {
    if (/^[a-z]+:/.test(target)) return false;
    const [path = '', anchor] = target.split('#');
    const file = path === '' ? join(repository, name) : join(repository, dirname(name), path);
    if (!existsSync(file)) return true;
    return anchor !== undefined && !anchorsOf(readFileSync(file, 'utf8')).includes(anchor);
  });
}

test('there are documents, and they have links', () => {
  expect(documents).toEqual(expect.arrayContaining(['README.md', 'server/README.md', 'docs/guests.md']));
});

describe.each(documents)('%s', (name) => {
  test('has no link that leads nowhere', () => {
    expect(brokenLinks(name)).toEqual([]);
  });
});
