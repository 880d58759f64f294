/**
 * What a client can send against the protocol, and what it gets. The numbers in brackets are the rows of the
 * project's table of malformed and hostile input. Every message that is refused must also leave no descriptor open.
 */
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test, vi } from 'vitest';
import { createEventfd, createMemfd, drainEventfd, socketPair } from '../../../native/index.ts';
import {
  DEVICE_FEATURE,
  DEVICE_GET_INFO,
  DEVICE_GET_IRQ_INFO,
  DEVICE_GET_REGION_INFO,
  DEVICE_GET_REGION_IO_FDS,
  DEVICE_RESET,
  DEVICE_SET_IRQS,
  DMA_MAP,
  DMA_READ,
  DMA_UNMAP,
  DMA_WRITE,
  FLAG_ERROR,
  FLAG_NO_REPLY,
  MIG_DATA_READ,
  MIG_DATA_WRITE,
  REGION_READ,
  REGION_WRITE,
  REGION_WRITE_MULTI,
  TYPE_COMMAND,
  TYPE_REPLY,
  VERSION,
} from '../../../server/vfio-user/protocol.ts';
import { bodies, eventfds, messageBytes, openFds, Served } from '../../support/fake-client.ts';
import { reopen } from '../../support/real-memory.ts';
import { soon } from '../../support/soon.ts';

const EACCES = 13;
const EEXIST = 17;
const ENODEV = 19;
const EINVAL = 22;
const ENOSPC = 28;
const EMPTY = new Uint8Array(0);
const MIB = 1 << 20;

const header = (fields: { command?: number; flags?: number; sizeBytes?: number }) =>
  messageBytes({ id: 0, command: DEVICE_RESET, flags: TYPE_COMMAND, ...fields }, EMPTY);
const memfd = (lengthBytes = MIB) => createMemfd('test', lengthBytes);

/** Runs the body and checks that it leaves as many descriptors open as there were. */
async function leakFree(body: () => Promise<void>): Promise<void> {
  const before = openFds();
  await body();
  expect(openFds()).toBe(before);
}

describe('framing', () => {
  test('end of stream inside a header: closed (1)', async () => {
    using served = await Served.start();
    served.client.sendBytes(header({}).subarray(0, 7));
    served.client.close();
    await soon(() => expect(served.connection.closed).toBe(true));
    expect(served.counters.errors).toEqual({ stream: 1 });
  });

  test('end of stream inside a body: closed, and its descriptors with it (2)', async () => {
    await leakFree(async () => {
      using served = await Served.start();
      const fd = memfd();
      const bytes = messageBytes({ id: 0, command: DMA_MAP, flags: 0 }, bodies.dmaMap());
      served.client.sendBytes(bytes.subarray(0, 40), [fd]);
      closeSync(fd);
      served.client.close();
      await soon(() => expect(served.connection.closed).toBe(true));
    });
  });

  test.each([0, 15])('size %i: EINVAL, closed (3)', async (sizeBytes) => {
    using served = await Served.start();
    const reply = await served.untilClosed((client) => client.sendBytes(header({ sizeBytes })));
    expect(reply).toMatchObject({ error: EINVAL });
  });

  test.each([MIB + 33, 0xffff_ffff])('size %i: EINVAL, closed (4)', async (sizeBytes) => {
    using served = await Served.start();
    const reply = await served.untilClosed((client) => client.sendBytes(header({ sizeBytes })));
    expect(reply).toMatchObject({ error: EINVAL });
  });

  test.each([
    DMA_MAP,
    DMA_UNMAP,
    DEVICE_GET_INFO,
    DEVICE_GET_REGION_INFO,
    DEVICE_GET_REGION_IO_FDS,
    DEVICE_GET_IRQ_INFO,
    DEVICE_SET_IRQS,
    REGION_READ,
    REGION_WRITE,
    REGION_WRITE_MULTI,
    DEVICE_FEATURE,
    MIG_DATA_READ,
    MIG_DATA_WRITE,
  ])('command %i without the payload it needs: EINVAL (5)', async (command) => {
    using served = await Served.start({ writeMultiple: true });
    expect(await served.errno(command, EMPTY)).toBe(EINVAL);
    expect(await served.alive()).toBe(true);
  });

  test('a reply to nothing is dropped; many close the connection (6)', async () => {
    using served = await Served.start();
    const reply = messageBytes({ id: 9, command: DMA_READ, flags: TYPE_REPLY }, EMPTY);
    served.client.sendBytes(reply);
    expect(await served.alive()).toBe(true);
    for (let i = 0; i < 20; i++) served.client.sendBytes(reply);
    await served.client.ended;
  });

  test.each([2, 7, 15])('type %i: closed (7)', async (type) => {
    using served = await Served.start();
    await served.untilClosed((client) => client.sendBytes(header({ flags: type })));
  });

  test.each([0, DMA_READ, DMA_WRITE, 14, 19, 0xffff])(
    'command %i: EINVAL, body consumed (8)',
    async (command) => {
      using served = await Served.start();
      expect(await served.errno(command, new Uint8Array(40))).toBe(EINVAL);
      expect(await served.alive()).toBe(true);
    },
  );

  test('reserved flag bits and the error field of a command: ignored (9)', async () => {
    using served = await Served.start();
    const reply = served.client.reply(77);
    const fields = { id: 77, command: DEVICE_RESET, flags: 0xffff_ffc0, error: 5 };
    served.client.sendBytes(messageBytes(fields, EMPTY));
    expect(await reply).toMatchObject({ flags: 1, error: 0, sizeBytes: 16 });
  });

  test('NO_REPLY on a getter: executed, silent (10)', async () => {
    using served = await Served.start();
    served.client.post(DEVICE_GET_INFO, bodies.deviceInfo(), [], FLAG_NO_REPLY);
    served.client.post(DEVICE_GET_INFO, bodies.deviceInfo(0), [], FLAG_NO_REPLY);
    expect(await served.alive()).toBe(true);
    expect(served.counters.messages).toMatchObject({ DEVICE_GET_INFO: 3 });
    expect(served.counters.errors).toEqual({ 'errno 22': 1 });
  });

  test('NO_REPLY on VERSION: answered all the same (11)', async () => {
    using served = await Served.start({ handshake: false });
    const reply = served.client.reply(0);
    served.client.post(VERSION, bodies.version('{}'), [], FLAG_NO_REPLY);
    expect(await reply).toMatchObject({ flags: 1 });
  });

  test('descriptors on a command that takes none: closed, command runs (12, 71)', async () => {
    await leakFree(async () => {
      using served = await Served.start();
      expect(await served.errnoWith(DEVICE_RESET, EMPTY, eventfds(3))).toBe(0);
      expect(await served.errnoWith(DEVICE_GET_INFO, bodies.deviceInfo(0), eventfds(2))).toBe(EINVAL);
    });
  });

  test('more descriptors than we take in one message: closed, none left (13)', async () => {
    await leakFree(async () => {
      using served = await Served.start();
      const fds = eventfds(17);
      await served.untilClosed((client) => client.post(DEVICE_RESET, EMPTY, fds));
      for (const fd of fds) closeSync(fd);
    });
  });

  test('descriptors attached to body bytes: closed, none left (14)', async () => {
    await leakFree(async () => {
      using served = await Served.start();
      const bytes = messageBytes({ id: 0, command: DMA_MAP, flags: 0 }, bodies.dmaMap());
      const fd = memfd();
      await served.untilClosed((client) => {
        client.sendBytes(bytes.subarray(0, 20));
        return sleep(20).then(() => client.sendBytes(bytes.subarray(20), [fd]));
      });
      closeSync(fd);
    });
  });

  test('the same message id twice: legal (15)', async () => {
    using served = await Served.start();
    for (let i = 0; i < 2; i++) {
      const reply = served.client.reply(5);
      served.client.sendBytes(
        messageBytes({ id: 5, command: DEVICE_GET_INFO, flags: 0 }, bodies.deviceInfo()),
      );
      expect((await reply).id).toBe(5);
    }
  });

  test('one byte at a time is a message all the same', async () => {
    using served = await Served.start();
    const reply = served.client.reply(3);
    for (const byte of messageBytes({ id: 3, command: DEVICE_GET_INFO, flags: 0 }, bodies.deviceInfo())) {
      served.client.sendBytes(Uint8Array.of(byte));
      await sleep(1);
    }
    expect(await reply).toMatchObject({ flags: 1, sizeBytes: 32 });
  });
});

