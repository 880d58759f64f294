/** The vectors, against our host side in this process and in a program. */
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { ourHost, programHost } from '../../conformance/cross-domain/hosts.ts';
import { play, Stage, type Step } from '../../conformance/cross-domain/kit.ts';
import { SCRIPTS } from '../../conformance/cross-domain/scripts.ts';
import { readVectors } from '../../conformance/cross-domain/vectors.ts';
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
  ['ends', [process.execPath, '-e', ''], 'the program has left with 0'],
  ['is not there', ['/nowhere/host'], 'ENOENT'],
  ['never answers', [process.execPath, '-e', 'setInterval(() => {}, 1e6)'], 'the host side does not answer'],
])('a program that %s fails the vector, and nobody waits for it', async (_, command, reason) => {
  const compositor = new FakeCompositor();
  await using stage = new Stage(compositor, programHost(command, compositor.path));
  const vector = vectors.find(({ name }) => name === 'keymap')!;
  expect(await play(vector, stage)).toMatchObject([{ number: 0, actual: expect.stringContaining(reason) }]);
});
