/**
 * Ours and the real libwayland, asked the same: random messages and wrong ones, cut into pieces, with descriptors in
 * their places or not. What they pass on is the same, with the same arguments, and so is what ends a connection. The
 * seed of a case is printed when something is different. More of it:
 *
 *     COUNT=10000000 SEED=1 npx vitest run --config test/vitest.config.ts --project unit test/server/cross-domain/wayland/libwayland
 */
import { afterAll, describe, expect, test } from 'vitest';
import { Dice } from '../../../support/dice.ts';
import { batchOf, type Case, caseOf, indexIn, PROGRAM, refusesZeros } from './libwayland/cases.ts';
import { missing, startOracle } from './libwayland/oracle.ts';
import { rulesOf } from './libwayland/rules.ts';
import { Answers, judge, plain } from './libwayland/verdict.ts';

const COUNT = Number(process.env.COUNT ?? 500_000);
const SEED = Number(process.env.SEED ?? 1);
/** Of one batch. */
const CASES = 400;
/** Said in one case at most. */
const LENGTH = 40;

const exactly = (text: string) => new RegExp(`^${text.replaceAll('.', '\\.')}$`);

const reason = missing();
if (reason) console.warn(`skipped: ${reason}`);
const oracle = reason ? undefined : startOracle();
afterAll(() => oracle?.close());

describe.skipIf(!oracle)(`according to libwayland ${oracle?.version}`, () => {
  const indexOf = oracle ? indexIn(oracle) : () => 0;
  test.each(rulesOf(indexOf))('$name', async ({ side, begin, steps, ours, theirs, newer }) => {
    const judgement = oracle!;
    const all = [...begin, ...steps];
    const answers = new Answers(await judgement.ask(batchOf([{ side, steps: all.map(({ step }) => step) }])));
    for (const { says } of begin) {
      const { sent } = answers.next();
      // What ours is told that libwayland says: all of it for programs, what matters for compositors.
      if (side === PROGRAM) expect(sent).toEqual(Buffer.from(says));
    }
    let said = '';
    for (const { step, says } of steps) {
      const { text, sent } = answers.next();
      said += text;
      // Behind what a compositor had not said yet.
      if (step.kind === 'act') expect(sent.subarray(-says.length || sent.length)).toEqual(Buffer.from(says));
    }
    expect(plain(said)).toMatch((refusesZeros(judgement) && newer) || theirs || exactly(ours));
  });

  test(`${COUNT} random messages mean the same, or are refused alike`, async () => {
    const judgement = oracle!;
    const counts = { messages: 0, ended: 0, onPurpose: 0, cases: 0 };
    let seed = SEED;
    const makeBatch = () => {
      const cases: { seed: number; made: Case }[] = [];
      for (let i = 0; i < CASES; i++, seed++) {
        const dice = new Dice(Math.imul(2 * seed + 1, 0x9e37_79b1));
        for (let warm = 0; warm < 4; warm++) dice.roll(2);
        cases.push({ seed, made: caseOf(judgement, dice, LENGTH) });
      }
      return { cases, asked: judgement.ask(batchOf(cases.map(({ made }) => made))) };
    };
    let next = makeBatch();
    while (counts.messages < COUNT) {
      const { cases, asked } = next;
      const answers = new Answers(await asked);
      next = makeBatch();
      for (const one of cases) {
        const { difference, messages, ended, onPurpose } = judge(judgement, one.made, answers);
        if (difference !== undefined) throw new Error(`case ${one.seed}: ${difference}`);
        counts.messages += messages;
        counts.cases++;
        if (ended) counts.ended++;
        if (onPurpose) counts.onPurpose++;
      }
      expect(answers.isAtEnd).toBe(true);
    }
    await next.asked;
    console.log(JSON.stringify(counts));
    // Both got somewhere, and both had much to refuse.
    expect(counts.ended).toBeGreaterThan(counts.cases / 4);
    expect(counts.messages).toBeGreaterThan(10 * counts.cases);
  }, 3_600_000);
});
