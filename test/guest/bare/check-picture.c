/*
 * Reset, then the picture that stays on the screen. What the host must find there, for a display of W x H
 * (bare.ts computes the same):
 *
 *   word(x, y) = 0xa5000000 | (y & 0xfff) << 12 | (x & 0xfff)    little-endian: bytes B, G, R, unused
 *
 * Every pixel names its own place: a wrong colour tells where it came from. Two rectangles are then updated:
 *
 *   first   x = W/8 + 1, y = H/8 + 1, width = W/4 + 3, height = H/4 + 3: word ^ 0x00ffffff
 *   second  x = W/2 + 5, y = H/2 + 7, width = W/4 - 1, height = H/4 - 3: word ^ 0x00ff00ff
 *
 * Divisions round down. Before each update the whole backing is filled with POISON, which must not appear.
 * The second update is read from another place of the backing than it goes to in the picture.
 *
 * The cursor is 64 x 64, premultiplied ARGB, hotspot (1, 2), position (40, 24). By x + y: below 48
 * 0xff000040 | 4x << 16 | 4y << 8, below 64 the half-transparent 0x80404040, otherwise 0.
 */
#include "check.h"
#include "memory.h"
#include "report.h"
#include "serial.h"

#define QUEUE_SIZE_LIMIT QUEUE_SIZE_MAX

#define PICTURE_RESOURCE 1
#define CURSOR_RESOURCE 2
#define SPARE_RESOURCE 3

#define UNUSED_BYTE 0xa5000000u
#define COORDINATE_MASK 0xfffu
#define POISON 0xa5bad0bau
#define FIRST_UPDATE_XOR 0x00ffffffu
#define SECOND_UPDATE_XOR 0x00ff00ffu
#define SECOND_UPDATE_OFFSET 12u /* in the backing: three pixels from its start */

#define CURSOR_SIDE 64u
#define CURSOR_HOT_X 1
#define CURSOR_HOT_Y 2
#define CURSOR_X 40
#define CURSOR_Y 24

/* --- a scattered backing --- */

/*
 * Pieces of 4096, 8192 and 12284 bytes in turn, each at the end of a slot of 12288, the slots in shuffled
 * order: neighbours in the picture are apart in memory, and the last kind neither begins nor fills a page.
 */
#define PIECE_KINDS 3u
#define CYCLE_BYTES (4096u + 8192u + 12284u)
#define SLOT_BYTES 12288u
#define PIECES_MAX 16384u
/* The step is odd, so that i * 5 + 3 visits every slot when their number is a power of two. */
#define SHUFFLE_STEP 5u
#define SHUFFLE_START 3u

static const uint32_t piece_bytes[PIECE_KINDS] = {4096, 8192, 12284};
static struct virtio_gpu_mem_entry pieces[PIECES_MAX];
static uint32_t piece_count;

static bool take_backing(uint32_t bytes) {
  piece_count = (bytes + CYCLE_BYTES - 1) / CYCLE_BYTES * PIECE_KINDS;
  uint32_t slots = 1;
  while (slots < piece_count) slots *= 2;
  if (!expect(piece_count <= PIECES_MAX, "the display needs %u pieces", piece_count)) return false;
  uint8_t *memory = memory_take(slots * SLOT_BYTES);
  if (!expect(memory != NULL, "%u bytes of backing do not fit in RAM", slots * SLOT_BYTES)) return false;
  for (uint32_t i = 0; i < piece_count; i++) {
    uint32_t length = piece_bytes[i % PIECE_KINDS];
    uint32_t slot = (i * SHUFFLE_STEP + SHUFFLE_START) & (slots - 1);
    pieces[i] = (struct virtio_gpu_mem_entry){.addr = (uint32_t)memory + (slot + 1) * SLOT_BYTES - length,
                                              .length = length};
  }
  return true;
}

