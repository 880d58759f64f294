/** Numbers of RFB 3.8 (RFC 6143) and of the extensions that common viewers speak (the community's rfbproto). */

export const PROTOCOL_VERSION = 'RFB 003.008\n';

export const SECURITY_NONE = 1;
export const SECURITY_VNC_AUTH = 2;
export const SECURITY_VENCRYPT = 19;
/** Subtypes of VeNCrypt: what follows inside of TLS with a certificate. */
export const VENCRYPT_X509_NONE = 260;
export const VENCRYPT_X509_VNC = 261;

/** Client to server. */
export const SET_PIXEL_FORMAT = 0;
export const SET_ENCODINGS = 2;
export const FRAMEBUFFER_UPDATE_REQUEST = 3;
export const KEY_EVENT = 4;
export const POINTER_EVENT = 5;
export const CLIENT_CUT_TEXT = 6;
export const ENABLE_CONTINUOUS_UPDATES = 150;
export const CLIENT_FENCE = 248;
export const SET_DESKTOP_SIZE = 251;
export const QEMU_CLIENT_MESSAGE = 255;
export const QEMU_EXTENDED_KEY_EVENT = 0;
export const QEMU_AUDIO = 1;
export const QEMU_AUDIO_SET_FORMAT = 2;

/** Server to client. */
export const FRAMEBUFFER_UPDATE = 0;
/** A number of rectangles that means: until LastRect. */
export const UNTIL_LAST_RECT = 0xffff;
export const END_OF_CONTINUOUS_UPDATES = 150;
export const SERVER_FENCE = 248;

export const ENCODING_RAW = 0;
export const ENCODING_COPY_RECT = 1;
export const ENCODING_TIGHT = 7;
export const ENCODING_ZRLE = 16;
export const ENCODING_JPEG_QUALITY_0 = -32;
export const ENCODING_JPEG_QUALITY_9 = -23;
export const ENCODING_DESKTOP_SIZE = -223;
export const ENCODING_LAST_RECT = -224;
export const ENCODING_CURSOR = -239;
export const ENCODING_COMPRESS_LEVEL_0 = -256;
export const ENCODING_COMPRESS_LEVEL_9 = -247;
export const ENCODING_QEMU_POINTER_MOTION_CHANGE = -257;
export const ENCODING_QEMU_EXTENDED_KEY_EVENT = -258;
export const ENCODING_QEMU_LED_STATE = -261;
export const ENCODING_DESKTOP_NAME = -307;
export const ENCODING_EXTENDED_DESKTOP_SIZE = -308;
export const ENCODING_FENCE = -312;
export const ENCODING_CONTINUOUS_UPDATES = -313;
export const ENCODING_CURSOR_WITH_ALPHA = -314;
export const ENCODING_EXTENDED_MOUSE_BUTTONS = -316;

/** A viewer that names one of these is told that it is understood. */
export const ACKNOWLEDGED_ENCODINGS = [
  ENCODING_QEMU_EXTENDED_KEY_EVENT,
  ENCODING_QEMU_POINTER_MOTION_CHANGE,
  ENCODING_EXTENDED_MOUSE_BUTTONS,
  ENCODING_DESKTOP_NAME,
] as const;

/** Of these it matters when they are named for the first time. */
export const ANNOUNCED_ENCODINGS = [
  ...ACKNOWLEDGED_ENCODINGS,
  ENCODING_CONTINUOUS_UPDATES,
  ENCODING_FENCE,
  ENCODING_EXTENDED_DESKTOP_SIZE,
] as const;

/** Behind the header of an ExtendedDesktopSize rectangle: how many screens, and one of them. */
export const ONE_SCREEN_BYTES = 20;

/** Who changed the size of the desktop, and how that went. */
export const DESKTOP_SIZE_BY_SERVER = 0;
export const DESKTOP_SIZE_BY_THIS_CLIENT = 1;
export const DESKTOP_SIZE_PROHIBITED = 1;
export const DESKTOP_SIZE_INVALID_LAYOUT = 3;
export const DESKTOP_SIZE_FORWARDED = 4;

export const FENCE_BLOCK_BEFORE = 1;
export const FENCE_BLOCK_AFTER = 2;
export const FENCE_REQUEST = 0x8000_0000;
export const MAX_FENCE_BYTES = 64;

export const LED_SCROLL_LOCK = 1;
export const LED_NUM_LOCK = 2;
export const LED_CAPS_LOCK = 4;
