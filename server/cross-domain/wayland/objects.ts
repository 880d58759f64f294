/**
 * The objects of one connection, as both ends name them. An id that the guest has destroyed means the old object to the
 * compositor until wl_display.delete_id, and may mean a new one to the guest at once: so ids have generations.
 */
import { type InterfaceSpec, interfaceNamed } from './schema.ts';
import {
  WaylandError,
  WL_DISPLAY_ERROR_IMPLEMENTATION,
  WL_DISPLAY_ERROR_INVALID_METHOD,
  WL_DISPLAY_ERROR_NO_MEMORY,
  WL_DISPLAY_ID,
} from './wire.ts';

/** Objects of one connection, with those that the compositor has not let go of. */
export const MAX_OBJECTS = 65_536;
/** Destroyed objects of one id that the compositor has not let go of. */
export const MAX_GENERATIONS = 1024;
/** Ids from here on are the compositor's. */
export const FIRST_SERVER_ID = 0xff00_0000;

export class WaylandObject {
  readonly id: number;
  readonly interface: InterfaceSpec;
  readonly version: number;
  /** The guest does not know of it. */
  hidden = false;
  /** The guest has ended it, or what made it. */
  destroyed = false;
  /** What the inspector or the filter knows of it. */
  state: object | undefined;

  constructor(id: number, spec: InterfaceSpec, version: number) {
    this.id = id;
    this.interface = spec;
    this.version = version;
  }
}

export class ObjectTable {
  /** The newest generation of each id. */
  readonly #newest = new Map<number, WaylandObject>();
  /** Older ones, oldest first. */
  readonly #dying = new Map<number, WaylandObject[]>();
  #count = 0;
  /** The lowest id of each end that was never used. */
  #unusedGuestId = WL_DISPLAY_ID;
  #unusedServerId = FIRST_SERVER_ID;

  constructor() {
    this.create(WL_DISPLAY_ID, interfaceNamed('wl_display'), 1);
  }

  /** Objects that exist for one of the two ends. */
  get count(): number {
    return this.#count;
  }

  /** What the guest means by an id. */
  named(id: number): WaylandObject | undefined {
    const object = this.#newest.get(id);
    return object === undefined || object.hidden || object.destroyed ? undefined : object;
  }

  /** The first object of an interface that the guest has. */
  firstOf(interfaceName: string): WaylandObject | undefined {
    for (const object of this.#newest.values()) if (object.interface.name === interfaceName) return object;
    return undefined;
  }

  /** What the compositor means by an id. */
  sending(id: number): WaylandObject | undefined {
    if (this.#dying.size > 0) {
      const oldest = this.#dying.get(id)?.[0];
      if (oldest) return oldest;
    }
    return this.#newest.get(id);
  }

  /** Refuses an id that the guest can give to no new object: libwayland takes the next one, and those that are free. */
  refuseUsed(id: number): void {
    if (id === 0 || id > this.#unusedGuestId || this.#newest.has(id))
      throw new WaylandError(WL_DISPLAY_ERROR_INVALID_METHOD, `invalid new id ${id}`);
  }

  /** An object that the guest makes. */
  create(id: number, spec: InterfaceSpec, version: number): WaylandObject {
    this.refuseUsed(id);
    if (id === this.#unusedGuestId) this.#unusedGuestId++;
    return this.#insert(new WaylandObject(id, spec, version));
  }

  /**
   * Whether the compositor can make an object of that id. It uses one again as soon as it has seen the destructor, or
   * when the guest has never seen the object.
   */
  canAnnounce(id: number): boolean {
    const old = id < FIRST_SERVER_ID ? undefined : this.#newest.get(id);
    return old ? old.destroyed || old.hidden : id === this.#unusedServerId;
  }

  /** An object that the compositor makes. */
  announce(id: number, spec: InterfaceSpec, version: number): WaylandObject {
    if (!this.canAnnounce(id))
      throw new WaylandError(WL_DISPLAY_ERROR_IMPLEMENTATION, `compositor made ${spec.name} ${id}`);
    if (id === this.#unusedServerId) this.#unusedServerId++;
    else if (this.#newest.delete(id)) this.#count--;
    return this.#insert(new WaylandObject(id, spec, version));
  }

  /** The destructor of an object has gone out. */
  destroy(object: WaylandObject): void {
    object.destroyed = true;
    this.retire(object);
  }

  /** An object that no request can mean any more; events can, until wl_display.delete_id. */
  retire(object: WaylandObject): void {
    if (object.id >= FIRST_SERVER_ID) return;
    this.#newest.delete(object.id);
    const generations = this.#dying.get(object.id);
    if (!generations) this.#dying.set(object.id, [object]);
    else if (generations.length < MAX_GENERATIONS) generations.push(object);
    else throw new WaylandError(WL_DISPLAY_ERROR_NO_MEMORY, `id ${object.id} is used again too often`);
  }

  /** The compositor has let go of the oldest object of an id. */
  release(id: number): void {
    const generations = this.#dying.get(id);
    if (generations) {
      generations.shift();
      if (generations.length === 0) this.#dying.delete(id);
      this.#count--;
    } else if (id !== WL_DISPLAY_ID && id < FIRST_SERVER_ID && this.#newest.delete(id)) {
      this.#count--;
    }
  }

  #insert(object: WaylandObject): WaylandObject {
    if (this.#count >= MAX_OBJECTS) throw new WaylandError(WL_DISPLAY_ERROR_NO_MEMORY, 'too many objects');
    this.#newest.set(object.id, object);
    this.#count++;
    return object;
  }
}
