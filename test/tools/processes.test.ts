/** What tests ask of processes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { isRunning } from '../support/processes.ts';
import { soon } from '../support/soon.ts';

test('a zombie does not run', async () => {
  // The shell becomes a program that never waits for its child.
  const parent = spawn('sh', ['-c', 'sleep 0.1 & echo $!; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  try {
    const [output] = (await once(parent.stdout, 'data')) as [Buffer];
    const pid = Number(output.toString());
    await soon(() => expect(readFileSync(`/proc/${pid}/stat`, 'utf8')).toContain(') Z '));
    expect(isRunning(pid)).toBe(false);
    expect(isRunning(parent.pid!)).toBe(true);
  } finally {
    parent.kill();
    await once(parent, 'exit');
  }
  expect(isRunning(parent.pid!)).toBe(false);
});
