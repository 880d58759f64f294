#include "blobs.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "context.h"
#include "picture.h"

#define CONTEXT_ID 1u
#define RING_IDS 3u

/* --- set-up --- */

struct blobs blobs_make(struct driver *driver, struct ram *ram, pid_t device) {
  struct blobs blobs = {.driver = driver, .device = device};
  if (driver->window.region == 0) return blobs;
  blobs.window = vfio_user_map_region(&driver->connection, driver->window.region);
  if (blobs.window.length < (uint64_t)BLOB_PLACES * BLOB_DISTANCE) fail("the window is too small");
  struct context context = context_make(driver, ram, CONTEXT_ID, RING_IDS, CROSS_DOMAIN_CHANNEL_NONE);
  struct cross_domain_image_requirements image = context_picture(&context);
  for (uint32_t i = 0; i < BLOBS; i++) context_make_blob(&context, FIRST_BLOB_ID + i, &image);
  return blobs;
}

/* --- commands --- */

static uint64_t place_of(uint32_t index) {
  return (uint64_t)index * BLOB_DISTANCE;
}

static void add_map(struct driver *driver, uint32_t index, uint64_t offset) {
  struct virtio_gpu_resource_map_blob map = {
      .hdr.type = VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB,
      .resource_id = FIRST_BLOB_ID + index,
      .offset = offset,
  };
  driver_add(driver, &map, sizeof map);
}

static void add_unmap(struct driver *driver, uint32_t index) {
  struct virtio_gpu_resource_unmap_blob unmap = {
      .hdr.type = VIRTIO_GPU_CMD_RESOURCE_UNMAP_BLOB,
      .resource_id = FIRST_BLOB_ID + index,
  };
  driver_add(driver, &unmap, sizeof unmap);
}

static void check_zeros(const struct blobs *blobs, uint64_t offset, uint64_t length) {
  static const uint8_t zeros[PAGE_BYTES];
  uint8_t page[PAGE_BYTES];
  for (uint64_t at = offset; at < offset + length; at += sizeof page) {
    /* Not through the mapping: to read a hole there fills it. */
    if (pread(blobs->window.fd, page, sizeof page, (off_t)at) != sizeof page) fail_errno("pread");
    if (memcmp(page, zeros, sizeof page) != 0) fail("bytes of a blob are left at 0x%llx", (unsigned long long)at);
  }
}

/* --- measurements --- */

struct figures {
  struct samples pairs, maps, writes, unmaps;
};

static uint64_t run_batch(struct driver *driver, uint64_t start) {
  driver_kick(driver);
  driver_finish(driver);
  return now_ns() - start;
}

static void run_untouched(const struct blobs *blobs, uint32_t batch, struct figures *figures) {
  struct driver *driver = blobs->driver;
  uint64_t start = now_ns();
  queue_enable_interrupt(&driver->control);
  for (uint32_t i = 0; i < batch; i++) {
    add_map(driver, i, place_of(BLOBS + i));
    add_unmap(driver, i);
  }
  samples_add(&figures->pairs, run_batch(driver, start));
}

static void run_written(const struct blobs *blobs, uint32_t batch, struct figures *figures) {
  static uint8_t colour;
  struct driver *driver = blobs->driver;
  uint64_t start = now_ns();
  queue_enable_interrupt(&driver->control);
  for (uint32_t i = 0; i < batch; i++) add_map(driver, i, place_of(i));
  samples_add(&figures->maps, run_batch(driver, start));
  for (uint32_t i = 0; i < batch; i++) {
    start = now_ns();
    memset(blobs->window.bytes + place_of(i), ++colour | 1, PICTURE_BYTES);
    samples_add(&figures->writes, now_ns() - start);
  }
  start = now_ns();
  queue_enable_interrupt(&driver->control);
  for (uint32_t i = 0; i < batch; i++) add_unmap(driver, i);
  samples_add(&figures->unmaps, run_batch(driver, start));
  for (uint32_t i = 0; i < batch; i++)
    check_zeros(blobs, place_of(i) + colour % PICTURE_PAGES * PAGE_BYTES, PAGE_BYTES);
}

typedef void run_function(const struct blobs *blobs, uint32_t batch, struct figures *figures);

static void measure(const struct blobs *blobs, run_function *run, uint32_t batch, uint32_t count) {
  if (batch < 1 || batch > BLOBS) fail("batch of %u blobs", batch);
  struct figures figures;
  struct samples *all[] = {&figures.pairs, &figures.maps, &figures.unmaps, &figures.writes};
  const char *const names[] = {"pair", "map", "unmap", "write"};
  const size_t kinds = sizeof all / sizeof all[0];
  for (size_t i = 0; i < kinds; i++) samples_begin(all[i], (size_t)(count + 1) * batch);
  /* The first one finds a window whose memory has been given back. */
  run(blobs, batch, &figures);
  for (size_t i = 0; i < kinds; i++) all[i]->count = 0;
  uint64_t main_begin = idle_thread_ns(blobs->device);
  uint64_t all_begin = all_threads_ns(blobs->device);
  for (uint32_t i = 0; i < count; i++) run(blobs, batch, &figures);
  double pairs = (double)batch * count;
  double main_used = (double)(idle_thread_ns(blobs->device) - main_begin) / pairs;
  double all_used = (double)(all_threads_ns(blobs->device) - all_begin) / pairs;
  for (uint32_t i = 0; i < batch; i++) check_zeros(blobs, place_of(i), PICTURE_BYTES);

  printf("{\"mainThread\":%.1f,\"allThreads\":%.1f", main_used, all_used);
  for (size_t i = 0; i < kinds; i++) {
    if (all[i]->count > 0) {
      putchar(',');
      samples_print(names[i], all[i]);
    }
    samples_end(all[i]);
  }
  putchar('}');
}

bool blobs_obey(struct blobs *blobs, const struct order *order) {
  if (!order_is(order, "pairs")) return false;
  if (blobs->window.bytes == NULL) fail("the device has no window");
  run_function *run = strcmp(order_word(order, 1), "written") == 0 ? run_written : run_untouched;
  measure(blobs, run, order_number(order, 2), order_number(order, 3));
  order_answered();
  return true;
}
