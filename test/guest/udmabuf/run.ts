/** Runs the checks of udmabuf in a guest, and reports each on a line of its own. */
import { runCheck, udmabufChecks } from '../../server/backends/udmabuf-checks.ts';

for (const check of udmabufChecks) {
  const start = performance.now();
  let failure: string | undefined;
  try {
    await runCheck(check);
  } catch (error) {
    failure = error instanceof Error ? error.stack : String(error);
  }
  const ms = Math.round(performance.now() - start);
  console.log(`@@CHECK ${JSON.stringify({ name: check.name, ms, failure })}`);
}
