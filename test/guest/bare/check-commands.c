/* Commands, answers and their lengths, mistakes and their codes. reference/virtio-gpu.md, 4. */
#include "check.h"
#include "memory.h"
#include "report.h"

#define QUEUE_SIZE_LIMIT 64

#define RESOURCE 7
#define OTHER_RESOURCE 8
#define UNKNOWN_RESOURCE 0x7fffffff
#define SIDE 64u
#define IMAGE_BYTES (SIDE * SIDE * BYTES_PER_PIXEL)

static uint8_t image[IMAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));
static const struct virtio_gpu_rect whole = {0, 0, SIDE, SIDE};
static const struct virtio_gpu_rect nothing = {0, 0, 0, 0};

static struct virtio_gpu_mem_entry image_entry(void) {
  return (struct virtio_gpu_mem_entry){.addr = (uint32_t)image, .length = sizeof image};
}

static void create_with_backing(struct gpu *gpu, uint32_t resource) {
  const struct virtio_gpu_mem_entry entry = image_entry();
  expect_ok(gpu_create_2d(gpu, resource, VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, SIDE, SIDE), "RESOURCE_CREATE_2D");
  expect_ok(gpu_attach_backing(gpu, resource, &entry, 1), "RESOURCE_ATTACH_BACKING");
}

/* --- display --- */

static void test_display_info(struct gpu *gpu) {
  uint32_t scanouts = gpu_config(gpu)->num_scanouts;
  struct virtio_gpu_ctrl_hdr request = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO};
  const struct answer *reply = gpu_ask(gpu, &request, sizeof request, sizeof reply->display_info + 16);
  if (reply == NULL) return;
  expect_equal(reply->used_length, sizeof reply->display_info, "used length");
  expect_equal(reply->hdr.type, VIRTIO_GPU_RESP_OK_DISPLAY_INFO, "response type");
  const struct virtio_gpu_display_one *first = &reply->display_info.pmodes[0];
  expect(first->enabled == 1 && first->r.width != 0 && first->r.height != 0, "scanout 0 is not enabled");
  for (uint32_t i = scanouts; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
    const struct virtio_gpu_display_one *mode = &reply->display_info.pmodes[i];
    expect(mode->enabled == 0 && mode->r.width == 0 && mode->r.height == 0, "scanout %u of %u is not empty",
           i, scanouts);
  }
  pass_with("%ux%u, %u scanouts", first->r.width, first->r.height, scanouts);
}

/* VESA E-EDID 1.4, as far as a driver reads it. */
#define EDID_BLOCK_BYTES 128u
#define EDID_EXTENSIONS 126
#define EDID_DETAILED_TIMING 54
/* Linux keeps a preferred mode that is at most this much smaller than the display, and no larger one. */
#define EDID_TOLERANCE_PIXELS 16u

static bool expect_edid_blocks(const struct virtio_gpu_resp_edid *edid) {
  static const uint8_t header[8] = {0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00};
  for (size_t i = 0; i < sizeof header; i++)
    expect_equal(edid->edid[i], header[i], "byte of the EDID header");
  uint32_t blocks = 1u + edid->edid[EDID_EXTENSIONS];
  if (!expect(blocks * EDID_BLOCK_BYTES <= edid->size, "%u blocks in %u bytes", blocks, edid->size))
    return false;
  for (uint32_t block = 0; block < blocks; block++) {
    uint8_t sum = 0;
    for (uint32_t i = 0; i < EDID_BLOCK_BYTES; i++) sum += edid->edid[block * EDID_BLOCK_BYTES + i];
    expect(sum == 0, "checksum of EDID block %u is off by 0x%02x", block, sum);
  }
  return true;
}

/*
 * VESA DisplayID 1.3 in an extension block, for a timing that does not fit in block 0: a section of data
 * blocks, of which those with tag 3 are type I detailed timings. Offsets inside the section, then inside a
 * data block.
 */
