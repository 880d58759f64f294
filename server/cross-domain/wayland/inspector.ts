/**
 * Which bytes of which pools a compositor will look at, for those that it sees as copies: it follows buffers and
 * surfaces, and at each commit names the rows that have changed since the buffer was last copied.
 *
 * A guest changes what it has damaged. Buffers take turns, so a buffer has missed the damage of the frames between its
 * turns: each surface remembers its latest frames. Whatever is not certain is copied whole: a buffer that is new to the
 * surface, another size of buffer, another way of showing it, formats of several planes.
 */
import { fourcc } from '../images.ts';
import { intAt, type Message, uintAt } from './message.ts';
import type { ObjectTable, WaylandObject } from './objects.ts';
import { handlers, requestNamed } from './schema.ts';
import { WaylandError, WL_DISPLAY_ERROR_NO_MEMORY } from './wire.ts';

/** A buffer of the guest, as the caller knows it. */
export interface GuestBlob {
  readonly kind: 'blob';
  readonly resourceId: number;
  /** A pool that is larger is refused where this is given: some compositors die of it. */
  readonly sizeBytes?: number;
}

/** Bytes that must be brought from the guest's buffer to what the compositor has of it. */
export interface Copy<B extends GuestBlob = GuestBlob> {
  /** The very object that came as the descriptor of the pool: resource ids are used again. */
  readonly blob: B;
  readonly offset: number;
  readonly lengthBytes: number;
}

export interface CopyCounters {
  /** Ranges that have to be copied where the memory is not shared, and their bytes. */
  damagedRanges: number;
  damagedBytes: number;
  /** Commits of a buffer of a pool. */
  frames: number;
  /** Of these, the ones that copied the whole buffer. */
  wholeFrames: number;
}

/** Frames that a surface remembers. A buffer that comes back later is copied whole. */
export const REMEMBERED_FRAMES = 8;
/** Separate damages of one frame; more become larger ones. */
export const MAX_DAMAGES = 16;
/** Buffers in one icon. */
export const MAX_ICON_BUFFERS = 64;
const WL_SHM_ERROR_INVALID_FD = 2;

/** Formats of one plane: rows lie one stride apart, and nothing is behind them. 0 and 1 are wl_shm's own. */
const ONE_PLANE: ReadonlySet<number> = new Set([
  0,
  1,
  ...[
    'C8  R8  R16 RG88GR88RG32GR32RGB8BGR8RG16BG16RG24BG24YUYVYVYUUYVYVYUYAYUVXYUV',
    'XR12XB12RX12BX12AR12AB12RA12BA12XR15XB15RX15BX15AR15AB15RA15BA15',
    'XR24XB24RX24BX24AR24AB24RA24BA24XR30XB30RX30BX30AR30AB30RA30BA30',
    'XR4HXB4HAR4HAB4HXR48XB48AR48AB48',
  ].flatMap((names) => names.match(/.{4}/g)!.map(fourcc)),
]);

class Pool {
  readonly blob: GuestBlob | undefined;
  sizeBytes: number;
  constructor(blob: GuestBlob | undefined, sizeBytes: number) {
    this.blob = blob;
    this.sizeBytes = sizeBytes;
  }
}

class Buffer {
  readonly pool: Pool;
  readonly offset: number;
  readonly width: number;
  readonly height: number;
  readonly stride: number;
  readonly onePlane: boolean;
  /** The surface that it was last committed to, and in which of its frames. */
  surface: Surface | undefined;
  frame = 0;

  constructor(pool: Pool, offset: number, size: readonly [number, number, number, number]) {
    const [width, height, stride, format] = size;
    this.pool = pool;
    this.offset = offset;
    this.width = width;
    this.height = height;
    this.stride = stride;
    this.onePlane = ONE_PLANE.has(format >>> 0);
  }

