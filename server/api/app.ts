/** The routes of the control API, and the OpenAPI document that is made from them. */
import { createRoute, OpenAPIHono, z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import type { Screen } from '../displays/screen.ts';
import { type Viewing, ViewingError } from '../displays/viewing/viewing.ts';
import {
  displayListSchema,
  displayParams,
  displaySchema,
  errorSchema,
  healthSchema,
  infoSchema,
  modeRequestSchema,
  screenshotHeaders,
  screenshotQuery,
} from './schemas.ts';

/** What the API shows and changes. */
export interface ApiSource {
  readonly version: string;
  readonly screens: readonly Screen[];
  readonly viewing: Viewing;
  info(): z.infer<typeof infoSchema>;
  /** Prometheus text. */
  metrics(): Promise<string>;
}

const json = <T extends z.ZodType>(schema: T, description: string) => ({
  description,
  content: { 'application/json': { schema } },
});
const BAD_REQUEST = json(errorSchema, 'The request is not understood');
const NO_DISPLAY = json(errorSchema, 'There is no such display');

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
      description: 'An image, RGB, 8 bits a channel. `ETag` is the same for the same image',
      content: {
        'image/png': { schema: { type: 'string', format: 'binary' } },
        'image/jpeg': { schema: { type: 'string', format: 'binary' } },
      },
    },
    304: { description: 'The image is one of those that `If-None-Match` names' },
    400: BAD_REQUEST,
    404: NO_DISPLAY,
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

export function makeApp(source: ApiSource): OpenAPIHono {
  const app = new OpenAPIHono({
    defaultHook: (result, context) => {
      if (result.success) return undefined;
      const [issue] = result.error.issues;
      const where = issue?.path.join('.') || 'body';
      return context.json(problem('bad_request', `${where}: ${issue?.message ?? 'not understood'}`), 400);
    },
  });
  const noDisplay = (display: number) => problem('not_found', `there is no display ${display}`);

  app.openapi(infoRoute, (context) => context.json(source.info(), 200));
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
  app.openapi(screenshotRoute, async (context) => {
    const { display } = context.req.valid('param');
    const { format, quality, cursor, region, scale } = context.req.valid('query');
    const known = context.req.valid('header')['if-none-match'] ?? '';
    const { image, tag, pixelsHash } = await source.viewing.capture(display, {
      format,
      quality,
      cursor: cursor === '1',
      region,
      scale,
      unlessTags: [...known.matchAll(/"([^"]*)"/g)].map(([, one]) => one as string),
    });
    const headers = { ETag: `"${tag}"`, 'Pixels-Hash': pixelsHash, 'Cache-Control': 'no-cache' };
    if (!image) return context.body(null, 304, headers);
    return context.body(image as Uint8Array<ArrayBuffer>, 200, {
      ...headers,
      'Content-Type': `image/${format}`,
    });
  });
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
  return app;
}

const problem = (code: string, message: string) => ({ error: { code, message } });

/** Hono throws its own errors, with a status, for bodies that are no JSON. Anything else is our mistake. */
function handleError(error: Error, context: Context): Response {
  if (error instanceof ViewingError && error.code !== 'internal') {
    return context.json(problem(error.code, error.message), error.code === 'not_found' ? 404 : 400);
  }
  const status = 'status' in error && typeof error.status === 'number' ? error.status : 500;
  if (status >= 400 && status < 500) return context.json(problem('bad_request', error.message), 400);
  return context.json(problem('internal', error.message), 500);
}
