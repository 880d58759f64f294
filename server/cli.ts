/**
 * The command line: yargs options to validated, frozen configurations. Nothing is touched before everything has
 * been understood; what is not understood is a UsageError, exit status 2.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import yargs from 'yargs';
import type { Mode } from './displays/mode.ts';
import { assertMode } from './displays/timing.ts';
import { LAYOUT_NAMES, type LayoutName } from './input/layouts.ts';
import type { Address } from './sockets.ts';

export class UsageError extends Error {
  override readonly name = 'UsageError';
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';
export type LogFormat = 'json' | 'pretty';
const LOG_LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error', 'silent'];
const LOG_FORMATS: readonly LogFormat[] = ['json', 'pretty'];

/** Kinds of contexts that guests can be offered. */
export type ContextType = 'cross-domain';
const CONTEXT_TYPES: readonly ContextType[] = ['cross-domain'];

export interface VncConfig {
  readonly address: Address;
  readonly display: number;
  /** Nobody there can do anything with the guest. */
  readonly viewOnly: boolean;
  /** What viewers must know, or those who only watch. */
  readonly passwords: { readonly control: string; readonly view: string | undefined } | undefined;
}

export interface ServeConfig {
  readonly command: 'serve';
  readonly socketPath: string;
  readonly displays: readonly Mode[];
  readonly maxResourceBytes: number;
  readonly maxBlobBytes: number;
  readonly hostVisibleBytes: number;
  readonly contextTypes: readonly ContextType[];
  /** The socket of the host's compositor; undefined: guests have no channel to one. */
  readonly waylandPath: string | undefined;
  readonly waylandPolicyFile: string | undefined;
  /** Sockets of input devices; undefined: there is no such device. */
  readonly keyboardSocketPath: string | undefined;
  readonly tabletSocketPath: string | undefined;
  readonly touchSocketPath: string | undefined;
  /** The guest's, for those who send characters instead of keys. */
  readonly keyboardLayout: LayoutName;
  readonly vnc: readonly VncConfig[];
  readonly web: Address | undefined;
  /** Files. */
  readonly tls: { readonly certificate: string; readonly key: string } | undefined;
  readonly apiSocketPath: string | undefined;
  readonly once: boolean;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}

export interface ScreenshotConfig {
  readonly command: 'screenshot';
  readonly apiSocketPath: string;
  readonly display: number;
  readonly cursor: boolean;
  /** Undefined: standard output. */
  readonly output: string | undefined;
}

export interface ResizeConfig {
  readonly command: 'resize';
  readonly apiSocketPath: string;
  readonly display: number;
  readonly mode: { readonly width: number; readonly height: number; readonly refreshHz: number | undefined };
}

export interface RecordConfig {
  readonly command: 'record';
  readonly apiSocketPath: string;
  readonly output: string;
  readonly display: number;
  /** Undefined: until it is stopped. */
  readonly durationMs: number | undefined;
  readonly maxFps: number;
  readonly cursor: boolean;
}

export interface McpConfig {
  readonly command: 'mcp';
  readonly apiSocketPath: string;
}

export interface InspectConfig {
  readonly command: 'inspect';
  readonly socketPath: string;
  readonly hex: boolean;
}

export interface TraceConfig {
  readonly command: 'trace';
  readonly listenPath: string | undefined;
  readonly connectPath: string;
  readonly recordFile: string | undefined;
  readonly replayFile: string | undefined;
  readonly scenario: string | undefined;
}

export type Config =
  | ServeConfig
  | ScreenshotConfig
  | ResizeConfig
  | RecordConfig
  | McpConfig
  | InspectConfig
  | TraceConfig;

const LOOPBACK = '127.0.0.1';
const DEFAULT_DISPLAY = '1280x800@60';
const DEFAULT_REFRESH_HZ = 60;
const MAX_DISPLAYS = 16;
const DEFAULT_WINDOW = '0';
/**
 * Contexts have nothing to live in otherwise. Sparse, and as large as SeaBIOS and EDK2 place it also with 36 bits of
 * guest addresses: 64 pools of 512 MiB, as foot makes two or three for each window.
 */
