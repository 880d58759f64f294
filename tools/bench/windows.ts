/** Many DMA windows: what one costs to announce, to find and to take away. */
import { fileURLToPath } from 'node:url';
import { Program } from './programs.ts';
import type { Book } from './report.ts';

const COUNTS = [100_000, 500_000];
const KINDS = ['neighbours', 'shuffled', 'scattered'] as const;

/** Nanoseconds, and bytes. */
interface Answer {
  readonly opened: number;
  readonly mapped: number;
  readonly lookedUp: number;
  readonly lookedUpNatively: number;
  readonly taken: number;
  readonly allTaken: number;
  readonly memory: number;
}

export async function measureWindows(book: Book, rounds: number, say: (text: string) => void): Promise<void> {
  for (let round = 1; round <= rounds; round++) {
    say(`windows ${round} of ${rounds}`);
    for (const count of COUNTS) {
      for (const kind of KINDS) {
        const path = fileURLToPath(new URL('windows.mjs', import.meta.url));
        // A process each: what one leaves behind in its heap is in nobody else's figures.
        await using program = await Program.start([process.execPath, '--expose-gc', path]);
        const answer = await program.order<Answer>(count, kind);
        book.raw.push({ round, count, kind, ...answer });
        const name = (what: string) => `${count / 1000}k windows, ${kind}: ${what}`;
        const micros = (what: string, nanoseconds: number) =>
          book.note(name(what), 'us', { value: nanoseconds / 1000 });
        const opened = { value: answer.mapped / 1000, floor: answer.opened / 1000 };
        book.note(name('DMA_MAP'), 'us', opened, { floor: 'the descriptor, opened and closed' });
        micros('look-up in JavaScript', answer.lookedUp);
        micros('look-up in the addon', answer.lookedUpNatively);
        micros('DMA_UNMAP of 64', answer.taken);
        book.note(name('DMA_UNMAP of the rest'), 'ms', { value: answer.allTaken / 1e6 });
        book.note(name('memory each'), 'bytes', { value: answer.memory });
      }
    }
  }
}
