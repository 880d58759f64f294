/**
 * The EDID read back three ways: by a decoder written here from the standards, by a model of what the Linux
 * driver does with it, and by edid-decode, which knows the rules better than either.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cvtReducedBlanking, MODE_LIMITS, type Mode, makeEdid } from '../../../server/displays/edid.ts';
import { edidComplaints, edidDecodeMissing } from '../../../tools/testbed/edid-decode.ts';

const mode = (width: number, height: number, refreshHz = 60): Mode => ({ width, height, refreshHz });
const edidOf = (wanted: Mode) => makeEdid({ mode: wanted, outputIndex: 0 });

describe('worked values', () => {
  test.each([
    [mode(1280, 800), 'bc 1b 00 a0 50 20 17 30 30 20 36 00'],
    [mode(1920, 1080), '1a 36 80 a0 70 38 1f 40 30 20 35 00'],
  ])('the detailed timing of %o', (wanted, expected) => {
    expect(hex(edidOf(wanted).subarray(54, 66))).toBe(expected);
  });

  test('the fixed bytes of block 0', () => {
    const edid = edidOf(mode(1280, 800));
    expect(hex(edid.subarray(0, 8))).toBe('00 ff ff ff ff ff ff 00');
    expect(hex(edid.subarray(18, 25))).toBe('01 04 a0 21 14 78 06');
    expect(hex(edid.subarray(25, 35))).toBe('ee 91 a3 54 4c 99 26 0f 50 54');
  });

  // VESA DMT 1.13 lists these as CVT reduced blanking.
  test.each([
    [mode(800, 600, 120), 73_250, 960, 636],
    [mode(1024, 768, 120), 115_500, 1184, 813],
    [mode(1280, 768), 68_250, 1440, 790],
    [mode(1280, 1024, 120), 187_250, 1440, 1084],
    [mode(1440, 900), 88_750, 1600, 926],
    [mode(1680, 1050), 119_000, 1840, 1080],
    [mode(1920, 1200), 154_000, 2080, 1235],
    [mode(2560, 1600), 268_500, 2720, 1646],
  ])('CVT reduced blanking of %o is the one of DMT', (wanted, pixelClockKHz, hTotal, vTotal) => {
    const timing = cvtReducedBlanking(wanted);
    expect(timing).toMatchObject({ pixelClockKHz, hBlank: 160, hFrontPorch: 48, hSync: 32, vFrontPorch: 3 });
    expect(timing.hActive + timing.hBlank).toBe(hTotal);
    expect(timing.vActive + timing.vBlank).toBe(vTotal);
  });

  test.each([
    ['4:3', mode(1600, 1200), 4],
    ['16:9', mode(3840, 2160), 5],
    ['16:10', mode(2560, 1600), 6],
    ['5:4', mode(1280, 1024), 7],
    ['15:9', mode(1280, 768), 7],
    ['no listed', mode(1366, 768), 10],
  ])('the vertical sync of %s aspect', (_aspect, wanted, vSync) => {
    expect(cvtReducedBlanking(wanted).vSync).toBe(vSync);
  });
});

describe('any mode', () => {
  test('is the preferred mode, to the pixel', () => {
    fc.assert(
      fc.property(anyMode, (wanted) => {
        const { width, height } = preferredTiming(edidOf(wanted));
        expect({ width, height }).toEqual({ width: wanted.width, height: wanted.height });
      }),
    );
  });

  test('keeps its rate: the clock step costs less than 1 %, and adds next to nothing', () => {
    fc.assert(
      fc.property(anyMode, (wanted) => {
        const { refreshHz } = preferredTiming(edidOf(wanted));
        expect(refreshHz).toBeGreaterThan(wanted.refreshHz * 0.99);
        expect(refreshHz).toBeLessThan(wanted.refreshHz * 1.0006);
      }),
    );
  });

  test('has room for its sync pulses', () => {
    fc.assert(
      fc.property(anyMode, (wanted) => {
        const timing = preferredTiming(edidOf(wanted));
        expect(timing.clockKHz).toBeGreaterThanOrEqual(10_000);
        expect(timing.hBackPorch).toBeGreaterThan(0);
        expect(timing.vBackPorch).toBeGreaterThan(0);
        expect([timing.hPositive, timing.vPositive]).toEqual([true, false]);
      }),
    );
  });

  test('makes whole blocks with right checksums, as many as block 0 counts', () => {
    fc.assert(
      fc.property(anyMode, (wanted) => {
        const edid = edidOf(wanted);
        expect(edid.length).toBe(128 * (edid[126]! + 1));
        expect(edid.length).toBeLessThanOrEqual(1024);
        expect(blocksOf(edid).map(sum)).toEqual(blocksOf(edid).map(() => 0));
      }),
    );
  });

  test('is within the range limits, where there are any', () => {
    fc.assert(
      fc.property(anyMode, (wanted) => {
        const edid = edidOf(wanted);
        const limits = rangeLimits(edid);
        fc.pre(limits !== undefined);
        const { refreshHz, lineKHz, clockKHz } = preferredTiming(edid);
        const countedHz = Math.max(1, refreshHz); // the limits start at 1, a clock step may end just below
        expect([limits.minHz, countedHz, limits.maxHz]).toSatisfy(isAscending);
        expect([limits.minKHz, lineKHz, limits.maxKHz]).toSatisfy(isAscending);
        expect([clockKHz, limits.maxClockKHz]).toSatisfy(isAscending);
      }),
    );
  });

  test('is kept by Linux as the one preferred mode, when display info has its size', () => {
    fc.assert(
      fc.property(anyMode, (wanted) => {
        const preferred = linuxPreferredModes(edidOf(wanted), wanted);
        expect(preferred).toEqual([{ width: wanted.width, height: wanted.height }]);
      }),
    );
  });
});

describe('where the preferred timing is stated', () => {
  test.each([
    ['the largest size', mode(4095, 2160)],
    ['the smallest size that Linux reads there', mode(64, 64)],
    ['the fastest clock', mode(3840, 2160, 70)],
    ['a low rate, by way of longer blanking', mode(64, 64, 1)],
    ['whatever Linux could take for the timing that stands in', mode(816, 616, 500)],
  ])('in block 0: %s', (_case, wanted) => {
    const edid = edidOf(wanted);
    expect(edid.length).toBe(128);
    expect(edid[24]! & 0x02).toBe(0x02);
  });

  test.each([
    ['too wide', mode(4096, 2160)],
    ['too high', mode(2160, 4096)],
    ['too fast a clock', mode(3840, 2160, 120)],
    ['too small for Linux to read it in block 0', mode(63, 64)],
  ])('in a DisplayID section: %s', (_case, wanted) => {
    const edid = edidOf(wanted);
    expect(edid.length).toBe(256);
    expect(edid[24]! & 0x02).toBe(0);
    expect(detailedTiming(edid)).toMatchObject({ width: 800, height: 600 });
  });

  test('a DisplayID section has its own checksum and names the same product', () => {
    const edid = makeEdid({ mode: mode(7680, 4320), outputIndex: 3 });
    const section = edid.subarray(129, 129 + 5 + edid[130]!);
    expect(sum(section)).toBe(0);
    const product = displayIdBlocks(edid).get(0x00)!;
    expect(String.fromCharCode(...product.subarray(0, 3))).toBe(manufacturer(edid));
    expect(product.subarray(3, 9)).toEqual(edid.subarray(10, 16));
    expect(String.fromCharCode(...product.subarray(12))).toBe(productName(edid));
  });

  test('range limits are left out where they cannot be stated', () => {
    expect(rangeLimits(edidOf(mode(7680, 4320)))).toMatchObject({ maxKHz: 267, maxClockKHz: 2_090_000 });
    expect(rangeLimits(edidOf(mode(8192, 8192)))).toBeUndefined();
  });

  test('rates above 255 Hz and 255 kHz are in the range limits', () => {
    expect(rangeLimits(edidOf(mode(640, 480, 500)))).toMatchObject({ maxHz: 500, maxKHz: 312 });
  });
});

test('the other modes are the same for every display', () => {
  const listed = '640x480 800x600 1024x768 1280x720 1280x800 1280x1024 1600x900 1600x1200 1920x1080 1920x1440'
    .concat(' 2048x1152 1280x768RB 1360x768 1440x900RB 1400x1050RB 1680x1050RB 1920x1200RB')
    .split(' ');
  expect(listedModes(edidOf(mode(1280, 800)))).toEqual(listed);
  expect(listedModes(edidOf(mode(640, 480)))).toEqual(listed);
  expect(listedModes(edidOf(mode(7680, 4320)))).toEqual(listed);
});

describe('identity', () => {
  const outputs = Array.from({ length: 16 }, (_, outputIndex) =>
    makeEdid({ mode: mode(1280, 800), outputIndex }),
  );

  test('every output has a serial number and a name of its own', () => {
    expect(new Set(outputs.map(serialNumber)).size).toBe(16);
    expect(new Set(outputs.map(productName)).size).toBe(16);
  });

  test('an output keeps its identity when its mode changes', () => {
    const before = makeEdid({ mode: mode(1280, 800), outputIndex: 5 });
    const after = makeEdid({ mode: mode(8192, 8192, 144), outputIndex: 5 });
    expect(after.subarray(8, 18)).toEqual(before.subarray(8, 18));
    expect(productName(after)).toBe('vfio-user 6');
  });

  test.each(['Left', '13 characters', 'A-Z 0-9 ~!'])('a given name: %j', (name) => {
    expect(productName(makeEdid({ mode: mode(800, 600), outputIndex: 0, name }))).toBe(name);
  });
});

describe('physical size', () => {
  const sizes = (wanted: Mode, dpi?: number) => {
    const edid = makeEdid({ mode: wanted, outputIndex: 0, ...(dpi && { dpi }) });
    const { widthMm, heightMm } = detailedTiming(edid);
    return { cm: [edid[21], edid[22]], mm: [widthMm, heightMm] };
  };

  test.each([
    ['100 dpi unless told otherwise', mode(1920, 1080), undefined, [49, 27], [488, 274]],
    ['a hidpi screen', mode(2560, 1600), 254, [26, 16], [256, 160]],
    ['a portrait screen', mode(1080, 1920), 100, [27, 49], [274, 488]],
    ['a side that rounds to 0', mode(64, 4000), 1000, [1, 10], [2, 102]],
    ['beyond 255 cm: smaller, in shape', mode(4000, 2000), 10, [255, 128], [2550, 1275]],
  ])('%s', (_case, wanted, dpi, cm, mm) => {
    expect(sizes(wanted, dpi)).toEqual({ cm, mm });
  });

  test('a DisplayID section has it in 0.1 mm, and block 0 what an 800x600 picture covers of it', () => {
    const edid = edidOf(mode(5120, 2880));
    const parameters = displayIdBlocks(edid).get(0x01)!;
    expect([le16(parameters, 0), le16(parameters, 2)]).toEqual([13005, 7315]);
    expect(detailedTiming(edid)).toMatchObject({ widthMm: 975, heightMm: 732 });
  });
});

describe('refused', () => {
  const { minWidth, maxWidth, minHeight, maxHeight, minRefreshHz, maxRefreshHz } = MODE_LIMITS;
  const good = { mode: mode(1280, 800), outputIndex: 0 };

  test.each([
    mode(minWidth, minHeight, minRefreshHz),
    mode(maxWidth, maxHeight, 220),
    mode(minWidth, maxHeight, maxRefreshHz),
    mode(maxWidth, minHeight, minRefreshHz),
  ])('not the limits themselves: %o', (wanted) => {
    expect(() => edidOf(wanted)).not.toThrow();
  });

  test.each([
    ['width too small', { mode: mode(minWidth - 1, 800) }],
    ['width too large', { mode: mode(maxWidth + 1, 800) }],
    ['width not whole', { mode: mode(1280.5, 800) }],
    ['height too small', { mode: mode(1280, minHeight - 1) }],
    ['height too large', { mode: mode(1280, maxHeight + 1) }],
    ['height not a number', { mode: mode(1280, Number.NaN) }],
    ['rate too low', { mode: mode(1280, 800, minRefreshHz - 0.01) }],
    ['rate too high', { mode: mode(1280, 800, maxRefreshHz + 0.01) }],
    ['pixel clock too high', { mode: mode(maxWidth, maxHeight, 221) }],
    ['rate not a number', { mode: mode(1280, 800, Number.NaN) }],
    ['output below 0', { outputIndex: -1 }],
    ['output above 15', { outputIndex: 16 }],
    ['no dots per inch', { dpi: 0 }],
    ['endless dots per inch', { dpi: Infinity }],
    ['an empty name', { name: '' }],
    ['a name of 14 characters', { name: '14 characters.' }],
    ['a name that ends in a space', { name: 'Left ' }],
    ['a name with a line feed', { name: 'Le\nft' }],
    ['a name beyond ASCII', { name: 'Büro' }],
  ])('%s', (_case, bad) => {
    expect(() => makeEdid({ ...good, ...bad })).toThrow(RangeError);
  });
});

const missing = edidDecodeMissing();
if (missing) console.warn(`skipping edid-decode: ${missing}`);

describe.skipIf(missing)('edid-decode', () => {
  const { minWidth, maxWidth, minHeight, maxHeight, minRefreshHz, maxRefreshHz } = MODE_LIMITS;

  test.each([
    mode(640, 480),
    mode(800, 600),
    mode(1024, 768),
    mode(1280, 720),
    mode(1280, 800),
    mode(1366, 768),
    mode(1920, 1080),
    mode(1920, 1080, 59.94),
    mode(1920, 1080, 75),
    mode(1920, 1080, 120),
    mode(1920, 1080, 144),
    mode(1920, 1080, 360),
    mode(1080, 1920),
    mode(1920, 1200),
    mode(2560, 1440, 144),
    mode(3440, 1440),
    mode(3840, 2160, 24),
    mode(3840, 2160),
    mode(3840, 2160, 144),
    mode(4095, 2160),
    mode(4096, 2160),
    mode(5120, 2880),
    mode(7680, 4320),
    mode(8192, 8192),
    mode(1001, 777),
    mode(640, 480, 5),
    mode(64, 64),
    mode(63, 65),
    mode(33, 33),
    mode(minWidth, minHeight, minRefreshHz),
    mode(minWidth, minHeight, maxRefreshHz),
    mode(maxWidth, minHeight),
    mode(minWidth, maxHeight),
    mode(maxWidth, maxHeight, minRefreshHz),
    mode(maxWidth, maxHeight, 220),
  ])('has nothing against %o', (wanted) => {
    expect(edidComplaints(edidOf(wanted))).toEqual([]);
  });

  test('is heard: a wrong checksum is a complaint', () => {
    const edid = edidOf(mode(1280, 800));
    edid[127]! ^= 1;
    expect(edidComplaints(edid)).toContainEqual(expect.stringContaining('checksum'));
    expect(edidComplaints(edid)).toContain('EDID conformity: FAIL');
  });

  test('has nothing against any mode, size and name', () => {
    const anyOptions = fc.record({
      mode: anyMode,
      outputIndex: fc.nat(15),
      dpi: fc.integer({ min: 30, max: 600 }),
      name: fc.stringMatching(/^[!-~]{1,13}$/),
    });
    fc.assert(
      fc.property(anyOptions, (options) => {
        expect(edidComplaints(makeEdid(options))).toEqual([]);
      }),
      { numRuns: 40 },
    );
  });
});

// Modes

const anyMode: fc.Arbitrary<Mode> = fc
  .record({
    width: fc.integer({ min: MODE_LIMITS.minWidth, max: MODE_LIMITS.maxWidth }),
    height: fc.integer({ min: MODE_LIMITS.minHeight, max: MODE_LIMITS.maxHeight }),
    refreshHz: fc.oneof(
      fc.constantFrom(24, 30, 50, 59.94, 60, 75, 120, 144, 240),
      fc.double({ min: MODE_LIMITS.minRefreshHz, max: MODE_LIMITS.maxRefreshHz, noNaN: true }),
    ),
  })
  .filter((candidate) => cvtReducedBlanking(candidate).pixelClockKHz <= MODE_LIMITS.maxPixelClockKHz);

// Linux: drm_edid.c for which modes are preferred, virtgpu_display.c for which of those stay.

interface PixelSize {
  readonly width: number;
  readonly height: number;
}

/** The modes flagged as preferred that are left once the driver has compared them with the display info. */
function linuxPreferredModes(edid: Uint8Array, displayInfo: PixelSize): PixelSize[] {
  const first = detailedTiming(edid);
  const preferred: PixelSize[] = first.width < 64 || first.height < 64 ? [] : [first];
  const displayId = edid.length > 128 ? typeITiming(edid) : undefined;
  if (displayId && displayId.options & 0x80) preferred.push(displayId);
  return preferred
    .map(({ width, height }) => ({ width, height }))
    .filter((size) => virtioGpuModeIsValid(size, displayInfo));
}

