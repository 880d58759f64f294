#include "fault.h"

#include <stdint.h>

#include "report.h"

#define EXCEPTION_COUNT 32
#define CODE_SELECTOR 0x08
#define INTERRUPT_GATE_32 0x8e00

struct interrupt_gate {
  uint16_t offset_low;
  uint16_t selector;
  uint16_t type;
  uint16_t offset_high;
};

/* As pushed by start.S: pushal, vector and error code, then what the CPU pushed. */
struct fault_frame {
  uint32_t edi, esi, ebp, esp, ebx, edx, ecx, eax;
  uint32_t vector, error_code;
  uint32_t eip, cs, eflags;
};

extern const uint32_t fault_stubs[EXCEPTION_COUNT];
extern const char paging_attempt[];

static struct interrupt_gate gates[EXCEPTION_COUNT];

void fault_init(void) {
  for (int vector = 0; vector < EXCEPTION_COUNT; vector++) {
    gates[vector] = (struct interrupt_gate){
        .offset_low = (uint16_t)fault_stubs[vector],
        .selector = CODE_SELECTOR,
        .type = INTERRUPT_GATE_32,
        .offset_high = (uint16_t)(fault_stubs[vector] >> 16),
    };
  }
  struct __attribute__((packed)) {
    uint16_t limit;
    uint32_t base;
  } pointer = {sizeof gates - 1, (uint32_t)gates};
  __asm__ volatile("lidt %0" : : "m"(pointer));
}

/* Called by start.S; returning makes paging_switch_on() return false. */
void fault_handle(const struct fault_frame *frame);

void fault_handle(const struct fault_frame *frame) {
  if (frame->eip == (uint32_t)paging_attempt) return;
  expect(false, "exception %u, error code 0x%x, at 0x%08x", frame->vector, frame->error_code, frame->eip);
  report_finish();
}
