/** The shapes of the control API: what is checked on the way in, promised on the way out, and put into the OpenAPI document. */
import { z } from '@hono/zod-openapi';
import { MODE_LIMITS } from '../displays/mode.ts';
import { MAX_CHANGE_INTERVAL_MS, MAX_QUIET_MS, MAX_WAIT_MS } from './limits.ts';

export const errorSchema = z
  .object({
    error: z.object({
      code: z.string().openapi({ example: 'not_found', description: 'stable, for programs' }),
      message: z.string().openapi({ description: 'for people' }),
      done: z.int().optional().openapi({
        description: 'of input: so many keys or characters were typed, and the rest will not be',
      }),
      of: z.int().optional().openapi({ description: 'with `done`: so many were asked for' }),
    }),
  })
  .openapi('Error');

export const modeSchema = z
  .object({
    width: z.int().min(MODE_LIMITS.minWidth).max(MODE_LIMITS.maxWidth).openapi({ example: 1280 }),
    height: z.int().min(MODE_LIMITS.minHeight).max(MODE_LIMITS.maxHeight).openapi({ example: 800 }),
    refreshHz: z
      .number()
      .min(MODE_LIMITS.minRefreshHz)
      .max(MODE_LIMITS.maxRefreshHz)
      .openapi({ example: 60 }),
  })
  .openapi('Mode');

/** A request may leave the refresh rate as it is. */
export const modeRequestSchema = modeSchema.partial({ refreshHz: true }).strict().openapi('ModeRequest');

export const displaySchema = z
  .object({
    index: z.int(),
    mode: modeSchema.openapi({ description: 'what the guest is asked to use' }),
    picture: z
      .object({ width: z.int(), height: z.int() })
      .nullable()
      .openapi({ description: 'what the guest shows; null while it shows nothing' }),
    cursor: z.object({
      visible: z.boolean(),
      x: z
        .int()
        .openapi({ description: 'left edge of the image, in pixels of the picture; may be negative' }),
      y: z.int(),
      width: z.int(),
      height: z.int(),
      hotX: z.int(),
      hotY: z.int(),
    }),
    flushes: z.int().openapi({ description: 'how often the guest said that the picture has changed' }),
  })
  .openapi('Display');

export const displayListSchema = z.object({ displays: z.array(displaySchema) }).openapi('DisplayList');

const clientSchema = z
  .object({ connected: z.boolean(), maxMsgFds: z.int().nullable() })
  .openapi({ description: 'the VMM' });
const guestSchema = z
  .object({
    status: z.int().openapi({ description: 'virtio device status; bit 2 (4): the driver is ready' }),
    features: z.string().nullable().openapi({ description: 'negotiated features, hexadecimal' }),
    memoryBytes: z.int().openapi({ description: 'guest memory that can be reached' }),
    memorySharing: z.enum(['unknown', 'shared', 'no-file', 'private']).openapi({
      description:
        'whether what the guest writes is seen here; with no-file and private it has to do without the device',
    }),
    strayDoorbells: z.int().openapi({
      description:
        'doorbells since the VMM connected that no driver had set up: of a guest that was restored without the device',
    }),
  })
  .openapi({ description: 'the driver' });

const viewerSchema = z.object({
  connected: z.int(),
  updates: z.int(),
  sentBytes: z.int(),
  refused: z.int().openapi({ description: 'turned away, or did what no viewer does' }),
});

export const infoSchema = z
  .object({
    name: z.string(),
    version: z.string(),
    pid: z.int(),
    uptimeSeconds: z.number(),
    socketPath: z.string(),
    client: clientSchema,
    guest: guestSchema,
    resources: z.object({
      count: z.int(),
      bytes: z.int(),
      maxCount: z.int(),
      maxBytes: z.int(),
    }),
    hostVisibleBytes: z.int().openapi({ description: 'size of the host-visible window; 0: there is none' }),
    blobs: z
      .object({
        contexts: z.int(),
        bytes: z.int().openapi({ description: 'sizes of blobs, whether they have pages or not' }),
        populatedBytes: z.int().openapi({ description: 'pages of the host-visible window, in blobs or not' }),
        exportedBytes: z.int().openapi({ description: 'what processes of the host have of blobs' }),
        maxContexts: z.int(),
        maxBytes: z.int().openapi({ description: 'most that either of the two may be: --max-blob-memory' }),
        refused: z
          .int()
          .openapi({ description: 'requests refused since the server began because it was reached' }),
        contextsEnded: z
          .int()
          .openapi({ description: 'contexts ended because the guest filled more than that' }),
      })
      .openapi({ description: 'contexts and their blobs' }),
    sharing: z
      .object({
        kind: z.enum(['udmabuf', 'copy']),
        reason: z.string().openapi({ example: '/dev/udmabuf works' }),
      })
      .openapi({ description: 'how memory is handed to processes of the host, and why so' }),
    input: z
      .object({
        leds: z
          .object({ numLock: z.boolean(), capsLock: z.boolean(), scrollLock: z.boolean() })
          .nullable()
          .openapi({ description: 'as the guest has set them; null while it has not' }),
        clients: z.array(z.string()).openapi({ description: 'who uses keyboard and pointer' }),
        devices: z.array(
          z.object({
            kind: z.enum(['keyboard', 'tablet', 'touch']),
            socketPath: z.string(),
            client: clientSchema,
            guest: guestSchema,
          }),
        ),
      })
      .openapi({ description: 'keyboard and pointer, where there are any' }),
    viewers: z
      .object({ vnc: viewerSchema, web: viewerSchema })
      .openapi({ description: 'people who look, and what they were sent since the server began' }),
  })
  .openapi('Info');

