/**
 * Reads the text of the Linux console off a picture of it, with the font that the guest program `console`
 * printed. Exact: a cell is a character only if every pixel agrees.
 */
import { colorAt, type Picture } from './pictures.ts';

/** The guest's text console, as `console` described it on the serial line. */
export interface ConsoleFont {
  readonly columns: number;
  readonly rows: number;
  readonly cellWidth: number;
  readonly cellHeight: number;
  /** From the pixels of a glyph, a string of 0 and 1 in rows, to its character. */
  readonly characters: ReadonlyMap<string, string>;
}

/** What matches the line that `console` prints; for `waitFor`. */
export const consoleLine =
  /^CONSOLE columns=(\d+) rows=(\d+) cell=(\d+)x(\d+) first=(\d+) font=([0-9a-f]+)\n/m;

/** Parses a match of `consoleLine`. */
export function parseConsoleFont(match: RegExpExecArray): ConsoleFont {
  const [columns, rows, cellWidth, cellHeight, first] = match.slice(1, 6).map(Number) as [
    number,
    number,
    number,
    number,
    number,
  ];
  const bytes = Buffer.from(match[6]!, 'hex');
  const rowBytes = Math.ceil(cellWidth / 8);
  const glyphBytes = rowBytes * cellHeight;
  const characters = new Map<string, string>();
  for (let index = 0; index < bytes.length / glyphBytes; index++) {
    let pixels = '';
    for (let y = 0; y < cellHeight; y++) {
      for (let x = 0; x < cellWidth; x++) {
        const byte = bytes[index * glyphBytes + y * rowBytes + (x >> 3)]!;
        pixels += (byte >> (7 - (x & 7))) & 1;
      }
    }
    characters.set(pixels, String.fromCharCode(first + index));
  }
  return { columns, rows, cellWidth, cellHeight, characters };
}

/**
 * The lines of text on a picture of the console, without trailing blanks. Whatever is not black is ink; a cell
 * that is no printable ASCII character reads as `?`.
 */
export function readConsole(picture: Picture, font: ConsoleFont): string[] {
  const columns = Math.min(font.columns, Math.floor(picture.width / font.cellWidth));
  const rows = Math.min(font.rows, Math.floor(picture.height / font.cellHeight));
  const lines: string[] = [];
  for (let row = 0; row < rows; row++) {
    let line = '';
    for (let column = 0; column < columns; column++) {
      let pixels = '';
      for (let y = 0; y < font.cellHeight; y++) {
        for (let x = 0; x < font.cellWidth; x++) {
          const color = colorAt(picture, column * font.cellWidth + x, row * font.cellHeight + y);
          pixels += color === 0 ? '0' : '1';
        }
      }
      line += font.characters.get(pixels) ?? '?';
    }
    lines.push(line.trimEnd());
  }
  while (lines.at(-1) === '') lines.pop();
  return lines;
}