#define DISPLAYID_TAG 0x70
#define DISPLAYID_LENGTH 2
#define DISPLAYID_FIRST_BLOCK 5
#define DISPLAYID_BLOCK_LENGTH 2
#define DISPLAYID_BLOCK_HEADER 3
#define DISPLAYID_TYPE_1_TIMING 3
#define DISPLAYID_TIMING_FLAGS 6
#define DISPLAYID_TIMING_PREFERRED 0x80
#define DISPLAYID_TIMING_WIDTH 7
#define DISPLAYID_TIMING_HEIGHT 15

static void expect_near(uint32_t preferred, uint32_t display, const char *name) {
  expect(preferred <= display && preferred + EDID_TOLERANCE_PIXELS >= display,
         "preferred %s is %u, display %s %u", name, preferred, name, display);
}

static uint32_t displayid_size(const uint8_t *at) {
  return (at[0] | (uint32_t)at[1] << 8) + 1;
}

/* The preferred timing of an extension block, or NULL. */
static const uint8_t *find_displayid_timing(const uint8_t *extension) {
  if (extension[0] != DISPLAYID_TAG) return NULL;
  uint32_t end = DISPLAYID_FIRST_BLOCK + extension[DISPLAYID_LENGTH];
  if (end >= EDID_BLOCK_BYTES) return NULL;
  for (uint32_t at = DISPLAYID_FIRST_BLOCK; at + DISPLAYID_BLOCK_HEADER < end;) {
    const uint8_t *block = extension + at;
    bool is_timing = block[0] == DISPLAYID_TYPE_1_TIMING;
    if (is_timing && (block[DISPLAYID_TIMING_FLAGS] & DISPLAYID_TIMING_PREFERRED)) return block;
    at += DISPLAYID_BLOCK_HEADER + block[DISPLAYID_BLOCK_LENGTH];
  }
  return NULL;
}

static void expect_preferred_timing(const struct gpu *gpu, const uint8_t *edid, uint32_t blocks) {
  for (uint32_t i = 1; i < blocks; i++) {
    const uint8_t *timing = find_displayid_timing(edid + i * EDID_BLOCK_BYTES);
    if (timing == NULL) continue;
    expect_near(displayid_size(timing + DISPLAYID_TIMING_WIDTH), gpu->width, "width");
    expect_near(displayid_size(timing + DISPLAYID_TIMING_HEIGHT), gpu->height, "height");
    return;
  }
  const uint8_t *timing = edid + EDID_DETAILED_TIMING;
  if (!expect(timing[0] != 0 || timing[1] != 0, "no detailed timing")) return;
  expect_near(timing[2] | (timing[4] & 0xf0u) << 4, gpu->width, "width");
  expect_near(timing[5] | (timing[7] & 0xf0u) << 4, gpu->height, "height");
}

static void test_edid(struct gpu *gpu) {
  if (!gpu_read_display(gpu)) return;
  struct virtio_gpu_get_edid request = {.hdr.type = VIRTIO_GPU_CMD_GET_EDID};
  const struct answer *reply = gpu_ask(gpu, &request, sizeof request, sizeof reply->edid);
  if (reply == NULL) return;
  const struct virtio_gpu_resp_edid *edid = &reply->edid;
  expect_equal(reply->hdr.type, VIRTIO_GPU_RESP_OK_EDID, "response type");
  if (!expect_equal(reply->used_length, sizeof *edid, "used length")) return;
  expect(edid->size != 0 && edid->size <= sizeof edid->edid && edid->size % EDID_BLOCK_BYTES == 0,
         "size is %u", edid->size);
  if (!expect_edid_blocks(edid)) return;
  expect_preferred_timing(gpu, edid->edid, 1u + edid->edid[EDID_EXTENSIONS]);
  pass_with("%u bytes", edid->size);
}

