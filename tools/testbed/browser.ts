/**
 * A real browser without a screen: Debian's Chromium, driven by playwright-core. Pages report what went wrong in them,
 * and what is on the canvas can be read back pixel by pixel.
 */
import { existsSync } from 'node:fs';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { decodePng, type Picture } from './pictures.ts';

const EXECUTABLE = '/usr/bin/chromium';

/** Why there is no browser here; undefined when there is one. */
export const whyNoBrowser = existsSync(EXECUTABLE)
  ? undefined
  : `${EXECUTABLE} is missing: tools/setup --tests installs it`;

/** Starts a browser with a profile of its own, which knows nothing and asks nobody. */
export async function startBrowser(): Promise<Browser> {
  return await chromium.launch({
    executablePath: EXECUTABLE,
    args: [
      '--headless=new',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}

/** A page, and everything that is wrong with it. */
export interface ObservedPage {
  readonly page: Page;
  /** Errors on the console, exceptions, violations of the content security policy, requests to elsewhere. */
  readonly problems: string[];
  close(): Promise<void>;
}

/** Opens a page in a context of its own: no cookies, nothing in a cache. */
export async function openPage(
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<ObservedPage> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  const problems: string[] = [];
  const { host } = new URL(url);
  page.on('console', (message) => {
    if (message.type() === 'error') problems.push(message.text());
  });
  page.on('pageerror', (error) => problems.push(error.message));
  const observe = (target: string) => {
    const { protocol, host: asked } = new URL(target);
    if (protocol !== 'data:' && asked !== host) problems.push(`a request to ${target}`);
  };
  page.on('request', (request) => observe(request.url()));
  page.on('websocket', (socket) => observe(socket.url()));
  await page.goto(url);
  return { page, problems, close: () => context.close() };
}

/** What noVNC's canvas shows now; undefined while there is none. */
export async function readCanvas(page: Page): Promise<Picture | undefined> {
  const png = await page.evaluate<string | undefined>(`(() => {
    const canvas = document.querySelector('#screen canvas');
    return canvas && canvas.width > 0 ? canvas.toDataURL('image/png').split(',')[1] : undefined;
  })()`);
  return png === undefined ? undefined : decodePng(Buffer.from(png, 'base64'));
}

const [SHIFTED, UNSHIFTED] = ['~!@#$%^&*()_+{}|:"<>?', "`1234567890-=[]\\;',./"];

/**
 * Types a text as a person does on an American keyboard. Playwright's own `type` never presses Shift, so that the guest,
 * which is told of keys, has `4` for `$`.
 */
export async function typeAsPerson(page: Page, text: string): Promise<void> {
  for (const character of text) {
    const key = character === '\n' ? 'Enter' : (UNSHIFTED[SHIFTED.indexOf(character)] ?? character);
    const isShifted = SHIFTED.includes(character) || /[A-Z]/.test(character);
    await page.keyboard.press(isShifted ? `Shift+${key}` : key, { delay: 10 });
  }
}

/** Opens one of the page's panels: Keys, Type text, Picture, Share. In a narrow window they are behind the menu. */
export async function openPanel(page: Page, name: string): Promise<void> {
  const menu = page.locator('#menu');
  if (await menu.isVisible()) await menu.click();
  await page.getByRole('button', { name, exact: true }).click();
}

/** The point of the page where a pixel of the guest's screen is: its middle. */
export async function pointOf(page: Page, x: number, y: number): Promise<{ x: number; y: number }> {
  const canvas = page.locator('#screen canvas');
  const box = await canvas.boundingBox();
  const [width, height] = await Promise.all(
    ['width', 'height'].map(async (name) => Number(await canvas.getAttribute(name))),
  );
  if (!box || !width || !height) throw new Error('the page shows no screen');
  return { x: box.x + ((x + 0.5) * box.width) / width, y: box.y + ((y + 0.5) * box.height) / height };
}
