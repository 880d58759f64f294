/**
 * The WebSocket that noVNC talks over. It sees what noVNC sends, whole messages of RFB one at a time: so it knows when
 * an update has been drawn, can leave the quality of JPEG out of the list of encodings (then nothing is lossy), and
 * can ask for a size in pixels of the device, which noVNC does not know of. Text is news from the server.
 */
import type { RawChannel } from './novnc/core/rfb.js';

/** Subprotocol with news, as server/displays/web/news.ts has it. */
const NEWS_PROTOCOL = 'vfio-user-gpu';

// Messages of viewers: RFC 6143, 7.5, and the community's list of extensions.
const SET_ENCODINGS = 2;
const FRAMEBUFFER_UPDATE_REQUEST = 3;
const CLIENT_FENCE = 248;
const SET_DESKTOP_SIZE = 251;
const JPEG_QUALITY_0 = -32;
const JPEG_QUALITY_9 = -23;

export interface News {
  readonly hasKeyboard: boolean;
  readonly hasPointer: boolean;
  readonly leds?: { readonly numLock: boolean; readonly capsLock: boolean; readonly scrollLock: boolean };
  readonly roundTripMs?: number;
}

export class ViewerChannel implements RawChannel {
  onopen: ((event: Event) => void) | null = null;
  onmessage: ((event: MessageEvent) => void) | null = null;
  onclose: ((event: CloseEvent) => void) | null = null;
  onerror: ((event: Event) => void) | null = null;
  isLossless = true;
  /** Updates that noVNC has finished with. */
  updates = 0;
  readonly #socket: WebSocket;

  constructor(url: URL, onNews: (news: News) => void) {
    this.#socket = new WebSocket(url, [NEWS_PROTOCOL]);
    this.#socket.binaryType = 'arraybuffer';
    this.#socket.onopen = (event) => this.onopen?.(event);
    this.#socket.onclose = (event) => this.onclose?.(event);
    this.#socket.onerror = (event) => this.onerror?.(event);
    this.#socket.onmessage = (event: MessageEvent<string | ArrayBuffer>) => {
      if (typeof event.data === 'string') onNews(JSON.parse(event.data) as News);
      else this.onmessage?.(event);
    };
  }

  get binaryType(): string {
    return this.#socket.binaryType;
  }

  set binaryType(type: string) {
    this.#socket.binaryType = type as BinaryType;
  }

  get protocol(): string {
    return this.#socket.protocol;
  }

  get readyState(): number {
    return this.#socket.readyState;
  }

  send(message: Uint8Array<ArrayBuffer>): void {
    const [type] = message;
    // The server has a fence behind every update, or noVNC asks for the next one.
    if (type === CLIENT_FENCE && message.length > 9) this.updates++;
    if (type === FRAMEBUFFER_UPDATE_REQUEST && message.length === 10 && message[1] === 1) this.updates++;
    this.#socket.send(this.isLossless && type === SET_ENCODINGS ? withoutJpegQuality(message) : message);
  }

  close(): void {
    this.#socket.close();
  }

  /** Asks the guest for so many pixels (SetDesktopSize with one screen). */
  requestSize(width: number, height: number): void {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    const message = new DataView(new ArrayBuffer(24));
    message.setUint8(0, SET_DESKTOP_SIZE);
    message.setUint16(2, width);
    message.setUint16(4, height);
    message.setUint8(6, 1);
    message.setUint16(16, width);
    message.setUint16(18, height);
    this.#socket.send(message);
  }
}

function withoutJpegQuality(message: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const from = new DataView(message.buffer, message.byteOffset, message.byteLength);
  if (message.length !== 4 + 4 * from.getUint16(2)) return message;
  const encodings = Array.from({ length: from.getUint16(2) }, (_, i) => from.getInt32(4 + 4 * i)).filter(
    (encoding) => encoding < JPEG_QUALITY_0 || encoding > JPEG_QUALITY_9,
  );
  const to = new DataView(new ArrayBuffer(4 + 4 * encodings.length));
  to.setUint8(0, SET_ENCODINGS);
  to.setUint16(2, encodings.length);
  encodings.forEach((encoding, i) => {
    to.setInt32(4 + 4 * i, encoding);
  });
  return new Uint8Array(to.buffer);
}
