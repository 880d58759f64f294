/** The one real guest of `npm test -- smoke`: what breaks everything breaks this. */
import { test } from 'vitest';
import { consoleLine, parseConsoleFont } from '../../tools/testbed/console.ts';
import { startGuest } from '../../tools/testbed/qemu.ts';
import { expectNoComplaints, expectText, startServer } from './support.ts';

test('the console is on every output', async () => {
  await using server = await startServer({ displays: ['1024x768', '800x600', '1280x800'] });
  const text = ['on all of them'];
  await using guest = await startGuest({
    devices: [server.device],
    script: `console '${text[0]}'; read _`,
  });
  const font = parseConsoleFont(await guest.waitFor(consoleLine));
  for (const display of [0, 1, 2]) await expectText(server, font, text, display);
  guest.write('\n');
  await guest.scriptSucceeds();
  expectNoComplaints(server);
});
