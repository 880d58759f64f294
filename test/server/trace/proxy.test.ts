import { closeSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { connectUnix, drainEventfd, socketPair } from '../../../native/index.ts';
import { GpuServer } from '../../../server/gpu-server.ts';
import type { TracedMessage } from '../../../server/trace/describe.ts';
import { relay } from '../../../server/trace/proxy.ts';
import { VfioUserClient } from '../../../server/vfio-user/client.ts';
import { DEVICE_GET_REGION_INFO, DEVICE_SET_IRQS } from '../../../server/vfio-user/protocol.ts';
import { bodies, eventfds, openFds } from '../../support/fake-client.ts';

const folder = mkdtempSync(join(tmpdir(), 'proxy-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A client that talks to a server through the proxy. */
async function throughProxy() {
  const server = new GpuServer({
    socketPath: join(folder, 'gpu.sock'),
    displays: [{ width: 640, height: 480, refreshHz: 60 }],
    hostVisibleBytes: 16 << 20,
  });
  const [toProxy, fromClient] = socketPair();
  const seen: string[] = [];
  const ended = relay(fromClient, connectUnix(server.served.vfioUser.socketPath), (one: TracedMessage) => {
    seen.push(`${one.dir} ${one.command} ${one.fdCount}`);
  });
  const client = new VfioUserClient(toProxy);
  await client.handshake();
  return { server, client, seen, ended };
}

test('messages and descriptors go through in both directions, and are seen', async () => {
  const before = openFds();
  const { server, client, seen, ended } = await throughProxy();
  const fds = eventfds(3);
  const reply = await client.request(DEVICE_SET_IRQS, bodies.setIrqs(0x24, 2, 0, 3), fds);
  expect(reply.flags).toBe(1);
  server.served.host.interrupts.fire(2);
  expect(fds.map(drainEventfd)).toEqual([0, 0, 1]);
  const region = await client.request(DEVICE_GET_REGION_INFO, bodies.regionInfo(4));
  expect(region.fds).toHaveLength(1);
  for (const fd of [...fds, ...region.fds]) closeSync(fd);
  expect((await client.readRegion(4, 0, 1 << 20)).length).toBe(1 << 20);
  expect(seen.slice(2, 6)).toEqual(['c2s 8 3', 's2c 8 0', 'c2s 5 0', 's2c 5 1']);
  client.close();
  await ended;
  server.close();
  expect(openFds()).toBe(before);
});

test('the end of either side is the end of both', async () => {
  const { server, client, ended } = await throughProxy();
  server.close();
  await ended;
  await client.ended;
});
