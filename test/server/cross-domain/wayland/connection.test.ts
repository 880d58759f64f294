import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { WaylandConnection } from '../../../../server/cross-domain/wayland/connection.ts';
import { describe as inWords } from '../../../../server/cross-domain/wayland/describe.ts';
import { DEFAULT_POLICY, OPEN_POLICY } from '../../../../server/cross-domain/wayland/policy.ts';
import { INTERFACES, type MessageSpec } from '../../../../server/cross-domain/wayland/schema.ts';
import { type Argument, encodeMessage } from '../../../../server/cross-domain/wayland/wire.ts';
import {
  ANNOUNCED,
  announce,
  blob,
  bound,
  copiesOf,
  event,
  forwarded,
  join,
  messagesIn,
  pipe,
  REGISTRY,
  request,
  SURFACE,
  started,
  talk,
  USED_IDS,
  unhex,
} from './talk.ts';

const shm = bound('wl_shm');
const createPool = (id: number, sizeBytes = 4096) => request('wl_shm.create_pool', shm, id, null, sizeBytes);

/** A window with a title, two frames of it, and a copy of something. */
const SESSION = join(
  request('xdg_wm_base.get_xdg_surface', bound('xdg_wm_base'), 110, SURFACE),
  request('xdg_surface.get_toplevel', 110, 111),
  request('xdg_toplevel.set_title', 111, 'A window'),
  createPool(112, 8192),
  request('wl_shm_pool.create_buffer', 112, 113, 0, 16, 16, 64, 0),
  request('wl_shm_pool.create_buffer', 112, 114, 4096, 16, 16, 64, 0),
  request('wl_surface.attach', SURFACE, 113, 0, 0),
  request('wl_surface.damage', SURFACE, 0, 0, 16, 16),
  request('wl_surface.commit', SURFACE),
  createPool(115),
  request('wl_data_device_manager.get_data_device', bound('wl_data_device_manager'), 116, bound('wl_seat')),
  request('wl_data_device_manager.create_data_source', bound('wl_data_device_manager'), 117),
  request('wl_data_device.set_selection', 116, 117, 9),
  request('wl_surface.attach', SURFACE, 114, 0, 0),
  request('wl_surface.damage_buffer', SURFACE, 0, 3, 16, 2),
  request('wl_surface.commit', SURFACE),
);
const RULES = { titlePrefix: 'vm: ', clipboard: 'none' } as const;

describe('a stream that is cut anywhere', () => {
  const summary = (cuts: readonly number[]) => {
    const { connection } = started(RULES);
    const out: Record<'bytes' | 'reply', Uint8Array> & { fds: number[]; copies: number[][] } = {
      bytes: new Uint8Array(0),
      fds: [],
      copies: [],
      reply: new Uint8Array(0),
    };
    const edges = [0, ...cuts, SESSION.length];
    for (const [i, from] of edges.slice(0, -1).entries()) {
      const given = connection.fromGuest(
        SESSION.subarray(from, edges[i + 1]),
        i === 0 ? [blob(5), blob(6)] : [],
      );
      out.bytes = join(out.bytes, forwarded(given));
      out.fds.push(...given.forward.flatMap(({ fds }) => fds));
      out.copies.push(...copiesOf(given));
      out.reply = join(out.reply, given.reply);
      for (const { bytes } of given.forward) messagesIn(bytes);
    }
    return { ...out, counters: connection.counters };
  };
  const whole = summary([]);

  test('means the same at every single place (H9)', () => {
    expect(whole.copies).toEqual([
      [5, 0, 1024],
      [5, 4096, 1024],
    ]);
    expect(whole.fds).toEqual([0, 1]);
    for (let at = 1; at < SESSION.length; at++) expect(summary([at])).toEqual(whole);
  });

  test('means the same byte by byte', () => {
    expect(summary(Array.from({ length: SESSION.length - 1 }, (_, i) => i + 1))).toEqual(whole);
  });

  test('means the same in any pieces', () => {
    const places = fc.uniqueArray(fc.integer({ min: 1, max: SESSION.length - 1 }));
    fc.assert(
      fc.property(places, (cuts) => {
        expect(summary(cuts.sort((a, b) => a - b))).toEqual(whole);
      }),
    );
  });

  test('so does that of the compositor', () => {
    const stream = join(announce(), event('wl_shm.format', shm, 0), event('wl_display.delete_id', 1, 77));
    const read = (cuts: readonly number[]) => {
      const { connection, guest } = talk();
      guest(request('wl_display.get_registry', 1, REGISTRY));
      guest(request('wl_display.sync', 1, 77));
      connection.fromHost(event('wl_registry.global', REGISTRY, 2, 'wl_shm', 2), 0);
      guest(request('wl_registry.bind', REGISTRY, 2, 'wl_shm', 2, shm));
      const edges = [0, ...cuts, stream.length];
      return join(
        ...edges
          .slice(0, -1)
          .map((from, i) => forwarded(connection.fromHost(stream.subarray(from, edges[i + 1]), 0))),
      );
    };
    const all = read([]);
    for (let at = 1; at < stream.length; at++) expect(read([at])).toEqual(all);
  });
});

