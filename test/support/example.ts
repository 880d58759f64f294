/** The programs of `examples/`, run as their heads say. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';

const repository = fileURLToPath(new URL('../..', import.meta.url));

/** Starts an example; it listens when this resolves. It imports the package as it is built. */
export async function startExample(name: 'entropy' | 'scratchpad') {
  const folder = await mkdtemp(join(tmpdir(), 'example-'));
  const socketPath = join(folder, 'socket');
  const child = spawn(process.execPath, ['--import', 'tsx', `examples/${name}.ts`, socketPath], {
    cwd: repository,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit').then(([status]) => status as number | null);
  const lines = createInterface({ input: child.stdout });
  const said = await Promise.race([once(lines, 'line').then(([line]) => line as string), exited]);
  expect(said).toBe(`listening at ${socketPath}`);
  return {
    socketPath,
    /** Ends it as a service is ended. */
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      const status = await exited;
      const isLeft = existsSync(socketPath);
      await rm(folder, { recursive: true });
      expect({ status, isLeft }).toEqual({ status: 0, isLeft: false });
    },
  };
}
