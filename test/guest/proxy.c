/*
 * proxy: lets Wayland programs of the guest that know nothing of all this reach the host's compositor. Not for daily
 * use: the smallest that carries ordinary programs, for tests, in the manners of the real ones.
 *
 *   proxy [OPTION...] SOCKET    listens there; each program that connects gets a process and a context of its own
 *
 *   --extra-words          behind the arguments of a request, a word more for each string, array and descriptor
 *   --own-ids              has objects of its own on the host, so that programs' objects have other numbers there
 *   --chunks               requests go as they come, cut anywhere, and not each in a command of its own
 *   --exact-pools          memory of the host is as large as the program's pool; one that grows is made anew, with its
 *                          buffers, under the same numbers
 *   --pool-per-buffer      each buffer has memory and a pool of its own (has own ids)
 *   --viewport             each commit sets a viewport that changes nothing, and damage is that of the surface (has own
 *                          ids, and programs see no viewports)
 *   --hang-up-with-data    the last bytes of what a program copies bring its end along
 *   --close-when-sent      the handle of memory is closed when it has been sent
 *   --never-close          it never is, nor is the memory given back
 *   --forget-pools         a pool whose number is used again has no memory any more, whatever its buffers say
 *   --style STYLE          all of these that make one of the real ones: sommelier, virtwl, wl-cross
 *
 * Of what programs say only this is understood:
 *
 *   wl_shm.create_pool         the pool gets memory of the host, and the program keeps its own
 *   wl_surface.commit          before it, the attached buffer is copied whole into the memory of the host
 *   wl_data_offer.receive      its pipe is read by the host; so is every other descriptor
 *
 * What comes from the host with a descriptor is told by its type: memory is copied into a file for the program, a pipe
 * is read here and sent on. Which arguments messages have is in the file /wayland.messages, a line for each:
 *
 *   INTERFACE r|e OPCODE ARGUMENTS INTERFACE       request or event; arguments as in libwayland; what it makes, or -
 *
 * On SIGUSR1 each process says what its windows show, and how many bytes of its program's frames a host that has copies
 * has had to copy so far, of how many that these frames have. The latter also when the program has left:
 *
 *   PROXY window WIDTHxHEIGHT HASH       FNV-1a over red, green and blue of each pixel
 *   PROXY damaged BYTES of BYTES
 *   PROXY left, damaged BYTES of BYTES
 */
#include "cross-domain.h"
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { MAX_GROWN = 1 << 20, LARGE_POOL = MAX_GROWN / 4, CHUNK = 3744 };
enum { MAX_OBJECTS = 65536, MAX_HOST_OBJECTS = 4096, MAX_FDS = 28, MAX_PIPES = 64, MAX_DAMAGES = 64 };
enum { OWN_IDS = 128, DISPLAY_ID = 1, OWN_REGISTRY = 2, MAX_INTERFACES = 512, MAX_MESSAGES = 64 };
static const uint32_t FIRST_HOST_ID = 0xff000000;
/* One, as a fixed-point number. */
enum { FIXED = 256 };

static struct {
  bool extra_words, own_ids, chunks, exact_pools, pool_per_buffer, viewport, hang_up_with_data, forget_pools;
  enum { CLOSE_WITH_MEMORY, CLOSE_WHEN_SENT, NEVER_CLOSE } handles;
} style;

/* ---------------------------------------------------------------- what messages there are */

enum kind { OTHER, DISPLAY, REGISTRY, COMPOSITOR, SHM, POOL, BUFFER, SURFACE, SHELL, WINDOW };
static const char *const kinds[] = {
    [DISPLAY] = "wl_display", [REGISTRY] = "wl_registry", [COMPOSITOR] = "wl_compositor", [SHM] = "wl_shm",
    [POOL] = "wl_shm_pool",   [BUFFER] = "wl_buffer",     [SURFACE] = "wl_surface",       [SHELL] = "xdg_wm_base",
    [WINDOW] = "xdg_surface",
};

struct message {
  char arguments[24];
  const struct interface *makes;
};
static struct interface {
  char name[64];
  enum kind kind;
  struct message requests[MAX_MESSAGES], events[MAX_MESSAGES];
} interfaces[MAX_INTERFACES];

static struct interface *interface_named(const char *name) {
  uint32_t i = 0;
  while (i < MAX_INTERFACES && interfaces[i].name[0] && strcmp(interfaces[i].name, name) != 0) i++;
  if (i == MAX_INTERFACES || strlen(name) >= sizeof interfaces[i].name) die("interface %s", name);
  if (interfaces[i].name[0]) return &interfaces[i];
  strcpy(interfaces[i].name, name);
  for (enum kind kind = DISPLAY; kind <= WINDOW; kind++)
    if (strcmp(kinds[kind], name) == 0) interfaces[i].kind = kind;
  return &interfaces[i];
}

