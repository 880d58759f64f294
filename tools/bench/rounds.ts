/** The driver in C against the server and against the floor, in turns. */
import { type Server, startServer } from '../testbed/server.ts';
import { allowedCpus, builtProgram, Program } from './programs.ts';
import { type Aim, Book } from './report.ts';

/** How often each thing is done in one round. */
const READS = 3000;
const DOORBELLS = 1000;
const SINGLE_COMMANDS = 1000;
const BATCHES = 300;
const BATCH = 32;
const FRAMES = 15;
const PICTURE_BYTES = 1920 * 1080 * 4;
const WARM_UP_ROUNDS = 2;

const ROUND_TRIP_AIM: Aim = { ratio: 'at most', limit: 1.5 };
const TRANSFER_AIM: Aim = { ratio: 'at least', limit: 0.8 };

/** What the programs tell of many times, in nanoseconds. */
interface Distribution {
  readonly count: number;
  readonly min: number;
  readonly median: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
  readonly mean: number;
}

/** Where the driver runs; the server has a CPU of its own, or the same. */
interface Place {
  readonly name: string;
  readonly driverCpu: number;
  /** The aims are about this place. */
  readonly isJudged: { readonly roundTrip: boolean; readonly transfer: boolean };
}

type Order = readonly (string | number)[];

/** The two drivers, and the book their answers go into. */
class Drivers {
  readonly #server: Program;
  readonly #floor: Program;
  readonly #book: Book;
  round = 0;
  place = '';

