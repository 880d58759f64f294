import { describe, expect, test } from 'vitest';
import { CrossDomain } from '../../../server/cross-domain/component.ts';
import type { Context } from '../../../server/gpu/contracts/context.ts';
import { componentContract } from '../../contract/component.ts';
import { fakeResource } from '../../support/fake-resource.ts';
import { CHANNEL, command as guestCommand, QUERY, words } from '../../support/guest-channel.ts';
import { REFUSED_BLOB, TestComponent } from '../../support/test-component.ts';

const fourcc = (text: string) => Buffer.from(text, 'latin1').readUInt32LE();
const LINEAR_SCANOUT = 0x11;

const command = (number: number, ...body: number[]) => guestCommand(number, words(...body));
const init = (channelType = 0) => command(1, QUERY, CHANNEL, channelType);
const query = (width: number, height: number, format: string) =>
  command(2, width, height, fourcc(format), LINEAR_SCANOUT);
const poll = () => command(3, 0, 0);

/** A context with its rings. */
function ready(): { context: Context; ring: ReturnType<typeof fakeResource> } {
  const context = new CrossDomain().createContext({ contextId: 1, name: 'test' });
  const ring = fakeResource(QUERY);
  context.attach(ring);
  context.attach(fakeResource(CHANNEL));
  context.submit(init());
  return { context, ring };
}

function ask(image: Uint8Array, { context, ring } = ready()) {
  ring.bytes.fill(0xaa);
  context.submit(image);
  const view = new DataView(ring.bytes.buffer);
  const words = (at: number, count: number) =>
    Array.from({ length: count }, (_, i) => view.getUint32(at + 4 * i, true));
  expect(ring.bytes.subarray(64).every((byte) => byte === 0xaa)).toBe(true);
  return {
    strides: words(0, 4),
    offsets: words(16, 4),
    modifier: view.getBigUint64(32, true),
    sizeBytes: Number(view.getBigUint64(40, true)),
    blobId: view.getUint32(48, true),
    rest: words(52, 3),
  };
}

componentContract('cross-domain', {
  makeComponent: () => new CrossDomain(),
  unknownBlobIds: [0n, 2n, 99n, 2n ** 53n, 2n ** 64n - 1n],
  prepareBlob: (context) => {
    const ring = fakeResource(QUERY);
    context.attach(ring);
    context.attach(fakeResource(CHANNEL));
    context.submit(init());
    context.submit(query(100, 100, 'XR24'));
    const view = new DataView(ring.bytes.buffer);
    return { blobId: BigInt(view.getUint32(48, true)), sizeBytes: view.getUint32(40, true) };
  },
});
componentContract('the component of the tests', {
  makeComponent: () => new TestComponent(),
  unknownBlobIds: [BigInt(REFUSED_BLOB)],
  prepareBlob: () => ({ blobId: 5n, sizeBytes: 4096 }),
});

describe('image requirements', () => {
  test.each([
    ['R8  ', 1_920_000, 1, [1_920_000, 0, 0, 0], [0, 0, 0, 0], 1_921_024],
    ['R8  ', 5000, 1, [5000, 0, 0, 0], [0, 0, 0, 0], 8192],
    ['XR24', 1, 1, [4, 0, 0, 0], [0, 0, 0, 0], 4096],
    ['XR24', 100, 100, [400, 0, 0, 0], [0, 0, 0, 0], 40_960],
    ['NV12', 100, 100, [100, 100, 0, 0], [0, 10_000, 0, 0], 16_384],
    ['YV12', 101, 101, [101, 50, 50, 0], [0, 10_201, 12_701, 0], 16_384],
  ])('of %s %ix%i (R1)', (format, width, height, strides, offsets, sizeBytes) => {
    const { blobId, ...answer } = ask(query(width, height, format));
    expect(answer).toEqual({
      strides,
      offsets,
      modifier: 0n,
      sizeBytes,
      rest: [1, 0xffff_ffff, 0xffff_ffff],
    });
    expect(blobId).toBeGreaterThanOrEqual(2);
  });

  test('have the same id for the same image, and another for another (R2)', () => {
    const machine = ready();
    const first = ask(query(100, 100, 'XR24'), machine).blobId;
    expect(ask(query(100, 100, 'AR24'), machine).blobId).not.toBe(first);
    expect(ask(query(100, 100, 'XR24'), machine).blobId).toBe(first);
  });

  test.each([
    ['an unknown format', query(10, 10, 'ZZZZ')],
    ['no width', query(0, 10, 'XR24')],
    ['no height', query(10, 0, 'XR24')],
    ['4 GiB', query(65_536, 65_536, 'XR24')],
    ['more than a pool can have', query(0xffff_ffff, 1, 'R8  ')],
  ])('of %s: refused, and the ring says so (R3)', (_, image) => {
    const machine = ready();
    machine.ring.bytes.fill(0xaa);
    expect(() => machine.context.submit(image)).toThrow('image of');
    expect(machine.ring.bytes.subarray(0, 52).every((byte) => byte === 0)).toBe(true);
    expect([...machine.ring.bytes.subarray(56, 64)]).toEqual(new Array(8).fill(255));
    expect(machine.ring.bytes[64]).toBe(0xaa);
  });

  test('without a query ring, or with one that is too short: refused', () => {
    const { context } = ready();
    context.detach(QUERY);
    expect(() => context.submit(query(1, 1, 'XR24'))).toThrow('no query ring');
    context.attach(fakeResource(QUERY, 63));
    expect(() => context.submit(query(1, 1, 'XR24'))).toThrow('no query ring');
  });
});

