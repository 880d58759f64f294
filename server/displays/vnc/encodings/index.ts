/** Encoders by name. */
import type { PixelFormat } from '../pixel-format.ts';
import type { Encoder, EncoderOptions } from './encoder.ts';
import { RawEncoder } from './raw.ts';
import { TightEncoder } from './tight.ts';
import { ZrleEncoder } from './zrle.ts';

export { type Cursor, encodeAlphaCursor, encodeCursor } from './cursor.ts';
export type { EncodedRects, Encoder, EncoderOptions, Image } from './encoder.ts';

export type EncoderKind = 'raw' | 'zrle' | 'tight';

/** An encoder for one viewer. A viewer has at most one ZRLE encoder, for as long as it is connected. */
export function makeEncoder(kind: EncoderKind, format: PixelFormat, options: EncoderOptions): Encoder {
  switch (kind) {
    case 'raw':
      return new RawEncoder(format);
    case 'zrle':
      return new ZrleEncoder(format, options);
    case 'tight':
      return new TightEncoder(format, options);
    default:
      return kind satisfies never;
  }
}
