/** The command lines of README.md and docs/, as a shell would see them. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export interface DocumentedCommand {
  readonly program: string;
  readonly arguments: readonly string[];
}

/** The text of a page, by its path in the repository. */
export function documentedPage(page: string): string {
  return readFileSync(fileURLToPath(new URL(`../../${page}`, import.meta.url)), 'utf8');
}

/** The commands in the blocks of a page, those that are fenced as `sh` or indented, in order. */
export function documentedCommands(page: string): DocumentedCommand[] {
  const text = documentedPage(page);
  const fenced = [...text.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block]) => block!);
  const indented = [...text.matchAll(/(?:^ {4}.*\n)+/gm)].map(([block]) => block.replaceAll(/^ {4}/gm, ''));
  // A page uses one of the two.
  return (fenced.length > 0 ? fenced : indented)
    .flatMap((block) => block.replaceAll('\\\n', ' ').split('\n'))
    .map(shellWords)
    .flatMap(([program, ...rest]) => (program === undefined ? [] : [{ program, arguments: rest }]));
}

/** The messages for QMP in the blocks of a page. */
export function documentedMessages(page: string): { execute: string; arguments: Record<string, unknown> }[] {
  return [...documentedPage(page).matchAll(/^```json\n([\s\S]*?)^```$/gm)].map(([, block]) =>
    JSON.parse(block!),
  );
}

/** Words as a shell splits them: in single quotes is what it is, behind a word-initial # is a comment. */
export function shellWords(line: string): string[] {
  return [...line.replace(/(^|\s)#.*/, '').matchAll(/(?:'[^']*'|[^\s'])+/g)].map(([word]) =>
    word.replaceAll("'", ''),
  );
}

/** The value behind an option, or undefined. */
export function optionValue(words: readonly string[], option: string): string | undefined {
  const index = words.indexOf(option);
  return index < 0 ? undefined : words[index + 1];
}

/** The same words without these options and their values. */
export function withoutOptions(words: readonly string[], ...options: string[]): string[] {
  return words.filter((word, index) => !options.includes(word) && !options.includes(words[index - 1] ?? ''));
}
