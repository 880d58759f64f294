/** Records the vectors anew on our host side: `npx tsx test/conformance/cross-domain/make-vectors.ts`. Review the change. */
import { writeFileSync } from 'node:fs';
import { FakeCompositor } from '../../support/guest-channel.ts';
import { ourHost } from './hosts.ts';
import { record, Stage } from './kit.ts';
import { SCRIPTS } from './scripts.ts';

for (const [name, script] of Object.entries(SCRIPTS)) {
  const compositor = new FakeCompositor();
  await using stage = new Stage(compositor, ourHost(compositor.path));
  const vector = await record(name, script, stage);
  const file = new URL(`vectors/${name}.json`, import.meta.url);
  writeFileSync(file, `${JSON.stringify(vector, null, 1)}\n`);
}
