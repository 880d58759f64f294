#include "wayland.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "picture.h"

#define CONTEXT_ID 2u
#define RING_IDS 64u
#define BUFFER_RESOURCE_ID 66u

/* Ids of objects: all that there are, in the order in which they are made. */
enum object { DISPLAY = 1, REGISTRY, CALLBACK, COMPOSITOR, SHM, SURFACE, POOL, BUFFER };
enum request {
  WL_DISPLAY_SYNC = 0,
  WL_DISPLAY_GET_REGISTRY = 1,
  WL_REGISTRY_BIND = 0,
  WL_COMPOSITOR_CREATE_SURFACE = 0,
  WL_SHM_CREATE_POOL = 0,
  WL_SHM_POOL_CREATE_BUFFER = 0,
  WL_SURFACE_ATTACH = 1,
  WL_SURFACE_COMMIT = 6,
  WL_SURFACE_DAMAGE_BUFFER = 9,
};
enum event { WL_DISPLAY_ERROR = 0, WL_DISPLAY_DELETE_ID = 1, WL_REGISTRY_GLOBAL = 0, WL_CALLBACK_DONE = 0 };
#define WL_SHM_FORMAT_XRGB8888 1u

/* --- messages --- */

struct message {
  uint32_t words[256];
  size_t count;
};

static void add_request(struct message *message, enum object object, uint32_t opcode, size_t count,
                        const uint32_t *arguments) {
  if (message->count + 2 + count > sizeof message->words / sizeof message->words[0]) fail("too long a message");
  uint32_t *to = message->words + message->count;
  to[0] = object;
  to[1] = (uint32_t)(8 + 4 * count) << 16 | opcode;
  if (count > 0) memcpy(to + 2, arguments, 4 * count);
  message->count += 2 + count;
}

#define ADD(message, object, opcode, ...)                                   \
  do {                                                                      \
    const uint32_t arguments[] = {__VA_ARGS__};                             \
    add_request(message, object, opcode, sizeof arguments / 4, arguments);  \
  } while (0)

static void add_bind(struct message *message, uint32_t name, const char *interface, uint32_t version,
                     enum object object) {
  uint32_t arguments[32] = {name, (uint32_t)strlen(interface) + 1};
  size_t text_words = (arguments[1] + 3) / 4;
  memcpy(arguments + 2, interface, arguments[1]);
  arguments[2 + text_words] = version;
  arguments[3 + text_words] = object;
  add_request(message, REGISTRY, WL_REGISTRY_BIND, 4 + text_words, arguments);
}

/* What is waited for, and what was learned on the way. */
struct heard {
  bool is_done, is_deleted;
  uint32_t compositor_name, shm_name;
  /* A message that has not come whole. */
  uint8_t rest[8192];
  size_t rest_bytes;
};

static void hear_global(struct heard *heard, const uint8_t *body) {
  uint32_t name;
  memcpy(&name, body, 4);
  const char *interface = (const char *)body + 8;
  if (strcmp(interface, "wl_compositor") == 0) heard->compositor_name = name;
  if (strcmp(interface, "wl_shm") == 0) heard->shm_name = name;
}

static void hear(struct heard *heard, const uint8_t *bytes, size_t length) {
  if (length > sizeof heard->rest - heard->rest_bytes) fail("the compositor says too much");
  memcpy(heard->rest + heard->rest_bytes, bytes, length);
  heard->rest_bytes += length;
  size_t at = 0;
  for (uint32_t words[3]; heard->rest_bytes - at >= 8;) {
    memcpy(words, heard->rest + at, 8);
    uint32_t size = words[1] >> 16, opcode = words[1] & 0xffff;
    if (size < 8) fail("an event of %u bytes", size);
    if (heard->rest_bytes - at < size) break;
    const uint8_t *body = heard->rest + at + 8;
    if (words[0] == DISPLAY && opcode == WL_DISPLAY_ERROR) fail("error: %s", (const char *)body + 12);
    if (words[0] == REGISTRY && opcode == WL_REGISTRY_GLOBAL) hear_global(heard, body);
    if (words[0] == CALLBACK && opcode == WL_CALLBACK_DONE) heard->is_done = true;
    if (words[0] == DISPLAY && opcode == WL_DISPLAY_DELETE_ID) {
      memcpy(words, body, 4);
      if (words[0] == CALLBACK) heard->is_deleted = true;
    }
    at += size;
  }
  memmove(heard->rest, heard->rest + at, heard->rest_bytes - at);
  heard->rest_bytes -= at;
}

