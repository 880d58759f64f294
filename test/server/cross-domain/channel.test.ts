/**
 * The channel to a compositor, with one that does what the test says. The names in brackets are those of the list of
 * acceptance tests that the project keeps.
 */
import { closeSync, constants, ftruncateSync, openSync, readSync, renameSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createEventfd, createMemfd, createPipe, socketPair } from '../../../native/index.ts';
import type { WaylandStream } from '../../../server/cross-domain/context.ts';
import { LingeringPipes } from '../../../server/cross-domain/pipes.ts';
import { GpuFault } from '../../../server/gpu/fault.ts';
import { openFds } from '../../support/fake-client.ts';
import { fakeResource } from '../../support/fake-resource.ts';
import {
  CHANNEL,
  command,
  FakeCompositor,
  fakeBuffer,
  GuestChannel,
  passThrough,
  QUERY,
  sendCommand,
  words,
  writeCommand,
} from '../../support/guest-channel.ts';
import { soon } from '../../support/soon.ts';

const BLOB = 1;
const READ_PIPE = 3;
const WRITE_PIPE = 4;
const PIPE = 0x8000_0001;
const MiB = 2 ** 20;
const text = (value: string) => Buffer.from(value, 'latin1');

/** A guest and its compositor, connected. Leaves nothing behind. */
function connected(): { guest: GuestChannel; compositor: FakeCompositor; socket: number } {
  const before = openFds();
  const compositor = new FakeCompositor();
  const guest = new GuestChannel(compositor.path).init();
  const socket = compositor.accept()!;
  onTestFinished(() => {
    guest[Symbol.dispose]();
    compositor[Symbol.dispose]();
    expect(openFds()).toBe(before);
  });
  return { guest, compositor, socket };
}

const take = FakeCompositor.take;
/** The compositor gives the guest a pipe to write to, number 2; what the guest writes comes out here. */
async function pipeToHost(guest: GuestChannel, socket: number): Promise<number> {
  const [read, write] = createPipe();
  FakeCompositor.send(socket, text('send'), [write]);
  closeSync(write);
  await guest.messages(1);
  return read;
}

/** What a pipe holds, until its end. */
async function readAll(fd: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (let idle = 0; idle < 1000; ) {
    const bytes = Buffer.alloc(65_536);
    try {
      const count = readSync(fd, bytes);
      if (count === 0) return Buffer.concat(parts);
      parts.push(bytes.subarray(0, count));
      idle = 0;
    } catch {
      idle++;
      await sleep(1);
    }
  }
  throw new Error('the end of the pipe does not come');
}

function closeAll(fds: readonly number[]): void {
  for (const fd of fds) closeSync(fd);
}

