/**
 * Displays in a browser: an HTTP server with the page, a list of displays, and a WebSocket per viewer that carries RFB.
 * Runs on the viewing thread. Every answer is from a table; nothing that a request says becomes a path of a file.
 */
import { readFileSync } from 'node:fs';
import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerOptions,
  type ServerResponse,
  STATUS_CODES,
} from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { RateLimitedLog } from '../../log.ts';
import { type Address, listenOn } from '../../sockets.ts';
import type { DisplaySummary, WebOptions } from '../viewing/messages.ts';
import type { Listener, Stage } from '../viewing/stage.ts';
import { VncSession } from '../vnc/session.ts';
import { type Access, accessOf, isOwnHost, isOwnOrigin, roleOf, tokenCookie } from './access.ts';
import { type Asset, type Assets, readAssets } from './assets.ts';
import { NEWS_PROTOCOL, tellNews } from './news.ts';
import { WebSocketStream } from './web-socket-stream.ts';

/** More are refused: each may cost the memory of one update. */
const MAX_VIEWERS = 64;
/** Browsers open several for the files of a page. More are closed at once. */
const MAX_CONNECTIONS = 256;
/** Of one message; viewers say little. */
const MAX_MESSAGE_BYTES = 1024 * 1024;
const HTTP_OPTIONS: ServerOptions = {
  maxHeaderSize: 16 * 1024,
  headersTimeout: 10_000,
  requestTimeout: 15_000,
  keepAliveTimeout: 5000,
  connectionsCheckingInterval: 2000,
};

/**
 * For every answer. Pictures in `data:` are how noVNC shows JPEG and the cursor; everything else comes from here and
 * nothing goes elsewhere.
 */
const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
  ].join('; '),
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
};

const SESSION_PATH = /^\/displays\/(\d{1,2})\/(control|view)$/;

/** What `/displays.json` says. */
export interface DisplayList {
  /** What whoever asked may have. */
  readonly access: Exclude<Access, 'none'>;
  /** Where the page is that only looks, from the page's own address. */
  readonly viewLink: string;
  readonly displays: readonly DisplaySummary[];
}

/** Why a request is not answered with what it wants. */
class HttpError extends Error {
  override readonly name = 'HttpError';
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.headers = headers;
  }
}

/** Listens when it resolves. @throws when the address cannot be had, or the certificate or the page cannot be read */
export async function listenWeb(stage: Stage, options: WebOptions): Promise<Listener> {
  const web = new WebServer(stage, options, readAssets());
  const listening = await listenOn(web.server, options.address);
  web.address = listening.address;
  return {
    address: listening.address,
    async close() {
      const closed = listening.close();
      web.closeConnections();
      await closed;
    },
  };
}

