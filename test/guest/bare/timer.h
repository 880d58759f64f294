/* Time limits, from the ACPI power-management timer: port 0x608 on q35 and on cloud-hypervisor alike. */
#ifndef BARE_TIMER_H
#define BARE_TIMER_H

#include <stdbool.h>
#include <stdint.h>

struct time_limit {
  uint32_t last;
  uint32_t left;
};

struct time_limit time_limit_ms(uint32_t milliseconds);
/* To be asked at least every four seconds: the timer has 24 bits. */
bool time_is_up(struct time_limit *limit);

#endif
