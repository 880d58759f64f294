/** The good side of the protocol; the bad side is in malformed.test.ts. */
import { closeSync, fstatSync } from 'node:fs';
import { describe, expect, test, vi } from 'vitest';
import {
  createMemfd,
  drainEventfd,
  Mapping,
  receive,
  registrySize,
  signalEventfd,
} from '../../../native/index.ts';
import type { Received } from '../../../server/vfio-user/client.ts';
import {
  DEVICE_GET_IRQ_INFO,
  DEVICE_GET_REGION_INFO,
  DEVICE_GET_REGION_IO_FDS,
  DEVICE_RESET,
  DEVICE_SET_IRQS,
  DMA_MAP,
  DMA_UNMAP,
  ioEventFd,
  REGION_READ,
  REGION_WRITE,
  VERSION,
} from '../../../server/vfio-user/protocol.ts';
import { viewOf } from '../../../server/wire.ts';
import { bodies, eventfds, messageBytes, openFds, Served } from '../../support/fake-client.ts';
import { soon } from '../../support/soon.ts';

const ENOSPC = 28;
const MIB = 1 << 20;
const QEMU_PROPOSAL =
  '{"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, "max_data_xfer_size": 1048576, ' +
  '"migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, "write_multiple": true}}';
const words = (body: Uint8Array) => [...new Uint32Array(body.slice().buffer)];

describe('VERSION', () => {
  test('is answered with 0.0 and an object of capabilities, no longer than the request of QEMU', async () => {
    using served = await Served.start({ handshake: false });
    const reply = await served.client.request(VERSION, bodies.version(QEMU_PROPOSAL));
    const text = Buffer.from(reply.body.subarray(4)).toString();
    expect([...reply.body.subarray(0, 4)]).toEqual([0, 0, 0, 0]);
    expect(text).toBe(
      '{"capabilities":{"max_msg_fds":16,"max_data_xfer_size":1048576,"max_dma_maps":65535}}\0',
    );
    expect(reply.sizeBytes).toBeLessThanOrEqual(214);
    expect(served.connection.client).toEqual({
      maxMsgFds: 16,
      maxDataXferSize: MIB,
      maxDmaMaps: 65_535,
      answersCommands: true,
    });
  });

  test('0.1 without the keys of QEMU, as cloud-hypervisor sends it, is a client that takes no commands', async () => {
    using served = await Served.start({ handshake: false });
    const json =
      '{"capabilities":{"max_msg_fds":1,"max_data_xfer_size":1048576,"migration":{"pgsize":4096}}}';
    const reply = await served.client.request(VERSION, bodies.version(json, 0, 1));
    expect(reply.flags).toBe(1);
    expect(served.connection.client?.answersCommands).toBe(false);
  });

  test.each([
    ['{}', 2 ** 20],
    ['{"max_dma_maps":65535}', 65_535],
    ['{"max_dma_maps":3}', 3],
    ['{"max_dma_maps":9007199254740991}', 2 ** 20],
  ])(
    'to %s names the windows that there may be: so many are taken, and no more',
    async (capabilities, most) => {
      using served = await Served.start({ handshake: false });
      const reply = await served.client.request(VERSION, bodies.version(`{"capabilities":${capabilities}}`));
      const told = JSON.parse(Buffer.from(reply.body.subarray(4, -1)).toString());
      expect(told.capabilities.max_dma_maps).toBe(most);
      for (let i = 0; i < most - 1; i++) {
        const window = { address: i * 8192, sizeBytes: 4096, readable: true, writable: true, fileOffset: 0 };
        served.host.mapDma(window, undefined, most);
      }
      const last = bodies.dmaMap({ address: 2 ** 40 });
      const beyond = bodies.dmaMap({ address: 2 ** 41 });
      expect(await served.errno(DMA_MAP, last)).toBe(0);
      expect(await served.errno(DMA_MAP, beyond)).toBe(ENOSPC);
      expect(await served.errno(DMA_MAP, last)).toBe(0);
      expect(served.memory.windowCount).toBe(most);
      await served.errno(DMA_UNMAP, bodies.dmaUnmap({ address: 2 ** 40 }));
      expect(await served.errno(DMA_MAP, beyond)).toBe(0);
    },
  );
});