static void read_messages(const char *path) {
  FILE *file = fopen(path, "r");
  char name[64], arguments[24], makes[64], way;
  uint32_t opcode;
  if (!file) die("%s: %s", path, strerror(errno));
  while (fscanf(file, "%63s %c %u %23s %63s", name, &way, &opcode, arguments, makes) == 5) {
    if (opcode >= MAX_MESSAGES) die("%s %u", name, opcode);
    struct interface *interface = interface_named(name);
    struct message *message = &(way == 'r' ? interface->requests : interface->events)[opcode];
    strcpy(message->arguments, arguments);
    if (makes[0] != '-') message->makes = interface_named(makes);
  }
  fclose(file);
}

/* ---------------------------------------------------------------- what there is */

/* Memory of the host. */
struct memory {
  struct blob blob;
  uint32_t users;
};

struct pool {
  uint32_t id, users;
  uint8_t *pixels;
  size_t size;
  struct memory *memory; /* none with a pool per buffer */
};

struct buffer {
  struct pool *pool;
  struct memory *memory; /* none once it has been forgotten */
  size_t at;             /* in the memory */
  uint32_t id, offset, width, height, stride, format;
  struct object *surface; /* where it was committed last */
  uint8_t *stale;         /* by row: what the host has not had since */
};

static struct object {
  const struct interface *interface;
  struct pool *pool;
  struct buffer *buffer; /* of a surface: the one that is shown */
  /* Of surfaces. */
  struct buffer *pending;
  bool attached, is_window;
  uint32_t width, height; /* of the last buffer that was committed */
  uint32_t viewport;      /* of our own */
  uint32_t damages[MAX_DAMAGES][2], damage_count;
  uint32_t geometry[4];
  struct object *surface; /* of a window */
} objects[MAX_OBJECTS], host_objects[MAX_HOST_OBJECTS];
static uint32_t last_object;
/* By number: events of its end that the program does not get. */
static uint32_t swallowed[MAX_OBJECTS];

static int client;
static uint8_t requests[1 << 16], events[1 << 16];
static size_t requests_size, events_size;
static int fds[256], event_fds[256];
static uint32_t fd_count, event_fd_count;
static uint64_t damaged_bytes, frame_bytes;
static volatile sig_atomic_t is_asked;

/* Objects of our own: those that are free, and globals. */
static uint32_t free_ids[OWN_IDS], free_count;
static uint32_t viewporter, compositor;
static bool is_ready;

/* Pipes by the id that the host knows them by: those that it reads for us, and those that we read for it. */
static struct {
  uint32_t id;
  int fd;
} written[MAX_PIPES];
static struct {
  uint32_t id;
  int fd;
  size_t size;
  uint8_t bytes[MAX_WRITE];
} sources[MAX_PIPES];

static struct object *object_of(uint32_t id) {
  if (id >= FIRST_HOST_ID && id - FIRST_HOST_ID < MAX_HOST_OBJECTS) return &host_objects[id - FIRST_HOST_ID];
  if (id >= MAX_OBJECTS) die("object %u", id);
  return &objects[id];
}

static struct object *make_object(uint32_t id, const struct interface *interface) {
  struct object *object = object_of(id);
  if (id < FIRST_HOST_ID && id > last_object) last_object = id;
  *object = (struct object){.interface = interface};
  return object;
}

static bool is_shifted(uint32_t id) { return style.own_ids && id > DISPLAY_ID && id < FIRST_HOST_ID; }
static uint32_t on_host(uint32_t id) { return is_shifted(id) ? id + OWN_IDS : id; }
static bool is_own(uint32_t id) { return is_shifted(id) && id < OWN_REGISTRY + OWN_IDS; }
static uint32_t in_program(uint32_t id) { return is_shifted(id) ? id - OWN_IDS : id; }

static uint32_t own_id(void) {
  if (free_count == 0) die("no more objects");
  return free_ids[--free_count];
}

static uint32_t padded(uint32_t size) { return (size + 3) & ~3u; }

/* Calls for each argument that names an object with where it is in the message. */
static void each_object(const struct message *message, uint8_t *bytes, size_t size, void (*call)(uint8_t *, bool)) {
  size_t at = 8;
  for (const char *kind = message->arguments; *kind && *kind != '-'; kind++) {
    if (*kind == 'h') continue;
    if (at + 4 > size) die("a message of %zu bytes with %s", size, message->arguments);
    if (*kind == 'o' || *kind == 'n') call(bytes + at, *kind == 'n');
    at += *kind == 's' || *kind == 'a' ? 4 + padded(word_at(bytes + at)) : 4;
  }
}

