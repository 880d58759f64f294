/** A driver in C that draws while somebody looks: over VNC, and by taking pictures over the API. */
import { mkdtemp, rm } from 'node:fs/promises';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Server, startServer } from '../testbed/server.ts';
import type { Distribution } from './drivers.ts';
import { allowedCpus, builtProgram, memoryOf, Program } from './programs.ts';
import { type Aim, Book } from './report.ts';

/** How often each thing is done in one round. */
const MOMENTS = 100;
const STEPS = 90;
const SCREENSHOTS = 5;
const HZ = 60;
const CROWD = 50;
/** How long one of those stays that come and go. */
const STAY_MS = 100;
/** Who has got this much is in the middle of a picture. */
const MIN_BEGUN_BYTES = 16_384;

const FIRST_BYTE_AIM: Aim = { value: 'at most', limit: 3 };
const LATE_BYTE_AIM: Aim = { value: 'at most', limit: 15 };
const CPU_AIM: Aim = { value: 'at most', limit: 1, shown: '< 1' };
const UNCHANGED_AIM: Aim = { ratio: 'at most', limit: 1.2 };
const PICTURE_AIM: Aim = { value: 'at most', limit: 20 };

/** Viewers of `viewer.c`, by what they ask for. */
const ASKING = { novnc: 'as noVNC asks', lossless: 'lossless', raw: 'Raw' } as const;
/** Steps of `scene.h`, each a tenth of the picture. */
const TENTHS = { page: 'text', window: 'a window', video: 'a video' } as const;

/** What `view.c` tells of steps. */
interface Steps {
  readonly interrupt: Distribution;
  readonly firstByte: Distribution;
  readonly updates: number;
  readonly bytes: number;
}

interface SteadySteps extends Steps {
  readonly seconds: number;
  /** Those that came before the last step's time was over. */
  readonly updatesInTime: number;
  /** Steps that came later than the next one should have. */
  readonly late: number;
  readonly cpuSeconds: number;
}

// ---- viewers whose bytes nobody looks at ----

const ENCODINGS = { raw: [0], novnc: [1, 7, 16, 0, -26, -254] } as const;

/** All that a viewer says to have every change of a picture of 1920x1080, in advance. */
function greeting(encodings: readonly number[]): Buffer {
  const setEncodings = Buffer.alloc(4 + 4 * encodings.length);
  setEncodings[0] = 2;
  setEncodings.writeUInt16BE(encodings.length, 2);
  encodings.forEach((encoding, i) => {
    setEncodings.writeInt32BE(encoding, 4 + 4 * i);
  });
  const area = [0, 0, 0, 0, 1920 >> 8, 1920 & 0xff, 1080 >> 8, 1080 & 0xff];
  return Buffer.concat([
    Buffer.from('RFB 003.008\n\x01\x01'),
    setEncodings,
    Buffer.from([3, 0, ...area, 150, 1, ...area]),
  ]);
}

/** Viewers in this process. They leave when disposed of. */
class Crowd implements Disposable {
  readonly #path: string;
  readonly #sockets = new Set<Socket>();
  #timer: NodeJS.Timeout | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  enter({ encodings, reads }: { encodings: keyof typeof ENCODINGS; reads: boolean }): Socket {
    const socket = createConnection(this.#path);
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => this.#sockets.delete(socket));
    socket.write(greeting(ENCODINGS[encodings]));
    if (reads) socket.resume();
    return socket;
  }

  /** From now on somebody comes every few milliseconds, so that there have been `count` after `milliseconds`. */
  comeAndGo(count: number, milliseconds: number): void {
    this.#timer = setInterval(() => {
      const socket = this.enter({ encodings: 'novnc', reads: true });
      setTimeout(() => socket.destroy(), STAY_MS);
    }, milliseconds / count);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (const socket of this.#sockets) socket.destroy();
  }
}

// ---- one round ----

/** A server, whoever looks at it, and the driver. */
interface Subject {
  readonly server: Server;
  readonly vncPath: string;
  readonly client: Program;
  readonly book: Book;
  readonly round: number;
}

async function ask<T>({ client, book, round }: Subject, ...order: readonly (string | number)[]): Promise<T> {
  const answer = await client.order<T>(...order);
  book.raw.push({ round, place: 'free', who: 'server with VNC', order: order.join(' '), answer });
  return answer;
}

/** From the doorbell of a flush to the first byte of the update that tells of it. */
async function measureMoments(subject: Subject): Promise<void> {
  const { book, vncPath } = subject;
  for (const [encodings, asking] of Object.entries(ASKING)) {
    await ask(subject, 'viewer', vncPath, encodings);
    for (const [step, what] of [
      ['cell', '16x16'],
      ['page', 'text, 10 %'],
      ['video', 'a video, 10 %'],
    ] as const) {
      const { firstByte, bytes, updates } = await ask<Steps>(subject, 'moments', step, MOMENTS);
      const name = `${what}, ${asking}`;
      book.note(
        `flush to a viewer: ${name}`,
        'ms',
        { value: firstByte.median / 1e6 },
        { aim: FIRST_BYTE_AIM },
      );
      book.note(
        `flush to a viewer, 99th percentile: ${name}`,
        'ms',
        { value: firstByte.p99 / 1e6 },
        { aim: LATE_BYTE_AIM },
      );
      book.note(`bytes of an update: ${name}`, 'KiB', { value: bytes / updates / 1024 });
    }
    const { drawn, seen } = await ask<{ drawn: number; seen: number }>(subject, 'hash');
    if (drawn !== seen) throw new Error('the viewer was not sent what the driver drew');
  }
}

