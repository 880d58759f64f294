/**
 * Records anew where the reference host differs: `npx tsx test/conformance/cross-domain/rutabaga/make-differences.ts`.
 * Review the change, and say in SPECIFICATION.md why.
 */
import { writeFileSync } from 'node:fs';
import { buildCrate } from '../../../support/cargo.ts';
import type { Difference } from '../kit.ts';
import { readVectors } from '../vectors.ts';
import { DIFFERENCES_FILE, playReference, RUTABAGA } from './differences.ts';

if ((await buildCrate(RUTABAGA)) !== undefined) process.exit(1);
const all: Record<string, readonly Difference[]> = {};
for (const vector of readVectors()) {
  const differences = await playReference(vector);
  if (differences.length > 0) all[vector.name] = differences;
}
writeFileSync(DIFFERENCES_FILE, `${JSON.stringify(all, null, 2)}\n`);
