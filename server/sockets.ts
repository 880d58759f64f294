/** Socket files: who may take a path. */
import { closeSync, statSync, unlinkSync } from 'node:fs';
import { connectUnix, SystemError } from '../native/index.ts';

/** Removes a socket nobody listens on. Throws an error that says what is in the way otherwise. */
export function removeStaleSocket(path: string): void {
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found) return;
  if (!found.isSocket()) throw new Error(`${path} exists and is not a socket`);
  try {
    closeSync(connectUnix(path));
  } catch (error) {
    if (!(error instanceof SystemError) || error.code !== 'ECONNREFUSED') throw error;
    unlinkSync(path);
    return;
  }
  throw new Error(`${path} is in use by a running server`);
}
