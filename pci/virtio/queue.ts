/**
 * The split virtqueue, device side (virtio 1.3, 2.7): `pop` takes what the driver made available, `complete` notes
 * what was done with it, `flush` publishes it and decides about one interrupt.
 *
 * Ring indices are read and written in place with `Atomics`, which order them against everything around them on
 * every processor. The rest of the ring is plain memory. Views are looked up again whenever the memory map changed.
 */
import type { GuestMemory, GuestView, WorkBudget } from '../ports.ts';
import { type Chain, ChainWalker, DESCRIPTOR_SIZE, QueueBroken } from './chain.ts';

const VIRTQ_AVAIL_F_NO_INTERRUPT = 1;
const VIRTQ_USED_F_NO_NOTIFY = 1;
/** Halfword and byte offsets inside the rings (2.7.6, 2.7.8). */
const FLAGS_HALFWORD = 0;
const IDX_HALFWORD = 1;
const RING_HALFWORD = 2;
const USED_RING_BYTE = 4;
const USED_ELEMENT_SIZE = 8;

/** Where the driver put the three parts of a queue, as guest addresses. */
export interface QueueAddresses {
  readonly descriptors: number;
  readonly avail: number;
  readonly used: number;
}

export interface QueueOptions {
  readonly memory: GuestMemory;
  readonly size: number;
  readonly addresses: QueueAddresses;
  readonly eventIdx: boolean;
  readonly indirect: boolean;
  /** Called by `flush` when the driver wants to be interrupted. */
  readonly interrupt: () => void;
}

/** Whether moving the index from `from` to `to` passes `event` (2.7.7.2 and 2.7.10). All modulo 65536. */
export const passesEvent = (event: number, from: number, to: number): boolean =>
  ((to - event - 1) & 0xffff) < ((to - from) & 0xffff);

interface Rings {
  readonly epoch: number;
  readonly descriptors: GuestView;
  readonly avail: GuestView;
  readonly used: GuestView;
}

export class SplitQueue {
  readonly #options: QueueOptions;
  readonly #walker: ChainWalker;
  /** One flag per head: set while the device holds that chain. */
  readonly #held: Uint8Array;
  #heldCount = 0;
  #used = false;
  #rings: Rings;
  /** Free-running indices: next avail entry to take, next used entry to fill, used index the driver knows. */
  #nextAvail = 0;
  #nextUsed = 0;
  #publishedUsed = 0;
  /** Highest avail index seen, so that a batch is drained without looking again. */
  #seenAvail = 0;
  #interruptedOnce = false;
  #doorbellWanted = true;

  /** Throws `QueueBroken` when a ring is not aligned as 2.7 demands, or not wholly inside mapped memory. */
  constructor(options: QueueOptions) {
    this.#options = options;
    this.#walker = new ChainWalker(options.memory, options.indirect);
    this.#held = new Uint8Array(options.size);
    const { descriptors, avail, used } = options.addresses;
    if (descriptors % 16 !== 0 || avail % 2 !== 0 || used % 4 !== 0)
      throw new QueueBroken('rings are not aligned');
    this.#rings = this.#resolve();
  }

  /** Whether the driver has ever made a request available here. */
  get used(): boolean {
    return this.#used;
  }

  /** Guest address of the avail index. */
  get availIdxAddress(): number {
    return this.#options.addresses.avail + 2 * IDX_HALFWORD;
  }

