/**
 * Joins a PCI function to the requests of a client: regions, guest memory, interrupts, doorbells, and the moments at
 * which the function's work is done.
 */
import { closeSync, readSync, writeSync } from 'node:fs';
import { createEventfd, drainEventfd, READABLE, Watch } from '../../native/index.ts';
import type { PciFunction, WorkBudget } from '../../pci/index.ts';
import { doorbellRange, REGISTER_BAR } from '../../pci/virtio/transport.ts';
import {
  type DeviceHost,
  type DmaWindow,
  type Doorbell,
  IRQ_ERR,
  IRQ_INFO_EVENTFD,
  IRQ_MSIX,
  type IrqIndex,
  NUM_IRQS,
  NUM_REGIONS,
  REGION_CONFIG,
  type Region,
} from './contract.ts';
import type { DmaMap } from './guest-memory.ts';
import { Interrupts } from './interrupts.ts';

/** What is done in one turn of the event loop before messages and timers get theirs. */
const COMMANDS_PER_TURN = 64;
const TURN_MS = 4;

/** The memory behind a mappable BAR. */
export interface BarMemory {
  readonly bar: number;
  readonly fd: number;
  readonly sizeBytes: number;
}

export interface FunctionHostOptions {
  readonly memory: DmaMap;
  readonly vectorCount: number;
  readonly queueCount: number;
  readonly barMemory?: BarMemory;
  /** Work outside of any request failed: a mistake of ours. */
  readonly onFailure: (error: unknown) => void;
}

/** One ERR interrupt is announced, though never fired: QEMU warns about a device that has none. */
const irqIndexes = (vectorCount: number): IrqIndex[] =>
  Array.from({ length: NUM_IRQS }, (_, index) => {
    if (index === IRQ_MSIX) return { count: vectorCount, flags: IRQ_INFO_EVENTFD };
    if (index === IRQ_ERR) return { count: 1, flags: IRQ_INFO_EVENTFD };
    return { count: 0, flags: 0 };
  });

export class FunctionHost implements DeviceHost {
  readonly irqs: readonly IrqIndex[];
  readonly interrupts: Interrupts;
  readonly doorbells: readonly Doorbell[];
  readonly #options: FunctionHostOptions;
  readonly #memory: DmaMap;
  #fn: PciFunction | undefined;
  #regions: readonly Region[] = [];
  #doorbell: { readonly fd: number; readonly watch: Watch } | undefined;
  #workWaiting = false;
  /** Between a write and `settle`: the work that the write asks for waits for the answer. */
  #answerDue = false;
  #turn: NodeJS.Immediate | undefined;
  #ringAll: () => void = () => {};

  constructor(options: FunctionHostOptions) {
    this.#options = options;
    this.#memory = options.memory;
    this.irqs = irqIndexes(options.vectorCount);
    this.interrupts = new Interrupts(this.irqs);
    this.doorbells = Array.from({ length: options.queueCount }, (_, index) => {
      const { offset, lengthBytes } = doorbellRange(index);
      return { region: REGISTER_BAR, offset, sizeBytes: lengthBytes, datamatch: BigInt(index) };
    });
  }

