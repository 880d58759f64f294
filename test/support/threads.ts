/** How the kernel schedules the threads of a process. */
import { readdirSync, readFileSync } from 'node:fs';

export interface ScheduledThread {
  readonly id: number;
  /** As in `sched.h`. */
  readonly policy: number;
  readonly nice: number;
}

export const SCHED_OTHER = 0;
export const SCHED_BATCH = 3;

/** The first is the one that the process began with. */
export function threadsOf(pid: number): ScheduledThread[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((id) => {
    let stat: string;
    try {
      stat = readFileSync(`/proc/${pid}/task/${id}/stat`, 'utf8');
    } catch {
      return []; // It has ended.
    }
    // The second field is a name, and may contain anything.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const field = (number: number) => Number(fields[number - 3]);
    return [{ id: Number(id), policy: field(41), nice: field(19) }];
  });
}
