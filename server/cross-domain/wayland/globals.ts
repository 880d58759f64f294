/**
 * What becomes of each global that `protocols.ts` knows: thought about once, by hand, with the version that was looked
 * at. A global that is not in here is announced to nobody, and a test fails.
 */
import { interfaceNamed } from './schema.ts';

/**
 * `shown`: announced unless a policy file says otherwise. `hidden`: announced where a policy file names it. `refused`:
 * no policy file can name it, because what it does cannot be done right through a channel.
 */
export type Verdict = 'shown' | 'hidden' | 'refused';

export interface Decision {
  readonly verdict: Verdict;
  /** The highest version that guests see. */
  readonly version: number;
  /** In a few words: what it is good for, or what would be wrong with it. */
  readonly reason: string;
}

type Row = readonly [verdict: Verdict, version: number, reason: string];

const TABLE: Readonly<Record<string, Row>> = {
  // wayland
  wl_compositor: ['shown', 7, 'surfaces'],
  wl_subcompositor: ['shown', 1, 'surfaces in surfaces'],
  wl_shm: ['shown', 3, 'buffers in shared memory'],
  wl_data_device_manager: ['shown', 4, 'clipboard and drags, as `clipboard` says'],
  wl_seat: ['shown', 11, 'pointer, keyboard and touch on windows of the guest'],
  wl_output: ['shown', 4, 'sizes and scales of the screens'],
  wl_fixes: [
    'shown',
    1,
    'gives registries back; in version 2 guests would confirm the end of what they never saw',
  ],
  wl_shell: ['hidden', 1, 'replaced by xdg_wm_base'],
  // stable
  zwp_linux_dmabuf_v1: ['hidden', 6, 'buffers of guest GPUs do not cross'],
  wp_presentation: ['shown', 2, 'when frames were shown'],
  zwp_tablet_manager_v2: ['shown', 2, 'graphics tablets on windows of the guest'],
  wp_viewporter: ['shown', 1, 'crops and scales surfaces'],
  xdg_wm_base: ['shown', 7, 'windows; titles and application ids get their prefixes'],
  // staging
  wp_alpha_modifier_v1: ['shown', 1, 'opacity of surfaces'],
  wp_color_manager_v1: [
    'shown',
    3,
    'colours of surfaces; without ICC profiles of guests, which do not cross',
  ],
  wp_color_representation_manager_v1: ['shown', 1, 'colours of surfaces'],
  wp_commit_timing_manager_v1: ['shown', 1, 'when frames are to be shown'],
  wp_content_type_manager_v1: ['shown', 1, 'video, game or photo'],
  wp_cursor_shape_manager_v1: ['shown', 2, 'cursors by name'],
  wp_drm_lease_device_v1: ['refused', 1, 'its descriptors do not cross'],
  ext_background_effect_manager_v1: ['shown', 1, 'blur behind windows'],
  ext_data_control_manager_v1: [
    'hidden',
    1,
    'reads and sets selections without any window; where it is allowed, `clipboard` holds for it',
  ],
  ext_foreign_toplevel_list_v1: ['hidden', 1, 'lists the windows of others'],
  ext_idle_notifier_v1: ['hidden', 2, 'tells whether somebody is at the host'],
  ext_output_image_capture_source_manager_v1: ['hidden', 1, 'of no use without capture'],
  ext_foreign_toplevel_image_capture_source_manager_v1: ['hidden', 1, 'of no use without capture'],
  ext_image_copy_capture_manager_v1: [
    'refused',
    1,
    'captures the screen, into buffers that nobody copies back',
  ],
  ext_session_lock_manager_v1: ['hidden', 1, 'locks the session of the host'],
  ext_transient_seat_manager_v1: ['hidden', 1, 'makes seats for input of its own'],
  ext_workspace_manager_v1: ['hidden', 1, 'lists and changes workspaces'],
  wp_fifo_manager_v1: ['shown', 1, 'frames one after the other'],
  wp_fractional_scale_manager_v1: ['shown', 1, 'scales of surfaces'],
  wp_linux_drm_syncobj_manager_v1: ['refused', 1, 'its descriptors do not cross'],
  wp_pointer_warp_v1: ['shown', 1, 'moves the pointer within windows that have it'],
  wp_security_context_manager_v1: [
    'refused',
    1,
    'makes doors to the compositor; its descriptors do not cross',
  ],
  wp_single_pixel_buffer_manager_v1: ['shown', 1, 'buffers of one colour'],
  wp_tearing_control_manager_v1: ['shown', 1, 'frames as soon as possible'],
  xdg_activation_v1: ['shown', 1, 'windows that ask for attention'],
  xdg_wm_dialog_v1: ['shown', 1, 'dialogs'],
  xdg_session_manager_v1: ['hidden', 1, 'leaves something behind on the host for each window'],
  xdg_system_bell_v1: ['shown', 1, 'the bell'],
  xdg_toplevel_drag_manager_v1: ['shown', 1, 'drags of whole windows'],
  xdg_toplevel_icon_manager_v1: ['shown', 1, 'icons of windows'],
  xdg_toplevel_tag_manager_v1: ['shown', 1, 'names of windows, which get the prefix of titles'],
  xwayland_shell_v1: ['hidden', 1, "for the host's Xwayland"],
  // unstable
  zwp_fullscreen_shell_v1: ['hidden', 1, 'takes whole screens'],
  zwp_idle_inhibit_manager_v1: ['shown', 1, 'keeps the screen on while a window is seen'],
  zwp_input_method_v1: ['hidden', 1, 'reads what is typed elsewhere, and types there'],
  zwp_input_panel_v1: ['hidden', 1, 'keyboards on the screen'],
  zwp_input_timestamps_manager_v1: ['shown', 1, 'when input was made'],
  zwp_keyboard_shortcuts_inhibit_manager_v1: ['hidden', 1, "takes the host's shortcuts away"],
  zwp_linux_explicit_synchronization_v1: ['refused', 2, 'its descriptors do not cross'],
  zwp_pointer_constraints_v1: ['shown', 1, 'locks the pointer to windows that have it'],
  zwp_pointer_gestures_v1: ['shown', 3, 'gestures on windows of the guest'],
  zwp_primary_selection_device_manager_v1: ['shown', 1, 'the primary selection, as `clipboard` says'],
  zwp_relative_pointer_manager_v1: ['shown', 1, 'movements of the pointer'],
  zwp_tablet_manager_v1: ['hidden', 1, 'replaced by zwp_tablet_manager_v2'],
  zwp_text_input_manager_v1: ['shown', 1, 'text of input methods, where there is no newer one'],
  zwp_text_input_manager_v3: ['shown', 2, 'text of input methods'],
  zxdg_decoration_manager_v1: ['shown', 2, 'who draws the frames of windows'],
  zxdg_exporter_v1: ['shown', 1, 'windows as parents of windows of other programs'],
  zxdg_importer_v1: ['shown', 1, 'windows of other programs as parents'],
  zxdg_exporter_v2: ['shown', 1, 'windows as parents of windows of other programs'],
  zxdg_importer_v2: ['shown', 1, 'windows of other programs as parents'],
  zxdg_output_manager_v1: ['shown', 3, 'where the screens are'],
  zxdg_shell_v6: ['hidden', 1, 'replaced by xdg_wm_base'],
  zwp_xwayland_keyboard_grab_manager_v1: ['hidden', 1, "for the host's Xwayland"],
  // wlroots
  zwlr_data_control_manager_v1: [
    'hidden',
    2,
    'reads and sets selections without any window; where it is allowed, `clipboard` holds for it',
  ],
  zwlr_export_dmabuf_manager_v1: ['refused', 1, 'captures the screen; its descriptors do not cross'],
  zwlr_foreign_toplevel_manager_v1: ['hidden', 3, 'lists, moves and closes the windows of others'],
  zwlr_gamma_control_manager_v1: ['refused', 1, 'its descriptors do not cross'],
  zwlr_input_inhibit_manager_v1: ['hidden', 1, 'takes all input from others'],
  zwlr_layer_shell_v1: ['hidden', 5, 'panels and backgrounds, above and below the windows of others'],
  zwlr_output_manager_v1: ['hidden', 4, 'changes the screens of the host'],
  zwlr_output_power_manager_v1: ['hidden', 1, 'switches the screens of the host off'],
  zwlr_screencopy_manager_v1: ['refused', 3, 'captures the screen, into buffers that nobody copies back'],
  zwlr_virtual_pointer_manager_v1: ['hidden', 2, 'clicks into the windows of others'],
  // plasma
  org_kde_kwin_server_decoration_manager: ['shown', 1, 'who draws the frames of windows'],
};

/** By the name of the global. */
export const DECISIONS: ReadonlyMap<string, Decision> = new Map(
  Object.entries(TABLE).map(([name, [verdict, version, reason]]) => [name, { verdict, version, reason }]),
);

/** The highest version of a global that a guest may see, whatever a policy says. */
export const highestVersion = (name: string): number =>
  DECISIONS.get(name)?.version ?? interfaceNamed(name).version;