/* ---------------------------------------------------------------- to the host */

static uint32_t sent_handles[256], sent_count;

static void send_requests(void) {
  flush();
  while (sent_count > 0) {
    struct drm_gem_close gem_close = {.handle = sent_handles[--sent_count]};
    drm(DRM_IOCTL_GEM_CLOSE, &gem_close, "GEM_CLOSE");
  }
}

static void emit(const void *bytes, size_t size) {
  for (size_t at = 0; style.chunks && at < size;) {
    size_t room = CHUNK - outgoing.transfer.data_size, part = size - at < room ? size - at : room;
    put((const uint8_t *)bytes + at, part);
    at += part;
    if (part == room) send_requests();
  }
  if (style.chunks) return;
  put(bytes, size);
  send_requests();
}

static void emit_id(uint32_t type, uint32_t id) {
  if (outgoing.transfer.count == MAX_IDS) send_requests();
  put_id(type, id);
}

/* A request of our own, with the numbers of the host. */
static void say(uint32_t id, uint32_t opcode, const uint32_t *words, uint32_t count) {
  uint32_t message[16] = {id, (8 + 4 * count) << 16 | opcode};
  if (count > 0) memcpy(message + 2, words, 4 * count);
  emit(message, 8 + 4 * count);
}
#define SAY(id, opcode, ...) \
  say(id, opcode, (const uint32_t[]){__VA_ARGS__}, sizeof(uint32_t[]){__VA_ARGS__} / sizeof(uint32_t))

static void say_bind(uint32_t name, const char *interface, uint32_t version, uint32_t id) {
  uint32_t message[32] = {OWN_REGISTRY}, size = (uint32_t)strlen(interface) + 1, end = 4 + padded(size) / 4;
  message[2] = name;
  message[3] = size;
  memcpy(message + 4, interface, size);
  message[end] = version;
  message[end + 1] = id;
  message[1] = (end + 2) * 4 << 16;
  emit(message, (end + 2) * 4);
}

/* ---------------------------------------------------------------- memory */

static struct memory *allocate_memory(size_t size) {
  struct memory *memory = calloc(1, sizeof *memory);
  memory->users = 1;
  memory->blob = allocate(size);
  return memory;
}

static void give_back(struct blob *blob) {
  if (style.handles == CLOSE_WITH_MEMORY) destroy_blob(blob);
  else munmap(blob->bytes, blob->size);
}

static void release_memory(struct memory *memory) {
  if (!memory || --memory->users > 0) return;
  give_back(&memory->blob);
  free(memory);
}

static void say_create_pool(uint32_t shm, uint32_t id, struct memory *memory, size_t size) {
  emit_id(ID_BLOB, memory->blob.resource);
  if (style.handles == CLOSE_WHEN_SENT) {
    if (sent_count == sizeof sent_handles / sizeof *sent_handles) die("too much memory at once");
    sent_handles[sent_count++] = memory->blob.handle;
  }
  uint32_t words[3] = {id, (uint32_t)size, 0};
  say(shm, 0, words, style.extra_words ? 3 : 2);
}

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
  release_memory(pool->memory);
  free(pool);
}

/* wl_shm of the program, for pools of its buffers. */
static uint32_t shm_id;

static void forget_pool(uint32_t id) {
  for (uint32_t i = 0; i <= last_object; i++) {
    struct buffer *buffer = objects[i].interface && objects[i].interface->kind == BUFFER ? objects[i].buffer : NULL;
    if (!buffer || buffer->pool->id != id) continue;
    if (buffer->pool->memory) {
      release_memory(buffer->pool->memory);
      buffer->pool->memory = NULL;
    }
    release_memory(buffer->memory);
    buffer->memory = NULL;
  }
}

static void create_pool(uint32_t shm, uint32_t id, size_t size) {
  if (style.forget_pools) forget_pool(id);
  struct pool *pool = calloc(1, sizeof *pool);
  int fd = take_fd();
  *pool = (struct pool){.id = id, .users = 1, .size = size};
  pool->pixels = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
  if (pool->pixels == MAP_FAILED) die("mapping a pool of %zu bytes: %s", size, strerror(errno));
  close(fd);
  make_object(id, interface_named("wl_shm_pool"))->pool = pool;
  shm_id = shm;
  if (style.pool_per_buffer) {
    /* Something has to have the number, or the host takes no higher one. */
    SAY(compositor, 1, on_host(id));
    return;
  }
  pool->memory = allocate_memory(style.exact_pools ? size : size < LARGE_POOL ? MAX_GROWN : size * 4);
  say_create_pool(on_host(shm), on_host(id), pool->memory, size);
}

