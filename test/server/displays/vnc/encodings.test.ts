import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import type { Rect } from '../../../../server/displays/display.ts';
import { DeflateStream } from '../../../../server/displays/vnc/encodings/deflate.ts';
import {
  type EncodedRects,
  type EncoderKind,
  type EncoderOptions,
  encodeAlphaCursor,
  encodeCursor,
  makeEncoder,
} from '../../../../server/displays/vnc/encodings/index.ts';
import { type PixelFormat, SERVER_PIXEL_FORMAT } from '../../../../server/displays/vnc/pixel-format.ts';
import {
  BytesReader,
  DecoderState,
  decodeRect,
  type RectHeader,
  readRectHeader,
} from '../../../support/rfb-decoder.ts';
import {
  type ImageKind,
  makeImage,
  PAINTERS,
  paint,
  palette,
  type TestImage,
} from '../../../support/test-images.ts';
import { FORMATS, pixelFormats } from './formats.ts';
import { noVnc } from './novnc.ts';

const KINDS = ['raw', 'zrle', 'tight'] as const;

/** One viewer: an encoder, and what the viewer keeps. */
function viewer(kind: EncoderKind, format: PixelFormat = SERVER_PIXEL_FORMAT, options: EncoderOptions = {}) {
  const encoder = makeEncoder(kind, format, options);
  const state = new DecoderState();
  onTestFinished(() => {
    encoder.close();
    state.close();
  });
  return { encoder, state };
}

const whole = ({ width, height }: TestImage): Rect => ({ x: 0, y: 0, width, height });

interface DecodedRect {
  readonly header: RectHeader;
  readonly rgba: Uint8Array;
}

/** Decodes an update, all of it. */
async function decode(
  update: EncodedRects,
  state: DecoderState,
  format: PixelFormat = SERVER_PIXEL_FORMAT,
): Promise<DecodedRect[]> {
  const reader = new BytesReader(...update.parts);
  const rects: DecodedRect[] = [];
  for (let i = 0; i < update.count; i++) {
    const header = await readRectHeader(reader);
    rects.push({ header, rgba: await decodeRect(header.encoding, reader, header, format, state) });
  }
  reader.end();
  return rects;
}

/** What a viewer shows for a colour: as many levels as its format has. */
const shown = (level: number, max: number) => Math.round((Math.round((level * max) / 255) * 255) / max);

/** Where the decoded pixels differ from the source: the first place, or nothing. Each pixel must come once. */
function differences(
  image: TestImage,
  asked: readonly Rect[],
  decoded: readonly DecodedRect[],
  { redMax, greenMax, blueMax }: PixelFormat = SERVER_PIXEL_FORMAT,
): string | undefined {
  const times = new Uint8Array(image.width * image.height);
  const levels = [redMax, greenMax, blueMax].map((max) =>
    Array.from({ length: 256 }, (_, level) => shown(level, max)),
  );
  for (const { header, rgba } of decoded) {
    for (let i = 0; i < header.width * header.height; i++) {
      const x = header.x + (i % header.width);
      const y = header.y + Math.floor(i / header.width);
      times[y * image.width + x]!++;
      const at = y * image.strideBytes + x * 4;
      for (const channel of [0, 1, 2]) {
        const wanted = levels[channel]![image.bytes[at + 2 - channel]!];
        if (rgba[i * 4 + channel] !== wanted) {
          return `${x},${y} channel ${channel}: ${rgba[i * 4 + channel]} instead of ${wanted}`;
        }
      }
    }
  }
  for (const { x, y, width, height } of asked) {
    for (let i = 0; i < width * height; i++)
      times[(y + Math.floor(i / width)) * image.width + x + (i % width)]!--;
  }
  const wrong = times.findIndex((count) => count !== 0);
  return wrong < 0 ? undefined : `pixel ${wrong} came another number of times than it was asked for`;
}

// ---- decode equals source ----

