/**
 * What the device thread and the viewing thread say to each other. Plain data. Neither can bury the other: news of a
 * display, news of input and the batches of a client wait until the last one was taken, but for calls, which need the
 * newest, and for a client that leaves.
 */
import type { LayoutName } from '../../input/layouts.ts';
import type { Log } from '../../log.ts';
import type { Address } from '../../sockets.ts';
import type { CursorState } from '../cursor.ts';
import type { PixelOrder, Rect } from '../display.ts';
import type { Mode } from '../mode.ts';
import type { ViewingErrorCode } from './error.ts';

/** Memory with a picture that the device changes, and where it notes what it has changed. */
export interface FrameInfo {
  /** A descriptor of this process that the receiver closes. */
  readonly fd: number;
  readonly width: number;
  readonly height: number;
  readonly strideBytes: number;
  readonly order: PixelOrder;
  readonly damage: SharedArrayBuffer;
  /** Of a `FrameLock`. */
  readonly lock: SharedArrayBuffer;
}

/** What a display is like now. What is missing has not changed. */
export interface DisplayNews {
  readonly display: number;
  readonly mode: Mode;
  /** Null: the guest shows nothing. */
  readonly frame?: FrameInfo | null;
  readonly cursor: CursorState;
  /** RGBA, premultiplied with alpha. */
  readonly cursorImage?: Uint8Array;
}

/** What there is to know of a display without looking at it. */
export interface DisplaySummary {
  readonly display: number;
  readonly mode: Mode;
  /** Whether the guest shows anything. */
  readonly isShowing: boolean;
  /** Of what is shown, which need not be as large as the mode. */
  readonly width: number;
  readonly height: number;
}

export interface KeyboardLeds {
  readonly numLock: boolean;
  readonly capsLock: boolean;
  readonly scrollLock: boolean;
}

/** What people can do with the guest at this moment. */
export interface InputNews {
  readonly hasKeyboard: boolean;
  readonly hasPointer: boolean;
  /** What a key types, for viewers that do not say which key it was. */
  readonly keyboardLayout: LayoutName;
  /** Undefined until the guest has said. */
  readonly leds: KeyboardLeds | undefined;
}

/** What a viewer does. Codes are evdev's; coordinates are pixels of the display's picture. */
export type InputEvent =
  | { readonly type: 'key'; readonly code: number; readonly down: boolean }
  | {
      readonly type: 'pointer';
      readonly display: number;
      readonly x: number;
      readonly y: number;
      /** Bit set: left, middle, right, side, extra. */
      readonly buttons: number;
      /** In 120ths of a notch; up and right are positive. */
      readonly wheelX: number;
      readonly wheelY: number;
    };

/** Which pixels of a display. */
export interface PartOptions {
  readonly cursor: boolean;
  /** Must lie in the picture; all of it by default. */
  readonly region: Rect | undefined;
}

/** What can be asked of a picture. */
export interface CaptureOptions extends PartOptions {
  readonly format: 'png' | 'jpeg';
  /** 1 to 100, for JPEG. */
  readonly quality: number;
  /** Of the image made, as a factor of the region. */
  readonly scale: number;
  /** No image is made when it would have one of these tags. */
  readonly unlessTags: readonly string[];
}

/** Of pixels at one moment. */
export interface PixelsHash {
  /** The same for the same pixels, however they are encoded: 32 hexadecimal digits. */
  readonly hash: string;
  /** What the changes are counted by; it begins anew when nobody has looked at the display for a while. */
  readonly version: number;
  /** Of the whole picture. */
  readonly width: number;
  readonly height: number;
}

export interface Capture {
  /** Undefined when the image has a tag that was named. */
  readonly image: Uint8Array | undefined;
  /** The same for the same image. */
  readonly tag: string;
  /** The same for the same pixels, however they are encoded: 32 hexadecimal digits. */
  readonly pixelsHash: string;
  /** As that of `PixelsHash`. */
  readonly version: number;
  readonly width: number;
  readonly height: number;
}