describe('what goes on', () => {
  test('is the very bytes that came, where nothing is changed', () => {
    const { connection } = started();
    const bytes = join(request('wl_display.sync', 1, 200), request('wl_surface.commit', SURFACE));
    const [chunk, ...more] = connection.fromGuest(bytes, []).forward;
    expect(more).toEqual([]);
    expect(chunk!.bytes.buffer).toBe(bytes.buffer);
    expect(chunk!.bytes).toEqual(bytes);
  });

  test('half a message waits', () => {
    const { connection } = started();
    const sync = request('wl_display.sync', 1, 200);
    expect(connection.fromGuest(sync.subarray(0, 11), []).forward).toEqual([]);
    expect(forwarded(connection.fromGuest(sync.subarray(11), []))).toEqual(sync);
  });
});

describe('descriptors', () => {
  test('go with the request that they belong to, also if they came earlier', () => {
    const { guest, guestWith } = started();
    expect(guestWith([blob(5), blob(6)], request('wl_display.sync', 1, 200)).forward[0]!.fds).toEqual([]);
    expect(guest(createPool(201)).forward[0]!.fds).toEqual([0]);
    expect(guest(createPool(202)).forward[0]!.fds).toEqual([1]);
  });

  test('are never more than 28 at once', () => {
    const { connection } = started();
    const pools = Array.from({ length: 30 }, (_, i) => createPool(300 + i));
    const { forward } = connection.fromGuest(
      join(...pools),
      pools.map((_, i) => blob(i)),
    );
    expect(forward.map(({ fds }) => fds.length)).toEqual([28, 2]);
    expect(forward[1]!.fds).toEqual([28, 29]);
    expect(forward[1]!.bytes).toEqual(join(pools[28]!, pools[29]!));
  });

  test('missing for a request: the connection ends', () => {
    const { guest } = started();
    expect(guest(createPool(201)).reply).toEqual(
      event('wl_display.error', 1, 1, 1, 'message without its descriptor'),
    );
  });

  test('without a request are kept up to 1024, and dropped at the end', () => {
    const { connection } = started();
    expect(connection.fromGuest(new Uint8Array(0), new Array(1024).fill(pipe)).droppedFds).toEqual([]);
    const out = connection.fromGuest(new Uint8Array(0), [pipe]);
    expect(out.droppedFds).toHaveLength(1025);
    expect(out.reply).toEqual(event('wl_display.error', 1, 1, 2, 'descriptors without messages'));
  });

  test('that come after the end are dropped', () => {
    const { connection, guest } = started();
    guest(unhex('ffffffff 00000800'));
    expect(connection.fromGuest(createPool(200), [blob(3), pipe])).toEqual({
      forward: [],
      reply: new Uint8Array(0),
      droppedFds: [0, 1],
    });
    expect(connection.fromHost(announce(), 2)).toEqual({
      forward: [],
      reply: new Uint8Array(0),
      droppedFds: [0, 1],
    });
  });

  test('of the compositor begin a chunk with their event', () => {
    const { connection, guest } = started();
    guest(
      request('wl_seat.get_keyboard', bound('wl_seat'), 200),
      request('wl_seat.get_keyboard', bound('wl_seat'), 201),
    );
    const format = event('wl_shm.format', shm, 0);
    const keymap = (id: number) => event('wl_keyboard.keymap', id, 1, null, 60_000);
    const { forward } = connection.fromHost(join(format, keymap(200), format, keymap(201)), 2);
    expect(forward).toEqual([
      { bytes: format, fds: [] },
      { bytes: join(keymap(200), format), fds: [0] },
      { bytes: keymap(201), fds: [1] },
    ]);
  });
});

