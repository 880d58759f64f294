/** Answers that several routes describe. */
import type { z } from '@hono/zod-openapi';
import { errorSchema } from './schemas.ts';

export const json = <T extends z.ZodType>(schema: T, description: string) => ({
  description,
  content: { 'application/json': { schema } },
});
export const BAD_REQUEST = json(errorSchema, 'The request is not understood');
export const NO_DISPLAY = json(errorSchema, 'There is no such display');
export const TOO_LARGE = json(errorSchema, 'The body is too large');
export const BUSY = json(
  errorSchema,
  '`busy`: too many requests of this kind; `closed`: the server is leaving',
);