static void test_edid_of_no_scanout(struct gpu *gpu) {
  struct virtio_gpu_get_edid request = {.hdr.type = VIRTIO_GPU_CMD_GET_EDID,
                                        .scanout = VIRTIO_GPU_MAX_SCANOUTS};
  expect_equal(gpu_command(gpu, &request, sizeof request), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER, "GET_EDID");
}

/* --- header, framing --- */

static void expect_fence(struct gpu *gpu, uint32_t type, uint32_t expected, uint64_t fence_id) {
  struct virtio_gpu_ctrl_hdr request = {
      .type = type, .flags = VIRTIO_GPU_FLAG_FENCE, .fence_id = fence_id, .ctx_id = 5};
  const struct answer *reply = gpu_ask(gpu, &request, sizeof request, sizeof reply->display_info);
  if (reply == NULL) return;
  expect_equal(reply->hdr.type, expected, "response type");
  expect_equal(reply->hdr.flags, VIRTIO_GPU_FLAG_FENCE, "flags of a fenced response");
  expect(reply->hdr.fence_id == fence_id, "fence_id is 0x%llx, expected 0x%llx", reply->hdr.fence_id,
         fence_id);
  expect_equal(reply->hdr.ctx_id, request.ctx_id, "ctx_id of a fenced response");
}

static void test_fence(struct gpu *gpu) {
  static const uint64_t ids[] = {0x1122334455667788, 1, 0, 0xffffffffffffffff};
  for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
    expect_fence(gpu, VIRTIO_GPU_CMD_GET_DISPLAY_INFO, VIRTIO_GPU_RESP_OK_DISPLAY_INFO, ids[i]);
  }
}

static void test_fence_on_error(struct gpu *gpu) {
  expect_fence(gpu, 0, VIRTIO_GPU_RESP_ERR_UNSPEC, 0x8877665544332211);
}

static void test_no_fence(struct gpu *gpu) {
  struct virtio_gpu_ctrl_hdr request = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO, .fence_id = 99, .ctx_id = 5};
  const struct answer *reply = gpu_ask(gpu, &request, sizeof request, sizeof reply->display_info);
  if (reply == NULL) return;
  expect_equal(reply->hdr.flags, 0, "flags of an unfenced response");
  expect(reply->hdr.fence_id == 0, "fence_id of an unfenced response is 0x%llx", reply->hdr.fence_id);
}

static void test_unknown_commands(struct gpu *gpu) {
  static const uint32_t types[] = {0,          VIRTIO_GPU_CMD_GET_DISPLAY_INFO - 1,
                                   0x01ff,     VIRTIO_GPU_RESP_OK_NODATA,
                                   0xffffffff, VIRTIO_GPU_CMD_UPDATE_CURSOR};
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
    uint8_t request[64] = {0};
    memcpy(request, &types[i], sizeof types[i]);
    expect_equal(gpu_command(gpu, request, sizeof request), VIRTIO_GPU_RESP_ERR_UNSPEC,
                 "response to a wrong type");
  }
}

/* The features were not accepted, offered or not. */
static void test_commands_without_feature(struct gpu *gpu) {
  struct virtio_gpu_cmd_submit submit = {.hdr.type = VIRTIO_GPU_CMD_SUBMIT_3D};
  expect_equal(gpu_command(gpu, &submit, sizeof submit), VIRTIO_GPU_RESP_ERR_UNSPEC, "SUBMIT_3D");
  struct virtio_gpu_resource_create_blob blob = {
      .hdr.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB,
      .resource_id = RESOURCE,
      .blob_mem = VIRTIO_GPU_BLOB_MEM_GUEST,
      .size = PAGE_BYTES,
  };
  expect_equal(gpu_command(gpu, &blob, sizeof blob), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER, "CREATE_BLOB");
}

