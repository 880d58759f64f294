/** An input device with its PCI face, and the verbs of the driver that Linux has for it. */
import type { InputDevice } from '../../server/input/device.ts';
import type { InputEvent } from '../../server/input/state.ts';
import type { FakeQueue } from '../../testing/fake-driver.ts';
import { FlatMemory } from '../../testing/flat-memory.ts';
import { powerOn } from '../../testing/power-on.ts';

export const EVENTS = 0;
export const STATUS = 1;
const EVENT_BYTES = 8;

export class InputMachine<D extends InputDevice = InputDevice> {
  readonly device: D;
  readonly machine: ReturnType<typeof powerOn<D>>;
  /** Addresses of event buffers by descriptor. */
  #buffers: number[] = [];
  #free: number[] = [];

  constructor(device: D) {
    this.device = device;
    this.machine = powerOn(device, { memory: new FlatMemory(8 << 20) });
  }

  get driver() {
    return this.machine.driver;
  }

  get eventQueue(): FakeQueue {
    return this.driver.queue(EVENTS);
  }

  /** A driver comes, with `buffers` event buffers. */
  bringUp(buffers = 64): this {
    this.driver.bringUp();
    const { memory, eventQueue } = this;
    this.#buffers = Array.from({ length: eventQueue.size }, () => memory.allocate(EVENT_BYTES));
    this.#free = this.#buffers.map((_, index) => index);
    return this.supply(buffers);
  }

  get memory() {
    return this.machine.memory;
  }

  /** How many buffers the driver can still give. */
  get free(): number {
    return this.#free.length;
  }

  /** Gives the device so many empty buffers, and rings. */
  supply(count: number): this {
    for (const index of this.#free.splice(0, count)) {
      const address = this.#buffers[index] as number;
      this.memory.bytes(address, EVENT_BYTES).fill(0xee);
      this.eventQueue.setDescriptor(index, { address, length: EVENT_BYTES, flags: 2 });
      this.eventQueue.makeAvailable(index);
    }
    this.driver.kick(EVENTS).run();
    return this;
  }

  /** What has come since the last call, as lines of type, code and value. */
  take(): string[] {
    this.driver.run();
    return this.eventQueue.takeUsed().map(({ head, written }) => {
      this.#free.push(head);
      if (written !== EVENT_BYTES) return `${written} bytes`;
      const data = this.memory.data(this.#buffers[head] as number, EVENT_BYTES);
      return line({
        type: data.getUint16(0, true),
        code: data.getUint16(2, true),
        value: data.getInt32(4, true),
      });
    });
  }

  /** The same, and the buffers go back at once. */
  takeAndReturn(): string[] {
    const taken = this.take();
    this.supply(taken.length);
    return taken;
  }

  /** The driver writes an event to the status queue, or any bytes. */
  sendStatus(...events: readonly (InputEvent | Uint8Array)[]): void {
    const queue = this.driver.queue(STATUS);
    for (const event of events) {
      const bytes = event instanceof Uint8Array ? event : statusBytes(event);
      const address = this.memory.allocate(Math.max(bytes.length, 1));
      this.memory.bytes(address, bytes.length).set(bytes);
      queue.add([{ address, length: bytes.length }]);
    }
    this.driver.kick(STATUS).run();
  }

  /** What the configuration answers to a selection. */
  config(select: number, subsel = 0): Uint8Array {
    this.driver.setDeviceConfig(0, select, 1).setDeviceConfig(1, subsel, 1);
    const size = this.driver.deviceConfig(2, 1);
    return Uint8Array.from({ length: size }, (_, i) => this.driver.deviceConfig(8 + i, 1));
  }
}

export const line = ({ type, code, value }: InputEvent) => `${type} ${code} ${value}`;

export function statusBytes({ type, code, value }: InputEvent): Uint8Array {
  const bytes = new Uint8Array(EVENT_BYTES);
  const data = new DataView(bytes.buffer);
  data.setUint16(0, type, true);
  data.setUint16(2, code, true);
  data.setInt32(4, value, true);
  return bytes;
}

/** Bit numbers of a set. */
export const bitsOf = (bitmap: Uint8Array): number[] =>
  [...bitmap].flatMap((byte, i) =>
    [...Array(8).keys()].filter((bit) => byte & (1 << bit)).map((bit) => i * 8 + bit),
  );
