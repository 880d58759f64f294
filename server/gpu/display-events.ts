/**
 * Display change events (virtio 1.3, 5.7.4 and 5.7.5) without losing one. A driver reads the event, fetches EDIDs
 * and display info, then clears the event; a change between fetching and clearing would be erased. So we remember
 * how new the state was that the driver fetched, and raise the event again if it is outdated when it clears.
 */
import { VIRTIO_GPU_EVENT_DISPLAY } from './protocol.ts';

export class DisplayEvents {
  /** Grows with every change of a mode. */
  #version = 0;
  /** The oldest state that an EDID since the last display info was made of. */
  #edidVersion: number | undefined;
  #servedVersion = 0;
  #eventsRead = 0;

  get eventsRead(): number {
    return this.#eventsRead;
  }

  /** A mode is different from now on. */
  change(): void {
    this.#version++;
    this.#eventsRead |= VIRTIO_GPU_EVENT_DISPLAY;
  }

  noteEdidServed(): void {
    this.#edidVersion ??= this.#version;
  }

  noteDisplayInfoServed(): void {
    this.#servedVersion = this.#edidVersion ?? this.#version;
    this.#edidVersion = undefined;
  }

  /** The driver writes `events_clear`. Returns true when the event had to be raised again. */
  clear(bits: number): boolean {
    this.#eventsRead &= ~bits;
    if (!(bits & VIRTIO_GPU_EVENT_DISPLAY) || this.#servedVersion === this.#version) return false;
    this.#eventsRead |= VIRTIO_GPU_EVENT_DISPLAY;
    return true;
  }

  /** The driver is gone; the next one fetches everything anyway. */
  reset(): void {
    this.#eventsRead = 0;
    this.#edidVersion = undefined;
    this.#servedVersion = this.#version;
  }
}