describe('blobs', () => {
  const blob = (id: number, sizeBytes: number) => {
    const machine = ready();
    expect(ask(query(5000, 1, 'R8  '), machine).blobId).toBe(2);
    return () => machine.context.createBlob(BigInt(id), sizeBytes, 3);
  };

  test.each([8192, 16_384, 65_536])('of %i bytes are made for an image of 8192 (R5)', (sizeBytes) => {
    expect(blob(2, sizeBytes)).not.toThrow();
  });

  test.each([5000, 8191, 65_537])('of %i bytes are not (R5)', (sizeBytes) => {
    expect(blob(2, sizeBytes)).toThrow('for 8192');
  });

  test.each([0, 1, 3, 99])('of an id that means no image (%i) are not (R6)', (id) => {
    expect(blob(id, 8192)).toThrow('no image of id');
  });
});

describe('INIT', () => {
  const fresh = () => {
    const context = new CrossDomain().createContext({ contextId: 1, name: 'test' });
    context.attach(fakeResource(QUERY));
    context.attach(fakeResource(CHANNEL));
    return context;
  };

  test.each([
    ['16 bytes, with one ring', command(1, QUERY, 0)],
    ['20 bytes', init()],
    ['24 bytes', command(1, QUERY, CHANNEL, 0, 1)],
    ['36 bytes', command(1, QUERY, CHANNEL, 0, 9, 9, 9, 9)],
  ])('is understood in %s', (_, bytes) => {
    const context = fresh();
    context.submit(bytes);
    context.submit(query(1, 1, 'XR24'));
  });

  test('changes nothing when it is refused: the next one is heard', () => {
    const context = fresh();
    expect(() => context.submit(init(1))).toThrow('channel of type 1');
    expect(() => context.submit(command(1, 99, CHANNEL, 0))).toThrow('ring 99');
    expect(() => context.submit(command(1, QUERY))).toThrow('command of 12 bytes');
    context.submit(init());
    expect(() => context.submit(init())).toThrow('a second INIT');
  });

  test('wants guest blobs for rings', () => {
    const context = new CrossDomain().createContext({ contextId: 1, name: 'test' });
    context.attach({ ...fakeResource(QUERY), kind: 'host3d' });
    context.attach(fakeResource(CHANNEL));
    expect(() => context.submit(init())).toThrow('ring 11');
  });
});

describe('a command stream', () => {
  const join = (...parts: Uint8Array[]) => Uint8Array.from(parts.flatMap((part) => [...part]));

  test('may have several commands; what follows a bad one is not done', () => {
    const { context, ring } = ready();
    context.submit(join(poll(), query(100, 100, 'XR24'), poll()));
    expect(ring.bytes[0]).toBe(400 & 0xff);
    ring.bytes.fill(0);
    expect(() => context.submit(join(poll(), command(8), query(100, 100, 'XR24')))).toThrow('command 8');
    expect(ring.bytes[0]).toBe(0);
  });

  test.each([0, 1, 7])('with a command of %i bytes is refused', (sizeBytes) => {
    const bytes = poll();
    new DataView(bytes.buffer).setUint16(2, sizeBytes, true);
    expect(() => ready().context.submit(bytes)).toThrow(`of ${sizeBytes} bytes`);
  });

  test('that is cut, or whose command is longer than it, is refused', () => {
    expect(() => ready().context.submit(poll().subarray(0, 4))).toThrow('half a command');
    expect(() => ready().context.submit(poll().subarray(0, 12))).toThrow('of 16 bytes');
    expect(() => ready().context.submit(command(2, 1, 2))).toThrow('command of 16 bytes');
  });

  test('longer than any guest sends is refused', () => {
    expect(() => ready().context.submit(new Uint8Array(65_540))).toThrow('65540 bytes of commands');
  });
});

describe('fences', () => {
  test('on the query ring pass at once; on the channel ring nothing ever comes', () => {
    const { context } = ready();
    const passed: number[] = [];
    for (const ring of [0, 1, 0, 1]) context.fence(ring, () => passed.push(ring));
    expect(passed).toEqual([0, 0]);
    context.close();
    expect(passed).toEqual([0, 0]);
  });
});
