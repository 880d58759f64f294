/**
 * A real browser on the page of a real server with real guests: what a person does, seen from both ends. With
 * UPDATE_SCREENSHOTS=1 the pictures of the documentation are made anew.
 */
import { mkdirSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type ObservedPage,
  openPage,
  pointOf,
  readCanvas,
  startBrowser,
  whyNoBrowser,
} from '../../tools/testbed/browser.ts';
import { consoleLine, parseConsoleFont, readConsole } from '../../tools/testbed/console.ts';
import {
  calculatorButton,
  calculatorDisplay,
  type Desktop,
  desktopIsDrawn,
  panelHeight,
  startDesktop,
} from '../../tools/testbed/desktop.ts';
import { comparePictures, crop, type Picture } from '../../tools/testbed/pictures.ts';
import { startGuest } from '../../tools/testbed/qemu.ts';
import type { Server } from '../../tools/testbed/server.ts';
import { expectNoComplaints, soon, startServer } from './support.ts';

if (whyNoBrowser) console.log(`skipped: ${whyNoBrowser}`);

const DOCS = fileURLToPath(new URL('../../docs', import.meta.url));
const inputs = ['keyboard', 'tablet'] as const;

async function screenshot(page: Page, name: string): Promise<void> {
  if (!process.env.UPDATE_SCREENSHOTS) return;
  mkdirSync(DOCS, { recursive: true });
  await page.screenshot({ path: `${DOCS}/${name}.png` });
}

async function openScreen(
  browser: Browser,
  server: Server,
  link: 'url' | 'viewUrl' = 'url',
  viewport = { width: 1100, height: 760 },
): Promise<ObservedPage> {
  const { [link]: url } = await server.waitForLog('web page');
  const opened = await openPage(browser, String(url), { viewport });
  await opened.page.waitForSelector('body[data-state=connected]');
  return opened;
}

/** What the canvas shows, as soon as it is right. */
const canvasShows = async (page: Page, isRight: (picture: Picture) => boolean) => {
  const seen = await soon(
    () => readCanvas(page),
    (picture) => picture !== undefined && isRight(picture),
    30_000,
  );
  expect(seen && isRight(seen)).toBe(true);
  return seen as Picture;
};

/**
 * As hands do it: with Shift held where the American keyboard needs it, which playwright alone leaves out, and no
 * faster than a person, because a desktop that is busy for longer than sixteen keys take loses some.
 */
