/**
 * Measures the built server with a driver in C, beside floors in C, and prints a table. `run` builds everything
 * first; README.md says what each figure is.
 */
import { execFileSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { cpus, loadavg, release } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { measureGuests } from './guests.ts';
import { measureIdle, measureStarts } from './idle.ts';
import { allowedCpus, Program } from './programs.ts';
import { Book, summarise, tableText } from './report.ts';
import { measureRounds } from './rounds.ts';
import { measureViewing } from './viewing.ts';
import { measureWindows } from './windows.ts';

const HELP = `Usage: tools/bench/run [options]

  --json FILE      also write all figures of all rounds, with versions and commit
  --rounds N       how often server and floors take turns (default 11)
  --idle SECONDS   how long idle servers are watched (default 20)
  --quick          3 rounds, 5 s idle
  --only PART      nothing but viewing (viewers and screenshots), guests (beside QEMU's own) or windows (many DMA
                   windows)
  --help           show this

Exit status 0 when all could be measured and every answer and picture was right, whether aims are met or not.
`;

const DISPLAY = '1920x1080';
const MIN_STARTS = 10;
/** They take longer. */
const VIEWING_ROUNDS = 5;
const GUEST_ROUNDS = 3;
const WINDOW_ROUNDS = 3;

const PARTS = ['viewing', 'guests', 'windows'] as const;
type Part = (typeof PARTS)[number];

interface Options {
  readonly help: boolean;
  readonly json: string | undefined;
  readonly rounds: number;
  readonly idleSeconds: number;
  readonly only: Part | undefined;
}

function parseOptions(): Options {
  const { values } = parseArgs({
    options: {
      json: { type: 'string' },
      rounds: { type: 'string' },
      idle: { type: 'string' },
      quick: { type: 'boolean', default: false },
      only: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  const positive = (name: 'rounds' | 'idle', fallback: number) => {
    const value = Number(values[name] ?? fallback);
    if (!(Number.isInteger(value) && value > 0)) throw new Error(`--${name} ${values[name]} is not a number`);
    return value;
  };
  const only = PARTS.find((part) => part === values.only);
  if (values.only !== undefined && !only) throw new Error(`--only ${values.only} is no part`);
  return {
    only,
    help: values.help,
    json: values.json,
    rounds: positive('rounds', values.quick ? 3 : 11),
    idleSeconds: positive('idle', values.quick ? 5 : 20),
  };
}

/** What figures depend on besides the code. */
function versions() {
  const cwd = fileURLToPath(new URL('../..', import.meta.url));
  const ask = (command: string, ...rest: string[]) => {
    try {
      return execFileSync(command, rest, {
        cwd,
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }).trim();
    } catch {
      return undefined; // No git, or no repository around a package.
    }
  };
  return {
    date: new Date().toISOString(),
    commit: ask('git', 'rev-parse', 'HEAD'),
    changedFiles: ask('git', 'status', '--porcelain')?.split('\n').filter(Boolean),
    node: process.version,
    kernel: release(),
    cpu: cpus()[0]?.model ?? 'unknown',
    cpus: allowedCpus().length,
    compiler: ask('gcc', '-dumpfullversion'),
  };
}

function describe({
  node,
  kernel,
  cpu,
  cpus: count,
  commit,
  changedFiles,
}: ReturnType<typeof versions>): string {
  const changed = changedFiles?.length ? ` and ${changedFiles.length} changed files` : '';
  const tree = commit ? `commit ${commit.slice(0, 12)}${changed}` : 'no commit';
  return `node ${node}, Linux ${kernel}, ${count} x ${cpu}, ${tree}`;
}

async function bench({ rounds, idleSeconds, json, only }: Options): Promise<void> {
  const about = versions();
  const load = { before: loadavg(), after: [0, 0, 0] };
  // One book each, because they are filled side by side and shown one below the other.
  const books = {
    rounds: new Book(),
    idle: new Book(),
    starts: new Book(),
    viewing: new Book(),
    guests: new Book(),
    windows: new Book(),
  };
  if (only === undefined) {
    say('starts');
    await measureStarts(books.starts, Math.max(rounds, MIN_STARTS), DISPLAY);
    await measureIdle(books.idle, idleSeconds, DISPLAY, () =>
      measureRounds(books.rounds, rounds, DISPLAY, say),
    );
  }
  const isWanted = (part: Part) => only === undefined || only === part;
  if (isWanted('viewing'))
    await measureViewing(books.viewing, Math.min(rounds, VIEWING_ROUNDS), DISPLAY, say);
  if (isWanted('guests')) await measureGuests(books.guests, Math.min(rounds, GUEST_ROUNDS), DISPLAY, say);
  if (isWanted('windows')) await measureWindows(books.windows, Math.min(rounds, WINDOW_ROUNDS), say);
  load.after = loadavg();

  const all = Object.values(books);
  const measures = all.flatMap((book) => book.measures);
  const busy = `load average ${load.before[0]?.toFixed(2)} before, ${load.after[0]?.toFixed(2)} after`;
  process.stdout.write(`${tableText(measures)}\n\n${describe(about)}\n${busy}\n`);
  if (json === undefined) return;
  const summaries = measures.map((measure) => ({ ...measure, ...summarise(measure) }));
  const written = {
    about,
    rounds,
    idleSeconds,
    load,
    measures: summaries,
    raw: all.flatMap(({ raw }) => raw),
  };
  await writeFile(json, `${JSON.stringify(written, null, 1)}\n`);
}

const say = (text: string) => process.stderr.write(`bench: ${text}\n`);

// Whoever waits for a killed program gets an error; so everything is put away on the way out.
let signalled: NodeJS.Signals | undefined;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    signalled = signal;
    Program.killAll();
  });
}
try {
  const options = parseOptions();
  if (options.help) process.stdout.write(HELP);
  else await bench(options);
} catch (error) {
  say(signalled ? `ended by ${signalled}` : (error as Error).message);
  process.exit(1);
}
