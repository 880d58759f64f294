/** What the vectors are recordings of. Results in here are blank: recording fills them in. */

import { event, join, request } from '../../server/cross-domain/wayland/talk.ts';
import { command, sendCommand, words, writeCommand } from '../../support/guest-channel.ts';
import type { SentFd, Step } from './kit.ts';

const QUERY = 11;
const CHANNEL = 12;
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const fourcc = (text: string) => Buffer.from(text, 'latin1').readUInt32LE();

const ring = (id: number): Step => ({ do: 'attach ring', id, sizeBytes: 4096 });
const submit = (bytes: Uint8Array): Step => ({ do: 'submit', hex: hex(bytes), isGood: true });
const query = (width: number, height: number, format: string): Step[] => [
  submit(command(2, words(width, height, fourcc(format), 0x11))),
  { do: 'query', ringId: QUERY, hex: '' },
];
const poll: Step = { do: 'poll', ringId: CHANNEL, hex: '' };
const pollInVain: Step = { do: 'poll in vain', ringId: CHANNEL };
const send = (bytes: Uint8Array, identifiers: readonly (readonly [number, number])[] = []) =>
  submit(sendCommand(bytes, identifiers));
const reads = (...messages: Uint8Array[]): Step => ({
  do: 'compositor reads',
  hex: hex(join(...messages)),
  fdSizes: [],
});
const writes = (messages: readonly Uint8Array[], fds: readonly SentFd[] = []): Step => ({
  do: 'compositor writes',
  hex: hex(join(...messages)),
  fds,
});
const init = (...body: number[]) => submit(command(1, words(...body)));
const connected: readonly Step[] = [
  ring(QUERY),
  ring(CHANNEL),
  init(QUERY, CHANNEL, 1),
  { do: 'compositor accepts' },
];
const sync = request('wl_display.sync', 1, 2);
const registry = request('wl_display.get_registry', 1, 2);
const globals = [
  event('wl_registry.global', 2, 1, 'wl_shm', 1),
  event('wl_registry.global', 2, 2, 'wl_seat', 7),
];
const keyboard = [
  send(registry),
  reads(registry),
  writes(globals),
  poll,
  send(request('wl_registry.bind', 2, 2, 'wl_seat', 7, 3)),
  send(request('wl_seat.get_keyboard', 3, 4)),
] as const;

const OFFER = 0xff00_0000;
const FIRST_READ_PIPE = 0x8000_0001;
const receive = request('wl_data_offer.receive', OFFER, 'text/plain', null);
/** A program with a seat and a clipboard, which holds something of another program's, and something of its own. */
const clipboard: readonly Step[] = [
  ...connected,
  send(registry),
  reads(registry),
  writes([...globals, event('wl_registry.global', 2, 3, 'wl_data_device_manager', 3)]),
  poll,
  ...[
    request('wl_registry.bind', 2, 2, 'wl_seat', 7, 3),
    request('wl_registry.bind', 2, 3, 'wl_data_device_manager', 3, 4),
    request('wl_data_device_manager.get_data_device', 4, 5, 3),
    request('wl_data_device_manager.create_data_source', 4, 6),
    request('wl_data_source.offer', 6, 'text/plain'),
  ].flatMap((message) => [send(message), reads(message)]),
  writes([
    event('wl_data_device.data_offer', 5, OFFER),
    event('wl_data_offer.offer', OFFER, 'text/plain'),
    event('wl_data_device.selection', 5, OFFER),
  ]),
  poll,
];
const paste = (...ids: number[]): Step[] => [
  send(
    join(...ids.map(() => receive)),
    ids.map((id) => [3, id]),
  ),
  reads(...ids.map(() => receive)),
];
const asked = event('wl_data_source.send', 6, 'text/plain', null);
const write = (id: number, text: string, hangUp = 0) =>
  submit(writeCommand(id, Buffer.from(text, 'latin1'), hangUp));
const works = [send(sync), reads(sync)];
const syncs = join(...Array.from({ length: 350 }, (_, i) => request('wl_display.sync', 1, 2 + i)));
const pool = (i: number) => request('wl_shm.create_pool', 3, 4 + i, null, 4096 * (i + 1));
const withShm: readonly Step[] = [
  ...connected,
  send(registry),
  reads(registry),
  writes(globals),
  poll,
  send(request('wl_registry.bind', 2, 1, 'wl_shm', 1, 3)),
  reads(request('wl_registry.bind', 2, 1, 'wl_shm', 1, 3)),
];

/** All that makes 32 x 32 pixels visible. */
const frame = join(
  request('wl_registry.bind', 2, 1, 'wl_shm', 1, 3),
  request('wl_registry.bind', 2, 3, 'wl_compositor', 4, 4),
  request('wl_shm.create_pool', 3, 5, null, 8192),
  request('wl_shm_pool.create_buffer', 5, 6, 0, 32, 32, 128, 1),
  request('wl_compositor.create_surface', 4, 7),
  request('wl_surface.attach', 7, 6, 0, 0),
  request('wl_surface.damage', 7, 0, 0, 32, 32),
  request('wl_surface.commit', 7),
);

