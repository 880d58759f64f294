/**
 * The Node.js of this machine inside a guest, for what needs a kernel that this machine does not have.
 *
 *     await using guest = await startGuest({
 *       devices: [],
 *       modules: ['disk'],
 *       drive: await nodeDisk(),
 *       extraFiles: await nodeProgram(join(import.meta.dirname, 'udmabuf')),
 *       script: runNodeProgram('test/guest/udmabuf/run.js'),
 *     });
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { cachePath } from './cache.ts';

const run = promisify(execFile);
const repository = fileURLToPath(new URL('../..', import.meta.url));
const addon = 'native/build/Release/vfio_user_gpu.node';

/** Where the program lies in the guest, and where `in-disk` shows it. */
const packed = '/program';
const shown = '/run/program';

/** A disk image with Node and all that it and the addon load. Made in a second, again when Node changes. */
export async function nodeDisk(): Promise<string> {
  const programs = [process.execPath, ...(await librariesOf(process.execPath, join(repository, addon)))];
  const files = [...programs, ...(await scriptsOf(programs))];
  const stats = await Promise.all(files.map((file) => stat(file)));
  const described = files.map((file, index) => `${file} ${stats[index]!.size} ${stats[index]!.mtimeMs}`);
  const name = `${createHash('sha256').update(described.join('\n')).digest('hex').slice(0, 16)}.ext4`;
  const folder = cachePath('node');
  await mkdir(folder, { recursive: true });
  const existing = await readdir(folder);
  if (existing.includes(name)) return join(folder, name);

  const tree = await mkdtemp(join(tmpdir(), 'testbed-node-'));
  const image = join(folder, `${name}.${process.pid}`);
  try {
    for (const mountPoint of ['usr', 'proc', 'sys', 'dev', 'run', 'tmp']) await mkdir(join(tree, mountPoint));
    for (const file of files) await copyTo(tree, file);
    await mkdir(join(tree, 'bin'), { recursive: true });
    await symlink(process.execPath, join(tree, 'bin', 'node')).catch(ignoreExisting);
    const sizeMiB = Math.ceil(stats.reduce((sum, { size }) => sum + size, 0) / 2 ** 20) + 16;
    const options = ['-q', '-t', 'ext4', '-O', '^has_journal,^metadata_csum', '-m', '0'];
    const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
    await run('mke2fs', [...options, '-E', 'root_owner=0:0', '-d', tree, image, `${sizeMiB}M`], { env });
    await rename(image, join(folder, name));
  } finally {
    await rm(tree, { recursive: true, force: true });
    await rm(image, { force: true });
  }
  for (const old of existing) await rm(join(folder, old), { force: true });
  return join(folder, name);
}

/**
 * Compiles what a folder's `tsconfig.json` names, with all that it imports, and returns it with the addon as files for
 * the guest. The folders are those of the repository. Types are not checked: `npm run types` does that.
 */
export async function nodeProgram(folder: string): Promise<Record<string, Uint8Array>> {
  const out = await mkdtemp(join(tmpdir(), 'testbed-program-'));
  try {
    const compiler = join(repository, 'node_modules/.bin/tsc');
    const options = ['--noEmit', 'false', '--noCheck', '--rootDir', repository, '--outDir', out];
    await run(compiler, ['-p', folder, ...options]);
    const names = await readdir(out, { recursive: true });
    const files: Record<string, Uint8Array> = {
      [`${packed}/package.json`]: Buffer.from('{ "type": "module" }'),
      [`${packed}/${addon}`]: await readFile(join(repository, addon)),
    };
    for (const name of names)
      if (name.endsWith('.js')) files[`${packed}/${name}`] = await readFile(join(out, name));
    return files;
  } finally {
    await rm(out, { recursive: true, force: true });
  }
}

/** The part of a guest's script that runs a file of the program. */
export function runNodeProgram(file: string): string {
  return `cp -r ${packed} ${shown} && in-disk /bin/node ${shown}/${file}`;
}

/** The dynamic loader and the libraries, by the paths that programs look for them at. */
async function librariesOf(...programs: string[]): Promise<string[]> {
  const listings = await Promise.all(programs.map((program) => run('ldd', [program])));
  const paths = listings.flatMap(({ stdout }) =>
    [...stdout.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path!),
  );
  return [...new Set(paths)].sort();
}

/**
 * The JavaScript files that programs and libraries name by their whole path, as a Node does that was built to load parts
 * of itself from files: Debian's loads `/usr/share/nodejs/undici/undici-fetch.js` and others.
 */
export async function scriptsOf(programs: readonly string[]): Promise<string[]> {
  const ending = Buffer.from('.js\0');
  const found = new Set<string>();
  for (const program of programs) {
    const bytes = await readFile(program);
    for (let at = bytes.indexOf(ending); at >= 0; at = bytes.indexOf(ending, at + 1)) {
      const path = bytes.toString('latin1', bytes.lastIndexOf(0, at) + 1, at + '.js'.length);
      if (path.startsWith('/') && existsSync(path)) found.add(path);
    }
  }
  return [...found].sort();
}

async function copyTo(tree: string, file: string): Promise<void> {
  const target = join(tree, file);
  await mkdir(dirname(target), { recursive: true });
  await copyFile(file, target);
}

function ignoreExisting(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error;
}
