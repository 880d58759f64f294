/*
 * client SOCKET SERVER-CPU [COMPOSITOR]
 *
 * Connects to a running server, brings the device up and shows a picture of 1920x1080. Then it prints `{}`
 * and does what it is told, an order a line (driver.h, frames.h, blobs.h, view.h; with the socket of a Wayland
 * compositor, to which the server leads too, also wayland.h). One more order:
 *
 *   show 2d|blob    what the display shows from now on, and `frames` and `commands` flush: a 2D resource, or a
 *                   guest blob of the same pages
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "blobs.h"
#include "device.h"
#include "frames.h"
#include "view.h"
#include "wayland.h"

static const struct virtio_gpu_rect whole = {.width = PICTURE_WIDTH, .height = PICTURE_HEIGHT};
/* What is cheap to flush in any case. */
static const struct virtio_gpu_rect corner = {.width = 64, .height = 64};

static void list_pages(struct virtio_gpu_mem_entry *entries, const struct ram *ram,
                       const struct picture *picture) {
  for (size_t i = 0; i < PICTURE_PAGES; i++) {
    entries[i] = (struct virtio_gpu_mem_entry){ram_address(ram, picture->pages[i]), PAGE_BYTES, 0};
  }
}

static void make_2d(struct driver *driver, struct ram *ram, const struct picture *picture) {
  struct virtio_gpu_resource_create_2d create = {
      .hdr.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_2D,
      .resource_id = FRAME_RESOURCE_ID,
      .format = VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM,
      .width = PICTURE_WIDTH,
      .height = PICTURE_HEIGHT,
  };
  driver_command(driver, &create, sizeof create);
  size_t length =
      sizeof(struct virtio_gpu_resource_attach_backing) + PICTURE_PAGES * sizeof(struct virtio_gpu_mem_entry);
  struct virtio_gpu_resource_attach_backing *attach = ram_take(ram, length);
  attach->hdr.type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING;
  attach->resource_id = FRAME_RESOURCE_ID;
  attach->nr_entries = PICTURE_PAGES;
  list_pages(attach->entries, ram, picture);
  driver_command_in_place(driver, attach, (uint32_t)length);
}

static void make_blob(struct driver *driver, struct ram *ram, const struct picture *picture) {
  size_t length =
      sizeof(struct virtio_gpu_resource_create_blob) + PICTURE_PAGES * sizeof(struct virtio_gpu_mem_entry);
  struct virtio_gpu_resource_create_blob *create = ram_take(ram, length);
  create->hdr.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB;
  create->resource_id = FRAME_BLOB_ID;
  create->blob_mem = VIRTIO_GPU_BLOB_MEM_GUEST;
  create->nr_entries = PICTURE_PAGES;
  create->size = PICTURE_BYTES;
  list_pages(create->entries, ram, picture);
  driver_command_in_place(driver, create, (uint32_t)length);
}

static void show_2d(struct frames *frames) {
  struct virtio_gpu_set_scanout scanout = {
      .hdr.type = VIRTIO_GPU_CMD_SET_SCANOUT,
      .r = whole,
      .resource_id = FRAME_RESOURCE_ID,
  };
  driver_command(frames->driver, &scanout, sizeof scanout);
  frames->is_blob = false;
  frames->driver->resource_id = FRAME_RESOURCE_ID;
  frames->driver->rect = corner;
}

static void show_blob(struct frames *frames) {
  struct virtio_gpu_set_scanout_blob scanout = {
      .hdr.type = VIRTIO_GPU_CMD_SET_SCANOUT_BLOB,
      .r = whole,
      .resource_id = FRAME_BLOB_ID,
      .width = PICTURE_WIDTH,
      .height = PICTURE_HEIGHT,
      .format = VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM,
      .strides = {PICTURE_WIDTH * BYTES_PER_PIXEL},
  };
  driver_command(frames->driver, &scanout, sizeof scanout);
  frames->is_blob = true;
  frames->driver->resource_id = FRAME_BLOB_ID;
  frames->driver->rect = whole;
}

static bool show_obey(struct frames *frames, const struct order *order) {
  if (!order_is(order, "show")) return false;
  if (strcmp(order_word(order, 1), "blob") == 0) show_blob(frames);
  else show_2d(frames);
  printf("{}");
  order_answered();
  return true;
}

/* Who listens at the other end. */
static pid_t server_pid(const struct connection *connection) {
  struct ucred peer;
  socklen_t length = sizeof peer;
  if (getsockopt(connection->socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) fail_errno("SO_PEERCRED");
  return peer.pid;
}

int main(int argc, char **argv) {
  if (argc != 3 && argc != 4) fail("usage: client SOCKET SERVER-CPU [COMPOSITOR]");
  end_with_parent();
  struct ram ram = ram_make();
  struct picture picture = picture_make(&ram);
  struct copier copier = copier_start(&picture, cpu_number(argv[2]));
  struct driver driver = device_bring_up(argv[1], &ram);
  pid_t server = server_pid(&driver.connection);
  struct frames frames = {&driver, &picture, &copier, server, false};
  make_2d(&driver, &ram, &picture);
  make_blob(&driver, &ram, &picture);
  show_2d(&frames);
  struct blobs blobs = blobs_make(&driver, &ram, server);
  struct view view = view_make(&driver, &picture, server);
  struct wayland wayland[2];
  if (argc == 4) {
    wayland[0] = wayland_over_device(&driver, &ram);
    wayland[1] = wayland_direct(argv[3]);
  }
  printf("{}");
  order_answered();

  for (struct order order; order_next(&order);) {
    bool is_done = driver_obey(&driver, &order) || frames_obey(&frames, &order) ||
                   show_obey(&frames, &order) || blobs_obey(&blobs, &order) || view_obey(&view, &order) ||
                   (argc == 4 && wayland_obey(wayland, &order));
    if (!is_done) fail("no order %s", order.words[0]);
  }
}
