#include "vfio-user.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "measure.h"

#define ANSWER_TIMEOUT_SECONDS 10
#define MAX_FDS 4
#define MAX_TEXT 256

struct version_message {
  struct vfio_user_header header;
  uint16_t major;
  uint16_t minor;
  char text[MAX_TEXT];
};

struct dma_map_body {
  uint32_t argsz;
  uint32_t flags;
  uint64_t offset;
  uint64_t address;
  uint64_t size;
};
_Static_assert(sizeof(struct dma_map_body) == 32, "dma_map_body");
#define DMA_MAP_READ_WRITE 0x3u

struct set_irqs_body {
  uint32_t argsz;
  uint32_t flags;
  uint32_t index;
  uint32_t start;
  uint32_t count;
};
_Static_assert(sizeof(struct set_irqs_body) == 20, "set_irqs_body");
#define IRQ_DATA_EVENTFD 0x04u
#define IRQ_ACTION_TRIGGER 0x20u

struct region_info_body {
  uint32_t argsz;
  uint32_t flags;
  uint32_t index;
  uint32_t cap_offset;
  uint64_t size;
  uint64_t offset;
};
_Static_assert(sizeof(struct region_info_body) == 32, "region_info_body");
#define REGION_INFO_MMAP 0x4u

static const char proposal[] = "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576}}";

/* --- one message each way --- */

static struct vfio_user_header next_header(struct connection *connection, enum vfio_user_command command,
                                           size_t size) {
  return (struct vfio_user_header){
      .id = connection->next_id++,
      .command = (uint16_t)command,
      .size = (uint32_t)size,
  };
}

static void send_message(int socket, const void *message, size_t size) {
  if (send(socket, message, size, MSG_NOSIGNAL) != (ssize_t)size) fail_errno("send");
}

/* Ends the program unless `answer` is a good one to `sent`, of `size` bytes. */
static void check_answer(const struct vfio_user_header *sent, const void *answer, ssize_t received,
                         size_t size) {
  if (received == 0) fail("the server has closed the connection");
  if (received < 0) fail_errno("no answer of the server");
  const struct vfio_user_header *header = answer;
  if (header->flags != VFIO_USER_REPLY)
    fail("command %u was refused with errno %u", sent->command, header->error);
  if ((size_t)received != size || header->size != size || header->id != sent->id ||
      header->command != sent->command) {
    fail("answer %u to command %u has %u bytes, expected %u, %u and %zu", header->id, header->command,
         header->size, sent->id, sent->command, size);
  }
}

/* Takes the answer to `sent`, which has exactly `size` bytes. */
static void receive_answer(int socket, const struct vfio_user_header *sent, void *answer, size_t size) {
  check_answer(sent, answer, recv(socket, answer, size, MSG_WAITALL), size);
}

/* --- set-up --- */

/* A command with descriptors, answered by a header alone. */
static void send_with_fds(struct connection *connection, enum vfio_user_command command, void *body,
                          size_t body_size, const int *fds, size_t fd_count) {
  struct vfio_user_header header = next_header(connection, command, sizeof header + body_size);
  struct iovec parts[] = {{&header, sizeof header}, {body, body_size}};
  _Alignas(struct cmsghdr) char control[CMSG_SPACE(MAX_FDS * sizeof(int))] = {0};
  struct msghdr message = {
      .msg_iov = parts,
      .msg_iovlen = 2,
      .msg_control = control,
      .msg_controllen = CMSG_SPACE(fd_count * sizeof(int)),
  };
  struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
  memcpy(CMSG_DATA(rights), fds, fd_count * sizeof(int));
  if (sendmsg(connection->socket, &message, MSG_NOSIGNAL) != (ssize_t)header.size) fail_errno("sendmsg");
  struct vfio_user_header answer;
  receive_answer(connection->socket, &header, &answer, sizeof answer);
}

/* The one answer whose length the client cannot know. */
static void exchange_versions(struct connection *connection) {
  const size_t fixed = offsetof(struct version_message, text);
  struct version_message message = {
      .header = next_header(connection, VFIO_USER_VERSION, fixed + sizeof proposal),
  };
  memcpy(message.text, proposal, sizeof proposal);
  send_message(connection->socket, &message, message.header.size);

  ssize_t received = recv(connection->socket, &message, sizeof message, 0);
  bool is_good = received > (ssize_t)fixed && message.header.size == (size_t)received &&
                 message.header.flags == VFIO_USER_REPLY && message.major == 0;
  if (!is_good) fail("the server does not speak vfio-user 0");
}

