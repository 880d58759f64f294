/** VNC viewers that others wrote, on the desktop of a real guest: the picture is exact, keys and clicks arrive, sizes follow. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { vncResponse } from '../../server/displays/vnc/vnc-auth.ts';
import { type Desktop, desktopIsDrawn, panelHeight, startDesktop } from '../../tools/testbed/desktop.ts';
import { comparePictures, crop, decodePng, type Picture } from '../../tools/testbed/pictures.ts';
import type { Server } from '../../tools/testbed/server.ts';
import { XDisplay } from '../../tools/testbed/x-display.ts';
import { expectNoComplaints, soon, startServer } from './support.ts';

const run = promisify(execFile);
let server: Server;
let desktop: Desktop;
let port: string;
let viewPort: string;

beforeAll(async () => {
  server = await startServer({
    displays: ['1024x768'],
    inputs: ['keyboard', 'tablet'],
    arguments: ['--vnc', '127.0.0.1:0', '--vnc', '127.0.0.1:0,view-only'],
  });
  desktop = await startDesktop({ kernel: 'newest', devices: server.devices });
  await desktop.ready();
  await server.screenShows(desktopIsDrawn);
  await server.ask('GET', '/v1/displays/0/wait?until=stable&timeoutMs=30000');
  const addresses = await soon(
    async () => server.log.filter(({ msg }) => msg === 'VNC'),
    (lines) => lines.length === 2,
  );
  [port, viewPort] = addresses.map(({ address }) => String(address).split(':').at(-1)) as [string, string];
});
afterAll(async () => {
  await desktop?.[Symbol.asyncDispose]();
  await server?.stop();
});

/** Where one picture lies in another one, exactly. */
function findPicture(part: Picture, whole: Picture): { x: number; y: number } | undefined {
  for (let y = 0; y + part.height <= whole.height; y++) {
    for (let x = 0; x + part.width <= whole.width; x++) {
      const at = (y * whole.width + x) * 3;
      const firstRow = whole.rgb.subarray(at, at + part.width * 3);
      if (!firstRow.equals(part.rgb.subarray(0, part.width * 3))) continue;
      const there = crop(whole, x, y, part.width, part.height);
      if (comparePictures(there, part) === undefined) return { x, y };
    }
  }
  return undefined;
}

test('gvnccapture of gtk-vnc takes exactly the picture, the pointer in it', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'capture-'));
  const file = join(folder, 'picture.png');
  const captured = await soon(
    async () => {
      await run('gvnccapture', [`127.0.0.1:${Number(port) - 5900}`, file]);
      return comparePictures(decodePng(await readFile(file)), await server.screenshot(0, { cursor: true }));
    },
    // The clock of the panel may turn in between.
    (difference) => difference === undefined,
  );
  await rm(folder, { recursive: true });
  expect(captured).toBe(undefined);
});

/** TigerVNC's viewer, without what makes a picture another one. */
const startViewer = (x: XDisplay, where: string, ...args: readonly string[]) =>
  x.spawn('xtigervncviewer', `127.0.0.1::${where}`, '-NoJPEG', '-AutoSelect=0', '-FullColor', ...args);

