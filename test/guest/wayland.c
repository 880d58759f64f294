/*
 * wayland: a Wayland client that reaches the host's compositor through a cross-domain context, by plain ioctls of
 * virtio_gpu and without any library. It says on the serial line what it saw.
 *
 *   wayland globals                                prints what the registry offers
 *   wayland window WIDTHxHEIGHT [--title TEXT] [--frames COUNT] [--damage STEPS] [--scribble] [--stay]
 *   wayland keymap [FILE]                          waits for a keyboard and reads its keymap, into a file if named
 *   wayland paste MIME FILE                        reads the selection into a file, through a pipe of the host
 *   wayland copy MIME FILE [SENDS]                 owns the selection until it has been sent so often (default 1)
 *   wayland drag MIME FILE                         drags a file out of its window, and leaves when it has been dropped
 *   wayland drop MIME FILE                         waits for something to be dropped, and reads it into a file
 *   wayland resize COUNT                           gives a window so many buffers, one after the other
 *   wayland tablet                                 asks for the tablets of a seat, and for who draws the frame of a window
 *
 * A window asks the host for pictures, one named each of: window, frames, damage, scribble. For each it prints "@@SHOT
 * name" and waits for a line. --stay: does what the compositor asks for until the connection ends. Whoever is told of
 * that end says how, and leaves with status 3. Nobody tidies up before leaving.
 *
 * WHAT IS IN THE WINDOW is the pattern of kms.c as output 0 draws it: frame 0, then frame COUNT, then the rectangles
 * of STEPS. One pool has two buffers, the second behind the first at an odd page, which are shown in turns. Before a
 * frame of damage the whole picture is brought to the other buffer, and only the rectangles are called damaged.
 * --scribble draws into the buffer that is shown, and tells nobody.
 */
#include "cross-domain.h"
#include "shot.h"
#include <poll.h>

enum { DIRTY_WIDTH = 64, DIRTY_HEIGHT = 48, PATIENCE_MS = 30000 };

/* ---------------------------------------------------------------- requests */

static size_t request_start;

static void put_word(uint32_t word) { put(&word, sizeof word); }

static void put_string(const char *text) {
  static const uint8_t zeros[4];
  size_t size = strlen(text) + 1;
  put_word((uint32_t)size);
  put(text, size);
  put(zeros, -size & 3);
}

static void begin(uint32_t object, uint32_t opcode) {
  request_start = outgoing.transfer.data_size;
  put_word(object);
  put_word(opcode);
}

static void end(void) {
  uint32_t word = (uint32_t)(outgoing.transfer.data_size - request_start) << 16;
  outgoing.transfer.data[request_start + 6] = word >> 16 & 0xff;
  outgoing.transfer.data[request_start + 7] = word >> 24 & 0xff;
}

/* A request whose arguments are words. */
static void request(uint32_t object, uint32_t opcode, uint32_t count, ...) {
  va_list words;
  va_start(words, count);
  begin(object, opcode);
  while (count-- > 0) put_word(va_arg(words, uint32_t));
  end();
  va_end(words);
}

/* ---------------------------------------------------------------- events */

enum kind {
  NOTHING,
  REGISTRY,
  CALLBACK,
  SHM,
  BUFFER,
  WM_BASE,
  XDG_SURFACE,
  TOPLEVEL,
  SEAT,
  POINTER,
  KEYBOARD,
  DATA_DEVICE,
  DATA_SOURCE,
  DECORATION,
  KIND_COUNT,
};

/* Kinds of our objects by id, and whether a callback has come or a buffer has been released. */
static struct {
  uint8_t kind;
  bool done;
} objects[65536] = {[2] = {.kind = REGISTRY}};
static uint32_t next_object = 3;

static uint32_t new_object(enum kind kind) {
  if (next_object >= sizeof objects / sizeof *objects) die("too many objects");
  objects[next_object].kind = (uint8_t)kind;
  return next_object++;
}

