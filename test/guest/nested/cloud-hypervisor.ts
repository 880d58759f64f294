/** The real cloud-hypervisor with a whole guest and three of our devices, through all that a VM goes through. */
import { deepEqual, equal, match } from 'node:assert/strict';
import { type CloudHypervisor, startCloudHypervisor } from '../../../tools/testbed/cloud-hypervisor.ts';
import { consoleLine, parseConsoleFont, readConsole } from '../../../tools/testbed/console.ts';
import { patternPicture } from '../../../tools/testbed/patterns.ts';
import { comparePictures } from '../../../tools/testbed/pictures.ts';
import { type Server, startServer } from '../../../tools/testbed/server.ts';
import { bootTimeoutMs, eventually, type Step } from './steps.ts';

const [gpuId, keyboardId, tabletId] = ['gpu', 'keyboard', 'tablet'];

let server: Server;
let vm: CloudHypervisor;

const deviceOf = (index: number) =>
  `socket=${server.socketPaths[index]},id=${[gpuId, keyboardId, tabletId][index]}`;

async function start(arguments_: readonly string[] = []): Promise<void> {
  server = await startServer({
    displays: ['1024x768'],
    inputs: ['keyboard', 'tablet'],
    arguments: ['--host-visible-size', '256M', ...arguments_],
  });
  vm = await startCloudHypervisor({
    arguments: [...['--memory', 'size=512M,shared=on'], ...['--user-device', ...[0, 1, 2].map(deviceOf)]],
  });
  await vm.ready(bootTimeoutMs);
}

/** The driver has the card; what it draws is right, and what is typed arrives. */
async function works(): Promise<void> {
  match(
    await vm.run(
      'card=/sys/class/drm/card0/device; cat $card/vendor $card/device; readlink $card/virtio*/driver',
    ),
    /^0x1af4\n0x1050\n.*\/virtio_gpu\n$/,
  );
  await draws();
  await types();
  await points();
}

async function draws(): Promise<void> {
  vm.write('kms --output 0=1024x768 --flips 10');
  for (const frame of [0, 10]) {
    await vm.waitFor('@@SHOT');
    equal(comparePictures(await server.screenshot(), patternPicture(1024, 768, 0, frame)), undefined);
    vm.write('');
  }
  await vm.waitFor(/^DONE 0\n/m);
}

async function types(): Promise<void> {
  vm.write("evdev watch 'vfio-user-gpu keyboard' 2");
  await vm.waitFor('EVDEV watching\n');
  await server.ask('POST', '/v1/input/keys', { keys: ['a'] });
  // How soon it is up again, and how often it repeats until then, is up to the emulation.
  await vm.waitFor('EVDEV event 1 30 1\nEVDEV event 0 0 0\nDONE 0\n');
}

let column = 0;
async function points(): Promise<void> {
  vm.write("evdev watch 'vfio-user-gpu tablet' 2");
  await vm.waitFor('EVDEV watching\n');
  await server.ask('POST', '/v1/input/pointer', { action: 'move', x: ++column, y: 0 });
  await vm.waitFor(/^EVDEV event 3 \d+ \d+\nEVDEV event .*\nDONE 0\n/m);
}

export const steps: readonly Step[] = [
  {
    name: 'three devices are found, a picture is right pixel by pixel, and keys and pointer arrive',
    async run() {
      await start(['--once']);
      await works();
    },
  },
  {
    name: 'the text console can be read off the screenshot',
    async run() {
      vm.write("console 'under cloud-hypervisor'");
      const font = parseConsoleFont(await vm.waitFor(consoleLine));
      await eventually(
        'the text to be on the screen',
        async () => readConsole(await server.screenshot(), font).join('\n') === 'under cloud-hypervisor',
      );
      await vm.waitFor(/^DONE 0\n/m);
    },
  },
  {
    name: 'every device is removed from the running guest and added again',
    async run() {
      for (const [index, id] of [gpuId, keyboardId, tabletId].entries()) {
        const from = server.log.length;
        await vm.api('vm.remove-device', { id });
        await server.waitForLog('client disconnected', 60_000, from);
        await vm.api('vm.add-user-device', { socket: server.socketPaths[index], id });
      }
      await vm.run(
        'for i in $(seq 100); do [ -e /sys/class/drm/card0 ] && break; sleep 0.2; done; [ -e /sys/class/drm/card0 ]',
      );
      await works();
    },
  },
  {
    name: 'a VM that is paused and resumed goes on',
    async run() {
      await vm.api('vm.pause');
      await vm.api('vm.resume');
      await works();
    },
  },
  {
    name: 'a guest reboots under a server with --once, with three new connections',
    async run() {
      const from = server.log.length;
      vm.write('reboot -f');
      await vm.ready(bootTimeoutMs);
      equal(server.log.slice(from).filter(({ msg }) => msg === 'client connected').length, 3);
      await works();
    },
  },
  {
    name: 'when the guest has switched off nothing was complained about, and the server leaves',
    async run() {
      vm.write('poweroff -f');
      equal(await vm.exited, 0);
      equal(await server.exited, 0);
      deepEqual(
        server.log.filter(({ level }) => level >= 40),
        [],
      );
      equal(vm.stderr.match(/ERROR|panicked/), null, vm.stderr);
    },
  },
  {
    name: 'a VM goes on when the server has been killed',
    async run() {
      await start();
      server.kill();
      await server.exited;
      equal(await vm.run('echo still here'), 'still here\n');
      await vm[Symbol.asyncDispose]();
    },
  },
];
