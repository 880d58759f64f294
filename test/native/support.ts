/** What several files need: descriptor accounting, temporary folders, child processes. */
import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';

/** The descriptors of this process, less the one that reads the list. */
export function openFds(): number {
  return readdirSync('/proc/self/fd').length - 1;
}

/** A descriptor that is closed when the test ends. */
export function forTest(fd: number): number {
  onTestFinished(() => closeSync(fd));
  return fd;
}

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'native-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** The addon that `native/index.ts` loads, for what has to go past it. */
export function addonPath(): string {
  const { VFIO_USER_GPU_ADDON: chosen } = process.env;
  const built = new URL('../../native/build/Release/vfio_user_gpu.node', import.meta.url);
  return resolve(chosen || fileURLToPath(built));
}

export interface Ended {
  status: number | null;
  signal: NodeJS.Signals | null;
  /** The value that the scenario printed last, as JSON. */
  result: unknown;
  stderr: string;
}

/** Runs Node in a process of its own, which may crash. */
export function runNode(args: string[], environment: NodeJS.ProcessEnv = {}): Promise<Ended> {
  const env = { ...process.env, ...environment };
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'], env });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (text) => {
    stdout += text;
  });
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  return new Promise((done) => {
    child.on('close', (status, signal) => {
      const line = stdout.trim().split('\n').at(-1);
      done({ status, signal, result: line ? JSON.parse(line) : undefined, stderr });
    });
  });
}

/** Runs one function of `scenarios.ts`. */
export function runScenario(name: string, nodeOptions: string[] = []): Promise<Ended> {
  const file = fileURLToPath(new URL('./scenarios.ts', import.meta.url));
  return runNode([...nodeOptions, '--import', 'tsx', file, name]);
}