test.each(KINDS.flatMap((kind) => FORMATS.map(([name, format]) => ({ kind, name, format }))))(
  '$kind in $name: every kind of image is decoded as it was, one after the other',
  async ({ kind, format }) => {
    const { encoder, state } = viewer(kind, format);
    for (const content of Object.keys(PAINTERS) as ImageKind[]) {
      const image = paint(content, 7, 150, 131, 3);
      const update = await encoder.encode(image, [whole(image)]);
      const decoded = await decode(update, state, format);
      expect(differences(image, [whole(image)], decoded, format), content).toBeUndefined();
    }
  },
);

test.each(KINDS)('%s: any rectangles in any format at any level are decoded as they were', async (kind) => {
  const rect = fc.record({
    x: fc.nat(140),
    y: fc.nat(140),
    width: fc.nat(140),
    height: fc.nat(140),
  });
  const step = fc.record({
    content: fc.constantFrom(...(Object.keys(PAINTERS) as ImageKind[])),
    seed: fc.nat(1000),
    rects: fc.array(rect, { maxLength: 3 }),
    format: pixelFormats(),
    compressLevel: fc.option(fc.nat(9), { nil: undefined }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 3 }), async (steps) => {
      const encoder = makeEncoder(kind, SERVER_PIXEL_FORMAT, {});
      const state = new DecoderState();
      for (const { content, seed, rects, format, compressLevel } of steps) {
        const image = paint(content, seed, 280, 280, seed % 3);
        encoder.configure(format, { compressLevel });
        const decoded = await decode(await encoder.encode(image, rects), state, format);
        expect(differences(image, rects, decoded, format)).toBeUndefined();
      }
      encoder.close();
      state.close();
    }),
    { numRuns: 40 },
  );
});

test.each(
  KINDS.flatMap((kind) =>
    [1, 2, 3, 4, 5, 16, 17, 127, 128, 129, 255, 256, 257].map((n) => [kind, n] as const),
  ),
)('%s: %i colours', async (kind, count) => {
  const { encoder, state } = viewer(kind);
  const scattered = makeImage(64, 64, palette(count)(3, 64, 64));
  const inRuns = makeImage(64, 64, (x, y) => (Math.floor((y * 64 + x) / 9) % count) * 0x01_0203);
  for (const image of [scattered, inRuns]) {
    const decoded = await decode(await encoder.encode(image, [whole(image)]), state);
    expect(differences(image, [whole(image)], decoded)).toBeUndefined();
  }
});

test('ZRLE takes the shortest form of each tile', async () => {
  const forms = async (image: TestImage) => {
    const { encoder, state } = viewer('zrle');
    await decode(await encoder.encode(image, [whole(image)]), state);
    return [...state.seen];
  };
  const tile = (painter: (x: number, y: number) => number) => makeImage(64, 64, painter);
  expect(await forms(tile(() => 5))).toEqual([['solid', 1]]);
  expect(await forms(tile((x, y) => (x ^ y) & 1))).toEqual([['packed palette', 1]]);
  expect(await forms(tile(palette(16)(1, 64, 64)))).toEqual([['packed palette', 1]]);
  expect(await forms(tile(palette(17)(1, 64, 64)))).toEqual([['palette runs', 1]]);
  expect(await forms(tile(palette(127)(1, 64, 64)))).toEqual([['palette runs', 1]]);
  expect(await forms(tile(palette(128)(1, 64, 64)))).toEqual([['raw', 1]]);
  expect(await forms(tile((_x, y) => (y % 32) * 1000))).toEqual([['palette runs', 1]]);
  expect(await forms(tile((x, y) => (y * 4 + (x >> 4)) * 1000))).toEqual([['runs', 1]]);
});