describe('VERSION', () => {
  const refused = async (body: Uint8Array, command = VERSION) => {
    using served = await Served.start({ handshake: false });
    const reply = await served.untilClosed((client) => client.post(command, body));
    expect(reply).toMatchObject({ error: EINVAL, flags: 0x21, sizeBytes: 16 });
  };
  const accepted = async (body: Uint8Array) => {
    using served = await Served.start({ handshake: false });
    expect(await served.errno(VERSION, body)).toBe(0);
    expect(await served.alive()).toBe(true);
  };
  const capabilities = (json: string) => bodies.version(`{"capabilities":${json}}`);

  test('not the first message: EINVAL, closed (16)', () => refused(bodies.deviceInfo(), DEVICE_GET_INFO));
  test.each([0, 3])('payload of %i bytes: EINVAL, closed (17)', (length) => refused(new Uint8Array(length)));
  test('major 1: EINVAL, closed (18)', () => refused(bodies.version('{}', 1)));
  test('text without final NUL: EINVAL, closed (19)', () => refused(bodies.version('{}').subarray(0, -1)));
  test.each(['{', '"', '', '{"capabilities":', 'nul'])('text %j: EINVAL, closed (20)', (json) =>
    refused(bodies.version(json)),
  );
  test.each(['[]', '3', '"x"', 'null'])('capabilities %s: EINVAL, closed (21)', (json) =>
    refused(capabilities(json)),
  );
  test.each(['"8"', '-1', '1025', '1.5', '1e99'])('max_msg_fds %s: EINVAL, closed (22)', (value) =>
    refused(capabilities(`{"max_msg_fds":${value}}`)),
  );
  test('max_msg_fds 1024, the largest: accepted (22)', () => accepted(capabilities('{"max_msg_fds":1024}')));
  test.each(['"8"', '0', '-1', '1.5', '1e99'])('max_dma_maps %s: EINVAL, closed (22)', (value) =>
    refused(capabilities(`{"max_dma_maps":${value}}`)),
  );
  test.each(['"1"', '0', '-5', '1.5'])('max_data_xfer_size %s: EINVAL, closed (23)', (value) =>
    refused(capabilities(`{"max_data_xfer_size":${value}}`)),
  );
  test.each(['3', '{"pgsize":"x"}', '{"pgsize":4097}', '[]'])(
    'migration %s: ignored, it is not offered (24)',
    (value) => accepted(capabilities(`{"migration":${value}}`)),
  );
  test('malformed twin_socket: ignored, it is not offered (25)', () =>
    accepted(capabilities('{"twin_socket":7}')));
  test('no text: accepted with defaults (26)', () => accepted(bodies.version(undefined)));
  test('{}: accepted with defaults (26)', () => accepted(bodies.version('{}')));
  test('very deep text: no crash (27)', async () => {
    using served = await Served.start({ handshake: false });
    await served.untilClosed((client) => client.post(VERSION, bodies.version('['.repeat(100_000))));
  });
  test('very long text: accepted (27)', () => accepted(bodies.version(`{"x":"${'y'.repeat(100_000)}"}`)));
  test('again later: EINVAL (28)', async () => {
    using served = await Served.start();
    expect(await served.errno(VERSION, bodies.version('{}'))).toBe(EINVAL);
    expect(await served.alive()).toBe(true);
  });
});

