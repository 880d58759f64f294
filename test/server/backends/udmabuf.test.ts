/** The checks of udmabuf on this machine, where it has the device and lets us open it. */
import { describe, test } from 'vitest';
import { runCheck, udmabufChecks, udmabufMissing } from './udmabuf-checks.ts';

const missing = udmabufMissing();
if (missing) console.log(`skipping the checks of udmabuf on this machine: ${missing}`);

describe.skipIf(missing)('udmabuf on this machine', () => {
  test.each(udmabufChecks)('$name', (check) => runCheck(check));
});
