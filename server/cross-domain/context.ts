/**
 * One guest context of the cross-domain kind. It answers what buffers must look like and makes them; there is no
 * channel to anybody yet, so the only type of channel is none.
 */
import type { AttachedResource, Context, ContextBlob } from '../gpu/backend.ts';
import { GpuFault } from '../gpu/fault.ts';
import { VIRTIO_GPU_MAP_CACHE_CACHED, VIRTIO_GPU_RESP_ERR_UNSPEC } from '../gpu/protocol.ts';
import { type Codec, encode, viewOf } from '../wire.ts';
import { linearLayout } from './images.ts';
import {
  CROSS_DOMAIN_CHANNEL_NONE,
  CROSS_DOMAIN_CMD_GET_IMAGE_REQUIREMENTS,
  CROSS_DOMAIN_CMD_INIT,
  CROSS_DOMAIN_CMD_POLL,
  CROSS_DOMAIN_QUERY_RING,
  CROSS_DOMAIN_RINGS,
  commandHeader,
  getImageRequirements,
  type ImageRequirements,
  imageRequirements,
  init,
  initLegacy,
  NO_INDEX,
  poll,
} from './protocol.ts';

const PAGE_BYTES = 4096;
/** The largest page of a guest: its driver rounds sizes up to its own. */
const MAX_GUEST_PAGE_BYTES = 65_536;
/** More than any guest sends at once. */
const MAX_PAYLOAD_BYTES = 65_536;
/** Sizes of Wayland's pools are signed 32-bit numbers. */
const MAX_IMAGE_BYTES = 2 ** 31 - PAGE_BYTES;
/** Different images that one guest program may ask about. */
const MAX_REQUIREMENTS = 65_536;
const FIRST_ID = 2;

interface Rings {
  readonly queryRingId: number;
  readonly channelRingId: number;
}

const roundUp = (bytes: number, unit: number) => Math.ceil(bytes / unit) * unit;

function fail(message: string): never {
  throw new GpuFault(VIRTIO_GPU_RESP_ERR_UNSPEC, message);
}

export class CrossDomainContext implements Context {
  readonly ringCount = CROSS_DOMAIN_RINGS;
  readonly #attached = new Map<number, AttachedResource>();
  /** Bytes of the image, by the id that a blob of it is made with. */
  readonly #requirements = new Map<number, number>();
  readonly #ids = new Map<string, number>();
  #nextId = FIRST_ID;
  #rings: Rings | undefined;
  /** What the guest wants to be told of; nothing ever comes from no channel. */
  #credits: (() => void)[] = [];

  submit(commands: Uint8Array): void {
    if (commands.length > MAX_PAYLOAD_BYTES) fail(`${commands.length} bytes of commands`);
    const view = viewOf(commands);
    for (let at = 0; at < commands.length; ) {
      if (commands.length - at < commandHeader.size) fail('half a command');
      const { command, sizeBytes } = commandHeader.get(view, at);
      if (sizeBytes < commandHeader.size || sizeBytes > commands.length - at)
        fail(`command ${command} of ${sizeBytes} bytes`);
      this.#execute(command, commands.subarray(at + commandHeader.size, at + sizeBytes));
      at += sizeBytes;
    }
  }

  fence(ringIdx: number, passed: () => void): void {
    if (ringIdx === CROSS_DOMAIN_QUERY_RING) passed();
    else this.#credits.push(passed);
  }

  createBlob(blobId: bigint, sizeBytes: number): ContextBlob {
    const required = this.#requirements.get(Number(blobId));
    if (required === undefined) return fail(`no image of id ${blobId}`);
    if (sizeBytes < required || sizeBytes > roundUp(required, MAX_GUEST_PAGE_BYTES))
      fail(`blob of ${sizeBytes} bytes for an image of ${required}`);
    return { close: () => {} };
  }

  attach(resource: AttachedResource): void {
    this.#attached.set(resource.id, resource);
  }

