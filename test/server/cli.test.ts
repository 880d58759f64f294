import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { parseCommandLine, parseMode, parseSize, type ServeConfig } from '../../server/cli.ts';

const parse = (line: string) => parseCommandLine(line.split(' ').filter(Boolean), '1.2.3');
const folder = mkdtempSync(join(tmpdir(), 'cli-'));
afterAll(() => rmSync(folder, { recursive: true }));

function configFile(content: unknown): string {
  const path = join(folder, `${Math.random()}.json`);
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}

describe('record', () => {
  test('knows what to write by the name, and needs one', async () => {
    expect(await parse('record --api-socket a -o x.png')).toEqual({
      command: 'record',
      apiSocketPath: 'a',
      output: 'x.png',
      display: 0,
      durationMs: undefined,
      maxFps: 30,
      cursor: true,
    });
    const all = 'record --api-socket a --output x.WebM --display 2 --duration 1.5 --max-fps 10 --no-cursor';
    expect(await parse(all)).toMatchObject({ durationMs: 1500, maxFps: 10, display: 2, cursor: false });
    await expect(parse('record --api-socket a')).rejects.toThrow('output');
    await expect(parse('record --api-socket a -o x.avi')).rejects.toThrow(
      'does not end in one of .png, .apng',
    );
  });

  test.each(['--duration 0', '--duration x', '--duration 1e9', '--max-fps 0', '--max-fps 61', '--max-fps x'])(
    'refuses %s',
    async (option) => {
      await expect(parse(`record --api-socket a -o x.png ${option}`)).rejects.toThrow('is not a number');
    },
  );
});

describe('mcp', () => {
  test('needs the socket of a server', async () => {
    expect(await parse('mcp --api-socket a')).toEqual({ command: 'mcp', apiSocketPath: 'a' });
    await expect(parse('mcp')).rejects.toThrow('api-socket');
  });
});

