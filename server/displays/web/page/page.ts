/**
 * The page: connects a display to noVNC, again when the connection was lost, and does what its buttons say. Which
 * display it is stands behind the # of the address; /view is the page that only looks.
 */
import { type News, ViewerChannel } from './channel.ts';
import { HeldModifiers, isModifier, type KeySink, pressCombination, typeText } from './keys.ts';
import RFB from './novnc/core/rfb.js';
import { initLogging } from './novnc/core/util/logging.js';
import { PhoneKeyboard } from './phone-keyboard.ts';

/** As /displays.json has it (server/displays/web/server.ts). */
interface DisplayList {
  readonly access: 'control' | 'view';
  readonly viewLink: string;
  readonly displays: readonly {
    readonly display: number;
    readonly isShowing: boolean;
    readonly width: number;
    readonly height: number;
  }[];
}

type State = 'connecting' | 'connected' | 'lost';

interface Connection {
  readonly channel: ViewerChannel;
  readonly rfb: RFB;
}

/** Full screen gives a page all keys, in browsers that have this. */
interface KeyboardLock {
  lock(): Promise<void>;
  unlock(): void;
}

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 10_000;
const LIST_INTERVAL_MS = 5000;
const RESIZE_DELAY_MS = 150;
/** What a guest can be asked for (server/displays/mode.ts). */
const [MIN_SIDE, MAX_SIDE] = [32, 8192];
const HINT_MS = 3000;
const NOTHING_SHOWN = 'The guest shows nothing on this display.';

const get = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const all = <T extends HTMLElement>(selector: string) => [...document.querySelectorAll<T>(selector)];

const isViewOnly = /\/view$/.test(location.pathname);
const stage = get('stage');
const screenFrame = get('screen');
const status = get('connection');
const displayChoice = get<HTMLSelectElement>('displays');
const keyboardLock = (navigator as Navigator & { keyboard?: KeyboardLock }).keyboard;

let display = displayInAddress();
let connection: Connection | undefined;
let state: State = 'connecting';
/** The server wants a token that this browser does not have. */
let isRefused = false;
let retryMs = FIRST_RETRY_MS;
let retry: ReturnType<typeof setTimeout> | undefined;
let wasFocused = false;
let list: DisplayList | undefined;

// ---- connecting ----

function connect(): void {
  clearTimeout(retry);
  setState('connecting', 'Connecting');
  const url = new URL(`displays/${display}/${isViewOnly ? 'view' : 'control'}`, location.href);
  url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  url.hash = '';
  const channel = new ViewerChannel(url, showNews);
  channel.isLossless = chosen('quality') === 'lossless';
  const rfb = new RFB(screenFrame, channel, { shared: true });
  connection = { channel, rfb };
  rfb.viewOnly = isViewOnly;
  rfb.scaleViewport = true;
  rfb.background = 'transparent';
  rfb.qualityLevel = channel.isLossless ? 9 : 6;
  rfb.focusOnClick = !isViewOnly;
  rfb.addEventListener('connect', () => {
    const canvas = canvasOf();
    if (canvas) prepareCanvas(canvas);
    // The name comes again with the first picture, behind everything else that the server has to say.
    rfb.addEventListener('desktopname', () => {
      if (state === 'connecting' && connection?.rfb === rfb) onReady(rfb);
    });
  });
  rfb.addEventListener('disconnect', () => onDisconnect(rfb));
}

/** The server has said what it understands; keys pressed before that would be lost, or not let go of. */
function onReady(rfb: RFB): void {
  retryMs = FIRST_RETRY_MS;
  setState('connected', 'Connected');
  if (wasFocused) rfb.focus({ preventScroll: true });
  askForSize();
  void refreshList();
}

function onDisconnect(rfb: RFB): void {
  if (connection?.rfb !== rfb) return;
  connection = undefined;
  held.forget();
  typing?.abort();
  scheduleRetry();
}

function scheduleRetry(): void {
  setState('lost', 'Connection lost, trying again');
  retry = setTimeout(connect, retryMs);
  retryMs = Math.min(retryMs * 2, LONGEST_RETRY_MS);
  // Perhaps it says why.
  void refreshList();
}

