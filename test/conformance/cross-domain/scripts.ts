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

export const SCRIPTS: Readonly<Record<string, readonly Step[]>> = {
  'init-lengths': [
    ring(QUERY),
    ring(CHANNEL),
    init(QUERY),
    init(99, CHANNEL, 1),
    init(QUERY, CHANNEL, 77),
    init(QUERY, CHANNEL, 1, 1),
    { do: 'compositor accepts' },
    init(QUERY, CHANNEL, 1),
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
  'malformed-commands': [
    ...connected,
    submit(command(4, words(29, 0, ...new Array(84).fill(0)))),
    submit(command(3, words())),
    submit(new Uint8Array([3, 0, 0, 0, 0, 0, 0, 0])),
    submit(new Uint8Array([3, 0, 255, 255, 0, 0, 0, 0])),
    submit(command(8, words(0, 0, 0, 0, 0, 0))),
    submit(command(99, words())),
    submit(writeCommand(2, new Uint8Array(4))),
    submit(join(command(3, words(0, 0)), command(99, words()), sendCommand(sync))),
    send(sync),
    reads(sync),
  ],
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