class WebServer {
  readonly server: Server;
  /** With the port that was found. */
  address: Address;
  readonly #stage: Stage;
  readonly #options: WebOptions;
  readonly #assets: Assets;
  readonly #log: RateLimitedLog;
  readonly #sessions = new Set<VncSession>();
  readonly #sockets = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: MAX_MESSAGE_BYTES,
    closeTimeout: 1000,
    handleProtocols: (offered) =>
      [NEWS_PROTOCOL, 'binary'].find((protocol) => offered.has(protocol)) ?? false,
  } as ConstructorParameters<typeof WebSocketServer>[0]);

  constructor(stage: Stage, options: WebOptions, assets: Assets) {
    this.#stage = stage;
    this.#options = options;
    this.#assets = assets;
    this.address = options.address;
    this.#log = new RateLimitedLog(stage.log);
    const { tls } = options;
    this.server = tls
      ? createTlsServer({
          ...HTTP_OPTIONS,
          cert: readFileSync(tls.certificate),
          key: readFileSync(tls.key),
          handshakeTimeout: 10_000,
        })
      : createServer(HTTP_OPTIONS);
    this.server.maxConnections = MAX_CONNECTIONS;
    this.server.on('request', (request, response) => void this.#answer(request, response));
    this.server.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
    this.server.on('clientError', (error, socket) => this.#refuseNonsense(error, socket));
  }

  closeConnections(): void {
    for (const session of this.#sessions) session.close('the server is leaving');
    this.server.closeAllConnections();
  }

  // ---- requests ----

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      await this.#route(request, response);
    } catch (error) {
      if (response.headersSent) {
        response.destroy();
        return;
      }
      const isExpected = error instanceof HttpError;
      if (!isExpected)
        this.#stage.log.error({ err: (error as Error).stack }, 'the web page failed: internal error');
      const { status, message, headers } = isExpected ? error : new HttpError(500, 'internal error');
      this.#noteRefusal(request, status);
      // A body that was sent along is not waited for.
      response.writeHead(status, {
        ...SECURITY_HEADERS,
        ...headers,
        'cache-control': 'no-store',
        'content-type': 'text/plain; charset=utf-8',
        connection: 'close',
      });
      response.end(request.method === 'HEAD' ? undefined : `${message}\n`);
    }
  }

  async #route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { url, access } = this.#admit(request);
    if (request.method !== 'GET' && request.method !== 'HEAD')
      throw new HttpError(405, 'only GET and HEAD', { allow: 'GET, HEAD' });
    const asset = this.#assets.files.get(url.pathname);
    if (asset) return sendAsset(request, response, asset, 'private, max-age=31536000, immutable');
    switch (url.pathname) {
      case '/':
      case '/view':
        return this.#sendPage(request, response, url, access);
      case '/displays.json':
        return await this.#sendList(request, response, access);
      default:
        throw new HttpError(404, 'not found');
    }
  }

  /** What a request is for and what it may have. @throws HttpError when that is nothing */
  #admit(request: IncomingMessage): { url: URL; access: Exclude<Access, 'none'> } {
    const { tokens } = this.#options;
    const { url: target = '', headers } = request;
    // Whoever has a token came by the link, and by whatever name its host has there.
    if (!tokens && !isOwnHost(headers.host, this.address))
      throw new HttpError(421, 'this server is not known by that name: use its address, or localhost');
    if (!target.startsWith('/') || !URL.canParse(target, 'http://host'))
      throw new HttpError(400, 'no such path');
    const url = new URL(target, 'http://host');
    const access = accessOf(request, url, tokens);
    if (access === 'none')
      throw new HttpError(401, 'open the whole link that the server printed, with its token');
    return { url, access };
  }

  /** A token in a link becomes a cookie, because what the page loads has to come with it too. */
  #sendPage(request: IncomingMessage, response: ServerResponse, url: URL, access: Access): void {
    if (access === 'view' && url.pathname === '/') {
      response.writeHead(303, {
        ...SECURITY_HEADERS,
        'cache-control': 'no-store',
        location: `view${url.search}`,
      });
      response.end();
      return;
    }
    const { tokens, tls } = this.#options;
    const role = tokens && roleOf(url.searchParams.get('token'), tokens);
    if (role) response.setHeader('set-cookie', tokenCookie(request, role, tokens, tls !== undefined));
    sendAsset(request, response, this.#assets.page, 'no-store');
  }

  async #sendList(
    request: IncomingMessage,
    response: ServerResponse,
    access: DisplayList['access'],
  ): Promise<void> {
    const { tokens } = this.#options;
    const list: DisplayList = {
      access,
      viewLink: tokens ? `view?token=${encodeURIComponent(tokens.view)}` : 'view',
      displays: await this.#stage.summarize(),
    };
    const bytes = Buffer.from(JSON.stringify(list));
    response.writeHead(200, {
      ...SECURITY_HEADERS,
      'cache-control': 'no-store',
      'content-type': 'application/json',
      'content-length': bytes.length,
    });
    response.end(request.method === 'HEAD' ? undefined : bytes);
  }

  #noteRefusal({ socket: { remoteAddress } }: IncomingMessage, status: number): void {
    this.#stage.counters.web.refused++;
    this.#log.write(
      'info',
      'refused',
      { viewer: remoteAddress ?? 'local', status },
      'a web request was refused',
    );
  }

  #refuseNonsense(error: NodeJS.ErrnoException, socket: Duplex): void {
    this.#stage.counters.web.refused++;
    this.#log.write('info', 'nonsense', { code: error.code }, 'something on the web port was not HTTP');
    // What was no HTTP is told so; what did not even finish a handshake of TLS could not be told.
    const isHttp = /^(HPE|ERR_HTTP)_/.test(error.code ?? '');
    if (isHttp && socket.writable) socket.end(refusal(400), () => socket.destroy());
    else socket.destroy();
  }

  // ---- viewers ----

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => socket.destroy());
    try {
      const { url, access } = this.#admit(request);
      const match = SESSION_PATH.exec(url.pathname);
      const display = Number(match?.[1]);
      if (!match || display >= this.#stage.displays) throw new HttpError(404, 'not found');
      if (!isOwnOrigin(request)) throw new HttpError(403, 'forbidden');
      const isViewOnly = match[2] === 'view';
      if (!isViewOnly && access !== 'control') throw new HttpError(403, 'forbidden');
      if (this.#sessions.size >= MAX_VIEWERS) throw new HttpError(503, 'too many viewers');
      this.#sockets.handleUpgrade(request, socket, head, (webSocket) =>
        this.#view(webSocket, socket as Socket, display, isViewOnly),
      );
    } catch (error) {
      if (!(error instanceof HttpError)) throw error;
      this.#noteRefusal(request, error.status);
      socket.end(refusal(error.status), () => socket.destroy());
    }
  }

  #view(webSocket: WebSocket, socket: Socket, display: number, viewOnly: boolean): void {
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 30_000);
    const viewer = socket.remoteAddress ?? 'local';
    const session = new VncSession(new WebSocketStream(webSocket), this.#stage, {
      display,
      viewOnly,
      kind: 'web',
      // The token has been looked at, and TLS is below the WebSocket.
      passwords: undefined,
      tls: undefined,
      onEnd: (reason) => {
        this.#sessions.delete(session);
        this.#log.write('info', 'viewer left', { viewer, reason }, 'viewer left');
      },
    });
    this.#sessions.add(session);
    if (webSocket.protocol === NEWS_PROTOCOL) tellNews(this.#stage, webSocket);
    this.#log.write('info', 'viewer', { viewer, display, viewOnly }, 'viewer connected');
  }
}

const refusal = (status: number) =>
  `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`;

function sendAsset(
  request: IncomingMessage,
  response: ServerResponse,
  { contentType, bytes, etag }: Asset,
  cacheControl: string,
): void {
  const headers = { ...SECURITY_HEADERS, 'cache-control': cacheControl, etag };
  const known = request.headers['if-none-match']?.split(',').map((tag) => tag.trim().replace(/^W\//, ''));
  if (known?.includes(etag)) {
    response.writeHead(304, headers);
    response.end();
    return;
  }
  response.writeHead(200, { ...headers, 'content-type': contentType, 'content-length': bytes.length });
  response.end(request.method === 'HEAD' ? undefined : bytes);
}
