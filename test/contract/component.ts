/**
 * What every kind of context must do for the device, whatever it is for. A test file of each kind calls this with a
 * component and, where it can, a way to get a blob.
 */
import { describe, expect, test } from 'vitest';
import type { Component, Context } from '../../server/gpu/contracts/context.ts';
import { GpuFault } from '../../server/gpu/fault.ts';
import { fakeResource } from '../support/fake-resource.ts';

export interface ContractSubject {
  readonly makeComponent: () => Component;
  /** Ids of which a new context can make no blob. */
  readonly unknownBlobIds: readonly bigint[];
  /** Makes the context ready and returns the id and size of a blob that it can make. */
  readonly prepareBlob: (context: Context) => { readonly blobId: bigint; readonly sizeBytes: number };
}

export function componentContract(
  name: string,
  { makeComponent, unknownBlobIds, prepareBlob }: ContractSubject,
): void {
  const makeContext = () => makeComponent().createContext({ contextId: 1, name: 'contract' });

  describe(`${name} keeps the contract of a component:`, () => {
    test('its capset has an id that Linux accepts, and is the same each time', () => {
      const component = makeComponent();
      expect(component.capsetId).toBeGreaterThan(0);
      expect(component.capsetId).toBeLessThan(64);
      expect(component.capset.length).toBeGreaterThan(0);
      expect(makeComponent().capset).toEqual(component.capset);
    });

    test('its contexts have 1 to 64 rings', () => {
      const context = makeContext();
      expect(context.ringCount).toBeGreaterThanOrEqual(1);
      expect(context.ringCount).toBeLessThanOrEqual(64);
      context.close();
    });

    test('an empty command stream is fine, and its fence on ring 0 passes, once', () => {
      const context = makeContext();
      context.submit(new Uint8Array(0));
      let passed = 0;
      context.fence(0, () => passed++);
      expect(passed).toBe(1);
      context.close();
      expect(passed).toBe(1);
    });

    test('whatever is submitted, it answers with a fault or not at all, and goes on', () => {
      const context = makeContext();
      for (let length = 0; length < 400; length += 4) {
        for (const value of [0, 1, 0x7f, 0xff]) {
          try {
            context.submit(new Uint8Array(length).fill(value));
          } catch (error) {
            expect(error).toBeInstanceOf(GpuFault);
          }
        }
      }
      let passed = 0;
      context.fence(0, () => passed++);
      expect(passed).toBe(1);
      context.close();
    });

    test('it refuses blobs that it knows nothing of', () => {
      const context = makeContext();
      for (const blobId of unknownBlobIds)
        expect(() => context.createBlob(blobId, 4096, 3)).toThrow(GpuFault);
      context.close();
    });

    test('blobs are distinct, and outlive their context', () => {
      const context = makeContext();
      const { blobId, sizeBytes } = prepareBlob(context);
      const blobs = [1, 2, 3].map(() => context.createBlob(blobId, sizeBytes, 3));
      expect(new Set(blobs).size).toBe(3);
      for (const { initial } of blobs) expect(initial?.length ?? 0).toBeLessThanOrEqual(sizeBytes);
      context.close();
      for (const blob of blobs) blob.close();
    });

    test('resources come and go in any order', () => {
      const context = makeContext();
      for (const id of [1, 2, 3]) context.attach(fakeResource(id));
      for (const id of [2, 1, 3]) context.detach(id);
      context.attach(fakeResource(2));
      context.close();
    });

    test('after its end nothing calls back', () => {
      const context = makeContext();
      let passed = 0;
      for (let ring = 1; ring < context.ringCount; ring++) context.fence(ring, () => passed++);
      const before = passed;
      context.close();
      expect(passed).toBe(before);
    });
  });
}
