/** How many files of tests with real guests run at a time. */

const GiB = 2 ** 30;
/** A guest without KVM has two CPUs to emulate, beside the server, its viewers and the test. */
const CPUS_PER_FILE = 2;
/** The largest guest, this machine once more (`tools/testbed/kvm-host.ts`), has 4 GiB, and QEMU, the server and Node want theirs. */
const BYTES_PER_FILE = 6 * GiB;

/** As many files as there are CPUs and memory that nobody uses for; one in any case. */
export function filesAtOnce({
  cpus,
  memoryBytes,
}: {
  readonly cpus: number;
  readonly memoryBytes: number;
}): number {
  return Math.max(1, Math.floor(Math.min(cpus / CPUS_PER_FILE, memoryBytes / BYTES_PER_FILE)));
}