const WINDOW_OF_CONTEXTS = '32G';
const MIN_WINDOW_BYTES = 2 ** 20;
const MAX_WINDOW_BYTES = 2 ** 40;

/** Bytes of a size like 4096, 64K, 512M or 8G. */
export function parseSize(text: string): number {
  const match = /^(\d+)([KMG]?)$/i.exec(text);
  if (!match) throw new UsageError(`"${text}" is not a size; write for example 512M or 1G`);
  const [, digits, unit] = match;
  const bytes = Number(digits) * 1024 ** ['', 'K', 'M', 'G'].indexOf((unit as string).toUpperCase());
  if (!Number.isSafeInteger(bytes)) throw new UsageError(`size ${text} is too large`);
  return bytes;
}

/** Width, height and, where given, refresh rate of a mode like 1280x800 or 1920x1080@59.94. */
export function parseMode(text: string): { width: number; height: number; refreshHz: number | undefined } {
  const match = /^(\d+)x(\d+)(?:@(\d+(?:\.\d+)?))?$/.exec(text);
  if (!match)
    throw new UsageError(`"${text}" is not a display mode; write for example 1280x800 or 1920x1080@60`);
  const [, width, height, refresh] = match;
  const mode = {
    width: Number(width),
    height: Number(height),
    refreshHz: refresh ? Number(refresh) : undefined,
  };
  try {
    assertMode({ ...mode, refreshHz: mode.refreshHz ?? DEFAULT_REFRESH_HZ });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  return mode;
}

const withRefresh = (text: string): Mode => {
  const { width, height, refreshHz } = parseMode(text);
  return { width, height, refreshHz: refreshHz ?? DEFAULT_REFRESH_HZ };
};

function parseWindow(text: string): number {
  const bytes = parseSize(text);
  const fits = bytes >= MIN_WINDOW_BYTES && bytes <= MAX_WINDOW_BYTES && Number.isInteger(Math.log2(bytes));
  if (bytes !== 0 && !fits) {
    throw new UsageError(`host-visible size ${text} is not a power of two from 1M to 1024G`);
  }
  return bytes;
}

/** The keys are checked like options are; only a boolean needs care, because yargs makes one of anything. */
function readConfigFile(path: string): Record<string, unknown> {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new UsageError(`config file ${path}: ${(error as Error).message}`);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new UsageError(`config file ${path} does not hold a JSON object`);
  }
  const config = json as Record<string, unknown>;
  if ('once' in config && typeof config.once !== 'boolean') throw new UsageError('once is true or false');
  return config;
}

/** Values from a file come with any type; options that take text also take numbers there. */
function text(name: string, value: unknown): string {
  if (typeof value === 'string' && value !== '') return value;
  if (typeof value === 'number') return String(value);
  throw new UsageError(`${name} needs a value`);
}

function optionalText(name: string, value: unknown): string | undefined {
  return value === undefined ? undefined : text(name, value);
}

function choice<T extends string>(name: string, value: unknown, choices: readonly T[]): T {
  const found = choices.find((one) => one === value);
  if (!found) throw new UsageError(`${name} is one of ${choices.join(', ')}`);
  return found;
}

function displayNumber(value: unknown): number {
  const index = value === '' ? Number.NaN : Number(value);
  if (!Number.isInteger(index) || index < 0 || index >= MAX_DISPLAYS) {
    throw new UsageError(`display ${value} is not a number from 0 to ${MAX_DISPLAYS - 1}`);
  }
  return index;
}