/* Without capsets every index is too large; OK with id 0 would cost Linux five seconds. */
static void test_capset_info(struct gpu *gpu) {
  const volatile struct virtio_gpu_config *config = gpu_config(gpu);
  struct virtio_gpu_get_capset_info request = {
      .hdr.type = VIRTIO_GPU_CMD_GET_CAPSET_INFO,
      .capset_index = config->num_capsets,
  };
  expect_choice_equal(gpu_command(gpu, &request, sizeof request), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER,
                      "GET_CAPSET_INFO");
}

static void test_short_request(struct gpu *gpu) {
  struct virtio_gpu_resource_create_2d create = {
      .hdr.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_2D,
      .resource_id = RESOURCE,
      .format = VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM,
      .width = SIDE,
      .height = SIDE,
  };
  expect_equal(gpu_command(gpu, &create, sizeof create - 1), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER,
               "CREATE_2D of 39 bytes");
  expect_equal(gpu_unref(gpu, RESOURCE), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID,
               "UNREF of what it did not make");
}

static void test_short_header(struct gpu *gpu) {
  struct virtio_gpu_ctrl_hdr request = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO};
  expect_choice_equal(gpu_command(gpu, &request, sizeof request - 1), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER,
                      "response to 23 bytes");
}

static void test_long_request(struct gpu *gpu) {
  uint8_t request[4096] = {0};
  const struct virtio_gpu_ctrl_hdr hdr = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO};
  memcpy(request, &hdr, sizeof hdr);
  const struct answer *reply = gpu_ask(gpu, request, sizeof request, sizeof reply->display_info);
  if (reply != NULL) expect_equal(reply->hdr.type, VIRTIO_GPU_RESP_OK_DISPLAY_INFO, "response type");
}

/* The request one byte per descriptor. */
static void test_split_request(struct gpu *gpu) {
  struct virtio_gpu_ctrl_hdr request = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO};
  struct segment pieces[sizeof request];
  for (size_t i = 0; i < sizeof request; i++) pieces[i] = (struct segment){(uint8_t *)&request + i, 1, false};
  const struct answer *reply = gpu_exchange(gpu, pieces, sizeof request, sizeof reply->display_info);
  if (reply != NULL) expect_equal(reply->hdr.type, VIRTIO_GPU_RESP_OK_DISPLAY_INFO, "response type");
}

static void test_small_response_buffer(struct gpu *gpu) {
  struct virtio_gpu_ctrl_hdr request = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO};
  const struct answer *reply = gpu_ask(gpu, &request, sizeof request, 8);
  if (reply == NULL) return;
  expect_choice_equal(reply->used_length, 8, "used length");
  expect_equal(reply->hdr.type, VIRTIO_GPU_RESP_OK_DISPLAY_INFO, "response type");
}

static void test_no_response_buffer(struct gpu *gpu) {
  struct virtio_gpu_ctrl_hdr request = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO};
  const struct answer *reply = gpu_ask(gpu, &request, sizeof request, 0);
  if (reply != NULL) expect_equal(reply->used_length, 0, "used length");
}

static void test_no_request(struct gpu *gpu) {
  const struct answer *reply = gpu_exchange(gpu, NULL, 0, sizeof reply->hdr);
  if (reply != NULL) expect_choice_equal(reply->hdr.type, VIRTIO_GPU_RESP_ERR_UNSPEC, "response type");
}

/* --- resources --- */

static void test_create_2d(struct gpu *gpu) {
  const uint32_t format = VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM;
  expect_equal(gpu_create_2d(gpu, 0, format, SIDE, SIDE), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID, "id 0");
  expect_equal(gpu_create_2d(gpu, RESOURCE, 0, SIDE, SIDE), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER,
               "format 0");
  expect_equal(gpu_create_2d(gpu, RESOURCE, 3000, SIDE, SIDE), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER,
               "format 3000");
  expect_choice_equal(gpu_create_2d(gpu, OTHER_RESOURCE, format, 0, SIDE),
                      VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER, "width 0");
  (void)gpu_unref(gpu, OTHER_RESOURCE); /* where width 0 was accepted */
  expect_ok(gpu_create_2d(gpu, RESOURCE, format, SIDE, SIDE), "CREATE_2D");
  expect_equal(gpu_create_2d(gpu, RESOURCE, format, SIDE, SIDE), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID,
               "id in use");
  expect_ok(gpu_unref(gpu, RESOURCE), "UNREF");
}

