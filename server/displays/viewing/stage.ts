/** What the viewing thread offers to those who serve viewers, and what it needs of them. */
import type { Stroke } from '../../input/layouts.ts';
import type { Log } from '../../log.ts';
import type { Address } from '../../sockets.ts';
import type { Canvas } from './canvas.ts';
import type { DisplaySummary, InputEvent, InputNews, ListenOptions, ViewerCounters } from './messages.ts';

/** What is known of the guest's keyboard. */
export interface KeyboardKnowledge {
  /** The evdev code of an XT scancode as QEMU's extended key event has it. */
  codeOfScancode(scancode: number): number | undefined;
  /** How an X11 keysym is typed. */
  strokeOfKeysym(keysym: number): Stroke | undefined;
}

/** Somebody whose keys and pointer reach the guest. */
export interface InputClient {
  /** False: wait for `onRoom` before you read more from who sends this. */
  send(event: InputEvent): boolean;
  close(): void;
}

/** What a listener for viewers needs of the thread. */
export interface Stage {
  readonly log: Log;
  readonly displays: number;
  /** What people can do with the guest. */
  readonly input: InputNews;
  readonly keyboard: KeyboardKnowledge;
  /** Changed by those who are counted. */
  readonly counters: ViewerCounters;
  /** Keeps a display's canvas up to date until the function returned is called. Resolves when it is. */
  look(display: number): Promise<{ canvas: Canvas; leave: () => void }>;
  /** What displays are like now, also those that nobody looks at. */
  summarize(): Promise<readonly DisplaySummary[]>;
  openInput(name: string, onRoom: () => void): InputClient;
  onInputNews(listener: () => void): () => void;
  /** Asks the guest for another size. */
  resize(display: number, width: number, height: number): void;
}

/** Something viewers connect to. */
export interface Listener {
  readonly address: Address;
  close(): Promise<void>;
}

/** Opens what viewers are to connect to. Rejects with what is wrong with the address, or with what it needs. */
export type Listeners = (stage: Stage, options: ListenOptions) => Promise<Listener>;
