/**
 * Memory that grows and shrinks under cloud-hypervisor: virtio-mem maps it in blocks of 2 MiB, and unmaps many at once.
 * Linux is slow to give it back in an emulation, and its own business: what counts is that nobody waits for ever.
 */
import { deepEqual, equal } from 'node:assert/strict';
import { type CloudHypervisor, startCloudHypervisor } from '../../../tools/testbed/cloud-hypervisor.ts';
import { type Server, startServer } from '../../../tools/testbed/server.ts';
import { bootTimeoutMs, eventually, type Step } from './steps.ts';

const MiB = 2 ** 20;

let server: Server;
let vm: CloudHypervisor;

const windowsBytes = () => server.metric('dma_bytes');

export const steps: readonly Step[] = [
  {
    name: 'memory that is plugged in reaches the device, block by block',
    async run() {
      server = await startServer();
      vm = await startCloudHypervisor({
        arguments: [
          ...['--memory', 'size=512M,shared=on,hotplug_method=virtio-mem,hotplug_size=512M'],
          ...['--user-device', `socket=${server.socketPath}`],
          // For its thread of virtio-mem the filter lacks what an unmapping needs.
          ...['--seccomp', 'log'],
        ],
      });
      await vm.ready(bootTimeoutMs);
      const before = await windowsBytes();
      await vm.api('vm.resize', { desired_ram: 768 * MiB });
      await eventually('the windows to grow', async () => (await windowsBytes()) === before + 256 * MiB);
    },
  },
  {
    name: 'what is taken out again is unmapped, and nobody waits for ever',
    async run() {
      const before = await windowsBytes();
      await vm.api('vm.resize', { desired_ram: 512 * MiB });
      await eventually(
        'the windows to shrink',
        async () => (await windowsBytes()) === before - 256 * MiB,
        120_000,
      );
      // A client that waits for the rest of an answer waits under a lock that this needs.
      await vm.api('vm.info');
      deepEqual(
        server.log.filter(({ level }) => level >= 40),
        [],
      );
      equal(await server.metric('client_connected'), 1);
    },
  },
];