  constructor(server: Program, floor: Program, book: Book) {
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
    return this.#ask<T>('server', this.#server, order);
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

// ---- one round at one place ----

/** Microseconds of both at one point of their distributions. */
const micros = (
  times: { readonly server: Distribution; readonly floor: Distribution },
  point: 'median' | 'p99' = 'median',
) => ({ value: times.server[point] / 1000, floor: times.floor[point] / 1000 });

async function measureReads(drivers: Drivers, book: Book, place: Place): Promise<void> {
  type Answer = { readonly read: Distribution };
  const measure = async (register: string) => {
    const { server, floor } = await drivers.both<Answer>('read', register, READS);
    return { server: server.read, floor: floor.read };
  };
  const more = { floor: 'ping-pong', ...(place.isJudged.roundTrip ? { aim: ROUND_TRIP_AIM } : {}) };
  const device = await measure('device');
  book.note(`read device config, ${place.name}`, 'us', micros(device), more);
  book.note(`read common config, ${place.name}`, 'us', micros(await measure('common')), more);
  book.note(`read config space, ${place.name}`, 'us', micros(await measure('config')), more);
  book.note(`99th percentile of a read, ${place.name}`, 'us', micros(device, 'p99'), { floor: 'ping-pong' });

  await drivers.floor('calls', 'loop');
  const { read: loop } = await drivers.floor<Answer>('read', 'device', READS);
  await drivers.floor('calls', 'few');
  const inC = micros({ server: loop, floor: device.floor });
  book.note(`a read by C with an event loop, ${place.name}`, 'us', inC, { floor: 'ping-pong' });
}

async function measureDoorbells(drivers: Drivers, book: Book, { name }: Place): Promise<void> {
  type Answer = { readonly answer: Distribution; readonly interrupt: Distribution };
  const answered = await drivers.both<Answer>('doorbell', 'answered', DOORBELLS);
  const posted = await drivers.both<Answer>('doorbell', 'posted', DOORBELLS);
  const more = { floor: 'device in C' };
  const part = ({ server, floor }: typeof answered, key: keyof Answer) =>
    micros({ server: server[key], floor: floor[key] });
  book.note(`doorbell to its answer, ${name}`, 'us', part(answered, 'answer'), more);
  book.note(`doorbell to interrupt, ${name}`, 'us', part(answered, 'interrupt'), more);
  book.note(`posted doorbell to interrupt, ${name}`, 'us', part(posted, 'interrupt'), more);
}

async function measureCommands(drivers: Drivers, book: Book, { name }: Place): Promise<void> {
  type Answer = { readonly batch: Distribution };
  for (const [size, count] of [
    [1, SINGLE_COMMANDS],
    [BATCH, BATCHES],
  ] as const) {
    const perSecond = ({ batch }: Answer) => (size * 1e9) / batch.median;
    const { server, floor } = await drivers.both<Answer>('commands', size, count);
    const figure = { value: perSecond(server), floor: perSecond(floor) };
    book.note(`commands, batches of ${size}, ${name}`, '1/s', figure, { floor: 'device in C' });
  }
}

/**
 * Of each round the best frame counts, on all sides: what a copy can do when nobody takes the CPU away. Each process
 * has the loop it is compared with beside it, over the same pages.
 */
async function measureFrames(drivers: Drivers, book: Book, { name, isJudged }: Place): Promise<void> {
  type Answer = {
    readonly frame: Distribution;
    readonly gather: Distribution;
    readonly flat: Distribution;
  };
  const gigabytesPerSecond = (time: Distribution) => PICTURE_BYTES / time.min;
  const speeds = ({ frame, gather }: Answer) => ({
    value: gigabytesPerSecond(frame),
    floor: gigabytesPerSecond(gather),
  });
  const more = { floor: 'gather loop' };
  for (const data of ['written', 'unmodified'] as const) {
    const { server, floor } = await drivers.both<Answer>('frames', data, FRAMES);
    const aim = data === 'written' && isJudged.transfer ? { aim: TRANSFER_AIM } : {};
    book.note(`1080p ${data}, ${name}`, 'GB/s', speeds(server), { ...more, ...aim });
    const time = { value: server.frame.median / 1e6, floor: server.gather.median / 1e6 };
    book.note(`1080p ${data}, median time, ${name}`, 'ms', time, more);
    book.note(`1080p ${data}, device in C, ${name}`, 'GB/s', speeds(floor), more);
    const copy = { value: gigabytesPerSecond(server.flat), floor: gigabytesPerSecond(server.gather) };
    book.note(`1080p ${data}, memcpy in C, ${name}`, 'GB/s', copy, more);
  }
}

async function measurePlace(drivers: Drivers, book: Book, place: Place): Promise<void> {
  await drivers.moveTo(place);
  await measureReads(drivers, book, place);
  await measureDoorbells(drivers, book, place);
  await measureCommands(drivers, book, place);
  await measureFrames(drivers, book, place);
}

// ---- all rounds ----

/** The aims: round trips on one CPU, transfers as they happen under a VMM, where guest and server have one each. */
function findPlaces(): { serverCpu: number; places: Place[] } {
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

/** What the display shows must be what the driver painted last: a fast server that is wrong is not fast. */
async function checkPicture(server: Server, client: Program): Promise<void> {
  const { hash: painted } = await client.order<{ hash: number }>('frames', 'written', 1);
  const { rgb } = await server.screenshot();
  let hash = 0x811c9dc5;
  for (let at = 0; at < rgb.length; at += 3) {
    for (const channel of [2, 1, 0]) hash = Math.imul(hash ^ rgb[at + channel]!, 0x01000193);
  }
  if (hash >>> 0 !== painted) throw new Error('the display does not show what the driver painted');
}

/** `display` is the mode of the server under test, at least as large as the picture. */
export async function measureRounds(
  book: Book,
  count: number,
  display: string,
  say: (text: string) => void,
): Promise<void> {
  const { serverCpu, places } = findPlaces();
  if (places.length === 1) say('there is only one CPU: nothing is measured on two');
  const launcher = ['taskset', '--cpu-list', String(serverCpu)];
  await using server = await startServer({ displays: [display], launcher });
  await using client = await Program.start([builtProgram('client'), server.socketPath, String(serverCpu)]);
  await using floor = await Program.start([builtProgram('floor'), String(serverCpu)]);

  say('warming up');
  for (let i = 0; i < WARM_UP_ROUNDS; i++) {
    const unread = new Book();
    for (const place of places) await measurePlace(new Drivers(client, floor, unread), unread, place);
  }
  await checkPicture(server, client);

  const drivers = new Drivers(client, floor, book);
  for (; drivers.round < count; drivers.round++) {
    say(`round ${drivers.round + 1} of ${count}`);
    for (const place of places) await measurePlace(drivers, book, place);
  }
  await checkPicture(server, client);
}