static void say_create_buffer(uint32_t pool_id, const struct buffer *buffer, uint32_t offset) {
  SAY(pool_id, 0, on_host(buffer->id), offset, buffer->width, buffer->height, buffer->stride, buffer->format);
}

static void create_buffer(struct pool *pool, const uint8_t *args) {
  struct buffer *buffer = calloc(1, sizeof *buffer);
  *buffer = (struct buffer){
      .pool = pool,
      .id = word_at(args),
      .offset = word_at(args + 4),
      .width = word_at(args + 8),
      .height = word_at(args + 12),
      .stride = word_at(args + 16),
      .format = word_at(args + 20),
  };
  size_t size = (size_t)buffer->stride * buffer->height;
  if (buffer->offset + size > pool->size) die("a buffer of %zu bytes in a pool of %zu", size, pool->size);
  buffer->stale = malloc(buffer->height);
  make_object(buffer->id, interface_named("wl_buffer"))->buffer = buffer;
  pool->users++;
  if (!style.pool_per_buffer) {
    buffer->memory = pool->memory;
    buffer->at = buffer->offset;
    buffer->memory->users++;
    say_create_buffer(on_host(pool->id), buffer, buffer->offset);
    return;
  }
  buffer->memory = allocate_memory(size);
  uint32_t own = own_id();
  say_create_pool(on_host(shm_id), own, buffer->memory, buffer->memory->blob.size);
  say_create_buffer(own, buffer, 0);
  SAY(own, 1);
}

static void destroy_buffer(struct buffer *buffer) {
  for (uint32_t i = 0; i <= last_object; i++) {
    if (!objects[i].interface || objects[i].interface->kind != SURFACE) continue;
    if (objects[i].buffer == buffer) objects[i].buffer = NULL;
    if (objects[i].pending == buffer) objects[i].pending = NULL;
  }
  release_memory(buffer->memory);
  release_pool(buffer->pool);
  free(buffer->stale);
  free(buffer);
}

/* New memory, and all that is in the pool once more, under the numbers it has. */
static void make_pool_anew(struct pool *pool, size_t size) {
  struct memory *memory = allocate_memory(size);
  SAY(on_host(pool->id), 1);
  say_create_pool(on_host(shm_id), on_host(pool->id), memory, size);
  swallowed[pool->id]++;
  for (uint32_t i = 0; i <= last_object; i++) {
    struct buffer *buffer = objects[i].interface && objects[i].interface->kind == BUFFER ? objects[i].buffer : NULL;
    if (!buffer || buffer->pool != pool) continue;
    size_t bytes = (size_t)buffer->stride * buffer->height;
    memcpy(memory->blob.bytes + buffer->offset, buffer->memory->blob.bytes + buffer->at, bytes);
    release_memory(buffer->memory);
    buffer->memory = memory;
    memory->users++;
    buffer->surface = NULL;
    SAY(on_host(i), 0);
    say_create_buffer(on_host(pool->id), buffer, buffer->offset);
    swallowed[i]++;
    for (uint32_t j = 0; j <= last_object; j++)
      if (objects[j].attached && objects[j].pending == buffer) SAY(on_host(j), 1, on_host(i), 0, 0);
  }
  release_memory(pool->memory);
  pool->memory = memory;
}

/* Whether the host gets the request as it is. */
static bool grow_pool(struct pool *pool, size_t size) {
  bool is_new = !style.pool_per_buffer && style.exact_pools && size != pool->size;
  if (!style.pool_per_buffer && !style.exact_pools && size > pool->memory->blob.size)
    die("a pool of %zu bytes cannot have %zu", pool->size, size);
  void *grown = mremap(pool->pixels, pool->size, size, MREMAP_MAYMOVE);
  if (grown == MAP_FAILED) die("growing a pool: %s", strerror(errno));
  pool->pixels = grown;
  pool->size = size;
  if (is_new) make_pool_anew(pool, size);
  return !style.pool_per_buffer && !is_new;
}

static void damage(struct object *surface, const uint8_t *args) {
  int32_t start = (int32_t)word_at(args + 4), height = (int32_t)word_at(args + 12);
  if ((int32_t)word_at(args + 8) <= 0 || height <= 0) return;
  if (surface->damage_count == MAX_DAMAGES) die("too many damages at once");
  int64_t end = (int64_t)start + height;
  uint32_t *rows = surface->damages[surface->damage_count++];
  rows[0] = start > 0 ? (uint32_t)start : 0;
  rows[1] = end > 0 ? (uint32_t)end : 0;
}

