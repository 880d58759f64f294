/**
 * A guest with a small desktop: sway with a panel, a terminal, a calculator. It follows the size of its display.
 *
 *     await using desktop = await startDesktop({ devices: [server.device] });
 *     await desktop.ready();
 *     await desktop.run('galculator &');
 *     const calculator = await desktop.window('galculator');
 *
 * What it consists of is in `desktop/` and in `make_desktop` of `assemble`. Keys: Ctrl+Alt+T opens a terminal,
 * Ctrl+Alt+C a calculator, Alt+Tab changes the window, Alt+F4 closes it.
 */
import { setTimeout } from 'node:timers/promises';
import { assemble, cachePath } from './cache.ts';
import { colorAt, type Picture } from './pictures.ts';
import { type Guest, type GuestOptions, startGuest } from './qemu.ts';

export type DesktopOptions = Omit<GuestOptions, 'script' | 'modules' | 'drive'>;

/** A rectangle on the display, in pixels. */
export interface Rectangle {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** A window without its title bar, which is above. */
export interface DesktopWindow extends Rectangle {
  /** Which program it belongs to: `foot` or `galculator`. */
  readonly appId: string;
  readonly title: string;
  readonly focused: boolean;
}

/** How a command ended, and what it wrote to stdout and stderr. */
export interface CommandResult {
  readonly status: number;
  readonly output: string;
}

const startTimeoutMs = 60_000;

/** The terminal's input buffer in the guest holds no more at a time. */
const maxCommandBytes = 2000;

/** Height of the panel at the top, and its color where it is empty, which is its left part. */
export const panelHeight = 32;
export const panelColor = 0x1d232a;
const terminalColor = 0x242424;

/** Starts the desktop, and takes commands when it is up. */
const script = `
in-disk /bin/true && mount -t tmpfs home /mnt/root && in-disk /usr/libexec/desktop/start || exit 1
echo '@@DESKTOP'
while read -r line; do
  case $line in
    '@@RUN '*)
      in-disk /bin/sh -c '. /usr/libexec/desktop/environment; . /run/command' </dev/null >/run/output 2>&1
      status=$?
      echo "@@OUTPUT \${line#* }"
      cat /run/output
      printf '\\n@@STATUS %s\\n' $status
      rm /run/command
      ;;
    *) printf '%s\\n' "$line" >>/run/command ;;
  esac
done`;

/** Starts a guest with a desktop. Returns when the guest begins to run; `ready` waits for the desktop. */
export async function startDesktop(options: DesktopOptions): Promise<Desktop> {
  await assemble('desktop');
  const drive = cachePath('desktop', 'desktop.ext4');
  return new Desktop(await startGuest({ ...options, modules: ['gpu', 'input', 'disk'], drive, script }));
}

export class Desktop implements AsyncDisposable {
  readonly guest: Guest;
  #ready: Promise<unknown> | undefined;
  #lastCommand: Promise<unknown> = Promise.resolve();
  #commandCount = 0;

  /** Use `startDesktop`. */
  constructor(guest: Guest) {
    this.guest = guest;
  }

  /**
   * Waits until the guest says that the desktop is up: the panel has its place, and the shell in the terminal waits for
   * input. The last of that may reach the display a moment later (`desktopIsDrawn`).
   */
  async ready(timeoutMs = startTimeoutMs): Promise<void> {
    this.#ready ??= this.guest.waitFor('@@DESKTOP\n', timeoutMs);
    await this.#ready;
  }

  /**
   * Runs a command of at most 2000 bytes, one or several lines, in a shell beside the desktop, not in its terminal.
   * Programs started with `&` appear on the desktop and stay. What the shell writes has come over the serial line.
   */
  run(command: string, timeoutMs?: number): Promise<CommandResult> {
    if (Buffer.byteLength(command) > maxCommandBytes) throw new RangeError('the command is too long');
    const number = ++this.#commandCount;
    const result = this.#lastCommand.then(async () => {
      await this.ready();
      this.guest.write(`${command}\n@@RUN ${number}\n`);
      const pattern = new RegExp(`^@@OUTPUT ${number}\\n([^]*?)\\n@@STATUS (\\d+)\\n`, 'm');
      const [, output, status] = await this.guest.waitFor(pattern, timeoutMs);
      return { status: Number(status), output: output! };
    });
    this.#lastCommand = result.catch(() => {});
    return result;
  }

  /** The windows that there are, the one on top last. Those that sway has not laid out yet are left out. */
  async windows(): Promise<DesktopWindow[]> {
    const { status, output } = await this.run('swaymsg -rt get_tree');
    if (status !== 0) throw new Error(`swaymsg left with status ${status}:\n${output}`);
    return windowsOf(JSON.parse(output) as SwayNode);
  }

  /** Waits for a program to have a window, and takes the newest. */
  async window(appId: string, timeoutMs = startTimeoutMs): Promise<DesktopWindow> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const found = (await this.windows()).findLast((window) => window.appId === appId);
      if (found) return found;
      if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms for a window of ${appId}`);
      await setTimeout(100);
    }
  }

  /** Ends the guest. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.guest[Symbol.asyncDispose]();
  }
}

/** Whether a picture shows the desktop as it is after the start: panel, wallpaper, terminal. */
export function desktopIsDrawn(picture: Picture): boolean {
  const { width, height } = picture;
  if (width < 480 || height < 360) return false;
  return (
    colorAt(picture, 5, 5) === panelColor &&
    colorAt(picture, 400, 300) === terminalColor &&
    colorAt(picture, width - 5, height - 5) !== 0
  );
}

export type CalculatorButton = keyof typeof calculatorButtons;

/** Where to click on the calculator: the middle of a button, in the coordinates of the display. */
export function calculatorButton(calculator: Rectangle, name: CalculatorButton): { x: number; y: number } {
  const [x, y] = calculatorButtons[name];
  return { x: calculator.x + x, y: calculator.y + y };
}

/** Where the calculator shows its number. */
export function calculatorDisplay(calculator: Rectangle): Rectangle {
  return { x: calculator.x + 10, y: calculator.y + 34, width: 314, height: 48 };
}

// The rows and columns of galculator with GTK's own theme in the test bed's font.
const calculatorButtons = {
  C: [187, 114],
  AC: [245, 114],
  '7': [37, 200],
  '8': [102, 200],
  '9': [167, 200],
  '/': [232, 200],
  '4': [37, 240],
  '5': [102, 240],
  '6': [167, 240],
  '*': [232, 240],
  '1': [37, 280],
  '2': [102, 280],
  '3': [167, 280],
  '-': [232, 280],
  '0': [37, 320],
  '.': [102, 320],
  '+': [232, 320],
  '=': [297, 300],
} as const;

/** What is used of `swaymsg -t get_tree`; sway-ipc(7). */
interface SwayNode {
  readonly rect: Rectangle;
  /** The title bar. */
  readonly deco_rect: Rectangle;
  readonly name: string | null;
  readonly app_id?: string;
  readonly focused: boolean;
  readonly nodes: readonly SwayNode[];
  readonly floating_nodes: readonly SwayNode[];
}

function windowsOf(node: SwayNode): DesktopWindow[] {
  const { app_id: appId, name, focused, rect } = node;
  // Before that it has no title bar, and `rect` says where the title bar will be.
  const isWindow = appId !== undefined && node.deco_rect.height > 0;
  const own = isWindow ? [{ appId, title: name ?? '', focused, ...rect }] : [];
  return [...own, ...[...node.nodes, ...node.floating_nodes].flatMap(windowsOf)];
}
