/** A desktop on our display, used with our keyboard and tablet by a viewer. */
import { connect } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import {
  type CalculatorButton,
  calculatorButton,
  calculatorDisplay,
  type Desktop,
  type DesktopWindow,
  desktopIsDrawn,
  panelColor,
  panelHeight,
  startDesktop,
} from '../../tools/testbed/desktop.ts';
import { colorAt, comparePictures, crop, type Picture } from '../../tools/testbed/pictures.ts';
import type { Server } from '../../tools/testbed/server.ts';
import { FakeViewer } from '../support/fake-viewer.ts';
import { expectNoComplaints, kernels, soon, startServer } from './support.ts';

const EXTENDED_DESKTOP_SIZE = -308;
const XK_Return = 0xff0d;

async function connectViewer(server: Server): Promise<FakeViewer> {
  const { address } = await server.waitForLog('VNC');
  const [host, port] = String(address).split(':') as [string, string];
  return await new FakeViewer(connect(Number(port), host)).connect();
}

/** Types a line as fast as a guest reads it: Linux keeps 64 events for a reader, which is 16 characters. */
async function typeLine(viewer: FakeViewer, desktop: Desktop, text: string): Promise<void> {
  const keysyms = [...[...text].map((character) => character.charCodeAt(0)), XK_Return];
  for (const [index, keysym] of keysyms.entries()) {
    viewer.key(keysym, true);
    viewer.key(keysym, false);
    if (index % 4 === 3) await desktop.run('usleep 20000');
  }
}

/** A click as a hand makes it, by the guest's clock: libinput filters what is shorter. */
async function click(
  viewer: FakeViewer,
  desktop: Desktop,
  { x, y }: { readonly x: number; readonly y: number },
): Promise<void> {
  viewer.pointer(x, y);
  for (const buttons of [1, 0]) {
    viewer.pointer(x, y, buttons);
    await desktop.run('usleep 50000');
  }
}

/** What the calculator shows, as a picture. */
const numberOf = (calculator: DesktopWindow) => (picture: Picture) => {
  const { x, y, width, height } = calculatorDisplay(calculator);
  return crop(picture, x, y, width, height);
};

test.each(kernels)(
  'with Linux %s a viewer types on a desktop, clicks, and changes its size',
  async (kernel) => {
    await using server = await startServer({
      displays: ['1024x768'],
      inputs: ['keyboard', 'tablet'],
      arguments: ['--vnc', '127.0.0.1:0'],
    });
    await using desktop = await startDesktop({ kernel, devices: server.devices });
    await desktop.ready();
    const start = await server.screenShows(desktopIsDrawn);
    // A compositor that is still busy with its start does not read keys, and Linux drops those beyond sixteen.
    await server.ask('GET', '/v1/displays/0/wait?until=stable&timeoutMs=30000');
    const viewer = await connectViewer(server);
    onTestFinished(() => viewer.close());

    // Typed into the terminal.
    await typeLine(viewer, desktop, 'mkdir -p /tmp/typed/by/keys');
    const typed = async () => (await desktop.run('cd /tmp && find typed')).output;
    expect(await soon(typed, (output) => output.includes('keys'))).toBe('typed\ntyped/by\ntyped/by/keys\n');

    // Clicked on the panel, then in the window of a toolkit.
    await click(viewer, desktop, { x: start.width - 215, y: panelHeight / 2 });
    const calculator = await desktop.window('galculator');
    expect(calculator).toMatchObject({ focused: true });
    const number = numberOf(calculator);
    const isShown = (expected: Picture) => (picture: Picture) =>
      comparePictures(number(picture), expected) === undefined;
    const clickButtons = async (...names: CalculatorButton[]) => {
      for (const name of names) await click(viewer, desktop, calculatorButton(calculator, name));
    };
    const zero = number(await server.screenShows((picture) => !isShown(number(start))(picture)));
    await clickButtons('7');
    const seven = number(await server.screenShows((picture) => !isShown(zero)(picture)));
    await clickButtons('AC');
    await server.screenShows(isShown(zero));
    await clickButtons('9', '-', '2', '=');
    await server.screenShows(isShown(seven));

    // Resized.
    viewer.setEncodings(EXTENDED_DESKTOP_SIZE);
    viewer.request();
    await viewer.update();
    for (const [width, height] of [
      [1281, 723],
      [800, 600],
      [1920, 1080],
    ] as const) {
      viewer.setDesktopSize(width, height);
      // The panel reaches the right edge, and the wallpaper the lower right corner, wherever they are now.
      await server.screenShows(
        (shown) =>
          shown.width === width &&
          shown.height === height &&
          desktopIsDrawn(shown) &&
          colorAt(shown, width - 1, 0) === panelColor &&
          colorAt(shown, width - 1, panelHeight - 1) === panelColor,
      );
    }
    expectNoComplaints(server);
  },
);
