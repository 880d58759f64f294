#include "context.h"

#include <string.h>

#include "picture.h"

void context_attach(const struct context *context, uint32_t resource_id) {
  struct virtio_gpu_ctx_resource attach = {
      .hdr = {.type = VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, .ctx_id = context->id},
      .resource_id = resource_id,
  };
  driver_command(context->driver, &attach, sizeof attach);
}

static const uint8_t *make_ring(const struct context *context, struct ram *ram, uint32_t resource_id) {
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
  driver_command(context->driver, &command, sizeof command);
  context_attach(context, resource_id);
  return page;
}

struct context context_make(struct driver *driver, struct ram *ram, uint32_t id, uint32_t ring_ids,
                            uint32_t channel_type) {
  struct virtio_gpu_ctx_create create = {
      .hdr = {.type = VIRTIO_GPU_CMD_CTX_CREATE, .ctx_id = id},
      .nlen = sizeof "bench" - 1,
      .context_init = VIRTIO_GPU_CAPSET_CROSS_DOMAIN,
      .debug_name = "bench",
  };
  driver_command(driver, &create, sizeof create);
  struct context context = {.driver = driver, .id = id};
  context.query_ring = make_ring(&context, ram, ring_ids);
  context.channel_ring = make_ring(&context, ram, ring_ids + 1);
  struct {
    struct virtio_gpu_cmd_submit submit;
    struct cross_domain_init init;
  } command = {
      .submit = {.hdr = {.type = VIRTIO_GPU_CMD_SUBMIT_3D, .ctx_id = id}, .size = sizeof command.init},
      .init = {
          .hdr = {.cmd = CROSS_DOMAIN_CMD_INIT, .cmd_size = sizeof command.init},
          .query_ring_id = ring_ids,
          .channel_ring_id = ring_ids + 1,
          .channel_type = channel_type,
      },
  };
  driver_command(driver, &command, sizeof command);
  return context;
}

struct cross_domain_image_requirements context_picture(const struct context *context) {
  struct {
    struct virtio_gpu_cmd_submit submit;
    struct cross_domain_get_image_requirements query;
  } command = {
      .submit = {.hdr = {.type = VIRTIO_GPU_CMD_SUBMIT_3D, .ctx_id = context->id}, .size = sizeof command.query},
      .query = {
          .hdr = {.cmd = CROSS_DOMAIN_CMD_GET_IMAGE_REQUIREMENTS, .cmd_size = sizeof command.query},
          .width = PICTURE_WIDTH,
          .height = PICTURE_HEIGHT,
          .drm_format = DRM_FORMAT_XRGB8888,
      },
  };
  driver_command(context->driver, &command, sizeof command);
  struct cross_domain_image_requirements image;
  memcpy(&image, context->query_ring, sizeof image);
  if (image.size != PICTURE_BYTES || image.strides[0] != PICTURE_WIDTH * BYTES_PER_PIXEL)
    fail("an image of %ux%u needs %llu bytes", PICTURE_WIDTH, PICTURE_HEIGHT, (unsigned long long)image.size);
  return image;
}

void context_make_blob(const struct context *context, uint32_t resource_id,
                       const struct cross_domain_image_requirements *image) {
  struct virtio_gpu_resource_create_blob create = {
      .hdr = {.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, .ctx_id = context->id},
      .resource_id = resource_id,
      .blob_mem = VIRTIO_GPU_BLOB_MEM_HOST3D,
      .blob_flags = VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE,
      .blob_id = image->blob_id,
      .size = image->size,
  };
  driver_command(context->driver, &create, sizeof create);
}
