/** The control API on its Unix socket. */
import { createServer, type RequestListener } from 'node:http';
import { listenOn } from '../sockets.ts';
import type { ApiSource } from './app.ts';
import type { MetricsSource } from './metrics.ts';

/** What the program offers to the API: data, read when somebody asks. */
export interface ApiOptions extends Omit<ApiSource, 'metrics'> {
  readonly socketPath: string;
  metricsSource(): MetricsSource;
}

export interface Api {
  close(): Promise<void>;
}

/** Resolves when the socket accepts. The socket is made with mode 0600, and removed by `close`. */
export async function serveApi(options: ApiOptions): Promise<Api> {
  const server = createServer(async (request, response) => (await answer)(request, response));
  const listening = await listenOn(server, { path: options.socketPath });
  const answer = loadApp(options);
  return {
    async close() {
      const closed = listening.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

/** The libraries behind the API take as long to load as everything else: a VMM need not wait for them. */
async function loadApp(options: ApiOptions): Promise<RequestListener> {
  const [{ getRequestListener }, { makeApp }, { makeRegistry }] = await Promise.all([
    import('@hono/node-server'),
    import('./app.ts'),
    import('./metrics.ts'),
  ]);
  const registry = makeRegistry(() => options.metricsSource());
  const app = makeApp({ ...options, metrics: () => registry.metrics() });
  return getRequestListener(app.fetch);
}