/* What a host that has copies must bring up to date: rows that have changed since it had this buffer on this surface. */
static void count_damage(struct object *surface, struct buffer *buffer) {
  bool all = surface->width != buffer->width || surface->height != buffer->height;
  for (uint32_t i = 0; i <= last_object; i++) {
    struct buffer *other = objects[i].interface && objects[i].interface->kind == BUFFER ? objects[i].buffer : NULL;
    if (!other || other->surface != surface) continue;
    for (uint32_t row = 0; row < other->height; row++) {
      bool is_damaged = all;
      for (uint32_t j = 0; j < surface->damage_count; j++)
        is_damaged |= row >= surface->damages[j][0] && row < surface->damages[j][1];
      other->stale[row] |= is_damaged;
    }
  }
  if (buffer->surface != surface) memset(buffer->stale, 1, buffer->height);
  buffer->surface = surface;
  for (uint32_t row = 0; row < buffer->height; row++) damaged_bytes += buffer->stale[row] ? buffer->stride : 0;
  memset(buffer->stale, 0, buffer->height);
  frame_bytes += (uint64_t)buffer->stride * buffer->height;
}

static void commit(uint32_t id, struct object *surface) {
  if (surface->attached) surface->buffer = surface->pending;
  struct buffer *buffer = surface->buffer;
  bool has_changed = surface->attached || surface->damage_count > 0;
  surface->attached = false;
  surface->pending = NULL;
  if (buffer && has_changed) {
    size_t size = (size_t)buffer->stride * buffer->height;
    if (buffer->memory) {
      memcpy(buffer->memory->blob.bytes + buffer->at, buffer->pool->pixels + buffer->offset, size);
      count_damage(surface, buffer);
    }
    if (style.viewport) {
      if (!surface->viewport) SAY(viewporter, 1, surface->viewport = own_id(), on_host(id));
      SAY(surface->viewport, 1, -FIXED, -FIXED, -FIXED, -FIXED);
      SAY(surface->viewport, 2, buffer->width, buffer->height);
    }
  }
  if (has_changed) {
    surface->width = buffer ? buffer->width : 0;
    surface->height = buffer ? buffer->height : 0;
  }
  surface->damage_count = 0;
}

static void read_through_host(void) {
  uint32_t i = 0;
  while (i < MAX_PIPES && written[i].id) i++;
  if (i == MAX_PIPES) die("too many pipes");
  written[i].fd = take_fd();
  written[i].id = next_read_pipe;
  emit_id(ID_READ_PIPE, next_read_pipe++);
}

static void bind_global(const uint8_t *args) {
  uint32_t id = word_at(args + 8 + padded(word_at(args + 4)) + 4);
  make_object(id, interface_named((const char *)args + 8));
}

/* Whether the request goes on. */
static bool understand(uint32_t id, struct object *object, uint32_t *opcode, const uint8_t *args) {
  switch (object->interface->kind << 8 | *opcode) {
    case REGISTRY << 8 | 0:
      bind_global(args);
      return true;
    case SHM << 8 | 0:
      create_pool(id, word_at(args), word_at(args + 4));
      return false;
    case POOL << 8 | 0:
      create_buffer(object->pool, args);
      return false;
    case POOL << 8 | 2:
      return grow_pool(object->pool, word_at(args));
    case POOL << 8 | 1:
      release_pool(object->pool);
      object->pool = NULL;
      /* There it is a region. */
      if (style.pool_per_buffer) *opcode = 0;
      return true;
    case BUFFER << 8 | 0:
      destroy_buffer(object->buffer);
      object->buffer = NULL;
      return true;
    case SURFACE << 8 | 0:
      if (object->viewport) SAY(object->viewport, 0);
      for (uint32_t i = 0; i <= last_object; i++)
        if (objects[i].buffer && objects[i].buffer->surface == object) objects[i].buffer->surface = NULL;
      *object = (struct object){.interface = object->interface};
      return true;
    case SURFACE << 8 | 1: {
      struct object *buffer = word_at(args) ? object_of(word_at(args)) : NULL;
      object->pending = buffer && buffer->interface && buffer->interface->kind == BUFFER ? buffer->buffer : NULL;
      object->attached = true;
      return true;
    }
    case SURFACE << 8 | 2:
      damage(object, args);
      return true;
    case SURFACE << 8 | 9:
      damage(object, args);
      if (style.viewport) *opcode = 2;
      return true;
    case SURFACE << 8 | 6:
      commit(id, object);
      return true;
    case SHELL << 8 | 2: {
      struct object *surface = object_of(word_at(args + 4));
      make_object(word_at(args), interface_named("xdg_surface"))->surface = surface;
      surface->is_window = true;
      return true;
    }
    case WINDOW << 8 | 3:
      for (uint32_t i = 0; i < 4; i++) object->surface->geometry[i] = word_at(args + 4 * i);
      return true;
  }
  return true;
}

