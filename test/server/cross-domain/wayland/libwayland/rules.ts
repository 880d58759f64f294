/**
 * What libwayland takes and refuses, rule by rule, in bytes: README.md of the room has the same as a table. Each is a
 * rule for ours, and is asked of the judge where there is one.
 */
import { requestNamed } from '../../../../../server/cross-domain/wayland/schema.ts';
import type { Argument } from '../../../../../server/cross-domain/wayland/wire.ts';
import { event, join, request, unhex } from '../talk.ts';
import { COMPOSITOR, call, letGo, PROGRAM, post, type Step, send } from './cases.ts';

export interface Rule {
  readonly name: string;
  readonly side: typeof COMPOSITOR | typeof PROGRAM;
  readonly begin: readonly Saying[];
  readonly steps: readonly Saying[];
  /** All that is passed on after the beginning, and the end, in the words of `oracle.c`. */
  readonly ours: string;
  /** What libwayland makes of it where that is something else, on purpose. */
  readonly theirs?: RegExp | undefined;
  /** The same of libwayland from 1.24 on. */
  readonly newer?: RegExp | undefined;
}

/** A step, and what libwayland is known to say in it: ours hears that where there is no libwayland to ask. */
export interface Saying {
  readonly step: Step;
  readonly says: Uint8Array;
}

const NOTHING = new Uint8Array(0);
const says = (step: Step, bytes: Uint8Array = NOTHING): Saying => ({ step, says: bytes });
const bytes = (text: string, fds = 0): Saying => says(send(unhex(text), fds));

/** By the names that `oracle.ts` announces them under. */
const GLOBALS = [
  ['wl_compositor', 4],
  ['wl_seat', 7],
  ['wl_data_device_manager', 3],
  ['wl_shm', 1],
  ['wl_subcompositor', 1],
  ['wl_output', 4],
  ['xdg_wm_base', 3],
] as const;
const announced = join(
  ...GLOBALS.map(([name, version], i) => event('wl_registry.global', 2, i + 1, name, version)),
);

/** A program's objects: wl_registry 2 ... xdg_toplevel 10, wl_data_device 11, wl_data_source 12; 13 is free. */
const PROGRAM_BEGINS: readonly Saying[] = [
  says(send(request('wl_display.get_registry', 1, 2)), announced),
  says(
    send(
      join(
        request('wl_registry.bind', 2, 1, 'wl_compositor', 3, 3),
        request('wl_registry.bind', 2, 4, 'wl_shm', 1, 4),
        request('wl_registry.bind', 2, 7, 'xdg_wm_base', 1, 5),
        request('wl_registry.bind', 2, 2, 'wl_seat', 5, 6),
        request('wl_registry.bind', 2, 3, 'wl_data_device_manager', 3, 7),
        request('wl_compositor.create_surface', 3, 8),
        request('xdg_wm_base.get_xdg_surface', 5, 9, 8),
        request('xdg_surface.get_toplevel', 9, 10),
        request('wl_data_device_manager.get_data_device', 7, 11, 6),
        request('wl_data_device_manager.create_data_source', 7, 12),
        request('wl_compositor.create_region', 3, 13),
        request('wl_region.destroy', 13),
      ),
    ),
    event('wl_display.delete_id', 1, 13),
  ),
];

type FromProgram = readonly [
  name: string,
  steps: readonly Saying[],
  ours: string,
  theirs?: RegExp | undefined,
  newer?: RegExp,
];

const REFUSED = '!1 1\nx\n';
/** The compositor offers something: 0xff000000. */
const offered = says(post(11, 0), event('wl_data_device.data_offer', 11, 0xff00_0000));
const title = (text: string) => [bytes(`0a000000 ${text}`)];
const pool = (id: string, fds = 0) => bytes(`04000000 00001000 ${id} 00100000`, fds);
const bind = (name: number, owner: string, version: number, id: number) => [
  says(send(request('wl_registry.bind', 2, name, owner, version, id))),
];

