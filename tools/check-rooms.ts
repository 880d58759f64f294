/**
 * Checks who imports whom. Arrows point one way, and never in a circle; `import type` counts. The table below is the
 * house: a new room or a new arrow is a decision, and is made here.
 *
 *     npx tsx tools/check-rooms.ts
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** What the files of a room may import: other rooms, `node:` for Node's own modules, or packages by name. */
interface Room {
  /** A folder (ends in a slash) or a single file. */
  readonly files: string;
  readonly may: readonly string[];
}

const FOUNDATION = ['server/wire.ts', 'server/errors.ts', 'server/log.ts'];

/** The first entry that matches a file is its room. */
export const ROOMS: readonly Room[] = [
  { files: 'pci/', may: ['pci/'] },
  { files: 'native/', may: ['native/', 'node:'] },
  { files: 'server/wire.ts', may: [] },
  { files: 'server/errors.ts', may: [] },
  { files: 'server/log.ts', may: [] },
  { files: 'server/sockets.ts', may: ['native/', 'node:'] },
  {
    files: 'server/cli.ts',
    may: [
      'server/displays/mode.ts',
      'server/displays/timing.ts',
      'server/input/layouts.ts',
      'server/sockets.ts',
      'node:',
      'yargs',
    ],
  },
  { files: 'server/logger.ts', may: ['server/cli.ts', 'pino', 'pino-pretty'] },
  { files: 'server/host/contract.ts', may: [] },
  { files: 'server/host/', may: ['server/host/', 'pci/', 'native/', 'server/errors.ts', 'node:'] },
  {
    files: 'server/vfio-user/',
    may: [
      'server/vfio-user/',
      'server/host/contract.ts',
      ...FOUNDATION,
      'server/sockets.ts',
      'native/',
      'node:',
    ],
  },
  {
    files: 'server/displays/vnc/',
    may: [
      'server/displays/',
      'server/input/',
      'server/sockets.ts',
      'native/',
      ...FOUNDATION,
      'node:',
      'sharp',
    ],
  },
  { files: 'server/displays/web/page/', may: ['server/displays/web/page/'] },
  {
    files: 'server/displays/web/',
    may: ['server/displays/', 'server/sockets.ts', ...FOUNDATION, 'node:', 'ws'],
  },
  {
    files: 'server/displays/',
    may: [
      'server/displays/',
      'server/input/',
      'server/sockets.ts',
      'native/',
      ...FOUNDATION,
      'node:',
      'sharp',
    ],
  },
  {
    files: 'server/gpu/',
    may: [
      'server/gpu/',
      'pci/',
      ...FOUNDATION,
      'server/displays/display.ts',
      'server/displays/edid.ts',
      'server/displays/rects.ts',
    ],
  },
  { files: 'server/input/', may: ['server/input/', 'pci/', ...FOUNDATION] },
  {
    files: 'server/backends/',
    may: [
      'server/backends/',
      'server/gpu/contracts/',
      'server/gpu/fault.ts',
      'server/gpu/protocol.ts',
      'server/displays/display.ts',
      'server/displays/frame.ts',
      'server/displays/pixel-memory.ts',
      'native/',
      'node:',
    ],
  },
  {
    files: 'server/cross-domain/',
    may: [
      'server/cross-domain/',
      'server/gpu/contracts/',
      'server/gpu/fault.ts',
      'server/gpu/protocol.ts',
      'server/wire.ts',
      'server/log.ts',
      'native/',
      'node:',
      'zod',
    ],
  },
  {
    files: 'server/trace/',
    may: [
      'server/trace/',
      'server/vfio-user/',
      'server/host/contract.ts',
      ...FOUNDATION,
      'pci/',
      'native/',
      'node:',
    ],
  },
  {
    files: 'server/api/',
    may: [
      'server/api/',
      'server/displays/',
      'server/input/',
      'server/sockets.ts',
      'node:',
      '@hono/node-server',
      '@hono/zod-openapi',
      'hono',
      'hono/',
      'prom-client',
    ],
  },
  {
    files: 'server/function-server.ts',
    may: ['server/host/', 'server/vfio-user/', 'server/log.ts', 'pci/'],
  },
  {
    files: 'server/pci-server.ts',
    may: ['server/host/', 'server/vfio-user/', 'server/log.ts', 'pci/'],
  },
  { files: 'server/vfio-user.ts', may: ['server/', 'native/'] },
  { files: 'server/input-server.ts', may: ['server/function-server.ts', 'server/input/', 'server/log.ts'] },
  { files: 'server/gpu-server.ts', may: ['server/', 'pci/', 'native/', 'node:'] },
  { files: 'server/index.ts', may: ['server/'] },
  {
    files: 'server/commands/',
    may: ['server/', 'pci/', 'native/', 'node:', '@modelcontextprotocol/sdk/', 'sharp', 'zod'],
  },
  { files: 'server/main.ts', may: ['server/', 'node:'] },
  { files: 'examples/', may: ['vfio-user-gpu/pci', 'vfio-user-gpu/vfio-user', 'node:'] },
  {
    files: 'testing/',
    may: [
      'testing/',
      'pci/',
      'server/host/contract.ts',
      'server/vfio-user/',
      'server/wire.ts',
      'native/',
      'node:',
    ],
  },
  { files: 'test/', may: ['*'] },
  { files: 'tools/', may: ['*'] },
];

