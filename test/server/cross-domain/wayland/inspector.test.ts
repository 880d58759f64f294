import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MAX_DAMAGES } from '../../../../server/cross-domain/wayland/inspector.ts';
import { blob, bound, copiesOf, event, pipe, request, SURFACE, started, type Talk } from './talk.ts';

const shm = bound('wl_shm');
const POOL = 200;
const FIRST = 201;
const XRGB8888 = 1;
const NV12 = 0x3231_564e;

/** A pool of resource 5 with three buffers of 16 rows of 64 bytes, 4096 bytes apart. */
function pooled(): Talk {
  const made = started();
  made.guestWith([blob(5)], request('wl_shm.create_pool', shm, POOL, null, 12_288));
  for (let i = 0; i < 3; i++)
    made.guest(request('wl_shm_pool.create_buffer', POOL, FIRST + i, 4096 * i, 16, 16, 64, XRGB8888));
  return made;
}
const attach = (buffer: number, surface = SURFACE) => request('wl_surface.attach', surface, buffer, 0, 0);
const damage = (...rectangle: number[]) => request('wl_surface.damage', SURFACE, ...rectangle);
const damageBuffer = (...rectangle: number[]) => request('wl_surface.damage_buffer', SURFACE, ...rectangle);
const commit = (surface = SURFACE) => request('wl_surface.commit', surface);
const everything = damage(0, 0, 0x7fff_ffff, 0x7fff_ffff);

