/*
 * The virtio-gpu device (virtio 1.3, 5.7): command layouts, and one call per command that sends it and waits.
 */
#ifndef BARE_GPU_H
#define BARE_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "queue.h"
#include "virtio.h"

/* 4.1.2 and 5.7.1: vendor, and 0x1040 + 16. */
#define VIRTIO_VENDOR_ID 0x1af4
#define VIRTIO_GPU_DEVICE_ID 0x1050

/* --- 5.7.3: feature bits, as numbers --- */

#define VIRTIO_GPU_F_VIRGL 0
#define VIRTIO_GPU_F_EDID 1
#define VIRTIO_GPU_F_BLOB_ALIGNMENT 5

/* --- 5.7.2, 5.7.4: queues and configuration --- */

#define CONTROL_QUEUE 0
#define CURSOR_QUEUE 1
#define GPU_QUEUES 2

struct virtio_gpu_config {
  uint32_t events_read;
  uint32_t events_clear;
  uint32_t num_scanouts;
  uint32_t num_capsets;
};

#define VIRTIO_GPU_MAX_SCANOUTS 16
#define VIRTIO_GPU_SHM_ID_HOST_VISIBLE 1

/* --- 5.7.6.7: commands --- */

enum virtio_gpu_ctrl_type {
  VIRTIO_GPU_CMD_GET_DISPLAY_INFO = 0x0100,
  VIRTIO_GPU_CMD_RESOURCE_CREATE_2D,
  VIRTIO_GPU_CMD_RESOURCE_UNREF,
  VIRTIO_GPU_CMD_SET_SCANOUT,
  VIRTIO_GPU_CMD_RESOURCE_FLUSH,
  VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D,
  VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING,
  VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING,
  VIRTIO_GPU_CMD_GET_CAPSET_INFO,
  VIRTIO_GPU_CMD_GET_CAPSET,
  VIRTIO_GPU_CMD_GET_EDID,
  VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID,
  VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB,

  VIRTIO_GPU_CMD_SUBMIT_3D = 0x0207,

  VIRTIO_GPU_CMD_UPDATE_CURSOR = 0x0300,
  VIRTIO_GPU_CMD_MOVE_CURSOR,

  VIRTIO_GPU_RESP_OK_NODATA = 0x1100,
  VIRTIO_GPU_RESP_OK_DISPLAY_INFO,
  VIRTIO_GPU_RESP_OK_CAPSET_INFO,
  VIRTIO_GPU_RESP_OK_CAPSET,
  VIRTIO_GPU_RESP_OK_EDID,

  VIRTIO_GPU_RESP_ERR_UNSPEC = 0x1200,
  VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY,
  VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID,
  VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID,
  VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID,
  VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER,
};

#define VIRTIO_GPU_FLAG_FENCE (1u << 0)

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

struct virtio_gpu_display_one {
  struct virtio_gpu_rect r;
  uint32_t enabled;
  uint32_t flags;
};

struct virtio_gpu_resp_display_info {
  struct virtio_gpu_ctrl_hdr hdr;
  struct virtio_gpu_display_one pmodes[VIRTIO_GPU_MAX_SCANOUTS];
};
_Static_assert(sizeof(struct virtio_gpu_resp_display_info) == 408, "virtio_gpu_resp_display_info");

struct virtio_gpu_get_edid {
  struct virtio_gpu_ctrl_hdr hdr;
  uint32_t scanout;
  uint32_t padding;
};

struct virtio_gpu_resp_edid {
  struct virtio_gpu_ctrl_hdr hdr;
  uint32_t size;
  uint32_t padding;
  uint8_t edid[1024];
};
_Static_assert(sizeof(struct virtio_gpu_resp_edid) == 1056, "virtio_gpu_resp_edid");

struct virtio_gpu_get_capset_info {
  struct virtio_gpu_ctrl_hdr hdr;
  uint32_t capset_index;
  uint32_t padding;
};

enum virtio_gpu_formats {
  VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM = 1,
  VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM = 2,
};
#define BYTES_PER_PIXEL 4u

struct virtio_gpu_resource_create_2d {
  struct virtio_gpu_ctrl_hdr hdr;
  uint32_t resource_id;
  uint32_t format;
  uint32_t width;
  uint32_t height;
};
_Static_assert(sizeof(struct virtio_gpu_resource_create_2d) == 40, "virtio_gpu_resource_create_2d");

/* RESOURCE_UNREF, RESOURCE_DETACH_BACKING. */
struct virtio_gpu_resource_only {
  struct virtio_gpu_ctrl_hdr hdr;
  uint32_t resource_id;
  uint32_t padding;
};

struct virtio_gpu_resource_attach_backing {
  struct virtio_gpu_ctrl_hdr hdr;
  uint32_t resource_id;
  uint32_t nr_entries;
};

struct virtio_gpu_mem_entry {
  uint64_t addr;
  uint32_t length;
  uint32_t padding;
};
_Static_assert(sizeof(struct virtio_gpu_mem_entry) == 16, "virtio_gpu_mem_entry");