function reconnectNow(): void {
  if (connection) return;
  retryMs = FIRST_RETRY_MS;
  connect();
}

function switchTo(next: number): void {
  if (next === display && connection) return;
  display = next;
  const old = connection;
  connection = undefined;
  typing?.abort();
  held.forget();
  old?.rfb.disconnect();
  connect();
}

function setState(next: State, text: string): void {
  state = next;
  document.body.dataset.state = state;
  if (status.textContent !== text) status.textContent = text;
  status.title = text;
  updateNotice();
}

/** What there is to say in the place of a picture. */
function updateNotice(): void {
  const isOff = list?.displays.find((one) => one.display === display)?.isShowing === false;
  const text = isRefused
    ? 'Open the whole link that the server printed: it has a token in it.'
    : state === 'lost'
      ? 'The connection is lost. This page tries to get it back.'
      : state === 'connected' && isOff
        ? NOTHING_SHOWN
        : '';
  get('notice').hidden = text === '';
  get('notice-text').textContent = text;
  get('try-now').hidden = state !== 'lost';
}

function displayInAddress(): number {
  const number = Number(location.hash.slice(1));
  return Number.isInteger(number) && number >= 0 && number < 100 ? number : 0;
}

// ---- the picture ----

const canvasOf = () => screenFrame.querySelector('canvas');

function prepareCanvas(canvas: HTMLCanvasElement): void {
  // noVNC's own is reached only by a click.
  canvas.tabIndex = 0;
  canvas.setAttribute('role', isViewOnly ? 'img' : 'application');
  canvas.setAttribute('aria-labelledby', 'screen-name');
  if (!isViewOnly) canvas.setAttribute('aria-describedby', 'leave-hint');
  canvas.addEventListener('focus', () => {
    wasFocused = true;
    if (!isViewOnly && canvas.matches(':focus-visible')) hint();
  });
  canvas.addEventListener('blur', () => {
    // A screen that is taken away with its connection comes back with the focus.
    setTimeout(() => {
      if (canvas.isConnected) wasFocused = false;
    });
    // Keys come up where nobody hears of it: noVNC lets go of all it holds when the window loses the focus.
    window.dispatchEvent(new Event('blur'));
  });
  const resized = () => {
    fitPicture(canvas);
    void refreshList();
  };
  new MutationObserver(resized).observe(canvas, { attributeFilter: ['width', 'height'] });
  fitPicture(canvas);
}

/**
 * A picture of the size of the window has one pixel for each of the device's, also where the window's size in points
 * is no whole number. A smaller one is not blown up; a larger one is made to fit by noVNC.
 */
function fitPicture(canvas: HTMLCanvasElement): void {
  const window = stage.getBoundingClientRect();
  const [width, height] = [canvas.width / devicePixelRatio, canvas.height / devicePixelRatio];
  const isExact = Math.abs(width - window.width) < 1 && Math.abs(height - window.height) < 1;
  const point = Math.min(1, devicePixelRatio);
  screenFrame.style.width = isExact ? `${width}px` : '100%';
  screenFrame.style.height = isExact ? `${height}px` : '100%';
  screenFrame.style.maxWidth = isExact ? 'none' : `${canvas.width / point}px`;
  screenFrame.style.maxHeight = isExact ? 'none' : `${canvas.height / point}px`;
  nameScreen();
}

function nameScreen(): void {
  const canvas = canvasOf();
  const size = canvas && canvas.width > 0 ? `, ${canvas.width} by ${canvas.height} pixels` : '';
  get('screen-name').textContent = `Screen of display ${display}${size}`;
  document.title = `Display ${display} · vfio-user-gpu`;
}

/** Of the stage, in pixels of the device. */
let stagePixels: { width: number; height: number } | undefined;
let resizing: ReturnType<typeof setTimeout> | undefined;