  /** How many requests the driver has made available, modulo 65536, at this moment. */
  get availIdx(): number {
    return Atomics.load(this.#current().avail.halfwords, IDX_HALFWORD);
  }

  /** Chains the device holds: popped and not yet completed. */
  get heldCount(): number {
    return this.#heldCount;
  }

  /** The next request, or undefined when the driver has none; then its next one rings the doorbell. */
  pop(): Chain | undefined {
    const rings = this.#current();
    if (this.#nextAvail === this.#seenAvail && !this.#look(rings)) {
      this.#setDoorbellWanted(rings, true);
      // The driver may have added a request before it could see that the doorbell is wanted again.
      if (!this.#look(rings)) return undefined;
    }
    if (this.#doorbellWanted) this.#setDoorbellWanted(rings, false);
    const { size } = this.#options;
    const head = rings.avail.halfwords[RING_HALFWORD + (this.#nextAvail % size)] as number;
    if (head >= size) throw new QueueBroken(`head ${head} of a queue of ${size}`);
    if (this.#held[head]) throw new QueueBroken(`head ${head} made available twice`);
    const chain = this.#walker.walk(rings.descriptors, size, head);
    this.#held[head] = 1;
    this.#heldCount++;
    this.#used = true;
    this.#nextAvail = (this.#nextAvail + 1) & 0xffff;
    return chain;
  }

  /** Puts the chain on the used ring; the driver sees it after `flush`. `writtenBytes` is what the device stored. */
  complete(chain: Chain, writtenBytes: number): void {
    const { used } = this.#current();
    const at = USED_RING_BYTE + (this.#nextUsed % this.#options.size) * USED_ELEMENT_SIZE;
    used.data.setUint32(at, chain.head, true);
    used.data.setUint32(at + 4, writtenBytes, true);
    this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
    this.#held[chain.head] = 0;
    this.#heldCount--;
  }

  /** Publishes everything completed since the last flush, and interrupts at most once. */
  flush(): void {
    if (this.#nextUsed === this.#publishedUsed) return;
    const rings = this.#current();
    const from = this.#publishedUsed;
    // A sequentially consistent store: the elements are visible before it, and what follows is loaded after it.
    Atomics.store(rings.used.halfwords, IDX_HALFWORD, this.#nextUsed);
    this.#publishedUsed = this.#nextUsed;
    if (this.#driverWantsInterrupt(rings, from)) this.#options.interrupt();
  }

  #driverWantsInterrupt(rings: Rings, from: number): boolean {
    const { avail } = rings;
    if (!this.#options.eventIdx) {
      return (Atomics.load(avail.halfwords, FLAGS_HALFWORD) & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
    }
    const usedEvent = Atomics.load(avail.halfwords, RING_HALFWORD + this.#options.size);
    const first = !this.#interruptedOnce;
    this.#interruptedOnce = true;
    return first || passesEvent(usedEvent, from, this.#publishedUsed);
  }

  /** Loads the avail index; true when there is something to take. */
  #look(rings: Rings): boolean {
    const index = Atomics.load(rings.avail.halfwords, IDX_HALFWORD);
    const waiting = (index - this.#nextAvail) & 0xffff;
    if (waiting > this.#options.size)
      throw new QueueBroken(`${waiting} requests in a queue of ${this.#options.size}`);
    this.#seenAvail = index;
    return waiting > 0;
  }

  /**
   * Going idle asks for a doorbell at the next request, going to work takes that back. With EVENT_IDX the event
   * index then simply stays behind; without it a flag has to say so.
   */
  #setDoorbellWanted(rings: Rings, wanted: boolean): void {
    this.#doorbellWanted = wanted;
    const { used } = rings;
    if (!this.#options.eventIdx) {
      Atomics.store(used.halfwords, FLAGS_HALFWORD, wanted ? 0 : VIRTQ_USED_F_NO_NOTIFY);
    } else if (wanted) {
      const availEvent = (USED_RING_BYTE + this.#options.size * USED_ELEMENT_SIZE) / 2;
      Atomics.store(used.halfwords, availEvent, this.#nextAvail);
    }
  }

  #current(): Rings {
    if (this.#rings.epoch !== this.#options.memory.epoch) this.#rings = this.#resolve();
    return this.#rings;
  }

  #resolve(): Rings {
    const { memory, size, addresses } = this.#options;
    const descriptors = memory.view(addresses.descriptors, DESCRIPTOR_SIZE * size, 'read');
    const avail = memory.view(addresses.avail, 6 + 2 * size, 'read');
    const used = memory.view(addresses.used, 6 + USED_ELEMENT_SIZE * size, 'write');
    if (!descriptors || !avail || !used) throw new QueueBroken('rings are not in mapped memory');
    return { epoch: memory.epoch, descriptors, avail, used };
  }
}

/** Runs a queue until it is empty (true) or the budget is used up (false). `execute` completes what it is given. */
export function pump(queue: SplitQueue, budget: WorkBudget, execute: (chain: Chain) => void): boolean {
  try {
    while (budget.spend()) {
      const chain = queue.pop();
      if (!chain) return true;
      execute(chain);
    }
    return false;
  } finally {
    queue.flush();
  }
}
