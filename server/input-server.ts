/** The input devices of a server, each a function on a socket of its own, and the seat that uses them. */
import { FunctionServer, type FunctionServerOptions } from './function-server.ts';
import type { InputDevice } from './input/device.ts';
import { KeyboardDevice } from './input/keyboard.ts';
import { PCI_CLASS_INPUT_KEYBOARD, PCI_CLASS_INPUT_OTHER } from './input/protocol.ts';
import { type DisplaySize, Seat } from './input/seat.ts';
import { TabletDevice } from './input/tablet.ts';
import { TouchDevice } from './input/touch.ts';
import { type Log, SILENT_LOG } from './log.ts';

export type InputKind = 'keyboard' | 'tablet' | 'touch';

export interface InputServerOptions {
  /** Where the VMM finds which device; there are only those that have a socket. */
  readonly sockets: Readonly<Partial<Record<InputKind, string | undefined>>>;
  /** What the displays show, in order: positions are in pixels of that. */
  readonly displays: () => readonly DisplaySize[];
  readonly log?: Log;
  readonly events?: FunctionServerOptions['events'];
}

interface InputFunction {
  readonly kind: InputKind;
  readonly device: InputDevice;
  readonly served: FunctionServer;
}

export class InputServer {
  readonly seat: Seat;
  readonly functions: readonly InputFunction[];

  /** Listens when it returns. Throws when a socket cannot be had; nothing is left behind then. */
  constructor({ sockets, displays, log = SILENT_LOG, events }: InputServerOptions) {
    const functions: InputFunction[] = [];
    this.functions = functions;
    const serve = <D extends InputDevice>(
      kind: InputKind,
      Device: new (log: Log) => D,
      classCode: number,
    ): D | undefined => {
      const socketPath = sockets[kind];
      if (socketPath === undefined) return undefined;
      const device = new Device(log);
      functions.push({
        kind,
        device,
        served: new FunctionServer({ socketPath, device, classCode, log, events }),
      });
      return device;
    };
    try {
      this.seat = new Seat({
        keyboard: serve('keyboard', KeyboardDevice, PCI_CLASS_INPUT_KEYBOARD),
        tablet: serve('tablet', TabletDevice, PCI_CLASS_INPUT_OTHER),
        touch: serve('touch', TouchDevice, PCI_CLASS_INPUT_OTHER),
        displays,
      });
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Ends the connections and removes the sockets. */
  close(): void {
    for (const { served } of this.functions) served.close();
  }

  /** What is known of the seat, and of the devices, their clients and their guests: plain data. */
  info() {
    return {
      leds: this.seat.leds ?? null,
      clients: [...this.seat.clients],
      devices: this.functions.map(({ kind, served }) => ({ kind, ...served.info() })),
    };
  }

  /** What is counted of each device, at this moment. */
  metrics() {
    return this.functions.map(({ kind, device, served }) => {
      const { waiting, ...counters } = device.counters;
      return { kind, counters, waiting, clientConnected: served.metrics().clientConnected };
    });
  }
}
