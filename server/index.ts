/**
 * The device as a library: `new GpuServer({ socketPath, displays })` listens when it returns. The PCI part alone is
 * `vfio-user-gpu/pci`.
 */

export type { CursorState } from './displays/cursor.ts';
export type { Display, Picture, PixelOrder, Rect } from './displays/display.ts';
export type { Mode } from './displays/mode.ts';
export { Screen, type Snapshot } from './displays/screen.ts';
export { DEFAULT_LIMITS, type GpuLimits } from './gpu/limits.ts';
export { GpuServer, type GpuServerOptions } from './gpu-server.ts';
export type { Contact, PointerReport, Seat, SeatClient } from './input/seat.ts';
export { InputServer, type InputServerOptions } from './input-server.ts';
export type { Log } from './log.ts';
