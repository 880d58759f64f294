/**
 * `vfio-user-gpu mcp`: the calls of the control API as tools for agents (Model Context Protocol), on standard input
 * and output. Ends with its input. Agents see scaled pictures; they point at what they see, and this translates.
 */
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import { z } from 'zod';
import type { McpConfig } from '../cli.ts';
import type { Rect } from '../displays/display.ts';
import type { Mode } from '../displays/mode.ts';
import { ApiClient, ApiError } from './api-client.ts';

/** Most models see no more than that of the longer side, and would shrink a larger picture without a word. */
const MAX_IMAGE_SIDE = 1568;
/** After an action, for a screenshot of what came of it. */
const SETTLE_QUIET_MS = 500;
const SETTLE_TIMEOUT_MS = 5000;

const INSTRUCTIONS = `You see and use the screen of a virtual machine.
Coordinates are always pixels of the last screenshot of the whole display that you were given (0,0 is its upper left
corner), whatever its scale; a screenshot of a region does not change that. Take a screenshot first, then act on what
you see. Pass screenshot: true with an action to see what came of it when the display has become still.`;

interface Size {
  readonly width: number;
  readonly height: number;
}

/** The last picture of a whole display that the agent was given. */
interface View {
  readonly image: Size;
  readonly picture: Size;
  /** Of its pixels; undefined when the cursor is in it. */
  readonly hash: string | undefined;
}

interface Shot {
  readonly display: number;
  /** Of the image. */
  readonly width: number;
  readonly height: number;
  /** Of the display; the image is this large times the scale, unless it is of a region. */
  readonly displayWidth: number;
  readonly displayHeight: number;
  readonly hash: string;
}

type Content = { type: 'text'; text: string } | { type: 'image'; data: string; mimeType: string };
interface Result {
  [key: string]: unknown;
  content: Content[];
  structuredContent: Record<string, unknown>;
}

const display = z.int().min(0).default(0).describe('number of the display, from 0');
const point = { x: z.number(), y: z.number() };
const place = { x: z.number().describe('pixels of the last screenshot of the whole display'), y: z.number() };
const button = z.enum(['left', 'middle', 'right', 'side', 'extra']).default('left');
const modifiers = z.array(z.string()).default([]).describe('keys held meanwhile, for example ["ctrl"]');
const layout = z
  .string()
  .optional()
  .describe("keyboard layout of the guest, if not the server's; for example us, de");
const seeResult = z
  .boolean()
  .default(false)
  .describe('also return a screenshot of the whole display, taken when it has become still');
const region = z
  .object({ ...place, width: z.number().positive(), height: z.number().positive() })
  .optional()
  .describe('a part of the last screenshot of the whole display, in its pixels; all of it by default');
const timeoutMs = z.int().min(0).max(300_000).default(10_000);

const shotSchema = {
  display: z.int(),
  width: z.int().describe('of the image'),
  height: z.int(),
  displayWidth: z.int().describe('of the whole display'),
  displayHeight: z.int(),
  hash: z.string().describe('the same for the same pixels'),
};
const outcomeSchema = {
  isStill: z.boolean().optional().describe('whether the display has become still before the screenshot'),
  screenshot: z.object(shotSchema).optional(),
};

/** Serves until standard input ends. */
export async function mcp(config: McpConfig, version: string): Promise<number> {
  const server = makeMcpServer(new ApiClient(config.apiSocketPath), version);
  const ended = new Promise<void>((resolve) => {
    process.stdin.once('end', resolve);
    process.stdin.once('close', resolve);
  });
  await server.connect(new StdioServerTransport());
  await ended;
  await server.close();
  return 0;
}

