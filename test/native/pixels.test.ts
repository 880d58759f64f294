import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import {
  convertPixels,
  createMemfd,
  diffTiles,
  type EntryList,
  findScroll,
  GuestAddressSpace,
  gather,
  Mapping,
  type PixelOrder,
  type Span2d,
  SystemError,
  scatter,
} from '../../native/index.ts';
import { forTest } from './support.ts';

const page = 4096;

/** A guest memory of `pages` pages whose byte n is n % 251, at these guest pages. */
function guest(pages: number, windows: readonly { page: number; file: number; writable: boolean }[]) {
  const fd = forTest(createMemfd('guest', pages * page));
  const mapping = Mapping.map(fd, { lengthBytes: pages * page, writable: true });
  onTestFinished(() => mapping.close());
  const memory = mapping.bytes(0, pages * page).map((_, i) => i % 251);
  mapping.bytes(0, pages * page).set(memory);
  const space = new GuestAddressSpace();
  for (const each of windows) space.add(each.page * page, page, mapping, each.file * page, each.writable);
  return { space, mapping, memory };
}

function list(...entries: [address: number, length: number][]): EntryList {
  let end = 0;
  return {
    addresses: new Float64Array(entries.map(([address]) => address)),
    ends: new Float64Array(entries.map(([, length]) => (end += length))),
  };
}

const tight = (rowBytes: number): Span2d => ({ offset: 0, strideBytes: rowBytes });

// ---- gather and scatter, by example ----

test('gather joins the entries of a list in their order', () => {
  const { space } = guest(2, [
    { page: 5, file: 0, writable: true },
    { page: 9, file: 1, writable: true },
  ]);
  const entries = list([9 * page + 1, 2], [5 * page + 10, 3]);
  const to = new Uint8Array(5);
  expect(gather(space, entries, tight(5), to, tight(5), 5, 1)).toBe(5);
  expect([...to]).toEqual([(page + 1) % 251, (page + 2) % 251, 10, 11, 12]);
});

test('gather takes rows at their stride from a list and puts them at theirs', () => {
  const { space } = guest(1, [{ page: 0, file: 0, writable: true }]);
  const to = new Uint8Array(12).fill(255);
  const from = { offset: 100, strideBytes: 10 };
  expect(gather(space, list([0, page]), from, to, { offset: 1, strideBytes: 4 }, 3, 3)).toBe(9);
  expect([...to]).toEqual([255, 100, 101, 102, 255, 110, 111, 112, 255, 120, 121, 122]);
});

test('bytes beyond the end of the list are left as they are, the others are copied', () => {
  const { space } = guest(1, [{ page: 0, file: 0, writable: true }]);
  const to = new Uint8Array(8).fill(255);
  expect(gather(space, list([0, 6]), tight(4), to, tight(4), 4, 2)).toBe(6);
  expect([...to]).toEqual([0, 1, 2, 3, 4, 5, 255, 255]);
  expect(gather(space, list([0, 6]), { offset: 6, strideBytes: 4 }, to, tight(4), 4, 2)).toBe(0);
  expect(
    gather(space, list([0, 6]), { offset: 2 ** 53 - 1, strideBytes: 2 ** 53 - 1 }, to, tight(4), 4, 2),
  ).toBe(0);
  expect(gather(space, list(), tight(4), to, tight(4), 4, 2)).toBe(0);
});

test('entries without a byte are passed over', () => {
  const { space } = guest(1, [{ page: 0, file: 0, writable: true }]);
  const to = new Uint8Array(3);
  const entries = list([2 ** 50, 0], [7, 1], [2 ** 50, 0], [2 ** 50, 0], [9, 2], [2 ** 50, 0]);
  expect(gather(space, entries, tight(3), to, tight(3), 3, 1)).toBe(3);
  expect([...to]).toEqual([7, 9, 10]);
});

test('a list entry that is not mapped matters only when it is needed', () => {
  const { space } = guest(1, [{ page: 0, file: 0, writable: true }]);
  const to = new Uint8Array(4);
  const entries = list([0, 4], [2 ** 40, 4]);
  expect(gather(space, entries, tight(4), to, tight(4), 4, 1)).toBe(4);
  expect(gather(space, entries, { offset: 1, strideBytes: 4 }, to, tight(4), 4, 1)).toBe(-1);
  expect(gather(space, list([page - 2, 4]), tight(4), to, tight(4), 4, 1)).toBe(-1);
});

