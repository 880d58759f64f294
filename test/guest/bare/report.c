#include "report.h"

#include <stdarg.h>
#include <stddef.h>

#include "ports.h"
#include "pvh.h"
#include "serial.h"

/* `-device isa-debug-exit,iobase=0xf4`: QEMU leaves with status (value << 1) | 1. */
#define DEBUG_EXIT_PORT 0xf4
#define DEBUG_EXIT_PASSED 0x10 /* status 33 */
#define DEBUG_EXIT_FAILED 0x11 /* status 35 */
/* q35: PM1a_CNT where SeaBIOS has put it; SLP_EN with SLP_TYP 0 is soft-off. */
#define Q35_PM1A_CONTROL_PORT 0x604
#define Q35_PM1A_SOFT_OFF 0x2000
/* cloud-hypervisor: ACPI sleep control; S5 and SLP_EN. On q35 the same write clears two status bits. */
#define CLOUD_HYPERVISOR_SLEEP_PORT 0x600
#define CLOUD_HYPERVISOR_SOFT_OFF 0x34

enum verdict { OPEN, FAILED, SKIPPED, PASSED };

static struct {
  const char *name;
  enum verdict verdict;
} test;
static uint32_t passed, failed, skipped;

static void print_line(const char *tag, const char *format, va_list arguments) {
  serial_print("BARE %s %s: ", tag, test.name);
  serial_vprint(format, arguments);
  serial_print("\n");
}

static void fail(const char *format, va_list arguments) {
  if (test.verdict != OPEN) return;
  test.verdict = FAILED;
  failed++;
  print_line("FAIL", format, arguments);
}

static void pass(void) {
  test.verdict = PASSED;
  passed++;
}

void test_begin(const char *name) {
  test.name = name;
  test.verdict = OPEN;
}

void test_end(void) {
  if (test.verdict != OPEN) return;
  pass();
  serial_print("BARE PASS %s\n", test.name);
}

void pass_with(const char *format, ...) {
  if (test.verdict != OPEN) return;
  pass();
  va_list arguments;
  va_start(arguments, format);
  print_line("PASS", format, arguments);
  va_end(arguments);
}

bool expect(bool holds, const char *format, ...) {
  if (holds) return true;
  va_list arguments;
  va_start(arguments, format);
  fail(format, arguments);
  va_end(arguments);
  return false;
}

bool expect_equal(uint32_t actual, uint32_t expected, const char *what) {
  return expect(actual == expected, "%s is 0x%x, expected 0x%x", what, actual, expected);
}

bool expect_choice(bool holds, const char *format, ...) {
  if (holds) return true;
  va_list arguments;
  va_start(arguments, format);
  if (pvh_option("device=other")) print_line("NOTE", format, arguments);
  else fail(format, arguments);
  va_end(arguments);
  return false;
}

bool expect_choice_equal(uint32_t actual, uint32_t expected, const char *what) {
  return expect_choice(actual == expected, "%s is 0x%x, expected 0x%x", what, actual, expected);
}

void note(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  print_line("NOTE", format, arguments);
  va_end(arguments);
}

void skip(const char *format, ...) {
  if (test.verdict != OPEN) return;
  test.verdict = SKIPPED;
  skipped++;
  va_list arguments;
  va_start(arguments, format);
  print_line("SKIP", format, arguments);
  va_end(arguments);
}

uint32_t report_failures(void) {
  return failed;
}

_Noreturn void report_finish(void) {
  serial_print("BARE DONE passed=%u failed=%u skipped=%u\n", passed, failed, skipped);
  if (!pvh_option("wait")) {
    out8(DEBUG_EXIT_PORT, failed == 0 ? DEBUG_EXIT_PASSED : DEBUG_EXIT_FAILED);
    out16(Q35_PM1A_CONTROL_PORT, Q35_PM1A_SOFT_OFF);
    out8(CLOUD_HYPERVISOR_SLEEP_PORT, CLOUD_HYPERVISOR_SOFT_OFF);
  }
  for (;;) __asm__ volatile("cli; hlt");
}