describe('the shape of the device', () => {
  test('without a window: registers and config space', async () => {
    using served = await Served.start();
    const sizes: number[] = [];
    for (let index = 0; index < 9; index++) sizes.push((await served.client.regionInfo(index)).size);
    expect(sizes).toEqual([0x8000, 0, 0, 0, 0, 0, 0, 256, 0]);
  });

  test('regions that exist can be read and written; the others have no flags', async () => {
    using served = await Served.start();
    const flags: number[] = [];
    for (let index = 0; index < 9; index++) flags.push((await served.client.regionInfo(index)).flags);
    expect(flags).toEqual([3, 0, 0, 0, 0, 0, 0, 3, 0]);
  });

  test('the window comes with one descriptor of a file of its size, in the same message', async () => {
    using served = await Served.start({ windowBytes: 16 * MIB });
    const reply = await served.client.request(DEVICE_GET_REGION_INFO, bodies.regionInfo(4));
    expect(words(reply.body)).toEqual([32, 7, 4, 0, 16 * MIB, 0, 0, 0]);
    expect(reply.fds).toHaveLength(1);
    expect(fstatSync(reply.fds[0] as number).size).toBe(16 * MIB);
    closeSync(reply.fds[0] as number);
  });

  test('the window is the same memory through the descriptor and through messages', async () => {
    using served = await Served.start({ windowBytes: 16 * MIB });
    const reply = await served.client.request(DEVICE_GET_REGION_INFO, bodies.regionInfo(4));
    const mapping = Mapping.map(reply.fds[0] as number, { lengthBytes: 16 * MIB, writable: true });
    closeSync(reply.fds[0] as number);
    mapping.bytes(5 * MIB, 4).set([1, 2, 3, 4]);
    expect([...(await served.client.readRegion(4, 5 * MIB, 4))]).toEqual([1, 2, 3, 4]);
    await served.client.writeRegion(4, 16 * MIB - 2, Uint8Array.of(8, 9));
    expect([...mapping.bytes(16 * MIB - 2, 2)]).toEqual([8, 9]);
    mapping.close();
  });

  test('interrupts: 3 MSI-X vectors, one ERR, nothing else', async () => {
    using served = await Served.start();
    const infos: number[][] = [];
    for (let index = 0; index < 5; index++) {
      infos.push(words((await served.client.request(DEVICE_GET_IRQ_INFO, bodies.irqInfo(index))).body));
    }
    expect(infos).toEqual([
      [16, 0, 0, 0],
      [16, 0, 1, 0],
      [16, 1, 2, 3],
      [16, 1, 3, 1],
      [16, 0, 4, 0],
    ]);
  });

  test('config space can be read in one piece', async () => {
    using served = await Served.start();
    const config = await served.client.readRegion(7, 0, 256);
    expect([...config.subarray(0, 4)]).toEqual([0xf4, 0x1a, 0x50, 0x10]);
    expect(config[0x34]).toBe(0x40);
  });
});