function virtioGpuModeIsValid({ width, height }: PixelSize, displayInfo: PixelSize): boolean {
  if (width === 1024 && height === 768) return true;
  return (
    width <= displayInfo.width &&
    width >= displayInfo.width - 16 &&
    height <= displayInfo.height &&
    height >= displayInfo.height - 16
  );
}

// A decoder, from the tables of E-EDID 1.4 and DisplayID 1.3

/** The timing meant for this display: the one of the DisplayID section if there is one. */
function preferredTiming(edid: Uint8Array) {
  return edid.length > 128 ? typeITiming(edid) : detailedTiming(edid);
}

/** E-EDID 3.10.2, the descriptor at 54. */
function detailedTiming(edid: Uint8Array) {
  const d = edid.subarray(54, 72);
  const high = (byte: number, shift: number, bits: number) => (d[byte]! >> shift) & ((1 << bits) - 1);
  const hFront = d[8]! + 256 * high(11, 6, 2);
  const hSync = d[9]! + 256 * high(11, 4, 2);
  const vFront = high(10, 4, 4) + 16 * high(11, 2, 2);
  const vSync = high(10, 0, 4) + 16 * high(11, 0, 2);
  return {
    widthMm: d[12]! + 256 * high(14, 4, 4),
    heightMm: d[13]! + 256 * high(14, 0, 4),
    ...timing({
      clockKHz: 10 * le16(d, 0),
      width: d[2]! + 256 * high(4, 4, 4),
      hBlank: d[3]! + 256 * high(4, 0, 4),
      hBeforeBackPorch: hFront + hSync,
      height: d[5]! + 256 * high(7, 4, 4),
      vBlank: d[6]! + 256 * high(7, 0, 4),
      vBeforeBackPorch: vFront + vSync,
      hPositive: high(17, 1, 1) === 1,
      vPositive: high(17, 2, 1) === 1,
    }),
  };
}

