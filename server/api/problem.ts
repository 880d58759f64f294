/** Why a request was not done, for programs and for people. */

/** The statuses of answers that are none. */
export type ProblemStatus = 400 | 404 | 408 | 409 | 413 | 503;

/** Of the parts of a request, in order: keys, characters, places. */
export interface Progress {
  readonly done: number;
  readonly of: number;
}

/** Ends a request; `code` is stable. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly status: ProblemStatus;
  readonly code: string;
  /** How much of the request was done, where that is known. */
  readonly progress: Progress | undefined;

  constructor(status: ProblemStatus, code: string, message: string, progress?: Progress) {
    super(message);
    this.status = status;
    this.code = code;
    this.progress = progress;
  }
}

/** How many of something go on at a time; more are refused. */
export class Places {
  readonly #what: string;
  #free: number;

  constructor(what: string, count: number) {
    this.#what = what;
    this.#free = count;
  }

  /** Takes a place until the function returned is called for the first time. @throws Problem when there is none */
  take(): () => void {
    if (this.#free === 0) throw new Problem(503, 'busy', `too many ${this.#what} at a time`);
    this.#free--;
    let isTaken = true;
    return () => {
      if (isTaken) this.#free++;
      isTaken = false;
    };
  }
}