describe('INIT', () => {
  test('connects to the compositor (I1), whatever its length (I3)', () => {
    using compositor = new FakeCompositor();
    for (const body of [
      words(QUERY, 1),
      words(QUERY, CHANNEL, 1),
      words(QUERY, CHANNEL, 1, 1),
      words(QUERY, CHANNEL, 1, 9, 9, 9, 9),
    ]) {
      using guest = new GuestChannel(compositor.path);
      guest.context.submit(command(1, body));
      expect(compositor.accept()).not.toBe(undefined);
    }
  });

  test('before its rings are attached, or for a channel that is not configured, is refused; the next one is heard (I2, I4)', () => {
    using compositor = new FakeCompositor();
    using guest = new GuestChannel(compositor.path);
    guest.context.detach(CHANNEL);
    expect(() => guest.init()).toThrow('ring 12');
    guest.context.attach(guest.ring);
    expect(() => guest.init(2)).toThrow('channel of type 2');
    expect(compositor.accept()).toBe(undefined);
    guest.init();
    expect(compositor.accept()).not.toBe(undefined);
  });

  // X11 and PipeWire of muvm, what is not configured, and a query ring that is none.
  test.each([
    [2, QUERY],
    [0x10, QUERY],
    [0x11, QUERY],
    [0xffff_ffff, QUERY],
    [1, 999],
  ])(
    'of type %i with query ring %i is refused, polls tell the guest to leave, and the host is told the type; a good one is heard',
    async (channelType, queryRing) => {
      using compositor = new FakeCompositor();
      for (const pollsFirst of [false, true]) {
        using guest = new GuestChannel(compositor.path);
        if (pollsFirst) guest.poll();
        const refused = () => guest.context.submit(command(1, words(queryRing, CHANNEL, channelType)));
        const reason =
          channelType === 1 ? 'ring 999 is no guest blob of this context' : `channel of type ${channelType}`;
        expect(refused).toThrow(reason);
        // Who polls already has the first one at once.
        await guest.messages(pollsFirst ? 1 : 2);
        expect(guest.delivered.map(({ command: kind, data }) => [kind, data.length])).toEqual([
          [5, 0],
          [6, 0],
        ]);
        expect(await guest.isSilent()).toBe(true);
        expect(guest.notes).toEqual([`refused ${channelType}: ${reason}`]);
        expect(() => guest.context.submit(sendCommand(text('abcd')))).toThrow('there is no channel');
        expect(compositor.accept()).toBe(undefined);
        guest.init();
        expect(compositor.accept()).not.toBe(undefined);
      }
    },
  );

  test('with a ring that has no room for a message ends with the first one (I8)', async () => {
    using compositor = new FakeCompositor();
    using guest = new GuestChannel(compositor.path);
    guest.context.detach(CHANNEL);
    guest.context.attach(fakeResource(CHANNEL, 64));
    guest.init().poll();
    FakeCompositor.send(compositor.accept()!, text('abcd'));
    await soon(() => expect(guest.notes).toEqual(['a channel has ended: the channel ring is gone']));
  });

  test('a second time is refused, and the first connection goes on (I6)', () => {
    const { guest, socket } = connected();
    expect(() => guest.init()).toThrow('a second INIT');
    guest.context.submit(sendCommand(text('abcd')));
    expect(take(socket).data.toString()).toBe('abcd');
  });

  test('without a compositor is refused, and polls tell the guest to leave (I7)', async () => {
    using guest = new GuestChannel('/nowhere/wayland-0');
    expect(() => guest.init()).toThrow('no compositor: connect: ENOENT');
    const messages = await guest.messages(3);
    expect(messages.map(({ command: kind, data }) => [kind, data.length])).toEqual([
      [5, 4],
      [5, 0],
      [6, 0],
    ]);
    expect(await guest.isSilent()).toBe(true);
    expect(() => guest.context.submit(sendCommand(text('abcd')))).toThrow('there is no channel');
  });

  test('is heard once there is a compositor, and says nothing of the end before', async () => {
    using compositor = new FakeCompositor();
    using guest = new GuestChannel(compositor.path);
    renameSync(compositor.path, `${compositor.path}-away`);
    expect(() => guest.init()).toThrow('no compositor: connect: ENOENT');
    renameSync(`${compositor.path}-away`, compositor.path);
    guest.init();
    const socket = compositor.accept()!;
    guest.context.submit(sendCommand(text('abcd')));
    expect(take(socket).data.toString()).toBe('abcd');
    FakeCompositor.send(socket, text('efgh'));
    const [message] = await guest.messages(1);
    expect(Buffer.from(message!.data).toString()).toBe('efgh');
  });

  test('of a channel of type none has polls that wait until the end (I5)', async () => {
    using guest = new GuestChannel().init(0);
    expect(await guest.isSilent()).toBe(true);
  });
});