describe('copies at a commit', () => {
  test('a buffer is copied whole when it is new, whatever is damaged', () => {
    const { guest } = pooled();
    expect(copiesOf(guest(attach(FIRST + 1), damage(0, 0, 1, 1), commit()))).toEqual([[5, 4096, 1024]]);
  });

  test('come with the bytes that hold the commit, not before', () => {
    const { guest } = pooled();
    expect(copiesOf(guest(attach(FIRST), everything))).toEqual([]);
    expect(copiesOf(guest(commit()))).toEqual([[5, 0, 1024]]);
  });

  test('then only the damaged rows (H8)', () => {
    const { guest } = pooled();
    guest(attach(FIRST), everything, commit());
    expect(copiesOf(guest(attach(FIRST), damage(3, 2, 10, 10), commit()))).toEqual([[5, 128, 640]]);
    expect(copiesOf(guest(attach(FIRST), damageBuffer(0, 15, 1, 9), commit()))).toEqual([[5, 960, 64]]);
  });

  test('nothing where nothing is damaged', () => {
    const { guest } = pooled();
    guest(attach(FIRST), everything, commit());
    expect(copiesOf(guest(attach(FIRST), commit(), commit()))).toEqual([]);
    expect(copiesOf(guest(attach(FIRST), damage(0, 0, 0, 5), damage(0, 99, 5, 5), commit()))).toEqual([]);
    expect(copiesOf(guest(attach(FIRST), damage(0, -9, 5, 9), commit()))).toEqual([]);
  });

  test('also without a new attach: the buffer has been changed in place', () => {
    const { guest } = pooled();
    guest(attach(FIRST), everything, commit());
    expect(copiesOf(guest(damage(0, 0, 16, 1), commit()))).toEqual([[5, 0, 64]]);
  });

  test('a buffer also gets the damage of the frames that it was not in', () => {
    const { guest } = pooled();
    guest(attach(FIRST), everything, commit(), attach(FIRST + 1), everything, commit());
    expect(copiesOf(guest(attach(FIRST), damage(0, 0, 16, 1), commit()))).toEqual([[5, 0, 1024]]);
    expect(copiesOf(guest(attach(FIRST + 1), damage(0, 8, 16, 1), commit()))).toEqual([
      [5, 4096, 64],
      [5, 4096 + 512, 64],
    ]);
    expect(copiesOf(guest(attach(FIRST), damage(0, 1, 16, 1), commit()))).toEqual([
      [5, 64, 64],
      [5, 512, 64],
    ]);
  });

  test('a buffer that was away for 8 frames gets what it missed, after more it is copied whole', () => {
    const { guest } = pooled();
    guest(attach(FIRST), everything, commit(), attach(FIRST + 1), everything, commit());
    const frame = (buffer: number, row: number) =>
      copiesOf(guest(attach(buffer), damage(0, row, 1, 1), commit()));
    frame(FIRST, 0);
    for (let i = 1; i < 8; i++) frame(FIRST + 1, 0);
    expect(frame(FIRST, 5)).toEqual([
      [5, 0, 64],
      [5, 320, 64],
    ]);
    for (let i = 0; i < 8; i++) frame(FIRST + 1, 0);
    expect(frame(FIRST, 5)).toEqual([[5, 0, 1024]]);
  });

  test('a commit that changes the scale or the transform copies everything', () => {
    const { guest } = pooled();
    guest(attach(FIRST), everything, commit());
    const small = [attach(FIRST), damageBuffer(0, 0, 1, 1), commit()];
    expect(copiesOf(guest(request('wl_surface.set_buffer_scale', SURFACE, 2), ...small))).toEqual([
      [5, 0, 1024],
    ]);
    expect(copiesOf(guest(request('wl_surface.set_buffer_scale', SURFACE, 2), ...small))).toEqual([
      [5, 0, 64],
    ]);
    expect(copiesOf(guest(request('wl_surface.set_buffer_transform', SURFACE, 4), ...small))).toEqual([
      [5, 0, 1024],
    ]);
  });

  test('rows are not copied twice', () => {
    const { guest } = pooled();
    guest(attach(FIRST), everything, commit());
    const damages = [damage(0, 0, 9, 4), damage(0, 8, 9, 4), damageBuffer(0, 2, 9, 8), damage(0, 3, 1, 1)];
    expect(copiesOf(guest(attach(FIRST), ...damages, commit()))).toEqual([[5, 0, 768]]);
  });

  test('more than 16 separate damages become fewer', () => {
    const { guest, guestWith } = started();
    guestWith([blob(5)], request('wl_shm.create_pool', shm, POOL, null, 4096));
    guest(request('wl_shm_pool.create_buffer', POOL, FIRST, 0, 1, 1024, 4, XRGB8888));
    guest(attach(FIRST), everything, commit());
    const rows = Array.from({ length: 40 }, (_, i) => damageBuffer(0, 4 * i, 1, 1));
    const copies = copiesOf(guest(attach(FIRST), ...rows, commit()));
    expect(copies).toHaveLength(MAX_DAMAGES);
    expect(copies.at(-1)).toEqual([5, 240, 4 * (4 * 39 - 60 + 1)]);
  });

  test('damage in surface coordinates grows with the scale', () => {
    const { guest } = pooled();
    guest(request('wl_surface.set_buffer_scale', SURFACE, 2), attach(FIRST), everything, commit());
    expect(copiesOf(guest(attach(FIRST), damage(0, 1, 1, 2), commit()))).toEqual([[5, 128, 256]]);
    expect(copiesOf(guest(attach(FIRST), damageBuffer(0, 1, 1, 2), commit()))).toEqual([[5, 64, 128]]);
  });

  test('under a transform, damage in surface coordinates is turned back into rows of the buffer', () => {
    // The first column and the second row of the surface, as rows of the buffer, by transform.
    const expected = [
      [
        [0, 16],
        [1, 2],
      ],
      [
        [15, 16],
        [0, 16],
      ],
      [
        [0, 16],
        [14, 15],
      ],
      [
        [0, 1],
        [0, 16],
      ],
      [
        [0, 16],
        [1, 2],
      ],
      [
        [0, 1],
        [0, 16],
      ],
      [
        [0, 16],
        [14, 15],
      ],
      [
        [15, 16],
        [0, 16],
      ],
    ] as const;
    for (const [transform, rows] of expected.entries()) {
      const { guest } = pooled();
      guest(
        request('wl_surface.set_buffer_transform', SURFACE, transform),
        attach(FIRST),
        everything,
        commit(),
      );
      const copied = [damage(0, 0, 1, 16), damage(0, 1, 16, 1)].map((one) =>
        copiesOf(guest(attach(FIRST), one, commit())),
      );
      expect(copied).toEqual(rows.map(([start, end]) => [[5, 64 * start, 64 * (end - start)]]));
    }
  });

  const viewport = 300;
  const getViewport = request('wp_viewporter.get_viewport', bound('wp_viewporter'), viewport, SURFACE);
  const setSource = (...values: number[]) => request('wp_viewport.set_source', viewport, ...values);
  const setDestination = (...values: number[]) => request('wp_viewport.set_destination', viewport, ...values);

  test("sommelier's frames: a viewport that changes nothing, said again at each commit, is no viewport", () => {
    const { guest, connection } = pooled();
    const frame = (buffer: number, ...damages: Uint8Array[]) =>
      copiesOf(
        guest(attach(buffer), setSource(-1, -1, -1, -1), setDestination(16, 16), ...damages, commit()),
      );
    guest(getViewport);
    expect(frame(FIRST, everything)).toEqual([[5, 0, 1024]]);
    expect(frame(FIRST + 1, damage(0, 3, 2, 1))).toEqual([[5, 4096, 1024]]);
    expect(frame(FIRST, damage(0, 5, 2, 1))).toEqual([
      [5, 64 * 3, 64],
      [5, 64 * 5, 64],
    ]);
    expect(frame(FIRST + 1, damage(0, 5, 2, 2))).toEqual([[5, 4096 + 64 * 5, 128]]);
    expect(connection.counters.wholeFrames).toBe(2);
  });

  test('a viewport that is made, or goes, without having changed anything copies nothing', () => {
    const { guest } = pooled();
    guest(attach(FIRST), everything, commit());
    expect(copiesOf(guest(getViewport, attach(FIRST), damage(0, 0, 1, 1), commit()))).toEqual([[5, 0, 64]]);
    const last = [request('wp_viewport.destroy', viewport), attach(FIRST), damage(0, 1, 1, 1), commit()];
    expect(copiesOf(guest(...last))).toEqual([[5, 64, 64]]);
  });

  test('a commit that changes crop or scale of a viewport copies everything, and one that says the same does not', () => {
    const { guest } = pooled();
    guest(getViewport, attach(FIRST), everything, commit());
    const small = [attach(FIRST), damageBuffer(0, 0, 1, 1), commit()];
    for (const change of [
      setDestination(32, 8),
      setSource(0, 0, 16, 8),
      setSource(-1, -1, -1, -1),
      setDestination(-1, -1),
    ]) {
      expect(copiesOf(guest(change, ...small))).toEqual([[5, 0, 1024]]);
      expect(copiesOf(guest(change, ...small))).toEqual([[5, 0, 64]]);
    }
    guest(setDestination(32, 8), ...small);
    expect(copiesOf(guest(request('wp_viewport.destroy', viewport), ...small))).toEqual([[5, 0, 1024]]);
  });

  test('what holds at the commit counts, not what held when the damage was named', () => {
    const { guest } = pooled();
    const setScale = (scale: number) => request('wl_surface.set_buffer_scale', SURFACE, scale);
    guest(getViewport, setDestination(16, 32), attach(FIRST), everything, commit());
    const frame = [attach(FIRST), setDestination(16, 8), setScale(2), damage(0, 4, 1, 2)];
    expect(copiesOf(guest(...frame, setScale(1), setDestination(16, 32), commit()))).toEqual([[5, 128, 64]]);
  });

  test('under a viewport, damage in surface coordinates is cropped and scaled, outwards', () => {
    const { guest } = pooled();
    // Rows 2.5 to 8.5 of the buffer on 4 rows of the surface: 1.5 each.
    guest(getViewport, setSource(0, 2.5, 16, 6), setDestination(16, 4), attach(FIRST), everything, commit());
    expect(copiesOf(guest(attach(FIRST), damage(0, 1, 1, 1), commit()))).toEqual([[5, 64 * 4, 64 * 2]]);
    expect(copiesOf(guest(attach(FIRST), damage(0, 0, 1, 1), commit()))).toEqual([[5, 64 * 2, 64 * 2]]);
    expect(copiesOf(guest(attach(FIRST), everything, commit()))).toEqual([[5, 64 * 2, 64 * 7]]);
    expect(copiesOf(guest(attach(FIRST), damage(0, 4, 1, 1), commit()))).toEqual([]);
  });

  test('where scale, transform or viewport make no sense, surface damage is the whole buffer', () => {
    const odd = [
      [request('wl_surface.set_buffer_scale', SURFACE, 0)],
      [request('wl_surface.set_buffer_scale', SURFACE, -1)],
      [request('wl_surface.set_buffer_scale', SURFACE, 3)],
      [request('wl_surface.set_buffer_scale', SURFACE, 3), setDestination(16, 16)],
      [request('wl_surface.set_buffer_transform', SURFACE, 8)],
      [request('wl_surface.set_buffer_transform', SURFACE, -1)],
      [setDestination(0, 0)],
      [setDestination(-1, -2)],
      [setSource(0, -3, 16, 8)],
      [setSource(0, 0, 16, 0)],
      [setSource(0, 0, 16, 8.5)],
      [setSource(0, 0, 16, 0x7f_ffff), setDestination(0x7fff_ffff, 0x7fff_ffff)],
    ];
    for (const messages of odd) {
      const { guest } = pooled();
      guest(getViewport, ...messages, attach(FIRST), everything, commit());
      expect(copiesOf(guest(attach(FIRST), damage(0, 0, 1, 1), commit()))).toEqual([[5, 0, 1024]]);
    }
  });

  test('a buffer that was used elsewhere, or is of another size, is copied whole', () => {
    const { guest } = pooled();
    guest(
      request('wl_compositor.create_surface', bound('wl_compositor'), 300),
      request('wl_shm_pool.create_buffer', POOL, 301, 4096, 8, 8, 32, XRGB8888),
      attach(FIRST),
      everything,
      commit(),
    );
    expect(copiesOf(guest(attach(FIRST, 300), commit(300)))).toEqual([[5, 0, 1024]]);
    expect(copiesOf(guest(attach(FIRST), commit()))).toEqual([[5, 0, 1024]]);
    guest(attach(301), everything, commit());
    expect(copiesOf(guest(attach(FIRST), commit()))).toEqual([[5, 0, 1024]]);
  });

  test('after nothing was attached, everything is copied', () => {
    const { guest } = pooled();
    guest(attach(FIRST), everything, commit(), attach(0), commit());
    expect(copiesOf(guest(attach(FIRST), damage(0, 0, 1, 1), commit()))).toEqual([[5, 0, 1024]]);
  });

  test('formats of several planes are copied to the end of the pool', () => {
    const { guest } = pooled();
    guest(
      request('wl_shm_pool.create_buffer', POOL, 300, 4096, 16, 16, 64, NV12),
      attach(300),
      everything,
      commit(),
    );
    expect(copiesOf(guest(attach(300), damage(0, 0, 1, 1), commit()))).toEqual([[5, 4096, 8192]]);
  });

  test('never reach outside of the pool', () => {
    const { guest } = pooled();
    const buffer = (id: number, ...values: number[]) =>
      request('wl_shm_pool.create_buffer', POOL, id, ...values, XRGB8888);
    guest(buffer(300, 12_000, 16, 16, 64), buffer(301, 20_000, 16, 16, 64), buffer(302, -64, 16, 16, 64));
    guest(buffer(303, 0, 16, 0x7fff_ffff, 0x7fff_ffff));
    expect(copiesOf(guest(attach(300), everything, commit()))).toEqual([[5, 12_000, 288]]);
    expect(copiesOf(guest(attach(301), everything, commit()))).toEqual([]);
    expect(copiesOf(guest(attach(302), everything, commit()))).toEqual([]);
    expect(copiesOf(guest(attach(303), everything, commit()))).toEqual([[5, 0, 12_288]]);
  });

  test('buffers of no pool are not copied', () => {
    const { guest, guestWith } = pooled();
    const manager = bound('wp_single_pixel_buffer_manager_v1');
    guest(request('wp_single_pixel_buffer_manager_v1.create_u32_rgba_buffer', manager, 300, 0, 0, 0, 0));
    expect(copiesOf(guest(attach(300), everything, commit()))).toEqual([]);
    guestWith([pipe], request('wl_shm.create_pool', shm, 301, null, 4096));
    guest(request('wl_shm_pool.create_buffer', 301, 302, 0, 16, 16, 64, 0));
    expect(copiesOf(guest(attach(302), everything, commit()))).toEqual([]);
  });

  test('a pool lives as long as its buffers, and may grow', () => {
    const { guest, guestWith } = started();
    guestWith([blob(5)], request('wl_shm.create_pool', shm, POOL, null, 64));
    guest(
      request('wl_shm_pool.resize', POOL, 2048),
      request('wl_shm_pool.create_buffer', POOL, FIRST, 1024, 16, 16, 64, 0),
      request('wl_shm_pool.destroy', POOL),
    );
    expect(copiesOf(guest(attach(FIRST), everything, commit()))).toEqual([[5, 1024, 1024]]);
  });

  test('a pool larger than what is behind it is refused', () => {
    const { connection, guest, guestWith } = started();
    guestWith([blob(5, 4096)], request('wl_shm.create_pool', shm, POOL, null, 4096));
    expect(connection.failure).toBeUndefined();
    const out = guest(request('wl_shm_pool.resize', POOL, 4097));
    expect(out.reply).toEqual(
      event('wl_display.error', 1, POOL, 2, 'pool of 4097 bytes in a buffer of 4096'),
    );
    const other = started().guestWith([blob(5, 4096)], request('wl_shm.create_pool', shm, POOL, null, 4097));
    expect(other).toMatchObject({ forward: [], droppedFds: [0] });
  });

  test('the resize of wl-cross: new pool and buffers under the same ids, at once (H9)', () => {
    const { guest, guestWith } = pooled();
    guest(attach(FIRST), everything, commit(), attach(FIRST + 1));
    const again = [FIRST, FIRST + 1, FIRST + 2].flatMap((id, i) => [
      request('wl_buffer.destroy', id),
      request('wl_shm_pool.create_buffer', POOL, id, 4096 * i, 16, 16, 64, XRGB8888),
    ]);
    guestWith(
      [blob(6)],
      request('wl_shm_pool.destroy', POOL),
      request('wl_shm.create_pool', shm, POOL, null, 16_384),
      ...again,
      attach(FIRST + 1),
    );
    expect(copiesOf(guest(damage(0, 0, 1, 1), commit()))).toEqual([[6, 4096, 1024]]);
  });

  test('an icon is copied when its buffer is added and when it is set', () => {
    const { guest } = pooled();
    const icons = bound('xdg_toplevel_icon_manager_v1');
    guest(
      request('xdg_toplevel_icon_manager_v1.create_icon', icons, 300),
      request('xdg_wm_base.get_xdg_surface', bound('xdg_wm_base'), 302, SURFACE),
      request('xdg_surface.get_toplevel', 302, 301),
    );
    expect(copiesOf(guest(request('xdg_toplevel_icon_v1.add_buffer', 300, FIRST, 1)))).toEqual([
      [5, 0, 1024],
    ]);
    expect(copiesOf(guest(request('xdg_toplevel_icon_manager_v1.set_icon', icons, 301, 300)))).toEqual([
      [5, 0, 1024],
    ]);
  });
});

