/**
 * When requests are answered (5.7.6.7). A request is done when its work is done; a fenced one also waits for the
 * fenced ones before it on its timeline. Timelines are the device's own, and one for each ring of each context: what
 * is slow on one of them holds nobody else up.
 */
import { type CtrlHeader, VIRTIO_GPU_FLAG_FENCE, VIRTIO_GPU_FLAG_INFO_RING_IDX } from './protocol.ts';

/** Calls back once, when the work is done; possibly before it returns. */
export type Work = (done: () => void) => void;

interface Waiting {
  readonly timeline: number | undefined;
  readonly answer: () => void;
  isDone: boolean;
}

const GLOBAL_TIMELINE = -1;
const RINGS = 256;
const timelineOf = ({ flags, ctxId, ringIdx }: CtrlHeader): number | undefined => {
  if (!(flags & VIRTIO_GPU_FLAG_FENCE)) return undefined;
  return flags & VIRTIO_GPU_FLAG_INFO_RING_IDX ? ctxId * RINGS + ringIdx : GLOBAL_TIMELINE;
};

export class Fences {
  readonly #timelines = new Map<number, Waiting[]>();
  #ready: (() => void)[] = [];
  #waiting = 0;
  /** Grows with every `clear`, so that what is done later is known to be of no interest. */
  #generation = 0;
  readonly #onReady: () => void;

  /** `onReady` is called when there is something to `answerReady`; perhaps more than once. */
  constructor(onReady: () => void) {
    this.#onReady = onReady;
  }

  /** Requests that are not answered yet. */
  get waiting(): number {
    return this.#waiting;
  }

  /**
   * Whether a request can be answered at once. If not, `answer` is called by `answerReady`, when `work` is done and
   * its turn has come.
   */
  pass(header: CtrlHeader, work: Work | undefined, answer: () => void): boolean {
    const timeline = timelineOf(header);
    if (!work && (timeline === undefined || !this.#timelines.has(timeline))) return true;
    const waiting: Waiting = { timeline, answer, isDone: work === undefined };
    this.#waiting++;
    if (timeline !== undefined) {
      const line = this.#timelines.get(timeline);
      if (line) line.push(waiting);
      else this.#timelines.set(timeline, [waiting]);
    }
    const generation = this.#generation;
    work?.(() => {
      if (waiting.isDone || generation !== this.#generation) return;
      waiting.isDone = true;
      this.#advance(waiting);
    });
    return false;
  }

  /** Everything on the rings of a context is done. */
  finishContext(ctxId: number): void {
    for (const [timeline, line] of this.#timelines) {
      if (timeline < 0 || Math.floor(timeline / RINGS) !== ctxId) continue;
      for (const waiting of line) waiting.isDone = true;
      this.#release(timeline, line);
    }
  }

  /** Answers what has become ready, in order. */
  answerReady(): void {
    if (this.#ready.length === 0) return;
    for (const answer of this.#ready.splice(0)) {
      this.#waiting--;
      answer();
    }
  }

  /** Forgets everything: nobody waits for answers any more. */
  clear(): void {
    this.#generation++;
    this.#timelines.clear();
    this.#ready = [];
    this.#waiting = 0;
  }

  #advance(waiting: Waiting): void {
    const { timeline } = waiting;
    if (timeline === undefined) {
      this.#ready.push(waiting.answer);
      this.#onReady();
      return;
    }
    const line = this.#timelines.get(timeline);
    if (line) this.#release(timeline, line);
  }

  #release(timeline: number, line: Waiting[]): void {
    let count = 0;
    while (line[count]?.isDone) count++;
    if (count === 0) return;
    for (const { answer } of line.splice(0, count)) this.#ready.push(answer);
    if (line.length === 0) this.#timelines.delete(timeline);
    this.#onReady();
  }
}