/** Whoever puts everything together is used by nobody else. */
const NEVER_IMPORTED: readonly { readonly files: string; readonly except: readonly string[] }[] = [
  { files: 'server/main.ts', except: [] },
  { files: 'server/commands/', except: ['server/main.ts', 'server/commands/', 'test/'] },
  { files: 'server/gpu-server.ts', except: ['server/commands/', 'server/index.ts', 'test/', 'tools/'] },
  { files: 'server/vfio-user.ts', except: ['test/'] },
  { files: 'examples/', except: [] },
  { files: 'testing/', except: ['testing/', 'test/', 'tools/'] },
  { files: 'test/', except: ['test/', 'tools/'] },
  { files: 'tools/', except: ['test/', 'tools/'] },
];

const SOURCE = /\.(ts|mts|mjs)$/;
const IMPORT =
  /(?:^|[\s;}])(?:import|export)\s[^'";]*?from\s*['"]([^'"]+)['"]|\bimport\s*\(?\s*['"]([^'"]+)['"]/g;

export interface Violation {
  readonly file: string;
  readonly imported: string;
  readonly reason: string;
}

const matches = (pattern: string, path: string) =>
  pattern.endsWith('/') ? path.startsWith(pattern) : path === pattern;

/** The modules a source text imports, as written. */
export function importsOf(source: string): string[] {
  const withoutComments = source.replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');
  return [...withoutComments.matchAll(IMPORT)].map(([, from, direct]) => from ?? direct ?? '');
}

/** What is wrong about one import; undefined when nothing is. `file` is relative to the repository. */
export function judge(file: string, specifier: string): Violation | undefined {
  const room = ROOMS.find(({ files }) => matches(files, file));
  if (!room) return { file, imported: specifier, reason: 'the file belongs to no room' };
  const local = specifier.startsWith('.');
  const imported = local ? normalize(join(dirname(file), specifier)) : specifier;
  if (local) {
    const guard = NEVER_IMPORTED.find(({ files }) => matches(files, imported));
    if (guard && !guard.except.some((pattern) => matches(pattern, file))) {
      return { file, imported, reason: `${guard.files} may not be imported from here` };
    }
  }
  const allowed = room.may.some((pattern) => {
    if (pattern === '*') return true;
    if (pattern === 'node:') return specifier.startsWith('node:');
    return matches(pattern, imported);
  });
  return allowed
    ? undefined
    : { file, imported, reason: `${room.files} may import: ${room.may.join(', ') || 'nothing'}` };
}

/** Source files below a folder, relative to the repository. */
function sourceFiles(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && SOURCE.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .filter((path) => !path.includes('/build/'));
}

/** What each file imports, as written, by its path. */
export type Imports = ReadonlyMap<string, readonly string[]>;

/** One way round each circle of files, which begins and ends with the same file. */
export function circlesOf(imports: Imports): string[][] {
  const circles: string[][] = [];
  const finished = new Set<string>();
  const path: string[] = [];
  const visit = (file: string): void => {
    const at = path.indexOf(file);
    if (at >= 0) {
      circles.push([...path.slice(at), file]);
      return;
    }
    if (finished.has(file)) return;
    path.push(file);
    for (const specifier of imports.get(file) ?? []) {
      if (specifier.startsWith('.')) visit(normalize(join(dirname(file), specifier)));
    }
    path.pop();
    finished.add(file);
  };
  for (const file of imports.keys()) visit(file);
  return circles;
}

export function checkRooms(): Violation[] {
  const files = ['pci', 'native', 'server', 'examples', 'testing', 'test', 'tools'].flatMap(sourceFiles);
  const imports = new Map(files.map((file) => [file, importsOf(readFileSync(join(root, file), 'utf8'))]));
  return [
    ...[...imports].flatMap(([file, specifiers]) => specifiers.flatMap((one) => judge(file, one) ?? [])),
    ...circlesOf(imports).map((circle) => ({
      file: circle[0] as string,
      imported: circle[1] as string,
      reason: `it is a circle: ${circle.join(' -> ')}`,
    })),
  ];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const violations = checkRooms();
  for (const { file, imported, reason } of violations)
    console.error(`${file} imports ${imported}: ${reason}`);
  console.log(
    violations.length === 0 ? 'rooms: all imports are allowed' : `rooms: ${violations.length} wrong imports`,
  );
  process.exitCode = violations.length === 0 ? 0 : 1;
}