/** `HOST:PORT`, `[IPV6]:PORT`, a port of this machine, or `unix:PATH`. */
export function parseAddress(text: string): Address {
  if (text.startsWith('unix:') && text.length > 'unix:'.length) return { path: text.slice('unix:'.length) };
  const match = /^(?:\[([0-9a-f:.]+)\]:|([^:[\]]*):)?(\d{1,5})$/i.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65535)
    throw new UsageError(`"${text}" is not an address; write HOST:PORT or unix:PATH`);
  return { host: match[1] || match[2] || LOOPBACK, port };
}

/** Whether only this machine can connect. A name other than localhost may be anything. */
export function isLocal(address: Address): boolean {
  if ('path' in address) return true;
  return /^(localhost|127(\.\d{1,3}){3}|::1)$/i.test(address.host);
}

/** What VNC looks at of a password. */
const PASSWORD_CHARACTERS = 8;

/** The first line of a file is the password, the second one, if there is one, that of people who only watch. */
function readPasswords(path: string): NonNullable<VncConfig['passwords']> {
  let lines: string[];
  try {
    lines = readFileSync(path, 'utf8').split(/\r?\n/);
  } catch (error) {
    throw new UsageError(`password file ${path}: ${(error as Error).message}`);
  }
  const [control, view] = lines;
  if (!control) throw new UsageError(`password file ${path} begins with an empty line`);
  const [first, second] = [control, view].map((password) => password?.slice(0, PASSWORD_CHARACTERS));
  if (first === second) {
    throw new UsageError(
      `password file ${path}: both passwords begin with the same ${PASSWORD_CHARACTERS} characters, and VNC looks at no more`,
    );
  }
  return { control, view: view || undefined };
}

function vncConfigs(args: Arguments, displays: number): VncConfig[] {
  const file = optionalText('--vnc-password-file', args.vncPasswordFile);
  const passwords = file === undefined ? undefined : readPasswords(file);
  const addresses = [args.vnc ?? []].flat().map((one) => text('--vnc', one));
  if (passwords && addresses.length === 0) throw new UsageError('--vnc-password-file needs --vnc');
  return addresses.map((one, index) => {
    // A path may have commas of its own.
    const [, where = '', options = ''] = /^(.*?)((?:,(?:display=[^,]*|view-only))*)$/.exec(one) ?? [];
    const numbers = [...options.matchAll(/,display=([^,]*)/g)].map(([, number]) => number);
    if (numbers.length > 1) throw new UsageError(`--vnc ${one} names several displays`);
    const display = displayNumber(numbers[0] ?? Math.min(index, displays - 1));
    if (display >= displays) throw new UsageError(`--vnc ${one}: there is no display ${display}`);
    const address = parseAddress(where);
    if (!passwords && !isLocal(address)) {
      throw new UsageError(
        `--vnc ${one} can be reached from other machines: give --vnc-password-file, and better --tls-certificate too`,
      );
    }
    return { address, display, viewOnly: options.includes(',view-only'), passwords };
  });
}

function tlsConfig(args: Arguments): ServeConfig['tls'] {
  const certificate = optionalText('--tls-certificate', args.tlsCertificate);
  const key = optionalText('--tls-key', args.tlsKey);
  if (certificate === undefined && key === undefined) return undefined;
  if (certificate === undefined || key === undefined)
    throw new UsageError('--tls-certificate and --tls-key go together');
  if (args.vnc === undefined && args.web === undefined)
    throw new UsageError('--tls-certificate needs --vnc or --web');
  return { certificate, key };
}

type Arguments = Record<string, unknown>;

/** A list like `cross-domain`, or an array of it from a file. */
function contextTypes(value: unknown): readonly ContextType[] {
  const names = [value ?? []].flat().flatMap((list) => text('--context-types', list).split(','));
  return [...new Set(names.map((name) => choice('--context-types', name.trim(), CONTEXT_TYPES)))];
}

/** A path, or the name of a display as compositors give it, which is a socket in XDG_RUNTIME_DIR. */
function waylandPath(value: unknown): string | undefined {
  const name = optionalText('--wayland-display', value);
  if (name === undefined || name.startsWith('/')) return name;
  const { XDG_RUNTIME_DIR: folder } = process.env;
  if (!folder)
    throw new UsageError(`--wayland-display ${name} is a name: set XDG_RUNTIME_DIR, or write a path`);
  return join(folder, name);
}

