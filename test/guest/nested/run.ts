/** Runs the steps of a file of this folder: `run.ts qemu`. */
import { runSteps, type Step } from './steps.ts';

const { steps } = (await import(`./${process.argv[2]}.ts`)) as { steps: readonly Step[] };
await runSteps(steps);
// Whatever is left ends with this process.
process.exit();