/* 65535 x 65535 does not fit in 32 bits of bytes, 2^31 x 2 not even in pixels. */
static void test_create_2d_too_large(struct gpu *gpu) {
  static const uint32_t sizes[][2] = {{65535, 65535}, {1u << 31, 2}, {0x10000, 0x10000}};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    uint32_t type = gpu_create_2d(gpu, RESOURCE, VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, sizes[i][0], sizes[i][1]);
    expect(type == VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY || type == VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER,
           "0x%x for %ux%u", type, sizes[i][0], sizes[i][1]);
  }
}

static void test_unref(struct gpu *gpu) {
  create_with_backing(gpu, RESOURCE);
  create_with_backing(gpu, OTHER_RESOURCE);
  expect_ok(gpu_unref(gpu, OTHER_RESOURCE), "UNREF");
  expect_equal(gpu_unref(gpu, OTHER_RESOURCE), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID, "UNREF twice");
  expect_ok(gpu_transfer(gpu, RESOURCE, whole, 0), "TRANSFER of the one that is left");
  create_with_backing(gpu, OTHER_RESOURCE);
  expect_ok(gpu_unref(gpu, OTHER_RESOURCE), "UNREF of the id's second life");
  expect_ok(gpu_unref(gpu, RESOURCE), "UNREF");
}

static void test_backing(struct gpu *gpu) {
  struct virtio_gpu_mem_entry entry = image_entry();
  expect_equal(gpu_attach_backing(gpu, UNKNOWN_RESOURCE, &entry, 1), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID,
               "ATTACH to no resource");
  expect_ok(gpu_create_2d(gpu, RESOURCE, VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, SIDE, SIDE), "CREATE_2D");
  expect_equal(gpu_transfer(gpu, RESOURCE, whole, 0), VIRTIO_GPU_RESP_ERR_UNSPEC, "TRANSFER without backing");
  expect_equal(gpu_detach_backing(gpu, RESOURCE), VIRTIO_GPU_RESP_ERR_UNSPEC, "DETACH without backing");
  expect_ok(gpu_attach_backing(gpu, RESOURCE, &entry, 1), "ATTACH");
  expect_equal(gpu_attach_backing(gpu, RESOURCE, &entry, 1), VIRTIO_GPU_RESP_ERR_UNSPEC, "ATTACH twice");
  expect_ok(gpu_transfer(gpu, RESOURCE, whole, 0), "TRANSFER");
  expect_ok(gpu_detach_backing(gpu, RESOURCE), "DETACH");
  expect_equal(gpu_detach_backing(gpu, RESOURCE), VIRTIO_GPU_RESP_ERR_UNSPEC, "DETACH twice");
  expect_equal(gpu_detach_backing(gpu, UNKNOWN_RESOURCE), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID,
               "DETACH from no resource");
  expect_ok(gpu_unref(gpu, RESOURCE), "UNREF");
}

/* An entry list that is not there, and entries that are no RAM. */
static void test_backing_entries(struct gpu *gpu) {
  struct virtio_gpu_resource_attach_backing none = {
      .hdr.type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING, .resource_id = RESOURCE, .nr_entries = 0xffffffff};
  struct virtio_gpu_mem_entry nowhere = {.addr = 0xfffffffffffff000, .length = 0xffffffff};
  expect_ok(gpu_create_2d(gpu, RESOURCE, VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, SIDE, SIDE), "CREATE_2D");
  expect_equal(gpu_command(gpu, &none, sizeof none), VIRTIO_GPU_RESP_ERR_UNSPEC, "2^32-1 entries announced");
  expect_equal(gpu_attach_backing(gpu, RESOURCE, &nowhere, 1), VIRTIO_GPU_RESP_ERR_UNSPEC,
               "an entry in no RAM");
  expect_choice_equal(gpu_attach_backing(gpu, RESOURCE, NULL, 0), VIRTIO_GPU_RESP_ERR_UNSPEC, "no entries");
  expect_ok(gpu_unref(gpu, RESOURCE), "UNREF");
}

