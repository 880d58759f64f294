/** Figures of rounds, and the table they make. */

/** What a round found out: the figure and, measured beside it, the floor. */
export interface Figure {
  readonly value: number;
  readonly floor?: number;
}

export type Aim =
  /** Of the ratio of value and floor. */
  | { readonly ratio: 'at most' | 'at least'; readonly limit: number }
  /** Of the value. */
  | { readonly value: 'at most'; readonly limit: number; readonly shown?: string };

/** A row of the table. */
export interface Measure {
  readonly name: string;
  readonly unit: string;
  /** What the floor is; the ratio has it below the line. */
  readonly floor?: string;
  readonly aim?: Aim;
  readonly figures: readonly Figure[];
}

/** Everything that was found out, in the order of the table. */
export class Book {
  readonly #measures = new Map<string, Measure & { readonly figures: Figure[] }>();
  /** Where the figures come from: each answer of each program, as it came. */
  readonly raw: object[] = [];

  note(name: string, unit: string, figure: Figure, more: { floor?: string; aim?: Aim } = {}): void {
    const measure = this.#measures.get(name) ?? { name, unit, ...more, figures: [] };
    measure.figures.push(figure);
    this.#measures.set(name, measure);
  }

  get measures(): Measure[] {
    return [...this.#measures.values()];
  }
}

export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly floor: number | undefined;
  /** Median of the ratios of the rounds: value and floor of the same moment. */
  readonly ratio: number | undefined;
  readonly met: boolean | undefined;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)];
  if (upper === undefined) throw new Error('median of nothing');
  return Number.isInteger(middle) ? (upper + sorted[middle - 1]!) / 2 : upper;
}

export function summarise({ figures, aim }: Measure): Summary {
  const values = figures.map(({ value }) => value);
  const floors = figures.flatMap(({ floor }) => floor ?? []);
  const ratios = figures.flatMap(({ value, floor }) => (floor === undefined ? [] : value / floor));
  const middle = median(values);
  const ratio = ratios.length > 0 ? median(ratios) : undefined;
  return {
    median: middle,
    min: Math.min(...values),
    max: Math.max(...values),
    floor: floors.length > 0 ? median(floors) : undefined,
    ratio,
    met: aim && isMet(aim, middle, ratio),
  };
}

function isMet(aim: Aim, value: number, ratio: number | undefined): boolean {
  if ('value' in aim) return value <= aim.limit;
  if (ratio === undefined) return false;
  return aim.ratio === 'at most' ? ratio <= aim.limit : ratio >= aim.limit;
}

function aimText(aim: Aim): string {
  if ('value' in aim) return aim.shown ?? `<= ${aim.limit}`;
  return `${aim.ratio === 'at most' ? '<=' : '>='} ${aim.limit} x`;
}

/** Three digits that matter, no more than there are. */
function numberText(value: number | undefined): string {
  if (value === undefined) return '';
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en').replaceAll(',', ' ');
  const digits = value === 0 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(digits, 3));
}

const HEADINGS = ['', 'unit', 'median', 'min', 'max', 'floor', 'ratio', 'aim', 'met'];

/** The table as text. */
export function tableText(measures: readonly Measure[]): string {
  const rows = measures.map((measure) => {
    const { median: middle, min, max, floor, ratio, met } = summarise(measure);
    return [
      measure.name,
      measure.unit,
      ...[middle, min, max, floor].map(numberText),
      ratio === undefined ? '' : ratio.toFixed(2),
      measure.aim ? aimText(measure.aim) : '',
      met === undefined ? '' : met ? 'yes' : 'NO',
    ];
  });
  const all = [HEADINGS, ...rows];
  const widths = HEADINGS.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  const isText = (column: number) => column < 2 || column > 6;
  return all
    .map((row) =>
      row
        .map((cell, column) =>
          isText(column) ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
