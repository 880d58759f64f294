/**
 * Ours is as lenient towards guests as libwayland-server is towards programs, and towards compositors as libwayland-client
 * is, and not more. `libwayland.test.ts` asks libwayland itself for the same rules, where there is one.
 */
import { describe, expect, test } from 'vitest';
import { COMPOSITOR, PROGRAM } from './libwayland/cases.ts';
import { rulesOf } from './libwayland/rules.ts';
import { Ours } from './libwayland/verdict.ts';

const RULES = rulesOf(() => 0);

describe.each([
  ['what guests send', COMPOSITOR],
  ['what compositors send', PROGRAM],
] as const)('%s', (_, side) => {
  const rules = RULES.filter((rule) => rule.side === side);
  test.each(rules)('$name', ({ begin, steps, ours: expected }) => {
    const ours = new Ours(side);
    for (const { step, says } of begin) ours.run(step, says);
    expect(ours.verdict.ended).toBe(false);
    let said = '';
    for (const { step, says } of steps) if (!ours.verdict.ended) said += ours.run(step, says);
    expect(said).toBe(expected);
  });
});
