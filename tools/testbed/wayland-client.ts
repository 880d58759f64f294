/**
 * A Wayland client on this machine, as small as it can be, for what no packaged program does: to be the keyboard of
 * sway, and to say which keymap a client gets.
 */
import { closeSync, readSync, writeSync } from 'node:fs';
import { connectUnix, createMemfd, READABLE, receive, send, Watch, WOULD_BLOCK } from '../../native/index.ts';

/** An argument of a request: a number, text, or a descriptor, which is sent along and is the caller's to close. */
type Argument = number | string | { readonly fd: number };

/** An event, and the descriptors that have come and that nobody has taken yet. */
export interface WaylandEvent {
  readonly object: number;
  readonly opcode: number;
  readonly args: Buffer;
}

const patienceMs = 10_000;
const DISPLAY = 1;
const REGISTRY = 2;

export class WaylandClient implements Disposable {
  readonly #fd: number;
  readonly #watch: Watch;
  readonly #globals = new Map<string, { readonly name: number; readonly version: number }>();
  readonly #fds: number[] = [];
  #nextId = 3;
  #incoming = Buffer.alloc(0);
  #events: WaylandEvent[] = [];
  #wake = () => {};
  #error: string | undefined;

  /** Use `connectToWayland`. */
  constructor(socketPath: string) {
    this.#fd = connectUnix(socketPath);
    this.#watch = new Watch(this.#fd, READABLE, () => this.#read());
    this.request(DISPLAY, 1, REGISTRY);
  }

