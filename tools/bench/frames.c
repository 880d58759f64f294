#include "frames.h"

#include <stdio.h>
#include <string.h>

static const struct virtio_gpu_rect whole = {.width = PICTURE_WIDTH, .height = PICTURE_HEIGHT};

/* From the first store to the ring until the interrupt after which all commands are done. */
static uint64_t send_frame(const struct frames *frames) {
  struct driver *driver = frames->driver;
  struct virtio_gpu_transfer_to_host_2d transfer = {
      .hdr.type = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D,
      .r = whole,
      .resource_id = FRAME_RESOURCE_ID,
  };
  struct virtio_gpu_resource_flush flush = {
      .hdr.type = VIRTIO_GPU_CMD_RESOURCE_FLUSH,
      .r = whole,
      .resource_id = frames->is_blob ? FRAME_BLOB_ID : FRAME_RESOURCE_ID,
  };
  uint64_t start = now_ns();
  queue_enable_interrupt(&driver->control);
  if (!frames->is_blob) driver_add(driver, &transfer, sizeof transfer);
  driver_add(driver, &flush, sizeof flush);
  driver_kick(driver);
  driver_finish(driver);
  return now_ns() - start;
}

static void check_hash(const char *what, uint32_t hash, uint32_t expected) {
  if (hash != expected) fail("the %s copied another picture: 0x%x, expected 0x%x", what, hash, expected);
}

static void measure(struct frames *frames, bool is_written, uint32_t count) {
  static uint32_t painted;
  const struct picture *picture = frames->picture;
  struct copier *copier = frames->copier;
  struct samples sent, gathered, flat;
  samples_begin(&sent, count);
  samples_begin(&gathered, count);
  samples_begin(&flat, count);
  uint64_t used_before = idle_thread_ns(frames->device);
  for (uint32_t i = 0; i < count; i++) {
    painted += is_written;
    if (is_written) picture_paint_pages(picture, painted);
    else copier_look_at_pages(copier);
    samples_add(&sent, send_frame(frames));
    if (is_written) picture_paint_pages(picture, painted);
    else copier_look_at_pages(copier);
    samples_add(&gathered, copier_gather(copier));
    if (is_written) picture_paint_flat(picture, painted);
    else copier_look_at_flat(copier);
    samples_add(&flat, copier_copy_flat(copier));
  }
  double used = (double)(idle_thread_ns(frames->device) - used_before) / count;
  uint32_t hash = picture_hash(picture->flat);
  check_hash("gather loop", copier_gather_hash(copier), hash);
  check_hash("plain copy", copier_flat_hash(copier), hash);

  printf("{\"hash\":%u,\"mainThread\":%.1f,", hash, used);
  samples_print("frame", &sent);
  putchar(',');
  samples_print("gather", &gathered);
  putchar(',');
  samples_print("flat", &flat);
  putchar('}');
  samples_end(&sent);
  samples_end(&gathered);
  samples_end(&flat);
}

bool frames_obey(struct frames *frames, const struct order *order) {
  if (!order_is(order, "frames")) return false;
  measure(frames, strcmp(order_word(order, 1), "written") == 0, order_number(order, 2));
  order_answered();
  return true;
}
