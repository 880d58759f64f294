/**
 * Writes the tables of `server/cross-domain/wayland/protocols.ts`: every interface of the published Wayland protocols
 * with its messages, as facts, out of the XML files that Debian's packages have.
 *
 *     npx tsx tools/wayland-schema.ts            of the test bed's part `protocols`, which is assembled where it is missing
 *     npx tsx tools/wayland-schema.ts FOLDER     of a folder with these packages unpacked, and their list in `versions`
 *
 * The newest there is: tools/testbed/assemble --fresh protocols
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseXml, type XmlElement } from '@rgrove/parse-xml';
import { assemble, cachePath, leaveIfMissing } from './testbed/cache.ts';

/** Where the tables lie in this repository. */
export const TABLES = fileURLToPath(new URL('../server/cross-domain/wayland/protocols.ts', import.meta.url));

/** Files of the packages, the weightiest first: of two interfaces with one name the first counts. */
const FILES: readonly RegExp[] = [
  /^usr\/share\/wayland\/wayland\.xml$/,
  /^usr\/share\/wayland-protocols\/stable\//,
  /^usr\/share\/wayland-protocols\/staging\//,
  /^usr\/share\/wayland-protocols\/unstable\//,
  /\/wlr-protocols\/unstable\//,
  // The only one of Plasma's that programs of others expect.
  /^usr\/share\/plasma-wayland-protocols\/server-decoration\.xml$/,
];

/** Files that are left out, and why. */
const LEFT_OUT: ReadonlyMap<string, string> = new Map([
  ['xdg-shell-unstable-v5.xml', 'its xdg_surface and xdg_popup are others than those of xdg_wm_base'],
]);

/** One interface as text: a line for its name and version, and one for each message. */
interface Interface {
  readonly name: string;
  readonly version: number;
  readonly lines: readonly string[];
}

const childrenOf = ({ children }: XmlElement, ...names: string[]): XmlElement[] =>
  children.filter((child): child is XmlElement => 'name' in child && names.includes(String(child.name)));

function required({ name, attributes }: XmlElement, key: string): string {
  const value = attributes[key];
  if (value === undefined) throw new Error(`<${name}> has no ${key}`);
  return value;
}

/** An argument in the words of `schema.ts`. */
function argumentText(arg: XmlElement): string {
  const type = required(arg, 'type');
  const { interface: of, 'allow-null': nullable } = arg.attributes;
  const absent = nullable === 'true' ? '?' : '';
  switch (type) {
    case 'int':
    case 'uint':
    case 'fixed':
    case 'array':
    case 'fd':
      return type;
    case 'string':
      return `string${absent}`;
    case 'object':
      return `${of ?? 'object'}${absent}`;
    // A new object of any kind says on the wire of which one it is.
    case 'new_id':
      return of === undefined ? 'string, uint, new' : `new ${of}`;
    default:
      throw new Error(`there is no argument of type ${type}`);
  }
}

function messageText(message: XmlElement): string {
  const args = childrenOf(message, 'arg').map(argumentText).join(', ');
  const { since, type } = message.attributes;
  return [
    message.name === 'request' ? '>' : '<',
    `${required(message, 'name')}(${args})`,
    ...(since === undefined || since === '1' ? [] : [`since ${since}`]),
    ...(type === 'destructor' ? ['destructor'] : []),
  ].join(' ');
}

/** The interfaces of a protocol file. Throws where it says what this tool does not understand. */
export function interfacesIn(xml: string): Interface[] {
  const { root } = parseXml(xml);
  if (root?.name !== 'protocol') throw new Error('this is no Wayland protocol');
  return childrenOf(root, 'interface').map((one) => ({
    name: required(one, 'name'),
    version: Number(required(one, 'version')),
    lines: childrenOf(one, 'request', 'event').map(messageText),
  }));
}

/** Everything that the tables say: a heading for each file, and its interfaces. */
function textOf(folder: string): string {
  const all = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.xml') && !LEFT_OUT.has(basename(path)))
    .sort();
  const seen = new Map<string, Interface>();
  const lines: string[] = [];
  for (const pattern of FILES) {
    const paths = all.filter((path) => pattern.test(path));
    if (paths.length === 0) throw new Error(`no file in ${folder} matches ${pattern}`);
    for (const path of paths) {
      const found = interfacesIn(readFileSync(join(folder, path), 'utf8')).filter((one) => isNew(one, seen));
      if (found.length > 0) lines.push(`# ${path.split('/').slice(-3).join('/')}`);
      for (const one of found) {
        seen.set(one.name, one);
        lines.push(`${one.name} ${one.version}`, ...one.lines);
      }
    }
  }
  return lines.join('\n');
}

/** A protocol stays in its old place when it becomes stable: there it may be older, never newer. */
function isNew(one: Interface, seen: ReadonlyMap<string, Interface>): boolean {
  const known = seen.get(one.name);
  if (!known) return true;
  if (
    one.version > known.version ||
    !one.lines.every((line, i) => line === known.lines[i] || i >= known.lines.length)
  )
    throw new Error(`two interfaces have the name ${one.name}`);
  return false;
}

/** The packages of an assembled folder, each with its version. */
export const packagesIn = (folder: string): string[] =>
  readFileSync(join(folder, 'versions'), 'utf8').trim().split('\n');

/** The packages that a generated file was made of. */
export const packagesOf = (source: string): string[] =>
  [...source.matchAll(/^ \* {4}(\S+ \S+)$/gm)].map(([, one]) => one!);

/** The whole file of tables. */
export function generate(folder: string): string {
  return `/**
 * Generated by tools/wayland-schema.ts: not to be edited. All interfaces of these packages of Debian:
 *
${packagesIn(folder)
  .map((one) => ` *    ${one}`)
  .join('\n')}
 *
 * A line is a protocol file (\`#\`), an interface with its version, a request (\`>\`) or an event (\`<\`), in the order of
 * their opcodes. How a message is written is said in \`schema.ts\`.
 */
export const PROTOCOLS = \`
${textOf(folder)}
\`;
`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , folder = cachePath('protocols')] = process.argv;
  if (process.argv.length < 3) await assemble('protocols').catch(leaveIfMissing);
  writeFileSync(TABLES, generate(folder));
  console.log(`${TABLES}: ${packagesIn(folder).join(', ')}`);
}
