/**
 * A guest beside a compositor of the host, and the ordinary programs that reach it through the proxy of the guest
 * (`proxy.c`).
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { onTestFailed } from 'vitest';
import { INTERFACES, type MessageSpec } from '../../server/cross-domain/wayland/schema.ts';
import { assemble, cachePath } from '../../tools/testbed/cache.ts';
import { type Compositor, type CompositorKind, startCompositor } from '../../tools/testbed/compositor.ts';
import { colorAt, comparePictures, type Picture, paintPicture } from '../../tools/testbed/pictures.ts';
import { type Guest, type GuestOptions, startGuest } from '../../tools/testbed/qemu.ts';
import type { Server } from '../../tools/testbed/server.ts';
import {
  becomeKeyboard,
  becomePointer,
  type VirtualKeyboard,
  type VirtualPointer,
} from '../../tools/testbed/wayland-client.ts';
import { SIGNATURE_LETTERS } from '../support/wayland-signature.ts';
import { collectorArguments, expectNoComplaints, expectNothingHeld, soon, startServer } from './support.ts';

export const screen = { width: 640, height: 480 };

export interface Bed {
  readonly compositor: Compositor;
  /** Where the compositor has its window, if it has one. */
  readonly outer: Compositor | undefined;
  readonly server: Server;
  readonly guest: Guest;
  readonly keyboard: VirtualKeyboard | undefined;
  readonly pointer: VirtualPointer | undefined;
}

export interface BedOptions extends Partial<GuestOptions> {
  /** Becomes the keyboard of the compositor. */
  readonly hasKeyboard?: boolean;
  /** Has its pointer, in the upper left corner. */
  readonly hasPointer?: boolean;
  readonly policyFile?: string;
  /** More of the server. */
  readonly serverArguments?: readonly string[];
}

/** Runs a script in a guest that has a way to a compositor, and something beside it. The script has to succeed. */
export async function run(
  kind: CompositorKind | 'weston in sway',
  script: string,
  { hasKeyboard, hasPointer, policyFile, serverArguments = [], ...options }: BedOptions,
  beside: (bed: Bed) => Promise<void>,
): Promise<void> {
  const isInside = kind === 'weston in sway';
  await using outer = isInside
    ? await startCompositor({ kind: 'sway', width: 2 * screen.width, height: 2 * screen.height })
    : undefined;
  await using compositor = await startCompositor({
    kind: isInside ? 'weston' : kind,
    ...screen,
    ...(outer && { inside: outer }),
  });
  onTestFailed(() => console.log(`--- ${kind} said\n${compositor.log}`));
  const { socketPath } = outer ?? compositor;
  using keyboard = hasKeyboard ? await becomeKeyboard(socketPath) : undefined;
  using pointer = hasPointer ? await becomePointer(socketPath, screen) : undefined;
  await pointer?.moveTo(0, 0);
  await using server = await startServer({
    displays: ['1280x800'],
    arguments: [
      ...['--wayland-display', compositor.socketPath],
      ...(policyFile === undefined ? [] : ['--wayland-policy', policyFile]),
      ...serverArguments,
    ],
    nodeArguments: collectorArguments,
  });
  await using guest = await startGuest({ devices: [server.device], script, ...options });
  onTestFailed(() => console.log(`--- the guest said\n${guest.serial}`));
  await beside({ compositor, outer, server, guest, keyboard, pointer });
  await guest.scriptSucceeds();
  expectNoComplaints(server);
  await soon(
    () => server.metric('client_connected'),
    (count) => count === 0,
  );
  await expectNothingHeld(server);
}

/** The screen with a window in its middle, or with nothing. */
export function screenWith(window?: Picture): Picture {
  const { width, height } = screen;
  const left = Math.floor((width - (window?.width ?? 0)) / 2);
  const top = Math.floor((height - (window?.height ?? 0)) / 2);
  return paintPicture(width, height, (x, y) => {
    const [column, row] = [x - left, y - top];
    const isInside = window && column >= 0 && row >= 0 && column < window.width && row < window.height;
    return isInside ? colorAt(window, column, row) : 0;
  });
}

/** What the compositor shows, as soon as it is this, or after a while. */
export const shown = (compositor: Compositor, expected: Picture) =>
  soon(
    () => compositor.screenshot(),
    (picture) => comparePictures(picture, expected) === undefined,
  );

export const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

export const copiedBytes = (server: Server) =>
  server.metric('channel_total', { component: 'cross-domain', kind: 'copiedBytes' });

/** How the real proxies go about it, in the words of `proxy --style`. */
export const styles = ['sommelier', 'virtwl', 'wl-cross'] as const;
export type Style = (typeof styles)[number];

/** What a script needs before programs of the guest can reach the compositor. */
export const startProxy = (style?: Style) => `
  proxy ${style ? `--style ${style}` : ''} /run/wayland-0 &
  until [ -S /run/wayland-0 ]; do sleep 0.05; done
  export XDG_RUNTIME_DIR=/run`;

