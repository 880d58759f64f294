/**
 * The interfaces of objects that can exist: those that an announced global leads to. What is not in here is announced
 * to no guest. Names, opcodes (the order), arguments and versions are those of Wayland 1.23 and wayland-protocols 1.44.
 *
 * A message is written as `name(arguments)`. An argument is a kind or the interface of an object; `?` means that it may
 * be absent, `new` that the message makes the object. `since` is the first version that has the message, `destructor`
 * ends the object.
 */
import { type ArgumentKind, type ArgumentShape, HEADER_BYTES } from './wire.ts';

export interface ArgumentSpec extends ArgumentShape {
  /** Of an object; undefined where it may be any. */
  readonly interface: string | undefined;
}

export interface MessageSpec {
  readonly interface: string;
  readonly name: string;
  readonly opcode: number;
  readonly since: number;
  readonly destructor: boolean;
  readonly args: readonly ArgumentSpec[];
  readonly fdCount: number;
  /** Bytes of the whole message; undefined where it has strings or arrays. */
  readonly fixedBytes: number | undefined;
  /** What it makes, and where in the message the id is. wl_registry.bind is the one that does not say what. */
  readonly creates: { readonly interface: string; readonly at: number } | undefined;
  /** Counts all messages of all interfaces: for tables. */
  readonly index: number;
}

export interface InterfaceSpec {
  readonly name: string;
  /** The highest that is known. */
  readonly version: number;
  readonly requests: readonly MessageSpec[];
  readonly events: readonly MessageSpec[];
}

interface Declaration {
  readonly version: number;
  readonly requests: readonly string[];
  readonly events: readonly string[];
}

