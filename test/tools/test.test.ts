/** `tools/test`: what it runs when asked for what, and what it says at the end. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type Finished, Machine, repository } from './support.ts';

interface Ran extends Finished {
  /** Every program that was called, with its arguments that matter. */
  readonly calls: readonly string[];
  readonly lastLine: string | undefined;
}

/** A vitest that finds these tests at `server/gpu`, `test/guest`, and both of them at `both`. */
const vitest = `
  if [[ $1 == list ]]; then
    for last; do [[ $last == --json=* ]] && file=\${last#--json=}; done
    case $last in
      server/gpu) kinds=unit ;;
      test/guest) kinds=guest ;;
      both) kinds='guest unit' ;;
      *) kinds= ;;
    esac
    for kind in $kinds; do echo "  \\"projectName\\": \\"$kind\\""; done >"$file"
    exit 0
  fi
  project= paths= file=
  shift 3
  while (($#)); do
    case $1 in
      --project) project=$2 && shift ;;
      --outputFile.json=*) file=\${1#*=} ;;
      --*) ;;
      *) paths+=" $1" ;;
    esac
    shift
  done
  echo "vitest $project$paths" >>"$CALLS"
  [[ $VITEST != crashes ]] || exit 1
  cp "$REPORTS/$VITEST" "$file"
  [[ $VITEST == passes ]]`;

/** More than a pipe holds. */
const durations = Array.from({ length: 4000 }, (_, i) => ({
  fullName: `does ${i}`,
  duration: 100 * i,
  status: 'passed',
}));
const report = (counts: object) =>
  JSON.stringify({
    numPassedTests: 12,
    numFailedTests: 0,
    numPendingTests: 1,
    numTodoTests: 1,
    testResults: [{ name: 'some.test.ts', status: 'passed', assertionResults: durations }],
    ...counts,
  });

/** Runs `tools/test` in a checkout in which everything else only notes that it was called. */
function run(arguments_: string, vitestDoes: 'passes' | 'fails' | 'crashes' = 'passes'): Ran {
  const machine = new Machine();
  for (const name of ['grep', 'node', 'sed', 'sort']) machine.link(name);
  const note = (name: string) => `echo "${name}\${*:+ $*}" >>"$CALLS"`;
  machine.file('checkout/tools/test', readFileSync(join(repository, 'tools/test'), 'utf8'));
  machine.file('reports/passes', report({}));
  machine.file('reports/fails', report({ numFailedTests: 3 }));
  machine.program('npm', note('npm'));
  machine.program('g++', '');
  for (const name of ['tools/setup', 'tools/prepare', 'tools/testbed/assemble']) {
    machine.file(`checkout/${name}`, '');
    machine.program(`../checkout/${name}`, note(name.split('/').at(-1)!));
  }
  machine.file('checkout/node_modules/.bin/vitest', '');
  machine.program('../checkout/node_modules/.bin/vitest', vitest);
  machine.file('checkout/node_modules/vitest/vitest.mjs', '');
  machine.file('calls', '');
  machine.file('start', `exec bash ${machine.folder}/checkout/tools/test ${arguments_}`);
  const { status, output } = machine.run(join(machine.folder, 'start'), {
    CALLS: join(machine.folder, 'calls'),
    REPORTS: join(machine.folder, 'reports'),
    VITEST: vitestDoes,
  });
  const calls = machine.read('calls').trim().split('\n');
  return { status, output, calls, lastLine: output.trim().split('\n').at(-1) };
}

const checks = ['npm run --silent lint', 'npm run --silent types', 'npm run --silent rooms'];
const guestCheck = ['assemble qemu initramfs', 'assemble kernel-6.12'];

test('of everything it runs everything, in this order', () => {
  const { calls } = run('');
  expect(calls.filter((call) => !call.startsWith('npm exec'))).toEqual([
    ...['setup --tests', 'prepare', 'assemble'],
    ...checks,
    'vitest unit',
    ...guestCheck,
    'vitest guest',
  ]);
  expect(calls.filter((call) => call.includes('cmake-js'))).toHaveLength(1);
});

test('--quick leaves out what needs a guest or a compiler', () => {
  expect(run('--quick')).toMatchObject({ status: 0, calls: ['prepare', ...checks, 'vitest unit'] });
});

test('smoke starts one file of guests, and assembles what that needs', () => {
  const { status, calls } = run('smoke');
  expect(calls).toEqual([
    'prepare',
    ...checks,
    expect.stringMatching(/^vitest unit( test\/\S+)+$/),
    ...guestCheck,
    'vitest guest test/guest/smoke.test.ts',
  ]);
  expect(status).toBe(0);
});

test.each([
  ['unit', ['prepare', 'vitest unit']],
  ['unit both', ['prepare', 'vitest unit both']],
  ['server/gpu', ['prepare', 'vitest unit server/gpu']],
  ['test/guest', ['prepare', 'setup --tests', ...guestCheck, 'vitest guest test/guest']],
  [
    'server/gpu test/guest',
    [
      ...['prepare', 'setup --tests', 'vitest unit server/gpu test/guest'],
      ...guestCheck,
      'vitest guest server/gpu test/guest',
    ],
  ],
])('%s runs that, with the set-up it needs', (arguments_, calls) => {
  expect(run(arguments_)).toMatchObject({ status: 0, calls });
});

test.each(['nowhere', 'server/gpu nowhere', 'unit nowhere', 'unit test/guest'])(
  'of %s it runs nothing: there is no such test',
  (arguments_) => {
    const { status, output, calls } = run(arguments_);
    const path = arguments_.split(' ').at(-1);
    expect({ status, output, calls }).toEqual({
      status: 2,
      output: `test: no test has ${path} in its path\n`,
      calls: ['prepare'],
    });
  },
);

test.each(['--fast', '--quick unit', 'smoke server/gpu', 'unit --quick', "''"])(
  'asked for %s it says what there is',
  (arguments_) => {
    const { status, output, calls } = run(arguments_);
    expect({ status, calls }).toEqual({ status: 2, calls: [''] });
    expect(output).toContain('tools/test unit [PATH...]');
  },
);

test.each([
  ['passes', 0, '15 passed, 0 failed, 2 skipped'],
  ['fails', 1, '15 passed, 3 failed, 2 skipped'],
  ['crashes', 1, '3 passed, 1 failed, 0 skipped'],
] as const)('when a suite %s, its exit status is %i and its last line %s', (does, status, lastLine) => {
  expect(run('--quick', does)).toMatchObject({ status, lastLine });
});

test('the ten tests that took longest stand before the last line, the longest first', () => {
  const lines = run('unit').output.trim().split('\n');
  expect(lines.slice(-12)).toEqual([
    'the slowest tests:',
    ...Array.from({ length: 10 }, (_, i) => 3999 - i).map(
      (i) => `  ${(i / 10).toFixed(1)} s\tsome.test.ts: does ${i}`,
    ),
    '12 passed, 0 failed, 2 skipped',
  ]);
});