struct connection vfio_user_connect(const char *path) {
  struct connection connection = {.socket = connect_to(path)};
  struct timeval limit = {.tv_sec = ANSWER_TIMEOUT_SECONDS};
  if (setsockopt(connection.socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0)
    fail_errno("SO_RCVTIMEO");
  exchange_versions(&connection);
  return connection;
}

void vfio_user_map_ram(struct connection *connection, const struct ram *ram) {
  struct dma_map_body body = {
      .argsz = sizeof body,
      .flags = DMA_MAP_READ_WRITE,
      .address = RAM_ADDRESS,
      .size = RAM_BYTES,
  };
  send_with_fds(connection, VFIO_USER_DMA_MAP, &body, sizeof body, &ram->fd, 1);
}

/* Takes an answer that brings a descriptor. */
static int receive_answer_with_fd(int socket, const struct vfio_user_header *sent, void *answer,
                                  size_t size) {
  struct iovec part = {answer, size};
  _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  struct msghdr message = {
      .msg_iov = &part,
      .msg_iovlen = 1,
      .msg_control = control,
      .msg_controllen = sizeof control,
  };
  check_answer(sent, answer, recvmsg(socket, &message, MSG_WAITALL | MSG_CMSG_CLOEXEC), size);
  const struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
  if (rights == NULL || rights->cmsg_type != SCM_RIGHTS) fail("command %u brought no file", sent->command);
  int fd;
  memcpy(&fd, CMSG_DATA(rights), sizeof fd);
  return fd;
}

struct file_window vfio_user_map_region(struct connection *connection, uint32_t region) {
  struct {
    struct vfio_user_header header;
    struct region_info_body body;
  } request = {
      .header = next_header(connection, VFIO_USER_DEVICE_GET_REGION_INFO, sizeof request),
      .body = {.argsz = sizeof request.body, .index = region},
  }, answer;
  send_message(connection->socket, &request, sizeof request);
  int fd = receive_answer_with_fd(connection->socket, &request.header, &answer, sizeof answer);
  if ((answer.body.flags & REGION_INFO_MMAP) == 0) fail("region %u cannot be mapped", region);
  return map_file(fd, answer.body.size);
}

void vfio_user_set_vectors(struct connection *connection, const int *eventfds, uint32_t count) {
  if (count > MAX_FDS) fail("%u vectors", count);
  struct set_irqs_body body = {
      .argsz = sizeof body,
      .flags = IRQ_DATA_EVENTFD | IRQ_ACTION_TRIGGER,
      .index = VFIO_PCI_MSIX_IRQ,
      .count = count,
  };
  send_with_fds(connection, VFIO_USER_DEVICE_SET_IRQS, &body, sizeof body, eventfds, count);
}

/* --- registers --- */

uint32_t vfio_user_read(struct connection *connection, struct place place, uint32_t width) {
  struct vfio_user_access_message request = {
      .header = next_header(connection, VFIO_USER_REGION_READ, VFIO_USER_ACCESS_BYTES),
      .access = {place.offset, place.region, width},
  };
  send_message(connection->socket, &request, VFIO_USER_ACCESS_BYTES);
  struct vfio_user_access_message answer;
  receive_answer(connection->socket, &request.header, &answer, VFIO_USER_ACCESS_BYTES + width);
  uint32_t value = 0;
  memcpy(&value, answer.data, width);
  return value;
}

static struct vfio_user_access_message write_message(struct connection *connection, struct place place,
                                                     uint32_t value, uint32_t width) {
  struct vfio_user_access_message message = {
      .header = next_header(connection, VFIO_USER_REGION_WRITE, VFIO_USER_ACCESS_BYTES + width),
      .access = {place.offset, place.region, width},
  };
  memcpy(message.data, &value, width);
  return message;
}

void vfio_user_write(struct connection *connection, struct place place, uint32_t value, uint32_t width) {
  struct vfio_user_access_message request = write_message(connection, place, value, width);
  send_message(connection->socket, &request, request.header.size);
  struct vfio_user_access_message answer;
  receive_answer(connection->socket, &request.header, &answer, VFIO_USER_ACCESS_BYTES);
}

void vfio_user_post(struct connection *connection, struct place place, uint32_t value, uint32_t width) {
  struct vfio_user_access_message request = write_message(connection, place, value, width);
  request.header.flags = VFIO_USER_NO_REPLY;
  send_message(connection->socket, &request, request.header.size);
}
