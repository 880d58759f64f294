/** Images of the kinds that encoders tell apart. Pixels are blue, green, red and a byte of no meaning. */

export const BGRX = { r: 2, g: 1, b: 0, a: -1 } as const;

export interface TestImage {
  readonly width: number;
  readonly height: number;
  readonly strideBytes: number;
  readonly bytes: Uint8Array;
  readonly order: typeof BGRX;
}

/** 32 random bits at each call, the same ones for the same seed. */
export function randomBits(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let bits = state;
    bits = Math.imul(bits ^ (bits >>> 16), 0x21f0aaad);
    bits = Math.imul(bits ^ (bits >>> 15), 0x735a2d97);
    return (bits ^ (bits >>> 15)) >>> 0;
  };
}

/** `pixel` gives 0xRRGGBB. Rows end with `paddingPixels` that belong to no rectangle. */
export function makeImage(
  width: number,
  height: number,
  pixel: (x: number, y: number) => number,
  paddingPixels = 0,
): TestImage {
  const strideBytes = (width + paddingPixels) * 4;
  const bytes = new Uint8Array(strideBytes * height).fill(0xa5);
  const view = new DataView(bytes.buffer);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * strideBytes + x * 4;
      view.setUint32(at, ((pixel(x, y) & 0xff_ffff) | (0xa5 << 24)) >>> 0, true);
    }
  }
  return { width, height, strideBytes, bytes, order: BGRX };
}

type Painter = (seed: number, width: number, height: number) => (x: number, y: number) => number;

/** Every pixel is one of `count` colours, all of which are there if there are enough pixels. */
export function palette(count: number): Painter {
  return (seed) => {
    const random = randomBits(seed);
    const colours = new Set<number>();
    while (colours.size < count) colours.add(random() & 0xff_ffff);
    const list = [...colours];
    let used = 0;
    return () => (used < count ? list[used++]! : list[random() % count]!);
  };
}

/** A smooth picture with a little noise in it, such as a camera takes. */
function photo(seed: number): (x: number, y: number) => number {
  const random = randomBits(seed);
  const waves = Array.from({ length: 6 }, () => [random() % 90, random() % 90, random() % 7] as const);
  return (x, y) => {
    const level = (channel: number) => {
      const sum = waves.reduce(
        (total, [a, b, phase]) => total + Math.sin((x * (a - 45) + y * (b - 45)) / 900 + phase + channel),
        0,
      );
      return Math.max(0, Math.min(255, Math.round(128 + sum * 24 + (random() % 5) - 2)));
    };
    return (level(0) << 16) | (level(1) << 8) | level(2);
  };
}

/** Letters of 8x16 pixels: two colours, or with `shades` between them, on a ground. */
function text(shades: number): Painter {
  return (seed) => {
    const random = randomBits(seed);
    const glyphs = Array.from({ length: 96 }, () =>
      Array.from({ length: 128 }, (_, i) => {
        const inside = i % 8 > 0 && i % 8 < 7 && i > 24 && i < 104;
        return inside && random() % 3 === 0 ? 1 + (random() % shades) : 0;
      }),
    );
    const cells = Array.from({ length: 997 }, () => (random() % 4 === 0 ? 0 : random() % 96));
    return (x, y) => {
      const glyph = glyphs[cells[((x >> 3) * 31 + (y >> 4) * 57) % 997]!]!;
      const level = (glyph[(y % 16) * 8 + (x % 8)]! * 200) / shades + 30;
      return 0x10101 * Math.round(level);
    };
  };
}

/** All of the others, in tiles. */
const desktop: Painter = (seed, width, height) => {
  const random = randomBits(seed);
  const { solid, smoothText, noise } = SIMPLE_PAINTERS;
  const painters = [solid, solid, text(1), smoothText, photo, noise, palette(40)];
  const parts = painters.map((painter) => painter(seed, width, height));
  const tiles = Array.from({ length: 61 }, () => parts[random() % parts.length]!);
  return (x, y) => tiles[(Math.floor(x / 96) * 7 + Math.floor(y / 80) * 13) % tiles.length]!(x, y);
};

const SIMPLE_PAINTERS = {
  noise: (seed) => randomBits(seed),
  gradient: (_seed, width, height) => (x, y) =>
    (Math.floor((x * 255) / width) << 16) | (Math.floor((y * 255) / height) << 8) | ((x + y) & 0xff),
  photo,
  text: text(1),
  smoothText: text(15),
  solid: (seed) => {
    const colour = randomBits(seed)();
    return () => colour;
  },
  runs: (seed) => {
    const random = randomBits(seed);
    let left = 0;
    let colour = 0;
    return () => {
      if (left-- <= 0) {
        left = random() % 3 === 0 ? random() % 700 : random() % 40;
        colour = random();
      }
      return colour;
    };
  },
  fewRuns: (seed) => {
    const random = randomBits(seed);
    let left = 0;
    let colour = 0;
    return () => {
      if (left-- <= 0) {
        left = random() % 60;
        colour = 0x3f7 * (random() % 40);
      }
      return colour;
    };
  },
} satisfies Record<string, Painter>;

/** One painter per kind of content. */
export const PAINTERS = { ...SIMPLE_PAINTERS, desktop };

export type ImageKind = keyof typeof PAINTERS;

export function paint(kind: ImageKind, seed: number, width: number, height: number, padding = 0): TestImage {
  return makeImage(width, height, PAINTERS[kind](seed, width, height), padding);
}
