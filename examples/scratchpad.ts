/**
 * A PCI function that is no virtio device: 64 KiB of memory that the guest maps, and an engine that copies between it
 * and guest memory and then interrupts.
 *
 *     npx tsx examples/scratchpad.ts /run/vm1/scratchpad.sock
 *
 * BAR 0, 16 KiB: registers, then on pages of their own the MSI-X table and its pending bits. BAR 2, 64 KiB: the memory.
 */
import { readSync, writeSync } from 'node:fs';
import {
  ConfigSpace,
  defineBars,
  msixCapability,
  PCI_COMMAND,
  PCI_COMMAND_MASTER,
  type PciFunction,
  RegisterBlock,
  type WorkBudget,
} from 'vfio-user-gpu/pci';
import { createMemfd, PciServer, type Surroundings } from 'vfio-user-gpu/vfio-user';

const MEMORY_BYTES = 0x10000;
const IDENTITY = { vendorId: 0x1234, deviceId: 0x5c7a, subsystemVendorId: 0x1234, subsystemId: 0x5c7a };
const REGISTERS_BYTES = 0x1000;
const MSIX_TABLE = { bar: 0, offset: 0x1000, lengthBytes: 16 };
const MSIX_PBA = { bar: 0, offset: 0x2000, lengthBytes: 8 };
const ID = 0x5c7a_0001;
const STATUS = { idle: 0, busy: 1, done: 2, failed: 3 };
const COMMAND = { load: 1, store: 2 };
const NOTHING = { status: STATUS.idle, addressLow: 0, addressHigh: 0, offset: 0, length: 0, command: 0 };

class Scratchpad implements PciFunction {
  readonly configSizeBytes = 256;
  readonly vectorCount = 1;
  readonly #config = new ConfigSpace({ ...IDENTITY, revisionId: 1, classCode: 0xff0000 });
  readonly bars = defineBars(this.#config, [
    { index: 0, sizeBytes: 0x4000, is64Bit: false, prefetchable: false, mappable: false },
    { index: 2, sizeBytes: MEMORY_BYTES, is64Bit: true, prefetchable: true, mappable: true },
  ]);
  readonly #surroundings: Surroundings;
  /** The memory: a file, which the VMM gives to the guest as BAR 2. */
  readonly #fd: number;
  readonly #state = { ...NOTHING };
  readonly #registers = new RegisterBlock([
    { name: 'id', offset: 0x00, width: 4, read: () => ID },
    { name: 'status', offset: 0x04, width: 4, read: () => this.#state.status },
    this.#numberRegister('addressLow', 0x08),
    this.#numberRegister('addressHigh', 0x0c),
    this.#numberRegister('offset', 0x10),
    this.#numberRegister('length', 0x14),
    { name: 'command', offset: 0x18, width: 4, write: (command) => this.#begin(command) },
  ]);

  constructor(surroundings: Surroundings, fd: number) {
    this.#surroundings = surroundings;
    this.#fd = fd;
    this.#config.addCapability(msixCapability(this.vectorCount, MSIX_TABLE, MSIX_PBA));
  }

  readConfig(offset: number, into: Uint8Array): void {
    this.#config.read(offset, into);
  }

  writeConfig(offset: number, from: Uint8Array): void {
    this.#config.write(offset, from);
  }

  /** Only registers: the VMM keeps the MSI-X table itself, and BAR 2 is a file. */
  readBar(bar: number, offset: number, into: Uint8Array): void {
    if (bar === 0 && offset < REGISTERS_BYTES) this.#registers.read(offset, into);
    else into.fill(0);
  }

  writeBar(bar: number, offset: number, from: Uint8Array): void {
    if (bar === 0 && offset < REGISTERS_BYTES) this.#registers.write(offset, from);
  }

  /** The next guest must not find what the one before left. */
  reset(): void {
    this.#config.reset();
    Object.assign(this.#state, NOTHING);
    writeSync(this.#fd, new Uint8Array(MEMORY_BYTES), 0, MEMORY_BYTES, 0);
  }

  /** The copy that was asked for, after the write of the command register has been answered. */
  service(budget: WorkBudget): boolean {
    if (this.#state.status !== STATUS.busy) return false;
    if (!budget.spend()) return true;
    this.#state.status = this.#copy() ? STATUS.done : STATUS.failed;
    this.#surroundings.interrupts.fire(0);
    return false;
  }

  #numberRegister(name: 'addressLow' | 'addressHigh' | 'offset' | 'length', offset: number) {
    const write = (value: number) => {
      this.#state[name] = value;
    };
    return { name, offset, width: 4 as const, read: () => this.#state[name], write };
  }

  #begin(command: number): void {
    if (this.#state.status === STATUS.busy) return;
    Object.assign(this.#state, { command, status: STATUS.busy });
    this.#surroundings.wake();
  }

  /** False when the guest asked for something that cannot be. Its numbers are checked here, and nowhere before. */
  #copy(): boolean {
    const { addressLow, addressHigh, offset, length, command } = this.#state;
    const isMaster = (this.#config.peek(PCI_COMMAND, 2) & PCI_COMMAND_MASTER) !== 0;
    if (!isMaster || offset + length > MEMORY_BYTES) return false;
    const address = addressHigh * 2 ** 32 + addressLow;
    const bytes = new Uint8Array(length);
    if (command === COMMAND.store) {
      readSync(this.#fd, bytes, 0, length, offset);
      return this.#surroundings.memory.write(address, bytes);
    }
    if (command !== COMMAND.load || !this.#surroundings.memory.read(address, bytes)) return false;
    writeSync(this.#fd, bytes, 0, length, offset);
    return true;
  }
}

const [socketPath] = process.argv.slice(2);
if (!socketPath) throw new Error('usage: scratchpad.ts SOCKET');
const fd = createMemfd('scratchpad', MEMORY_BYTES, { seals: 'size' });
const server = new PciServer({
  socketPath,
  createFunction: (surroundings) => new Scratchpad(surroundings, fd),
  barMemory: { bar: 2, fd, sizeBytes: MEMORY_BYTES },
});
console.log(`listening at ${socketPath}`);
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => server.close());