test('Tight chooses by what is in an image', async () => {
  const forms = async (image: TestImage, format = SERVER_PIXEL_FORMAT) => {
    const { encoder, state } = viewer('tight', format);
    await decode(await encoder.encode(image, [whole(image)]), state, format);
    return [...state.seen];
  };
  const square = (painter: (x: number, y: number) => number) => makeImage(64, 64, painter);
  const threes = (count: number) =>
    makeImage(256, 96, (x, y) => (Math.floor((y * 256 + x) / 3) % count) * 77);
  expect(await forms(makeImage(1920, 1080, () => 5))).toEqual([['fill', 1]]);
  expect(await forms(square(palette(2)(1, 64, 64)))).toEqual([['mono', 1]]);
  expect(await forms(square(palette(3)(1, 64, 64)))).toEqual([['indexed', 1]]);
  expect(await forms(square(palette(42)(1, 64, 64)))).toEqual([['indexed', 1]]);
  expect(await forms(square(palette(43)(1, 64, 64)))).toEqual([['copy', 1]]);
  expect(await forms(makeImage(8, 8, palette(2)(1, 8, 8)))).toEqual([['mono', 1]]);
  expect(await forms(makeImage(8, 8, palette(3)(1, 8, 8)))).toEqual([['copy', 1]]);
  expect(await forms(threes(256))).toEqual([['indexed', 1]]);
  expect(await forms(threes(5000))).toEqual([['copy', 1]]);
  expect(await forms(paint('photo', 1, 256, 128))).toEqual([['gradient', 1]]);
});

test('Tight is careful with pixels that are not red, green and blue bytes', async () => {
  const forms = async (name: string, image: TestImage) => {
    const format = FORMATS.find(([each]) => each === name)![1];
    const { encoder, state } = viewer('tight', format);
    const decoded = await decode(await encoder.encode(image, [whole(image)]), state, format);
    expect(differences(image, [whole(image)], decoded, format)).toBeUndefined();
    return [...state.seen.keys()];
  };
  expect(await forms('32 bits that all count', paint('photo', 1, 256, 128))).toEqual(['copy']);
  expect(await forms('16-bit colour', paint('noise', 1, 256, 128))).toEqual(['copy']);
  expect(await forms('8-bit colour', makeImage(64, 64, palette(2)(1, 64, 64)))).toEqual(['mono']);
  expect(await forms('8-bit colour', makeImage(64, 64, palette(40)(1, 64, 64)))).toEqual(['copy']);
});

test('Tight gives neighbours one rectangle', async () => {
  const { encoder, state } = viewer('tight');
  const image = paint('smoothText', 1, 1920, 1080);
  const update = await encoder.encode(image, [whole(image)]);
  expect(differences(image, [whole(image)], await decode(update, state))).toBeUndefined();
  expect(update.count).toBeLessThanOrEqual(10);
});

test.each(KINDS)('%s: one pixel, thin lines, and the corner of an image', async (kind) => {
  const { encoder, state } = viewer(kind);
  const image = paint('noise', 1, 301, 203, 5);
  const rects = [
    { x: 0, y: 0, width: 1, height: 1 },
    { x: 300, y: 202, width: 1, height: 1 },
    { x: 0, y: 5, width: 301, height: 1 },
    { x: 7, y: 0, width: 1, height: 203 },
    { x: 236, y: 138, width: 65, height: 65 },
    { x: 100, y: 100, width: 2, height: 2 },
    { x: 110, y: 100, width: 3, height: 1 },
    { x: 120, y: 100, width: 4, height: 1 },
  ];
  const decoded = await decode(await encoder.encode(image, rects), state);
  expect(differences(image, rects, decoded)).toBeUndefined();
});

test.each(KINDS)('%s: nothing to encode is no rectangle', async (kind) => {
  const { encoder } = viewer(kind);
  const image = paint('noise', 1, 10, 10);
  expect(await encoder.encode(image, [])).toEqual({ count: 0, parts: [] });
  const empty = [
    { x: 3, y: 3, width: 0, height: 5 },
    { x: 3, y: 3, width: 5, height: 0 },
    { x: 10, y: 10, width: 0, height: 0 },
  ];
  expect(await encoder.encode(image, empty)).toEqual({ count: 0, parts: [] });
});

