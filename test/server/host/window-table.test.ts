import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Place, WindowTable } from '../../../server/host/window-table.ts';

const PAGE = 4096;
const rowAt = (index: number, pages = 1) => ({
  address: index * PAGE,
  sizeBytes: pages * PAGE,
  fileOffset: index * 7 * PAGE,
  tag: index % 5,
});

function add(table: WindowTable, index: number): void {
  table.insert(table.firstEndingAfter(index * PAGE), rowAt(index));
}
function removeRange(table: WindowTable, from: number, to: number): void {
  table.remove(table.firstEndingAfter(from * PAGE), table.firstEndingAfter(to * PAGE));
}
function rowsOf(table: WindowTable) {
  const rows: ReturnType<typeof rowAt>[] = [];
  let place: Place = table.firstEndingAfter(0);
  for (; place !== table.end; place = table.next(place)) {
    expect(table.endAddress(place)).toBe(table.address(place) + table.sizeBytes(place));
    rows.push({
      address: table.address(place),
      sizeBytes: table.sizeBytes(place),
      fileOffset: table.fileOffset(place),
      tag: table.tag(place),
    });
  }
  return rows;
}

test('an empty table has an end and nothing before it', () => {
  const table = new WindowTable();
  expect([table.count, table.firstEndingAfter(0), table.firstEndingAfter(2 ** 53)]).toEqual([0, 0, 0]);
  expect(table.end).toBe(0);
  table.remove(table.end, table.end);
  expect(rowsOf(table)).toEqual([]);
});

test('the row of an address is the one that holds it, else the next one up', () => {
  const table = new WindowTable();
  for (let index = 0; index < 2000; index += 2) add(table, index);
  const addressOf = (at: number) => {
    const place = table.firstEndingAfter(at);
    return place === table.end ? undefined : table.address(place);
  };
  for (let index = 0; index < 2000; index += 2) {
    const at = index * PAGE;
    expect([addressOf(at), addressOf(at + PAGE - 1)]).toEqual([at, at]);
    expect(addressOf(at + PAGE)).toBe(index + 2 < 2000 ? at + 2 * PAGE : undefined);
  }
});

test('any series of additions and removals leaves what a list would have, in order', () => {
  const INDEXES = 3000;
  const index = fc.integer({ min: 0, max: INDEXES - 1 });
  const step = fc.record({
    isAddition: fc.boolean(),
    from: index,
    count: fc.integer({ min: 1, max: 900 }),
    by: fc.integer({ min: 1, max: 7 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
      const table = new WindowTable();
      const model = new Set<number>();
      for (const { isAddition, from, count, by } of steps) {
        if (isAddition) {
          // In leaps, so that rows come between rows; downwards for some.
          const some = Array.from({ length: count }, (_, i) => (from + i * by) % INDEXES);
          for (const one of by % 2 === 0 ? some : some.reverse()) {
            if (model.has(one)) continue;
            add(table, one);
            model.add(one);
          }
        } else {
          removeRange(table, from, from + count * by);
          for (let one = from; one < from + count * by; one++) model.delete(one);
        }
        expect(table.count).toBe(model.size);
        expect(table.memoryBytes).toBeLessThanOrEqual(128 * table.count + 8192);
      }
      expect(rowsOf(table)).toEqual([...model].sort((a, b) => a - b).map((one) => rowAt(one)));
    }),
    { numRuns: 60 },
  );
});

test('a row takes 32 bytes when rows come in order, upwards or downwards', () => {
  for (const order of [(i: number) => i, (i: number) => 100_000 - i]) {
    const table = new WindowTable();
    for (let i = 0; i < 100_000; i++) add(table, order(i));
    expect(table.memoryBytes / table.count).toBeLessThan(33);
  }
});

test('memory goes with the rows, however they are thinned out and filled up again', () => {
  const table = new WindowTable();
  for (let i = 0; i < 100_000; i++) add(table, i);
  for (let round = 0; round < 5; round++) {
    // One row of 300 stays.
    for (let i = 0; i < 100_000; i += 300) removeRange(table, i + 1, i + 300);
    expect(table.count).toBe(334);
    expect(table.memoryBytes).toBeLessThanOrEqual(128 * 334 + 8192);
    for (let i = 0; i < 100_000; i++) if (i % 300 !== 0 && i % 3 === round % 3) add(table, i);
    expect(table.memoryBytes).toBeLessThanOrEqual(128 * table.count + 8192);
  }
  // Always before the same row, which is where a block begins.
  const bottom = new WindowTable();
  for (let i = 0; i < 1000; i++) add(bottom, i);
  for (let i = 100_000; i > 1000; i--) add(bottom, i);
  expect(bottom.memoryBytes).toBeLessThanOrEqual(128 * bottom.count + 8192);
  removeRange(table, 0, 200_000);
  expect([table.count, table.memoryBytes]).toEqual([0, 0]);
});