const FROM_PROGRAMS: readonly FromProgram[] = [
  // Sizes.
  [
    'bytes behind the last argument mean nothing',
    title('02001400 04000000 61626300 00000000'),
    '10.2 s616263\n',
  ],
  [
    'nor does half a word',
    [...title('02001200 04000000 61626300 ffff'), bytes('01000000 00000c00 0d000000')],
    '10.2 s616263\n1.0 13\n',
  ],
  ['half a word is no argument', [bytes('01000000 00000b00 0d0000')], REFUSED],
  ['a size of 4', [bytes('01000000 00000400')], REFUSED],
  ['a size of 0', [bytes('01000000 00000000')], REFUSED],
  ['a size of 4 for no object: the object comes first', [bytes('39050000 00000400')], '!0 1\nx\n'],
  ['too few arguments', [bytes('01000000 00000800')], REFUSED],
  [
    'longer than 4096 bytes: for the compositor to say, whose limit can be set since 1.22.90',
    title(`02000c10 00100000 ${'61'.repeat(4095)}00`),
    `10.2 s${'61'.repeat(4095)}\n`,
    /^(x\n)?$/,
  ],
  // Objects and methods.
  ['no object', [bytes('39050000 00000800')], '!0 1\nx\n'],
  ['an object that is destroyed', [bytes('0d000000 00000800')], '!0 1\nx\n'],
  ['an object of the compositor that never was', [bytes('000000ff 02000800')], '!0 1\nx\n'],
  ['no method', [bytes('0a000000 0e000800')], REFUSED],
  [
    'a method that is newer than the object',
    [bytes('08000000 09001800 00000000 00000000 01000000 01000000')],
    REFUSED,
  ],
  // Strings.
  ['an absent string', title('02000c00 00000000'), REFUSED],
  [
    'an absent string where it may be',
    [offered, bytes('000000ff 00001000 05000000 00000000')],
    '4278190080.0 5 s-\n',
  ],
  ['an empty string', title('02001000 01000000 00000000'), '10.2 s\n'],
  ['a string without its zero', title('02001000 04000000 61626364'), REFUSED],
  ['a string that is longer than the message', title('02001000 05000000 61626300'), REFUSED],
  ['a string of nearly 4 GiB', title('02001000 fdffffff 61626300'), REFUSED],
  ['a string whose padding is something', title('02001000 03000000 616200ff'), '10.2 s6162\n'],
  [
    'a string with a zero in it ends there',
    title('02001400 06000000 61006263 64000000'),
    '10.2 s61\n',
    undefined,
    /^!1 1\nx\n$/,
  ],
  ['a string that is no UTF-8', title('02001000 03000000 ff610000'), '10.2 sefbfbd61\n'],
  // Objects as arguments.
  ['an absent object', [bytes('05000000 02001000 0d000000 00000000')], REFUSED],
  [
    'an absent object where it may be',
    [bytes('08000000 01001400 00000000 00000000 00000000')],
    '8.1 0 0 0\n',
  ],
  ['an object as argument that is none', [bytes('08000000 01001400 39050000 00000000 00000000')], REFUSED],
  ['one that is destroyed', [bytes('08000000 04000c00 0d000000')], REFUSED],
  ['one of another interface', [bytes('08000000 04000c00 0a000000')], REFUSED],
  ['one that the same request makes', [bytes('05000000 02001000 0d000000 0d000000')], REFUSED],
  // New ids.
  [
    'the next id',
    [bytes('03000000 01000c00 0d000000'), bytes('03000000 01000c00 0e000000')],
    '3.1 13\n3.1 14\n',
  ],
  ['the one behind the next', [bytes('03000000 01000c00 0f000000')], REFUSED],
  ['id 0', [bytes('03000000 01000c00 00000000')], REFUSED],
  ['the id of an object', [bytes('03000000 01000c00 08000000')], REFUSED],
  ["the compositor's first id", [bytes('03000000 01000c00 000000ff')], REFUSED],
  ['the last id', [bytes('03000000 01000c00 ffffffff')], REFUSED],
  [
    'an id is free behind the destructor',
    [bytes('03000000 01000c00 0d000000 0d000000 00000800 03000000 00000c00 0d000000')],
    '3.1 13\n13.0\n3.0 13\n',
  ],
  [
    'that of wl_display.sync at once',
    [bytes('01000000 00000c00 0d000000 01000000 00000c00 0d000000 03000000 01000c00 0d000000')],
    '1.0 13\n1.0 13\n3.1 13\n',
  ],
  [
    'and there is no callback any more',
    [bytes('01000000 00000c00 0d000000 0d000000 00000800')],
    '1.0 13\n!0 1\nx\n',
  ],
  [
    'one that the compositor has let go of, before it has said so',
    [says(letGo(9)), bytes('03000000 01000c00 09000000')],
    REFUSED,
    /^3\.1 9\n$/,
  ],
  // Descriptors.
  ['a descriptor that has not come', [pool('0d000000')], REFUSED],
  ['one that comes late', [pool('0d000000'), bytes('01000000 00000c00 0e000000', 1)], REFUSED],
  [
    'descriptors that come early are taken in order',
    [bytes('01000000 00000c00 0d000000', 2), pool('0d000000'), pool('0e000000')],
    '1.0 13\n4.0 13 h0 4096\n4.0 14 h1 4096\n',
  ],
  [
    'what has come to much stays',
    [pool('0d000000', 28), pool('0e000000')],
    '4.0 13 h0 4096\n4.0 14 h1 4096\n',
  ],
  [
    'more than 1024 that wait: ours says why',
    Array.from({ length: 37 }, () => bytes('01000000 00000c00 0d000000', 28)),
    `${'1.0 13\n'.repeat(36)}!2 1\nx\n`,
    /^(1\.0 13\n){36}x\n$/,
  ],
  // wl_registry.bind.
  ['a global that is none', bind(4000, 'wl_shm', 1, 13), '2.0 4000 s776c5f73686d 1 13\n!0 2\nx\n'],
  ['a global of another name', bind(1, 'wl_shm', 1, 13), '2.0 1 s776c5f73686d 1 13\n!0 2\nx\n'],
  ['version 0', bind(4, 'wl_shm', 0, 13), '2.0 4 s776c5f73686d 0 13\n!0 2\nx\n'],
  [
    'a version above',
    bind(5, 'wl_subcompositor', 2, 13),
    '2.0 5 s776c5f737562636f6d706f7369746f72 2 13\n!0 2\nx\n',
  ],
  [
    'a name behind a byte order mark',
    bind(4, '\u{feff}wl_shm', 1, 13),
    '2.0 4 sefbbbf776c5f73686d 1 13\n!0 2\nx\n',
  ],
  ['a new id that is wrong as well', bind(4000, 'wl_shm', 1, 15), REFUSED],
  [
    'bytes behind its arguments',
    [bytes('02000000 00002400 04000000 07000000 776c5f73 686d0000 01000000 0d000000 07000000')],
    '2.0 4 s776c5f73686d 1 13\n',
  ],
];

