/** `vfio-user-gpu trace`: print what a VMM and a server say to each other, record it, or play a recording back. */
import { closeSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { acceptUnix, connectUnix, listenUnix, READABLE, Watch } from '../../native/index.ts';
import type { TraceConfig } from '../cli.ts';
import { removeStaleSocket } from '../sockets.ts';
import { Describer, type TracedMessage } from '../trace/describe.ts';
import { relay } from '../trace/proxy.ts';
import { commandName, type RecordedMessage, readRecording } from '../trace/recording.ts';
import { difference, replay } from '../trace/replay.ts';
import { VfioUserClient } from '../vfio-user/client.ts';
import { HEADER_SIZE } from '../vfio-user/protocol.ts';

export async function trace(config: TraceConfig): Promise<number> {
  if (config.replayFile !== undefined) return await playBack(config.replayFile, config);
  return await sitBetween(config.listenPath as string, config);
}

/** One client after the other, until a signal. */
async function sitBetween(listenPath: string, config: TraceConfig): Promise<number> {
  removeStaleSocket(listenPath);
  const listener = listenUnix(listenPath);
  const record = config.recordFile === undefined ? undefined : openSync(config.recordFile, 'w');
  const stopped = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve());
  });
  let connections = 0;
  const watch = new Watch(listener, READABLE, () => {
    const client = acceptUnix(listener);
    if (client === undefined) return;
    try {
      const server = connectUnix(config.connectPath);
      const scenario = `connection ${++connections}`;
      process.stdout.write(`-- ${scenario}\n`);
      const finished = () => process.stdout.write(`-- ${scenario} has ended\n`);
      relay(client, server, observer(scenario, record)).then(finished, complain);
    } catch (error) {
      closeSync(client);
      complain(error);
    }
  });
  process.stderr.write(`listening at ${listenPath}\n`);
  await stopped;
  watch.close();
  closeSync(listener);
  unlinkSync(listenPath);
  if (record !== undefined) closeSync(record);
  return 0;
}

const complain = (error: unknown) => process.stderr.write(`vfio-user-gpu: ${(error as Error).message}\n`);

/** Prints each message, and writes it to the recording. */
function observer(scenario: string, record: number | undefined): (message: TracedMessage) => void {
  const describer = new Describer();
  const start = performance.now();
  let seq = 0;
  return (message) => {
    process.stdout.write(`${describer.describe(message)}\n`);
    if (record === undefined) return;
    const line: RecordedMessage = {
      scenario,
      seq: seq++,
      t: Number(((performance.now() - start) / 1000).toFixed(6)),
      dir: message.dir,
      id: message.id,
      cmd: message.command,
      name: commandName(message.command),
      flags: message.flags,
      size: HEADER_SIZE + message.body.length,
      error: message.error,
      nfds: message.fdCount,
      payload: Buffer.from(message.body).toString('hex'),
      truncated: false,
    };
    writeSync(record, `${JSON.stringify(line)}\n`);
  };
}

/** Status 1 when an answer differs from the recorded one. */
async function playBack(file: string, config: TraceConfig): Promise<number> {
  const messages = readRecording(file, config.scenario);
  const scenarios = new Set(messages.map(({ scenario }) => scenario));
  if (scenarios.size !== 1) throw new Error(`choose one with --scenario: ${[...scenarios].join(', ')}`);
  const client = VfioUserClient.connect(config.connectPath);
  const describer = new Describer();
  let different = 0;
  try {
    for await (const replayed of replay(client, messages)) {
      const { request, received } = replayed;
      const body = Buffer.from(request.payload, 'hex');
      const sent = {
        dir: 'c2s',
        id: request.id,
        command: request.cmd,
        flags: request.flags,
        error: 0,
      } as const;
      process.stdout.write(`${describer.describe({ ...sent, body, fdCount: request.nfds })}\n`);
      if (received) {
        const line = describer.describe({ dir: 's2c', ...received, fdCount: received.fds.length });
        process.stdout.write(`${line}\n`);
      }
      const found = difference(replayed);
      if (found === undefined) continue;
      different++;
      process.stdout.write(`! different: ${found}\n`);
    }
  } finally {
    client.close();
  }
  process.stdout.write(`${different} answers are different\n`);
  return different === 0 ? 0 : 1;
}