describe('object ids', () => {
  test('may be used again at once; until delete_id the compositor means the old object, which nobody hears of', () => {
    const { connection, guest, guestWith, host } = started();
    guest(request('wl_seat.get_keyboard', bound('wl_seat'), 200));
    guestWith([blob(5)], request('wl_keyboard.release', 200), createPool(200));
    const keymap = event('wl_keyboard.keymap', 200, 1, null, 60_000);
    expect(connection.fromHost(keymap, 1)).toMatchObject({ forward: [], droppedFds: [0] });
    const freed = event('wl_display.delete_id', 1, 200);
    expect(forwarded(host(freed))).toEqual(freed);
    const buffer = request('wl_shm_pool.create_buffer', 200, 201, 0, 1, 1, 4, 0);
    expect(forwarded(guest(buffer))).toEqual(buffer);
  });

  test('that are in use cannot be used again', () => {
    const { guest } = started();
    expect(guest(request('wl_compositor.create_surface', bound('wl_compositor'), SURFACE)).reply).toEqual(
      event(
        'wl_display.error',
        1,
        1,
        1,
        `wl_compositor#${bound('wl_compositor')}.create_surface: invalid new id ${SURFACE}`,
      ),
    );
  });

  test.each([1, USED_IDS + 1, 0xff00_0000, 0xffff_ffff])('%i is nothing that a guest can make', (id) => {
    const { connection, guest } = started();
    guest(request('wl_display.sync', 1, id));
    expect(connection.failure?.message).toBe(`wl_display#1.sync: invalid new id ${id}`);
  });

  test('are free when the compositor says so', () => {
    const { connection, guest, host } = started();
    const before = connection.objectCount;
    for (let i = 0; i < 100_000; i++) {
      guest(request('wl_surface.frame', SURFACE, 200));
      host(event('wl_callback.done', 200, i), event('wl_display.delete_id', 1, 200));
    }
    expect(connection.failure).toBeUndefined();
    expect(connection.objectCount).toBe(before);
  });

  test('are at most 65536 at once', () => {
    const { connection, guest } = started();
    const room = 65_536 - connection.objectCount;
    for (let i = 0; i < room; i++) guest(request('wl_display.sync', 1, 1000 + i));
    expect(connection.failure).toBeUndefined();
    expect(guest(request('wl_display.sync', 1, 900)).reply).toEqual(
      event('wl_display.error', 1, 1, 2, 'too many objects'),
    );
  });

  test('of one kind cannot be used again without end before the compositor has answered', () => {
    const { connection, guest } = started();
    const cycle = join(
      request('wl_compositor.create_region', bound('wl_compositor'), 200),
      request('wl_region.destroy', 200),
    );
    for (let i = 0; i < 1024; i++) guest(cycle);
    expect(connection.failure).toBeUndefined();
    guest(cycle);
    expect(connection.failure?.message).toBe('id 200 is used again too often');
  });
});