describe('SEND', () => {
  test('of data arrives as it is (S1)', () => {
    const { guest, socket } = connected();
    guest.context.submit(sendCommand(text('abcd')));
    guest.context.submit(sendCommand(Buffer.alloc(4096, 7)));
    guest.context.submit(sendCommand(new Uint8Array(0)));
    const { data } = take(socket);
    expect(data.length).toBe(4100);
    expect(data.subarray(0, 5).toString('latin1')).toBe('abcd\x07');
  });

  test('of a buffer brings a descriptor through which its bytes are seen (S2)', () => {
    const { guest, socket } = connected();
    guest.buffer(500, 8192).fill(1);
    guest.context.submit(sendCommand(text('pool'), [[BLOB, 500]]));
    const { data, fds } = take(socket);
    expect([data.toString(), fds.length]).toEqual(['pool', 1]);
    const bytes = Buffer.alloc(8192);
    readSync(fds[0]!, bytes, 0, 8192, 0);
    expect(bytes.every((byte) => byte === 1)).toBe(true);
    closeAll(fds);
  });

  test('of 28 buffers keeps their order; of 29 is refused (S3)', () => {
    const { guest, socket } = connected();
    const ids = Array.from({ length: 28 }, (_, i) => 100 + i);
    for (const id of ids) guest.buffer(id).fill(id);
    guest.context.submit(
      sendCommand(
        text('many'),
        ids.map((id) => [BLOB, id] as const),
      ),
    );
    const { fds } = take(socket);
    const byte = Buffer.alloc(1);
    expect(
      fds.map((fd) => {
        readSync(fd, byte, 0, 1, 0);
        return byte[0];
      }),
    ).toEqual(ids);
    closeAll(fds);
    const tooMany = sendCommand(text('more'));
    tooMany[8] = 29;
    expect(() => guest.context.submit(tooMany)).toThrow('29 identifiers');
  });

  test.each([
    ['an unattached resource', BLOB, 99],
    ['a ring', BLOB, QUERY],
    ['a type that nobody has', 2, 1],
    ['a pipe to write to', WRITE_PIPE, 1],
    ['type 9', 9, 1],
    ['a read pipe that the guest may not name', READ_PIPE, 5],
  ])('of %s is refused, nothing arrives, and the channel ends (S4)', async (_, type, id) => {
    const { guest, socket } = connected();
    expect(() => guest.context.submit(sendCommand(text('evil'), [[type, id]]))).toThrow();
    expect(take(socket).data.length).toBe(0);
    expect((await guest.messages(3)).map(({ command: kind }) => kind)).toEqual([5, 5, 6]);
  });

  test.each([0, 7, 8, 351])('with a size of %i is refused, without a loop (S5)', (sizeBytes) => {
    const { guest } = connected();
    const bytes = sendCommand(text('abcd'));
    new DataView(bytes.buffer).setUint16(2, sizeBytes, true);
    expect(() => guest.context.submit(bytes)).toThrow();
  });

  test('with more data than it has is refused (S5)', () => {
    const { guest, socket } = connected();
    const bytes = sendCommand(text('abcd'));
    new DataView(bytes.buffer).setUint32(12, 5, true);
    expect(() => guest.context.submit(bytes)).toThrow('SEND of 0 identifiers and 5 bytes');
    expect(take(socket).data.length).toBe(0);
  });

  test('twice in one submission, the second one bad: the first one is sent (S6)', () => {
    const { guest, socket } = connected();
    const both = Buffer.concat([sendCommand(text('good')), sendCommand(text('evil'), [[BLOB, 99]])]);
    expect(() => guest.context.submit(both)).toThrow('resource 99');
    expect(take(socket).data.toString()).toBe('good');
  });

  test('to a compositor that has stopped reading is kept in order, up to a limit (S7)', async () => {
    const { guest, socket } = connected();
    const parts = Array.from({ length: 1000 }, (_, i) => Buffer.alloc(1024, i & 0xff));
    for (const part of parts) guest.context.submit(sendCommand(part));
    const arrived: Buffer[] = [];
    for (let length = 0; length < 1024 * 1000; ) {
      const { data } = take(socket);
      arrived.push(data);
      length += data.length;
      await sleep(1);
    }
    expect(Buffer.concat(arrived).equals(Buffer.concat(parts))).toBe(true);
    const flood = () => {
      for (let i = 0; i < 20_000; i++) guest.context.submit(sendCommand(Buffer.alloc(1024)));
    };
    expect(flood).toThrow('does not take what is sent');
  });

  test('in many small parts that nobody takes ends like one of many bytes (S7)', () => {
    const { guest } = connected();
    const flood = () => {
      for (let i = 0; i < 30_000; i++) guest.context.submit(sendCommand(text('tiny')));
    };
    expect(flood).toThrow('does not take what is sent');
  });

  test('whose bytes have gone in part when the guest leaves closes its descriptors once', () => {
    const { guest, socket } = connected();
    const large = Buffer.alloc(60_000);
    for (let i = 0; i < 8; i++) guest.context.submit(sendCommand(large, [[READ_PIPE, PIPE + i]]));
    const { data, fds } = take(socket);
    closeAll(fds);
    expect(data.length % large.length).toBeGreaterThan(0);
    // Whoever closes a descriptor twice closes one of these.
    const others = Array.from({ length: 20 }, () => createEventfd());
    guest[Symbol.dispose]();
    closeAll(others);
  });

  test('of a buffer that is detached and gone right after it: the compositor keeps the pixels (S8)', () => {
    const { guest, socket } = connected();
    const bytes = new Uint8Array(4096).fill(5);
    const resource = fakeBuffer(500, bytes);
    guest.context.attach(resource);
    guest.context.submit(sendCommand(text('pool'), [[BLOB, 500]]));
    guest.context.detach(500);
    resource.isThere = false;
    bytes.fill(9);
    guest.context.submit(sendCommand(text('more')));
    const { fds } = take(socket);
    const byte = Buffer.alloc(1);
    readSync(fds[0]!, byte, 0, 1, 4095);
    expect(byte[0]).toBe(5);
    closeAll(fds);
  });

  test('of the same buffer twice, also in one SEND: two descriptors that work (S9)', () => {
    const { guest, socket } = connected();
    guest.buffer(500).fill(3);
    guest.context.submit(
      sendCommand(text('twin'), [
        [BLOB, 500],
        [BLOB, 500],
      ]),
    );
    guest.context.submit(sendCommand(text('more'), [[BLOB, 500]]));
    const { fds } = take(socket);
    expect(fds.length).toBe(3);
    const byte = Buffer.alloc(1);
    for (const fd of fds) {
      readSync(fd, byte, 0, 1, 0);
      expect(byte[0]).toBe(3);
    }
    closeAll(fds);
  });

  test('of an id that another buffer has now shows that one', () => {
    const { guest, socket } = connected();
    const first = fakeBuffer(500, new Uint8Array(4096).fill(1));
    guest.context.attach(first);
    guest.context.submit(sendCommand(text('one.'), [[BLOB, 500]]));
    first.isThere = false;
    guest.context.attach(fakeBuffer(500, new Uint8Array(4096).fill(2)));
    guest.context.submit(sendCommand(text('two.'), [[BLOB, 500]]));
    const { fds } = take(socket);
    const bytes = fds.map((fd) => {
      const byte = Buffer.alloc(1);
      readSync(fd, byte, 0, 1, 0);
      return byte[0];
    });
    expect(bytes).toEqual([1, 2]);
    closeAll(fds);
  });
});