/** DisplayID 4.4.1, the one of the section. */
function typeITiming(edid: Uint8Array) {
  const t = displayIdBlocks(edid).get(0x03)!;
  const porch = (at: number) => 1 + (le16(t, at) & 0x7fff);
  const isPositive = (at: number) => le16(t, at) >= 0x8000;
  return {
    options: t[3]!,
    ...timing({
      clockKHz: 10 * (1 + le16(t, 0) + 65536 * t[2]!),
      width: 1 + le16(t, 4),
      hBlank: 1 + le16(t, 6),
      hBeforeBackPorch: porch(8) + 1 + le16(t, 10),
      height: 1 + le16(t, 12),
      vBlank: 1 + le16(t, 14),
      vBeforeBackPorch: porch(16) + 1 + le16(t, 18),
      hPositive: isPositive(8),
      vPositive: isPositive(16),
    }),
  };
}

interface RawTiming extends PixelSize {
  readonly clockKHz: number;
  readonly hBlank: number;
  readonly hBeforeBackPorch: number;
  readonly vBlank: number;
  readonly vBeforeBackPorch: number;
  readonly hPositive: boolean;
  readonly vPositive: boolean;
}

function timing(raw: RawTiming) {
  const lineKHz = raw.clockKHz / (raw.width + raw.hBlank);
  return {
    ...raw,
    lineKHz,
    refreshHz: (lineKHz * 1000) / (raw.height + raw.vBlank),
    hBackPorch: raw.hBlank - raw.hBeforeBackPorch,
    vBackPorch: raw.vBlank - raw.vBeforeBackPorch,
  };
}

