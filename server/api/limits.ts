/** What bounds requests. */

export const MAX_BODY_BYTES = 2 ** 18;
/** Characters (UTF-16 code units) that one request types. */
export const MAX_TEXT_LENGTH = 2 ** 14;
/** Chords and other steps of one request. */
export const MAX_KEY_STEPS = 1024;
export const MAX_CHORD_LENGTH = 64;
export const MAX_DELAY_MS = 1000;
export const MAX_PAUSE_MS = 10_000;
export const MAX_CLICKS = 10;
export const MAX_PATH_POINTS = 256;
/** Of what is dragged, swiped or held by a finger. */
export const MAX_DRAG_MS = 10_000;
export const MAX_NOTCHES = 100;
/** Requests that type, point or touch; one does, the others wait for their turn. */
export const MAX_INPUT_REQUESTS = 16;

/** Screenshots that are being taken. */
export const MAX_SCREENSHOTS = 16;
/** Requests that wait for a display. */
export const MAX_WAITS = 16;
export const MAX_QUIET_MS = 60_000;
export const MAX_WAIT_MS = 300_000;
/** Programs that read the changes of displays. */
export const MAX_CHANGE_READERS = 64;
export const MAX_CHANGE_INTERVAL_MS = 60_000;
/** An event with more rectangles has the one around them instead. */
export const MAX_CHANGE_RECTS = 64;