describe('the end', () => {
  /** What wakes a program whose reader does not see errors. */
  const wake = event('wl_registry.global_remove', REGISTRY, 0xffff_ffff);
  /** Opcode 0 of object 0xffffffff: what ends a proxy that only logs errors. */
  const nothing = unhex('ffffffff 00000800');
  const closing = (connection: WaylandConnection) =>
    Uint8Array.from(connection.closing('the compositor has gone'));

  test('of the compositor is told to the guest, once, wakes its reader, and ends a proxy that takes no error for the end', () => {
    const { connection } = started();
    expect(closing(connection)).toEqual(
      join(event('wl_display.error', 1, 1, 3, 'the compositor has gone'), wake, nothing),
    );
    connection.fromHost(event('wl_display.error', 1, SURFACE, 2, 'no'), 0);
    expect(connection.hostFailed).toBe(true);
    expect(closing(connection)).toEqual(join(wake, nothing));
  });

  test('that the guest has brought about ends it in the same way', () => {
    const { connection, guest } = started();
    guest(unhex('39050000 00000800'));
    expect(connection.failure).toBeDefined();
    expect(closing(connection)).toEqual(join(wake, nothing));
  });

  test('of a guest without a registry wakes no reader', () => {
    const connection = new WaylandConnection(OPEN_POLICY);
    expect(closing(connection)).toEqual(
      join(event('wl_display.error', 1, 1, 3, 'the compositor has gone'), nothing),
    );
  });

  test('half an event of the compositor is never begun', () => {
    const { connection } = started();
    const format = event('wl_shm.format', shm, 0);
    const out = connection.fromHost(join(format, format.subarray(0, 10)), 0);
    expect(forwarded(out)).toEqual(format);
  });

  test('by an event that is none: the guest gets what was before it, and the reason', () => {
    const { connection } = started();
    const format = event('wl_shm.format', shm, 0);
    const out = connection.fromHost(join(format, unhex('01000000 02000800'), format), 0);
    expect(forwarded(out)).toEqual(
      join(format, event('wl_display.error', 1, 1, 3, 'invalid method 2, object wl_display#1 of version 1')),
    );
    expect(connection.failure).toBeDefined();
  });

  test('is not an event of no object, which goes nowhere', () => {
    const { connection } = started();
    const format = event('wl_shm.format', shm, 0);
    const out = connection.fromHost(join(format, event('wl_shm.format', 999, 0), format), 0);
    expect(forwarded(out)).toEqual(join(format, format));
    expect(connection.counters.hostMessagesDropped).toBe(1 + 1);
    expect(connection.failure).toBeUndefined();
  });

  test.each([
    ['an object that is none', '39050000 00000800', 'invalid object 1337'],
    ['a size below 8', '01000000 00000400', 'wl_display#1.sync: message of 4 bytes'],
    ['an opcode that is none', '01000000 07000800', 'invalid method 7, object wl_display#1 of version 1'],
    ['too few arguments', '01000000 00000800', 'wl_display#1.sync: message too short'],
  ])('by %s', (_, bytes, text) => {
    const { connection, guest } = started();
    const out = guest(unhex(bytes));
    expect(out.forward).toEqual([]);
    expect(messagesIn(out.reply)).toHaveLength(1);
    expect(connection.failure?.message).toBe(text);
  });
});

const REQUESTS: MessageSpec[] = [...INTERFACES.values()].flatMap(({ requests }) => requests);
const EVENTS: MessageSpec[] = [...INTERFACES.values()].flatMap(({ events }) => events);

/** Ids that are often right. */
const someId = fc.oneof(
  fc.integer({ min: 0, max: 24 }),
  fc.integer({ min: SURFACE, max: SURFACE + 16 }),
  fc.integer({ min: 0xff00_0000, max: 0xff00_0003 }),
);
const someWord = fc.oneof(
  fc.integer({ min: -2, max: 64 }),
  fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
);
const someArgument = (kind: MessageSpec['args'][number]['kind']): fc.Arbitrary<Argument> => {
  if (kind === 'string')
    return fc.oneof(fc.string({ maxLength: 9 }), fc.constantFrom(...ANNOUNCED.map(([name]) => name)));
  if (kind === 'array') return fc.uint8Array({ maxLength: 9 });
  if (kind === 'object' || kind === 'new_id') return someId;
  return kind === 'fd' ? fc.constant(null) : someWord;
};

/** A message that objects of the session may get, whether it makes sense or not. */
const someMessage = (specs: readonly MessageSpec[], side: 'requests' | 'events') =>
  fc.oneof(
    { weight: 20, arbitrary: likely(specs, side) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 24 }) },
  );
