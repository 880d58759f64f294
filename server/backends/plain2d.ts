/** 2D resources in host memory: one memfd per image, filled from guest pages by one native call per transfer. */
import { closeSync } from 'node:fs';
import { createMemfd, type GuestAddressSpace, gather, Mapping } from '../../native/index.ts';
import type { Rect } from '../displays/display.ts';
import { type Backend2d, type Backing, backingLength, type Image } from '../gpu/backend.ts';
import { BYTES_PER_PIXEL } from '../gpu/protocol.ts';

class MemfdImage implements Image {
  readonly strideBytes: number;
  readonly bytes: Uint8Array;
  readonly #fd: number;
  readonly #mapping: Mapping;

  constructor(width: number, height: number) {
    this.strideBytes = width * BYTES_PER_PIXEL;
    const lengthBytes = this.strideBytes * height;
    this.#fd = createMemfd('virtio-gpu-2d', lengthBytes, { seals: 'size' });
    try {
      this.#mapping = Mapping.map(this.#fd, { lengthBytes, writable: true, whole: true });
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
    this.bytes = this.#mapping.bytes(0, lengthBytes);
  }

  close(): void {
    this.#mapping.close();
    closeSync(this.#fd);
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
}
