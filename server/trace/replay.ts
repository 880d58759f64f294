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

function standIns(message: RecordedMessage): number[] {
  if (message.cmd === DMA_MAP) {
    const { offset, size } = decode(dmaMap, payloadBytes(message));
    return Array.from({ length: message.nfds }, () => createMemfd('replay', offset + size));
  }
  return Array.from({ length: message.nfds }, () => createEventfd());
}

/** Sends each request of the client, waits for its answer, and hands both over. Closes what it made. */
export async function* replay(
  client: VfioUserClient,
  messages: readonly RecordedMessage[],
): AsyncGenerator<Replayed> {
  for (const [index, request] of messages.entries()) {
    if (request.dir !== 'c2s' || !isCommand(request)) continue;
    if (request.truncated) throw new Error(`message ${request.seq} was recorded incompletely`);
    const recorded = messages
      .slice(index + 1)
      .find(
        (one) => one.dir === 's2c' && !isCommand(one) && one.id === request.id && one.cmd === request.cmd,
      );
    const fds = standIns(request);
    try {
      const silent = (request.flags & FLAG_NO_REPLY) !== 0;
      const answer = silent ? undefined : client.reply(request.id);
      const header = { id: request.id, command: request.cmd, flags: request.flags, error: request.error };
      client.sendBytes(messageBytes(header, payloadBytes(request)), fds);
      const received = await answer;
      for (const fd of received?.fds ?? []) closeSync(fd);
      yield { request, recorded, received };
    } finally {
      for (const fd of fds) closeSync(fd);
    }
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