const DECLARATIONS: Readonly<Record<string, Declaration>> = {
  wl_display: {
    version: 1,
    requests: ['sync(new wl_callback)', 'get_registry(new wl_registry)'],
    events: ['error(object, uint, string)', 'delete_id(uint)'],
  },
  wl_registry: {
    version: 1,
    requests: ['bind(uint, string, uint, new)'],
    events: ['global(uint, string, uint)', 'global_remove(uint)'],
  },
  wl_callback: {
    version: 1,
    requests: [],
    events: ['done(uint) destructor'],
  },
  wl_compositor: {
    version: 6,
    requests: ['create_surface(new wl_surface)', 'create_region(new wl_region)'],
    events: [],
  },
  wl_shm_pool: {
    version: 2,
    requests: [
      'create_buffer(new wl_buffer, int, int, int, int, uint)',
      'destroy() destructor',
      'resize(int)',
    ],
    events: [],
  },
  wl_shm: {
    version: 2,
    requests: ['create_pool(new wl_shm_pool, fd, int)', 'release() since 2 destructor'],
    events: ['format(uint)'],
  },
  wl_buffer: {
    version: 1,
    requests: ['destroy() destructor'],
    events: ['release()'],
  },
  wl_data_offer: {
    version: 3,
    requests: [
      'accept(uint, string?)',
      'receive(string, fd)',
      'destroy() destructor',
      'finish() since 3',
      'set_actions(uint, uint) since 3',
    ],
    events: ['offer(string)', 'source_actions(uint) since 3', 'action(uint) since 3'],
  },
  wl_data_source: {
    version: 3,
    requests: ['offer(string)', 'destroy() destructor', 'set_actions(uint) since 3'],
    events: [
      'target(string?)',
      'send(string, fd)',
      'cancelled()',
      'dnd_drop_performed() since 3',
      'dnd_finished() since 3',
      'action(uint) since 3',
    ],
  },
  wl_data_device: {
    version: 3,
    requests: [
      'start_drag(wl_data_source?, wl_surface, wl_surface?, uint)',
      'set_selection(wl_data_source?, uint)',
      'release() since 2 destructor',
    ],
    events: [
      'data_offer(new wl_data_offer)',
      'enter(uint, wl_surface, fixed, fixed, wl_data_offer?)',
      'leave()',
      'motion(uint, fixed, fixed)',
      'drop()',
      'selection(wl_data_offer?)',
    ],
  },
  wl_data_device_manager: {
    version: 3,
    requests: ['create_data_source(new wl_data_source)', 'get_data_device(new wl_data_device, wl_seat)'],
    events: [],
  },
  wl_surface: {
    version: 6,
    requests: [
      'destroy() destructor',
      'attach(wl_buffer?, int, int)',
      'damage(int, int, int, int)',
      'frame(new wl_callback)',
      'set_opaque_region(wl_region?)',
      'set_input_region(wl_region?)',
      'commit()',
      'set_buffer_transform(int) since 2',
      'set_buffer_scale(int) since 3',
      'damage_buffer(int, int, int, int) since 4',
      'offset(int, int) since 5',
    ],
    events: [
      'enter(wl_output)',
      'leave(wl_output)',
      'preferred_buffer_scale(int) since 6',
      'preferred_buffer_transform(uint) since 6',
    ],
  },
  wl_seat: {
    version: 9,
    requests: [
      'get_pointer(new wl_pointer)',
      'get_keyboard(new wl_keyboard)',
      'get_touch(new wl_touch)',
      'release() since 5 destructor',
    ],
    events: ['capabilities(uint)', 'name(string) since 2'],
  },
  wl_pointer: {
    version: 9,
    requests: ['set_cursor(uint, wl_surface?, int, int)', 'release() since 3 destructor'],
    events: [
      'enter(uint, wl_surface, fixed, fixed)',
      'leave(uint, wl_surface)',
      'motion(uint, fixed, fixed)',
      'button(uint, uint, uint, uint)',
      'axis(uint, uint, fixed)',
      'frame() since 5',
      'axis_source(uint) since 5',
      'axis_stop(uint, uint) since 5',
      'axis_discrete(uint, int) since 5',
      'axis_value120(uint, int) since 8',
      'axis_relative_direction(uint, uint) since 9',
    ],
  },
  wl_keyboard: {
    version: 9,
    requests: ['release() since 3 destructor'],
    events: [
      'keymap(uint, fd, uint)',
      'enter(uint, wl_surface, array)',
      'leave(uint, wl_surface)',
      'key(uint, uint, uint, uint)',
      'modifiers(uint, uint, uint, uint, uint)',
      'repeat_info(int, int) since 4',
    ],
  },
  wl_touch: {
    version: 9,
    requests: ['release() since 3 destructor'],
    events: [
      'down(uint, uint, wl_surface, int, fixed, fixed)',
      'up(uint, uint, int)',
      'motion(uint, int, fixed, fixed)',
      'frame()',
      'cancel()',
      'shape(int, fixed, fixed) since 6',
      'orientation(int, fixed) since 6',
    ],
  },
  wl_output: {
    version: 4,
    requests: ['release() since 3 destructor'],
    events: [
      'geometry(int, int, int, int, int, string, string, int)',
      'mode(uint, int, int, int)',
      'done() since 2',
      'scale(int) since 2',
      'name(string) since 4',
      'description(string) since 4',
    ],
  },
  wl_region: {
    version: 1,
    requests: ['destroy() destructor', 'add(int, int, int, int)', 'subtract(int, int, int, int)'],
    events: [],
  },
  wl_subcompositor: {
    version: 1,
    requests: ['destroy() destructor', 'get_subsurface(new wl_subsurface, wl_surface, wl_surface)'],
    events: [],
  },
  wl_subsurface: {
    version: 1,
    requests: [
      'destroy() destructor',
      'set_position(int, int)',
      'place_above(wl_surface)',
      'place_below(wl_surface)',
      'set_sync()',
      'set_desync()',
    ],
    events: [],
  },
  zwp_linux_dmabuf_v1: {
    version: 5,
    requests: [
      'destroy() destructor',
      'create_params(new zwp_linux_buffer_params_v1)',
      'get_default_feedback(new zwp_linux_dmabuf_feedback_v1) since 4',
      'get_surface_feedback(new zwp_linux_dmabuf_feedback_v1, wl_surface) since 4',
    ],
    events: ['format(uint)', 'modifier(uint, uint, uint) since 3'],
  },
  zwp_linux_buffer_params_v1: {
    version: 5,
    requests: [
      'destroy() destructor',
      'add(fd, uint, uint, uint, uint, uint)',
      'create(int, int, uint, uint)',
      'create_immed(new wl_buffer, int, int, uint, uint) since 2',
    ],
    events: ['created(new wl_buffer)', 'failed()'],
  },
  zwp_linux_dmabuf_feedback_v1: {
    version: 5,
    requests: ['destroy() destructor'],
    events: [
      'done()',
      'format_table(fd, uint)',
      'main_device(array)',
      'tranche_done()',
      'tranche_target_device(array)',
      'tranche_formats(array)',
      'tranche_flags(uint)',
    ],
  },
  wp_viewporter: {
    version: 1,
    requests: ['destroy() destructor', 'get_viewport(new wp_viewport, wl_surface)'],
    events: [],
  },
  wp_viewport: {
    version: 1,
    requests: ['destroy() destructor', 'set_source(fixed, fixed, fixed, fixed)', 'set_destination(int, int)'],
    events: [],
  },
  wp_presentation: {
    version: 2,
    requests: ['destroy() destructor', 'feedback(wl_surface, new wp_presentation_feedback)'],
    events: ['clock_id(uint)'],
  },
  wp_presentation_feedback: {
    version: 2,
    requests: [],
    events: [
      'sync_output(wl_output)',
      'presented(uint, uint, uint, uint, uint, uint, uint) destructor',
      'discarded() destructor',
    ],
  },
  xdg_wm_base: {
    version: 7,
    requests: [
      'destroy() destructor',
      'create_positioner(new xdg_positioner)',
      'get_xdg_surface(new xdg_surface, wl_surface)',
      'pong(uint)',
    ],
    events: ['ping(uint)'],
  },
  xdg_positioner: {
    version: 7,
    requests: [
      'destroy() destructor',
      'set_size(int, int)',
      'set_anchor_rect(int, int, int, int)',
      'set_anchor(uint)',
      'set_gravity(uint)',
      'set_constraint_adjustment(uint)',
      'set_offset(int, int)',
      'set_reactive() since 3',
      'set_parent_size(int, int) since 3',
      'set_parent_configure(uint) since 3',
    ],
    events: [],
  },
  xdg_surface: {
    version: 7,
    requests: [
      'destroy() destructor',
      'get_toplevel(new xdg_toplevel)',
      'get_popup(new xdg_popup, xdg_surface?, xdg_positioner)',
      'set_window_geometry(int, int, int, int)',
      'ack_configure(uint)',
    ],
    events: ['configure(uint)'],
  },
  xdg_toplevel: {
    version: 7,
    requests: [
      'destroy() destructor',
      'set_parent(xdg_toplevel?)',
      'set_title(string)',
      'set_app_id(string)',
      'show_window_menu(wl_seat, uint, int, int)',
      'move(wl_seat, uint)',
      'resize(wl_seat, uint, uint)',
      'set_max_size(int, int)',
      'set_min_size(int, int)',
      'set_maximized()',
      'unset_maximized()',
      'set_fullscreen(wl_output?)',
      'unset_fullscreen()',
      'set_minimized()',
    ],
    events: [
      'configure(int, int, array)',
      'close()',
      'configure_bounds(int, int) since 4',
      'wm_capabilities(array) since 5',
    ],
  },
  xdg_popup: {
    version: 7,
    requests: ['destroy() destructor', 'grab(wl_seat, uint)', 'reposition(xdg_positioner, uint) since 3'],
    events: ['configure(int, int, int, int)', 'popup_done()', 'repositioned(uint) since 3'],
  },
  zxdg_decoration_manager_v1: {
    version: 1,
    requests: [
      'destroy() destructor',
      'get_toplevel_decoration(new zxdg_toplevel_decoration_v1, xdg_toplevel)',
    ],
    events: [],
  },
  zxdg_toplevel_decoration_v1: {
    version: 1,
    requests: ['destroy() destructor', 'set_mode(uint)', 'unset_mode()'],
    events: ['configure(uint)'],
  },
  zxdg_output_manager_v1: {
    version: 3,
    requests: ['destroy() destructor', 'get_xdg_output(new zxdg_output_v1, wl_output)'],
    events: [],
  },
  zxdg_output_v1: {
    version: 3,
    requests: ['destroy() destructor'],
    events: [
      'logical_position(int, int)',
      'logical_size(int, int)',
      'done()',
      'name(string) since 2',
      'description(string) since 2',
    ],
  },
  zwp_primary_selection_device_manager_v1: {
    version: 1,
    requests: [
      'create_source(new zwp_primary_selection_source_v1)',
      'get_device(new zwp_primary_selection_device_v1, wl_seat)',
      'destroy() destructor',
    ],
    events: [],
  },
  zwp_primary_selection_device_v1: {
    version: 1,
    requests: ['set_selection(zwp_primary_selection_source_v1?, uint)', 'destroy() destructor'],
    events: ['data_offer(new zwp_primary_selection_offer_v1)', 'selection(zwp_primary_selection_offer_v1?)'],
  },
  zwp_primary_selection_offer_v1: {
    version: 1,
    requests: ['receive(string, fd)', 'destroy() destructor'],
    events: ['offer(string)'],
  },
  zwp_primary_selection_source_v1: {
    version: 1,
    requests: ['offer(string)', 'destroy() destructor'],
    events: ['send(string, fd)', 'cancelled()'],
  },
  zwp_text_input_v3: {
    version: 1,
    requests: [
      'destroy() destructor',
      'enable()',
      'disable()',
      'set_surrounding_text(string, int, int)',
      'set_text_change_cause(uint)',
      'set_content_type(uint, uint)',
      'set_cursor_rectangle(int, int, int, int)',
      'commit()',
    ],
    events: [
      'enter(wl_surface)',
      'leave(wl_surface)',
      'preedit_string(string?, int, int)',
      'commit_string(string?)',
      'delete_surrounding_text(uint, uint)',
      'done(uint)',
    ],
  },
  zwp_text_input_manager_v3: {
    version: 1,
    requests: ['destroy() destructor', 'get_text_input(new zwp_text_input_v3, wl_seat)'],
    events: [],
  },
  zwp_relative_pointer_manager_v1: {
    version: 1,
    requests: ['destroy() destructor', 'get_relative_pointer(new zwp_relative_pointer_v1, wl_pointer)'],
    events: [],
  },
  zwp_relative_pointer_v1: {
    version: 1,
    requests: ['destroy() destructor'],
    events: ['relative_motion(uint, uint, fixed, fixed, fixed, fixed)'],
  },
  zwp_pointer_constraints_v1: {
    version: 1,
    requests: [
      'destroy() destructor',
      'lock_pointer(new zwp_locked_pointer_v1, wl_surface, wl_pointer, wl_region?, uint)',
      'confine_pointer(new zwp_confined_pointer_v1, wl_surface, wl_pointer, wl_region?, uint)',
    ],
    events: [],
  },
  zwp_locked_pointer_v1: {
    version: 1,
    requests: ['destroy() destructor', 'set_cursor_position_hint(fixed, fixed)', 'set_region(wl_region?)'],
    events: ['locked()', 'unlocked()'],
  },
  zwp_confined_pointer_v1: {
    version: 1,
    requests: ['destroy() destructor', 'set_region(wl_region?)'],
    events: ['confined()', 'unconfined()'],
  },
  zwp_pointer_gestures_v1: {
    version: 3,
    requests: [
      'get_swipe_gesture(new zwp_pointer_gesture_swipe_v1, wl_pointer)',
      'get_pinch_gesture(new zwp_pointer_gesture_pinch_v1, wl_pointer)',
      'release() since 2 destructor',
      'get_hold_gesture(new zwp_pointer_gesture_hold_v1, wl_pointer) since 3',
    ],
    events: [],
  },
  zwp_pointer_gesture_swipe_v1: {
    version: 2,
    requests: ['destroy() destructor'],
    events: ['begin(uint, uint, wl_surface, uint)', 'update(uint, fixed, fixed)', 'end(uint, uint, int)'],
  },
  zwp_pointer_gesture_pinch_v1: {
    version: 2,
    requests: ['destroy() destructor'],
    events: [
      'begin(uint, uint, wl_surface, uint)',
      'update(uint, fixed, fixed, fixed, fixed)',
      'end(uint, uint, int)',
    ],
  },
  zwp_pointer_gesture_hold_v1: {
    version: 3,
    requests: ['destroy() since 3 destructor'],
    events: ['begin(uint, uint, wl_surface, uint) since 3', 'end(uint, uint, int) since 3'],
  },
  wp_fractional_scale_manager_v1: {
    version: 1,
    requests: ['destroy() destructor', 'get_fractional_scale(new wp_fractional_scale_v1, wl_surface)'],
    events: [],
  },
  wp_fractional_scale_v1: {
    version: 1,
    requests: ['destroy() destructor'],
    events: ['preferred_scale(uint)'],
  },
  wp_cursor_shape_manager_v1: {
    version: 2,
    requests: [
      'destroy() destructor',
      'get_pointer(new wp_cursor_shape_device_v1, wl_pointer)',
      'get_tablet_tool_v2(new wp_cursor_shape_device_v1, zwp_tablet_tool_v2)',
    ],
    events: [],
  },
  wp_cursor_shape_device_v1: {
    version: 2,
    requests: ['destroy() destructor', 'set_shape(uint, uint)'],
    events: [],
  },
  xdg_activation_v1: {
    version: 1,
    requests: [
      'destroy() destructor',
      'get_activation_token(new xdg_activation_token_v1)',
      'activate(string, wl_surface)',
    ],
    events: [],
  },
  xdg_activation_token_v1: {
    version: 1,
    requests: [
      'set_serial(uint, wl_seat)',
      'set_app_id(string)',
      'set_surface(wl_surface)',
      'commit()',
      'destroy() destructor',
    ],
    events: ['done(string)'],
  },
  wp_single_pixel_buffer_manager_v1: {
    version: 1,
    requests: ['destroy() destructor', 'create_u32_rgba_buffer(new wl_buffer, uint, uint, uint, uint)'],
    events: [],
  },
  wp_content_type_manager_v1: {
    version: 1,
    requests: ['destroy() destructor', 'get_surface_content_type(new wp_content_type_v1, wl_surface)'],
    events: [],
  },
  wp_content_type_v1: {
    version: 1,
    requests: ['destroy() destructor', 'set_content_type(uint)'],
    events: [],
  },
  wp_tearing_control_manager_v1: {
    version: 1,
    requests: ['destroy() destructor', 'get_tearing_control(new wp_tearing_control_v1, wl_surface)'],
    events: [],
  },
  wp_tearing_control_v1: {
    version: 1,
    requests: ['set_presentation_hint(uint)', 'destroy() destructor'],
    events: [],
  },
  zwp_idle_inhibit_manager_v1: {
    version: 1,
    requests: ['destroy() destructor', 'create_inhibitor(new zwp_idle_inhibitor_v1, wl_surface)'],
    events: [],
  },
  zwp_idle_inhibitor_v1: {
    version: 1,
    requests: ['destroy() destructor'],
    events: [],
  },
  wp_alpha_modifier_v1: {
    version: 1,
    requests: ['destroy() destructor', 'get_surface(new wp_alpha_modifier_surface_v1, wl_surface)'],
    events: [],
  },
  wp_alpha_modifier_surface_v1: {
    version: 1,
    requests: ['destroy() destructor', 'set_multiplier(uint)'],
    events: [],
  },
  xdg_wm_dialog_v1: {
    version: 1,
    requests: ['destroy() destructor', 'get_xdg_dialog(new xdg_dialog_v1, xdg_toplevel)'],
    events: [],
  },
  xdg_dialog_v1: {
    version: 1,
    requests: ['destroy() destructor', 'set_modal()', 'unset_modal()'],
    events: [],
  },
  xdg_toplevel_icon_manager_v1: {
    version: 1,
    requests: [
      'destroy() destructor',
      'create_icon(new xdg_toplevel_icon_v1)',
      'set_icon(xdg_toplevel, xdg_toplevel_icon_v1?)',
    ],
    events: ['icon_size(int)', 'done()'],
  },
  xdg_toplevel_icon_v1: {
    version: 1,
    requests: ['destroy() destructor', 'set_name(string)', 'add_buffer(wl_buffer, int)'],
    events: [],
  },
  zxdg_exporter_v2: {
    version: 1,
    requests: ['destroy() destructor', 'export_toplevel(new zxdg_exported_v2, wl_surface)'],
    events: [],
  },
  zxdg_importer_v2: {
    version: 1,
    requests: ['destroy() destructor', 'import_toplevel(new zxdg_imported_v2, string)'],
    events: [],
  },
  zxdg_exported_v2: {
    version: 1,
    requests: ['destroy() destructor'],
    events: ['handle(string)'],
  },
  zxdg_imported_v2: {
    version: 1,
    requests: ['destroy() destructor', 'set_parent_of(wl_surface)'],
    events: ['destroyed()'],
  },
  zwp_keyboard_shortcuts_inhibit_manager_v1: {
    version: 1,
    requests: [
      'destroy() destructor',
      'inhibit_shortcuts(new zwp_keyboard_shortcuts_inhibitor_v1, wl_surface, wl_seat)',
    ],
    events: [],
  },
  zwp_keyboard_shortcuts_inhibitor_v1: {
    version: 1,
    requests: ['destroy() destructor'],
    events: ['active()', 'inactive()'],
  },
};

