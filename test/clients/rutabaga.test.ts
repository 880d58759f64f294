/**
 * The reference host of the cross-domain channel, `rutabaga_gfx`, under the vectors that our own host side is held to:
 * it differs where the specification says that it does, and nowhere else.
 */
import { beforeAll, expect, test } from 'vitest';
import {
  playReference,
  RUTABAGA,
  readDifferences,
} from '../conformance/cross-domain/rutabaga/differences.ts';
import { readVectors } from '../conformance/cross-domain/vectors.ts';
import { buildCrate } from '../support/cargo.ts';

let whyNot: string | undefined;

beforeAll(async () => {
  whyNot = await buildCrate(RUTABAGA);
});

test.concurrent.for(readVectors())(
  '$name: the answers are those that are written down',
  async (vector, { skip }) => {
    skip(whyNot !== undefined, whyNot);
    expect(await playReference(vector)).toEqual(readDifferences()[vector.name] ?? []);
  },
);
