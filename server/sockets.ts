/** Sockets that people and programs connect to: who may take a path, and who can connect. */
import { closeSync, statSync, unlinkSync } from 'node:fs';
import type { AddressInfo, ListenOptions, Server } from 'node:net';
import { connectUnix, listenUnix, SystemError } from '../native/index.ts';

const BACKLOG = 64;

/** A host and a port (0: any that is free), or the path of a Unix socket. */
export type Address = { readonly host: string; readonly port: number } | { readonly path: string };

export interface Listening {
  /** With the port that was found. */
  readonly address: Address;
  /** Stops listening, removes the socket, and resolves when the last connection has ended. */
  close(): Promise<void>;
}

/** Lets a server listen; resolves when it accepts. A Unix socket is never open to anybody but its owner. */
export async function listenOn(server: Server, address: Address): Promise<Listening> {
  if (!('path' in address)) {
    await listen(server, { ...address, backlog: BACKLOG });
    const { port } = server.address() as AddressInfo;
    return { address: { host: address.host, port }, close: () => stop(server) };
  }
  const { path } = address;
  removeStaleSocket(path);
  const fd = listenUnix(path, BACKLOG);
  const inode = inodeOf(path);
  await listen(server, { fd } as ListenOptions);
  return {
    address,
    close: async () => {
      // Somebody else may have replaced our socket by now; theirs stays.
      if (inodeOf(path) === inode) unlinkSync(path);
      await stop(server);
    },
  };
}

function listen(server: Server, options: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(options, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
}

const stop = (server: Server) => new Promise<void>((resolve) => server.close(() => resolve()));

const inodeOf = (path: string) => statSync(path, { bigint: true, throwIfNoEntry: false })?.ino;

/** Removes a socket nobody listens on. Throws an error that says what is in the way otherwise. */
export function removeStaleSocket(path: string): void {
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found) return;
  if (!found.isSocket()) throw new Error(`${path} exists and is not a socket`);
  try {
    closeSync(connectUnix(path));
  } catch (error) {
    if (!(error instanceof SystemError) || error.code !== 'ECONNREFUSED') throw error;
    unlinkSync(path);
    return;
  }
  throw new Error(`${path} is in use by a running server`);
}