const likely = (specs: readonly MessageSpec[], side: 'requests' | 'events') => {
  const of = (name: string) => INTERFACES.get(name)![side];
  const often = [
    ...of('wl_registry'),
    ...of('wl_surface'),
    ...of('wl_shm'),
    ...of('wl_shm_pool'),
    ...of('wl_data_device'),
    ...of('wl_data_device_manager'),
    ...of('wl_display'),
  ];
  return fc
    .oneof(fc.constantFrom(...often), fc.constantFrom(...specs))
    .chain((spec) =>
      fc.tuple(
        fc.constant(spec),
        ownerOf(spec.interface),
        fc.tuple(...spec.args.map(({ kind }) => someArgument(kind))),
      ),
    )
    .map(([spec, id, values]) => encodeMessage(id, spec.opcode, spec.args, values));
};
const ownerOf = (name: string): fc.Arbitrary<number> => {
  if (name === 'wl_display') return fc.constant(1);
  if (name === 'wl_registry') return fc.constant(REGISTRY);
  if (name === 'wl_surface') return fc.constant(SURFACE);
  if (ANNOUNCED.some(([announced]) => announced === name)) return fc.constant(bound(name));
  return someId;
};

describe('a hostile guest', () => {
  const steps = fc.array(
    fc.oneof(
      fc.record({ guest: fc.constant(true), bytes: someMessage(REQUESTS, 'requests'), fds: fc.nat(2) }),
      fc.record({ guest: fc.constant(false), bytes: someMessage(EVENTS, 'events'), fds: fc.nat(1) }),
    ),
    { maxLength: 40 },
  );

  test('gets no exception out of it, no hidden global, and loses no descriptor', () => {
    const kinds = new Set<string>();
    fc.assert(
      fc.property(steps, fc.constantFrom('both', 'none'), (list, clipboard) => {
        const { connection } = started({ clipboard });
        const seen = { guest: [] as number[], host: [] as number[] };
        let [guestFds, hostFds] = [0, 0];
        for (const { guest, bytes, fds } of list) {
          const alive = connection.failure === undefined;
          if (guest) {
            const out = connection.fromGuest(
              bytes,
              Array.from({ length: fds }, (_, i) => (i === 0 ? blob(7, 65_536) : pipe)),
            );
            guestFds += fds;
            seen.guest.push(...out.forward.flatMap((chunk) => chunk.fds), ...out.droppedFds);
            for (const said of messagesIn(forwarded(out))) {
              if (said.id !== REGISTRY) continue;
              const text = Buffer.from(said.bytes).toString('latin1');
              expect(text).not.toMatch(/zwlr_screencopy/);
            }
            for (const { copies } of out.forward) {
              for (const { offset, lengthBytes } of copies) {
                expect(offset).toBeGreaterThanOrEqual(0);
                expect(lengthBytes).toBeGreaterThan(0);
                expect(offset + lengthBytes).toBeLessThanOrEqual(65_536);
              }
            }
            messagesIn(out.reply);
            expect(alive || out.forward.length === 0).toBe(true);
          } else {
            const out = connection.fromHost(bytes, fds);
            hostFds += fds;
            seen.host.push(...out.forward.flatMap((chunk) => chunk.fds), ...out.droppedFds);
            messagesIn(forwarded(out));
            messagesIn(out.reply);
          }
        }
        kinds.add(connection.failure?.message.replaceAll(/\d+/g, 'N') ?? 'alive');
        const settled = (list: number[], given: number) => {
          expect(list.sort((a, b) => a - b)).toEqual(list.map((_, i) => i));
          if (connection.failure) expect(list).toHaveLength(given);
        };
        // What comes after the end is dropped, so a last call gives back whatever waited.
        if (connection.failure) seen.guest.push(...connection.fromGuest(new Uint8Array(0), []).droppedFds);
        if (connection.failure) seen.host.push(...connection.fromHost(new Uint8Array(0), 0).droppedFds);
        settled(seen.guest, guestFds);
        settled(seen.host, hostFds);
      }),
      { numRuns: 1500 },
    );
    expect(kinds.size).toBeGreaterThan(5);
  });

  test('sends random bytes (H9)', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 5 }), (pieces) => {
        const { connection } = started();
        for (const piece of pieces) {
          connection.fromGuest(piece, [pipe]);
          connection.fromHost(piece, 1);
        }
      }),
    );
  });
});

