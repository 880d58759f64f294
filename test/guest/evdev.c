/*
 * evdev: what Linux makes of input devices.
 *
 *   evdev list                    every device with its ids, properties and event codes
 *   evdev keys NAME               the keys and buttons that are down
 *   evdev led NAME CODE VALUE     sets a lamp
 *   evdev watch NAME COUNT        prints so many events: TYPE CODE VALUE
 *   evdev stream KEYBOARD COUNT TABLET COUNT
 *                                 compares so many events of both with those that the host computes in the same way,
 *                                 and says + for every ACKNOWLEDGED of them
 *
 * NAME is what the device calls itself. What is printed begins with EVDEV; the streams are in test/guest/input.test.ts.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { MAX_DEVICES = 32, ACKNOWLEDGED = 16 };

static void die(const char *what) {
  printf("EVDEV error: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int is_set(const uint8_t *bits, int bit) { return bits[bit / 8] >> bit % 8 & 1; }

static void print_bits(const char *label, const uint8_t *bits, int count) {
  int any = 0;
  for (int bit = 0; bit < count; bit++) {
    if (!is_set(bits, bit)) continue;
    if (!any++) printf(" %s=", label);
    printf("%s%d", any > 1 ? "," : "", bit);
  }
}

static int open_node(int index) {
  char path[64];
  snprintf(path, sizeof path, "/dev/input/event%d", index);
  return open(path, O_RDWR | O_CLOEXEC);
}

/* The first device of this name; waits for it to come. */
static int open_named(const char *name) {
  for (int tries = 0; tries < 500; tries++) {
    for (int i = 0; i < MAX_DEVICES; i++) {
      char found[256] = "";
      int fd = open_node(i);
      if (fd < 0) continue;
      if (ioctl(fd, EVIOCGNAME(sizeof found), found) >= 0 && strcmp(found, name) == 0) return fd;
      close(fd);
    }
    usleep(20000);
  }
  errno = ENODEV;
  die(name);
  return -1;
}

static void list(void) {
  for (int i = 0; i < MAX_DEVICES; i++) {
    int fd = open_node(i);
    if (fd < 0) continue;
    char name[256] = "", unique[256] = "";
    struct input_id id;
    uint8_t bits[KEY_CNT / 8 + 1] = {0}, types[EV_CNT / 8 + 1] = {0};
    ioctl(fd, EVIOCGNAME(sizeof name), name);
    ioctl(fd, EVIOCGUNIQ(sizeof unique), unique);
    if (ioctl(fd, EVIOCGID, &id) < 0) die("ids");
    printf("EVDEV device name=%s;id=%04x:%04x:%04x:%04x;unique=%s;", name, id.bustype, id.vendor, id.product,
           id.version, unique);
    if (ioctl(fd, EVIOCGPROP(sizeof bits), bits) < 0) die("properties");
    print_bits("properties", bits, INPUT_PROP_CNT);
    if (ioctl(fd, EVIOCGBIT(0, sizeof types), types) < 0) die("types");
    print_bits("types", types, EV_CNT);
    for (int type = 1; type < EV_CNT; type++) {
      if (!is_set(types, type) || type == EV_REP) continue;
      char label[16];
      memset(bits, 0, sizeof bits);
      if (ioctl(fd, EVIOCGBIT(type, sizeof bits), bits) < 0) die("codes");
      snprintf(label, sizeof label, "codes%d", type);
      print_bits(label, bits, KEY_CNT);
      for (int axis = 0; type == EV_ABS && axis < ABS_CNT; axis++) {
        struct input_absinfo info;
        if (!is_set(bits, axis)) continue;
        if (ioctl(fd, EVIOCGABS(axis), &info) < 0) die("axis");
        printf(" axis%d=%d..%d,%d,%d,%d", axis, info.minimum, info.maximum, info.fuzz, info.flat, info.resolution);
      }
    }
    printf("\n");
    close(fd);
  }
}

static void keys(const char *name) {
  uint8_t bits[KEY_CNT / 8 + 1] = {0};
  if (ioctl(open_named(name), EVIOCGKEY(sizeof bits), bits) < 0) die("keys");
  printf("EVDEV keys");
  print_bits("down", bits, KEY_CNT);
  printf("\n");
}

static void send_event(int fd, uint16_t type, uint16_t code, int value) {
  struct input_event event = {.type = type, .code = code, .value = value};
  if (write(fd, &event, sizeof event) != sizeof event) die("write");
}

static void watch(const char *name, int count) {
  int fd = open_named(name);
  struct input_event event;
  printf("EVDEV watching\n");
  fflush(stdout);
  while (count-- > 0) {
    if (read(fd, &event, sizeof event) != sizeof event) die("read");
    printf("EVDEV event %d %d %d\n", event.type, event.code, event.value);
    fflush(stdout);
  }
}

/* A sequence of numbers that the host computes as well. */
static uint32_t next(uint32_t *seed) {
  *seed = *seed * 1664525u + 1013904223u;
  return *seed >> 8;
}