static void test_transfer(struct gpu *gpu) {
  const uint32_t refused = VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  expect_equal(gpu_transfer(gpu, UNKNOWN_RESOURCE, whole, 0), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID,
               "TRANSFER to no resource");
  create_with_backing(gpu, RESOURCE);
  expect_ok(gpu_transfer(gpu, RESOURCE, whole, 0), "TRANSFER");
  expect_ok(gpu_transfer(gpu, RESOURCE, (struct virtio_gpu_rect){SIDE - 1, SIDE - 1, 1, 1}, IMAGE_BYTES - 4),
            "TRANSFER of the last pixel");
  expect_ok(gpu_transfer(gpu, RESOURCE, whole, IMAGE_BYTES / 2), "TRANSFER of more than there is");
  expect_ok(gpu_transfer(gpu, RESOURCE, (struct virtio_gpu_rect){3, 5, 0, 4}, 0), "TRANSFER of width 0");
  expect_equal(gpu_transfer(gpu, RESOURCE, (struct virtio_gpu_rect){0, 0, SIDE + 1, SIDE}, 0), refused,
               "too wide");
  expect_equal(gpu_transfer(gpu, RESOURCE, (struct virtio_gpu_rect){0, 1, SIDE, SIDE}, 0), refused,
               "too low");
  expect_equal(gpu_transfer(gpu, RESOURCE, (struct virtio_gpu_rect){0xffffffff, 0, 2, 1}, 0), refused,
               "x wraps");
  expect_ok(gpu_unref(gpu, RESOURCE), "UNREF");
}

static void test_flush(struct gpu *gpu) {
  const uint32_t refused = VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  expect_equal(gpu_flush(gpu, UNKNOWN_RESOURCE, whole), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID,
               "FLUSH of no resource");
  create_with_backing(gpu, RESOURCE);
  expect_ok(gpu_flush(gpu, RESOURCE, whole), "FLUSH without a scanout");
  expect_ok(gpu_flush(gpu, RESOURCE, (struct virtio_gpu_rect){3, 5, 0, 0}), "FLUSH of nothing");
  expect_equal(gpu_flush(gpu, RESOURCE, (struct virtio_gpu_rect){1, 0, SIDE, SIDE}), refused, "too wide");
  expect_equal(gpu_flush(gpu, RESOURCE, (struct virtio_gpu_rect){0, 0xffffffff, 1, 2}), refused, "y wraps");
  expect_ok(gpu_unref(gpu, RESOURCE), "UNREF");
}

