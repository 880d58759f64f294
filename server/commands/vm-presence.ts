/** Whether the VM is still there: what `--once` goes by. */
import type { ServerEvents } from '../vfio-user/server.ts';

/**
 * For so long a VM may have no device connected before it is gone. When its guest reboots, cloud-hypervisor drops all
 * connections and makes new ones as soon as it has built the VM again: half a second later, more with much memory.
 */
export const REBOOT_RECONNECT_MS = 10_000;

export interface VmPresenceOptions {
  /** The last connection ended; in `waitMs` the VM is gone unless it comes back. */
  readonly leaving?: (waitMs: number) => void;
  /** The VM is gone. Called once. */
  readonly gone: () => void;
}

/** Is told of the clients of all functions of one VM. */
export class VmPresence implements ServerEvents {
  readonly #options: VmPresenceOptions;
  #connections = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: VmPresenceOptions) {
    this.#options = options;
  }

  connected(): void {
    this.#connections++;
    this.close();
  }

  disconnected(): void {
    if (--this.#connections > 0) return;
    this.#options.leaving?.(REBOOT_RECONNECT_MS);
    this.#timer = setTimeout(this.#options.gone, REBOOT_RECONNECT_MS);
  }

  /** Does not wait any more. */
  close(): void {
    clearTimeout(this.#timer);
  }
}