/** The data blocks of the DisplayID section in block 1, by tag. */
function displayIdBlocks(edid: Uint8Array): Map<number, Uint8Array> {
  expect(hex(edid.subarray(128, 130))).toBe('70 13');
  const end = 133 + edid[130]!;
  const blocks = new Map<number, Uint8Array>();
  for (let at = 133; at < end; at += 3 + edid[at + 2]!) {
    blocks.set(edid[at]!, edid.subarray(at + 3, at + 3 + edid[at + 2]!));
  }
  return blocks;
}

/** The display descriptor with a tag, all 18 bytes of it. */
function displayDescriptor(edid: Uint8Array, tag: number): Uint8Array | undefined {
  const descriptors = [72, 90, 108].map((at) => edid.subarray(at, at + 18));
  return descriptors.find((d) => d[0] === 0 && d[1] === 0 && d[2] === 0 && d[3] === tag);
}

/** E-EDID 3.10.3.3. */
function rangeLimits(edid: Uint8Array) {
  const d = displayDescriptor(edid, 0xfd);
  if (!d) return undefined;
  const offset = (bit: number) => (d[4]! & bit ? 255 : 0);
  return {
    minHz: d[5]! + offset(0x01),
    maxHz: d[6]! + offset(0x02),
    minKHz: d[7]! + offset(0x04),
    maxKHz: d[8]! + offset(0x08),
    maxClockKHz: 10_000 * d[9]!,
  };
}

