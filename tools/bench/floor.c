/*
 * floor SERVER-CPU
 *
 * The floor under the server's figures: the same driver (driver.h, frames.h), with the least that C can do at
 * the other end of the socket, on the server's CPU. That answers a register access with one recv and one
 * send. At a doorbell it sends the answer, copies the picture if a request says so, gives the pages of a blob
 * that is unmapped back to the host, marks every request done, and signals the eventfd.
 *
 * One more order:
 *
 *   calls few|loop    `loop`: what a plain server with an event loop does, epoll_wait, a recv for the header
 *                     and one for the body; `few`, the default, is the floor
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "blobs.h"
#include "driver.h"
#include "frames.h"

#define READ_VALUE 0x10501af4u

/* What both sides see besides the queue. */
struct shared {
  atomic_bool has_event_loop;
};

struct device {
  int socket;
  int interrupt;
  int epoll;
  struct queue_memory *queue;
  struct shared *shared;
  const struct picture *picture;
  uint8_t *image;
  int window;
  uint64_t offsets[BLOBS];
  uint16_t done;
};

/* --- the device's side --- */

/* Returns the length of the message, 0 at the end of the connection. */
static size_t receive(const struct device *device, struct vfio_user_access_message *message) {
  if (!atomic_load_explicit(&device->shared->has_event_loop, memory_order_relaxed)) {
    ssize_t received = recv(device->socket, message, sizeof *message, 0);
    return received > 0 ? (size_t)received : 0;
  }
  struct epoll_event event;
  if (epoll_wait(device->epoll, &event, 1, -1) != 1) return 0;
  if (recv(device->socket, &message->header, sizeof message->header, 0) != sizeof message->header) return 0;
  size_t rest = message->header.size - sizeof message->header;
  if (recv(device->socket, &message->access, rest, 0) != (ssize_t)rest) return 0;
  return message->header.size;
}

static void answer(const struct device *device, struct vfio_user_access_message *message, size_t size) {
  message->header.size = (uint32_t)size;
  message->header.flags = VFIO_USER_REPLY;
  if (send(device->socket, message, size, MSG_NOSIGNAL) != (ssize_t)size) _exit(1);
}

/* The pages of a blob go back to the host, if it has any: whoever maps the range next gets new ones. */
static void punch(const struct device *device, uint64_t offset) {
  off_t data = lseek(device->window, (off_t)offset, SEEK_DATA);
  if (data < 0 || (uint64_t)data >= offset + PICTURE_BYTES) return;
  int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  if (fallocate(device->window, mode, (off_t)offset, PICTURE_BYTES) != 0) _exit(1);
}

/* Returns the length of the answer. */
static uint32_t execute(struct device *device, const uint8_t *request, uint8_t *answer_bytes) {
  struct virtio_gpu_resource_map_blob command;
  struct virtio_gpu_resp_map_info result = {.hdr.type = VIRTIO_GPU_RESP_OK_NODATA};
  uint32_t length = sizeof result.hdr;
  memcpy(&command, request, sizeof command);
  switch (command.hdr.type) {
    case VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D: picture_gather(device->picture, device->image); break;
    case VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB:
      device->offsets[command.resource_id - FIRST_BLOB_ID] = command.offset;
      result = (struct virtio_gpu_resp_map_info){
          .hdr.type = VIRTIO_GPU_RESP_OK_MAP_INFO,
          .map_info = VIRTIO_GPU_MAP_CACHE_CACHED,
      };
      length = sizeof result;
      break;
    case VIRTIO_GPU_CMD_RESOURCE_UNMAP_BLOB:
      punch(device, device->offsets[command.resource_id - FIRST_BLOB_ID]);
      break;
    default: break;
  }
  memcpy(answer_bytes, &result, length);
  return length;
}

