/**
 * What passes of IGT, the test suite of Linux graphics drivers, on QEMU's own virtio-gpu passes on our device: both run
 * the list, each in a guest of its own, at the same time. igt-results.md is the outcome of one such run;
 *
 *     IGT_REFRESH=1 npx vitest run --config test/vitest.config.ts --project guest test/guest/igt.test.ts
 *
 * writes it anew. The test does not compare with it: what a kernel or an IGT of another version does differently, it
 * does on both devices.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { afterAll, describe, expect, test } from 'vitest';
import type { KernelName } from '../../tools/testbed/cache.ts';
import { type IgtReport, igtLosses, igtPrograms, runIgt } from '../../tools/testbed/igt.ts';
import { expectNoComplaints, kernels, startServer } from './support.ts';

/** What is known to pass at times and fail at others on our device, by name, with the reason. There is nothing. */
const knownFlaky: Readonly<Record<string, string>> = {};

const tablePath = new URL('igt-results.md', import.meta.url);
const { IGT_REFRESH: refresh } = process.env;

interface Pair {
  readonly own: IgtReport;
  readonly ours: IgtReport;
}
const pairs = new Map<KernelName, Pair>();

describe.each(kernels)('with Linux %s', (kernel) => {
  test("what passes on QEMU's own device passes on ours", async () => {
    await using server = await startServer();
    const options = { kernel, programTimeoutS: 240 };
    const [own, ours] = await Promise.all([
      runIgt({ ...options, device: { kind: 'virtio-gpu' } }),
      runIgt({ ...options, device: server.device }),
    ]);
    pairs.set(kernel, { own, ours });
    expectNoComplaints(server);
    // Enough to mean something.
    const passed = Object.values(own.results).filter(({ outcome }) => outcome === 'pass');
    expect(passed.length).toBeGreaterThan(120);

    const losses = igtLosses(ours, own).filter((name) => !(name in knownFlaky));
    if (losses.length === 0) return;
    // Some of these programs measure time. A loss is one that is lost again when nothing else is running.
    const names = new Set(losses.map((name) => name.split('@')[0]));
    const programs = igtPrograms.filter((program) => names.has(program.split(' ')[0]));
    console.log(`again, because of ${losses.join(', ')}: ${programs.join(', ')}`);
    const again = await runIgt({ ...options, device: server.device, programs });
    const lost = losses.filter((name) => again.results[name]?.outcome !== 'pass');
    expect(lost.map((name) => ({ name, ...again.results[name] }))).toEqual([]);
  }, 900_000);
});

afterAll(async () => {
  if (pairs.size < kernels.length) return;
  const table = makeTable([...pairs.values()]);
  if (refresh) {
    await writeFile(tablePath, table);
    return;
  }
  const lines = new Set((await readFile(tablePath, 'utf8')).split('\n'));
  const news = table.split('\n').filter((line) => !lines.has(line));
  if (news.length > 0) console.log(`other than in igt-results.md:\n${news.join('\n')}`);
});

/** One row per subtest, and for every kernel the outcome on both devices. */
function makeTable(all: readonly Pair[]): string {
  const { igt, qemu } = all[0]!.own;
  const names = new Set(
    all.flatMap(({ own, ours }) => [...Object.keys(own.results), ...Object.keys(ours.results)]),
  );
  const rows = [...names].sort().map((name) => {
    const [program, ...subtest] = name.split('@');
    const outcomes = all.flatMap((pair) =>
      [pair.own, pair.ours].map((report) => report.results[name]?.outcome),
    );
    return [program!, subtest.join('@'), ...outcomes.map((outcome) => outcome ?? '')];
  });
  const columns = all.flatMap(({ own }) => {
    const version = own.kernel.split(/[+-]/)[0];
    return [`${version}, QEMU's own`, `${version}, ours`];
  });
  const count = (at: number) => rows.filter((row) => row[at] === 'pass').length;
  const total = ['passed', '', ...columns.map((_, index) => String(count(index + 2)))];
  return [
    `<!-- Made by igt.test.ts with IGT_REFRESH=1. -->`,
    '',
    `# IGT ${igt} on QEMU ${qemu}`,
    '',
    `Linux ${all.map(({ own }) => own.kernel).join(' and ')}, TCG. Failures are the driver's: it has no vertical blank in`,
    'Linux 6.12, no 3D without a renderer, and only full-screen planes.',
    '',
    ...[['program', 'subtest', ...columns], ['---', '---', ...columns.map(() => '---')], total, ...rows].map(
      (cells) => `| ${cells.join(' | ')} |`,
    ),
    '',
  ].join('\n');
}