describe('messages in words', () => {
  test('have names, objects and values', () => {
    const lines: string[] = [];
    const { connection } = started({}, { observe: (message) => lines.push(inWords(message)) });
    connection.fromGuest(SESSION, [blob(5), blob(6)]);
    connection.fromHost(event('xdg_toplevel.configure', 111, 640, 480, new Uint8Array(8)), 0);
    expect(lines).toEqual(
      expect.arrayContaining([
        'wl_display#1.get_registry(new wl_registry#2)',
        'wl_registry#2.global(2, "wl_shm", 2)',
        'wl_registry#2.bind(2, "wl_shm", 2, new #11)',
        'wl_shm#11.create_pool(new wl_shm_pool#112, fd, 8192)',
        'wl_surface#100.attach(wl_buffer#113, 0, 0)',
        'xdg_toplevel#111.set_title("A window")',
        'xdg_toplevel#111.configure(640, 480, 8 bytes)',
      ]),
    );
  });

  test('with a word more behind each string and descriptor, as a library in use sends them, are what they are', () => {
    const behind = (message: Uint8Array, words: number) => {
      const longer = join(message, new Uint8Array(4 * words).fill(0xee));
      new DataView(longer.buffer).setUint16(6, longer.length, true);
      return longer;
    };
    const lines: string[] = [];
    const { connection, guest } = started({}, { observe: (message) => lines.push(inWords(message)) });
    guest(request('xdg_wm_base.get_xdg_surface', bound('xdg_wm_base'), 110, SURFACE));
    guest(request('xdg_surface.get_toplevel', 110, 111));
    const title = behind(request('xdg_toplevel.set_title', 111, 'abc'), 1);
    expect(forwarded(guest(title))).toEqual(title);
    guest(behind(request('wl_display.sync', 1, 200), 2));
    expect(lines.slice(-2)).toEqual([
      'xdg_toplevel#111.set_title("abc")',
      'wl_display#1.sync(new wl_callback#200)',
    ]);
    expect(connection.failure).toBeUndefined();

    const named = started(RULES);
    named.guest(request('xdg_wm_base.get_xdg_surface', bound('xdg_wm_base'), 110, SURFACE));
    named.guest(request('xdg_surface.get_toplevel', 110, 111));
    expect(forwarded(named.guest(title))).toEqual(request('xdg_toplevel.set_title', 111, 'vm: abc'));
  });

  test('that bind a global with a word more behind them name the version that they say', () => {
    const { connection, guest } = started();
    const bind = request('wl_registry.bind', REGISTRY, 1, 'wl_compositor', 6, 300);
    const longer = join(bind, new Uint8Array(4).fill(0xee));
    new DataView(longer.buffer).setUint16(6, longer.length, true);
    guest(longer, request('wl_compositor.create_surface', 300, 301));
    expect(connection.failure).toBeUndefined();
  });

  test('show what the policy hides, too', () => {
    const lines: string[] = [];
    started({}, { observe: (message) => lines.push(inWords(message)) });
    expect(lines).toContain('wl_registry#2.global(11, "zwlr_screencopy_manager_v1", 3)');
  });

  test('of everything that is known can be read under the open policy', () => {
    const connection = new WaylandConnection(OPEN_POLICY);
    connection.fromGuest(request('wl_display.get_registry', 1, 2), []);
    const dmabuf = event('wl_registry.global', 2, 1, 'zwp_linux_dmabuf_v1', 5);
    expect(forwarded(connection.fromHost(dmabuf, 0))).toEqual(dmabuf);
    expect(DEFAULT_POLICY.globals).not.toHaveProperty('zwp_linux_dmabuf_v1');
  });
});
