/** The routes of the control API, and the OpenAPI document that is made from them. */
import { createRoute, OpenAPIHono, z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import type { PngEncoder } from '../displays/png.ts';
import type { Screen } from '../displays/screen.ts';
import {
  displayListSchema,
  displayParams,
  displaySchema,
  errorSchema,
  healthSchema,
  infoSchema,
  modeRequestSchema,
  screenshotQuery,
} from './schemas.ts';

/** What the API shows and changes. */
export interface ApiSource {
  readonly version: string;
  readonly screens: readonly Screen[];
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
  request: { params: displayParams, query: screenshotQuery },
  responses: {
    200: {
      description: 'A PNG, RGBA, 8 bits a channel',
      content: { 'image/png': { schema: { type: 'string', format: 'binary' } } },
    },
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

export function makeApp(source: ApiSource, png: PngEncoder): OpenAPIHono {
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
    const screen = source.screens[display];
    if (!screen) return context.json(noDisplay(display), 404);
    const image = await png.encode(screen.snapshot({ cursor: context.req.valid('query').cursor === '1' }));
    return context.body(image as Uint8Array<ArrayBuffer>, 200, {
      'Content-Type': 'image/png',
      'Cache-Control': 'no-store',
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
  const status = 'status' in error && typeof error.status === 'number' ? error.status : 500;
  if (status >= 400 && status < 500) return context.json(problem('bad_request', error.message), 400);
  return context.json(problem('internal', error.message), 500);
}