describe('RECEIVE', () => {
  test('comes at once when the guest waits, and waits when it does not (P1)', async () => {
    const { guest, socket } = connected();
    expect(await guest.isSilent()).toBe(true);
    FakeCompositor.send(socket, text('abcd'));
    expect((await guest.messages(1))[0]?.data.toString()).toBe('abcd');
    FakeCompositor.send(socket, text('efgh'));
    await sleep(5);
    guest.poll();
    expect(guest.delivered.at(-1)?.data.toString()).toBe('efgh');
  });

  test('is cut at 3744 bytes (P2)', async () => {
    const { guest, socket } = connected();
    FakeCompositor.send(socket, Buffer.alloc(5000, 1));
    expect((await guest.messages(2)).map(({ data }) => data.length)).toEqual([3744, 1256]);
  });

  test('comes one for each poll, in order, the second after the first has been told of (P3)', async () => {
    const { guest, socket } = connected();
    FakeCompositor.send(socket, Buffer.concat([Buffer.alloc(3744, 1), Buffer.alloc(10, 2)]));
    await sleep(5);
    guest.poll().poll();
    expect(guest.passed).toEqual([0]);
    await soon(() => expect(guest.passed).toEqual([0, 1]));
    expect(guest.delivered.map(({ data }) => data[0])).toEqual([1, 2]);
  });

  test('needs a fence: POLL alone does nothing (P4)', async () => {
    const { guest, socket } = connected();
    guest.context.submit(command(3, words(0, 0)));
    FakeCompositor.send(socket, text('abcd'));
    await sleep(5);
    expect(guest.ring.bytes.every((byte) => byte === 0)).toBe(true);
  });

  test('is seen by who traces the channel, as commands are', async () => {
    const { guest, socket } = connected();
    guest.poll();
    expect(guest.lastInWords).toBe('POLL()');
    const [read, write] = createPipe();
    FakeCompositor.send(socket, text('abcd'), [write]);
    closeAll([read, write]);
    await guest.messages(1);
    expect(guest.lastInWords).toBe('RECEIVE(4 bytes, write pipe#2)');
    guest.context.submit(writeCommand(2, text('xyz'), 1));
    expect(guest.lastInWords).toBe('WRITE(pipe#2, 3 bytes, the end)');
  });

  test('has a header of one byte, and zeros where nothing is (P5)', async () => {
    const { guest, socket } = connected();
    guest.ring.bytes.fill(0xaa);
    FakeCompositor.send(socket, text('abcd'));
    await guest.messages(1);
    const { bytes } = guest.ring;
    expect([...bytes.subarray(0, 16)]).toEqual([5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]);
    expect(bytes.subarray(16, 352).every((byte) => byte === 0)).toBe(true);
    expect(bytes[356]).toBe(0xaa);
  });

  test('of memory and of a pipe has ids one after the other, and sizes (P6)', async () => {
    const { guest, socket } = connected();
    const memory = createMemfd('keymap', 12_345);
    const [read, write] = createPipe();
    FakeCompositor.send(socket, text('abcd'), [memory, write]);
    closeAll([memory, write]);
    const [message] = await guest.messages(1);
    expect(message).toMatchObject({
      items: [
        { type: BLOB, id: 2, size: 12_345 },
        { type: WRITE_PIPE, id: 3, size: 0 },
      ],
    });
    closeSync(read);
  });

  test('of memory becomes a blob with its bytes, once (P7, P8)', async () => {
    const { guest, socket } = connected();
    const memory = createMemfd('keymap', 12_345);
    const keymap = Buffer.from({ length: 12_345, 0: 120, 12344: 121 } as unknown as ArrayLike<number>);
    writeSync(memory, keymap);
    FakeCompositor.send(socket, text('abcd'), [memory]);
    closeSync(memory);
    await guest.messages(1);
    expect(() => guest.context.createBlob(2n, 12_344)).toThrow('for 12345');
    const blob = guest.context.createBlob(2n, 16_384);
    expect(Buffer.from(blob.initial!).equals(keymap)).toBe(true);
    expect(() => guest.context.createBlob(2n, 16_384)).toThrow('no image of id 2');
  });

  test('of memory that can only be read, or is sealed, or was cut short meanwhile, has what is there (P9)', async () => {
    const { guest, socket } = connected();
    const writable = createMemfd('a', 10);
    writeSync(writable, text('0123456789'));
    const readOnly = openSync(`/proc/self/fd/${writable}`, 'r');
    const short = createMemfd('b', 10);
    writeSync(short, text('abcdefghij'));
    FakeCompositor.send(socket, text('abcd'), [readOnly, short]);
    await guest.messages(1);
    ftruncateSync(short, 4);
    closeAll([writable, readOnly, short]);
    expect(Buffer.from(guest.context.createBlob(2n, 10).initial!).toString()).toBe('0123456789');
    expect(Buffer.from(guest.context.createBlob(3n, 10).initial!).toString()).toBe('abcd\0\0\0\0\0\0');
  });

  test('of memory that cannot be read is refused, and its id is used up', async () => {
    const { guest, socket } = connected();
    const memory = createMemfd('a', 10);
    const writeOnly = openSync(`/proc/self/fd/${memory}`, constants.O_WRONLY);
    FakeCompositor.send(socket, text('abcd'), [writeOnly]);
    closeAll([memory, writeOnly]);
    await guest.messages(1);
    expect(() => guest.context.createBlob(2n, 10)).toThrow(GpuFault);
    expect(() => guest.context.createBlob(2n, 10)).toThrow('no image of id 2');
  });

  test('of more descriptors than a guest may leave open ends the channel', async () => {
    const { guest, socket } = connected();
    const event = createEventfd();
    for (let i = 0; i < 4096 / 16; i++) {
      FakeCompositor.send(socket, text('many'), new Array(16).fill(event));
      await guest.messages(1);
    }
    expect(guest.notes.filter((note) => note.includes('ended'))).toEqual([]);
    FakeCompositor.send(socket, text('more'), [event]);
    closeSync(event);
    await guest.messages(3);
    expect(guest.notes.at(-1)).toBe('a channel has ended: the guest leaves too many pipes open');
  });

  test('of descriptors that mean nothing to guests keeps all others in step (P10)', async () => {
    const { guest, socket } = connected();
    const [read, write] = createPipe();
    const event = createEventfd();
    const [left, right] = socketPair();
    FakeCompositor.send(socket, text('1234'), [read]);
    FakeCompositor.send(socket, text('5678'), [event]);
    FakeCompositor.send(socket, text('9abc'), [left]);
    closeAll([read, write, event, left]);
    const messages = await guest.messages(3);
    expect(messages.map(({ data }) => data.toString())).toEqual(['1234', '5678', '9abc']);
    expect(messages.map((message) => message.command === 5 && message.items)).toEqual([
      [{ type: WRITE_PIPE, id: 2, size: 0 }],
      [{ type: WRITE_PIPE, id: 3, size: 0 }],
      [{ type: WRITE_PIPE, id: 4, size: 0 }],
    ]);
    // Nobody reads what is written there; it is taken all the same.
    guest.context.submit(writeCommand(2, text('lost'), 1));
    guest.context.submit(writeCommand(4, text('kept'), 1));
    expect(take(right).data.toString()).toBe('kept');
    closeSync(right);
  });

  test('brings 28 descriptors with one message (P11)', async () => {
    const { guest, socket } = connected();
    const fds = Array.from({ length: 28 }, (_, i) => createMemfd('many', 100 + i));
    FakeCompositor.send(socket, text('abcd'), fds);
    closeAll(fds);
    const [message] = await guest.messages(1);
    expect(message?.command === 5 && message.items.map(({ size }) => size)).toEqual(
      Array.from({ length: 28 }, (_, i) => 100 + i),
    );
  });

  test('goes on to the end when the compositor leaves; then the guest is told, once (P12)', async () => {
    const { guest, compositor, socket } = connected();
    FakeCompositor.send(socket, text('last'));
    compositor.hangUp(socket);
    const messages = await guest.messages(4);
    expect(messages.map(({ command: kind, data }) => [kind, data.toString('latin1')])).toEqual([
      [5, 'last'],
      [5, '\x01\0\0\0'],
      [5, ''],
      [6, ''],
    ]);
    expect(messages[3]).toMatchObject({ id: 0xffff_ffff, hangUp: 1 });
    expect(await guest.isSilent()).toBe(true);
    expect(() => guest.context.submit(sendCommand(text('abcd')))).toThrow('there is no channel');
  });

  test.each([
    [
      'something unread',
      (guest: GuestChannel) => guest.context.submit(sendCommand(text('unread'))),
      () => {},
    ],
    ['the guest writing', () => {}, (guest: GuestChannel) => guest.context.submit(sendCommand(text('late')))],
  ])('has what the compositor said last, also when it leaves with %s', async (_, before, after) => {
    const { guest, compositor, socket } = connected();
    before(guest);
    FakeCompositor.send(socket, text('last'));
    compositor.hangUp(socket);
    after(guest);
    expect((await guest.messages(4)).map(({ data }) => data.toString('latin1'))).toEqual([
      'last',
      '\x01\0\0\0',
      '',
      '',
    ]);
  });

  test('of a guest that does not poll is read ahead a little, and then left where it is', async () => {
    const { guest, socket } = connected();
    let sent = 0;
    const fill = () => {
      try {
        for (;;) {
          FakeCompositor.send(socket, Buffer.alloc(4096));
          sent += 4096;
        }
      } catch {
        // Full.
      }
    };
    for (let i = 0; i < 50; i++) {
      fill();
      await sleep(1);
    }
    expect(guest.context.counters.bytesFromHost).toBeLessThan(300 * 1024);
    expect(sent).toBeLessThan(MiB);
    expect(sent).toBeGreaterThan(guest.context.counters.bytesFromHost ?? 0);
  });
});

