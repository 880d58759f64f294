import { readdirSync, readFileSync } from 'node:fs';
import type { Vector } from './kit.ts';

/** All vectors there are, by name. */
export function readVectors(): Vector[] {
  const folder = new URL('vectors/', import.meta.url);
  return readdirSync(folder)
    .map((file): Vector => JSON.parse(readFileSync(new URL(file, folder), 'utf8')))
    .sort((one, other) => (one.name < other.name ? -1 : 1));
}