  /** Bytes from `offset` on; of several planes, all that there is. */
  get lengthBytes(): number {
    const rest = Math.max(this.pool.sizeBytes - this.offset, 0);
    return this.onePlane ? Math.min(this.stride * this.height, rest) : rest;
  }
}

/** Rows [start, end), start and end in turn. */
type Rows = number[];
const ALL = undefined;

/**
 * How a surface shows a buffer, with nothing left out: scale, transform, source (x, y, width, height) in 256ths, size of
 * the surface. Source and size are those after scale and transform, as wp_viewport has them.
 */
type Shape = readonly [number, number, ...Quad, ...Pair];

class Surface {
  /** Undefined: nothing was attached; null: nothing that is copied is attached. */
  pending: Buffer | null | undefined;
  current: Buffer | null = null;
  /** In surface coordinates; which of the two become rows of the buffer is known at the commit. */
  damagedColumns: Rows = [];
  damagedRows: Rows = [];
  bufferDamage: Rows = [];
  /** These hold from the next commit on. */
  scale = 1;
  transform = 0;
  viewport: Viewport | undefined;
  /** Of the last commit that had a buffer. */
  shape: Shape | undefined;
  frame = 0;
  readonly damages: (Rows | undefined)[] = [];
}

class Viewport {
  readonly surface: Surface;
  /** In 256ths. Undefined: all of the buffer. */
  source: Quad | undefined;
  /** Undefined: the size of the source. */
  destination: Pair | undefined;
  constructor(surface: Surface) {
    this.surface = surface;
  }
}

class Icon {
  readonly buffers = new Set<Buffer>();
}

export class Inspector<B extends GuestBlob = GuestBlob> {
  readonly counters: CopyCounters = { damagedRanges: 0, damagedBytes: 0, frames: 0, wholeFrames: 0 };
  readonly #objects: ObjectTable;
  readonly #descriptor: (index: number) => GuestBlob | undefined;
  #copies: Copy<B>[] = [];

  /** `descriptor` gives the buffer behind a descriptor by its index; only asked during the request it comes with. */
  constructor(objects: ObjectTable, descriptor: (index: number) => B | undefined) {
    this.#objects = objects;
    this.#descriptor = descriptor;
  }

  /** Follows a message that goes on. Throws `WaylandError` where the guest may not go on. */
  follow(message: Message): void {
    FOLLOWED[message.spec.index]?.(this as unknown as Inspector, message);
  }