describe('pipes', () => {
  test('that the guest reads: whole, in parts, and a hang-up alone at the end; then nothing (W1, W7)', async () => {
    const { guest, socket } = connected();
    guest.context.submit(sendCommand(text('recv'), [[READ_PIPE, PIPE]]));
    const { fds } = take(socket);
    writeSync(fds[0]!, Buffer.alloc(6000, 8));
    closeAll(fds);
    const messages = await guest.messages(3);
    expect(messages).toMatchObject([
      { command: 6, id: PIPE, hangUp: 0 },
      { command: 6, id: PIPE, hangUp: 0 },
      { command: 6, id: PIPE, hangUp: 1 },
    ]);
    expect(messages.map(({ data }) => data.length)).toEqual([4072, 1928, 0]);
    expect(await guest.isSilent()).toBe(true);
  });

  test('of an id that nobody expected are accepted, and the guest can go on from there (W2)', () => {
    const { guest, socket } = connected();
    guest.context.submit(sendCommand(text('skip'), [[READ_PIPE, PIPE + 4]]));
    guest.context.submit(sendCommand(text('next'), [[READ_PIPE, PIPE]]));
    closeAll(take(socket).fds);
  });

  test('come several in one SEND (W3), and take turns', async () => {
    const { guest, socket } = connected();
    guest.context.submit(
      sendCommand(text('both'), [
        [READ_PIPE, PIPE],
        [READ_PIPE, PIPE + 1],
      ]),
    );
    const { fds } = take(socket);
    for (const fd of fds) writeSync(fd, Buffer.alloc(10_000));
    await sleep(5);
    const messages = await guest.messages(4);
    expect(messages.map((message) => message.command === 6 && message.id)).toEqual([
      PIPE,
      PIPE + 1,
      PIPE,
      PIPE + 1,
    ]);
    closeAll(fds);
  });

  test('are dropped when the compositor leaves: after the end nothing comes', async () => {
    const { guest, compositor, socket } = connected();
    guest.context.submit(sendCommand(text('recv'), [[READ_PIPE, PIPE]]));
    const { fds } = take(socket);
    writeSync(fds[0]!, text('too late'));
    await sleep(5);
    compositor.hangUp(socket);
    await sleep(5);
    expect(await guest.messages(3)).toMatchObject([{ command: 5 }, { command: 5 }, { id: 0xffff_ffff }]);
    expect(await guest.isSilent()).toBe(true);
    expect(() => writeSync(fds[0]!, text('nobody'))).toThrow('EPIPE');
    closeAll(fds);
  });

  test('let what the compositor says go first', async () => {
    const { guest, socket } = connected();
    guest.context.submit(sendCommand(text('recv'), [[READ_PIPE, PIPE]]));
    const { fds } = take(socket);
    writeSync(fds[0]!, Buffer.alloc(50_000));
    await guest.messages(2);
    FakeCompositor.send(socket, text('now!'));
    await sleep(5);
    expect((await guest.messages(1))[0]).toMatchObject({ command: 5 });
    closeAll(fds);
  });

  test('that the guest writes: everything, then the end; afterwards nothing (W4)', async () => {
    const { guest, socket } = connected();
    const read = await pipeToHost(guest, socket);
    guest.context.submit(writeCommand(2, text('hello, ')));
    guest.context.submit(writeCommand(2, text('world'), 1));
    const bytes = Buffer.alloc(100);
    expect(bytes.toString('utf8', 0, readSync(read, bytes))).toBe('hello, world');
    expect(readSync(read, bytes)).toBe(0);
    expect(() => guest.context.submit(writeCommand(2, text('more')))).toThrow('no pipe 2');
    expect(() => guest.context.submit(writeCommand(77, text('more')))).toThrow('no pipe 77');
    closeSync(read);
  });

  test('whose reader has stopped keep what is written in order, however small the parts, and others go on (W5)', async () => {
    const { guest, socket } = connected();
    const read = await pipeToHost(guest, socket);
    const written = Buffer.alloc(3 * MiB).map((_, i) => (i * 7) ^ (i >> 9));
    for (let at = 0, part = 1; at < written.length; at += part, part = (part * 5 + 1) % 9001)
      guest.context.submit(writeCommand(2, written.subarray(at, at + part)));
    FakeCompositor.send(socket, text('live'));
    expect((await guest.messages(1))[0]?.data.toString()).toBe('live');
    guest.context.submit(writeCommand(2, new Uint8Array(0), 1));
    expect((await readAll(read)).equals(written)).toBe(true);
    closeSync(read);
  });

  test('whose reader has stopped end when 64 MiB are waiting: he finds what the pipe itself holds (W5)', async () => {
    const { guest, socket } = connected();
    const read = await pipeToHost(guest, socket);
    for (let i = 0; i < 1200; i++) guest.context.submit(writeCommand(2, Buffer.alloc(60_000)));
    expect((await readAll(read)).length).toBeLessThanOrEqual(65_536);
    closeSync(read);
  });

  test('that the guest has written whole and hung up are read whole after its context has ended', async () => {
    const { guest, socket } = connected();
    const read = await pipeToHost(guest, socket);
    const written = Buffer.alloc(3 * MiB).map((_, i) => (i * 7) ^ (i >> 9));
    for (let at = 0; at < written.length; at += 60_000)
      guest.context.submit(writeCommand(2, written.subarray(at, at + 60_000)));
    guest.context.submit(writeCommand(2, new Uint8Array(0), 1));
    guest.context.close();
    expect(guest.shared.lingering.count).toBe(1);
    expect((await readAll(read)).equals(written)).toBe(true);
    expect(guest.shared.lingering.count).toBe(0);
    closeSync(read);
  });

  test('that the guest has not hung up end with its context, wherever it was', async () => {
    const { guest, socket } = connected();
    const read = await pipeToHost(guest, socket);
    for (let i = 0; i < 10; i++) guest.context.submit(writeCommand(2, Buffer.alloc(60_000)));
    guest.context.close();
    expect(guest.shared.lingering.count).toBe(0);
    expect((await readAll(read)).length).toBeLessThanOrEqual(65_536);
    closeSync(read);
  });

  test('whose reader has gone take what is written, and no signal comes (W6)', async () => {
    const { guest, socket } = connected();
    const [read, write] = createPipe();
    FakeCompositor.send(socket, text('send'), [write]);
    closeAll([read, write]);
    await guest.messages(1);
    guest.context.submit(writeCommand(2, text('to nobody')));
    guest.context.submit(writeCommand(2, text('to nobody'), 1));
  });

  test('carry 10 MiB each way while the compositor goes on talking (W8)', async () => {
    const { guest, socket } = connected();
    const bytes = Buffer.alloc(10 * MiB).map((_, i) => (i * 7) ^ (i >> 9));
    guest.context.submit(sendCommand(text('recv'), [[READ_PIPE, PIPE]]));
    const { fds } = take(socket);
    let written = 0;
    const parts: Buffer[] = [];
    let talk = 0;
    let heard = 0;
    // The other end of the pipe is blocking: never write more than it holds.
    while (!guest.delivered.some((message) => message.command === 6 && message.hangUp === 1)) {
      const delivered = guest.delivered.length;
      if (written < bytes.length && written - Buffer.concat(parts).length < 32_768) {
        written += writeSync(fds[0]!, bytes, written, Math.min(16_384, bytes.length - written));
        if (written === bytes.length) closeAll(fds);
      }
      if (talk++ % 50 === 0) FakeCompositor.send(socket, text('talk'));
      guest.poll();
      await new Promise((resolve) => setImmediate(resolve));
      for (const message of guest.delivered.slice(delivered)) {
        if (message.command === 6) parts.push(message.data);
        else heard++;
      }
      if (parts.length > 200) parts.splice(0, parts.length, Buffer.concat(parts));
    }
    expect(Buffer.concat(parts).equals(bytes)).toBe(true);
    expect(heard).toBeGreaterThan(5);
  }, 60_000);
});

