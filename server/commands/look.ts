/** `vfio-user-gpu screenshot` and `vfio-user-gpu resize`: one request to a running server each. */
import { writeFileSync } from 'node:fs';
import type { ResizeConfig, ScreenshotConfig } from '../cli.ts';
import type { Mode } from '../displays/mode.ts';
import { ApiClient } from './api-client.ts';

/** A PNG to a file or standard output. */
export async function screenshot(config: ScreenshotConfig): Promise<number> {
  const path = `/v1/displays/${config.display}/screenshot?cursor=${config.cursor ? 1 : 0}`;
  if (config.output === undefined && process.stdout.isTTY) {
    throw new Error('a PNG does not belong on a terminal; give --output FILE');
  }
  const { body: png } = await new ApiClient(config.apiSocketPath).ask('GET', path);
  if (config.output === undefined) await new Promise((resolve) => process.stdout.write(png, resolve));
  else writeFileSync(config.output, png);
  return 0;
}

/** Prints the mode the guest was asked for. */
export async function resize(config: ResizeConfig): Promise<number> {
  const path = `/v1/displays/${config.display}`;
  const client = new ApiClient(config.apiSocketPath);
  const { mode } = await client.askJson<{ mode: Mode }>('PUT', path, { body: config.mode });
  process.stdout.write(`${mode.width}x${mode.height}@${mode.refreshHz}\n`);
  return 0;
}
