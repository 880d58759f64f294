/** `vfio-user-gpu serve`: be the device until told to stop. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { endianness, hostname } from 'node:os';
import { sendDatagram, setSchedulingSlice } from '../../native/index.ts';
import { isLocal, type ServeConfig, UsageError } from '../cli.ts';
import type { CrossDomainOptions } from '../cross-domain/component.ts';
import type { SentBlob } from '../cross-domain/context.ts';
import { seatInput } from '../displays/viewing/seat-input.ts';
import { Viewing } from '../displays/viewing/viewing.ts';
import type { Component, ContextHost } from '../gpu/contracts/context.ts';
import { GpuServer } from '../gpu-server.ts';
import { InputServer } from '../input-server.ts';
import type { Log } from '../log.ts';
import { makeLogger } from '../logger.ts';
import type { Address } from '../sockets.ts';
import { VmPresence } from './vm-presence.ts';

const EXIT_INTERNAL = 1;
/** Of what a link must contain when others can reach the page. */
const TOKEN_BYTES = 24;
/** The least there is: a vCPU may stand still until this thread has run. */
const SLICE_MICROSECONDS = 100;

/** Resolves with the exit status when the server has left. Throws when it cannot start. */
export async function serve(config: ServeConfig, version: string): Promise<number> {
  if (endianness() !== 'LE') throw new Error('only little-endian machines are supported');
  const log = await makeLogger(config.logLevel, config.logFormat);
  try {
    setSchedulingSlice(SLICE_MICROSECONDS);
  } catch (error) {
    log.debug({ err: error }, 'the device waits for a CPU as any thread does');
  }
  const components = await makeComponents(config, log);
  const stop = stopSignal();
  const presence = new VmPresence({
    leaving: (waitMs) => log.info({ waitMs }, 'the VM left, or reboots'),
    gone: () => stop.now('the VM left'),
  });
  const events = config.once ? presence : undefined;
  const gpu = new GpuServer({
    socketPath: config.socketPath,
    displays: config.displays,
    limits: {
      maxResourceBytes: config.maxResourceBytes,
      maxBlobBytes: config.maxBlobBytes,
    },
    hostVisibleBytes: config.hostVisibleBytes,
    components,
    log,
    events,
  });
  /** What is closed at the end, the latest first. */
  const opened: { close(): void | Promise<void> }[] = [presence, gpu];
  try {
    const input = new InputServer({
      sockets: {
        keyboard: config.keyboardSocketPath,
        tablet: config.tabletSocketPath,
        touch: config.touchSocketPath,
      },
      displays: () => gpu.screens.map(({ picture, mode }) => picture ?? mode),
      log,
      events,
    });
    opened.push(input);
    const viewing = new Viewing({
      screens: gpu.screens,
      log,
      input: seatInput(input.seat, config.keyboardLayout),
    });
    opened.push(viewing);
    const pages = await openForViewers(viewing, config);
    if (config.apiSocketPath !== undefined) {
      const { serveApi } = await import('../api/server.ts');
      const api = await serveApi({
        socketPath: config.apiSocketPath,
        version,
        screens: gpu.screens,
        viewing,
        input: { seat: input.seat, layout: config.keyboardLayout },
        info: () => ({ ...gpu.info(version), input: input.info() }),
        metricsSource: () => ({ ...gpu.metrics(), inputs: input.metrics() }),
      });
      opened.push(api);
    }
    announce(log, config);
    for (const { what, secretLinks, ...where } of pages) {
      log.info(where, what);
      // Not for the log, and not to be lost with it.
      for (const link of secretLinks ?? []) process.stdout.write(`${link}\n`);
    }
    const reason = await stop.promise;
    if (reason instanceof Error) log.error({ err: reason }, 'leaving after an internal error');
    else log.info({ reason }, 'leaving');
    return reason instanceof Error ? EXIT_INTERNAL : 0;
  } finally {
    for (const one of opened.reverse()) await one.close();
  }
}

/** Listens for viewers; resolves with what people have to know. */
async function openForViewers(
  viewing: Viewing,
  { vnc, web, tls }: ServeConfig,
): Promise<{ what: string; secretLinks?: readonly string[]; [where: string]: unknown }[]> {
  const servers = vnc.map(async ({ address, display, viewOnly, passwords }) => {
    const found = await viewing.listen({ kind: 'vnc', address, display, viewOnly, passwords, tls });
    return { what: 'VNC', address: addressText(found), display, viewOnly };
  });
  const page = async (address: Address) => {
    const token = () => randomBytes(TOKEN_BYTES).toString('base64url');
    const tokens = isLocal(address) ? undefined : { control: token(), view: token() };
    const found = await viewing.listen({ kind: 'web', address, tokens, tls });
    const url = `${tls ? 'https' : 'http'}://${addressText(found)}/`;
    const known = { what: 'web page', url, viewUrl: `${url}view` };
    if (!tokens) return known;
    const anybody = 'host' in found && ['0.0.0.0', '::'].includes(found.host);
    const reachable = anybody ? url.replace(/\/\/.*:/, `//${hostname()}:`) : url;
    const secretLinks = [`${reachable}?token=${tokens.control}`, `${reachable}view?token=${tokens.view}`];
    return { ...known, secretLinks };
  };
  return await Promise.all([...servers, ...(web ? [page(web)] : [])]);
}

