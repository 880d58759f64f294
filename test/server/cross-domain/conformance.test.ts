/** The vectors, against our host side in this process and in a program. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { ourHost, programHost } from '../../conformance/cross-domain/hosts.ts';
import { play, Stage, type Step } from '../../conformance/cross-domain/kit.ts';
import { RUTABAGA, readDifferences } from '../../conformance/cross-domain/rutabaga/differences.ts';
import { SCRIPTS } from '../../conformance/cross-domain/scripts.ts';
import { readVectors } from '../../conformance/cross-domain/vectors.ts';
import { versions } from '../../support/cargo.ts';
import { FakeCompositor } from '../../support/guest-channel.ts';

const vectors = readVectors();

test('there is a vector for each script', () => {
  expect(vectors.map(({ name }) => name)).toEqual(Object.keys(SCRIPTS).sort());
});

test.each(vectors)('$name is answered to the byte', async (vector) => {
  const compositor = new FakeCompositor();
  await using stage = new Stage(compositor, ourHost(compositor.path));
  expect(await play(vector, stage)).toEqual([]);
});

test('a program that speaks the protocol of the kit is judged the same way', async () => {
  const program = fileURLToPath(new URL('../../conformance/cross-domain/our-host.ts', import.meta.url));
  const compositor = new FakeCompositor();
  await using stage = new Stage(
    compositor,
    programHost([process.execPath, '--import', 'tsx', program], compositor.path),
  );
  const vector = vectors.find(({ name }) => name === 'keymap')!;
  expect(await play(vector, stage)).toEqual([]);
});

test('all answers that differ are found, in one byte each, also a message that came and one that did not', async () => {
  const vector = vectors.find(({ name }) => name === 'paste')!;
  const steps = vector.steps.map((step, number): Step => {
    if (number === 30) return { do: 'poll', ringId: 12, hex: '' };
    if (step.do !== 'poll') return step;
    return number === 29
      ? { do: 'poll in vain', ringId: step.ringId }
      : { ...step, hex: `${step.hex.slice(0, -2)}fe` };
  });
  const compositor = new FakeCompositor();
  await using stage = new Stage(compositor, ourHost(compositor.path));
  expect(await play({ ...vector, steps }, stage)).toMatchObject([
    ...[7, 19, 23, 24, 25, 29].map((number) => ({ number, actual: { do: 'poll' } })),
    { number: 30, actual: { do: 'poll in vain' } },
  ]);
});

test.each([
  ['ends', [process.execPath, '-e', ''], {}, 'the program has left with 0'],
  ['is not there', ['/nowhere/host'], {}, 'ENOENT'],
  ['never answers', ['sh', '-c', 'exec sleep 3600'], { answerMs: 100 }, 'the host side does not answer'],
])('a program that %s fails the vector, and nobody waits for it', async (_, command, patience, reason) => {
  const compositor = new FakeCompositor();
  await using stage = new Stage(compositor, programHost(command, compositor.path), patience);
  const vector = vectors.find(({ name }) => name === 'keymap')!;
  expect(await play(vector, stage)).toMatchObject([{ number: 0, actual: expect.stringContaining(reason) }]);
});

test('the specification has each difference of the reference host, with who is right, and no other', () => {
  const text = readFileSync(
    new URL('../../../server/cross-domain/SPECIFICATION.md', import.meta.url),
    'utf8',
  );
  const section = text.split(/^(?=## )/m).find((part) => part.startsWith('## 8. ')) ?? '';
  const [version] = versions(RUTABAGA);
  expect(section).toContain(`version ${version!.replace('rutabaga_gfx ', '')} of it`);

  const rows = section.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| --'));
  const published = new Map<string, number[]>();
  for (const row of rows.slice(1)) {
    const [, , , right, steps] = row.split('|').map((cell) => cell.trim());
    expect(['this text', 'the reference host', 'both'], row).toContain(right);
    for (const [, name, numbers] of steps!.matchAll(/`([a-z0-9-]+)` (\d+(?:, \d+)*)/g)) {
      const known = published.get(name!) ?? [];
      published.set(
        name!,
        [...known, ...numbers!.split(', ').map(Number)].sort((a, b) => a - b),
      );
    }
  }
  const recorded = Object.entries(readDifferences()).map(([name, differences]) => [
    name,
    differences.map(({ number }) => number),
  ]);
  expect(Object.fromEntries(published)).toEqual(Object.fromEntries(recorded));
  expect(vectors.map(({ name }) => name)).toEqual(expect.arrayContaining([...published.keys()]));
});