  detach(resourceId: number): void {
    this.#attached.delete(resourceId);
  }

  close(): void {
    this.#credits = [];
    this.#attached.clear();
  }

  #execute(command: number, body: Uint8Array): void {
    switch (command) {
      case CROSS_DOMAIN_CMD_INIT:
        this.#init(body);
        break;
      case CROSS_DOMAIN_CMD_GET_IMAGE_REQUIREMENTS:
        this.#getImageRequirements(body);
        break;
      case CROSS_DOMAIN_CMD_POLL:
        decodeBody(poll, body);
        break;
      default:
        fail(`command ${command}`);
    }
  }

  #init(body: Uint8Array): void {
    if (this.#rings) fail('a second INIT');
    const { rings, channelType } = decodeInit(body);
    for (const id of [rings.queryRingId, rings.channelRingId]) {
      if (this.#attached.get(id)?.kind !== 'guest') fail(`ring ${id} is no guest blob of this context`);
    }
    if (channelType !== CROSS_DOMAIN_CHANNEL_NONE) fail(`channel of type ${channelType}`);
    this.#rings = rings;
  }

  #getImageRequirements(body: Uint8Array): void {
    const request = decodeBody(getImageRequirements, body);
    const layout = linearLayout(request.width, request.height, request.format);
    const sizeBytes = roundUp(layout?.sizeBytes ?? 0, PAGE_BYTES);
    if (!layout || sizeBytes > MAX_IMAGE_BYTES) {
      this.#answer({ strides: [], offsets: [], sizeBytes: 0, blobId: 0, mapInfo: 0 });
      fail(`image of ${request.width}x${request.height}, format 0x${request.format.toString(16)}`);
    }
    const { width, height, format, flags } = request;
    const blobId = this.#idOf(`${width} ${height} ${format} ${flags}`, sizeBytes);
    const { strides, offsets } = layout;
    this.#answer({ strides, offsets, sizeBytes, blobId, mapInfo: VIRTIO_GPU_MAP_CACHE_CACHED });
  }

  /** The same image has the same id as long as the context lives: guests remember ids. */
  #idOf(image: string, sizeBytes: number): number {
    const known = this.#ids.get(image);
    if (known !== undefined) return known;
    if (this.#ids.size >= MAX_REQUIREMENTS) fail('too many different images');
    const id = this.#nextId++;
    this.#ids.set(image, id);
    this.#requirements.set(id, sizeBytes);
    return id;
  }

  #answer({
    sizeBytes,
    strides,
    offsets,
    ...rest
  }: { readonly sizeBytes: number } & Pick<
    ImageRequirements,
    'strides' | 'offsets' | 'blobId' | 'mapInfo'
  >): void {
    const four = (values: readonly number[]) => Array.from({ length: 4 }, (_, i) => values[i] ?? 0);
    const answer = encode(imageRequirements, {
      ...rest,
      strides: four(strides),
      offsets: four(offsets),
      modifier: 0n,
      sizeBytes: BigInt(sizeBytes),
      memoryIdx: NO_INDEX,
      physicalDeviceIdx: NO_INDEX,
    });
    const ring = this.#rings && this.#attached.get(this.#rings.queryRingId);
    if (!ring?.write(0, answer)) fail('there is no query ring');
  }
}

/** The body of a command; what is behind it is of no interest. */
function decodeBody<T>(codec: Codec<T>, body: Uint8Array): T {
  if (body.length < codec.size) fail(`command of ${body.length + commandHeader.size} bytes`);
  return codec.get(viewOf(body), 0);
}

/** INIT has grown; it is known by its length. */
function decodeInit(body: Uint8Array): { rings: Rings; channelType: number } {
  if (body.length >= init.size) {
    const { channelType, ...rings } = decodeBody(init, body);
    return { rings, channelType };
  }
  const { queryRingId, channelType } = decodeBody(initLegacy, body);
  return { rings: { queryRingId, channelRingId: queryRingId }, channelType };
}
