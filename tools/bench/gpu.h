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
  VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB = 0x010c,
  VIRTIO_GPU_CMD_SET_SCANOUT_BLOB = 0x010d,
  VIRTIO_GPU_CMD_CTX_CREATE = 0x0200,
  VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE = 0x0202,
  VIRTIO_GPU_CMD_SUBMIT_3D = 0x0207,
  VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB = 0x0208,
  VIRTIO_GPU_CMD_RESOURCE_UNMAP_BLOB = 0x0209,
  VIRTIO_GPU_RESP_OK_NODATA = 0x1100,
  VIRTIO_GPU_RESP_OK_MAP_INFO = 0x1106,
};

#define VIRTIO_GPU_FLAG_FENCE 1
#define VIRTIO_GPU_FLAG_INFO_RING_IDX 2
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

#define VIRTIO_GPU_BLOB_MEM_GUEST 1
#define VIRTIO_GPU_BLOB_MEM_HOST3D 2
#define VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE 1

struct virtio_gpu_resource_create_blob {
  struct virtio_gpu_ctrl_hdr hdr;
  uint32_t resource_id;
  uint32_t blob_mem;
  uint32_t blob_flags;
  uint32_t nr_entries;
  uint64_t blob_id;
  uint64_t size;
  struct virtio_gpu_mem_entry entries[];
};
_Static_assert(sizeof(struct virtio_gpu_resource_create_blob) == 56, "virtio_gpu_resource_create_blob");

struct virtio_gpu_set_scanout_blob {
  struct virtio_gpu_ctrl_hdr hdr;
  struct virtio_gpu_rect r;
  uint32_t scanout_id;
  uint32_t resource_id;
  uint32_t width;
  uint32_t height;
  uint32_t format;
  uint32_t padding;
  uint32_t strides[4];
  uint32_t offsets[4];
};
_Static_assert(sizeof(struct virtio_gpu_set_scanout_blob) == 96, "virtio_gpu_set_scanout_blob");

struct virtio_gpu_ctx_create {
  struct virtio_gpu_ctrl_hdr hdr;
  uint32_t nlen;
  uint32_t context_init;
  char debug_name[64];
};
_Static_assert(sizeof(struct virtio_gpu_ctx_create) == 96, "virtio_gpu_ctx_create");

struct virtio_gpu_ctx_resource {
  struct virtio_gpu_ctrl_hdr hdr;
  uint32_t resource_id;
  uint32_t padding;
};
_Static_assert(sizeof(struct virtio_gpu_ctx_resource) == 32, "virtio_gpu_ctx_resource");

struct virtio_gpu_cmd_submit {
  struct virtio_gpu_ctrl_hdr hdr;
  uint32_t size;
  uint32_t padding;
};
_Static_assert(sizeof(struct virtio_gpu_cmd_submit) == 32, "virtio_gpu_cmd_submit");

struct virtio_gpu_resource_map_blob {
  struct virtio_gpu_ctrl_hdr hdr;
  uint32_t resource_id;
  uint32_t padding;
  uint64_t offset;
};
_Static_assert(sizeof(struct virtio_gpu_resource_map_blob) == 40, "virtio_gpu_resource_map_blob");

struct virtio_gpu_resource_unmap_blob {
  struct virtio_gpu_ctrl_hdr hdr;
  uint32_t resource_id;
  uint32_t padding;
};
_Static_assert(sizeof(struct virtio_gpu_resource_unmap_blob) == 32, "virtio_gpu_resource_unmap_blob");

#define VIRTIO_GPU_MAP_CACHE_CACHED 1

struct virtio_gpu_resp_map_info {
  struct virtio_gpu_ctrl_hdr hdr;
  uint32_t map_info;
  uint32_t padding;
};
_Static_assert(sizeof(struct virtio_gpu_resp_map_info) == 32, "virtio_gpu_resp_map_info");

/* --- the cross-domain kind of context --- */

#define VIRTIO_GPU_CAPSET_CROSS_DOMAIN 5
#define CROSS_DOMAIN_CHANNEL_NONE 0
#define CROSS_DOMAIN_CHANNEL_WAYLAND 1
#define CROSS_DOMAIN_CHANNEL_RING 1
#define CROSS_DOMAIN_ID_TYPE_VIRTGPU_BLOB 1
#define CROSS_DOMAIN_MAX_IDENTIFIERS 28
#define DRM_FORMAT_XRGB8888 0x34325258u

enum cross_domain_cmd {
  CROSS_DOMAIN_CMD_INIT = 1,
  CROSS_DOMAIN_CMD_GET_IMAGE_REQUIREMENTS = 2,
  CROSS_DOMAIN_CMD_POLL = 3,
  CROSS_DOMAIN_CMD_SEND = 4,
  CROSS_DOMAIN_CMD_RECEIVE = 5,
};

struct cross_domain_header {
  uint8_t cmd;
  uint8_t ring_idx;
  uint16_t cmd_size;
  uint32_t padding;
};
_Static_assert(sizeof(struct cross_domain_header) == 8, "cross_domain_header");

struct cross_domain_init {
  struct cross_domain_header hdr;
  uint32_t query_ring_id;
  uint32_t channel_ring_id;
  uint32_t channel_type;
};
_Static_assert(sizeof(struct cross_domain_init) == 20, "cross_domain_init");

struct cross_domain_get_image_requirements {
  struct cross_domain_header hdr;
  uint32_t width;
  uint32_t height;
  uint32_t drm_format;
  uint32_t flags;
};
_Static_assert(sizeof(struct cross_domain_get_image_requirements) == 24,
               "cross_domain_get_image_requirements");

struct cross_domain_poll {
  struct cross_domain_header hdr;
  uint64_t padding;
};
_Static_assert(sizeof(struct cross_domain_poll) == 16, "cross_domain_poll");

/* Followed by the data. */
struct cross_domain_send_receive {
  struct cross_domain_header hdr;
  uint32_t num_identifiers;
  uint32_t opaque_data_size;
  uint32_t identifiers[CROSS_DOMAIN_MAX_IDENTIFIERS];
  uint32_t identifier_types[CROSS_DOMAIN_MAX_IDENTIFIERS];
  uint32_t identifier_sizes[CROSS_DOMAIN_MAX_IDENTIFIERS];
};
_Static_assert(sizeof(struct cross_domain_send_receive) == 352, "cross_domain_send_receive");

struct cross_domain_image_requirements {
  uint32_t strides[4];
  uint32_t offsets[4];
  uint64_t modifier;
  uint64_t size;
  uint32_t blob_id;
  uint32_t map_info;
  int32_t memory_idx;
  int32_t physical_device_idx;
};
_Static_assert(sizeof(struct cross_domain_image_requirements) == 64, "cross_domain_image_requirements");

#endif
