/**
 * What a guest may do on the host's compositor, as plain data. The file that holds it is described in README.md of this
 * room. What is not allowed by name is hidden; what is by default, and why, is in `globals.ts`.
 */
import { DECISIONS, highestVersion } from './globals.ts';
import { GLOBALS, INTERFACES } from './schema.ts';

/** Where copied data may go. `in` is from the host to the guest. */
export const CLIPBOARD_DIRECTIONS = ['both', 'in', 'out', 'none'] as const;
export type ClipboardDirection = (typeof CLIPBOARD_DIRECTIONS)[number];

export interface Policy {
  /**
   * Announced globals with the highest version announced, or that of `globals.ts`, if that is less. What is not in here,
   * is not announced.
   */
  readonly globals: Readonly<Record<string, number>>;
  /** Goes before each title of a window. */
  readonly titlePrefix: string;
  /** Goes before each application id. */
  readonly appIdPrefix: string;
  /** Of the clipboard, of the primary selection, and of drag and drop. */
  readonly clipboard: ClipboardDirection;
  /** Of a title in UTF-8, with its prefix. Longer ones are cut. */
  readonly maxTitleBytes: number;
}

/** A title this long makes a message of 4096 bytes. */
export const MAX_TITLE_BYTES = 4083;
export const MAX_PREFIX_BYTES = 128;

/** Ordinary applications run; nothing looks at other windows, makes input, or takes the screen. */
export const DEFAULT_POLICY: Policy = {
  globals: Object.fromEntries(
    [...DECISIONS].flatMap(([name, { verdict, version }]) => (verdict === 'shown' ? [[name, version]] : [])),
  ),
  titlePrefix: '',
  appIdPrefix: '',
  clipboard: 'both',
  maxTitleBytes: 1024,
};

/** Everything that can be understood: for reading recorded traffic. */
export const OPEN_POLICY: Policy = {
  ...DEFAULT_POLICY,
  globals: Object.fromEntries([...GLOBALS].map((name) => [name, highestVersion(name)])),
  maxTitleBytes: MAX_TITLE_BYTES,
};

/** A policy that says something which cannot be meant. One line for each mistake. */
export class PolicyError extends Error {
  override readonly name = 'PolicyError';
}

const utf8 = new TextEncoder();
const lengthOf = (text: string) => utf8.encode(text).length;
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what a prefix may not have
const CONTROL = /[\u0000-\u001f\u007f]/;

type Check = (value: unknown) => string | undefined;

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const checkPrefix: Check = (value) => {
  if (typeof value !== 'string') return 'must be a string';
  if (lengthOf(value) > MAX_PREFIX_BYTES) return `is longer than ${MAX_PREFIX_BYTES} bytes`;
  return CONTROL.test(value) ? 'has control characters' : undefined;
};

const isWithin = (value: unknown, least: number, most: number) =>
  typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most;

const CHECKS: { readonly [K in keyof Policy]: Check } = {
  globals: (value) => (isRecord(value) ? undefined : 'must be an object of versions by interface name'),
  titlePrefix: checkPrefix,
  appIdPrefix: checkPrefix,
  clipboard: (value) =>
    CLIPBOARD_DIRECTIONS.some((direction) => direction === value)
      ? undefined
      : `must be one of ${CLIPBOARD_DIRECTIONS.join(', ')}`,
  maxTitleBytes: (value) =>
    isWithin(value, 1, MAX_TITLE_BYTES) ? undefined : `must be a whole number from 1 to ${MAX_TITLE_BYTES}`,
};

const checkGlobal = (name: string, version: unknown): string | undefined => {
  if (!INTERFACES.has(name)) return 'is not understood here, so it stays hidden';
  if (!GLOBALS.has(name)) return 'is not a global';
  const decision = DECISIONS.get(name);
  if (decision?.verdict === 'refused') return `cannot be allowed: ${decision.reason}`;
  return isWithin(version, 1, 0xffff_ffff) ? undefined : 'must have a version, a whole number from 1';
};

/**
 * The policy that a parsed JSON file means. What it leaves out is as in `DEFAULT_POLICY`; `globals` is taken as a whole.
 * Throws `PolicyError`, which names every mistake.
 */
export function parsePolicy(json: unknown): Policy {
  if (!isRecord(json)) throw new PolicyError('the policy must be a JSON object');
  const mistakes: string[] = [];
  const note = (path: string, mistake: string | undefined) => {
    if (mistake) mistakes.push(`${path} ${mistake}`);
  };
  const names = Object.keys(CHECKS) as (keyof Policy)[];
  for (const name of Object.keys(json)) {
    if (!(names as string[]).includes(name)) note(name, `is unknown; there are ${names.join(', ')}`);
  }
  for (const name of names) if (json[name] !== undefined) note(name, CHECKS[name](json[name]));
  const globals = isRecord(json.globals) ? json.globals : undefined;
  for (const [name, version] of Object.entries(globals ?? {}))
    note(`globals.${name}`, checkGlobal(name, version));
  if (mistakes.length > 0) throw new PolicyError(mistakes.join('\n'));
  const policy: Policy = { ...DEFAULT_POLICY, ...(json as Partial<Policy>) };
  if (lengthOf(policy.titlePrefix) > policy.maxTitleBytes)
    throw new PolicyError('titlePrefix is longer than maxTitleBytes');
  return policy;
}
