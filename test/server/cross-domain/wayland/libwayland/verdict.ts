/** What ours makes of a case, beside what the judge has made of it. */
import { WaylandConnection } from '../../../../../server/cross-domain/wayland/connection.ts';
import { bytesOf, type Message } from '../../../../../server/cross-domain/wayland/message.ts';
import { OPEN_POLICY } from '../../../../../server/cross-domain/wayland/policy.ts';
import {
  decodeArguments,
  HEADER_BYTES,
  skipArgument,
  stringBytes,
} from '../../../../../server/cross-domain/wayland/wire.ts';
import { pipe } from '../talk.ts';
import { type Case, FIRST_SERVER_ID, PROGRAM, refusesZeros, type Step } from './cases.ts';
import type { Oracle } from './oracle.ts';

export interface Verdict {
  /** Messages that were judged. */
  readonly messages: number;
  /** In words, where the two do not say the same. */
  readonly difference: string | undefined;
  /** Where ours differs on purpose, and nothing more can be compared. */
  readonly onPurpose: Purpose | undefined;
  /** The connection was ended by the last of the messages. */
  readonly ended: boolean;
}

/** The differences that README.md of the room names. */
export type Purpose =
  | 'event shorter than its header'
  | 'object deleted while it lives'
  | 'event that this libwayland is too old for'
  | 'id behind what a destroyed object made'
  | 'string with a zero in it';

/** By libwayland, by its version. */
const REFUSED_BY_SOME: readonly Purpose[] = [
  'event that this libwayland is too old for',
  'string with a zero in it',
];

/** Reads the judge's answer, step by step. */
export class Answers {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  #piece(): Buffer {
    const length = this.#bytes.readUInt32LE(this.#at);
    const piece = this.#bytes.subarray(this.#at + 4, this.#at + 4 + length);
    this.#at += 4 + length;
    return piece;
  }

  next(): { text: string; sent: Buffer } {
    return { text: this.#piece().toString('latin1'), sent: this.#piece() };
  }
}

const NOTHING = new Uint8Array(0);
const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
/** Strings that are no UTF-8 are compared as they are read. */
export const plain = (text: string): string =>
  text.replaceAll(
    / S([0-9a-f]*)/g,
    (_, hex: string) => ` s${Buffer.from(utf8.decode(Buffer.from(hex, 'hex'))).toString('hex')}`,
  );

/** Before the one that ends a string. */
function hasZero({ spec, view, at, sizeBytes }: Message): boolean {
  let next = at + HEADER_BYTES;
  return spec.args.some((arg) => {
    const start = next;
    next = skipArgument(arg, view, next, at + sizeBytes);
    return arg.kind === 'string' && stringBytes(view, start).length < view.getUint32(start, true) - 1;
  });
}

/** Ours in the judge's place: what it says is in the judge's words. */
export class Ours {
  readonly connection: WaylandConnection;
  readonly #isProgram: boolean;
  readonly #oracle: Oracle | undefined;
  readonly #zombies = new Set<number>();
  #lines: string[] = [];
  #onPurpose: Purpose | undefined;
  /** A destroyed object has made one: libwayland takes that id next, and not the one behind it. */
  #forgotMaker = false;
  #forwarded: Uint8Array[] = [];
  #messages = 0;