export const SCRIPTS: Readonly<Record<string, readonly Step[]>> = {
  'init-lengths': [
    ring(QUERY),
    ring(CHANNEL),
    init(QUERY),
    init(99, CHANNEL, 1),
    init(QUERY, CHANNEL, 1, 1),
    { do: 'compositor accepts' },
    init(QUERY, CHANNEL, 1),
  ],
  'init-16': [
    ring(QUERY),
    init(QUERY, 1),
    { do: 'compositor accepts' },
    ...query(5000, 1, 'R8  '),
    ...works,
    writes([event('wl_callback.done', 2, 7)]),
    { do: 'poll', ringId: QUERY, hex: '' },
  ],
  'init-36': [
    ring(QUERY),
    ring(CHANNEL),
    init(QUERY, CHANNEL, 1, 0, 0, 0, 0),
    { do: 'compositor accepts' },
    ...works,
  ],
  'init-again': [...connected, init(QUERY, CHANNEL, 1), ...works],
  'init-other-channels': [
    ring(QUERY),
    ring(CHANNEL),
    init(QUERY, CHANNEL, 2),
    init(QUERY, CHANNEL, 0x10),
    init(QUERY, CHANNEL, 0x11),
    init(QUERY, CHANNEL, 77),
    init(QUERY, CHANNEL, 1),
    { do: 'compositor accepts' },
    ...works,
  ],
  'init-other-channel-ends': [
    ring(QUERY),
    ring(CHANNEL),
    init(QUERY, CHANNEL, 0x10),
    poll,
    poll,
    init(QUERY, CHANNEL, 1),
    { do: 'compositor accepts' },
    ...works,
  ],
  'init-without-rings': [
    init(QUERY, CHANNEL, 1),
    ring(QUERY),
    init(QUERY, CHANNEL, 1),
    ring(CHANNEL),
    init(QUERY, CHANNEL, 1),
    { do: 'compositor accepts' },
    ...works,
  ],
  'init-buffer-for-a-ring': [
    ring(QUERY),
    { do: 'attach buffer', id: 500, sizeBytes: 4096, fill: 0 },
    init(QUERY, 500, 1),
  ],
  images: [
    ring(QUERY),
    ring(CHANNEL),
    init(QUERY, CHANNEL, 0),
    ...query(1_920_000, 1, 'R8  '),
    ...query(5000, 1, 'R8  '),
    ...query(1, 1, 'XR24'),
    ...query(100, 100, 'XR24'),
    ...query(100, 100, 'NV12'),
    ...query(101, 101, 'YV12'),
    ...query(10, 10, 'ZZZZ'),
    ...query(0, 1, 'R8  '),
    ...query(65_536, 65_536, 'XR24'),
    { do: 'create blob', id: 4, sizeBytes: 4096, hex: '' },
    { do: 'create blob', id: 4, sizeBytes: 4000, hex: '' },
    { do: 'create blob', id: 0, sizeBytes: 4096, hex: '' },
    { do: 'create blob', id: 99, sizeBytes: 4096, hex: '' },
    pollInVain,
  ],
  'images-again': [
    ring(QUERY),
    ring(CHANNEL),
    init(QUERY, CHANNEL, 0),
    ...query(5000, 1, 'R8  '),
    ...query(5000, 1, 'R8  '),
    { do: 'create blob', id: 2, sizeBytes: 8192, hex: '' },
    { do: 'create blob', id: 2, sizeBytes: 8192, hex: '' },
    // By a guest whose pages are of 16 KiB.
    { do: 'create blob', id: 2, sizeBytes: 16_384, hex: '' },
  ],
  'send-and-receive': [
    ...connected,
    pollInVain,
    send(sync),
    reads(sync),
    writes([event('wl_callback.done', 2, 7)]),
    poll,
    pollInVain,
  ],
  pools: [
    ...connected,
    send(registry),
    reads(registry),
    writes(globals),
    poll,
    send(request('wl_registry.bind', 2, 1, 'wl_shm', 1, 3)),
    { do: 'attach buffer', id: 500, sizeBytes: 8192, fill: 5 },
    send(request('wl_shm.create_pool', 3, 4, null, 8192), [[1, 500]]),
    reads(request('wl_registry.bind', 2, 1, 'wl_shm', 1, 3), request('wl_shm.create_pool', 3, 4, null, 8192)),
    send(request('wl_shm_pool.destroy', 4), [[1, 501]]),
    poll,
    poll,
    poll,
    pollInVain,
  ],
  keymap: [
    ...connected,
    ...keyboard,
    writes([event('wl_keyboard.keymap', 4, 1, null, 12_345)], [{ memoryBytes: 12_345, fill: 0x78 }]),
    poll,
    { do: 'create blob', id: 2, sizeBytes: 12_288, hex: '' },
    { do: 'create blob', id: 2, sizeBytes: 16_384, hex: '' },
    { do: 'create blob', id: 2, sizeBytes: 16_384, hex: '' },
  ],
  'sends-of-all-lengths': [
    ...connected,
    submit(join(sendCommand(sync), sendCommand(request('wl_display.sync', 1, 3)))),
    reads(sync, request('wl_display.sync', 1, 3)),
    send(new Uint8Array(0)),
    send(syncs.subarray(24, 4120)),
    send(syncs.subarray(4120)),
    reads(syncs.subarray(24)),
  ],
  'buffers-at-once': [
    ...withShm,
    ...Array.from(
      { length: 28 },
      (_, i): Step => ({
        do: 'attach buffer',
        id: 500 + i,
        sizeBytes: 4096 * (i + 1),
        fill: 0,
      }),
    ),
    send(
      join(...Array.from({ length: 28 }, (_, i) => pool(i))),
      Array.from({ length: 28 }, (_, i) => [1, 500 + i]),
    ),
    reads(...Array.from({ length: 28 }, (_, i) => pool(i))),
    send(
      join(
        request('wl_shm.create_pool', 3, 32, null, 4096),
        request('wl_shm.create_pool', 3, 33, null, 4096),
      ),
      [
        [1, 500],
        [1, 500],
      ],
    ),
    reads(request('wl_shm.create_pool', 3, 32, null, 4096), request('wl_shm.create_pool', 3, 33, null, 4096)),
  ],
  pixels: [
    ...connected,
    send(registry),
    reads(registry),
    writes([...globals, event('wl_registry.global', 2, 3, 'wl_compositor', 4)]),
    poll,
    { do: 'attach buffer', id: 500, sizeBytes: 8192, fill: 5 },
    send(frame, [[1, 500]]),
    reads(frame),
    { do: 'compositor looks', fd: 0, hex: '00000000' },
  ],
  'sent-ring': [...withShm, send(pool(0), [[1, CHANNEL]]), poll],
  'long-stream': [
    ...connected,
    send(registry),
    reads(registry),
    writes(Array.from({ length: 180 }, (_, i) => event('wl_registry.global', 2, i + 1, 'wl_shm', 1))),
    poll,
    poll,
    pollInVain,
  ],
  paste: [
    ...clipboard,
    ...paste(FIRST_READ_PIPE),
    { do: 'compositor fills', fd: 0, bytes: 6000, fill: 0x61 },
    poll,
    poll,
    poll,
    ...paste(FIRST_READ_PIPE + 1),
    { do: 'compositor fills', fd: 1, bytes: 0, fill: 0 },
    poll,
    pollInVain,
  ],
  'paste-under-another-number': [
    ...clipboard,
    ...paste(FIRST_READ_PIPE + 4),
    ...paste(FIRST_READ_PIPE),
    { do: 'compositor fills', fd: 1, bytes: 5, fill: 0x61 },
    poll,
    poll,
  ],
  'paste-two-at-once': [
    ...clipboard,
    ...paste(FIRST_READ_PIPE, FIRST_READ_PIPE + 1),
    { do: 'compositor fills', fd: 1, bytes: 5, fill: 0x61 },
    poll,
    poll,
  ],
  copy: [
    ...clipboard,
    writes([asked], ['pipe']),
    poll,
    write(2, 'hello '),
    { do: 'compositor drains', pipe: 0, hex: hex(Buffer.from('hello ')), hasEnded: false },
    write(2, 'world', 1),
    { do: 'compositor drains', pipe: 0, hex: '', hasEnded: true },
    write(2, 'again'),
    write(77, 'nobody'),
  ],
  'copy-two-at-once': [...clipboard, writes([asked, asked], ['pipe', 'pipe']), poll, poll, pollInVain],
  'descriptor-that-means-nothing': [
    ...clipboard,
    writes([asked], ['pipe to read']),
    poll,
    write(2, 'nobody', 1),
  ],
  'malformed-commands': [
    ...connected,
    submit(command(4, words(29, 0, ...new Array(84).fill(0)))),
    submit(command(3, words())),
    submit(new Uint8Array([3, 0, 255, 255, 0, 0, 0, 0])),
    submit(command(8, words(0, 0, 0, 0, 0, 0))),
    submit(command(99, words())),
    submit(writeCommand(2, new Uint8Array(4))),
    submit(join(command(3, words(0, 0)), command(99, words()), sendCommand(sync))),
    send(sync),
    reads(sync),
  ],
  'size-of-nothing': [...connected, submit(new Uint8Array([3, 0, 0, 0, 0, 0, 0, 0])), ...works],
  'compositor-leaves': [
    ...connected,
    send(sync),
    reads(sync),
    writes([event('wl_callback.done', 2, 7)]),
    { do: 'compositor leaves' },
    poll,
    poll,
    poll,
    poll,
    pollInVain,
    send(sync),
  ],
};
