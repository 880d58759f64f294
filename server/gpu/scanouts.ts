/** Which part of which resource each display shows, and the cursors over them. */
import type { Display, Rect } from '../displays/display.ts';
import { MAX_CURSOR_SIZE, MIN_CURSOR_SIZE } from './limits.ts';
import { BYTES_PER_PIXEL } from './protocol.ts';
import type { Resource } from './resources.ts';

interface Scanout {
  readonly resource: Resource;
  readonly rect: Rect;
}

export class Scanouts {
  readonly displays: readonly Display[];
  readonly #shown: (Scanout | undefined)[];

  constructor(displays: readonly Display[]) {
    this.displays = displays;
    this.#shown = displays.map(() => undefined);
  }

  /** Shows the rectangle, which lies inside the resource, on display `index`. */
  show(index: number, resource: Resource, rect: Rect): void {
    this.#shown[index] = { resource, rect };
    this.displays[index]?.show({
      width: rect.width,
      height: rect.height,
      order: resource.order,
      bytes: resource.image.bytes,
      offsetBytes: rect.y * resource.image.strideBytes + rect.x * BYTES_PER_PIXEL,
      strideBytes: resource.image.strideBytes,
    });
  }

  blank(index: number): void {
    this.#shown[index] = undefined;
    this.displays[index]?.show(undefined);
  }

  /** Takes a resource off every display, because it is going away. */
  forget(resource: Resource): void {
    this.#shown.forEach((scanout, index) => {
      if (scanout?.resource === resource) this.blank(index);
    });
  }

  /** Tells every display that shows it which part of the resource is new. */
  flush(resource: Resource, rect: Rect): void {
    this.#shown.forEach((scanout, index) => {
      if (scanout?.resource !== resource) return;
      const damaged = intersect(rect, scanout.rect);
      if (damaged) {
        const { x, y } = scanout.rect;
        this.displays[index]?.damage({ ...damaged, x: damaged.x - x, y: damaged.y - y });
      }
    });
  }

  /** A new cursor image, unless there is none under this id or it is no cursor's size: then the old one stays. */
  setCursor(index: number, resource: Resource | undefined, hotX: number, hotY: number): void {
    if (!resource || !isCursorSize(resource.width) || !isCursorSize(resource.height)) return;
    const { width, height, image, order } = resource;
    this.displays[index]?.setCursorImage({
      width,
      height,
      // Linux declares every dumb buffer as having no alpha, also one it uses as a cursor.
      order: order.a < 0 ? { ...order, a: 6 - order.r - order.g - order.b } : order,
      bytes: image.bytes,
      offsetBytes: 0,
      strideBytes: image.strideBytes,
      hotX: Math.min(hotX, width - 1),
      hotY: Math.min(hotY, height - 1),
    });
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

/** The common part of two rectangles; undefined when it is empty. */
export function intersect(a: Rect, b: Rect): Rect | undefined {
  const x = Math.max(a.x, b.x);
  const y = Math.max(a.y, b.y);
  const width = Math.min(a.x + a.width, b.x + b.width) - x;
  const height = Math.min(a.y + a.height, b.y + b.height) - y;
  return width > 0 && height > 0 ? { x, y, width, height } : undefined;
}
