import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { INTERFACES, type MessageSpec } from '../../../../server/cross-domain/wayland/schema.ts';
import {
  type Argument,
  type ArgumentKind,
  type ArgumentShape,
  decodeArguments,
  encodeMessage,
  WaylandError,
} from '../../../../server/cross-domain/wayland/wire.ts';
import { event, hex, request, unhex } from './talk.ts';

const shape = (kind: ArgumentKind, nullable = false): ArgumentShape => ({ kind, nullable });

describe('messages as bytes', () => {
  test('a request of two words has size and opcode in one word', () => {
    expect(hex(request('wl_display.get_registry', 1, 2))).toBe('01000000 01000c00 02000000');
  });

  test('strings have a length with the final zero, and are padded', () => {
    expect(hex(request('wl_registry.bind', 2, 1, 'wl_shm', 1, 3))).toBe(
      '02000000 00002000 01000000 07000000 776c5f73 686d0000 01000000 03000000',
    );
  });

  test('a string whose final zero fills its word has no padding', () => {
    expect(hex(request('xdg_toplevel.set_title', 9, 'abc'))).toBe('09000000 02001000 04000000 61626300');
  });

  test('an empty string has one byte, an absent one none', () => {
    expect(hex(event('wl_data_source.target', 5, ''))).toBe('05000000 00001000 01000000 00000000');
    expect(hex(event('wl_data_source.target', 5, null))).toBe('05000000 00000c00 00000000');
  });

  test('descriptors take no bytes', () => {
    expect(hex(request('wl_shm.create_pool', 3, 4, null, 4096))).toBe('03000000 00001000 04000000 00100000');
  });

  test('fixed numbers are 256ths', () => {
    expect(hex(event('wl_pointer.motion', 6, 1, 1.5, -0.25))).toBe(
      '06000000 02001400 01000000 80010000 c0ffffff',
    );
  });

  test('arrays are padded and have no final zero', () => {
    const states = event('xdg_toplevel.configure', 7, 1, 2, Uint8Array.of(1, 0, 0, 0, 9));
    expect(hex(states)).toBe('07000000 00001c00 01000000 02000000 05000000 01000000 09000000');
  });
});

/** A string ends at its first zero. */
const text = fc.string({ unit: 'binary' }).map((any) => any.replaceAll('\0', ''));

const value = ({ kind, nullable }: ArgumentShape): fc.Arbitrary<Argument> => {
  switch (kind) {
    case 'int':
      return fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
    case 'uint':
      return fc.nat(0xffff_ffff);
    case 'object':
    case 'new_id':
      return fc.integer({ min: nullable ? 0 : 1, max: 0xffff_ffff });
    case 'fixed':
      return fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }).map((raw) => raw / 256);
    case 'string':
      return nullable ? fc.option(text) : text;
    case 'array':
      return fc.uint8Array();
    case 'fd':
      return fc.constant(null);
    default:
      return kind satisfies never;
  }
};

const everyMessage: MessageSpec[] = [...INTERFACES.values()].flatMap(({ requests, events }) => [
  ...requests,
  ...events,
]);

test('every message of the tables comes back as it was written', () => {
  const written = fc
    .constantFrom(...everyMessage)
    .chain((spec) => fc.tuple(fc.constant(spec), fc.tuple(...spec.args.map(value))));
  fc.assert(
    fc.property(written, ([spec, values]) => {
      const bytes = encodeMessage(7, spec.opcode, spec.args, values);
      expect(bytes.length % 4).toBe(0);
      expect(decodeArguments(spec.args, bytes)).toEqual(values);
    }),
    { numRuns: 1000 },
  );
});

describe('bytes behind the arguments', () => {
  test('mean nothing, whatever they are', () => {
    const decoded = (text: string, ...shapes: ArgumentShape[]) => decodeArguments(shapes, unhex(text));
    expect(decoded('0a000000 02001400 04000000 61626300 00000000', shape('string'))).toEqual(['abc']);
    expect(decoded('0a000000 02001400 04000000 61626300 ffffffff', shape('string'))).toEqual(['abc']);
    expect(decoded('01000000 00001000 01000000 02000000', shape('uint'))).toEqual([1]);
    expect(decoded('01000000 00000c00 02000000', shape('fd'))).toEqual([null]);
    expect(decoded('01000000 00000c00 02000000')).toEqual([]);
  });
});

describe('bytes that are no message', () => {
  const refused = (text: string, ...shapes: ArgumentShape[]) =>
    expect(() => decodeArguments(shapes, unhex(text))).toThrow(WaylandError);

  test('a size below 8', () => {
    refused('01000000 00000400');
  });
  test('arguments that are too few', () => {
    refused('01000000 00000800', shape('uint'));
    refused('01000000 00000c00 01000000', shape('uint'), shape('uint'));
  });
  test('a string that is longer than the message', () => {
    refused('01000000 00001000 05000000 61626300', shape('string'));
    refused('01000000 00001000 ffffffff 61626300', shape('string'));
  });
  test('a string without its final zero', () => {
    refused('01000000 00001000 04000000 61626364', shape('string'));
  });
  test('a string that is absent where it must not be', () => {
    refused('01000000 00000c00 00000000', shape('string'));
    expect(decodeArguments([shape('string', true)], unhex('01000000 00000c00 00000000'))).toEqual([null]);
  });

  test('any bytes are a message or a WaylandError', () => {
    fc.assert(
      fc.property(fc.constantFrom(...everyMessage), fc.uint8Array({ maxLength: 64 }), (spec, bytes) => {
        const message = Uint8Array.from(bytes.subarray(0, bytes.length & ~3));
        if (message.length >= 8) new DataView(message.buffer).setUint16(6, message.length, true);
        try {
          decodeArguments(spec.args, message);
        } catch (error) {
          expect(error).toBeInstanceOf(WaylandError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

test('a message longer than its size can say is refused', () => {
  expect(() => encodeMessage(1, 0, [shape('string')], ['x'.repeat(65_519)])).not.toThrow();
  expect(() => encodeMessage(1, 0, [shape('string')], ['x'.repeat(65_520)])).toThrow(WaylandError);
});