static struct global {
  uint32_t name, version;
  char interface[60];
} globals[256];
static uint32_t global_count;

static struct {
  uint32_t capabilities, enter_serial, keyboard_count;
  bool configured, has_keymap, cancelled, dropped, finished, has_mode;
  struct blob keymap;
  uint32_t keymap_format, keymap_size, decoration_mode;
  uint32_t selection, send_pipe, button_serial, drag_serial, drag_offer;
  char offered[1024];
} seen;

static struct item {
  uint32_t type, id, size;
} items[64];
static uint32_t item_count;
static uint8_t incoming[1 << 20];
static size_t incoming_size;

/* Where what comes through the one pipe is written to. */
static FILE *pipe_file;
static uint64_t pipe_bytes;
static bool pipe_ended;

__attribute__((noreturn)) static void ended(const char *how) {
  printf("WAYLAND ended: %s\n", how);
  exit(3);
}

static struct item take_item(uint32_t type) {
  if (item_count == 0 || items[0].type != type) die("no descriptor of type %u has come", type);
  struct item item = items[0];
  memmove(items, items + 1, --item_count * sizeof *items);
  return item;
}

static void handle(uint32_t object, uint32_t opcode, const uint8_t *args) {
  if (object == 1) {
    if (opcode == 0) {
      printf("WAYLAND protocol error: object %u code %u %s\n", word_at(args), word_at(args + 4), (const char *)args + 12);
      ended("error event");
    }
    return;
  }
  if (object >= 0xff000000u) {
    /* An offer, and a type of it. */
    size_t used = strlen(seen.offered);
    if (opcode == 0) snprintf(seen.offered + used, sizeof seen.offered - used, " %s", (const char *)args + 4);
    return;
  }
  if (object >= next_object) die("an event for object %u", object);
  switch (objects[object].kind << 8 | opcode) {
    case REGISTRY << 8 | 0:
      if (global_count == sizeof globals / sizeof *globals) die("too many globals");
      globals[global_count].name = word_at(args);
      snprintf(globals[global_count].interface, sizeof globals->interface, "%s", (const char *)args + 8);
      globals[global_count++].version = word_at(args + 8 + ((word_at(args + 4) + 3) & ~3u));
      break;
    case CALLBACK << 8 | 0:
    case BUFFER << 8 | 0:
      objects[object].done = true;
      break;
    case WM_BASE << 8 | 0:
      request(object, 3, 1, word_at(args));
      break;
    case XDG_SURFACE << 8 | 0:
      request(object, 4, 1, word_at(args));
      seen.configured = true;
      break;
    case TOPLEVEL << 8 | 1:
      ended("the window was closed");
    case SEAT << 8 | 0:
      seen.capabilities = word_at(args);
      break;
    case POINTER << 8 | 3:
      if (word_at(args + 12) == 1) seen.button_serial = word_at(args);
      break;
    case KEYBOARD << 8 | 0: {
      struct item item = take_item(ID_BLOB);
      seen.keymap_format = word_at(args);
      seen.keymap_size = word_at(args + 4);
      if (item.size != seen.keymap_size) printf("WAYLAND keymap of %u bytes in a file of %u\n", seen.keymap_size, item.size);
      if (seen.has_keymap) destroy_blob(&seen.keymap);
      seen.keymap = create_blob(VIRTGPU_BLOB_MEM_HOST3D, item.id, item.size);
      seen.has_keymap = true;
      break;
    }
    case KEYBOARD << 8 | 1:
      seen.enter_serial = word_at(args);
      break;
    case DATA_DEVICE << 8 | 0:
      seen.offered[0] = '\0';
      break;
    case DATA_DEVICE << 8 | 1:
      seen.drag_serial = word_at(args);
      seen.drag_offer = word_at(args + 16);
      break;
    case DATA_DEVICE << 8 | 2:
      if (!seen.dropped) seen.drag_offer = 0;
      break;
    case DATA_DEVICE << 8 | 4:
      seen.dropped = true;
      break;
    case DATA_DEVICE << 8 | 5:
      seen.selection = word_at(args);
      break;
    case DATA_SOURCE << 8 | 1:
      seen.send_pipe = take_item(ID_WRITE_PIPE).id;
      printf("WAYLAND send %s\n", (const char *)args + 4);
      break;
    case DATA_SOURCE << 8 | 2:
      seen.cancelled = true;
      break;
    case DATA_SOURCE << 8 | 4:
      seen.finished = true;
      break;
    case DECORATION << 8 | 0:
      seen.decoration_mode = word_at(args);
      seen.has_mode = true;
      break;
  }
}

