/*
 * The real libwayland, asked what it makes of a stream: as a compositor of what programs send, and as a program of what
 * compositors send. Reads batches of cases, answers each batch at once. Numbers are 32-bit, in this machine's order.
 *
 *     batch:   bytes that follow, then cases
 *     case:    1 for a compositor or 2 for a program, number of steps, steps
 *     step:    SEND bytes, descriptors, what the library is sent, padded to words
 *              compositor: LET_GO of an object; POST an event that makes an object: of which object, opcode
 *              program: CALL object, its interface, opcode, new interface or none, version, destructor or not,
 *                       arguments, their kinds and values;
 *                       FORGET an object, without a word to the compositor
 *     answer:  bytes that follow, then for each step: bytes of text, the text, bytes that the library sent, these
 *
 * A line of text is a message that the library passed on, `object.opcode arguments`; `!code object` is a
 * wl_display.error; `x` is the end of the connection. The n-th descriptor of a case is a file of n bytes, by 64.
 *
 * interfaces.h is made by the test: all interfaces, and which requests destroy.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wayland-client-core.h>
#include <wayland-server-core.h>
#include "interfaces.h"

enum { SEND = 1, LET_GO, POST, CALL, FORGET };
enum { COMPOSITOR = 1, PROGRAM };
enum { FILES = 64, FDS_AT_ONCE = 28, MAX_READS = 64, MAX_ARGUMENTS = 20, MAX_PROXIES = 4096 };
static const uint32_t FIRST_SERVER_ID = 0xff000000;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

/* ---- what is answered ---- */

static char *answer;
static size_t answered, room;

static char *grow(size_t bytes) {
  if (answered + bytes > room) {
    room = 2 * (answered + bytes);
    answer = realloc(answer, room);
    if (!answer) fail("realloc");
  }
  return answer + answered;
}

static void put(const void *data, size_t bytes) {
  memcpy(grow(bytes), data, bytes);
  answered += bytes;
}

static void print(const char *format, uint32_t value) { answered += (size_t)sprintf(grow(64), format, value); }

static void print_bytes(char kind, const uint8_t *bytes, size_t count) {
  static const char digits[] = "0123456789abcdef";
  char *at = grow(2 * count + 2);
  *at++ = ' ';
  *at++ = kind;
  for (size_t i = 0; i < count; i++) {
    *at++ = digits[bytes[i] >> 4];
    *at++ = digits[bytes[i] & 15];
  }
  answered += 2 * count + 2;
}

/* The next argument of a signature; behind it. */
static const char *next_argument(const char *signature, char *type) {
  while (*signature == '?' || (*signature >= '0' && *signature <= '9')) signature++;
  *type = *signature;
  return *signature ? signature + 1 : signature;
}

static void print_string(const char *string) {
  if (!string) {
    put(" s-", 3);
    return;
  }
  /* What is not plain may be no UTF-8. */
  char kind = 's';
  for (const char *at = string; *at; at++)
    if (*at & 0x80) kind = 'S';
  print_bytes(kind, (const uint8_t *)string, strlen(string));
}

static uint32_t id_of(int side, void *object) {
  if (!object) return 0;
  return side == COMPOSITOR ? wl_resource_get_id(object) : wl_proxy_get_id(object);
}

static void print_message(int side, uint32_t id, uint32_t opcode, const char *signature,
                          const union wl_argument *args) {
  print("%u", id);
  print(".%u", opcode);
  char type;
  for (int i = 0; (signature = next_argument(signature, &type)), type; i++) {
    struct stat file;
    switch (type) {
    case 'i':
    case 'f':
      print(" %d", (uint32_t)args[i].i);
      break;
    case 'u':
      print(" %u", args[i].u);
      break;
    case 's':
      print_string(args[i].s);
      break;
    case 'a':
      print_bytes('a', args[i].a->data, args[i].a->size);
      break;
    case 'o':
      print(" %u", id_of(side, args[i].o));
      break;
    case 'n':
      print(" %u", side == COMPOSITOR ? args[i].n : id_of(side, args[i].o));
      break;
    case 'h':
      if (fstat(args[i].h, &file)) fail("fstat");
      print(" h%u", (uint32_t)file.st_size);
      break;
    }
  }
  put("\n", 1);
}

/* ---- descriptors, and the other end of the socket ---- */

static int files[FILES];
static int sent_files;

