/** How a viewer gets in: versions, ways to log in, encryption (RFC 6143, 7.1; VeNCrypt from rfbproto). */
import { randomBytes } from 'node:crypto';
import type { SecureContext } from 'node:tls';
import type { VncPasswords } from '../viewing/messages.ts';
import * as rfb from './protocol.ts';
import { Refusal } from './refusal.ts';
import { StreamEnded, type ViewerStream } from './viewer-stream.ts';
import { CHALLENGE_BYTES, isRightResponse, type PasswordGate } from './vnc-auth.ts';

export interface Security {
  /** Undefined: viewers need not know anything. */
  readonly passwords: VncPasswords | undefined;
  /** Slows guessing down. */
  readonly gate?: PasswordGate;
  /** With a certificate, viewers must encrypt. */
  readonly tls: SecureContext | undefined;
}

/**
 * Resolves when the viewer is in, with what it may do.
 * @throws Refusal for one that may not come in, or speaks something else
 */
export async function logIn(stream: ViewerStream, security: Security): Promise<'control' | 'view'> {
  stream.write(Buffer.from(rfb.PROTOCOL_VERSION));
  const said = (await stream.read(rfb.PROTOCOL_VERSION.length)).toString('latin1');
  const match = /^RFB 003\.(\d{3})\n$/.exec(said);
  if (!match) throw new Refusal('the viewer speaks no RFB 3');
  const minor = Number(match[1]);
  // What is between 3.3 and 3.7 never was, and is to be taken for 3.3.
  const version = minor >= 8 ? 8 : minor === 7 ? 7 : 3;
  const { passwords, gate, tls } = security;
  // Where there is encryption or a password, there is no way around it.
  const plainType = passwords ? rfb.SECURITY_VNC_AUTH : rfb.SECURITY_NONE;
  const type = tls ? rfb.SECURITY_VENCRYPT : plainType;
  if (version === 3) {
    if (tls) throw new Refusal('the viewer is too old for TLS');
    const chosen = Buffer.alloc(4);
    chosen.writeUInt32BE(type);
    stream.write(chosen);
  } else {
    stream.write(Buffer.from([1, type]));
    if ((await stream.u8()) !== type)
      throw new Refusal('the viewer chose a way to log in that it was not offered');
  }
  if (tls) await encrypt(stream, tls, passwords !== undefined);
  if (passwords) return await authenticate(stream, passwords, gate, version);
  if (version === 8) stream.write(Buffer.alloc(4));
  return 'control';
}

/** VeNCrypt 0.2 with a certificate. */
async function encrypt(stream: ViewerStream, tls: SecureContext, hasPassword: boolean): Promise<void> {
  stream.write(Buffer.from([0, 2]));
  const version = await stream.read(2);
  if (version[0] !== 0 || version[1] !== 2) {
    stream.write(Buffer.from([255]));
    throw new Refusal('the viewer speaks another VeNCrypt');
  }
  const subtype = hasPassword ? rfb.VENCRYPT_X509_VNC : rfb.VENCRYPT_X509_NONE;
  const offer = Buffer.alloc(6);
  offer[1] = 1;
  offer.writeUInt32BE(subtype, 2);
  stream.write(offer);
  if ((await stream.u32()) !== subtype) {
    stream.write(Buffer.from([0]));
    throw new Refusal('the viewer chose a way to encrypt that it was not offered');
  }
  stream.write(Buffer.from([1]));
  stream.encrypt(tls);
}

async function authenticate(
  stream: ViewerStream,
  passwords: VncPasswords,
  gate: PasswordGate | undefined,
  version: number,
): Promise<'control' | 'view'> {
  const challenge = randomBytes(CHALLENGE_BYTES);
  stream.write(challenge);
  const response = await stream.read(CHALLENGE_BYTES);
  await gate?.turn(() => stream.hasEnded);
  if (stream.hasEnded) throw new StreamEnded('the viewer left');
  const result = Buffer.alloc(4);
  const mayControl = isRightResponse(passwords.control, challenge, response);
  const mayView = passwords.view !== undefined && isRightResponse(passwords.view, challenge, response);
  if (mayControl || mayView) {
    stream.write(result);
    return mayControl ? 'control' : 'view';
  }
  gate?.wrong();
  result.writeUInt32BE(1);
  const reason = Buffer.from('wrong password');
  const reasonLength = Buffer.alloc(4);
  reasonLength.writeUInt32BE(reason.length);
  stream.write(...(version === 8 ? [result, reasonLength, reason] : [result]));
  throw new Refusal('wrong password');
}