test('counters tell what was copied', () => {
  const { connection, guest } = pooled();
  guest(attach(FIRST), everything, commit(), attach(FIRST), damage(0, 0, 1, 1), commit());
  expect(connection.counters).toMatchObject({
    frames: 2,
    wholeFrames: 1,
    damagedRanges: 2,
    damagedBytes: 1088,
  });
});

/** How a surface shows a buffer. Source and destination are as in wp_viewport, the source in 256ths of a pixel. */
interface Shown {
  readonly width: number;
  readonly height: number;
  readonly scale: number;
  readonly transform: number;
  readonly source?: readonly [number, number, number, number] | undefined;
  readonly destination?: readonly [number, number] | undefined;
}

/**
 * Which rows of a buffer have a pixel of which any part is shown within a rectangle of the surface: pixel by pixel, each
 * taken the way from the buffer to the screen.
 */
function touchedRows(shown: Shown, [x, y, width, height]: readonly number[]): Set<number> {
  const { scale, transform } = shown;
  // Quarter turns of the whole picture, until it stands upright: the client has turned it counter-clockwise.
  let picture = Array.from({ length: shown.height }, (_, row) => new Array<number>(shown.width).fill(row));
  for (let turn = 0; turn < (transform & 3); turn++)
    picture = picture[0]!.map((_, column) => picture.map((line) => line[column]!).reverse());
  if (transform >= 4) picture = picture.map((line) => line.toReversed());
  const [left, top, across, down] = (
    shown.source ?? [0, 0, (picture[0]!.length * 256) / scale, (picture.length * 256) / scale]
  ).map(BigInt) as [bigint, bigint, bigint, bigint];
  const [columns, lines] = (shown.destination ?? [across / 256n, down / 256n]).map(BigInt) as [
    bigint,
    bigint,
  ];
  const size = BigInt(scale);
  /** Whether [at, at + 1) of the picture has a part of [start, end) of the surface, which ends at `extent`. */
  const overlaps = (at: bigint, from: bigint, length: bigint, extent: bigint, start: number, end: number) => {
    // Both in units of 1 / (scale * length) of the surface.
    const [first, last] = [at, at + 1n].map((edge) => (edge * 256n - from * size) * extent);
    const [low, high] = [BigInt(Math.max(start, 0)), BigInt(end) < extent ? BigInt(end) : extent];
    return low < high && first! < high * size * length && last! > low * size * length;
  };
  const rows = new Set<number>();
  for (const [line, pixels] of picture.entries()) {
    if (!overlaps(BigInt(line), top, down, lines, y!, y! + height!)) continue;
    for (const [column, row] of pixels.entries())
      if (overlaps(BigInt(column), left, across, columns, x!, x! + width!)) rows.add(row);
  }
  return rows;
}

