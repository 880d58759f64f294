/**
 * Boots Debian in QEMU on our devices, waits until its desktop is on the screen, writes the picture to `demo.png`, and
 * keeps running until Ctrl-C.
 *
 *     npm run demo                           and then open the web page that it prints
 *     npm run demo -- --web 127.0.0.1:8000   has the web page there; on a free port by default
 *     npm run demo -- --vnc 127.0.0.1:5900   has VNC there; on a free port by default
 *     npm run demo -- --exit                 leaves after the picture
 *     npm run demo -- --console              boots no desktop, only the kernel with its text console: 3 s sooner
 */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { consoleLine, parseConsoleFont, readConsole } from '../testbed/console.ts';
import { Desktop, desktopIsDrawn, startDesktop } from '../testbed/desktop.ts';
import type { Picture } from '../testbed/pictures.ts';
import { type Guest, startGuest } from '../testbed/qemu.ts';
import { startServer } from '../testbed/server.ts';

const { values: options } = parseArgs({
  options: {
    web: { type: 'string', default: '127.0.0.1:0' },
    vnc: { type: 'string', default: '127.0.0.1:0' },
    console: { type: 'boolean', default: false },
    exit: { type: 'boolean', default: false },
    output: { type: 'string', default: 'demo.png' },
  },
});

/** The last line that the guest writes before the picture of the console is taken. */
const LAST_LINE = 'This console is drawn by the guest and shown by vfio-user-gpu.';

/** Runs in the guest: what it is and what it sees, on its console; then a clock, as something that moves. */
const CONSOLE_SCRIPT = `
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

async function consoleIsShown(guest: Guest): Promise<Picture> {
  const font = parseConsoleFont(await guest.waitFor(consoleLine));
  await guest.waitFor('@@SHOT console');
  const picture = await server.screenShows((shown) =>
    readConsole(shown, font).some((line) => line.includes(LAST_LINE)),
  );
  guest.write('\n');
  return picture;
}

async function desktopIsShown(desktop: Desktop): Promise<Picture> {
  await desktop.ready();
  await desktop.run('galculator &');
  await desktop.window('galculator');
  return server.screenShows(desktopIsDrawn);
}

say('starting the devices');
await using server = await startServer({
  displays: [options.console ? '800x600' : '1280x800'],
  inputs: ['keyboard', 'tablet'],
  arguments: ['--web', options.web, '--vnc', options.vnc],
});
say(`vfio-user-gpu listens at ${server.socketPath}`);

say('starting QEMU (software emulation, unmodified, -device vfio-user-pci) with a Debian kernel');
const { devices } = server;
await using booted = options.console
  ? await startGuest({ devices, script: CONSOLE_SCRIPT })
  : await startDesktop({ devices });
const isDesktop = booted instanceof Desktop;
const guest = isDesktop ? booted.guest : booted;
const { width, height } = isDesktop ? await desktopIsShown(booted) : await consoleIsShown(booted);
await writeFile(options.output, await server.ask('GET', '/v1/displays/0/screenshot'));
say(`the guest is on the screen: ${width}x${height}, written to ${options.output}`);

if (!options.exit) {
  const { address } = await server.waitForLog('VNC');
  const page = await server.waitForLog('web page');
  say(`the guest keeps running. See and use it at ${page.url}`);
  console.log(`  only to look at it: ${page.viewUrl}`);
  console.log(`  with a VNC viewer: ${address}`);
  const program = 'node dist/server/main.js';
  say('in another terminal:');
  console.log(`  ${program} screenshot --api-socket ${server.apiSocketPath} --output now.png`);
  console.log(`  ${program} resize --api-socket ${server.apiSocketPath} 1440x900`);
  console.log(`  curl --unix-socket ${server.apiSocketPath} http://localhost/v1/info`);
  say('Ctrl-C ends it');
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM'), guest.exited, server.exited]);
  say('leaving');
}