describe('DMA_MAP', () => {
  const map = async (body: Uint8Array, fds: readonly number[]) => {
    let errno = -1;
    await leakFree(async () => {
      using served = await Served.start();
      errno = await served.errno(DMA_MAP, body, fds);
      expect(await served.alive()).toBe(true);
    });
    for (const fd of fds) closeSync(fd);
    return errno;
  };

  test('payload or argsz below 32: EINVAL (29)', async () => {
    expect(await map(bodies.dmaMap().subarray(0, 31), [memfd()])).toBe(EINVAL);
    expect(await map(bodies.dmaMap({ argsz: 31 }), [memfd()])).toBe(EINVAL);
  });
  test('unknown flags: EINVAL, descriptor closed (30)', async () => {
    expect(await map(bodies.dmaMap({ flags: 0x13 }), [memfd()])).toBe(EINVAL);
  });
  test.each([0x7, 0xb])('flags %i without a descriptor: EINVAL (31)', async (flags) => {
    expect(await map(bodies.dmaMap({ flags }), [])).toBe(EINVAL);
  });
  test('more than 8 TiB: ENOSPC (32)', async () => {
    expect(await map(bodies.dmaMap({ size: 9 * 2 ** 40 }), [])).toBe(ENOSPC);
  });
  test.each([
    ['size 0', { size: 0 }],
    ['address + size beyond 2^64', { address: 2 ** 64 - 4096, size: 8192 }],
    ['address beyond anything', { address: 2 ** 60 }],
    ['offset + size beyond 2^64', { offset: 2 ** 64 - 4096 }],
  ])('%s: EINVAL (33)', async (_, fields) => {
    expect(await map(bodies.dmaMap(fields), [memfd()])).toBe(EINVAL);
    expect(await map(bodies.dmaMap(fields), [])).toBe(EINVAL);
  });

  test('overlap: EEXIST; exact repeat: success; same range of another file, offset or access: EEXIST (34, 35, 36)', async () => {
    await leakFree(async () => {
      using served = await Served.start();
      const fd = memfd(4 * MIB);
      const other = memfd(4 * MIB);
      const map = (fields: object, file = fd) => served.errno(DMA_MAP, bodies.dmaMap(fields), [file]);
      expect(await map({})).toBe(0);
      expect(await map({ address: 0x8_0000 })).toBe(EEXIST);
      expect(await map({ address: 0x18_0000 })).toBe(EEXIST);
      expect(await map({ address: 0, size: 4 * MIB })).toBe(EEXIST);
      expect(await map({ address: 0x14_0000, size: 4096 })).toBe(EEXIST);
      expect(await map({})).toBe(0);
      expect(await map({}, other)).toBe(EEXIST);
      expect(await map({ offset: MIB })).toBe(EEXIST);
      expect(await map({ flags: 1 })).toBe(EEXIST);
      expect(await served.errno(DMA_MAP, bodies.dmaMap({}))).toBe(EEXIST);
      expect(await map({ address: 0x20_0000 })).toBe(0);
      expect(served.memory.windowCount).toBe(2);
      closeSync(fd);
      closeSync(other);
    });
  });

  test('a socket, a directory or a write-only file: the errno of mmap (38)', async () => {
    const [one, two] = socketPair();
    expect(await map(bodies.dmaMap(), [one])).toBe(ENODEV);
    closeSync(two);
    expect(await map(bodies.dmaMap({ flags: 1 }), [openSync('/', 'r')])).toBe(ENODEV);
    expect(await map(bodies.dmaMap(), [openSync('/', 'r')])).toBe(EACCES);
    const folder = mkdtempSync(join(tmpdir(), 'map-'));
    const writeOnly = openSync(join(folder, 'file'), 'w');
    rmSync(folder, { recursive: true });
    ftruncateSync(writeOnly, MIB);
    expect(await map(bodies.dmaMap(), [writeOnly])).toBe(EACCES);
  });

  test('offset that is not page-aligned: EINVAL (39)', async () => {
    expect(await map(bodies.dmaMap({ offset: 512, size: 4096 }), [memfd()])).toBe(EINVAL);
  });
  test('offset + size beyond the file: EINVAL (40)', async () => {
    expect(await map(bodies.dmaMap({ offset: 4096 }), [memfd()])).toBe(EINVAL);
  });

  test('a file truncated later: the access survives, the client is dropped (41)', async () => {
    using served = await Served.start();
    const fd = memfd();
    await served.errno(DMA_MAP, bodies.dmaMap(), [fd]);
    ftruncateSync(fd, 0);
    closeSync(fd);
    served.host.settle = () => void served.memory.read(0x10_0000, new Uint8Array(16));
    served.client.post(DEVICE_RESET, EMPTY);
    await served.client.ended;
    expect(served.lines.at(-1)?.fields).toEqual({ reason: 'the client truncated memory it had mapped' });
  });

  test('two descriptors: EINVAL (42)', async () => {
    expect(await map(bodies.dmaMap(), [memfd(), memfd()])).toBe(EINVAL);
  });

  test('without a descriptor is recorded, not touched, and can be taken away', async () => {
    using served = await Served.start();
    expect(await served.errno(DMA_MAP, bodies.dmaMap())).toBe(0);
    expect(served.memory.covers(0x10_0000, 16, 'read')).toBe(false);
    expect(await served.errno(DMA_UNMAP, bodies.dmaUnmap())).toBe(0);
  });

  test('a million times: the limit holds and nothing leaks (94)', async () => {
    await leakFree(async () => {
      using served = await Served.start();
      const fd = memfd();
      for (let i = 0; i < 2000; i++) {
        served.client.post(DMA_MAP, bodies.dmaMap(), [fd], FLAG_NO_REPLY);
        served.client.post(DMA_UNMAP, bodies.dmaUnmap(), [], FLAG_NO_REPLY);
        if (i % 50 === 0) expect(await served.alive()).toBe(true);
      }
      expect(await served.alive()).toBe(true);
      expect(served.memory.windowCount).toBe(0);
      closeSync(fd);
    });
  });
});