const shape = (shown: Shown): Uint8Array[] => [
  request('wl_surface.set_buffer_scale', SURFACE, shown.scale),
  request('wl_surface.set_buffer_transform', SURFACE, shown.transform),
  request(
    'wp_viewport.set_source',
    300,
    ...(shown.source ?? [-256, -256, -256, -256]).map((value) => value / 256),
  ),
  request('wp_viewport.set_destination', 300, ...(shown.destination ?? [-1, -1])),
];

/** Every scale and transform; sources that begin and end anywhere within the buffer. */
const shownBuffer: fc.Arbitrary<Shown> = fc
  .record({
    columns: fc.integer({ min: 1, max: 6 }),
    lines: fc.integer({ min: 1, max: 6 }),
    scale: fc.integer({ min: 1, max: 3 }),
    transform: fc.nat(7),
    cropped: fc.option(
      fc.tuple(...Array.from({ length: 4 }, () => fc.double({ min: 0, max: 1, noNaN: true }))),
    ),
    destination: fc.option(fc.tuple(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 40 }))),
    whole: fc.boolean(),
  })
  .map(({ columns, lines, scale, transform, cropped, destination, whole }) => {
    const [width, height] = [columns * scale, lines * scale];
    const turned = transform % 2 === 1;
    const ends = (extent: number, from: number, to: number) => {
      // Without a destination a source has a whole size.
      const unit = whole || !destination ? 256 : 1;
      const all = (256 * extent) / unit;
      const first = Math.min(Math.floor(from * all), all - 1);
      return [first * unit, (1 + Math.floor(to * (all - first - 1))) * unit] as const;
    };
    const source = ((): Shown['source'] => {
      if (!cropped) return undefined;
      const [x, w] = ends(turned ? lines : columns, cropped[0]!, cropped[2]!);
      const [y, h] = ends(turned ? columns : lines, cropped[1]!, cropped[3]!);
      return [x, y, w, h];
    })();
    return { width, height, scale, transform, source, destination: destination ?? undefined };
  });

