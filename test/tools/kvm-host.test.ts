/** The guest that plays a host with KVM: which of its ends are the emulation's. */
import { expect, test } from 'vitest';
import { emulationFault } from '../../tools/testbed/kvm-host.ts';

test.each([
  ["qemu-system-x86_64: ../target/i386/helper.c:1: do_it: Assertion `x != y' failed."],
  ['ERROR:../accel/tcg/cpu-exec.c:1:do_it: assertion failed: (cpu == current_cpu)'],
  ['ERROR:../target/i386/tcg/translate.c:1:do_it: code should not be reached'],
])('an assertion of QEMU is told by its line: %s', (line) => {
  expect(emulationFault(`a warning\n${line}\nBail out!\n`)).toBe(line);
});

test('other ends are not', () => {
  expect(emulationFault('qemu-system-x86_64: -virtfs: there is no option like that\n')).toBe(undefined);
  expect(emulationFault('')).toBe(undefined);
});
