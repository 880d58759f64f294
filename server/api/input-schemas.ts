/** The shapes of requests that type, point and touch. */
import { z } from '@hono/zod-openapi';
import { LAYOUT_NAMES } from '../input/layouts.ts';
import { MAX_CONTACTS } from '../input/limits.ts';
import { BUTTON_NAMES } from './input.ts';
import {
  MAX_CHORD_LENGTH,
  MAX_CLICKS,
  MAX_DELAY_MS,
  MAX_DRAG_MS,
  MAX_KEY_STEPS,
  MAX_NOTCHES,
  MAX_PATH_POINTS,
  MAX_PAUSE_MS,
  MAX_TEXT_LENGTH,
} from './limits.ts';

/**
 * Linux queues sixteen strokes for a program before it drops some. A compositor that changes its mode on a busy host
 * reads none for 200 ms and more.
 */
const DEFAULT_DELAY_MS = 20;
const DEFAULT_DRAG_MS = 250;
const DEFAULT_TAP_MS = 50;

const chord = z.string().min(1).max(MAX_CHORD_LENGTH);
const layout = z
  .enum(LAYOUT_NAMES)
  .optional()
  .openapi({ description: 'keyboard layout of the guest; by default what the server was started with' });
const delayMs = z.int().min(0).max(MAX_DELAY_MS).default(DEFAULT_DELAY_MS).openapi({
  description:
    'after each key, and for each modifier held with it; programs of a guest that are slow lose keys without it',
});

export const keysRequestSchema = z
  .strictObject({
    keys: z
      .array(
        z.union([
          chord,
          z.strictObject({ down: chord }),
          z.strictObject({ up: chord }),
          z.strictObject({ waitMs: z.int().min(0).max(MAX_PAUSE_MS) }),
        ]),
      )
      .min(1)
      .max(MAX_KEY_STEPS)
      .openapi({
        description:
          'chords, and keys that go down and up by themselves. Keys have names like ctrl, shift, alt, altgr, super, ' +
          'enter, esc, tab, f5, up, pagedown; a single character is the key that types it',
        example: ['ctrl+alt+t', { waitMs: 500 }, 'enter'],
      }),
    layout,
    delayMs,
  })
  .openapi('KeysRequest');

export const textRequestSchema = z
  .strictObject({
    text: z.string().min(1).max(MAX_TEXT_LENGTH).openapi({ example: 'uname -a\n' }),
    layout,
    delayMs,
  })
  .openapi('TextRequest');

const point = { x: z.number(), y: z.number() };
const common = {
  display: z.int().min(0).default(0),
  modifiers: z
    .array(chord)
    .max(8)
    .default([])
    .openapi({ description: 'keys held meanwhile', example: ['ctrl'] }),
};
const path = (leastPoints: number) => z.array(z.strictObject(point)).min(leastPoints).max(MAX_PATH_POINTS);
const durationMs = z.int().min(0).max(MAX_DRAG_MS).default(DEFAULT_DRAG_MS);
const count = z.int().min(1).max(MAX_CLICKS).default(1);
const button = z.enum(BUTTON_NAMES).default('left');
const notches = (direction: string) =>
  z
    .number()
    .min(-MAX_NOTCHES)
    .max(MAX_NOTCHES)
    .default(0)
    .openapi({ description: `notches of the wheel ${direction}` });

export const pointerRequestSchema = z
  .discriminatedUnion('action', [
    z.strictObject({ action: z.literal('move'), ...common, ...point }),
    z.strictObject({
      action: z.literal('click'),
      ...common,
      ...point,
      button,
      count: count.openapi({ description: '2: a double click' }),
    }),
    z.strictObject({
      action: z.literal('drag'),
      ...common,
      path: path(2).openapi({ description: 'from where the button is pressed to where it is released' }),
      button,
      durationMs,
    }),
    z.strictObject({
      action: z.literal('scroll'),
      ...common,
      ...point,
      down: notches('down; negative: up'),
      right: notches('to the right; negative: to the left'),
    }),
  ])
  .openapi('PointerRequest');

export const touchRequestSchema = z
  .discriminatedUnion('action', [
    z.strictObject({
      action: z.literal('tap'),
      ...common,
      ...point,
      count: count.openapi({ description: '2: a double tap' }),
      holdMs: z
        .int()
        .min(0)
        .max(MAX_DRAG_MS)
        .default(DEFAULT_TAP_MS)
        .openapi({ description: 'how long the finger stays, each time' }),
    }),
    z.strictObject({
      action: z.literal('swipe'),
      ...common,
      path: path(2).openapi({ description: 'from where the finger comes down to where it is lifted' }),
      durationMs,
    }),
    z.strictObject({
      action: z.literal('gesture'),
      ...common,
      contacts: z
        .array(z.strictObject({ path: path(1) }))
        .min(1)
        .max(MAX_CONTACTS)
        .openapi({
          description: 'fingers that come down, move and are lifted together; one point: it stays there',
          example: [
            {
              path: [
                { x: 300, y: 300 },
                { x: 100, y: 300 },
              ],
            },
            {
              path: [
                { x: 340, y: 300 },
                { x: 540, y: 300 },
              ],
            },
          ],
        }),
      durationMs,
    }),
  ])
  .openapi('TouchRequest');