/** The tools, on top of a control API. */
function makeMcpServer(client: ApiClient, version: string): McpServer {
  const server = new McpServer({ name: 'vfio-user-gpu', version }, { instructions: INSTRUCTIONS });
  const agent = new Agent(client);

  server.registerTool(
    'list_displays',
    {
      title: 'List displays',
      description:
        'The displays of the virtual machine, their sizes in pixels, and whether they show anything.',
      outputSchema: {
        displays: z.array(
          z.object({ display: z.int(), width: z.int(), height: z.int(), isShowing: z.boolean() }),
        ),
      },
      annotations: { readOnlyHint: true },
    },
    async ({ signal }) => {
      const displays = await agent.displays(signal);
      return said(displays.map(describe).join('\n'), { displays });
    },
  );
  server.registerTool(
    'screenshot',
    {
      title: 'Take a screenshot',
      description:
        'What a display shows now. Of the whole display it is made smaller when the longer side has more than ' +
        `${MAX_IMAGE_SIDE} pixels, and coordinates are those of the image from then on. A region is shown ` +
        'in full detail, to read what is small; coordinates do not change then.',
      inputSchema: {
        display,
        region,
        scale: z.number().gt(0).max(4).optional().describe('size of the image in relation to the display'),
        cursor: z.boolean().default(false).describe('with the pointer'),
        format: z.enum(['png', 'jpeg']).default('png').describe('PNG is exact, JPEG is small'),
      },
      outputSchema: shotSchema,
      annotations: { readOnlyHint: true },
    },
    async ({ display, ...options }, { signal }) => {
      const { shot, content } = await agent.screenshot(display, options, signal);
      return { content, structuredContent: { ...shot } };
    },
  );
  server.registerTool(
    'resize',
    {
      title: 'Resize a display',
      description:
        'Asks the guest for another size of a display. It changes when it wants to, usually at once.',
      inputSchema: {
        display,
        width: z.int().describe('pixels'),
        height: z.int(),
        screenshot: seeResult,
      },
      outputSchema: outcomeSchema,
    },
    async ({ display, width, height, screenshot }, { signal }) => {
      await client.ask('PUT', `/v1/displays/${display}`, { body: { width, height }, signal });
      return await agent.outcome(`asked for ${width}x${height}`, display, screenshot, signal);
    },
  );
  server.registerTool(
    'type_text',
    {
      title: 'Type text',
      description:
        'Types a text on the keyboard, where the keyboard focus is, 50 characters a second; "\\n" is Enter. Fails ' +
        'without typing anything when the layout of the keyboard has no key for a character.',
      inputSchema: { text: z.string().min(1), layout, display, screenshot: seeResult },
      outputSchema: outcomeSchema,
    },
    async ({ text, layout, display, screenshot }, { signal }) => {
      await client.ask('POST', '/v1/input/text', { body: { text, layout }, signal });
      return await agent.outcome(`typed ${[...text].length} characters`, display, screenshot, signal);
    },
  );
  server.registerTool(
    'press_keys',
    {
      title: 'Press keys',
      description:
        'Presses keys and chords one after the other, for example ["ctrl+alt+t", "enter"]. Names are like ctrl, ' +
        'shift, alt, altgr, super, enter, esc, tab, backspace, delete, up, pagedown, home, f5; a single character is ' +
        'the key that types it.',
      inputSchema: { keys: z.array(z.string()).min(1), layout, display, screenshot: seeResult },
      outputSchema: outcomeSchema,
    },
    async ({ keys, layout, display, screenshot }, { signal }) => {
      await client.ask('POST', '/v1/input/keys', { body: { keys, layout }, signal });
      return await agent.outcome(`pressed ${keys.join(', ')}`, display, screenshot, signal);
    },
  );
  server.registerTool(
    'move_pointer',
    {
      title: 'Move the pointer',
      description: 'Moves the pointer without pressing anything, for what appears when it rests there.',
      inputSchema: { display, ...place, screenshot: seeResult },
      outputSchema: outcomeSchema,
    },
    async ({ display, x, y, screenshot }, { signal }) => {
      await agent.point(display, { action: 'move', ...agent.placeOn(display, { x, y }) }, signal);
      return await agent.outcome(`moved to ${x},${y}`, display, screenshot, signal);
    },
  );
  server.registerTool(
    'click',
    {
      title: 'Click',
      description: 'Moves the pointer and clicks; a count of 2 is a double click.',
      inputSchema: {
        display,
        ...place,
        button,
        count: z.int().min(1).max(10).default(1),
        modifiers,
        screenshot: seeResult,
      },
      outputSchema: outcomeSchema,
    },
    async ({ display, x, y, screenshot, ...how }, { signal }) => {
      await agent.point(display, { action: 'click', ...agent.placeOn(display, { x, y }), ...how }, signal);
      return await agent.outcome(`clicked at ${x},${y}`, display, screenshot, signal);
    },
  );
  server.registerTool(
    'drag',
    {
      title: 'Drag',
      description:
        'Presses a button at the first point, moves along the others, and releases it at the last one.',
      inputSchema: {
        display,
        path: z.array(z.object(point)).min(2).describe('pixels of the last screenshot of the whole display'),
        button,
        modifiers,
        durationMs: z.int().min(0).max(10_000).default(250),
        screenshot: seeResult,
      },
      outputSchema: outcomeSchema,
    },
    async ({ display, path, screenshot, ...how }, { signal }) => {
      const places = path.map((one) => agent.placeOn(display, one));
      await agent.point(display, { action: 'drag', path: places, ...how }, signal);
      return await agent.outcome('dragged', display, screenshot, signal);
    },
  );
  server.registerTool(
    'scroll',
    {
      title: 'Scroll',
      description: 'Turns the wheel of the mouse at a place.',
      inputSchema: {
        display,
        ...place,
        down: z.number().default(0).describe('notches; negative is up'),
        right: z.number().default(0).describe('notches; negative is to the left'),
        modifiers,
        screenshot: seeResult,
      },
      outputSchema: outcomeSchema,
    },
    async ({ display, x, y, screenshot, ...how }, { signal }) => {
      await agent.point(display, { action: 'scroll', ...agent.placeOn(display, { x, y }), ...how }, signal);
      return await agent.outcome(`scrolled at ${x},${y}`, display, screenshot, signal);
    },
  );
  server.registerTool(
    'touch',
    {
      title: 'Touch',
      description:
        'Touches the screen with fingers that come down, move along their paths and are lifted together: one path of ' +
        'one point is a tap, one of more points a swipe, two paths that part are a pinch.',
      inputSchema: {
        display,
        paths: z
          .array(z.array(z.object(point)).min(1))
          .min(1)
          .max(10)
          .describe('of each finger, in pixels of the last screenshot of the whole display'),
        durationMs: z
          .int()
          .min(0)
          .max(10_000)
          .default(200)
          .describe('more than 500 on one point: a long press'),
        screenshot: seeResult,
      },
      outputSchema: outcomeSchema,
    },
    async ({ display, paths, durationMs, screenshot }, { signal }) => {
      const contacts = paths.map((path) => ({ path: path.map((one) => agent.placeOn(display, one)) }));
      const body = { display, action: 'gesture', contacts, durationMs };
      await client.ask('POST', '/v1/input/touch', { body, signal });
      return await agent.outcome('touched', display, screenshot, signal);
    },
  );
  server.registerTool(
    'wait_until_stable',
    {
      title: 'Wait until the display is still',
      description:
        'Waits until nothing new has appeared for a while; a blinking text cursor does not count. Fails when it goes ' +
        'on changing.',
      inputSchema: {
        display,
        region,
        quietMs: z.int().min(0).max(60_000).default(SETTLE_QUIET_MS).describe('how long it has to be still'),
        timeoutMs,
        screenshot: seeResult,
      },
      outputSchema: outcomeSchema,
      annotations: { readOnlyHint: true },
    },
    async ({ display, region, quietMs, timeoutMs, screenshot }, { signal }) => {
      const part = agent.regionQuery(display, region);
      const query = `until=stable&quietMs=${quietMs}&timeoutMs=${timeoutMs}${part}`;
      await client.ask('GET', `/v1/displays/${display}/wait?${query}`, { signal });
      return await agent.outcome('the display is still', display, screenshot, signal);
    },
  );
  server.registerTool(
    'wait_for_change',
    {
      title: 'Wait for a change',
      description:
        'Waits until a display shows something else than in your last screenshot of it; with a region, until that ' +
        'part changes from what it is when this is called. Fails when nothing does.',
      inputSchema: { display, region, timeoutMs, screenshot: seeResult },
      outputSchema: outcomeSchema,
      annotations: { readOnlyHint: true },
    },
    async ({ display, region, timeoutMs, screenshot }, { signal }) => {
      const since = region ? agent.regionQuery(display, region) : agent.sinceQuery(display);
      const query = `until=change&timeoutMs=${timeoutMs}${since}`;
      await client.ask('GET', `/v1/displays/${display}/wait?${query}`, { signal });
      return await agent.outcome('the display has changed', display, screenshot, signal);
    },
  );
  return server;
}