function serveConfig(args: Arguments): ServeConfig {
  const wayland = waylandPath(args.waylandDisplay);
  const waylandPolicyFile = optionalText('--wayland-policy', args.waylandPolicy);
  if (waylandPolicyFile !== undefined && wayland === undefined)
    throw new UsageError('--wayland-policy needs --wayland-display');
  const types = contextTypes([...[args.contextTypes ?? []].flat(), ...(wayland ? ['cross-domain'] : [])]);
  const hostVisibleSize = args.hostVisibleSize ?? (types.length > 0 ? WINDOW_OF_CONTEXTS : DEFAULT_WINDOW);
  const displays = [args.display ?? DEFAULT_DISPLAY]
    .flat()
    .map((mode) => withRefresh(text('--display', mode)));
  if (displays.length === 0 || displays.length > MAX_DISPLAYS) {
    throw new UsageError(`${displays.length} displays: there can be 1 to ${MAX_DISPLAYS}`);
  }
  return {
    command: 'serve',
    socketPath: text('--socket-path', args.socketPath),
    displays,
    maxResourceBytes: parseSize(text('--max-resource-memory', args.maxResourceMemory)),
    maxBlobBytes: parseSize(text('--max-blob-memory', args.maxBlobMemory)),
    hostVisibleBytes: parseWindow(text('--host-visible-size', hostVisibleSize)),
    contextTypes: types,
    waylandPath: wayland,
    waylandPolicyFile,
    keyboardSocketPath: optionalText('--keyboard-socket-path', args.keyboardSocketPath),
    tabletSocketPath: optionalText('--tablet-socket-path', args.tabletSocketPath),
    touchSocketPath: optionalText('--touch-socket-path', args.touchSocketPath),
    keyboardLayout: choice('--keyboard-layout', args.keyboardLayout, LAYOUT_NAMES),
    vnc: vncConfigs(args, displays.length),
    web: args.web === undefined ? undefined : parseAddress(text('--web', args.web)),
    tls: tlsConfig(args),
    apiSocketPath: optionalText('--api-socket', args.apiSocket),
    once: args.once === true,
    logLevel: choice('--log-level', args.logLevel, LOG_LEVELS),
    logFormat: choice('--log-format', args.logFormat, LOG_FORMATS),
  };
}

function traceConfig(args: Arguments): TraceConfig {
  const listenPath = optionalText('--listen', args.listen);
  const replayFile = optionalText('--replay', args.replay);
  if ((listenPath === undefined) === (replayFile === undefined)) {
    throw new UsageError('trace needs either --listen, to sit in between, or --replay');
  }
  return {
    command: 'trace',
    listenPath,
    connectPath: text('--connect', args.connect),
    recordFile: optionalText('--record', args.record),
    replayFile,
    scenario: optionalText('--scenario', args.scenario),
  };
}

/** Endings of names that `record` knows. */
const RECORDINGS = ['.png', '.apng', '.webm', '.mp4', '.gif', '.webp'] as const;
/** Browsers show frames that are shorter than 10 ms for 100 ms. */
const MAX_RECORD_FPS = 60;

function recordConfig(args: Arguments): RecordConfig {
  const output = text('--output', args.output);
  if (!RECORDINGS.some((ending) => output.toLowerCase().endsWith(ending))) {
    throw new UsageError(`output ${output} does not end in one of ${RECORDINGS.join(', ')}`);
  }
  const duration = args.duration === undefined ? undefined : Number(args.duration);
  // Timers are no longer than that.
  if (duration !== undefined && !(duration > 0 && duration * 1000 < 2 ** 31)) {
    throw new UsageError(`duration ${args.duration} is not a number of seconds above 0`);
  }
  const maxFps = Number(args.maxFps);
  if (!(maxFps >= 1 && maxFps <= MAX_RECORD_FPS)) {
    throw new UsageError(`max-fps ${args.maxFps} is not a number from 1 to ${MAX_RECORD_FPS}`);
  }
  return {
    command: 'record',
    apiSocketPath: text('--api-socket', args.apiSocket),
    output,
    display: displayNumber(args.display),
    durationMs: duration === undefined ? undefined : duration * 1000,
    maxFps,
    cursor: args.cursor === true,
  };
}

