/** The challenge of VNC authentication (RFC 6143, 7.2.2): DES, and 8 characters of a password. */
import { createCipheriv, timingSafeEqual } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

export const CHALLENGE_BYTES = 16;
const KEY_BYTES = 8;

/** What a viewer that knows the password answers. */
export function vncResponse(password: string, challenge: Uint8Array): Buffer {
  const key = Buffer.alloc(KEY_BYTES);
  key.write(password.slice(0, KEY_BYTES), 'latin1');
  // The bits of each byte go in the other direction than DES has them.
  const mirrored = key.map((byte) =>
    Number.parseInt(byte.toString(2).padStart(8, '0').split('').reverse().join(''), 2),
  );
  // Three times the same key is DES, which libraries do not offer by itself any more.
  const cipher = createCipheriv('des-ede3', Buffer.concat([mirrored, mirrored, mirrored]), null);
  cipher.setAutoPadding(false);
  return Buffer.concat([cipher.update(challenge), cipher.final()]);
}

/** Whether the answer is right, in the same time for every wrong one. */
export function isRightResponse(password: string, challenge: Uint8Array, response: Uint8Array): boolean {
  return timingSafeEqual(vncResponse(password, challenge), response);
}

/** What the next attempt waits after a wrong one. */
const DELAY_MS = 1000;

/** Lets viewers try their passwords one after the other, and after a wrong one only a second later. */
export class PasswordGate {
  #last: Promise<void> = Promise.resolve();
  #delayMs = 0;

  /** Resolves when an answer may be looked at. Who has left meanwhile is not waited for. */
  turn(hasLeft: () => boolean): Promise<void> {
    this.#last = this.#last.then(async () => {
      if (hasLeft()) return;
      const delayMs = this.#delayMs;
      this.#delayMs = 0;
      if (delayMs > 0) await sleep(delayMs, undefined, { ref: false });
    });
    return this.#last;
  }

  /** The answer was wrong. */
  wrong(): void {
    this.#delayMs = DELAY_MS;
  }
}