static void send_some(int to, const uint8_t *bytes, size_t count, uint32_t fds) {
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int) * FDS_AT_ONCE)];
  } control;
  struct iovec piece = {.iov_base = (void *)bytes, .iov_len = count};
  struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
  if (fds > 0) {
    memset(&control, 0, sizeof control);
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds);
    control.header = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof(int) * fds), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    int *list = (int *)CMSG_DATA(&control.header);
    for (uint32_t i = 0; i < fds; i++) list[i] = files[sent_files++ % FILES];
  }
  if (sendmsg(to, &message, MSG_NOSIGNAL) != (ssize_t)count) fail("sendmsg");
}

/* Puts what the library has sent into the answer, with its length in front. */
static void put_sent(int from) {
  const size_t at = answered;
  uint32_t total = 0;
  put(&total, sizeof total);
  for (;;) {
    char control[CMSG_SPACE(sizeof(int) * FDS_AT_ONCE)];
    struct iovec piece = {.iov_base = grow(4096), .iov_len = 4096};
    struct msghdr message = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    const ssize_t count = recvmsg(from, &message, MSG_DONTWAIT);
    if (count <= 0) break;
    for (struct cmsghdr *one = CMSG_FIRSTHDR(&message); one; one = CMSG_NXTHDR(&message, one)) {
      const int *list = (const int *)CMSG_DATA(one);
      for (size_t i = 0; i < (one->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) close(list[i]);
    }
    answered += (size_t)count;
    total += (uint32_t)count;
  }
  memcpy(answer + at, &total, sizeof total);
}

static int unread(int fd) {
  int count;
  if (ioctl(fd, FIONREAD, &count)) fail("FIONREAD");
  return count;
}

/* ---- a compositor ---- */

static struct wl_display *display;
static struct wl_client *client;
static int client_fd;

static int on_request(const void *data, void *target, uint32_t opcode, const struct wl_message *message,
                      union wl_argument *args);

static struct wl_resource *make_resource(const struct wl_interface *interface, int version, uint32_t id) {
  for (size_t i = 0; i < KNOWN; i++) {
    if (strcmp(known[i].interface->name, interface->name) != 0) continue;
    struct wl_resource *made = wl_resource_create(client, interface, version, id);
    if (!made) fail(interface->name);
    wl_resource_set_dispatcher(made, on_request, &known[i], NULL, NULL);
    return made;
  }
  fail(interface->name);
  return NULL;
}

static int on_request(const void *data, void *target, uint32_t opcode, const struct wl_message *message,
                      union wl_argument *args) {
  const struct known *what = data;
  const char *signature = message->signature;
  char type;
  for (int i = 0; (signature = next_argument(signature, &type)), type; i++) {
    if (type == 'n') make_resource(message->types[i], wl_resource_get_version(target), args[i].n);
    if (type == 'h') close(args[i].h);
  }
  if (what->destructors >> opcode & 1) wl_resource_destroy(target);
  return 0;
}

static void on_bind(struct wl_client *from, void *data, uint32_t version, uint32_t id) {
  (void)from;
  make_resource(data, (int)version, id);
}

static void on_logged(void *data, enum wl_protocol_logger_type type,
                      const struct wl_protocol_logger_message *logged) {
  (void)data;
  const uint32_t id = wl_resource_get_id(logged->resource);
  const uint32_t opcode = (uint32_t)logged->message_opcode;
  if (type == WL_PROTOCOL_LOGGER_REQUEST) {
    print_message(COMPOSITOR, id, opcode, logged->message->signature, logged->arguments);
  } else if (id == 1 && opcode == 0) {
    print("!%u", logged->arguments[1].u);
    print(" %u\n", id_of(COMPOSITOR, logged->arguments[0].o));
  }
}

static void on_destroyed(struct wl_listener *listener, void *data) {
  (void)listener;
  (void)data;
  client = NULL;
}

static struct wl_listener destroyed = {.notify = on_destroyed};

static void start_compositor(void) {
  display = wl_display_create();
  if (!display) fail("wl_display_create");
  for (size_t i = 0; i < GLOBALS; i++)
    if (!wl_global_create(display, globals[i].interface, globals[i].version, (void *)globals[i].interface, on_bind))
      fail("wl_global_create");
  wl_display_add_protocol_logger(display, on_logged, NULL);
}

static void compositor_reads(void) {
  for (int i = 0; i < MAX_READS && client && unread(client_fd) > 0; i++)
    wl_event_loop_dispatch(wl_display_get_event_loop(display), 0);
  if (!client) put("x\n", 2);
  wl_display_flush_clients(display);
}

/* Of a compositor's own accord. */
static void compositor_does(uint32_t step, uint32_t id, uint32_t opcode) {
  struct wl_resource *resource = wl_client_get_object(client, id);
  if (!resource || id == 1) return;
  if (step == LET_GO) {
    wl_resource_destroy(resource);
    return;
  }
  const struct wl_interface *interface = NULL;
  for (size_t i = 0; i < KNOWN; i++)
    if (strcmp(known[i].interface->name, wl_resource_get_class(resource)) == 0) interface = known[i].interface;
  if (!interface || opcode >= (uint32_t)interface->event_count) return;
  const struct wl_message *message = &interface->events[opcode];
  if (strcmp(message->signature, "n") != 0) return;
  union wl_argument args[1];
  args[0].o = (struct wl_object *)make_resource(message->types[0], wl_resource_get_version(resource), 0);
  wl_resource_post_event_array(resource, opcode, args);
}

/* ---- a program ---- */

static struct wl_display *program;
static struct wl_proxy *proxies[MAX_PROXIES], *server_proxies[MAX_PROXIES];
static uint32_t most_proxies, most_server_proxies;

static struct wl_proxy **proxy_at(uint32_t id) {
  static struct wl_proxy *nobody;
  const int server = id >= FIRST_SERVER_ID;
  const uint32_t place = server ? id - FIRST_SERVER_ID : id;
  nobody = NULL;
  if (place >= MAX_PROXIES) return &nobody;
  uint32_t *most = server ? &most_server_proxies : &most_proxies;
  if (place >= *most) *most = place + 1;
  return server ? &server_proxies[place] : &proxies[place];
}

static int on_event(const void *data, void *target, uint32_t opcode, const struct wl_message *message,
                    union wl_argument *args);

static void add_proxy(struct wl_proxy *proxy) {
  wl_proxy_add_dispatcher(proxy, on_event, NULL, NULL);
  *proxy_at(wl_proxy_get_id(proxy)) = proxy;
}

static int on_event(const void *data, void *target, uint32_t opcode, const struct wl_message *message,
                    union wl_argument *args) {
  (void)data;
  print_message(PROGRAM, wl_proxy_get_id(target), opcode, message->signature, args);
  const char *signature = message->signature;
  char type;
  for (int i = 0; (signature = next_argument(signature, &type)), type; i++) {
    if (type == 'n') add_proxy((struct wl_proxy *)args[i].o);
    if (type == 'h') close(args[i].h);
  }
  return 0;
}

static void program_reads(int fd) {
  for (int i = 0; i < MAX_READS && !wl_display_get_error(program) && unread(fd) > 0; i++) {
    while (wl_display_prepare_read(program) != 0) wl_display_dispatch_pending(program);
    wl_display_read_events(program);
    wl_display_dispatch_pending(program);
  }
  if (wl_display_get_error(program)) put("x\n", 2);
}

static void program_calls(const uint32_t *words, const uint32_t *values, uint32_t count) {
  struct wl_proxy *proxy = *proxy_at(words[0]);
  /* Who made the case may be wrong about it. */
  if (!proxy || strcmp(wl_proxy_get_class(proxy), known[words[1]].interface->name) != 0) return;
  union wl_argument args[MAX_ARGUMENTS];
  for (uint32_t i = 0; i < count; i++) {
    const uint32_t kind = values[2 * i], value = values[2 * i + 1];
    switch (kind) {
    case 'o':
      args[i].o = value == 0 ? NULL : (struct wl_object *)*proxy_at(value);
      /* It is gone: no call. */
      if (value != 0 && !args[i].o) return;
      break;
    case 'n':
      args[i].o = NULL;
      break;
    case 's':
      args[i].s = value < KNOWN ? known[value].interface->name : "text";
      break;
    case 'h':
      args[i].h = files[0];
      break;
    default:
      args[i].u = value;
    }
  }
  const struct wl_interface *interface = words[3] < KNOWN ? known[words[3]].interface : NULL;
  const uint32_t flags = words[5] ? WL_MARSHAL_FLAG_DESTROY : 0;
  if (flags) *proxy_at(words[0]) = NULL;
  struct wl_proxy *made = wl_proxy_marshal_array_flags(proxy, words[2], interface, words[4], flags, args);
  if (made) add_proxy(made);
}

static void end_program(void) {
  for (uint32_t id = 2; id < most_proxies; id++)
    if (proxies[id]) wl_proxy_destroy(proxies[id]);
  for (uint32_t i = 0; i < most_server_proxies; i++)
    if (server_proxies[i]) wl_proxy_destroy(server_proxies[i]);
  memset(proxies, 0, sizeof *proxies * most_proxies);
  memset(server_proxies, 0, sizeof *server_proxies * most_server_proxies);
  most_proxies = most_server_proxies = 0;
  wl_display_disconnect(program);
}

/* ---- cases ---- */

static const uint32_t *run_step(const uint32_t *at, int side, int ours, int theirs) {
  const uint32_t step = *at++;
  const int ended = side == COMPOSITOR ? client == NULL : wl_display_get_error(program) != 0;
  const uint32_t *args = at;
  switch (step) {
  case SEND:
    at += 2 + (args[0] + 3) / 4;
    if (ended) break;
    send_some(ours, (const uint8_t *)(args + 2), args[0], args[1]);
    if (side == COMPOSITOR) compositor_reads();
    else program_reads(theirs);
    break;
  case LET_GO:
  case POST:
    at += 2;
    if (ended) break;
    compositor_does(step, args[0], args[1]);
    compositor_reads();
    break;
  case CALL:
    at += 7 + 2 * args[6];
    if (ended) break;
    program_calls(args, args + 7, args[6]);
    wl_display_flush(program);
    break;
  case FORGET:
    at += 1;
    if (ended || !*proxy_at(args[0])) break;
    wl_proxy_destroy(*proxy_at(args[0]));
    *proxy_at(args[0]) = NULL;
    break;
  default:
    fail("step");
  }
  return at;
}

static const uint32_t *run_case(const uint32_t *at) {
  const int side = (int)*at++;
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) fail("socketpair");
  sent_files = 0;
  if (side == COMPOSITOR) {
    client_fd = ends[1];
    client = wl_client_create(display, ends[1]);
    if (!client) fail("wl_client_create");
    wl_client_add_destroy_listener(client, &destroyed);
  } else {
    program = wl_display_connect_to_fd(ends[1]);
    if (!program) fail("wl_display_connect_to_fd");
    *proxy_at(1) = (struct wl_proxy *)program;
  }
  for (uint32_t steps = *at++; steps > 0; steps--) {
    const size_t start = answered;
    uint32_t length = 0;
    put(&length, sizeof length);
    at = run_step(at, side, ends[0], ends[1]);
    length = (uint32_t)(answered - start - sizeof length);
    memcpy(answer + start, &length, sizeof length);
    put_sent(ends[0]);
  }
  if (side == PROGRAM) {
    end_program();
  } else if (client) {
    wl_client_destroy(client);
  }
  close(ends[0]);
  return at;
}

