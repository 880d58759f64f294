/** The control API on its Unix socket. */
import { createServer, type RequestListener, type Server } from 'node:http';
import { PngEncoder } from '../displays/png.ts';
import { removeStaleSocket } from '../sockets.ts';
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
  const png = new PngEncoder();
  const server = createServer(async (request, response) => (await answer)(request, response));
  await listen(server, options.socketPath);
  const answer = loadApp(options, png);
  return {
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
      await png.close();
    },
  };
}

/** The libraries behind the API take as long to load as everything else: a VMM need not wait for them. */
async function loadApp(options: ApiOptions, png: PngEncoder): Promise<RequestListener> {
  const [{ getRequestListener }, { makeApp }, { makeRegistry }] = await Promise.all([
    import('@hono/node-server'),
    import('./app.ts'),
    import('./metrics.ts'),
  ]);
  const registry = makeRegistry(() => options.metricsSource());
  const app = makeApp(
    {
      version: options.version,
      screens: options.screens,
      info: () => options.info(),
      metrics: () => registry.metrics(),
    },
    png,
  );
  return getRequestListener(app.fetch);
}

/** Nobody but the owner can connect at any time: the file is made without rights for others. */
function listen(server: Server, socketPath: string): Promise<void> {
  removeStaleSocket(socketPath);
  const before = process.umask(0o177);
  try {
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      // Binds before it returns.
      server.listen(socketPath, resolve);
    });
  } finally {
    process.umask(before);
  }
}
