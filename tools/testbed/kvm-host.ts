/**
 * This machine once more, with a KVM of its own: a guest with an emulated CPU that has SVM, and with all files of this
 * machine to read. Programs of this machine run in it as they are, VMMs with KVM among them.
 *
 *     await using host = await startKvmHost({ program: 'test/guest/nested/qemu.ts' });
 *     await host.scriptSucceeds(600_000);
 *
 * QEMU's emulation of SVM fails an assertion now and then; `emulationFault` tells that from other ends.
 */
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { assemble, cachePath } from './cache.ts';
import { type Guest, startGuest } from './qemu.ts';

export interface KvmHostOptions {
  /** A TypeScript file by its path in this repository, run by this machine's Node. */
  readonly program: string;
  readonly arguments?: readonly string[];
  /** Environment variables of the program. The others are not those of this process. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Files that the program needs besides the repository and the test bed's cache. */
  readonly files?: readonly string[];
  /** Is given what the program says, as it comes. */
  readonly onSerial?: (text: string) => void;
}

const repository = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const memoryMiB = 4096;

/**
 * Starts the program in such a guest; its exit status is the script's. Files cannot be changed there but in `/tmp` and
 * `/run`, which are new. What guests inside need has to be assembled before: there is no network.
 */
export async function startKvmHost({
  program,
  arguments: arguments_ = [],
  environment = {},
  files = [],
  onSerial,
}: KvmHostOptions): Promise<Guest> {
  await assemble('qemu', 'initramfs', 'kernel-6.12', 'kernel-newest');
  const variables = {
    ...environment,
    PATH: `${dirname(process.execPath)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
    VFIO_USER_GPU_CACHE: cachePath(),
  };
  const assignments = Object.entries(variables).map(([name, value]) => quote(`${name}=${value}`));
  const needed = [repository, cachePath(), dirname(process.execPath), ...files.map((file) => dirname(file))];
  const command = `cd ${quote(repository)} && exec node --import tsx ${[program, ...arguments_].map(quote).join(' ')}`;
  return await startGuest({
    kernel: 'kvm',
    modules: ['kvm', 'share'],
    memoryMiB,
    // With two, guests inside hang or fault when their page tables change: QEMU emulates SVM for one well.
    smp: 1,
    devices: [],
    qemuArguments: [
      ...['-cpu', 'EPYC,+svm,+npt'],
      ...['-virtfs', 'local,path=/,mount_tag=files,security_model=none,readonly=on,multidevs=remap'],
    ],
    ...(onSerial ? { onSerial } : {}),
    script: `
      mkdir /files /machine
      mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=512000 files /files || exit 1
      mount --bind /files /machine
      ln -s /proc/self/fd /dev/fd
      for folder in proc sys dev run tmp; do mount --rbind /$folder /machine/$folder || exit 1; done
      # What lies below one of these on this machine would be hidden.
      for folder in ${needed.map(quote).join(' ')}; do
        [ -d "/machine$folder" ] && continue
        mkdir -p "/machine$folder" && mount --bind "/files$folder" "/machine$folder" || exit 1
      done
      chroot /machine env -i ${assignments.join(' ')} sh -c ${quote(command)}`,
  });
}

/** The line in which QEMU, by what it printed, says that an assertion of its own ended it; undefined where none did. */
export function emulationFault(stderr: string): string | undefined {
  return /^.*(?:Assertion .* failed|assertion failed|should not be reached).*$/m.exec(stderr)?.[0];
}

/** A word for the shell. */
function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
