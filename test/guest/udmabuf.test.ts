/**
 * Exports by udmabuf, in guests whose kernel plays the host: most machines that run these tests have no
 * `/dev/udmabuf`. The same checks run on this machine where it has (`test/server/backends/udmabuf.test.ts`).
 */
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { nodeDisk, nodeProgram, runNodeProgram } from '../../tools/testbed/node.ts';
import { startGuest } from '../../tools/testbed/qemu.ts';
import { udmabufChecks } from '../server/backends/udmabuf-checks.ts';
import { kernels } from './support.ts';

interface Report {
  readonly name: string;
  readonly ms: number;
  readonly failure?: string;
}

describe.each(kernels)('with Linux %s as the host', (kernel) => {
  const reports = new Map<string, Report>();

  beforeAll(async () => {
    await using guest = await startGuest({
      kernel,
      devices: [],
      modules: ['disk'],
      drive: await nodeDisk(),
      extraFiles: await nodeProgram(join(import.meta.dirname, 'udmabuf')),
      script: runNodeProgram('test/guest/udmabuf/run.js'),
    });
    await guest.scriptSucceeds();
    for (const [, json] of guest.serial.matchAll(/^@@CHECK (.*)$/gm)) {
      const report = JSON.parse(json!) as Report;
      reports.set(report.name, report);
    }
  });

  test.each(udmabufChecks)('$name', ({ name }) => {
    const report = reports.get(name);
    expect(report, 'the guest reports it').toBeDefined();
    expect(report!.failure).toBe(undefined);
  });
});