describe('serve', () => {
  test('is the default command, and needs a socket', async () => {
    expect(await parse('--socket-path /tmp/x')).toMatchObject({ command: 'serve', socketPath: '/tmp/x' });
    expect(await parse('serve --socket-path /tmp/x')).toEqual(await parse('--socket-path /tmp/x'));
    await expect(parse('')).rejects.toThrow('socket-path');
  });

  test('has the defaults the documentation promises', async () => {
    expect(await parse('--socket-path /tmp/x')).toEqual({
      command: 'serve',
      socketPath: '/tmp/x',
      displays: [{ width: 1280, height: 800, refreshHz: 60 }],
      maxResourceBytes: 512 * 2 ** 20,
      maxBlobBytes: 2 ** 30,
      hostVisibleBytes: 0,
      contextTypes: [],
      waylandPath: undefined,
      waylandPolicyFile: undefined,
      keyboardSocketPath: undefined,
      tabletSocketPath: undefined,
      touchSocketPath: undefined,
      keyboardLayout: 'us',
      vnc: [],
      web: undefined,
      tls: undefined,
      apiSocketPath: undefined,
      once: false,
      logLevel: 'info',
      logFormat: process.stderr.isTTY ? 'pretty' : 'json',
    });
  });

  test('gives contexts a window, unless another one is asked for', async () => {
    const types = '--socket-path /tmp/x --context-types cross-domain';
    expect(await parse(types)).toMatchObject({ contextTypes: ['cross-domain'], hostVisibleBytes: 2 ** 35 });
    expect(await parse(`${types},cross-domain --host-visible-size 8G`)).toMatchObject({
      contextTypes: ['cross-domain'],
      hostVisibleBytes: 2 ** 33,
    });
    expect(await parse(`${types} --host-visible-size 0`)).toMatchObject({ hostVisibleBytes: 0 });
    await expect(parse('--socket-path /tmp/x --context-types virgl')).rejects.toThrow(
      '--context-types is one of cross-domain',
    );
  });

  test('finds the compositor by path, or by name where XDG_RUNTIME_DIR is set', async () => {
    const parseWayland = (rest: string) => parse(`--socket-path /tmp/x ${rest}`);
    expect(await parseWayland('--wayland-display /run/w --wayland-policy p.json')).toMatchObject({
      waylandPath: '/run/w',
      waylandPolicyFile: 'p.json',
      contextTypes: ['cross-domain'],
      hostVisibleBytes: 2 ** 35,
    });
    vi.stubEnv('XDG_RUNTIME_DIR', '/run/user/7');
    expect(await parseWayland('--wayland-display wayland-1')).toMatchObject({
      waylandPath: '/run/user/7/wayland-1',
    });
    vi.stubEnv('XDG_RUNTIME_DIR', '');
    await expect(parseWayland('--wayland-display wayland-1')).rejects.toThrow('XDG_RUNTIME_DIR');
    await expect(parseWayland('--wayland-policy p.json')).rejects.toThrow('needs --wayland-display');
    vi.unstubAllEnvs();
  });

  test('takes several displays in order', async () => {
    const config = (await parse(
      '--socket-path /tmp/x --display 800x600 --display 1920x1080@59.94',
    )) as ServeConfig;
    expect(config.displays).toEqual([
      { width: 800, height: 600, refreshHz: 60 },
      { width: 1920, height: 1080, refreshHz: 59.94 },
    ]);
  });

  test('takes every other option', async () => {
    const line =
      '--socket-path /tmp/x --max-resource-memory 2G --host-visible-size 256M --api-socket /tmp/a --once ' +
      '--log-level debug --log-format json ' +
      '--keyboard-socket-path /tmp/k --tablet-socket-path /tmp/t --touch-socket-path /tmp/u --keyboard-layout ch-fr';
    expect(await parse(line)).toMatchObject({
      maxResourceBytes: 2 * 2 ** 30,
      hostVisibleBytes: 256 * 2 ** 20,
      keyboardSocketPath: '/tmp/k',
      tabletSocketPath: '/tmp/t',
      touchSocketPath: '/tmp/u',
      keyboardLayout: 'ch-fr',
      apiSocketPath: '/tmp/a',
      once: true,
      logLevel: 'debug',
      logFormat: 'json',
    });
  });

  test.each([
    ['--display 1280', 'not a display mode'],
    ['--display 1280x800@', 'not a display mode'],
    ['--display 1x1', '32'],
    ['--display 100000x800', '8192'],
    ['--display', 'needs a value'],
    ['--keyboard-layout qwerty', '--keyboard-layout is one of us, us-intl'],
    [`${'--display 640x480 '.repeat(17)}`, '17 displays'],
    ['--max-resource-memory lots', 'not a size'],
    ['--max-resource-memory 99999999999999G', 'too large'],
    ['--host-visible-size 3M', 'power of two'],
    ['--host-visible-size 512K', 'power of two'],
    ['--log-level loud', 'log-level is one of'],
    ['--log-format xml', 'log-format is one of'],
    ['--unknown', 'nknown'],
    ['extra', 'nknown'],
    ['--vnc nowhere', 'not an address'],
    ['--vnc 127.0.0.1:70000', 'not an address'],
    ['--vnc unix:', 'not an address'],
    ['--vnc 0.0.0.0:5900', 'can be reached from other machines'],
    ['--vnc host.example:5900', 'can be reached from other machines'],
    ['--vnc 127.0.0.1:5900,display=1', 'there is no display 1'],
    ['--vnc 127.0.0.1:5900,display=', 'display  is not a number'],
    ['--vnc 127.0.0.1:5900,display=0,display=0', 'names several displays'],
    ['--vnc 127.0.0.1:5900,watch', 'not an address'],
    ['--vnc-password-file /dev/null', 'begins with an empty line'],
    ['--vnc 127.0.0.1:5900 --vnc-password-file /no/such', 'no such file'],
    ['--web :::1', 'not an address'],
    ['--tls-certificate /tmp/c --vnc 127.0.0.1:5900', 'go together'],
    ['--tls-certificate /tmp/c --tls-key /tmp/k', 'needs --vnc or --web'],
  ])('refuses "%s" and says why', async (options, reason) => {
    await expect(parse(`--socket-path /tmp/x ${options}`)).rejects.toThrow(reason);
  });

  test('understands where viewers connect, one address per display', async () => {
    const config = await parse(
      '--socket-path /tmp/x --display 640x480 --display 800x600 --vnc 5900 --vnc [::1]:5901 --vnc unix:/tmp/v,w,view-only,display=0 --vnc unix:/tmp/x,view-only --web localhost:0',
    );
    expect(config).toMatchObject({
      vnc: [
        { address: { host: '127.0.0.1', port: 5900 }, display: 0, viewOnly: false, passwords: undefined },
        { address: { host: '::1', port: 5901 }, display: 1 },
        { address: { path: '/tmp/v,w' }, display: 0, viewOnly: true },
        { address: { path: '/tmp/x' }, display: 1, viewOnly: true },
      ],
      web: { host: 'localhost', port: 0 },
      tls: undefined,
    });
  });

  test.each([
    ['open sesame\n', { control: 'open sesame', view: undefined }],
    ['open sesame\r\n\r\n', { control: 'open sesame', view: undefined }],
    ['open sesame\nlook\nnot this\n', { control: 'open sesame', view: 'look' }],
  ])('lets other machines connect with passwords: of %j it takes two lines', async (lines, passwords) => {
    const file = join(folder, 'password');
    writeFileSync(file, lines);
    const config = await parse(`--socket-path /tmp/x --vnc 0.0.0.0:5900 --vnc-password-file ${file}`);
    expect(config).toMatchObject({ vnc: [{ address: { host: '0.0.0.0' }, passwords }] });
  });

  test('refuses two passwords that VNC takes for the same', async () => {
    const file = join(folder, 'password');
    writeFileSync(file, 'correct horse\ncorrect battery\n');
    const options = `--socket-path /tmp/x --vnc 5900 --vnc-password-file ${file}`;
    await expect(parse(options)).rejects.toThrow('begin with the same 8 characters');
  });

  test('refuses an empty socket path', async () => {
    await expect(parseCommandLine(['--socket-path', ''], '0')).rejects.toThrow('needs a value');
  });
});

