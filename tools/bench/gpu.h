/* The virtio-gpu commands that the benchmark sends (virtio 1.3, 5.7.6). */
#ifndef BENCH_GPU_H
#define BENCH_GPU_H

#include <stdint.h>

enum virtio_gpu_ctrl_type {
  VIRTIO_GPU_CMD_RESOURCE_CREATE_2D = 0x0101,
  VIRTIO_GPU_CMD_SET_SCANOUT = 0x0103,
  VIRTIO_GPU_CMD_RESOURCE_FLUSH = 0x0104,
  VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D = 0x0105,
  VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING = 0x0106,
  VIRTIO_GPU_RESP_OK_NODATA = 0x1100,
};

#define VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM 2
#define BYTES_PER_PIXEL 4u

struct virtio_gpu_ctrl_hdr {
  uint32_t type;
  uint32_t flags;
  uint64_t fence_id;
  uint32_t ctx_id;
  uint8_t ring_idx;
  uint8_t padding[3];
};
_Static_assert(sizeof(struct virtio_gpu_ctrl_hdr) == 24, "virtio_gpu_ctrl_hdr");

struct virtio_gpu_rect {
  uint32_t x, y, width, height;
};

struct virtio_gpu_resource_create_2d {
  struct virtio_gpu_ctrl_hdr hdr;
  uint32_t resource_id;
  uint32_t format;
  uint32_t width;
  uint32_t height;
};
_Static_assert(sizeof(struct virtio_gpu_resource_create_2d) == 40, "virtio_gpu_resource_create_2d");

struct virtio_gpu_mem_entry {
  uint64_t addr;
  uint32_t length;
  uint32_t padding;
};
_Static_assert(sizeof(struct virtio_gpu_mem_entry) == 16, "virtio_gpu_mem_entry");

struct virtio_gpu_resource_attach_backing {
  struct virtio_gpu_ctrl_hdr hdr;
  uint32_t resource_id;
  uint32_t nr_entries;
  struct virtio_gpu_mem_entry entries[];
};
_Static_assert(sizeof(struct virtio_gpu_resource_attach_backing) == 32, "virtio_gpu_resource_attach_backing");

struct virtio_gpu_set_scanout {
  struct virtio_gpu_ctrl_hdr hdr;
  struct virtio_gpu_rect r;
  uint32_t scanout_id;
  uint32_t resource_id;
};
_Static_assert(sizeof(struct virtio_gpu_set_scanout) == 48, "virtio_gpu_set_scanout");

struct virtio_gpu_resource_flush {
  struct virtio_gpu_ctrl_hdr hdr;
  struct virtio_gpu_rect r;
  uint32_t resource_id;
  uint32_t padding;
};
_Static_assert(sizeof(struct virtio_gpu_resource_flush) == 48, "virtio_gpu_resource_flush");

struct virtio_gpu_transfer_to_host_2d {
  struct virtio_gpu_ctrl_hdr hdr;
  struct virtio_gpu_rect r;
  uint64_t offset;
  uint32_t resource_id;
  uint32_t padding;
};
_Static_assert(sizeof(struct virtio_gpu_transfer_to_host_2d) == 56, "virtio_gpu_transfer_to_host_2d");

#endif
