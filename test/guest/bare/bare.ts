/**
 * What a host needs to know of the bare guest: how to build it, how to read its console, what it leaves on the screen
 * (`check-picture.c`) and in the host-visible window (`check-window.c`).
 */
import { execFileSync } from 'node:child_process';

/** Builds `cache/bare/bare.elf`, unless it is there. Tests that run side by side do so one after the other. */
export function buildBareGuest(): void {
  const here = import.meta.dirname;
  execFileSync('flock', [`${here}/Makefile`, 'make', '--silent', '-C', here], { stdio: 'inherit' });
}

export interface BareReport {
  tests: Map<string, { verdict: 'PASS' | 'FAIL' | 'SKIP'; detail: string }>;
  notes: { name: string; remark: string }[];
  /** Present once the picture is complete. */
  picture?: { width: number; height: number };
  /** Absent while the guest is running, or when it died. */
  done?: { passed: number; failed: number; skipped: number };
}

/** Reads what has come over the serial port so far; an unfinished last line is left out. */
export function readReport(serial: string): BareReport {
  const report: BareReport = { tests: new Map(), notes: [] };
  for (const line of serial.split('\n').slice(0, -1)) readLine(report, line.trimEnd());
  return report;
}

function readLine(report: BareReport, line: string): void {
  const verdict = /^BARE (PASS|FAIL|SKIP) ([^:]+)(?:: (.*))?$/.exec(line);
  if (verdict) {
    const [, tag, name, detail = ''] = verdict;
    report.tests.set(name!, { verdict: tag as 'PASS' | 'FAIL' | 'SKIP', detail });
  }
  const note = /^BARE NOTE ([^:]+): (.*)$/.exec(line);
  if (note) report.notes.push({ name: note[1]!, remark: note[2]! });
  const picture = /^BARE PICTURE (\d+)x(\d+)$/.exec(line);
  if (picture) report.picture = { width: Number(picture[1]), height: Number(picture[2]) };
  const done = /^BARE DONE passed=(\d+) failed=(\d+) skipped=(\d+)$/.exec(line);
  if (done) report.done = { passed: Number(done[1]), failed: Number(done[2]), skipped: Number(done[3]) };
}

/** Exit status of a QEMU with `-device isa-debug-exit,iobase=0xf4`, when the guest was not told to wait. */
export const exitStatus = { passed: 33, failed: 35 } as const;

/** The colour that pixel (x, y) of a display of this size must have, as 0xRRGGBB. */
export function pictureColor(x: number, y: number, width: number, height: number): number {
  const color = ((y & 0xfff) << 12) | (x & 0xfff);
  const w = Math.floor(width / 4);
  const h = Math.floor(height / 4);
  const inside = (x0: number, y0: number, w: number, h: number) =>
    x >= x0 && x < x0 + w && y >= y0 && y < y0 + h;
  if (inside(Math.floor(width / 8) + 1, Math.floor(height / 8) + 1, w + 3, h + 3)) return color ^ 0xffffff;
  if (inside(Math.floor(width / 2) + 5, Math.floor(height / 2) + 7, w - 1, h - 3)) return color ^ 0xff00ff;
  return color;
}

/** Where the cursor is left. */
export const cursor = { side: 64, hotX: 1, hotY: 2, x: 40, y: 24 } as const;

/** Pixel (x, y) of the cursor image, premultiplied 0xAARRGGBB. */
export function cursorWord(x: number, y: number): number {
  if (x + y < 48) return (0xff000040 | ((4 * x) << 16) | ((4 * y) << 8)) >>> 0;
  return x + y < 64 ? 0x80404040 : 0;
}

export const windowPageBytes = 4096;
/** The little-endian words of every page of the window that hold `windowWord`. */
export const windowWords = [0, 1, 257, 512, 1023] as const;

export function windowWord(page: number, word: number): number {
  return (((page ^ 0x5aa51234) >>> 0) + word * 0x01000193) >>> 0;
}
