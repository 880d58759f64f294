/**
 * Boots Debian's kernel in QEMU on our device, waits until its console is on the screen, writes the picture to
 * `demo.png`, and keeps running until Ctrl-C.
 *
 *     npm run demo               and then look at it with the commands it prints
 *     npm run demo -- --exit     leaves after the picture
 */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { consoleLine, parseConsoleFont, readConsole } from '../testbed/console.ts';
import { startGuest } from '../testbed/qemu.ts';
import { startServer } from '../testbed/server.ts';

const { values: options } = parseArgs({
  options: { exit: { type: 'boolean', default: false }, output: { type: 'string', default: 'demo.png' } },
});

/** The last line that the guest writes before the picture is taken. */
const LAST_LINE = 'This console is drawn by the guest and shown by vfio-user-gpu.';

/** Runs in the guest: what it is and what it sees, on its console; then a clock, as something that moves. */
const SCRIPT = `
card=/sys/class/drm/card0
pci=$(readlink -f $card/device)
console '' \
  "  $(uname -sr) on $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)" '' \
  "  PCI device       $(cat $pci/vendor) $(cat $pci/device) at \${pci##*/}, bound to $(sed -n 's/^DRIVER=//p' $pci/uevent)" \
  "  connector        $(ls $card | grep -m 1 '^card0-'): $(cat $card/card0-*/status), $(head -n 1 $card/card0-*/modes)" \
  "  frame buffer     $(cat /proc/fb)" '' \
  '  ${LAST_LINE}' ''
shot console
while sleep 1; do printf '\r  %s' "$(date +%T)" >/dev/tty1; done
`;

const say = (text: string) => console.log(`demo: ${text}`);

say('starting the device');
await using server = await startServer({ displays: ['800x600'] });
say(`vfio-user-gpu listens at ${server.socketPath}`);

say('starting QEMU (software emulation, unmodified, -device vfio-user-pci) with a Debian kernel');
await using guest = await startGuest({
  devices: [{ kind: 'vfio-user', socketPath: server.socketPath }],
  script: SCRIPT,
});
const font = parseConsoleFont(await guest.waitFor(consoleLine));
await guest.waitFor('@@SHOT console');
const picture = await server.screenShows((shown) =>
  readConsole(shown, font).some((line) => line.includes(LAST_LINE)),
);
await writeFile(options.output, await server.ask('GET', '/v1/displays/0/screenshot'));
say(`the guest's console is on the screen: ${picture.width}x${picture.height}, written to ${options.output}`);

if (!options.exit) {
  guest.write('\n');
  const program = 'node dist/server/main.js';
  say('the guest keeps running. In another terminal:');
  console.log(`  ${program} screenshot --api-socket ${server.apiSocketPath} --output now.png`);
  console.log(`  ${program} resize --api-socket ${server.apiSocketPath} 1280x800`);
  console.log(`  curl --unix-socket ${server.apiSocketPath} http://localhost/v1/info`);
  say('Ctrl-C ends it');
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM'), guest.exited, server.exited]);
  say('leaving');
}
