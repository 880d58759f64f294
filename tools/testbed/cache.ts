/**
 * Where the assembled test bed lies, and how to make sure that a part of it is there.
 * What each part holds is described in README.md; `assemble` makes them.
 */
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export type Part =
  | 'qemu'
  | 'kernel-6.12'
  | 'kernel-newest'
  | 'kernel-kvm'
  | 'utree'
  | 'initramfs'
  | 'ovmf'
  | 'igt'
  | 'compositors'
  | 'desktop'
  | 'protocols';

/** The guest kernels there are. */
export type KernelName = '6.12' | 'newest';

/** What `kernel.json` says about a kernel. */
export interface KernelInfo {
  /** As `uname -r` prints it. */
  readonly version: string;
  readonly origin: string;
  /** Modules of each set, in the order to load them; `rng` is empty where the packages have no such module. */
  readonly modules: Readonly<Record<'gpu' | 'input' | 'disk' | 'rng', readonly string[]>>;
}

const { VFIO_USER_GPU_CACHE } = process.env;
const cacheFolder = VFIO_USER_GPU_CACHE ?? fileURLToPath(new URL('../../cache', import.meta.url));

/** The path of something in the cache folder. */
export function cachePath(...parts: string[]): string {
  return join(cacheFolder, ...parts);
}

/** Parts of the test bed could not be had. The message says what was tried and what to do: no stack is needed. */
export class PartMissing extends Error {
  override readonly name = 'PartMissing';
  readonly parts: readonly Part[];

  constructor(parts: readonly Part[], message: string) {
    super(message);
    this.parts = parts;
  }
}

/** That it takes a while is said once by a process, whatever it asks for. */
let hasSaidSo = false;

/** Ends a program that lacks parts with their message: it is nobody's mistake. Everything else is thrown again. */
export function leaveIfMissing(error: unknown): never {
  if (!(error instanceof PartMissing)) throw error;
  console.error(error.message);
  process.exit(1);
}

const missingLine = /^assemble: missing: (.*)$/m;

/** Makes sure that parts of the test bed are assembled. Takes 30 ms when they are. Throws `PartMissing`. */
export async function assemble(...parts: Part[]): Promise<void> {
  const script = fileURLToPath(new URL('assemble', import.meta.url));
  const child = spawn(script, parts, { stdio: ['ignore', 'pipe', 'pipe'] });
  const said = { work: '', trouble: '' };
  // The last line only says that everything is there. Show the ones about work done.
  createInterface({ input: child.stdout }).on('line', (line) => {
    said.work += `${line}\n`;
    if (line.startsWith('assemble: ready')) return;
    if (!hasSaidSo) console.error('assemble: making the test bed, this takes a while once');
    hasSaidSo = true;
    console.error(line);
  });
  // And those about what did not work, up to the summary, which is for whoever catches the error.
  createInterface({ input: child.stderr }).on('line', (line) => {
    said.trouble += `${line}\n`;
    if (!missingLine.test(said.trouble)) console.error(line);
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (code === 0) return;
  const missing = missingLine.exec(said.trouble);
  if (missing) {
    const summary = said.trouble.slice(missing.index).trimEnd();
    throw new PartMissing(missing[1]!.split(' ') as Part[], summary);
  }
  throw new Error(`tools/testbed/assemble ${parts.join(' ')} failed:\n${said.work}${said.trouble}`);
}

/** Reads what is known about a kernel. */
export async function kernelInfo(name: KernelName): Promise<KernelInfo> {
  await assemble(`kernel-${name}`);
  return readKernelInfo(name);
}

/** The same for a kernel that has been assembled. */
export async function readKernelInfo(name: KernelName): Promise<KernelInfo> {
  return JSON.parse(await readFile(cachePath(`kernel-${name}`, 'kernel.json'), 'utf8')) as KernelInfo;
}