describe('interrupts', () => {
  const attach = (served: Served, start: number, fds: readonly number[]) =>
    served.errno(DEVICE_SET_IRQS, bodies.setIrqs(0x24, 2, start, fds.length), fds);
  const detach = (served: Served, start: number, count: number) =>
    served.errno(DEVICE_SET_IRQS, bodies.setIrqs(count === 0 ? 0x21 : 0x24, 2, start, count));

  test('go to the eventfd of their vector', async () => {
    using served = await Served.start();
    const fds = eventfds(3);
    expect(await attach(served, 0, fds)).toBe(0);
    served.host.interrupts.fire(1);
    served.host.interrupts.fire(1);
    served.host.interrupts.fire(2);
    expect(fds.map(drainEventfd)).toEqual([0, 2, 1]);
    expect(served.host.interrupts.fired).toEqual([0, 2, 1]);
    for (const fd of fds) closeSync(fd);
  });

  test('without an eventfd are remembered and signalled when one comes, once', async () => {
    using served = await Served.start();
    served.host.interrupts.fire(1);
    served.host.interrupts.fire(1);
    const fds = eventfds(2);
    await attach(served, 0, fds);
    expect(fds.map(drainEventfd)).toEqual([0, 1]);
    for (const fd of fds) closeSync(fd);
  });

  test('remembered across a reset are forgotten', async () => {
    using served = await Served.start();
    served.host.interrupts.fire(0);
    await served.errno(DEVICE_RESET, new Uint8Array(0));
    const fds = eventfds(1);
    await attach(served, 0, fds);
    expect(fds.map(drainEventfd)).toEqual([0]);
    closeSync(fds[0] as number);
  });

  test('keep their eventfd over a reset', async () => {
    using served = await Served.start();
    const [fd] = eventfds(1) as [number];
    await attach(served, 0, [fd]);
    await served.errno(DEVICE_RESET, new Uint8Array(0));
    served.host.interrupts.fire(0);
    expect(drainEventfd(fd)).toBe(1);
    closeSync(fd);
  });

  test('move to a new eventfd, and the old one is closed', async () => {
    using served = await Served.start();
    const before = openFds();
    const [one, two] = eventfds(2) as [number, number];
    await attach(served, 0, [one]);
    await attach(served, 0, [two]);
    served.host.interrupts.fire(0);
    expect([drainEventfd(one), drainEventfd(two)]).toEqual([0, 1]);
    closeSync(one);
    closeSync(two);
    expect(openFds()).toBe(before + 1);
  });

  test('are detached one by one, or all at once', async () => {
    using served = await Served.start();
    const before = openFds();
    const fds = eventfds(3);
    await attach(served, 0, fds);
    expect(await detach(served, 1, 1)).toBe(0);
    served.host.interrupts.fire(1);
    expect(drainEventfd(fds[1] as number)).toBe(0);
    expect(await detach(served, 0, 0)).toBe(0);
    served.host.interrupts.fire(0);
    expect(drainEventfd(fds[0] as number)).toBe(0);
    for (const fd of fds) closeSync(fd);
    expect(openFds()).toBe(before);
  });

  test('can be triggered by the client, all or by booleans', async () => {
    using served = await Served.start();
    const fds = eventfds(3);
    await attach(served, 0, fds);
    await served.errno(DEVICE_SET_IRQS, bodies.setIrqs(0x21, 2, 1, 2));
    await served.errno(DEVICE_SET_IRQS, bodies.setIrqs(0x22, 2, 0, 3, { data: [1, 0, 1] }));
    expect(fds.map(drainEventfd)).toEqual([1, 1, 2]);
    for (const fd of fds) closeSync(fd);
  });

  test('take as many eventfds in one message as VERSION names, and each is signalled', async () => {
    const before = openFds();
    {
      using served = await Served.start({ queueCount: 19, handshake: false });
      const reply = await served.client.request(VERSION, bodies.version(QEMU_PROPOSAL));
      const told = JSON.parse(Buffer.from(reply.body.subarray(4, -1)).toString());
      expect(told.capabilities.max_msg_fds).toBe(16);
      // As cloud-hypervisor arms 20 vectors: 16, then the rest.
      const fds = eventfds(20);
      expect(await attach(served, 0, fds.slice(0, 16))).toBe(0);
      expect(await attach(served, 16, fds.slice(16))).toBe(0);
      for (let vector = 0; vector < 20; vector += vector === 14 ? 1 : 2) served.host.interrupts.fire(vector);
      expect(fds.map(drainEventfd)).toEqual([1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 1, 0, 1, 0, 1]);
      for (const fd of fds) closeSync(fd);
      expect(await detach(served, 0, 0)).toBe(0);
      expect(openFds()).toBe(before + 2);
    }
    expect(openFds()).toBe(before);
  });

  test('QEMU switches MSI-X on with a vector that has no eventfd', async () => {
    using served = await Served.start();
    expect(await served.errno(DEVICE_SET_IRQS, bodies.setIrqs(0x24, 2, 0, 1))).toBe(0);
  });
});

