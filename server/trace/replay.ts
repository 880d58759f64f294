/**
 * Plays the client's side of a recording against a server and compares the answers. Descriptors cannot be
 * recorded, so others stand in: a file of the right size for memory, eventfds for interrupts.
 */
import { closeSync } from 'node:fs';
import { createEventfd, createMemfd } from '../../native/index.ts';
import { messageBytes, type Received, type VfioUserClient } from '../vfio-user/client.ts';
import { DMA_MAP, dmaMap, FLAG_NO_REPLY, FLAG_TYPE_MASK, TYPE_COMMAND } from '../vfio-user/protocol.ts';
import { decode } from '../wire.ts';
import { payloadBytes, type RecordedMessage } from './recording.ts';

/** One request of the recording, the answer it had then, and the answer it has now. */
export interface Replayed {
  readonly request: RecordedMessage;
  /** Undefined where the recording has no answer. */
  readonly recorded: RecordedMessage | undefined;
  /** Undefined for a request that wants no answer. */
  readonly received: Received | undefined;
}

const isCommand = (message: RecordedMessage) => (message.flags & FLAG_TYPE_MASK) === TYPE_COMMAND;

/** One file stands in for all of the client's memory, as it is with most clients; large enough for every window. */
function makeMemory(messages: readonly RecordedMessage[]): number | undefined {
  const ends = messages
    .filter((message) => message.cmd === DMA_MAP && isCommand(message) && message.nfds > 0)
    .map((message) => decode(dmaMap, payloadBytes(message)))
    .map(({ offset, size }) => offset + size);
  return ends.length > 0 ? createMemfd('replay', Math.max(...ends)) : undefined;
}

/** Sends each request of the client, waits for its answer, and hands both over. Closes what it made. */
export async function* replay(
  client: VfioUserClient,
  messages: readonly RecordedMessage[],
): AsyncGenerator<Replayed> {
  const memory = makeMemory(messages);
  try {
    yield* replayOver(client, messages, memory);
  } finally {
    if (memory !== undefined) closeSync(memory);
  }
}

async function* replayOver(
  client: VfioUserClient,
  messages: readonly RecordedMessage[],
  memory: number | undefined,
): AsyncGenerator<Replayed> {
  for (const [index, request] of messages.entries()) {
    if (request.dir !== 'c2s' || !isCommand(request)) continue;
    if (request.truncated) throw new Error(`message ${request.seq} was recorded incompletely`);
    const recorded = messages
      .slice(index + 1)
      .find(
        (one) => one.dir === 's2c' && !isCommand(one) && one.id === request.id && one.cmd === request.cmd,
      );
    const isMap = request.cmd === DMA_MAP;
    const fds = Array.from({ length: request.nfds }, () => (isMap ? (memory as number) : createEventfd()));
    const silent = (request.flags & FLAG_NO_REPLY) !== 0;
    const answer = silent ? undefined : client.reply(request.id);
    const header = { id: request.id, command: request.cmd, flags: request.flags, error: request.error };
    try {
      client.sendBytes(messageBytes(header, payloadBytes(request)), fds);
    } finally {
      if (!isMap) for (const fd of fds) closeSync(fd);
    }
    const received = await answer;
    for (const fd of received?.fds ?? []) closeSync(fd);
    yield { request, recorded, received };
  }
}

/** What is different about an answer apart from its data, which belongs to the device; undefined when nothing is. */
export function difference({ recorded, received }: Replayed): string | undefined {
  if (!recorded || !received) return undefined;
  if (recorded.flags !== received.flags) return `flags ${recorded.flags} then, ${received.flags} now`;
  if (recorded.error !== received.error) return `errno ${recorded.error} then, ${received.error} now`;
  if (recorded.size !== received.sizeBytes) return `${recorded.size} bytes then, ${received.sizeBytes} now`;
  if (recorded.nfds !== received.fds.length) return `${recorded.nfds} fds then, ${received.fds.length} now`;
  return undefined;
}
