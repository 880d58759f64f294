/** What an agent does with a guest: it looks, acts, and looks at what came of it; by the control API, and by MCP. */
import { fileURLToPath } from 'node:url';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { decodePng, type Picture } from '../../tools/testbed/pictures.ts';
import { askSocket } from './api-here.ts';

export interface Place {
  readonly x: number;
  readonly y: number;
}

/** Places are pixels of the display. What cannot be done is an error that says why. */
export interface Agent extends AsyncDisposable {
  look(): Promise<Picture>;
  /** Until nothing new appears any more. */
  untilStill(timeoutMs: number): Promise<void>;
  press(...keys: string[]): Promise<void>;
  type(text: string): Promise<void>;
  click(place: Place): Promise<void>;
}

/** An agent that makes the calls itself. */
export function agentOverApi(socketPath: string): Agent {
  const ask = async (method: string, path: string, body?: object) => {
    const answer = await askSocket(socketPath, method, path, body);
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.body}`);
    return answer.body;
  };
  return {
    look: async () => decodePng(await ask('GET', '/v1/displays/0/screenshot')),
    untilStill: async (timeoutMs) =>
      void (await ask('GET', `/v1/displays/0/wait?until=stable&timeoutMs=${timeoutMs}`)),
    press: async (...keys) => void (await ask('POST', '/v1/input/keys', { keys })),
    type: async (text) => void (await ask('POST', '/v1/input/text', { text })),
    click: async (place) => void (await ask('POST', '/v1/input/pointer', { action: 'click', ...place })),
    [Symbol.asyncDispose]: async () => {},
  };
}

/** An agent that uses the tools of `vfio-user-gpu mcp`, the built program. */
export async function agentOverMcp(socketPath: string): Promise<Agent> {
  const program = fileURLToPath(new URL('../../dist/server/main.js', import.meta.url));
  const client = new Client({ name: 'agent', version: '1' });
  await client.connect(
    new StdioClientTransport({
      command: process.execPath,
      args: [program, 'mcp', '--api-socket', socketPath],
    }),
  );
  const call = async (name: string, args: Record<string, unknown> = {}) => {
    const { content, isError } = await client.callTool({ name, arguments: args }, undefined, {
      timeout: 310_000,
    });
    const parts = content as { text?: string; data?: string }[];
    if (isError) throw new Error(`${name}: ${parts.map(({ text }) => text).join(' ')}`);
    return parts;
  };
  return {
    look: async () => {
      const image = (await call('screenshot', { scale: 1 })).find(({ data }) => data !== undefined);
      return decodePng(Buffer.from(image?.data ?? '', 'base64'));
    },
    untilStill: async (timeoutMs) => void (await call('wait_until_stable', { timeoutMs })),
    press: async (...keys) => void (await call('press_keys', { keys })),
    type: async (text) => void (await call('type_text', { text })),
    click: async (place) => void (await call('click', { ...place })),
    [Symbol.asyncDispose]: async () => await client.close(),
  };
}

/** Looks when it is still, until it sees what it waits for. */
export async function lookFor(
  agent: Agent,
  isThere: (picture: Picture) => boolean,
  timeoutMs = 120_000,
): Promise<Picture> {
  const deadlineMs = performance.now() + timeoutMs;
  for (;;) {
    await agent.untilStill(Math.max(0, Math.round(deadlineMs - performance.now())));
    const picture = await agent.look();
    if (isThere(picture)) return picture;
  }
}

/** Clicks on one place after the other, and looks at what has come of it when it is still. */
export async function clickThrough(agent: Agent, places: readonly Place[]): Promise<Picture> {
  for (const place of places) {
    await agent.click(place);
    await agent.untilStill(30_000);
  }
  return await agent.look();
}
