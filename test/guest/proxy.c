/*
 * proxy: lets Wayland programs of the guest that know nothing of all this reach the host's compositor. Not for daily
 * use: the smallest that carries an ordinary program, for tests.
 *
 *   proxy SOCKET       listens there; each program that connects gets a process and a context of its own
 *
 * Bytes go through as they are. Of what programs say only this is understood:
 *
 *   wl_shm.create_pool         the pool gets memory of the host, and the program keeps its own
 *   wl_surface.commit          before it, the attached buffer is copied whole into the memory of the host
 *   wl_data_offer.receive      its pipe is read by the host
 *
 * No other request may have a descriptor. What comes from the host with one is told by its type: memory is copied into
 * a file for the program, a pipe is read here and sent on. A pool can grow to a megabyte, or to four times its size.
 */
#include "cross-domain.h"
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { MAX_GROWN = 1 << 20, LARGE_POOL = MAX_GROWN / 4 };
enum { MAX_OBJECTS = 65536, MAX_FDS = 28, MAX_PIPES = 64, FIRST_SERVER_OBJECT = 0xff000000 >> 8 };
enum kind { OTHER, DISPLAY, REGISTRY, COMPOSITOR, SHM, POOL, BUFFER, SURFACE };

struct pool {
  struct blob blob;
  uint8_t *pixels;
  size_t size;
  uint32_t users;
};

static struct object {
  enum kind kind;
  struct pool *pool;
  size_t offset, size;
  uint32_t buffer; /* of a surface: what is attached */
} objects[MAX_OBJECTS] = {[1] = {.kind = DISPLAY}};

static int client;
static uint8_t requests[1 << 16];
static size_t requests_size;
static int fds[256];
static uint32_t fd_count;

/* Pipes by the id that the host knows them by: those that it reads for us, and those that we read for it. */
static struct {
  uint32_t id;
  int fd;
} written[MAX_PIPES], sources[MAX_PIPES];

/* ---------------------------------------------------------------- from the program */

static int take_fd(void) {
  if (fd_count == 0) die("a request without its descriptor");
  int fd = fds[0];
  memmove(fds, fds + 1, --fd_count * sizeof *fds);
  return fd;
}

static void release_pool(struct pool *pool) {
  if (--pool->users > 0) return;
  munmap(pool->pixels, pool->size);
  destroy_blob(&pool->blob);
  free(pool);
}

static struct object *object_of(uint32_t id) {
  if (id >= MAX_OBJECTS) die("object %u", id);
  return &objects[id];
}

static void map_pixels(struct pool *pool, int fd, size_t size) {
  pool->pixels = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
  if (pool->pixels == MAP_FAILED) die("mapping a pool of %zu bytes: %s", size, strerror(errno));
  pool->size = size;
}

static void create_pool(uint32_t id, size_t size) {
  struct pool *pool = calloc(1, sizeof *pool);
  int fd = take_fd();
  pool->users = 1;
  pool->blob = allocate(size < LARGE_POOL ? MAX_GROWN : size * 4);
  map_pixels(pool, fd, size);
  close(fd);
  put_id(ID_BLOB, pool->blob.resource);
  *object_of(id) = (struct object){.kind = POOL, .pool = pool};
}

static void grow_pool(struct pool *pool, size_t size) {
  if (size > pool->blob.size) die("a pool of %zu bytes cannot have %zu", pool->size, size);
  void *grown = mremap(pool->pixels, pool->size, size, MREMAP_MAYMOVE);
  if (grown == MAP_FAILED) die("growing a pool: %s", strerror(errno));
  pool->pixels = grown;
  pool->size = size;
}

static void create_buffer(struct pool *pool, const uint8_t *args) {
  struct object buffer = {.kind = BUFFER, .pool = pool, .offset = word_at(args + 4)};
  buffer.size = (size_t)word_at(args + 16) * word_at(args + 12);
  if (buffer.offset + buffer.size > pool->size) return;
  pool->users++;
  *object_of(word_at(args)) = buffer;
}