  /** What the compositor offers. */
  get globals(): string[] {
    return [...this.#globals.keys()];
  }

  /** Makes an object of a global. */
  bind(wanted: string, version: number): number {
    const global = this.#globals.get(wanted);
    if (!global || global.version < version) throw new Error(`the compositor has no ${wanted} ${version}`);
    const id = this.newId();
    this.request(REGISTRY, 0, global.name, wanted, version, id);
    return id;
  }

  newId(): number {
    return this.#nextId++;
  }

  request(object: number, opcode: number, ...args: Argument[]): void {
    const parts = args.flatMap((argument) => {
      if (typeof argument === 'object') return [];
      if (typeof argument === 'number') return [word(argument)];
      const text = Buffer.from(`${argument}\0`);
      return [word(text.length), text, Buffer.alloc(-text.length & 3)];
    });
    const body = Buffer.concat(parts);
    const bytes = Buffer.concat([word(object), word(((8 + body.length) << 16) | opcode), body]);
    const fds = args.flatMap((argument) => (typeof argument === 'object' ? [argument.fd] : []));
    if (send(this.#fd, bytes, 0, bytes.length, fds) !== bytes.length) throw new Error('the socket is full');
  }

  /** The next event like this one; those before it are forgotten. */
  async event(object: number, opcode: number): Promise<WaylandEvent> {
    const deadline = Date.now() + patienceMs;
    for (;;) {
      for (let event = this.#events.shift(); event; event = this.#events.shift()) {
        if (event.object === object && event.opcode === opcode) return event;
      }
      if (this.#error) throw new Error(this.#error);
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(
          () => reject(new Error(`waited for event ${opcode} of object ${object}`)),
          Math.max(deadline - Date.now(), 0),
        );
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** Waits until the compositor has done everything so far. */
  async roundtrip(): Promise<void> {
    const callback = this.newId();
    this.request(DISPLAY, 0, callback);
    await this.event(callback, 0);
  }

  /** The oldest descriptor that has come; it is the caller's. */
  takeFd(): number {
    const fd = this.#fds.shift();
    if (fd === undefined) throw new Error('no descriptor has come');
    return fd;
  }

  [Symbol.dispose](): void {
    this.#watch.close();
    closeSync(this.#fd);
    for (const fd of this.#fds.splice(0)) closeSync(fd);
  }

  #read(): void {
    const bytes = Buffer.alloc(16_384);
    const fds = new Int32Array(64);
    const count = receive(this.#fd, bytes, 0, bytes.length, fds);
    if (count === WOULD_BLOCK) return;
    if (count === 0) {
      this.#error = 'the compositor has closed the connection';
      this.#watch.setEvents(0);
    }
    this.#fds.push(...fds.subarray(1, 1 + fds[0]!));
    this.#incoming = Buffer.concat([this.#incoming, bytes.subarray(0, count)]);
    while (this.#incoming.length >= 8) {
      const size = this.#incoming.readUInt16LE(6);
      if (this.#incoming.length < size) break;
      this.#take({
        object: this.#incoming.readUInt32LE(0),
        opcode: this.#incoming.readUInt16LE(4),
        args: this.#incoming.subarray(8, size),
      });
      this.#incoming = this.#incoming.subarray(size);
    }
    this.#wake();
  }

  #take(event: WaylandEvent): void {
    const { object, opcode, args } = event;
    if (object === DISPLAY && opcode === 0) this.#error = `protocol error: ${args.toString('latin1', 12)}`;
    if (object === REGISTRY && opcode === 0) {
      const size = args.readUInt32LE(4);
      const version = args.readUInt32LE(8 + Math.ceil(size / 4) * 4);
      this.#globals.set(args.toString('latin1', 8, 8 + size - 1), { name: args.readUInt32LE(0), version });
    }
    this.#events.push(event);
  }
}

const word = (value: number) => Buffer.from(Uint32Array.of(value).buffer);

/** Returns when it knows what there is. */
export async function connectToWayland(socketPath: string): Promise<WaylandClient> {
  const client = new WaylandClient(socketPath);
  try {
    await client.roundtrip();
    return client;
  } catch (error) {
    client[Symbol.dispose]();
    throw error;
  }
}

/** What a keyboard of the American layout has, by what xkeyboard-config calls its parts. */
const americanKeymap = `xkb_keymap {
  xkb_keycodes { include "evdev+aliases(qwerty)" };
  xkb_types { include "complete" };
  xkb_compat { include "complete" };
  xkb_symbols { include "pc+us+inet(evdev)" };
};\0`;

/** The keyboard of the seat, for as long as it lives. Sway lets everybody be one. */
export class VirtualKeyboard implements Disposable {
  readonly #client: WaylandClient;
  readonly #keyboard: number;
  #time = 1;

  /** Use `becomeKeyboard`. */
  constructor(client: WaylandClient, keymap: string) {
    this.#client = client;
    const seat = client.bind('wl_seat', 5);
    const manager = client.bind('zwp_virtual_keyboard_manager_v1', 1);
    this.#keyboard = client.newId();
    client.request(manager, 0, seat, this.#keyboard);
    const bytes = Buffer.from(keymap);
    const fd = createMemfd('keymap', bytes.length, { seals: 'size' });
    writeSync(fd, bytes, 0, bytes.length, 0);
    client.request(this.#keyboard, 0, XKB_V1, { fd }, bytes.length);
    closeSync(fd);
  }

  /** Presses a key and lets it go; by its number in Linux, such as 30 for A. */
  async type(key: number): Promise<void> {
    for (const isDown of [1, 0]) this.#client.request(this.#keyboard, 1, this.#time++, key, isDown);
    await this.#client.roundtrip();
  }

  /** Presses a key while Ctrl is held. */
  async typeWithControl(key: number): Promise<void> {
    const press = (one: number, isDown: 0 | 1) =>
      this.#client.request(this.#keyboard, 1, this.#time++, one, isDown);
    const hold = (modifiers: number) => this.#client.request(this.#keyboard, 2, modifiers, 0, 0, 0);
    press(KEY_LEFTCTRL, 1);
    hold(XKB_CONTROL);
    press(key, 1);
    press(key, 0);
    press(KEY_LEFTCTRL, 0);
    hold(0);
    await this.#client.roundtrip();
  }

  [Symbol.dispose](): void {
    this.#client[Symbol.dispose]();
  }
}

const XKB_V1 = 1;
const KEY_LEFTCTRL = 29;
/** The bit of Ctrl in the American keymap. */
const XKB_CONTROL = 1 << 2;

export async function becomeKeyboard(socketPath: string): Promise<VirtualKeyboard> {
  const client = await connectToWayland(socketPath);
  const keyboard = new VirtualKeyboard(client, americanKeymap);
  await client.roundtrip();
  return keyboard;
}

/** The pointer of a screen, for as long as it lives. Sway lets everybody be one. */
export class VirtualPointer implements Disposable {
  readonly #client: WaylandClient;
  readonly #pointer: number;
  readonly #width: number;
  readonly #height: number;
  #time = 1;

  /** Use `becomePointer`. */
  constructor(client: WaylandClient, width: number, height: number) {
    this.#client = client;
    this.#width = width;
    this.#height = height;
    const manager = client.bind('zwlr_virtual_pointer_manager_v1', 1);
    this.#pointer = client.newId();
    client.request(manager, 0, 0, this.#pointer);
  }

  async moveTo(x: number, y: number): Promise<void> {
    this.#client.request(this.#pointer, 1, this.#time++, x, y, this.#width, this.#height);
    await this.#finish();
  }

  /** The left button. */
  async press(isDown: boolean): Promise<void> {
    this.#client.request(this.#pointer, 2, this.#time++, BTN_LEFT, isDown ? 1 : 0);
    await this.#finish();
  }

  async #finish(): Promise<void> {
    this.#client.request(this.#pointer, 4);
    await this.#client.roundtrip();
  }

  [Symbol.dispose](): void {
    this.#client[Symbol.dispose]();
  }
}

const BTN_LEFT = 0x110;

export async function becomePointer(
  socketPath: string,
  { width, height }: { readonly width: number; readonly height: number },
): Promise<VirtualPointer> {
  return new VirtualPointer(await connectToWayland(socketPath), width, height);
}

/** The keymap that clients get at this moment. */
export async function readKeymap(socketPath: string): Promise<Buffer> {
  using client = await connectToWayland(socketPath);
  const seat = client.bind('wl_seat', 5);
  const keyboard = client.newId();
  client.request(seat, 1, keyboard);
  const { args } = await client.event(keyboard, 0);
  const fd = client.takeFd();
  try {
    const bytes = Buffer.alloc(args.readUInt32LE(4));
    return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, 0));
  } finally {
    closeSync(fd);
  }
}