function watchStage(): void {
  const observer = new ResizeObserver(([entry]) => {
    const exact = entry?.devicePixelContentBoxSize?.[0];
    const pixels = (points: number, counted: number | undefined) => {
      const computed = points * devicePixelRatio;
      // A browser that pretends to be another device counts the pixels of its own.
      return counted !== undefined && Math.abs(counted - computed) < 2 ? counted : Math.round(computed);
    };
    const { width, height } = stage.getBoundingClientRect();
    stagePixels = {
      width: pixels(width, exact?.inlineSize),
      height: pixels(height, exact?.blockSize),
    };
    const canvas = canvasOf();
    if (canvas) fitPicture(canvas);
    clearTimeout(resizing);
    resizing = setTimeout(askForSize, RESIZE_DELAY_MS);
  });
  try {
    observer.observe(stage, { box: 'device-pixel-content-box' });
  } catch {
    observer.observe(stage);
  }
}

function askForSize(): void {
  const choice = chosen('size');
  const canvas = canvasOf();
  if (!connection || state !== 'connected' || !stagePixels || !canvas || isViewOnly || choice === 'own')
    return;
  // The keyboard of a phone covers half of the page for as long as it is open.
  if (phone.isOpen) return;
  const perPixel = choice === 'sharp' ? 1 : devicePixelRatio;
  const side = (pixels: number) => Math.min(MAX_SIDE, Math.max(MIN_SIDE, Math.round(pixels / perPixel)));
  const [width, height] = [side(stagePixels.width), side(stagePixels.height)];
  if (width === canvas.width && height === canvas.height) return;
  connection.channel.requestSize(width, height);
}

// ---- what the server says ----

async function refreshList(): Promise<void> {
  try {
    const response = await fetch(new URL('displays.json', location.href), { cache: 'no-store' });
    isRefused = response.status === 401;
    updateNotice();
    if (!response.ok) return;
    list = (await response.json()) as DisplayList;
  } catch {
    // The state of the connection says it.
    return;
  }
  const options = list.displays.map(({ display, isShowing, width, height }) => {
    const text = `Display ${display} · ${isShowing ? `${width}×${height}` : 'off'}`;
    return { value: String(display), text };
  });
  const before = [...displayChoice.options].map(({ value, text }) => ({ value, text }));
  if (JSON.stringify(before) !== JSON.stringify(options)) {
    displayChoice.replaceChildren(...options.map(({ value, text }) => new Option(text, value)));
  }
  displayChoice.value = String(display);
  const link = new URL(list.viewLink, location.href);
  link.hash = display === 0 ? '' : String(display);
  get<HTMLInputElement>('view-link').value = link.href;
  updateNotice();
}

function showNews({ hasKeyboard, hasPointer, leds, roundTripMs }: News): void {
  if (roundTripMs !== undefined)
    get('latency').textContent = `${roundTripMs.toFixed(roundTripMs < 10 ? 1 : 0)} ms`;
  get('leds').hidden = leds === undefined;
  if (leds) {
    showLed('led-num', 'Num Lock', leds.numLock);
    showLed('led-caps', 'Caps Lock', leds.capsLock);
    showLed('led-scroll', 'Scroll Lock', leds.scrollLock);
  }
  if (state === 'connected' && !isViewOnly) {
    const missing = [...(hasKeyboard ? [] : ['keyboard']), ...(hasPointer ? [] : ['pointer'])];
    const text = missing.length > 0 ? `Connected; the guest has no ${missing.join(' and no ')}` : 'Connected';
    setState('connected', text);
  }
}

function showLed(id: string, name: string, isOn: boolean): void {
  const led = get(id);
  led.dataset.on = String(isOn);
  led.setAttribute('aria-label', `${name} is ${isOn ? 'on' : 'off'}`);
}

// ---- keys ----

/** What is typed goes to whoever is connected then. */
const keySink: KeySink = {
  sendKey: (keysym, code, down) => connection?.rfb.sendKey(keysym, code, down),
};

const held = new HeldModifiers((name, isHeld) => {
  for (const button of all(`[data-hold="${name}"]`)) button.setAttribute('aria-pressed', String(isHeld));
});

const phone = new PhoneKeyboard(
  get<HTMLTextAreaElement>('phone-field'),
  () => keySink,
  () => held.release(keySink),
);

let typing: AbortController | undefined;

/** The way out of a screen that takes every key. */
function leaveScreen(): void {
  wasFocused = false;
  if (document.fullscreenElement) void document.exitFullscreen();
  displayChoice.focus();
}