describe('DMA_UNMAP', () => {
  const errno = async (body: Uint8Array) => {
    using served = await Served.start();
    await served.errno(DMA_MAP, bodies.dmaMap());
    await served.errno(DMA_MAP, bodies.dmaMap({ address: 0x20_0000 }));
    const result = await served.errno(DMA_UNMAP, body);
    expect(served.memory.windowCount).toBe(2);
    return result;
  };
  test('payload or argsz too small or too large: EINVAL (43)', async () => {
    expect(await errno(bodies.dmaUnmap().subarray(0, 23))).toBe(EINVAL);
    expect(await errno(bodies.dmaUnmap({ argsz: 23 }))).toBe(EINVAL);
    expect(await errno(bodies.dmaUnmap({ argsz: MIB + 1 }))).toBe(EINVAL);
  });
  test.each([3, 4, 0x8000_0002])('flags %i: EINVAL (44)', async (flags) => {
    expect(await errno(bodies.dmaUnmap({ flags }))).toBe(EINVAL);
  });
  test('everything, with a range: EINVAL (45)', async () => {
    expect(await errno(bodies.dmaUnmap({ flags: 2 }))).toBe(EINVAL);
    expect(await errno(bodies.dmaUnmap({ flags: 2, address: 0 }))).toBe(EINVAL);
  });
  test.each([
    ['part of a window', { size: 4096 }],
    ['the end of a window', { address: 0x18_0000, size: 0x8_0000 }],
    ['the middle of a window', { address: 0x18_0000, size: 4096 }],
    ['one window and a part of the next', { size: 0x10_1000 }],
    ['a gap and a part of a window', { address: 0, size: 0x10_1000 }],
    ['nothing', { size: 0 }],
    ['what wraps', { address: 2 ** 53 - 4096, size: 2 ** 53 - 4096 }],
  ])('%s: EINVAL, nothing goes (46)', async (_, fields) => {
    expect(await errno(bodies.dmaUnmap(fields))).toBe(EINVAL);
  });
  test.each([
    ['one window', {}, [0x20_0000, 0x40_0000]],
    ['two windows', { size: 0x20_0000 }, [0x40_0000]],
    ['windows with gaps between and around them', { address: 0, size: 0x80_0000 }, []],
    ['a gap', { address: 0x30_0000 }, [0x10_0000, 0x20_0000, 0x40_0000]],
    ['what never was mapped', { address: 0x4000_0000 }, [0x10_0000, 0x20_0000, 0x40_0000]],
  ])('of %s: whole windows go', async (_, fields, left) => {
    using served = await Served.start();
    const starts = [0x10_0000, 0x20_0000, 0x40_0000];
    for (const address of starts) {
      expect(await served.errnoWith(DMA_MAP, bodies.dmaMap({ address }), [createMemfd('ram', MIB)])).toBe(0);
    }
    const { epoch } = served.memory;
    const reply = await served.client.request(DMA_UNMAP, bodies.dmaUnmap(fields));
    expect([reply.flags, reply.body]).toEqual([TYPE_REPLY, bodies.dmaUnmap(fields)]);
    expect(starts.filter((address) => served.memory.covers(address, MIB, 'write'))).toEqual(left);
    expect([served.memory.windowCount, served.memory.mappedBytes]).toEqual([left.length, left.length * MIB]);
    expect(served.memory.epoch > epoch).toBe(left.length < 3);
  });
  test('with a bitmap: EINVAL, nothing is tracked (47)', async () => {
    expect(await errno(bodies.dmaUnmap({ flags: 1 }))).toBe(EINVAL);
  });
  test('everything: all windows go', async () => {
    using served = await Served.start();
    await served.errno(DMA_MAP, bodies.dmaMap());
    expect(await served.errno(DMA_UNMAP, bodies.dmaUnmap({ flags: 2, address: 0, size: 0 }))).toBe(0);
    expect(served.memory.windowCount).toBe(0);
  });
});

describe('what is refused', () => {
  const capabilities = { 'cloud-hypervisor': '{}', QEMU: '{"capabilities":{"pgsizes":4096}}' };
  const refused: readonly [string, number, Uint8Array, number][] = [
    ['DMA_MAP', DMA_MAP, bodies.dmaMap({ size: 0 }), 0],
    ['DMA_UNMAP', DMA_UNMAP, bodies.dmaUnmap({ size: 0 }), 24],
    ['GET_INFO', DEVICE_GET_INFO, bodies.deviceInfo(3), 16],
    ['GET_REGION_INFO', DEVICE_GET_REGION_INFO, bodies.regionInfo(9), 32],
    ['GET_REGION_IO_FDS', DEVICE_GET_REGION_IO_FDS, bodies.regionIoFds(9), 16],
    ['GET_IRQ_INFO', DEVICE_GET_IRQ_INFO, bodies.irqInfo(9), 16],
    ['SET_IRQS', DEVICE_SET_IRQS, bodies.setIrqs(0x21, 9, 0, 1), 0],
    ['REGION_READ', REGION_READ, bodies.access(9, 0, 4), 16 + 4],
    ['REGION_READ of a lot', REGION_READ, bodies.access(0, 2 ** 40, MIB), 16 + MIB],
    ['REGION_WRITE', REGION_WRITE, bodies.access(9, 0, 4, [1, 2, 3, 4]), 16],
    ['REGION_WRITE_MULTI', REGION_WRITE_MULTI, bodies.writeMulti([]), 8],
    ['DEVICE_FEATURE', DEVICE_FEATURE, new Uint8Array(8), 0],
    ['an unknown command', 99, new Uint8Array(40), 0],
  ];
  test.each(refused)('%s is as long as the answer for who does not look at the error', async (...row) => {
    const [, command, body, bytes] = row;
    for (const [client, json] of Object.entries(capabilities)) {
      using served = await Served.start({ handshake: false });
      await served.client.request(VERSION, bodies.version(json));
      const reply = await served.client.request(command, body);
      expect(reply.flags & FLAG_ERROR).toBe(FLAG_ERROR);
      expect([client, reply.body.length]).toEqual([client, client === 'QEMU' ? 0 : bytes]);
      // The beginning of the request comes back, as with success, and nothing else.
      const fixed = Math.min(bytes, body.length, 32);
      if (client !== 'QEMU') {
        expect([...reply.body.subarray(0, 16)]).toEqual([...body.subarray(0, Math.min(fixed, 16))]);
        expect(reply.body.subarray(32).every((byte) => byte === 0)).toBe(true);
      }
      expect(await served.alive()).toBe(true);
    }
  });
});