static void test_set_scanout(struct gpu *gpu) {
  const uint32_t refused = VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  create_with_backing(gpu, RESOURCE);
  expect_equal(gpu_set_scanout(gpu, VIRTIO_GPU_MAX_SCANOUTS, RESOURCE, whole),
               VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID, "scanout 16");
  expect_equal(gpu_set_scanout(gpu, 0xffffffff, 0, nothing), VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID,
               "scanout 2^32-1");
  expect_equal(gpu_set_scanout(gpu, 0, UNKNOWN_RESOURCE, whole), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID,
               "no such resource");
  expect_equal(gpu_set_scanout(gpu, 0, RESOURCE, (struct virtio_gpu_rect){1, 0, SIDE, SIDE}), refused,
               "outside");
  expect_equal(gpu_set_scanout(gpu, 0, RESOURCE, (struct virtio_gpu_rect){0, 0, 1, 1}), refused, "1x1");
  expect_equal(gpu_set_scanout(gpu, 0, RESOURCE, (struct virtio_gpu_rect){0xfffffff0, 0, SIDE, SIDE}),
               refused, "x wraps");
  expect_ok(gpu_set_scanout(gpu, 0, RESOURCE, whole), "SET_SCANOUT");
  expect_ok(gpu_flush(gpu, RESOURCE, whole), "FLUSH");
  expect_ok(gpu_set_scanout(gpu, 0, RESOURCE, (struct virtio_gpu_rect){8, 16, 32, 24}),
            "part of the resource");
  expect_ok(gpu_set_scanout(gpu, 0, 0, nothing), "resource 0 disables");
  expect_ok(gpu_set_scanout(gpu, 0, RESOURCE, whole), "SET_SCANOUT");
  expect_ok(gpu_unref(gpu, RESOURCE), "UNREF of what is on the screen");
}

/* Nothing of this may be answered, or stop the queue. */
static void test_cursor_mistakes(struct gpu *gpu) {
  const struct virtio_gpu_cursor_pos here = {.scanout_id = 0, .x = 1, .y = 1};
  const struct virtio_gpu_cursor_pos nowhere = {.scanout_id = 99, .x = 0x80000000, .y = 0x80000000};
  gpu_cursor(gpu, VIRTIO_GPU_CMD_UPDATE_CURSOR, here, UNKNOWN_RESOURCE, 0, 0);
  gpu_cursor(gpu, VIRTIO_GPU_CMD_UPDATE_CURSOR, nowhere, UNKNOWN_RESOURCE, 0x80000000, 0x80000000);
  gpu_cursor(gpu, VIRTIO_GPU_CMD_MOVE_CURSOR, nowhere, 0, 0, 0);
  gpu_cursor(gpu, VIRTIO_GPU_CMD_GET_DISPLAY_INFO, here, 0, 0, 0);
  gpu_cursor(gpu, VIRTIO_GPU_CMD_UPDATE_CURSOR, here, 0, 0, 0);
}

void check_commands(struct gpu *gpu) {
  static const struct gpu_test tests[] = {
      {"gpu-display-info", test_display_info},
      {"gpu-edid", test_edid},
      {"gpu-edid-of-no-scanout", test_edid_of_no_scanout},
      {"gpu-fence", test_fence},
      {"gpu-fence-on-error", test_fence_on_error},
      {"gpu-no-fence", test_no_fence},
      {"gpu-unknown-commands", test_unknown_commands},
      {"gpu-commands-without-feature", test_commands_without_feature},
      {"gpu-capset-info", test_capset_info},
      {"gpu-short-request", test_short_request},
      {"gpu-short-header", test_short_header},
      {"gpu-long-request", test_long_request},
      {"gpu-split-request", test_split_request},
      {"gpu-small-response-buffer", test_small_response_buffer},
      {"gpu-no-response-buffer", test_no_response_buffer},
      {"gpu-no-request", test_no_request},
      {"gpu-create-2d", test_create_2d},
      {"gpu-create-2d-too-large", test_create_2d_too_large},
      {"gpu-unref", test_unref},
      {"gpu-backing", test_backing},
      {"gpu-backing-entries", test_backing_entries},
      {"gpu-transfer", test_transfer},
      {"gpu-flush", test_flush},
      {"gpu-set-scanout", test_set_scanout},
      {"gpu-cursor-mistakes", test_cursor_mistakes},
  };
  test_begin("gpu-bring-up");
  const uint64_t features =
      FEATURE(VIRTIO_F_EVENT_IDX) | FEATURE(VIRTIO_F_INDIRECT_DESC) | FEATURE(VIRTIO_GPU_F_EDID);
  bool is_up = gpu_bring_up(gpu, features, QUEUE_SIZE_LIMIT);
  test_end();
  if (is_up) RUN_TESTS(gpu, tests);
}
