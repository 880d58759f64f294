/**
 * The EDID of an output: what the guest's driver reads to learn which modes the display takes, how large it
 * is and what it is called.
 *
 * Block 0 is an EDID 1.4 structure (VESA E-EDID Standard, Release A, Revision 2; "E-EDID" below). A mode that
 * its detailed timing cannot carry is put into a DisplayID 1.3 section (VESA DisplayID Standard, Version 1.3)
 * in block 1. Tables here are in the order of the bytes; names are those of the standards.
 *
 * **Preferred mode.** Exactly the mode asked for, whatever the size: no rounding to 8 or to 2. Linux drops
 * the preferred mode if it is larger than the display info, or smaller by more than 16 pixels, so the two are
 * to be made from one snapshot.
 *
 * **Other modes.** The same list for every display: the usual sizes at 60 Hz from 640x480 to 2048x1152, those
 * that block 0 can name without a timing. Sizes above the preferred one are in it. Nothing in virtio-gpu ties
 * a guest to the size of the window, a viewer scales what it gets, and a list that does not change while a
 * window is being resized keeps the user's choice in it. Larger modes than these are the host's to offer, by
 * making them the preferred one: each costs guest and host a framebuffer.
 */
import type { Mode } from './mode.ts';
import { announcedTiming, assertMode, frameRateHz, lineRateKHz, type Timing } from './timing.ts';

export { MODE_LIMITS, type Mode } from './mode.ts';
export { cvtReducedBlanking, type Timing } from './timing.ts';

export interface EdidOptions {
  /** The preferred mode. */
  readonly mode: Mode;
  /** 0 to 15. Makes serial number and default name differ, so that a guest keeps settings per output. */
  readonly outputIndex: number;
  /** Pixels per inch, from which the physical size and so the guest's scale follow. Default 100. */
  readonly dpi?: number;
  /** Up to 13 printable ASCII characters. Default `vfio-user N`, N counting from 1. */
  readonly name?: string;
}

/**
 * The EDID for an output, 128 bytes or 256.
 *
 * @throws RangeError for a mode beyond `MODE_LIMITS`, and for any other option that is out of range.
 */
export function makeEdid(options: EdidOptions): Uint8Array {
  const display = describe(options);
  if (fitsDetailedTiming(display.timing)) {
    return baseBlock(display, { timing: display.timing, size: display.size, isNative: true }, 0);
  }
  const size = largestInside(display.size, FALLBACK_MODE);
  const base = baseBlock(display, { timing: announcedTiming(FALLBACK_MODE), size, isNative: false }, 1);
  return Uint8Array.of(...base, ...displayIdBlock(display));
}

interface Display {
  readonly timing: Timing;
  readonly size: Size;
  readonly serialNumber: number;
  readonly name: string;
}

interface Size {
  readonly widthMm: number;
  readonly heightMm: number;
}

const MAX_OUTPUTS = 16;
const DEFAULT_DPI = 100;

function describe({ mode, outputIndex, dpi = DEFAULT_DPI, name }: EdidOptions): Display {
  assertMode(mode);
  if (!Number.isInteger(outputIndex) || outputIndex < 0 || outputIndex >= MAX_OUTPUTS) {
    throw new RangeError(`output index ${outputIndex} is not a whole number from 0 to ${MAX_OUTPUTS - 1}`);
  }
  if (!(dpi > 0 && dpi < Infinity)) throw new RangeError(`${dpi} dots per inch is not a positive number`);
  const productName = name ?? `vfio-user ${outputIndex + 1}`;
  if (!PRODUCT_NAME.test(productName)) {
    throw new RangeError(`name ${JSON.stringify(productName)} is not 1 to 13 printable ASCII characters`);
  }
  return {
    timing: announcedTiming(mode),
    size: physicalSize(mode, dpi),
    serialNumber: SERIAL_NUMBER_BASE + outputIndex,
    name: productName,
  };
}

/** What the one byte per side of block 0 can state (E-EDID 3.6.2). */
const MAX_SIZE_MM = 2550;
const MM_PER_INCH = 25.4;

/** A display too large to be stated is stated smaller in both directions: the aspect ratio stays right. */
function physicalSize({ width, height }: Mode, dpi: number): Size {
  const mmPerPixel = Math.min(MM_PER_INCH / dpi, MAX_SIZE_MM / Math.max(width, height));
  return { widthMm: width * mmPerPixel, heightMm: height * mmPerPixel };
}

