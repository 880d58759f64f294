/** The first file of the viewing thread's worker. */
import { parentPort, workerData } from 'node:worker_threads';
import type { FromViewing, Port, ToViewing } from './messages.ts';
import { ViewingThread } from './thread.ts';

new ViewingThread(parentPort as Port<ToViewing, FromViewing>, (workerData as { displays: number }).displays);
