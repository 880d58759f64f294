/** The desktop of the test bed on our display: typed to, clicked at, resized. */
import { expect, test } from 'vitest';
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
import type { Device, Guest } from '../../tools/testbed/qemu.ts';
import { expectNoComplaints, kernels, soon, startServer } from './support.ts';

const keyboardAndTablet: Device = {
  kind: 'raw',
  arguments: ['-device', 'virtio-keyboard-pci,romfile=', '-device', 'virtio-tablet-pci,romfile='],
};

/** Names that QEMU has for keys; those of letters and digits are themselves. */
const keyNames: Readonly<Record<string, string>> = { ' ': 'spc', '\n': 'ret', '/': 'slash', '-': 'minus' };

async function type(desktop: Desktop, text: string): Promise<void> {
  for (const [index, character] of [...text].entries()) {
    const key = { type: 'qcode', data: keyNames[character] ?? character };
    for (const down of [true, false])
      await desktop.guest.qmp('input-send-event', { events: [{ type: 'key', data: { key, down } }] });
    // QEMU drops what a guest has no room for, which is 64 events: 16 characters.
    if (index % 8 === 7) await desktop.run('true');
  }
}

const press = (guest: Guest, down: boolean) =>
  guest.qmp('input-send-event', { events: [{ type: 'btn', data: { button: 'left', down } }] });

async function moveTo(guest: Guest, { width, height }: Picture, x: number, y: number): Promise<void> {
  // QEMU's tablet counts to 32767 from edge to edge; the middle of a pixel is meant.
  const events = [
    { type: 'abs', data: { axis: 'x', value: Math.round(((x + 0.5) * 0x7fff) / width) } },
    { type: 'abs', data: { axis: 'y', value: Math.round(((y + 0.5) * 0x7fff) / height) } },
  ];
  await guest.qmp('input-send-event', { events });
}

/** A click as a hand makes it, by the guest's clock: libinput filters what is shorter. */
async function click(
  desktop: Desktop,
  picture: Picture,
  { x, y }: { readonly x: number; readonly y: number },
): Promise<void> {
  await moveTo(desktop.guest, picture, x, y);
  for (const isDown of [true, false]) {
    await press(desktop.guest, isDown);
    await desktop.run('usleep 50000');
  }
}

/** What the calculator shows, as a picture. */
const numberOf = (calculator: DesktopWindow) => (picture: Picture) => {
  const { x, y, width, height } = calculatorDisplay(calculator);
  return crop(picture, x, y, width, height);
};

test.each(kernels)(
  'with Linux %s the desktop takes keys and clicks, and follows its display',
  async (kernel) => {
    await using server = await startServer({ displays: ['1024x768'] });
    await using desktop = await startDesktop({ kernel, devices: [server.device, keyboardAndTablet] });
    await desktop.ready();
    await server.screenShows(desktopIsDrawn);

    // Typed into the terminal.
    await type(desktop, 'mkdir -p /tmp/typed/by/keys\n');
    const typed = async () => (await desktop.run('cd /tmp && find typed')).output;
    expect(await soon(typed, (output) => output.includes('keys'))).toBe('typed\ntyped/by\ntyped/by/keys\n');

    // Clicked on the panel, then in the window of a toolkit.
    const start = await server.screenshot();
    await click(desktop, start, { x: start.width - 215, y: panelHeight / 2 });
    const calculator = await desktop.window('galculator');
    expect(calculator).toMatchObject({ focused: true });
    const number = numberOf(calculator);
    const isShown = (expected: Picture) => (picture: Picture) =>
      comparePictures(number(picture), expected) === undefined;
    const clickButtons = async (...names: CalculatorButton[]) => {
      for (const name of names) await click(desktop, start, calculatorButton(calculator, name));
    };
    const zero = number(await server.screenShows((picture) => !isShown(number(start))(picture)));
    await clickButtons('7');
    const seven = number(await server.screenShows((picture) => !isShown(zero)(picture)));
    await clickButtons('AC');
    await server.screenShows(isShown(zero));
    await clickButtons('9', '-', '2', '=');
    await server.screenShows(isShown(seven));

    // Resized.
    for (const [width, height] of [
      [1281, 723],
      [800, 600],
      [1920, 1080],
    ] as const) {
      await server.resize(0, width, height);
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