const said = (text: string, structuredContent: Record<string, unknown>): Result => ({
  content: [{ type: 'text', text }],
  structuredContent,
});

interface DisplayState extends Size {
  readonly display: number;
  readonly isShowing: boolean;
}

const describe = ({ display, width, height, isShowing }: DisplayState) =>
  `display ${display}: ${width}x${height}${isShowing ? '' : ', shows nothing'}`;

interface ScreenshotOptions {
  readonly region?: Rect | undefined;
  readonly scale?: number | undefined;
  readonly cursor: boolean;
  readonly format: 'png' | 'jpeg';
}

/** What an agent has seen, and how that translates to pixels of displays. */
class Agent {
  readonly #client: ApiClient;
  /** By display. */
  readonly #views = new Map<number, View>();

  constructor(client: ApiClient) {
    this.#client = client;
  }

  async displays(signal: AbortSignal): Promise<DisplayState[]> {
    const { displays } = await this.#client.askJson<{
      displays: { index: number; mode: Mode; picture: Size | null }[];
    }>('GET', '/v1/displays', { signal });
    return displays.map(({ index, mode, picture }) => {
      const { width, height } = picture ?? mode;
      return { display: index, width, height, isShowing: picture !== null };
    });
  }

  async screenshot(
    display: number,
    { region, scale, cursor, format }: ScreenshotOptions,
    signal: AbortSignal,
  ): Promise<{ shot: Shot; content: Content[] }> {
    const part = region && this.#regionOn(display, region);
    const picture = (await this.displays(signal))[display];
    if (!picture) throw new Error(`there is no display ${display}`);
    const { width, height } = part ?? picture;
    const factor = scale ?? Math.min(1, MAX_IMAGE_SIDE / Math.max(width, height));
    const query = `cursor=${cursor ? 1 : 0}&format=${format}&scale=${factor}${part ? regionText(part) : ''}`;
    const { body, headers } = await this.#client.ask('GET', `/v1/displays/${display}/screenshot?${query}`, {
      signal,
    });
    const image = {
      width: Math.max(1, Math.round(width * factor)),
      height: Math.max(1, Math.round(height * factor)),
    };
    const hash = String(headers['pixels-hash']);
    if (!part) this.#views.set(display, { image, picture, hash: cursor ? undefined : hash });
    const shot = {
      display,
      ...image,
      displayWidth: picture.width,
      displayHeight: picture.height,
      hash,
    };
    const what = part
      ? `a region of display ${display}; coordinates are still those of the last screenshot of the whole display`
      : `all of display ${display} (${picture.width}x${picture.height}); coordinates are pixels of this image`;
    return {
      shot,
      content: [
        { type: 'image', data: body.toString('base64'), mimeType: `image/${format}` },
        { type: 'text', text: `${image.width}x${image.height}, hash ${hash}: ${what}` },
      ],
    };
  }

  /** What came of an action: words, and a screenshot when the display is still, if that is wanted. */
  async outcome(done: string, display: number, isSeen: boolean, signal: AbortSignal): Promise<Result> {
    if (!isSeen) return said(done, {});
    const isStill = await this.#settles(display, signal);
    const { shot, content } = await this.screenshot(display, { cursor: false, format: 'png' }, signal);
    const text = isStill ? done : `${done}; the display goes on changing`;
    return {
      content: [{ type: 'text', text }, ...content],
      structuredContent: { isStill, screenshot: shot },
    };
  }

  async point(display: number, action: object, signal: AbortSignal): Promise<void> {
    await this.#client.ask('POST', '/v1/input/pointer', { body: { display, ...action }, signal });
  }

  /** The place on a display of a place in its last screenshot: the middle of that pixel. */
  placeOn(display: number, { x, y }: { x: number; y: number }): { x: number; y: number } {
    const view = this.#views.get(display);
    if (!view) return { x, y };
    const { image, picture } = view;
    if (x < 0 || y < 0 || x >= image.width || y >= image.height) {
      throw new Error(`${x},${y} is not in the last screenshot, which is ${image.width}x${image.height}`);
    }
    return {
      x: ((Math.floor(x) + 0.5) * picture.width) / image.width,
      y: ((Math.floor(y) + 0.5) * picture.height) / image.height,
    };
  }

  regionQuery(display: number, region: Rect | undefined): string {
    return region ? regionText(this.#regionOn(display, region)) : '';
  }

  /** For a change from what the agent has seen. */
  sinceQuery(display: number): string {
    const hash = this.#views.get(display)?.hash;
    return hash === undefined ? '' : `&hash=${hash}`;
  }

  /** The pixels of a display that a part of its last screenshot shows. */
  #regionOn(display: number, { x, y, width, height }: Rect): Rect {
    const { image, picture } = this.#views.get(display) ?? {};
    const scaleX = image && picture ? picture.width / image.width : 1;
    const scaleY = image && picture ? picture.height / image.height : 1;
    const left = Math.max(0, Math.floor(x * scaleX));
    const top = Math.max(0, Math.floor(y * scaleY));
    const right = Math.min(Math.ceil((x + width) * scaleX), picture?.width ?? Number.POSITIVE_INFINITY);
    const bottom = Math.min(Math.ceil((y + height) * scaleY), picture?.height ?? Number.POSITIVE_INFINITY);
    return { x: left, y: top, width: Math.max(0, right - left), height: Math.max(0, bottom - top) };
  }

  async #settles(display: number, signal: AbortSignal): Promise<boolean> {
    const query = `until=stable&quietMs=${SETTLE_QUIET_MS}&timeoutMs=${SETTLE_TIMEOUT_MS}`;
    try {
      await this.#client.ask('GET', `/v1/displays/${display}/wait?${query}`, { signal });
      return true;
    } catch (error) {
      if (error instanceof ApiError && error.code === 'timeout') return false;
      throw error;
    }
  }
}

const regionText = ({ x, y, width, height }: Rect) => `&region=${x},${y},${width},${height}`;
