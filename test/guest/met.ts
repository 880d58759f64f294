/** Says at the start of the tests with real guests which kernels they meet, and which QEMU. */
import { readFile } from 'node:fs/promises';
import { cachePath, readKernelInfo } from '../../tools/testbed/cache.ts';

export default async function setup(): Promise<void> {
  const described = (['6.12', 'newest'] as const).map(async (name) => {
    const info = await readKernelInfo(name).catch(() => undefined);
    return `${name}: ${info ? `Linux ${info.version} from ${info.origin}` : 'not here yet'}`;
  });
  const qemu = await readFile(cachePath('qemu', 'origin'), 'utf8').catch(() => 'not here yet');
  console.log(`kernels: ${(await Promise.all(described)).join('; ')}`);
  console.log(`QEMU: ${qemu.trim()}`);
}
