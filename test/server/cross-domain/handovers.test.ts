import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Handovers } from '../../../server/cross-domain/handovers.ts';
import type { AttachedResource } from '../../../server/gpu/contracts/context.ts';
import { fakeResource } from '../../support/fake-resource.ts';

const MiB = 2 ** 20;
const LOOK_MS = 1000;

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** Buffers, what has become of their exports, and whether others hold them. */
class Buffers {
  complaints = 0;
  readonly handovers = new Handovers(() => this.complaints++);
  open = 0;
  lent = 0;
  looks = 0;
  isWithinLimit = true;
  othersHoldIt: () => boolean = () => true;

  /** By default all of it has pages. */
  buffer(sizeBytes = MiB, chargedBytes = sizeBytes): AttachedResource & { isThere: boolean } {
    const resource = {
      ...fakeResource(1, 1),
      isThere: true,
      export: () => {
        this.open++;
        return {
          kind: 'copy' as const,
          sizeBytes,
          chargedBytes,
          populatedBytes: () => chargedBytes,
          account: () => this.isWithinLimit,
          lend: () => {
            this.lent++;
            return { fd: 1000 + this.lent, release: () => this.lent-- };
          },
          refresh: () => 0,
          isCurrent: () => resource.isThere,
          othersHoldIt: () => {
            this.looks++;
            return this.othersHoldIt();
          },
          close: () => this.open--,
        };
      },
    };
    return resource;
  }

  /** Sends a buffer; the guest gives it up. */
  giveUp(sizeBytes?: number, chargedBytes?: number): void {
    const buffer = this.buffer(sizeBytes, chargedBytes);
    this.handovers.of(buffer);
    buffer.isThere = false;
  }
}

test('what nobody holds any more is closed when the next buffer is sent, and what somebody does, once they let go', () => {
  const buffers = new Buffers();
  buffers.othersHoldIt = () => false;
  buffers.giveUp();
  expect(buffers.open).toBe(1);
  buffers.othersHoldIt = () => true;
  buffers.giveUp();
  expect(buffers.open).toBe(2);
  buffers.giveUp();
  vi.advanceTimersByTime(LOOK_MS);
  expect(buffers.open).toBe(3);
  buffers.othersHoldIt = () => false;
  vi.advanceTimersByTime(LOOK_MS);
  expect(buffers.open).toBe(0);
  expect(vi.getTimerCount()).toBe(0);
});

test('what is too much is looked at before anybody complains: bytes', () => {
  const buffers = new Buffers();
  for (let i = 0; i < 5; i++) buffers.giveUp(64 * MiB);
  // Four of them have been looked at. When the fifth is, all have just been let go.
  buffers.othersHoldIt = () => buffers.looks <= 5;
  buffers.giveUp();
  expect([buffers.complaints, buffers.open]).toEqual([0, 1]);
  buffers.othersHoldIt = () => true;
  for (let i = 0; i < 4; i++) buffers.giveUp(64 * MiB);
  expect(buffers.complaints).toBe(0);
  buffers.giveUp();
  expect(buffers.complaints).toBe(1);
});

test('what has no pages is not too much: forty of 512 MiB with 5 MiB each', () => {
  const buffers = new Buffers();
  for (let i = 0; i < 40; i++) buffers.giveUp(512 * MiB, 5 * MiB);
  vi.advanceTimersByTime(LOOK_MS);
  expect(buffers.complaints).toBe(0);
  for (let i = 0; i < 13; i++) buffers.giveUp(512 * MiB, 5 * MiB);
  expect(buffers.complaints).toBe(1);
});

test('what others have made of copies by looking at them is counted each second', () => {
  const buffers = new Buffers();
  const buffer = buffers.buffer();
  buffers.handovers.of(buffer);
  vi.advanceTimersByTime(LOOK_MS);
  expect(buffers.complaints).toBe(0);
  buffers.isWithinLimit = false;
  vi.advanceTimersByTime(LOOK_MS);
  expect(buffers.complaints).toBe(1);
  buffers.handovers.close();
  expect(buffers.open).toBe(0);
  expect(() => buffers.handovers.of(buffer)).toThrow('the channel has ended');
});

test('what is too much is looked at before anybody complains: descriptors', () => {
  const buffers = new Buffers();
  for (let i = 0; i < 1025; i++) buffers.giveUp(4096);
  expect(buffers.complaints).toBe(0);
  // Each was looked at once, when it was given up.
  expect(buffers.looks).toBe(1024);
  buffers.giveUp(4096);
  expect(buffers.complaints).toBe(1);
});

test('where the system does not tell who holds something, somebody does, and nothing is thrown', () => {
  const buffers = new Buffers();
  buffers.othersHoldIt = () => {
    throw new Error('EMFILE');
  };
  for (let i = 0; i < 5; i++) buffers.giveUp(64 * MiB);
  buffers.giveUp();
  vi.advanceTimersByTime(LOOK_MS);
  expect([buffers.complaints, buffers.open]).toEqual([2, 6]);
});

test('a descriptor is lent once for all messages that wait, and belongs to somebody until the last one is sent', () => {
  const buffers = new Buffers();
  buffers.othersHoldIt = () => false;
  const buffer = buffers.buffer();
  const first = buffers.handovers.of(buffer).lend();
  const second = buffers.handovers.of(buffer).lend();
  expect([buffers.lent, first.fd === second.fd]).toEqual([1, true]);
  first.release();
  buffer.isThere = false;
  buffers.giveUp();
  expect([buffers.lent, buffers.open]).toEqual([1, 2]);
  second.release();
  expect(buffers.lent).toBe(0);
  vi.advanceTimersByTime(LOOK_MS);
  expect(buffers.open).toBe(0);
});

test('a buffer whose memory has changed while it waits is exported anew', () => {
  const buffers = new Buffers();
  const buffer = buffers.buffer();
  const first = buffers.handovers.of(buffer);
  first.lend();
  buffer.isThere = false;
  expect(buffers.handovers.of(buffer)).not.toBe(first);
});

test('what is detached is looked at a little later, also when nothing more is sent; the end closes everything', () => {
  const buffers = new Buffers();
  buffers.othersHoldIt = () => false;
  buffers.giveUp();
  buffers.handovers.lookLater();
  vi.advanceTimersByTime(LOOK_MS);
  expect([buffers.open, vi.getTimerCount()]).toEqual([0, 0]);
  buffers.handovers.of(buffers.buffer()).lend();
  buffers.othersHoldIt = () => true;
  buffers.giveUp();
  buffers.giveUp();
  buffers.handovers.close();
  expect([buffers.open, buffers.lent, vi.getTimerCount()]).toEqual([0, 0, 0]);
});
