/** Plays all vectors against a program: `npx tsx test/conformance/cross-domain/check.ts PROGRAM [ARGUMENTS...]`. */

import { FakeCompositor } from '../../support/guest-channel.ts';
import { programHost } from './hosts.ts';
import { play, Stage } from './kit.ts';
import { readVectors } from './vectors.ts';

let failed = 0;
for (const vector of readVectors()) {
  const compositor = new FakeCompositor();
  await using stage = new Stage(compositor, programHost(process.argv.slice(2), compositor.path));
  const differences = await play(vector, stage);
  console.log(`${differences.length > 0 ? 'FAILED' : 'ok    '}  ${vector.name}`);
  if (differences.length > 0) failed++;
  for (const { number, actual } of differences)
    console.log(JSON.stringify({ number, expected: vector.steps[number], actual }, null, 1));
}
process.exitCode = failed > 0 ? 1 : 0;
