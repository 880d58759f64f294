import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { DECISIONS, type Verdict } from '../../../../server/cross-domain/wayland/globals.ts';
import type { Policy } from '../../../../server/cross-domain/wayland/policy.ts';
import {
  GLOBALS,
  INTERFACES,
  interfaceNamed,
  type MessageSpec,
} from '../../../../server/cross-domain/wayland/schema.ts';
import { copiesOf, event, forwarded, hex, join, pipe, REGISTRY, request, type Talk, talk } from './talk.ts';

const withVerdict = (...verdicts: Verdict[]): string[] =>
  [...DECISIONS].flatMap(([name, { verdict }]) => (verdicts.includes(verdict) ? [name] : []));

/** The interfaces of all objects that globals lead to, and these. */
function reachedFrom(globals: readonly string[]): Set<string> {
  const reached = new Set(globals);
  for (const name of reached) {
    const { requests, events } = interfaceNamed(name);
    for (const { creates } of [...requests, ...events]) if (creates) reached.add(creates.interface);
  }
  return reached;
}

describe('the decisions', () => {
  test('there is one for every global, and none for anything else', () => {
    expect([...DECISIONS.keys()].sort()).toEqual([...GLOBALS].sort());
  });

  test('are about the newest version, or say why they are not', () => {
    const older = [...DECISIONS].filter(([name, { version }]) => version !== interfaceNamed(name).version);
    expect(older.map(([name, { version }]) => [name, version])).toEqual([['wl_fixes', 1]]);
  });

  /** All messages that objects may get or send which a global leads to. */
  const messagesOf = (globals: readonly string[], side: 'requests' | 'events'): MessageSpec[] =>
    [...reachedFrom(globals)].flatMap((name) => interfaceNamed(name)[side]);
  const paths = (messages: readonly MessageSpec[]) =>
    messages.map((message) => `${message.interface}.${message.name}`).sort();

  test('let no descriptor through that cannot be handed over', () => {
    const allowed = withVerdict('shown', 'hidden');
    const withFd = (side: 'requests' | 'events') =>
      paths(messagesOf(allowed, side).filter(({ fdCount }) => fdCount > 0));
    expect(withFd('requests')).toEqual([
      // Pipes that the guest reads.
      'ext_data_control_offer_v1.receive',
      'wl_data_offer.receive',
      // A buffer of the guest.
      'wl_shm.create_pool',
      // Nobody has such an object: what makes it is refused.
      'wp_image_description_creator_icc_v1.set_icc_file',
      'zwlr_data_control_offer_v1.receive',
      // A buffer of the guest, shared or of no use.
      'zwp_linux_buffer_params_v1.add',
      'zwp_primary_selection_offer_v1.receive',
    ]);
    expect(withFd('events')).toEqual([
      // Pipes that the guest writes to.
      'ext_data_control_source_v1.send',
      'wl_data_source.send',
      // Memory that the guest gets a copy of.
      'wl_keyboard.keymap',
      'wp_image_description_info_v1.icc_file',
      'zwlr_data_control_source_v1.send',
      'zwp_linux_dmabuf_feedback_v1.format_table',
      'zwp_primary_selection_source_v1.send',
    ]);
  });

  test('let nobody make or use buffers that are not followed', () => {
    const allowed = withVerdict('shown', 'hidden');
    const uses = messagesOf(allowed, 'requests').filter(({ args }) =>
      args.some((arg) => arg.interface === 'wl_buffer'),
    );
    expect(paths(uses)).toEqual([
      'wl_shm_pool.create_buffer',
      'wl_surface.attach',
      'wp_single_pixel_buffer_manager_v1.create_u32_rgba_buffer',
      'xdg_toplevel_icon_v1.add_buffer',
      'zwp_linux_buffer_params_v1.create_immed',
    ]);
  });

  test('by default a guest says these words, the ones that people read with their prefix', () => {
    const words = messagesOf(withVerdict('shown'), 'requests').filter(({ args }) =>
      args.some(({ kind }) => kind === 'string'),
    );
    expect(paths(words)).toEqual(
      [
        // MIME types.
        'wl_data_offer.accept',
        'wl_data_offer.receive',
        'wl_data_source.offer',
        // With the prefix of titles, or that of application ids.
        'xdg_activation_token_v1.set_app_id',
        // A token that the compositor has made.
        'xdg_activation_v1.activate',
        'xdg_toplevel.set_app_id',
        'xdg_toplevel.set_title',
        // The name of an icon of the host's theme.
        'xdg_toplevel_icon_v1.set_name',
        'xdg_toplevel_tag_manager_v1.set_toplevel_description',
        'xdg_toplevel_tag_manager_v1.set_toplevel_tag',
        'zwp_primary_selection_offer_v1.receive',
        'zwp_primary_selection_source_v1.offer',
        // What a button of a tablet does in the window that has it.
        'zwp_tablet_pad_dial_v2.set_feedback',
        'zwp_tablet_pad_ring_v2.set_feedback',
        'zwp_tablet_pad_strip_v2.set_feedback',
        'zwp_tablet_pad_v2.set_feedback',
        // Text around the cursor, and the language, for input methods.
        'zwp_text_input_v1.set_preferred_language',
        'zwp_text_input_v1.set_surrounding_text',
        'zwp_text_input_v3.set_surrounding_text',
        // Handles that the compositor has made.
        'zxdg_importer_v1.import',
        'zxdg_importer_v2.import_toplevel',
      ].sort(),
    );
  });

  const readme = readFileSync(
    new URL('../../../../server/cross-domain/wayland/README.md', import.meta.url),
    'utf8',
  );
  test.each(['shown', 'hidden', 'refused'] as const)(
    'of those that are %s the README has the list',
    (verdict) => {
      const rows = withVerdict(verdict).map((name) => {
        const { version, reason } = DECISIONS.get(name)!;
        return verdict === 'refused' ? `| ${name} | ${reason} |` : `| ${name} | ${version} | ${reason} |`;
      });
      const [, table] = readme.split(
        new RegExp(`^### ${verdict[0]!.toUpperCase()}${verdict.slice(1)}\n`, 'm'),
      );
      expect(table?.split(/^#/m)[0]?.match(/^\| \w+_\w+ .*$/gm)).toEqual(rows);
    },
  );
});

/** The guest has bound globals in the order of their names here, under the ids from 10 on. */
function bindAll(names: readonly string[], policy: Partial<Policy> = {}) {
  const made = talk({ globals: Object.fromEntries(names.map((name) => [name, 99])), ...policy });
  made.guest(request('wl_display.get_registry', 1, REGISTRY));
  const version = (name: string) => DECISIONS.get(name)!.version;
  made.host(
    ...names.map((name, i) =>
      event('wl_registry.global', REGISTRY, i + 1, name, INTERFACES.get(name)!.version),
    ),
  );
  made.guest(
    ...names.map((name, i) => request('wl_registry.bind', REGISTRY, i + 1, name, version(name), 10 + i)),
  );
  if (made.connection.failure) throw made.connection.failure;
  return made;
}

/** Makes objects of any interface, with all that takes: the globals from the names and the ids from 20 on. */
function supplier({ guest, host }: Talk) {
  const ids = new Map<string, number>();
  let nextId = 20;
  let nextServerId = 0xff00_0000;
  const makerOf = (name: string, side: 'requests' | 'events') =>
    withVerdict('shown')
      .flatMap((global) => [...reachedFrom([global])])
      .flatMap((owner) => interfaceNamed(owner)[side])
      .find(({ creates }) => creates?.interface === name);
  const supply = (name: string): number => {
    const known = ids.get(name);
    if (known !== undefined) return known;
    const [asked, told] = [makerOf(name, 'requests'), makerOf(name, 'events')];
    let id: number;
    if (GLOBALS.has(name)) {
      id = nextId++;
      const { version } = DECISIONS.get(name)!;
      host(event('wl_registry.global', REGISTRY, id, name, version));
      guest(request('wl_registry.bind', REGISTRY, id, name, version, id));
    } else if (asked) {
      const owner = supply(asked.interface);
      const args = asked.args.map(({ kind, interface: needed }) => (kind === 'object' ? supply(needed!) : 0));
      id = nextId++;
      const values = asked.args.map(({ kind }, i) => (kind === 'new_id' ? id : args[i]!));
      guest(request(`${asked.interface}.${asked.name}`, owner, ...values));
    } else {
      const owner = supply(told!.interface);
      id = nextServerId++;
      host(event(`${told!.interface}.${told!.name}`, owner, id));
    }
    ids.set(name, id);
    return id;
  };
  return supply;
}

describe('by default', () => {
  test.each(withVerdict('shown'))('%s is announced, bound, and makes what it is for', (name) => {
    const made = talk();
    const { connection, guest, host } = made;
    const supply = supplier(made);
    const { version } = DECISIONS.get(name)!;
    guest(request('wl_display.get_registry', 1, REGISTRY));
    const announced = event('wl_registry.global', REGISTRY, 1, name, version);
    expect(forwarded(host(announced))).toEqual(announced);
    const bind = request('wl_registry.bind', REGISTRY, 1, name, version, 10);
    expect(forwarded(guest(bind))).toEqual(bind);
    let id = 11;
    for (const { interface: owner, name: what, args, creates, fdCount } of interfaceNamed(name).requests) {
      if (!creates || fdCount > 0 || what === 'create_icc_creator') continue;
      // Nobody makes what it asks for.
      if (args.some((arg) => arg.interface === 'wp_image_description_reference_v1')) continue;
      const values = args.map(({ kind, interface: needed }) => {
        if (kind === 'object') return supply(needed!);
        return kind === 'new_id' ? id : kind === 'string' ? 'text' : 0;
      });
      id++;
      const bytes = request(`${owner}.${what}`, 10, ...values);
      const before = connection.objectCount;
      expect(forwarded(guest(bytes))).toEqual(bytes);
      expect(connection.failure).toBeUndefined();
      expect(connection.objectCount).toBe(before + 1);
    }
  });

  test.each(withVerdict('hidden', 'refused'))('%s is not announced', (name) => {
    const { guest, host } = talk();
    guest(request('wl_display.get_registry', 1, REGISTRY));
    expect(host(event('wl_registry.global', REGISTRY, 1, name, 1)).forward).toEqual([]);
  });

  test('wl_fixes is announced without the confirmation that guests cannot give for what they never saw', () => {
    const { guest, host } = talk();
    guest(request('wl_display.get_registry', 1, REGISTRY));
    const announced = forwarded(host(event('wl_registry.global', REGISTRY, 1, 'wl_fixes', 2)));
    expect(announced).toEqual(event('wl_registry.global', REGISTRY, 1, 'wl_fixes', 1));
  });
});

const COMPOSITOR = 10;
const SURFACE = 100;
const SEAT = 11;
const MANAGER = 12;

describe('tablets', () => {
  const [TABLET_SEAT, TABLET, TOOL, PAD, GROUP, RING] = [
    110, 0xff00_0000, 0xff00_0001, 0xff00_0002, 0xff00_0003, 0xff00_0004,
  ];
  const plugged = () => {
    const made = bindAll(['wl_compositor', 'wl_seat', 'zwp_tablet_manager_v2', 'wl_shm']);
    made.guest(
      request('wl_compositor.create_surface', COMPOSITOR, SURFACE),
      request('zwp_tablet_manager_v2.get_tablet_seat', MANAGER, TABLET_SEAT, SEAT),
    );
    return made;
  };
  const arrival = join(
    event('zwp_tablet_seat_v2.tablet_added', TABLET_SEAT, TABLET),
    event('zwp_tablet_v2.name', TABLET, 'Pen'),
    event('zwp_tablet_v2.bustype', TABLET, 3),
    event('zwp_tablet_v2.done', TABLET),
    event('zwp_tablet_seat_v2.tool_added', TABLET_SEAT, TOOL),
    event('zwp_tablet_tool_v2.done', TOOL),
    event('zwp_tablet_seat_v2.pad_added', TABLET_SEAT, PAD),
    event('zwp_tablet_pad_v2.group', PAD, GROUP),
    event('zwp_tablet_pad_group_v2.ring', GROUP, RING),
  );

  test('come with objects that the compositor makes, which make objects themselves', () => {
    const { connection, guest, host } = plugged();
    expect(hex(request('zwp_tablet_manager_v2.get_tablet_seat', MANAGER, TABLET_SEAT, SEAT))).toBe(
      '0c000000 00001000 6e000000 0b000000',
    );
    const before = connection.objectCount;
    expect(forwarded(host(arrival))).toEqual(arrival);
    expect(connection.objectCount).toBe(before + 5);
    const said = join(
      request('zwp_tablet_pad_ring_v2.set_feedback', RING, 'zoom', 1),
      request('zwp_tablet_tool_v2.set_cursor', TOOL, 1, SURFACE, 0, 0),
    );
    expect(forwarded(guest(said))).toEqual(said);
    const drawn = join(
      event('zwp_tablet_tool_v2.proximity_in', TOOL, 1, TABLET, SURFACE),
      event('zwp_tablet_tool_v2.pressure', TOOL, 65_535),
      event('zwp_tablet_tool_v2.frame', TOOL, 1),
    );
    expect(forwarded(host(drawn))).toEqual(drawn);
  });

  test('that are pulled out and let go may come back under their old ids', () => {
    const { connection, guest, host } = plugged();
    host(arrival);
    const count = connection.objectCount;
    host(event('zwp_tablet_v2.removed', TABLET));
    expect(forwarded(guest(request('zwp_tablet_v2.destroy', TABLET)))).toHaveLength(8);
    const again = event('zwp_tablet_seat_v2.tablet_added', TABLET_SEAT, TABLET);
    expect(forwarded(host(again))).toEqual(again);
    expect(connection.objectCount).toBe(count);
    expect(connection.failure).toBeUndefined();
  });

  test('the cursor of a pen is copied at its commit like any surface', () => {
    const { connection, guest, host } = plugged();
    host(arrival);
    connection.fromGuest(
      join(
        request('wl_shm.create_pool', 13, 200, null, 4096),
        request('wl_shm_pool.create_buffer', 200, 201, 0, 16, 16, 64, 0),
        request('zwp_tablet_tool_v2.set_cursor', TOOL, 1, SURFACE, 0, 0),
      ),
      [{ kind: 'blob', resourceId: 5, sizeBytes: 4096 }],
    );
    const out = guest(
      request('wl_surface.attach', SURFACE, 201, 0, 0),
      request('wl_surface.commit', SURFACE),
    );
    expect(copiesOf(out)).toEqual([[5, 0, 1024]]);
  });
});

describe.each([
  ['v1', 'export', 'import'],
  ['v2', 'export_toplevel', 'import_toplevel'],
])('windows as parents of others, %s', (version, exportName, importName) => {
  test('a handle of one program is what another one names', () => {
    const [exporter, importer] = [`zxdg_exporter_${version}`, `zxdg_importer_${version}`];
    const { guest, host } = bindAll(['wl_compositor', exporter, importer]);
    guest(request('wl_compositor.create_surface', COMPOSITOR, SURFACE));
    const exported = request(`${exporter}.${exportName}`, 11, 110, SURFACE);
    expect(forwarded(guest(exported))).toEqual(exported);
    const handle = event(`zxdg_exported_${version}.handle`, 110, 'abc');
    expect(forwarded(host(handle))).toEqual(handle);
    const used = join(
      request(`${importer}.${importName}`, 12, 111, 'abc'),
      request(`zxdg_imported_${version}.set_parent_of`, 111, SURFACE),
    );
    expect(forwarded(guest(used))).toEqual(used);
    const gone = event(`zxdg_imported_${version}.destroyed`, 111);
    expect(forwarded(host(gone))).toEqual(gone);
  });
});

test('who draws the frame of a window is settled between guest and compositor, in the way of KWin', () => {
  const manager = 'org_kde_kwin_server_decoration_manager';
  const { guest, host } = bindAll(['wl_compositor', manager]);
  guest(request('wl_compositor.create_surface', COMPOSITOR, SURFACE));
  const byDefault = event(`${manager}.default_mode`, 11, 2);
  expect(forwarded(host(byDefault))).toEqual(byDefault);
  const asked = join(
    request(`${manager}.create`, 11, 110, SURFACE),
    request('org_kde_kwin_server_decoration.request_mode', 110, 1),
  );
  expect(hex(forwarded(guest(asked)))).toBe('0b000000 00001000 6e000000 64000000 6e000000 01000c00 01000000');
  const settled = event('org_kde_kwin_server_decoration.mode', 110, 2);
  expect(forwarded(host(settled))).toEqual(settled);
});

describe('what windows are called', () => {
  const TOPLEVEL = 300;
  const prefixes = { titlePrefix: '[vm] ', appIdPrefix: 'vm.' };

  test.each(['set_toplevel_tag', 'set_toplevel_description'])(
    'a tag (%s) has the prefix of titles',
    (name) => {
      const path = `xdg_toplevel_tag_manager_v1.${name}`;
      const { connection, guest } = bindAll(
        ['xdg_toplevel_tag_manager_v1', 'wl_compositor', 'xdg_wm_base'],
        prefixes,
      );
      guest(
        request('wl_compositor.create_surface', 11, SURFACE),
        request('xdg_wm_base.get_xdg_surface', 12, 110, SURFACE),
        request('xdg_surface.get_toplevel', 110, TOPLEVEL),
      );
      expect(forwarded(guest(request(path, 10, TOPLEVEL, 'main')))).toEqual(
        request(path, 10, TOPLEVEL, '[vm] main'),
      );
      expect(connection.counters.titlesChanged).toBe(1);
      const long = request(path, 10, TOPLEVEL, 'ä'.repeat(30_000));
      expect(forwarded(guest(long)).length).toBeLessThanOrEqual(4096);
    },
  );

  test('the older kinds of windows have their prefixes too, where they are allowed', () => {
    const { guest } = bindAll(
      ['wl_compositor', 'wl_shell', 'zxdg_shell_v6', 'zwlr_layer_shell_v1'],
      prefixes,
    );
    guest(
      request('wl_compositor.create_surface', COMPOSITOR, SURFACE),
      request('wl_shell.get_shell_surface', 11, 111, SURFACE),
      request('zxdg_shell_v6.get_xdg_surface', 12, 112, SURFACE),
      request('zxdg_surface_v6.get_toplevel', 112, 113),
    );
    const said = (...messages: Uint8Array[]) => forwarded(guest(...messages));
    for (const [path, id, given, changed] of [
      ['wl_shell_surface.set_title', 111, 'a', '[vm] a'],
      ['wl_shell_surface.set_class', 111, 'a', 'vm.a'],
      ['zxdg_toplevel_v6.set_title', 113, 'a', '[vm] a'],
      ['zxdg_toplevel_v6.set_app_id', 113, 'a', 'vm.a'],
    ] as const)
      expect(said(request(path, id, given))).toEqual(request(path, id, changed));
    const layer = (id: number, name: string) =>
      request('zwlr_layer_shell_v1.get_layer_surface', 13, id, SURFACE, 0, 2, name);
    expect(said(layer(120, 'panel'))).toEqual(layer(120, 'vm.panel'));
  });
});

describe.each(['ext', 'zwlr'])('%s data control, where it is allowed', (kind) => {
  const [DEVICE, SOURCE, OFFER] = [110, 111, 0xff00_0000];
  const device = `${kind}_data_control_device_v1`;
  const start = (clipboard: Policy['clipboard']) => {
    const manager = `${kind}_data_control_manager_v1`;
    const made = bindAll(['wl_compositor', 'wl_seat', manager], { clipboard });
    made.guest(
      request(`${manager}.get_data_device`, MANAGER, DEVICE, SEAT),
      request(`${manager}.create_data_source`, MANAGER, SOURCE),
    );
    return made;
  };
  const offered = join(
    event(`${device}.data_offer`, DEVICE, OFFER),
    event(`${kind}_data_control_offer_v1.offer`, OFFER, 'text/plain'),
  );

  test.each(['selection', 'primary_selection'])('its %s obeys the policy of the clipboard', (name) => {
    const set = request(`${device}.set_${name}`, DEVICE, SOURCE);
    const selected = join(offered, event(`${device}.${name}`, DEVICE, OFFER));

    const both = start('both');
    expect(forwarded(both.guest(set))).toEqual(set);
    expect(forwarded(both.host(selected))).toEqual(selected);

    const none = start('none');
    const refused = none.guest(set);
    expect(refused.forward).toEqual([]);
    expect(refused.reply).toEqual(event(`${kind}_data_control_source_v1.cancelled`, SOURCE));
    const hidden = none.host(selected);
    expect(forwarded(hidden)).toEqual(event(`${device}.${name}`, DEVICE, 0));
    expect(hidden.reply).toEqual(request(`${kind}_data_control_offer_v1.destroy`, OFFER));
    const receive = request(`${kind}_data_control_offer_v1.receive`, OFFER, 'text/plain', null);
    expect(none.guestWith([pipe], receive).droppedFds).toEqual([0]);
  });
});

test('a registry that was given back by wl_fixes is none any more, and its id is free when the compositor says so', () => {
  const { connection, guest, host } = bindAll(['wl_fixes']);
  const second = request('wl_display.get_registry', 1, 50);
  guest(second);
  const count = connection.objectCount;
  const destroy = request('wl_fixes.destroy_registry', 10, 50);
  expect(forwarded(guest(destroy))).toEqual(destroy);
  // What the compositor has said before it knew.
  host(event('wl_registry.global_remove', 50, 1));
  host(event('wl_display.delete_id', 1, 50));
  expect(connection.objectCount).toBe(count - 1);
  expect(forwarded(guest(second))).toEqual(second);
  guest(destroy);
  const out = guest(request('wl_registry.bind', 50, 1, 'wl_fixes', 1, 51));
  expect(out.reply).toEqual(event('wl_display.error', 1, 1, 0, 'invalid object 50'));
});

describe('colours', () => {
  test('that the compositor could read ICC profiles is not told, and none is taken', () => {
    const { guest, host } = bindAll(['wp_color_manager_v1']);
    const parametric = event('wp_color_manager_v1.supported_feature', 10, 1);
    expect(forwarded(host(event('wp_color_manager_v1.supported_feature', 10, 0), parametric))).toEqual(
      parametric,
    );
    const creator = request('wp_color_manager_v1.create_parametric_creator', 10, 20);
    expect(forwarded(guest(creator))).toEqual(creator);
    const out = guest(request('wp_color_manager_v1.create_icc_creator', 10, 21));
    expect(out.forward).toEqual([]);
    expect(out.reply).toEqual(event('wl_display.error', 1, 10, 0, 'ICC profiles are not supported'));
  });
});