test.each(KINDS)('%s: the widest screen', async (kind) => {
  const { encoder, state } = viewer(kind);
  const image = paint('desktop', 4, 8192, 150);
  const update = await encoder.encode(image, [whole(image)]);
  expect(differences(image, [whole(image)], await decode(update, state))).toBeUndefined();
});

test.each(KINDS)('%s: pixels of all orders of channels', async (kind) => {
  const { encoder, state } = viewer(kind);
  const source = paint('desktop', 4, 200, 170);
  for (const order of [
    { r: 0, g: 1, b: 2, a: 3 },
    { r: 3, g: 2, b: 1, a: 0 },
    { r: 1, g: 2, b: 3, a: -1 },
  ]) {
    const bytes = source.bytes.slice();
    for (let at = 0; at < bytes.length; at += 4) {
      bytes[at + order.r] = source.bytes[at + 2]!;
      bytes[at + order.g] = source.bytes[at + 1]!;
      bytes[at + order.b] = source.bytes[at]!;
      bytes[at + 6 - order.r - order.g - order.b] = at & 0xff;
    }
    const update = await encoder.encode({ bytes, strideBytes: source.strideBytes, order }, [whole(source)]);
    expect(differences(source, [whole(source)], await decode(update, state))).toBeUndefined();
  }
});

// ---- streams and calls ----

test.each(KINDS)('%s: pixels may change as soon as encode has returned', async (kind) => {
  const { encoder, state } = viewer(kind);
  const image = paint('desktop', 2, 300, 300);
  const before = { ...image, bytes: image.bytes.slice() };
  const promise = encoder.encode(image, [whole(image)]);
  image.bytes.fill(0);
  expect(differences(before, [whole(image)], await decode(await promise, state))).toBeUndefined();
});

test.each(['zrle', 'tight'] as const)(
  '%s: an image that is drawn into while it is read can be decoded',
  async (kind) => {
    const { encoder, state } = viewer(kind);
    const { width, height, strideBytes, order } = paint('solid', 1, 640, 256);
    const shared = new SharedArrayBuffer(strideBytes * height);
    const draw = `
      const { parentPort, workerData } = require('node:worker_threads');
      const words = new Uint32Array(workerData);
      parentPort.postMessage('draws');
      for (let i = 1; ; i = Math.imul(i, 0x9e3779b1) + 1) words.fill(i, (i >>> 8) % words.length, (i >>> 7) % words.length);
    `;
    const artist = new Worker(draw, { eval: true, workerData: shared });
    onTestFinished(async () => void (await artist.terminate()));
    await once(artist, 'message');
    const image = { bytes: new Uint8Array(shared), strideBytes, order };
    for (let i = 0; i < 40; i++) {
      const rects = await decode(await encoder.encode(image, [{ x: 0, y: 0, width, height }]), state);
      const pixels = rects.reduce((sum, { rgba }) => sum + rgba.length / 4, 0);
      expect(pixels).toBe(width * height);
    }
    expect(image.bytes.some((byte) => byte !== 0)).toBe(true);
  },
);

test.each(KINDS)('%s: calls that do not wait for each other come out in their order', async (kind) => {
  const { encoder, state } = viewer(kind, SERVER_PIXEL_FORMAT, { compressLevel: 3 });
  const images = [1, 2, 3, 4].map((seed) => paint('desktop', seed, 200, 200));
  const promises = images.map((image, i) => {
    encoder.configure(SERVER_PIXEL_FORMAT, { compressLevel: i * 3 });
    return encoder.encode(image, [whole(image)]);
  });
  for (const [i, image] of images.entries()) {
    const decoded = await decode(await promises[i]!, state);
    expect(differences(image, [whole(image)], decoded)).toBeUndefined();
  }
});

