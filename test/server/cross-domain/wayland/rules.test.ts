import { describe, expect, test } from 'vitest';
import { MAX_GLOBALS } from '../../../../server/cross-domain/wayland/filter.ts';
import { type ClipboardDirection, DEFAULT_POLICY } from '../../../../server/cross-domain/wayland/policy.ts';
import {
  ANNOUNCED,
  announce,
  bound,
  event,
  forwarded,
  hex,
  join,
  messagesIn,
  pipe,
  REGISTRY,
  request,
  SURFACE,
  started,
  talk,
} from './talk.ts';

const EMPTY = new Uint8Array(0);
const HIDDEN = 'zwlr_screencopy_manager_v1';
const HIDDEN_NAME = ANNOUNCED.findIndex(([name]) => name === HIDDEN) + 1;

describe('globals', () => {
  const atRegistry = (policy = {}) => {
    const made = talk(policy);
    made.guest(request('wl_display.get_registry', 1, REGISTRY));
    return made;
  };

  test('what the policy does not name is not announced', () => {
    const { connection, host } = atRegistry();
    const { forward, reply } = host(announce());
    const names = ANNOUNCED.flatMap(([name], i) => (name === HIDDEN ? [] : [i + 1]));
    expect(
      messagesIn(forward[0]!.bytes).map(({ bytes }) =>
        new DataView(bytes.buffer, bytes.byteOffset).getUint32(8, true),
      ),
    ).toEqual(names);
    expect(reply).toEqual(EMPTY);
    expect(connection.counters.globalsHidden).toBe(1);
  });

  test('an unknown one is not announced even where the compositor has nothing else', () => {
    const { host } = atRegistry();
    expect(host(event('wl_registry.global', REGISTRY, 5, 'some_new_thing_v1', 1)).forward).toEqual([]);
    expect(host(event('wl_registry.global', REGISTRY, 6, 'constructor', 1)).forward).toEqual([]);
  });

  test('versions are announced no higher than the policy and the tables know', () => {
    const { connection, host } = atRegistry({ globals: { wl_compositor: 4, wl_shm: 2 } });
    const out = host(
      event('wl_registry.global', REGISTRY, 1, 'wl_compositor', 6),
      event('wl_registry.global', REGISTRY, 2, 'wl_shm', 1),
    );
    expect(hex(forwarded(out))).toBe(
      '02000000 00002400 01000000 0e000000 776c5f63 6f6d706f 7369746f 72000000 04000000' +
        ' 02000000 00001c00 02000000 07000000 776c5f73 686d0000 01000000',
    );
    expect(connection.counters.globalsCapped).toBe(1);
    const known = atRegistry().host(event('wl_registry.global', REGISTRY, 1, 'wl_shm', 77));
    expect(hex(forwarded(known)).slice(-8)).toBe('03000000');
  });

  test('binding a hidden one by its name is refused as a compositor refuses a wrong name', () => {
    const { connection, guest } = started();
    const out = guest(
      request('wl_display.sync', 1, 200),
      request('wl_registry.bind', REGISTRY, HIDDEN_NAME, HIDDEN, 3, 201),
      request('wl_display.sync', 1, 202),
    );
    expect(forwarded(out)).toEqual(request('wl_display.sync', 1, 200));
    expect(out.reply).toEqual(
      event('wl_display.error', 1, REGISTRY, 0, `invalid global ${HIDDEN} (${HIDDEN_NAME})`),
    );
    expect(connection.failure).toBeDefined();
    expect(connection.counters.bindsRefused).toBe(1);
  });

  test.each([
    ['under the name of another one', [1, HIDDEN, 1], `invalid global ${HIDDEN} (1)`],
    ['that was never there', [99, 'wl_shm', 1], 'invalid global wl_shm (99)'],
    ['in version 0', [2, 'wl_shm', 0], 'invalid version for global wl_shm (2): have 2, wanted 0'],
    ['in a version above', [2, 'wl_shm', 3], 'invalid version for global wl_shm (2): have 2, wanted 3'],
  ])('binding one %s is refused', (_, [name, owner, version], text) => {
    const { guest } = started();
    const out = guest(
      request('wl_registry.bind', REGISTRY, name as number, owner as string, version as number, 300),
    );
    expect(out.forward).toEqual([]);
    expect(out.reply).toEqual(event('wl_display.error', 1, REGISTRY, 0, text));
  });

  test('one that has gone may still be bound: the guest cannot know', () => {
    const { connection, guest, host } = started();
    const gone = event('wl_registry.global_remove', REGISTRY, 2);
    expect(forwarded(host(gone))).toEqual(gone);
    const bind = request('wl_registry.bind', REGISTRY, 2, 'wl_shm', 1, 300);
    expect(forwarded(guest(bind))).toEqual(bind);
    expect(connection.failure).toBeUndefined();
  });

  test('that a hidden one has gone is not told', () => {
    const { host } = started();
    expect(host(event('wl_registry.global_remove', REGISTRY, HIDDEN_NAME)).forward).toEqual([]);
  });

  test('there may be 4096 at once, and any number one after the other', () => {
    const { host } = atRegistry();
    const add = (name: number) =>
      host(event('wl_registry.global', REGISTRY, name, 'wl_output', 4)).forward.length;
    const remove = (name: number) => host(event('wl_registry.global_remove', REGISTRY, name)).forward.length;
    let announced = 0;
    for (let name = 0; name < MAX_GLOBALS; name++) announced += add(name);
    expect(announced).toBe(4096);
    expect(add(5000)).toBe(0);
    expect(remove(7)).toBe(1);
    expect(add(5001)).toBe(1);
    expect(remove(5001)).toBe(1);
    expect(add(5002)).toBe(1);
  });

  test('a request that is newer than the bound version is refused', () => {
    const { guest } = started();
    guest(
      request('wl_registry.bind', REGISTRY, 1, 'wl_compositor', 3, 300),
      request('wl_compositor.create_surface', 300, 301),
    );
    const out = guest(request('wl_surface.damage_buffer', 301, 0, 0, 1, 1));
    expect(out.forward).toEqual([]);
    expect(out.reply).toEqual(
      event('wl_display.error', 1, 1, 1, 'invalid method 9, object wl_surface#301 of version 3'),
    );
  });
});