/* The memory at `offset` of the backing, and how many bytes of it lie together. */
static uint32_t *backing_at(uint32_t offset, uint32_t *together) {
  uint32_t piece = offset / CYCLE_BYTES * PIECE_KINDS;
  uint32_t inside = offset % CYCLE_BYTES;
  while (inside >= pieces[piece].length) inside -= pieces[piece++].length;
  *together = pieces[piece].length - inside;
  return (uint32_t *)((uint32_t)pieces[piece].addr + inside);
}

static void poison_backing(void) {
  for (uint32_t i = 0; i < piece_count; i++) {
    void *at = (void *)(uint32_t)pieces[i].addr;
    uint32_t words = pieces[i].length / 4;
    __asm__ volatile("rep stosl" : "+D"(at), "+c"(words) : "a"(POISON) : "memory");
  }
}

/* --- drawing --- */

/* `count` pixels of the picture's row y from x on, to `offset` of the backing. */
static void draw_row(uint32_t x, uint32_t y, uint32_t count, uint32_t offset, uint32_t xor) {
  uint32_t row = (UNUSED_BYTE | (y & COORDINATE_MASK) << 12) ^ xor;
  while (count > 0) {
    uint32_t together;
    uint32_t *pixel = backing_at(offset, &together);
    uint32_t run = together / BYTES_PER_PIXEL < count ? together / BYTES_PER_PIXEL : count;
    for (uint32_t *end = pixel + run; pixel != end; pixel++, x++) *pixel = row ^ (x & COORDINATE_MASK);
    offset += run * BYTES_PER_PIXEL;
    count -= run;
  }
}

/* Draws `rect` with its first pixel at `offset` of the backing, and has that shown. */
static void update(struct gpu *gpu, struct virtio_gpu_rect rect, uint32_t offset, uint32_t xor) {
  for (uint32_t y = 0; y < rect.height; y++) {
    draw_row(rect.x, rect.y + y, rect.width, offset + y * gpu->width * BYTES_PER_PIXEL, xor);
  }
  expect_ok(gpu_transfer(gpu, PICTURE_RESOURCE, rect, offset), "TRANSFER_TO_HOST_2D");
  expect_ok(gpu_flush(gpu, PICTURE_RESOURCE, rect), "RESOURCE_FLUSH");
}

static uint32_t natural_offset(const struct gpu *gpu, struct virtio_gpu_rect rect) {
  return (rect.y * gpu->width + rect.x) * BYTES_PER_PIXEL;
}

/* --- tests --- */

/* Resources of before, a display size of now. */
static void test_reset_forgets(struct gpu *gpu) {
  const uint32_t format = VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM;
  const uint64_t features = FEATURE(VIRTIO_F_EVENT_IDX) | FEATURE(VIRTIO_F_INDIRECT_DESC);
  expect_ok(gpu_create_2d(gpu, PICTURE_RESOURCE, format, 32, 32), "RESOURCE_CREATE_2D");
  virtio_reset(&gpu->device);
  expect_equal(gpu->device.common->device_status, 0, "status read at once after reset");
  if (!gpu_bring_up(gpu, features, QUEUE_SIZE_LIMIT)) return;
  expect_equal(gpu_unref(gpu, PICTURE_RESOURCE), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID,
               "UNREF of a resource of before");
}

static void test_picture(struct gpu *gpu) {
  if (!gpu_read_display(gpu)) return;
  const struct virtio_gpu_rect all = {0, 0, gpu->width, gpu->height};
  if (!take_backing(gpu->width * gpu->height * BYTES_PER_PIXEL)) return;
  expect_ok(gpu_create_2d(gpu, PICTURE_RESOURCE, VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, gpu->width, gpu->height),
            "RESOURCE_CREATE_2D");
  expect_ok(gpu_attach_backing(gpu, PICTURE_RESOURCE, pieces, piece_count), "RESOURCE_ATTACH_BACKING");
  expect_ok(gpu_set_scanout(gpu, 0, PICTURE_RESOURCE, all), "SET_SCANOUT");
  update(gpu, all, 0, 0);
  pass_with("%u pieces", piece_count);
}

