/* Port I/O and the one barrier that x86 needs. */
#ifndef BARE_PORTS_H
#define BARE_PORTS_H

#include <stdint.h>

static inline void out8(uint16_t port, uint8_t value) {
  __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void out16(uint16_t port, uint16_t value) {
  __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline void out32(uint16_t port, uint32_t value) {
  __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t in8(uint16_t port) {
  uint8_t value;
  __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

static inline uint16_t in16(uint16_t port) {
  uint16_t value;
  __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

static inline uint32_t in32(uint16_t port) {
  uint32_t value;
  __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

/* Orders an earlier store before a later load; everything else is ordered by x86 (and by this, for the
 * compiler). */
static inline void full_barrier(void) {
  __asm__ volatile("lock addl $0, (%%esp)" : : : "memory", "cc");
}

static inline void compiler_barrier(void) {
  __asm__ volatile("" : : : "memory");
}

#endif
