/** The letters by which libwayland names the kinds of arguments. */
import type { ArgumentKind } from '../../server/cross-domain/wayland/wire.ts';

export const SIGNATURE_LETTERS: Readonly<Record<ArgumentKind, string>> = {
  int: 'i',
  uint: 'u',
  fixed: 'f',
  string: 's',
  object: 'o',
  new_id: 'n',
  array: 'a',
  fd: 'h',
};