static void complete_requests(struct device *device) {
  struct queue_memory *memory = device->queue;
  uint16_t until = atomic_load_explicit(&memory->avail.idx, memory_order_acquire);
  for (; device->done != until; device->done++) {
    uint16_t head = memory->avail.ring[device->done % QUEUE_SIZE];
    uint32_t length = execute(device, memory->request[head], memory->answer[head]);
    memory->used.ring[device->done % QUEUE_SIZE] = (struct virtq_used_elem){head, length};
  }
  atomic_store(&memory->used.avail_event, device->done);
  atomic_store(&memory->used.idx, device->done);
  uint64_t one = 1;
  if (write(device->interrupt, &one, sizeof one) != sizeof one) _exit(1);
}

static _Noreturn void serve(struct device *device, int cpu) {
  end_with_parent();
  stay_on_cpu(cpu);
  struct vfio_user_access_message message;
  while (receive(device, &message) != 0) {
    if (message.header.command == VFIO_USER_REGION_READ) {
      memcpy(message.data, &(uint32_t){READ_VALUE}, 4);
      answer(device, &message, VFIO_USER_ACCESS_BYTES + 4);
    } else {
      if (message.header.flags != VFIO_USER_NO_REPLY) answer(device, &message, VFIO_USER_ACCESS_BYTES);
      complete_requests(device);
    }
  }
  _exit(0);
}

/* --- start --- */

static pid_t start_device(struct device *device, int cpu) {
  struct epoll_event event = {.events = EPOLLIN};
  device->epoll = epoll_create1(EPOLL_CLOEXEC);
  if (device->epoll < 0 || epoll_ctl(device->epoll, EPOLL_CTL_ADD, device->socket, &event) != 0)
    fail_errno("epoll");
  pid_t pid = fork();
  if (pid < 0) fail_errno("fork");
  if (pid == 0) serve(device, cpu);
  close(device->socket);
  return pid;
}

static void set_calls(struct shared *shared, const char *calls) {
  atomic_store(&shared->has_event_loop, strcmp(calls, "loop") == 0);
  printf("{}");
  order_answered();
}

int main(int argc, char **argv) {
  if (argc != 2) fail("usage: floor SERVER-CPU");
  end_with_parent();
  int cpu = cpu_number(argv[1]);
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) fail_errno("socketpair");
  int interrupt = eventfd(0, EFD_CLOEXEC);
  if (interrupt < 0) fail_errno("eventfd");
  struct ram ram = ram_make();
  struct picture picture = picture_make(&ram);
  struct copier copier = copier_start(&picture, cpu);
  struct constant_register any = {.value = READ_VALUE};
  struct driver driver = {
      .connection.socket = ends[0],
      .control = queue_make(&ram),
      .interrupt = interrupt,
      .config_space = any,
      .common_config = any,
      .device_config = any,
      .resource_id = FRAME_RESOURCE_ID,
      .rect = {.width = 64, .height = 64},
  };
  struct file_window window = memfd_make("bench-window", (uint64_t)BLOB_PLACES * BLOB_DISTANCE);
  struct device device = {
      .socket = ends[1],
      .interrupt = interrupt,
      .queue = driver.control.memory,
      .shared = ram_take(&ram, sizeof(struct shared)),
      .picture = &picture,
      .image = picture_make_image(),
      .window = window.fd,
  };
  pid_t pid = start_device(&device, cpu);
  struct frames frames = {&driver, &picture, &copier, pid, false};
  struct blobs blobs = {&driver, pid, window};
  printf("{}");
  order_answered();

  for (struct order order; order_next(&order);) {
    if (driver_obey(&driver, &order) || blobs_obey(&blobs, &order)) continue;
    if (frames_obey(&frames, &order)) {
      if (picture_hash(device.image) != picture_hash(picture.flat))
        fail("the device in C copied another picture");
    } else if (order_is(&order, "calls")) {
      set_calls(device.shared, order_word(&order, 1));
    } else {
      fail("no order %s", order.words[0]);
    }
  }
}
