/**
 * Gives a run of tests a temporary folder of its own, which it must leave empty. Paths of sockets are short, so its name
 * is.
 */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';

/** tsx keeps what it has compiled in `tsx-UID`. */
const isCache = (name: string) => /^tsx-\d+$/.test(name);

/** Vitest calls this for each project, and for the root of them. */
export function setup(project: TestProject): (() => void) | undefined {
  if (!project.isRootProject()) return undefined;
  const folder = mkdtempSync(join(tmpdir(), 'run-'));
  process.env.TMPDIR = folder;
  return () => {
    const left = readdirSync(folder).filter((name) => !isCache(name));
    rmSync(folder, { recursive: true });
    if (left.length === 0) return;
    // Vitest prints what is thrown here, but calls the run a success.
    process.exitCode = 1;
    throw new Error(`the tests left in the temporary folder: ${left.sort().join(' ')}`);
  };
}
