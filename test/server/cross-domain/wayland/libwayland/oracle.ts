/**
 * The real libwayland as a judge: builds `oracle.c` with the interfaces of the protocol files of this machine, which
 * wayland-scanner turns into C, and asks it about cases.
 */
import { type ChildProcessByStdio, execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { INTERFACES } from '../../../../../server/cross-domain/wayland/schema.ts';

/** What is announced, where both know it: all kinds of arguments, objects of both ends, descriptors both ways. */
const ANNOUNCED = [
  'wl_compositor',
  'wl_seat',
  'wl_data_device_manager',
  'wl_shm',
  'wl_subcompositor',
  'wl_output',
  'xdg_wm_base',
  'zwp_text_input_manager_v3',
  'zwp_primary_selection_device_manager_v1',
  'zwp_linux_dmabuf_v1',
  'wp_viewporter',
  'wp_presentation',
  'xdg_activation_v1',
  'zwp_pointer_constraints_v1',
  'zwp_tablet_manager_v2',
];

/** An interface as the judge knows it. */
export interface JudgedInterface {
  /** In `known` of `interfaces.h`. */
  readonly index: number;
  readonly version: number;
  readonly requestCount: number;
  readonly eventCount: number;
}

export interface Oracle {
  /** Of libwayland. */
  readonly version: string;
  readonly interfaces: ReadonlyMap<string, JudgedInterface>;
  /** Interface and version; the name is the place in the list, from 1. */
  readonly globals: readonly (readonly [string, number])[];
  /** The answer to a batch of cases. */
  ask(batch: Uint8Array): Promise<Buffer>;
  close(): void;
}

const packageVariable = (name: string, variable: string) =>
  spawnSync('pkg-config', [`--variable=${variable}`, name], { encoding: 'utf8' });

/** Why the judge cannot be asked here; undefined where it can. */
export function missing(): string | undefined {
  const wanted = ['wayland-server', 'wayland-client', 'wayland-scanner', 'wayland-protocols'];
  const found = spawnSync('pkg-config', ['--exists', ...wanted]);
  return found.status === 0
    ? undefined
    : 'libwayland-dev, wayland-protocols and pkg-config are not installed (tools/setup installs them)';
}

interface Declared extends Omit<JudgedInterface, 'index'> {
  readonly name: string;
  /** A bit for each request. */
  readonly destructors: number;
}

/** What a protocol file declares. */
function interfacesIn(xml: string): Declared[] {
  const declared = [
    ...xml.matchAll(/<interface\s+name="(\w+)"\s+version="(\d+)"[^>]*>([\s\S]*?)<\/interface>/g),
  ];
  return declared.map(([, name = '', version, body = '']) => {
    const requests = [...body.matchAll(/<request\s([^>]*)>/g)].map(([, attributes = '']) => attributes);
    return {
      name,
      version: Number(version),
      requestCount: requests.length,
      eventCount: [...body.matchAll(/<event\s/g)].length,
      destructors: requests.reduce(
        (bits, attributes, i) => (attributes.includes('type="destructor"') ? bits | (1 << i) : bits),
        0,
      ),
    };
  });
}

function protocolFiles(): string[] {
  const core = packageVariable('wayland-scanner', 'pkgdatadir').stdout.trim();
  const more = packageVariable('wayland-protocols', 'pkgdatadir').stdout.trim();
  const found = readdirSync(more, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.xml'))
    .map((entry) => join(entry.parentPath, entry.name));
  // Of two files with the same interface the more stable one counts.
  const kinds = ['/experimental/', '/unstable/', '/staging/', '/stable/'];
  const rank = (path: string) => -kinds.findIndex((part) => path.includes(part));
  return [join(core, 'wayland.xml'), ...found.sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1))];
}

/** Builds the judge, and starts it. */
export function startOracle(): Oracle {
  const folder = mkdtempSync(join(tmpdir(), 'libwayland-'));
  try {
    return startIn(folder);
  } catch (error) {
    rmSync(folder, { recursive: true });
    throw error;
  }
}

function startIn(folder: string): Oracle {
  const declared: Declared[] = [];
  const sources: string[] = [];
  for (const [i, path] of protocolFiles().entries()) {
    const here = interfacesIn(readFileSync(path, 'utf8'));
    if (here.some(({ name }) => declared.some((one) => one.name === name))) continue;
    declared.push(...here);
    if (i === 0) continue; // These are in the libraries.
    const source = join(folder, `protocol-${i}.c`);
    execFileSync('wayland-scanner', ['private-code', path, source]);
    sources.push(source);
  }
  const interfaces = new Map(declared.map((one, index) => [one.name, { ...one, index }]));
  const globals = ANNOUNCED.flatMap((name): (readonly [string, number])[] => {
    const [theirs, ours] = [interfaces.get(name), INTERFACES.get(name)];
    return theirs && ours ? [[name, Math.min(theirs.version, ours.version)]] : [];
  });
  writeFileSync(join(folder, 'interfaces.h'), header(declared, globals));
  const program = join(folder, 'oracle');
  const flags = execFileSync('pkg-config', ['--cflags', '--libs', 'wayland-server', 'wayland-client'], {
    encoding: 'utf8',
  });
  const built = spawnSync(
    'gcc',
    [
      ...['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-I', folder, '-o', program],
      ...[fileURLToPath(new URL('oracle.c', import.meta.url)), ...sources],
      ...flags.trim().split(/\s+/),
    ],
    { encoding: 'utf8' },
  );
  if (built.status !== 0) throw new Error(built.stderr);
  const child = spawn(program, { stdio: ['pipe', 'pipe', 'inherit'] });
  return {
    version: execFileSync('pkg-config', ['--modversion', 'wayland-server'], { encoding: 'utf8' }).trim(),
    interfaces,
    globals,
    ask: asking(child),
    close: () => {
      child.stdin.end();
      rmSync(folder, { recursive: true });
    },
  };
}

const header = (declared: readonly Declared[], globals: Oracle['globals']) => `
enum { KNOWN = ${declared.length}, GLOBALS = ${globals.length} };
${declared.map(({ name }) => `extern const struct wl_interface ${name}_interface;`).join('\n')}
static const struct known {
  const struct wl_interface *interface;
  uint32_t destructors;
} known[] = {
${declared.map(({ name, destructors }) => `  {&${name}_interface, ${destructors}},`).join('\n')}
};
static const struct {
  const struct wl_interface *interface;
  int version;
} globals[] = {
${globals.map(([name, version]) => `  {&${name}_interface, ${version}},`).join('\n')}
};
`;

/** One batch at a time. */
function asking(child: ChildProcessByStdio<Writable, Readable, null>): Oracle['ask'] {
  let parts: Buffer[] = [];
  let have = 0;
  let total = 4;
  let answered: ((answer: Buffer) => void) | undefined;
  let failed: ((reason: Error) => void) | undefined;
  child.stdout.on('data', (part: Buffer) => {
    parts.push(part);
    have += part.length;
    if (have >= 4 && total === 4) total += Buffer.concat(parts).readUInt32LE();
    if (have < total) return;
    answered?.(Buffer.concat(parts).subarray(4));
    [parts, have, total] = [[], 0, 4];
  });
  child.on('exit', (code, signal) => failed?.(new Error(`the judge has ended: ${code ?? signal}`)));
  return (batch) =>
    new Promise((resolve, reject) => {
      [answered, failed] = [resolve, reject];
      const length = Buffer.alloc(4);
      length.writeUInt32LE(batch.length);
      child.stdin.write(length);
      child.stdin.write(batch);
    });
}
