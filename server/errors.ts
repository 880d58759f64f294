/**
 * Three kinds of mistakes, three answers (see README.md of this folder):
 * the client's are a `ProtocolError`, the guest's are a response code or NEEDS_RESET and live in `gpu/` and `pci/`,
 * and ours are any other exception.
 */

export const EIO = 5;
export const EACCES = 13;
export const EEXIST = 17;
export const EINVAL = 22;
export const ENOSPC = 28;

/** The client asked for something it may not have. It is told `errno`, and the connection goes on. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
  /** A positive Linux error number. */
  readonly errno: number;

  constructor(errno: number, message: string) {
    super(message);
    this.errno = errno;
  }
}

/** The stream itself is beyond use: the connection ends, after one last error reply where `errno` is given. */
export class StreamError extends Error {
  override readonly name = 'StreamError';
  readonly errno: number | undefined;

  constructor(message: string, errno?: number) {
    super(message);
    this.errno = errno;
  }
}
