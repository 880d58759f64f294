#include "timer.h"

#include "ports.h"

#define PM_TIMER_PORT 0x608
#define PM_TIMER_TICKS_PER_MS 3580u
#define PM_TIMER_MASK 0xffffffu

static uint32_t now(void) {
  return in32(PM_TIMER_PORT) & PM_TIMER_MASK;
}

struct time_limit time_limit_ms(uint32_t milliseconds) {
  return (struct time_limit){.last = now(), .left = milliseconds * PM_TIMER_TICKS_PER_MS};
}

bool time_is_up(struct time_limit *limit) {
  uint32_t current = now();
  uint32_t passed = (current - limit->last) & PM_TIMER_MASK;
  limit->last = current;
  limit->left = passed < limit->left ? limit->left - passed : 0;
  return limit->left == 0;
}
