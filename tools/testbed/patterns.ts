/**
 * What the guest program `kms` draws, computed on this side. The formulas are explained at the top of
 * test/guest/kms.c; the two files change together.
 */
import { type Color, type Picture, paintPicture } from './pictures.ts';

/** Side of the cursor image. */
export const cursorSize = 64;
/** The point of the cursor image that points. */
export const cursorHotspot = { x: 5, y: 7 } as const;
/** Size of the rectangles that `kms --dirty` draws. */
export const dirtySize = { width: 64, height: 48 } as const;

/** The color at a position, before the key of output and frame is applied. */
function patternBase(x: number, y: number): Color {
  return ((x & 0xff) << 16) | ((y & 0xff) << 8) | (((x >> 8) & 0xf) << 4) | ((y >> 8) & 0xf);
}

function patternKey(output: number, frame: number): Color {
  return (Math.imul(frame, 0x9e3779b1) + Math.imul(output, 0x85ebca6b)) >>> 8;
}

/** The color of one pixel of a frame of an output. */
export function patternColor(x: number, y: number, output: number, frame: number): Color {
  return patternBase(x, y) ^ patternKey(output, frame);
}

/** The whole of a frame of an output, as after a mode set (frame 0) or `--flips COUNT` (frame COUNT). */
export function patternPicture(width: number, height: number, output: number, frame: number): Picture {
  const key = patternKey(output, frame);
  return paintPicture(width, height, (x, y) => patternBase(x, y) ^ key);
}

export interface Rectangle {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** The rectangles of one step of `kms --dirty`. */
export function dirtyRectangles(width: number, height: number, step: number): Rectangle[] {
  return [2 * step, 2 * step + 1].map((index) => ({
    x: (97 * index) % (width - dirtySize.width + 1),
    y: (61 * index) % (height - dirtySize.height + 1),
    ...dirtySize,
  }));
}

/** What is shown after `kms --dirty STEPS` over a given frame. */
export function dirtiedPicture(
  width: number,
  height: number,
  output: number,
  frame: number,
  steps: number,
): Picture {
  const { rgb } = patternPicture(width, height, output, frame);
  for (let step = 0; step < steps; step++) {
    for (const rectangle of dirtyRectangles(width, height, step)) {
      for (let y = rectangle.y; y < rectangle.y + rectangle.height; y++) {
        for (let x = rectangle.x; x < rectangle.x + rectangle.width; x++) {
          rgb.writeUIntBE(patternColor(x, y, output, frame + 1 + step), (y * width + x) * 3, 3);
        }
      }
    }
  }
  return { width, height, rgb };
}

/** One pixel of the cursor image as 0xAARRGGBB, premultiplied. */
export function cursorColor(x: number, y: number): number {
  const alpha = x < 32 ? 255 : y < 32 ? 128 : 0;
  const channel = (value: number) => Math.floor((4 * value * alpha) / 255);
  return ((alpha << 24) | (channel(x) << 16) | (channel(y) << 8) | alpha) >>> 0;
}

/** A picture with the cursor image drawn over it, its top left corner at a position that may be off the picture. */
export function withCursor(picture: Picture, left: number, top: number): Picture {
  const rgb = Buffer.from(picture.rgb);
  for (let row = 0; row < cursorSize; row++) {
    for (let column = 0; column < cursorSize; column++) {
      const [x, y] = [left + column, top + row];
      if (x < 0 || y < 0 || x >= picture.width || y >= picture.height) continue;
      const color = cursorColor(column, row);
      const rest = 255 - (color >>> 24);
      const at = (y * picture.width + x) * 3;
      for (let channel = 0; channel < 3; channel++) {
        const own = (color >> (16 - 8 * channel)) & 0xff;
        rgb[at + channel] = own + Math.round((rgb[at + channel]! * rest) / 255);
      }
    }
  }
  return { width: picture.width, height: picture.height, rgb };
}

/** Where `kms --cursor` has the cursor at its two pictures, `cursor-corner` and `cursor`. */
export function cursorPositions(width: number, height: number) {
  return {
    corner: { x: -20, y: -10 },
    inside: { x: Math.floor(width / 3), y: Math.floor(height / 3) },
  } as const;
}

/**
 * Finds where a color belongs, for readable test failures: the frame among the given ones whose pattern has it
 * inside of the picture. For `comparePictures`.
 */
export function explainPattern(
  { width, height }: { readonly width: number; readonly height: number },
  candidates: readonly { readonly output: number; readonly frame: number }[],
): (color: Color) => string | undefined {
  return (color) => {
    const found = candidates.flatMap(({ output, frame }) => {
      const base = color ^ patternKey(output, frame);
      const x = ((base >> 16) & 0xff) | (((base >> 4) & 0xf) << 8);
      const y = ((base >> 8) & 0xff) | ((base & 0xf) << 8);
      return x < width && y < height ? [`(${x}, ${y}) of output ${output}, frame ${frame}`] : [];
    });
    return found.length > 0 ? found.join(' or ') : undefined;
  };
}
