import { describe, expect, test } from 'vitest';
import { DEFAULT_POLICY, parsePolicy } from '../../../../server/cross-domain/wayland/policy.ts';
import { event, forwarded, hex, messagesIn, request, talk } from './talk.ts';

describe('a policy file', () => {
  test('may be empty: then it is the default', () => {
    expect(parsePolicy({})).toEqual(DEFAULT_POLICY);
  });

  test('takes the list of globals as a whole', () => {
    expect(parsePolicy({ globals: { wl_compositor: 4 } }).globals).toEqual({ wl_compositor: 4 });
  });

  test('may name versions that are not known yet', () => {
    const { guest, host } = talk(parsePolicy({ globals: { wl_shm: 99 } }));
    guest(request('wl_display.get_registry', 1, 2));
    const [announced] = messagesIn(forwarded(host(event('wl_registry.global', 2, 1, 'wl_shm', 99))));
    expect(hex(announced!.bytes.subarray(-4))).toBe('03000000');
  });

  test('says everything that is wrong with it', () => {
    const mistakes = () =>
      parsePolicy({
        globals: {
          weston_capture_v1: 1,
          zwlr_screencopy_manager_v1: 1,
          wl_surface: 1,
          wl_shm: 0,
          constructor: 1,
        },
        titlePrefix: 'a\nb',
        appIdPrefix: 7,
        clipboard: 'sideways',
        maxTitleBytes: 4084,
        title: 'x',
      });
    expect(mistakes).toThrow(
      [
        'title is unknown; there are globals, titlePrefix, appIdPrefix, clipboard, maxTitleBytes',
        'titlePrefix has control characters',
        'appIdPrefix must be a string',
        'clipboard must be one of both, in, out, none',
        'maxTitleBytes must be a whole number from 1 to 4083',
        'globals.weston_capture_v1 is not understood here, so it stays hidden',
        'globals.zwlr_screencopy_manager_v1 cannot be allowed: captures the screen, into buffers that nobody copies back',
        'globals.wl_surface is not a global',
        'globals.wl_shm must have a version, a whole number from 1',
        'globals.constructor is not understood here, so it stays hidden',
      ].join('\n'),
    );
  });

  test('may name what is hidden by default', () => {
    const { guest, host } = talk(parsePolicy({ globals: { ext_idle_notifier_v1: 1 } }));
    guest(request('wl_display.get_registry', 1, 2));
    const announced = forwarded(host(event('wl_registry.global', 2, 1, 'ext_idle_notifier_v1', 2)));
    expect(announced).toEqual(event('wl_registry.global', 2, 1, 'ext_idle_notifier_v1', 1));
  });

  test('is a JSON object', () => {
    expect(() => parsePolicy([])).toThrow('the policy must be a JSON object');
    expect(() => parsePolicy(null)).toThrow('the policy must be a JSON object');
  });

  test('limits prefixes in bytes', () => {
    expect(parsePolicy({ titlePrefix: 'ä'.repeat(64) }).titlePrefix).toHaveLength(64);
    expect(() => parsePolicy({ titlePrefix: 'ä'.repeat(65) })).toThrow('is longer than 128 bytes');
    expect(() => parsePolicy({ titlePrefix: 'long', maxTitleBytes: 3 })).toThrow(
      'titlePrefix is longer than maxTitleBytes',
    );
  });
});

test('the default policy allows what applications need and nothing that looks at others', () => {
  const allowed = Object.keys(DEFAULT_POLICY.globals);
  expect(allowed).toEqual(expect.arrayContaining(['wl_compositor', 'wl_shm', 'wl_seat', 'xdg_wm_base']));
  const dangerous =
    /screencopy|image_copy|image_capture|export_dmabuf|virtual|input_method|layer_shell|data_control|session_lock|foreign_toplevel|output_management|output_power|gamma|idle_notif|security_context|input_inhibit|shortcuts_inhibit|drm|syncobj|dmabuf|weston|gtk|explicit_sync|transient_seat/;
  expect(allowed.filter((name) => dangerous.test(name))).toEqual([]);
});
