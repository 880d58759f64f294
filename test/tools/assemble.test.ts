/** `tools/testbed/assemble` with an archive that has faults: it takes the next source, or says what is missing. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FakeArchive, type Fault, whyNoFakeArchive } from '../support/fake-archive.ts';
import { soon } from '../support/soon.ts';

const assemble = fileURLToPath(new URL('../../tools/testbed/assemble', import.meta.url));

interface Source {
  readonly suite: string;
  readonly component: string;
  readonly name: string;
}

/** The sources of each part that a package comes from, in order: suite and component, and how they are called. */
const ordinary = (...suites: string[]): Source[] =>
  suites.map((suite) => ({ suite, component: 'main', name: `${suite}, ordinary packages` }));
const installer = (...suites: string[]): Source[] =>
  suites.map((suite) => ({
    suite,
    component: 'main/debian-installer',
    name: `${suite}, installer packages`,
  }));

/** `holds` is a file of the part, `beside` a part that needs none of the same. */
const parts = [
  {
    part: 'qemu',
    package: 'qemu-system-x86',
    holds: 'qemu-system-x86_64',
    beside: 'kernel-6.12',
    sources: ordinary('trixie-backports', 'forky', 'sid'),
  },
  {
    part: 'kernel-6.12',
    package: '(kernel|linux)-image-6.12',
    holds: 'vmlinux',
    beside: 'igt',
    sources: [...installer('trixie'), ...ordinary('trixie', 'trixie-security', 'bookworm-backports')],
  },
  {
    part: 'kernel-newest',
    package: '(kernel|linux)-image-',
    holds: 'modules.cpio',
    beside: 'kernel-6.12',
    sources: [
      ...installer('sid', 'forky', 'trixie-backports'),
      ...ordinary('sid', 'forky', 'trixie-backports'),
      ...installer('trixie'),
      ...ordinary('trixie'),
    ],
  },
  {
    part: 'utree',
    package: 'libdrm-tests',
    holds: 'include/drm/drm.h',
    beside: 'kernel-6.12',
    sources: ordinary('trixie', 'forky', 'sid'),
  },
  {
    part: 'ovmf',
    package: 'ovmf',
    holds: 'OVMF_CODE_4M.fd',
    beside: 'kernel-6.12',
    sources: ordinary('trixie', 'forky', 'sid'),
  },
  {
    part: 'igt',
    package: 'igt-gpu-tools-tests',
    holds: 'igt.ext4',
    beside: 'ovmf',
    sources: ordinary('forky', 'sid'),
  },
  {
    part: 'compositors',
    package: 'weston',
    holds: 'run',
    beside: 'kernel-6.12',
    sources: ordinary('trixie', 'forky', 'sid'),
  },
  {
    part: 'desktop',
    package: 'galculator',
    holds: 'desktop.ext4',
    beside: 'kernel-6.12',
    sources: ordinary('trixie', 'forky', 'sid'),
  },
  {
    part: 'protocols',
    package: 'wayland-protocols',
    holds: 'versions',
    beside: 'kernel-6.12',
    sources: ordinary('sid', 'forky', 'trixie'),
  },
];

/** What a person reads as the reason. */
const reasons = {
  'not there': /404/,
  stale: /File has unexpected size .* Mirror sync in progress\?/,
  truncated: /File has unexpected size/,
  silent: /(Connection failed|timed out)/,
};
const faults = Object.keys(reasons) as (keyof typeof reasons)[];

const ownQemu = ['/usr/local/bin', '/usr/bin'].find((folder) =>
  existsSync(join(folder, 'qemu-system-x86_64')),
);
if (ownQemu) console.log(`skipping the sources of QEMU: there may be a good one in ${ownQemu}`);
const why = await whyNoFakeArchive();
if (why) console.log(`skipping the tests of assemble: ${why}`);

