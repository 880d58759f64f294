/**
 * Starts a guest with a shell on its serial line, to try things by hand. Ctrl-] ends it.
 *
 *     npx tsx tools/testbed/shell.ts [--vfio-user SOCKET]... [--outputs N] [--kernel 6.12|newest] [--ovmf]
 *                                    [--script FILE] [--trace PATTERN]...
 *
 * Without --vfio-user the guest has QEMU's own virtio-gpu. With --script it runs that and switches off.
 */
import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { leaveIfMissing } from './cache.ts';
import { type Device, startGuest } from './qemu.ts';

const { values } = parseArgs({
  options: {
    'vfio-user': { type: 'string', multiple: true, default: [] },
    outputs: { type: 'string', default: '1' },
    kernel: { type: 'string', default: '6.12' },
    ovmf: { type: 'boolean', default: false },
    script: { type: 'string' },
    trace: { type: 'string', multiple: true, default: [] },
  },
});
if (values.kernel !== '6.12' && values.kernel !== 'newest') throw new Error('--kernel is 6.12 or newest');
const served: Device[] = values['vfio-user'].map((socketPath) => ({ kind: 'vfio-user', socketPath }));
const own: Device = { kind: 'virtio-gpu', outputs: Number(values.outputs) };

await using guest = await startGuest({
  kernel: values.kernel,
  firmware: values.ovmf ? 'ovmf' : 'seabios',
  devices: served.length > 0 ? served : [own],
  traces: values.trace,
  ...(values.script === undefined ? {} : { script: await readFile(values.script, 'utf8') }),
  onSerial: (text) => process.stdout.write(text),
}).catch(leaveIfMissing);
if (process.stdin.isTTY) process.stdin.setRawMode(true);
process.stdin.setEncoding('utf8').on('data', (text: string) => {
  if (text === '\x1d') guest.kill();
  else guest.write(text);
});
await guest.exited;
process.stdin.destroy();
process.stderr.write(guest.stderr);