static const struct message *making;
static void shift_request(uint8_t *at, bool is_new) {
  uint32_t id = word_at(at), shifted = on_host(id);
  /* What has more to it is made where it is understood; a surface that has gone has left nothing. */
  if (is_new && making->makes && making->makes != object_of(id)->interface) make_object(id, making->makes);
  memcpy(at, &shifted, sizeof shifted);
}

static void forward_request(const uint8_t *bytes, uint32_t size) {
  static uint8_t message[2 * PAGE];
  uint32_t id = word_at(bytes), opcode = word_at(bytes + 4) & 0xffff;
  struct object *object = object_of(id);
  if (!object->interface || opcode >= MAX_MESSAGES) die("request %u of object %u", opcode, id);
  making = &object->interface->requests[opcode];
  uint32_t extra = 0;
  for (const char *kind = making->arguments; *kind; kind++) extra += *kind == 's' || *kind == 'a' || *kind == 'h';
  if (strchr(making->arguments, 'h') && object->interface->kind != SHM) read_through_host();
  if (!understand(id, object, &opcode, bytes + 8)) return;
  memcpy(message, bytes, size);
  each_object(making, message, size, shift_request);
  if (style.extra_words && size + 4 * extra <= PAGE) {
    memset(message + size, 0, 4 * extra);
    size += 4 * extra;
  }
  uint32_t header[2] = {on_host(id), size << 16 | opcode};
  memcpy(message, header, sizeof header);
  emit(message, size);
}

static void forward_requests(void) {
  size_t at = 0;
  while (requests_size - at >= 8) {
    uint32_t size = word_at(requests + at + 4) >> 16;
    if (size < 8 || size > PAGE) die("a request of %u bytes", size);
    if (requests_size - at < size) break;
    forward_request(requests + at, size);
    at += size;
  }
  send_requests();
  requests_size -= at;
  memmove(requests, requests + at, requests_size);
}

__attribute__((noreturn)) static void leave(void) {
  printf("PROXY left, damaged %llu of %llu\n", (unsigned long long)damaged_bytes, (unsigned long long)frame_bytes);
  exit(0);
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
  if (size <= 0) leave();
  requests_size += (size_t)size;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    uint32_t count = (uint32_t)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    if (fd_count + count > sizeof fds / sizeof *fds) die("too many descriptors");
    memcpy(fds + fd_count, CMSG_DATA(header), count * sizeof(int));
    fd_count += count;
  }
  forward_requests();
}

/*
 * The real ones hang up after whatever read is short, and so cut what comes slowly; this one only shows how they say
 * it.
 */
static void read_source(uint32_t i) {
  size_t wanted = style.hang_up_with_data ? MAX_WRITE - sources[i].size : MAX_WRITE;
  ssize_t size = read(sources[i].fd, sources[i].bytes + sources[i].size, wanted);
  bool has_ended = size <= 0;
  if (!has_ended) sources[i].size += (size_t)size;
  if (style.hang_up_with_data && !has_ended && sources[i].size < MAX_WRITE) return;
  write_to_pipe(sources[i].id, sources[i].bytes, sources[i].size, has_ended);
  sources[i].size = 0;
  if (!has_ended) return;
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
  sources[i].size = 0;
  return ends[1];
}

/* To the program; the descriptors go with the first byte. */
static void send_events(const uint8_t *bytes, size_t size) {
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
  } control = {.header = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
  if (size == 0) return;
  if (event_fd_count > MAX_FDS) die("too many descriptors");
  control.header.cmsg_len = CMSG_LEN(event_fd_count * sizeof(int));
  memcpy(CMSG_DATA(&control.header), event_fds, event_fd_count * sizeof(int));
  struct iovec from = {(void *)(uintptr_t)bytes, size};
  struct msghdr message = {.msg_iov = &from, .msg_iovlen = 1};
  if (event_fd_count > 0) {
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(event_fd_count * sizeof(int));
  }
  ssize_t sent = sendmsg(client, &message, MSG_NOSIGNAL);
  if (sent < 0) leave();
  while (event_fd_count > 0) close(event_fds[--event_fd_count]);
  for (size_t at = (size_t)sent; at < size; at += (size_t)sent) {
    sent = send(client, bytes + at, size - at, MSG_NOSIGNAL);
    if (sent < 0) leave();
  }
}