describe('memory', () => {
  test('is mapped, read and written, and gone after the unmap is answered', async () => {
    using served = await Served.start();
    const fd = createMemfd('ram', 4 * MIB, { seals: 'size' });
    const mine = Mapping.map(fd, { lengthBytes: 4 * MIB, writable: true });
    expect(await served.errno(DMA_MAP, bodies.dmaMap({ offset: 2 * MIB }), [fd])).toBe(0);
    mine.bytes(2 * MIB + 16, 2).set([7, 8]);
    const into = new Uint8Array(2);
    expect(served.memory.read(0x10_0010, into)).toBe(true);
    expect([...into]).toEqual([7, 8]);
    const reply = await served.client.request(DMA_UNMAP, bodies.dmaUnmap());
    expect(reply.body).toEqual(bodies.dmaUnmap());
    expect(served.memory.read(0x10_0010, into)).toBe(false);
    mine.close();
    closeSync(fd);
  });

  test('a batch of maps and unmaps without waiting is done in order', async () => {
    using served = await Served.start();
    const fd = createMemfd('ram', 4 * MIB, { seals: 'size' });
    const ids = [
      served.client.post(DMA_MAP, bodies.dmaMap({ size: 2 * MIB }), [fd]),
      served.client.post(DMA_UNMAP, bodies.dmaUnmap({ size: 2 * MIB })),
      served.client.post(DMA_MAP, bodies.dmaMap({ size: MIB }), [fd]),
      served.client.post(DMA_MAP, bodies.dmaMap({ address: 0x20_0000, offset: MIB }), [fd]),
    ];
    const replies = await Promise.all(ids.map((id) => served.client.reply(id)));
    expect(replies.map(({ flags }) => flags)).toEqual([1, 1, 1, 1]);
    expect(served.memory.windowCount).toBe(2);
    closeSync(fd);
  });
});

describe('the flags of DMA_MAP', () => {
  const READABLE = 1;
  const WRITEABLE = 2;
  const BY_MMAP = 4;
  const BY_FILE_IO = 8;
  const EINVAL = 22;
  test.each(Array.from({ length: 16 }, (_, flags) => [flags]))(
    '%i: what may be done with a window, and what needs a descriptor',
    async (flags) => {
      using served = await Served.start();
      const before = openFds();
      const mappings = registrySize();
      const needsFd = (flags & (BY_MMAP | BY_FILE_IO)) !== 0;
      const isUsable = (flags & (READABLE | WRITEABLE)) !== 0;
      const isWritable = (flags & WRITEABLE) !== 0;
      const covered = (address: number) =>
        (['read', 'write'] as const).map((access) => served.memory.covers(address, MIB, access));

      expect(await served.errno(DMA_MAP, bodies.dmaMap({ flags }))).toBe(needsFd ? EINVAL : 0);
      expect(covered(0x10_0000)).toEqual([false, false]);
      expect([served.memory.windowCount, served.memory.mappedBytes]).toEqual([needsFd ? 0 : 1, 0]);
      expect(registrySize()).toEqual(mappings);

      const fd = createMemfd('can shrink', MIB);
      expect(await served.errno(DMA_MAP, bodies.dmaMap({ flags, address: 0x40_0000 }), [fd])).toBe(0);
      expect(await served.errno(DMA_MAP, bodies.dmaMap({ flags, address: 0x40_0000 }), [fd])).toBe(0);
      closeSync(fd);
      expect(covered(0x40_0000)).toEqual([isUsable, isWritable]);
      expect(served.memory.write(0x40_0000, Uint8Array.of(1))).toBe(isWritable);
      expect(served.memory.read(0x40_0000, new Uint8Array(1))).toBe(isUsable);
      expect(served.memory.mappedBytes).toBe(isUsable ? MIB : 0);
      const { guards } = registrySize();
      expect(guards - mappings.guards).toBe(isUsable ? 1 : 0);

      expect(await served.errno(DMA_UNMAP, bodies.dmaUnmap({ address: 0, size: 2 ** 40 }))).toBe(0);
      expect([served.memory.windowCount, served.memory.mappedBytes]).toEqual([0, 0]);
      expect(registrySize()).toEqual(mappings);
      expect(openFds()).toBe(before);
    },
  );
});

