/** The routes of the control API, and the OpenAPI document that is made from them. */
import { createRoute, OpenAPIHono, z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import type { Screen } from '../displays/screen.ts';
import { ViewingError } from '../displays/viewing/error.ts';
import type { CaptureOptions, ViewerCounters } from '../displays/viewing/messages.ts';
import { BAD_REQUEST, BUSY, json, NO_DISPLAY, TOO_LARGE } from './answers.ts';
import { addInputRoutes } from './input-routes.ts';
import { MAX_BODY_BYTES, MAX_SCREENSHOTS } from './limits.ts';
import { Ongoing } from './ongoing.ts';
import { Places, Problem, type Progress } from './problem.ts';
import {
  displayListSchema,
  displayParams,
  displaySchema,
  healthSchema,
  infoSchema,
  modeRequestSchema,
  screenshotAnswerHeaders,
  screenshotHeaders,
  screenshotQuery,
} from './schemas.ts';
import type { ApiSource } from './source.ts';
import { addWatchRoutes } from './watch-routes.ts';

const infoRoute = createRoute({
  method: 'get',
  path: '/v1/info',
  operationId: 'getInfo',
  summary: 'The server, its client and its guest',
  responses: { 200: json(infoSchema, 'What is known') },
});
const displaysRoute = createRoute({
  method: 'get',
  path: '/v1/displays',
  operationId: 'listDisplays',
  summary: 'All displays',
  responses: { 200: json(displayListSchema, 'In order') },
});
const resizeRoute = createRoute({
  method: 'put',
  path: '/v1/displays/{display}',
  operationId: 'setDisplayMode',
  summary: 'Ask the guest to use another mode',
  request: {
    params: displayParams,
    body: { required: true, content: { 'application/json': { schema: modeRequestSchema } } },
  },
  responses: {
    200: json(displaySchema, 'The guest has been told; it changes when it wants to'),
    400: BAD_REQUEST,
    404: NO_DISPLAY,
    413: TOO_LARGE,
  },
});
const screenshotRoute = createRoute({
  method: 'get',
  path: '/v1/displays/{display}/screenshot',
  operationId: 'getScreenshot',
  summary: 'What a display shows now',
  description: 'While the guest shows nothing, the picture is black and as large as the mode.',
  request: { params: displayParams, query: screenshotQuery, headers: screenshotHeaders },
  responses: {
    200: {
      description: 'An image, RGB, 8 bits a channel',
      headers: screenshotAnswerHeaders,
      content: {
        'image/png': { schema: { type: 'string', format: 'binary' } },
        'image/jpeg': { schema: { type: 'string', format: 'binary' } },
      },
    },
    304: {
      description: 'The image is one of those that `If-None-Match` names',
      headers: screenshotAnswerHeaders,
    },
    400: BAD_REQUEST,
    404: NO_DISPLAY,
    503: BUSY,
  },
});
const metricsRoute = createRoute({
  method: 'get',
  path: '/metrics',
  operationId: 'getMetrics',
  summary: 'Counters for Prometheus',
  responses: {
    200: { description: 'Prometheus text format', content: { 'text/plain': { schema: z.string() } } },
  },
});
const healthRoute = createRoute({
  method: 'get',
  path: '/healthz',
  operationId: 'getHealth',
  summary: 'Whether the server answers',
  responses: { 200: json(healthSchema, 'It does') },
});

const describeScreen = (screen: Screen): z.infer<typeof displaySchema> => {
  const { index, mode, cursor, flushes, picture } = screen;
  return {
    index,
    mode,
    cursor,
    flushes,
    picture: picture ? { width: picture.width, height: picture.height } : null,
  };
};

const NO_VIEWERS: ViewerCounters = {
  vnc: { connected: 0, updates: 0, sentBytes: 0, refused: 0 },
  web: { connected: 0, updates: 0, sentBytes: 0, refused: 0 },
};

export interface App {
  readonly fetch: OpenAPIHono['fetch'];
  /** Ends the requests that take their time. */
  leave(): void;
}

export function makeApp(source: ApiSource): App {
  const ongoing = new Ongoing();
  const screenshots = new Places('screenshots', MAX_SCREENSHOTS);
  const app = new OpenAPIHono({
    defaultHook: (result, context) => {
      if (result.success) return undefined;
      const [issue] = result.error.issues;
      const where = issue?.path.join('.') || 'body';
      return context.json(problem('bad_request', `${where}: ${issue?.message ?? 'not understood'}`), 400);
    },
  });
  app.on(
    ['POST', 'PUT'],
    '*',
    bodyLimit({
      maxSize: MAX_BODY_BYTES,
      onError: () => {
        throw new Problem(413, 'too_large', `the body has more than ${MAX_BODY_BYTES} bytes`);
      },
    }),
  );
  const noDisplay = (display: number) => problem('not_found', `there is no display ${display}`);

  app.openapi(infoRoute, async (context) =>
    context.json({ ...source.info(), viewers: (await source.viewing.counters()) ?? NO_VIEWERS }, 200),
  );
  app.openapi(displaysRoute, (context) =>
    context.json({ displays: source.screens.map(describeScreen) }, 200),
  );
  app.openapi(resizeRoute, (context) => {
    const { display } = context.req.valid('param');
    const { width, height, refreshHz } = context.req.valid('json');
    const screen = source.screens[display];
    if (!screen) return context.json(noDisplay(display), 404);
    try {
      screen.setMode({ width, height, refreshHz: refreshHz ?? screen.mode.refreshHz });
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      return context.json(problem('bad_request', error.message), 400);
    }
    return context.json(describeScreen(screen), 200);
  });
  const capture = async (display: number, options: CaptureOptions) => {
    const leave = screenshots.take();
    try {
      return await source.viewing.capture(display, options);
    } finally {
      leave();
    }
  };
  app.openapi(screenshotRoute, async (context) => {
    const { display } = context.req.valid('param');
    const { format, quality, cursor, region, scale } = context.req.valid('query');
    const known = context.req.valid('header')['if-none-match'] ?? '';
    const { image, tag, pixelsHash, version } = await capture(display, {
      format,
      quality,
      cursor: cursor === '1',
      region,
      scale,
      unlessTags: [...known.matchAll(/"([^"]*)"/g)].map(([, one]) => one as string),
    });
    const headers = {
      ETag: `"${tag}"`,
      'Pixels-Hash': pixelsHash,
      'Picture-Version': String(version),
      'Cache-Control': 'no-cache',
    };
    if (!image) return context.body(null, 304, headers);
    return context.body(image as Uint8Array<ArrayBuffer>, 200, {
      ...headers,
      'Content-Type': `image/${format}`,
    });
  });
  addWatchRoutes(app, source, ongoing);
  addInputRoutes(app, source, ongoing);
  app.openapi(metricsRoute, async (context) =>
    context.text(await source.metrics(), 200, { 'Content-Type': 'text/plain; version=0.0.4; charset=utf-8' }),
  );
  app.openapi(healthRoute, (context) => context.json({ status: 'ok' as const }, 200));

  app.doc31('/openapi.json', {
    openapi: '3.1.0',
    info: {
      title: 'vfio-user-gpu control API',
      version: source.version,
      description: 'See and control the displays of a virtual machine. Served on a Unix socket.',
      license: { name: 'Apache-2.0', url: 'https://www.apache.org/licenses/LICENSE-2.0' },
    },
    servers: [{ url: 'http://localhost', description: 'the socket given with --api-socket' }],
  });
  app.notFound((context) =>
    context.json(problem('not_found', `no ${context.req.method} ${context.req.path}`), 404),
  );
  app.onError((error, context) => handleError(error, context));
  return { fetch: app.fetch, leave: () => ongoing.endAll() };
}

const problem = (code: string, message: string, progress?: Progress) => ({
  error: { code, message, ...progress },
});

const VIEWING_STATUS = { not_found: 404, bad_request: 400, closed: 503, internal: 500 } as const;

/** Hono throws its own errors, with a status, for bodies that are no JSON. Anything else is our mistake. */
function handleError(error: Error, context: Context): Response {
  // What a signal ends says why in its cause.
  const known = [error, error.cause].find((one) => one instanceof Problem);
  if (known) return context.json(problem(known.code, known.message, known.progress), known.status);
  if (error instanceof ViewingError) {
    return context.json(problem(error.code, error.message), VIEWING_STATUS[error.code]);
  }
  const status = 'status' in error && typeof error.status === 'number' ? error.status : 500;
  if (status >= 400 && status < 500) return context.json(problem('bad_request', error.message), 400);
  return context.json(problem('internal', error.message), 500);
}