const XDG_SURFACE = 110;
const TOPLEVEL = 111;
const withToplevel = (policy = {}) => {
  const made = started(policy);
  made.guest(
    request('xdg_wm_base.get_xdg_surface', bound('xdg_wm_base'), XDG_SURFACE, SURFACE),
    request('xdg_surface.get_toplevel', XDG_SURFACE, TOPLEVEL),
  );
  return made;
};

describe('titles and application ids', () => {
  const title = (policy: object, text: string) =>
    forwarded(withToplevel(policy).guest(request('xdg_toplevel.set_title', TOPLEVEL, text)));
  const titled = (text: string) => request('xdg_toplevel.set_title', TOPLEVEL, text);

  test('are left alone by default', () => {
    expect(title({}, 'Editor')).toEqual(titled('Editor'));
  });

  test('have the prefix in front', () => {
    expect(hex(title({ titlePrefix: '[vm] ' }, 'Hi'))).toBe('6f000000 02001400 08000000 5b766d5d 20486900');
    const { connection, guest } = withToplevel({ appIdPrefix: 'vm.' });
    expect(forwarded(guest(request('xdg_toplevel.set_app_id', TOPLEVEL, 'foot')))).toEqual(
      request('xdg_toplevel.set_app_id', TOPLEVEL, 'vm.foot'),
    );
    expect(connection.counters.appIdsChanged).toBe(1);
  });

  test('an activation token cannot name another application', () => {
    const { guest } = withToplevel({ appIdPrefix: 'vm.' });
    guest(request('xdg_activation_v1.get_activation_token', bound('xdg_activation_v1'), 120));
    expect(forwarded(guest(request('xdg_activation_token_v1.set_app_id', 120, 'foot')))).toEqual(
      request('xdg_activation_token_v1.set_app_id', 120, 'vm.foot'),
    );
  });

  test('are cut between two characters', () => {
    expect(title({ maxTitleBytes: 5 }, 'aäöü')).toEqual(titled('aäö'));
    expect(title({ maxTitleBytes: 6 }, 'aäöü')).toEqual(titled('aäö'));
    expect(title({ maxTitleBytes: 7 }, 'aäöü')).toEqual(titled('aäöü'));
    expect(title({ maxTitleBytes: 5 }, 'ab\u{1f600}')).toEqual(titled('ab'));
    expect(title({ maxTitleBytes: 5, titlePrefix: '>> ' }, 'äöü')).toEqual(titled('>> ä'));
  });

  test('never make a message of more than 4096 bytes', () => {
    const prefix = 'p'.repeat(128);
    const long = 'x'.repeat(65_000);
    expect(title({ maxTitleBytes: 4083, titlePrefix: prefix }, long)).toHaveLength(4096);
    const { guest } = withToplevel({ appIdPrefix: prefix });
    expect(forwarded(guest(request('xdg_toplevel.set_app_id', TOPLEVEL, long)))).toHaveLength(4096);
  });
});