test('scatter writes to writable windows only', () => {
  const { space, mapping } = guest(2, [
    { page: 0, file: 0, writable: true },
    { page: 1, file: 1, writable: false },
  ]);
  const from = new Uint8Array([201, 202, 203, 204]);
  expect(scatter(space, list([8, 2], [4, 2]), tight(4), from, tight(4), 4, 1)).toBe(4);
  expect([...mapping.bytes(4, 6)]).toEqual([203, 204, 6, 7, 201, 202]);
  expect(scatter(space, list([page, 4]), tight(4), from, tight(4), 4, 1)).toBe(-1);
  expect(scatter(space, list([page - 2, 4]), tight(4), from, tight(4), 4, 1)).toBe(-1);
});

test('nothing to copy is no error, whatever the rest says', () => {
  const { space } = guest(1, []);
  const nothing = new Uint8Array(0);
  expect(gather(space, list([0, 4]), tight(4), nothing, tight(4), 4, 0)).toBe(0);
  expect(gather(space, list([0, 4]), tight(0), nothing, tight(0), 0, 2 ** 53 - 1)).toBe(0);
});

test('an image that cannot hold the rows is refused, on each edge', () => {
  const { space } = guest(1, [{ page: 0, file: 0, writable: true }]);
  const entries = list([0, page]);
  const to = new Uint8Array(20);
  const into = (span: Span2d, rowBytes: number, rows: number) => () =>
    gather(space, entries, tight(rowBytes), to, span, rowBytes, rows);
  expect(into({ offset: 4, strideBytes: 6 }, 4, 3)).not.toThrow();
  expect(into({ offset: 5, strideBytes: 6 }, 4, 3)).toThrow(RangeError);
  expect(into({ offset: 4, strideBytes: 7 }, 4, 3)).toThrow(RangeError);
  expect(into({ offset: 4, strideBytes: 6 }, 5, 3)).toThrow(RangeError);
  expect(into({ offset: 4, strideBytes: 6 }, 4, 4)).toThrow(RangeError);
  expect(into({ offset: 21, strideBytes: 6 }, 4, 1)).toThrow(RangeError);
  expect(into({ offset: 0, strideBytes: 3 }, 4, 2)).toThrow('overlap');
  expect(into({ offset: 0, strideBytes: 2 ** 53 - 1 }, 4, 2)).toThrow(RangeError);
  expect(into({ offset: 0, strideBytes: 4 }, 4, 2 ** 53 - 1)).toThrow(RangeError);
  expect(into({ offset: -1, strideBytes: 4 }, 4, 1)).toThrow(RangeError);
  expect(into({ offset: Number.NaN, strideBytes: 4 }, 4, 1)).toThrow(RangeError);
});

test('a list that is none does no harm', () => {
  const { space } = guest(1, [{ page: 0, file: 0, writable: true }]);
  const to = new Uint8Array(8);
  const read = (addresses: number[], ends: number[]) =>
    gather(
      space,
      { addresses: new Float64Array(addresses), ends: new Float64Array(ends) },
      tight(8),
      to,
      tight(8),
      8,
      1,
    );
  expect(() => read([0, 0], [4])).toThrow(RangeError);
  expect(() => read([0, 0, 0], [4, 2, 8])).toThrow(RangeError);
  expect(() => read([0], [Number.POSITIVE_INFINITY])).toThrow(RangeError);
  expect(() => read([0], [1e300])).toThrow(RangeError);
  expect(read([0], [Number.NaN])).toBe(0);
  expect(read([0], [-5])).toBe(0);
  expect(read([Number.NaN], [8])).toBe(-1);
  expect(read([-1], [8])).toBe(-1);
  expect(read([1e300], [8])).toBe(-1);
});

