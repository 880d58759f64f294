/** Commands and messages of the channel in words, for traces. */
import { type Codec, type Of, viewOf } from '../wire.ts';
import {
  CROSS_DOMAIN_CHANNEL_NONE,
  CROSS_DOMAIN_CHANNEL_WAYLAND,
  CROSS_DOMAIN_CMD_GET_IMAGE_REQUIREMENTS,
  CROSS_DOMAIN_CMD_INIT,
  CROSS_DOMAIN_CMD_POLL,
  CROSS_DOMAIN_CMD_READ,
  CROSS_DOMAIN_CMD_RECEIVE,
  CROSS_DOMAIN_CMD_SEND,
  CROSS_DOMAIN_CMD_WRITE,
  CROSS_DOMAIN_ID_TYPE_READ_PIPE,
  CROSS_DOMAIN_ID_TYPE_VIRTGPU_BLOB,
  CROSS_DOMAIN_ID_TYPE_WRITE_PIPE,
  CROSS_DOMAIN_MAX_IDENTIFIERS,
  commandHeader,
  getImageRequirements,
  init,
  initLegacy,
  pipeData,
  transfer,
} from './protocol.ts';

const CHANNELS = new Map([
  [CROSS_DOMAIN_CHANNEL_NONE, 'no channel'],
  [CROSS_DOMAIN_CHANNEL_WAYLAND, 'wayland'],
]);
const IDENTIFIERS = new Map([
  [CROSS_DOMAIN_ID_TYPE_VIRTGPU_BLOB, 'blob'],
  [CROSS_DOMAIN_ID_TYPE_READ_PIPE, 'read pipe'],
  [CROSS_DOMAIN_ID_TYPE_WRITE_PIPE, 'write pipe'],
]);

/** One line: `SEND(12 bytes, blob#5)`. Of any bytes that begin with a command's header. */
export function describe(message: Uint8Array): string {
  const { command } = commandHeader.get(viewOf(message), 0);
  const body = message.subarray(commandHeader.size);
  switch (command) {
    case CROSS_DOMAIN_CMD_INIT:
      return `INIT(${body.length < init.size ? words(initLegacy, body, legacyInitWords) : words(init, body, initWords)})`;
    case CROSS_DOMAIN_CMD_GET_IMAGE_REQUIREMENTS:
      return `GET_IMAGE_REQUIREMENTS(${words(getImageRequirements, body, imageWords)})`;
    case CROSS_DOMAIN_CMD_POLL:
      return 'POLL()';
    case CROSS_DOMAIN_CMD_SEND:
      return `SEND(${words(transfer, body, transferWords)})`;
    case CROSS_DOMAIN_CMD_RECEIVE:
      return `RECEIVE(${words(transfer, body, transferWords)})`;
    case CROSS_DOMAIN_CMD_READ:
      return `READ(${words(pipeData, body, pipeWords)})`;
    case CROSS_DOMAIN_CMD_WRITE:
      return `WRITE(${words(pipeData, body, pipeWords)})`;
    default:
      return `command ${command}(${body.length} bytes)`;
  }
}

const words = <T>(codec: Codec<T>, body: Uint8Array, describeBody: (value: T) => string) =>
  body.length < codec.size ? `cut after ${body.length} bytes` : describeBody(codec.get(viewOf(body), 0));

const channelName = (type: number) => CHANNELS.get(type) ?? `channel type ${type}`;
const legacyInitWords = ({ queryRingId, channelType }: Of<typeof initLegacy>) =>
  `ring resource#${queryRingId}, ${channelName(channelType)}`;
const initWords = ({ queryRingId, channelRingId, channelType }: Of<typeof init>) =>
  `rings resource#${queryRingId} resource#${channelRingId}, ${channelName(channelType)}`;

const imageWords = ({ width, height, format }: Of<typeof getImageRequirements>) =>
  `${width}x${height}, ${fourccWord(format)}`;

/** The letters of a DRM format, or its number where it has none. */
function fourccWord(format: number): string {
  const letters = String.fromCharCode(...[0, 8, 16, 24].map((shift) => (format >>> shift) & 0xff));
  return /^[\x20-\x7e]{4}$/.test(letters) ? letters.trimEnd() : `format 0x${format.toString(16)}`;
}

function transferWords({ count, dataBytes, ids, types }: Of<typeof transfer>): string {
  const known = Math.min(count, CROSS_DOMAIN_MAX_IDENTIFIERS);
  const identifiers = Array.from(
    { length: known },
    (_, i) => `, ${IDENTIFIERS.get(types[i]!) ?? `type ${types[i]}`}#${ids[i]}`,
  );
  const more = count > known ? `, ${count - known} more` : '';
  return `${dataBytes} bytes${identifiers.join('')}${more}`;
}

const pipeWords = ({ id, dataBytes, hangUp }: Of<typeof pipeData>) =>
  `pipe#${id}, ${dataBytes} bytes${hangUp === 0 ? '' : ', the end'}`;
