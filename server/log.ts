/** What rooms need of a logger (pino has it), and a limit on how much a guest or client can make it write. */

export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export const SILENT_LOG: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

const WINDOW_MS = 10_000;
const LINES_PER_WINDOW = 10;

/**
 * Wraps `log` so that each kind of line is written at most ten times in ten seconds. The first line after a gap says
 * how many were left out. Kinds are a small fixed set chosen by the caller, never text from a guest.
 */
export class RateLimitedLog {
  readonly #log: Log;
  readonly #now: () => number;
  readonly #windows = new Map<string, { start: number; lines: number; suppressed: number }>();

  constructor(log: Log, now: () => number = () => performance.now()) {
    this.#log = log;
    this.#now = now;
  }

  write(level: keyof Log, kind: string, fields: object, message: string): void {
    const now = this.#now();
    let window = this.#windows.get(kind);
    if (!window || now - window.start >= WINDOW_MS) {
      if (window?.suppressed) fields = { ...fields, suppressed: window.suppressed };
      window = { start: now, lines: 0, suppressed: 0 };
      this.#windows.set(kind, window);
    }
    if (window.lines === LINES_PER_WINDOW) {
      window.suppressed++;
      return;
    }
    window.lines++;
    this.#log[level]({ kind, ...fields }, message);
  }
}
