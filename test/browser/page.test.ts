import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Screen } from '../../server/displays/screen.ts';
import {
  type ObservedPage,
  openPage,
  openPanel,
  pointOf,
  readCanvas,
  startBrowser,
  typeAsPerson,
  whyNoBrowser,
} from '../../tools/testbed/browser.ts';
import { comparePictures, type Picture, paintPicture } from '../../tools/testbed/pictures.ts';
import { soon } from '../support/soon.ts';
import { WebStage } from '../support/web.ts';

if (whyNoBrowser) console.log(`skipped: ${whyNoBrowser}`);

const picture = (width: number, height: number, seed = 0) =>
  paintPicture(
    width,
    height,
    (x, y) => (((x * 5 + seed) % 256) << 16) | (((y * 3) % 256) << 8) | ((x * y + seed) & 255),
  );
const TOKENS = { control: 'control-token-0123456789', view: 'view-token-0123456789' };
const axe = () => readFileSync(createRequire(import.meta.url).resolve('axe-core'), 'utf8');

describe.skipIf(whyNoBrowser)('the page in a real browser', () => {
  let browser: Browser;
  let stage: WebStage;
  let pages: ObservedPage[] = [];
  beforeAll(async () => {
    browser = await startBrowser();
  });
  afterAll(async () => await browser?.close());
  afterEach(async () => {
    for (const { close } of pages) await close();
    pages = [];
    await stage.close();
  });

  /** A page that is connected. What is wrong with it is a failure of the test. */
  async function open(path = '', options: Parameters<typeof openPage>[2] = {}): Promise<Page> {
    const opened = await openPage(browser, new URL(path, stage.url).href, options);
    pages.push(opened);
    await isConnected(opened.page);
    return opened.page;
  }

  async function start(shown: Picture | undefined = picture(320, 200), displays = 1): Promise<void> {
    stage = new WebStage(displays);
    await stage.listen();
    if (shown) stage.draw(0, shown);
  }

  const isConnected = (page: Page) => page.waitForSelector('body[data-state=connected]');
  const shows = (page: Page, expected: Picture) =>
    soon(async () => {
      const seen = await readCanvas(page);
      expect(seen && comparePictures(seen, expected)).toBe(undefined);
      expect(seen?.width).toBe(expected.width);
    });
  const keysAre = (...keys: string[]) => soon(() => expect(stage.keys).toEqual(keys));
  const modeIs = (width: number, height: number) =>
    soon(() => expect(stage.screens[0]?.mode).toMatchObject({ width, height }));
  const lastPointer = () => stage.events.filter((event) => event.type === 'pointer').at(-1);
  const expectNoProblems = () => expect(pages.flatMap(({ problems }) => problems)).toEqual([]);

  test('shows every pixel as it is, and what becomes of them', async () => {
    await start(picture(640, 480));
    const page = await open();
    await shows(page, picture(640, 480));
    stage.draw(0, picture(640, 480, 17));
    await shows(page, picture(640, 480, 17));
    stage.draw(0, picture(300, 200));
    await shows(page, picture(300, 200));
    expectNoProblems();
  });

  test('types in the guest what is typed on its screen, as the keys that were pressed', async () => {
    await start();
    const page = await open();
    await page.locator('#screen canvas').focus();
    await page.keyboard.press('Tab');
    await typeAsPerson(page, 'a$|C\n');
    const shifted = (code: number) => ['+42', `+${code}`, `-${code}`, '-42'];
    const keys = ['+15', '-15', '+30', '-30', ...shifted(5), ...shifted(43), ...shifted(46), '+28', '-28'];
    await keysAre(...keys);
    expectNoProblems();
  });

  test('lets go of the screen and of its keys by Ctrl+Alt+Shift', async () => {
    await start();
    const page = await open();
    await page.locator('#screen canvas').focus();
    for (const key of ['ControlLeft', 'AltLeft', 'ShiftLeft']) await page.keyboard.down(key);
    expect(await page.evaluate('document.activeElement.id')).toBe('displays');
    for (const key of ['ControlLeft', 'AltLeft', 'ShiftLeft']) await page.keyboard.up(key);
    await page.keyboard.press('Tab');
    await soon(() => expect(stage.keys.toSorted()).toEqual(['+29', '+56', '-29', '-56']));
    expect(await page.evaluate('document.activeElement.textContent')).toBe('Keys');
  });

  test('can be used without a pointer: every control in turn, with a ring around it', async () => {
    await start();
    const page = await open();
    const seen: string[] = [];
    for (let i = 0; i < 7; i++) {
      await page.keyboard.press('Tab');
      seen.push(
        await page.evaluate<string>(`(() => {
          const { id, textContent, tagName } = document.activeElement;
          const ring = getComputedStyle(document.activeElement).outlineStyle;
          return (id || textContent || tagName.toLowerCase()) + (ring === 'none' ? ' without a ring' : '');
        })()`),
      );
    }
    // The ring of the screen is on top of it.
    expect(seen).toEqual([
      'displays',
      'Keys',
      'Type text',
      'Picture',
      'Share',
      'full-screen',
      'canvas without a ring',
    ]);
    const ring = await page.evaluate(
      `getComputedStyle(document.getElementById('stage'), '::after').borderTopStyle`,
    );
    expect(ring).toBe('solid');
  });

  test('opens a panel by the keyboard, and closes it where it came from', async () => {
    await start();
    const page = await open();
    const active = () =>
      page.evaluate('document.activeElement.ariaLabel || document.activeElement.textContent');
    await page.getByRole('button', { name: 'Keys', exact: true }).focus();
    await page.keyboard.press('Enter');
    expect(await active()).toBe('Close: Keys');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await keysAre('+29', '+56', '+111', '-111', '-56', '-29');
    await page.keyboard.press('Escape');
    expect(await active()).toBe('Keys');
    expect(await page.locator('#keys-panel').isVisible()).toBe(false);
    expectNoProblems();
  });

  test('is left from full screen by the same keys', async () => {
    await start();
    const page = await open();
    const full = () => page.evaluate('document.fullscreenElement && document.fullscreenElement.id');
    await page.click('#full-screen');
    await soon(async () => expect(await full()).toBe('stage'));
    await modeIs(1280, 800);
    await page.keyboard.press('KeyA');
    await keysAre('+30', '-30');
    for (const key of ['ControlLeft', 'AltLeft', 'ShiftLeft']) await page.keyboard.down(key);
    await soon(async () => expect(await full()).toBe(null));
    expectNoProblems();
  });

  test('has its pointer where the browser has it, in pixels of the guest, also when the picture is made smaller', async () => {
    await start(picture(2000, 1000));
    const page = await open('', { viewport: { width: 1000, height: 700 } });
    await shows(page, picture(2000, 1000));
    for (const [x, y] of [
      [0, 0],
      [1234, 567],
      [1999, 999],
    ] as const) {
      const point = await pointOf(page, x, y);
      await page.mouse.move(point.x, point.y);
      await page.mouse.down();
      await soon(() => expect(lastPointer()).toMatchObject({ buttons: 1 }));
      const pointer = lastPointer();
      await page.mouse.up();
      await soon(() => expect(lastPointer()).toMatchObject({ buttons: 0 }));
      // A point of this page is two pixels of the guest.
      expect(Math.abs((pointer?.type === 'pointer' ? pointer.x : -9) - x)).toBeLessThanOrEqual(1);
      expect(Math.abs((pointer?.type === 'pointer' ? pointer.y : -9) - y)).toBeLessThanOrEqual(1);
    }
    await page.mouse.wheel(0, 100);
    await soon(() => expect(stage.events).toContainEqual(expect.objectContaining({ wheelY: -120 })));
    await page.mouse.click(500, 400, { button: 'right' });
    await soon(() => expect(stage.events).toContainEqual(expect.objectContaining({ buttons: 4 })));
    expectNoProblems();
  });

  test('asks the guest for the size of the window, in pixels of the device', async () => {
    await start();
    const page = await open('', { viewport: { width: 800, height: 600 }, deviceScaleFactor: 1.5 });
    const header = (await page.locator('header').boundingBox())?.height ?? 0;
    await modeIs(1200, Math.round((600 - header) * 1.5));
    await page.setViewportSize({ width: 900, height: 500 });
    await modeIs(1350, Math.round((500 - header) * 1.5));
    const { width, height } = (stage.screens[0] as Screen).mode;
    stage.draw(0, picture(width, height));
    await shows(page, picture(width, height));
    // One pixel of the guest is one of the device.
    expect((await page.locator('#screen canvas').boundingBox())?.width).toBeCloseTo(900, 0);
    await openPanel(page, 'Picture');
    await page.check('input[value=large]');
    await modeIs(900, Math.round(500 - header));
    await page.check('input[value=own]');
    await page.setViewportSize({ width: 600, height: 500 });
    await page.waitForTimeout(400);
    await modeIs(900, Math.round(500 - header));
    expectNoProblems();
  });

  test('that only looks changes nothing', async () => {
    await start();
    const page = await open('view');
    await shows(page, picture(320, 200));
    await page.mouse.click(500, 400);
    await page.locator('#screen canvas').focus();
    await page.keyboard.type('rm -rf');
    await page.setViewportSize({ width: 700, height: 500 });
    expect(await page.getByText('Keys', { exact: true }).isVisible()).toBe(false);
    expect(await page.getByText('View only').isVisible()).toBe(true);
    // The other page's keys are the proof that there was time for these.
    const other = await open();
    await other.locator('#screen canvas').focus();
    await other.keyboard.press('KeyQ');
    await keysAre('+16', '-16');
    expect(stage.events.filter(({ type }) => type === 'pointer')).toEqual([]);
    expectNoProblems();
  });

  test('takes the token out of the address, and gives away a link that only looks', async () => {
    stage = new WebStage(1);
    await stage.listen({ tokens: TOKENS });
    stage.draw(0, picture(320, 200));
    const page = await open(`?token=${TOKENS.control}`);
    expect(page.url()).toBe(stage.url);
    await openPanel(page, 'Share');
    await soon(async () => expect(await page.inputValue('#view-link')).toContain('token='));
    const link = await page.inputValue('#view-link');
    expect(link).not.toContain(TOKENS.control);
    const guest = await open(link);
    await shows(guest, picture(320, 200));
    expect(guest.url()).toBe(`${stage.url}view`);
    // The same browser may have both.
    await page.goto(link);
    await isConnected(page);
    await page.goto(stage.url);
    await isConnected(page);
    await page.reload();
    await isConnected(page);
    expectNoProblems();
  });

  test('comes back by itself when the server does', async () => {
    await start();
    const page = await open();
    const port = Number(new URL(stage.url).port);
    await page.locator('#screen canvas').focus();
    await stage.close();
    await page.waitForSelector('body[data-state=lost]');
    expect(await page.getByRole('status').first().textContent()).toBe('Connection lost, trying again');
    stage = new WebStage(1);
    await stage.listen({ address: { host: '127.0.0.1', port } });
    stage.draw(0, picture(100, 90, 5));
    await isConnected(page);
    await shows(page, picture(100, 90, 5));
    await page.keyboard.press('KeyA');
    await keysAre('+30', '-30');
  });

  test('says what is missing when the link was not whole', async () => {
    stage = new WebStage(1);
    await stage.listen({ tokens: TOKENS });
    const page = await open(`view?token=${TOKENS.view}`);
    await page.context().clearCookies();
    const { port } = new URL(stage.url);
    await stage.close();
    stage = new WebStage(1);
    await stage.listen({ tokens: TOKENS, address: { host: '127.0.0.1', port: Number(port) } });
    await page.getByText('Open the whole link that the server printed').waitFor();
  });

  test('switches between displays, and says which show nothing', async () => {
    await start(picture(320, 200), 2);
    const page = await open();
    await soon(async () =>
      expect(await page.locator('#displays option').allTextContents()).toEqual([
        'Display 0 · 320×200',
        'Display 1 · off',
      ]),
    );
    await page.selectOption('#displays', '1');
    const notice = page.getByText('The guest shows nothing on this display.');
    await notice.waitFor();
    stage.draw(1, picture(111, 77, 3));
    await shows(page, picture(111, 77, 3));
    await notice.waitFor({ state: 'hidden' });
    await page.goBack();
    await shows(page, picture(320, 200));
    expectNoProblems();
  });

  test('presses keys that a browser or a phone keeps for itself, and holds some', async () => {
    await start();
    const page = await open();
    await openPanel(page, 'Keys');
    await page.click('text=Ctrl+Alt+Del');
    await keysAre('+29', '+56', '+111', '-111', '-56', '-29');
    stage.events.length = 0;
    await page.click('[aria-label="Ctrl+Alt+F2"]');
    await keysAre('+29', '+56', '+60', '-60', '-56', '-29');
    stage.events.length = 0;
    await page.click('[data-hold=Control]');
    expect(await page.getAttribute('[data-hold=Control]', 'aria-pressed')).toBe('true');
    await page.locator('#screen canvas').focus();
    await page.keyboard.press('KeyC');
    await keysAre('+29', '+46', '-46', '-29');
    expect(await page.getAttribute('[data-hold=Control]', 'aria-pressed')).toBe('false');
    expectNoProblems();
  });

  test('types a text that was pasted', async () => {
    await start();
    const page = await open();
    await openPanel(page, 'Type text');
    await page.fill('#text', 'Ab1');
    await page.click('#type');
    await page.getByText('Typed', { exact: true }).waitFor();
    await keysAre('+42', '+30', '-42', '-30', '+48', '-48', '+2', '-2');
    expectNoProblems();
  });

  test('has every pixel exact, or photographs as JPEG where that was chosen', async () => {
    const photo = (seed: number) =>
      paintPicture(640, 480, (x, y) => {
        const level = (a: number) =>
          Math.round(127 + 120 * Math.sin((x + seed) / (20 + a)) * Math.cos(y / (30 - a)));
        return (level(0) << 16) | (level(5) << 8) | level(9);
      });
    const error = (seen: Picture, expected: Picture) =>
      seen.rgb.reduce((sum, value, i) => sum + Math.abs(value - (expected.rgb[i] as number)), 0) /
      seen.rgb.length;
    await start(photo(0));
    const page = await open();
    await shows(page, photo(0));
    await openPanel(page, 'Picture');
    await page.check('input[value=photo]');
    stage.draw(0, photo(50));
    await soon(async () => {
      const off = error((await readCanvas(page)) as Picture, photo(50));
      expect(off).toBeLessThan(4);
      expect(off).toBeGreaterThan(0);
    });
    await page.check('input[value=lossless]');
    stage.draw(0, photo(100));
    await shows(page, photo(100));
    expectNoProblems();
  });

  test('shows how it goes: updates, the way there and back, the lights of the keyboard', async () => {
    await start();
    const page = await open();
    expect(await page.locator('#leds').isVisible()).toBe(false);
    stage.setInput({ leds: { numLock: true, capsLock: false, scrollLock: false } });
    await page.getByRole('img', { name: 'Num Lock is on' }).waitFor();
    await page.getByRole('img', { name: 'Caps Lock is off' }).waitFor();
    await soon(async () => expect(await page.textContent('#latency')).toMatch(/^\d+(\.\d)? ms$/));
    const drawing = setInterval(() => stage.draw(0, picture(320, 200, Math.random() * 1e6)), 50);
    await soon(async () =>
      expect(Number.parseInt((await page.textContent('#rate')) ?? '', 10)).toBeGreaterThan(2),
    );
    clearInterval(drawing);
    stage.setInput({ hasKeyboard: false });
    await page.getByText('Connected; the guest has no keyboard').waitFor();
    expectNoProblems();
  });

  describe('on a phone', () => {
    const phone = {
      viewport: { width: 320, height: 640 },
      deviceScaleFactor: 2,
      isMobile: true,
      hasTouch: true,
    };

    test('has everything in its window, behind a menu', async () => {
      await start();
      const page = await open('', phone);
      await soon(() => expect(stage.screens[0]?.mode.width).toBe(640));
      const width = await page.evaluate('document.documentElement.scrollWidth');
      expect(width).toBe(320);
      expect((await page.locator('header').boundingBox())?.height).toBeLessThan(64);
      await openPanel(page, 'Keys');
      await page.tap('text=Ctrl+Alt+Del');
      await soon(() => expect(stage.keys).toHaveLength(6));
      const panel = await page.locator('#keys-panel').boundingBox();
      expect((panel?.x ?? -1) >= 0 && (panel?.x ?? 0) + (panel?.width ?? 0) <= 320).toBe(true);
      expectNoProblems();
    });

    test('clicks where it is tapped, and types what its keyboard writes, deletes and corrects', async () => {
      await start();
      const page = await open('', phone);
      await shows(page, picture(320, 200));
      const point = await pointOf(page, 100, 50);
      await page.touchscreen.tap(point.x, point.y);
      const pressed = expect.objectContaining({ type: 'pointer', x: 100, y: 50, buttons: 1 });
      await soon(() => expect(stage.events).toContainEqual(pressed));
      stage.events.length = 0;
      await page.tap('#phone-keyboard');
      expect(await page.evaluate('document.activeElement.id')).toBe('phone-field');
      const write = (change: string) =>
        page.evaluate(`(() => {
          const field = document.getElementById('phone-field');
          field.value = ${change};
          field.dispatchEvent(new InputEvent('input', { isComposing: true }));
        })()`);
      await write(`field.value + 'teh'`);
      await write(`field.value.slice(0, -2) + 'he'`);
      await write(`field.value.slice(0, -3)`);
      const typed = ['+20', '-20', '+18', '-18', '+35', '-35'];
      const backspace = ['+14', '-14'];
      const corrected = [...backspace, ...backspace, '+35', '-35', '+18', '-18'];
      await keysAre(...typed, ...corrected, ...backspace, ...backspace, ...backspace);
      expectNoProblems();
    });
  });

  test.each(['light', 'dark'] as const)('has nothing that keeps people out, in %s', async (colorScheme) => {
    await start();
    stage.setInput({ leds: { numLock: true, capsLock: false, scrollLock: false } });
    for (const viewport of [
      { width: 1280, height: 800 },
      { width: 320, height: 640 },
    ]) {
      const page = await open('', { viewport, colorScheme, bypassCSP: true });
      await page.addScriptTag({ content: axe() });
      const controls = await page.locator('[aria-controls]').all();
      for (const control of [undefined, ...controls]) {
        // In a narrow window the others are behind the menu.
        await control?.evaluate('(button) => button.click()');
        const found = await page.evaluate<string[]>(`axe.run().then(({ violations }) => violations
          .map(({ id, nodes }) => id + ': ' + nodes.map(({ html }) => html).join(' ')))`);
        expect(found).toEqual([]);
      }
    }
  });
});
