/** Viewers that mean no good: whatever they send, the others see their picture and the memory stays what it was. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { registrySize } from '../../../../native/index.ts';
import { Viewing } from '../../../../server/displays/viewing/viewing.ts';
import { type Log, SILENT_LOG } from '../../../../server/log.ts';
import { openFds } from '../../../support/fake-client.ts';
import { FakeViewer } from '../../../support/fake-viewer.ts';
import { makeScreen, Painted, texture } from '../../../support/screens.ts';
import { viewingHere } from '../../../support/viewing.ts';

let folder: string;
let path: string;
let viewing: Viewing;
let painted: Painted;
let errors: unknown[];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'vnc-'));
  path = join(folder, 'vnc.sock');
  painted = new Painted(makeScreen(200, 150), 200, 150);
  painted.draw(painted.whole, texture);
  errors = [];
  const log: Log = { ...SILENT_LOG, error: (fields, message) => void errors.push([message, fields]) };
  viewing = new Viewing({ screens: [painted.screen], log, start: () => viewingHere(1) });
  await viewing.listen({
    kind: 'vnc',
    address: { path },
    display: 0,
    viewOnly: false,
    passwords: undefined,
    tls: undefined,
  });
});
afterEach(async () => {
  await viewing.close();
  painted.screen.close();
  rmSync(folder, { recursive: true });
  expect(errors).toEqual([]);
});

const viewer = () => new FakeViewer(createConnection(path));
const counters = async () => (await viewing.counters())?.vnc;

async function expectGoodPicture(): Promise<void> {
  const good = await viewer().connect();
  good.setEncodings(7);
  good.request(false);
  await good.updatesUntil(() => good.picture.equals(painted.rgba));
  good.close();
}

/** Bytes like a viewer's: every message with content that may be anything. */
const u8 = fc.integer({ min: 0, max: 255 });
const bytes = (length: number) =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((made) => [...made]);
const message = fc.oneof(
  bytes(19).map((body) => [0, ...body]),
  fc
    .array(
      fc.constantFrom(
        0,
        1,
        7,
        16,
        -23,
        -32,
        -223,
        -224,
        -239,
        -247,
        -256,
        -257,
        -258,
        -261,
        -307,
        -308,
        -312,
        -313,
        -314,
        -316,
        99,
      ),
    )
    .map((encodings) => {
      const body = Buffer.alloc(4 + 4 * encodings.length);
      body[0] = 2;
      body.writeUInt16BE(encodings.length, 2);
      encodings.forEach((encoding, i) => {
        body.writeInt32BE(encoding, 4 + 4 * i);
      });
      return [...body];
    }),
  bytes(9).map((body) => [3, ...body]),
  fc.constant([3, 0, 0, 0, 0, 0, 0, 200, 0, 150]),
  bytes(7).map((body) => [4, ...body]),
  bytes(5).map((body) => [5, ...body]),
  fc
    .tuple(fc.nat(300), u8)
    .map(([length, fill]) => [6, 0, 0, 0, 0, 0, length >> 8, length & 255, ...Array(length).fill(fill)]),
  bytes(9).map((body) => [150, ...body]),
  fc
    .tuple(bytes(4), fc.nat(64))
    .map(([flags, length]) => [248, 0, 0, 0, ...flags, length, ...Array(length).fill(1)]),
  fc
    .tuple(bytes(5), fc.nat(3))
    .map(([size, screens]) => [251, ...size, screens, 0, ...Array(16 * screens).fill(2)]),
  bytes(11).map((body) => [255, 0, ...body.slice(1)]),
  fc.array(u8, { maxLength: 40 }),
);

test('a thousand viewers that say anything at all disturb nobody and leave nothing', async () => {
  await expectGoodPicture();
  const before = { fds: openFds(), ...registrySize() };
  const greeting = [...Buffer.from('RFB 003.008\n'), 1, 1];
  for (const said of fc.sample(fc.tuple(fc.boolean(), fc.array(message, { maxLength: 12 })), 1000)) {
    const [polite, messages] = said;
    const bad = createConnection(path);
    bad.on('error', () => {});
    bad.resume();
    bad.write(Buffer.from([...(polite ? greeting : []), ...messages.flat()]));
    const ended = new Promise((resolve) => bad.once('close', resolve));
    // Half of them hang up by themselves, in the middle of whatever they were about to say.
    await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 3))]);
    bad.destroy();
  }
  await expectGoodPicture();
  for (let i = 0; i < 100 && ((await counters())?.connected ?? 1) > 0; i++)
    await new Promise((resolve) => setTimeout(resolve, 20));
  expect((await counters())?.connected).toBe(0);
  const after = { fds: openFds(), ...registrySize() };
  expect(after.mappings).toBeLessThanOrEqual(before.mappings);
  expect(after.fds).toBeLessThanOrEqual(before.fds + 1);
}, 60_000);

test('fifty viewers that never read cost one update each, and a fifty-first is served', async () => {
  const still = await Promise.all(
    Array.from({ length: 50 }, async () => {
      const one = await viewer().connect();
      one.setEncodings(0);
      return one;
    }),
  );
  for (let round = 0; round < 10; round++) {
    painted.draw(painted.whole, [round, round, round]).flush();
    for (const one of still) one.request(false);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await expectGoodPicture();
  const sent = (await counters())?.sentBytes ?? 0;
  // What the kernel keeps for a Unix socket, and one update more.
  expect(sent).toBeLessThan(50 * (2 ** 18 + 2 * 200 * 150 * 4 + 1000) + 200 * 150 * 8);
  for (const one of still) one.close();
});

test.each([
  ['for the colours of a map', [0, 0, 0, 0, 8, 8, 0, 0, 0, 7, 0, 7, 0, 3, 0, 3, 6, 0, 0, 0]],
  ['for fences', [248, 0, 0, 0, 0x80, 0, 0, 0, 64, ...Array(64).fill(7)]],
  ['for the end of continuous updates', [150, 0, 0, 0, 0, 0, 0, 1, 0, 1]],
])('a viewer that asks %s and reads nothing is left, before it costs memory', async (_, message) => {
  const bad = await viewer().connect();
  const start = (await counters())?.sentBytes ?? 0;
  const many = Buffer.concat(Array.from({ length: 1000 }, () => Uint8Array.from(message)));
  bad.stream.pause();
  // Answers of a byte: as many as could never stay below the bound.
  for (let i = 0; i < 2000 && !bad.stream.destroyed; i++) {
    bad.write(many);
    await new Promise((resolve) => setTimeout(resolve, 5));
    if ((await counters())?.connected === 0) break;
  }
  expect((await counters())?.connected).toBe(0);
  // What the kernel keeps for a socket, and the answers that may wait.
  expect(((await counters())?.sentBytes ?? 0) - start).toBeLessThan(2 ** 20);
  bad.close();
});

test('more viewers than there may be are turned away, until one leaves', async () => {
  const many = await Promise.all(Array.from({ length: 64 }, () => viewer().connect()));
  await expect(viewer().connect()).rejects.toThrow('hung up');
  many[0]?.close();
  for (let i = 0; i < 100 && (await counters())?.connected === 64; i++)
    await new Promise((resolve) => setTimeout(resolve, 10));
  await expectGoodPicture();
  for (const one of many) one.close();
});