export const healthSchema = z.object({ status: z.literal('ok') }).openapi('Health');

export const displayParams = z.object({
  display: z.coerce
    .number()
    .int()
    .min(0)
    .openapi({
      param: { name: 'display', in: 'path', required: true },
      example: 0,
      description: 'display number, from 0',
    }),
});

const inQuery = (name: string, description: string, example?: string | number) => ({
  param: { name, in: 'query' as const },
  description,
  ...(example === undefined ? {} : { example }),
});

/** `X,Y,WIDTH,HEIGHT` in pixels of the picture. */
const regionQuery = z
  .string()
  .regex(/^\d{1,5},\d{1,5},\d{1,5},\d{1,5}$/, 'is not X,Y,WIDTH,HEIGHT')
  .optional()
  .transform((text) => {
    if (text === undefined) return undefined;
    const [x = 0, y = 0, width = 0, height = 0] = text.split(',').map(Number);
    return { x, y, width, height };
  })
  .openapi({
    ...inQuery('region', 'X,Y,WIDTH,HEIGHT in pixels of the picture; all of it by default', '0,0,640,100'),
    type: 'string',
  });

export const screenshotQuery = z.object({
  cursor: z.enum(['0', '1']).default('0').openapi(inQuery('cursor', '1: with the pointer')),
  format: z.enum(['png', 'jpeg']).default('png').openapi(inQuery('format', 'PNG is exact, JPEG is small')),
  quality: z.coerce.number().int().min(1).max(100).default(80).openapi(inQuery('quality', 'of a JPEG')),
  region: regionQuery,
  scale: z.coerce
    .number()
    .gt(0)
    .max(4)
    .default(1)
    .openapi(inQuery('scale', 'size of the image in relation to the region', 0.5)),
});

export const screenshotHeaders = z.object({
  'if-none-match': z.string().max(4096).optional().openapi({ description: 'tags of images that are known' }),
});

const inHeader = (description: string) => ({ description, schema: { type: 'string' as const } });

export const screenshotAnswerHeaders = {
  ETag: inHeader('the same for the same image'),
  'Pixels-Hash': inHeader('the same for the same pixels, however they are encoded; see `wait`'),
  'Picture-Version': inHeader('of the display when the image was taken; see `changes`'),
};

const milliseconds = (max: number) => z.coerce.number().int().min(0).max(max);

export const waitQuery = z
  .object({
    until: z.enum(['stable', 'change', 'match']).openapi(inQuery('until', 'what to wait for')),
    region: regionQuery,
    quietMs: milliseconds(MAX_QUIET_MS)
      .default(500)
      .openapi(inQuery('quietMs', 'how long it has to be still, for `stable`')),
    hash: z
      .string()
      .regex(/^[0-9a-f]{32}$/, 'is not a Pixels-Hash')
      .optional()
      .openapi(inQuery('hash', '`Pixels-Hash` of a screenshot of the same region without the cursor')),
    timeoutMs: milliseconds(MAX_WAIT_MS).default(10_000).openapi(inQuery('timeoutMs', 'how long to wait')),
  })
  .refine(({ until, hash }) => until !== 'match' || hash !== undefined, {
    path: ['hash'],
    message: 'is needed to match',
  });

export const waitResultSchema = z
  .object({
    reason: z.enum(['stable', 'change', 'match']),
    hash: z
      .string()
      .openapi({ description: 'of the pixels now; empty when the region is not in the picture any more' }),
    version: z.int().openapi({ description: 'of the display, as in `changes`' }),
    waitedMs: z.int(),
  })
  .openapi('WaitResult');

export const changesQuery = z.object({
  intervalMs: milliseconds(MAX_CHANGE_INTERVAL_MS)
    .default(0)
    .openapi(inQuery('intervalMs', 'time between two events at least')),
});
