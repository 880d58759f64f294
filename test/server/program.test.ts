/** The built program as users run it: arguments, sockets, signals, exit status, and what `lspci` says of it. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { VfioUserClient } from '../../server/vfio-user/client.ts';
import { DEVICE_RESET } from '../../server/vfio-user/protocol.ts';
import { decodePng } from '../../tools/testbed/pictures.ts';
import { startServer } from '../../tools/testbed/server.ts';
import { soon } from '../support/soon.ts';
import { SCHED_BATCH, threadsOf } from '../support/threads.ts';

const program = fileURLToPath(new URL('../../dist/server/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'program-'));
afterAll(() => rmSync(folder, { recursive: true }));
const path = (name: string) => join(folder, name);

const run = (...args: string[]) => spawnSync(process.execPath, [program, ...args], { encoding: 'latin1' });

describe('usage', () => {
  test('help and version are printed, status 0', () => {
    const help = run('--help');
    expect([help.status, help.stderr]).toEqual([0, '']);
    for (const word of [
      'serve',
      'screenshot',
      'resize',
      'record',
      'mcp',
      'inspect',
      'trace',
      '--socket-path',
      '--display',
    ]) {
      expect(help.stdout).toContain(word);
    }
    const { version } = JSON.parse(
      readFileSync(fileURLToPath(new URL('../../package.json', import.meta.url)), 'utf8'),
    );
    expect(run('--version').stdout.trim()).toBe(version);
  });

  test.each([
    [[], 'socket-path'],
    [['--socket-path', path('a.sock'), '--display', 'huge'], '"huge" is not a display mode'],
    [['--socket-path', path('a.sock'), '--nonsense'], 'nonsense'],
    [['screenshot'], 'api-socket'],
    [
      ['--socket-path', path('a.sock'), '--wayland-display', '/w', '--wayland-policy', '/nowhere.json'],
      'policy /nowhere.json: ENOENT',
    ],
  ])('arguments %j: status 2, the reason, and nothing touched', (args, reason) => {
    const { status, stderr, stdout } = run(...args);
    expect(status).toBe(2);
    expect(stderr).toContain(reason);
    expect(stdout).toBe('');
    expect(existsSync(path('a.sock'))).toBe(false);
  });

  test('a command that fails while it runs: status 1 and the reason', () => {
    const { status, stderr } = run('screenshot', '--api-socket', path('nobody.sock'));
    expect(status).toBe(1);
    expect(stderr).toContain('no answer at');
  });
});

describe('serve', () => {
  test('is ready when it says so: log line, sockets of mode 0600, options for both VMMs', async () => {
    await using server = await startServer();
    for (const socket of [server.socketPath, server.apiSocketPath]) {
      expect(statSync(socket).mode & 0o777).toBe(0o600);
    }
    const client = VfioUserClient.connect(server.socketPath);
    expect(await client.handshake()).toContain('capabilities');
    client.close();
    const text = JSON.stringify(server.log);
    expect(text).toContain(`--user-device socket=${server.socketPath}`);
    expect(text).toContain('vfio-user-pci');
    expect(text).toContain('share=on');
  });

  test('tells NOTIFY_SOCKET', async () => {
    const receiver =
      'use Socket; socket(S, PF_UNIX, SOCK_DGRAM, 0) or die; bind(S, sockaddr_un($ARGV[0])) or die; $| = 1; ' +
      'print "bound\\n"; recv(S, $x, 99, 0); print "$x\\n";';
    const perl = spawn('perl', ['-e', receiver, path('notify')], { stdio: ['ignore', 'pipe', 'inherit'] });
    const lines = perl.stdout.setEncoding('utf8')[Symbol.asyncIterator]();
    expect((await lines.next()).value).toBe('bound\n');
    await using server = await startServer({ environment: { NOTIFY_SOCKET: path('notify') } });
    expect((await lines.next()).value).toBe('READY=1\n');
    expect(server.log.some(({ msg }) => msg === 'NOTIFY_SOCKET could not be told')).toBe(false);
  });

  test('warns about a NOTIFY_SOCKET that nobody listens on, and serves', async () => {
    await using server = await startServer({ environment: { NOTIFY_SOCKET: path('nobody') } });
    await server.waitForLog('NOTIFY_SOCKET could not be told');
    expect((await server.displays()).length).toBe(1);
  });

  test.each(['SIGTERM', 'SIGINT'] as const)(
    'leaves cleanly on %s, also with a client: status 0, no socket left',
    async (signal) => {
      const server = await startServer();
      const client = VfioUserClient.connect(server.socketPath);
      await client.handshake();
      server.kill(signal);
      expect(await server.exited).toBe(0);
      await client.ended;
      expect([existsSync(server.socketPath), existsSync(server.apiSocketPath)]).toEqual([false, false]);
      expect(server.log.slice(-2).map(({ msg }) => msg)).toEqual(['leaving', 'client disconnected']);
      await server.stop();
    },
  );

  test('with --once outlives a reboot of cloud-hypervisor, and leaves when no device has a client any more', async () => {
    await using server = await startServer({ arguments: ['--once'], inputs: ['keyboard'] });
    const [gpu, keyboard] = server.socketPaths;
    const connect = async (socketPath: string | undefined) => {
      const client = VfioUserClient.connect(socketPath!);
      await client.handshake();
      return client;
    };
    const before = [await connect(gpu), await connect(keyboard)];
    for (const client of before) client.close();
    await server.waitForLog('the VM left, or reboots');
    const after = [await connect(keyboard), await connect(gpu)];
    // One device that is removed is not the VM.
    after[1]!.close();
    await soon(async () => expect(await server.metric('client_connected')).toBe(0));
    await after[0]!.request(DEVICE_RESET, new Uint8Array(0));
    const left = server.log.length;
    after[0]!.close();
    expect(await server.waitForLog('the VM left, or reboots', 10_000, left)).toMatchObject({
      waitMs: 10_000,
    });
    expect(await server.exited).toBe(0);
    expect(server.log.filter(({ msg }) => msg === 'leaving')).toMatchObject([{ reason: 'the VM left' }]);
  });

  test('has whoever looks give way to the device', async () => {
    await using server = await startServer();
    await server.screenshot();
    const background = () => threadsOf(server.pid).filter(({ policy }) => policy === SCHED_BATCH);
    // The viewing thread and the thread pool; pictures have threads of their own that come and go.
    await soon(() => expect(background().length).toBeGreaterThanOrEqual(5));
    expect(background().map(({ id }) => id)).not.toContain(server.pid);
  });

  test('replaces a stale socket, refuses a live one and anything else', async () => {
    const stale = path('stale.sock');
    spawnSync('perl', [
      '-e',
      'use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un($ARGV[0])) or die',
      stale,
    ]);
    expect(existsSync(stale)).toBe(true);
    const first = spawn(process.execPath, [program, '--socket-path', stale], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    await new Promise((resolve) => first.stderr.once('data', resolve));
    const second = run('--socket-path', stale);
    expect([second.status, second.stderr.includes('in use by a running server')]).toEqual([1, true]);
    expect(existsSync(stale)).toBe(true);
    first.kill();
    writeFileSync(path('file'), 'precious');
    const third = run('--socket-path', path('file'));
    expect([third.status, third.stderr.includes('is not a socket')]).toEqual([1, true]);
    expect(readFileSync(path('file'), 'utf8')).toBe('precious');
  });

  test('that cannot have the socket of an input device leaves the others clean', () => {
    const keyboard = path('k.sock');
    const { status, stderr } = run(
      ...['--socket-path', path('x.sock'), '--keyboard-socket-path', keyboard],
      ...['--tablet-socket-path', '/nowhere/tablet.sock'],
    );
    expect(status).toBe(1);
    expect(stderr).toContain('/nowhere/tablet.sock');
    expect([existsSync(path('x.sock')), existsSync(keyboard)]).toEqual([false, false]);
  });

  test('that cannot have the second socket leaves the first one clean', () => {
    const { status, stderr } = run('--socket-path', path('x.sock'), '--api-socket', '/nowhere/api.sock');
    expect(status).toBe(1);
    expect(stderr).toContain('/nowhere/api.sock');
    expect(existsSync(path('x.sock'))).toBe(false);
  });

  test('prints the links to a page that others can reach, whose tokens nobody else can know', async () => {
    const args = ['--socket-path', path('w.sock'), '--web', '0.0.0.0:0', '--log-level', 'error'];
    const server = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      let printed = '';
      for await (const text of server.stdout.setEncoding('utf8')) {
        printed += text;
        if (printed.split('\n').length > 2) break;
      }
      const [use, watch] = printed.split('\n').map((link) => new URL(link || 'http://nowhere'));
      expect([use?.pathname, watch?.pathname]).toEqual(['/', '/view']);
      const here = (link: URL | undefined, token: string | null | undefined) =>
        fetch(`http://127.0.0.1:${link?.port}${link?.pathname}${token ? `?token=${token}` : ''}`, {
          redirect: 'manual',
        });
      const tokens = [use, watch].map((link) => link?.searchParams.get('token'));
      expect((await here(use, tokens[0])).status).toBe(200);
      expect((await here(watch, tokens[1])).status).toBe(200);
      // Who may only watch is sent to where that is.
      const sent = await here(use, tokens[1]);
      expect([sent.status, sent.headers.get('location')]).toEqual([303, `view?token=${tokens[1]}`]);
      expect((await here(use, null)).status).toBe(401);
    } finally {
      server.kill();
    }
  });

  test('lets a second client wait until the first has left', async () => {
    await using server = await startServer();
    const first = VfioUserClient.connect(server.socketPath);
    await first.handshake();
    const second = VfioUserClient.connect(server.socketPath);
    const answered = second.handshake();
    const early = await Promise.race([
      answered.then(() => 'answered'),
      first.deviceInfo().then(() => 'waiting'),
    ]);
    expect(early).toBe('waiting');
    first.close();
    expect(await answered).toContain('capabilities');
    second.close();
  });

  test('with a compositor says so to guests and in its numbers, under the policy of a file', async () => {
    const file = path('policy.json');
    writeFileSync(file, JSON.stringify({ clipboard: 'none', titlePrefix: '[vm] ' }));
    await using server = await startServer({
      arguments: ['--wayland-display', path('wayland-0'), '--wayland-policy', file],
    });
    const client = VfioUserClient.connect(server.socketPath);
    await client.handshake();
    expect(await client.regionInfo(4)).toMatchObject({ size: 2 ** 35 });
    // Device configuration: one capability set.
    expect([...(await client.readRegion(0, 0x2000 + 12, 4))]).toEqual([1, 0, 0, 0]);
    expect(await server.metric('channel_total', { component: 'cross-domain' })).toBe(0);
    client.close();
  });

  test('that has no descriptors left says so, and takes the client when there are some again', async () => {
    await using server = await startServer();
    const limit = (files: number) => spawnSync('prlimit', [`--pid=${server.pid}`, `--nofile=${files}:4096`]);
    // Those that are open stay, and there are more of them than these.
    limit(3);
    const client = VfioUserClient.connect(server.socketPath);
    const answered = client.handshake();
    await server.waitForLog('a client could not be accepted');
    limit(1024);
    expect(await answered).toContain('capabilities');
    client.close();
  });

  test('logs for people with --log-format pretty', () => {
    const child = spawnSync(
      process.execPath,
      [program, '--socket-path', path('p.sock'), '--log-format', 'pretty'],
      {
        timeout: 3000,
        encoding: 'utf8',
      },
    );
    expect(child.stderr).toMatch(/INFO.*listening/);
    expect(child.stderr).not.toContain('{"level"');
  });
});

describe('screenshot and resize', () => {
  test('write a PNG, to a file or to standard output', async () => {
    await using server = await startServer({ displays: ['640x480', '800x600'] });
    const file = path('shot.png');
    expect(run('screenshot', '--api-socket', server.apiSocketPath, '--output', file).status).toBe(0);
    expect(decodePng(readFileSync(file))).toMatchObject({ width: 640, height: 480 });
    const { stdout } = run('screenshot', '--api-socket', server.apiSocketPath, '--display', '1');
    expect(decodePng(Buffer.from(stdout, 'latin1'))).toMatchObject({ width: 800, height: 600 });
  });

  test('change a display and say what it is now', async () => {
    await using server = await startServer();
    const { status, stdout } = run('resize', '--api-socket', server.apiSocketPath, '1024x768@75');
    expect([status, stdout]).toEqual([0, '1024x768@75\n']);
    expect((await server.displays())[0]?.mode).toEqual({ width: 1024, height: 768, refreshHz: 75 });
  });

  test('pass on what the server says against it', async () => {
    await using server = await startServer();
    const { status, stderr } = run(
      'resize',
      '--api-socket',
      server.apiSocketPath,
      '--display',
      '5',
      '1024x768',
    );
    expect([status, stderr]).toEqual([1, 'vfio-user-gpu: there is no display 5\n']);
  });
});

describe('inspect', () => {
  test('shows the card in words', async () => {
    await using server = await startServer({ arguments: ['--host-visible-size', '8G'] });
    expect(
      run('inspect', '--socket-path', server.socketPath).stdout,
    ).toBe(`device      1af4:1050 revision 01 class 038000
subsystem   1af4:1050
interrupts  INTX 0, MSI 0, MSIX 3, ERR 1, REQ 0
region      BAR0: 32 KiB, 32-bit memory
region      BAR4: 8 GiB, 64-bit memory, prefetchable, mappable
region      CONFIG: 256 bytes
capability  [40] MSI-X: 3 vectors, disabled, table BAR0+0x4000, PBA BAR0+0x5000
capability  [4c] power management: D0, no soft reset
capability  [54] virtio common configuration: BAR0+0x0, 64 bytes
capability  [64] virtio ISR: BAR0+0x1000, 4 bytes
capability  [74] virtio device configuration: BAR0+0x2000, 4 KiB
capability  [84] virtio notifications: BAR0+0x3000, 4 KiB, multiplier 4
capability  [98] virtio window into BARs: BAR0+0x0, 0 bytes
capability  [ac] virtio shared memory 1: BAR4+0x0, 8 GiB
`);
  });

  const lspci = spawnSync('lspci', ['--version']);
  if (lspci.error) console.warn('skipping lspci: it is in the package pciutils');
  test.skipIf(lspci.error)('writes a dump in which lspci sees the card with its capabilities', async () => {
    await using server = await startServer({ arguments: ['--host-visible-size', '256M'] });
    const dump = path('config.txt');
    writeFileSync(dump, run('inspect', '--socket-path', server.socketPath, '--hex').stdout);
    const { stdout } = spawnSync('lspci', ['-F', dump, '-nvvv'], { encoding: 'utf8' });
    // Newer versions know more of the names of virtio's structures.
    const seen = stdout.replaceAll(/VirtIO: .*/g, 'VirtIO');
    expect(seen).toBe(readFileSync(fileURLToPath(new URL('lspci.txt', import.meta.url)), 'utf8'));
  });

  test('shows the input devices, which are as different for lspci', async () => {
    const sockets = ['keyboard', 'tablet', 'touch'].map((kind) => path(`${kind}.sock`));
    await using server = await startServer({
      arguments: sockets.flatMap((socket, i) => [
        `--${['keyboard', 'tablet', 'touch'][i]}-socket-path`,
        socket,
      ]),
    });
    const options = JSON.stringify(server.log);
    expect(options).toContain(
      `--user-device ${[server.socketPath, ...sockets].map((one) => `socket=${one}`).join(' ')}`,
    );
    for (const socket of sockets) expect(options.split(`path\\":\\"${socket}`)).toHaveLength(2);
    const classes = sockets.map((socket) => {
      expect(statSync(socket).mode & 0o777).toBe(0o600);
      const { stdout } = run('inspect', '--socket-path', socket);
      expect(stdout).toContain('region      BAR0: 32 KiB, 32-bit memory\nregion      CONFIG: 256 bytes\n');
      return stdout.split('\n')[0];
    });
    expect(classes).toEqual([
      'device      1af4:1052 revision 01 class 090000',
      'device      1af4:1052 revision 01 class 098000',
      'device      1af4:1052 revision 01 class 098000',
    ]);
    const { input } = JSON.parse((await server.ask('GET', '/v1/info')).toString());
    expect(
      input.devices.map(({ kind, socketPath }: { kind: string; socketPath: string }) => [kind, socketPath]),
    ).toEqual(['keyboard', 'tablet', 'touch'].map((kind, i) => [kind, sockets[i]]));
    if (lspci.error) return;
    const dump = path('keyboard.txt');
    writeFileSync(dump, run('inspect', '--socket-path', sockets[0] as string, '--hex').stdout);
    const seen = spawnSync('lspci', ['-F', dump, '-nvvv'], { encoding: 'utf8' }).stdout;
    expect(seen).toMatch(/^00:00.0 0900: 1af4:1052 \(rev 01\)\n\tSubsystem: 1af4:1052\n/);
    expect(seen).toContain('MSI-X: Enable- Count=3 Masked-');
  });

  test('of nobody is status 1', () => {
    expect(run('inspect', '--socket-path', path('nobody.sock')).status).toBe(1);
  });

  test('of something that is no vfio-user server ends', async () => {
    const socket = path('other.sock');
    const other = createServer((connection) => {
      connection.on('error', () => {});
      connection.end('HTTP/1.1 400 Bad Request\r\n\r\n');
    });
    other.listen(socket);
    await new Promise((resolve) => other.once('listening', resolve));
    const child = spawn(process.execPath, [program, 'inspect', '--socket-path', socket], { stdio: 'ignore' });
    expect(await new Promise((resolve) => child.once('exit', resolve))).toBe(1);
    other.close();
  });
});

