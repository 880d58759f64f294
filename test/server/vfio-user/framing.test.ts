import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { StreamError } from '../../../server/errors.ts';
import { type Message, MessageReader } from '../../../server/vfio-user/framing.ts';
import { messageBytes } from '../../support/fake-client.ts';

const MAX = 4096;

/** Feeds bytes as a socket would: never more than asked for, cut where `cuts` says. */
function feed(reader: MessageReader, stream: Uint8Array, cuts: readonly number[] = []): Message[] {
  const messages: Message[] = [];
  let at = 0;
  for (let turn = 0; at < stream.length; turn++) {
    const cut = cuts.length > 0 ? (cuts[turn % cuts.length] as number) : MAX;
    const count = Math.min(cut, reader.wanted, stream.length - at);
    reader.buffer.set(stream.subarray(at, at + count), reader.filled);
    const message = reader.advance(count, []);
    if (message) messages.push({ ...message, body: message.body.slice() });
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
      body: fc.uint8Array({ maxLength: 200 }),
    });
    fc.assert(
      fc.property(
        fc.array(message, { maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 9 }),
        (sent, cuts) => {
          const parts = sent.map(({ body, ...header }) => messageBytes(header, body));
          const stream = Uint8Array.from(parts.flatMap((part) => [...part]));
          const received = feed(new MessageReader(MAX), stream, cuts).map(plain);
          expect(received).toEqual(sent.map((one) => ({ ...one, body: [...one.body] })));
        },
      ),
    );
  });

  test('wants a header first, then exactly the body', () => {
    const reader = new MessageReader(MAX);
    expect(reader.wanted).toBe(16);
    reader.buffer.set(messageBytes({ id: 1, command: 9, flags: 0 }, new Uint8Array(20)).subarray(0, 16));
    reader.advance(16, []);
    expect(reader.wanted).toBe(20);
    expect(reader.idle).toBe(false);
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

  test('gives descriptors to the message whose header they came with', () => {
    const reader = new MessageReader(MAX);
    reader.buffer.set(messageBytes({ id: 0, command: 13, flags: 0 }, new Uint8Array(0)));
    const message = reader.advance(16, [100, 101]);
    expect(message?.fds.count).toBe(2);
    expect(message?.fds.takeAll()).toEqual([100, 101]);
    expect(message?.fds.count).toBe(0);
  });
});
