/** Where VNC viewers connect: a Unix socket, or TCP. */
import { readFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { createSecureContext, type SecureContext } from 'node:tls';
import { RateLimitedLog } from '../../log.ts';
import { listenOn } from '../../sockets.ts';
import type { VncOptions } from '../viewing/messages.ts';
import type { Listener, Stage } from '../viewing/stage.ts';
import { VncSession } from './session.ts';
import { PasswordGate } from './vnc-auth.ts';

/** More are refused: each may cost the memory of one update. */
const MAX_VIEWERS = 64;

/** Listens when it resolves. @throws when the address cannot be had or the certificate is none */
export async function listenVnc(stage: Stage, options: VncOptions): Promise<Listener> {
  const tls = options.tls && readCertificate(options.tls);
  const log = new RateLimitedLog(stage.log);
  const sessions = new Set<VncSession>();
  const gate = new PasswordGate();
  const server = createServer((socket: Socket) => {
    if (sessions.size >= MAX_VIEWERS) {
      log.write('warn', 'viewers', { most: MAX_VIEWERS }, 'too many viewers: one was turned away');
      socket.destroy();
      return;
    }
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 30_000);
    const viewer = socket.remoteAddress ?? 'local';
    const session = new VncSession(socket, stage, {
      display: options.display,
      viewOnly: options.viewOnly,
      kind: 'vnc',
      passwords: options.passwords,
      gate,
      tls,
      onEnd: (reason) => {
        sessions.delete(session);
        log.write('info', 'viewer left', { viewer, reason }, 'viewer left');
      },
    });
    sessions.add(session);
    log.write('info', 'viewer', { viewer, display: options.display }, 'viewer connected');
  });
  const listening = await listenOn(server, options.address);
  return {
    address: listening.address,
    async close() {
      for (const session of sessions) session.close('the server is leaving');
      await listening.close();
    },
  };
}

function readCertificate({ certificate, key }: { certificate: string; key: string }): SecureContext {
  // TigerVNC 1.12, of Debian 12, reads no further after a handshake of TLS 1.3.
  return createSecureContext({
    cert: readFileSync(certificate),
    key: readFileSync(key),
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.2',
  });
}
