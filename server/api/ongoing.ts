/** Requests that take their time: they end early when the client hangs up, or the server leaves. */
import { Problem } from './problem.ts';

export class Ongoing {
  readonly #controllers = new Set<AbortController>();
  #isOver = false;

  /** `signal` is aborted when the request should end; call `end` when it has. */
  begin(request: Request): { signal: AbortSignal; end: () => void } {
    const controller = new AbortController();
    const hangUp = () => controller.abort();
    this.#controllers.add(controller);
    request.signal.addEventListener('abort', hangUp, { once: true });
    if (request.signal.aborted) hangUp();
    if (this.#isOver) controller.abort(leaving());
    return {
      signal: controller.signal,
      end: () => {
        this.#controllers.delete(controller);
        request.signal.removeEventListener('abort', hangUp);
      },
    };
  }

  /** Does what takes a signal and its time. */
  async during<T>(request: Request, act: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { signal, end } = this.begin(request);
    try {
      return await act(signal);
    } finally {
      end();
    }
  }

  /** Those that begin later, on connections that are still there, end at once. */
  endAll(): void {
    this.#isOver = true;
    for (const controller of this.#controllers) controller.abort(leaving());
  }
}

const leaving = () => new Problem(503, 'closed', 'the server is leaving');
