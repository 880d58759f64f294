/** Recorded exchanges, played against our server. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { GpuServer } from '../../../server/gpu-server.ts';
import { payloadBytes, readRecording } from '../../../server/trace/recording.ts';
import { difference, type Replayed, replay } from '../../../server/trace/replay.ts';
import { VfioUserClient } from '../../../server/vfio-user/client.ts';
import {
  DEVICE_GET_INFO,
  DEVICE_GET_REGION_INFO,
  DMA_MAP,
  DMA_UNMAP,
  dmaMap,
  dmaUnmap,
  REGION_READ,
  REGION_WRITE,
} from '../../../server/vfio-user/protocol.ts';
import { decode } from '../../../server/wire.ts';

const folder = mkdtempSync(join(tmpdir(), 'replay-'));
afterAll(() => rmSync(folder, { recursive: true }));
const trace = (name: string) => fileURLToPath(new URL(`../../traces/${name}`, import.meta.url));

/** Plays a scenario against a fresh server. */
async function play(
  file: string,
  scenario: string | undefined,
  { hostVisibleBytes = 0x1000_0000, handshake = false } = {},
): Promise<Replayed[]> {
  const server = new GpuServer({
    socketPath: join(folder, `${Math.random()}.sock`),
    displays: [{ width: 640, height: 480, refreshHz: 60 }],
    hostVisibleBytes,
  });
  const client = VfioUserClient.connect(server.served.vfioUser.socketPath);
  const results: Replayed[] = [];
  try {
    if (handshake) await client.handshake();
    for await (const replayed of replay(client, readRecording(trace(file), scenario))) results.push(replayed);
  } finally {
    client.close();
    server.close();
  }
  return results;
}

describe("cloud-hypervisor's client", () => {
  const file = 'cloud-hypervisor-client.jsonl';

  test('gets an answer of the recorded size and kind to everything it asks', async () => {
    const results = await play(file, 'cloud-hypervisor-order');
    // Four answers are different on purpose: the recorded device had the window in BAR 2 and other JSON, and
    // took an UNMASK for an INTx that neither of us has; this one is refused, and its answer is a header either way.
    const different = results.filter((one) => difference(one) !== undefined);
    expect(different.map(({ request }) => [request.name, request.payload.slice(0, 24)])).toEqual([
      ['VERSION', '000001007b22636170616269'],
      ['DEVICE_GET_REGION_INFO', '200000000000000002000000'],
      ['DEVICE_GET_REGION_INFO', '200000000000000004000000'],
      ['DEVICE_SET_IRQS', '140000001100000000000000'],
    ]);
    expect(results.length).toBe(60);
  });

  test('gets the echoed fields of every region access bit for bit', async () => {
    const results = await play(file, 'cloud-hypervisor-order');
    const accesses = results.filter(({ request }) => [REGION_READ, REGION_WRITE].includes(request.cmd));
    for (const { request, received } of accesses) {
      expect(Buffer.from(received?.body.subarray(0, 16) ?? []).toString('hex')).toBe(
        request.payload.slice(0, 32),
      );
    }
    expect(accesses.length).toBeGreaterThan(35);
  });

  test('sees the same kind of device: flags, numbers of regions and interrupts, config region', async () => {
    const results = await play(file, 'cloud-hypervisor-order');
    const bodyOf = (cmd: number, index?: number) => {
      const found = results.find(
        ({ request }) => request.cmd === cmd && (index === undefined || payloadBytes(request)[8] === index),
      );
      return [Buffer.from(found?.received?.body ?? []).toString('hex'), found?.recorded?.payload];
    };
    for (const [received, recorded] of [bodyOf(DEVICE_GET_INFO), bodyOf(DEVICE_GET_REGION_INFO, 7)]) {
      expect(received).toBe(recorded);
    }
  });

  test('asking for more vectors than there are is refused with the header it waits for', async () => {
    const results = await play(file, 'msix-enable-20-vectors', { hostVisibleBytes: 0, handshake: true });
    expect(results.map(({ request }) => request.nfds)).toEqual([16, 4]);
    expect(results.map(({ received }) => [received?.error, received?.sizeBytes])).toEqual([
      [22, 16],
      [22, 16],
    ]);
  });
});

/** VERSION has also told how many DMA windows there may be since then. */
const versionText = (bytes: Uint8Array, told = '') =>
  Buffer.from(bytes).toString().replace(`,"max_dma_maps":${told}`, '');

/** The requests whose answer is not byte for byte the recorded one; `maxDmaMaps` is what VERSION says besides. */
const wrongIn = (results: readonly Replayed[], maxDmaMaps: number) =>
  results
    .filter((one) => {
      const { request, recorded, received } = one;
      const body = received?.body ?? new Uint8Array();
      const before = Buffer.from(recorded?.payload ?? '', 'hex');
      if (request.name === 'VERSION') return versionText(body, `${maxDmaMaps}`) !== versionText(before);
      return difference(one) !== undefined || Buffer.compare(body, before) !== 0;
    })
    .map(({ request }) => `${request.seq} ${request.name} ${request.payload}`);

describe('QEMU booting Linux', () => {
  test('gets byte for byte the answers it got when it was recorded', async () => {
    const results = await play('qemu-boot.jsonl', undefined);
    expect(wrongIn(results, 65_535)).toEqual([]);
    expect(results.length).toBe(416);
  });
});

describe('cloud-hypervisor booting Linux, whose memory grows and shrinks, and which reboots', () => {
  test.each([
    ['connection 1', 251],
    ['connection 2', 175],
  ])('gets byte for byte the answers it got when it was recorded: %s', async (connection, count) => {
    const results = await play('cloud-hypervisor.jsonl', connection);
    expect(wrongIn(results, 1_048_576)).toEqual([]);
    expect(results.length).toBe(count);
  });

  test('maps 64 blocks of memory that is plugged in, and unmaps them by one request that it gets a whole answer to', async () => {
    const results = await play('cloud-hypervisor.jsonl', 'connection 1');
    const blocks = results
      .filter(({ request }) => request.cmd === DMA_MAP)
      .map(({ request }) => decode(dmaMap, payloadBytes(request)))
      .filter(({ address }) => address >= 0x1_0000_0000);
    expect(blocks.map(({ address, size }) => [address, size])).toEqual(
      Array.from({ length: 64 }, (_, block) => [0x1_0000_0000 + block * 0x20_0000, 0x20_0000]),
    );
    const unmaps = results.filter(({ request }) => request.cmd === DMA_UNMAP);
    expect(unmaps.map(({ request }) => decode(dmaUnmap, payloadBytes(request)))).toMatchObject([
      { address: 0x1_0000_0000, size: 64 * 0x20_0000 },
    ]);
    expect(unmaps.map(({ received }) => [received?.error, received?.sizeBytes])).toEqual([[0, 40]]);
  });
});