struct stream {
  const char *name;
  int fd;
  uint32_t seed;
  long wanted, seen;
  /* The events of the report that is due. */
  struct { int type, code, value; } due[8];
  int due_count, due_at;
  uint8_t down[KEY_CNT];
  int x, y;
  void (*fill)(struct stream *);
};

static void expect_event(struct stream *stream, int type, int code, int value) {
  int at = stream->due_count++;
  stream->due[at].type = type, stream->due[at].code = code, stream->due[at].value = value;
}

static void toggle(struct stream *stream, int code) {
  stream->down[code] ^= 1;
  expect_event(stream, EV_KEY, code, stream->down[code]);
}

/* A letter goes down or up. */
static void fill_keyboard(struct stream *stream) { toggle(stream, KEY_Q + (int)(next(&stream->seed) % 10)); }

/* Always somewhere else; sometimes with a button or a notch of the wheel. */
static void fill_tablet(struct stream *stream) {
  uint32_t number = next(&stream->seed);
  stream->x = (stream->x + 1 + (int)(number % 30000)) & 32767;
  stream->y = (stream->y + 1 + (int)(number / 8 % 30000)) & 32767;
  expect_event(stream, EV_ABS, ABS_X, stream->x);
  expect_event(stream, EV_ABS, ABS_Y, stream->y);
  int kind = (int)(next(&stream->seed) % 8);
  if (kind < 3) toggle(stream, BTN_LEFT + kind);
  if (kind != 7) return;
  int notch = next(&stream->seed) % 2 ? 1 : -1;
  expect_event(stream, EV_REL, REL_WHEEL, notch);
  expect_event(stream, EV_REL, REL_WHEEL_HI_RES, 120 * notch);
}

static void check(struct stream *stream, const struct input_event *event) {
  /* That we want no repetition is an event as well. */
  if (event->type == EV_REP) return;
  if (stream->due_at == stream->due_count) {
    stream->due_at = stream->due_count = 0;
    stream->fill(stream);
    expect_event(stream, EV_SYN, SYN_REPORT, 0);
  }
  int at = stream->due_at++;
  if (event->type != stream->due[at].type || event->code != stream->due[at].code ||
      event->value != stream->due[at].value) {
    printf("EVDEV wrong %s event %ld: %d %d %d instead of %d %d %d\n", stream->name, stream->seen, event->type,
           event->code, event->value, stream->due[at].type, stream->due[at].code, stream->due[at].value);
    exit(1);
  }
  stream->seen++;
}

static void read_stream(struct stream *stream) {
  struct input_event events[64];
  ssize_t length = read(stream->fd, events, sizeof events);
  if (length < 0) die(stream->name);
  for (size_t i = 0; i < (size_t)length / sizeof *events; i++) check(stream, &events[i]);
}

static void stream(char **arguments) {
  static struct stream streams[2] = {{.seed = 1, .fill = fill_keyboard}, {.seed = 2, .fill = fill_tablet}};
  struct pollfd polls[2];
  struct timespec start, end;
  for (int i = 0; i < 2; i++) {
    streams[i].name = arguments[2 * i];
    streams[i].wanted = atol(arguments[2 * i + 1]);
    streams[i].fd = open_named(streams[i].name);
    /* So that the console does not get what is typed. */
    if (ioctl(streams[i].fd, EVIOCGRAB, 1) < 0) die("grab");
    /* The kernel repeats keys between two events of one report, and drops the end of that report then. */
    unsigned never[2] = {0, 0};
    if (i == 0 && ioctl(streams[i].fd, EVIOCSREP, never) < 0) die("repeat");
    polls[i] = (struct pollfd){.fd = streams[i].fd, .events = POLLIN};
  }
  printf("EVDEV streaming\n");
  fflush(stdout);
  clock_gettime(CLOCK_MONOTONIC, &start);
  long acknowledged = 0;
  while (streams[0].seen < streams[0].wanted || streams[1].seen < streams[1].wanted) {
    if (poll(polls, 2, -1) < 0) die("poll");
    for (int i = 0; i < 2; i++)
      if (polls[i].revents) read_stream(&streams[i]);
    for (; streams[0].seen + streams[1].seen - acknowledged >= ACKNOWLEDGED; acknowledged += ACKNOWLEDGED)
      if (write(STDOUT_FILENO, "+", 1) != 1) die("acknowledge");
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  printf("\nEVDEV stream keyboard=%ld tablet=%ld ms=%ld\n", streams[0].seen, streams[1].seen,
         (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000);
}

int main(int argc, char **argv) {
  const char *command = argc > 1 ? argv[1] : "";
  if (strcmp(command, "list") == 0) list();
  else if (strcmp(command, "keys") == 0 && argc == 3) keys(argv[2]);
  else if (strcmp(command, "led") == 0 && argc == 5)
    send_event(open_named(argv[2]), EV_LED, (uint16_t)atoi(argv[3]), atoi(argv[4]));
  else if (strcmp(command, "watch") == 0 && argc == 4) watch(argv[2], atoi(argv[3]));
  else if (strcmp(command, "stream") == 0 && argc == 6) stream(argv + 2);
  else {
    printf("EVDEV usage: list | keys NAME | led NAME CODE VALUE | watch NAME COUNT | stream ...\n");
    return 2;
  }
  return 0;
}