describe('a client that closes before it is answered', () => {
  test.each([
    ['one DMA_MAP', 1, false],
    ['many of them', 200, false],
    ['one DMA_MAP, and half of the next', 1, true],
  ])('after %s leaves no descriptor and no mapping', async (_, count, isCutShort) => {
    const before = openFds();
    const mappings = registrySize();
    using served = await Served.start();
    const fd = createMemfd('ram', count * MIB);
    for (let i = 0; i < count; i++) {
      const body = bodies.dmaMap({ address: i * 2 * MIB, offset: i * MIB });
      served.client.sendBytes(messageBytes({ id: i, command: DMA_MAP, flags: 0 }, body), [fd]);
    }
    const half = messageBytes({ id: count, command: DMA_MAP, flags: 0 }, bodies.dmaMap()).subarray(0, 20);
    if (isCutShort) served.client.sendBytes(half, [fd]);
    closeSync(fd);
    served.client.close();
    await vi.waitUntil(() => served.connection.closed);
    expect(served.counters.messages.DMA_MAP).toBeGreaterThan(0);
    expect(served.lines.filter(({ level }) => level === 'error')).toEqual([]);
    expect([served.memory.windowCount, served.memory.mappedBytes]).toEqual([0, 0]);
    expect(registrySize()).toEqual(mappings);
    expect(openFds()).toBe(before);
  });
});

describe('requests without waiting for answers', () => {
  /** Sends many at once and resolves with the answers, in the order in which they came. */
  async function answersTo(served: Served, requests: readonly [command: number, body: Uint8Array][]) {
    const ids: number[] = [];
    const replies = requests.map((_, id) => served.client.reply(id).then((reply) => [ids.push(id), reply]));
    const bytes = requests.map(([command, body], id) => messageBytes({ id, command, flags: 0 }, body));
    served.client.sendBytes(Buffer.concat(bytes));
    const received = (await Promise.all(replies)).map(([, reply]) => reply as Received);
    return { ids, received };
  }
  const inOrder = (count: number) => Array.from({ length: count }, (_, id) => id);

  test('are all answered, in order, however many fit one read', async () => {
    using served = await Served.start();
    const { ids, received } = await answersTo(
      served,
      inOrder(1000).map((id) => [REGION_WRITE, bodies.access(7, 0x3c, 1, [id & 0xff])]),
    );
    expect(ids).toEqual(inOrder(1000));
    expect(received.every(({ flags }) => flags === 1)).toBe(true);
    expect([...(await served.client.readRegion(7, 0x3c, 1))]).toEqual([999 & 0xff]);
  });

  test('are all answered when the socket has no room for the answers at once', async () => {
    using served = await Served.start({ windowBytes: MIB });
    const { ids, received } = await answersTo(
      served,
      inOrder(40).map(() => [REGION_READ, bodies.access(4, 0, MIB)]),
    );
    expect(ids).toEqual(inOrder(40));
    expect(received.every(({ sizeBytes }) => sizeBytes === 32 + MIB)).toBe(true);
  });
});

