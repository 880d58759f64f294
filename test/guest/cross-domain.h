/*
 * The guest's side of a cross-domain context that leads to the host's compositor, by plain ioctls of virtio_gpu: what
 * wayland.c and proxy.c share. Whatever goes wrong ends the program.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "virtgpu.h"

struct transfer {
  struct header header;
  uint32_t count, data_size, ids[MAX_IDS], types[MAX_IDS], sizes[MAX_IDS];
  uint8_t data[];
};
struct pipe_data {
  struct header header;
  uint32_t id, hang_up, data_size, pad;
  uint8_t data[];
};

struct blob {
  uint32_t handle, resource;
  size_t size;
  uint8_t *bytes;
};

static int card = -1;
static struct blob query_ring, channel_ring;
/* Of pipes that the host is to read for us. */
static uint32_t next_read_pipe = 0x80000001;

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printf("%s error: ", program_invocation_short_name);
  vprintf(format, arguments);
  printf("\n");
  va_end(arguments);
  exit(1);
}

static void drm(unsigned long request, void *argument, const char *name) {
  int result;
  do result = ioctl(card, request, argument);
  while (result < 0 && (errno == EINTR || errno == EAGAIN));
  if (result < 0) die("%s: %s", name, strerror(errno));
}
#define DRM(name, argument) drm(VIRTGPU_##name, argument, #name)

/* ---------------------------------------------------------------- the context */

static void execute(void *commands, size_t size, uint32_t flags, uint32_t ring, uint32_t handle) {
  struct virtgpu_execbuffer execbuffer = {
      .flags = flags,
      .size = (uint32_t)size,
      .command = (uintptr_t)commands,
      .handles = (uintptr_t)&handle,
      .handle_count = handle ? 1 : 0,
      .fence_fd = -1,
      .ring = ring,
  };
  DRM(EXECBUFFER, &execbuffer);
}

static struct blob create_blob(uint32_t memory, uint64_t id, size_t size) {
  uint32_t shareable = memory == VIRTGPU_BLOB_MEM_HOST3D ? VIRTGPU_BLOB_FLAG_USE_SHAREABLE : 0;
  struct virtgpu_create_blob create = {
      .memory = memory,
      .flags = VIRTGPU_BLOB_FLAG_USE_MAPPABLE | shareable,
      .size = size,
      .id = id,
  };
  DRM(CREATE_BLOB, &create);
  struct virtgpu_map map = {.handle = create.handle};
  DRM(MAP, &map);
  struct blob blob = {
      .handle = create.handle, .resource = create.resource, .size = (size + PAGE - 1) / PAGE * PAGE};
  blob.bytes = mmap(NULL, blob.size, PROT_READ | PROT_WRITE, MAP_SHARED, card, (off_t)map.offset);
  if (blob.bytes == MAP_FAILED) die("mapping a blob of %zu bytes: %s", size, strerror(errno));
  return blob;
}

static void destroy_blob(struct blob *blob) {
  munmap(blob->bytes, blob->size);
  struct drm_gem_close gem_close = {.handle = blob->handle};
  drm(DRM_IOCTL_GEM_CLOSE, &gem_close, "GEM_CLOSE");
}

/* A wish to be told of one message. */
static void ask_for_message(void) {
  struct {
    struct header header;
    uint64_t pad;
  } command = {.header = {.command = POLL, .ring = CHANNEL_RING, .size = sizeof command}};
  execute(&command, sizeof command, VIRTGPU_EXECBUF_RING_IDX, CHANNEL_RING, channel_ring.handle);
}