const KINDS: ReadonlySet<string> = new Set<ArgumentKind>([
  'int',
  'uint',
  'fixed',
  'string',
  'array',
  'fd',
  'object',
]);
const MESSAGE = /^(\w+)\(([^)]*)\)(?: since (\d+))?( destructor)?$/;
const ARGUMENT = /^(new)?\s*(\w*)(\?)?$/;

function parseArgument(written: string): ArgumentSpec {
  const [, made, word = '', absent] = ARGUMENT.exec(written) ?? [];
  const nullable = absent !== undefined;
  if (made) return { kind: 'new_id', nullable, interface: word || undefined };
  if (KINDS.has(word)) return { kind: word as ArgumentKind, nullable, interface: undefined };
  return { kind: 'object', nullable, interface: word };
}

let messages = 0;

function parseMessage(owner: string, written: string, opcode: number): MessageSpec {
  const [, name, list = '', since, destructor] = MESSAGE.exec(written) ?? [];
  if (!name) throw new Error(`${owner}: ${written}`);
  const args = list === '' ? [] : list.split(', ').map(parseArgument);
  const words = args.filter(({ kind }) => kind !== 'fd');
  const fixed = words.every(({ kind }) => kind !== 'string' && kind !== 'array');
  const made = words.findIndex((arg) => arg.kind === 'new_id' && arg.interface !== undefined);
  if (!words.slice(0, Math.max(made, 0)).every(({ kind }) => kind !== 'string' && kind !== 'array'))
    throw new Error(`${owner}.${name} has its new id behind a string`);
  return {
    interface: owner,
    name,
    opcode,
    since: Number(since ?? 1),
    destructor: destructor !== undefined,
    args,
    fdCount: args.length - words.length,
    fixedBytes: fixed ? HEADER_BYTES + 4 * words.length : undefined,
    creates: made < 0 ? undefined : { interface: words[made]!.interface!, at: HEADER_BYTES + 4 * made },
    index: messages++,
  };
}

