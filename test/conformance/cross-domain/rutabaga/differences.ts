/**
 * Where the reference host, `rutabaga_gfx`, does otherwise than the vectors: recorded to the byte in `differences.json`,
 * with the reasons in section 8 of SPECIFICATION.md.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Crate, programOf } from '../../../support/cargo.ts';
import { FakeCompositor } from '../../../support/guest-channel.ts';
import { programHost } from '../hosts.ts';
import { type Difference, play, Stage, type Vector } from '../kit.ts';

export const RUTABAGA: Crate = {
  name: 'the reference host of the cross-domain channel',
  folder: fileURLToPath(new URL('.', import.meta.url)),
  target: 'rutabaga',
  program: 'rutabaga-host',
  shown: /^rutabaga_gfx$/,
};

/** By the name of the vector; those without a difference are not there. */
export type Differences = Readonly<Record<string, readonly Difference[]>>;

export const DIFFERENCES_FILE = new URL('differences.json', import.meta.url);

export function readDifferences(): Differences {
  return JSON.parse(readFileSync(DIFFERENCES_FILE, 'utf8')) as Differences;
}

/** Plays a vector against the program, which has been built. */
export async function playReference(vector: Vector): Promise<readonly Difference[]> {
  const compositor = new FakeCompositor();
  await using stage = new Stage(compositor, programHost([programOf(RUTABAGA)], compositor.path), {
    vainMs: 1000,
    answerMs: 5000,
  });
  return await play(vector, stage);
}