describe('getters', () => {
  const errno = async (command: number, body: Uint8Array) => {
    using served = await Served.start();
    return await served.errno(command, body);
  };
  test('GET_INFO short, or argsz below 16: EINVAL (48)', async () => {
    expect(await errno(DEVICE_GET_INFO, bodies.deviceInfo().subarray(0, 15))).toBe(EINVAL);
    expect(await errno(DEVICE_GET_INFO, bodies.deviceInfo(15))).toBe(EINVAL);
  });
  test('GET_INFO with argsz 32, as cloud-hypervisor sends it: 16 bytes', async () => {
    using served = await Served.start();
    const reply = await served.client.request(DEVICE_GET_INFO, bodies.deviceInfo(32));
    expect([...new Uint32Array(reply.body.slice().buffer)]).toEqual([16, 3, 9, 5]);
  });
  test('GET_REGION_INFO short, or argsz below 32: EINVAL (49)', async () => {
    expect(await errno(DEVICE_GET_REGION_INFO, bodies.regionInfo(0).subarray(0, 31))).toBe(EINVAL);
    expect(await errno(DEVICE_GET_REGION_INFO, bodies.regionInfo(0, 31))).toBe(EINVAL);
  });
  test.each([9, 0xffff_ffff])('GET_REGION_INFO of region %i: EINVAL (50)', async (index) => {
    expect(await errno(DEVICE_GET_REGION_INFO, bodies.regionInfo(index))).toBe(EINVAL);
  });
  test('GET_REGION_INFO with a huge argsz: only what exists (51, 52)', async () => {
    using served = await Served.start({ windowBytes: 16 * MIB });
    const reply = await served.client.request(DEVICE_GET_REGION_INFO, bodies.regionInfo(4, 0xffff_ffff));
    expect(reply.body.length).toBe(32);
    expect(reply.fds).toHaveLength(1);
    for (const fd of reply.fds) closeSync(fd);
  });
  test.each([{ flags: 1 }, { count: 1 }])('REGION_IO_FDS with %o: EINVAL (53)', async (fields) => {
    expect(await errno(DEVICE_GET_REGION_IO_FDS, bodies.regionIoFds(0, fields))).toBe(EINVAL);
  });
  test('REGION_IO_FDS with a bad argsz or region: EINVAL (54)', async () => {
    expect(await errno(DEVICE_GET_REGION_IO_FDS, bodies.regionIoFds(0, { argsz: 15 }))).toBe(EINVAL);
    expect(await errno(DEVICE_GET_REGION_IO_FDS, bodies.regionIoFds(0, { argsz: MIB + 1 }))).toBe(EINVAL);
    expect(await errno(DEVICE_GET_REGION_IO_FDS, bodies.regionIoFds(9))).toBe(EINVAL);
    expect(await errno(DEVICE_GET_REGION_IO_FDS, bodies.regionIoFds(2))).toBe(EINVAL);
  });
  test('GET_IRQ_INFO short, argsz below 16, index 5: EINVAL (55)', async () => {
    expect(await errno(DEVICE_GET_IRQ_INFO, bodies.irqInfo(2).subarray(0, 15))).toBe(EINVAL);
    expect(await errno(DEVICE_GET_IRQ_INFO, bodies.irqInfo(2, 15))).toBe(EINVAL);
    expect(await errno(DEVICE_GET_IRQ_INFO, bodies.irqInfo(5))).toBe(EINVAL);
  });
});

describe('SET_IRQS', () => {
  const MSIX = 2;
  const ERR = 3;
  const REQ = 4;
  const NONE = 0x01;
  const BOOL = 0x02;
  const EVENTFD = 0x04;
  const MASK = 0x08;
  const UNMASK = 0x10;
  const TRIGGER = 0x20;
  const errno = async (body: Uint8Array, fds: readonly number[] = []) => {
    let result = -1;
    await leakFree(async () => {
      using served = await Served.start();
      result = await served.errno(DEVICE_SET_IRQS, body, fds);
      expect(await served.alive()).toBe(true);
    });
    for (const fd of fds) closeSync(fd);
    return result;
  };

  test('payload or argsz below 20: EINVAL (56)', async () => {
    expect(await errno(bodies.setIrqs(NONE | TRIGGER, MSIX, 0, 0).subarray(0, 19))).toBe(EINVAL);
    expect(await errno(bodies.setIrqs(NONE | TRIGGER, MSIX, 0, 0, { argsz: 19 }))).toBe(EINVAL);
  });
  test('index 5: EINVAL (57)', async () => {
    expect(await errno(bodies.setIrqs(NONE | TRIGGER, 5, 0, 0))).toBe(EINVAL);
  });
  test.each([NONE, NONE | MASK | TRIGGER, NONE | MASK | UNMASK | TRIGGER])(
    'flags %i, not one action: EINVAL (58)',
    async (flags) => {
      expect(await errno(bodies.setIrqs(flags, MSIX, 0, 1))).toBe(EINVAL);
    },
  );
  test.each([TRIGGER, NONE | BOOL | TRIGGER, NONE | EVENTFD | TRIGGER])(
    'flags %i, not one data type: EINVAL (59)',
    async (flags) => {
      expect(await errno(bodies.setIrqs(flags, MSIX, 0, 1))).toBe(EINVAL);
    },
  );
  test('unknown flags: EINVAL', async () => {
    expect(await errno(bodies.setIrqs(NONE | TRIGGER | 0x40, MSIX, 0, 1))).toBe(EINVAL);
  });
  test('start beyond the vectors: EINVAL, but every index can be disabled (60)', async () => {
    expect(await errno(bodies.setIrqs(EVENTFD | TRIGGER, MSIX, 3, 1))).toBe(EINVAL);
    expect(await errno(bodies.setIrqs(NONE | TRIGGER, 0, 0, 1))).toBe(EINVAL);
    for (const index of [0, 1, MSIX, ERR, REQ])
      expect(await errno(bodies.setIrqs(NONE | TRIGGER, index, 0, 0))).toBe(0);
  });
  test.each([
    [1, 3],
    [0, 4],
    [2, 0xffff_ffff],
    [0xffff_ffff, 2],
  ])('vectors %i+%i of 3: EINVAL (61)', async (start, count) => {
    expect(await errno(bodies.setIrqs(EVENTFD | TRIGGER, MSIX, start, count))).toBe(EINVAL);
    expect(await errno(bodies.setIrqs(NONE | TRIGGER, MSIX, start, count))).toBe(EINVAL);
  });
  test.each([MASK, UNMASK])(
    'action %i on ERR, REQ or MSI-X, none of which is maskable: EINVAL (62)',
    async (action) => {
      for (const index of [ERR, REQ, MSIX])
        expect(await errno(bodies.setIrqs(NONE | action, index, 0, 1))).toBe(EINVAL);
    },
  );
  test('two vectors of ERR or REQ: EINVAL (63)', async () => {
    for (const index of [ERR, REQ])
      expect(await errno(bodies.setIrqs(EVENTFD | TRIGGER, index, 0, 2), eventfds(2))).toBe(EINVAL);
  });
  test('no vectors, but a start: EINVAL (64)', async () => {
    expect(await errno(bodies.setIrqs(NONE | TRIGGER, MSIX, 1, 0))).toBe(EINVAL);
  });
  test.each([EVENTFD | TRIGGER, BOOL | TRIGGER, NONE | MASK])(
    'no vectors with flags %i: EINVAL (65)',
    async (flags) => {
      expect(await errno(bodies.setIrqs(flags, MSIX, 0, 0))).toBe(EINVAL);
    },
  );
  test('descriptors with NONE or BOOL: EINVAL, closed (66)', async () => {
    expect(await errno(bodies.setIrqs(NONE | TRIGGER, MSIX, 0, 1), eventfds(1))).toBe(EINVAL);
    expect(await errno(bodies.setIrqs(BOOL | TRIGGER, MSIX, 0, 1, { data: [1] }), eventfds(1))).toBe(EINVAL);
  });
  test.each([1, 2, 4])('%i descriptors for 3 vectors: EINVAL, closed (67)', async (count) => {
    expect(await errno(bodies.setIrqs(EVENTFD | TRIGGER, MSIX, 0, 3), eventfds(count))).toBe(EINVAL);
  });
  test.each([[], [1], [1, 1, 1]])('booleans %j for 2 vectors: EINVAL (68)', async (...data) => {
    expect(await errno(bodies.setIrqs(BOOL | TRIGGER, MSIX, 0, 2, { data }))).toBe(EINVAL);
  });
  test('a file, a socket or a directory instead of an eventfd: EINVAL, closed (69)', async () => {
    const [one, two] = socketPair();
    for (const fd of [memfd(), one, openSync('/', 'r')]) {
      expect(await errno(bodies.setIrqs(EVENTFD | TRIGGER, MSIX, 0, 1), [fd])).toBe(EINVAL);
    }
    closeSync(two);
  });
  test('one bad descriptor among good ones: EINVAL, none is attached (69)', async () => {
    using served = await Served.start();
    const fds = [createEventfd(), memfd(), createEventfd()];
    expect(await served.errno(DEVICE_SET_IRQS, bodies.setIrqs(EVENTFD | TRIGGER, MSIX, 0, 3), fds)).toBe(
      EINVAL,
    );
    served.host.interrupts.fire(0);
    expect(drainEventfd(fds[0] as number)).toBe(0);
    for (const fd of fds) closeSync(fd);
  });
  test('a counter that is full: the signal counts as delivered (70)', async () => {
    using served = await Served.start();
    const fd = createEventfd();
    await served.errno(DEVICE_SET_IRQS, bodies.setIrqs(EVENTFD | TRIGGER, MSIX, 0, 1), [fd]);
    writeSync(fd, Buffer.from('feffffffffffffff', 'hex'));
    served.host.interrupts.fire(0);
    served.host.interrupts.fire(0);
    expect(await served.alive()).toBe(true);
    closeSync(fd);
  });
});

