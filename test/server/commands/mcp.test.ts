/** The MCP server, as agents have it: the built program, talked to over its input and output by the SDK's own client. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { decodePng } from '../../../tools/testbed/pictures.ts';
import { type ApiHere, apiWithInput } from '../../support/api-here.ts';
import { makeScreen, Painted, texture } from '../../support/screens.ts';
import { soon } from '../../support/soon.ts';

const program = fileURLToPath(new URL('../../../dist/server/main.js', import.meta.url));
const LEFT = 0x110;

let here: ApiHere;
let painted: Painted;
let client: Client;
let transport: StdioClientTransport;
const logged: string[] = [];

beforeAll(async () => {
  here = await apiWithInput({
    displays: [
      { width: 2000, height: 1000 },
      { width: 100, height: 50 },
    ],
  });
  painted = new Painted(here.screens[0] ?? makeScreen(1, 1), 2000, 1000);
  painted.draw(painted.whole, texture).flush();
  transport = new StdioClientTransport({
    command: process.execPath,
    args: [program, 'mcp', '--api-socket', here.socketPath],
    stderr: 'pipe',
  });
  transport.stderr?.on('data', (text) => logged.push(String(text)));
  client = new Client({ name: 'test', version: '1' });
  await client.connect(transport);
});
afterAll(async () => {
  await client.close();
  await here[Symbol.asyncDispose]();
  expect(logged).toEqual([]);
});
beforeEach(() => {
  here.keyboard?.takeAll();
  here.tablet?.takeAll();
});

interface Said {
  readonly text: string;
  readonly image: Buffer | undefined;
  readonly mimeType: string | undefined;
  readonly structured: Record<string, unknown>;
  readonly isError: boolean;
}

async function call(name: string, args: Record<string, unknown> = {}): Promise<Said> {
  const result = await client.callTool({ name, arguments: args });
  const content = result.content as { type: string; text?: string; data?: string; mimeType?: string }[];
  const image = content.find(({ type }) => type === 'image');
  return {
    text: content.flatMap(({ text }) => text ?? []).join('\n'),
    image: image?.data === undefined ? undefined : Buffer.from(image.data, 'base64'),
    mimeType: image?.mimeType,
    structured: (result.structuredContent ?? {}) as Record<string, unknown>,
    isError: result.isError === true,
  };
}

/** Where the pointer was put last, in pixels of both displays side by side. */
function pointerAt(): [number, number] {
  const last = (code: number) =>
    Number(here.tablet?.taken.findLast((line) => line.startsWith(`3 ${code} `))?.split(' ')[2]);
  return [Math.floor((last(0) * 2100) / 32768), Math.floor((last(1) * 1000) / 32768)];
}

test('the tools are there, each with a description and checked shapes', async () => {
  const { tools } = await client.listTools();
  expect(tools.map(({ name }) => name)).toEqual([
    'list_displays',
    'screenshot',
    'resize',
    'type_text',
    'press_keys',
    'move_pointer',
    'click',
    'drag',
    'scroll',
    'touch',
    'wait_until_stable',
    'wait_for_change',
  ]);
  for (const { description, inputSchema, outputSchema } of tools) {
    expect(description).toMatch(/\.$/);
    expect([inputSchema.type, outputSchema?.type]).toEqual(['object', 'object']);
  }
  expect(client.getInstructions()).toContain('Coordinates');
});

describe('seeing', () => {
  test('lists displays', async () => {
    const { text, structured } = await call('list_displays');
    expect(text).toBe('display 0: 2000x1000\ndisplay 1: 100x50, shows nothing');
    expect(structured).toEqual({
      displays: [
        { display: 0, width: 2000, height: 1000, isShowing: true },
        { display: 1, width: 100, height: 50, isShowing: false },
      ],
    });
  });

  test('shows a display as an image that models take as it is, with its size and hash', async () => {
    const { image, mimeType, text, structured } = await call('screenshot');
    expect(mimeType).toBe('image/png');
    expect(decodePng(image ?? Buffer.alloc(0))).toMatchObject({ width: 1568, height: 784 });
    expect(structured).toMatchObject({ width: 1568, height: 784, displayWidth: 2000, displayHeight: 1000 });
    expect(text).toContain('1568x784');
    const { headers } = await here.ask('GET', '/v1/displays/0/screenshot');
    expect(structured.hash).toBe(headers['pixels-hash']);
  });

  test('shows a region of what was seen in full detail', async () => {
    await call('screenshot', { scale: 0.5 });
    const { image } = await call('screenshot', { region: { x: 100, y: 50, width: 20, height: 10 } });
    const { width, height, rgb } = decodePng(image ?? Buffer.alloc(0));
    expect([width, height]).toEqual([40, 20]);
    expect([...rgb.subarray(0, 3)]).toEqual([...texture(200, 100)]);
  });

  test('can be had smaller still', async () => {
    const { image, mimeType } = await call('screenshot', { format: 'jpeg', scale: 0.1 });
    expect(mimeType).toBe('image/jpeg');
    expect(image?.subarray(0, 2)).toEqual(Buffer.from([0xff, 0xd8]));
  });
});