// They mostly wait, each with its own mirror and its own cache folder.
describe.skipIf(why).concurrent('with an archive that has faults', { timeout: 120_000 }, () => {
  let archive: FakeArchive;

  beforeAll(async () => {
    archive = await FakeArchive.start();
  });
  afterAll(() => archive?.[Symbol.asyncDispose]());

  /** A mirror and a cache folder for one test. */
  async function makeBed() {
    const mirror = archive.mirror();
    const cache = await mkdtemp(join(tmpdir(), 'assemble-cache-'));

    function start(args: readonly string[], environment: NodeJS.ProcessEnv = {}): ChildProcess {
      const env: NodeJS.ProcessEnv = {
        ...process.env,
        VFIO_USER_GPU_CACHE: cache,
        VFIO_USER_GPU_MIRROR: mirror.url,
        VFIO_USER_GPU_KEYRING: archive.keyring,
        VFIO_USER_GPU_APT_TIMEOUT_SECONDS: '1',
        // Whoever runs these tests may remember.
        VFIO_USER_GPU_REMEMBER_MISSING: '',
        no_proxy: '127.0.0.1',
        ...environment,
      };
      return spawn(assemble, args, { env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    }

    async function assembled(args: readonly string[], environment?: NodeJS.ProcessEnv) {
      const child = start(args, environment);
      let [stdout, stderr] = ['', ''];
      child.stdout!.setEncoding('utf8').on('data', (text: string) => {
        stdout += text;
      });
      child.stderr!.setEncoding('utf8').on('data', (text: string) => {
        stderr += text;
      });
      const [status] = (await once(child, 'close')) as [number | null];
      return { status, stdout, stderr };
    }

    return {
      mirror,
      cache,
      start,
      assembled,
      isThere: (path: string) => existsSync(join(cache, path)),
      leftOver: async () => (await readdir(cache)).filter((name) => name.startsWith('assembling')),
      [Symbol.asyncDispose]: () => rm(cache, { recursive: true, force: true }),
    };
  }

  /** The index of a source is stale; of all other faults it is the package that has them. */
  function breakSource({ package: name }: { package: string }, { suite, component }: Source, fault: Fault) {
    const path =
      fault === 'stale'
        ? `/dists/${suite}/${component}/binary`
        : `/pool/${suite}/${name}[^/]*\\.${component === 'main' ? 'deb' : 'udeb'}$`;
    return { path: new RegExp(path), fault };
  }

  test('a kernel has the module sets that guests load, and an empty one where its packages lack the module', async () => {
    await using bed = await makeBed();
    expect((await bed.assembled(['kernel-6.12'])).status).toBe(0);
    const info = await readFile(join(bed.cache, 'kernel-6.12', 'kernel.json'), 'utf8');
    expect(JSON.parse(info).modules).toEqual({
      gpu: ['virtio_gpu'],
      input: ['evdev', 'virtio_input'],
      disk: ['ext4', 'virtio_blk'],
      rng: [],
    });
  });

  describe.each(parts.filter(({ part }) => part !== 'qemu' || !ownQemu))('$part', (row) => {
    test.each(faults)('comes from its next source when the first one is %s', async (fault) => {
      await using bed = await makeBed();
      const [first, second] = row.sources as [Source, Source];
      bed.mirror.faults = [breakSource(row, first, fault)];
      const { status, stdout, stderr } = await bed.assembled([row.part]);
      expect(stderr).toMatch(
        new RegExp(`^assemble: ${row.part}: passed over ${first.name}: .*${reasons[fault].source}.*\n$`),
      );
      expect(stdout).toMatch(new RegExp(`^assemble: ${row.part}: .* from ${second.name.split(',')[0]}`));
      expect(status).toBe(0);
      expect(bed.isThere(`${row.part}/${row.holds}`)).toBe(true);
      expect(await bed.leftOver()).toEqual([]);
    });

    test.each(faults)(
      'is named as missing when all its sources are %s, the others are made',
      async (fault) => {
        await using bed = await makeBed();
        bed.mirror.faults = row.sources.map((source) => breakSource(row, source, fault));
        const { status, stdout, stderr } = await bed.assembled([row.part, row.beside]);
        const [progress, summary] = stderr.split(`assemble: missing: ${row.part}\n`) as [string, string];
        for (const text of [progress, summary])
          for (const { name } of row.sources) expect(text).toContain(`${name}: `);
        expect(summary).toMatch(reasons[fault]);
        expect(summary).toContain(bed.mirror.url);
        expect(summary).toContain('VFIO_USER_GPU_MIRROR');
        expect(status).toBe(1);
        expect(stdout).toContain(`assemble: ${row.beside}: `);
        expect((await readdir(bed.cache)).sort()).toEqual(['lock', 'missing', row.beside, 'stamps'].sort());
        expect(await readdir(join(bed.cache, 'stamps'))).toEqual([row.beside]);
      },
    );
  });

  test.each(['stale', 'truncated', 'in trouble'] as const)(
    'what is %s for a moment is no reason to take another source',
    async (fault) => {
      await using bed = await makeBed();
      bed.mirror.faults = [
        { path: fault === 'truncated' ? /ovmf/ : /dists\/trixie\/main\/binary/, fault, times: 1 },
      ];
      const { status, stdout, stderr } = await bed.assembled(['ovmf']);
      expect(stderr).toBe('');
      expect(stdout).toContain('assemble: ovmf: EDK2 1 from trixie: ');
      expect(status).toBe(0);
    },
  );

  test('packages of somebody else are not taken', async () => {
    await using bed = await makeBed();
    await using other = await FakeArchive.start();
    const { status, stderr } = await bed.assembled(['ovmf'], { VFIO_USER_GPU_KEYRING: other.keyring });
    expect(stderr).toMatch(/trixie, ordinary packages: .*(signatures|NO_PUBKEY|not signed)/);
    expect(status).toBe(1);
    expect(bed.mirror.requests.filter((path) => path.endsWith('/ovmf.deb'))).toEqual([]);
  });

  test('an archive where nobody answers is asked once, and all that is wanted is missing', async () => {
    await using bed = await makeBed();
    // Nobody listens at port 1.
    const environment = { VFIO_USER_GPU_MIRROR: 'http://127.0.0.1:1/debian' };
    const { status, stderr } = await bed.assembled(['igt', 'ovmf', 'kernel-newest'], environment);
    expect(stderr).toContain('assemble: missing: igt ovmf kernel-newest\n');
    const reason = /the archive cannot be reached: [Cc]ould not connect to 127.0.0.1:1 .*/;
    expect(stderr).toMatch(
      new RegExp(`forky, ordinary packages: ${reason.source}\n    sid, ordinary packages: the same\n`),
    );
    expect(status).toBe(1);
  });

  test('requests that are not answered, one after the other, do not take longer than the patience for all', async () => {
    await using bed = await makeBed();
    bed.mirror.faults = [{ path: /dists/, fault: 'silent' }];
    const { status, stderr } = await bed.assembled(['igt', 'ovmf', 'kernel-newest'], {
      VFIO_USER_GPU_APT_PATIENCE_SECONDS: '2',
    });
    expect(stderr).toContain('assemble: missing: igt ovmf kernel-newest\n');
    expect(stderr).toMatch(/kernel-newest: passed over sid, .*: not asked: .* have taken \d+ s/);
    expect(bed.mirror.requests.filter((path) => path.includes('/dists/trixie/'))).toEqual([]);
    expect(status).toBe(1);
  });

  test('what is made of a missing part is missing too', async () => {
    await using bed = await makeBed();
    bed.mirror.faults = [{ path: /libdrm-tests/, fault: 'not there' }];
    const { status, stderr } = await bed.assembled(['initramfs']);
    expect(stderr).toContain('assemble: missing: utree initramfs\n');
    expect(stderr).toContain('what is here: it is made of utree, which is missing\n');
    expect(status).toBe(1);
  });

  test('where a part cannot be made anew the one from before serves, unless a fresh one was asked for', async () => {
    await using bed = await makeBed();
    await bed.assembled(['ovmf']);
    // As after a change of how it is made.
    const stamp = join(bed.cache, 'stamps/ovmf');
    await writeFile(stamp, 'other');
    bed.mirror.faults = [{ path: /ovmf/, fault: 'not there' }];
    const again = await bed.assembled(['ovmf']);
    expect(again.stdout).toContain(
      'assemble: ovmf: the one from before stays, since a new one cannot be had\n',
    );
    expect(again.status).toBe(0);
    const fresh = await bed.assembled(['--fresh', 'ovmf']);
    expect(fresh.stderr).toContain('assemble: missing: ovmf\n');
    expect(fresh.status).toBe(1);
    expect(bed.isThere('ovmf/OVMF_CODE_4M.fd')).toBe(true);
    bed.mirror.faults = [];
    expect((await bed.assembled(['ovmf'])).stdout).toContain('assemble: ovmf: EDK2 1 from trixie: ');
    expect(await readFile(stamp, 'utf8')).toMatch(/^[0-9a-f]{64}$/m);
  });

  test('tests do not ask again for an hour for what was missing, a person does', async () => {
    await using bed = await makeBed();
    const remember = { VFIO_USER_GPU_REMEMBER_MISSING: '1' };
    bed.mirror.faults = [{ path: /igt/, fault: 'not there' }];
    const first = await bed.assembled(['igt'], remember);
    expect(first.status).toBe(1);
    bed.mirror.faults = [];
    bed.mirror.requests.length = 0;
    const again = await bed.assembled(['igt'], remember);
    expect(again.status).toBe(1);
    expect(again.stderr).toBe(first.stderr.slice(first.stderr.indexOf('assemble: missing: ')));
    expect(bed.mirror.requests).toEqual([]);
    const anHourAgo = Date.now() / 1000 - 61 * 60;
    await utimes(join(bed.cache, 'missing/igt'), anHourAgo, anHourAgo);
    expect((await bed.assembled(['igt'], remember)).status).toBe(0);
    bed.mirror.faults = [{ path: /igt/, fault: 'not there' }];
    expect((await bed.assembled(['--fresh', 'igt'])).status).toBe(1);
    bed.mirror.faults = [];
    expect((await bed.assembled(['--fresh', 'igt'])).status).toBe(0);
    expect(bed.isThere('missing/igt')).toBe(false);
  });

  test('killed in the middle it leaves no part, and nothing after the next run', async () => {
    await using bed = await makeBed();
    bed.mirror.faults = [{ path: /pool\/trixie\/ovmf/, fault: 'silent' }];
    const child = bed.start(['utree', 'ovmf'], { VFIO_USER_GPU_APT_TIMEOUT_SECONDS: '20' });
    await soon(() => expect(bed.mirror.requests).toContain('/pool/trixie/ovmf.deb'));
    process.kill(-child.pid!, 'SIGKILL');
    await once(child, 'close');
    expect((await bed.leftOver()).length).toBeGreaterThan(0);
    expect([bed.isThere('utree'), bed.isThere('ovmf')]).toEqual([true, false]);
    bed.mirror.faults = [];
    const { status, stdout } = await bed.assembled(['utree', 'ovmf']);
    expect(stdout).not.toContain('assemble: utree');
    expect(stdout).toContain('assemble: ovmf: EDK2 1 from trixie: ');
    expect(status).toBe(0);
    expect(await bed.leftOver()).toEqual([]);
  });
});
