/** One after the other, in the order in which they came. */
export class Turns {
  #isTaken = false;
  readonly #waiting = new Set<() => void>();

  /**
   * Waits for a turn; it lasts until the function returned is called, once. Who gives up waiting leaves nothing here.
   *
   * @throws the reason of `signal` when that is aborted before the turn comes
   */
  async take(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.#isTaken) await this.#wait(signal);
    this.#isTaken = true;
    return () => {
      const [next] = this.#waiting;
      // The next one has it at once, before anybody who comes now.
      if (next) next();
      else this.#isTaken = false;
    };
  }

  #wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#waiting.delete(begin);
        reject(signal.reason);
      };
      const begin = () => {
        this.#waiting.delete(begin);
        signal.removeEventListener('abort', leave);
        resolve();
      };
      this.#waiting.add(begin);
      signal.addEventListener('abort', leave, { once: true });
    });
  }
}
