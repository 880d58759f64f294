/** The listening socket when the host has no descriptors left. */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, expect, test, vi } from 'vitest';
import { VfioUserClient } from '../../../server/vfio-user/client.ts';
import { VfioUserServer } from '../../../server/vfio-user/server.ts';
import { recordingLog, Served } from '../../support/fake-client.ts';

const folder = mkdtempSync(join(tmpdir(), 'vfio-user-server-'));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => vi.useRealTimers());

const setDescriptorLimit = (limit: number | string) => {
  const { status, stderr } = spawnSync('prlimit', ['--pid', `${process.pid}`, `--nofile=${limit}:`], {
    encoding: 'utf8',
  });
  expect(stderr).toBe('');
  expect(status).toBe(0);
};
const descriptorLimit = () =>
  spawnSync('prlimit', ['--pid', `${process.pid}`, '--nofile', '--output=SOFT', '--noheadings'], {
    encoding: 'utf8',
  }).stdout.trim();

/** Runs `body` while this process can open nothing more. */
async function withoutDescriptors(body: () => Promise<void>): Promise<void> {
  const before = descriptorLimit();
  setDescriptorLimit(256);
  const opened: number[] = [];
  try {
    for (;;) opened.push(openSync('/dev/null', 'r'));
  } catch (error) {
    expect(error).toMatchObject({ code: 'EMFILE' });
  }
  try {
    await body();
  } finally {
    for (const fd of opened) closeSync(fd);
    setDescriptorLimit(before);
  }
}

/** A server whose client could not be accepted. Timers stand still. */
async function refusing(name: string) {
  const { log, lines } = recordingLog();
  const served = new Served({ handshake: false });
  const server = new VfioUserServer(join(folder, name), served.host, log);
  const client = VfioUserClient.connect(server.socketPath);
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const spy = vi.spyOn(globalThis, 'setTimeout');
  await withoutDescriptors(async () => {
    while (lines.length === 0) await new Promise((resolve) => setImmediate(resolve));
  });
  expect(lines.map(({ message }) => message)).toEqual(['a client could not be accepted']);
  const retry = spy.mock.results.at(-1)?.value as NodeJS.Timeout;
  return { server, client, served, retry };
}

test('a client that cannot be accepted is accepted later, and the process stays for it', async () => {
  const { server, client, served, retry } = await refusing('later.sock');
  expect(retry.hasRef()).toBe(true);
  vi.advanceTimersByTime(1000);
  expect(await client.handshake()).toContain('capabilities');
  client.close();
  server.close();
  served[Symbol.dispose]();
});

test('a server that is closed while it waits for descriptors leaves no timer', async () => {
  const { server, client, served } = await refusing('closed.sock');
  expect(vi.getTimerCount()).toBe(1);
  server.close();
  expect(vi.getTimerCount()).toBe(0);
  client.close();
  served[Symbol.dispose]();
});
