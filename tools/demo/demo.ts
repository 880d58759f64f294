/**
 * Boots Debian in QEMU on our devices, waits until its desktop is on the screen, writes the picture to `demo.png`, and
 * keeps running until Ctrl-C.
 *
 *     npm run demo                           and then open the web page that it prints
 *     npm run demo -- --web 127.0.0.1:8000   has the web page there; on a free port by default
 *     npm run demo -- --vnc 127.0.0.1:5900   has VNC there; on a free port by default
 *     npm run demo -- --exit                 leaves after the picture
 *     npm run demo -- --console              boots no desktop, only the kernel with its text console: 3 s sooner
 *
 * Where the desktop cannot be had from the archive, it is the text console as well.
 */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { assemble, leaveIfMissing, PartMissing } from '../testbed/cache.ts';
import { consoleLine, parseConsoleFont, readConsole } from '../testbed/console.ts';
import { Desktop, desktopIsDrawn, startDesktop } from '../testbed/desktop.ts';
import type { Picture } from '../testbed/pictures.ts';
import { type Guest, startGuest } from '../testbed/qemu.ts';
import { type Server, startServer } from '../testbed/server.ts';

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

/** What is missing is said by now. */
async function desktopIsThere(): Promise<boolean> {
  try {
    await assemble('desktop');
    return true;
  } catch (error) {
    if (!(error instanceof PartMissing)) throw error;
    say('the desktop cannot be had: opening the text console instead');
    return false;
  }
}

async function consoleIsShown(server: Server, guest: Guest): Promise<Picture> {
  const font = parseConsoleFont(await guest.waitFor(consoleLine));
  await guest.waitFor('@@SHOT console');
  const picture = await server.screenShows((shown) =>
    readConsole(shown, font).some((line) => line.includes(LAST_LINE)),
  );
  guest.write('\n');
  return picture;
}

async function desktopIsShown(server: Server, desktop: Desktop): Promise<Picture> {
  await desktop.ready();
  await desktop.run('galculator &');
  await desktop.window('galculator');
  return server.screenShows(desktopIsDrawn);
}

async function demo(): Promise<void> {
  const isDesktop = !options.console && (await desktopIsThere());
  say('starting the devices');
  await using server = await startServer({
    displays: [isDesktop ? '1280x800' : '800x600'],
    inputs: ['keyboard', 'tablet'],
    arguments: ['--web', options.web, '--vnc', options.vnc],
  });
  say(`vfio-user-gpu listens at ${server.socketPath}`);

  say('starting QEMU (software emulation, unmodified, -device vfio-user-pci) with a Debian kernel');
  const { devices } = server;
  await using booted = isDesktop
    ? await startDesktop({ devices })
    : await startGuest({ devices, script: CONSOLE_SCRIPT });
  const guest = booted instanceof Desktop ? booted.guest : booted;
  const { width, height } =
    booted instanceof Desktop ? await desktopIsShown(server, booted) : await consoleIsShown(server, booted);
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
    say('Ctrl-C ends it');
    await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM'), guest.exited, server.exited]);
    say('leaving');
  }
}

await demo().catch(leaveIfMissing);