/** The part of a screen that a picture of another shape covers. */
function largestInside({ widthMm, heightMm }: Size, picture: Mode): Size {
  const mmPerPixel = Math.min(widthMm / picture.width, heightMm / picture.height);
  return { widthMm: picture.width * mmPerPixel, heightMm: picture.height * mmPerPixel };
}

// Who we are, in block 0 (E-EDID 3.4) and again in DisplayID (4.1).

/** Not among the PNP ids that UEFI and hwdata list. */
const ID_MANUFACTURER_NAME = 'VUG';
const ID_PRODUCT_CODE = 1;
/** 'VUG' and the output: checkers take 1 and its like for a serial number somebody forgot to set. */
const SERIAL_NUMBER_BASE = 0x56554700;
const MODEL_YEAR = 2026;
/** In place of the week of manufacture: the year is the one of the model. */
const MODEL_YEAR_FLAG = 0xff;

/** A space at either end would be lost, or be taken for padding. */
const PRODUCT_NAME = /^(?! )[\x20-\x7e]{1,13}(?<! )$/;

// Block 0

const EDID_BLOCK_SIZE = 128;
const HEADER = [0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00] as const;
const EDID_VERSION = 1;
const EDID_REVISION = 4;

/** Video input definition (E-EDID 3.6.1): digital, 8 bits per primary color, interface not defined. */
const DIGITAL_8_BITS_PER_COLOR = 0xa0;
/** Display transfer characteristic (3.6.3): (gamma - 1) x 100. */
const GAMMA_2_2 = 120;
/** Feature support (3.6.4). Not continuous frequency: with that, Linux adds modes that nobody listed. */
const SRGB_IS_DEFAULT_COLOR_SPACE = 1 << 2;
const PREFERRED_TIMING_IS_NATIVE = 1 << 1;
/** Chromaticity coordinates of sRGB (3.7). */
const SRGB_CHROMATICITY = [0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54] as const;

/** What the first detailed timing states: the preferred mode or the one in its place. */
interface FirstTiming {
  readonly timing: Timing;
  readonly size: Size;
  readonly isNative: boolean;
}

/** E-EDID 3. */
function baseBlock(display: Display, first: FirstTiming, extensionBlockCount: number): Uint8Array {
  return sealBlock([
    ...HEADER,
    ...be16(manufacturerName(ID_MANUFACTURER_NAME)),
    ...le16(ID_PRODUCT_CODE),
    ...le32(display.serialNumber),
    MODEL_YEAR_FLAG,
    MODEL_YEAR - 1990,
    EDID_VERSION,
    EDID_REVISION,
    DIGITAL_8_BITS_PER_COLOR,
    atLeastOne(display.size.widthMm / 10),
    atLeastOne(display.size.heightMm / 10),
    GAMMA_2_2,
    SRGB_IS_DEFAULT_COLOR_SPACE | (first.isNative ? PREFERRED_TIMING_IS_NATIVE : 0),
    ...SRGB_CHROMATICITY,
    ...ESTABLISHED_TIMINGS,
    ...STANDARD_TIMINGS.flatMap(standardTiming),
    ...detailedTiming(first.timing, first.size),
    ...displayDescriptor(DISPLAY_PRODUCT_NAME, text(display.name)),
    ...displayDescriptor(ESTABLISHED_TIMINGS_III, ESTABLISHED_TIMINGS_III_DATA),
    ...(displayRangeLimits(display.timing) ?? displayDescriptor(DUMMY_DESCRIPTOR, [])),
    extensionBlockCount,
  ]);
}

/** Three letters of five bits, A being 1. */
function manufacturerName(letters: string): number {
  return Array.from(letters).reduce((id, letter) => (id << 5) | (letter.charCodeAt(0) - 0x40), 0);
}

/** A side rounded to 0 would turn the other one into an aspect ratio (3.6.2). */
function atLeastOne(size: number): number {
  return Math.max(1, Math.round(size));
}

// The other modes. Where Established Timings III has a reduced blanking variant it is the one taken: it has the
// timing this file makes for the same size at 60 Hz, and Linux folds equal modes into one.

/** Established Timings I and II and the manufacturer's byte (E-EDID 3.8). */
const ESTABLISHED_TIMINGS = [
  (1 << 5) | (1 << 0), // 640x480, 800x600
  1 << 3, // 1024x768
  0,
] as const;