describe('pointing', () => {
  test('is at the pixel of the display that the pixel of the last screenshot shows', async () => {
    await call('screenshot', { scale: 0.25 });
    await call('move_pointer', { x: 100, y: 25 });
    expect(pointerAt()).toEqual([402, 102]);
    await call('move_pointer', { x: 499, y: 249 });
    expect(pointerAt()).toEqual([1998, 998]);
    await call('screenshot', { region: { x: 0, y: 0, width: 10, height: 10 } });
    await call('move_pointer', { x: 0, y: 0 });
    expect(pointerAt()).toEqual([2, 2]);
    await call('screenshot', { scale: 1 });
    await call('move_pointer', { x: 1999, y: 999 });
    expect(pointerAt()).toEqual([1999, 999]);
  });

  test('outside of the screenshot is refused, with its size', async () => {
    await call('screenshot', { scale: 0.25 });
    const { isError, text } = await call('click', { x: 500, y: 0 });
    expect([isError, text]).toEqual([true, '500,0 is not in the last screenshot, which is 500x250']);
    expect(here.tablet?.takeAll()).toEqual([]);
  });

  test('on a display that was not seen yet is in its own pixels', async () => {
    await call('move_pointer', { display: 1, x: 99, y: 49 });
    expect(pointerAt()).toEqual([2099, 49]);
  });

  test('clicks, drags and scrolls', async () => {
    await call('screenshot', { scale: 1 });
    expect((await call('click', { x: 10, y: 20, count: 2, modifiers: ['ctrl'] })).text).toBe(
      'clicked at 10,20',
    );
    const clicks = here.tablet?.takeAll().filter((line) => line.startsWith(`1 ${LEFT}`));
    expect(clicks).toEqual([`1 ${LEFT} 1`, `1 ${LEFT} 0`, `1 ${LEFT} 1`, `1 ${LEFT} 0`]);
    expect(here.keyboard?.takeAll()).toContain('1 29 1');
    const path = [
      { x: 10, y: 10 },
      { x: 300, y: 200 },
    ];
    expect((await call('drag', { path, durationMs: 20 })).isError).toBe(false);
    expect(pointerAt()).toEqual([300, 200]);
    expect((await call('scroll', { x: 5, y: 5, down: -2 })).isError).toBe(false);
    expect(here.tablet?.takeAll().filter((line) => line.startsWith('2 8 '))).toEqual(['2 8 1', '2 8 1']);
  });
});

test('touching is with fingers at the pixels of the last screenshot', async () => {
  await call('screenshot', { scale: 0.5 });
  const paths = [
    [{ x: 100, y: 50 }],
    [
      { x: 200, y: 50 },
      { x: 300, y: 50 },
    ],
  ];
  expect((await call('touch', { paths, durationMs: 20 })).text).toBe('touched');
  const taken = here.touch?.takeAll() ?? [];
  const ofAxis = (code: number, size: number) =>
    taken
      .filter((line) => line.startsWith(`3 ${code} `))
      .map((line) => Math.floor((Number(line.split(' ')[2]) * size) / 32768));
  const xs = ofAxis(0x35, 2100);
  expect([...xs.slice(0, 2), xs.at(-1)]).toEqual([201, 401, 601]);
  expect(ofAxis(0x36, 1000)).toEqual([101, 101]);
  expect(taken.filter((line) => line === '3 57 -1').length).toBe(2);
  expect((await call('touch', { paths: [[{ x: -1, y: 0 }]] })).isError).toBe(true);
});

