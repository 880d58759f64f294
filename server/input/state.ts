/**
 * Keys, buttons and positions, as senders want them, as the guest is being told, and as it has been told. Events are the
 * difference, so whatever a guest has missed is made up for with the next report.
 */
import { ABS_MT_SLOT, ABS_MT_TRACKING_ID, EV_ABS, EV_KEY, NO_CONTACT } from './protocol.ts';

export interface InputEvent {
  readonly type: number;
  readonly code: number;
  /** Signed, 32 bits. */
  readonly value: number;
}

interface Entry extends InputEvent {
  /** The contact that the position belongs to; undefined for everything else. */
  readonly slot: number | undefined;
}

const idOf = ({ type, code, slot = -1 }: Omit<Entry, 'value'>) => ((slot + 1) << 24) | (type << 16) | code;

export class InputState {
  readonly #wanted = new Map<number, Entry>();
  /** What the guest knows when it has all that was reported. */
  readonly #told = new Map<number, Entry>();
  /** What is in the guest's buffers of that. */
  readonly #delivered = new Map<number, Entry>();
  /** In the order in which they changed. */
  readonly #changed = new Map<number, Entry>();
  #toldSlot: number | undefined;
  #deliveredSlot: number | undefined;

  /** Whether the guest knows less than it should. */
  get isChanged(): boolean {
    return this.#changed.size > 0;
  }

  key(code: number, down: boolean): void {
    this.#set({ type: EV_KEY, code, value: down ? 1 : 0, slot: undefined });
  }

  /** A position; with `slot` one of that contact. */
  axis(code: number, value: number, slot?: number): void {
    this.#set({ type: EV_ABS, code, value, slot });
  }

  /** Nothing touches there any more; where it was is of no interest. */
  lift(slot: number): void {
    this.axis(ABS_MT_TRACKING_ID, NO_CONTACT, slot);
    for (const [id, entry] of this.#wanted) {
      if (entry.slot !== slot || entry.code === ABS_MT_TRACKING_ID) continue;
      for (const map of [this.#wanted, this.#told, this.#delivered, this.#changed]) map.delete(id);
    }
  }

  /** Whether the guest knows of no contact in this slot. */
  isFree(slot: number): boolean {
    const told = this.#told.get(idOf({ type: EV_ABS, code: ABS_MT_TRACKING_ID, slot }));
    return (told?.value ?? NO_CONTACT) === NO_CONTACT;
  }

  /** What to tell the guest so that it knows everything; empty when it does. */
  difference(): InputEvent[] {
    const events: InputEvent[] = [];
    let slot = this.#toldSlot;
    for (const entry of this.#changed.values()) {
      if (entry.slot !== undefined && entry.slot !== slot) {
        slot = entry.slot;
        events.push({ type: EV_ABS, code: ABS_MT_SLOT, value: slot });
      }
      events.push({ type: entry.type, code: entry.code, value: entry.value });
    }
    return events;
  }

  /** The guest is being told the difference. */
  tell(): void {
    for (const [id, entry] of this.#changed) {
      this.#told.set(id, entry);
      if (entry.slot !== undefined) this.#toldSlot = entry.slot;
    }
    this.#changed.clear();
  }

  /** The guest has been given this event of a difference. */
  delivered({ type, code, value }: InputEvent): void {
    if (type === EV_ABS && code === ABS_MT_SLOT) {
      this.#deliveredSlot = value;
      return;
    }
    const isOfContact = type === EV_ABS && code > ABS_MT_SLOT;
    const entry = { type, code, value, slot: isOfContact ? this.#deliveredSlot : undefined };
    if (type === EV_KEY || type === EV_ABS) this.#delivered.set(idOf(entry), entry);
  }

  /**
   * What was reported and not delivered will not be, but for `rest`. Keys that are held stay wanted; a position was
   * wanted then, and is not any more.
   */
  withdraw(rest: readonly InputEvent[]): void {
    for (const event of rest) this.delivered(event);
    this.#told.clear();
    for (const [id, entry] of this.#delivered) {
      const isGone = entry.slot !== undefined && entry.code !== ABS_MT_TRACKING_ID && !this.#wanted.has(id);
      if (!isGone) this.#told.set(id, entry);
    }
    this.#toldSlot = this.#deliveredSlot;
    this.#changed.clear();
    for (const [id, wanted] of this.#wanted) {
      const told = this.#told.get(id);
      if (wanted.type === EV_KEY || wanted.slot !== undefined) this.#set(wanted);
      else if (told) this.#wanted.set(id, told);
      else this.#wanted.delete(id);
    }
  }

  /** There is another driver: it knows nothing, which is that no key is down and nothing touches. */
  forget(): void {
    this.#told.clear();
    this.#delivered.clear();
    this.#changed.clear();
    this.#toldSlot = undefined;
    this.#deliveredSlot = undefined;
    for (const entry of this.#wanted.values()) this.#set(entry);
  }

  #set(entry: Entry): void {
    const id = idOf(entry);
    this.#wanted.set(id, entry);
    const told = this.#told.get(id)?.value ?? valueAtRest(entry);
    if (told === entry.value) this.#changed.delete(id);
    else this.#changed.set(id, entry);
  }
}

/** What a driver takes for granted; undefined where it has to be told. */
function valueAtRest({ type, code, slot }: Entry): number | undefined {
  if (type === EV_KEY) return 0;
  return slot !== undefined && code === ABS_MT_TRACKING_ID ? NO_CONTACT : undefined;
}
