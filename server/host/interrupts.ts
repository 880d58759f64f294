/**
 * Interrupt vectors as eventfds the client handed out. A vector without an eventfd is remembered and signalled when
 * one comes: clients take eventfds away for moments while they rearrange vectors.
 */
import { closeSync } from 'node:fs';
import { setNonBlocking, signalEventfd } from '../../native/index.ts';
import type { InterruptSink } from '../../pci/index.ts';
import { IRQ_MSIX, type IrqIndex } from './contract.ts';

interface Vector {
  fd: number | undefined;
  pending: boolean;
}

export class Interrupts implements InterruptSink {
  /** Signals sent, by MSI-X vector. */
  readonly fired: number[];
  readonly #vectors: Vector[][];

  constructor(irqs: readonly IrqIndex[]) {
    this.#vectors = irqs.map(({ count }) =>
      Array.from({ length: count }, () => ({ fd: undefined, pending: false })),
    );
    this.fired = new Array(irqs[IRQ_MSIX]?.count ?? 0).fill(0);
  }

  fire(vector: number): void {
    this.#signal(this.#vectors[IRQ_MSIX]?.[vector]);
    this.fired[vector] = (this.fired[vector] ?? 0) + 1;
  }

  /** Takes ownership of the eventfds. */
  attach(index: number, start: number, fds: readonly number[]): void {
    fds.forEach((fd, i) => {
      const vector = this.#vectors[index]?.[start + i];
      if (!vector) {
        closeSync(fd);
        return;
      }
      setNonBlocking(fd);
      const old = vector.fd;
      vector.fd = fd;
      if (old !== undefined) closeSync(old);
      if (vector.pending) this.#signal(vector);
    });
  }

  detach(index: number, start: number, count: number): void {
    for (const vector of this.#vectors[index]?.slice(start, start + count) ?? []) {
      if (vector.fd !== undefined) closeSync(vector.fd);
      vector.fd = undefined;
    }
  }

  /** Signals on behalf of the client. */
  trigger(index: number, vectors: readonly number[]): void {
    for (const vector of vectors) this.#signal(this.#vectors[index]?.[vector]);
  }

  /** After a reset nothing of before may be signalled. */
  dropPending(): void {
    for (const vector of this.#vectors.flat()) vector.pending = false;
  }

  close(): void {
    this.dropPending();
    for (const [index, vectors] of this.#vectors.entries()) this.detach(index, 0, vectors.length);
  }

  #signal(vector: Vector | undefined): void {
    if (!vector) return;
    vector.pending = vector.fd === undefined;
    if (vector.fd !== undefined) signalEventfd(vector.fd);
  }
}
