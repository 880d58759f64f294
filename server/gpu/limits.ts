/** Everything a guest can make more of has a limit with a name. */

/** The options of `serve` that set limits which users meet. */
export const MAX_RESOURCE_MEMORY = '--max-resource-memory';
export const MAX_BLOB_MEMORY = '--max-blob-memory';
export const HOST_VISIBLE_SIZE = '--host-visible-size';
export type LimitOption = typeof MAX_RESOURCE_MEMORY | typeof MAX_BLOB_MEMORY;

export interface GpuLimits {
  /**
   * Pixels of 2D resources, and of blobs that displays show, in bytes. Charged when a resource is made or a blob is shown, whether
   * it is ever drawn into or copied or not.
   */
  readonly maxResourceBytes: number;
  /**
   * Memory of blobs of contexts, in bytes: pages that the window has, whatever the sizes of blobs; as much again for what
   * processes of the host have of them, as copies or as pages that they may keep; and for what blobs had in them when
   * they were made.
   */
  readonly maxBlobBytes: number;
  readonly maxContexts: number;
  readonly maxResources: number;
  /** Memory entries of one resource: 65536 is an 8192x8192 image in single pages. */
  readonly maxEntriesPerResource: number;
  /** Memory entries of all resources. */
  readonly maxEntries: number;
  /** Width and height of a resource. */
  readonly maxDimension: number;
}

export const DEFAULT_LIMITS: GpuLimits = {
  maxResourceBytes: 512 * 2 ** 20,
  maxBlobBytes: 2 ** 30,
  maxContexts: 256,
  maxResources: 4096,
  maxEntriesPerResource: 65_536,
  maxEntries: 1 << 20,
  maxDimension: 16_384,
};

/** Outside of this, a 2D resource is no cursor. Linux uses 64x64. */
export const MIN_CURSOR_SIZE = 2;
export const MAX_CURSOR_SIZE = 256;
/** A smaller rectangle is no screen (QEMU draws the same line). */
export const MIN_SCANOUT_SIZE = 16;
