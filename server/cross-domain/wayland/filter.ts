/**
 * The policy applied to one connection, message by message: which globals there are, what windows are called, and where
 * copied data may go. Knows nothing of pixels.
 */
import { highestVersion } from './globals.ts';
import { bytesOf, type Message, uintAt } from './message.ts';
import type { ObjectTable } from './objects.ts';
import type { Policy } from './policy.ts';
import { eventNamed, handlers, interfaceNamed, type MessageSpec, requestNamed } from './schema.ts';
import {
  type Argument,
  COMMON_MESSAGE_BYTES,
  decodeArguments,
  encodeMessage,
  HEADER_BYTES,
  stringBytes,
  WaylandError,
  WL_DISPLAY_ERROR_INVALID_OBJECT,
} from './wire.ts';

/** Globals that are announced at once, with the latest of those that are gone. */
export const MAX_GLOBALS = 4096;

/** What becomes of a message: it goes on, it does not, or other bytes go on in its place. */
export type Verdict = 'pass' | 'drop' | Uint8Array;

/** What the policy did. */
export interface PolicyCounters {
  /** Announcements that the guest did not see, and those with a lower version. */
  globalsHidden: number;
  globalsCapped: number;
  /** Globals the guest asked for without having seen them. The connection ends with it. */
  bindsRefused: number;
  titlesChanged: number;
  appIdsChanged: number;
  /** From the guest to the host: clipboard, primary selection, drags. */
  selectionsRefused: number;
  primarySelectionsRefused: number;
  dragsRefused: number;
  /** From the host to the guest. */
  selectionsHidden: number;
  primarySelectionsHidden: number;
  dragsHidden: number;
}

export const noPolicyCounters = (): PolicyCounters => ({
  globalsHidden: 0,
  globalsCapped: 0,
  bindsRefused: 0,
  titlesChanged: 0,
  appIdsChanged: 0,
  selectionsRefused: 0,
  primarySelectionsRefused: 0,
  dragsRefused: 0,
  selectionsHidden: 0,
  primarySelectionsHidden: 0,
  dragsHidden: 0,
});

/** Where the filter puts messages of its own. */
export interface Replies {
  toGuest(message: Uint8Array): void;
  toHost(message: Uint8Array): void;
}

interface Global {
  readonly interface: string;
  readonly version: number;
  gone: boolean;
}

/** A drag of the host over a window of the guest that does not see it. */
class HiddenDrag {
  readonly offerId: number;
  constructor(offerId: number) {
    this.offerId = offerId;
  }
}

const CLIPBOARD = { refused: 'selectionsRefused', hidden: 'selectionsHidden' } as const;
const PRIMARY = { refused: 'primarySelectionsRefused', hidden: 'primarySelectionsHidden' } as const;

const byInterface = (specs: readonly MessageSpec[]): ReadonlyMap<string, MessageSpec> =>
  new Map(specs.map((spec) => [spec.interface, spec]));

const SOURCE_CANCELLED = byInterface(
  [
    'wl_data_source.cancelled',
    'zwp_primary_selection_source_v1.cancelled',
    'ext_data_control_source_v1.cancelled',
    'zwlr_data_control_source_v1.cancelled',
  ].map(eventNamed),
);
const OFFER_DESTROY = byInterface(
  [
    'wl_data_offer.destroy',
    'zwp_primary_selection_offer_v1.destroy',
    'ext_data_control_offer_v1.destroy',
    'zwlr_data_control_offer_v1.destroy',
  ].map(requestNamed),
);

const WP_COLOR_MANAGER_V1_FEATURE_ICC_V2_V4 = 0;
const WP_COLOR_MANAGER_V1_ERROR_UNSUPPORTED_FEATURE = 0;

const message = ({ opcode, args }: MessageSpec, id: number, ...values: Argument[]) =>
  encodeMessage(id, opcode, args, values);