describe('trace', () => {
  test('prints and records what goes by, and plays it back', async () => {
    await using server = await startServer();
    const listen = path('trace.sock');
    const recording = path('recording.jsonl');
    const proxy = spawn(
      process.execPath,
      [program, 'trace', '--listen', listen, '--connect', server.socketPath, '--record', recording],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    let printed = '';
    proxy.stdout.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
    });
    await new Promise((resolve) => proxy.stderr.once('data', resolve));
    const client = VfioUserClient.connect(listen);
    await client.handshake();
    await client.readRegion(7, 0, 256);
    await client.writeRegion(0, 0x14, Uint8Array.of(0));
    client.close();
    await server.waitForLog('client disconnected');
    proxy.kill('SIGTERM');
    expect(await new Promise((resolve) => proxy.once('close', resolve))).toBe(0);
    expect(printed).toContain('REGION_WRITE BAR0+0x14 device_status = 0x0');
    expect(readFileSync(recording, 'utf8').trim().split('\n')).toHaveLength(6);
    const again = run('trace', '--replay', recording, '--connect', server.socketPath);
    expect([again.status, again.stdout.trim().split('\n').at(-1)]).toEqual([0, '0 answers are different']);
    writeFileSync(
      recording,
      readFileSync(recording, 'utf8').replace('"error":0,"nfds":0', '"error":9,"nfds":0'),
    );
    const altered = readFileSync(recording, 'utf8').replaceAll(/"size":288/g, '"size":300');
    writeFileSync(recording, altered);
    const different = run('trace', '--replay', recording, '--connect', server.socketPath);
    expect([different.status, different.stdout.includes('! different: 300 bytes then, 288 now')]).toEqual([
      1,
      true,
    ]);
  });
});
