/** `closed`: the server is leaving. `internal`: the mistake is ours. */
export type ViewingErrorCode = 'not_found' | 'bad_request' | 'closed' | 'internal';

/** Something that viewers asked for cannot be had; `code` is for programs. */
export class ViewingError extends Error {
  override readonly name = 'ViewingError';
  readonly code: ViewingErrorCode;

  constructor(code: ViewingErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