const DEVICE = 120;
const SOURCE = 121;
const PRIMARY_DEVICE = 122;
const PRIMARY_SOURCE = 123;
const OFFER = 0xff00_0000;
const withDevices = (clipboard: ClipboardDirection) => {
  const made = started({ clipboard });
  const [manager, primary] = [
    bound('wl_data_device_manager'),
    bound('zwp_primary_selection_device_manager_v1'),
  ];
  made.guest(
    request('wl_data_device_manager.get_data_device', manager, DEVICE, bound('wl_seat')),
    request('wl_data_device_manager.create_data_source', manager, SOURCE),
    request('zwp_primary_selection_device_manager_v1.get_device', primary, PRIMARY_DEVICE, bound('wl_seat')),
    request('zwp_primary_selection_device_manager_v1.create_source', primary, PRIMARY_SOURCE),
  );
  return made;
};

const setSelection = request('wl_data_device.set_selection', DEVICE, SOURCE, 5);
const setPrimary = request(
  'zwp_primary_selection_device_v1.set_selection',
  PRIMARY_DEVICE,
  PRIMARY_SOURCE,
  5,
);
const startDrag = request('wl_data_device.start_drag', DEVICE, SOURCE, SURFACE, 0, 5);

const offered = join(
  event('wl_data_device.data_offer', DEVICE, OFFER),
  event('wl_data_offer.offer', OFFER, 'text/plain'),
);
const selection = event('wl_data_device.selection', DEVICE, OFFER);
const primaryOffered = join(
  event('zwp_primary_selection_device_v1.data_offer', PRIMARY_DEVICE, OFFER),
  event('zwp_primary_selection_offer_v1.offer', OFFER, 'text/plain'),
);
const primarySelection = event('zwp_primary_selection_device_v1.selection', PRIMARY_DEVICE, OFFER);
const dragEnter = event('wl_data_device.enter', DEVICE, 6, SURFACE, 1, 2, OFFER);
const dragMotion = event('wl_data_device.motion', DEVICE, 7, 3, 4);
const dragLeave = event('wl_data_device.leave', DEVICE);
const dragDrop = event('wl_data_device.drop', DEVICE);

describe.each(['both', 'out'] as const)('what the guest copies, clipboard "%s"', (clipboard) => {
  test('the host gets its clipboard, its primary selection and its drags', () => {
    const { guest } = withDevices(clipboard);
    const out = guest(setSelection, setPrimary, startDrag);
    expect(forwarded(out)).toEqual(join(setSelection, setPrimary, startDrag));
    expect(out.reply).toEqual(EMPTY);
  });
});

describe.each(['in', 'none'] as const)('what the guest copies, clipboard "%s"', (clipboard) => {
  test('its clipboard does not reach the host; the source is told that it was replaced', () => {
    const { connection, guest } = withDevices(clipboard);
    const out = guest(setSelection);
    expect(out.forward).toEqual([]);
    expect(hex(out.reply)).toBe('79000000 02000800');
    expect(connection.counters.selectionsRefused).toBe(1);
    expect(connection.failure).toBeUndefined();
  });

  test('its primary selection does not reach the host; the source is told that it was replaced', () => {
    const { connection, guest } = withDevices(clipboard);
    const out = guest(setPrimary);
    expect(out.forward).toEqual([]);
    expect(hex(out.reply)).toBe('7b000000 01000800');
    expect(connection.counters.primarySelectionsRefused).toBe(1);
  });

  test('a drag does not begin; the source is told that it is cancelled', () => {
    const { connection, guest } = withDevices(clipboard);
    const out = guest(startDrag);
    expect(out.forward).toEqual([]);
    expect(out.reply).toEqual(event('wl_data_source.cancelled', SOURCE));
    expect(connection.counters.dragsRefused).toBe(1);
  });

  test('the selection of the host cannot be taken away', () => {
    const { guest } = withDevices(clipboard);
    const out = guest(
      request('wl_data_device.set_selection', DEVICE, 0, 5),
      request('zwp_primary_selection_device_v1.set_selection', PRIMARY_DEVICE, 0, 5),
    );
    expect(out).toEqual({ forward: [], reply: EMPTY, droppedFds: [] });
  });

  test('a drag without data may stay among its own windows', () => {
    const { guest } = withDevices(clipboard);
    const drag = request('wl_data_device.start_drag', DEVICE, 0, SURFACE, 0, 5);
    expect(forwarded(guest(drag))).toEqual(drag);
  });

  test('nobody is told of a source that is none', () => {
    const { guest } = withDevices(clipboard);
    expect(guest(request('wl_data_device.set_selection', DEVICE, 0, 5)).reply).toEqual(EMPTY);
  });
});

