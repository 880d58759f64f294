/** A display mode as users ask for one, and the bounds of what this device announces. */

export interface Mode {
  /** Visible pixels in a line. */
  readonly width: number;
  /** Visible lines in a frame. */
  readonly height: number;
  /** Frames per second; may be fractional, e.g. 59.94. */
  readonly refreshHz: number;
}

/**
 * What {@link Mode}s can be announced.
 *
 * - Size: what the Linux driver takes for a framebuffer, 32 to 8192 (XRES_MIN to YRES_MAX).
 * - Rate: from 1 Hz, where EDID's range limits descriptor starts, to below the 510 Hz where it ends.
 * - Pixel clock: 24 bits of kHz, the largest that DisplayID 2 states and that checkers grant a DisplayID 1
 *   section. 8192x8192 is beyond it above 220 Hz, 3840x2160 never.
 */
export const MODE_LIMITS = {
  minWidth: 32,
  maxWidth: 8192,
  minHeight: 32,
  maxHeight: 8192,
  minRefreshHz: 1,
  maxRefreshHz: 500,
  maxPixelClockKHz: 2 ** 24,
} as const;
