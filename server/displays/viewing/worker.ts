/** The first file of the viewing thread's worker: it puts the thread and its listeners together. */
import { parentPort, workerData } from 'node:worker_threads';
import { scheduleInBackground } from '../../../native/index.ts';
import { openListener } from './listeners.ts';
import type { FromViewing, Port, ToViewing } from './messages.ts';
import { ViewingThread } from './thread.ts';

/** A third of the CPU that the device gets where both want it, and enough for viewers where guests want it too. */
const NICE_BY = 5;

try {
  scheduleInBackground(NICE_BY);
} catch {
  // A sandbox without that call: viewers then compete with the device.
}
new ViewingThread(
  parentPort as Port<ToViewing, FromViewing>,
  (workerData as { displays: number }).displays,
  openListener,
);