async function type(page: Page, text: string): Promise<void> {
  for (const character of text) {
    const isShifted = /[A-Z~!@#$%^&*()_+{}|:"<>?]/.test(character);
    if (isShifted) await page.keyboard.down('Shift');
    await page.keyboard.press(character === '\n' ? 'Enter' : character, { delay: 10 });
    if (isShifted) await page.keyboard.up('Shift');
    await setTimeout(30);
  }
}

describe.skipIf(whyNoBrowser)('in a browser', () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await startBrowser();
  });
  afterAll(async () => await browser?.close());

  test("a person sees the guest's console, types a command, and reads what it prints", async () => {
    await using server = await startServer({ inputs, arguments: ['--web', '127.0.0.1:0'] });
    await using guest = await startGuest({
      devices: server.devices,
      script: `
        console ''
        # The cursor blinks as on any console: a kernel that was told of another size shows nothing until it draws.
        printf '\\033[?25h' >/dev/tty1
        PS1='guest# ' setsid -c sh -i </dev/tty1 >/dev/tty1 2>&1`,
    });
    const font = parseConsoleFont(await guest.waitFor(consoleLine));
    const { page, problems, close } = await openScreen(browser, server, 'url', { width: 1320, height: 900 });
    const panel = page.getByRole('button', { name: 'Picture', exact: true });
    await panel.click();
    await page.getByLabel('Leave it as it is').check();
    await panel.click();
    const reads = (line: RegExp) => (picture: Picture) =>
      readConsole(picture, font).some((one) => line.test(one));
    await canvasShows(page, reads(/^guest#/));
    await page.locator('#screen canvas').focus();
    await type(page, 'echo $((6 * 7)) is "The Answer" | tr e 3\n');
    await canvasShows(page, reads(/^42 is Th3 Answ3r$/));
    await screenshot(page, 'web-console');
    expect(problems).toEqual([]);
    await close();
    expectNoComplaints(server);
  });

  describe('on the desktop', () => {
    let server: Server;
    let desktop: Desktop;
    beforeAll(async () => {
      server = await startServer({ displays: ['1024x768'], inputs, arguments: ['--web', '127.0.0.1:0'] });
      desktop = await startDesktop({ kernel: 'newest', devices: server.devices });
      await desktop.ready();
      await server.screenShows(desktopIsDrawn);
      await server.ask('GET', '/v1/displays/0/wait?until=stable&timeoutMs=30000');
    });
    afterAll(async () => {
      await desktop?.[Symbol.asyncDispose]();
      await server?.stop();
    });

    const click = async (page: Page, at: { x: number; y: number }) => {
      const { x, y } = await pointOf(page, at.x, at.y);
      await page.mouse.move(x, y);
      await desktop.run('usleep 50000');
      await page.mouse.down();
      // libinput takes what is shorter for a bouncing contact.
      await desktop.run('usleep 50000');
      await page.mouse.up();
    };

    test('a person has the guest as large as the window, clicks a button, types, and sees what happens', async () => {
      const { page, problems, close } = await openScreen(browser, server);
      const large = await canvasShows(page, (picture) => picture.width === 1100 && desktopIsDrawn(picture));
      expect(comparePictures(large, await server.screenshot())).toBe(undefined);
      await page.locator('#screen canvas').focus();
      await type(page, 'echo $((6 * 7)) >/tmp/answer; history\n');
      const answer = async () => (await desktop.run('cat /tmp/answer')).output;
      expect(await soon(answer, (output) => output.includes('42'))).toBe('42\n');

      await click(page, { x: large.width - 215, y: panelHeight / 2 });
      const calculator = await desktop.window('galculator');
      const number = (picture: Picture) => {
        const { x, y, width, height } = calculatorDisplay(calculator);
        return crop(picture, x, y, width, height);
      };
      const zero = number(
        await canvasShows(page, (picture) => comparePictures(number(picture), number(large)) !== undefined),
      );
      await click(page, calculatorButton(calculator, '7'));
      await canvasShows(page, (picture) => comparePictures(number(picture), zero) !== undefined);
      await screenshot(page, 'web-desktop');
      await desktop.run('swaymsg [app_id=galculator] kill');

      await page.setViewportSize({ width: 820, height: 600 });
      const small = await canvasShows(page, (picture) => picture.width === 820 && desktopIsDrawn(picture));
      expect((await server.displays())[0]?.mode).toMatchObject({ width: 820, height: small.height });
      expect(problems).toEqual([]);
      await close();
    });

    test('somebody with the link to watch sees it, and cannot do anything', async () => {
      const watcher = await openScreen(browser, server, 'viewUrl');
      const before = await canvasShows(watcher.page, desktopIsDrawn);
      const { mode } = (await server.displays())[0]!;
      await watcher.page.locator('#screen canvas').click({ position: { x: 200, y: 200 }, force: true });
      await type(watcher.page, 'touch /tmp/by-a-watcher\n');
      await watcher.page.setViewportSize({ width: 640, height: 480 });

      // Somebody with the other link can, at the same time, and the watcher sees that.
      const other = await openScreen(browser, server, 'url', { width: before.width, height: 700 });
      await canvasShows(other.page, (picture) => picture.height !== before.height && desktopIsDrawn(picture));
      await other.page.locator('#screen canvas').focus();
      await type(other.page, 'touch /tmp/by-a-user\n');
      const files = async () => (await desktop.run('ls /tmp')).output;
      const found = await soon(files, (output) => output.includes('by-a-user'));
      expect(found).toContain('by-a-user');
      expect(found).not.toContain('by-a-watcher');
      expect(mode.width).not.toBe(640);
      await canvasShows(watcher.page, (picture) => comparePictures(picture, before) !== undefined);
      expect([...watcher.problems, ...other.problems]).toEqual([]);
      await watcher.close();
      await other.close();
      expectNoComplaints(server);
    });
  });
});
