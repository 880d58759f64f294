/**
 * Runs the tests with real guests. One that needs a part of the test bed that could not be had is skipped, and says so;
 * so are all tests of a suite whose `beforeAll` needs it. `npm test` fails where no guest at all can be started.
 */
import { type RunnerTestCase, type RunnerTestSuite, TestRunner } from 'vitest';
import type { PartMissing } from '../../tools/testbed/cache.ts';

export default class GuestTestRunner extends TestRunner {
  async runTask(test: RunnerTestCase): Promise<void> {
    try {
      await TestRunner.getTestFn(test)();
    } catch (error) {
      if (!isPartMissing(error)) throw error;
      const reason = reasonOf(error);
      console.log(`skipping "${test.name}": ${reason}`);
      test.context.skip(reason);
    }
  }

  override async onBeforeRunSuite(suite: RunnerTestSuite): Promise<void> {
    await super.onBeforeRunSuite(suite);
    const hooks = TestRunner.getSuiteHooks(suite);
    hooks.beforeAll = hooks.beforeAll.map((hook) => async (...args: Parameters<typeof hook>) => {
      try {
        return await hook(...args);
      } catch (error) {
        if (!isPartMissing(error)) throw error;
        console.log(`skipping all of "${suite.name}": ${reasonOf(error)}`);
        skipAll(suite);
        return undefined;
      }
    });
  }
}

/** By name: a file of tests has its own copy of the class. */
function isPartMissing(error: unknown): error is PartMissing {
  return error instanceof Error && error.name === 'PartMissing';
}

let lastReason = '';

/** All that is known once, then only the names. */
function reasonOf(error: PartMissing): string {
  const isNew = error.message !== lastReason;
  lastReason = error.message;
  return isNew ? error.message : `${error.parts.join(' and ')} could not be had, as above`;
}

/** The runner counts tests only if it comes by them: suites in the suite run, but without their hooks. */
function skipAll(suite: RunnerTestSuite): void {
  for (const task of suite.tasks) {
    if (task.type === 'suite') {
      const hooks = TestRunner.getSuiteHooks(task);
      hooks.beforeAll = [];
      hooks.afterAll = [];
      skipAll(task);
    } else {
      task.mode = 'skip';
      task.result = { state: 'skip' };
    }
  }
}