function hint(): void {
  stage.classList.add('has-hint');
  setTimeout(() => stage.classList.remove('has-hint'), HINT_MS);
}

function watchKeys(): void {
  window.addEventListener(
    'keydown',
    (event) => {
      const isOnScreen = event.target === canvasOf();
      if (isOnScreen && event.ctrlKey && event.altKey && event.shiftKey && isModifier(event.key)) {
        event.preventDefault();
        event.stopPropagation();
        leaveScreen();
      }
    },
    { capture: true },
  );
  window.addEventListener('keyup', (event) => {
    if (!isModifier(event.key)) held.release(keySink);
  });
  // noVNC keeps the event of the canvas for itself, so this one comes first.
  window.addEventListener(
    'keyup',
    (event) => {
      if (event.target === canvasOf() && !isModifier(event.key)) setTimeout(() => held.release(keySink));
    },
    { capture: true },
  );
}

async function typeFromPanel(): Promise<void> {
  const text = get<HTMLTextAreaElement>('text').value;
  if (typing || text === '') return;
  typing = new AbortController();
  get('stop-typing').hidden = false;
  const progress = get('typing');
  progress.textContent = 'Typing';
  const total = [...text].length;
  const typed = await typeText(keySink, text, typing.signal);
  progress.textContent = typed === total ? 'Typed' : `Stopped after ${typed} of ${total} characters`;
  get('stop-typing').hidden = true;
  typing = undefined;
}

async function insertClipboard(): Promise<void> {
  const field = get<HTMLTextAreaElement>('text');
  try {
    field.setRangeText(await navigator.clipboard.readText(), field.selectionStart, field.selectionEnd, 'end');
  } catch {
    get('typing').textContent = 'This browser does not let the page read the clipboard: paste into the field';
  }
  field.focus();
}

async function copyLink(): Promise<void> {
  const field = get<HTMLInputElement>('view-link');
  try {
    await navigator.clipboard.writeText(field.value);
    get('copied').textContent = 'Link copied';
  } catch {
    field.select();
    get('copied').textContent = 'Copy the selected link';
  }
}

// ---- buttons ----

const chosen = (name: string) =>
  document.querySelector<HTMLInputElement>(`input[name="${name}"]:checked`)?.value ?? '';

function openPanel(button: HTMLElement, isOpen: boolean): void {
  const panel = get(button.getAttribute('aria-controls') ?? '');
  button.setAttribute('aria-expanded', String(isOpen));
  panel.hidden = !isOpen;
  if (!isOpen) return;
  for (const other of panelButtons) if (other !== button) openPanel(other, false);
  openMenu(false);
}

/** In a narrow window the tools are behind a button. */
function openMenu(isOpen: boolean): void {
  get('menu').setAttribute('aria-expanded', String(isOpen));
}

const panelButtons = all('[aria-controls$="-panel"]');

function wirePanels(): void {
  for (const button of panelButtons) {
    const panel = get(button.getAttribute('aria-controls') ?? '');
    const close = document.createElement('button');
    close.type = 'button';
    close.className = 'close';
    close.textContent = '×';
    close.setAttribute('aria-label', `Close: ${panel.getAttribute('aria-label')}`);
    panel.prepend(close);
    const leave = () => {
      openPanel(button, false);
      // Where the menu hides the button, the menu's is next to it.
      (button.offsetParent ? button : get('menu')).focus();
    };
    close.addEventListener('click', leave);
    for (const place of [panel, button]) {
      place.addEventListener('keydown', (event) => {
        if (event.key === 'Escape' && !panel.hidden) leave();
      });
    }
    button.addEventListener('click', (event) => {
      openPanel(button, panel.hidden === true);
      // By the keyboard: it goes on in the panel, which is not next to its button.
      if (event.detail === 0 && !panel.hidden) close.focus();
    });
  }
  get('menu').addEventListener('click', () => {
    const isOpen = get('menu').getAttribute('aria-expanded') !== 'true';
    if (isOpen) for (const button of panelButtons) openPanel(button, false);
    openMenu(isOpen);
  });
}

