import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { StreamError } from '../../../server/errors.ts';
import { type Message, MessageReader } from '../../../server/vfio-user/framing.ts';
import { messageBytes } from '../../support/fake-client.ts';

const MAX = 4096;

/** Puts bytes into a reader, and says that descriptors came with them. */
function put(reader: MessageReader, bytes: Uint8Array, fds: readonly number[] = []): void {
  reader.buffer.set(bytes, reader.filled);
  reader.advance(bytes.length, fds);
}

/** All messages that a reader has, with the descriptors of each. */
function take(reader: MessageReader) {
  const messages: (Message & { taken: number[] })[] = [];
  for (let message = reader.next(); message; message = reader.next()) {
    messages.push({ ...message, body: message.body.slice(), taken: message.fds.takeAll() });
  }
  return messages;
}

/** Feeds bytes as a socket would: never more than there is room for, cut where `cuts` says. */
function feed(reader: MessageReader, stream: Uint8Array, cuts: readonly number[] = []): Message[] {
  const messages: Message[] = [];
  let at = 0;
  for (let turn = 0; at < stream.length; turn++) {
    const cut = cuts.length > 0 ? (cuts[turn % cuts.length] as number) : MAX;
    const count = Math.min(cut, reader.buffer.length - reader.filled, stream.length - at);
    put(reader, stream.subarray(at, at + count));
    messages.push(...take(reader));
    at += count;
  }
  return messages;
}

const plain = ({ id, command, flags, error, body }: Message) => ({
  id,
  command,
  flags,
  error,
  body: [...body],
});

describe('the reader', () => {
  test('gives the same messages however the stream is cut', () => {
    const message = fc.record({
      id: fc.integer({ min: 0, max: 0xffff }),
      command: fc.integer({ min: 0, max: 0xffff }),
      flags: fc.constantFrom(0, 1, 0x10, 0x21),
      error: fc.integer({ min: 0, max: 0xffff_ffff }),
      body: fc.uint8Array({ maxLength: 1200 }),
    });
    fc.assert(
      fc.property(
        fc.array(message, { maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: 2000 }), { minLength: 1, maxLength: 9 }),
        (sent, cuts) => {
          const parts = sent.map(({ body, ...header }) => messageBytes(header, body));
          const stream = Uint8Array.from(parts.flatMap((part) => [...part]));
          const received = feed(new MessageReader(MAX), stream, cuts).map(plain);
          expect(received).toEqual(sent.map((one) => ({ ...one, body: [...one.body] })));
        },
      ),
    );
  });

  test('is idle between messages, and not while one is unfinished or not asked for', () => {
    const reader = new MessageReader(MAX);
    const bytes = messageBytes({ id: 1, command: 9, flags: 0 }, new Uint8Array(20));
    expect(reader.idle).toBe(true);
    put(reader, bytes.subarray(0, 16));
    expect(reader.next()).toBe(undefined);
    expect(reader.idle).toBe(false);
    put(reader, bytes.subarray(16));
    expect(reader.idle).toBe(false);
    expect(reader.next()?.id).toBe(1);
    expect(reader.idle).toBe(true);
    expect(reader.next()).toBe(undefined);
  });

  test('grows for a large message and keeps what it had', () => {
    const body = Uint8Array.from({ length: 100_000 }, (_, i) => i);
    const [message] = feed(
      new MessageReader(1 << 20),
      messageBytes({ id: 7, command: 10, flags: 0 }, body),
      [999],
    );
    expect(message).toMatchObject({ id: 7, command: 10 });
    expect(message?.body).toEqual(body);
  });

  test.each([0, 15, MAX + 1, 0xffff_ffff])('refuses a size of %i with EINVAL', (sizeBytes) => {
    const stream = messageBytes({ id: 0, command: 1, flags: 0, sizeBytes }, new Uint8Array(0));
    expect(() => feed(new MessageReader(MAX), stream)).toThrow(expect.objectContaining({ errno: 22 }));
  });

  test('takes the largest size there may be', () => {
    const stream = messageBytes({ id: 0, command: 1, flags: 0 }, new Uint8Array(MAX - 16));
    expect(feed(new MessageReader(MAX), stream)).toHaveLength(1);
  });

  test.each([2, 9, 15])('refuses type %i', (flags) => {
    const stream = messageBytes({ id: 0, command: 1, flags }, new Uint8Array(0));
    expect(() => feed(new MessageReader(MAX), stream)).toThrow(StreamError);
  });

  const message = (id: number, bodyBytes = 4) =>
    messageBytes({ id, command: 13, flags: 0 }, new Uint8Array(bodyBytes));
  const join = (...parts: Uint8Array[]) => Uint8Array.from(parts.flatMap((part) => [...part]));
  const ids = (messages: { id: number; taken: number[] }[]) => messages.map(({ id, taken }) => [id, taken]);

  test('hands descriptors out once', () => {
    const reader = new MessageReader(MAX);
    put(reader, message(0), [100, 101]);
    const fds = reader.next()?.fds;
    expect(fds?.count).toBe(2);
    expect(fds?.takeAll()).toEqual([100, 101]);
    expect(fds?.count).toBe(0);
  });

  test('gives descriptors to the last message that begins in the read they came with', () => {
    const reader = new MessageReader(MAX);
    put(reader, join(message(0), message(1), message(2)), [100]);
    put(reader, join(message(3), message(4)), [101, 102]);
    expect(ids(take(reader))).toEqual([
      [0, []],
      [1, []],
      [2, [100]],
      [3, []],
      [4, [101, 102]],
    ]);
  });

  test('gives descriptors to a message of which only the first byte came with them', () => {
    const reader = new MessageReader(MAX);
    const second = message(1, 3000);
    put(reader, join(message(0, 2000), second.subarray(0, 1)), [100]);
    expect(ids(take(reader))).toEqual([[0, []]]);
    // There is room for the rest only where the first message was.
    put(reader, second.subarray(1, 2000));
    expect(take(reader)).toEqual([]);
    put(reader, join(second.subarray(2000), message(2)), [101]);
    expect(ids(take(reader))).toEqual([
      [1, [100]],
      [2, [101]],
    ]);
  });

  test.each([
    ['with a part of the body, more to come', 20, 30],
    ['with a part of the header, more to come', 5, 10],
    ['with the end of the body', 20, 40],
  ])('refuses descriptors that come %s', (_, from, to) => {
    for (const first of [[], [100]]) {
      const reader = new MessageReader(MAX);
      const bytes = message(0, 24);
      put(reader, bytes.subarray(0, from), first);
      expect(reader.next()).toBe(undefined);
      put(reader, bytes.subarray(from, to), [101]);
      expect(() => reader.next()).toThrow(StreamError);
    }
  });

  test('still knows the header of a message that it has handed out', () => {
    const reader = new MessageReader(MAX);
    put(reader, join(message(7), message(8)));
    reader.next();
    expect(reader.header).toEqual({ id: 7, command: 13 });
  });
});