function describeMessage(way: 'r' | 'e', { interface: owner, opcode, args, creates }: MessageSpec): string {
  const kinds = args.map(({ kind }) => SIGNATURE_LETTERS[kind]).join('');
  return `${owner} ${way} ${opcode} ${kinds || '-'} ${creates?.interface ?? '-'}\n`;
}

/** Which messages there are, as the proxy reads them. */
export const proxyFiles: Readonly<Record<string, Uint8Array>> = {
  '/wayland.messages': Buffer.from(
    [...INTERFACES.values()]
      .flatMap(({ requests, events }) => [
        ...requests.map((message) => describeMessage('r', message)),
        ...events.map((message) => describeMessage('e', message)),
      ])
      .join(''),
  ),
};

const libraryFolder = '/usr/lib/x86_64-linux-gnu';
const hasGuest = /^(ld-linux-x86-64|libc|libm)\.so/;

/** Programs of the compositors' tree, the libraries that the guest lacks, and what the proxy needs. */
export async function programs(...names: string[]): Promise<Record<string, Uint8Array>> {
  await assemble('compositors');
  const folder = cachePath('compositors', libraryFolder);
  const loader = join(folder, 'ld-linux-x86-64.so.2');
  const libraries = names.flatMap((name) => {
    const list = ['--inhibit-cache', '--library-path', folder, '--list'];
    const output = execFileSync(loader, [...list, cachePath('compositors/usr/bin', name)], {
      encoding: 'utf8',
    });
    return [...output.matchAll(/=> \S*\/(\S+)/g)].map(([, library]) => library!);
  });
  const files = [
    ...names.map((name) => `/usr/bin/${name}`),
    ...[...new Set(libraries)]
      .filter((name) => !hasGuest.test(name))
      .map((name) => join(libraryFolder, name)),
  ];
  return { ...(await readFromTree(files)), ...proxyFiles };
}

/** What the frames of Weston's windows are made of. */
export async function westonPictures(): Promise<Record<string, Uint8Array>> {
  const folder = '/usr/share/weston';
  const names = await readdir(cachePath('compositors', folder));
  return readFromTree(names.map((name) => join(folder, name)));
}

async function readFromTree(paths: readonly string[]): Promise<Record<string, Uint8Array>> {
  const entries = paths.map(async (path) => [path, await readFile(cachePath('compositors', path))] as const);
  return Object.fromEntries(await Promise.all(entries));
}

export interface Sides {
  readonly width: number;
  readonly height: number;
}

/** Around the picture of weston-simple-shm. */
const paddingPixels = 20;

/** The window is there: its corners are in their places. */
export function isWhite(picture: Picture, sides: Sides): boolean {
  const { left, top } = cornerOf(picture, sides);
  const [right, bottom] = [left + sides.width - 1, top + sides.height - 1];
  if (left < 0 || top < 0 || right >= picture.width || bottom >= picture.height) return false;
  return colorAt(picture, left, top) === 0xffffff && colorAt(picture, right, bottom) === 0xffffff;
}

const cornerOf = (picture: Picture, { width, height }: Sides) => ({
  left: Math.floor((picture.width - width) / 2),
  top: Math.floor((picture.height - height) / 2),
});

/** What weston-simple-shm draws, as its source has it; `sixteenths` is its time in units of 16 ms. */
export function simpleShmPicture({ width, height }: Sides, sixteenths: number): Picture {
  const halfWidth = Math.floor(width / 2);
  const halfHeight = Math.floor(height / 2);
  const outer = Math.min(halfWidth, halfHeight) - 8;
  const inner = outer - 32;
  return paintPicture(width, height, (x, y) => {
    const isInside = (at: number, size: number) => at >= paddingPixels && at < size - paddingPixels;
    if (!isInside(x, width) || !isInside(y, height)) return 0xffffff;
    const distance = (x - halfWidth) ** 2 + (y - halfHeight) ** 2;
    const value =
      distance < inner ** 2
        ? Math.floor(distance / 32) + Math.floor(sixteenths / 4)
        : distance < outer ** 2
          ? y + Math.floor(sixteenths / 2)
          : x + sixteenths;
    return Math.imul(value, simpleShmFactor) & 0xff_ffff;
  });
}

const simpleShmFactor = 0x080401;

/** When a picture of weston-simple-shm was drawn, by one pixel of it. Nothing changes with 2 ** 24 units of time. */
export function simpleShmTime(picture: Picture, sides: Sides): number {
  const corner = cornerOf(picture, sides);
  const left = corner.left + paddingPixels;
  const top = corner.top + paddingPixels;
  // The factor is odd, so it has an inverse modulo 2 ** 24.
  const value = Math.imul(colorAt(picture, left, top), inverse(simpleShmFactor)) & 0xff_ffff;
  return (value - paddingPixels) & 0xff_ffff;
}

/** By Newton: every step doubles the bits that are right. */
function inverse(odd: number): number {
  let result = odd;
  for (let step = 0; step < 5; step++) result = Math.imul(result, 2 - Math.imul(odd, result));
  return result;
}
