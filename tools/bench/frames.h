/*
 * Frames of 1920x1080: what a guest sends after it has drawn, the C loop over the same pages, and one plain
 * copy of as many bytes.
 */
#ifndef BENCH_FRAMES_H
#define BENCH_FRAMES_H

#include "driver.h"
#include "picture.h"

/* The picture as a 2D resource, and as a blob of the same pages. */
#define FRAME_RESOURCE_ID 1u
#define FRAME_BLOB_ID 2u

struct frames {
  struct driver *driver;
  const struct picture *picture;
  struct copier *copier;
  /* The process whose work is measured. */
  pid_t device;
  /* The picture is a blob: there is nothing to transfer. */
  bool is_blob;
};

/*
 * Carries out one order more than drivers do:
 *
 *   frames written|unmodified COUNT    TRANSFER_TO_HOST_2D and RESOURCE_FLUSH of the whole picture in one
 *                                      batch, or the flush alone of a blob; and beside each the two
 *                                      copies in C
 *
 * `written`: the driver writes every byte before each of the three, on its own CPU, as a guest that draws
 * does. `unmodified`: the picture is only read before each of the three, on the server's CPU. The answer has
 * the hash of the picture, and the time that the device's main thread was on a CPU for a frame. False for any
 * other order.
 */
bool frames_obey(struct frames *frames, const struct order *order);

#endif