describe('region accesses', () => {
  const CONFIG = 7;
  test('payload below 16: EINVAL (72)', async () => {
    using served = await Served.start();
    for (const command of [REGION_READ, REGION_WRITE]) {
      expect(await served.errno(command, bodies.access(CONFIG, 0, 4).subarray(0, 15))).toBe(EINVAL);
    }
  });
  test('more than the largest transfer: EINVAL (73)', async () => {
    using served = await Served.start({ windowBytes: 16 * MIB });
    expect(await served.errno(REGION_READ, bodies.access(4, 0, MIB + 1))).toBe(EINVAL);
    expect(await served.errno(REGION_READ, bodies.access(4, 0, MIB))).toBe(0);
  });
  test.each([[], [1, 2, 3], [1, 2, 3, 4, 5]])(
    'a write of 4 bytes with data %j: EINVAL (74)',
    async (...data) => {
      using served = await Served.start();
      expect(await served.errno(REGION_WRITE, bodies.access(CONFIG, 4, 4, data))).toBe(EINVAL);
    },
  );
  test.each([9, 0xffff_ffff])('region %i: EINVAL (75)', async (region) => {
    using served = await Served.start();
    expect(await served.errno(REGION_READ, bodies.access(region, 0, 4))).toBe(EINVAL);
    expect(await served.errno(REGION_WRITE, bodies.access(region, 0, 4, [0, 0, 0, 0]))).toBe(EINVAL);
  });
  test.each([
    [CONFIG, 0x100, 4],
    [CONFIG, 0xfff, 4],
    [CONFIG, 2 ** 53, 4],
    [0, 0x8000, 8],
    [0, 0x7ffe, 4],
    [4, 16 * MIB - 2, 4],
    [4, 2 ** 50, 8],
  ])(
    'region %i, offset %i, %i bytes beyond the end: success, zeros and ignored (76)',
    async (region, offset, count) => {
      using served = await Served.start({ windowBytes: 16 * MIB });
      const data = new Array(count).fill(0xff);
      expect(await served.errno(REGION_WRITE, bodies.access(region, offset, count, data))).toBe(0);
      const { body } = await served.client.request(REGION_READ, bodies.access(region, offset, count));
      expect(body.length).toBe(16 + count);
      const inside = region === 4 && offset < 16 * MIB ? 2 : 0;
      expect([...body.subarray(16 + inside)].every((byte) => byte === 0)).toBe(true);
    },
  );
  test('offset 2^64 - 1 comes back bit for bit (76)', async () => {
    using served = await Served.start();
    const request = bodies.access(CONFIG, 0, 4);
    request.fill(0xff, 0, 8);
    const { body } = await served.client.request(REGION_READ, request);
    expect([...body.subarray(0, 16)]).toEqual([...request]);
  });
  test('more than 8 bytes beyond the end: EINVAL (76)', async () => {
    using served = await Served.start();
    expect(await served.errno(REGION_READ, bodies.access(CONFIG, 0xf8, 16))).toBe(EINVAL);
    expect(await served.errno(REGION_READ, bodies.access(CONFIG, 0xf0, 16))).toBe(0);
  });
  test.each([2, 3, 5, 6, 8])('region %i, which has no size: EINVAL (77)', async (region) => {
    using served = await Served.start();
    expect(await served.errno(REGION_READ, bodies.access(region, 0, 4))).toBe(EINVAL);
  });
  test('of no bytes: success with the 16 bytes echoed (78)', async () => {
    using served = await Served.start();
    for (const command of [REGION_READ, REGION_WRITE]) {
      const reply = await served.client.request(command, bodies.access(CONFIG, 4, 0));
      expect(reply).toMatchObject({ flags: 1, sizeBytes: 32 });
    }
  });
  test.each([3, 5, 6, 7])('of %i bytes inside a BAR: success (79)', async (count) => {
    using served = await Served.start();
    expect((await served.client.readRegion(0, 0x2001, count)).length).toBe(count);
    expect([...(await served.client.readRegion(0, 0x2001, 3))]).toEqual([1, 2, 3]);
  });
  test('config writes to read-only registers: success, ignored (80)', async () => {
    using served = await Served.start();
    expect(await served.errno(REGION_WRITE, bodies.access(CONFIG, 0, 4, [1, 2, 3, 4]))).toBe(0);
    expect([...(await served.client.readRegion(CONFIG, 0, 4))]).toEqual([0xf4, 0x1a, 0x50, 0x10]);
  });
});

