/*
 * client SOCKET SERVER-CPU
 *
 * Connects to a running server, brings the device up and shows a picture of 1920x1080. Then it prints `{}`
 * and does what it is told, an order a line (driver.h, frames.h).
 */
#include <stdio.h>

#include "device.h"
#include "frames.h"
#include "gpu.h"

static void attach_pages(struct driver *driver, struct ram *ram, const struct picture *picture) {
  size_t length =
      sizeof(struct virtio_gpu_resource_attach_backing) + PICTURE_PAGES * sizeof(struct virtio_gpu_mem_entry);
  struct virtio_gpu_resource_attach_backing *attach = ram_take(ram, length);
  attach->hdr.type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING;
  attach->resource_id = FRAME_RESOURCE_ID;
  attach->nr_entries = PICTURE_PAGES;
  for (size_t i = 0; i < PICTURE_PAGES; i++) {
    attach->entries[i] = (struct virtio_gpu_mem_entry){ram_address(ram, picture->pages[i]), PAGE_BYTES, 0};
  }
  driver_command_in_place(driver, attach, (uint32_t)length);
}

static void show_picture(struct driver *driver, struct ram *ram, const struct picture *picture) {
  struct virtio_gpu_resource_create_2d create = {
      .hdr.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_2D,
      .resource_id = FRAME_RESOURCE_ID,
      .format = VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM,
      .width = PICTURE_WIDTH,
      .height = PICTURE_HEIGHT,
  };
  driver_command(driver, &create, sizeof create);
  attach_pages(driver, ram, picture);
  struct virtio_gpu_set_scanout scanout = {
      .hdr.type = VIRTIO_GPU_CMD_SET_SCANOUT,
      .r = {.width = PICTURE_WIDTH, .height = PICTURE_HEIGHT},
      .resource_id = FRAME_RESOURCE_ID,
  };
  driver_command(driver, &scanout, sizeof scanout);
}

int main(int argc, char **argv) {
  if (argc != 3) fail("usage: client SOCKET SERVER-CPU");
  end_with_parent();
  struct ram ram = ram_make();
  struct picture picture = picture_make(&ram);
  struct copier copier = copier_start(&picture, cpu_number(argv[2]));
  struct driver driver = device_bring_up(argv[1], &ram);
  driver.resource_id = FRAME_RESOURCE_ID;
  show_picture(&driver, &ram, &picture);
  struct frames frames = {&driver, &picture, &copier};
  printf("{}");
  order_answered();

  for (struct order order; order_next(&order);) {
    if (!driver_obey(&driver, &order) && !frames_obey(&frames, &order)) fail("no order %s", order.words[0]);
  }
}
