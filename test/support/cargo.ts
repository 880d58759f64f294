/** Programs in Rust that tests drive: built with the cargo of this machine, into `cache/`, or the reason why not. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cachePath } from '../../tools/testbed/cache.ts';

/** `rust-version` of each Cargo.toml. */
const OLDEST_CARGO = [1, 85] as const;

export interface Crate {
  /** What is tested with it, for who reads why it is not. */
  readonly name: string;
  /** Where Cargo.toml and Cargo.lock are. */
  readonly folder: string;
  /** The folder in the cache in which it is built. */
  readonly target: string;
  readonly program: string;
  /** Crates of Cargo.lock whose versions are worth a word. */
  readonly shown: RegExp;
}

/** Where the program is when `buildCrate` has built it. */
export function programOf({ target, program }: Crate): string {
  return cachePath(target, 'release', program);
}

/** Builds a crate. Returns why there is no program, which it also prints; throws when there could be one. */
export async function buildCrate(crate: Crate): Promise<string | undefined> {
  const cargo = async (...args: string[]) =>
    (await promisify(execFile)('cargo', args, { cwd: crate.folder })).stdout;
  const unavailable = (reason: string) => {
    console.warn(`SKIPPED ${crate.name}: ${reason}`);
    return reason;
  };
  const found = await cargo('--version').catch(() => '');
  const [, major, minor] = /^cargo (\d+)\.(\d+)/.exec(found) ?? [];
  if (!major) return unavailable('there is no cargo');
  if (Number(major) === OLDEST_CARGO[0] && Number(minor) < OLDEST_CARGO[1]) {
    return unavailable(`${found.trim()} is too old, ${OLDEST_CARGO.join('.')} is needed`);
  }
  try {
    await cargo('fetch', '--locked');
  } catch (error) {
    const { stderr = '' } = error as { stderr?: string };
    if (/lock file|manifest/.test(stderr)) throw error;
    return unavailable(`the crates cannot be had: ${/^error: .*/m.exec(stderr)?.[0] ?? error}`);
  }
  const start = performance.now();
  await cargo('build', '--release', '--locked', '--offline', '--target-dir', cachePath(crate.target));
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`${found.trim()}, built in ${seconds} s: ${versions(crate).join(', ')}`);
  return undefined;
}

/** Crates in Cargo.lock by what `shown` matches, each as `name version`. */
export function versions({ folder, shown }: Crate): string[] {
  const lock = readFileSync(join(folder, 'Cargo.lock'), 'utf8');
  return Array.from(lock.matchAll(/^name = "(.*)"\nversion = "(.*)"$/gm))
    .filter(([, name]) => shown.test(name!))
    .map(([, name, version]) => `${name} ${version}`);
}