function wireButtons(): void {
  get('console-keys').append(
    ...Array.from({ length: 12 }, (_, i) => {
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = `F${i + 1}`;
      button.dataset.press = `Control+Alt+F${i + 1}`;
      button.setAttribute('aria-label', `Ctrl+Alt+F${i + 1}`);
      return button;
    }),
  );
  for (const button of all('[data-press]')) {
    button.addEventListener('click', () => {
      pressCombination(keySink, button.dataset.press ?? '');
      held.release(keySink);
    });
  }
  for (const button of all('[data-hold]')) {
    button.addEventListener('click', () => held.toggle(keySink, button.dataset.hold ?? ''));
  }
  // The keyboard of a phone stays while its owner presses these.
  for (const button of all('#keys-panel button, [aria-controls="keys-panel"]')) {
    button.addEventListener('pointerdown', (event) => {
      if (phone.isOpen) event.preventDefault();
    });
  }
  get('phone-keyboard').addEventListener('pointerdown', (event) => {
    if (phone.isOpen) event.preventDefault();
  });
  get('phone-keyboard').addEventListener('click', () => {
    if (phone.isOpen) phone.close();
    else phone.open();
  });
  const field = get('phone-field');
  for (const type of ['focus', 'blur']) {
    field.addEventListener(type, () => {
      // A tap on the picture is a click in the guest, and not the end of typing.
      if (connection) connection.rfb.focusOnClick = !phone.isOpen && !isViewOnly;
      if (!phone.isOpen) askForSize();
    });
  }
  get('type').addEventListener('click', () => void typeFromPanel());
  get('stop-typing').addEventListener('click', () => typing?.abort());
  get('insert-clipboard').addEventListener('click', () => void insertClipboard());
  get('copy-link').addEventListener('click', () => void copyLink());
  get('try-now').addEventListener('click', reconnectNow);
  get('full-screen').addEventListener('click', () => void stage.requestFullscreen());
  get('full-screen').hidden = !document.fullscreenEnabled;
  displayChoice.addEventListener('change', () => {
    location.hash = displayChoice.value === '0' ? '' : displayChoice.value;
  });
  for (const input of all<HTMLInputElement>('[name="size"]')) input.addEventListener('change', askForSize);
  for (const input of all<HTMLInputElement>('[name="quality"]')) {
    input.addEventListener('change', () => {
      if (!connection) return;
      connection.channel.isLossless = chosen('quality') === 'lossless';
      // Another level, so that noVNC says its encodings again.
      connection.rfb.qualityLevel = connection.channel.isLossless ? 9 : 6;
    });
  }
}

function wireWindow(): void {
  window.addEventListener('hashchange', () => switchTo(displayInAddress()));
  window.addEventListener('online', reconnectNow);
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState !== 'visible') return;
    reconnectNow();
    void refreshList();
  });
  document.addEventListener('fullscreenchange', () => {
    if (document.fullscreenElement) {
      void keyboardLock?.lock().catch(() => {});
      connection?.rfb.focus({ preventScroll: true });
      hint();
    } else keyboardLock?.unlock();
  });
  setInterval(() => {
    if (document.visibilityState === 'visible') void refreshList();
  }, LIST_INTERVAL_MS);
  let counted: ViewerChannel | undefined;
  let before = 0;
  setInterval(() => {
    const channel = connection?.channel;
    const now = channel?.updates ?? 0;
    get('rate').textContent = `${channel === counted ? now - before : now} updates/s`;
    // The list would say later that there is something now.
    if (now !== before && get('notice-text').textContent === NOTHING_SHOWN) void refreshList();
    counted = channel;
    before = now;
  }, 1000);
}

// It takes the answer "the guest was asked" for a failure, and warns of every change of the size.
initLogging('error');
// The token has become a cookie; in the address it would be seen, and kept in the history.
if (location.search) history.replaceState(null, '', location.pathname + location.hash);
document.body.dataset.access = isViewOnly ? 'view' : 'control';
get('view-only').hidden = !isViewOnly;
nameScreen();
wirePanels();
wireButtons();
watchKeys();
wireWindow();
watchStage();
connect();