  /** Takes the function in; called once, because the function needs `wake` to be made. */
  attach(fn: PciFunction, ringAllDoorbells: () => void): void {
    this.#fn = fn;
    this.#ringAll = ringAllDoorbells;
    const { barMemory } = this.#options;
    this.#regions = Array.from({ length: NUM_REGIONS }, (_, index) => {
      if (index === REGION_CONFIG) return { sizeBytes: fn.configSizeBytes };
      const bar = fn.bars[index];
      if (!bar) return { sizeBytes: 0 };
      return bar.mappable && barMemory
        ? { sizeBytes: bar.sizeBytes, fd: barMemory.fd }
        : { sizeBytes: bar.sizeBytes };
    });
  }

  get regions(): readonly Region[] {
    return this.#regions;
  }

  /** The function has something to do: after the answer that is due, or in a turn of its own. */
  wake(): void {
    this.#workWaiting = true;
    if (!this.#answerDue) this.#turn ??= setImmediate(() => this.#takeTurn());
  }

  readRegion(region: number, offset: number, into: Uint8Array): void {
    const fn = this.#function;
    if (region === REGION_CONFIG) fn.readConfig(offset, into);
    else if (region === this.#options.barMemory?.bar) readFile(this.#options.barMemory, offset, into);
    else fn.readBar(region, offset, into);
  }

  writeRegion(region: number, offset: number, from: Uint8Array): void {
    this.#answerDue = true;
    const fn = this.#function;
    if (region === REGION_CONFIG) fn.writeConfig(offset, from);
    else if (region === this.#options.barMemory?.bar) writeFile(this.#options.barMemory, offset, from);
    else fn.writeBar(region, offset, from);
  }

  mapDma(window: DmaWindow, fd: number | undefined, maxWindows: number): void {
    this.#memory.map(window, fd, maxWindows);
  }

  unmapDma(address: number, sizeBytes: number): void {
    this.#memory.unmap(address, sizeBytes);
  }

  unmapAllDma(): void {
    this.#memory.unmapAll();
  }

  attachEventfds(index: number, start: number, fds: readonly number[]): void {
    this.interrupts.attach(index, start, fds);
  }

  detachEventfds(index: number, start: number, count: number): void {
    this.interrupts.detach(index, start, count);
  }

  triggerIrqs(index: number, vectors: readonly number[]): void {
    this.interrupts.trigger(index, vectors);
  }

  doorbellEventfd(): number {
    if (!this.#doorbell) {
      const fd = createEventfd();
      const watch = new Watch(fd, READABLE, () => {
        if (drainEventfd(fd) > 0) this.#ringAll();
      });
      this.#doorbell = { fd, watch };
    }
    return this.#doorbell.fd;
  }

  reset(): void {
    this.#function.reset('client');
    this.interrupts.dropPending();
  }

  settle(): void {
    this.#answerDue = false;
    if (this.#workWaiting) this.#work();
  }

  clientGone(): void {
    this.#function.reset('disconnect');
    this.interrupts.close();
    this.#memory.unmapAll();
    this.#closeDoorbell();
    this.#workWaiting = false;
    this.#answerDue = false;
  }

  /** Lets go of everything; the host cannot be used afterwards. */
  close(): void {
    this.clientGone();
    clearImmediate(this.#turn);
    this.#memory.addressSpace.close();
  }

  get #function(): PciFunction {
    if (!this.#fn) throw new Error('no function attached');
    return this.#fn;
  }

  #work(): void {
    this.#workWaiting = this.#function.service(new TurnBudget());
    if (this.#workWaiting) this.wake();
  }

  #takeTurn(): void {
    this.#turn = undefined;
    if (!this.#workWaiting) return;
    try {
      this.#work();
    } catch (error) {
      this.#options.onFailure(error);
    }
  }

  #closeDoorbell(): void {
    if (!this.#doorbell) return;
    this.#doorbell.watch.close();
    closeSync(this.#doorbell.fd);
    this.#doorbell = undefined;
  }
}

/** Ends after so many commands or so much time, whichever comes first; the first command is always allowed. */
class TurnBudget implements WorkBudget {
  readonly #end = performance.now() + TURN_MS;
  #left = COMMANDS_PER_TURN;

  spend(): boolean {
    if (this.#left === 0 || (this.#left < COMMANDS_PER_TURN && performance.now() >= this.#end)) return false;
    this.#left--;
    return true;
  }
}

/** Clients that map the BAR come here only while they cannot use their mapping. Beyond the end there are zeros. */
function readFile({ fd, sizeBytes }: BarMemory, offset: number, into: Uint8Array): void {
  into.fill(0);
  if (offset < sizeBytes) readSync(fd, into, 0, Math.min(into.length, sizeBytes - offset), offset);
}

function writeFile({ fd, sizeBytes }: BarMemory, offset: number, from: Uint8Array): void {
  if (offset < sizeBytes) writeSync(fd, from, 0, Math.min(from.length, sizeBytes - offset), offset);
}