/* Does what a message says. */
static void handle_message(const uint8_t *page) {
  if (page[0] == READ) {
    const struct pipe_data *data = (const void *)page;
    if (data->id != next_read_pipe - 1 || !pipe_file) {
      if (data->id != UINT32_MAX) die("data for pipe %x", data->id);
      ended("READ of no pipe");
    }
    if (fwrite(data->data, 1, data->data_size, pipe_file) != data->data_size) die("writing a file");
    pipe_bytes += data->data_size;
    pipe_ended |= data->hang_up == 1;
    return;
  }
  const struct transfer *message = (const void *)page;
  if (message->count == 0 && message->data_size == 0) ended("empty RECEIVE");
  for (uint32_t i = 0; i < message->count; i++)
    items[item_count++] = (struct item){message->types[i], message->ids[i], message->sizes[i]};
  if (incoming_size + message->data_size > sizeof incoming) die("too many events");
  memcpy(incoming + incoming_size, message->data, message->data_size);
  incoming_size += message->data_size;
  size_t at = 0;
  while (incoming_size - at >= 8) {
    uint32_t word = word_at(incoming + at + 4), size = word >> 16;
    if (size < 8) die("an event of %u bytes", size);
    if (incoming_size - at < size) break;
    handle(word_at(incoming + at), word & 0xffff, incoming + at + 8);
    at += size;
  }
  incoming_size -= at;
  memmove(incoming, incoming + at, incoming_size);
}

/* Sends what there is to send, waits for one message and does what it says. False when none has come in time. */
static bool dispatch(int timeout_ms) {
  flush();
  struct pollfd wait = {.fd = card, .events = POLLIN};
  int ready = poll(&wait, 1, timeout_ms);
  if (ready < 0 && errno == EINTR) return true;
  if (ready <= 0) return false;
  handle_message(take_message());
  flush();
  return true;
}