describe('REGION_WRITE_MULTI', () => {
  const entry = { region: 7, offset: 0x3c, count: 1, data: [7] };
  test('not offered: EINVAL (81)', async () => {
    using served = await Served.start();
    expect(await served.errno(REGION_WRITE_MULTI, bodies.writeMulti([entry]))).toBe(EINVAL);
  });
  test.each([
    ['no entries', bodies.writeMulti([])],
    ['201 entries', bodies.writeMulti(new Array(201).fill(entry))],
    ['more announced than there are', bodies.writeMulti([entry], 2)],
    ['fewer announced than there are', bodies.writeMulti([entry, entry], 1)],
    [
      '2^64 - 1 announced',
      Uint8Array.from([...new Array(8).fill(255), ...bodies.writeMulti([entry]).subarray(8)]),
    ],
    ['an entry of 9 bytes', bodies.writeMulti([entry, { ...entry, count: 9 }])],
    ['an entry for region 9', bodies.writeMulti([entry, { ...entry, region: 9 }])],
  ])('%s: EINVAL, nothing executed (82)', async (_, body) => {
    using served = await Served.start({ writeMultiple: true });
    expect(await served.errno(REGION_WRITE_MULTI, body)).toBe(EINVAL);
    expect([...(await served.client.readRegion(7, 0x3c, 1))]).toEqual([0]);
  });
  test('200 entries are executed in order', async () => {
    using served = await Served.start({ writeMultiple: true });
    const entries = Array.from({ length: 200 }, (_, i) => ({ ...entry, data: [i] }));
    const reply = await served.client.request(REGION_WRITE_MULTI, bodies.writeMulti(entries));
    expect(reply).toMatchObject({ flags: 1, sizeBytes: 24 });
    expect([...(await served.client.readRegion(7, 0x3c, 1))]).toEqual([199]);
  });
});

describe('the rest', () => {
  test('DEVICE_RESET with a payload: the payload is ignored (83)', async () => {
    using served = await Served.start();
    expect(await served.errno(DEVICE_RESET, new Uint8Array(64))).toBe(0);
  });
  test.each([1, 2, 6, 7, 8, 99])('DEVICE_FEATURE %i, got, set or probed: EINVAL (84)', async (feature) => {
    using served = await Served.start();
    for (const operation of [0, 1 << 16, 1 << 17, 1 << 18, 5 << 16]) {
      const body = new Uint8Array(new Uint32Array([64, feature | operation, 0, 0]).buffer);
      expect(await served.errno(DEVICE_FEATURE, body)).toBe(EINVAL);
    }
    expect(await served.errno(DEVICE_FEATURE, new Uint8Array(7))).toBe(EINVAL);
  });
  test.each([MIG_DATA_READ, MIG_DATA_WRITE])('command %i without migration: EINVAL (85)', async (command) => {
    using served = await Served.start();
    expect(await served.errno(command, new Uint8Array(64))).toBe(EINVAL);
  });
});