static void silence(const char *format, va_list args) {
  (void)format;
  (void)args;
}

static int read_all(void *into, size_t bytes) {
  for (size_t at = 0; at < bytes;) {
    const ssize_t count = read(STDIN_FILENO, (char *)into + at, bytes - at);
    if (count < 0) fail("read");
    if (count == 0) return 0;
    at += (size_t)count;
  }
  return 1;
}

int main(void) {
  wl_log_set_handler_server(silence);
  wl_log_set_handler_client(silence);
  start_compositor();
  for (int i = 0; i < FILES; i++) {
    files[i] = memfd_create("file", MFD_CLOEXEC);
    if (files[i] < 0 || ftruncate(files[i], i)) fail("memfd_create");
  }
  uint32_t bytes;
  while (read_all(&bytes, sizeof bytes)) {
    uint32_t *batch = malloc(bytes);
    if (!batch || !read_all(batch, bytes)) fail("batch");
    answered = 0;
    for (const uint32_t *at = batch; at < batch + bytes / sizeof *batch;) at = run_case(at);
    const uint32_t total = (uint32_t)answered;
    put(&total, sizeof total);
    if (write(STDOUT_FILENO, &total, sizeof total) != sizeof total) fail("write");
    for (size_t at = 0; at < total;) {
      const ssize_t count = write(STDOUT_FILENO, answer + at, total - at);
      if (count < 0) fail("write");
      at += (size_t)count;
    }
    free(batch);
  }
  wl_display_destroy(display);
  return 0;
}