describe('typing', () => {
  test('types texts and presses chords', async () => {
    expect((await call('type_text', { text: 'a\n' })).text).toBe('typed 2 characters');
    expect((await call('press_keys', { keys: ['ctrl+c'] })).text).toBe('pressed ctrl+c');
    const pressed = here.keyboard?.takeAll().filter((line) => /^1 \d+ 1$/.test(line));
    expect(pressed).toEqual(['1 30 1', '1 28 1', '1 29 1', '1 46 1']);
  });

  test('fails with what the API says', async () => {
    const { isError, text } = await call('type_text', { text: '漢' });
    expect(isError).toBe(true);
    expect(text).toContain('the keyboard layout us cannot type "漢"');
    expect((await call('press_keys', { keys: ['nokey'] })).text).toContain('there is no key "nokey"');
    expect((await call('screenshot', { display: 7 })).text).toContain('there is no display 7');
    expect((await call('type_text', {})).isError).toBe(true);
  });

  test('shows what came of it when that is asked for', async () => {
    const seen = call('type_text', { text: 'a', screenshot: true });
    await soon(() => expect(here.keyboard?.taken.length).toBeGreaterThan(0));
    painted.draw({ x: 0, y: 0, width: 100, height: 100 }, [255, 0, 0]).flush();
    const { image, structured, text } = await seen;
    expect([...decodePng(image ?? Buffer.alloc(0)).rgb.subarray(0, 3)]).toEqual([255, 0, 0]);
    expect(structured).toMatchObject({ isStill: true, screenshot: { width: 1568 } });
    expect(text).toContain('typed 1 characters');
  });
});

describe('waiting', () => {
  test('until it is still', async () => {
    const { text, isError } = await call('wait_until_stable', { quietMs: 50 });
    expect([isError, text]).toEqual([false, 'the display is still']);
  });

  test('until it is other than it was seen, which may be so already', async () => {
    await call('screenshot');
    painted.draw({ x: 500, y: 500, width: 1, height: 1 }, [1, 2, 3]).flush();
    expect((await call('wait_for_change', { timeoutMs: 0 })).text).toBe('the display has changed');
    await call('screenshot');
    const { isError, text } = await call('wait_for_change', { timeoutMs: 50 });
    expect([isError, text]).toEqual([true, 'no change within 50 ms']);
  });

  test('is ended by an agent that does not want it any more', async () => {
    const cancel = new AbortController();
    const waiting = client.callTool(
      { name: 'wait_for_change', arguments: { timeoutMs: 300_000 } },
      undefined,
      { signal: cancel.signal },
    );
    await new Promise((resolve) => setTimeout(resolve, 100));
    cancel.abort();
    await expect(waiting).rejects.toThrow();
    expect((await call('list_displays')).isError).toBe(false);
  });
});

test('asks the guest for another size', async () => {
  expect((await call('resize', { display: 1, width: 640, height: 480 })).text).toBe('asked for 640x480');
  expect(here.screens[1]?.mode).toMatchObject({ width: 640, height: 480 });
  expect((await call('resize', { display: 1, width: 1, height: 1 })).isError).toBe(true);
});

describe('the program', () => {
  test('ends when its input ends, status 0, also while a call goes on, and nothing stays pressed', async () => {
    const child = spawn(process.execPath, [program, 'mcp', '--api-socket', here.socketPath]);
    const answers: string[] = [];
    child.stdout.setEncoding('utf8').on('data', (text: string) => answers.push(text));
    const status = new Promise((resolve) => {
      child.on('close', resolve);
    });
    const say = (message: object) => child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
    const clientInfo = { name: 'test', version: '1' };
    say({
      id: 1,
      method: 'initialize',
      params: { protocolVersion: '2025-06-18', capabilities: {}, clientInfo },
    });
    await soon(() => expect(answers.join('')).toContain('serverInfo'));
    say({ method: 'notifications/initialized' });
    const wait = { name: 'wait_for_change', arguments: { timeoutMs: 300_000 } };
    say({ id: 2, method: 'tools/call', params: wait });
    const text = 'a'.repeat(10_000);
    say({ id: 3, method: 'tools/call', params: { name: 'type_text', arguments: { text } } });
    await soon(() => expect(here.keyboard?.taken.length).toBeGreaterThan(0));
    child.stdin.end();
    expect(await status).toBe(0);
    await soon(() => expect(here.seat.clients).toEqual([]));
    expect(here.keyboard?.held).toEqual([]);
  });
});
