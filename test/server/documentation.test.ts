/**
 * The command lines of README.md and docs/ are such as their programs understand, and fit together. Those for QEMU are run
 * by `test/guest/documentation.test.ts`, those for cloud-hypervisor by `test/guest/nested.test.ts` where there is one.
 */
import { describe, expect, test } from 'vitest';
import { parseCommandLine } from '../../server/cli.ts';
import {
  documentedCommands,
  documentedMessages,
  documentedPage,
  optionValue,
  shellWords,
} from '../support/documented.ts';

const pages = ['README.md', 'docs/qemu.md', 'docs/cloud-hypervisor.md'] as const;

/** What cloud-hypervisor 54 takes, of which the pages use something: keys of a value, or its words, or anything. */
const memory = ['size', 'shared', 'hugepages', 'hugepage_size', 'hotplug_method', 'hotplug_size', 'prefault'];
const userDevice = ['socket', 'id', 'pci_segment', 'pci_device_id'];
const options: Record<string, { keys?: readonly string[]; words?: readonly string[]; repeats?: true }> = {
  '--api-socket': { keys: ['path', 'fd'] },
  '--kernel': {},
  '--initramfs': {},
  '--cmdline': {},
  '--cpus': { keys: ['boot', 'max'] },
  '--memory': { keys: memory },
  '--memory-zone': { keys: [...memory, 'id', 'file', 'host_numa_node'], repeats: true },
  '--user-device': { keys: userDevice, repeats: true },
  '--seccomp': { words: ['true', 'false', 'log', 'errno'] },
};

/** What is wrong with a command line for cloud-hypervisor; undefined when nothing is. */
function wrongWithCloudHypervisor(words: readonly string[]): string | undefined {
  let option = '';
  let values = 0;
  for (const word of words) {
    if (word.startsWith('--')) {
      option = word;
      values = 0;
      if (!Object.hasOwn(options, option)) return `no option ${option}`;
      continue;
    }
    const known = options[option];
    if (!known) return `${word} belongs to no option`;
    if (++values > 1 && !known.repeats) return `${option} takes one value`;
    if (known.words && !known.words.includes(word)) return `${option} does not take ${word}`;
    for (const pair of known.keys ? word.split(',') : []) {
      const key = /^(\w+)=./.exec(pair)?.[1];
      if (key === undefined || !known.keys?.includes(key)) return `${option} has no ${pair}`;
    }
  }
  return undefined;
}

function wrongWithRemote([option, path, call, ...rest]: readonly string[]): string | undefined {
  if (option !== '--api-socket' || !path?.startsWith('/')) return 'no socket';
  const [value = '', more] = rest;
  switch (call) {
    case 'remove-device':
      return more === undefined && /^\w+$/.test(value) ? undefined : 'one id';
    case 'add-user-device':
      return more === undefined ? wrongWithCloudHypervisor(['--user-device', value]) : 'one value';
    default:
      return `no call ${call}`;
  }
}

/** The sockets that a command names, as server or as VMM. */
const socketsIn = (words: readonly string[]) =>
  words.flatMap((word) => [...word.matchAll(/(?:socket=|"path":")([^,"]+)/g)].map(([, path]) => path!));
const socketsServed = (words: readonly string[]) =>
  words.filter((_, index) => words[index - 1]?.endsWith('socket-path'));

describe.each(pages)('%s', (page) => {
  const commands = documentedCommands(page).map(({ program, arguments: words }) => ({
    program,
    // README.md leaves out what is up to the reader.
    words: words.filter((word) => word !== '...'),
  }));
  const of = (program: string) => commands.filter((command) => command.program === program);

  test('has lines that start a server, and the program takes them', async () => {
    const starts = of('vfio-user-gpu').filter(({ words }) => words.includes('--socket-path'));
    expect(starts.length).toBeGreaterThan(0);
    for (const { words } of starts)
      expect(await parseCommandLine(words, '1.0.0')).toMatchObject({ command: 'serve' });
  });

  test('gives the VMM only sockets that the server before it has', () => {
    let served: string[] = [];
    let users = 0;
    for (const { program, words } of commands) {
      if (program === 'vfio-user-gpu') served = socketsServed(words);
      if (!['qemu-system-x86_64', 'cloud-hypervisor', 'ch-remote'].includes(program)) continue;
      expect(served).toEqual(expect.arrayContaining(socketsIn(words)));
      users += socketsIn(words).length;
    }
    expect(users).toBeGreaterThan(1);
  });

  test('has lines for cloud-hypervisor that it understands', () => {
    const wrong = [
      ...of('cloud-hypervisor').map(({ words }) => wrongWithCloudHypervisor(words)),
      ...of('ch-remote').map(({ words }) => wrongWithRemote(words)),
    ];
    expect(wrong.filter((what) => what !== undefined)).toEqual([]);
    expect(wrong.length).toBe({ 'README.md': 1, 'docs/qemu.md': 0, 'docs/cloud-hypervisor.md': 8 }[page]);
  });

  test('has QEMU share its memory, and structures in JSON', () => {
    for (const { words } of of('qemu-system-x86_64')) {
      expect(optionValue(words, '-object')).toMatch(/^memory-backend-memfd,id=mem,.*share=on$/);
      expect(optionValue(words, '-machine')).toContain('memory-backend=mem');
      const devices = words.filter((word, index) => words[index - 1] === '-device' && word.startsWith('{'));
      expect(devices.map((device) => JSON.parse(device).driver)).toEqual(devices.map(() => 'vfio-user-pci'));
      expect(devices.length).toBeGreaterThan(0);
    }
  });
});

test('the messages for QEMU are calls with arguments', () => {
  expect(documentedMessages('docs/qemu.md')).toMatchObject([
    { execute: 'device_add', arguments: { bus: 'port1' } },
  ]);
});

test('README.md links both pages', () => {
  for (const page of pages.slice(1)) expect(documentedPage('README.md')).toContain(`(${page})`);
});

test('what is wrong with a line is found', () => {
  const wrongWith = (line: string) => wrongWithCloudHypervisor(shellWords(line));
  expect(wrongWith('--memory size=1G,share=on')).toBe('--memory has no share=on');
  expect(wrongWith('--memory size=1G --user-devices socket=a')).toBe('no option --user-devices');
  expect(wrongWith('--memory size=1G shared=on')).toBe('--memory takes one value');
  expect(wrongWith('--seccomp off')).toBe('--seccomp does not take off');
  expect(wrongWith("--cmdline 'console=tty0 quiet' --user-device socket=a,id=b socket=c")).toBe(undefined);
  expect(wrongWithRemote(shellWords('--api-socket /a add-user-device path=b'))).toBe(
    '--user-device has no path=b',
  );
});
