/**
 * Wire formats as declared layouts: one declaration gives the size check, the decoder, the encoder and the type.
 * All numbers are little-endian. Decoding makes a plain record, so nothing aliases the buffer it came from.
 */

/** Bytes that cannot be what they claim to be. Whoever decodes decides what the sender is told. */
export class WireError extends Error {
  override readonly name = 'WireError';
}

export interface Codec<T> {
  /** Bytes on the wire. */
  readonly size: number;
  get(view: DataView, at: number): T;
  put(view: DataView, at: number, value: T): void;
}

export type Of<C> = C extends Codec<infer T> ? T : never;

// biome-ignore lint/suspicious/noExplicitAny: a shape holds codecs of any type; this room is where that is allowed
type Shape = Record<string, Codec<any>>;
/** Fields whose name starts with an underscore are on the wire but not in the record. */
type Rec<S extends Shape> = { readonly [K in keyof S as K extends `_${string}` ? never : K]: Of<S[K]> };

export const u8: Codec<number> = {
  size: 1,
  get: (view, at) => view.getUint8(at),
  put: (view, at, value) => view.setUint8(at, value),
};

export const u16: Codec<number> = {
  size: 2,
  get: (view, at) => view.getUint16(at, true),
  put: (view, at, value) => view.setUint16(at, value, true),
};

export const u32: Codec<number> = {
  size: 4,
  get: (view, at) => view.getUint32(at, true),
  put: (view, at, value) => view.setUint32(at, value, true),
};

/** A 64-bit cookie that must come back bit for bit. */
export const u64: Codec<bigint> = {
  size: 8,
  get: (view, at) => view.getBigUint64(at, true),
  put: (view, at, value) => view.setBigUint64(at, value, true),
};

/**
 * A 64-bit address, offset or length as a number, rounded above 2^53: nothing lies there, so a rounded value is
 * refused wherever it is compared with what exists.
 */
export const span: Codec<number> = {
  size: 8,
  get: (view, at) => view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true),
  put: (view, at, value) => {
    view.setUint32(at, value % 2 ** 32, true);
    view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
  },
};

/** Bytes without meaning, zero when written. */
export const pad = (size: number): Codec<undefined> => ({
  size,
  get: () => undefined,
  put: (view, at) => {
    for (let i = 0; i < size; i++) view.setUint8(at + i, 0);
  },
});

/** A fixed number of raw bytes; a copy when read, zero-filled when written short. */
export const bytes = (size: number): Codec<Uint8Array> => ({
  size,
  get: (view, at) => new Uint8Array(view.buffer, view.byteOffset + at, size).slice(),
  put: (view, at, value) => {
    for (let i = 0; i < size; i++) view.setUint8(at + i, value[i] ?? 0);
  },
});

/** A fixed number of equal elements. */
export const array = <T>(codec: Codec<T>, count: number): Codec<readonly T[]> => ({
  size: codec.size * count,
  get: (view, at) => Array.from({ length: count }, (_, i) => codec.get(view, at + i * codec.size)),
  put: (view, at, value) => {
    for (let i = 0; i < count; i++) codec.put(view, at + i * codec.size, value[i] as T);
  },
});

/** A record. `size` is the figure the specification gives, so that a slip in the table fails at import. */
export function struct<S extends Shape>(size: number, shape: S): Codec<Rec<S>> {
  let end = 0;
  const fields = Object.entries(shape).map(([name, codec]) => {
    const at = end;
    end += codec.size;
    return { name, codec, at, shown: !name.startsWith('_') };
  });
  if (end !== size) throw new Error(`layout adds up to ${end} bytes, expected ${size}`);
  // One function per layout, with the fields written out: several times as fast as a loop over them.
  const loads = fields.flatMap(({ name, at, shown }, i) =>
    shown ? `${name}: c${i}.get(view, base + ${at})` : [],
  );
  const stores = fields.map(({ name, at }, i) => `c${i}.put(view, base + ${at}, value.${name});`);
  const names = fields.map((_, i) => `c${i}`).join();
  const written = new Function(
    'codecs',
    `const [${names}] = codecs;
    return {
      get(view, base) { return { ${loads.join()} }; },
      put(view, base, value) { ${stores.join('')} },
    };`,
  )(fields.map(({ codec }) => codec)) as Codec<Rec<S>>;
  return {
    size,
    get(view, base) {
      if (base + size > view.byteLength)
        throw new WireError(`need ${size} bytes at ${base} of ${view.byteLength}`);
      return written.get(view, base);
    },
    put: written.put,
  };
}

/** The value as bytes of its own. */
export function encode<T>(codec: Codec<T>, value: T): Uint8Array {
  const out = new Uint8Array(codec.size);
  codec.put(viewOf(out), 0, value);
  return out;
}

/** Decodes from the start of `bytes`; throws `WireError` when they are too few. */
export function decode<T>(codec: Codec<T>, bytes: Uint8Array): T {
  if (bytes.length < codec.size) throw new WireError(`need ${codec.size} bytes, got ${bytes.length}`);
  return codec.get(viewOf(bytes), 0);
}

/** The same bytes as a DataView. */
export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