test('a closed space, a closed mapping and a foreign object are told apart', () => {
  const { space, mapping } = guest(1, [{ page: 0, file: 0, writable: true }]);
  const to = new Uint8Array(4);
  const read = () => gather(space, list([0, 4]), tight(4), to, tight(4), 4, 1);
  expect(read()).toBe(4);
  mapping.close();
  expect(read()).toBe(-1);
  space.close();
  expect(read).toThrow(SystemError);
  expect(read).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'gather' }));
  expect(() => gather({} as never, list([0, 4]), tight(4), to, tight(4), 4, 1)).toThrow(TypeError);
  expect(() => gather(space, { addresses: [0], ends: [4] } as never, tight(4), to, tight(4), 4, 1)).toThrow(
    TypeError,
  );
});

test('gathering into the memory that is gathered from is defined', () => {
  const { space, mapping } = guest(1, [{ page: 0, file: 0, writable: true }]);
  expect(gather(space, list([0, 64]), tight(64), mapping.bytes(16, 64), tight(64), 64, 1)).toBe(64);
  expect([...mapping.bytes(16, 64)]).toEqual(Array.from({ length: 64 }, (_, i) => i));
});

// ---- gather and scatter, against a model ----

/** Guest pages 0, 1, 2 adjoin, 3 is missing, 4 is read-only, 5 adjoins it. Files lie in another order. */
const windows = [
  { page: 0, file: 3, writable: true },
  { page: 1, file: 0, writable: true },
  { page: 2, file: 1, writable: true },
  { page: 4, file: 4, writable: false },
  { page: 5, file: 2, writable: true },
];

/** Where a guest address lies in the file. */
function inFile(address: number, write: boolean): number | undefined {
  const window = windows.find((each) => each.page === Math.floor(address / page));
  return window && (window.writable || !write) ? window.file * page + (address % page) : undefined;
}

interface Job {
  entries: [number, number][];
  listSpan: Span2d;
  imageSpan: Span2d;
  rowBytes: number;
  rows: number;
}

/** Calls `each` for every byte that the list has: its place in the image and in the file. */
function walk(job: Job, write: boolean, each: (inImage: number, inFile: number) => void): number {
  const bytes = job.entries.flatMap(([address, length]) => Array.from({ length }, (_, i) => address + i));
  let copied = 0;
  for (let row = 0; row < job.rows; row++) {
    for (let i = 0; i < job.rowBytes; i++) {
      const address = bytes[job.listSpan.offset + row * job.listSpan.strideBytes + i];
      if (address === undefined) continue;
      const place = inFile(address, write);
      if (place === undefined) return -1;
      each(job.imageSpan.offset + row * job.imageSpan.strideBytes + i, place);
      copied++;
    }
  }
  return copied;
}

const entry = fc.tuple(
  fc.oneof(
    { weight: 8, arbitrary: fc.integer({ min: 0, max: 3 * page - 1 }) },
    { weight: 2, arbitrary: fc.integer({ min: 5 * page, max: 6 * page - 1 }) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 7 * page }) },
  ),
  fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 3000 })),
);
const job: fc.Arbitrary<Job> = fc
  .record({
    entries: fc.array(entry, { maxLength: 12 }),
    offset: fc.integer({ min: 0, max: 600 }),
    listStride: fc.integer({ min: 0, max: 900 }),
    padding: fc.integer({ min: 0, max: 9 }),
    rowBytes: fc.integer({ min: 0, max: 500 }),
    rows: fc.integer({ min: 0, max: 12 }),
    contiguous: fc.boolean(),
  })
  .map(({ entries, offset, listStride, padding, rowBytes, rows, contiguous }) => ({
    entries,
    listSpan: { offset, strideBytes: contiguous ? rowBytes : listStride },
    imageSpan: { offset: padding, strideBytes: rowBytes + (contiguous ? 0 : padding) },
    rowBytes,
    rows,
  }));

const imageBytes = 600 * 12;

test('gather agrees with a model that goes byte by byte', () => {
  const { space, memory } = guest(5, windows);
  fc.assert(
    fc.property(job, (each) => {
      const expected = new Uint8Array(imageBytes).fill(255);
      const image = expected.slice();
      const copied = walk(each, false, (at, place) => {
        expected[at] = memory[place]!;
      });
      const { entries, listSpan, imageSpan, rowBytes, rows } = each;
      expect(gather(space, list(...entries), listSpan, image, imageSpan, rowBytes, rows)).toBe(copied);
      if (copied >= 0) expect(Buffer.compare(image, expected)).toBe(0);
    }),
    { numRuns: 500 },
  );
});

