#include "blobs.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "picture.h"

#define CONTEXT_ID 1u
#define QUERY_RING_ID 3u
#define CHANNEL_RING_ID 4u

/* --- set-up --- */

static void *make_ring(struct driver *driver, struct ram *ram, uint32_t resource_id) {
  void *page = ram_take(ram, PAGE_BYTES);
  struct {
    struct virtio_gpu_resource_create_blob create;
    struct virtio_gpu_mem_entry entry;
  } command = {
      .create = {
          .hdr.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB,
          .resource_id = resource_id,
          .blob_mem = VIRTIO_GPU_BLOB_MEM_GUEST,
          .blob_flags = VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE,
          .nr_entries = 1,
          .size = PAGE_BYTES,
      },
      .entry = {ram_address(ram, page), PAGE_BYTES, 0},
  };
  driver_command(driver, &command, sizeof command);
  struct virtio_gpu_ctx_resource attach = {
      .hdr = {.type = VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, .ctx_id = CONTEXT_ID},
      .resource_id = resource_id,
  };
  driver_command(driver, &attach, sizeof attach);
  return page;
}

/* What an image of 1920x1080 needs, told by a new context of the cross-domain kind. */
static struct cross_domain_image_requirements ask_context(struct driver *driver, struct ram *ram) {
  struct virtio_gpu_ctx_create create = {
      .hdr = {.type = VIRTIO_GPU_CMD_CTX_CREATE, .ctx_id = CONTEXT_ID},
      .nlen = sizeof "bench" - 1,
      .context_init = VIRTIO_GPU_CAPSET_CROSS_DOMAIN,
      .debug_name = "bench",
  };
  driver_command(driver, &create, sizeof create);
  const void *answer = make_ring(driver, ram, QUERY_RING_ID);
  make_ring(driver, ram, CHANNEL_RING_ID);
  struct {
    struct virtio_gpu_cmd_submit submit;
    struct cross_domain_init init;
    struct cross_domain_get_image_requirements query;
  } command = {
      .submit = {
          .hdr = {.type = VIRTIO_GPU_CMD_SUBMIT_3D, .ctx_id = CONTEXT_ID},
          .size = sizeof command.init + sizeof command.query,
      },
      .init = {
          .hdr = {.cmd = CROSS_DOMAIN_CMD_INIT, .cmd_size = sizeof command.init},
          .query_ring_id = QUERY_RING_ID,
          .channel_ring_id = CHANNEL_RING_ID,
          .channel_type = CROSS_DOMAIN_CHANNEL_NONE,
      },
      .query = {
          .hdr = {.cmd = CROSS_DOMAIN_CMD_GET_IMAGE_REQUIREMENTS, .cmd_size = sizeof command.query},
          .width = PICTURE_WIDTH,
          .height = PICTURE_HEIGHT,
          .drm_format = DRM_FORMAT_XRGB8888,
      },
  };
  driver_command(driver, &command, sizeof command);
  struct cross_domain_image_requirements image;
  memcpy(&image, answer, sizeof image);
  if (image.size != PICTURE_BYTES || image.strides[0] != PICTURE_WIDTH * BYTES_PER_PIXEL)
    fail("an image of %ux%u needs %llu bytes", PICTURE_WIDTH, PICTURE_HEIGHT, (unsigned long long)image.size);
  return image;
}

struct blobs blobs_make(struct driver *driver, struct ram *ram, pid_t device) {
  struct blobs blobs = {.driver = driver, .device = device};
  if (driver->window.region == 0) return blobs;
  blobs.window = vfio_user_map_region(&driver->connection, driver->window.region);
  if (blobs.window.length < (uint64_t)BLOB_PLACES * BLOB_DISTANCE) fail("the window is too small");
  struct cross_domain_image_requirements image = ask_context(driver, ram);
  for (uint32_t i = 0; i < BLOBS; i++) {
    struct virtio_gpu_resource_create_blob create = {
        .hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, .ctx_id = CONTEXT_ID},
        .resource_id = FIRST_BLOB_ID + i,
        .blob_mem = VIRTIO_GPU_BLOB_MEM_HOST3D,
        .blob_flags = VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE,
        .blob_id = image.blob_id,
        .size = image.size,
    };
    driver_command(driver, &create, sizeof create);
  }
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