static void copy_attached(const struct object *surface) {
  const struct object *buffer = object_of(surface->buffer);
  if (buffer->kind != BUFFER) return;
  memcpy(buffer->pool->blob.bytes + buffer->offset, buffer->pool->pixels + buffer->offset, buffer->size);
}

static void read_through_host(void) {
  uint32_t i = 0;
  while (i < MAX_PIPES && written[i].id) i++;
  if (i == MAX_PIPES) die("too many pipes");
  written[i].fd = take_fd();
  written[i].id = next_read_pipe;
  put_id(ID_READ_PIPE, next_read_pipe++);
}

static void bind_global(const uint8_t *args) {
  const char *interface = (const char *)args + 8;
  uint32_t id = word_at(args + 8 + ((word_at(args + 4) + 3) & ~3u) + 4);
  enum kind kind = strcmp(interface, "wl_shm") == 0          ? SHM
                   : strcmp(interface, "wl_compositor") == 0 ? COMPOSITOR
                                                             : OTHER;
  *object_of(id) = (struct object){.kind = kind};
}

static void understand(uint32_t id, uint32_t opcode, const uint8_t *args) {
  if (id >> 8 >= FIRST_SERVER_OBJECT) {
    if (opcode == 1) read_through_host();
    return;
  }
  struct object *object = object_of(id);
  switch (object->kind << 8 | opcode) {
    case DISPLAY << 8 | 1:
      *object_of(word_at(args)) = (struct object){.kind = REGISTRY};
      break;
    case REGISTRY << 8 | 0:
      bind_global(args);
      break;
    case COMPOSITOR << 8 | 0:
      *object_of(word_at(args)) = (struct object){.kind = SURFACE};
      break;
    case SHM << 8 | 0:
      create_pool(word_at(args), word_at(args + 4));
      break;
    case POOL << 8 | 0:
      create_buffer(object->pool, args);
      break;
    case POOL << 8 | 2:
      grow_pool(object->pool, word_at(args));
      break;
    case POOL << 8 | 1:
    case BUFFER << 8 | 0:
      release_pool(object->pool);
      *object = (struct object){0};
      break;
    case SURFACE << 8 | 0:
    case SHM << 8 | 1:
      *object = (struct object){0};
      break;
    case SURFACE << 8 | 1:
      object->buffer = word_at(args);
      break;
    case SURFACE << 8 | 6:
      copy_attached(object);
      break;
  }
}

/* Each request is a command of its own, so that a descriptor and a copy are where they belong. */
static void forward_requests(void) {
  size_t at = 0;
  while (requests_size - at >= 8) {
    uint32_t word = word_at(requests + at + 4), size = word >> 16;
    if (size < 8 || size > PAGE) die("a request of %u bytes", size);
    if (requests_size - at < size) break;
    understand(word_at(requests + at), word & 0xffff, requests + at + 8);
    put(requests + at, size);
    flush();
    at += size;
  }
  requests_size -= at;
  memmove(requests, requests + at, requests_size);
}

static void receive_requests(void) {
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
  } control;
  struct iovec into = {requests + requests_size, sizeof requests - requests_size};
  struct msghdr message = {
      .msg_iov = &into, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t size = recvmsg(client, &message, MSG_CMSG_CLOEXEC);
  /* The program has left: so does its context. */
  if (size <= 0) exit(0);
  requests_size += (size_t)size;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    uint32_t count = (uint32_t)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    if (fd_count + count > sizeof fds / sizeof *fds) die("too many descriptors");
    memcpy(fds + fd_count, CMSG_DATA(header), count * sizeof(int));
    fd_count += count;
  }
  forward_requests();
}

static void read_source(uint32_t i) {
  uint8_t bytes[MAX_WRITE];
  ssize_t size = read(sources[i].fd, bytes, sizeof bytes);
  write_to_pipe(sources[i].id, bytes, size > 0 ? (size_t)size : 0, size <= 0);
  if (size > 0) return;
  close(sources[i].fd);
  sources[i].id = 0;
}

/* ---------------------------------------------------------------- from the host */

