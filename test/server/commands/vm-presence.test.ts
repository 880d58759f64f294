/** How long a VM that has dropped its connections counts as one that reboots. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { VmPresence } from '../../../server/commands/vm-presence.ts';

let gone: number;
let waits: number[];
let presence: VmPresence;

beforeEach(() => {
  vi.useFakeTimers();
  gone = 0;
  waits = [];
  presence = new VmPresence({ leaving: (waitMs) => waits.push(waitMs), gone: () => gone++ });
});
afterEach(() => {
  vi.useRealTimers();
});

const connections = (change: 'connected' | 'disconnected', count: number) => {
  for (let i = 0; i < count; i++) presence[change]();
};

test('a VM that drops all connections and comes back within ten seconds reboots', () => {
  connections('connected', 3);
  for (let reboot = 1; reboot <= 5; reboot++) {
    connections('disconnected', 3);
    vi.advanceTimersByTime(9999);
    connections('connected', 3);
    expect(waits.length).toBe(reboot);
  }
  vi.advanceTimersByTime(1_000_000);
  expect(gone).toBe(0);
});

test('one that stays away for ten seconds is gone, and that is said once', () => {
  connections('connected', 3);
  connections('disconnected', 3);
  vi.advanceTimersByTime(9999);
  expect(gone).toBe(0);
  vi.advanceTimersByTime(1_000_000);
  expect([gone, waits]).toEqual([1, [10_000]]);
});

test('a VM is there as long as one of its devices is', () => {
  connections('connected', 3);
  connections('disconnected', 2);
  vi.advanceTimersByTime(1_000_000);
  expect([gone, waits]).toEqual([0, []]);
});

test('where no VM has come yet, it is waited for', () => {
  vi.advanceTimersByTime(1_000_000);
  expect(gone).toBe(0);
});

test('nobody is told after the end', () => {
  connections('connected', 1);
  connections('disconnected', 1);
  presence.close();
  expect(vi.getTimerCount()).toBe(0);
});
