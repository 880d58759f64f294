/** What bounds the input devices. */

/** Events that wait for buffers of the guest, per device. A report that does not fit is refused. */
export const MAX_QUEUED_EVENTS = 1024;
/** From so many waiting events on, senders are asked to wait; they may go on at half of it. */
export const HIGH_WATER_EVENTS = 256;
/** A guest that takes nothing for so long, while senders wait, is given up until it takes something. */
export const STALL_MS = 1000;
/** How often a guest that is asked for a sign of life is looked at. */
export const ANSWER_POLL_MS = 2;
/** Contacts of the touch device, of all senders together. */
export const MAX_CONTACTS = 10;
/** Most that one report scrolls, in 120ths of a notch. */
export const MAX_WHEEL = 120 * 100;
