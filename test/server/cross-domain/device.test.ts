/** Guest programs on the whole device: contexts, rings in guest memory, fences on the control queue, buffers in the window. */
import { closeSync, fstatSync, readSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { connectUnix } from '../../../native/index.ts';
import { CrossDomain } from '../../../server/cross-domain/component.ts';
import type { SentBlob } from '../../../server/cross-domain/context.ts';
import { WaylandConnection } from '../../../server/cross-domain/wayland/connection.ts';
import { DEFAULT_POLICY } from '../../../server/cross-domain/wayland/policy.ts';
import { openFds } from '../../support/fake-client.ts';
import { GpuMachine, OK, UNSPEC } from '../../support/gpu-machine.ts';
import {
  command,
  decodeMessage,
  FakeCompositor,
  passThrough,
  sendCommand,
  words,
} from '../../support/guest-channel.ts';
import { event, request } from './wayland/talk.ts';

const page = 4096;
const MiB = 2 ** 20;
const CHANNEL_RING = 1;
const fence = (ctxId: number, ringIdx: number, fenceId = 1n) => ({ flags: 3, fenceId, ctxId, ringIdx });

/** A machine whose guest has programs that speak Wayland. */
class WaylandGuest {
  readonly compositor = new FakeCompositor();
  readonly machine: GpuMachine;
  readonly #rings = new Map<number, number>();
  #nextResource = 1000;

  constructor(
    makeStream = () => new WaylandConnection<SentBlob>(DEFAULT_POLICY) as ReturnType<typeof passThrough>,
  ) {
    const connect = () => connectUnix(this.compositor.path, { wait: false });
    const wayland = { connect, makeStream };
    this.machine = new GpuMachine({
      components: [new CrossDomain({ wayland })],
      windowBytes: 64 * MiB,
      memoryBytes: 128 * MiB,
    });
    onTestFinished(() => {
      this.machine[Symbol.dispose]();
      this.compositor[Symbol.dispose]();
    });
  }

  /** A program: a context with its rings, connected. Returns the compositor's end. */
  connect(ctxId: number): number {
    const { machine } = this;
    expect(machine.createContext(ctxId, 5, 'foot')).toBe(OK);
    const [query, channel] = [this.#nextResource++, this.#nextResource++];
    machine.makeGuestBlob(query, page);
    this.#rings.set(ctxId, machine.makeGuestBlob(channel, page));
    for (const ring of [query, channel]) expect(machine.attachResource(ctxId, ring)).toBe(OK);
    expect(this.submit(ctxId, command(1, words(query, channel, 1)))).toBe(OK);
    return this.compositor.accept()!;
  }

  submit(ctxId: number, bytes: Uint8Array): number {
    const padded = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
    padded.set(bytes);
    return this.machine.submit(ctxId, [...new Uint32Array(padded.buffer)]).type;
  }

  /** Puts a fence on the channel ring; see `told`. */
  poll(ctxId: number): void {
    const words3 = [16, 0, 3 | (16 << 16), 0, 0, 0];
    this.machine.post(GpuMachine.bytes(0x207, words3, fence(ctxId, CHANNEL_RING, BigInt(ctxId))));
  }

  /** Contexts that have been told of something. */
  async told(count: number): Promise<number[]> {
    const contexts: number[] = [];
    for (let waits = 0; contexts.length < count && waits < 2000; waits++) {
      contexts.push(...this.machine.arrived().map(({ ctxId }) => ctxId));
      await sleep(1);
    }
    return contexts;
  }

  ring(ctxId: number) {
    return decodeMessage(this.machine.memory.bytes(this.#rings.get(ctxId)!, page));
  }
}

describe('a guest program', () => {
  test('asks, and is told through its ring and its fence', async () => {
    const guest = new WaylandGuest();
    const socket = guest.connect(1);
    guest.poll(1);
    const hello = request('wl_display.get_registry', 1, 2);
    expect(guest.submit(1, sendCommand(hello))).toBe(OK);
    expect(Buffer.from(hello).equals(FakeCompositor.take(socket).data)).toBe(true);
    const globals = [
      event('wl_registry.global', 2, 1, 'wl_shm', 1),
      event('wl_registry.global', 2, 2, 'zwlr_screencopy_manager_v1', 3),
      event('wl_registry.global', 2, 3, 'wl_compositor', 99),
    ];
    FakeCompositor.send(socket, Buffer.concat(globals));
    expect(await guest.told(1)).toEqual([1]);
    // The dangerous one is hidden, and no version is higher than what can be followed.
    expect(
      guest
        .ring(1)
        .data.equals(Buffer.concat([globals[0]!, event('wl_registry.global', 2, 3, 'wl_compositor', 7)])),
    ).toBe(true);
    const counters = guest.machine.gpu.counters.componentCounters['cross-domain'];
    expect(counters).toMatchObject({ bytesFromGuest: 12, guestMessages: 1, hostMessages: 3 });
  });

  test('shows a buffer of the window: a commit copies what it damages, once, and nothing else is copied', () => {
    const guest = new WaylandGuest();
    const { machine } = guest;
    const socket = guest.connect(1);
    const [width, height] = [64, 48];
    const sizeBytes = width * height * 4;
    guest.submit(1, command(2, words(sizeBytes, 1, 0x2020_3852, 0x11)));
    expect(machine.createBlob(9, sizeBytes, { mem: 2, flags: 3, blobId: 2, ctxId: 1 })).toBe(OK);
    expect(machine.mapBlob(9, 4 * page)).toBe(0x1106);
    expect(machine.attachResource(1, 9)).toBe(OK);
    FakeCompositor.send(
      socket,
      Buffer.concat([
        event('wl_registry.global', 2, 1, 'wl_shm', 1),
        event('wl_registry.global', 2, 2, 'wl_compositor', 6),
      ]),
    );
    const say = (bytes: Uint8Array, buffers: readonly (readonly [number, number])[] = []) =>
      expect(guest.submit(1, sendCommand(bytes, buffers))).toBe(OK);
    say(request('wl_display.get_registry', 1, 2));
    return sleep(5).then(() => {
      say(request('wl_registry.bind', 2, 1, 'wl_shm', 1, 3));
      say(request('wl_registry.bind', 2, 2, 'wl_compositor', 6, 4));
      say(request('wl_shm.create_pool', 3, 5, null, sizeBytes), [[1, 9]]);
      say(request('wl_shm_pool.create_buffer', 5, 6, 0, width, height, width * 4, 1));
      say(request('wl_compositor.create_surface', 4, 7));
      const { fds } = FakeCompositor.take(socket);
      expect(fds.length).toBe(1);
      const seen = () => {
        const bytes = Buffer.alloc(sizeBytes);
        readSync(fds[0]!, bytes, 0, sizeBytes, 0);
        return [bytes[0], bytes[10 * width * 4], bytes.at(-1)];
      };
      const copied = () => machine.gpu.counters.componentCounters['cross-domain']!.copiedBytes;
      machine.window!.write(4 * page, new Uint8Array(sizeBytes).fill(1));
      expect([seen(), copied()]).toEqual([[0, 0, 0], 0]);
      say(request('wl_surface.attach', 7, 6, 0, 0));
      say(request('wl_surface.commit', 7));
      expect([seen(), copied()]).toEqual([[1, 1, 1], sizeBytes]);
      machine.window!.write(4 * page, new Uint8Array(sizeBytes).fill(2));
      say(request('wl_surface.attach', 7, 6, 0, 0));
      say(request('wl_surface.damage_buffer', 7, 0, 10, width, 5));
      say(request('wl_surface.commit', 7));
      expect([seen(), copied()]).toEqual([[1, 2, 1], sizeBytes + 5 * width * 4]);
      for (const fd of fds) closeSync(fd);
    });
  });

  test('may have its ring in pieces (I8)', async () => {
    const guest = new WaylandGuest(passThrough);
    const { machine } = guest;
    const { memory } = machine;
    machine.createContext(1, 5);
    machine.makeGuestBlob(8, page);
    const entries = [1000, page - 1000].map((length) => ({ address: memory.allocate(length, page), length }));
    expect(machine.createBlob(9, page, { entries })).toBe(OK);
    for (const ring of [8, 9]) machine.attachResource(1, ring);
    expect(guest.submit(1, command(1, words(8, 9, 1)))).toBe(OK);
    const said = Buffer.from(Array.from({ length: 3000 }, (_, i) => i % 251));
    FakeCompositor.send(guest.compositor.accept()!, said);
    guest.poll(1);
    await guest.told(1);
    const ring = Buffer.concat(entries.map(({ address, length }) => memory.bytes(address, length)));
    expect(decodeMessage(ring).data.equals(said)).toBe(true);
  });

  test('gets two memories of one image, for two blobs (R4)', () => {
    const { machine } = new WaylandGuest();
    machine.createContext(1, 5);
    const rings = [8, 9];
    for (const ring of rings) {
      machine.makeGuestBlob(ring, page);
      machine.attachResource(1, ring);
    }
    const init = [1 | (20 << 16), 0, 8, 9, 0];
    const image = [2 | (24 << 16), 0, page, 1, 0x2020_3852, 0x11];
    expect(machine.submit(1, [...init, ...image]).type).toBe(OK);
    for (const id of [20, 21]) {
      expect(machine.createBlob(id, page, { mem: 2, flags: 1, blobId: 2, ctxId: 1 })).toBe(OK);
      expect(machine.mapBlob(id, (id - 20) * page)).toBe(0x1106);
    }
    machine.window!.write(0, Uint8Array.of(7));
    const second = Buffer.alloc(1);
    readSync(machine.window!.fd, second, 0, 1, page);
    expect(second[0]).toBe(0);
  });

  test('may share a ring with another one: each is told, by fences of its own', async () => {
    const guest = new WaylandGuest(passThrough);
    const { machine } = guest;
    const shared = machine.makeGuestBlob(9, page);
    machine.makeGuestBlob(8, page);
    const sockets = [1, 2].map((ctxId) => {
      machine.createContext(ctxId, 5);
      for (const ring of [8, 9]) expect(machine.attachResource(ctxId, ring)).toBe(OK);
      expect(guest.submit(ctxId, command(1, words(8, 9, 1)))).toBe(OK);
      return guest.compositor.accept()!;
    });
    for (const [i, socket] of sockets.entries()) {
      guest.poll(i + 1);
      FakeCompositor.send(socket, Buffer.from(`for ${i + 1}`));
      expect(await guest.told(1)).toEqual([i + 1]);
      expect(decodeMessage(machine.memory.bytes(shared, page)).data.toString()).toBe(`for ${i + 1}`);
    }
  });

  test('gets its fences back as they were, also on a ring that is not there (P13)', () => {
    const guest = new WaylandGuest();
    guest.connect(1);
    const pollWords = [3 | (16 << 16), 0, 0, 0];
    const onQueryRing = guest.machine.submit(1, pollWords, fence(1, 0, 77n));
    expect(onQueryRing).toMatchObject({ type: OK, flags: 3, fenceId: 77n, ctxId: 1, ringIdx: 0 });
    const nowhere = guest.machine.submit(1, pollWords, fence(1, 2, 2n ** 63n));
    expect(nowhere).toMatchObject({ flags: 3, fenceId: 2n ** 63n, ctxId: 1, ringIdx: 2 });
    expect(nowhere.type).toBeGreaterThanOrEqual(0x1200);
  });

  test('that is destroyed, or reset with all others, leaves nothing: no descriptor, no page (T1, T2)', () => {
    const guest = new WaylandGuest();
    const { machine, compositor } = guest;
    const before = openFds();
    const sockets = [1, 2, 3].map((ctxId) => guest.connect(ctxId));
    for (const ctxId of [1, 2, 3]) {
      guest.submit(ctxId, command(2, words(8192, 1, 0x2020_3852, 0x11)));
      machine.createBlob(ctxId, 8192, { mem: 2, flags: 3, blobId: 2, ctxId });
      machine.mapBlob(ctxId, ctxId * 8 * page);
      machine.window!.write(ctxId * 8 * page, Uint8Array.of(1));
      guest.poll(ctxId);
    }
    expect(machine.gpu.counters.waiting).toBe(3);
    machine.post(GpuMachine.bytes(0x201, [], { ctxId: 1 }));
    expect(machine.arrived().map(({ type, ctxId }) => [type, ctxId])).toEqual([
      [OK, 1],
      [OK, 0],
    ]);
    machine.driver.bringUp();
    expect(machine.gpu.counters).toMatchObject({ waiting: 0, contexts: 0, resources: 0 });
    expect(fstatSync(machine.window!.fd).blocks).toBe(0);
    for (const socket of sockets) compositor.hangUp(socket);
    expect(openFds()).toBe(before);
  });
});

describe('many programs at once', () => {
  test('200 wait for something, and the display still works (P14)', async () => {
    const guest = new WaylandGuest(passThrough);
    const { machine } = guest;
    const sockets = Array.from({ length: 200 }, (_, i) => guest.connect(i + 1));
    // Each request is one descriptor of the ring, as Linux sends them.
    for (let ctxId = 1; ctxId <= 200; ctxId++) {
      const bytes = GpuMachine.bytes(0x207, [16, 0, 3 | (16 << 16), 0, 0, 0], fence(ctxId, CHANNEL_RING));
      machine.driver.queue(0).addIndirect([machine.segment(bytes), machine.room(24)]);
    }
    machine.driver.kick(0).run();
    expect(machine.gpu.counters.waiting).toBe(200);
    machine.makeGuestBlob(1, 64 * 48 * 4);
    expect(machine.setScanoutBlob(0, 1, { x: 0, y: 0, width: 64, height: 48 })).toBe(OK);
    for (const socket of sockets) FakeCompositor.send(socket, Buffer.from('now!'));
    for (let waits = 0; machine.gpu.counters.waiting > 0 && waits < 1000; waits++) {
      await sleep(1);
      machine.driver.run();
    }
    expect(machine.gpu.counters.waiting).toBe(0);
    for (const ctxId of [1, 100, 200]) expect(guest.ring(ctxId).data.toString()).toBe('now!');
  });

  test('one whose compositor has gone, one that floods, one that never polls: the others are served (S7)', async () => {
    const guest = new WaylandGuest(passThrough);
    const [gone, , silent, good] = [1, 2, 3, 4].map((ctxId) => guest.connect(ctxId)) as [
      number,
      number,
      number,
      number,
    ];
    guest.compositor.hangUp(gone);
    let refused = 0;
    for (let i = 0; i < 400 && refused === 0; i++) {
      if (guest.submit(2, sendCommand(new Uint8Array(60_000))) === UNSPEC) refused++;
    }
    expect(refused).toBe(1);
    FakeCompositor.send(silent, Buffer.alloc(100_000));
    FakeCompositor.send(good, Buffer.from('fine'));
    guest.poll(4);
    expect(await guest.told(1)).toEqual([4]);
    expect(guest.ring(4).data.toString()).toBe('fine');
    expect(guest.submit(4, sendCommand(Buffer.from('well')))).toBe(OK);
    expect(FakeCompositor.take(good).data.toString()).toBe('well');
  });
});
