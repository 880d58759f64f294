/**
 * Two projects: `unit` needs nothing but the built addon, `guest` boots real guests and needs the test bed
 * of `tools/testbed`. Files with guests run side by side only where there is room for more than one. A run that leaves
 * something in the temporary folder fails.
 */
import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { filesAtOnce } from './guest/side-by-side.ts';

export default defineConfig({
  test: {
    root: new URL('..', import.meta.url).pathname,
    globalSetup: 'test/temporary-folder.ts',
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/{pci,server,native,tools}/**/*.test.ts'],
          pool: 'forks',
          testTimeout: 30_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'guest',
          include: ['test/{guest,clients,browser}/**/*.test.ts'],
          runner: 'test/guest/runner.ts',
          globalSetup: 'test/guest/met.ts',
          // What could not be had from the archive is not asked for again by every guest.
          env: { VFIO_USER_GPU_REMEMBER_MISSING: '1' },
          pool: 'forks',
          maxWorkers: filesAtOnce({ cpus: availableParallelism(), memoryBytes: process.availableMemory() }),
          // After the others: as many files at once are theirs alone.
          sequence: { groupOrder: 1 },
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
});