const API_SOCKET = { type: 'string', demandOption: true, describe: 'control socket of the server' } as const;
const DISPLAY = { type: 'number', default: 0, describe: 'which display, from 0' } as const;

/**
 * Understands the arguments behind the program's name. Undefined when help or the version was asked for and has been
 * printed. Throws UsageError.
 */
export async function parseCommandLine(
  argv: readonly string[],
  version: string,
): Promise<Config | undefined> {
  let config: Config | undefined;
  const parser = yargs(argv)
    .scriptName('vfio-user-gpu')
    .usage('A virtio-gpu PCI device for any VMM that speaks vfio-user')
    .command(
      ['serve', '$0'],
      'be the device (the default)',
      (command) =>
        command
          .option('socket-path', {
            type: 'string',
            demandOption: true,
            describe: 'socket the VMM connects to',
          })
          .option('display', {
            type: 'string',
            describe: `WIDTHxHEIGHT[@HZ], once per output (default ${DEFAULT_DISPLAY})`,
          })
          .option('max-resource-memory', {
            type: 'string',
            default: '512M',
            describe: 'most host memory for pixels of 2D resources and of blobs that displays show',
          })
          .option('max-blob-memory', {
            type: 'string',
            default: '1G',
            describe:
              'most host memory that blobs of contexts fill, and again for what compositors have of them',
          })
          .option('host-visible-size', {
            type: 'string',
            defaultDescription: `${DEFAULT_WINDOW}, or ${WINDOW_OF_CONTEXTS} with --context-types`,
            describe: 'addresses in which guests have their blobs, a power of two; costs no memory; 0: none',
          })
          .option('context-types', {
            type: 'string',
            describe: `contexts that guests can use, separated by commas: ${CONTEXT_TYPES.join(', ')}`,
          })
          .option('wayland-display', {
            type: 'string',
            describe: "socket of the host's compositor, for windows of guests; implies cross-domain",
          })
          .option('wayland-policy', {
            type: 'string',
            describe: 'JSON file that says what guests may do there',
          })
          .option('keyboard-socket-path', { type: 'string', describe: 'socket of a virtio keyboard' })
          .option('tablet-socket-path', {
            type: 'string',
            describe: 'socket of a virtio tablet: pointer, buttons and wheel',
          })
          .option('touch-socket-path', { type: 'string', describe: 'socket of a virtio touch screen' })
          .option('keyboard-layout', {
            type: 'string',
            default: 'us',
            describe: `what the guest's keyboard is, for text: ${LAYOUT_NAMES.join(', ')}`,
          })
          .option('vnc', {
            type: 'string',
            describe:
              'where VNC viewers connect: HOST:PORT or unix:PATH, with ,display=N and ,view-only; repeatable',
          })
          .option('vnc-password-file', {
            type: 'string',
            describe:
              'file whose first line VNC viewers must know (8 characters of it), or the second one to watch only',
          })
          .option('web', { type: 'string', describe: 'where browsers connect: HOST:PORT or unix:PATH' })
          .option('tls-certificate', { type: 'string', describe: 'PEM file: encrypts VNC and web' })
          .option('tls-key', { type: 'string', describe: 'PEM file with its key' })
          .option('api-socket', { type: 'string', describe: 'socket of the HTTP control API' })
          .option('once', {
            type: 'boolean',
            default: false,
            describe: 'leave when the VM has left for good',
          })
          .option('log-level', { type: 'string', default: 'info', describe: LOG_LEVELS.join(', ') })
          .option('log-format', {
            type: 'string',
            default: process.stderr.isTTY ? 'pretty' : 'json',
            defaultDescription: 'pretty on a terminal, else json',
            describe: LOG_FORMATS.join(', '),
          })
          .config('config', 'JSON file with the same keys; options win', readConfigFile),
      (args) => {
        config = serveConfig(args);
      },
    )
    .command(
      'screenshot',
      'write what a display shows as PNG',
      (command) =>
        command
          .option('api-socket', API_SOCKET)
          .option('display', DISPLAY)
          .option('cursor', { type: 'boolean', default: true, describe: 'with the pointer' })
          .option('output', { alias: 'o', type: 'string', describe: 'file; standard output if not given' }),
      (args) => {
        config = {
          command: 'screenshot',
          apiSocketPath: text('--api-socket', args.apiSocket),
          display: displayNumber(args.display),
          cursor: args.cursor,
          output: optionalText('--output', args.output),
        };
      },
    )
    .command(
      'resize <mode>',
      'ask the guest for another mode, WIDTHxHEIGHT[@HZ]',
      (command) =>
        command
          .option('api-socket', API_SOCKET)
          .option('display', DISPLAY)
          .positional('mode', { type: 'string', demandOption: true }),
      (args) => {
        config = {
          command: 'resize',
          apiSocketPath: text('--api-socket', args.apiSocket),
          display: displayNumber(args.display),
          mode: parseMode(text('mode', args.mode)),
        };
      },
    )
    .command(
      'record',
      'write what a display shows as an animated PNG, until Ctrl-C',
      (command) =>
        command
          .option('api-socket', API_SOCKET)
          .option('display', DISPLAY)
          .option('output', {
            alias: 'o',
            type: 'string',
            demandOption: true,
            describe: `file; what it is is in its name: ${RECORDINGS.join(', ')} (ffmpeg makes all but the first two)`,
          })
          .option('duration', { type: 'number', describe: 'seconds' })
          .option('max-fps', { type: 'number', default: 30, describe: `1 to ${MAX_RECORD_FPS}` })
          .option('cursor', { type: 'boolean', default: true, describe: 'with the pointer' }),
      (args) => {
        config = recordConfig(args);
      },
    )
    .command(
      'mcp',
      'let an agent see and use the guest: an MCP server on standard input and output',
      (command) => command.option('api-socket', API_SOCKET),
      (args) => {
        config = { command: 'mcp', apiSocketPath: text('--api-socket', args.apiSocket) };
      },
    )
    .command(
      'inspect',
      "show any vfio-user server's config space, BARs and capabilities",
      (command) =>
        command
          .option('socket-path', { type: 'string', demandOption: true, describe: 'socket of the server' })
          .option('hex', { type: 'boolean', default: false, describe: 'as a dump that "lspci -F" reads' }),
      (args) => {
        config = { command: 'inspect', socketPath: text('--socket-path', args.socketPath), hex: args.hex };
      },
    )
    .command(
      'trace',
      'sit between a VMM and a server and print their messages',
      (command) =>
        command
          .option('connect', { type: 'string', demandOption: true, describe: 'socket of the server' })
          .option('listen', { type: 'string', describe: 'socket the VMM connects to' })
          .option('record', { type: 'string', describe: 'file for the messages, one JSON object a line' })
          .option('replay', { type: 'string', describe: 'send the client side of a recording instead' })
          .option('scenario', { type: 'string', describe: 'which scenario of the recording' }),
      (args) => {
        config = traceConfig(args);
      },
    )
    .demandCommand(0, 0)
    .strict()
    .recommendCommands()
    .version(version)
    .help()
    .exitProcess(false)
    .fail((message, error) => {
      throw error ?? new UsageError(message);
    });
  await parser.parseAsync();
  return config && Object.freeze(config);
}
