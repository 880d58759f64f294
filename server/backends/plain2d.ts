/** 2D resources in host memory: one memfd per image, filled from guest pages by one native call per transfer. */
import { type GuestAddressSpace, gather } from '../../native/index.ts';
import type { PixelSource, Rect, Rows } from '../displays/display.ts';
import { linearPixels } from '../displays/frame.ts';
import { PixelMemory } from '../displays/pixel-memory.ts';
import type { Backend2d, Image } from '../gpu/contracts/backend2d.ts';
import { type Backing, backingLength } from '../gpu/contracts/backing.ts';
import { BYTES_PER_PIXEL } from '../gpu/protocol.ts';

class MemfdImage implements Image {
  readonly strideBytes: number;
  readonly #memory: PixelMemory;

  constructor(width: number, height: number) {
    this.strideBytes = width * BYTES_PER_PIXEL;
    this.#memory = new PixelMemory('virtio-gpu-2d', this.strideBytes * height);
  }

  get bytes(): Uint8Array {
    return this.#memory.bytes;
  }

  copyRows(from: Rows, to: Uint8Array, toRows: Rows, rowBytes: number, rows: number): boolean {
    return linearPixels(this.bytes).copyRows(from, to, toRows, rowBytes, rows);
  }

  close(): void {
    this.#memory.close();
  }
}

export class Plain2d implements Backend2d {
  readonly #guest: GuestAddressSpace;

  constructor(guest: GuestAddressSpace) {
    this.#guest = guest;
  }

  createImage(width: number, height: number): Image {
    return new MemfdImage(width, height);
  }

  transferToHost(backing: Backing, offset: number, image: Image, rect: Rect): number | undefined {
    if (offset >= backingLength(backing)) return 0;
    const { strideBytes } = image;
    const imageOffset = rect.y * strideBytes + rect.x * BYTES_PER_PIXEL;
    const copied = gather(
      this.#guest,
      backing,
      { offset, strideBytes },
      image.bytes,
      { offset: imageOffset, strideBytes },
      rect.width * BYTES_PER_PIXEL,
      rect.height,
    );
    return copied < 0 ? undefined : copied;
  }

  guestPixels(backing: () => Backing | undefined): PixelSource {
    return {
      copyRows: (from, to, toRows, rowBytes, rows) => {
        const entries = backing();
        return entries !== undefined && gather(this.#guest, entries, from, to, toRows, rowBytes, rows) >= 0;
      },
    };
  }
}
