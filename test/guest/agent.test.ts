/** Agents on the desktop of a real guest: over the API and over MCP they boot it, look, click, type, and read what comes of it. */
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { recordUntil } from '../../server/commands/record.ts';
import type { CalculatorButton, Desktop, DesktopWindow } from '../../tools/testbed/desktop.ts';
import {
  calculatorButton,
  calculatorDisplay,
  desktopIsDrawn,
  startDesktop,
} from '../../tools/testbed/desktop.ts';
import { comparePictures, crop, isBlack, type Picture } from '../../tools/testbed/pictures.ts';
import { type Agent, agentOverApi, agentOverMcp, clickThrough, lookFor } from '../support/agent-loop.ts';
import { play } from '../support/apng-player.ts';
import { expectNoComplaints, soon, startServer } from './support.ts';

/** Clicks on buttons and returns what the calculator shows then. */
async function calculate(
  agent: Agent,
  calculator: DesktopWindow,
  buttons: readonly CalculatorButton[],
): Promise<Picture> {
  const places = buttons.map((name) => calculatorButton(calculator, name));
  const { x, y, width, height } = calculatorDisplay(calculator);
  return crop(await clickThrough(agent, places), x, y, width, height);
}

async function useDesktop(agent: Agent, desktop: Desktop): Promise<void> {
  // Nobody says when it has booted: it is seen.
  await lookFor(agent, desktopIsDrawn);

  const text = 'Agents were here: a~b|c "d" {e}';
  await agent.type(`echo '${text}' >/tmp/typed\n`);
  const typed = async () => (await desktop.run('cat /tmp/typed')).output;
  expect(await soon(typed, (output) => output.includes('}'))).toBe(`${text}\n`);

  await agent.press('ctrl+alt+c');
  const calculator = await desktop.window('galculator');
  await agent.untilStill(30_000);
  const product = await calculate(agent, calculator, ['6', '*', '7', '=']);
  const typedNumber = await calculate(agent, calculator, ['AC', '4', '2']);
  expect(comparePictures(product, typedNumber)).toBe(undefined);
  const other = await calculate(agent, calculator, ['AC', '4', '3']);
  expect(comparePictures(product, other)).not.toBe(undefined);

  await agent.press('alt+f4');
  expect(
    await soon(
      async () => (await desktop.windows()).length,
      (count) => count === 1,
    ),
  ).toBe(1);
}

describe.each([
  ['the API', async (socketPath: string) => agentOverApi(socketPath)],
  ['MCP', agentOverMcp],
])('over %s', (_, makeAgent) => {
  test('an agent uses a desktop, from the boot on', async () => {
    await using server = await startServer({ displays: ['1024x768'], inputs: ['keyboard', 'tablet'] });
    await using desktop = await startDesktop({ kernel: 'newest', devices: server.devices });
    await using agent = await makeAgent(server.apiSocketPath);
    await useDesktop(agent, desktop);
    expectNoComplaints(server);
  });
});

test('a boot is recorded, from a black display to the desktop', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'record-'));
  const output = join(folder, 'boot.png');
  try {
    await using server = await startServer({ displays: ['800x600'] });
    const stop = new AbortController();
    const recording = recordUntil(
      {
        command: 'record',
        apiSocketPath: server.apiSocketPath,
        output,
        display: 0,
        durationMs: undefined,
        maxFps: 30,
        cursor: false,
      },
      stop.signal,
    );
    await soon(
      async () => existsSync(output),
      (isThere) => isThere,
    );
    await using desktop = await startDesktop({ kernel: 'newest', devices: server.devices });
    await desktop.ready();
    await lookFor(agentOverApi(server.apiSocketPath), desktopIsDrawn);
    stop.abort();
    const count = await recording;
    const { width, height, frames } = play(output);
    expect([width, height, frames.length]).toEqual([800, 600, count]);
    const shown = (frame: Buffer | undefined): Picture => ({
      ...{ width, height },
      rgb: Buffer.from((frame ?? Buffer.alloc(0)).filter((_, i) => i % 4 !== 3)),
    });
    expect(isBlack(shown(frames[0]))).toBe(true);
    expect(desktopIsDrawn(shown(frames.at(-1)))).toBe(true);
  } finally {
    await rm(folder, { recursive: true });
  }
});
