/** Which listener serves which kind of viewer. What is not asked for is not loaded. */
import type { ListenOptions } from './messages.ts';
import type { Listener, Listeners, Stage } from './stage.ts';

export const openListener: Listeners = async (stage: Stage, options: ListenOptions): Promise<Listener> => {
  switch (options.kind) {
    case 'vnc':
      return await (await import('../vnc/server.ts')).listenVnc(stage, options);
    case 'web':
      return await (await import('../web/server.ts')).listenWeb(stage, options);
    default:
      return options satisfies never;
  }
};