test('scatter agrees with a model that goes byte by byte', () => {
  const { space, mapping, memory } = guest(5, windows);
  const image = new Uint8Array(imageBytes).map((_, i) => 255 - (i % 249));
  const file = mapping.bytes(0, 5 * page);
  fc.assert(
    fc.property(job, (each) => {
      file.set(memory);
      const expected = memory.slice();
      const copied = walk(each, true, (at, place) => {
        expected[place] = image[at]!;
      });
      const { entries, listSpan, imageSpan, rowBytes, rows } = each;
      expect(scatter(space, list(...entries), listSpan, image, imageSpan, rowBytes, rows)).toBe(copied);
      if (copied >= 0) expect(Buffer.compare(file, expected)).toBe(0);
    }),
    { numRuns: 500 },
  );
});

// ---- channel orders ----

/** All 24 places of three colours, each with and without alpha. */
const orders: PixelOrder[] = [0, 1, 2, 3].flatMap((r) =>
  [0, 1, 2, 3].flatMap((g) =>
    [0, 1, 2, 3]
      .filter((b) => new Set([r, g, b]).size === 3)
      .flatMap((b) => [-1, 6 - r - g - b].map((a) => ({ r, g, b, a }))),
  ),
);

function convertedByModel(pixel: Uint8Array, from: PixelOrder, to: PixelOrder): number[] {
  const converted = [255, 255, 255, 255];
  converted[to.r] = pixel[from.r]!;
  converted[to.g] = pixel[from.g]!;
  converted[to.b] = pixel[from.b]!;
  if (to.a >= 0 && from.a >= 0) converted[to.a] = pixel[from.a]!;
  return converted;
}

test('every order converts to every other, in vectors and in what is left over', () => {
  expect(orders).toHaveLength(48);
  const width = 11; // two vectors of four pixels, and three pixels
  const from = new Uint8Array(width * 4).map((_, i) => 3 + 5 * i);
  const wrong = orders.flatMap((fromOrder) =>
    orders.filter((toOrder) => {
      const to = new Uint8Array(width * 4);
      convertPixels(from, tight(width * 4), fromOrder, to, tight(width * 4), toOrder, width, 1);
      const expected = Array.from({ length: width }, (_, x) =>
        convertedByModel(from.subarray(4 * x, 4 * x + 4), fromOrder, toOrder),
      );
      return Buffer.compare(to, Uint8Array.from(expected.flat())) !== 0;
    }),
  );
  expect(wrong).toEqual([]);
});

test('conversion leaves everything outside the image alone, at any size and alignment', () => {
  const size = fc.integer({ min: 0, max: 37 });
  const pad = fc.integer({ min: 0, max: 21 });
  const order = fc.constantFrom(...orders);
  const bytes = (37 * 4 + 21) * 38;
  const from = new Uint8Array(bytes).map((_, i) => (i * 7) % 256);
  fc.assert(
    fc.property(size, size, pad, pad, order, order, (width, height, fromPad, toPad, fromOrder, toOrder) => {
      const fromSpan = { offset: fromPad, strideBytes: width * 4 + fromPad };
      const toSpan = { offset: toPad, strideBytes: width * 4 + toPad };
      const to = new Uint8Array(bytes).fill(99);
      const expected = to.slice();
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          const at = fromSpan.offset + y * fromSpan.strideBytes + 4 * x;
          const pixel = convertedByModel(from.subarray(at, at + 4), fromOrder, toOrder);
          expected.set(pixel, toSpan.offset + y * toSpan.strideBytes + 4 * x);
        }
      }
      convertPixels(from, fromSpan, fromOrder, to, toSpan, toOrder, width, height);
      expect(Buffer.compare(to, expected)).toBe(0);
    }),
    { numRuns: 300 },
  );
});

