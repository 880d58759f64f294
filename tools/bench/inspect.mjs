/**
 * inspect.mjs
 *
 * What policy and inspector of the built server take for a Wayland message, and nothing else. Prints `{}` when it is
 * ready. Each line is a number of frames: it answers with the nanoseconds of the mean message. A frame is attach,
 * damage, frame and commit of the guest, and release, done and delete_id of the compositor, each side in one piece.
 * Ends when its input does.
 */
import { createInterface } from 'node:readline';
import { WaylandConnection } from '../../dist/server/cross-domain/wayland/connection.js';
import { DEFAULT_POLICY } from '../../dist/server/cross-domain/wayland/policy.js';
import { eventNamed, requestNamed } from '../../dist/server/cross-domain/wayland/schema.js';
import { encodeMessage } from '../../dist/server/cross-domain/wayland/wire.js';

const [WIDTH, HEIGHT] = [1920, 1080];
const [REGISTRY, COMPOSITOR, SHM, POOL, BUFFER, SURFACE, CALLBACK] = [2, 3, 4, 5, 6, 7, 8];
const MESSAGES = 7;

const encode = ({ opcode, args }, id, values) => encodeMessage(id, opcode, args, values);
const request = (path, id, ...values) => encode(requestNamed(path), id, values);
const event = (path, id, ...values) => encode(eventNamed(path), id, values);
const all = (...messages) => new Uint8Array(Buffer.concat(messages));

const connection = new WaylandConnection(DEFAULT_POLICY);
const sizeBytes = WIDTH * HEIGHT * 4;
connection.fromGuest(request('wl_display.get_registry', 1, REGISTRY), []);
connection.fromHost(
  all(
    event('wl_registry.global', REGISTRY, 1, 'wl_compositor', 6),
    event('wl_registry.global', REGISTRY, 2, 'wl_shm', 1),
  ),
  0,
);
connection.fromGuest(
  all(
    request('wl_registry.bind', REGISTRY, 1, 'wl_compositor', 6, COMPOSITOR),
    request('wl_registry.bind', REGISTRY, 2, 'wl_shm', 1, SHM),
    request('wl_shm.create_pool', SHM, POOL, null, sizeBytes),
    request('wl_shm_pool.create_buffer', POOL, BUFFER, 0, WIDTH, HEIGHT, WIDTH * 4, 1),
    request('wl_compositor.create_surface', COMPOSITOR, SURFACE),
  ),
  [{ kind: 'blob', resourceId: 1, sizeBytes }],
);

const shown = all(
  request('wl_surface.attach', SURFACE, BUFFER, 0, 0),
  request('wl_surface.damage_buffer', SURFACE, 0, 0, WIDTH, HEIGHT),
  request('wl_surface.frame', SURFACE, CALLBACK),
  request('wl_surface.commit', SURFACE),
);
const done = all(
  event('wl_buffer.release', BUFFER),
  event('wl_callback.done', CALLBACK, 0),
  event('wl_display.delete_id', 1, CALLBACK),
);

const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);
say({});
for await (const frames of createInterface(process.stdin)) {
  const before = { ...connection.counters };
  const start = process.hrtime.bigint();
  for (let i = 0; i < Number(frames); i++) {
    connection.fromGuest(shown, []);
    connection.fromHost(done, 0);
  }
  const message = Number(process.hrtime.bigint() - start) / (MESSAGES * Number(frames));
  const { failure, counters } = connection;
  const seen = counters.guestMessages + counters.hostMessages - before.guestMessages - before.hostMessages;
  const dropped = counters.guestMessagesDropped + counters.hostMessagesDropped;
  const copied = counters.damagedBytes - before.damagedBytes;
  if (failure || seen !== MESSAGES * Number(frames) || dropped > 0 || copied !== sizeBytes * Number(frames))
    throw new Error(`${seen} messages, ${dropped} dropped, ${copied} bytes to copy, ${failure?.message}`);
  say({ message });
}
