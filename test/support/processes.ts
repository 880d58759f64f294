/** Processes that are nobody's children here. */
import { readFileSync } from 'node:fs';

/** Whether a process goes on. One that has ended and that nobody has waited for yet, a zombie, does not. */
export function isRunning(pid: number): boolean {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return false;
  }
  // The state follows the name, which stands in brackets and may contain some itself.
  return !/\) [ZX] [^)]*$/.test(stat);
}
