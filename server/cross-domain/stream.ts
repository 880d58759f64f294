/**
 * The contract between a context, which moves bytes and descriptors, and what understands them. Everything here is
 * computation: no sockets, no time.
 */

/** The stream cannot be followed any further. */
export class WaylandError extends Error {
  override readonly name = 'WaylandError';
}

/** A descriptor that the guest sends along with bytes: a buffer in the hands of the host, or a pipe. */
export type GuestFd = { readonly kind: 'blob'; readonly bufferId: number } | { readonly kind: 'pipe' };

/** A range of a buffer that must be brought up to date before a message is sent. */
export interface Copy {
  readonly bufferId: number;
  readonly offset: number;
  readonly lengthBytes: number;
}

/** Bytes for the host. `fds` are numbers in the order of all descriptors that the guest has ever sent, from 0. */
export interface GuestMessage {
  readonly bytes: Uint8Array;
  readonly fds: readonly number[];
  readonly copies: readonly Copy[];
}

/** Bytes for the guest, with the descriptors that belong to them. */
export interface HostMessage {
  readonly bytes: Uint8Array;
  readonly fds: readonly number[];
}

export interface WaylandStream {
  /** Throws `WaylandError`. `reply` is for the guest, at a message boundary; dropped descriptors go nowhere. */
  fromGuest(
    bytes: Uint8Array,
    fds: readonly GuestFd[],
  ): {
    readonly forward: readonly GuestMessage[];
    readonly reply: Uint8Array;
    readonly droppedFds: readonly number[];
  };
  /** Throws `WaylandError`. Descriptors may be kept until their message is whole. */
  fromHost(
    bytes: Uint8Array,
    fds: readonly number[],
  ): { readonly messages: readonly HostMessage[]; readonly droppedFds: readonly number[] };
  /** The error event that tells the guest's program to leave, where one can be put into its stream now. */
  closingError(message: string): Uint8Array | undefined;
}
