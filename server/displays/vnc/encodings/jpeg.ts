/** JPEG of parts of the screen. */
import type { JpegOptions, SharpOptions } from 'sharp';

/** sharp's quality for the ten levels of the viewer's pseudo-encoding, as other servers understand them. */
const QUALITY = [15, 29, 41, 42, 62, 77, 79, 86, 92, 98] as const;
/** From here on colours are as sharp as brightness. */
const FULL_COLOUR_LEVEL = 6;

type Sharp = (
  input: Uint8Array,
  options: SharpOptions,
) => {
  jpeg(options: JpegOptions): { toBuffer(): Promise<Buffer> };
};

let loading: Promise<Sharp> | undefined;

/** Many viewers never need it. */
function load(): Promise<Sharp> {
  loading ??= import('sharp').then(({ default: sharp }) => {
    sharp.cache(false);
    return sharp;
  });
  return loading;
}

/** Encodes red, green and blue bytes without gaps, on the thread pool. `level` is 0 to 9. */
export async function encodeJpeg(
  rgb: Uint8Array,
  width: number,
  height: number,
  level: number,
): Promise<Uint8Array> {
  const sharp = await load();
  return sharp(rgb, { raw: { width, height, channels: 3 } })
    .jpeg({
      quality: QUALITY[level] ?? 0,
      chromaSubsampling: level < FULL_COLOUR_LEVEL ? '4:2:0' : '4:4:4',
      optimiseCoding: false,
    })
    .toBuffer();
}