test.each(KINDS)(
  '%s: a rectangle that is not in the image is refused, and the streams go on',
  async (kind) => {
    const { encoder, state } = viewer(kind);
    const image = paint('text', 2, 100, 100);
    const inside = { x: 0, y: 0, width: 100, height: 100 };
    for (const outside of [
      { x: 1, y: 0, width: 100, height: 100 },
      { x: 0, y: 1, width: 100, height: 100 },
      { x: -1, y: 0, width: 10, height: 10 },
      { x: 0, y: -1, width: 10, height: 10 },
      { x: 0.5, y: 0, width: 10, height: 10 },
      { x: 0, y: 0, width: 2 ** 40, height: 1 },
      { x: 0, y: 0, width: Number.NaN, height: 1 },
    ]) {
      await expect(encoder.encode(image, [inside, outside])).rejects.toThrow(RangeError);
    }
    const decoded = await decode(await encoder.encode(image, [inside]), state);
    expect(differences(image, [inside], decoded)).toBeUndefined();
  },
);

test('a new Tight encoder resets the streams of a viewer that had another one', async () => {
  const { encoder: first, state } = viewer('tight');
  const { encoder: second } = viewer('tight', SERVER_PIXEL_FORMAT, { compressLevel: 9 });
  const image = paint('desktop', 2, 300, 300);
  for (const encoder of [first, second, second]) {
    const decoded = await decode(await encoder.encode(image, [whole(image)]), state);
    expect(differences(image, [whole(image)], decoded)).toBeUndefined();
  }
});

test.each(['zrle', 'tight'] as const)('%s: what was seen before costs less', async (kind) => {
  const { encoder } = viewer(kind);
  const image = makeImage(64, 64, palette(60)(5, 64, 64));
  const bytes = async () => Buffer.concat((await encoder.encode(image, [whole(image)])).parts).length;
  const first = await bytes();
  expect(await bytes()).toBeLessThan(first / 4);
});

test.each(['zrle', 'tight'] as const)('%s: a closed encoder rejects, also what was begun', async (kind) => {
  const { encoder } = viewer(kind);
  const image = paint('noise', 2, 500, 500);
  const begun = encoder.encode(image, [whole(image)]);
  const outcome = expect(begun).rejects.toThrow('closed');
  encoder.close();
  await outcome;
  await expect(encoder.encode(image, [whole(image)])).rejects.toThrow('closed');
  encoder.close();
});

test('an encoder that is closed while its level changes throws nowhere else', async () => {
  const caught: unknown[] = [];
  const catchIt = (error: unknown) => caught.push(error);
  process.on('uncaughtException', catchIt);
  for (let ms = 0; ms < 30; ms++) {
    const stream = new DeflateStream(1);
    await stream.compress(
      new Uint8Array(50_000).map((_, i) => i * i),
      1,
    );
    const begun = stream.compress(
      new Uint8Array(200_000).map((_, i) => i * i),
      6,
    );
    const outcome = begun.then(
      () => 'done',
      (error: Error) => error.message,
    );
    await new Promise((resolve) => (ms % 3 ? setImmediate(resolve) : setTimeout(resolve, ms / 10)));
    stream.close();
    expect(['done', 'the stream is closed', 'the stream was closed']).toContain(await outcome);
  }
  await new Promise((resolve) => setTimeout(resolve, 50));
  process.removeListener('uncaughtException', catchIt);
  expect(caught).toEqual([]);
});

// ---- JPEG ----

/** A page of text with a photo in it. */
function page(): { readonly image: TestImage; readonly photo: Rect } {
  const text = PAINTERS.smoothText(3, 0, 0);
  const picture = PAINTERS.photo(3);
  const photo = { x: 128, y: 64, width: 256, height: 192 };
  const inside = (x: number, y: number) =>
    x >= photo.x && x < photo.x + photo.width && y >= photo.y && y < photo.y + photo.height;
  return { image: makeImage(512, 320, (x, y) => (inside(x, y) ? picture(x, y) : text(x, y))), photo };
}

