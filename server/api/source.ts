/** What the control API needs of the server. */
import type { z } from '@hono/zod-openapi';
import type { Screen } from '../displays/screen.ts';
import type { Viewing } from '../displays/viewing/viewing.ts';
import type { ApiInput } from './input.ts';
import type { infoSchema } from './schemas.ts';

/** What the API shows and changes. */
export interface ApiSource {
  readonly version: string;
  readonly screens: readonly Screen[];
  readonly viewing: Viewing;
  readonly input: ApiInput;
  info(): Omit<z.infer<typeof infoSchema>, 'viewers'>;
  /** Prometheus text. */
  metrics(): Promise<string>;
}