describe.each(['both', 'in'] as const)('what the host copies, clipboard "%s"', (clipboard) => {
  test('the guest sees the clipboard and can ask for it', () => {
    const { guestWith, host } = withDevices(clipboard);
    expect(forwarded(host(offered, selection))).toEqual(join(offered, selection));
    const receive = request('wl_data_offer.receive', OFFER, 'text/plain', null);
    expect(guestWith([pipe], receive).forward).toEqual([{ bytes: receive, fds: [0], copies: [] }]);
  });

  test('the guest sees the primary selection', () => {
    const { host } = withDevices(clipboard);
    const out = host(primaryOffered, primarySelection);
    expect(forwarded(out)).toEqual(join(primaryOffered, primarySelection));
  });

  test('the guest sees drags', () => {
    const { host } = withDevices(clipboard);
    const drag = join(offered, dragEnter, dragMotion, dragDrop, dragLeave);
    expect(forwarded(host(drag))).toEqual(drag);
  });
});

describe.each(['out', 'none'] as const)('what the host copies, clipboard "%s"', (clipboard) => {
  const destroyOffer = request('wl_data_offer.destroy', OFFER);

  test('the guest sees that there is no clipboard; the compositor gets its offer back', () => {
    const { connection, host } = withDevices(clipboard);
    const out = host(offered, selection);
    expect(forwarded(out)).toEqual(event('wl_data_device.selection', DEVICE, 0));
    expect(out.reply).toEqual(destroyOffer);
    expect(connection.counters.selectionsHidden).toBe(1);
  });

  test('the guest sees that there is no primary selection; the compositor gets its offer back', () => {
    const { connection, host } = withDevices(clipboard);
    const out = host(primaryOffered, primarySelection);
    expect(forwarded(out)).toEqual(event('zwp_primary_selection_device_v1.selection', PRIMARY_DEVICE, 0));
    expect(out.reply).toEqual(request('zwp_primary_selection_offer_v1.destroy', OFFER));
    expect(connection.counters.primarySelectionsHidden).toBe(1);
  });

  test('the guest does not see drags; the offer goes back when the drag leaves', () => {
    const { connection, host } = withDevices(clipboard);
    expect(host(offered, dragEnter, dragMotion).forward).toEqual([]);
    const out = host(dragLeave);
    expect(out.forward).toEqual([]);
    expect(out.reply).toEqual(destroyOffer);
    expect(connection.counters.dragsHidden).toBe(1);
  });

  test('nor where one is dropped on it', () => {
    const { host } = withDevices(clipboard);
    const out = host(offered, dragEnter, dragDrop);
    expect(out.forward).toEqual([]);
    expect(out.reply).toEqual(destroyOffer);
  });

  test('a drag that offers nothing is seen', () => {
    const { host } = withDevices(clipboard);
    const own = event('wl_data_device.enter', DEVICE, 6, SURFACE, 1, 2, 0);
    expect(forwarded(host(own, dragMotion, dragLeave))).toEqual(join(own, dragMotion, dragLeave));
  });

  test('the guest cannot ask for an offer that it has guessed', () => {
    const { connection, guestWith, host } = withDevices(clipboard);
    host(offered);
    const out = guestWith([pipe], request('wl_data_offer.receive', OFFER, 'text/plain', null));
    expect(out).toEqual({
      forward: [],
      reply: event('wl_display.error', 1, 1, 0, `invalid object ${OFFER}`),
      droppedFds: [0],
    });
    expect(connection.failure).toBeDefined();
  });

  test('the compositor may use the id of an offer again', () => {
    const { connection, host } = withDevices(clipboard);
    host(offered, selection);
    const out = host(offered, event('wl_data_offer.source_actions', OFFER, 1), selection);
    expect(forwarded(out)).toEqual(event('wl_data_device.selection', DEVICE, 0));
    expect(out.reply).toEqual(destroyOffer);
    expect(connection.failure).toBeUndefined();
  });
});

test('the default lets everything be copied', () => {
  expect(DEFAULT_POLICY.clipboard).toBe('both');
});
