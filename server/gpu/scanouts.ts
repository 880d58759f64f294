/** Which part of which resource each display shows, and the cursors over them. */
import type { Display, Picture, PixelOrder, PixelSource, Rect } from '../displays/display.ts';
import { intersection } from '../displays/rects.ts';
import type { Backend2d } from './contracts/backend2d.ts';
import { GpuFault } from './fault.ts';
import { MAX_CURSOR_SIZE, MIN_CURSOR_SIZE } from './limits.ts';
import { BYTES_PER_PIXEL, VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID } from './protocol.ts';
import type { Quota } from './quota.ts';
import { type Blob, type Resource, type Resource2d, sizeOf } from './resources.ts';
import type { Window } from './window.ts';

interface Scanout {
  readonly resource: Resource;
  readonly rect: Rect;
  /** Charged for the copy of it that viewers, or a frozen picture, may need. */
  readonly chargedBytes: number;
}

/** How the bytes of a blob are a picture. */
export interface BlobLayout {
  readonly order: PixelOrder;
  readonly offset: number;
  readonly strideBytes: number;
}

export interface ScanoutsOptions {
  readonly displays: readonly Display[];
  readonly backend: Backend2d;
  readonly window: Window | undefined;
  /** Charged for copies of blobs that are shown. */
  readonly pixels: Quota;
}

/** The cursor of Linux, and of everybody: a blob has no size of its own (5.7.6.10). */
const BLOB_CURSOR_SIZE = 64;
const BLOB_CURSOR_ORDER: PixelOrder = { b: 0, g: 1, r: 2, a: 3 };

export class Scanouts {
  readonly displays: readonly Display[];
  readonly #backend: Backend2d;
  readonly #window: Window | undefined;
  readonly #pixels: Quota;
  readonly #shown: (Scanout | undefined)[];

  constructor({ displays, backend, window, pixels }: ScanoutsOptions) {
    this.displays = displays;
    this.#backend = backend;
    this.#window = window;
    this.#pixels = pixels;
    this.#shown = displays.map(() => undefined);
  }

  /** A fault where there is no scanout of this number. */
  require(index: number): void {
    if (index >= this.displays.length)
      throw new GpuFault(VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID, `no scanout ${index}`);
  }

  /** Shows the rectangle, which lies inside the resource, on display `index`. */
  show(index: number, resource: Resource2d, rect: Rect): void {
    const { strideBytes } = resource.image;
    this.#replace(index, { resource, rect, chargedBytes: 0 });
    this.displays[index]?.show({
      width: rect.width,
      height: rect.height,
      order: resource.order,
      source: resource.image,
      rows: { offset: rect.y * strideBytes + rect.x * BYTES_PER_PIXEL, strideBytes },
    });
  }

  /** The same for a blob, inside which the rectangle lies by this layout. A fault when copies would cost too much. */
  showBlob(index: number, resource: Blob, rect: Rect, { order, offset, strideBytes }: BlobLayout): void {
    const chargedBytes = rect.width * rect.height * BYTES_PER_PIXEL;
    this.#pixels.charge(chargedBytes, 'a picture', this.#shown[index]?.chargedBytes);
    this.#shown[index] = { resource, rect, chargedBytes };
    this.displays[index]?.show({
      width: rect.width,
      height: rect.height,
      order,
      source: this.#sourceOf(resource),
      rows: { offset: offset + rect.y * strideBytes + rect.x * BYTES_PER_PIXEL, strideBytes },
    });
  }

  #sourceOf(blob: Blob): PixelSource {
    if (blob.kind === 'guest') return this.#backend.guestPixels(() => blob.backing);
    return this.#window?.memory.pixels(() => blob.place?.offset) ?? { copyRows: () => false };
  }

  #replace(index: number, scanout: Scanout | undefined): void {
    this.#pixels.refund(this.#shown[index]?.chargedBytes ?? 0);
    this.#shown[index] = scanout;
  }

  blank(index: number): void {
    this.#replace(index, undefined);
    this.displays[index]?.show(undefined);
  }

  /** Takes a resource off every display, because it is going away. */
  forget(resource: Resource): void {
    this.#shown.forEach((scanout, index) => {
      if (scanout?.resource === resource) this.blank(index);
    });
  }

  /** The memory of a resource is going away: what shows it keeps what it shows. */
  freeze(resource: Resource): void {
    this.#shown.forEach((scanout, index) => {
      if (scanout?.resource === resource) this.displays[index]?.freeze();
    });
  }

  /** Tells every display that shows it which part of the resource is new. Returns the bytes copied for viewers. */
  flush(resource: Resource, rect: Rect): number {
    let copiedBytes = 0;
    this.#shown.forEach((scanout, index) => {
      if (scanout?.resource !== resource) return;
      const damaged = intersection(rect, scanout.rect);
      if (!damaged) return;
      const { x, y } = scanout.rect;
      copiedBytes += this.displays[index]?.damage({ ...damaged, x: damaged.x - x, y: damaged.y - y }) ?? 0;
    });
    return copiedBytes;
  }

  /** A new cursor image, unless there is none under this id or it is no cursor's size: then the old one stays. */
  setCursor(index: number, resource: Resource | undefined, hotX: number, hotY: number): void {
    const image = resource && this.#cursorImage(resource);
    if (!image) return;
    const { width, height } = image;
    this.displays[index]?.setCursorImage({
      ...image,
      hotX: Math.min(hotX, width - 1),
      hotY: Math.min(hotY, height - 1),
    });
  }

  #cursorImage(resource: Resource): Picture | undefined {
    if (resource.kind !== '2d') {
      const size = BLOB_CURSOR_SIZE;
      const rows = { offset: 0, strideBytes: size * BYTES_PER_PIXEL };
      if (sizeOf(resource) < rows.strideBytes * size) return undefined;
      return { width: size, height: size, order: BLOB_CURSOR_ORDER, source: this.#sourceOf(resource), rows };
    }
    const { width, height, image, order } = resource;
    if (!isCursorSize(width) || !isCursorSize(height)) return undefined;
    return {
      width,
      height,
      // Linux declares every dumb buffer as having no alpha, also one it uses as a cursor.
      order: order.a < 0 ? { ...order, a: 6 - order.r - order.g - order.b } : order,
      source: image,
      rows: { offset: 0, strideBytes: image.strideBytes },
    };
  }

  moveCursor(index: number, x: number, y: number, visible: boolean): void {
    this.displays[index]?.moveCursor(x, y);
    this.displays[index]?.showCursor(visible);
  }

  /** No picture and no cursor anywhere. */
  clear(): void {
    this.displays.forEach((display, index) => {
      this.blank(index);
      display.showCursor(false);
    });
  }
}

const isCursorSize = (size: number) => size >= MIN_CURSOR_SIZE && size <= MAX_CURSOR_SIZE;
