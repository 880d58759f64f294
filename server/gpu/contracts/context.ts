/** Kinds of contexts, and what they see of the device. */
import type { Counters } from './counters.ts';
import type { MemoryExport } from './exports.ts';

/** One kind of context: what `--context-types` names. A capability set tells guests of it. */
export interface Component {
  /** As in `--context-types`. */
  readonly name: string;
  readonly capsetId: number;
  readonly maxVersion: number;
  /** The same for every guest and as long as the device lives, because guests keep what they have read. */
  readonly capset: Uint8Array;
  /** Of contexts that have ended. */
  readonly pastCounters: Counters;
  createContext(host: ContextHost): Context;
}

/** What a context can ask of the device. */
export interface ContextHost {
  readonly contextId: number;
  /** What the guest calls it; printable. */
  readonly name: string;
}

/** A resource as the contexts it is attached to see it. It stays valid until it is detached. */
export interface AttachedResource {
  readonly id: number;
  /** The same object whenever the same resource is attached; another one for another resource of the same id. */
  readonly identity: object;
  readonly kind: '2d' | 'guest' | 'host3d';
  readonly sizeBytes: number;
  /** Copies bytes in; false when they do not lie in memory that is there now. */
  write(offset: number, bytes: Uint8Array): boolean;
  /** Copies bytes out; false as above. */
  read(offset: number, into: Uint8Array): boolean;
  /**
   * Hands it to a process of the host. Whoever asked closes the export, and does not refresh it after `detach`. A
   * `GpuFault` when the resource has no memory now that could be shown.
   */
  export(): MemoryExport;
}

/** What a context made for the guest to map. */
export interface ContextBlob {
  /** What is in it before the guest sees it: written into the zeroed range of the window when it is mapped. */
  readonly initial?: Uint8Array;
  /** The guest will not see it any more. */
  close(): void;
}

/**
 * One guest context, made by a `Component`. Every method does its part before it returns, and refuses by throwing
 * `GpuFault`. What takes longer shows only in when a fence passes.
 */
export interface Context {
  /** Rings that fences may be on, from 0; at most 64. */
  readonly ringCount: number;
  readonly counters: Counters;
  /** Runs a command stream: a private copy, of any length. */
  submit(commands: Uint8Array): void;
  /**
   * Calls back once, when everything submitted before on this ring is done; possibly before it returns. After `close`
   * nothing is called back any more.
   */
  fence(ringIdx: number, passed: () => void): void;
  /** Makes the host side of a blob. There is room for it. */
  createBlob(blobId: bigint, sizeBytes: number, flags: number): ContextBlob;
  attach(resource: AttachedResource): void;
  detach(resourceId: number): void;
  /**
   * Ends what it does, and tells the guest's program where it can: its blobs have lost what was in them. It lets go of
   * what the host has of its resources, and stays until `close`. `reason` is for the log.
   */
  end(reason: string): void;
  /** Ends it and all it holds. Its blobs are closed one by one, later. */
  close(): void;
}
