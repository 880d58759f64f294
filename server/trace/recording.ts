/** Recorded messages: one JSON object a line, as written by `trace --record`. */
import { readFileSync } from 'node:fs';
import { COMMAND_NAMES } from '../vfio-user/protocol.ts';

export type Direction = 'c2s' | 's2c';

export interface RecordedMessage {
  /** Recordings may hold several exchanges, each from a fresh connection. */
  readonly scenario: string;
  readonly seq: number;
  /** Seconds since the start of the scenario. */
  readonly t: number;
  readonly dir: Direction;
  readonly id: number;
  readonly cmd: number;
  readonly name: string;
  readonly flags: number;
  /** Header included. */
  readonly size: number;
  readonly error: number;
  /** Descriptors that came along; they themselves cannot be recorded. */
  readonly nfds: number;
  /** What follows the header, hexadecimal. */
  readonly payload: string;
  /** The payload was cut. */
  readonly truncated: boolean;
}

export const commandName = (command: number): string => COMMAND_NAMES[command] ?? `command ${command}`;

/** The messages of a recording, in order; lines that hold something else are left out. */
export function readRecording(path: string, scenario?: string): RecordedMessage[] {
  const lines = readFileSync(path, 'utf8').split('\n');
  const messages: RecordedMessage[] = [];
  for (const [index, line] of lines.entries()) {
    if (line.trim() === '') continue;
    let entry: Partial<RecordedMessage>;
    try {
      entry = JSON.parse(line);
    } catch {
      throw new Error(`${path}, line ${index + 1}: not JSON`);
    }
    if (entry.dir && entry.payload !== undefined && (!scenario || entry.scenario === scenario)) {
      messages.push(entry as RecordedMessage);
    }
  }
  return messages;
}

export const payloadBytes = (message: RecordedMessage): Uint8Array => Buffer.from(message.payload, 'hex');
