/** Shows animated PNGs by a decoder that is not ours. */
import { readFileSync } from 'node:fs';
import UPNG from 'upng-js';

export interface Animation {
  readonly width: number;
  readonly height: number;
  /** RGBA of what is seen. */
  readonly frames: readonly Buffer[];
  /** How long each is seen. */
  readonly delaysMs: readonly number[];
}

export function play(path: string): Animation {
  const bytes = readFileSync(path);
  const image = UPNG.decode(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  return {
    width: image.width,
    height: image.height,
    frames: UPNG.toRGBA8(image).map((frame) => Buffer.from(frame)),
    delaysMs: image.frames.map(({ delay }) => delay),
  };
}
