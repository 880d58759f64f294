/** `tools/setup` on machines that lack something. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Machine, repository } from './support.ts';

const setup = join(repository, 'tools/setup');

/** A Debian with Node.js of this version, an ordinary user and no packages at all. */
function debian(nodeVersion: string): Machine {
  const machine = new Machine();
  machine.program('dpkg-query', '');
  machine.link('dpkg');
  machine.program('node', `echo ${nodeVersion}`);
  machine.program('npm', '');
  machine.program('id', 'echo 1000');
  machine.program('apt-get', 'exit 1');
  return machine;
}

test('a Node.js that is too old is refused, with places where a newer one is', () => {
  const { status, output } = debian('v18.20.4').run(setup);
  expect(status).toBe(1);
  expect(output).toBe(
    'setup: Node.js v18.20.4 is too old. Install version 20.19.0 or newer and run this again: ' +
      'nodejs and npm of Debian 13, or https://nodejs.org\n',
  );
});

test('without Node.js, or without npm, it says the same', () => {
  const machine = new Machine();
  machine.program('dpkg-query', '');
  machine.link('dpkg');
  expect(machine.run(setup).output).toMatch(/^setup: Node.js is missing\. .*nodejs and npm of Debian 13/);
  machine.program('node', 'echo v20.19.0');
  expect(machine.run(setup).output).toMatch(/^setup: npm is missing\. .*nodejs and npm of Debian 13/);
});

test('an ordinary user without sudo reads a command that also works where no package lists are', () => {
  const machine = debian('v20.19.0');
  machine.program('sudo', 'exit 1');
  const { status, output } = machine.run(setup);
  expect(status).toBe(1);
  expect(output).toMatch(
    /^ +as root: apt-get update && apt-get install --no-install-recommends cmake g\+\+ gcc /m,
  );
});

test('sudo hands the settings of proxies on to apt-get', () => {
  const machine = debian('v20.19.0');
  // As the real one does, it keeps no variables.
  machine.program('sudo', '[[ $1 == -n ]] && shift && exec env -i PATH="$PATH" "$@"');
  machine.program('true', '');
  machine.program('apt-get', 'echo "$http_proxy $HTTPS_PROXY [$no_proxy]" >"$(dirname "$0")/seen"');
  const { status, output } = machine.run(setup, {
    http_proxy: 'http://proxy:3128',
    HTTPS_PROXY: 'http://user:a word@proxy:3129',
  });
  expect({ status, output }).toMatchObject({ status: 0 });
  expect(machine.read('bin/seen')).toBe('http://proxy:3128 http://user:a word@proxy:3129 []\n');
});
