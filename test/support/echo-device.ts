/** The smallest virtio device: it answers every request with the request's bytes. Two queues, 8 bytes of config. */
import { type DriverSession, fromLittleEndian, type VirtioDevice, type WorkBudget } from '../../pci/index.ts';

export const ECHO_FEATURE = 1n << 3n;
/** Needs ECHO_FEATURE; for tests of dependent features. */
export const ECHO_DEPENDENT_FEATURE = 1n << 4n;

export class EchoDevice implements VirtioDevice {
  readonly virtioId = 16;
  readonly features = ECHO_FEATURE | ECHO_DEPENDENT_FEATURE;
  readonly queueSizes: readonly number[];
  readonly configLengthBytes = 8;
  configGeneration = 0;
  session: DriverSession | undefined;
  resets = 0;
  readonly config = new Uint8Array([0, 1, 2, 3, 4, 5, 6, 7]);
  #notify: () => void = () => {};

  constructor(queueSizes: readonly number[] = [256, 64]) {
    this.queueSizes = queueSizes;
  }

  acceptsFeatures(features: bigint): boolean {
    return (features & ECHO_DEPENDENT_FEATURE) === 0n || (features & ECHO_FEATURE) !== 0n;
  }

  readConfig(offset: number, into: Uint8Array): void {
    into.set(this.config.subarray(offset, offset + into.length));
  }

  writeConfig(offset: number, from: Uint8Array): void {
    if (offset === 4 && from.length === 4) this.changeConfig(fromLittleEndian(from) & 0xff);
  }

  onConfigChange(notify: () => void): void {
    this.#notify = notify;
  }

  changeConfig(value: number): void {
    this.config[0] = value;
    this.configGeneration++;
    this.#notify();
  }

  activate(session: DriverSession): void {
    this.session = session;
  }

  run(pending: number, budget: WorkBudget): number {
    for (let index = this.queueSizes.length - 1; index >= 0; index--) {
      if ((pending & (1 << index)) === 0) continue;
      const queue = this.session?.queues[index];
      for (;;) {
        if (!queue || !budget.spend()) break;
        const chain = queue.pop();
        if (!chain) {
          pending &= ~(1 << index);
          break;
        }
        const bytes = new Uint8Array(chain.readableBytes);
        chain.read(bytes);
        queue.complete(chain, chain.write(bytes));
      }
      queue?.flush();
    }
    return pending;
  }

  reset(): void {
    this.session = undefined;
    this.resets++;
  }
}
