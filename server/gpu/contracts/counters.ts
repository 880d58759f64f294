/** What parts of the device have done. */

/** What contexts have done, by name: numbers that only grow. */
export type Counters = Readonly<Record<string, number>>;

export const sumOf = (all: Iterable<Counters>): Counters => {
  const sum: Record<string, number> = {};
  for (const counters of all)
    for (const [name, value] of Object.entries(counters)) sum[name] = (sum[name] ?? 0) + value;
  return sum;
};
