/** What an image in linear memory needs: strides, offsets and size, for the formats that guests ask for. */

export interface Layout {
  readonly strides: readonly number[];
  readonly offsets: readonly number[];
  /** Without rounding to pages. */
  readonly sizeBytes: number;
}

/** Part of an image: bytes per pixel, and how many pixels of the image one of its pixels stands for. */
interface Plane {
  readonly bytesPerPixel: number;
  readonly horizontal: number;
  readonly vertical: number;
}

/** The code that DRM and wl_shm have for the name of a format. */
export const fourcc = (text: string) =>
  [...text].reduce((code, char, i) => code + char.charCodeAt(0) * 2 ** (8 * i), 0);

const packed = (bytesPerPixel: number): readonly Plane[] => [{ bytesPerPixel, horizontal: 1, vertical: 1 }];
const chroma = (bytesPerPixel: number): Plane => ({ bytesPerPixel, horizontal: 2, vertical: 2 });

/** By DRM format code. */
const FORMATS: ReadonlyMap<number, readonly Plane[]> = new Map([
  [fourcc('R8  '), packed(1)],
  [fourcc('RG16'), packed(2)],
  [fourcc('BG24'), packed(3)],
  ...['XR24', 'XB24', 'AR24', 'AB24', 'XR30', 'XB30', 'AR30', 'AB30'].map(
    (name) => [fourcc(name), packed(4)] as const,
  ),
  [fourcc('AB4H'), packed(8)],
  [fourcc('NV12'), [...packed(1), chroma(2)]],
  [fourcc('YV12'), [...packed(1), chroma(1), chroma(1)]],
]);

/** Undefined for an image without pixels and for formats that nobody uses here. Sizes of 2^32 pixels are exact. */
export function linearLayout(width: number, height: number, format: number): Layout | undefined {
  const planes = FORMATS.get(format);
  if (!planes || width === 0 || height === 0) return undefined;
  const strides: number[] = [];
  const offsets: number[] = [];
  let sizeBytes = 0;
  for (const { bytesPerPixel, horizontal, vertical } of planes) {
    const stride = Math.floor(width / horizontal) * bytesPerPixel;
    strides.push(stride);
    offsets.push(sizeBytes);
    sizeBytes += stride * Math.floor(height / vertical);
  }
  return { strides, offsets, sizeBytes };
}
