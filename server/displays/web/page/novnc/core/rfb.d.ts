/**
 * What the page uses of noVNC (its docs/API.md), which has no types of its own. At run time the server has noVNC's
 * package in the place of this folder.
 */

export interface RfbEvents {
  connect: CustomEvent<Record<string, never>>;
  desktopname: CustomEvent<{ readonly name: string }>;
  disconnect: CustomEvent<{ readonly clean: boolean }>;
}

/** What noVNC needs of something it talks over. */
export interface RawChannel {
  binaryType: string;
  onopen: ((event: Event) => void) | null;
  onmessage: ((event: MessageEvent) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
  onerror: ((event: Event) => void) | null;
  readonly protocol: string;
  readonly readyState: number;
  send(data: Uint8Array<ArrayBuffer>): void;
  close(): void;
}

export default class RFB {
  viewOnly: boolean;
  scaleViewport: boolean;
  focusOnClick: boolean;
  /** 0 to 9, of JPEG. */
  qualityLevel: number;
  background: string;
  constructor(target: HTMLElement, channel: RawChannel, options?: { shared?: boolean });
  disconnect(): void;
  focus(options?: FocusOptions): void;
  /** Down and up when `down` is undefined. `code` is a KeyboardEvent's; null when only the keysym is known. */
  sendKey(keysym: number, code: string | null, down?: boolean): void;
  addEventListener<K extends keyof RfbEvents>(type: K, listener: (event: RfbEvents[K]) => void): void;
}