function addressText(address: Address): string {
  if ('path' in address) return `unix:${address.path}`;
  const { host, port } = address;
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** What is not asked for is not loaded. */
async function makeComponents(config: ServeConfig, log: Log): Promise<Component[]> {
  return await Promise.all(
    config.contextTypes.map(async (type) => {
      switch (type) {
        case 'cross-domain':
          return await makeCrossDomain(config, log);
        default:
          return type satisfies never;
      }
    }),
  );
}

async function makeCrossDomain(config: ServeConfig, log: Log): Promise<Component> {
  const { waylandPath: path, waylandPolicyFile } = config;
  const { CrossDomain } = await import('../cross-domain/component.ts');
  const observed = config.logLevel === 'debug' ? await observeChannels(log) : {};
  if (path === undefined) return new CrossDomain({ log, ...observed });
  const { WaylandConnection } = await import('../cross-domain/wayland/connection.ts');
  const { DEFAULT_POLICY, parsePolicy } = await import('../cross-domain/wayland/policy.ts');
  let policy = DEFAULT_POLICY;
  if (waylandPolicyFile !== undefined) {
    try {
      policy = parsePolicy(JSON.parse(readFileSync(waylandPolicyFile, 'utf8')));
    } catch (error) {
      throw new UsageError(`policy ${waylandPolicyFile}: ${(error as Error).message}`);
    }
  }
  const { describe } = await import('../cross-domain/wayland/describe.ts');
  const makeStream = ({ contextId, name }: ContextHost) =>
    new WaylandConnection<SentBlob>(policy, {
      // What WAYLAND_DEBUG is to a program.
      ...(config.logLevel === 'debug'
        ? { observe: (message) => log.debug({ contextId, name, message: describe(message) }, 'wayland') }
        : {}),
    });
  const { SecurityContext } = await import('../cross-domain/security-context.ts');
  const door = new SecurityContext(path, (message, fields) => log.info(fields, message));
  process.once('exit', () => door[Symbol.dispose]());
  return new CrossDomain({ wayland: { connect: () => door.connect(), makeStream }, log, ...observed });
}

/** Commands and messages of the channels in words. */
async function observeChannels(log: Log): Promise<Pick<CrossDomainOptions, 'observe'>> {
  const { describe } = await import('../cross-domain/describe.ts');
  return {
    observe: ({ contextId, name }, message) =>
      log.debug({ contextId, name, message: describe(message) }, 'cross-domain'),
  };
}

/** Tells people, then whoever started us, that a VMM can connect. */
function announce(log: Log, config: ServeConfig): void {
  const { socketPath, apiSocketPath, keyboardSocketPath, tabletSocketPath, touchSocketPath } = config;
  log.info({ socketPath, apiSocketPath }, 'listening');
  const paths = [socketPath, keyboardSocketPath, tabletSocketPath, touchSocketPath].filter(
    (path) => path !== undefined,
  );
  // cloud-hypervisor takes several values behind one option.
  const userDevices = paths.map((path) => `socket=${path}`).join(' ');
  log.info({ options: `--memory size=1G,shared=on --user-device ${userDevices}` }, 'cloud-hypervisor');
  const devices = paths.map((path) => {
    const device = JSON.stringify({ driver: 'vfio-user-pci', socket: { type: 'unix', path } });
    return `-device '${device}'`;
  });
  const memory = '-machine q35,memory-backend=mem -object memory-backend-memfd,id=mem,size=1G,share=on';
  log.info({ options: [memory, ...devices].join(' ') }, 'QEMU >= 10.1');
  const { NOTIFY_SOCKET: notifySocket } = process.env;
  if (notifySocket) {
    try {
      sendDatagram(notifySocket, Buffer.from('READY=1'));
    } catch (error) {
      log.warn({ err: error }, 'NOTIFY_SOCKET could not be told');
    }
  }
}

/** The first reason to stop; a second signal while leaving ends the process at once, and so does a second error. */
function stopSignal(): { promise: Promise<string | Error>; now(reason: string): void } {
  let now: (reason: string | Error) => void = () => {};
  const promise = new Promise<string | Error>((resolve) => {
    now = resolve;
  });
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => now(signal));
  process.once('uncaughtException', (error) => now(error));
  return { promise, now: (reason) => now(reason) };
}
