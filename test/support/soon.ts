import { vi } from 'vitest';

/** Resolves with what `check` returns as soon as it does not throw: in time for whatever comes on a busy machine. */
export function soon<T>(check: () => T | Promise<T>): Promise<T> {
  return vi.waitFor(check, { timeout: 20_000, interval: 5 });
}