/** Standard timings (3.9), all at 60 Hz. */
const STANDARD_TIMINGS = [
  [1280, 720],
  [1280, 800],
  [1280, 1024],
  [1600, 900],
  [1600, 1200],
  [1920, 1080],
  [1920, 1440],
  [2048, 1152],
] as const;

/** Established Timings III (3.10.3.9): the revision of the table, then its bits, all at 60 Hz. */
const ESTABLISHED_TIMINGS_III_DATA = [
  0x0a,
  0,
  1 << 7, // 1280x768 reduced blanking
  (1 << 7) | (1 << 6) | (1 << 2), // 1360x768, 1440x900 reduced blanking, 1400x1050 reduced blanking
  1 << 6, // 1680x1050 reduced blanking
  1 << 1, // 1920x1200 reduced blanking
  0,
] as const;

/** What all of the above need of the display, rounded outwards. */
const LISTED_MODES_RANGE = {
  minVerticalHz: 59,
  maxVerticalHz: 61,
  minHorizontalKHz: 31,
  maxHorizontalKHz: 90,
  maxPixelClockKHz: 240_000,
} as const;

/** Image aspect ratio, bits 7 and 6 of a standard timing's second byte. */
const STANDARD_TIMING_ASPECTS = [
  [16, 10],
  [4, 3],
  [5, 4],
  [16, 9],
] as const;

/** E-EDID 3.9. The low bits of the second byte are the rate less 60 Hz. */
function standardTiming([width, height]: readonly [number, number]): number[] {
  const aspect = STANDARD_TIMING_ASPECTS.findIndex(([across, down]) => width * down === height * across);
  return [width / 8 - 31, aspect << 6];
}

// 18-byte descriptors

/** E-EDID 3.10.2: a size or a blanking has 12 bits, the clock 16 bits of 10 kHz. */
const MAX_DETAILED_SIZE = 4095;
const MAX_DETAILED_CLOCK_KHZ = 655_350;
/** Linux passes over a detailed timing that is smaller in either direction (drm_mode_detailed). */
const MIN_DETAILED_SIZE = 64;

/** Digital separate sync (bits 4 and 3), horizontal sync positive (bit 1), vertical negative (bit 2). */
const DIGITAL_SEPARATE_SYNC_H_POSITIVE = 0x1a;

function fitsDetailedTiming(timing: Timing): boolean {
  const { hActive, vActive, hBlank, vBlank, pixelClockKHz } = timing;
  return (
    Math.min(hActive, vActive) >= MIN_DETAILED_SIZE &&
    Math.max(hActive, vActive, hBlank, vBlank) <= MAX_DETAILED_SIZE &&
    pixelClockKHz <= MAX_DETAILED_CLOCK_KHZ
  );
}

/** Detailed timing descriptor (E-EDID 3.10.2, tables 3.21 and 3.22), without borders. */
function detailedTiming(timing: Timing, size: Size): number[] {
  const { hActive, hBlank, hFrontPorch, hSync, vActive, vBlank, vFrontPorch, vSync } = timing;
  const widthMm = atLeastOne(size.widthMm);
  const heightMm = atLeastOne(size.heightMm);
  return [
    ...le16(timing.pixelClockKHz / 10),
    ...low8high4(hActive, hBlank),
    ...low8high4(vActive, vBlank),
    hFrontPorch & 0xff,
    hSync & 0xff,
    ((vFrontPorch & 0xf) << 4) | (vSync & 0xf),
    ((hFrontPorch >> 8) << 6) | ((hSync >> 8) << 4) | ((vFrontPorch >> 4) << 2) | (vSync >> 4),
    ...low8high4(widthMm, heightMm),
    0,
    0,
    DIGITAL_SEPARATE_SYNC_H_POSITIVE,
  ];
}

/** Two numbers of 12 bits: the low byte of each, then the high four bits of both. */
function low8high4(first: number, second: number): number[] {
  return [first & 0xff, second & 0xff, ((first >> 8) << 4) | (second >> 8)];
}

/** Tags of display descriptors (E-EDID 3.10.3). */
const DISPLAY_RANGE_LIMITS = 0xfd;
const DISPLAY_PRODUCT_NAME = 0xfc;
const ESTABLISHED_TIMINGS_III = 0xf7;
const DUMMY_DESCRIPTOR = 0x10;
const DISPLAY_DESCRIPTOR_DATA_SIZE = 13;

function displayDescriptor(tag: number, data: readonly number[], flags = 0): number[] {
  return [0, 0, 0, tag, flags, ...padded(data, DISPLAY_DESCRIPTOR_DATA_SIZE)];
}