/** What the program of a case does, by itself or by words of libwayland. */
const programs = (indexOf: (name: string) => number) => {
  const say = (path: string, id: number, version: number, ...values: Argument[]): Saying => {
    const spec = requestNamed(path);
    const numbers = values.map((value) => (typeof value === 'number' ? value : 0));
    return says(call(indexOf, id, spec, version, numbers), request(path, id, ...values));
  };
  const bindTo = (name: number, owner: string, version: number, id: number): Saying =>
    says(
      call(indexOf, 2, requestNamed('wl_registry.bind'), version, [name, indexOf(owner), version, 0], owner),
      request('wl_registry.bind', 2, name, owner, version, id),
    );
  return { say, bindTo };
};
type Programs = ReturnType<typeof programs>;

/** wl_registry 2 ... wl_surface 6, wl_pointer 7, wl_keyboard 8, wl_data_device 9, wl_data_source 10, wl_keyboard 11. */
const compositorBegins = ({ say, bindTo }: Programs): readonly Saying[] => [
  say('wl_display.get_registry', 1, 1, 2),
  says(send(announced)),
  bindTo(1, 'wl_compositor', 3, 3),
  bindTo(2, 'wl_seat', 3, 4),
  bindTo(3, 'wl_data_device_manager', 3, 5),
  say('wl_compositor.create_surface', 3, 3, 6),
  say('wl_seat.get_pointer', 4, 3, 7),
  say('wl_seat.get_keyboard', 4, 3, 8),
  say('wl_data_device_manager.get_data_device', 5, 3, 9, 4),
  say('wl_data_device_manager.create_data_source', 5, 3, 10),
  say('wl_seat.get_keyboard', 4, 3, 11),
];

type FromCompositor = readonly [
  name: string,
  steps: (does: Programs) => readonly Saying[],
  ours: string,
  theirs?: RegExp | undefined,
  newer?: RegExp,
];

const keymap = (id: string, fds = 0) => bytes(`${id} 00001000 01000000 00100000`, fds);
const offer = (id: string) => bytes(`09000000 00000c00 ${id}`);
const all =
  (...steps: readonly Saying[]) =>
  () =>
    steps;
const releaseKeyboard = ({ say }: Programs) => say('wl_keyboard.release', 11, 3);

