/** The driver in C at two devices, the one that is measured and the floor, and what both tell. */
import { allowedCpus, type Program } from './programs.ts';
import type { Aim, Book } from './report.ts';

/** How often each thing is done in one round. */
export const BATCH = 32;
export const BATCHES = 300;
export const FRAMES = 15;
export const PICTURE_BYTES = 1920 * 1080 * 4;

export const TRANSFER_AIM: Aim = { ratio: 'at least', limit: 0.8 };

/** What the programs tell of many times, in nanoseconds. */
export interface Distribution {
  readonly count: number;
  readonly min: number;
  readonly median: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
  readonly mean: number;
}

/** Where the driver runs; the server has a CPU of its own, or the same. */
export interface Place {
  readonly name: string;
  readonly driverCpu: number;
  /** The aims are about this place. */
  readonly isJudged: { readonly roundTrip: boolean; readonly transfer: boolean };
}

type Order = readonly (string | number)[];

/** The two drivers, and the book their answers go into. */
export class Drivers {
  readonly #who: string;
  readonly #server: Program;
  readonly #floor: Program;
  readonly #book: Book;
  round = 0;
  place = '';

  /** `who` is what the server is called in the book. */
  constructor(who: string, server: Program, floor: Program, book: Book) {
    this.#who = who;
    this.#server = server;
    this.#floor = floor;
    this.#book = book;
  }

  async moveTo({ driverCpu, name }: Place): Promise<void> {
    this.place = name;
    await this.#server.order('cpu', driverCpu);
    await this.#floor.order('cpu', driverCpu);
  }

  /** The same order to both. Who goes first changes from round to round. */
  async both<T>(...order: Order): Promise<{ server: T; floor: T }> {
    if (this.round % 2 === 0) {
      const floor = await this.floor<T>(...order);
      return { server: await this.server<T>(...order), floor };
    }
    const server = await this.server<T>(...order);
    return { server, floor: await this.floor<T>(...order) };
  }

  server<T>(...order: Order): Promise<T> {
    return this.#ask<T>(this.#who, this.#server, order);
  }

  floor<T>(...order: Order): Promise<T> {
    return this.#ask<T>('floor', this.#floor, order);
  }

  async #ask<T>(who: string, program: Program, order: Order): Promise<T> {
    const answer = await program.order<T>(...order);
    this.#book.raw.push({ round: this.round, place: this.place, who, order: order.join(' '), answer });
    return answer;
  }
}

/** Microseconds of both at one point of their distributions. */
export const micros = (
  times: { readonly server: Distribution; readonly floor: Distribution },
  point: 'median' | 'p99' = 'median',
) => ({ value: times.server[point] / 1000, floor: times.floor[point] / 1000 });

/** Of `commands`: from the first store into the ring until all of a batch are done. */
export interface BatchTimes {
  readonly batch: Distribution;
}

export const perSecond = ({ batch }: BatchTimes, size: number) => (size * 1e9) / batch.median;

/** Of `frames`: the device's, and what the C loops beside it take. */
export interface FrameTimes {
  readonly frame: Distribution;
  readonly gather: Distribution;
  readonly flat: Distribution;
}

export const gigabytesPerSecond = (time: Distribution) => PICTURE_BYTES / time.min;
export const speeds = ({ frame, gather }: FrameTimes) => ({
  value: gigabytesPerSecond(frame),
  floor: gigabytesPerSecond(gather),
});

/** The aims: round trips on one CPU, transfers as they happen under a VMM, where guest and server have one each. */
export function findPlaces(): { serverCpu: number; places: Place[] } {
  const cpus = allowedCpus();
  const serverCpu = cpus.at(-1)!;
  const driverCpu = cpus[0]!;
  const one = { name: 'one CPU', driverCpu: serverCpu };
  if (driverCpu === serverCpu)
    return { serverCpu, places: [{ ...one, isJudged: { roundTrip: true, transfer: true } }] };
  return {
    serverCpu,
    places: [
      { ...one, isJudged: { roundTrip: true, transfer: false } },
      { name: 'two CPUs', driverCpu, isJudged: { roundTrip: false, transfer: true } },
    ],
  };
}