  /** Copies that the messages since the last call ask for, to be done before they are sent. */
  takeCopies(): readonly Copy<B>[] {
    if (this.#copies.length === 0) return NOTHING;
    const copies = this.#copies;
    this.#copies = [];
    return copies;
  }

  createPool(request: Message): void {
    const blob = this.#descriptor(request.fd);
    const sizeBytes = intAt(request, 1);
    checkPoolSize(request, blob, sizeBytes);
    request.created!.state = new Pool(blob, sizeBytes);
  }

  resizePool(request: Message): void {
    const pool = request.object.state;
    if (!(pool instanceof Pool)) return;
    const sizeBytes = intAt(request, 0);
    checkPoolSize(request, pool.blob, sizeBytes);
    pool.sizeBytes = Math.max(pool.sizeBytes, sizeBytes);
  }

  createBuffer(request: Message): void {
    const pool = request.object.state;
    const [offset, width, height, stride] = [1, 2, 3, 4].map((word) => intAt(request, word)) as Quad;
    // What makes no sense is for the compositor to refuse: there is nothing to copy.
    if (!(pool instanceof Pool) || offset < 0 || width <= 0 || height <= 0 || stride <= 0) return;
    const size = [width, height, stride, intAt(request, 5)] as const;
    request.created!.state = new Buffer(pool, offset, size);
  }

  attach(request: Message): void {
    surfaceOf(request.object).pending = this.#buffer(uintAt(request, 0));
  }

  damage(request: Message): void {
    const { damagedColumns, damagedRows } = surfaceOf(request.object);
    const [x, y, width, height] = [0, 1, 2, 3].map((word) => intAt(request, word)) as Quad;
    if (width <= 0 || height <= 0) return;
    addRows(damagedColumns, x, x + width);
    addRows(damagedRows, y, y + height);
  }

  damageBuffer(request: Message): void {
    const y = intAt(request, 1);
    const height = intAt(request, 3);
    if (intAt(request, 2) > 0 && height > 0) addRows(surfaceOf(request.object).bufferDamage, y, y + height);
  }

  setScale(request: Message): void {
    surfaceOf(request.object).scale = intAt(request, 0);
  }

  setTransform(request: Message): void {
    surfaceOf(request.object).transform = intAt(request, 0);
  }

  getViewport(request: Message): void {
    const object = this.#objects.named(uintAt(request, 1));
    if (object?.interface.name !== 'wl_surface') return;
    const surface = surfaceOf(object);
    // A second one is for the compositor to refuse.
    surface.viewport ??= new Viewport(surface);
    request.created!.state = surface.viewport;
  }

  setSource(request: Message): void {
    const viewport = request.object.state;
    if (!(viewport instanceof Viewport)) return;
    const source = [0, 1, 2, 3].map((word) => intAt(request, word)) as Quad;
    viewport.source = source.every((value) => value === -FIXED) ? undefined : source;
  }

  setDestination(request: Message): void {
    const viewport = request.object.state;
    if (!(viewport instanceof Viewport)) return;
    const destination: Pair = [intAt(request, 0), intAt(request, 1)];
    viewport.destination = destination.every((value) => value === -1) ? undefined : destination;
  }

  destroyViewport({ object }: Message): void {
    if (object.state instanceof Viewport) object.state.surface.viewport = undefined;
  }

  /** A compositor may look at the pixels at once, or when the icon is used. */
  addIconBuffer(request: Message): void {
    const buffer = this.#buffer(uintAt(request, 0));
    if (!buffer) return;
    request.object.state ??= new Icon();
    const { buffers } = request.object.state as Icon;
    if (buffers.size >= MAX_ICON_BUFFERS)
      throw new WaylandError(WL_DISPLAY_ERROR_NO_MEMORY, 'too many buffers in an icon');
    buffers.add(buffer);
    this.#copyRows(buffer, ALL);
  }

  setIcon(request: Message): void {
    const icon = this.#objects.named(uintAt(request, 1))?.state;
    if (!(icon instanceof Icon)) return;
    for (const buffer of icon.buffers) this.#copyRows(buffer, ALL);
  }

  commit({ object }: Message): void {
    const surface = surfaceOf(object);
    const attached = surface.pending;
    const before = surface.current;
    if (attached !== undefined) surface.current = attached;
    const buffer = surface.current;
    const damaged = surface.damagedRows.length > 0 || surface.bufferDamage.length > 0;
    const shape = buffer ? shapeOf(surface, buffer) : undefined;
    const reshaped = !sameShape(shape, surface.shape);
    if (attached !== undefined || damaged || reshaped) {
      surface.frame++;
      const certain = shape && before && sameSize(buffer!, before) && !reshaped;
      surface.damages[surface.frame % REMEMBERED_FRAMES] = certain ? damageOf(surface, shape, buffer!) : ALL;
      if (buffer && (attached || damaged)) this.#frame(surface, buffer);
    }
    surface.pending = undefined;
    surface.shape = shape;
    if (damaged) {
      surface.damagedColumns = [];
      surface.damagedRows = [];
      surface.bufferDamage = [];
    }
  }

  #frame(surface: Surface, buffer: Buffer): void {
    const rows = missed(surface, buffer);
    this.counters.frames++;
    if (rows === ALL) this.counters.wholeFrames++;
    this.#copyRows(buffer, rows);
    buffer.surface = surface;
    buffer.frame = surface.frame;
  }

