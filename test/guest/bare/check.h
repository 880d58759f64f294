/* The tests, in the order in which main() runs them. */
#ifndef BARE_CHECK_H
#define BARE_CHECK_H

#include <stddef.h>

#include "gpu.h"
#include "report.h"

struct gpu_test {
  const char *name;
  void (*run)(struct gpu *gpu);
};

/* True when none failed. */
bool run_tests(struct gpu *gpu, const struct gpu_test *tests, size_t count);
#define RUN_TESTS(gpu, tests) run_tests(gpu, tests, sizeof(tests) / sizeof((tests)[0]))

static inline void expect_ok(uint32_t response, const char *command) {
  expect_equal(response, VIRTIO_GPU_RESP_OK_NODATA, command);
}

/* Configuration space and BARs; leaves decoding and bus mastering on. */
void check_pci(struct gpu *gpu);
/* Registers, negotiation, rings. Every test starts with a reset. */
void check_transport(struct gpu *gpu);
/* Commands and their answers on one bring-up. */
void check_commands(struct gpu *gpu);
/* Reset, then the picture and the cursor that stay on the screen. */
void check_picture(struct gpu *gpu);
/* The host-visible window of the gpu, if it has one. */
void check_window(struct gpu *gpu);
/* The same test on the first 64-bit prefetchable BAR of any device. */
void check_window_of(pci_function function);

#endif
