/**
 * A door to the compositor of our own: where it has the security-context protocol, guests connect through a socket that
 * the compositor knows to be theirs, and gives them less by itself. Where it has not, they connect as everybody does,
 * and only the policy of `wayland/` stands between.
 */
import { closeSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectUnix, createPipe, listenUnix, SystemError } from '../../native/index.ts';
import { viewOf } from '../wire.ts';
import { Channel } from './channel.ts';
import { eventNamed, type MessageSpec, requestNamed } from './wayland/schema.ts';
import { Cutter } from './wayland/stream.ts';
import { type Argument, decodeArguments, encodeMessage, WL_DISPLAY_ID } from './wayland/wire.ts';

const MANAGER = 'wp_security_context_manager_v1';
const ENGINE = 'vfio-user-gpu';
/** Ids of the only objects there are. */
const REGISTRY = 2;
const SEEN_CALLBACK = 3;
const MANAGER_ID = 4;
const CONTEXT_ID = 5;
const MADE_CALLBACK = 6;
const SYNC = requestNamed('wl_display.sync');
const GET_REGISTRY = requestNamed('wl_display.get_registry');
const BIND = requestNamed('wl_registry.bind');
const ERROR = eventNamed('wl_display.error');
const GLOBAL = eventNamed('wl_registry.global');
const CREATE_LISTENER = requestNamed(`${MANAGER}.create_listener`);
const SET_SANDBOX_ENGINE = requestNamed('wp_security_context_v1.set_sandbox_engine');
const SET_APP_ID = requestNamed('wp_security_context_v1.set_app_id');
const SET_INSTANCE_ID = requestNamed('wp_security_context_v1.set_instance_id');
const COMMIT = requestNamed('wp_security_context_v1.commit');

const BACKLOG = 64;

const encode = ({ opcode, args }: MessageSpec, id: number, values: Argument[]) =>
  encodeMessage(id, opcode, args, values);
/** What `connectUnix` says of a listener that nobody has any more. */
const NOBODY_THERE: readonly string[] = ['ECONNREFUSED', 'ENOENT'];

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
      } catch (error) {
        // Whatever else is wrong, no guest gets around the door: a compositor that is only busy will come back to it.
        if (!(error instanceof SystemError && NOBODY_THERE.includes(error.code))) throw error;
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
    this.#shut();
    if (this.#folder) rmSync(this.#folder, { recursive: true, force: true });
    this.#folder = undefined;
  }

  #shut(): void {
    this.#channel?.close();
    this.#channel = undefined;
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
    /** Does some of it. What cannot be done, or understood, ends it. */
    const attempt = (step: () => void) => {
      try {
        step();
      } catch (error) {
        this.#note('no security context', { reason: (error as Error).message });
        this.#shut();
      }
    };
    const channel = new Channel(fd, {
      received: (bytes, fds) => {
        for (const one of fds) closeSync(one);
        attempt(() =>
          cutter.push(bytes, (source, _, at, sizeBytes) => {
            // What comes behind the end is of no interest.
            if (this.#channel === channel && this.#isLast(channel, source.subarray(at, at + sizeBytes)))
              end();
          }),
        );
      },
      ended: end,
    });
    this.#channel = channel;
    attempt(() => {
      channel.send(encode(GET_REGISTRY, WL_DISPLAY_ID, [REGISTRY]), []);
      channel.send(encode(SYNC, WL_DISPLAY_ID, [SEEN_CALLBACK]), []);
    });
  }

  /** Looks at an event; true when nothing more is to be learned. */
  #isLast(channel: Channel, message: Uint8Array): boolean {
    const view = viewOf(message);
    const id = view.getUint32(0, true);
    const opcode = view.getUint16(4, true);
    if (id === REGISTRY && opcode === GLOBAL.opcode && !this.#open) {
      const [name, global] = decodeArguments(GLOBAL.args, message);
      if (global === MANAGER) this.#make(channel, name as number);
    }
    if (id === WL_DISPLAY_ID && opcode === ERROR.opcode) {
      const [, , reason] = decodeArguments(ERROR.args, message);
      throw new Error(`the compositor says: ${reason}`);
    }
    // Who leaves before the door is made, leaves without one.
    return id === MADE_CALLBACK || (id === SEEN_CALLBACK && !this.#open);
  }

  #make(channel: Channel, name: number): void {
    this.#folder ??= mkdtempSync(join(tmpdir(), 'vfio-user-gpu-'));
    const path = join(this.#folder, `wayland-${this.#doors++}`);
    const [theirs, ours] = createPipe();
    this.#open = { path, closeFd: ours };
    const given = [theirs];
    try {
      given.unshift(listenUnix(path, BACKLOG));
    } catch (error) {
      closeSync(theirs);
      throw error;
    }
    const messages = [
      encode(BIND, REGISTRY, [name, MANAGER, 1, MANAGER_ID]),
      encode(CREATE_LISTENER, MANAGER_ID, [CONTEXT_ID, null, null]),
      encode(SET_SANDBOX_ENGINE, CONTEXT_ID, [ENGINE]),
      encode(SET_APP_ID, CONTEXT_ID, [ENGINE]),
      encode(SET_INSTANCE_ID, CONTEXT_ID, [String(process.pid)]),
      encode(COMMIT, CONTEXT_ID, []),
      encode(SYNC, WL_DISPLAY_ID, [MADE_CALLBACK]),
    ];
    channel.send(
      Buffer.concat(messages),
      given.map((fd) => ({ fd, release: () => closeSync(fd) })),
    );
    this.#note('guests have a security context of the compositor', { path });
  }
}