static void shift_event(uint8_t *at, bool is_new) {
  uint32_t id = in_program(word_at(at));
  if (is_new && making->makes) make_object(id, making->makes);
  memcpy(at, &id, sizeof id);
}

static void own_global(const uint8_t *args) {
  const char *interface = (const char *)args + 8;
  if (strcmp(interface, "wl_compositor") == 0) say_bind(word_at(args), interface, 1, compositor = own_id());
  if (strcmp(interface, "wp_viewporter") == 0) say_bind(word_at(args), interface, 1, viewporter = own_id());
}

/* Whether the program gets it. */
static bool understand_event(uint32_t host_id, const struct object *object, uint32_t opcode, uint8_t *args) {
  if (host_id == DISPLAY_ID && opcode == 1) {
    uint32_t id = word_at(args), shifted = in_program(id);
    if (is_own(id)) {
      if (id != OWN_REGISTRY) free_ids[free_count++] = id;
      /* All numbers have been used, and are free: now programs have theirs. */
      if (free_count == OWN_IDS - 1 && !is_ready) SAY(DISPLAY_ID, 1, OWN_REGISTRY), is_ready = true;
      return false;
    }
    if (shifted < MAX_OBJECTS && swallowed[shifted] > 0) return swallowed[shifted]--, false;
    memcpy(args, &shifted, sizeof shifted);
    return true;
  }
  if (object->interface->kind != REGISTRY || opcode != 0 || !style.viewport) return true;
  const char *interface = (const char *)args + 8;
  return strcmp(interface, "wp_viewporter") != 0 && strcmp(interface, "wp_fractional_scale_manager_v1") != 0;
}

static void forward_events(const struct transfer *received) {
  static uint8_t out[sizeof events];
  size_t at = 0, out_size = 0;
  for (uint32_t i = 0; i < received->count; i++) {
    if (event_fd_count == sizeof event_fds / sizeof *event_fds) die("too many descriptors");
    event_fds[event_fd_count++] = received->types[i] == ID_BLOB
                                      ? copy_memory(received->ids[i], received->sizes[i])
                                      : open_source(received->ids[i]);
  }
  if (events_size + received->data_size > sizeof events) die("too many events");
  memcpy(events + events_size, received->data, received->data_size);
  events_size += received->data_size;
  while (events_size - at >= 8) {
    uint32_t host_id = word_at(events + at), opcode = word_at(events + at + 4) & 0xffff;
    uint32_t size = word_at(events + at + 4) >> 16, id = in_program(host_id);
    if (size < 8 || opcode >= MAX_MESSAGES) die("an event of %u bytes", size);
    if (events_size - at < size) break;
    uint8_t *event = events + at;
    at += size;
    if (is_own(host_id)) {
      if (host_id == OWN_REGISTRY && is_ready && opcode == 0) own_global(event + 8);
      continue;
    }
    const struct object *object = object_of(id);
    if (!object->interface) die("event %u of object %u", opcode, id);
    making = &object->interface->events[opcode];
    if (!understand_event(host_id, object, opcode, event + 8)) continue;
    each_object(making, event, size, shift_event);
    memcpy(event, &id, sizeof id);
    memcpy(out + out_size, event, size);
    out_size += size;
  }
  events_size -= at;
  memmove(events, events + at, events_size);
  send_events(out, out_size);
  send_requests();
}

static void write_received(const struct pipe_data *data) {
  uint32_t i = 0;
  while (i < MAX_PIPES && written[i].id != data->id) i++;
  if (i == MAX_PIPES) leave();
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
  else if (received->count == 0 && received->data_size == 0) leave();
  else forward_events(received);
}

/* ---------------------------------------------------------------- main */

static void describe_window(const struct object *surface) {
  const struct buffer *buffer = surface->buffer;
  uint32_t left = surface->geometry[0], top = surface->geometry[1];
  uint32_t width = surface->geometry[2] ? surface->geometry[2] : buffer->width;
  uint32_t height = surface->geometry[3] ? surface->geometry[3] : buffer->height;
  if (left + width > buffer->width) width = buffer->width - left;
  if (top + height > buffer->height) height = buffer->height - top;
  uint32_t hash = 0x811c9dc5;
  for (uint32_t y = top; y < top + height; y++) {
    const uint8_t *pixel = buffer->memory->blob.bytes + buffer->at + (size_t)y * buffer->stride + 4 * left;
    for (uint32_t x = 0; x < width; x++, pixel += 4)
      for (uint32_t i = 3; i-- > 0;) hash = (hash ^ pixel[i]) * 0x01000193;
  }
  printf("PROXY window %ux%u %08x\n", width, height, hash);
}

