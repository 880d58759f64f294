/**
 * What policy and inspection cost for each message, in microseconds: `npx tsx test/server/cross-domain/wayland/cost.ts`.
 * Typical frames of a window, in one piece as sommelier sends them and message by message as the other proxies do.
 */
import { blob, bound, event, join, request, SURFACE, started } from './talk.ts';

const FRAMES = 20_000;
const ROUNDS = 11;
const POOL = 200;
const CALLBACK = 300;

function prepare() {
  const made = started({ titlePrefix: '[vm] ', clipboard: 'in' });
  made.guestWith([blob(5)], request('wl_shm.create_pool', bound('wl_shm'), POOL, null, 2 * 1920 * 1080 * 4));
  for (const i of [0, 1])
    made.guest(
      request('wl_shm_pool.create_buffer', POOL, POOL + 1 + i, i * 1920 * 1080 * 4, 1920, 1080, 7680, 1),
    );
  return made;
}

const frames = [0, 1].map((i) => [
  request('wl_surface.attach', SURFACE, POOL + 1 + i, 0, 0),
  request('wl_surface.damage_buffer', SURFACE, 10, 20, 200, 100),
  request('wl_surface.frame', SURFACE, CALLBACK),
  request('wl_surface.commit', SURFACE),
]);
const answers = [0, 1].map((i) => [
  event('wl_buffer.release', POOL + 2 - i),
  event('wl_callback.done', CALLBACK, 1),
  event('wl_display.delete_id', 1, CALLBACK),
]);
const joined = { frames: frames.map((all) => join(...all)), answers: answers.map((all) => join(...all)) };

const ways: Record<string, (connection: ReturnType<typeof prepare>['connection'], i: number) => number> = {
  'a frame in one piece': (connection, i) => {
    connection.fromGuest(joined.frames[i & 1]!, []);
    connection.fromHost(joined.answers[i & 1]!, 0);
    return 7;
  },
  'a message at a time': (connection, i) => {
    for (const message of frames[i & 1]!) connection.fromGuest(message, []);
    for (const message of answers[i & 1]!) connection.fromHost(message, 0);
    return 7;
  },
};

for (const [name, way] of Object.entries(ways)) {
  const { connection } = prepare();
  const costs = Array.from({ length: ROUNDS }, () => {
    let messages = 0;
    const start = process.hrtime.bigint();
    for (let i = 0; i < FRAMES; i++) messages += way(connection, i);
    return Number(process.hrtime.bigint() - start) / 1000 / messages;
  }).sort((a, b) => a - b);
  if (connection.failure) throw connection.failure;
  const [least, median, most] = [costs[0]!, costs[ROUNDS >> 1]!, costs.at(-1)!];
  console.log(`${name}: ${median.toFixed(2)} us per message (${least.toFixed(2)} to ${most.toFixed(2)})`);
}