  #copyRows(buffer: Buffer, rows: Rows | undefined): void {
    const { offset, stride, lengthBytes } = buffer;
    if (rows === ALL || !buffer.onePlane) {
      if (rows === ALL || rows.length > 0) this.#copy(buffer, offset, lengthBytes);
      return;
    }
    for (let i = 0; i < rows.length; i += 2) {
      const start = Math.min(rows[i]! * stride, lengthBytes);
      this.#copy(buffer, offset + start, Math.min(rows[i + 1]! * stride, lengthBytes) - start);
    }
  }

  #copy({ pool }: Buffer, offset: number, lengthBytes: number): void {
    if (!pool.blob || lengthBytes <= 0) return;
    this.#copies.push({ blob: pool.blob as B, offset, lengthBytes });
    this.counters.damagedRanges++;
    this.counters.damagedBytes += lengthBytes;
  }

  #buffer(id: number): Buffer | null {
    const state = id === 0 ? undefined : this.#objects.named(id)?.state;
    return state instanceof Buffer ? state : null;
  }
}

type Quad = [number, number, number, number];
type Pair = [number, number];
/** One, as wl_fixed. */
const FIXED = 256;
const NOTHING: readonly never[] = [];

function checkPoolSize({ object }: Message, blob: GuestBlob | undefined, sizeBytes: number): void {
  if (blob?.sizeBytes !== undefined && sizeBytes > blob.sizeBytes)
    throw new WaylandError(
      WL_SHM_ERROR_INVALID_FD,
      `pool of ${sizeBytes} bytes in a buffer of ${blob.sizeBytes}`,
      object.id,
    );
}

/** Made when it is first needed: most surfaces never see half of these requests. */
function surfaceOf(object: WaylandObject): Surface {
  if (!(object.state instanceof Surface)) object.state = new Surface();
  return object.state as Surface;
}

const sameSize = (a: Buffer, b: Buffer) => a === b || (a.width === b.width && a.height === b.height);

function shapeOf({ scale, transform, viewport }: Surface, { width, height }: Buffer): Shape {
  const [across, down] = isTurned(transform) ? [height, width] : [width, height];
  const source = viewport?.source ?? [0, 0, (FIXED * across) / scale, (FIXED * down) / scale];
  const destination = viewport?.destination ?? [source[2] / FIXED, source[3] / FIXED];
  return [scale, transform, ...source, ...destination];
}

const sameShape = (a: Shape | undefined, b: Shape | undefined) =>
  a !== undefined && b !== undefined && a.every((value, i) => value === b[i]);

/** By a quarter, so that columns of the surface are rows of the buffer. */
const isTurned = (transform: number) => (transform & 1) === 1;
/** By wl_output.transform: whether the buffer's first row is the surface's last row or column. */
const IS_MIRRORED = [false, true, true, false, false, false, true, true];

/** Puts rows to those that they touch; where there are too many, the last ones grow. */
function addRows(rows: Rows, start: number, end: number): void {
  let into = -1;
  for (let i = 0; i < rows.length && into < 0; i += 2) {
    if (start <= rows[i + 1]! && end >= rows[i]!) into = i;
  }
  if (into < 0 && rows.length >= 2 * MAX_DAMAGES) into = rows.length - 2;
  if (into < 0) {
    rows.push(start, end);
    return;
  }
  rows[into] = Math.min(rows[into]!, start);
  rows[into + 1] = Math.max(rows[into + 1]!, end);
}

/** In order, none twice. */
function merged(rows: Rows): Rows {
  if (rows.length <= 2) return rows;
  const starts = Array.from({ length: rows.length / 2 }, (_, i) => 2 * i).sort((a, b) => rows[a]! - rows[b]!);
  const out: Rows = [];
  for (const i of starts) {
    const last = out.length - 1;
    if (last > 0 && rows[i]! <= out[last]!) out[last] = Math.max(out[last]!, rows[i + 1]!);
    else out.push(rows[i]!, rows[i + 1]!);
  }
  return out;
}