test('an image can be converted in place', () => {
  const image = new Uint8Array(9 * 4).map((_, i) => i);
  const bgrx = { r: 2, g: 1, b: 0, a: -1 };
  const rgba = { r: 0, g: 1, b: 2, a: 3 };
  convertPixels(image, tight(36), bgrx, image, tight(36), rgba, 9, 1);
  expect([...image.subarray(0, 8)]).toEqual([2, 1, 0, 255, 6, 5, 4, 255]);
  expect([...image.subarray(32)]).toEqual([34, 33, 32, 255]);
});

test('what is no order, and images that do not fit, are refused', () => {
  const rgba = { r: 0, g: 1, b: 2, a: 3 };
  const from = new Uint8Array(32);
  const to = new Uint8Array(32);
  const convert = (order: PixelOrder, span: Span2d, width: number, height: number) => () =>
    convertPixels(from, tight(16), rgba, to, span, order, width, height);
  expect(convert(rgba, tight(16), 4, 2)).not.toThrow();
  expect(convert({ ...rgba, r: 1 }, tight(16), 4, 2)).toThrow(RangeError);
  expect(convert({ ...rgba, a: 0 }, tight(16), 4, 2)).toThrow(RangeError);
  expect(convert({ ...rgba, a: -2 }, tight(16), 4, 2)).toThrow(RangeError);
  expect(convert({ r: 1, g: 2, b: 4, a: 3 }, tight(16), 4, 2)).toThrow(RangeError);
  expect(convert({ r: 0.5, g: 1, b: 2, a: 3 }, tight(16), 4, 2)).toThrow(RangeError);
  expect(convert(rgba, { offset: 1, strideBytes: 16 }, 4, 2)).toThrow(RangeError);
  expect(convert(rgba, tight(15), 4, 2)).toThrow(RangeError);
  expect(convert(rgba, tight(16), 5, 2)).toThrow(RangeError);
  expect(convert(rgba, tight(16), 4, 3)).toThrow(RangeError);
  expect(convert(rgba, tight(16), -1, 2)).toThrow(RangeError);
  expect(convert(rgba, tight(16), 2 ** 31 - 1, 2 ** 31 - 1)).toThrow(RangeError);
});

// ---- damage ----

const image = (rowBytes: number, rows: number, pad: number) => ({
  bytes: new Uint8Array(pad + (rowBytes + pad) * rows).fill(1),
  span: { offset: pad, strideBytes: rowBytes + pad },
});

test('a single byte makes a single tile, at each corner of it', () => {
  const current = image(8, 4, 0);
  const previous = image(8, 4, 0);
  const changed = new Uint8Array(4).fill(9);
  const diff = (at: number) => {
    current.bytes[at] = 7;
    const tile = { widthBytes: 4, rows: 2 };
    const count = diffTiles(current.bytes, current.span, previous.bytes, previous.span, 8, 4, tile, changed);
    return [count, ...changed];
  };
  expect(diff(0)).toEqual([1, 1, 0, 0, 0]);
  expect(diff(7)).toEqual([1, 0, 1, 0, 0]);
  expect(diff(16 + 8)).toEqual([1, 0, 0, 1, 0]);
  expect(diff(31)).toEqual([1, 0, 0, 0, 1]);
  expect(diff(31)).toEqual([0, 0, 0, 0, 0]);
  expect(previous.bytes).toEqual(current.bytes);
});