describe('doorbells', () => {
  test('are offered as an ioeventfd that fits one descriptor', async () => {
    using served = await Served.start();
    const short = await served.client.request(DEVICE_GET_REGION_IO_FDS, bodies.regionIoFds(0));
    expect(words(short.body)).toEqual([96, 0, 0, 2]);
    expect(short.fds).toHaveLength(0);
    const full = await served.client.request(DEVICE_GET_REGION_IO_FDS, bodies.regionIoFds(0, { argsz: 96 }));
    const entries = [0, 1].map((i) => ioEventFd.get(viewOf(full.body), 16 + 40 * i));
    expect(entries).toEqual([
      { offset: 0x3000, size: 2, fdIndex: 0, type: 0, flags: 0, datamatch: 0n },
      { offset: 0x3004, size: 2, fdIndex: 0, type: 0, flags: 0, datamatch: 1n },
    ]);
    expect(full.fds).toHaveLength(1);
    let rung = 0;
    served.fn.ringAllDoorbells = () => rung++;
    signalEventfd(full.fds[0] as number);
    await soon(() => expect(rung).toBe(1));
    closeSync(full.fds[0] as number);
  });

  test('a region without doorbells offers none', async () => {
    using served = await Served.start();
    const reply = await served.client.request(DEVICE_GET_REGION_IO_FDS, bodies.regionIoFds(7, { argsz: 96 }));
    expect(words(reply.body)).toEqual([16, 0, 7, 0]);
    expect(reply.fds).toHaveLength(0);
  });

  test('a write is answered before the work it asks for is done', async () => {
    using served = await Served.start();
    served.client.pause();
    const answer = new Uint8Array(32);
    const worked = new Promise<number>((resolve) => {
      served.host.settle = () => resolve(receive(served.client.fd, answer, 0, 32, new Int32Array(2)));
    });
    served.client.post(REGION_WRITE, bodies.access(0, 0x3000, 2, [0, 0]));
    expect(await worked).toBe(32);
    expect(answer[2]).toBe(REGION_WRITE);
  });

  test('posted writes are done and not answered', async () => {
    using served = await Served.start();
    for (let i = 0; i < 100; i++) served.client.postWrite(7, 0x3c, Uint8Array.of(i));
    expect([...(await served.client.readRegion(7, 0x3c, 1))]).toEqual([99]);
  });
});

describe('the end of a connection', () => {
  test('leaves a clean device: no memory, no eventfd, no driver', async () => {
    const before = openFds();
    using served = await Served.start();
    const fd = createMemfd('ram', MIB);
    const irqs = eventfds(3);
    await served.errno(DMA_MAP, bodies.dmaMap(), [fd]);
    await served.errno(DEVICE_SET_IRQS, bodies.setIrqs(0x24, 2, 0, 3), irqs);
    for (const one of [fd, ...irqs]) closeSync(one);
    await served.client.writeRegion(0, 0x14, Uint8Array.of(1));
    const resets = served.device.resets;
    served.client.close();
    await soon(() => expect(served.connection.closed).toBe(true));
    expect(served.memory.windowCount).toBe(0);
    expect(served.device.resets).toBe(resets + 1);
    expect(served.fn.status).toBe(0);
    expect(openFds()).toBe(before);
  });

  test('a mistake of ours ends the connection, with its cause in the log', async () => {
    using served = await Served.start();
    served.fn.readConfig = () => {
      throw new Error('made for this test');
    };
    served.client.post(REGION_READ, bodies.access(7, 0, 4));
    await served.client.ended;
    expect(served.lines.at(-1)).toMatchObject({
      level: 'error',
      message: 'connection ended: internal error',
    });
    expect(served.counters.errors).toEqual({ internal: 1 });
  });

  test('a mistake of ours outside of any request is reported, not thrown into the void', async () => {
    using served = await Served.start();
    served.fn.service = () => {
      throw new Error('made for this test');
    };
    served.host.wake();
    await soon(() => expect(served.failures).toHaveLength(1));
  });
});
