/** Requests that take their time: they end early when the client hangs up, or the server leaves. */
import { Problem } from './problem.ts';

export class Ongoing {
  readonly #controllers = new Set<AbortController>();

  /** `signal` is aborted when the request should end; call `end` when it has. */
  begin(request: Request): { signal: AbortSignal; end: () => void } {
    const controller = new AbortController();
    const hangUp = () => controller.abort();
    this.#controllers.add(controller);
    request.signal.addEventListener('abort', hangUp, { once: true });
    if (request.signal.aborted) hangUp();
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

  endAll(): void {
    for (const controller of this.#controllers) {
      controller.abort(new Problem(503, 'closed', 'the server is leaving'));
    }
  }
}
