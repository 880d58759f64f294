import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { type IncomingHttpHeaders, request } from 'node:http';
import { request as requestTls } from 'node:https';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join, posix } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { isOwnHost } from '../../../../server/displays/web/access.ts';
import { openFds } from '../../../support/fake-client.ts';
import { WebStage } from '../../../support/web.ts';

const TOKENS = { control: 'control-token-0123456789', view: 'view-token-0123456789' };

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

let stage: WebStage;
afterEach(async () => await stage.close());

async function start(...[options]: Parameters<WebStage['listen']>): Promise<void> {
  stage = new WebStage(2);
  await stage.listen(options);
}

function ask(
  path: string,
  { method = 'GET', headers = {} }: { method?: string; headers?: Record<string, string> } = {},
): Promise<Answer> {
  const { hostname, port, protocol } = new URL(stage.url);
  const send = protocol === 'https:' ? requestTls : request;
  return new Promise((resolve, reject) => {
    const options = { hostname, port, path, method, headers, agent: false, rejectUnauthorized: false };
    const sent = send(options, async (response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of response) chunks.push(chunk as Buffer);
      const body = Buffer.concat(chunks).toString();
      resolve({ status: response.statusCode as number, headers: response.headers, body });
    });
    sent.on('error', reject);
    sent.end();
  });
}

/** What comes back for these bytes, as text, when the server has closed. */
function say(bytes: string | Uint8Array): Promise<string> {
  const { hostname, port } = new URL(stage.url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname);
    let said = '';
    socket.on('data', (data) => {
      said += data.toString('latin1');
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(said));
    socket.end(bytes);
  });
}

const pageFiles = async () => {
  const { body } = await ask('/');
  return [...body.matchAll(/(?:href|src)="([^"]+)"/g)].map(([, path]) => `/${path}`);
};