static void open_context(void) {
  card = open("/dev/dri/renderD128", O_RDWR | O_CLOEXEC);
  if (card < 0) die("/dev/dri/renderD128: %s", strerror(errno));
  uint64_t capsets = 0;
  struct virtgpu_getparam parameter = {VIRTGPU_PARAM_SUPPORTED_CAPSET_IDS, (uintptr_t)&capsets};
  DRM(GETPARAM, &parameter);
  uint32_t capset[4] = {0};
  struct virtgpu_get_caps caps = {.id = CAPSET, .bytes = (uintptr_t)capset, .size = sizeof capset};
  DRM(GET_CAPS, &caps);
  if (!(capsets >> CAPSET & 1) || !(capset[1] >> CHANNEL_WAYLAND & 1)) die("the device has no Wayland channel");
  struct virtgpu_context_parameter parameters[] = {
      {VIRTGPU_CONTEXT_PARAM_CAPSET_ID, CAPSET},
      {VIRTGPU_CONTEXT_PARAM_NUM_RINGS, 2},
      {VIRTGPU_CONTEXT_PARAM_POLL_RINGS_MASK, 1 << CHANNEL_RING},
  };
  struct virtgpu_context_init init = {.count = 3, .parameters = (uintptr_t)parameters};
  DRM(CONTEXT_INIT, &init);
  query_ring = create_blob(VIRTGPU_BLOB_MEM_GUEST, 0, PAGE);
  channel_ring = create_blob(VIRTGPU_BLOB_MEM_GUEST, 0, PAGE);
  struct {
    struct header header;
    uint32_t query_ring, channel_ring, channel_type;
  } command = {{.command = INIT, .size = sizeof command}, query_ring.resource, channel_ring.resource, CHANNEL_WAYLAND};
  execute(&command, sizeof command, 0, 0, 0);
  ask_for_message();
}

/* Memory that can be sent to the compositor. */
static struct blob allocate(size_t size) {
  struct {
    struct header header;
    uint32_t width, height, format, flags;
  } command = {{.command = GET_IMAGE_REQUIREMENTS, .size = sizeof command}, (uint32_t)size, 1, R8, 0x11};
  execute(&command, sizeof command, VIRTGPU_EXECBUF_RING_IDX, QUERY_RING, query_ring.handle);
  struct virtgpu_wait wait = {.handle = query_ring.handle};
  DRM(WAIT, &wait);
  struct image_requirements image;
  memcpy(&image, query_ring.bytes, sizeof image);
  if (image.size < size || image.blob_id == 0) die("no memory for %zu bytes", size);
  return create_blob(VIRTGPU_BLOB_MEM_HOST3D, image.blob_id, image.size);
}

/* ---------------------------------------------------------------- messages */

static uint32_t word_at(const uint8_t *bytes) {
  uint32_t word;
  memcpy(&word, bytes, sizeof word);
  return word;
}

static union {
  struct transfer transfer;
  uint8_t bytes[sizeof(struct transfer) + PAGE];
} outgoing;

static void put(const void *bytes, size_t size) {
  if (outgoing.transfer.data_size + size > PAGE) die("too many requests at once");
  memcpy(outgoing.transfer.data + outgoing.transfer.data_size, bytes, size);
  outgoing.transfer.data_size += (uint32_t)size;
}

static void put_id(uint32_t type, uint32_t id) {
  outgoing.transfer.types[outgoing.transfer.count] = type;
  outgoing.transfer.ids[outgoing.transfer.count++] = id;
}

/* Sends what has been put together, as one command. */
static void flush(void) {
  if (outgoing.transfer.data_size == 0) return;
  size_t size = sizeof(struct transfer) + outgoing.transfer.data_size;
  outgoing.transfer.header = (struct header){.command = SEND, .size = (uint16_t)size};
  execute(&outgoing, size, 0, 0, 0);
  memset(&outgoing.transfer, 0, sizeof outgoing.transfer);
}

static void write_to_pipe(uint32_t id, const uint8_t *bytes, size_t size, bool hang_up) {
  static union {
    struct pipe_data pipe;
    uint8_t bytes[PAGE];
  } command;
  command.pipe = (struct pipe_data){
      .header = {.command = WRITE, .size = (uint16_t)(sizeof(struct pipe_data) + size)},
      .id = id,
      .hang_up = hang_up,
      .data_size = (uint32_t)size,
  };
  memcpy(command.pipe.data, bytes, size);
  execute(&command, sizeof(struct pipe_data) + size, 0, 0, 0);
}

/* Takes the message out of the channel ring, once the driver has told of it, and wants the next one. */
static const uint8_t *take_message(void) {
  static uint8_t page[PAGE];
  struct drm_event event;
  if (read(card, &event, sizeof event) != sizeof event || event.type != VIRTGPU_EVENT_FENCE_SIGNALED)
    die("an event of the driver that is none");
  memcpy(page, channel_ring.bytes, PAGE);
  ask_for_message();
  /* The first word is the command, and nothing else. */
  if ((page[0] != RECEIVE && page[0] != READ) || page[1] || page[2] || page[3]) die("a message that is none");
  return page;
}
