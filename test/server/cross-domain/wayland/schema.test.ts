import { describe, expect, test } from 'vitest';
import {
  eventNamed,
  GLOBALS,
  INTERFACES,
  interfaceNamed,
  requestNamed,
} from '../../../../server/cross-domain/wayland/schema.ts';

describe('the tables', () => {
  test('the messages that buffers depend on have the opcodes of the protocol', () => {
    const opcodes = (...paths: string[]) => paths.map((path) => requestNamed(path).opcode);
    expect(opcodes('wl_display.sync', 'wl_display.get_registry', 'wl_registry.bind')).toEqual([0, 1, 0]);
    expect(opcodes('wl_compositor.create_surface', 'wl_shm.create_pool', 'wl_shm.release')).toEqual([
      0, 0, 1,
    ]);
    const pool = opcodes('wl_shm_pool.create_buffer', 'wl_shm_pool.destroy', 'wl_shm_pool.resize');
    expect(pool).toEqual([0, 1, 2]);
    const surface = ['destroy', 'attach', 'damage', 'frame', 'commit', 'damage_buffer', 'offset'];
    expect(opcodes(...surface.map((name) => `wl_surface.${name}`))).toEqual([0, 1, 2, 3, 6, 9, 10]);
    expect(opcodes('wl_data_device.start_drag', 'wl_data_device.set_selection')).toEqual([0, 1]);
    expect(opcodes('xdg_toplevel.set_title', 'xdg_toplevel.set_app_id')).toEqual([2, 3]);
  });

  test('every stable, staging and unstable protocol is in them, and those of wlroots', () => {
    const versions = (...names: string[]) => names.map((name) => interfaceNamed(name).version);
    expect(versions('wl_surface', 'xdg_toplevel', 'zwp_tablet_pad_dial_v2')).toEqual([7, 7, 2]);
    expect(versions('ext_image_copy_capture_session_v1', 'wp_fifo_v1', 'xdg_session_v1')).toEqual([1, 1, 1]);
    expect(versions('zxdg_exported_v1', 'zwp_text_input_v3', 'zxdg_popup_v6')).toEqual([1, 2, 1]);
    expect(versions('zwlr_layer_surface_v1', 'org_kde_kwin_server_decoration')).toEqual([5, 1]);
  });

  test('whatever a message makes is in the tables', () => {
    for (const { requests, events } of INTERFACES.values()) {
      for (const { creates } of [...requests, ...events]) if (creates) interfaceNamed(creates.interface);
    }
  });

  test('destructors, and versions that messages came with', () => {
    expect(requestNamed('wl_seat.release')).toMatchObject({ destructor: true, since: 5 });
    expect(requestNamed('wl_surface.damage_buffer')).toMatchObject({ destructor: false, since: 4 });
    expect(eventNamed('wl_callback.done')).toMatchObject({ destructor: true, since: 1 });
  });

  test('globals are what no message makes', () => {
    expect(GLOBALS.has('wp_image_description_reference_v1')).toBe(false);
    expect(GLOBALS.has('wl_shm')).toBe(true);
    expect(GLOBALS.has('wl_display')).toBe(false);
    expect(GLOBALS.has('wl_registry')).toBe(false);
    expect(GLOBALS.has('wl_surface')).toBe(false);
  });
});