describe('a config file', () => {
  test('has the same keys, and options win', async () => {
    const file = configFile({
      'socket-path': '/tmp/file',
      display: ['640x480', '800x600'],
      'max-resource-memory': '1G',
      once: true,
      'log-level': 'warn',
    });
    expect(await parse(`--config ${file} --log-level error`)).toMatchObject({
      socketPath: '/tmp/file',
      displays: [{ width: 640 }, { width: 800 }],
      maxResourceBytes: 2 ** 30,
      once: true,
      logLevel: 'error',
    });
  });

  test('may give one display as text and a size as number', async () => {
    const file = configFile({ 'socket-path': '/tmp/file', display: '640x480', 'host-visible-size': 1048576 });
    expect(await parse(`--config ${file}`)).toMatchObject({
      displays: [{ width: 640 }],
      hostVisibleBytes: 2 ** 20,
    });
  });

  test.each([
    ['an unknown key', { 'socket-path': '/tmp/x', colour: 'red' }, 'colour'],
    ['a wrong type', { 'socket-path': '/tmp/x', once: 'perhaps' }, 'once'],
    ['an object as display', { 'socket-path': '/tmp/x', display: { width: 1 } }, 'display'],
    ['a bad mode', { 'socket-path': '/tmp/x', display: '1x' }, 'display mode'],
    ['no object', [1], 'JSON object'],
    ['no JSON', '{', 'config file'],
  ])('with %s is refused', async (_, content, reason) => {
    await expect(parse(`--config ${configFile(content)}`)).rejects.toThrow(reason);
  });

  test('that is not there is refused', async () => {
    await expect(parse('--config /nowhere/config.json')).rejects.toThrow('/nowhere/config.json');
  });
});

describe('the other commands', () => {
  test('screenshot', async () => {
    expect(await parse('screenshot --api-socket /tmp/a')).toEqual({
      command: 'screenshot',
      apiSocketPath: '/tmp/a',
      display: 0,
      cursor: true,
      output: undefined,
    });
    expect(await parse('screenshot --api-socket /tmp/a --display 3 --no-cursor -o x.png')).toMatchObject({
      display: 3,
      cursor: false,
      output: 'x.png',
    });
    await expect(parse('screenshot')).rejects.toThrow('api-socket');
    await expect(parse('screenshot --api-socket /tmp/a --display 16')).rejects.toThrow('0 to 15');
  });

  test('resize', async () => {
    expect(await parse('resize --api-socket /tmp/a 1024x768')).toEqual({
      command: 'resize',
      apiSocketPath: '/tmp/a',
      display: 0,
      mode: { width: 1024, height: 768, refreshHz: undefined },
    });
    await expect(parse('resize --api-socket /tmp/a')).rejects.toThrow();
    await expect(parse('resize --api-socket /tmp/a big')).rejects.toThrow('not a display mode');
  });

  test('inspect', async () => {
    expect(await parse('inspect --socket-path /tmp/x --hex')).toEqual({
      command: 'inspect',
      socketPath: '/tmp/x',
      hex: true,
    });
  });

  test('trace sits in between or plays back, not both', async () => {
    expect(await parse('trace --listen /tmp/l --connect /tmp/c --record f')).toEqual({
      command: 'trace',
      listenPath: '/tmp/l',
      connectPath: '/tmp/c',
      recordFile: 'f',
      replayFile: undefined,
      scenario: undefined,
    });
    expect(await parse('trace --replay f --connect /tmp/c --scenario s')).toMatchObject({ replayFile: 'f' });
    await expect(parse('trace --connect /tmp/c')).rejects.toThrow('either');
    await expect(parse('trace --connect /tmp/c --listen /tmp/l --replay f')).rejects.toThrow('either');
  });

  test('that do not exist are refused', async () => {
    await expect(parse('sreenshot --api-socket /tmp/a')).rejects.toThrow();
  });
});

describe('words', () => {
  test.each([
    ['0', 0],
    ['4096', 4096],
    ['64K', 65536],
    ['64k', 65536],
    ['512M', 2 ** 29],
    ['8G', 2 ** 33],
  ])('size %s is %i bytes', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  test.each(['', 'M', '1.5G', '-1', '1T', '1 G', '0x10'])('size %j is none', (text) => {
    expect(() => parseSize(text)).toThrow('not a size');
  });

  test('a mode may leave out the refresh rate', () => {
    expect(parseMode('1024x768')).toEqual({ width: 1024, height: 768, refreshHz: undefined });
    expect(parseMode('1024x768@75')).toEqual({ width: 1024, height: 768, refreshHz: 75 });
  });
});