test('the diff agrees with a model, at any size, tile and alignment', () => {
  const job = fc.record({
    rowBytes: fc.integer({ min: 0, max: 40 }),
    rows: fc.integer({ min: 0, max: 12 }),
    widthBytes: fc.integer({ min: 1, max: 45 }),
    tileRows: fc.integer({ min: 1, max: 14 }),
    pads: fc.tuple(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 5 })),
    edits: fc.array(fc.nat(40 * 12), { maxLength: 6 }),
  });
  fc.assert(
    fc.property(job, ({ rowBytes, rows, widthBytes, tileRows, pads, edits }) => {
      const current = image(rowBytes, rows, pads[0]);
      const previous = image(rowBytes, rows, pads[1]);
      const columns = Math.ceil(rowBytes / widthBytes);
      const expected = new Uint8Array(columns * Math.ceil(rows / tileRows));
      const after = previous.bytes.slice();
      for (const edit of edits.filter((each) => each < rowBytes * rows)) {
        const [x, y] = [edit % rowBytes, Math.floor(edit / rowBytes)];
        current.bytes[current.span.offset + y * current.span.strideBytes + x] = 7;
        after[previous.span.offset + y * previous.span.strideBytes + x] = 7;
        expected[Math.floor(y / tileRows) * columns + Math.floor(x / widthBytes)] = 1;
      }
      const changed = new Uint8Array(expected.length);
      const tile = { widthBytes, rows: tileRows };
      const count = diffTiles(
        current.bytes,
        current.span,
        previous.bytes,
        previous.span,
        rowBytes,
        rows,
        tile,
        changed,
      );
      expect(count).toBe(expected.filter(Boolean).length);
      expect(changed).toEqual(expected);
      expect(previous.bytes).toEqual(after);
    }),
    { numRuns: 500 },
  );
});

test('images, tiles and lists of tiles that do not fit are refused', () => {
  const current = image(8, 4, 0);
  const previous = image(8, 4, 0);
  const diff = (rowBytes: number, rows: number, widthBytes: number, tileRows: number, tiles: number) => () =>
    diffTiles(
      current.bytes,
      current.span,
      previous.bytes,
      previous.span,
      rowBytes,
      rows,
      { widthBytes, rows: tileRows },
      new Uint8Array(tiles),
    );
  expect(diff(8, 4, 4, 2, 4)).not.toThrow();
  expect(diff(8, 4, 4, 2, 3)).toThrow(RangeError);
  expect(diff(9, 4, 4, 2, 99)).toThrow(RangeError);
  expect(diff(8, 5, 4, 2, 99)).toThrow(RangeError);
  expect(diff(8, 4, 0, 2, 99)).toThrow(RangeError);
  expect(diff(8, 4, 4, 0, 99)).toThrow(RangeError);
  expect(diff(8, 4, 2 ** 53 - 1, 2 ** 53 - 1, 1)).not.toThrow();
});

test('rows that moved up or down are found, in the columns that differ', () => {
  const job = fc.record({
    width: fc.integer({ min: 1, max: 30 }),
    rows: fc.integer({ min: 4, max: 60 }),
    left: fc.nat(8),
    down: fc.integer({ min: -3, max: 3 }).filter((down) => down !== 0),
    pads: fc.tuple(fc.nat(5), fc.nat(5)),
  });
  fc.assert(
    fc.property(job, ({ width, rows, left, down, pads }) => {
      const rowBytes = (left + width) * 4;
      const [before, after] = [image(rowBytes, rows, pads[0]), image(rowBytes, rows, pads[1])];
      const put = ({ bytes, span }: typeof before, row: number, column: number, value: number) =>
        new DataView(bytes.buffer).setUint32(span.offset + row * span.strideBytes + column * 4, value);
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < left; column++)
          for (const one of [before, after]) put(one, row, column, row * 31 + column);
        for (let column = left; column < left + width; column++) {
          put(before, row, column, 1 + row * 1000 + column);
          put(after, row, column, 1 + (row - down) * 1000 + column);
        }
      }
      const count = rows - Math.abs(down);
      expect(findScroll(after.bytes, after.span, before.bytes, before.span, rowBytes, rows)).toEqual({
        column: left,
        columns: width,
        row: Math.max(0, down),
        rows: count,
        down,
      });
    }),
    { numRuns: 300 },
  );
});

test('nothing is found where nothing differs, nothing is left of what was, or rows are no pixels', () => {
  const [a, b] = [image(16, 8, 0), image(16, 8, 0)];
  const find = (rowBytes = 16, rows = 8) => findScroll(a.bytes, a.span, b.bytes, b.span, rowBytes, rows);
  expect(find()).toBe(undefined);
  a.bytes.fill(1);
  expect(find()).toBe(undefined);
  expect(find(0, 8)).toBe(undefined);
  expect(find(16, 0)).toBe(undefined);
  expect(() => find(17, 8)).toThrow(RangeError);
  expect(() => find(16, 9)).toThrow(RangeError);
});
