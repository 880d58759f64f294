/** Images of what is on a canvas, encoded on the thread pool. */

import { createHash, webcrypto } from 'node:crypto';
import { deflateSync } from 'node:zlib';
import sharp from 'sharp';
import { type PixelParts, packPixels } from '../../../native/index.ts';
import { BYTES_PER_PIXEL, type Rect } from '../display.ts';
import { pixelsOf } from '../vnc/encodings/pixels.ts';
import type { Canvas } from './canvas.ts';
import { ViewingError } from './error.ts';
import type { Capture, CaptureOptions, PartOptions, PixelsHash } from './messages.ts';

const LEVELS = 256;
const CHANNELS = 3;
/** Bytes of red, green and blue: what images are made of, so that none has to be taken out again. */
const RGB: PixelParts = {
  parts: Int32Array.from(
    { length: CHANNELS * LEVELS },
    (_, i) => (i % LEVELS) << (8 * Math.floor(i / LEVELS)),
  ),
  pixelBytes: CHANNELS,
};
/** Higher ones take twice as long for a tenth less. */
const PNG_LEVEL = 1;
/** A picture whose sample does not get smaller than this takes eight times as long to compress, for next to nothing. */
const WORTH_COMPRESSING = 0.85;
const SAMPLED_ROWS = 8;
/** What is made larger is limited by this. */
const MAX_IMAGE_PIXELS = 2 ** 26;
const HASH_DIGITS = 32;
/** Of one canvas. */
const MAX_KNOWN_HASHES = 32;

/** Takes a picture of a part of the canvas at this moment. @throws ViewingError for a part that is not there */
export async function capture(canvas: Canvas, options: CaptureOptions): Promise<Capture> {
  const { format, quality, scale, unlessTags } = options;
  const { version } = canvas;
  const region = partOf(canvas, options);
  const { width, height } = region;
  const to = {
    width: Math.max(1, Math.round(width * scale)),
    height: Math.max(1, Math.round(height * scale)),
  };
  if (to.width * to.height > MAX_IMAGE_PIXELS) {
    throw new ViewingError('bad_request', `an image of ${to.width}x${to.height} is too large`);
  }
  const tagOf = (pixelsHash: string) =>
    `${pixelsHash}-${to.width}x${to.height}-${format === 'png' ? format : `${format}${quality}`}`;
  const result = (pixelsHash: string, image?: Uint8Array): Capture => ({
    image,
    tag: tagOf(pixelsHash),
    pixelsHash,
    version,
    ...to,
  });

  const known = knownHashes(canvas).get(keyOf(region, options));
  if (known !== undefined && unlessTags.includes(tagOf(known))) return result(known);
  const pixels = copyOf(canvas, region, options);
  const hashing = known ?? hashAndKeep(canvas, region, options, pixels);
  if (unlessTags.length > 0 && unlessTags.includes(tagOf(await hashing))) return result(await hashing);
  let image = sharp(pixels, { raw: { width, height, channels: CHANNELS } });
  if (to.width !== width || to.height !== height) image = image.resize(to.width, to.height, { fit: 'fill' });
  const encoded =
    format === 'png'
      ? image.png({ compressionLevel: pngLevel(pixels, width, height), adaptiveFiltering: false })
      : image.jpeg({ quality });
  return result(...(await Promise.all([hashing, encoded.toBuffer()])));
}

/** Photos are stored: who wants them small asks for JPEG. */
function pngLevel(pixels: Uint8Array, width: number, height: number): number {
  const rowBytes = width * CHANNELS;
  const sample = Array.from({ length: Math.min(SAMPLED_ROWS, height) }, (_, i) => {
    const at = Math.floor(((i + 0.5) * height) / Math.min(SAMPLED_ROWS, height)) * rowBytes;
    return pixels.subarray(at, at + rowBytes);
  });
  const bytes = Buffer.concat(sample);
  return deflateSync(bytes, { level: PNG_LEVEL }).length < bytes.length * WORTH_COMPRESSING ? PNG_LEVEL : 0;
}

/** The hash of a part as it is now. @throws ViewingError for a part that is not there */
export async function hash(canvas: Canvas, options: PartOptions): Promise<PixelsHash> {
  const { version, width, height } = canvas;
  const region = partOf(canvas, options);
  const known = knownHashes(canvas).get(keyOf(region, options));
  const hash = known ?? (await hashAndKeep(canvas, region, options, copyOf(canvas, region, options)));
  return { hash, version, width, height };
}

function partOf(canvas: Canvas, options: PartOptions): Rect {
  const region = options.region ?? canvas.whole;
  const { x, y, width, height } = region;
  const isIn =
    width > 0 && height > 0 && x >= 0 && y >= 0 && x + width <= canvas.width && y + height <= canvas.height;
  if (isIn) return region;
  const what = `region ${width}x${height} at ${x},${y}`;
  throw new ViewingError('bad_request', `${what} is not in the picture of ${canvas.width}x${canvas.height}`);
}

/** A copy as red, green and blue bytes. */
function copyOf(canvas: Canvas, region: Rect, { cursor }: PartOptions): Uint8Array<ArrayBuffer> {
  const { width, height } = region;
  const pixels = Buffer.allocUnsafeSlow(width * height * CHANNELS);
  if (cursor) {
    const { order } = canvas;
    const copy = { bytes: canvas.copy(region, { cursor }), strideBytes: width * BYTES_PER_PIXEL, order };
    packPixels(pixelsOf(copy, { x: 0, y: 0, width, height }), RGB, pixels);
  } else packPixels(pixelsOf(canvas, region), RGB, pixels);
  return pixels;
}

/** Of parts of canvases as they are: who polls asks for what has not changed. */
const KNOWN_HASHES = new WeakMap<Canvas, { version: number; hashes: Map<string, string> }>();

function knownHashes(canvas: Canvas): Map<string, string> {
  const { version } = canvas;
  let known = KNOWN_HASHES.get(canvas);
  if (known?.version !== version) {
    known = { version, hashes: new Map() };
    KNOWN_HASHES.set(canvas, known);
  }
  return known.hashes;
}

const keyOf = ({ x, y, width, height }: Rect, { cursor }: PartOptions) =>
  `${width}x${height} at ${x},${y}${cursor ? ' with cursor' : ''}`;

async function hashAndKeep(
  canvas: Canvas,
  region: Rect,
  options: PartOptions,
  pixels: Uint8Array<ArrayBuffer>,
): Promise<string> {
  // Those of this version, whatever the version is when the hash is there.
  const hashes = knownHashes(canvas);
  const hash = await hashOf(pixels, region.width, region.height);
  if (hashes.size >= MAX_KNOWN_HASHES) hashes.clear();
  hashes.set(keyOf(region, options), hash);
  return hash;
}

/** On the thread pool, because millions of pixels take milliseconds. */
async function hashOf(pixels: Uint8Array<ArrayBuffer>, width: number, height: number): Promise<string> {
  const digest = await webcrypto.subtle.digest('SHA-256', pixels);
  return createHash('sha256')
    .update(`${width}x${height} `)
    .update(new Uint8Array(digest))
    .digest('hex')
    .slice(0, HASH_DIGITS);
}
