/**
 * Runs programs of IGT, the test suite of Linux graphics drivers, in one guest on one device, and says how each
 * of their subtests ended. Failures are often the driver's own: the useful question is whether two devices give
 * the same list (`compareIgt`).
 *
 *     npx tsx tools/testbed/igt.ts [--vfio-user SOCKET] [--kernel 6.12|newest] [PROGRAM...]
 *
 * prints the report as JSON. Without --vfio-user it runs on QEMU's own virtio-gpu.
 */
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { assemble, cachePath, type KernelName, leaveIfMissing } from './cache.ts';
import { type Device, type GuestOptions, startGuest } from './qemu.ts';

/**
 * What runs unless something else is asked for. All of it together is called the list. Not in it, because they take long
 * and send the device nothing that the others do not:
 *
 * - dumb_buffer@create-clear: 30 seconds of finding out whether the kernel hands out cleared pages;
 * - drm_read: 34 seconds of waiting for vertical blanks, which Linux 7.2 makes up by a timer; 6.12 has none and skips.
 */
export const igtPrograms: readonly string[] = [
  'core_getversion',
  'core_getclient',
  'core_auth',
  'core_setmaster',
  'drm_virtgpu',
  'dumb_buffer --run-subtest *,!create-clear',
  'syncobj_basic',
  'kms_addfb_basic',
  'kms_getfb',
  'kms_rmfb',
  'kms_properties',
  'kms_prop_blob',
  'kms_sysfs_edid_timing',
  'kms_setmode',
  'kms_invalid_mode',
  'kms_atomic',
  'kms_vblank',
  'kms_flip --run-subtest basic-plain-flip',
  'kms_flip --run-subtest basic-flip-vs-modeset',
  'kms_cursor_legacy --run-subtest basic-*',
  'kms_lease',
  'kms_dirtyfb',
  'kms_universal_plane',
  'kms_prime',
  'prime_self_import',
  'dmabuf',
];

export type IgtOutcome = 'pass' | 'fail' | 'skip' | 'crash' | 'timeout';

export interface IgtResult {
  readonly outcome: IgtOutcome;
  readonly seconds: number;
  /** For a failure: the assertion that did not hold. */
  readonly reason?: string;
}

export interface IgtReport {
  readonly igt: string;
  readonly qemu: string;
  readonly kernel: string;
  /** By `program`, `program@subtest` or `program@subtest@dynamic-subtest`. */
  readonly results: Readonly<Record<string, IgtResult>>;
  /** How long each program took, start and end included. */
  readonly programSeconds: Readonly<Record<string, number>>;
}

export interface IgtOptions {
  readonly device: Device;
  readonly kernel?: KernelName;
  /** Command lines; `igtPrograms` by default. */
  readonly programs?: readonly string[];
  /** How long one program may take, in the guest. */
  readonly programTimeoutS?: number;
  /** Anything else about the guest. */
  readonly guest?: Partial<GuestOptions>;
  readonly onProgram?: (program: string, seconds: number) => void;
}

/** Runs IGT programs, all in one guest. */
export async function runIgt(options: IgtOptions): Promise<IgtReport> {
  const { programs = igtPrograms, programTimeoutS = 120 } = options;
  await assemble('igt');
  // The seed is fixed, so that two runs do the same. The programs' chatter stays in the guest.
  const script = [
    'export IGT_FORCE_DRIVER=virtio_gpu IGT_SRANDOM=1',
    // So that loading the disk is not counted.
    'in-disk /bin/true',
    ...programs.map((program) => runInGuest(program, programTimeoutS)),
  ].join('\n');
  await using guest = await startGuest({
    memoryMiB: 1024,
    ...options.guest,
    ...(options.kernel === undefined ? {} : { kernel: options.kernel }),
    devices: [options.device, ...(options.guest?.devices ?? [])],
    modules: ['gpu', 'disk'],
    drive: cachePath('igt', 'igt.ext4'),
    script,
  });
  const { qemu: version } = (await guest.qmp('query-version')) as { qemu: Record<string, number> };
  const qemu = `${version.major}.${version.minor}.${version.micro}`;
  const [, kernel = ''] = await guest.waitFor(/^@@BOOTED (\S+)\n/m);
  const results: Record<string, IgtResult> = {};
  const programSeconds: Record<string, number> = {};
  for (const program of programs) {
    const [, status, milliseconds] = await guest.waitFor(
      /^@@IGT end status=(\d+) ms=(\d+)\n/m,
      programTimeoutS * 1000 + 30_000,
    );
    const seconds = Number(milliseconds) / 1000;
    programSeconds[program] = seconds;
    options.onProgram?.(program, seconds);
    const output = guest.serial.split(`@@IGT begin ${program}\n`)[1]!.split('@@IGT end')[0]!;
    Object.assign(results, parseIgtOutput(program, output, Number(status), seconds));
  }
  await guest.scriptSucceeds();
  const igt = /^IGT-Version: ([\d.]+)/m.exec(guest.serial)?.[1] ?? 'unknown';
  return { igt, qemu, kernel, results, programSeconds };
}

