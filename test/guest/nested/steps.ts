/** What the programs in the nested guests are made of: steps of one story, each with its verdict. */

export interface Step {
  readonly name: string;
  run(): Promise<void>;
}

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
