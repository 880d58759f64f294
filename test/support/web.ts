/** Displays with a web page, in this process: screens that a test draws on, and a note of everything people do. */

import { linearPixels } from '../../server/displays/frame.ts';
import { Screen } from '../../server/displays/screen.ts';
import type { InputEvent, InputNews, WebOptions } from '../../server/displays/viewing/messages.ts';
import { Viewing } from '../../server/displays/viewing/viewing.ts';
import { SILENT_LOG } from '../../server/log.ts';
import type { Address } from '../../server/sockets.ts';
import type { Picture } from '../../tools/testbed/pictures.ts';
import { viewingHere } from './viewing.ts';

export class WebStage {
  readonly screens: readonly Screen[];
  /** What people did, in order. */
  readonly events: InputEvent[] = [];
  readonly viewing: Viewing;
  /** Where the page is. */
  url = '';
  #news: InputNews = { hasKeyboard: true, hasPointer: true, keyboardLayout: 'us', leds: undefined };
  readonly #listeners = new Set<() => void>();

  constructor(displays: number, onModeChange: () => void = () => {}) {
    const mode = { width: 320, height: 200, refreshHz: 60 };
    this.screens = Array.from({ length: displays }, (_, i) => new Screen(i, mode, onModeChange));
    const stage = this;
    this.viewing = new Viewing({
      screens: this.screens,
      log: SILENT_LOG,
      start: () => viewingHere(displays),
      input: {
        get news() {
          return stage.#news;
        },
        onNews: (listener) => {
          this.#listeners.add(listener);
          return () => this.#listeners.delete(listener);
        },
        open: () => ({ take: async (events) => void this.events.push(...events), close: () => {} }),
      },
    });
  }

  async listen(options: Partial<WebOptions> = {}): Promise<Address> {
    const address = await this.viewing.listen({
      kind: 'web',
      address: { host: '127.0.0.1', port: 0 },
      tokens: undefined,
      tls: undefined,
      ...options,
    });
    if ('port' in address) this.url = `${options.tls ? 'https' : 'http'}://${address.host}:${address.port}/`;
    return address;
  }

  /** Shows a picture, or the next state of the one that is shown. */
  draw(display: number, { width, height, rgb }: Picture): void {
    const screen = this.screens[display] as Screen;
    const bytes = new Uint8Array(width * height * 4);
    for (let from = 0, to = 0; from < rgb.length; to++) {
      bytes[to++] = rgb[from++] as number;
      bytes[to++] = rgb[from++] as number;
      bytes[to++] = rgb[from++] as number;
    }
    screen.show({
      width,
      height,
      order: { r: 0, g: 1, b: 2, a: -1 },
      source: linearPixels(bytes),
      rows: { offset: 0, strideBytes: width * 4 },
    });
    screen.damage({ x: 0, y: 0, width, height });
  }

  setInput(change: Partial<InputNews>): void {
    this.#news = { ...this.#news, ...change };
    for (const listener of this.#listeners) listener();
  }

  /** Key events as `code` and whether it went down; pointer events as they are. */
  get keys(): string[] {
    return this.events.flatMap((event) =>
      event.type === 'key' ? [`${event.down ? '+' : '-'}${event.code}`] : [],
    );
  }

  async close(): Promise<void> {
    await this.viewing.close();
    for (const screen of this.screens) screen.close();
  }
}
