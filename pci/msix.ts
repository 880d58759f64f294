/**
 * MSI-X: control word, table and pending bits (PCI 3.0, 6.8.2). A fired vector is either signalled or remembered.
 *
 * Two kinds of surroundings. Where the function owns the table, masks decide here. Under vfio-user the client owns
 * it: table writes never arrive, every entry would look masked for ever, and the client applies the masks to the
 * eventfds it hands out; then every fired vector is passed on at once.
 */
import { PCI_MSIX_FLAGS_ENABLE, PCI_MSIX_FLAGS_MASKALL } from './capabilities.ts';
import type { InterruptSink } from './ports.ts';

/** Who keeps the table and applies the masks. */
export type MsixTableOwner = 'function' | 'client';

export const MSIX_ENTRY_SIZE = 16;
const VECTOR_CONTROL = 12;
const VECTOR_CONTROL_MASKED = 0x1;
/** What a queue or the configuration is bound to when it has no vector. */
export const VIRTIO_MSI_NO_VECTOR = 0xffff;

export class Msix {
  readonly vectorCount: number;
  readonly #sink: InterruptSink;
  readonly #owner: MsixTableOwner;
  readonly #table: Uint8Array;
  readonly #pending: Uint8Array;
  #control = 0;

  constructor(vectorCount: number, sink: InterruptSink, owner: MsixTableOwner) {
    this.vectorCount = vectorCount;
    this.#sink = sink;
    this.#owner = owner;
    this.#table = new Uint8Array(vectorCount * MSIX_ENTRY_SIZE);
    this.#pending = new Uint8Array(Math.ceil(vectorCount / 64) * 8);
    this.reset();
  }

  get enabled(): boolean {
    return (this.#control & PCI_MSIX_FLAGS_ENABLE) !== 0;
  }

  /** Signals the vector, or sets its pending bit while it is masked. Vectors outside the table are ignored. */
  fire(vector: number): void {
    if (vector >= this.vectorCount) return;
    if (this.#owner === 'client') this.#sink.fire(vector);
    else if (!this.enabled) return;
    else if (this.#masked(vector)) this.#setPending(vector, true);
    else this.#sink.fire(vector);
  }

  /** Follows the message control word of the capability. */
  setControl(control: number): void {
    this.#control = control;
    this.#deliverPending();
  }

  readTable(offset: number, into: Uint8Array): void {
    for (let i = 0; i < into.length; i++) into[i] = this.#table[offset + i] ?? 0;
  }

  /** Aligned 4- and 8-byte accesses only, as PCI demands of software. */
  writeTable(offset: number, from: Uint8Array): void {
    const aligned = offset % from.length === 0 && (from.length === 4 || from.length === 8);
    if (!aligned || offset + from.length > this.#table.length) return;
    this.#table.set(from, offset);
    this.#deliverPending();
  }

  readPending(offset: number, into: Uint8Array): void {
    for (let i = 0; i < into.length; i++) into[i] = this.#pending[offset + i] ?? 0;
  }

  /** Power-on: disabled, every vector masked, nothing pending. */
  reset(): void {
    this.#control = 0;
    this.#pending.fill(0);
    this.#table.fill(0);
    for (let vector = 0; vector < this.vectorCount; vector++) {
      this.#table[vector * MSIX_ENTRY_SIZE + VECTOR_CONTROL] = VECTOR_CONTROL_MASKED;
    }
  }

  #masked(vector: number): boolean {
    const vectorControl = this.#table[vector * MSIX_ENTRY_SIZE + VECTOR_CONTROL] as number;
    return (this.#control & PCI_MSIX_FLAGS_MASKALL) !== 0 || (vectorControl & VECTOR_CONTROL_MASKED) !== 0;
  }

  #isPending(vector: number): boolean {
    return ((this.#pending[vector >> 3] as number) & (1 << (vector & 7))) !== 0;
  }

  #setPending(vector: number, pending: boolean): void {
    const byte = this.#pending[vector >> 3] as number;
    const bit = 1 << (vector & 7);
    this.#pending[vector >> 3] = pending ? byte | bit : byte & ~bit;
  }

  #deliverPending(): void {
    if (!this.enabled) return;
    for (let vector = 0; vector < this.vectorCount; vector++) {
      if (!this.#isPending(vector) || this.#masked(vector)) continue;
      this.#setPending(vector, false);
      this.#sink.fire(vector);
    }
  }
}
