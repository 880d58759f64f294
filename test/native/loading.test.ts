/** An addon that is missing, or made for another machine: what to do stands in the error. */
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { runNode, temporaryFolder } from './support.ts';

const tsx = import.meta.resolve('tsx');
const index = fileURLToPath(new URL('../../native/index.ts', import.meta.url));
const remedy = [
  'In a checkout `npm run build:native` builds it, with g++, make and cmake. An installed package has it for the',
  `machines it was packed for: \`npm ci && npm pack\` in a checkout makes one for linux on ${process.arch}.`,
].join('\n');

test('where no addon is, the error has both places and the remedy', async () => {
  const folder = temporaryFolder();
  copyFileSync(index, join(folder, 'index.mts'));
  const { status, stderr } = await runNode(['--import', tsx, join(folder, 'index.mts')], {
    VFIO_USER_GPU_ADDON: '',
  });
  expect(status).toBe(1);
  expect(stderr).toContain(`it is neither ${join(folder, 'build/Release/vfio_user_gpu.node')} nor /`);
  expect(stderr).toContain(remedy);
});

test('where the addon is not one, the error has the words of the loader and the remedy', async () => {
  const addon = join(temporaryFolder(), 'other.node');
  writeFileSync(addon, 'made for something else');
  const { status, stderr } = await runNode(['--import', tsx, index], { VFIO_USER_GPU_ADDON: addon });
  expect(status).toBe(1);
  expect(stderr).toContain(`the native addon does not load: ${addon}: `);
  expect(stderr).toContain(remedy);
});