/** A string of a display descriptor: shorter than the field, it ends in a line feed and spaces (3.10.3.4). */
function text(string: string): number[] {
  const terminated = `${string}\n`.padEnd(DISPLAY_DESCRIPTOR_DATA_SIZE);
  return asciiBytes(terminated.slice(0, DISPLAY_DESCRIPTOR_DATA_SIZE));
}

/** E-EDID 3.10.3.3: a rate has a byte, and in byte 4 a flag that adds 255 to it. */
const RATE_OFFSET = 255;
const MAX_VERTICAL_RATE_OFFSET_FLAG = 1 << 1;
const MAX_HORIZONTAL_RATE_OFFSET_FLAG = 1 << 3;
const MAX_RATE = 255 + RATE_OFFSET;
/** One byte of 10 MHz. */
const MAX_RANGE_CLOCK_KHZ = 2_550_000;
/** Byte 10, then what must fill the place of timing formula data. */
const RANGE_LIMITS_ONLY = [0x01, 0x0a, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20] as const;

/**
 * Display range limits that hold for the preferred timing and for every listed mode; X servers go by them.
 * Undefined for a timing beyond what they can state: they are optional for a display that is not continuous
 * frequency (3.10.3.3), and none are better than wrong ones.
 */
function displayRangeLimits(preferred: Timing): number[] | undefined {
  const listed = LISTED_MODES_RANGE;
  const minVerticalHz = Math.max(1, Math.min(listed.minVerticalHz, Math.floor(frameRateHz(preferred))));
  const maxVerticalHz = Math.max(listed.maxVerticalHz, Math.ceil(frameRateHz(preferred)));
  const minHorizontalKHz = Math.max(1, Math.min(listed.minHorizontalKHz, Math.floor(lineRateKHz(preferred))));
  const maxHorizontalKHz = Math.max(listed.maxHorizontalKHz, Math.ceil(lineRateKHz(preferred)));
  const maxPixelClockKHz = Math.max(listed.maxPixelClockKHz, preferred.pixelClockKHz);
  if (maxHorizontalKHz > MAX_RATE || maxPixelClockKHz > MAX_RANGE_CLOCK_KHZ) return undefined;

  const flags =
    (maxVerticalHz > RATE_OFFSET ? MAX_VERTICAL_RATE_OFFSET_FLAG : 0) |
    (maxHorizontalKHz > RATE_OFFSET ? MAX_HORIZONTAL_RATE_OFFSET_FLAG : 0);
  const data = [
    minVerticalHz,
    offsetRate(maxVerticalHz),
    minHorizontalKHz,
    offsetRate(maxHorizontalKHz),
    Math.ceil(maxPixelClockKHz / 10_000),
    ...RANGE_LIMITS_ONLY,
  ];
  return displayDescriptor(DISPLAY_RANGE_LIMITS, data, flags);
}

function offsetRate(rate: number): number {
  return rate > RATE_OFFSET ? rate - RATE_OFFSET : rate;
}

// DisplayID, for a preferred mode that block 0 cannot carry

/**
 * What stands in block 0 then, for a reader that stops there: E-EDID 3.10.1 wants a detailed timing in any
 * case. Linux takes that one for preferred too, and drops it since it does not match the display info. That
 * must stay so, or there would be two preferred modes: the size is one that Linux does not keep whatever the
 * display info says (1024x768) and whose neighbours all fit a detailed timing at any rate. It is not among
 * the standard timings either, for Linux would leave that one out in favour of this.
 */
const FALLBACK_MODE: Mode = { width: 800, height: 600, refreshHz: 60 };

/** Extension block tag (E-EDID 2.2.4). */
const DISPLAYID_EXTENSION = 0x70;
/** Version 1, revision 3 (DisplayID 2). */
const DISPLAYID_VERSION_REVISION = 0x13;
/** DisplayID 2.3. */
const STANDALONE_DISPLAY_DEVICE = 3;

/** Data block tags (DisplayID 4). */
const PRODUCT_IDENTIFICATION = 0x00;
const DISPLAY_PARAMETERS = 0x01;
const VIDEO_TIMING_MODES_TYPE_I = 0x03;
const DISPLAY_INTERFACE = 0x0f;

