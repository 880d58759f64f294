/** Scripts of this repository among programs that a test chooses. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';

export const repository = fileURLToPath(new URL('../..', import.meta.url));

export interface Finished {
  readonly status: number | null;
  /** What it said, on both streams. */
  readonly output: string;
}

/** A machine with nothing but what scripts are written in, and the programs that a test adds. */
export class Machine {
  readonly folder = mkdtempSync(join(tmpdir(), 'machine-'));
  readonly #bin = join(this.folder, 'bin');

  constructor() {
    onTestFinished(() => rmSync(this.folder, { recursive: true }));
    mkdirSync(this.#bin);
    const basics = ['bash', 'cat', 'cp', 'dirname', 'env', 'mktemp', 'readlink', 'rm', 'tail'];
    for (const name of basics) this.link(name);
  }

  /** Adds a program of this machine. */
  link(name: string): void {
    const { stdout } = spawnSync('/bin/sh', ['-c', `command -v ${name}`], { encoding: 'utf8' });
    symlinkSync(stdout.trim(), join(this.#bin, name));
  }

  /** Adds a program that is a script. */
  program(name: string, script: string): void {
    const path = join(this.#bin, name);
    writeFileSync(path, `#!/usr/bin/env bash\n${script}\n`);
    chmodSync(path, 0o755);
  }

  /** Writes a file below the folder. */
  file(path: string, text: string): void {
    mkdirSync(dirname(join(this.folder, path)), { recursive: true });
    writeFileSync(join(this.folder, path), text);
  }

  read(path: string): string {
    return readFileSync(join(this.folder, path), 'utf8');
  }

  run(script: string, environment: Readonly<Record<string, string>> = {}): Finished {
    const { status, stdout, stderr } = spawnSync(join(this.#bin, 'bash'), [script], {
      encoding: 'utf8',
      env: { PATH: this.#bin, HOME: this.folder, TMPDIR: this.folder, ...environment },
    });
    return { status, output: stdout + stderr };
  }
}
