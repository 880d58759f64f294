/** A stream cut into messages, and what goes on put together again, in as few pieces as it came. */
import { viewOf } from '../../wire.ts';
import { HEADER_BYTES, messageSize, refuseTooShort } from './wire.ts';

/** There is a header, also where the size is less than it: who takes may refuse that first. */
type Take = (source: Uint8Array, view: DataView, at: number, sizeBytes: number) => void;

/** Gives whole messages only. Keeps at most one that is not whole yet: less than 64 KiB. */
export class Cutter {
  /** A header, or a message whose size is known. */
  #carry = new Uint8Array(HEADER_BYTES);
  #carried = 0;

  /** Throws `WaylandError` at a size that no message has, and what `take` throws. */
  push(bytes: Uint8Array, take: Take): void {
    let at = this.#carried > 0 ? this.#complete(bytes, take) : 0;
    if (at === bytes.length) return;
    const view = viewOf(bytes);
    while (bytes.length - at >= HEADER_BYTES) {
      const sizeBytes = messageSize(view, at);
      if (bytes.length - at < sizeBytes) break;
      take(bytes, view, at, sizeBytes);
      refuseTooShort(sizeBytes);
      at += sizeBytes;
    }
    const rest = bytes.length - at;
    if (rest === 0) return;
    this.#carry = new Uint8Array(rest < HEADER_BYTES ? HEADER_BYTES : messageSize(view, at));
    this.#carry.set(bytes.subarray(at));
    this.#carried = rest;
  }

  /** Fills up the carried message; returns how many bytes that took. */
  #complete(bytes: Uint8Array, take: Take): number {
    let at = this.#fill(bytes, 0);
    if (this.#carried < this.#carry.length) return at;
    if (this.#carry.length === HEADER_BYTES) {
      const header = this.#carry;
      this.#carry = new Uint8Array(Math.max(messageSize(viewOf(header), 0), HEADER_BYTES));
      this.#carry.set(header);
      at = this.#fill(bytes, at);
      if (this.#carried < this.#carry.length) return at;
    }
    const message = this.#carry;
    this.#carried = 0;
    const view = viewOf(message);
    const sizeBytes = messageSize(view, 0);
    take(message, view, 0, sizeBytes);
    refuseTooShort(sizeBytes);
    return at;
  }

  #fill(bytes: Uint8Array, at: number): number {
    const count = Math.min(this.#carry.length - this.#carried, bytes.length - at);
    this.#carry.set(bytes.subarray(at, at + count), this.#carried);
    this.#carried += count;
    return at + count;
  }
}

/** Bytes in order. Neighbours in the same source stay one piece; one piece alone is not copied. */
export class Gatherer {
  readonly #pieces: Uint8Array[] = [];
  #source: Uint8Array | undefined;
  #from = 0;
  #to = 0;

  get empty(): boolean {
    return this.#source === undefined && this.#pieces.length === 0;
  }

  /** Bytes of a source that nobody changes before they are taken. */
  add(source: Uint8Array, at: number, lengthBytes: number): void {
    if (this.#source === source && this.#to === at) {
      this.#to += lengthBytes;
      return;
    }
    this.#close();
    this.#source = source;
    this.#from = at;
    this.#to = at + lengthBytes;
  }

  /** All bytes so far; it is empty afterwards. */
  take(): Uint8Array {
    this.#close();
    const pieces = this.#pieces.splice(0);
    if (pieces.length === 1) return pieces[0]!;
    const out = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const piece of pieces) {
      out.set(piece, at);
      at += piece.length;
    }
    return out;
  }

  #close(): void {
    if (this.#source) this.#pieces.push(this.#source.subarray(this.#from, this.#to));
    this.#source = undefined;
  }
}
