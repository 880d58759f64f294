/*
 * Blobs of a context in the host-visible window, each as large as a picture of 1920x1080: mapped, written and
 * unmapped, as a guest does with buffers that it shares with the host.
 */
#ifndef BENCH_BLOBS_H
#define BENCH_BLOBS_H

#include <sys/types.h>

#include "driver.h"
#include "ram.h"

/* Resource ids of the blobs, and how many there are: as many pairs of commands as one batch may have. */
#define FIRST_BLOB_ID 16u
#define BLOBS 16u
/* Where they lie in the window: a place for each that is written, then one for each that is never touched. */
#define BLOB_DISTANCE (8u << 20)
#define BLOB_PLACES (2 * BLOBS)

struct blobs {
  struct driver *driver;
  /* The process whose work is measured. */
  pid_t device;
  /* No bytes where the device has none. */
  struct file_window window;
};

/* Makes a context of the cross-domain kind and its blobs, where the device has a window. */
struct blobs blobs_make(struct driver *driver, struct ram *ram, pid_t device);

/*
 * Carries out two orders more than drivers do:
 *
 *   pairs untouched BATCH COUNT    COUNT times: MAP_BLOB and UNMAP_BLOB of BATCH blobs, one doorbell
 *   pairs written BATCH COUNT      COUNT times: BATCH times MAP_BLOB, one doorbell; every byte written; BATCH
 *                                  times UNMAP_BLOB, one doorbell
 *
 * Tells nanoseconds: of each batch of commands until the interrupt after which all of them are done, of each
 * writing of a blob, and what the device's main thread and all its threads used of their CPUs for a pair. What
 * lies in the window behind must be zeros then. False for any other order.
 */
bool blobs_obey(struct blobs *blobs, const struct order *order);

#endif