/** E-EDID 3.8, 3.9 and 3.10.3.9; of the tables there only what is at 60 Hz. */
function listedModes(edid: Uint8Array): string[] {
  const established = [
    [35, 5, '640x480'],
    [35, 0, '800x600'],
    [36, 3, '1024x768'],
  ] as const;
  const establishedIII = [
    [7, 7, '1280x768RB'],
    [8, 7, '1360x768'],
    [8, 6, '1440x900RB'],
    [8, 2, '1400x1050RB'],
    [9, 6, '1680x1050RB'],
    [10, 1, '1920x1200RB'],
  ] as const;
  const extra = displayDescriptor(edid, 0xf7)!;
  return [
    ...established.filter(([byte, bit]) => edid[byte]! & (1 << bit)).map(([, , name]) => name),
    ...Array.from({ length: 8 }, (_, i) => standardTiming(edid.subarray(38 + 2 * i))),
    ...establishedIII.filter(([byte, bit]) => extra[byte]! & (1 << bit)).map(([, , name]) => name),
  ];
}

function standardTiming([first, second]: Uint8Array): string {
  const width = (first! + 31) * 8;
  const heightPerWidth = [10 / 16, 3 / 4, 4 / 5, 9 / 16][second! >> 6]!;
  const refreshHz = 60 + (second! & 0x3f);
  return `${width}x${width * heightPerWidth}${refreshHz === 60 ? '' : `@${refreshHz}`}`;
}

function manufacturer(edid: Uint8Array): string {
  const id = edid[8]! * 256 + edid[9]!;
  return String.fromCharCode(...[10, 5, 0].map((shift) => 64 + ((id >> shift) & 31)));
}

function serialNumber(edid: Uint8Array): number {
  return le16(edid, 12) + 65536 * le16(edid, 14);
}

function productName(edid: Uint8Array): string {
  return String.fromCharCode(...displayDescriptor(edid, 0xfc)!.subarray(5)).replace(/\n *$/, '');
}

function blocksOf(edid: Uint8Array): Uint8Array[] {
  return Array.from({ length: edid.length / 128 }, (_, i) => edid.subarray(128 * i, 128 * (i + 1)));
}

function sum(bytes: Uint8Array): number {
  return bytes.reduce((total, byte) => (total + byte) & 0xff, 0);
}

function le16(bytes: Uint8Array, at: number): number {
  return bytes[at]! + 256 * bytes[at + 1]!;
}

function isAscending(numbers: readonly number[]): boolean {
  return numbers.every((number, i) => i === 0 || numbers[i - 1]! <= number);
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
}
