/*
 * Named tests and what is said about them. One line each on the console:
 *
 *   BARE PASS name            BARE PASS name: detail
 *   BARE FAIL name: reason    the first broken expectation; later ones of that test are not printed
 *   BARE SKIP name: reason    not applicable here
 *   BARE NOTE name: remark    any number, before the verdict
 */
#ifndef BARE_REPORT_H
#define BARE_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#define PRINTF(format_at, first) __attribute__((format(printf, format_at, first)))

void test_begin(const char *name);
void test_end(void);

/* What the specification demands. Returns `holds`. */
bool expect(bool holds, const char *format, ...) PRINTF(2, 3);
bool expect_equal(uint32_t actual, uint32_t expected, const char *what);

/*
 * What the specification leaves open and our device decides (reference/virtio-gpu.md, "this device" or
 * "Choose"). Another device may differ: with `device=other` on the command line a difference is a NOTE.
 */
bool expect_choice(bool holds, const char *format, ...) PRINTF(2, 3);
bool expect_choice_equal(uint32_t actual, uint32_t expected, const char *what);

void note(const char *format, ...) PRINTF(1, 2);
void skip(const char *format, ...) PRINTF(1, 2);

/* Prints the verdict with a detail when the test has passed. The last call of a test. */
void pass_with(const char *format, ...) PRINTF(1, 2);

/* Tests that have failed so far. */
uint32_t report_failures(void);

/* Prints the last line, then ends the VM; waits instead when the command line says `wait`. */
_Noreturn void report_finish(void);

#endif
