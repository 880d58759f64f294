/** The routes that wait for displays, and tell what changes on them. */
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi';
import { BAD_REQUEST, BUSY, json, NO_DISPLAY } from './answers.ts';
import { changeStream } from './changes.ts';
import { MAX_CHANGE_READERS, MAX_WAITS } from './limits.ts';
import type { Ongoing } from './ongoing.ts';
import { Places } from './problem.ts';
import { changesQuery, displayParams, errorSchema, waitQuery, waitResultSchema } from './schemas.ts';
import type { ApiSource } from './source.ts';
import { waitFor } from './wait.ts';

const waitRoute = createRoute({
  method: 'get',
  path: '/v1/displays/{display}/wait',
  operationId: 'waitForDisplay',
  summary: 'Wait until a display is still, changes, or shows something',
  description:
    'What is compared are the pixels of the region, without the cursor. `stable`: nothing has become different for ' +
    '`quietMs`; what only blinks between two pictures, as a text cursor does, counts as still. `change`: they are not ' +
    'what `hash` says, or were when the request came. `match`: they are what `hash` says.',
  request: { params: displayParams, query: waitQuery },
  responses: {
    200: json(waitResultSchema, 'It has come to pass'),
    400: BAD_REQUEST,
    404: NO_DISPLAY,
    408: json(errorSchema, '`timeout`: it has not'),
    503: BUSY,
  },
});
const changesRoute = createRoute({
  method: 'get',
  path: '/v1/displays/{display}/changes',
  operationId: 'followDisplay',
  summary: 'What changes on a display, as it changes',
  description:
    'Server-sent events of type `change` with JSON: `version`, `width`, `height` of the picture, `rects` that are ' +
    'different (in steps of 16 pixels; none when only the cursor is), `cursor` where that is different. The first event has all of the picture. ' +
    'Who reads slowly gets the union of what was missed.',
  request: { params: displayParams, query: changesQuery },
  responses: {
    200: { description: 'Until either end leaves', content: { 'text/event-stream': { schema: z.string() } } },
    400: BAD_REQUEST,
    404: NO_DISPLAY,
    503: BUSY,
  },
});

export function addWatchRoutes(app: OpenAPIHono, { viewing }: ApiSource, ongoing: Ongoing): void {
  const waits = new Places('requests that wait', MAX_WAITS);
  const readers = new Places('readers of changes', MAX_CHANGE_READERS);
  app.openapi(waitRoute, async (context) => {
    const { display } = context.req.valid('param');
    const options = context.req.valid('query');
    const leave = waits.take();
    try {
      const result = await ongoing.during(context.req.raw, (signal) =>
        waitFor(viewing, display, options, signal),
      );
      return context.json(result, 200);
    } finally {
      leave();
    }
  });
  app.openapi(changesRoute, async (context) => {
    const { display } = context.req.valid('param');
    const { intervalMs } = context.req.valid('query');
    const leave = readers.take();
    const { signal, end } = ongoing.begin(context.req.raw);
    const onEnd = () => {
      leave();
      end();
    };
    const events = await changeStream(viewing, { display, intervalMs, signal, onEnd }).catch((error) => {
      onEnd();
      throw error;
    });
    return context.body(events, 200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
  });
}
