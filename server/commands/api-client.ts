/** The control API of a running server, as its commands use it. */
import { type IncomingMessage, request } from 'node:http';
import type { CursorState } from '../displays/cursor.ts';
import type { Rect } from '../displays/display.ts';

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

/** The server answered that it will not; `code` is that of its answer. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** An event of `GET /v1/displays/N/changes`. */
export interface ChangeEvent {
  readonly version: number;
  /** Of the picture. */
  readonly width: number;
  readonly height: number;
  readonly rects: readonly Rect[];
  readonly cursor?: CursorState;
}

export interface AskOptions {
  readonly body?: object;
  /** Hangs up. */
  readonly signal?: AbortSignal;
}

export class ApiClient {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /** @throws Error when nobody answers, ApiError when the answer is that it cannot be done */
  async ask(method: string, path: string, { body, signal }: AskOptions = {}): Promise<Answer> {
    const response = await this.#send(method, path, body, signal);
    const parts: Buffer[] = [];
    for await (const part of response) parts.push(part);
    const answer = {
      status: response.statusCode ?? 0,
      headers: response.headers,
      body: Buffer.concat(parts),
    };
    if (answer.status >= 200 && answer.status < 300) return answer;
    throw errorOf(answer);
  }

  /** A good answer's JSON, which is believed to have the shape that the server promises. */
  async askJson<T>(method: string, path: string, options: AskOptions = {}): Promise<T> {
    const { body } = await this.ask(method, path, options);
    return JSON.parse(body.toString()) as T;
  }

  /** What changes on a display until the server leaves, or the signal is aborted. @throws as `ask` does */
  async *changes(display: number, signal: AbortSignal): AsyncGenerator<ChangeEvent, void> {
    const response = await this.#send('GET', `/v1/displays/${display}/changes`, undefined, signal);
    if (response.statusCode !== 200) {
      const parts: Buffer[] = [];
      for await (const part of response) parts.push(part);
      throw errorOf({ status: response.statusCode ?? 0, headers: {}, body: Buffer.concat(parts) });
    }
    let text = '';
    for await (const part of response.setEncoding('utf8')) {
      const events = (text + part).split('\n\n');
      text = events.pop() ?? '';
      for (const event of events) {
        const data = /^data: (.*)$/m.exec(event)?.[1];
        if (data !== undefined) yield JSON.parse(data) as ChangeEvent;
      }
    }
  }

  #send(
    method: string,
    path: string,
    body: object | undefined,
    signal: AbortSignal | undefined,
  ): Promise<IncomingMessage> {
    const socketPath = this.#socketPath;
    return new Promise((resolve, reject) => {
      const headers = body ? { 'Content-Type': 'application/json' } : {};
      const sent = request({ socketPath, method, path, headers, ...(signal ? { signal } : {}) }, resolve);
      sent.on('error', (error) => reject(new Error(`no answer at ${socketPath}: ${error.message}`)));
      sent.end(body ? JSON.stringify(body) : undefined);
    });
  }
}

/** What the server says against it. */
function errorOf({ status, body }: Answer): ApiError {
  try {
    const { code, message } = JSON.parse(body.toString()).error;
    return new ApiError(status, String(code), String(message));
  } catch {
    // Not one of our servers; the status has to do.
    return new ApiError(status, 'unknown', `status ${status}`);
  }
}
