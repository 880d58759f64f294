/**
 * A virtio entropy device (virtio 1.3, 5.4): the guest's driver brings empty buffers, the device fills them.
 * Linux has it as `/dev/hwrng` with its own driver, `virtio_rng`.
 *
 *     npx tsx examples/entropy.ts /run/vm1/entropy.sock
 */
import { randomBytes } from 'node:crypto';
import { type DriverSession, pump, type VirtioDevice, type WorkBudget } from 'vfio-user-gpu/pci';
import { FunctionServer } from 'vfio-user-gpu/vfio-user';

const VIRTIO_ID_ENTROPY = 4;
/** Base class, sub class and interface of a device that fits no other class. */
const PCI_CLASS_OTHERS = 0xff0000;
/** The guest chooses the length of its buffers: no request gets more than this. */
const MAX_BYTES = 4096;

class EntropyDevice implements VirtioDevice {
  readonly virtioId = VIRTIO_ID_ENTROPY;
  readonly features = 0n;
  readonly queueSizes = [64];
  readonly configLengthBytes = 0;
  readonly configGeneration = 0;
  #session: DriverSession | undefined;

  acceptsFeatures(): boolean {
    return true;
  }

  readConfig(): void {}

  writeConfig(): void {}

  onConfigChange(): void {}

  activate(session: DriverSession): void {
    this.#session = session;
  }

  run(pending: number, budget: WorkBudget): number {
    const queue = this.#session?.queues[0];
    if (!queue) return 0;
    const isEmpty = pump(queue, budget, (request) => {
      const bytes = randomBytes(Math.min(request.writableBytes, MAX_BYTES));
      queue.complete(request, request.write(bytes));
    });
    return isEmpty ? 0 : pending;
  }

  reset(): void {
    this.#session = undefined;
  }
}

const [socketPath] = process.argv.slice(2);
if (!socketPath) throw new Error('usage: entropy.ts SOCKET');
const server = new FunctionServer({ socketPath, device: new EntropyDevice(), classCode: PCI_CLASS_OTHERS });
console.log(`listening at ${socketPath}`);
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => server.close());