/** Says which subtests ended differently, one line each. An empty list means that the devices behave alike. */
export function compareIgt(actual: IgtReport, expected: IgtReport): string[] {
  const names = new Set([...Object.keys(actual.results), ...Object.keys(expected.results)]);
  return [...names].sort().flatMap((name) => {
    const [is, should] = [actual.results[name], expected.results[name]];
    if (is?.outcome === should?.outcome) return [];
    const reason = is?.reason ? ` (${is.reason})` : '';
    return [`${name}: ${is?.outcome ?? 'did not run'}${reason}, expected ${should?.outcome ?? 'not to run'}`];
  });
}

/** Names of what passes on the other device and not on this one. */
export function igtLosses(actual: IgtReport, expected: IgtReport): string[] {
  return Object.keys(expected.results).filter(
    (name) => expected.results[name]?.outcome === 'pass' && actual.results[name]?.outcome !== 'pass',
  );
}

/** The part of the guest's script that runs one program. */
function runInGuest(program: string, timeoutS: number): string {
  const [name, ...rest] = program.split(' ');
  const interesting =
    '^IGT-Version: |^Starting (dynamic )?subtest: |^(Dynamic s|S)ubtest [^ ]+: |^[A-Z]+ \\([0-9.]+s\\)|CRITICAL: Failed assertion';
  return `
echo '@@IGT begin ${program}'
read uptime _ </proc/uptime
in-disk timeout ${timeoutS} /usr/libexec/igt-gpu-tools/${name} ${rest.map((word) => `'${word}'`).join(' ')} >/run/igt.log 2>&1
status=$?
read end _ </proc/uptime
grep -E '${interesting}' /run/igt.log
echo "@@IGT end status=$status ms=$(awk "BEGIN { print int(($end - $uptime) * 1000) }")"`;
}

/** Reads what an IGT program printed. */
function parseIgtOutput(
  program: string,
  output: string,
  status: number,
  seconds: number,
): Record<string, IgtResult> {
  const name = program.split(' ')[0]!;
  const results: Record<string, IgtResult> = {};
  let subtest = '';
  let reason: string | undefined;
  for (const line of output.split('\n')) {
    const failed = /CRITICAL: Failed assertion: (.*)/.exec(line);
    if (failed) reason ??= failed[1]!;
    const start = /^Starting subtest: (\S+)/.exec(line);
    if (start) {
      subtest = start[1]!;
      reason = undefined;
    }
    if (line.startsWith('Starting dynamic subtest')) reason = undefined;
    const end = /^(?:(Dynamic subtest|Subtest) (\S+): )?([A-Z]+) \(([\d.]+)s\)/.exec(line);
    if (!end) continue;
    const path =
      end[1] === undefined ? [name] : end[1] === 'Subtest' ? [name, end[2]!] : [name, subtest, end[2]!];
    const outcome = outcomes[end[3]!] ?? 'crash';
    results[path.join('@')] = {
      outcome,
      seconds: Number(end[4]),
      ...(outcome === 'fail' && reason !== undefined ? { reason } : {}),
    };
  }
  // 124 is timeout's own status; nothing printed means that the program ended early, one way or the other.
  if (status === 124) results[name] = { outcome: 'timeout', seconds };
  else if (Object.keys(results).length === 0)
    results[name] = { outcome: statuses[status] ?? 'crash', seconds };
  return results;
}

const outcomes: Readonly<Record<string, IgtOutcome>> = {
  SUCCESS: 'pass',
  FAIL: 'fail',
  SKIP: 'skip',
  CRASH: 'crash',
  TIMEOUT: 'timeout',
};
const statuses: Readonly<Record<number, IgtOutcome>> = { 0: 'pass', 77: 'skip', 98: 'fail' };

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: { 'vfio-user': { type: 'string' }, kernel: { type: 'string', default: '6.12' } },
    allowPositionals: true,
  });
  if (values.kernel !== '6.12' && values.kernel !== 'newest') throw new Error('--kernel is 6.12 or newest');
  const socketPath = values['vfio-user'];
  const report = await runIgt({
    device: socketPath === undefined ? { kind: 'virtio-gpu' } : { kind: 'vfio-user', socketPath },
    kernel: values.kernel,
    ...(positionals.length > 0 ? { programs: positionals } : {}),
    onProgram: (program, seconds) => console.error(`${seconds.toFixed(1).padStart(6)} s  ${program}`),
  });
  console.log(JSON.stringify(report, null, 2));
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href)
  await main().catch(leaveIfMissing);