describe('what all contexts have together', () => {
  test('has a limit: when it is reached, whoever has much gets no more, and whoever has little does', () => {
    using compositor = new FakeCompositor();
    const shared = { images: 65_536, objects: 262_144, lingering: new LingeringPipes() };
    let objectCount = 1000;
    const stream = (): WaylandStream => ({
      ...passThrough(),
      get objectCount() {
        return objectCount;
      },
    });
    using guest = new GuestChannel(compositor.path, stream, shared).init();
    const say = () => guest.context.submit(sendCommand(text('word')));
    const ask = (width: number) => guest.context.submit(command(2, words(width, 1, 0x2020_3852, 0x11)));
    say();
    for (let width = 1; width <= 1024; width++) ask(width);
    expect(shared).toMatchObject({ images: 65_536 + 1024, objects: 262_144 + 1000 });
    ask(1);
    expect(() => ask(1025)).toThrow('too many different images');
    objectCount = 1025;
    expect(say).toThrow('too many objects of the protocol');
    guest[Symbol.dispose]();
    expect(shared).toMatchObject({ images: 65_536, objects: 262_144 });
  });
});

describe('the end', () => {
  test.each([
    ['17 MiB', 60_000, 300],
    ['30,000 words', 4, 30_000],
  ])('comes to a guest that asks and does not listen, after %s', (_, sizeBytes, count) => {
    using compositor = new FakeCompositor();
    const echo = (): WaylandStream => ({
      ...passThrough(),
      fromGuest: (bytes) => ({ forward: [], reply: bytes, droppedFds: [] }),
    });
    using guest = new GuestChannel(compositor.path, echo).init();
    const ask = () => guest.context.submit(sendCommand(Buffer.alloc(sizeBytes)));
    const flood = () => {
      for (let i = 0; i < count; i++) ask();
    };
    expect(flood).toThrow('the guest does not take what it is answered');
    expect(ask).toThrow('there is no channel');
  });

  test('of a context closes all it had (T1)', () => {
    const before = openFds();
    const compositor = new FakeCompositor();
    const guest = new GuestChannel(compositor.path).init();
    const socket = compositor.accept()!;
    guest.buffer(500);
    guest.context.submit(
      sendCommand(text('all.'), [
        [BLOB, 500],
        [READ_PIPE, PIPE],
      ]),
    );
    guest.poll().poll();
    closeAll(take(socket).fds);
    guest[Symbol.dispose]();
    expect(take(socket).data.length).toBe(0);
    compositor[Symbol.dispose]();
    expect(openFds()).toBe(before);
    expect(guest.passed).toEqual([]);
  });

  test('of a ring ends the channel, not the device (T5)', async () => {
    const { guest, socket } = connected();
    guest.poll();
    guest.context.detach(CHANNEL);
    FakeCompositor.send(socket, text('abcd'));
    await soon(() => expect(guest.notes).toEqual(['a channel has ended: the channel ring is gone']));
  });

  test('comes when the compositor holds on to too much that the guest has given up (H6)', () => {
    const { guest } = connected();
    const sizeBytes = 64 * MiB;
    let open = 0;
    for (let id = 20; id < 26; id++) {
      const buffer = fakeBuffer(id, new Uint8Array(0));
      guest.context.attach({
        ...buffer,
        sizeBytes,
        export: () => {
          open++;
          const made = buffer.export();
          return {
            ...made,
            kind: 'udmabuf',
            sizeBytes,
            chargedBytes: sizeBytes,
            othersHoldIt: () => true,
            close: () => {
              open--;
              made.close();
            },
          };
        },
      });
      const show = () => guest.context.submit(sendCommand(text('x'), [[BLOB, id]]));
      // Four of 64 MiB may be, and the fifth is seen at the next.
      if (id < 25) show();
      else expect(show).toThrow('the channel has ended');
      guest.context.detach(id);
      buffer.isThere = false;
    }
    expect(guest.notes).toEqual(['a channel has ended: the host holds on to too many buffers']);
    guest[Symbol.dispose]();
    expect(open).toBe(0);
  });

  test('comes when the device ends a context: its program is told, and what the compositor has is let go of', () => {
    const { guest, socket } = connected();
    const before = openFds();
    guest.buffer(20);
    const show = () => guest.context.submit(sendCommand(text('x'), [[BLOB, 20]]));
    show();
    const { data, fds } = take(socket);
    expect([data.toString(), fds.length]).toEqual(['x', 1]);
    closeAll(fds);
    expect(openFds()).toBe(before + 1);
    guest.poll();
    for (let i = 0; i < 2; i++) guest.context.end('too much');
    expect(guest.notes).toEqual(['a channel has ended: too much']);
    expect(guest.passed).toHaveLength(1);
    // The buffer, and the connection.
    expect(openFds()).toBe(before - 1);
    expect(show).toThrow('there is no channel');
  });

  test('of a thousand contexts leaves nothing behind (C5)', () => {
    using compositor = new FakeCompositor();
    const before = openFds();
    for (let i = 0; i < 1000; i++) {
      using guest = new GuestChannel(compositor.path).init();
      compositor.hangUp(compositor.accept()!);
      guest.poll();
    }
    expect(openFds()).toBe(before);
  });
});
