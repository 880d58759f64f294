/**
 * Who may do what. Three things stand between a web page of somebody else's and the guest: the host that a request is
 * for (a name that was rebound to this address is not ours), the origin that a WebSocket comes from, and, beyond
 * loopback, a token that only those have who were given the link.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Address } from '../../sockets.ts';
import type { WebOptions } from '../viewing/messages.ts';

/** What a request may have. `control` includes `view`. */
export type Access = 'control' | 'view' | 'none';

export type Tokens = NonNullable<WebOptions['tokens']>;

/** A host name or an address, IPv6 in brackets, and perhaps a port (RFC 9110, 7.2). */
const HOST = /^(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?$/i;
const LOOPBACK = /^(?:localhost|.+\.localhost|127(?:\.\d{1,3}){3}|\[::1\])$/i;

/** Whether the `Host` of a request names this server: the address it listens on, or a loopback name at any port. */
export function isOwnHost(host: string | undefined, address: Address): boolean {
  const name = HOST.exec(host ?? '')?.[1]?.toLowerCase();
  if (name === undefined) return false;
  if (LOOPBACK.test(name)) return true;
  if ('path' in address) return false;
  const listened = address.host.toLowerCase();
  return name === listened || name === `[${listened}]`;
}

/** Whether a WebSocket is opened by a page of this server, or by a program, which says nothing of an origin. */
export function isOwnOrigin({ headers: { origin, host } }: IncomingMessage): boolean {
  if (origin === undefined) return true;
  return URL.canParse(origin) && new URL(origin).host === host?.toLowerCase();
}

/** What the tokens of a request give: the one in its query, and those that pages have been given as cookies. */
export function accessOf(request: IncomingMessage, url: URL, tokens: Tokens | undefined): Access {
  if (!tokens) return 'control';
  const cookies = cookiesOf(request);
  const roles = [
    url.searchParams.get('token'),
    cookies.get(cookieName(request, 'control')),
    cookies.get(cookieName(request, 'view')),
  ].map((said) => roleOf(said, tokens));
  return roles.includes('control') ? 'control' : roles.includes('view') ? 'view' : 'none';
}

/** Whose token this is. How long that takes says nothing about the tokens. */
export function roleOf(said: string | null | undefined, tokens: Tokens): keyof Tokens | undefined {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  const saidDigest = digest(said ?? '');
  const [isControl, isView] = [tokens.control, tokens.view].map((token) =>
    timingSafeEqual(saidDigest, digest(token)),
  );
  return isControl ? 'control' : isView ? 'view' : undefined;
}

/**
 * A cookie that stands for a token from now on. Cookies do not know ports, so that the name has the port in it; a
 * page that only looks has one of its own, because the same browser may have both pages open.
 */
export function tokenCookie(
  request: IncomingMessage,
  role: keyof Tokens,
  tokens: Tokens,
  tls: boolean,
): string {
  const secure = tls ? '; Secure' : '';
  return `${cookieName(request, role)}=${encodeURIComponent(tokens[role])}; Path=/; HttpOnly; SameSite=Strict${secure}`;
}

function cookieName({ headers: { host = '' } }: IncomingMessage, role: keyof Tokens): string {
  const port = /:(\d+)$/.exec(host)?.[1] ?? 'default';
  return `vfio-user-gpu-${port}-${role}`;
}

function cookiesOf({ headers: { cookie = '' } }: IncomingMessage): Map<string, string> {
  const pairs = cookie.split(';').map((pair) => pair.trim().split('='));
  return new Map(
    pairs.flatMap(([name, value]) => {
      try {
        return name && value ? [[name, decodeURIComponent(value)] as const] : [];
      } catch {
        return [];
      }
    }),
  );
}
