/** The VERSION exchange: what the client proposes and what we answer. */
import { EINVAL, StreamError } from '../errors.ts';
import { MAX_DMA_WINDOWS } from '../host/contract.ts';
import { decode, encode, viewOf } from '../wire.ts';
import { version } from './protocol.ts';

export const VERSION_MAJOR = 0;
/** QEMU refuses any minor above 0. */
export const VERSION_MINOR = 0;
/** Most data bytes in one message, both ways; what every known client proposes. */
export const MAX_DATA_XFER_SIZE = 1 << 20;
/** Descriptors we take in one message: cloud-hypervisor sends this many whatever is advertised. */
export const MAX_MSG_FDS = 16;
/** Limit on what a client may claim for itself; above it the text is nonsense. */
const MAX_CLIENT_MSG_FDS = 1024;

/** What the client said of itself. */
export interface ClientCapabilities {
  readonly maxMsgFds: number;
  readonly maxDataXferSize: number;
  /** DMA windows at one time: what the client means to use, and no more than there may be. It is told, and enforced. */
  readonly maxDmaMaps: number;
  /**
   * Whether the client answers DMA_READ and DMA_WRITE. cloud-hypervisor's crate would take them for the reply it
   * waits for; QEMU, and nobody else, is known by these keys.
   */
  readonly answersCommands: boolean;
}

/**
 * Specification defaults for keys that are absent, but for `max_dma_maps`: cloud-hypervisor names no number, and
 * announces more windows than the 65,535 of the specification to a large guest.
 */
const DEFAULTS: ClientCapabilities = {
  maxMsgFds: 1,
  maxDataXferSize: 1 << 20,
  maxDmaMaps: MAX_DMA_WINDOWS,
  answersCommands: false,
};

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * Reads a VERSION body. Throws `StreamError` with EINVAL on anything malformed: there is no protocol to go on with.
 * `migration` and `twin_socket` are not looked at, because neither is offered.
 */
export function parseVersion(body: Uint8Array): ClientCapabilities {
  const refuse = (message: string): never => {
    throw new StreamError(`VERSION: ${message}`, EINVAL);
  };
  if (body.length < version.size) refuse(`body of ${body.length} bytes`);
  const { major } = decode(version, body);
  if (major !== VERSION_MAJOR) refuse(`major version ${major}`);
  const text = body.subarray(version.size);
  if (text.length === 0) return DEFAULTS;
  if (text.at(-1) !== 0) refuse('text without final NUL');

  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(text.subarray(0, -1)).toString('utf8'));
  } catch {
    return refuse('text is not JSON');
  }
  if (!isRecord(json)) return refuse('text is not an object');
  const capabilities = json.capabilities;
  if (capabilities === undefined) return DEFAULTS;
  if (!isRecord(capabilities)) return refuse('capabilities are not an object');

  const integer = (name: string, fallback: number, min: number, max: number): number => {
    const value = capabilities[name] ?? fallback;
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
    return refuse(`${name} is not an integer from ${min} to ${max}`);
  };
  return {
    maxMsgFds: integer('max_msg_fds', DEFAULTS.maxMsgFds, 0, MAX_CLIENT_MSG_FDS),
    maxDataXferSize: integer('max_data_xfer_size', DEFAULTS.maxDataXferSize, 1, Number.MAX_SAFE_INTEGER),
    maxDmaMaps: Math.min(
      integer('max_dma_maps', DEFAULTS.maxDmaMaps, 1, Number.MAX_SAFE_INTEGER),
      MAX_DMA_WINDOWS,
    ),
    answersCommands: 'pgsizes' in capabilities || 'write_multiple' in capabilities,
  };
}

/**
 * Our answer. It must be no longer than QEMU's request, and only hold keys QEMU knows. `writeMultiple` also offers
 * REGION_WRITE_MULTI, which some QEMU versions turn into slower sends. `maxDmaMaps` may not be more than the client
 * proposed: QEMU ends then. It also ends where that is less than virtio-mem may need, so it gets all that it proposes.
 */
export function versionReply(writeMultiple: boolean, maxDmaMaps?: number): Uint8Array {
  const capabilities = {
    max_msg_fds: MAX_MSG_FDS,
    max_data_xfer_size: MAX_DATA_XFER_SIZE,
    ...(maxDmaMaps === undefined ? {} : { max_dma_maps: maxDmaMaps }),
    ...(writeMultiple ? { write_multiple: true } : {}),
  };
  const text = Buffer.from(`${JSON.stringify({ capabilities })}\0`);
  const body = new Uint8Array(version.size + text.length);
  body.set(encode(version, { major: VERSION_MAJOR, minor: VERSION_MINOR }));
  body.set(text, version.size);
  return body;
}

/** The body a client of ours sends. */
export function versionRequest(): Uint8Array {
  const body = versionReply(false);
  version.put(viewOf(body), 0, { major: VERSION_MAJOR, minor: VERSION_MINOR });
  return body;
}
