/**
 * The binary messages of a WebSocket as a stream of bytes; where messages begin and end means nothing. A write is done
 * when the socket below has taken it, so that `drain` means what it does for a socket, and everything written while
 * the stream is corked is one message. What is not read stays with its sender.
 */
import { Duplex } from 'node:stream';
import type { RawData, WebSocket } from 'ws';

/** Less than this waiting is as good as nothing. */
const HIGH_WATER_MARK_BYTES = 64 * 1024;
/** RFC 6455, 7.4.1. */
const UNSUPPORTED_DATA = 1003;

type Callback = (error?: Error | null) => void;

export class WebSocketStream extends Duplex {
  readonly #socket: WebSocket;

  constructor(socket: WebSocket) {
    super({ readableHighWaterMark: HIGH_WATER_MARK_BYTES, writableHighWaterMark: HIGH_WATER_MARK_BYTES });
    this.#socket = socket;
    socket.on('message', (data: RawData, isBinary: boolean) => {
      if (!isBinary) {
        socket.close(UNSUPPORTED_DATA, 'only binary messages');
        this.destroy(new Error('the viewer sent text'));
      } else if (!this.push(data as Buffer)) socket.pause();
    });
    // Too large a message, or none that could be one: the socket is closed already, saying so.
    socket.on('error', (error) => this.destroy(error));
    socket.on('close', () => this.push(null));
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: string, done: Callback): void {
    this.#socket.send(chunk, { binary: true }, done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: Callback): void {
    this.#socket.send(Buffer.concat(chunks.map(({ chunk }) => chunk)), { binary: true }, done);
  }

  override _destroy(error: Error | null, done: Callback): void {
    // A socket that is closing has said why, and gets a moment to.
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.terminate();
    done(error);
  }
}
