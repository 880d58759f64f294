/** How many files of tests with real guests run at a time, on which machine. */
import { expect, test } from 'vitest';
import { filesAtOnce } from '../guest/side-by-side.ts';

const GiB = 2 ** 30;

test.each([
  [1, 64, 1],
  [2, 64, 1],
  [3, 64, 1],
  [4, 11, 1],
  [4, 12, 2],
  [16, 23, 3],
  [16, 128, 8],
  [16, 1, 1],
])('with %i CPUs and %i GiB of memory to have, %i', (cpus, memoryGiB, files) => {
  expect(filesAtOnce({ cpus, memoryBytes: memoryGiB * GiB })).toBe(files);
});