struct virtio_gpu_set_scanout {
  struct virtio_gpu_ctrl_hdr hdr;
  struct virtio_gpu_rect r;
  uint32_t scanout_id;
  uint32_t resource_id;
};

struct virtio_gpu_resource_flush {
  struct virtio_gpu_ctrl_hdr hdr;
  struct virtio_gpu_rect r;
  uint32_t resource_id;
  uint32_t padding;
};

struct virtio_gpu_transfer_to_host_2d {
  struct virtio_gpu_ctrl_hdr hdr;
  struct virtio_gpu_rect r;
  uint64_t offset;
  uint32_t resource_id;
  uint32_t padding;
};
_Static_assert(sizeof(struct virtio_gpu_transfer_to_host_2d) == 56, "virtio_gpu_transfer_to_host_2d");

struct virtio_gpu_resource_create_blob {
  struct virtio_gpu_ctrl_hdr hdr;
  uint32_t resource_id;
  uint32_t blob_mem;
  uint32_t blob_flags;
  uint32_t nr_entries;
  uint64_t blob_id;
  uint64_t size;
};
_Static_assert(sizeof(struct virtio_gpu_resource_create_blob) == 56, "virtio_gpu_resource_create_blob");
#define VIRTIO_GPU_BLOB_MEM_GUEST 1

struct virtio_gpu_cmd_submit {
  struct virtio_gpu_ctrl_hdr hdr;
  uint32_t size;
  uint32_t padding;
};

struct virtio_gpu_cursor_pos {
  uint32_t scanout_id;
  uint32_t x, y;
  uint32_t padding;
};

struct virtio_gpu_update_cursor {
  struct virtio_gpu_ctrl_hdr hdr;
  struct virtio_gpu_cursor_pos pos;
  uint32_t resource_id;
  uint32_t hot_x, hot_y;
  uint32_t padding;
};
_Static_assert(sizeof(struct virtio_gpu_update_cursor) == 56, "virtio_gpu_update_cursor");

/* --- the driver --- */

struct gpu {
  struct virtio_device device;
  struct queue control;
  struct queue cursor;
  bool is_up;
  uint32_t width, height; /* of scanout 0, once gpu_read_display() has been called */
};

static inline volatile struct virtio_gpu_config *gpu_config(struct gpu *gpu) {
  return (volatile struct virtio_gpu_config *)gpu->device.config;
}

/* What came back for one chain. */
struct answer {
  uint32_t used_length;
  union {
    struct virtio_gpu_ctrl_hdr hdr;
    struct virtio_gpu_resp_display_info display_info;
    struct virtio_gpu_resp_edid edid;
    uint8_t bytes[1088];
  };
};

/*
 * Reset, negotiate the offered ones of `features` and VERSION_1, set up the queues with at most `queue_size`
 * descriptors; gpu_bring_up() then sets DRIVER_OK.
 */
bool gpu_prepare(struct gpu *gpu, uint64_t features, uint16_t queue_size);
bool gpu_bring_up(struct gpu *gpu, uint64_t features, uint16_t queue_size);

/*
 * Sends one chain on the control queue and waits for it. `requests` are the readable segments; the answer has
 * room for `room` bytes. Checks that nothing was written beyond the used length. NULL when no answer came.
 */
const struct answer *gpu_exchange(struct gpu *gpu, const struct segment *requests, size_t count,
                                  uint32_t room);

/* The same for a request in one piece and an answer of up to 1056 bytes. */
const struct answer *gpu_ask(struct gpu *gpu, const void *request, uint32_t length, uint32_t room);

/* Response type of a command that answers without data; 0 when nothing came or its length is wrong. */
uint32_t gpu_command(struct gpu *gpu, const void *request, uint32_t length);

uint32_t gpu_create_2d(struct gpu *gpu, uint32_t resource, uint32_t format, uint32_t width, uint32_t height);
uint32_t gpu_unref(struct gpu *gpu, uint32_t resource);
uint32_t gpu_attach_backing(struct gpu *gpu, uint32_t resource, const struct virtio_gpu_mem_entry *entries,
                            uint32_t count);
uint32_t gpu_detach_backing(struct gpu *gpu, uint32_t resource);
uint32_t gpu_transfer(struct gpu *gpu, uint32_t resource, struct virtio_gpu_rect rect, uint64_t offset);
uint32_t gpu_flush(struct gpu *gpu, uint32_t resource, struct virtio_gpu_rect rect);
uint32_t gpu_set_scanout(struct gpu *gpu, uint32_t scanout, uint32_t resource, struct virtio_gpu_rect rect);

/* UPDATE_CURSOR or MOVE_CURSOR, without a writable descriptor. Expects a used length of 0. */
void gpu_cursor(struct gpu *gpu, uint32_t type, struct virtio_gpu_cursor_pos position, uint32_t resource,
                uint32_t hot_x, uint32_t hot_y);

/* Learns the size of scanout 0. */
bool gpu_read_display(struct gpu *gpu);

#endif