/** What viewers must know. Only 8 characters count. */
export interface VncPasswords {
  readonly control: string;
  /** Of those who only watch. */
  readonly view: string | undefined;
}

export interface VncOptions {
  readonly kind: 'vnc';
  readonly address: Address;
  readonly display: number;
  /** Whatever password somebody knows. */
  readonly viewOnly: boolean;
  readonly passwords: VncPasswords | undefined;
  readonly tls: { readonly certificate: string; readonly key: string } | undefined;
}

export interface WebOptions {
  readonly kind: 'web';
  readonly address: Address;
  /** What links have to contain; undefined: nothing is asked. */
  readonly tokens: { readonly control: string; readonly view: string } | undefined;
  readonly tls: { readonly certificate: string; readonly key: string } | undefined;
}

export type ListenOptions = VncOptions | WebOptions;

export interface ViewerCounter {
  connected: number;
  updates: number;
  sentBytes: number;
  /** Viewers that were turned away, or did what no viewer does. */
  refused: number;
}

/** By kind of viewer. */
export type ViewerCounters = Readonly<Record<'vnc' | 'web', ViewerCounter>>;

/** Requests that are answered. */
export interface Calls {
  capture: { display: number; options: CaptureOptions };
  /** The hash of the pixels alone. */
  hash: { display: number; options: PartOptions };
  listen: ListenOptions;
  follow: { display: number; on: boolean };
  counters: Record<string, never>;
}

export interface Answers {
  capture: Capture;
  hash: PixelsHash;
  /** The address with the port that was found. */
  listen: Address;
  follow: undefined;
  counters: ViewerCounters;
}

/** What is different on a display, as far as somebody asked for it. */
export interface Change {
  readonly display: number;
  /** Grows with every change. */
  readonly version: number;
  readonly width: number;
  readonly height: number;
  /** Empty when only the cursor is different. */
  readonly rects: readonly Rect[];
  /** Where or what the cursor is, if that is different. */
  readonly cursor?: CursorState;
}

export type ToViewing =
  | { readonly type: 'display'; readonly news: DisplayNews }
  | { readonly type: 'damage' }
  | { readonly type: 'summaries'; readonly summaries: readonly DisplaySummary[] }
  | { readonly type: 'input'; readonly news: InputNews }
  | { readonly type: 'inputTaken'; readonly client: number }
  | {
      [K in keyof Calls]: {
        readonly type: 'call';
        readonly id: number;
        readonly call: K;
        readonly with: Calls[K];
      };
    }[keyof Calls]
  | { readonly type: 'close' };

export type FromViewing =
  | { readonly type: 'watch'; readonly display: number; readonly on: boolean }
  | { readonly type: 'taken'; readonly display: number }
  /** The device could not copy what was flushed meanwhile, and can now. */
  | { readonly type: 'looked'; readonly display: number }
  | { readonly type: 'summarize' }
  | { readonly type: 'answer'; readonly id: number; readonly value: unknown }
  | {
      readonly type: 'refusal';
      readonly id: number;
      readonly code: ViewingErrorCode;
      readonly message: string;
    }
  | { readonly type: 'changed'; readonly change: Change }
  | { readonly type: 'resize'; readonly display: number; readonly width: number; readonly height: number }
  | { readonly type: 'inputNewsTaken' }
  | { readonly type: 'inputOpen'; readonly client: number; readonly name: string }
  | { readonly type: 'input'; readonly client: number; readonly events: readonly InputEvent[] }
  | { readonly type: 'inputClose'; readonly client: number }
  | {
      readonly type: 'log';
      readonly level: keyof Log;
      readonly fields: Record<string, unknown>;
      readonly message: string;
    }
  | { readonly type: 'closed' };

/** Either end of what the two threads talk over: a worker, or a port of a channel. */
export interface Port<In, Out> {
  postMessage(message: Out, transfer?: readonly ArrayBuffer[]): void;
  on(event: 'message', listener: (message: In) => void): unknown;
}