/* --- the way over the device --- */

struct cross_domain_send_command {
  struct virtio_gpu_cmd_submit submit;
  struct cross_domain_send_receive send;
  uint32_t data[256];
};

static void post_poll(const struct context *context) {
  struct {
    struct virtio_gpu_cmd_submit submit;
    struct cross_domain_poll poll;
  } command = {
      .submit = {
          .hdr = {
              .type = VIRTIO_GPU_CMD_SUBMIT_3D,
              .flags = VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX,
              .fence_id = 1,
              .ctx_id = context->id,
              .ring_idx = CROSS_DOMAIN_CHANNEL_RING,
          },
          .size = sizeof command.poll,
      },
      .poll.hdr = {.cmd = CROSS_DOMAIN_CMD_POLL, .cmd_size = sizeof command.poll},
  };
  driver_add(context->driver, &command, sizeof command);
}

static void hear_device(const struct context *context, struct heard *heard) {
  struct cross_domain_send_receive receive;
  memcpy(&receive, context->channel_ring, sizeof receive);
  if (receive.hdr.cmd != CROSS_DOMAIN_CMD_RECEIVE || receive.num_identifiers != 0)
    fail("message %u with %u descriptors", receive.hdr.cmd, receive.num_identifiers);
  if (receive.opaque_data_size > PAGE_BYTES - sizeof receive) fail("a message of %u bytes", receive.opaque_data_size);
  hear(heard, context->channel_ring + sizeof receive, receive.opaque_data_size);
}

static uint64_t exchange_over_device(const struct wayland *wayland, const struct message *message, bool has_buffer,
                                     struct heard *heard) {
  const struct context *context = &wayland->context;
  struct driver *driver = context->driver;
  struct cross_domain_send_command *command = wayland->send;
  uint32_t data_bytes = (uint32_t)(4 * message->count);
  uint32_t size = (uint32_t)sizeof command->send + data_bytes;
  /* Before anything is said, as proxies do. */
  post_poll(context);
  driver_kick(driver);
  uint64_t start = now_ns();
  memset(command, 0, sizeof *command);
  command->submit = (struct virtio_gpu_cmd_submit){
      .hdr = {.type = VIRTIO_GPU_CMD_SUBMIT_3D, .ctx_id = context->id},
      .size = size,
  };
  command->send.hdr = (struct cross_domain_header){.cmd = CROSS_DOMAIN_CMD_SEND, .cmd_size = (uint16_t)size};
  command->send.num_identifiers = has_buffer;
  command->send.opaque_data_size = data_bytes;
  if (has_buffer) {
    command->send.identifiers[0] = BUFFER_RESOURCE_ID;
    command->send.identifier_types[0] = CROSS_DOMAIN_ID_TYPE_VIRTGPU_BLOB;
  }
  memcpy(command->data, message->words, data_bytes);
  queue_enable_interrupt(&driver->control);
  driver_add_in_place(driver, command, (uint32_t)sizeof command->submit + size);
  driver_kick(driver);
  for (;;) {
    driver_finish(driver);
    hear_device(context, heard);
    if (heard->is_done && heard->is_deleted) return now_ns() - start;
    queue_enable_interrupt(&driver->control);
    post_poll(context);
    driver_kick(driver);
  }
}

/* --- the straight way --- */

static uint64_t exchange_directly(const struct wayland *wayland, const struct message *message, bool has_buffer,
                                  struct heard *heard) {
  uint64_t start = now_ns();
  struct iovec data = {(void *)message->words, 4 * message->count};
  _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int))] = {0};
  struct msghdr header = {.msg_iov = &data, .msg_iovlen = 1};
  if (has_buffer) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
    *rights = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(rights), &wayland->buffer_fd, sizeof(int));
  }
  if (sendmsg(wayland->socket, &header, MSG_NOSIGNAL) != (ssize_t)data.iov_len) fail_errno("sendmsg");
  while (!heard->is_done || !heard->is_deleted) {
    uint8_t bytes[4096];
    ssize_t length = recv(wayland->socket, bytes, sizeof bytes, 0);
    if (length <= 0) fail_errno("recv");
    hear(heard, bytes, (size_t)length);
  }
  return now_ns() - start;
}

