/** A guest and a compositor that say what a test wants, on both ends of one connection. */
import {
  type FromGuest,
  type FromHost,
  type GuestBlob,
  type GuestFd,
  WaylandConnection,
  type WaylandOptions,
} from '../../../../server/cross-domain/wayland/connection.ts';
import { DEFAULT_POLICY, type Policy } from '../../../../server/cross-domain/wayland/policy.ts';
import { eventNamed, requestNamed } from '../../../../server/cross-domain/wayland/schema.ts';
import { type Argument, encodeMessage } from '../../../../server/cross-domain/wayland/wire.ts';
import { FakeCompositor, type GuestChannel, sendCommand } from '../../../support/guest-channel.ts';

export const request = (path: string, id: number, ...values: Argument[]): Uint8Array =>
  encodeMessage(id, requestNamed(path).opcode, requestNamed(path).args, values);
export const event = (path: string, id: number, ...values: Argument[]): Uint8Array =>
  encodeMessage(id, eventNamed(path).opcode, eventNamed(path).args, values);

export const join = (...parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));
export const hex = (bytes: Uint8Array): string =>
  Buffer.from(bytes)
    .toString('hex')
    .replaceAll(/(.{8})(?=.)/g, '$1 ');
export const unhex = (text: string): Uint8Array =>
  new Uint8Array(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'));

export const blob = (resourceId: number, sizeBytes?: number): GuestBlob => ({
  kind: 'blob',
  resourceId,
  ...(sizeBytes === undefined ? {} : { sizeBytes }),
});
export const pipe: GuestFd = { kind: 'pipe' };

/** What the compositor of these tests announces: interface, version. The name is the place in the list, from 1. */
export const ANNOUNCED: readonly (readonly [string, number])[] = [
  ['wl_compositor', 6],
  ['wl_shm', 2],
  ['wl_seat', 9],
  ['wl_data_device_manager', 3],
  ['xdg_wm_base', 6],
  ['zwp_primary_selection_device_manager_v1', 1],
  ['wp_viewporter', 1],
  ['xdg_toplevel_icon_manager_v1', 1],
  ['wp_single_pixel_buffer_manager_v1', 1],
  ['xdg_activation_v1', 1],
  ['zwlr_screencopy_manager_v1', 3],
];
export const REGISTRY = 2;
/** The id that each of the announced globals is bound to. */
export const bound = (name: string): number => 10 + ANNOUNCED.findIndex(([announced]) => announced === name);
export const SURFACE = 100;

/**
 * The first words of a program to a compositor that has shared memory and surfaces. Afterwards the guest's wl_registry,
 * wl_shm and wl_compositor are the objects 2, 3 and 4.
 */
export async function bindShmAndCompositor(guest: GuestChannel, socket: number): Promise<void> {
  const say = (bytes: Uint8Array) => guest.context.submit(sendCommand(bytes));
  say(request('wl_display.get_registry', 1, REGISTRY));
  const announced = [
    event('wl_registry.global', REGISTRY, 1, 'wl_shm', 1),
    event('wl_registry.global', REGISTRY, 2, 'wl_compositor', 6),
  ];
  FakeCompositor.send(socket, Buffer.concat(announced));
  await guest.messages(1);
  say(request('wl_registry.bind', REGISTRY, 1, 'wl_shm', 1, 3));
  say(request('wl_registry.bind', REGISTRY, 2, 'wl_compositor', 6, 4));
}

export interface Talk {
  readonly connection: WaylandConnection;
  guest(...messages: Uint8Array[]): FromGuest;
  guestWith(fds: readonly GuestFd[], ...messages: Uint8Array[]): FromGuest;
  host(...messages: Uint8Array[]): FromHost;
}

/**
 * Ids below this have all been used, and are free: a guest may make objects under any of them. A guest that begins has to
 * use them in order.
 */
export const USED_IDS = 1000;

/** Takes each id for a callback, which is done with at once. */
function useIds(connection: Pick<WaylandConnection, 'fromGuest' | 'fromHost'>): void {
  const ids = Array.from({ length: USED_IDS - 2 }, (_, i) => 2 + i);
  connection.fromGuest(join(...ids.map((id) => request('wl_display.sync', 1, id))), []);
  connection.fromHost(join(...ids.map((id) => event('wl_display.delete_id', 1, id))), 0);
}

export function talk(policy: Partial<Policy> = {}, { observe }: WaylandOptions = {}): Talk {
  let isReady = false;
  const connection = new WaylandConnection(
    { ...DEFAULT_POLICY, ...policy },
    { observe: (message) => isReady && observe?.(message) },
  );
  useIds(connection);
  isReady = true;
  return {
    connection,
    guest: (...messages) => connection.fromGuest(join(...messages), []),
    guestWith: (fds, ...messages) => connection.fromGuest(join(...messages), fds),
    host: (...messages) => connection.fromHost(join(...messages), 0),
  };
}

export const announce = (): Uint8Array =>
  join(...ANNOUNCED.map(([name, version], i) => event('wl_registry.global', REGISTRY, i + 1, name, version)));

/** The guest has bound everything that is announced to it by default, and has made one surface. */
export function started(policy: Partial<Policy> = {}, options: WaylandOptions = {}): Talk {
  const made = talk(policy, options);
  made.guest(request('wl_display.get_registry', 1, REGISTRY));
  made.host(announce());
  made.guest(
    ...ANNOUNCED.slice(0, -1).map(([name, version], i) =>
      request('wl_registry.bind', REGISTRY, i + 1, name, version, 10 + i),
    ),
    request('wl_compositor.create_surface', bound('wl_compositor'), SURFACE),
  );
  if (made.connection.failure) throw made.connection.failure;
  return made;
}

/** All bytes that go on. */
export const forwarded = ({ forward }: FromGuest | FromHost): Uint8Array =>
  join(...forward.map(({ bytes }) => bytes));
export const copiesOf = ({ forward }: FromGuest) =>
  forward.flatMap(({ copies }) =>
    copies.map(({ blob: { resourceId }, offset, lengthBytes }) => [resourceId, offset, lengthBytes]),
  );

export interface Said {
  readonly id: number;
  readonly opcode: number;
  readonly at: number;
  readonly bytes: Uint8Array;
}

/** A stream as messages; throws where it is not cut between messages. */
export function messagesIn(stream: Uint8Array): Said[] {
  const out: Said[] = [];
  const view = new DataView(stream.buffer, stream.byteOffset, stream.byteLength);
  for (let at = 0; at < stream.length; ) {
    const size = view.getUint16(at + 6, true);
    if (size < 8 || at + size > stream.length) throw new Error(`no message at ${at} of ${stream.length}`);
    const bytes = stream.subarray(at, at + size);
    out.push({ id: view.getUint32(at, true), opcode: view.getUint16(at + 4, true), at, bytes });
    at += size;
  }
  return out;
}