describe('the web page', () => {
  test('comes with everything it needs, and every module with what it imports', async () => {
    await start();
    const waiting = await pageFiles();
    const seen = new Set<string>();
    for (let path = waiting.pop(); path; path = waiting.pop()) {
      if (seen.has(path)) continue;
      seen.add(path);
      const { status, body } = await ask(path);
      expect([path, status]).toEqual([path, 200]);
      if (!path.endsWith('.js')) continue;
      for (const [, specifier] of body.matchAll(/^(?:import|export)[^'"]*?from ['"]([^'"]+)['"]/gm))
        waiting.push(posix.join(posix.dirname(path), specifier as string));
    }
    expect([...seen].filter((path) => path.includes('/novnc/')).length).toBeGreaterThan(30);
  });

  test('says what kind each file is, and nobody may guess otherwise', async () => {
    await start();
    const types = new Map<string, string | undefined>();
    for (const path of ['/', ...(await pageFiles())]) {
      const { headers } = await ask(path);
      types.set(path.replace(/^.*\//, ''), headers['content-type']);
      expect(headers['x-content-type-options']).toBe('nosniff');
    }
    expect(Object.fromEntries(types)).toEqual({
      '': 'text/html; charset=utf-8',
      'icon.svg': 'image/svg+xml',
      'page.css': 'text/css; charset=utf-8',
      'page.js': 'text/javascript; charset=utf-8',
    });
  });

  test('lets a browser load from here, and talk to here, and nothing else', async () => {
    await start();
    const { headers } = await ask('/');
    const security = Object.keys(headers).filter(
      (name) => !['date', 'connection', 'keep-alive'].includes(name),
    );
    expect(Object.fromEntries(security.sort().map((name) => [name, headers[name]]))).toEqual({
      'cache-control': 'no-store',
      'content-length': headers['content-length'],
      'content-security-policy':
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
      'content-type': 'text/html; charset=utf-8',
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-resource-policy': 'same-origin',
      etag: headers.etag,
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
    });
    const refused = await ask('/nowhere');
    expect(refused.headers['content-security-policy']).toBe(headers['content-security-policy']);
  });

  test('has files that need not be asked for again', async () => {
    await start();
    const [script] = (await pageFiles()).filter((path) => path.endsWith('page.js'));
    const first = await ask(script as string);
    expect(first.headers['cache-control']).toBe('private, max-age=31536000, immutable');
    const etag = first.headers.etag as string;
    const again = await ask(script as string, { headers: { 'if-none-match': `"other", ${etag}` } });
    expect([again.status, again.body]).toEqual([304, '']);
    expect((await ask(script as string, { headers: { 'if-none-match': '"other"' } })).status).toBe(200);
  });

  test('answers HEAD as it does GET, without the body', async () => {
    await start();
    for (const path of ['/', '/displays.json', (await pageFiles())[0] as string]) {
      const [get, head] = [await ask(path), await ask(path, { method: 'HEAD' })];
      expect([head.status, head.body]).toEqual([200, '']);
      expect(head.headers['content-length']).toBe(String(Buffer.byteLength(get.body)));
    }
  });

  test('lists the displays, also those that nobody looks at', async () => {
    await start();
    const rgb = Buffer.alloc(40 * 30 * 3, 7);
    stage.draw(1, { width: 40, height: 30, rgb });
    const { body, headers } = await ask('/displays.json');
    expect(headers['content-type']).toBe('application/json');
    const mode = { width: 320, height: 200, refreshHz: 60 };
    expect(JSON.parse(body)).toEqual({
      access: 'control',
      viewLink: 'view',
      displays: [
        { display: 0, mode, isShowing: false, width: 320, height: 200 },
        { display: 1, mode, isShowing: true, width: 40, height: 30 },
      ],
    });
  });
});

describe('what is not on the web page', () => {
  test('is not found, wherever it is said to be', async () => {
    await start();
    const folder = posix.dirname((await pageFiles())[0] as string);
    const paths = [
      '/package.json',
      '/index.html',
      '/view/',
      '/..//package.json',
      '/%2e%2e/package.json',
      `${folder}/../../package.json`,
      `${folder}/novnc/package.json`,
      `${folder}/novnc/core/../../../package.json`,
      `${folder}/novnc/%2e%2e/%2e%2e/package.json`,
      `${folder}/page.ts`,
      `${folder}/tsconfig.json`,
      `${folder}/page.js%00`,
      `${folder}\\page.js\\..`,
      '/displays/0/control',
      '/displays',
      '/__proto__',
      '/constructor',
    ];
    const statuses = await Promise.all(paths.map(async (path) => `${path} ${(await ask(path)).status}`));
    expect(statuses).toEqual(paths.map((path) => `${path} 404`));
  });

  test('cannot be written to', async () => {
    await start();
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'TRACE']) {
      const { status, headers } = await ask('/displays.json', { method });
      expect([method, status, headers.allow]).toEqual([method, 405, 'GET, HEAD']);
    }
  });

  test('is no place for a proxy', async () => {
    await start();
    const { port } = new URL(stage.url);
    const host = `Host: 127.0.0.1:${port}\r\nConnection: close\r\n\r\n`;
    expect(await say(`GET http://example.org/ HTTP/1.1\r\n${host}`)).toMatch(/^HTTP\/1\.1 400 /);
    expect(await say(`CONNECT example.org:443 HTTP/1.1\r\n${host}`)).toBe('');
  });
});

describe('a web page of somebody else', () => {
  test('gets nothing under a name that was made to point here', async () => {
    await start();
    const { port } = new URL(stage.url);
    for (const host of [
      `evil.example:${port}`,
      'evil.example',
      `127.0.0.1.evil.example:${port}`,
      '[::2]',
      'a b',
    ]) {
      const { status, body } = await ask('/displays.json', { headers: { host } });
      expect([host, status]).toEqual([host, 421]);
      expect(body).not.toContain('displays"');
    }
    for (const host of [`localhost:${port}`, 'LOCALHOST', '127.0.0.1:9', '[::1]:80']) {
      expect([host, (await ask('/', { headers: { host } })).status]).toEqual([host, 200]);
    }
  });

  test('is told apart from ours by the address listened on', () => {
    const own = (host: string | undefined, address = '192.0.2.7') =>
      isOwnHost(host, { host: address, port: 80 });
    expect(own('192.0.2.7:8006')).toBe(true);
    expect(own('192.0.2.8:8006')).toBe(false);
    expect(own('[2001:db8::1]', '2001:DB8::1')).toBe(true);
    expect(own('vm.localhost')).toBe(true);
    expect(own('notlocalhost')).toBe(false);
    expect(own('127.1.2.3')).toBe(true);
    expect(own('127.0.0.1.example')).toBe(false);
    expect(own('localhost@example')).toBe(false);
    expect(own('')).toBe(false);
    expect(own(undefined)).toBe(false);
    expect(isOwnHost('vm.example', { path: '/run/web' })).toBe(false);
    expect(isOwnHost('localhost', { path: '/run/web' })).toBe(true);
  });
});

describe('a web page with tokens', () => {
  test('has nothing for whoever has none, by whatever name', async () => {
    await start({ tokens: TOKENS });
    const paths = ['/', '/view', '/displays.json', '/nowhere', '/?token=', '/?token=control-token-012345678'];
    for (const path of paths) expect([path, (await ask(path)).status]).toEqual([path, 401]);
    const cookie = 'vfio-user-gpu-default-control=; vfio-user-gpu-default-view=nonsense; %';
    expect((await ask('/', { headers: { cookie } })).status).toBe(401);
  });

  test('gives a cookie for the token in the link, that scripts do not see and other sites do not send', async () => {
    await start({ tokens: TOKENS });
    const { port } = new URL(stage.url);
    const { status, headers } = await ask(`/?token=${TOKENS.control}`, {
      headers: { host: `vm.example:${port}` },
    });
    expect(status).toBe(200);
    expect(headers['set-cookie']).toEqual([
      `vfio-user-gpu-${port}-control=${TOKENS.control}; Path=/; HttpOnly; SameSite=Strict`,
    ]);
    const cookie = headers['set-cookie']?.[0]?.split(';')[0] as string;
    const list = await ask('/displays.json', { headers: { cookie, host: `vm.example:${port}` } });
    expect(JSON.parse(list.body)).toMatchObject({ access: 'control', viewLink: `view?token=${TOKENS.view}` });
    // Another server on this machine, to which the browser sends the same cookies.
    expect((await ask('/', { headers: { cookie, host: 'vm.example:1' } })).status).toBe(401);
  });

  test('lets whoever may look only look', async () => {
    await start({ tokens: TOKENS });
    const asked = await ask(`/?token=${TOKENS.view}`);
    expect([asked.status, asked.headers.location]).toEqual([303, `view?token=${TOKENS.view}`]);
    const { status, headers } = await ask(`/view?token=${TOKENS.view}`);
    expect(status).toBe(200);
    const cookie = headers['set-cookie']?.[0]?.split(';')[0] as string;
    expect(cookie).toContain('-view=');
    const list = await ask('/displays.json', { headers: { cookie } });
    expect(JSON.parse(list.body).access).toBe('view');
    expect(list.body).not.toContain(TOKENS.control);
    expect((await ask('/', { headers: { cookie } })).status).toBe(303);
    // A wrong token beside a right cookie is not worth more than the cookie.
    const tricked = await ask('/view?token=nonsense', { headers: { cookie } });
    expect([tricked.status, tricked.headers['set-cookie']]).toEqual([200, undefined]);
  });
});

test('a web page on a Unix socket is for whoever is forwarded to it, and it is gone when the server is', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'web-'));
  const socketPath = join(folder, 'web');
  await start({ address: { path: socketPath } });
  const statusFor = (host: string) =>
    new Promise<number | undefined>((resolve, reject) => {
      const sent = request({ socketPath, path: '/', headers: { host }, agent: false }, (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      sent.on('error', reject);
      sent.end();
    });
  expect(await statusFor('localhost:9000')).toBe(200);
  expect(await statusFor('evil.example')).toBe(421);
  expect(statSync(socketPath).mode & 0o777).toBe(0o600);
  await stage.close();
  expect(existsSync(socketPath)).toBe(false);
  rmSync(folder, { recursive: true });
});

function makeCertificate() {
  const folder = mkdtempSync(join(tmpdir(), 'web-'));
  const tls = { certificate: join(folder, 'certificate.pem'), key: join(folder, 'key.pem') };
  const subject = ['-subj', '/CN=localhost', '-days', '2', '-nodes'];
  const files = ['-keyout', tls.key, '-out', tls.certificate];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', ...subject, ...files], {
    stdio: 'ignore',
  });
  return { folder, tls };
}

