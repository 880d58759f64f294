/** Events that wait for buffers of the guest: a ring of a fixed size, so that nobody's pace costs memory. */
import { MAX_QUEUED_EVENTS } from './limits.ts';
import { EV_SYN } from './protocol.ts';
import type { InputEvent } from './state.ts';

export class EventQueue {
  readonly #ring = new Array<InputEvent | undefined>(MAX_QUEUED_EVENTS);
  #first = 0;
  #length = 0;
  #atStart = true;

  get length(): number {
    return this.#length;
  }

  /** Whether the next event is the first of a report. */
  get atStart(): boolean {
    return this.#atStart;
  }

  /** Takes all of them, or none when they do not fit. */
  push(events: readonly InputEvent[]): boolean {
    if (this.#length + events.length > MAX_QUEUED_EVENTS) return false;
    for (const event of events) this.#ring[(this.#first + this.#length++) % MAX_QUEUED_EVENTS] = event;
    return true;
  }

  /** The next event, which stays until `shift`. */
  peek(): InputEvent | undefined {
    return this.#length > 0 ? this.#ring[this.#first] : undefined;
  }

  shift(): void {
    this.#atStart = this.peek()?.type === EV_SYN;
    this.#ring[this.#first] = undefined;
    this.#first = (this.#first + 1) % MAX_QUEUED_EVENTS;
    this.#length--;
  }

  /** Drops all but the rest of a report that the guest has the beginning of; says what stays. */
  keepBegun(): InputEvent[] {
    const kept: InputEvent[] = [];
    if (!this.#atStart) {
      for (let event = this.peek(); event; event = this.peek()) {
        kept.push(event);
        this.shift();
        if (event.type === EV_SYN) break;
      }
    }
    this.clear();
    this.push(kept);
    this.#atStart = kept.length === 0;
    return kept;
  }

  clear(): void {
    this.#ring.fill(undefined);
    this.#first = 0;
    this.#length = 0;
    this.#atStart = true;
  }
}
