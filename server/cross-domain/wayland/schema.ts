/**
 * The interfaces of objects that can exist, read from the text of `protocols.ts`. What they mean is said elsewhere.
 *
 * A message is written as `name(arguments)`. An argument is a kind or the interface of an object; `?` means that it may
 * be absent, `new` that the message makes the object. `since` is the first version that has the message, `destructor`
 * ends the object.
 */
import { PROTOCOLS } from './protocols.ts';
import { type ArgumentKind, type ArgumentShape, HEADER_BYTES } from './wire.ts';

export interface ArgumentSpec extends ArgumentShape {
  /** Of an object; undefined where it may be any. */
  readonly interface: string | undefined;
}

export interface MessageSpec {
  readonly interface: string;
  readonly name: string;
  readonly opcode: number;
  readonly since: number;
  readonly destructor: boolean;
  readonly args: readonly ArgumentSpec[];
  readonly fdCount: number;
  /** What it makes, and where in the message the id is. wl_registry.bind is the one that does not say what. */
  readonly creates: { readonly interface: string; readonly at: number } | undefined;
  /** Counts all messages of all interfaces: for tables. */
  readonly index: number;
}

export interface InterfaceSpec {
  readonly name: string;
  /** The highest that is known. */
  readonly version: number;
  readonly requests: readonly MessageSpec[];
  readonly events: readonly MessageSpec[];
}

const KINDS: ReadonlySet<string> = new Set<ArgumentKind>([
  'int',
  'uint',
  'fixed',
  'string',
  'array',
  'fd',
  'object',
]);
const MESSAGE = /^(\w+)\(([^)]*)\)(?: since (\d+))?( destructor)?$/;
const ARGUMENT = /^(new)?\s*(\w*)(\?)?$/;

function parseArgument(written: string): ArgumentSpec {
  const [, made, word = '', absent] = ARGUMENT.exec(written) ?? [];
  const nullable = absent !== undefined;
  if (made) return { kind: 'new_id', nullable, interface: word || undefined };
  if (KINDS.has(word)) return { kind: word as ArgumentKind, nullable, interface: undefined };
  return { kind: 'object', nullable, interface: word };
}

let messages = 0;

function parseMessage(owner: string, written: string, opcode: number): MessageSpec {
  const [, name, list = '', since, destructor] = MESSAGE.exec(written) ?? [];
  if (!name) throw new Error(`${owner}: ${written}`);
  const args = list === '' ? [] : list.split(', ').map(parseArgument);
  const words = args.filter(({ kind }) => kind !== 'fd');
  const made = words.findIndex((arg) => arg.kind === 'new_id' && arg.interface !== undefined);
  if (!words.slice(0, Math.max(made, 0)).every(({ kind }) => kind !== 'string' && kind !== 'array'))
    throw new Error(`${owner}.${name} has its new id behind a string`);
  return {
    interface: owner,
    name,
    opcode,
    since: Number(since ?? 1),
    destructor: destructor !== undefined,
    args,
    fdCount: args.length - words.length,
    creates: made < 0 ? undefined : { interface: words[made]!.interface!, at: HEADER_BYTES + 4 * made },
    index: messages++,
  };
}

function parseProtocols(text: string): Map<string, InterfaceSpec> {
  const found = new Map<string, InterfaceSpec>();
  let name = '';
  let requests: MessageSpec[] = [];
  let events: MessageSpec[] = [];
  for (const line of text.split('\n')) {
    const mark = line[0];
    if (mark === undefined || mark === '#') continue;
    if (mark === '>') requests.push(parseMessage(name, line.slice(2), requests.length));
    else if (mark === '<') events.push(parseMessage(name, line.slice(2), events.length));
    else {
      const [first = '', version] = line.split(' ');
      name = first;
      requests = [];
      events = [];
      found.set(name, { name, version: Number(version), requests, events });
    }
  }
  return found;
}

/** By name. */
export const INTERFACES: ReadonlyMap<string, InterfaceSpec> = parseProtocols(PROTOCOLS);

export const MESSAGE_COUNT = messages;

/** Of a name that is in the tables; anything else is a mistake of this program. */
export function interfaceNamed(name: string): InterfaceSpec {
  const found = INTERFACES.get(name);
  if (!found) throw new Error(`no interface ${name}`);
  return found;
}

const named =
  (side: 'requests' | 'events') =>
  (path: string): MessageSpec => {
    const [owner = '', name] = path.split('.');
    const found = interfaceNamed(owner)[side].find((message) => message.name === name);
    if (!found) throw new Error(`no ${path} among the ${side}`);
    return found;
  };

/** By a path like `wl_surface.commit`. */
export const requestNamed = named('requests');
/** By a path like `wl_buffer.release`. */
export const eventNamed = named('events');

/** What does something at some messages, by their paths, as an array over all messages. */
export function handlers<T>(find: (path: string) => MessageSpec, byPath: Readonly<Record<string, T>>) {
  const table: (T | undefined)[] = new Array(MESSAGE_COUNT).fill(undefined);
  for (const [path, handler] of Object.entries(byPath)) table[find(path).index] = handler;
  return table;
}

/** What no message makes, and what is no global all the same: other protocols make the second. */
const NO_GLOBALS = ['wl_display', 'wp_image_description_reference_v1'];

/** Interfaces that no message makes: they come from the registry. */
export const GLOBALS: ReadonlySet<string> = (() => {
  const made = [...INTERFACES.values()].flatMap(({ requests, events }) =>
    [...requests, ...events].flatMap(({ creates }) => creates?.interface ?? []),
  );
  const rest = new Set(INTERFACES.keys());
  for (const name of [...NO_GLOBALS, ...made]) rest.delete(name);
  return rest;
})();
