/**
 * A door to the compositor of our own: where it has the security-context protocol, guests connect through a socket that
 * the compositor knows to be theirs, and gives them less by itself. Where it has not, they connect as everybody does,
 * and only the policy of `wayland/` stands between.
 */
import { closeSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectUnix, createPipe, listenUnix } from '../../native/index.ts';
import { Channel } from './channel.ts';
import { Cutter } from './wayland/stream.ts';
import { type ArgumentKind, decodeArguments, encodeMessage, WL_DISPLAY_ID } from './wayland/wire.ts';

const MANAGER = 'wp_security_context_manager_v1';
const ENGINE = 'vfio-user-gpu';
/** Ids of the only objects there are. */
const REGISTRY = 2;
const CALLBACK = 3;
const MANAGER_ID = 4;
const CONTEXT_ID = 5;
const WL_DISPLAY_SYNC = 0;
const WL_DISPLAY_GET_REGISTRY = 1;
const WL_REGISTRY_BIND = 0;
const WL_REGISTRY_GLOBAL = 0;
const CREATE_LISTENER = 1;
const SET_SANDBOX_ENGINE = 1;
const SET_APP_ID = 2;
const SET_INSTANCE_ID = 3;
const COMMIT = 4;

const shapes = (...kinds: ArgumentKind[]) => kinds.map((kind) => ({ kind, nullable: false }));
const GLOBAL = shapes('uint', 'string', 'uint');

export class SecurityContext implements Disposable {
  readonly #compositorPath: string;
  readonly #note: (message: string, fields: Record<string, unknown>) => void;
  /** Made when it is needed, gone with us. */
  #folder: string | undefined;
  /** Asks the compositor; undefined when it does not, or has answered. */
  #channel: Channel | undefined;
  /** The door, and what is closed to shut it. */
  #open: { readonly path: string; readonly closeFd: number } | undefined;
  #doors = 0;

  constructor(compositorPath: string, note: (message: string, fields: Record<string, unknown>) => void) {
    this.#compositorPath = compositorPath;
    this.#note = note;
    this.#ask();
  }

  /** A connection for a guest, through the door if there is one. Throws as `connectUnix` does. */
  connect(): number {
    if (this.#open) {
      try {
        return connectUnix(this.#open.path, { wait: false });
      } catch {
        // The compositor that made it is gone.
        this.#shut();
      }
    }
    // The guests after this one will have the door of a compositor that has come meanwhile.
    this.#ask();
    return connectUnix(this.#compositorPath, { wait: false });
  }

  /** Whether guests come through a door of their own. */
  get isOpen(): boolean {
    return this.#open !== undefined;
  }

  [Symbol.dispose](): void {
    this.#channel?.close();
    this.#channel = undefined;
    this.#shut();
    if (this.#folder) rmSync(this.#folder, { recursive: true, force: true });
    this.#folder = undefined;
  }

  #shut(): void {
    if (this.#open) closeSync(this.#open.closeFd);
    this.#open = undefined;
  }

  #ask(): void {
    if (this.#channel) return;
    let fd: number;
    try {
      fd = connectUnix(this.#compositorPath, { wait: false });
    } catch {
      return; // No compositor yet.
    }
    const cutter = new Cutter();
    const end = () => {
      channel.close();
      if (this.#channel === channel) this.#channel = undefined;
    };
    const channel = new Channel(fd, {
      received: (bytes, fds) => {
        for (const one of fds) closeSync(one);
        try {
          cutter.push(bytes, (source, _, at, sizeBytes) => {
            if (this.#isLast(channel, source.subarray(at, at + sizeBytes))) end();
          });
        } catch (error) {
          this.#note('no security context', { reason: (error as Error).message });
          end();
        }
      },
      ended: end,
    });
    this.#channel = channel;
    const say = (opcode: number, id: number) =>
      channel.send(encodeMessage(WL_DISPLAY_ID, opcode, shapes('new_id'), [id]), []);
    say(WL_DISPLAY_GET_REGISTRY, REGISTRY);
    say(WL_DISPLAY_SYNC, CALLBACK);
  }

  /** Looks at an event; true when nothing more is to be learned. */
  #isLast(channel: Channel, message: Uint8Array): boolean {
    const view = new DataView(message.buffer, message.byteOffset);
    const id = view.getUint32(0, true);
    if (id === REGISTRY && view.getUint16(4, true) === WL_REGISTRY_GLOBAL) {
      const [name, global] = decodeArguments(GLOBAL, message);
      if (global === MANAGER) this.#make(channel, name as number);
      return false;
    }
    // The answer to our sync, or an error.
    return true;
  }

  #make(channel: Channel, name: number): void {
    this.#folder ??= mkdtempSync(join(tmpdir(), 'vfio-user-gpu-'));
    const path = join(this.#folder, `wayland-${this.#doors++}`);
    const listener = listenUnix(path, 64);
    const [theirs, ours] = createPipe();
    const fd = (number: number) => ({ fd: number, release: () => closeSync(number) });
    const send = (
      object: number,
      opcode: number,
      kinds: ArgumentKind[],
      values: (number | string)[],
      fds: number[] = [],
    ) => channel.send(encodeMessage(object, opcode, shapes(...kinds), values), fds.map(fd));
    send(REGISTRY, WL_REGISTRY_BIND, ['uint', 'string', 'uint', 'new_id'], [name, MANAGER, 1, MANAGER_ID]);
    send(MANAGER_ID, CREATE_LISTENER, ['new_id'], [CONTEXT_ID], [listener, theirs]);
    send(CONTEXT_ID, SET_SANDBOX_ENGINE, ['string'], [ENGINE]);
    send(CONTEXT_ID, SET_APP_ID, ['string'], [ENGINE]);
    send(CONTEXT_ID, SET_INSTANCE_ID, ['string'], [String(process.pid)]);
    send(CONTEXT_ID, COMMIT, [], []);
    this.#shut();
    this.#open = { path, closeFd: ours };
    this.#note('guests have a security context of the compositor', { path });
  }
}
