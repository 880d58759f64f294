/* CPU exceptions: reported on the console instead of a silent triple fault. */
#ifndef BARE_FAULT_H
#define BARE_FAULT_H

void fault_init(void);

#endif