  constructor(side: Case['side'], oracle?: Oracle) {
    this.#isProgram = side === PROGRAM;
    this.#oracle = oracle;
    this.connection = new WaylandConnection(OPEN_POLICY, { observe: (message) => this.#see(message) });
  }

  get verdict(): Omit<Verdict, 'difference'> {
    return {
      messages: this.#messages,
      onPurpose: this.#onPurpose,
      ended: this.connection.failure !== undefined || this.connection.hostFailed,
    };
  }

  /** Does a step; `sent` is what libwayland says in it, whichever end it is. */
  run(step: Step, sent: Uint8Array): string {
    this.#lines = [];
    const { connection } = this;
    const [bytes, fds] = step.kind === 'send' ? [step.bytes, step.fds] : [sent, step.fds];
    if (step.kind === 'act' && step.forgets !== undefined) this.#zombies.add(step.forgets);
    const isOfGuest = (step.kind === 'send') !== this.#isProgram;
    if (isOfGuest) {
      const { forward } = connection.fromGuest(bytes, new Array(fds).fill(pipe));
      for (const chunk of forward) this.#forwarded.push(chunk.bytes);
    } else {
      const { objectCount, counters } = connection;
      connection.fromHost(bytes, fds);
      const forgot = connection.counters.hostMessagesDropped > counters.hostMessagesDropped;
      if (forgot && connection.objectCount > objectCount) this.#forgotMaker = true;
    }
    const { failure } = connection;
    if (step.kind === 'act') return failure ? `what libwayland says is refused: ${failure.message}\n` : '';
    const lines = this.#lines.map((line) => `${line}\n`).join('');
    if (this.#isProgram) return lines + (failure || connection.hostFailed ? 'x\n' : '');
    if (failure) return `${lines}!${failure.code} ${failure.objectId}\nx\n`;
    connection.fromHost(sent, 0);
    return connection.failure ? `what libwayland answers is refused: ${connection.failure.message}\n` : lines;
  }

  /** Does a step that the judge has done; what is different. */
  compare(step: Step, { text, sent }: { text: string; sent: Buffer }): string | undefined {
    // A compositor that has ended has nothing more to say.
    const our = this.run(step, !this.#isProgram && text.endsWith('x\n') ? NOTHING : sent);
    const their = plain(text);
    const { failure } = this.connection;
    if (their === our) return undefined;
    const theirEnd = their.endsWith('x\n');
    if (step.kind === 'act') return text === 'x\n' ? undefined : `${our}${their}`;
    if (theirEnd && this.#onPurpose && REFUSED_BY_SOME.includes(this.#onPurpose)) return undefined;
    if (this.#isProgram && failure && !theirEnd && /^(\S+: )?message of \d bytes$/.test(failure.message)) {
      this.#onPurpose = 'event shorter than its header';
      return undefined;
    }
    if (this.#forgotMaker && theirEnd && !our.endsWith('x\n')) {
      this.#onPurpose = 'id behind what a destroyed object made';
      return undefined;
    }
    // What a program reads together with its end is not passed on.
    const isSame = this.#isProgram && theirEnd && our.endsWith('x\n') && our.startsWith(their.slice(0, -2));
    return isSame ? undefined : `libwayland: ${their}ours: ${our}${failure?.message ?? ''}`;
  }

  /** Everything that goes on to a compositor, in one piece. */
  get forwarded(): Buffer {
    return Buffer.concat(this.#forwarded);
  }

  #see(message: Message): void {
    const { fromGuest, object, spec, view, at } = message;
    this.#messages++;
    if (this.#oracle && fromGuest !== this.#isProgram) {
      if (refusesZeros(this.#oracle) && hasZero(message)) this.#onPurpose = 'string with a zero in it';
      const judged = this.#oracle.interfaces.get(spec.interface);
      if (!fromGuest && spec.opcode >= judged!.eventCount)
        this.#onPurpose = 'event that this libwayland is too old for';
    }
    if (spec.destructor && fromGuest && object.id < FIRST_SERVER_ID) this.#zombies.add(object.id);
    const isDelete = !fromGuest && object.id === 1 && spec.name === 'delete_id';
    if (isDelete && !this.#zombies.delete(view.getUint32(at + 8, true)) && this.#isProgram)
      this.#onPurpose ??= 'object deleted while it lives';
    if (fromGuest === this.#isProgram || (this.#isProgram && object.id === 1)) return;
    this.#lines.push(this.#line(message));
  }

  /** As `oracle.c` prints it. */
  #line(message: Message): string {
    const { object, spec } = message;
    let line = `${object.id}.${spec.opcode}`;
    let { fd } = message;
    const values = decodeArguments(spec.args, bytesOf(message));
    for (const [i, { kind }] of spec.args.entries()) {
      const value = values[i]!;
      switch (kind) {
        case 'int':
        case 'uint':
        case 'new_id':
          line += ` ${value}`;
          break;
        case 'object':
          line += this.#isProgram && this.#zombies.has(value as number) ? ' 0' : ` ${value}`;
          break;
        case 'fixed':
          line += ` ${(value as number) * 256}`;
          break;
        case 'string':
          line += value === null ? ' s-' : ` s${Buffer.from(value as string).toString('hex')}`;
          break;
        case 'array':
          line += ` a${Buffer.from(value as Uint8Array).toString('hex')}`;
          break;
        case 'fd':
          line += ` h${fd++ % 64}`;
          break;
        default:
          kind satisfies never;
      }
    }
    return line;
  }
}

/** Reads as many answers as the case has steps. */
export function judge(oracle: Oracle, { side, steps }: Case, answers: Answers): Verdict {
  const ours = new Ours(side, oracle);
  let difference: string | undefined;
  let isOver = false;
  const judged: Step[] = [];
  for (const step of steps) {
    const answer = answers.next();
    if (isOver) continue;
    judged.push(step);
    difference = ours.compare(step, answer);
    if (difference === undefined && side !== PROGRAM) difference = wrongBytes(judged, ours);
    isOver = difference !== undefined || ours.verdict.onPurpose !== undefined || ours.verdict.ended;
  }
  return { ...ours.verdict, difference };
}

function wrongBytes(steps: readonly Step[], ours: Ours): string | undefined {
  const { forwarded } = ours;
  const given = Buffer.concat(steps.flatMap((step) => (step.kind === 'send' ? [step.bytes] : [])));
  if (given.subarray(0, forwarded.length).equals(forwarded)) return undefined;
  return `other bytes go on than came: ${forwarded.toString('hex')} of ${given.toString('hex')}`;
}