/* Memory of the host as a file of the guest. */
static int copy_memory(uint32_t id, size_t size) {
  struct blob blob = create_blob(VIRTGPU_BLOB_MEM_HOST3D, id, size);
  int fd = memfd_create("from the host", MFD_CLOEXEC);
  if (fd < 0 || write(fd, blob.bytes, size) != (ssize_t)size) die("a file of %zu bytes: %s", size, strerror(errno));
  destroy_blob(&blob);
  return fd;
}

/* A pipe for the program to write to, which is read here. */
static int open_source(uint32_t id) {
  uint32_t i = 0;
  int ends[2];
  while (i < MAX_PIPES && sources[i].id) i++;
  if (i == MAX_PIPES || pipe2(ends, O_CLOEXEC) < 0) die("too many pipes");
  sources[i].id = id;
  sources[i].fd = ends[0];
  return ends[1];
}

static void forward_events(const struct transfer *received) {
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
  } control = {.header = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
  int out[MAX_FDS];
  for (uint32_t i = 0; i < received->count; i++)
    out[i] = received->types[i] == ID_BLOB ? copy_memory(received->ids[i], received->sizes[i])
                                           : open_source(received->ids[i]);
  control.header.cmsg_len = CMSG_LEN(received->count * sizeof *out);
  memcpy(CMSG_DATA(&control.header), out, received->count * sizeof *out);
  struct iovec from = {(void *)(uintptr_t)received->data, received->data_size};
  struct msghdr message = {.msg_iov = &from, .msg_iovlen = 1};
  if (received->count > 0) {
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(received->count * sizeof *out);
  }
  ssize_t size = sendmsg(client, &message, MSG_NOSIGNAL);
  if (size < 0) exit(0);
  for (uint32_t i = 0; i < received->count; i++) close(out[i]);
  /* The rest without the descriptors, which have gone with the first byte. */
  for (size_t at = (size_t)size; at < received->data_size; at += (size_t)size) {
    size = send(client, received->data + at, received->data_size - at, MSG_NOSIGNAL);
    if (size < 0) exit(0);
  }
}

static void write_received(const struct pipe_data *data) {
  uint32_t i = 0;
  while (i < MAX_PIPES && written[i].id != data->id) i++;
  if (i == MAX_PIPES) exit(0);
  /* A program that does not read any more has its reasons. */
  for (size_t at = 0; at < data->data_size;) {
    ssize_t size = write(written[i].fd, data->data + at, data->data_size - at);
    if (size < 0) break;
    at += (size_t)size;
  }
  if (!data->hang_up) return;
  close(written[i].fd);
  written[i].id = 0;
}

static void handle_message(const uint8_t *page) {
  const struct transfer *received = (const void *)page;
  if (page[0] == READ) write_received((const void *)page);
  else if (received->count == 0 && received->data_size == 0) exit(0);
  else forward_events(received);
}

/* ---------------------------------------------------------------- main */

static void serve(void) {
  open_context();
  for (;;) {
    struct pollfd waits[2 + MAX_PIPES] = {{.fd = card, .events = POLLIN}, {.fd = client, .events = POLLIN}};
    for (uint32_t i = 0; i < MAX_PIPES; i++)
      waits[2 + i] = (struct pollfd){.fd = sources[i].id ? sources[i].fd : -1, .events = POLLIN};
    if (poll(waits, 2 + MAX_PIPES, -1) < 0) die("poll: %s", strerror(errno));
    if (waits[0].revents) handle_message(take_message());
    if (waits[1].revents) receive_requests();
    for (uint32_t i = 0; i < MAX_PIPES; i++)
      if (waits[2 + i].revents) read_source(i);
  }
}

int main(int argc, char **argv) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path) {
    fprintf(stderr, "usage: proxy SOCKET\n");
    return 2;
  }
  strcpy(address.sun_path, argv[1]);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGCHLD, SIG_IGN);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 8) < 0) die("%s: %s", argv[1], strerror(errno));
  for (;;) {
    client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0) die("accept: %s", strerror(errno));
    if (fork() == 0) {
      close(listener);
      serve();
    }
    close(client);
  }
}
