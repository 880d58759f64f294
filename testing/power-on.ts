/** A function, the driver that drives it, and what came out of it: the start of most transport tests. */
import {
  type MsixTableOwner,
  type VirtioDevice,
  VirtioPciFunction,
  type VirtioPciOptions,
} from '../pci/index.ts';
import { FakeDriver } from './fake-driver.ts';
import { FlatMemory } from './flat-memory.ts';

export interface PowerOnOptions {
  readonly memory?: FlatMemory;
  readonly msixTableOwner?: MsixTableOwner;
  readonly sharedMemory?: VirtioPciOptions['sharedMemory'];
}

export function powerOn<D extends VirtioDevice>(device: D, options: PowerOnOptions = {}) {
  const memory = options.memory ?? new FlatMemory();
  const fired: number[] = [];
  const doorbells: number[] = [];
  const guestErrors: string[] = [];
  const emptyDoorbells: [number, number][] = [];
  const strayDoorbells: number[] = [];
  const arrivals = { count: 0, turnedAway: 0 };
  const wakes = { count: 0 };
  const fn = new VirtioPciFunction(device, {
    memory,
    interrupts: { fire: (vector) => fired.push(vector) },
    wake: () => wakes.count++,
    observer: {
      doorbell: (index) => doorbells.push(index),
      guestError: (kind, detail) => guestErrors.push(`${kind}: ${detail}`),
      emptyFirstDoorbell: (index, address) => emptyDoorbells.push([index, address]),
      strayDoorbell: (index) => strayDoorbells.push(index),
      guestArrives: () => arrivals.count++,
      driverTurnedAway: () => arrivals.turnedAway++,
    },
    msixTableOwner: options.msixTableOwner ?? 'client',
    classCode: 0x038000,
    ...(options.sharedMemory ? { sharedMemory: options.sharedMemory } : {}),
  });
  return {
    fn,
    device,
    memory,
    driver: new FakeDriver(fn, memory),
    fired,
    doorbells,
    guestErrors,
    emptyDoorbells,
    strayDoorbells,
    arrivals,
    wakes,
  };
}
