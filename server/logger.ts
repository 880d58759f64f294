/** The program's log: pino on standard error, as JSON lines or for people. */
import { type Logger, type LoggerOptions, pino } from 'pino';
import type { LogFormat, LogLevel } from './cli.ts';

const STDERR = 2;

/** Lines are written before the call returns: a log that loses its last line is no log. */
export async function makeLogger(level: LogLevel, format: LogFormat): Promise<Logger> {
  const options: LoggerOptions = { level, base: null };
  if (format === 'json') return pino(options, pino.destination({ dest: STDERR, sync: true }));
  const { default: pretty } = await import('pino-pretty');
  return pino(options, pretty({ destination: STDERR, sync: true, colorize: process.stderr.isTTY }));
}
