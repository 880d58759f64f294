/**
 * Where the assembled test bed lies, and how to make sure that a part of it is there.
 * What each part holds is described in README.md; `assemble` makes them.
 */
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export type Part =
  | 'qemu'
  | 'kernel-6.12'
  | 'kernel-newest'
  | 'utree'
  | 'initramfs'
  | 'ovmf'
  | 'igt'
  | 'compositors'
  | 'desktop';

/** The guest kernels there are. */
export type KernelName = '6.12' | 'newest';

/** What `kernel.json` says about a kernel. */
export interface KernelInfo {
  /** As `uname -r` prints it. */
  readonly version: string;
  readonly origin: string;
  /** Modules of each set, in the order to load them. */
  readonly modules: Readonly<Record<'gpu' | 'input' | 'disk', readonly string[]>>;
}

const { VFIO_USER_GPU_CACHE } = process.env;
const cacheFolder = VFIO_USER_GPU_CACHE ?? fileURLToPath(new URL('../../cache', import.meta.url));

/** The path of something in the cache folder. */
export function cachePath(...parts: string[]): string {
  return join(cacheFolder, ...parts);
}

/** Makes sure that parts of the test bed are assembled. Takes 30 ms when they are. */
export async function assemble(...parts: Part[]): Promise<void> {
  const script = fileURLToPath(new URL('assemble', import.meta.url));
  const child = spawn(script, parts, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let isFirst = true;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
    // The last line only says that everything is there. Show the ones about work done.
    for (const line of text.split('\n')) {
      if (!line || line.startsWith('assemble: ready')) continue;
      if (isFirst) console.error('assemble: making the test bed, this takes a while once');
      isFirst = false;
      console.error(line);
    }
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (code !== 0) throw new Error(`tools/testbed/assemble ${parts.join(' ')} failed:\n${output}`);
}

/** Reads what is known about a kernel. */
export async function kernelInfo(name: KernelName): Promise<KernelInfo> {
  await assemble(`kernel-${name}`);
  return JSON.parse(await readFile(cachePath(`kernel-${name}`, 'kernel.json'), 'utf8')) as KernelInfo;
}