async function measureRates(subject: Subject): Promise<void> {
  const { book, vncPath } = subject;
  for (const encodings of ['novnc', 'lossless'] as const) {
    await ask(subject, 'viewer', vncPath, encodings);
    for (const [step, what] of Object.entries(TENTHS)) {
      const steps = await ask<SteadySteps>(subject, 'rate', step, STEPS, HZ);
      const name = `${what}, ${ASKING[encodings]}`;
      const used = { value: steps.cpuSeconds / steps.seconds };
      book.note(`CPUs at ${HZ} flushes of 10 % a second: ${name}`, '', used, { aim: CPU_AIM });
      book.note(`updates then: ${name}`, '1/s', { value: steps.updatesInTime / steps.seconds });
    }
  }
  await ask(subject, 'viewer', 'none');
}

/** How long the device takes, whoever looks. */
async function measureDevice(subject: Subject): Promise<void> {
  const { book, vncPath, server } = subject;
  const interrupts = async () => (await ask<SteadySteps>(subject, 'rate', 'page', STEPS, HZ)).interrupt;
  const alone = await interrupts();
  const note = (who: string, { median, p99 }: Distribution) => {
    const more = { floor: 'no viewer' };
    const value = { value: median / 1000, floor: alone.median / 1000 };
    book.note(`doorbell to interrupt, 10 %: ${who}`, 'us', value, { ...more, aim: UNCHANGED_AIM });
    const late = { value: p99 / 1000, floor: alone.p99 / 1000 };
    book.note(`doorbell to interrupt, 10 %, 99th percentile: ${who}`, 'us', late, more);
  };
  note('no viewer', alone);
  {
    using crowd = new Crowd(vncPath);
    crowd.enter({ encodings: 'novnc', reads: true });
    note('a viewer', await interrupts());
  }
  {
    using crowd = new Crowd(vncPath);
    crowd.enter({ encodings: 'novnc', reads: false });
    note('one that never reads', await interrupts());
  }
  {
    using crowd = new Crowd(vncPath);
    crowd.comeAndGo(CROWD, (STEPS * 1000) / HZ);
    note(`${CROWD} that come and leave`, await interrupts());
  }
  for (const encodings of ['novnc', 'raw'] as const) {
    const before = memoryOf(server.pid).resident;
    using crowd = new Crowd(vncPath);
    const entered = Array.from({ length: CROWD }, () => crowd.enter({ encodings, reads: false }));
    const times = await interrupts();
    // As much of a picture as fits into what is between.
    while (entered.some(({ bytesRead }) => bytesRead < MIN_BEGUN_BYTES)) await sleep(STAY_MS);
    if (encodings === 'novnc') note(`${CROWD} that never read`, times);
    const more = { value: memoryOf(server.pid).resident - before };
    book.note(`memory for ${CROWD} viewers that never read, ${ASKING[encodings]}`, 'MiB', more);
  }
  await sleep(STAY_MS);
}

/** A picture of the whole display as PNG. */
async function measureScreenshots(subject: Subject): Promise<void> {
  const { book, server } = subject;
  for (const picture of ['desktop', 'text', 'photo'] as const) {
    await ask(subject, 'paint', picture);
    const { whole, known, bytes } = await ask<{ whole: Distribution; known: Distribution; bytes: number }>(
      subject,
      'screenshots',
      server.apiSocketPath,
      SCREENSHOTS,
    );
    book.note(`1080p screenshot: ${picture}`, 'ms', { value: whole.median / 1e6 }, { aim: PICTURE_AIM });
    book.note(`1080p screenshot: ${picture}, size`, 'KiB', { value: bytes / 1024 });
    book.note(`1080p screenshot: ${picture}, not modified`, 'ms', { value: known.median / 1e6 });
  }
}

/** Neither server nor driver is kept on a CPU: the server's threads share the work as they would anywhere. */
export async function measureViewing(
  book: Book,
  count: number,
  display: string,
  say: (text: string) => void,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'vfio-user-gpu-bench-'));
  try {
    const vncPath = join(folder, 'vnc.sock');
    await using server = await startServer({ displays: [display], arguments: ['--vnc', `unix:${vncPath}`] });
    const cpu = String(allowedCpus().at(-1));
    await using client = await Program.start([builtProgram('client'), server.socketPath, cpu]);
    for (let round = -1; round < count; round++) {
      say(round < 0 ? 'warming up for viewers' : `viewers, round ${round + 1} of ${count}`);
      const subject = { server, vncPath, client, book: round < 0 ? new Book() : book, round };
      await ask(subject, 'paint', 'desktop');
      await measureMoments(subject);
      await measureRates(subject);
      await measureDevice(subject);
      await measureScreenshots(subject);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
