/** What noVNC writes to the console: this and worse. */
export function initLogging(level: 'debug' | 'info' | 'warn' | 'error' | 'none'): void;
