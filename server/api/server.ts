/** The control API on its Unix socket. */
import { createServer, type RequestListener } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ViewerCounters } from '../displays/viewing/messages.ts';
import { listenOn } from '../sockets.ts';
import type { MetricsSource } from './metrics.ts';
import type { ApiSource } from './source.ts';

/** What the program offers to the API: data, read when somebody asks. */
export interface ApiOptions extends Omit<ApiSource, 'metrics'> {
  readonly socketPath: string;
  metricsSource(): Omit<MetricsSource, 'viewers'>;
}

export interface Api {
  close(): Promise<void>;
}

/** What takes its time is told to end, and has so long for its last words. */
const FAREWELL_MS = 200;

/** Resolves when the socket accepts. The socket is made with mode 0600, and removed by `close`. */
export async function serveApi(options: ApiOptions): Promise<Api> {
  const server = createServer(async (request, response) => (await answering).listener(request, response));
  const listening = await listenOn(server, { path: options.socketPath });
  const answering = loadApp(options);
  return {
    async close() {
      const closed = listening.close();
      (await answering).leave();
      await Promise.race([closed, sleep(FAREWELL_MS)]);
      server.closeAllConnections();
      await closed;
    },
  };
}

/** The libraries behind the API take as long to load as everything else: a VMM need not wait for them. */
async function loadApp(options: ApiOptions): Promise<{ listener: RequestListener; leave(): void }> {
  const [{ getRequestListener }, { makeApp }, { makeRegistry }] = await Promise.all([
    import('@hono/node-server'),
    import('./app.ts'),
    import('./metrics.ts'),
  ]);
  let viewers: ViewerCounters | undefined;
  const registry = makeRegistry(() => ({ ...options.metricsSource(), viewers: viewers ?? {} }));
  const app = makeApp({
    ...options,
    metrics: async () => {
      viewers = await options.viewing.counters();
      return await registry.metrics();
    },
  });
  return { listener: getRequestListener(app.fetch), leave: () => app.leave() };
}
