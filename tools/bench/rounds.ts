/** The driver in C against the server and against the floor, in turns. */
import { type Server, startServer } from '../testbed/server.ts';
import { measureBlobs, Viewer, WITH_WINDOW } from './blobs.ts';
import {
  BATCH,
  BATCHES,
  type BatchTimes,
  type Distribution,
  Drivers,
  FRAMES,
  type FrameTimes,
  findPlaces,
  gigabytesPerSecond,
  micros,
  type Place,
  perSecond,
  speeds,
  TRANSFER_AIM,
} from './drivers.ts';
import { builtProgram, Program } from './programs.ts';
import { type Aim, Book } from './report.ts';
import {
  leadingTo,
  measureInspection,
  measureIsolation,
  measureWayland,
  startCrowd,
  startInspector,
  startPinnedCompositor,
} from './wayland.ts';

/** How often each thing is done in one round. */
const READS = 3000;
const DOORBELLS = 1000;
const SINGLE_COMMANDS = 1000;
const WARM_UP_ROUNDS = 2;
/** The server with the viewer sees nothing but frames: too few until its code is compiled. */
const WARM_UP_FRAMES = 600;

const NO_COPY_AIM: Aim = { value: 'at most', limit: 0, shown: '0' };
const ROUND_TRIP_AIM: Aim = { ratio: 'at most', limit: 1.5 };

// ---- one round at one place ----

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
  for (const [size, count] of [
    [1, SINGLE_COMMANDS],
    [BATCH, BATCHES],
  ] as const) {
    const { server, floor } = await drivers.both<BatchTimes>('commands', size, count);
    const figure = { value: perSecond(server, size), floor: perSecond(floor, size) };
    book.note(`commands, batches of ${size}, ${name}`, '1/s', figure, { floor: 'device in C' });
  }
}

/**
 * Of each round the best frame counts, on all sides: what a copy can do when nobody takes the CPU away. Each process
 * has the loop it is compared with beside it, over the same pages.
 */
async function measureFrames(drivers: Drivers, book: Book, { name, isJudged }: Place): Promise<void> {
  const more = { floor: 'gather loop' };
  for (const data of ['written', 'unmodified'] as const) {
    const { server, floor } = await drivers.both<FrameTimes>('frames', data, FRAMES);
    const aim = data === 'written' && isJudged.transfer ? { aim: TRANSFER_AIM } : {};
    book.note(`1080p ${data}, ${name}`, 'GB/s', speeds(server), { ...more, ...aim });
    const time = { value: server.frame.median / 1e6, floor: server.gather.median / 1e6 };
    book.note(`1080p ${data}, median time, ${name}`, 'ms', time, more);
    book.note(`1080p ${data}, device in C, ${name}`, 'GB/s', speeds(floor), more);
    const copy = { value: gigabytesPerSecond(server.flat), floor: gigabytesPerSecond(server.gather) };
    book.note(`1080p ${data}, memcpy in C, ${name}`, 'GB/s', copy, more);
  }
}

/** The drivers of one round, by what they are at. */
type Subjects = Readonly<Record<'plain' | 'blobs' | 'watched' | 'windows', Drivers>>;

async function measurePlace(
  { plain, blobs, watched, windows }: Subjects,
  viewer: Viewer,
  book: Book,
  place: Place,
): Promise<void> {
  for (const drivers of [plain, blobs, watched, windows]) await drivers.moveTo(place);
  await measureReads(plain, book, place);
  await measureDoorbells(plain, book, place);
  await measureCommands(plain, book, place);
  await measureFrames(plain, book, place);
  await measureBlobs(blobs, watched, viewer, book, place);
  await measureWayland(windows, book, place);
}

// ---- all rounds ----

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
  const startClient = (path: string, ...more: string[]) =>
    Program.start([builtProgram('client'), path, String(serverCpu), ...more]);
  await using server = await startServer({ displays: [display], launcher });
  await using client = await startClient(server.socketPath);
  await using blobServer = await startServer({ displays: [display], launcher, arguments: WITH_WINDOW });
  await using blobClient = await startClient(blobServer.socketPath);
  await using viewer = await Viewer.start(launcher, display);
  await using viewerClient = await startClient(viewer.socketPath);
  await using compositor = await startPinnedCompositor(serverCpu);
  const windowsArguments = leadingTo(compositor);
  await using windowsServer = await startServer({
    displays: [display],
    launcher,
    arguments: windowsArguments,
  });
  await using windowsClient = await startClient(windowsServer.socketPath, compositor.socketPath);
  await using inspector = await startInspector(launcher);
  await using crowded = await startCrowd(launcher, 'crowded');
  await using quiet = await startCrowd(launcher, 'quiet');
  await using floor = await Program.start([builtProgram('floor'), String(serverCpu)]);
  await blobClient.order('show', 'blob');
  await viewerClient.order('show', 'blob');
  const subjects = (into: Book): Subjects => ({
    plain: new Drivers('server', client, floor, into),
    blobs: new Drivers('server with blobs', blobClient, floor, into),
    watched: new Drivers('server with a viewer', viewerClient, floor, into),
    windows: new Drivers('server with a compositor', windowsClient, floor, into),
  });
  const check = async () => {
    await checkPicture(server, client);
    await checkPicture(blobServer, blobClient);
    await viewer.check(viewerClient);
  };

  say('warming up');
  await viewerClient.order('frames', 'written', WARM_UP_FRAMES);
  for (let i = 0; i < WARM_UP_ROUNDS; i++) {
    const unread = new Book();
    for (const place of places) await measurePlace(subjects(unread), viewer, unread, place);
    await measureInspection(inspector, unread);
    await measureIsolation(crowded, quiet, unread);
  }
  await check();

  const drivers = subjects(book);
  for (let round = 0; round < count; round++) {
    say(`round ${round + 1} of ${count}`);
    for (const one of Object.values(drivers)) one.round = round;
    for (const place of places) await measurePlace(drivers, viewer, book, place);
    await measureInspection(inspector, book);
    await measureIsolation(crowded, quiet, book);
  }
  await check();
  const copied = await blobServer.metric('copied_bytes_total');
  book.note('bytes copied where nobody looks', '', { value: copied }, { aim: NO_COPY_AIM });
}