const FROM_COMPOSITORS: readonly FromCompositor[] = [
  // Sizes.
  [
    'bytes behind the last argument mean nothing',
    all(bytes('07000000 03001c00 01000000 02000000 03000000 00000000 ffffffff')),
    '7.3 1 2 3 0\n',
  ],
  [
    'nor does half a word',
    all(bytes('08000000 02001200 01000000 06000000 ffff'), bytes('08000000 02001000 02000000 06000000')),
    '8.2 1 6\n8.2 2 6\n',
  ],
  ['half a word is no argument', all(bytes('08000000 02000f00 01000000 060000')), 'x\n'],
  ['a size of 4', all(bytes('08000000 02000400')), 'x\n'],
  ['a size of 0', all(bytes('08000000 02000000')), 'x\n'],
  ['a size of 4 for no object: nothing good comes behind it', all(bytes('39050000 00000400')), 'x\n', /^$/],
  [
    'a size of 0 for no object, where libwayland stays for ever',
    all(bytes('39050000 00000000')),
    'x\n',
    /^$/,
  ],
  ['too few arguments', all(bytes('08000000 02000c00 01000000')), 'x\n'],
  // Objects and events.
  [
    'an event of no object is forgotten',
    all(bytes('39050000 00000c00 00000000'), bytes('08000000 02001000 02000000 06000000')),
    '8.2 2 6\n',
  ],
  [
    'and keeps its hands off descriptors',
    all(bytes('39050000 00001000 01000000 00100000', 1), keymap('08000000')),
    '8.0 1 h0 4096\n',
  ],
  ['no event', all(bytes('08000000 06000800')), 'x\n'],
  ['an event that is newer than the object', all(bytes('07000000 05000800')), '7.5\n'],
  [
    'an event of what the program has destroyed is forgotten with its descriptor',
    (does) => [releaseKeyboard(does), keymap('0b000000', 1), keymap('08000000', 1)],
    `8.0 1 h1 4096\n`,
  ],
  [
    'also when it has none',
    (does) => [releaseKeyboard(does), keymap('0b000000'), keymap('08000000', 1)],
    `8.0 1 h0 4096\n`,
  ],
  [
    'whatever is in it',
    (does) => [
      releaseKeyboard(does),
      bytes('0b000000 01001400 01000000 39050000 ffffffff'),
      bytes('0b000000 00000800'),
      bytes('0b000000 09000800'),
    ],
    '',
  ],
  // Strings and arrays.
  ['an absent string', all(bytes('0a000000 01000c00 00000000', 1)), 'x\n'],
  ['an absent string where it may be', all(bytes('0a000000 00000c00 00000000')), '10.0 s-\n'],
  ['a string without its zero', all(bytes('0a000000 00001000 04000000 61626364')), 'x\n'],
  ['a string that is longer than the message', all(bytes('0a000000 00001000 05000000 61626300')), 'x\n'],
  ['a string of nearly 4 GiB', all(bytes('0a000000 00001000 fdffffff 61626300')), 'x\n'],
  ['a string whose padding is something', all(bytes('0a000000 00001000 03000000 616200ff')), '10.0 s6162\n'],
  [
    'a string with a zero in it ends there',
    all(bytes('0a000000 00001000 04000000 61006200')),
    '10.0 s61\n',
    undefined,
    /^x\n$/,
  ],
  [
    'an array whose padding is something',
    all(bytes('08000000 01001c00 01000000 06000000 05000000 01020304 05ffffff')),
    '8.1 1 6 a0102030405\n',
  ],
  ['an array of nothing', all(bytes('08000000 01001400 01000000 06000000 00000000')), '8.1 1 6 a\n'],
  [
    'an array that is longer than the message',
    all(bytes('08000000 01001800 01000000 06000000 05000000 01020304')),
    'x\n',
  ],
  ['an array of nearly 4 GiB', all(bytes('08000000 01001800 01000000 06000000 ffffffff 01020304')), 'x\n'],
  // Objects as arguments.
  ['an absent object', all(bytes('08000000 02001000 01000000 00000000')), 'x\n'],
  ['an absent object where it may be', all(bytes('09000000 05000c00 00000000')), '9.5 0\n'],
  ['an object as argument that is none', all(bytes('08000000 02001000 01000000 39050000')), 'x\n'],
  ['one of another interface', all(bytes('08000000 02001000 01000000 07000000')), 'x\n'],
  [
    'one that the program has destroyed is absent, also where it may not be',
    ({ say }) => [say('wl_surface.destroy', 6, 3), bytes('08000000 02001000 01000000 06000000')],
    '8.2 1 0\n',
  ],
  [
    "one of the compositor's that the program has destroyed",
    ({ say }) => [
      offer('000000ff'),
      say('wl_data_offer.destroy', 0xff00_0000, 3),
      bytes('09000000 05000c00 000000ff'),
    ],
    '9.0 4278190080\nx\n',
  ],
  // New ids.
  ['the next id', all(offer('000000ff'), offer('010000ff')), '9.0 4278190080\n9.0 4278190081\n'],
  ['the one behind the next', all(offer('010000ff')), 'x\n'],
  ['id 0', all(offer('00000000')), 'x\n'],
  ["an id of the program's", all(offer('0c000000')), 'x\n'],
  ['the id of an object that lives', all(offer('000000ff'), offer('000000ff')), '9.0 4278190080\nx\n'],
  [
    'the id of one that the program has destroyed',
    ({ say }) => [offer('000000ff'), say('wl_data_offer.destroy', 0xff00_0000, 3), offer('000000ff')],
    '9.0 4278190080\n9.0 4278190080\n',
  ],
  [
    'what a destroyed object makes is nothing to the program',
    ({ say }) => [
      say('wl_data_device.release', 9, 3),
      offer('000000ff'),
      bytes('000000ff 00001000 02000000 61000000'),
      bytes('000000ff 07000800'),
    ],
    '',
  ],
  [
    'and none that an event can mention',
    ({ say }) => [
      say('wl_data_device_manager.get_data_device', 5, 3, 12, 4),
      say('wl_data_device.release', 9, 3),
      offer('000000ff'),
      bytes('0c000000 05000c00 000000ff'),
    ],
    'x\n',
  ],
  [
    'and the id behind it, which a compositor uses next: ours goes on',
    ({ say }) => [
      say('wl_data_device_manager.get_data_device', 5, 3, 12, 4),
      say('wl_data_device.release', 9, 3),
      offer('000000ff'),
      bytes('0c000000 00000c00 010000ff'),
    ],
    '12.0 4278190081\n',
    /^x\n$/,
  ],
  // Descriptors.
  ['a descriptor that has not come', all(keymap('08000000')), 'x\n'],
  ['one that comes late', all(keymap('08000000'), bytes('07000000 05000800', 1)), 'x\n'],
  [
    'descriptors that come early are taken in order',
    all(bytes('07000000 05000800', 2), keymap('08000000'), keymap('08000000')),
    `7.5\n8.0 1 h0 4096\n8.0 1 h1 4096\n`,
  ],
  // The display.
  [
    'wl_display.delete_id of nothing',
    all(bytes('01000000 01000c00 39050000'), bytes('07000000 05000800')),
    '7.5\n',
  ],
  [
    'an event behind wl_display.delete_id: the id is nothing',
    all(bytes('01000000 01000c00 07000000'), bytes('07000000 05000800')),
    '',
    /^7\.5\n$/,
  ],
  ['wl_display.error', all(bytes('01000000 00001800 06000000 02000000 03000000 6e6f0000')), 'x\n'],
  [
    'wl_display.error of no object',
    all(bytes('01000000 00001800 39050000 02000000 03000000 6e6f0000')),
    'x\n',
  ],
];

/** All rules; `indexOf` an interface as the judge has it. */
export function rulesOf(indexOf: (name: string) => number): readonly Rule[] {
  const does = programs(indexOf);
  const begin = compositorBegins(does);
  return [
    ...FROM_PROGRAMS.map(([name, steps, ours, theirs, newer]): Rule => {
      return { name, side: COMPOSITOR, begin: PROGRAM_BEGINS, steps, ours, theirs, newer };
    }),
    {
      name: 'a global that the guest has not been told of',
      side: COMPOSITOR,
      begin: [],
      steps: [
        says(
          send(
            join(request('wl_display.get_registry', 1, 2), request('wl_registry.bind', 2, 4, 'wl_shm', 1, 3)),
          ),
        ),
      ],
      ours: '1.1 2\n2.0 4 s776c5f73686d 1 3\n!0 2\nx\n',
      theirs: /^1\.1 2\n2\.0 4 s776c5f73686d 1 3\n$/,
    },
    ...FROM_COMPOSITORS.map(([name, steps, ours, theirs, newer]): Rule => {
      return { name, side: PROGRAM, begin, steps: steps(does), ours, theirs, newer };
    }),
  ];
}