describe('a web page with a certificate', () => {
  test('speaks TLS and nothing else, and its cookies stay there', async () => {
    const { folder, tls } = makeCertificate();
    await start({ tls, tokens: TOKENS });
    rmSync(folder, { recursive: true });
    const { status, headers } = await ask(`/?token=${TOKENS.control}`);
    expect(status).toBe(200);
    expect(headers['set-cookie']?.[0]).toMatch(/; Secure$/);
    expect(await say('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')).not.toContain('200');
  });

  test('lets go of somebody who never begins to encrypt', async () => {
    const { folder, tls } = makeCertificate();
    await start({ tls });
    rmSync(folder, { recursive: true });
    const silent = connect(Number(new URL(stage.url).port), '127.0.0.1');
    silent.on('error', () => {});
    silent.resume();
    await once(silent, 'close');
  });

  test('does not listen without it', async () => {
    stage = new WebStage(1);
    const tls = { certificate: '/nowhere/certificate.pem', key: '/nowhere/key.pem' };
    await expect(stage.listen({ tls })).rejects.toThrow('/nowhere/certificate.pem');
  });
});

describe('nonsense on the web port', () => {
  test('is refused, and the next one is served', async () => {
    await start();
    const { port } = new URL(stage.url);
    const before = openFds();
    const host = `Host: localhost:${port}\r\n`;
    const bad = [
      '\x16\x03\x01\x02\x00\x01\x00',
      'GET / HTTP/1.1\r\n\r\n',
      `GET / HTTP/9.9\r\n${host}\r\n`,
      `GET / HTTP/1.1\r\n${host}Cookie: ${'c'.repeat(20_000)}\r\n\r\n`,
      `GET / HTTP/1.1\r\n${host}Content-Length: 5\r\nContent-Length: 6\r\n\r\n`,
      `GET /${'a'.repeat(30_000)} HTTP/1.1\r\n${host}\r\n`,
      `GET //[ HTTP/1.1\r\n${host}Connection: close\r\n\r\n`,
      `GET * HTTP/1.1\r\n${host}Connection: close\r\n\r\n`,
    ];
    for (const bytes of bad)
      expect([bytes.slice(0, 60), (await say(bytes)).slice(0, 10)]).toEqual([
        bytes.slice(0, 60),
        'HTTP/1.1 4',
      ]);
    expect((await ask('/')).status).toBe(200);
    expect(openFds()).toBeLessThanOrEqual(before + 1);
  });

  test('of any kind leaves the server as it was', async () => {
    await start();
    const { port } = new URL(stage.url);
    const before = openFds();
    const valid = `GET /displays/0/control HTTP/1.1\r\nHost: localhost:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`;
    const mutated = fc
      .tuple(fc.nat(valid.length), fc.nat(8), fc.uint8Array({ maxLength: 12 }))
      .map(([at, cut, bytes]) =>
        Buffer.concat([Buffer.from(valid.slice(0, at)), bytes, Buffer.from(valid.slice(at + cut))]),
      );
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.uint8Array({ maxLength: 400 }), mutated), async (bytes) => {
        await say(bytes);
      }),
      { numRuns: 200, interruptAfterTimeLimit: 10_000 },
    );
    expect((await ask('/displays.json')).status).toBe(200);
    expect((await stage.viewing.counters())?.web.connected).toBe(0);
    expect(openFds()).toBeLessThanOrEqual(before + 1);
  });
});
