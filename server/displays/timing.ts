/**
 * Video timings for modes. Nothing scans out here; a timing matters because EDID has no other way to state a
 * mode, and because Linux 7.1 runs its vblank timer at the rate the timing works out to.
 *
 * Source: VESA Coordinated Video Timings (CVT) 1.1, section 5, reduced blanking (version 1). Constants keep the
 * names of its table of constants.
 */
import { MODE_LIMITS, type Mode } from './mode.ts';

/** A progressive timing with positive horizontal and negative vertical sync, as CVT reduced blanking has it. */
export interface Timing {
  readonly pixelClockKHz: number;
  /** Pixels: visible, blanked, and within the blanked ones the front porch and the sync pulse. */
  readonly hActive: number;
  readonly hBlank: number;
  readonly hFrontPorch: number;
  readonly hSync: number;
  /** Lines: likewise. */
  readonly vActive: number;
  readonly vBlank: number;
  readonly vFrontPorch: number;
  readonly vSync: number;
}

/** Pixels. */
const RB_H_BLANK = 160;
const RB_H_SYNC = 32;
const RB_H_FPORCH = RB_H_BLANK / 2 - RB_H_SYNC;
/** Lines. */
const RB_V_FPORCH = 3;
const MIN_V_BPORCH = 6;
/** Microseconds. */
const RB_MIN_V_BLANK = 460;
/** kHz (0.25 MHz). */
const CLOCK_STEP = 250;

/** CVT 1.1, table of vertical sync widths: the width, in lines, tells the receiver the aspect ratio. */
const V_SYNC_BY_ASPECT = [
  [4, 3, 4],
  [16, 9, 5],
  [16, 10, 6],
  [5, 4, 7],
  [15, 9, 7],
] as const;
const V_SYNC_CUSTOM = 10;

/**
 * The timing that CVT 1.1 with reduced blanking gives for a mode.
 *
 * One departure: CVT drops pixels until the width is a multiple of its 8-pixel cell. That was for the hardware
 * of its day, and the guest is to get the size of the window, so every width is kept.
 *
 * The clock is rounded down to CLOCK_STEP, as CVT wants, so the rate is a little below the one asked for. For
 * tiny modes the clock comes out as 0; {@link announcedTiming} is for those.
 */
export function cvtReducedBlanking({ width, height, refreshHz }: Mode): Timing {
  const linePeriodUs = (1e6 / refreshHz - RB_MIN_V_BLANK) / height;
  const vSync = vSyncLines(width, height);
  const vBlank = Math.max(RB_V_FPORCH + vSync + MIN_V_BPORCH, Math.floor(RB_MIN_V_BLANK / linePeriodUs) + 1);
  const clockKHz = ((width + RB_H_BLANK) * (height + vBlank) * refreshHz) / 1000;
  return {
    pixelClockKHz: Math.floor(clockKHz / CLOCK_STEP) * CLOCK_STEP,
    hActive: width,
    hBlank: RB_H_BLANK,
    hFrontPorch: RB_H_FPORCH,
    hSync: RB_H_SYNC,
    vActive: height,
    vBlank,
    vFrontPorch: RB_V_FPORCH,
    vSync,
  };
}

function vSyncLines(width: number, height: number): number {
  const match = V_SYNC_BY_ASPECT.find(([across, down]) => width * down === height * across);
  return match?.[2] ?? V_SYNC_CUSTOM;
}

/** Below this clock CLOCK_STEP is more than 1 % of it: 60 Hz would no longer read as 60 Hz. */
const COARSE_CLOCK_KHZ = 25_000;
/** What EDID can state: E-EDID 1.4, 3.10.2 and DisplayID 1.3, 4.4.1 both count in 10 kHz. */
const FINE_CLOCK_STEP = 10;
/** Readers take a detailed timing with a slower clock for garbage. */
const MIN_PIXEL_CLOCK_KHZ = 10_000;
/** Lines that a detailed timing descriptor can state: 12 bits. */
const MAX_V_BLANK = 4095;

/**
 * The timing to announce for a mode: the CVT one, save for modes so small or slow that its clock is too
 * coarse. Those get a clock to the nearest 10 kHz, and as much additional blanking, below the picture first,
 * as keeps the clock at 10 MHz. The rate is then off by 0.05 % at most.
 */
export function announcedTiming(mode: Mode): Timing {
  const cvt = cvtReducedBlanking(mode);
  if (cvt.pixelClockKHz >= COARSE_CLOCK_KHZ) return cvt;

  const pixelsPerFrame = (MIN_PIXEL_CLOCK_KHZ * 1000) / mode.refreshHz;
  const vBlankWanted = Math.ceil(pixelsPerFrame / hTotal(cvt)) - cvt.vActive;
  const vBlank = Math.min(Math.max(cvt.vBlank, vBlankWanted), MAX_V_BLANK);
  const hBlankWanted = Math.ceil(pixelsPerFrame / (cvt.vActive + vBlank)) - cvt.hActive;
  const hBlank = Math.max(cvt.hBlank, hBlankWanted);
  const clockKHz = ((cvt.hActive + hBlank) * (cvt.vActive + vBlank) * mode.refreshHz) / 1000;
  return {
    ...cvt,
    pixelClockKHz: Math.round(clockKHz / FINE_CLOCK_STEP) * FINE_CLOCK_STEP,
    hBlank,
    vBlank,
  };
}

/** @throws RangeError unless the mode is within {@link MODE_LIMITS} and its size is whole pixels. */
export function assertMode(mode: Mode): void {
  const { minWidth, maxWidth, minHeight, maxHeight, minRefreshHz, maxRefreshHz } = MODE_LIMITS;
  const { width, height, refreshHz } = mode;
  if (!Number.isInteger(width) || width < minWidth || width > maxWidth) {
    throw new RangeError(`width ${width} is not a whole number from ${minWidth} to ${maxWidth}`);
  }
  if (!Number.isInteger(height) || height < minHeight || height > maxHeight) {
    throw new RangeError(`height ${height} is not a whole number from ${minHeight} to ${maxHeight}`);
  }
  if (!(refreshHz >= minRefreshHz && refreshHz <= maxRefreshHz)) {
    throw new RangeError(`refresh rate ${refreshHz} Hz is not from ${minRefreshHz} to ${maxRefreshHz} Hz`);
  }
  const { pixelClockKHz } = cvtReducedBlanking(mode);
  if (pixelClockKHz > MODE_LIMITS.maxPixelClockKHz) {
    throw new RangeError(
      `${width}x${height} at ${refreshHz} Hz takes a pixel clock of ${pixelClockKHz} kHz, ` +
        `more than ${MODE_LIMITS.maxPixelClockKHz} kHz`,
    );
  }
}

/** Lines per millisecond. */
export function lineRateKHz(timing: Timing): number {
  return timing.pixelClockKHz / hTotal(timing);
}

/** Frames per second. */
export function frameRateHz(timing: Timing): number {
  return (lineRateKHz(timing) * 1000) / (timing.vActive + timing.vBlank);
}

function hTotal(timing: Timing): number {
  return timing.hActive + timing.hBlank;
}
