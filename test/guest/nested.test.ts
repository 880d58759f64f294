/**
 * Whole VMs with KVM, on a machine that has it: this one again, as a guest with an emulated CPU (`kvm-host.ts`). What
 * happens there is in `nested/`, as a story in steps; this says how it went.
 */
import { resolve } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { emulationFault, type KvmHostOptions, startKvmHost } from '../../tools/testbed/kvm-host.ts';
import { steps as cloudHypervisorSteps } from './nested/cloud-hypervisor.ts';
import { steps as documentationSteps } from './nested/documentation.ts';
import { steps as qemuSteps } from './nested/qemu.ts';
import { readReports, type StepReport } from './nested/steps.ts';
import { steps as virtioMemSteps } from './nested/virtio-mem.ts';
import { skipBecause } from './support.ts';

/** For one try. An idle machine of two cores takes a fifth of that. */
const storyTimeoutMs = 600_000;

/** Runs the steps of a file of `nested/`. When QEMU's emulation of SVM fails, once more. */
async function tell(
  story: string,
  options: Pick<KvmHostOptions, 'environment' | 'files'> = {},
): Promise<Map<string, StepReport>> {
  for (let isLast = false; ; isLast = true) {
    await using host = await startKvmHost({
      program: 'test/guest/nested/run.ts',
      arguments: [story],
      ...options,
    });
    try {
      await host.scriptSucceeds(storyTimeoutMs);
      return new Map(readReports(host.serial).map((report) => [report.name, report]));
    } catch (error) {
      const fault = emulationFault(host.stderr);
      if (isLast || fault === undefined) throw error;
      console.log(`the emulation of SVM failed, so once more: ${fault}`);
    }
  }
}

describe('under QEMU with KVM', () => {
  let reports: Map<string, StepReport>;

  beforeAll(async () => {
    reports = await tell('qemu');
  }, 2 * storyTimeoutMs);

  test.each(qemuSteps)('$name', ({ name }) => expectDone(reports, name));
});

describe.each([
  ['a VM', 'cloud-hypervisor', cloudHypervisorSteps],
  ['memory', 'virtio-mem', virtioMemSteps],
  ['the page', 'documentation', documentationSteps],
] as const)('under cloud-hypervisor with KVM: %s', (_, story, steps) => {
  const { CLOUD_HYPERVISOR: program } = process.env;
  let reports: Map<string, StepReport>;

  beforeAll(async () => {
    if (program === undefined) return;
    const CLOUD_HYPERVISOR = resolve(program);
    reports = await tell(story, { environment: { CLOUD_HYPERVISOR }, files: [CLOUD_HYPERVISOR] });
  }, 2 * storyTimeoutMs);

  test.for(steps)('$name', ({ name }, context) => {
    if (program === undefined)
      skipBecause(context, 'CLOUD_HYPERVISOR does not name a cloud-hypervisor program');
    expectDone(reports, name);
  });
});

function expectDone(reports: Map<string, StepReport>, name: string): void {
  const report = reports.get(name);
  expect(report, 'the steps before it went well').toBeDefined();
  expect(report!.failure).toBe(undefined);
}
