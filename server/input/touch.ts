/** The touch screen: up to ten contacts, as Linux's multitouch protocol B has them. */
import type { Log } from '../log.ts';
import { InputDevice } from './device.ts';
import { MAX_CONTACTS } from './limits.ts';
import {
  ABS_MT_POSITION_X,
  ABS_MT_POSITION_Y,
  ABS_MT_SLOT,
  ABS_MT_TRACKING_ID,
  BTN_TOUCH,
  EV_ABS,
  EV_KEY,
  INPUT_PROP_DIRECT,
  MAX_POSITION,
} from './protocol.ts';

/** Tracking ids are 16 bits. */
const MAX_TRACKING_ID = 0xffff;

export class TouchDevice extends InputDevice {
  /** By slot. */
  readonly #taken = new Array<boolean>(MAX_CONTACTS).fill(false);
  #nextTrackingId = 0;

  constructor(log: Log) {
    super(
      {
        name: 'vfio-user-gpu touch screen',
        serial: 'touch-0',
        productId: 3,
        properties: [INPUT_PROP_DIRECT],
        events: new Map<number, readonly number[]>([
          [EV_KEY, [BTN_TOUCH]],
          [EV_ABS, [ABS_MT_SLOT, ABS_MT_POSITION_X, ABS_MT_POSITION_Y, ABS_MT_TRACKING_ID]],
        ]),
        axes: new Map([
          [ABS_MT_SLOT, MAX_CONTACTS - 1],
          [ABS_MT_POSITION_X, MAX_POSITION],
          [ABS_MT_POSITION_Y, MAX_POSITION],
          [ABS_MT_TRACKING_ID, MAX_TRACKING_ID],
        ]),
      },
      log,
    );
  }

  /** A slot for a new contact; undefined when all are taken. The guest must have heard of the end of the one before. */
  begin(): number | undefined {
    const slot = this.#taken.findIndex((taken, index) => !taken && this.state.isFree(index));
    if (slot < 0) return undefined;
    this.#taken[slot] = true;
    this.state.axis(ABS_MT_TRACKING_ID, this.#nextTrackingId, slot);
    this.#nextTrackingId = (this.#nextTrackingId + 1) & MAX_TRACKING_ID;
    return slot;
  }

  move(slot: number, x: number, y: number): void {
    this.state.axis(ABS_MT_POSITION_X, x, slot);
    this.state.axis(ABS_MT_POSITION_Y, y, slot);
  }

  end(slot: number): void {
    this.#taken[slot] = false;
    this.state.lift(slot);
  }

  /** Tells the guest what was begun, moved and ended. False when the sender should wait for `drained`. */
  touch(): boolean {
    this.state.key(BTN_TOUCH, this.#taken.includes(true));
    return this.report();
  }
}