describe('time and pressure', () => {
  test('a client that stays silent is dropped (90)', async () => {
    using served = await Served.start({ handshake: false, handshakeTimeoutMs: 30 });
    await served.client.ended;
    expect(served.lines.at(-1)?.fields).toEqual({ reason: 'no VERSION in time' });
  });
  test('a message that does not go on is given up (91)', async () => {
    using served = await Served.start({ stallTimeoutMs: 30 });
    served.client.sendBytes(header({}).subarray(0, 9));
    await served.client.ended;
    expect(served.lines.at(-1)?.fields).toEqual({ reason: 'message unfinished' });
  });
  test('a slow message in time is no reason', async () => {
    using served = await Served.start({ stallTimeoutMs: 200 });
    for (let i = 0; i < 3; i++) {
      const reply = served.client.reply(0);
      served.client.sendBytes(header({}).subarray(0, 9));
      await sleep(20);
      served.client.sendBytes(header({}).subarray(9));
      await reply;
    }
    await sleep(250);
    expect(await served.alive()).toBe(true);
  });
  test('a client that does not take its answers is not read from, and dropped in the end (92)', async () => {
    // Requests for a megabyte each, from a client that never reads.
    using deaf = await Served.start({ windowBytes: 16 * MIB, stallTimeoutMs: 50 });
    deaf.client.pause();
    for (let i = 0; i < 20; i++) deaf.client.post(REGION_READ, bodies.access(4, 0, MIB));
    await soon(() => expect(deaf.connection.closed).toBe(true));
    expect(deaf.counters.messages).toMatchObject({ REGION_READ: 1 });
    expect(deaf.lines.at(-1)?.fields).toEqual({ reason: 'the client does not take its answers' });
  });
  test('endless posted writes do not keep others from their turn (93)', async () => {
    using served = await Served.start();
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    for (let posted = 0; posted < 20_000; ) {
      try {
        served.client.postWrite(0, 0x3000, Uint8Array.of(0, 0));
        posted++;
      } catch {
        // The socket is full: the server is as busy as it can be.
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    clearInterval(timer);
    expect(turns).toBeGreaterThan(5);
  });
});

describe('commands of ours', () => {
  /** A client that answers each command with what `answer` makes of it. */
  const asking = async (
    answer: (id: number, command: number, body: Uint8Array) => Uint8Array | undefined,
  ) => {
    const served = new Served();
    await served.client.request(VERSION, bodies.version('{"capabilities":{"pgsizes":4096}}'));
    served.client.onCommand = ({ id, command, body }) => {
      const bytes = answer(id, command, body);
      if (bytes) served.client.sendBytes(bytes);
    };
    return served;
  };
  const reply = (
    id: number,
    command: number,
    body: Uint8Array,
    extra: { flags?: number; error?: number } = {},
  ) => messageBytes({ id, command, flags: TYPE_REPLY, ...extra }, body);

  test('DMA_READ and DMA_WRITE carry data both ways', async () => {
    const written: Uint8Array[] = [];
    using served = await asking((id, command, body) => {
      if (command === DMA_WRITE) written.push(body.slice(16));
      const data = command === DMA_READ ? [1, 2, 3, 4] : [];
      return reply(id, command, Uint8Array.from([...body.subarray(0, 16), ...data]));
    });
    expect([...(await served.connection.dmaRead(0x1000, 4))]).toEqual([1, 2, 3, 4]);
    await served.connection.dmaWrite(0x1000, Uint8Array.of(9, 8));
    expect(written.map((bytes) => [...bytes])).toEqual([[9, 8]]);
  });
  test('are not sent to a client that would not understand them', async () => {
    using served = await Served.start();
    await expect(served.connection.dmaRead(0, 4)).rejects.toThrow('does not answer commands');
  });
  test('refused with an errno, also an impossible one: rejected (88)', async () => {
    for (const [error, errno] of [
      [19, 19],
      [0, EINVAL],
      [4097, EINVAL],
      [0xffff_ffff, EINVAL],
    ] as const) {
      using served = await asking((id, command) => reply(id, command, EMPTY, { flags: 0x21, error }));
      await expect(served.connection.dmaRead(0, 4)).rejects.toMatchObject({ errno });
    }
  });
  test('refused with a body, which is read over: rejected, and the stream goes on', async () => {
    for (const length of [0, 4, 16, 20, 4096]) {
      using served = await asking((id, command) =>
        reply(id, command, new Uint8Array(length).fill(0xee), { flags: 0x21, error: 14 }),
      );
      await expect(served.connection.dmaRead(0x1000, 4)).rejects.toMatchObject({ errno: 14 });
      await expect(served.connection.dmaWrite(0x1000, Uint8Array.of(1))).rejects.toMatchObject({ errno: 14 });
      expect(await served.alive()).toBe(true);
    }
  });
  test('outstanding while the client asks, by the same number and in the same bytes: both are answered', async () => {
    const data = [1, 2, 3, 4];
    const asked: { id: number; body: Uint8Array }[] = [];
    using served = await asking((id, _, body) => {
      asked.push({ id, body });
      return undefined;
    });
    const first = served.connection.dmaRead(0x1000, 4);
    const second = served.connection.dmaRead(0x2000, 4);
    await vi.waitUntil(() => asked.length === 2);
    const isDone = vi.fn();
    void first.finally(isDone);
    const [one, two] = asked as [(typeof asked)[0], (typeof asked)[0]];
    const info = (id: number) =>
      messageBytes({ id, command: DEVICE_GET_INFO, flags: 0 }, bodies.deviceInfo());
    const answer = ({ id, body }: typeof one) => reply(id, DMA_READ, Uint8Array.from([...body, ...data]));

    const before = served.client.reply(one.id);
    served.client.sendBytes(info(one.id));
    expect((await before).body.length).toBe(16);
    expect(isDone).not.toHaveBeenCalled();

    // In any order, as the numbers say.
    const between = served.client.reply(one.id);
    served.client.sendBytes(Buffer.concat([answer(two), info(one.id), answer(one)]));
    expect((await between).body.length).toBe(16);
    expect([...(await first)]).toEqual(data);
    expect([...(await second)]).toEqual(data);
    expect(await served.alive()).toBe(true);
  });
  test.each([
    ['another id', (id: number) => reply(id + 1, DMA_READ, new Uint8Array(20))],
    ['another command', (id: number) => reply(id, DMA_WRITE, new Uint8Array(20))],
  ])('answered with %s: closed (86)', async (_, answer) => {
    using served = await asking(answer);
    await expect(served.connection.dmaRead(0, 4)).rejects.toThrow('the client is gone');
    expect(served.connection.closed).toBe(true);
  });
  test.each([
    ['another address', 0x2000, 4, 4],
    ['another count', 0x1000, 8, 8],
    ['too little data', 0x1000, 4, 3],
    ['too much data', 0x1000, 4, 5],
  ])('answered with %s: closed (87)', async (_, address, count, length) => {
    using served = await asking((id) => {
      const body = new Uint8Array(16 + length);
      body.set(new Uint8Array(new BigUint64Array([BigInt(address), BigInt(count)]).buffer));
      return reply(id, DMA_READ, body);
    });
    await expect(served.connection.dmaRead(0x1000, 4)).rejects.toThrow();
    expect(served.connection.closed).toBe(true);
  });
  test('answered too short to tell: closed (87)', async () => {
    using served = await asking((id) => reply(id, DMA_READ, new Uint8Array(15)));
    await expect(served.connection.dmaRead(0x1000, 4)).rejects.toThrow();
  });
  test('outstanding when the client leaves: rejected', async () => {
    using served = await asking(() => undefined);
    const read = served.connection.dmaRead(0x1000, 4);
    served.client.close();
    await expect(read).rejects.toThrow('the client is gone');
  });
});

describe('after any of this', () => {
  test('a refused message is one rate-limited line', async () => {
    using served = await Served.start();
    for (let i = 0; i < 100; i++) await served.errno(DEVICE_GET_INFO, bodies.deviceInfo(0));
    expect(served.lines.filter(({ message }) => message === 'request refused')).toHaveLength(10);
    expect(served.counters.errors).toEqual({ 'errno 22': 100 });
  });
  test('another descriptor of the same file is as good as the first', async () => {
    using served = await Served.start();
    const fd = memfd();
    const again = reopen(fd);
    expect(await served.errno(DMA_MAP, bodies.dmaMap(), [fd])).toBe(0);
    expect(await served.errno(DMA_MAP, bodies.dmaMap(), [again])).toBe(0);
    closeSync(fd);
    closeSync(again);
  });
});