/** By name. */
export const INTERFACES: ReadonlyMap<string, InterfaceSpec> = new Map(
  Object.entries(DECLARATIONS).map(([name, { version, requests, events }]) => [
    name,
    {
      name,
      version,
      requests: requests.map((written, opcode) => parseMessage(name, written, opcode)),
      events: events.map((written, opcode) => parseMessage(name, written, opcode)),
    },
  ]),
);

export const MESSAGE_COUNT = messages;

/** Of a name that is in the tables; anything else is a mistake of this program. */
export function interfaceNamed(name: string): InterfaceSpec {
  const found = INTERFACES.get(name);
  if (!found) throw new Error(`no interface ${name}`);
  return found;
}

const named =
  (side: 'requests' | 'events') =>
  (path: string): MessageSpec => {
    const [owner = '', name] = path.split('.');
    const found = interfaceNamed(owner)[side].find((message) => message.name === name);
    if (!found) throw new Error(`no ${path} among the ${side}`);
    return found;
  };

/** By a path like `wl_surface.commit`. */
export const requestNamed = named('requests');
/** By a path like `wl_buffer.release`. */
export const eventNamed = named('events');

/** What does something at some messages, by their paths, as an array over all messages. */
export function handlers<T>(find: (path: string) => MessageSpec, byPath: Readonly<Record<string, T>>) {
  const table: (T | undefined)[] = new Array(MESSAGE_COUNT).fill(undefined);
  for (const [path, handler] of Object.entries(byPath)) table[find(path).index] = handler;
  return table;
}

/** Interfaces that no message makes: they come from the registry. */
export const GLOBALS: ReadonlySet<string> = (() => {
  const made = [...INTERFACES.values()].flatMap(({ requests, events }) =>
    [...requests, ...events].flatMap(({ creates }) => creates?.interface ?? []),
  );
  const rest = new Set(INTERFACES.keys());
  for (const name of ['wl_display', ...made]) rest.delete(name);
  return rest;
})();