/** Mean of the differences of all channels. */
function meanError(image: TestImage, { header, rgba }: DecodedRect): number {
  let sum = 0;
  for (let i = 0; i < header.width * header.height; i++) {
    const x = header.x + (i % header.width);
    const y = header.y + Math.floor(i / header.width);
    for (const channel of [0, 1, 2]) {
      sum += Math.abs(image.bytes[y * image.strideBytes + x * 4 + 2 - channel]! - rgba[i * 4 + channel]!);
    }
  }
  return sum / (header.width * header.height * 3);
}

test('with a quality, photos become JPEG and nothing else does', async () => {
  const { image, photo } = page();
  const { encoder, state } = viewer('tight', SERVER_PIXEL_FORMAT, { jpegQuality: 6 });
  const rects = await decode(await encoder.encode(image, [whole(image)]), state);
  const isPhoto = ({ header: { x, y, width, height } }: DecodedRect) =>
    x === photo.x && y === photo.y && width === photo.width && height === photo.height;
  expect(state.seen.get('JPEG')).toBe(1);
  const jpeg = rects.filter(isPhoto);
  expect(jpeg).toHaveLength(1);
  expect(meanError(image, jpeg[0]!)).toBeLessThan(4);
  const rest = rects.filter((rect) => !isPhoto(rect));
  const asked = rest.map(({ header }) => header);
  expect(differences(image, asked, rest)).toBeUndefined();
  expect(asked.reduce((sum, { width, height }) => sum + width * height, 0)).toBe(512 * 320 - 256 * 192);
});

test('a higher quality means fewer errors and more bytes', async () => {
  const image = paint('photo', 5, 256, 256);
  const results: { level: number; error: number; bytes: number }[] = [];
  for (const level of [0, 3, 6, 9]) {
    const { encoder, state } = viewer('tight', SERVER_PIXEL_FORMAT, { jpegQuality: level });
    const update = await encoder.encode(image, [whole(image)]);
    const [rect] = await decode(update, state);
    expect(state.seen).toEqual(new Map([['JPEG', 1]]));
    results.push({ level, error: meanError(image, rect!), bytes: Buffer.concat(update.parts).length });
  }
  const sorted = results.toSorted((a, b) => b.error - a.error).map(({ level }) => level);
  expect(sorted).toEqual([0, 3, 6, 9]);
  expect(results.toSorted((a, b) => a.bytes - b.bytes).map(({ level }) => level)).toEqual([0, 3, 6, 9]);
  expect(results.at(-1)!.error).toBeLessThan(1.5);
});

test.each([
  ['no quality was asked for', SERVER_PIXEL_FORMAT, {}],
  ['pixels have 8 bits', FORMATS.find(([name]) => name === '8-bit colour')![1], { jpegQuality: 9 }],
])('photos are exact when %s', async (_why, format, options) => {
  const { encoder, state } = viewer('tight', format, options);
  const image = paint('photo', 5, 300, 256);
  const rects = await decode(await encoder.encode(image, [whole(image)]), state, format);
  expect(differences(image, [whole(image)], rects, format)).toBeUndefined();
});

test('a photo too small for a JPEG is exact', async () => {
  const { encoder, state } = viewer('tight', SERVER_PIXEL_FORMAT, { jpegQuality: 0 });
  const image = paint('photo', 5, 128, 100);
  const rects = await decode(await encoder.encode(image, [whole(image)]), state);
  expect(differences(image, [whole(image)], rects)).toBeUndefined();
});

test('exact photos need no gradient filter', async () => {
  const image = paint('photo', 5, 256, 128);
  const forms = async (options: EncoderOptions) => {
    const { encoder, state } = viewer('tight', SERVER_PIXEL_FORMAT, options);
    const rects = await decode(await encoder.encode(image, [whole(image)]), state);
    expect(differences(image, [whole(image)], rects)).toBeUndefined();
    return [...state.seen.keys()];
  };
  expect(await forms({})).toEqual(['gradient']);
  expect(await forms({ gradient: false })).toEqual(['copy']);
});

// ---- a decoder that we did not write ----

