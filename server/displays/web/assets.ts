/**
 * The files of the page: its own, and noVNC's modules as their package has them. Everything there is to have is read
 * into a table when the server starts; a path that is not in the table is not there.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, extname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Asset {
  readonly contentType: string;
  readonly bytes: Buffer;
  /** As the header has it. */
  readonly etag: string;
}

export interface Assets {
  /** The page itself. */
  readonly page: Asset;
  /** What it loads, by path. Their names change with what is in them, so that browsers may keep them for ever. */
  readonly files: ReadonlyMap<string, Asset>;
}

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** What the page has instead of the name that its assets get. */
const PLACEHOLDER = 'assets/VERSION/';

/** @throws when the page has not been built */
export function readAssets(): Assets {
  const page = pageFolder();
  if (!existsSync(join(page, 'page.js'))) throw new Error('the page is not built: npm run build:js');
  const core = dirname(createRequire(import.meta.url).resolve('@novnc/novnc'));
  const novnc = dirname(core);
  const files = [
    ...filesBelow(page).map((path) => ({ path, file: join(page, path) })),
    ...[core, join(novnc, 'vendor')]
      .flatMap((folder) => filesBelow(folder).map((path) => join(relative(novnc, folder), path)))
      .map((path) => ({ path: `novnc/${path}`, file: join(novnc, path) })),
  ].flatMap(({ path, file }) => {
    const contentType = CONTENT_TYPES[extname(path)];
    return contentType ? [{ path, contentType, bytes: readFileSync(file) }] : [];
  });
  const html = files.find(({ path }) => path === 'index.html');
  if (!html) throw new Error(`there is no page in ${page}`);
  const version = files
    .reduce((hash, { path, bytes }) => hash.update(path).update(bytes), createHash('sha256'))
    .digest('base64url')
    .slice(0, 16);
  const prefix = `assets/${version}/`;
  const bytes = Buffer.from(html.bytes.toString().replaceAll(PLACEHOLDER, prefix));
  return {
    page: makeAsset(html.contentType, bytes),
    files: new Map(
      files
        .filter((file) => file !== html)
        .map(({ path, contentType, bytes }) => [`/${prefix}${path}`, makeAsset(contentType, bytes)]),
    ),
  };
}

function makeAsset(contentType: string, bytes: Buffer): Asset {
  const hash = createHash('sha256').update(bytes).digest('base64url').slice(0, 22);
  return { contentType, bytes, etag: `"${hash}"` };
}

/** This file's neighbour. A checkout that is TypeScript has what was built last. */
function pageFolder(): string {
  const built = import.meta.url.endsWith('.ts') ? '../../../dist/server/displays/web/page' : './page';
  return fileURLToPath(new URL(built, import.meta.url));
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort();
}
