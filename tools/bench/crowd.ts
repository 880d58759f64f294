/**
 * crowd.ts quiet|crowded
 *
 * 64 programs of a guest, each with a connection. Prints `{}` when they are there. Each line is a number of rounds, in
 * which each of 60 programs asks, is answered by the compositor's end, and is told: it answers with the microseconds
 * that took in the median. In the crowded case the other four behave badly all the time: one whose compositor has
 * stopped reading goes on sending, and one floods a compositor that reads, each with a page before every question of the
 * others; one does not poll while its compositor talks; and one pastes 64 MiB into a pipe that nobody reads. In the quiet
 * case they are silent. Ends when its input does.
 */
import { closeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { createPipe } from '../../native/index.ts';
import {
  command,
  FakeCompositor,
  GuestChannel,
  sendCommand,
  words,
  writeCommand,
} from '../../test/support/guest-channel.ts';
import { median } from './report.ts';

const PROGRAMS = 64;
const PASTE_BYTES = 64 * 2 ** 20;
const CHUNK_BYTES = 60_000;

const compositor = new FakeCompositor();
const programs = Array.from({ length: PROGRAMS }, () => {
  const guest = new GuestChannel(compositor.path).init();
  return { guest, socket: compositor.accept()! };
});
type Program = (typeof programs)[number];
const [stuck, flooding, silent, pasting, ...good] = programs as [
  Program,
  Program,
  Program,
  Program,
  ...Program[],
];

const poll = command(3, words(0, 0));
const [question, answer] = [sendCommand(Buffer.from('question')), Buffer.from('answer')];
const [page, chunk] = [sendCommand(new Uint8Array(4096)), new Uint8Array(CHUNK_BYTES)];

/** Returns what the bad ones do between two questions. */
async function misbehave(): Promise<() => void> {
  FakeCompositor.send(silent.socket, new Uint8Array(100_000));
  const [read, write] = createPipe();
  FakeCompositor.send(pasting.socket, Buffer.from('paste'), [write]);
  closeSync(write);
  const [message] = await pasting.guest.messages(1);
  if (message?.command !== 5) throw new Error('no pipe has come');
  const part = writeCommand(message.items[0]!.id, chunk);
  for (let written = 0; written < PASTE_BYTES; written += CHUNK_BYTES) pasting.guest.context.submit(part);
  process.once('exit', () => closeSync(read));
  return () => {
    try {
      stuck.guest.context.submit(page);
    } catch {
      // It has sent too much already.
    }
    flooding.guest.context.submit(page);
  };
}

function ask({ guest: { context }, socket }: Program): Promise<number> {
  return new Promise((resolve) => {
    const start = process.hrtime.bigint();
    context.submit(poll);
    context.fence(1, () => resolve(Number(process.hrtime.bigint() - start) / 1000));
    context.submit(question);
    FakeCompositor.take(socket);
    FakeCompositor.send(socket, answer);
  });
}

const betweenQuestions = process.argv[2] === 'crowded' ? await misbehave() : () => {};
const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);
say({});
for await (const rounds of createInterface(process.stdin)) {
  const times: number[] = [];
  for (let round = 0; round < Number(rounds); round++) {
    for (const program of good) {
      betweenQuestions();
      times.push(await ask(program));
      FakeCompositor.take(flooding.socket);
    }
  }
  say({ exchange: median(times) });
}
process.exit(0);
