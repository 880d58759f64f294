/** The routes that type, point and touch. */
import { createRoute, type OpenAPIHono } from '@hono/zod-openapi';
import { BAD_REQUEST, json, TOO_LARGE } from './answers.ts';
import { InputCalls } from './input.ts';
import {
  keysRequestSchema,
  pointerRequestSchema,
  textRequestSchema,
  touchRequestSchema,
} from './input-schemas.ts';
import type { Ongoing } from './ongoing.ts';
import { Problem } from './problem.ts';
import { errorSchema } from './schemas.ts';
import type { ApiSource } from './source.ts';

const ANSWERS = {
  204: { description: 'The guest has taken all of it; nothing is pressed any more' },
  400: BAD_REQUEST,
  409: json(errorSchema, '`no_keyboard`, `no_tablet`, `no_touch`: the server was started without one'),
  413: TOO_LARGE,
  503: json(
    errorSchema,
    '`no_driver`, `not_taken`: the guest does not listen, or not any more; `busy`: too many requests',
  ),
};
const body = <T>(schema: T) => ({ required: true, content: { 'application/json': { schema } } });

const keysRoute = createRoute({
  method: 'post',
  path: '/v1/input/keys',
  operationId: 'pressKeys',
  summary: 'Press chords and keys',
  description:
    'One request is done after the other. What is still held at the end, or on the way, is released.',
  request: { body: body(keysRequestSchema) },
  responses: ANSWERS,
});
const textRoute = createRoute({
  method: 'post',
  path: '/v1/input/text',
  operationId: 'typeText',
  summary: 'Type a text',
  description:
    'The layout is that of the guest. With a character that it cannot type nothing is typed at all: `untypable`.',
  request: { body: body(textRequestSchema) },
  responses: ANSWERS,
});
const pointerRoute = createRoute({
  method: 'post',
  path: '/v1/input/pointer',
  operationId: 'usePointer',
  summary: 'Move, click, drag or scroll',
  description:
    'Coordinates are pixels of the picture of a display, fractions allowed, from its upper left corner.',
  request: { body: body(pointerRequestSchema) },
  responses: { ...ANSWERS, 404: json(errorSchema, 'There is no such display') },
});

const touchRoute = createRoute({
  method: 'post',
  path: '/v1/input/touch',
  operationId: 'useTouchScreen',
  summary: 'Tap, swipe, or move several fingers',
  description:
    'Coordinates are as for the pointer. A pinch is a gesture of two contacts that move apart, or towards each other.',
  request: { body: body(touchRequestSchema) },
  responses: { ...ANSWERS, 404: json(errorSchema, 'There is no such display') },
});

export function addInputRoutes(app: OpenAPIHono, source: ApiSource, ongoing: Ongoing): void {
  const calls = new InputCalls(source.input);
  const sizeOf = (display: number) => {
    const screen = source.screens[display];
    if (!screen) throw new Problem(404, 'not_found', `there is no display ${display}`);
    return screen.picture ?? screen.mode;
  };
  app.openapi(keysRoute, async (context) => {
    const { keys, ...options } = context.req.valid('json');
    await ongoing.during(context.req.raw, (signal) => calls.keys(keys, options, signal));
    return context.body(null, 204);
  });
  app.openapi(textRoute, async (context) => {
    const { text, ...options } = context.req.valid('json');
    await ongoing.during(context.req.raw, (signal) => calls.text(text, options, signal));
    return context.body(null, 204);
  });
  app.openapi(pointerRoute, async (context) => {
    const action = context.req.valid('json');
    const size = sizeOf(action.display);
    await ongoing.during(context.req.raw, (signal) => calls.pointer(action, size, signal));
    return context.body(null, 204);
  });
  app.openapi(touchRoute, async (context) => {
    const action = context.req.valid('json');
    const size = sizeOf(action.display);
    await ongoing.during(context.req.raw, (signal) => calls.touch(action, size, signal));
    return context.body(null, 204);
  });
}