test('damage of a surface copies the rows of every pixel that it touches, and no others', () => {
  const edge = fc.integer({ min: -3, max: 41 });
  const rectangle = fc.tuple(edge, edge, fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 20 }));
  fc.assert(
    fc.property(shownBuffer, fc.array(rectangle, { minLength: 1, maxLength: 4 }), (shown, damages) => {
      const { guest, guestWith } = started();
      guestWith([blob(5)], request('wl_shm.create_pool', shm, POOL, null, 4096));
      guest(
        request('wl_shm_pool.create_buffer', POOL, FIRST, 0, shown.width, shown.height, 64, XRGB8888),
        request('wp_viewporter.get_viewport', bound('wp_viewporter'), 300, SURFACE),
      );
      guest(...shape(shown), attach(FIRST), everything, commit());
      const touching = damages.filter((one) => touchedRows(shown, one).size > 0);
      const out = guest(...shape(shown), attach(FIRST), ...touching.map((one) => damage(...one)), commit());
      const copied = copiesOf(out).flatMap(([, offset = 0, lengthBytes = 0]) =>
        Array.from({ length: lengthBytes / 64 }, (_, row) => offset / 64 + row),
      );
      const touched = new Set(touching.flatMap((one) => [...touchedRows(shown, one)]));
      expect(copied).toEqual([...touched].sort((a, b) => a - b));
    }),
    { numRuns: 1000 },
  );
});

