/**
 * Pictures as the test bed sees them: eight bits of red, green and blue per pixel, no padding, top row first.
 * Reads what QEMU (PPM) and the server (PNG) write, and explains how two pictures differ.
 */
import { decode, encode } from 'fast-png';

export interface Picture {
  readonly width: number;
  readonly height: number;
  /** `width * height * 3` bytes. */
  readonly rgb: Buffer;
}

/** One pixel as 0xRRGGBB. */
export type Color = number;

/** Makes a picture from a function of the position. */
export function paintPicture(
  width: number,
  height: number,
  colorAt: (x: number, y: number) => Color,
): Picture {
  const rgb = Buffer.allocUnsafe(width * height * 3);
  let at = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const color = colorAt(x, y);
      rgb[at++] = color >> 16;
      rgb[at++] = (color >> 8) & 0xff;
      rgb[at++] = color & 0xff;
    }
  }
  return { width, height, rgb };
}

/** The color of one pixel. */
export function colorAt(picture: Picture, x: number, y: number): Color {
  if (x < 0 || y < 0 || x >= picture.width || y >= picture.height) {
    throw new RangeError(`(${x}, ${y}) is outside of ${picture.width}x${picture.height}`);
  }
  return picture.rgb.readUIntBE((y * picture.width + x) * 3, 3);
}

/** Whether every pixel is black. */
export function isBlack(picture: Picture): boolean {
  return picture.rgb.every((value) => value === 0);
}

/** Decodes a binary PPM (P6, 255 levels), the format of QEMU's `screendump`. */
export function decodePpm(file: Buffer): Picture {
  const header = /^P6\s(?:#[^\n]*\n)*(\d+)\s+(\d+)\s+255\s/.exec(file.toString('latin1', 0, 256));
  if (!header) throw new Error('not a binary PPM with 255 levels');
  const width = Number(header[1]);
  const height = Number(header[2]);
  const data = file.subarray(header[0].length);
  const rowBytes = 3 * width;
  // QEMU pads rows to whole words, which the format does not know.
  const strideBytes = data.length === Math.ceil(rowBytes / 4) * 4 * height ? data.length / height : rowBytes;
  if (data.length < strideBytes * height) throw new Error(`PPM ${width}x${height} is cut short`);
  const rows = Array.from({ length: height }, (_, y) =>
    data.subarray(y * strideBytes, y * strideBytes + rowBytes),
  );
  return { width, height, rgb: Buffer.concat(rows) };
}

/** Decodes a PNG with eight bits per channel. An alpha channel is dropped. */
export function decodePng(file: Uint8Array): Picture {
  const { width, height, channels, depth, data, palette } = decode(file);
  if (depth !== 8 || palette) throw new Error(`unsupported PNG: ${depth} bits${palette ? ', palette' : ''}`);
  const rgb = Buffer.allocUnsafe(width * height * 3);
  const isGray = channels < 3;
  for (let pixel = 0; pixel < width * height; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      rgb[pixel * 3 + channel] = data[pixel * channels + (isGray ? 0 : channel)]!;
    }
  }
  return { width, height, rgb };
}

/** Encodes a picture as PNG, to look at it. */
export function encodePng(picture: Picture): Buffer {
  return Buffer.from(
    encode({ width: picture.width, height: picture.height, channels: 3, depth: 8, data: picture.rgb }),
  );
}

/** A part of a picture. The rectangle must lie inside. */
export function crop(picture: Picture, x: number, y: number, width: number, height: number): Picture {
  if (x < 0 || y < 0 || x + width > picture.width || y + height > picture.height) {
    throw new RangeError(
      `${width}x${height} at (${x}, ${y}) is not inside ${picture.width}x${picture.height}`,
    );
  }
  const rgb = Buffer.allocUnsafe(width * height * 3);
  for (let row = 0; row < height; row++) {
    const from = ((y + row) * picture.width + x) * 3;
    picture.rgb.copy(rgb, row * width * 3, from, from + width * 3);
  }
  return { width, height, rgb };
}

/**
 * Compares two pictures exactly. Returns undefined when they are equal, otherwise a sentence or two that say
 * what differs: the sizes, or how many pixels, in which rectangle, and the first of them.
 *
 * @param explain turns a color into a hint on where it belongs, such as `explainPattern` of `patterns.ts`
 */
export function comparePictures(
  actual: Picture,
  expected: Picture,
  explain?: (color: Color) => string | undefined,
): string | undefined {
  const { width, height } = expected;
  if (actual.width !== width || actual.height !== height) {
    return `the picture is ${actual.width}x${actual.height}, expected ${width}x${height}`;
  }
  if (actual.rgb.equals(expected.rgb)) return undefined;
  let count = 0;
  let [left, right, top, bottom] = [width, -1, height, -1];
  let first: [number, number] | undefined;
  for (let y = 0; y < height; y++) {
    const row = y * width * 3;
    if (actual.rgb.compare(expected.rgb, row, row + width * 3, row, row + width * 3) === 0) continue;
    for (let x = 0; x < width; x++) {
      if (colorAt(actual, x, y) === colorAt(expected, x, y)) continue;
      first ??= [x, y];
      count++;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y);
    }
  }
  const [x, y] = first!;
  const describe = (color: Color) => {
    const hint = explain?.(color);
    return `#${color.toString(16).padStart(6, '0')}${hint ? ` (${hint})` : ''}`;
  };
  return (
    `${count} of ${width * height} pixels differ, all within ${right - left + 1}x${bottom - top + 1} at (${left}, ${top}); ` +
    `the first is (${x}, ${y}): ${describe(colorAt(actual, x, y))}, expected ${describe(colorAt(expected, x, y))}`
  );
}
