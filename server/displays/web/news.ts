/**
 * What a viewer's page is told besides its picture, as JSON in text messages on the same WebSocket: what people can do
 * with the guest, the lights of its keyboard, and how long a message takes to the page and back. At most one message
 * is on its way, and few come in a second, however fast a guest blinks.
 */
import type { WebSocket } from 'ws';
import type { InputNews } from '../viewing/messages.ts';
import type { Stage } from '../viewing/stage.ts';

/** The subprotocol of pages that understand news; others have `binary`, and get none. */
export const NEWS_PROTOCOL = 'vfio-user-gpu';

const PING_INTERVAL_MS = 1000;
/** A guest can blink faster than anybody sees. */
const MIN_INTERVAL_MS = 50;

export interface PageNews extends Pick<InputNews, 'hasKeyboard' | 'hasPointer' | 'leds'> {
  /** From a WebSocket ping to its pong, behind whatever was on its way before. Undefined until there was one. */
  readonly roundTripMs: number | undefined;
}

/** Tells until the socket closes. */
export function tellNews(stage: Stage, socket: WebSocket): void {
  let roundTripMs: number | undefined;
  let pingedAtMs: number | undefined;
  let isOnItsWay = false;
  let isStale = false;
  const tell = () => {
    isStale = isOnItsWay;
    if (isOnItsWay || socket.readyState !== socket.OPEN) return;
    isOnItsWay = true;
    const { hasKeyboard, hasPointer, leds } = stage.input;
    const news: PageNews = { hasKeyboard, hasPointer, leds, roundTripMs };
    socket.send(JSON.stringify(news), { binary: false }, () => {
      setTimeout(() => {
        isOnItsWay = false;
        if (isStale) tell();
      }, MIN_INTERVAL_MS).unref();
    });
  };
  const ping = () => {
    // One that has not come back yet would only be waited for longer.
    if (pingedAtMs !== undefined || socket.readyState !== socket.OPEN) return;
    pingedAtMs = performance.now();
    socket.ping();
  };
  const stop = stage.onInputNews(tell);
  const pinging = setInterval(ping, PING_INTERVAL_MS);
  pinging.unref();
  socket.on('pong', () => {
    if (pingedAtMs === undefined) return;
    roundTripMs = Math.round((performance.now() - pingedAtMs) * 10) / 10;
    pingedAtMs = undefined;
    tell();
  });
  socket.once('close', () => {
    clearInterval(pinging);
    stop();
  });
  tell();
  ping();
}