/** A client that draws as clients may: what it does not damage is as it was; buffers take turns in any order. */
describe('a compositor that has only the copies', () => {
  const HEIGHT = 16;
  const STRIDE = 8;
  const SIZE = HEIGHT * STRIDE;
  const SURFACES = [SURFACE, 400];
  const BUFFERS = 4;
  const GROWN = 1;

  const rectangle = fc.record({
    y: fc.integer({ min: -4, max: HEIGHT + 2 }),
    height: fc.integer({ min: 0, max: HEIGHT }),
    ofBuffer: fc.boolean(),
  });
  const step = fc.record({
    surface: fc.nat(1),
    buffer: fc.nat(BUFFERS - 1),
    damages: fc.array(rectangle, { maxLength: 4 }),
    action: fc.constantFrom(
      'draw',
      'draw',
      'draw',
      'draw',
      'unmap',
      'recreate',
      'scale',
      'turn',
      'viewport',
      'size',
      'in place',
    ),
    seed: fc.nat(255),
  });

  test('shows every frame exactly (H8)', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const made = started();
        const source = new Uint8Array(BUFFERS * SIZE);
        const shadow = new Uint8Array(BUFFERS * SIZE);
        const frames = SURFACES.map(() => new Uint8Array(SIZE));
        const state = SURFACES.map(() => ({
          width: 2,
          height: HEIGHT,
          scale: 1,
          transform: 0,
          viewport: false,
          destination: undefined as [number, number] | undefined,
          current: -1,
        }));
        const say = (...messages: Uint8Array[]) => {
          const out = made.guest(...messages);
          expect(made.connection.failure).toBeUndefined();
          for (const [, offset = 0, lengthBytes = 0] of copiesOf(out))
            shadow.set(source.subarray(offset, offset + lengthBytes), offset);
        };
        const create = (buffer: number) =>
          say(
            request('wl_shm_pool.create_buffer', POOL, FIRST + buffer, buffer * SIZE, 2, HEIGHT, STRIDE, 0),
          );
        made.guestWith(
          [blob(5, source.length)],
          request('wl_shm.create_pool', shm, POOL, null, source.length),
        );
        made.guest(request('wl_compositor.create_surface', bound('wl_compositor'), SURFACES[GROWN]!));
        for (let i = 0; i < BUFFERS; i++) create(i);

        for (const { surface: which, buffer, damages, action, seed } of steps) {
          const surface = SURFACES[which]!;
          const own = state[which]!;
          const frame = frames[which]!;
          let drawnOn = buffer;
          switch (action) {
            case 'unmap':
              say(attach(0, surface), commit(surface));
              own.current = -1;
              // What is shown next has nothing to do with what was.
              frame.fill(seed);
              continue;
            case 'recreate':
              say(request('wl_buffer.destroy', FIRST + buffer));
              create(buffer);
              for (const each of state) if (each.current === buffer) each.current = -1;
              continue;
            case 'scale':
              own.scale = 3 - own.scale;
              say(request('wl_surface.set_buffer_scale', surface, own.scale));
              break;
            case 'turn':
              own.transform = own.transform === 0 ? 1 + (seed % 7) : 0;
              say(request('wl_surface.set_buffer_transform', surface, own.transform));
              break;
            case 'viewport':
              say(
                own.viewport
                  ? request('wp_viewport.destroy', 500 + which)
                  : request('wp_viewporter.get_viewport', bound('wp_viewporter'), 500 + which, surface),
              );
              own.viewport = !own.viewport;
              own.destination = undefined;
              break;
            case 'size':
              if (!own.viewport) continue;
              own.destination = [1 + (seed % 5), 1 + (seed % 21)];
              say(request('wp_viewport.set_destination', 500 + which, ...own.destination));
              break;
            case 'in place':
              if (own.current < 0) continue;
              drawnOn = own.current;
              break;
          }
          for (const { y, height, ofBuffer } of damages) {
            const path = ofBuffer ? 'wl_surface.damage_buffer' : 'wl_surface.damage';
            say(request(path, surface, 0, y, 100, height));
            const rows = ofBuffer
              ? Array.from({ length: height }, (_, row) => y + row).filter((row) => row >= 0 && row < HEIGHT)
              : touchedRows(own, [0, y, 100, height]);
            for (const row of rows) frame.fill(seed + row, row * STRIDE, (row + 1) * STRIDE);
          }
          // All others showing this buffer see it change: they show this from now on, and do not know.
          source.set(frame, drawnOn * SIZE);
          for (const [i, each] of state.entries())
            if (i !== which && each.current === drawnOn) each.current = -1;
          if (action !== 'in place') say(attach(FIRST + drawnOn, surface));
          own.current = drawnOn;
          const before = shadow.slice();
          say(commit(surface));
          const drawn = action !== 'in place' || damages.some(({ height }) => height > 0);
          if (!drawn) expect(shadow).toEqual(before);
          else
            expect(shadow.subarray(drawnOn * SIZE, (drawnOn + 1) * SIZE)).toEqual(
              source.subarray(drawnOn * SIZE, (drawnOn + 1) * SIZE),
            );
        }
      }),
      { numRuns: 500 },
    );
  });
});
