/** Many buffers, and many programs: what one does is not felt by the others, and what is over leaves nothing. */
import { closeSync, readSync } from 'node:fs';
import { getHeapCodeStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { createPipe, registrySize } from '../../../native/index.ts';
import type { SentBlob } from '../../../server/cross-domain/context.ts';
import { WaylandConnection } from '../../../server/cross-domain/wayland/connection.ts';
import { DEFAULT_POLICY } from '../../../server/cross-domain/wayland/policy.ts';
import { GpuFault } from '../../../server/gpu/fault.ts';
import { openFds } from '../../support/fake-client.ts';
import {
  command,
  FakeCompositor,
  fakeBuffer,
  GuestChannel,
  sendCommand,
  words,
  writeCommand,
} from '../../support/guest-channel.ts';
import { bindShmAndCompositor, event, request } from './wayland/talk.ts';

/** What is read until the end. A pipe that is still open is an error. */
function pipeBytes(fd: number): number {
  const bytes = Buffer.alloc(2 ** 20);
  for (let sum = 0; ; ) {
    const count = readSync(fd, bytes);
    if (count === 0) return sum;
    sum += count;
  }
}

setFlagsFromString('--expose_gc');
const collectGarbage = runInNewContext('gc') as () => void;

test('ten thousand buffers, one size after the other, leave nothing', async () => {
  const [resizes, atOnce] = [10_000, 20];
  using compositor = new FakeCompositor();
  using guest = new GuestChannel(compositor.path, () => new WaylandConnection<SentBlob>(DEFAULT_POLICY));
  const socket = guest.init() && compositor.accept()!;
  const say = (bytes: Uint8Array, buffers: readonly (readonly [number, number])[] = []) =>
    guest.context.submit(sendCommand(bytes, buffers));
  const answer = (...events: Uint8Array[]) => FakeCompositor.send(socket, Buffer.concat(events));
  await bindShmAndCompositor(guest, socket);
  say(request('wl_compositor.create_surface', 4, 5));

  /** Shows buffers of other and other sizes; the compositor lets go of each when the next is there. */
  async function resize(round: number): Promise<void> {
    const answers: Uint8Array[] = [];
    for (let i = 0; i < atOnce; i++) {
      const [width, height] = [16 + ((round * 7 + i) % 61), 16 + ((round * 5 + i) % 53)];
      const sizeBytes = Math.ceil((width * height * 4) / 4096) * 4096;
      const [resourceId, poolId, bufferId] = [1000 + i, 6 + 2 * i, 7 + 2 * i];
      guest.context.submit(command(2, words(width, height, 0x3432_5258, 0x11)));
      const buffer = fakeBuffer(resourceId, new Uint8Array(sizeBytes).fill(i));
      guest.context.attach(buffer);
      say(request('wl_shm.create_pool', 3, poolId, null, sizeBytes), [[1, resourceId]]);
      say(request('wl_shm_pool.create_buffer', poolId, bufferId, 0, width, height, width * 4, 1));
      say(request('wl_shm_pool.destroy', poolId));
      say(request('wl_surface.attach', 5, bufferId, 0, 0));
      say(request('wl_surface.damage_buffer', 5, 0, 0, width, height));
      say(request('wl_surface.commit', 5));
      say(request('wl_buffer.destroy', bufferId));
      guest.context.detach(resourceId);
      buffer.isThere = false;
      answers.push(event('wl_display.delete_id', 1, poolId), event('wl_buffer.release', bufferId));
      answers.push(event('wl_display.delete_id', 1, bufferId));
    }
    const { fds } = FakeCompositor.take(socket);
    expect(fds.length).toBe(atOnce);
    for (const fd of fds) closeSync(fd);
    answer(...answers);
    await guest.messages(1);
    guest.delivered.length = 0;
  }

  const look = () => {
    for (let round = 0; round < 3; round++) collectGarbage();
    // Code grows as it is found worth compiling.
    const { code_and_metadata_size: code, bytecode_and_metadata_size: bytecode } = getHeapCodeStatistics();
    const heapBytes = process.memoryUsage().heapUsed - code - bytecode;
    return { fds: openFds(), registry: registrySize(), heapBytes };
  };
  // All the sizes, and all the code.
  const warmUp = 100;
  for (let round = 0; round < warmUp; round++) await resize(round);
  const before = look();
  for (let round = warmUp; round < warmUp + resizes / atOnce; round++) await resize(round);
  const { heapBytes, ...after } = look();
  expect(after).toEqual({ fds: before.fds, registry: before.registry });
  expect(heapBytes - before.heapBytes).toBeLessThan(resizes * 64);
  expect(guest.notes).toEqual([]);
}, 120_000);

test('of 64 programs, those that flood, that do not listen, and that paste for ever are not felt by the others', async () => {
  const before = openFds();
  {
    using compositor = new FakeCompositor();
    const guests = Array.from({ length: 64 }, () => {
      const guest = new GuestChannel(compositor.path).init();
      return { guest, socket: compositor.accept()! };
    });
    const [flooding, silent, pasting, ...good] = guests as [
      (typeof guests)[0],
      (typeof guests)[0],
      (typeof guests)[0],
      ...typeof guests,
    ];

    // Until the server has enough of it. Nobody reads at the other end.
    const flood = () => flooding.guest.context.submit(sendCommand(new Uint8Array(60_000)));
    expect(() => {
      for (let i = 0; i < 1000; i++) flood();
    }).toThrow(GpuFault);

    // More than a ring holds, and no poll.
    FakeCompositor.send(silent.socket, Buffer.alloc(100_000));

    // The host would paste, and then does not read what it asked for.
    const [reading, writing] = createPipe();
    FakeCompositor.send(pasting.socket, Buffer.from('paste'), [writing]);
    closeSync(writing);
    const [message] = await pasting.guest.messages(1);
    if (message?.command !== 5) throw new Error('no pipe has come');
    const pipeId = message.items[0]!.id;
    const chunk = new Uint8Array(60_000);
    const paste = () => pasting.guest.context.submit(writeCommand(pipeId, chunk));
    for (let written = 0; written < 64 * 2 ** 20; written += chunk.length) paste();

    for (let round = 0; round < 20; round++) {
      for (const [i, { guest, socket }] of good.entries()) {
        guest.context.submit(sendCommand(Buffer.from(`question ${i} ${round}`)));
        expect(FakeCompositor.take(socket).data.toString()).toBe(`question ${i} ${round}`);
        FakeCompositor.send(socket, Buffer.from(`answer ${i} ${round}`));
      }
      const answers = await Promise.all(good.map(({ guest }) => guest.messages(1)));
      expect(answers.map(([message]) => message!.data.toString())).toEqual(
        good.map((_, i) => `answer ${i} ${round}`),
      );
    }
    expect(good.flatMap(({ guest }) => guest.notes)).toEqual([]);
    // Of what is beyond 64 MiB nothing is kept: the reader finds the end behind what the pipe itself holds.
    paste();
    expect(pipeBytes(reading)).toBeLessThanOrEqual(65_536);
    for (const { guest } of guests) guest[Symbol.dispose]();
    closeSync(reading);
  }
  expect(openFds()).toBe(before);
}, 60_000);
