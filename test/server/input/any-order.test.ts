/** Clients, guests and drivers in any order: nothing comes twice, nothing comes late, nothing stays pressed. */
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { KeyboardDevice } from '../../../server/input/keyboard.ts';
import { HIGH_WATER_EVENTS } from '../../../server/input/limits.ts';
import { Seat, type SeatClient } from '../../../server/input/seat.ts';
import { TabletDevice } from '../../../server/input/tablet.ts';
import { SILENT_LOG } from '../../../server/log.ts';
import { InputMachine } from '../../support/input-machine.ts';

const CLIENTS = 3;
const CODES = [30, 48, 42, 29];
const SYN = '0 0 0';

const client = fc.nat({ max: CLIENTS - 1 });
const key = fc.record({
  type: fc.constant('key' as const),
  client,
  code: fc.constantFrom(...CODES),
  down: fc.boolean(),
});
const pointer = fc.record({
  type: fc.constant('pointer' as const),
  client,
  x: fc.nat({ max: 40 }),
  y: fc.nat({ max: 40 }),
  buttons: fc.nat({ max: 7 }),
  wheelY: fc.constantFrom(0, 0, 0, 120, -60),
});
const leave = fc.record({ type: fc.constant('leave' as const), client });
/** Its request is given up. */
const withdraw = fc.record({ type: fc.constant('withdraw' as const), client });
const supply = fc.record({ type: fc.constant('supply' as const), count: fc.integer({ min: 1, max: 64 }) });
const reset = fc.record({ type: fc.constant('reset' as const) });
const bringUp = fc.record({ type: fc.constant('bring up' as const), count: fc.nat({ max: 64 }) });
const wait = fc.record({ type: fc.constant('wait' as const), ms: fc.constantFrom(1, 500, 1000) });
/** A sender in a hurry. */
const burst = fc.record({
  type: fc.constant('burst' as const),
  client,
  count: fc.integer({ min: 1, max: 400 }),
});

type Step<A> = A extends fc.Arbitrary<infer T> ? T : never;
type AnyStep = Step<
  | typeof key
  | typeof pointer
  | typeof leave
  | typeof withdraw
  | typeof supply
  | typeof reset
  | typeof bringUp
  | typeof wait
  | typeof burst
>;

/** What a guest believes: which keys and buttons are down, and where the pointer is. */
class Guest<D extends KeyboardDevice | TabletDevice> {
  readonly machine: InputMachine<D>;
  readonly down = new Set<number>();
  readonly events: string[] = [];
  #inReport = false;

  constructor(device: D) {
    this.machine = new InputMachine<D>(device);
  }

  bringUp(count: number): void {
    this.machine.bringUp(count);
    this.down.clear();
    this.#inReport = false;
  }

