/** The lines of docs/cloud-hypervisor.md, run, and what it says of those that are refused. */
import { equal, match, ok } from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { cachePath } from '../../../tools/testbed/cache.ts';
import { startCloudHypervisor } from '../../../tools/testbed/cloud-hypervisor.ts';
import { startServer } from '../../../tools/testbed/server.ts';
import { documentedCommands, documentedPage, withoutOptions } from '../../support/documented.ts';
import { bootTimeoutMs, eventually, type Step } from './steps.ts';

const page = 'docs/cloud-hypervisor.md';

/** The lines of the page, each as it is but for sockets, sizes and what is booted. */
function documentedSteps(): Step[] {
  const found: Step[] = [];
  let remotes: string[][] = [];
  for (const { program, arguments: words } of documentedCommands(page)) {
    // Those belong to the VM that was started before.
    if (program === 'ch-remote') remotes.push([...words]);
    if (program !== 'cloud-hypervisor') continue;
    const own: string[][] = [];
    remotes = own;
    found.push({
      name: `${page}: cloud-hypervisor ${words.join(' ')}`,
      async run() {
        await using documented = await startServer({ inputs: ['keyboard', 'tablet'] });
        const here = (word: string) =>
          word
            .replaceAll('/run/vm1', dirname(documented.socketPath))
            .replaceAll('4G', '512M')
            .replaceAll('2G', '256M');
        if (words.some((word) => word.includes('hugepages'))) setAsideHugePages();
        await using started = await startCloudHypervisor({
          arguments: withoutOptions(words, '--kernel', '--initramfs', '--cmdline', '--api-socket').map(here),
        });
        await started.ready(bootTimeoutMs);
        equal(await started.run('cat /sys/class/drm/card0/device/device'), '0x1050\n');
        const devices = words.filter((word) => word.startsWith('socket=')).length;
        const inputs = async () => (await started.run('evdev list')).match(/vfio-user-gpu/g)?.length ?? 0;
        equal(await inputs(), devices - 1);
        for (const remote of own) {
          const from = documented.log.length;
          const at = remote.map((word) => (word.endsWith('/ch.sock') ? started.apiSocketPath : here(word)));
          execFileSync(join(dirname(process.env.CLOUD_HYPERVISOR as string), 'ch-remote'), at);
          if (remote.includes('remove-device'))
            await documented.waitForLog('client disconnected', 60_000, from);
          const expected = devices - (remote.includes('remove-device') ? 2 : 1);
          await eventually(`${expected} input devices`, async () => (await inputs()) === expected);
        }
      },
    });
  }
  return found;
}

/** 512 MiB, and where cloud-hypervisor asks for their size. */
function setAsideHugePages(): void {
  writeFileSync('/proc/sys/vm/nr_hugepages', '256');
  mkdirSync('/dev/hugepages');
  execFileSync('mount', ['-t', 'hugetlbfs', 'hugetlbfs', '/dev/hugepages']);
}

/** What cloud-hypervisor says when it does not start. */
function refusal(...arguments_: string[]): string {
  const { status, stderr } = spawnSync(
    process.env.CLOUD_HYPERVISOR as string,
    ['--kernel', cachePath('kernel-kvm', 'vmlinux'), ...arguments_],
    { encoding: 'utf8', timeout: 60_000 },
  );
  equal(status, 1, stderr);
  return stderr;
}

const pageSays = (words: string) => ok(documentedPage(page).includes(`\`${words}\``), words);

export const steps: readonly Step[] = [
  {
    name: 'a VM without shared memory, or without a server, is refused in the words of the page',
    async run() {
      for (const [words, memory] of [
        ['Using user devices requires using shared memory or huge pages', 'size=512M'],
        ['Failed to create vfio-user client', 'size=512M,shared=on'],
      ] as const) {
        match(refusal('--memory', memory, '--user-device', 'socket=/nobody.sock'), new RegExp(words));
        pageSays(words);
      }
    },
  },
  ...documentedSteps(),
];