/* --- both --- */

/* Says this and waits until the compositor has done it; the time it took. */
static uint64_t exchange(const struct wayland *wayland, struct message *message, bool has_buffer,
                         struct heard *heard) {
  ADD(message, DISPLAY, WL_DISPLAY_SYNC, CALLBACK);
  heard->is_done = heard->is_deleted = false;
  return wayland->is_direct ? exchange_directly(wayland, message, has_buffer, heard)
                            : exchange_over_device(wayland, message, has_buffer, heard);
}

static void make_surface(const struct wayland *wayland) {
  struct heard heard = {0};
  struct message message = {0};
  ADD(&message, DISPLAY, WL_DISPLAY_GET_REGISTRY, REGISTRY);
  exchange(wayland, &message, false, &heard);
  if (heard.compositor_name == 0 || heard.shm_name == 0) fail("the compositor has no wl_compositor or no wl_shm");
  message.count = 0;
  add_bind(&message, heard.compositor_name, "wl_compositor", 4, COMPOSITOR);
  add_bind(&message, heard.shm_name, "wl_shm", 1, SHM);
  ADD(&message, COMPOSITOR, WL_COMPOSITOR_CREATE_SURFACE, SURFACE);
  ADD(&message, SHM, WL_SHM_CREATE_POOL, POOL, PICTURE_BYTES);
  ADD(&message, POOL, WL_SHM_POOL_CREATE_BUFFER, BUFFER, 0, PICTURE_WIDTH, PICTURE_HEIGHT,
      PICTURE_WIDTH * BYTES_PER_PIXEL, WL_SHM_FORMAT_XRGB8888);
  exchange(wayland, &message, true, &heard);
}

struct wayland wayland_over_device(struct driver *driver, struct ram *ram) {
  struct wayland wayland = {
      .context = context_make(driver, ram, CONTEXT_ID, RING_IDS, CROSS_DOMAIN_CHANNEL_WAYLAND),
      .send = ram_take(ram, sizeof(struct cross_domain_send_command)),
  };
  struct cross_domain_image_requirements image = context_picture(&wayland.context);
  context_make_blob(&wayland.context, BUFFER_RESOURCE_ID, &image);
  context_attach(&wayland.context, BUFFER_RESOURCE_ID);
  struct virtio_gpu_resource_map_blob map = {
      .hdr.type = VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB,
      .resource_id = BUFFER_RESOURCE_ID,
  };
  driver_command(driver, &map, sizeof map);
  wayland.pixels = vfio_user_map_region(&driver->connection, driver->window.region).bytes;
  make_surface(&wayland);
  return wayland;
}

struct wayland wayland_direct(const char *path) {
  struct wayland wayland = {.is_direct = true, .socket = connect_to(path)};
  struct file_window buffer = memfd_make("picture", PICTURE_BYTES);
  wayland.buffer_fd = buffer.fd;
  wayland.pixels = buffer.bytes;
  make_surface(&wayland);
  return wayland;
}

static void measure(const struct wayland *wayland, bool is_frame, uint32_t count) {
  static uint8_t colour;
  struct heard heard = {0};
  struct samples samples;
  samples_begin(&samples, count);
  for (uint32_t i = 0; i < count; i++) {
    struct message message = {0};
    if (is_frame) {
      memset(wayland->pixels, ++colour, PICTURE_BYTES);
      ADD(&message, SURFACE, WL_SURFACE_ATTACH, BUFFER, 0, 0);
      ADD(&message, SURFACE, WL_SURFACE_DAMAGE_BUFFER, 0, 0, PICTURE_WIDTH, PICTURE_HEIGHT);
      add_request(&message, SURFACE, WL_SURFACE_COMMIT, 0, NULL);
    }
    samples_add(&samples, exchange(wayland, &message, false, &heard));
  }
  putchar('{');
  samples_print("exchange", &samples);
  putchar('}');
  samples_end(&samples);
}

bool wayland_obey(const struct wayland *clients, const struct order *order) {
  if (!order_is(order, "wayland")) return false;
  bool is_frame = strcmp(order_word(order, 1), "frames") == 0;
  measure(&clients[strcmp(order_word(order, 2), "direct") == 0], is_frame, order_number(order, 3));
  order_answered();
  return true;
}