export class Filter {
  readonly counters = noPolicyCounters();
  readonly #maxTitleBytes: number;
  /** The highest version announced, by interface. */
  readonly #versions: ReadonlyMap<string, number>;
  readonly #objects: ObjectTable;
  readonly #replies: Replies;
  readonly #titlePrefix: Uint8Array;
  readonly #appIdPrefix: Uint8Array;
  readonly #toHost: boolean;
  readonly #toGuest: boolean;
  /** By name: all that were announced to the guest. */
  readonly #globals = new Map<number, Global>();

  constructor(policy: Policy, objects: ObjectTable, replies: Replies) {
    this.#maxTitleBytes = policy.maxTitleBytes;
    this.#versions = new Map(
      Object.entries(policy.globals).map(([name, most]) => [name, Math.min(most, highestVersion(name))]),
    );
    this.#objects = objects;
    this.#replies = replies;
    const utf8 = new TextEncoder();
    this.#titlePrefix = utf8.encode(policy.titlePrefix);
    this.#appIdPrefix = utf8.encode(policy.appIdPrefix);
    this.#toHost = policy.clipboard === 'both' || policy.clipboard === 'out';
    this.#toGuest = policy.clipboard === 'both' || policy.clipboard === 'in';
  }

  /** What becomes of a message. Throws `WaylandError` where the guest may not go on. */
  judge(message: Message): Verdict {
    return RULES[message.spec.index]?.(this, message) ?? 'pass';
  }

  announceGlobal(event: Message): Verdict {
    const [name, owner, offered] = decodeArguments(event.spec.args, bytesOf(event)) as [
      number,
      string,
      number,
    ];
    const version = Math.min(offered, this.#versions.get(owner) ?? 0);
    if (version === 0 || !this.#roomForGlobal(name)) {
      this.counters.globalsHidden++;
      return 'drop';
    }
    this.#globals.set(name, { interface: owner, version, gone: false });
    if (version === offered) return 'pass';
    this.counters.globalsCapped++;
    return message(event.spec, event.object.id, name, owner, version);
  }

  /** The guest may still ask for it: it cannot know yet. */
  removeGlobal(event: Message): Verdict {
    const global = this.#globals.get(uintAt(event, 0));
    if (!global) return 'drop';
    global.gone = true;
    return 'pass';
  }

  bind(request: Message): Verdict {
    const values = decodeArguments(request.spec.args, bytesOf(request));
    const [name, owner, version, id] = values as [number, string, number, number];
    const global = this.#globals.get(name);
    const refusal =
      !global || global.interface !== owner
        ? `invalid global ${owner.slice(0, 64)} (${name})`
        : version === 0 || version > global.version
          ? `invalid version for global ${owner} (${name}): have ${global.version}, wanted ${version}`
          : undefined;
    if (refusal !== undefined) {
      this.counters.bindsRefused++;
      throw new WaylandError(WL_DISPLAY_ERROR_INVALID_OBJECT, refusal, request.object.id);
    }
    this.#objects.create(id, interfaceNamed(owner), version);
    return 'pass';
  }

  /** The title is the last argument, behind so many words. */
  setTitle(request: Message, before = 0): Verdict {
    const verdict = this.#named(request, before, this.#titlePrefix, this.#maxTitleBytes);
    if (verdict !== 'pass') this.counters.titlesChanged++;
    return verdict;
  }

  setAppId(request: Message, before = 0): Verdict {
    const verdict = this.#named(request, before, this.#appIdPrefix, COMMON_MESSAGE_BYTES);
    if (verdict !== 'pass') this.counters.appIdsChanged++;
    return verdict;
  }

  /** The registry is another object than the one that this is asked of. */
  destroyRegistry(request: Message): Verdict {
    const registry = this.#objects.named(uintAt(request, 0));
    if (registry) this.#objects.destroy(registry);
    return 'pass';
  }

  /** Profiles of guests are descriptors that cannot be handed over: it is as if the compositor could do nothing with them. */
  offerFeature(event: Message): Verdict {
    return uintAt(event, 0) === WP_COLOR_MANAGER_V1_FEATURE_ICC_V2_V4 ? 'drop' : 'pass';
  }

  refuseProfile({ object }: Message): never {
    throw new WaylandError(
      WP_COLOR_MANAGER_V1_ERROR_UNSUPPORTED_FEATURE,
      'ICC profiles are not supported',
      object.id,
    );
  }

  /** The guest is told that somebody else has the selection now. Taking back what it never had is nothing. */
  setSelection(request: Message, { refused }: typeof CLIPBOARD | typeof PRIMARY): Verdict {
    if (this.#toHost) return 'pass';
    this.counters[refused]++;
    this.#cancel(uintAt(request, 0));
    return 'drop';
  }

  /** A drag without a source stays inside the guest's own windows. */
  startDrag(request: Message): Verdict {
    const sourceId = uintAt(request, 0);
    if (this.#toHost || sourceId === 0) return 'pass';
    this.counters.dragsRefused++;
    this.#cancel(sourceId);
    return 'drop';
  }

  /** An offer has no meaning before it is used; from here on nothing of it reaches the guest. */
  introduceOffer({ created }: Message): Verdict {
    if (this.#toGuest) return 'pass';
    if (created) created.hidden = true;
    return 'drop';
  }

  /** There is no selection, as far as the guest can see. */
  offerSelection(event: Message, { hidden }: typeof CLIPBOARD | typeof PRIMARY): Verdict {
    const offerId = uintAt(event, 0);
    if (this.#toGuest || offerId === 0) return 'pass';
    this.counters[hidden]++;
    this.#discard(offerId);
    return message(event.spec, event.object.id, 0);
  }

  enterDrag(event: Message): Verdict {
    this.endDrag(event);
    const offerId = uintAt(event, 4);
    if (this.#toGuest || offerId === 0) return 'pass';
    this.counters.dragsHidden++;
    event.object.state = new HiddenDrag(offerId);
    return 'drop';
  }

  moveDrag({ object }: Message): Verdict {
    return object.state instanceof HiddenDrag ? 'drop' : 'pass';
  }

  /** The drag is over, or elsewhere: let go of its offer, which tells the compositor that nobody takes it. */
  endDrag({ object }: Message): Verdict {
    const drag = object.state;
    if (!(drag instanceof HiddenDrag)) return 'pass';
    object.state = undefined;
    this.#discard(drag.offerId);
    return 'drop';
  }

  #roomForGlobal(name: number): boolean {
    if (this.#globals.size < MAX_GLOBALS || this.#globals.has(name)) return true;
    for (const [old, { gone }] of this.#globals) {
      if (gone) return this.#globals.delete(old);
    }
    return false;
  }

  /** A string with its prefix, cut between two characters where it, or the message, is too long. */
  #named(request: Message, before: number, prefix: Uint8Array, maxBytes: number): Verdict {
    const given = stringBytes(request.view, request.at + HEADER_BYTES + 4 * before);
    const most = Math.min(maxBytes, COMMON_MESSAGE_BYTES - HEADER_BYTES - 4 * before - 4 - 1);
    let length = Math.min(given.length, most - prefix.length);
    if (prefix.length === 0 && length === given.length) return 'pass';
    if (length < given.length) length = startOfCharacter(given, length);
    const text = new Uint8Array(prefix.length + length);
    text.set(prefix);
    text.set(given.subarray(0, length), prefix.length);
    const words = Array.from({ length: before }, (_, word) => uintAt(request, word));
    return message(request.spec, request.object.id, ...words, text);
  }

  #cancel(sourceId: number): void {
    const source = this.#objects.named(sourceId);
    const cancelled = source && SOURCE_CANCELLED.get(source.interface.name);
    if (cancelled) this.#replies.toGuest(message(cancelled, sourceId));
  }

  /** Ends an offer that the guest has never seen. */
  #discard(offerId: number): void {
    const offer = this.#objects.sending(offerId);
    if (!offer?.hidden || offer.destroyed) return;
    const destroy = OFFER_DESTROY.get(offer.interface.name);
    if (!destroy) return;
    this.#replies.toHost(message(destroy, offerId));
    this.#objects.destroy(offer);
  }
}

/** The last place at or before `at` where a character of UTF-8 begins. */
function startOfCharacter(utf8: Uint8Array, at: number): number {
  for (let start = at; start > Math.max(at - 4, 0); start--) {
    if ((utf8[start]! & 0xc0) !== 0x80) return start;
  }
  return at;
}

type Rule = (filter: Filter, message: Message) => Verdict;

const RULES = (() => {
  const requests = handlers<Rule>(requestNamed, {
    'wl_registry.bind': (filter, m) => filter.bind(m),
    'xdg_toplevel.set_title': (filter, m) => filter.setTitle(m),
    'xdg_toplevel.set_app_id': (filter, m) => filter.setAppId(m),
    'xdg_activation_token_v1.set_app_id': (filter, m) => filter.setAppId(m),
    'xdg_toplevel_tag_manager_v1.set_toplevel_tag': (filter, m) => filter.setTitle(m, 1),
    'xdg_toplevel_tag_manager_v1.set_toplevel_description': (filter, m) => filter.setTitle(m, 1),
    'zxdg_toplevel_v6.set_title': (filter, m) => filter.setTitle(m),
    'zxdg_toplevel_v6.set_app_id': (filter, m) => filter.setAppId(m),
    'wl_shell_surface.set_title': (filter, m) => filter.setTitle(m),
    'wl_shell_surface.set_class': (filter, m) => filter.setAppId(m),
    'zwlr_layer_shell_v1.get_layer_surface': (filter, m) => filter.setAppId(m, 4),
    'wl_data_device.set_selection': (filter, m) => filter.setSelection(m, CLIPBOARD),
    'zwp_primary_selection_device_v1.set_selection': (filter, m) => filter.setSelection(m, PRIMARY),
    'ext_data_control_device_v1.set_selection': (filter, m) => filter.setSelection(m, CLIPBOARD),
    'ext_data_control_device_v1.set_primary_selection': (filter, m) => filter.setSelection(m, PRIMARY),
    'zwlr_data_control_device_v1.set_selection': (filter, m) => filter.setSelection(m, CLIPBOARD),
    'zwlr_data_control_device_v1.set_primary_selection': (filter, m) => filter.setSelection(m, PRIMARY),
    'wl_data_device.start_drag': (filter, m) => filter.startDrag(m),
    'wl_fixes.destroy_registry': (filter, m) => filter.destroyRegistry(m),
    'wp_color_manager_v1.create_icc_creator': (filter, m) => filter.refuseProfile(m),
  });
  const events = handlers<Rule>(eventNamed, {
    'wl_registry.global': (filter, m) => filter.announceGlobal(m),
    'wl_registry.global_remove': (filter, m) => filter.removeGlobal(m),
    'wl_data_device.data_offer': (filter, m) => filter.introduceOffer(m),
    'zwp_primary_selection_device_v1.data_offer': (filter, m) => filter.introduceOffer(m),
    'wl_data_device.selection': (filter, m) => filter.offerSelection(m, CLIPBOARD),
    'zwp_primary_selection_device_v1.selection': (filter, m) => filter.offerSelection(m, PRIMARY),
    'ext_data_control_device_v1.data_offer': (filter, m) => filter.introduceOffer(m),
    'ext_data_control_device_v1.selection': (filter, m) => filter.offerSelection(m, CLIPBOARD),
    'ext_data_control_device_v1.primary_selection': (filter, m) => filter.offerSelection(m, PRIMARY),
    'zwlr_data_control_device_v1.data_offer': (filter, m) => filter.introduceOffer(m),
    'zwlr_data_control_device_v1.selection': (filter, m) => filter.offerSelection(m, CLIPBOARD),
    'zwlr_data_control_device_v1.primary_selection': (filter, m) => filter.offerSelection(m, PRIMARY),
    'wl_data_device.enter': (filter, m) => filter.enterDrag(m),
    'wp_color_manager_v1.supported_feature': (filter, m) => filter.offerFeature(m),
    'wl_data_device.motion': (filter, m) => filter.moveDrag(m),
    'wl_data_device.leave': (filter, m) => filter.endDrag(m),
    'wl_data_device.drop': (filter, m) => filter.endDrag(m),
  });
  return events.map((rule, index) => rule ?? requests[index]);
})();