/** The damage of a commit in rows of its buffer. */
function damageOf(surface: Surface, shape: Shape, { height }: Buffer): Rows | undefined {
  const { damagedColumns, damagedRows, bufferDamage } = surface;
  const rows: Rows = [];
  const add = (from: number, to: number) => {
    const start = Math.max(from, 0);
    const end = Math.min(to, height);
    if (start < end) addRows(rows, start, end);
  };
  for (let i = 0; i < bufferDamage.length; i += 2) add(bufferDamage[i]!, bufferDamage[i + 1]!);
  if (damagedRows.length === 0) return rows;
  const [scale, transform, x, y, sourceWidth, sourceHeight, width, destinationHeight] = shape;
  const [from, length, extent, damage] = isTurned(transform)
    ? [x, sourceWidth, width, damagedColumns]
    : [y, sourceHeight, destinationHeight, damagedRows];
  const isMirrored = IS_MIRRORED[transform];
  // What cannot be is for the compositor to refuse; beyond safe integers a row might be missed.
  const isExact = Number.isSafeInteger(scale * extent * (from + length)) && height % scale === 0;
  if (isMirrored === undefined || !isExact || scale < 1 || extent < 1 || length < 1 || from < 0) return ALL;
  if (!Number.isInteger(extent)) return ALL;
  /** In rows of the buffer, from its first or last one. */
  const scaled = (at: number) => (scale * (from * extent + at * length)) / (FIXED * extent);
  for (let i = 0; i < damage.length; i += 2) {
    const first = Math.max(damage[i]!, 0);
    const last = Math.min(damage[i + 1]!, extent);
    if (first >= last) continue;
    const start = Math.floor(scaled(first));
    const end = Math.ceil(scaled(last));
    if (isMirrored) add(height - end, height - start);
    else add(start, end);
  }
  return rows;
}

/** What has changed since a buffer was last copied for this surface. */
function missed(surface: Surface, buffer: Buffer): Rows | undefined {
  const frames = surface.frame - buffer.frame;
  if (buffer.surface !== surface || frames > REMEMBERED_FRAMES) return ALL;
  const rows: Rows = [];
  for (let frame = buffer.frame + 1; frame <= surface.frame; frame++) {
    const damage = surface.damages[frame % REMEMBERED_FRAMES];
    if (damage === ALL) return ALL;
    rows.push(...damage);
  }
  return merged(rows);
}

type Follow = (inspector: Inspector, message: Message) => void;

const FOLLOWED = handlers<Follow>(requestNamed, {
  'wl_shm.create_pool': (inspector, m) => inspector.createPool(m),
  'wl_shm_pool.create_buffer': (inspector, m) => inspector.createBuffer(m),
  'wl_shm_pool.resize': (inspector, m) => inspector.resizePool(m),
  'wl_surface.attach': (inspector, m) => inspector.attach(m),
  'wl_surface.damage': (inspector, m) => inspector.damage(m),
  'wl_surface.damage_buffer': (inspector, m) => inspector.damageBuffer(m),
  'wl_surface.set_buffer_scale': (inspector, m) => inspector.setScale(m),
  'wl_surface.set_buffer_transform': (inspector, m) => inspector.setTransform(m),
  'wl_surface.commit': (inspector, m) => inspector.commit(m),
  'wp_viewporter.get_viewport': (inspector, m) => inspector.getViewport(m),
  'wp_viewport.set_source': (inspector, m) => inspector.setSource(m),
  'wp_viewport.set_destination': (inspector, m) => inspector.setDestination(m),
  'wp_viewport.destroy': (inspector, m) => inspector.destroyViewport(m),
  'xdg_toplevel_icon_v1.add_buffer': (inspector, m) => inspector.addIconBuffer(m),
  'xdg_toplevel_icon_manager_v1.set_icon': (inspector, m) => inspector.setIcon(m),
});
