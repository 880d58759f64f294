/**
 * Linux under QEMU with KVM on our device: what is emulated elsewhere in these tests is not here. Accesses to the device
 * come from a vCPU that KVM runs, and guest memory is mapped by the guest's own page tables.
 */
import { deepEqual, equal, match } from 'node:assert/strict';
import { patternPicture } from '../../../tools/testbed/patterns.ts';
import { comparePictures } from '../../../tools/testbed/pictures.ts';
import { type Guest, startGuest } from '../../../tools/testbed/qemu.ts';
import { type Server, startServer } from '../../../tools/testbed/server.ts';
import { bootTimeoutMs, type Step } from './steps.ts';

const script = `
  card=/sys/class/drm/card0/device
  echo "CARD $(cat $card/vendor) $(cat $card/device) $(basename $(readlink /sys/class/drm/card0/device/virtio*/driver))"
  dmesg -r | grep -E '^<[0-4]>' | grep -E "drm|virtio|$(basename $(readlink -f $card))" | sed 's/^/COMPLAINT /'
  dmesg | grep 'Hypervisor detected: KVM'
  kms --output 0=1024x768 --flips 10
  evdev watch 'vfio-user-gpu keyboard' 2
  evdev watch 'vfio-user-gpu tablet' 3
  echo WHAT; read what
  case $what in reboot) reboot -f ;; off) exit 0 ;; esac
  sleep 1000`;

function story(kernel: '6.12' | 'newest'): Step[] {
  let server: Server;
  let guest: Guest;

  /** What a guest does from its boot to its question what to do next. */
  const lives = async () => {
    await guest.waitFor('@@BOOTED', bootTimeoutMs);
    await guest.waitFor('\nCARD 0x1af4 0x1050 virtio_gpu\n');
    await guest.waitFor('Hypervisor detected: KVM\n');
    for (const frame of [0, 10]) {
      await guest.waitFor('@@SHOT');
      const picture = await server.screenshot();
      equal(comparePictures(picture, patternPicture(1024, 768, 0, frame)), undefined);
      guest.write('\n');
    }
    await guest.waitFor('EVDEV watching\n');
    await server.ask('POST', '/v1/input/keys', { keys: ['a'] });
    // How soon it is up again, and how often it repeats until then, is up to the emulation.
    await guest.waitFor('EVDEV event 1 30 1\nEVDEV event 0 0 0\n');
    await guest.waitFor('EVDEV watching\n');
    await server.ask('POST', '/v1/input/pointer', { action: 'move', x: 0, y: 767 });
    await guest.waitFor(/EVDEV event 3 \d+ \d+\nEVDEV event 3 \d+ \d+\nEVDEV event 0 0 0\n/);
    await guest.waitFor('WHAT\n');
  };

  return [
    {
      name: `Linux ${kernel} finds the card, draws pixel by pixel what it should, and gets what is typed`,
      async run() {
        server = await startServer({
          displays: ['1024x768'],
          inputs: ['keyboard', 'tablet'],
          arguments: ['--host-visible-size', '256M'],
        });
        guest = await startGuest({
          kernel,
          accel: 'kvm',
          smp: 1,
          reboots: true,
          devices: server.devices,
          script,
        });
        await lives();
        equal(guest.serial.includes('COMPLAINT'), false, guest.serial);
      },
    },
    {
      name: `Linux ${kernel} reboots, and all of that is there again`,
      async run() {
        guest.write('reboot\n');
        await lives();
      },
    },
    // One kernel is enough for what the VMM does.
    ...(kernel === '6.12'
      ? [
          {
            name: `Linux ${kernel} is reset by the VMM, and all of that is there again`,
            async run() {
              await guest.qmp('system_reset');
              await lives();
            },
          },
        ]
      : []),
    {
      name: `when Linux ${kernel} has switched off, nothing was complained about, and nothing is held`,
      async run() {
        guest.write('off\n');
        equal(await guest.exited, 0);
        match(guest.stderr, /^$/);
        await server.waitForLog('client disconnected');
        deepEqual(
          server.log.filter(({ level }) => level >= 40),
          [],
        );
        for (const name of ['client_connected', 'resources', 'dma_windows'])
          equal(await server.metric(name), 0, name);
        await server.stop();
      },
    },
  ];
}

export const steps: readonly Step[] = [...story('6.12'), ...story('newest')];