static void answer(void) {
  for (uint32_t i = 0; i <= last_object; i++)
    if (objects[i].is_window && objects[i].buffer && objects[i].buffer->memory) describe_window(&objects[i]);
  printf("PROXY damaged %llu of %llu\n", (unsigned long long)damaged_bytes, (unsigned long long)frame_bytes);
  fflush(stdout);
}

static void note_question(int signal) {
  (void)signal;
  is_asked = 1;
}

static void serve(void) {
  sigset_t open_to_questions, closed;
  sigemptyset(&open_to_questions);
  sigemptyset(&closed);
  sigaddset(&closed, SIGUSR1);
  sigprocmask(SIG_BLOCK, &closed, NULL);
  sigaction(SIGUSR1, &(struct sigaction){.sa_handler = note_question}, NULL);
  open_context();
  make_object(DISPLAY_ID, interface_named("wl_display"));
  if (style.own_ids) {
    /* Numbers are taken in order: each is used once, and given back. The last one is the registry's. */
    for (uint32_t id = OWN_REGISTRY; id < OWN_REGISTRY + OWN_IDS; id++) SAY(DISPLAY_ID, 0, id);
    send_requests();
  }
  for (;;) {
    struct pollfd waits[2 + MAX_PIPES] = {{.fd = card, .events = POLLIN}, {.fd = client, .events = POLLIN}};
    if (style.own_ids && !(compositor && viewporter)) waits[1].fd = -1;
    for (uint32_t i = 0; i < MAX_PIPES; i++)
      waits[2 + i] = (struct pollfd){.fd = sources[i].id ? sources[i].fd : -1, .events = POLLIN};
    if (is_asked) {
      is_asked = 0;
      answer();
    }
    if (ppoll(waits, 2 + MAX_PIPES, NULL, &open_to_questions) < 0) {
      if (errno == EINTR) continue;
      die("poll: %s", strerror(errno));
    }
    if (waits[0].revents) handle_message(take_message());
    if (waits[1].revents) receive_requests();
    for (uint32_t i = 0; i < MAX_PIPES; i++)
      if (waits[2 + i].revents) read_source(i);
  }
}

static void set_style(const char *name) {
  if (strcmp(name, "sommelier") == 0) {
    style.chunks = style.pool_per_buffer = style.viewport = style.hang_up_with_data = true;
    style.handles = NEVER_CLOSE;
  } else if (strcmp(name, "virtwl") == 0) {
    style.extra_words = style.own_ids = style.exact_pools = true;
    style.handles = CLOSE_WHEN_SENT;
  } else if (strcmp(name, "wl-cross") == 0) {
    style.exact_pools = style.forget_pools = style.hang_up_with_data = true;
    style.handles = CLOSE_WHEN_SENT;
  } else {
    die("style %s", name);
  }
}

static bool set_option(const char *option) {
  static const struct {
    const char *name;
    bool *flag;
  } flags[] = {
      {"--extra-words", &style.extra_words},         {"--own-ids", &style.own_ids},
      {"--chunks", &style.chunks},                   {"--exact-pools", &style.exact_pools},
      {"--pool-per-buffer", &style.pool_per_buffer}, {"--viewport", &style.viewport},
      {"--hang-up-with-data", &style.hang_up_with_data}, {"--forget-pools", &style.forget_pools},
  };
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
    if (strcmp(option, flags[i].name) == 0) return *flags[i].flag = true;
  if (strcmp(option, "--close-when-sent") == 0) return style.handles = CLOSE_WHEN_SENT, true;
  if (strcmp(option, "--never-close") == 0) return style.handles = NEVER_CLOSE, true;
  return false;
}

int main(int argc, char **argv) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  const char *path = NULL;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--style") == 0 && i + 1 < argc) set_style(argv[++i]);
    else if (argv[i][0] == '-' ? !set_option(argv[i]) : path != NULL) path = "";
    else if (argv[i][0] != '-') path = argv[i];
  }
  if (!path || !path[0] || strlen(path) >= sizeof address.sun_path) {
    fprintf(stderr, "usage: proxy [OPTION...] SOCKET\n");
    return 2;
  }
  if (style.viewport || style.pool_per_buffer) style.own_ids = true;
  read_messages("/wayland.messages");
  strcpy(address.sun_path, path);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGCHLD, SIG_IGN);
  signal(SIGUSR1, SIG_IGN);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 8) < 0)
    die("%s: %s", path, strerror(errno));
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
