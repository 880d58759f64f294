/** The seat as viewers use it. */
import type { Seat } from '../../input/seat.ts';
import type { InputNews } from './messages.ts';
import type { InputSink } from './viewing.ts';

/** `keyboardLayout` is what the guest's keyboard is, for viewers that say what was typed and not on which key. */
export function seatInput(seat: Seat, keyboardLayout: InputNews['keyboardLayout']): InputSink {
  return {
    get news() {
      const { hasKeyboard, hasPointer, leds } = seat;
      return { hasKeyboard, hasPointer, keyboardLayout, leds };
    },
    onNews: (listener) => seat.onLeds(listener),
    open(name) {
      const client = seat.open(name);
      return {
        async take(events) {
          for (const event of events) {
            const hasRoom = event.type === 'key' ? client.key(event.code, event.down) : client.pointer(event);
            if (!hasRoom) await client.drained();
          }
        },
        close: () => client.close(),
      };
    },
  };
}
