#include "gpu.h"

#include "memory.h"
#include "report.h"

#define UNWRITTEN 0xee

static struct answer answer;

/* --- bring-up --- */

bool gpu_prepare(struct gpu *gpu, uint64_t features, uint16_t queue_size) {
  gpu->is_up = false;
  uint64_t accepted = gpu->device.offered & (features | FEATURE(VIRTIO_F_VERSION_1));
  return expect(virtio_negotiate(&gpu->device, accepted), "FEATURES_OK refused for 0x%llx", accepted) &&
         queue_set_up(&gpu->control, &gpu->device, CONTROL_QUEUE, queue_size, accepted) &&
         queue_set_up(&gpu->cursor, &gpu->device, CURSOR_QUEUE, queue_size, accepted);
}

bool gpu_bring_up(struct gpu *gpu, uint64_t features, uint16_t queue_size) {
  if (!gpu_prepare(gpu, features, queue_size)) return false;
  virtio_add_status(&gpu->device, VIRTIO_STATUS_DRIVER_OK);
  const uint8_t running =
      VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK;
  gpu->is_up = expect_equal(gpu->device.common->device_status, running, "device_status");
  return gpu->is_up;
}

/* --- one exchange --- */

/* 5.7.6.8: the device writes the answer and nothing else. */
static void expect_unwritten(uint32_t from, uint32_t room) {
  uint32_t at = from;
  while (at < room && answer.bytes[at] == UNWRITTEN) at++;
  expect(at >= room, "byte %u of the answer was written, used length is %u", at, from);
}

const struct answer *gpu_exchange(struct gpu *gpu, const struct segment *requests, size_t count,
                                  uint32_t room) {
  if (!expect(gpu->is_up, "the device is not up")) return NULL;
  struct segment chain[QUEUE_SEGMENTS_MAX];
  for (size_t i = 0; i < count; i++) chain[i] = requests[i];
  if (room != 0) chain[count++] = (struct segment){answer.bytes, room, true};
  memset(answer.bytes, UNWRITTEN, room);

  uint16_t head = queue_add(&gpu->control, chain, count);
  queue_kick(&gpu->control);
  struct virtq_used_elem element;
  if (!expect(queue_take(&gpu->control, &element), "no answer in time")) return NULL;
  if (!expect_equal(element.id, head, "id in the used ring")) return NULL;
  if (!expect(element.len <= room, "used length %u for an answer of %u", element.len, room)) return NULL;
  answer.used_length = element.len;
  expect_unwritten(element.len, room);
  return &answer;
}

const struct answer *gpu_ask(struct gpu *gpu, const void *request, uint32_t length, uint32_t room) {
  return gpu_exchange(gpu, &(struct segment){request, length, false}, 1, room);
}

/* A no-data answer gets more room than it needs, to see that it is not padded. */
#define NODATA_ROOM 64

static uint32_t nodata_type(const struct answer *reply) {
  if (reply == NULL) return 0;
  if (!expect_equal(reply->used_length, sizeof reply->hdr, "used length")) return 0;
  return reply->hdr.type;
}

uint32_t gpu_command(struct gpu *gpu, const void *request, uint32_t length) {
  return nodata_type(gpu_ask(gpu, request, length, NODATA_ROOM));
}

/* --- commands --- */

uint32_t gpu_create_2d(struct gpu *gpu, uint32_t resource, uint32_t format, uint32_t width, uint32_t height) {
  struct virtio_gpu_resource_create_2d request = {
      .hdr.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_2D,
      .resource_id = resource,
      .format = format,
      .width = width,
      .height = height,
  };
  return gpu_command(gpu, &request, sizeof request);
}

static uint32_t resource_command(struct gpu *gpu, uint32_t type, uint32_t resource) {
  struct virtio_gpu_resource_only request = {.hdr.type = type, .resource_id = resource};
  return gpu_command(gpu, &request, sizeof request);
}

uint32_t gpu_unref(struct gpu *gpu, uint32_t resource) {
  return resource_command(gpu, VIRTIO_GPU_CMD_RESOURCE_UNREF, resource);
}

uint32_t gpu_detach_backing(struct gpu *gpu, uint32_t resource) {
  return resource_command(gpu, VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING, resource);
}

/* As Linux does it: the fixed part and the entries are descriptors of their own. */
uint32_t gpu_attach_backing(struct gpu *gpu, uint32_t resource, const struct virtio_gpu_mem_entry *entries,
                            uint32_t count) {
  struct virtio_gpu_resource_attach_backing request = {
      .hdr.type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING,
      .resource_id = resource,
      .nr_entries = count,
  };
  struct segment segments[] = {
      {&request, sizeof request, false},
      {entries, (uint32_t)(count * sizeof *entries), false},
  };
  return nodata_type(gpu_exchange(gpu, segments, count == 0 ? 1 : 2, NODATA_ROOM));
}

uint32_t gpu_transfer(struct gpu *gpu, uint32_t resource, struct virtio_gpu_rect rect, uint64_t offset) {
  struct virtio_gpu_transfer_to_host_2d request = {
      .hdr.type = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D,
      .r = rect,
      .offset = offset,
      .resource_id = resource,
  };
  return gpu_command(gpu, &request, sizeof request);
}

uint32_t gpu_flush(struct gpu *gpu, uint32_t resource, struct virtio_gpu_rect rect) {
  struct virtio_gpu_resource_flush request = {
      .hdr.type = VIRTIO_GPU_CMD_RESOURCE_FLUSH,
      .r = rect,
      .resource_id = resource,
  };
  return gpu_command(gpu, &request, sizeof request);
}

uint32_t gpu_set_scanout(struct gpu *gpu, uint32_t scanout, uint32_t resource, struct virtio_gpu_rect rect) {
  struct virtio_gpu_set_scanout request = {
      .hdr.type = VIRTIO_GPU_CMD_SET_SCANOUT,
      .r = rect,
      .scanout_id = scanout,
      .resource_id = resource,
  };
  return gpu_command(gpu, &request, sizeof request);
}

void gpu_cursor(struct gpu *gpu, uint32_t type, struct virtio_gpu_cursor_pos position, uint32_t resource,
                uint32_t hot_x, uint32_t hot_y) {
  if (!expect(gpu->is_up, "the device is not up")) return;
  struct virtio_gpu_update_cursor request = {
      .hdr.type = type,
      .pos = position,
      .resource_id = resource,
      .hot_x = hot_x,
      .hot_y = hot_y,
  };
  uint16_t head = queue_add(&gpu->cursor, &(struct segment){&request, sizeof request, false}, 1);
  queue_kick(&gpu->cursor);
  struct virtq_used_elem element;
  if (!expect(queue_take(&gpu->cursor, &element), "cursor command not completed in time")) return;
  expect_equal(element.id, head, "id in the used ring");
  expect_equal(element.len, 0, "used length of a cursor command");
}

bool gpu_read_display(struct gpu *gpu) {
  struct virtio_gpu_ctrl_hdr request = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO};
  const struct answer *reply = gpu_ask(gpu, &request, sizeof request, sizeof reply->display_info);
  if (reply == NULL || !expect_equal(reply->hdr.type, VIRTIO_GPU_RESP_OK_DISPLAY_INFO, "response type"))
    return false;
  if (!expect_equal(reply->used_length, sizeof reply->display_info, "used length")) return false;
  gpu->width = reply->display_info.pmodes[0].r.width;
  gpu->height = reply->display_info.pmodes[0].r.height;
  return true;
}
