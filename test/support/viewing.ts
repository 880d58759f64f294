/** The viewing thread without a thread: it talks over a channel as the worker does, on the thread of the test. */
import { MessageChannel } from 'node:worker_threads';
import { openListener } from '../../server/displays/viewing/listeners.ts';
import type { FromViewing, Port, ToViewing } from '../../server/displays/viewing/messages.ts';
import { ViewingThread } from '../../server/displays/viewing/thread.ts';
import type { Thread } from '../../server/displays/viewing/viewing.ts';

export function viewingHere(displays: number): Thread {
  const { port1, port2 } = new MessageChannel();
  new ViewingThread(port2 as Port<ToViewing, FromViewing>, displays, openListener);
  return {
    port: port1 as Port<FromViewing, ToViewing>,
    onFailure: () => {},
    terminate: async () => port1.close(),
  };
}