  /** Takes what is there. A key that is pressed while it is down would be seen twice. */
  take(): void {
    for (const event of this.machine.take()) {
      this.events.push(event);
      const [type, code, value] = event.split(' ').map(Number) as [number, number, number];
      if (event === SYN) expect(this.#inReport, 'a report without events').toBe(true);
      this.#inReport = event !== SYN;
      if (type !== 1) continue;
      expect(this.down.has(code), `${event} again`).toBe(value === 0);
      if (value === 1) this.down.add(code);
      else this.down.delete(code);
    }
  }

  catchUp(): void {
    do {
      this.take();
      this.machine.supply(64);
    } while (this.machine.device.counters.waiting > 0);
    this.take();
    expect(this.#inReport).toBe(false);
  }
}

class World {
  readonly keyboard = new Guest(new KeyboardDevice(SILENT_LOG));
  readonly tablet = new Guest(new TabletDevice(SILENT_LOG));
  readonly seat = new Seat({
    keyboard: this.keyboard.machine.device,
    tablet: this.tablet.machine.device,
    displays: () => [{ width: 41, height: 41 }],
  });
  readonly clients: SeatClient[] = Array.from({ length: CLIENTS }, (_, i) => this.seat.open(`${i}`));
  /** Whether the driver is there. */
  isUp = false;

  get guests() {
    return [this.keyboard, this.tablet];
  }

  do(step: AnyStep): void {
    switch (step.type) {
      case 'key':
        this.clients[step.client]?.key(step.code, step.down);
        return;
      case 'pointer':
        this.clients[step.client]?.pointer({ ...step, display: 0 });
        return;
      case 'burst':
        for (let i = 0; i < step.count; i++)
          this.clients[step.client]?.key(CODES[i % 4] as number, i % 8 < 4);
        return;
      case 'leave':
        this.clients[step.client]?.close();
        this.clients[step.client] = this.seat.open(`${step.client}`);
        return;
      case 'withdraw':
        this.clients[step.client]?.withdraw(['keyboard', 'tablet']);
        this.clients[step.client] = this.seat.open(`${step.client}`);
        return;
      case 'supply':
        if (!this.isUp) return;
        for (const guest of this.guests) {
          guest.take();
          guest.machine.supply(step.count);
        }
        return;
      case 'reset':
        for (const { machine } of this.guests) machine.driver.reset();
        this.isUp = false;
        return;
      case 'bring up':
        for (const guest of this.guests) guest.bringUp(step.count);
        this.isUp = true;
        return;
      case 'wait':
        vi.advanceTimersByTime(step.ms);
        return;
      default:
        step satisfies never;
    }
  }
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
});
afterEach(() => {
  vi.useRealTimers();
});

test('everything comes, once and in order, to a guest that takes everything in the end', () => {
  const step = fc.oneof(key, key, key, pointer, leave, supply);
  fc.assert(
    fc.property(fc.array(step, { maxLength: 150 }), fc.nat({ max: 64 }), (steps, buffers) => {
      const world = new World();
      world.do({ type: 'bring up', count: buffers });
      const expected: string[] = [];
      const held = world.clients.map(() => new Set<number>());
      const set = (client: number, code: number, down: boolean) => {
        const before = held.some((codes) => codes.has(code));
        if (down) held[client]?.add(code);
        else held[client]?.delete(code);
        const after = held.some((codes) => codes.has(code));
        if (before !== after) expected.push(`1 ${code} ${after ? 1 : 0}`, SYN);
      };
      for (const one of steps) {
        world.do(one);
        if (one.type === 'key') set(one.client, one.code, one.down);
        if (one.type === 'leave')
          for (const code of [...(held[one.client] ?? [])]) set(one.client, code, false);
        // A sender that heeds what it is told.
        for (const guest of world.guests)
          if (guest.machine.device.counters.waiting >= HIGH_WATER_EVENTS) guest.catchUp();
      }
      for (const guest of world.guests) guest.catchUp();
      expect(world.keyboard.events).toEqual(expected);
      expect(world.keyboard.machine.device.counters.refused).toBe(0);
      expect(world.tablet.machine.device.counters.refused).toBe(0);
    }),
    { numRuns: 300 },
  );
});

test('whatever clients, drivers and time do, a guest knows the truth when it has caught up, and nothing stays pressed', () => {
  const step = fc.oneof(
    ...[key, key, pointer, leave, withdraw],
    ...[supply, supply, reset, bringUp, wait, burst],
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.boolean(), (steps, isCaughtUp) => {
      const world = new World();
      const held = world.clients.map(() => new Set<number>());
      for (const one of steps) {
        world.do(one);
        if (one.type === 'key') held[one.client]?.[one.down ? 'add' : 'delete'](one.code);
        if (one.type === 'leave' || one.type === 'withdraw') held[one.client]?.clear();
        if (one.type === 'burst') {
          for (let i = 0; i < one.count; i++)
            held[one.client]?.[i % 8 < 4 ? 'add' : 'delete'](CODES[i % 4] as number);
        }
      }
      if (!world.isUp) world.do({ type: 'bring up', count: 64 });
      // One more report, because a driver that has just come is told nothing by itself.
      world.clients[0]?.key(59, true);
      if (isCaughtUp) {
        for (const guest of world.guests) guest.catchUp();
        const truth = new Set(held.flatMap((codes) => [...codes])).add(59);
        expect([...world.keyboard.down].sort()).toEqual([...truth].sort());
      }
      for (const one of world.clients) one.close();
      for (const guest of world.guests) guest.catchUp();
      expect([...world.keyboard.down, ...world.tablet.down]).toEqual([]);
      for (const { machine } of world.guests) machine.driver.reset();
      expect(vi.getTimerCount()).toBe(0);
    }),
    { numRuns: 500 },
  );
});
