/** What the programs in the nested guests are made of: steps of one story, each with its verdict. */
import { setTimeout as sleep } from 'node:timers/promises';

export interface Step {
  readonly name: string;
  run(): Promise<void>;
}

/** A boot takes 15 s on an idle machine. */
export const bootTimeoutMs = 120_000;

/** What became of a step, as the program says it. */
export interface StepReport {
  readonly name: string;
  readonly ms: number;
  readonly failure?: string;
}

const mark = '@@STEP';

/** Runs the steps in order and says of each what became of it. The first that fails is the last. */
export async function runSteps(steps: readonly Step[]): Promise<void> {
  for (const { name, run } of steps) {
    const start = performance.now();
    let failure: string | undefined;
    try {
      await run();
    } catch (error) {
      failure = error instanceof Error ? error.stack : String(error);
    }
    const report: StepReport = {
      name,
      ms: Math.round(performance.now() - start),
      ...(failure === undefined ? {} : { failure }),
    };
    console.log(`${mark} ${JSON.stringify(report)}`);
    if (failure !== undefined) return;
  }
}

/** What the program said of its steps so far. */
export function readReports(said: string): StepReport[] {
  // The kernel may have begun the line.
  return [...said.matchAll(new RegExp(`${mark} (.*)$`, 'gm'))].map(
    ([, json]) => JSON.parse(json!) as StepReport,
  );
}

/** Waits until something is so; looks a few times a second. */
export async function eventually(
  what: string,
  check: () => Promise<boolean>,
  timeoutMs = 60_000,
): Promise<void> {
  for (const deadline = Date.now() + timeoutMs; !(await check()); await sleep(200)) {
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms: ${what}`);
  }
}