test.each(
  KINDS.flatMap((kind) => (Object.keys(PAINTERS) as ImageKind[]).map((each) => [kind, each] as const)),
)('noVNC decodes %s of %s as it was', async (kind, content) => {
  const { encoder } = viewer(kind, noVnc.format);
  const client = await noVnc.viewer(700, 300);
  for (const seed of [1, 2]) {
    const image = paint(content, seed, 700, 300);
    const parts = [
      whole(image),
      { x: 3, y: 2, width: 66, height: 65 },
      { x: 699, y: 299, width: 1, height: 1 },
    ];
    await client.show(await encoder.encode(image, parts));
    const header = { ...whole(image), encoding: 0 };
    expect(differences(image, [whole(image)], [{ header, rgba: client.rgba }])).toBeUndefined();
  }
});

test('noVNC shows JPEG where they belong', async () => {
  const { image } = page();
  const { encoder } = viewer('tight', noVnc.format, { jpegQuality: 9 });
  const client = await noVnc.viewer(image.width, image.height);
  await client.show(await encoder.encode(image, [whole(image)]));
  const header = { ...whole(image), encoding: 0 };
  expect(meanError(image, { header, rgba: client.rgba })).toBeLessThan(0.5);
});

// ---- cursors ----

const CURSOR = {
  width: 10,
  height: 2,
  hotX: 3,
  hotY: 1,
  rgba: Uint8Array.from({ length: 80 }, (_, i) => {
    const alpha = [255, 128, 127, 0][(i >> 2) % 4]!;
    return i % 4 === 3 ? alpha : Math.round(([200, 100, 50][i % 4]! * alpha) / 255);
  }),
};

test('a cursor is drawn where it is at least half opaque, in its colours without alpha', async () => {
  const { count, parts } = encodeCursor(CURSOR, SERVER_PIXEL_FORMAT);
  expect(count).toBe(1);
  const reader = new BytesReader(...parts);
  expect(await readRectHeader(reader)).toEqual({ x: 3, y: 1, width: 10, height: 2, encoding: -239 });
  const rgba = await decodeRect(
    0,
    reader,
    { x: 0, y: 0, width: 10, height: 2 },
    SERVER_PIXEL_FORMAT,
    new DecoderState(),
  );
  const mask = reader.take(4);
  reader.end();
  expect([...mask]).toEqual([0b1100_1100, 0b1100_0000, 0b0011_0011, 0b0000_0000].slice(0, 4));
  expect([...rgba.subarray(0, 16)]).toEqual([
    200, 100, 50, 255, 199, 100, 50, 255, 0, 0, 0, 255, 0, 0, 0, 255,
  ]);
});

test('a cursor with alpha is sent as it is', async () => {
  const { count, parts } = encodeAlphaCursor(CURSOR);
  expect(count).toBe(1);
  const reader = new BytesReader(...parts);
  expect(await readRectHeader(reader)).toEqual({ x: 3, y: 1, width: 10, height: 2, encoding: -314 });
  expect([...reader.take(4)]).toEqual([0, 0, 0, 0]);
  expect([...reader.take(80)]).toEqual([...CURSOR.rgba]);
  reader.end();
});

test('no cursor is a rectangle without pixels', async () => {
  const nothing = { width: 0, height: 0, hotX: 0, hotY: 0, rgba: new Uint8Array(0) };
  for (const [update, bytes] of [
    [encodeCursor(nothing, SERVER_PIXEL_FORMAT), 12],
    [encodeAlphaCursor(nothing), 16],
  ] as const) {
    expect(Buffer.concat(update.parts).length).toBe(bytes);
  }
});

test('a cursor with too few pixels is refused', () => {
  const short = { ...CURSOR, rgba: CURSOR.rgba.subarray(1) };
  expect(() => encodeCursor(short, SERVER_PIXEL_FORMAT)).toThrow(RangeError);
  expect(() => encodeAlphaCursor(short)).toThrow(RangeError);
});
