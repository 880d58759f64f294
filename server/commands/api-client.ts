/** The commands that ask a running server through its control API. */
import { writeFileSync } from 'node:fs';
import { request } from 'node:http';
import type { ResizeConfig, ScreenshotConfig } from '../cli.ts';

interface Answer {
  readonly status: number;
  readonly body: Buffer;
}

/** One request over the socket. Rejects when nobody answers there. */
function ask(socketPath: string, method: string, path: string, body?: object): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = body ? { 'Content-Type': 'application/json' } : {};
    const sent = request({ socketPath, method, path, headers }, (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(parts) }));
    });
    sent.on('error', (error) => reject(new Error(`no answer at ${socketPath}: ${error.message}`)));
    sent.end(body ? JSON.stringify(body) : undefined);
  });
}

/** The body of a good answer. What the server says against it becomes the error. */
async function askFor(socketPath: string, method: string, path: string, body?: object): Promise<Buffer> {
  const answer = await ask(socketPath, method, path, body);
  if (answer.status === 200) return answer.body;
  let message = `status ${answer.status}`;
  try {
    message = JSON.parse(answer.body.toString()).error.message;
  } catch {
    // Not one of our servers; the status has to do.
  }
  throw new Error(message);
}

/** `vfio-user-gpu screenshot`: a PNG to a file or standard output. */
export async function screenshot(config: ScreenshotConfig): Promise<number> {
  const path = `/v1/displays/${config.display}/screenshot?cursor=${config.cursor ? 1 : 0}`;
  if (config.output === undefined && process.stdout.isTTY) {
    throw new Error('a PNG does not belong on a terminal; give --output FILE');
  }
  const png = await askFor(config.apiSocketPath, 'GET', path);
  if (config.output === undefined) await new Promise((resolve) => process.stdout.write(png, resolve));
  else writeFileSync(config.output, png);
  return 0;
}

/** `vfio-user-gpu resize`: prints the mode the guest was asked for. */
export async function resize(config: ResizeConfig): Promise<number> {
  const path = `/v1/displays/${config.display}`;
  const { mode } = JSON.parse((await askFor(config.apiSocketPath, 'PUT', path, config.mode)).toString());
  process.stdout.write(`${mode.width}x${mode.height}@${mode.refreshHz}\n`);
  return 0;
}