describe("TigerVNC's viewer", () => {
  test.each(['Tight', 'ZRLE', 'Raw'])('shows exactly the picture with %s', async (encoding) => {
    await using x = await XDisplay.start(1200, 900);
    // The pointer of X would be in the picture.
    await x.do('mousemove', '1199', '899');
    startViewer(x, port, `-PreferredEncoding=${encoding}`, '-RemoteResize=0', '-geometry', '1100x850+0+0');
    const found = await soon(
      async () => findPicture(await server.screenshot(), await x.picture()),
      (place) => place !== undefined,
      20_000,
    );
    expect(found).toBeDefined();
  });

  /** A viewer that asks for 1100x820. Resolves when the picture is `width` wide and the viewer shows it, with where. */
  const openWindow = async (x: XDisplay, port: string, width: number) => {
    startViewer(x, port, '-RemoteResize=1', '-geometry', '1100x820+0+0');
    const window = await x.do('search', '--sync', '--onlyvisible', '--name', 'vfio-user-gpu display 0');
    await x.do('mousemove', '1299', '999');
    const place = await soon(
      async () => {
        const picture = await server.screenshot();
        return picture.width === width ? findPicture(picture, await x.picture()) : undefined;
      },
      (found) => found !== undefined,
      20_000,
    );
    if (!place) throw new Error('the viewer does not show the picture');
    return { window, place };
  };

  const typeLine = async (x: XDisplay, window: string, line: string) => {
    await x.do('windowfocus', '--sync', window);
    await x.do('type', '--delay', '40', '--window', window, line);
    await x.do('key', '--window', window, 'Return');
  };

  const clickOnPanel = async (x: XDisplay, place: { x: number; y: number }) => {
    const { width } = await server.screenshot();
    await x.do('mousemove', String(place.x + width - 215), String(place.y + panelHeight / 2));
    await desktop.run('usleep 100000');
    await x.do('mousedown', '1');
    // libinput takes what is shorter for a bouncing contact.
    await desktop.run('usleep 50000');
    await x.do('mouseup', '1');
  };

  test('shows the picture where people only watch, and nothing is typed, clicked or resized', async () => {
    await using x = await XDisplay.start(1300, 1000);
    const { window, place } = await openWindow(x, viewPort, 1024);
    await clickOnPanel(x, place);
    await typeLine(x, window, 'mkdir -p /tmp/watched');
    await desktop.run('sleep 1');
    expect((await desktop.run('ls /tmp')).output).not.toContain('watched');
    expect(JSON.stringify(await desktop.windows())).not.toContain('galculator');
    expect((await server.displays())[0]?.picture).toEqual({ width: 1024, height: 768 });
  });

  test('types into the guest, clicks there, and has it follow the size of its window', async () => {
    await using x = await XDisplay.start(1300, 1000);
    const { window, place } = await openWindow(x, port, 1100);
    expect((await server.displays())[0]?.picture).toEqual({ width: 1100, height: 820 });

    await x.do('mousemove', '600', '600');
    await typeLine(x, window, 'mkdir -p /tmp/typed/with/Tiger_VNC');
    const typed = async () => (await desktop.run('cd /tmp && find typed')).output;
    expect(await soon(typed, (output) => output.includes('VNC'))).toContain('typed/with/Tiger_VNC\n');

    await clickOnPanel(x, place);
    expect(await desktop.window('galculator')).toMatchObject({ focused: true });

    await x.do('windowsize', '--sync', window, '900', '700');
    await server.screenShows((shown) => shown.width === 900 && shown.height === 700 && desktopIsDrawn(shown));
  });
});

test("TigerVNC's viewer gets in through TLS with a certificate that it knows, and the password", async () => {
  const folder = await mkdtemp(join(tmpdir(), 'tls-'));
  const [certificate, key, password, ours] = ['certificate', 'key', 'password', 'ours'].map((name) =>
    join(folder, name),
  );
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
  const files = ['-keyout', key!, '-out', certificate!];
  await run('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', ...names, ...files]);
  await writeFile(ours!, 'secret78\n');
  // A file of vncpasswd is the password, encrypted with a key that everybody knows.
  const known = Buffer.from([23, 82, 107, 6, 35, 78, 88, 7]).toString('latin1');
  await writeFile(password!, vncResponse(known, Buffer.from('secret78')));
  await using secured = await startServer({
    arguments: [
      '--vnc',
      'localhost:0',
      '--vnc-password-file',
      ours!,
      '--tls-certificate',
      certificate!,
      '--tls-key',
      key!,
    ],
  });
  const { address } = await secured.waitForLog('VNC');
  await using x = await XDisplay.start(1400, 1000);
  x.spawn(
    ...([
      'xtigervncviewer',
      `localhost::${String(address).split(':').at(-1)}`,
      '-SecurityTypes=X509Vnc',
    ] as const),
    ...[`-X509CA=${certificate}`, '-passwd', password!],
  );
  expect(await x.do('search', '--sync', '--onlyvisible', '--name', 'vfio-user-gpu display 0')).toMatch(
    /^\d+$/,
  );
  await rm(folder, { recursive: true });
});

test('the server had nothing to complain about', () => {
  expectNoComplaints(server);
});
