/*
 * virtio_gpu as Linux 6.12 shows it to programs, and the first words of cross-domain contexts: for programs that do
 * without libraries.
 */
#ifndef GUEST_VIRTGPU_H
#define GUEST_VIRTGPU_H

#include <drm/drm.h>
#include <stdint.h>

enum { PAGE = 4096 };

/* The driver's calls, as virtgpu_drm.h of Linux 6.12 has them; that of libdrm knows neither blobs nor contexts. */
enum {
  VIRTGPU_PARAM_SUPPORTED_CAPSET_IDS = 7,
  VIRTGPU_CONTEXT_PARAM_CAPSET_ID = 1,
  VIRTGPU_CONTEXT_PARAM_NUM_RINGS = 2,
  VIRTGPU_CONTEXT_PARAM_POLL_RINGS_MASK = 3,
  VIRTGPU_BLOB_MEM_GUEST = 1,
  VIRTGPU_BLOB_MEM_HOST3D = 2,
  VIRTGPU_BLOB_FLAG_USE_MAPPABLE = 1,
  VIRTGPU_BLOB_FLAG_USE_SHAREABLE = 2,
  VIRTGPU_EXECBUF_RING_IDX = 4,
};
static const uint32_t VIRTGPU_EVENT_FENCE_SIGNALED = 0x90000000;

struct virtgpu_map {
  uint64_t offset;
  uint32_t handle, pad;
};
struct virtgpu_execbuffer {
  uint32_t flags, size;
  uint64_t command, handles;
  uint32_t handle_count;
  int32_t fence_fd;
  uint32_t ring, syncobj_stride, in_syncobj_count, out_syncobj_count;
  uint64_t in_syncobjs, out_syncobjs;
};
struct virtgpu_getparam {
  uint64_t parameter, value;
};
struct virtgpu_wait {
  uint32_t handle, flags;
};
struct virtgpu_get_caps {
  uint32_t id, version;
  uint64_t bytes;
  uint32_t size, pad;
};
struct virtgpu_create_blob {
  uint32_t memory, flags, handle, resource;
  uint64_t size;
  uint32_t pad, command_size;
  uint64_t command, id;
};
struct virtgpu_context_parameter {
  uint64_t parameter, value;
};
struct virtgpu_context_init {
  uint32_t count, pad;
  uint64_t parameters;
};
#define VIRTGPU(number, type) DRM_IOWR(DRM_COMMAND_BASE + (number), struct virtgpu_##type)
#define VIRTGPU_MAP VIRTGPU(1, map)
#define VIRTGPU_EXECBUFFER VIRTGPU(2, execbuffer)
#define VIRTGPU_GETPARAM VIRTGPU(3, getparam)
#define VIRTGPU_WAIT VIRTGPU(8, wait)
#define VIRTGPU_GET_CAPS VIRTGPU(9, get_caps)
#define VIRTGPU_CREATE_BLOB VIRTGPU(10, create_blob)
#define VIRTGPU_CONTEXT_INIT VIRTGPU(11, context_init)

/* The cross-domain channel. */
enum {
  CAPSET = 5,
  INIT = 1,
  GET_IMAGE_REQUIREMENTS = 2,
  POLL = 3,
  SEND = 4,
  RECEIVE = 5,
  READ = 6,
  WRITE = 7,
  CHANNEL_WAYLAND = 1,
  QUERY_RING = 0,
  CHANNEL_RING = 1,
  ID_BLOB = 1,
  ID_READ_PIPE = 3,
  ID_WRITE_PIPE = 4,
  MAX_IDS = 28,
  MAX_WRITE = PAGE - 24,
  R8 = 0x20203852,
};

struct header {
  uint8_t command, ring;
  uint16_t size;
  uint32_t pad;
};

/* What GET_IMAGE_REQUIREMENTS puts into the query ring. */
struct image_requirements {
  uint32_t strides[4], offsets[4];
  uint64_t modifier, size;
  uint32_t blob_id, map_info, memory_idx, physical_device_idx;
};

#endif