/** An extension block that holds one DisplayID section (DisplayID 2), which has a checksum of its own. */
function displayIdBlock(display: Display): Uint8Array {
  const payload = [
    ...dataBlock(PRODUCT_IDENTIFICATION, productIdentification(display)),
    ...dataBlock(DISPLAY_PARAMETERS, displayParameters(display)),
    ...dataBlock(DISPLAY_INTERFACE, DISPLAY_INTERFACE_DATA),
    ...dataBlock(VIDEO_TIMING_MODES_TYPE_I, typeITiming(display.timing)),
  ];
  const extensionCount = 0;
  const section = [
    DISPLAYID_VERSION_REVISION,
    payload.length,
    STANDALONE_DISPLAY_DEVICE,
    extensionCount,
    ...payload,
  ];
  return sealBlock([DISPLAYID_EXTENSION, ...section, checksum(section)]);
}

/** All blocks here are of revision 0. */
function dataBlock(tag: number, data: readonly number[]): number[] {
  return [tag, 0, data.length, ...data];
}

/** DisplayID 4.1: as in block 0, with the manufacturer's letters in ASCII and the name without padding. */
function productIdentification({ serialNumber, name }: Display): number[] {
  return [
    ...asciiBytes(ID_MANUFACTURER_NAME),
    ...le16(ID_PRODUCT_CODE),
    ...le32(serialNumber),
    MODEL_YEAR_FLAG,
    MODEL_YEAR - 2000,
    name.length,
    ...asciiBytes(name),
  ];
}

/** Bits per color less one, overall and native, in a nibble each (DisplayID 4.2). */
const COLOR_BIT_DEPTH_8 = 0x77;

/** DisplayID 4.2: size in 0.1 mm, native pixel format; aspect ratio as long / short x 100 - 100. */
function displayParameters({ timing, size }: Display): number[] {
  const { hActive, vActive } = timing;
  const features = 0;
  const aspectRatio = (Math.max(hActive, vActive) / Math.min(hActive, vActive)) * 100 - 100;
  return [
    ...le16(atLeastOne(size.widthMm * 10)),
    ...le16(atLeastOne(size.heightMm * 10)),
    ...le16(hActive),
    ...le16(vActive),
    features,
    GAMMA_2_2,
    Math.min(255, Math.round(aspectRatio)),
    COLOR_BIT_DEPTH_8,
  ];
}

/** Display interface data block: a proprietary digital interface of one link, RGB at 8 bits, nothing else. */
const DISPLAY_INTERFACE_DATA = [0xb1, 0, 1 << 1, 0, 0, 0, 0, 0, 0, 0] as const;

/** Timing options of a type I timing: preferred, progressive, monoscopic, aspect ratio not defined. */
const PREFERRED_ASPECT_UNDEFINED = 0x88;
/** In a front porch: the sync pulse that follows it is positive. */
const POSITIVE_SYNC = 1 << 15;

/** Video timing mode type I (DisplayID 4.4.1): the clock in 10 kHz; every number is stored less one. */
function typeITiming(timing: Timing): number[] {
  return [
    ...le24(timing.pixelClockKHz / 10 - 1),
    PREFERRED_ASPECT_UNDEFINED,
    ...le16(timing.hActive - 1),
    ...le16(timing.hBlank - 1),
    ...le16((timing.hFrontPorch - 1) | POSITIVE_SYNC),
    ...le16(timing.hSync - 1),
    ...le16(timing.vActive - 1),
    ...le16(timing.vBlank - 1),
    ...le16(timing.vFrontPorch - 1),
    ...le16(timing.vSync - 1),
  ];
}

// Bytes

/** A whole block: the content, zeros up to the last byte, and the byte that makes the sum 0. */
function sealBlock(content: readonly number[]): Uint8Array {
  const bytes = padded(content, EDID_BLOCK_SIZE - 1);
  return Uint8Array.of(...bytes, checksum(bytes));
}

function checksum(bytes: readonly number[]): number {
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  return -sum & 0xff;
}

function padded(bytes: readonly number[], length: number): number[] {
  if (bytes.length > length) throw new Error(`${bytes.length} bytes in a field of ${length}`);
  return [...bytes, ...new Array<number>(length - bytes.length).fill(0)];
}

function asciiBytes(string: string): number[] {
  return Array.from(string, (character) => character.charCodeAt(0));
}

function be16(value: number): number[] {
  return [value >> 8, value & 0xff];
}

function le16(value: number): number[] {
  return [value & 0xff, value >> 8];
}

function le24(value: number): number[] {
  return [...le16(value & 0xffff), value >> 16];
}

function le32(value: number): number[] {
  return [...le16(value & 0xffff), ...le16(value >>> 16)];
}