#define UNTIL(condition)                                                          \
  while (!(condition))                                                            \
    if (!dispatch(PATIENCE_MS)) die("waited %d ms for " #condition, PATIENCE_MS)

static void roundtrip(void) {
  uint32_t callback = new_object(CALLBACK);
  request(1, 0, 1, callback);
  UNTIL(objects[callback].done);
}

/* ---------------------------------------------------------------- what programs begin with */

static void connect_to_compositor(void) {
  open_context();
  request(1, 1, 1, 2u);
  roundtrip();
}

static uint32_t try_bind(const char *interface, uint32_t version, enum kind kind) {
  for (uint32_t i = 0; i < global_count; i++) {
    if (strcmp(globals[i].interface, interface) != 0) continue;
    if (globals[i].version < version) version = globals[i].version;
    uint32_t id = new_object(kind);
    begin(2, 0);
    put_word(globals[i].name);
    put_string(interface);
    put_word(version);
    put_word(id);
    end();
    return id;
  }
  return 0;
}

static uint32_t bind(const char *interface, uint32_t version, enum kind kind) {
  uint32_t id = try_bind(interface, version, kind);
  if (id == 0) die("the compositor has no %s", interface);
  return id;
}

struct buffer {
  uint32_t id, width, height;
  uint8_t *pixels;
};

static struct {
  uint32_t compositor, shm, wm_base, surface, xdg_surface, toplevel;
} window;

static void open_window(const char *title) {
  window.compositor = bind("wl_compositor", 4, NOTHING);
  window.shm = bind("wl_shm", 1, SHM);
  window.wm_base = bind("xdg_wm_base", 1, WM_BASE);
  window.surface = new_object(NOTHING);
  request(window.compositor, 0, 1, window.surface);
  window.xdg_surface = new_object(XDG_SURFACE);
  request(window.wm_base, 2, 2, window.xdg_surface, window.surface);
  window.toplevel = new_object(TOPLEVEL);
  request(window.xdg_surface, 1, 1, window.toplevel);
  begin(window.toplevel, 2);
  put_string(title);
  end();
  begin(window.toplevel, 3);
  put_string("guest");
  end();
  request(window.surface, 6, 0);
  UNTIL(seen.configured);
}

static uint32_t create_pool(const struct blob *blob) {
  uint32_t pool = new_object(NOTHING);
  put_id(ID_BLOB, blob->resource);
  request(window.shm, 0, 2, pool, (uint32_t)blob->size);
  return pool;
}

static struct buffer create_buffer(uint32_t pool, const struct blob *blob, size_t offset, uint32_t width,
                                   uint32_t height) {
  struct buffer buffer = {new_object(BUFFER), width, height, blob->bytes + offset};
  objects[buffer.id].done = true;
  request(pool, 0, 6, buffer.id, (uint32_t)offset, width, height, width * 4, 1u /* XRGB8888 */);
  return buffer;
}

static uint32_t pattern_key(uint32_t frame) { return (frame * 0x9e3779b1u) >> 8; }

static void draw(const struct buffer *buffer, uint32_t left, uint32_t top, uint32_t width, uint32_t height,
                 uint32_t key) {
  for (uint32_t y = top; y < top + height; y++) {
    uint32_t *row = (uint32_t *)(void *)buffer->pixels + (size_t)y * buffer->width;
    uint32_t from_y = (y & 0xff) << 8 | (y >> 8 & 0xf);
    for (uint32_t x = left; x < left + width; x++)
      row[x] = 0x5a000000u | (((x & 0xff) << 16 | (x >> 8 & 0xf) << 4 | from_y) ^ key);
  }
}

static void draw_frame(const struct buffer *buffer, uint32_t frame) {
  draw(buffer, 0, 0, buffer->width, buffer->height, pattern_key(frame));
}

static void damage(uint32_t x, uint32_t y, uint32_t width, uint32_t height) {
  request(window.surface, 9, 4, x, y, width, height);
}

/* Shows a buffer, and waits until the compositor has. */
static void show(const struct buffer *buffer) {
  uint32_t callback = new_object(CALLBACK);
  objects[buffer->id].done = false;
  request(window.surface, 1, 3, buffer->id, 0u, 0u);
  request(window.surface, 3, 1, callback);
  request(window.surface, 6, 0);
  UNTIL(objects[callback].done);
}

/* A picture of everything said before. */
static void settled_shot(const char *name) {
  roundtrip();
  shot(name);
}

static void stay(void) {
  printf("WAYLAND stays\n");
  for (;;) dispatch(-1);
}

/* ---------------------------------------------------------------- programs */

static void run_globals(void) {
  connect_to_compositor();
  for (uint32_t i = 0; i < global_count; i++) printf("WAYLAND global %s %u\n", globals[i].interface, globals[i].version);
}

static void run_window(uint32_t width, uint32_t height, const char *title, uint32_t frames, uint32_t steps,
                       bool scribble, bool should_stay) {
  connect_to_compositor();
  open_window(title);
  size_t picture = (size_t)width * height * 4, second = (picture + 2 * PAGE - 1) / PAGE * PAGE;
  struct blob memory = allocate(second + picture);
  uint32_t pool = create_pool(&memory);
  struct buffer buffers[2] = {create_buffer(pool, &memory, 0, width, height),
                              create_buffer(pool, &memory, second, width, height)};
  uint32_t now = 0;
  draw_frame(&buffers[now], 0);
  damage(0, 0, width, height);
  show(&buffers[now]);
  settled_shot("window");
  for (uint32_t frame = 1; frame <= frames; frame++) {
    now ^= 1;
    UNTIL(objects[buffers[now].id].done);
    draw_frame(&buffers[now], frame);
    damage(0, 0, width, height);
    show(&buffers[now]);
  }
  if (frames > 0) settled_shot("frames");
  for (uint32_t step = 0; step < steps; step++) {
    const uint8_t *before = buffers[now].pixels;
    now ^= 1;
    UNTIL(objects[buffers[now].id].done);
    memcpy(buffers[now].pixels, before, picture);
    for (uint32_t r = 2 * step; r < 2 * step + 2; r++) {
      uint32_t x = 97 * r % (width - DIRTY_WIDTH + 1), y = 61 * r % (height - DIRTY_HEIGHT + 1);
      draw(&buffers[now], x, y, DIRTY_WIDTH, DIRTY_HEIGHT, pattern_key(frames + 1 + step));
      damage(x, y, DIRTY_WIDTH, DIRTY_HEIGHT);
    }
    show(&buffers[now]);
  }
  if (steps > 0) settled_shot("damage");
  if (scribble) {
    draw_frame(&buffers[now], 99);
    settled_shot("scribble");
  }
  if (should_stay) stay();
}

static void open_small_window(const char *title) {
  static struct blob memory;
  open_window(title);
  memory = allocate(200 * 100 * 4);
  struct buffer buffer = create_buffer(create_pool(&memory), &memory, 0, 200, 100);
  draw_frame(&buffer, 0);
  damage(0, 0, 200, 100);
  show(&buffer);
}

/* A window that has the keyboard: what has to do with a selection needs one. */
static void open_focused_window(uint32_t *seat) {
  *seat = bind("wl_seat", 5, SEAT);
  UNTIL(seen.capabilities & 2);
  uint32_t keyboard = new_object(KEYBOARD);
  request(*seat, 1, 1, keyboard);
  open_small_window("focus");
  UNTIL(seen.enter_serial);
}

static void run_keymap(const char *path) {
  uint32_t seat;
  connect_to_compositor();
  open_focused_window(&seat);
  UNTIL(seen.has_keymap);
  const char *text = (const char *)seen.keymap.bytes;
  printf("WAYLAND keymap format=%u bytes=%u %.*s\n", seen.keymap_format, seen.keymap_size, (int)strcspn(text, "\n"), text);
  if (strncmp(text, "xkb_keymap", 10) != 0) die("this is no keymap");
  if (path) {
    FILE *file = fopen(path, "w");
    if (!file || fwrite(text, 1, seen.keymap_size, file) != seen.keymap_size || fclose(file) != 0) die("writing %s", path);
  }
}

static uint32_t get_data_device(uint32_t manager, uint32_t seat) {
  uint32_t device = new_object(DATA_DEVICE);
  request(manager, 1, 2, device, seat);
  return device;
}

/* Reads an offer into a file, through a pipe of the host. */
static void receive_offer(uint32_t offer, const char *mime, const char *path) {
  pipe_file = fopen(path, "w");
  if (!pipe_file) die("%s: %s", path, strerror(errno));
  put_id(ID_READ_PIPE, next_read_pipe++);
  begin(offer, 1);
  put_string(mime);
  end();
  UNTIL(pipe_ended);
  if (fclose(pipe_file) != 0) die("writing %s", path);
  printf("WAYLAND received bytes=%llu\n", (unsigned long long)pipe_bytes);
}

static void run_paste(const char *mime, const char *path) {
  uint32_t seat;
  connect_to_compositor();
  uint32_t manager = bind("wl_data_device_manager", 3, NOTHING);
  uint32_t early_seat = bind("wl_seat", 5, NOTHING);
  get_data_device(manager, early_seat);
  open_focused_window(&seat);
  printf("WAYLAND waits for a selection\n");
  UNTIL(seen.selection);
  printf("WAYLAND offered%s\n", seen.offered);
  receive_offer(seen.selection, mime, path);
}

static FILE *open_file(const char *path) {
  FILE *file = fopen(path, "r");
  if (!file) die("%s: %s", path, strerror(errno));
  return file;
}

static uint32_t create_source(uint32_t manager, const char *mime) {
  uint32_t source = new_object(DATA_SOURCE);
  request(manager, 0, 1, source);
  begin(source, 0);
  put_string(mime);
  end();
  return source;
}

/* Writes a file into the pipe that has come for it. */
static void send_file(FILE *file) {
  uint8_t bytes[MAX_WRITE];
  size_t size, total = 0;
  rewind(file);
  while ((size = fread(bytes, 1, sizeof bytes, file)) > 0) {
    write_to_pipe(seen.send_pipe, bytes, size, false);
    total += size;
  }
  write_to_pipe(seen.send_pipe, bytes, 0, true);
  seen.send_pipe = 0;
  printf("WAYLAND sent bytes=%zu\n", total);
}

static void run_copy(const char *mime, const char *path, uint32_t sends) {
  uint32_t seat;
  FILE *file = open_file(path);
  connect_to_compositor();
  uint32_t manager = bind("wl_data_device_manager", 3, NOTHING);
  open_focused_window(&seat);
  request(get_data_device(manager, seat), 1, 2, create_source(manager, mime), seen.enter_serial);
  roundtrip();
  printf("WAYLAND owns the selection\n");
  while (sends-- > 0) {
    UNTIL(seen.send_pipe || seen.cancelled);
    if (!seen.send_pipe) break;
    send_file(file);
  }
  roundtrip();
}

enum { ACTION_COPY = 1 };

static void run_drag(const char *mime, const char *path) {
  FILE *file = open_file(path);
  connect_to_compositor();
  uint32_t manager = bind("wl_data_device_manager", 3, NOTHING), seat = bind("wl_seat", 5, SEAT);
  UNTIL(seen.capabilities & 1);
  request(seat, 0, 1, new_object(POINTER));
  open_small_window("drag");
  printf("WAYLAND waits to be dragged\n");
  UNTIL(seen.button_serial);
  uint32_t source = create_source(manager, mime);
  request(source, 2, 1, (uint32_t)ACTION_COPY);
  request(get_data_device(manager, seat), 0, 4, source, window.surface, 0u, seen.button_serial);
  roundtrip();
  printf("WAYLAND drags\n");
  while (!seen.finished) {
    UNTIL(seen.send_pipe || seen.finished || seen.cancelled);
    if (seen.cancelled && !seen.finished) die("the drag was cancelled");
    if (seen.send_pipe) send_file(file);
  }
}

static void run_drop(const char *mime, const char *path) {
  connect_to_compositor();
  uint32_t manager = bind("wl_data_device_manager", 3, NOTHING), seat = bind("wl_seat", 5, SEAT);
  get_data_device(manager, seat);
  open_small_window("drop");
  printf("WAYLAND waits for a drop\n");
  UNTIL(seen.drag_offer);
  uint32_t offer = seen.drag_offer;
  begin(offer, 0);
  put_word(seen.drag_serial);
  put_string(mime);
  end();
  request(offer, 4, 2, (uint32_t)ACTION_COPY, (uint32_t)ACTION_COPY);
  roundtrip();
  printf("WAYLAND entered with%s\n", seen.offered);
  UNTIL(seen.dropped);
  receive_offer(offer, mime, path);
  request(offer, 3, 0);
  roundtrip();
}

static void run_resize(uint32_t count) {
  connect_to_compositor();
  open_window("resize");
  struct blob memory = {0};
  uint32_t buffer_id = 0;
  for (uint32_t i = 0; i <= count; i++) {
    uint32_t width = 200 + i * 37 % 401, height = 100 + i * 53 % 301;
    struct blob next = allocate((size_t)width * height * 4);
    uint32_t pool = create_pool(&next);
    struct buffer buffer = create_buffer(pool, &next, 0, width, height);
    request(pool, 1, 0);
    draw_frame(&buffer, i);
    damage(0, 0, width, height);
    show(&buffer);
    if (buffer_id) {
      request(buffer_id, 0, 0);
      destroy_blob(&memory);
    }
    memory = next;
    buffer_id = buffer.id;
    if (i == 20) settled_shot("before");
  }
  settled_shot("after");
  printf("WAYLAND resized %u times\n", count);
}

static void run_tablet(void) {
  connect_to_compositor();
  uint32_t seat = bind("wl_seat", 5, SEAT), tablets = bind("zwp_tablet_manager_v2", 2, NOTHING);
  uint32_t decorations = bind("org_kde_kwin_server_decoration_manager", 1, NOTHING);
  open_small_window("tablet");
  uint32_t tablet_seat = new_object(NOTHING);
  request(tablets, 0, 2, tablet_seat, seat);
  request(decorations, 0, 2, new_object(DECORATION), window.surface);
  UNTIL(seen.has_mode);
  printf("WAYLAND decoration mode=%u\n", seen.decoration_mode);
  request(tablet_seat, 0, 0);
  roundtrip();
  printf("WAYLAND asked for tablets\n");
}

static void usage(void) {
  fprintf(stderr, "usage: wayland globals | window WIDTHxHEIGHT [--title TEXT] [--frames COUNT] [--damage STEPS]\n"
                  "               [--scribble] [--stay] | keymap [FILE] | paste MIME FILE | copy MIME FILE [SENDS] |\n"
                  "               drag MIME FILE | drop MIME FILE | resize COUNT | tablet\n");
  exit(2);
}

int main(int argc, char **argv) {
  const char *command = argc > 1 ? argv[1] : "";
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (strcmp(command, "globals") == 0 && argc == 2) {
    run_globals();
  } else if (strcmp(command, "window") == 0 && argc > 2) {
    uint32_t width, height, frames = 0, steps = 0;
    bool scribble = false, should_stay = false;
    const char *title = "window";
    if (sscanf(argv[2], "%ux%u", &width, &height) != 2) usage();
    for (int a = 3; a < argc; a++) {
      if (strcmp(argv[a], "--title") == 0 && a + 1 < argc) title = argv[++a];
      else if (strcmp(argv[a], "--frames") == 0 && a + 1 < argc) frames = (uint32_t)atoi(argv[++a]);
      else if (strcmp(argv[a], "--damage") == 0 && a + 1 < argc) steps = (uint32_t)atoi(argv[++a]);
      else if (strcmp(argv[a], "--scribble") == 0) scribble = true;
      else if (strcmp(argv[a], "--stay") == 0) should_stay = true;
      else usage();
    }
    run_window(width, height, title, frames, steps, scribble, should_stay);
  } else if (strcmp(command, "keymap") == 0 && argc <= 3) {
    run_keymap(argv[2]);
  } else if (strcmp(command, "paste") == 0 && argc == 4) {
    run_paste(argv[2], argv[3]);
  } else if (strcmp(command, "copy") == 0 && (argc == 4 || argc == 5)) {
    run_copy(argv[2], argv[3], argc == 5 ? (uint32_t)atoi(argv[4]) : 1);
  } else if (strcmp(command, "drag") == 0 && argc == 4) {
    run_drag(argv[2], argv[3]);
  } else if (strcmp(command, "drop") == 0 && argc == 4) {
    run_drop(argv[2], argv[3]);
  } else if (strcmp(command, "resize") == 0 && argc == 3) {
    run_resize((uint32_t)atoi(argv[2]));
  } else if (strcmp(command, "tablet") == 0 && argc == 2) {
    run_tablet();
  } else {
    usage();
  }
  printf("WAYLAND done\n");
  return 0;
}
