/** Messages in words, for traces. */
import { bytesOf, type Message } from './message.ts';
import type { ArgumentSpec } from './schema.ts';
import { type Argument, decodeArguments } from './wire.ts';

/** One line: `wl_surface#5.attach(wl_buffer#9, 0, 0)`. */
export function describe(message: Message): string {
  const { object, spec } = message;
  const values = decodeArguments(spec.args, bytesOf(message));
  const words = spec.args.map((arg, i) => word(arg, values[i] ?? null));
  return `${object.interface.name}#${object.id}.${spec.name}(${words.join(', ')})`;
}

function word({ kind, interface: name = '' }: ArgumentSpec, value: Argument): string {
  switch (kind) {
    case 'int':
    case 'uint':
    case 'fixed':
      return String(value);
    case 'string':
      return JSON.stringify(value);
    case 'object':
      return value === 0 ? 'null' : `${name}#${value}`;
    case 'new_id':
      return `new ${name}#${value}`;
    case 'array':
      return `${value instanceof Uint8Array ? value.length : 0} bytes`;
    case 'fd':
      return 'fd';
    default:
      return kind satisfies never;
  }
}