static void test_first_update(struct gpu *gpu) {
  const struct virtio_gpu_rect rect = {gpu->width / 8 + 1, gpu->height / 8 + 1, gpu->width / 4 + 3,
                                       gpu->height / 4 + 3};
  poison_backing();
  update(gpu, rect, natural_offset(gpu, rect), FIRST_UPDATE_XOR);
}

static void test_second_update(struct gpu *gpu) {
  const struct virtio_gpu_rect rect = {gpu->width / 2 + 5, gpu->height / 2 + 7, gpu->width / 4 - 1,
                                       gpu->height / 4 - 3};
  poison_backing();
  update(gpu, rect, SECOND_UPDATE_OFFSET, SECOND_UPDATE_XOR);
}

/* The picture must survive this. */
static void test_second_resource(struct gpu *gpu) {
  const struct virtio_gpu_mem_entry entry = pieces[0];
  expect_ok(gpu_create_2d(gpu, SPARE_RESOURCE, VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, 32, 32),
            "RESOURCE_CREATE_2D");
  expect_ok(gpu_attach_backing(gpu, SPARE_RESOURCE, &entry, 1), "RESOURCE_ATTACH_BACKING");
  expect_ok(gpu_transfer(gpu, SPARE_RESOURCE, (struct virtio_gpu_rect){0, 0, 32, 32}, 0),
            "TRANSFER_TO_HOST_2D");
  expect_ok(gpu_unref(gpu, SPARE_RESOURCE), "RESOURCE_UNREF");
}

static uint32_t cursor_image[CURSOR_SIDE * CURSOR_SIDE] __attribute__((aligned(PAGE_BYTES)));

static void draw_cursor(void) {
  for (uint32_t y = 0; y < CURSOR_SIDE; y++) {
    for (uint32_t x = 0; x < CURSOR_SIDE; x++) {
      uint32_t *pixel = &cursor_image[y * CURSOR_SIDE + x];
      if (x + y < 48) *pixel = 0xff000040 | 4 * x << 16 | 4 * y << 8;
      else *pixel = x + y < 64 ? 0x80404040 : 0;
    }
  }
}

static void test_cursor(struct gpu *gpu) {
  const struct virtio_gpu_mem_entry entry = {.addr = (uint32_t)cursor_image, .length = sizeof cursor_image};
  const struct virtio_gpu_rect all = {0, 0, CURSOR_SIDE, CURSOR_SIDE};
  const struct virtio_gpu_cursor_pos first = {.x = 3, .y = 0xfffffffe};
  const struct virtio_gpu_cursor_pos last = {.x = CURSOR_X, .y = CURSOR_Y};
  draw_cursor();
  expect_ok(gpu_create_2d(gpu, CURSOR_RESOURCE, VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, CURSOR_SIDE, CURSOR_SIDE),
            "RESOURCE_CREATE_2D");
  expect_ok(gpu_attach_backing(gpu, CURSOR_RESOURCE, &entry, 1), "RESOURCE_ATTACH_BACKING");
  expect_ok(gpu_transfer(gpu, CURSOR_RESOURCE, all, 0), "TRANSFER_TO_HOST_2D");
  gpu_cursor(gpu, VIRTIO_GPU_CMD_UPDATE_CURSOR, first, CURSOR_RESOURCE, CURSOR_HOT_X, CURSOR_HOT_Y);
  gpu_cursor(gpu, VIRTIO_GPU_CMD_MOVE_CURSOR, last, CURSOR_RESOURCE, CURSOR_HOT_X, CURSOR_HOT_Y);
}

void check_picture(struct gpu *gpu) {
  static const struct gpu_test tests[] = {
      {"reset-forgets", test_reset_forgets},
      {"picture", test_picture},
      {"picture-first-update", test_first_update},
      {"picture-second-update", test_second_update},
      {"picture-second-resource", test_second_resource},
      {"cursor", test_cursor},
  };
  if (RUN_TESTS(gpu, tests)) serial_print("BARE PICTURE %ux%u\n", gpu->width, gpu->height);
}
