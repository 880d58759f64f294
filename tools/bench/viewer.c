#include "viewer.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "scene.h"

#define ANSWER_TIMEOUT_MS 10000
#define RECEIVE_BYTES (1u << 18)

enum {
  RAW = 0,
  COPY_RECT = 1,
  TIGHT = 7,
  ZRLE = 16,
  QUALITY_6 = -26,
  COMPRESS_2 = -254,
  DESKTOP_SIZE = -223,
  LAST_RECT = -224,
  CURSOR = -239,
};

static const int32_t novnc[] = {COPY_RECT, TIGHT, ZRLE, RAW, QUALITY_6, COMPRESS_2, DESKTOP_SIZE, LAST_RECT, CURSOR};
static const int32_t lossless[] = {COPY_RECT, TIGHT, ZRLE, RAW, COMPRESS_2, DESKTOP_SIZE, LAST_RECT, CURSOR};
static const int32_t raw[] = {RAW};

static uint32_t be16(const uint8_t *at) {
  return (uint32_t)at[0] << 8 | at[1];
}

static uint32_t be32(const uint8_t *at) {
  return be16(at) << 16 | be16(at + 2);
}

static void put16(uint8_t *at, uint32_t value) {
  at[0] = (uint8_t)(value >> 8);
  at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value) {
  put16(at, value >> 16);
  put16(at + 2, value);
}

/* --- messages of ours --- */

static void say(struct viewer *viewer, const void *bytes, size_t length) {
  if (send(viewer->socket, bytes, length, MSG_NOSIGNAL) != (ssize_t)length) fail_errno("send to the VNC server");
}

static void say_encodings(struct viewer *viewer, const int32_t *encodings, size_t count) {
  uint8_t message[64] = {2};
  put16(message + 2, (uint32_t)count);
  for (size_t i = 0; i < count; i++) put32(message + 4 + 4 * i, (uint32_t)encodings[i]);
  say(viewer, message, 4 + 4 * count);
}

static void ask(struct viewer *viewer, bool is_incremental) {
  uint8_t message[10] = {3, is_incremental};
  put16(message + 6, viewer->width);
  put16(message + 8, viewer->height);
  say(viewer, message, sizeof message);
}

/* --- messages of the server's --- */

/* What is not read yet of a message. */
struct reader {
  const uint8_t *at;
  size_t left;
  bool is_short;
};

/* The next bytes; NULL when they have not come. */
static const uint8_t *take(struct reader *reader, size_t length) {
  if (reader->is_short || reader->left < length) {
    reader->is_short = true;
    return NULL;
  }
  const uint8_t *taken = reader->at;
  reader->at += length;
  reader->left -= length;
  return taken;
}

static uint32_t take_number(struct reader *reader, size_t width) {
  const uint8_t *at = take(reader, width);
  return at == NULL ? 0 : width == 1 ? at[0] : width == 2 ? be16(at) : be32(at);
}

/* Seven bits, seven bits, eight bits: the high bit says that there is more. */
static uint32_t take_compact(struct reader *reader) {
  uint32_t length = 0;
  for (uint32_t i = 0; i < 3; i++) {
    uint32_t byte = take_number(reader, 1);
    length |= (i < 2 ? byte & 0x7f : byte) << 7 * i;
    if (i < 2 && !(byte & 0x80)) break;
  }
  return length;
}

/* Tight, for pixels of which three bytes are sent. */
static void skip_tight(struct reader *reader, uint32_t width, uint32_t height) {
  uint32_t control = take_number(reader, 1) >> 4;
  if (control == 8) {
    take(reader, 3);
    return;
  }
  if (control == 9) {
    take(reader, take_compact(reader));
    return;
  }
  if (control > 9) fail("Tight with control %u", control);
  uint32_t filter = control & 4 ? take_number(reader, 1) : 0;
  size_t length = (size_t)width * height * 3;
  if (filter == 1) {
    uint32_t colours = take_number(reader, 1) + 1;
    take(reader, colours * 3);
    length = colours == 2 ? (size_t)((width + 7) / 8) * height : (size_t)width * height;
  }
  take(reader, length < 12 ? length : take_compact(reader));
}

static void draw_raw(struct viewer *viewer, const uint8_t *header, const uint8_t *pixels) {
  uint32_t x = be16(header), y = be16(header + 2), width = be16(header + 4), height = be16(header + 6);
  if (x + width > viewer->width || y + height > viewer->height) fail("a rectangle leaves the picture");
  for (uint32_t row = 0; row < height; row++)
    memcpy(viewer->picture + (size_t)(y + row) * viewer->width + x, pixels + (size_t)row * width * 4, width * 4);
}

/* Everything of a rectangle. True when it has pixels. */
static bool read_rect(struct viewer *viewer, struct reader *reader, bool *is_last, bool draws) {
  const uint8_t *header = take(reader, 12);
  if (header == NULL) return false;
  uint32_t width = be16(header + 4), height = be16(header + 6);
  switch ((int32_t)be32(header + 8)) {
    case RAW: {
      const uint8_t *pixels = take(reader, (size_t)width * height * 4);
      if (!draws || pixels == NULL) return true;
      draw_raw(viewer, header, pixels);
      viewer->raw_pixels += (uint64_t)width * height;
      return true;
    }
    case COPY_RECT: take(reader, 4); return true;
    case TIGHT: skip_tight(reader, width, height); return true;
    case ZRLE: take(reader, take_number(reader, 4)); return true;
    case CURSOR: take(reader, (size_t)width * height * 4 + (size_t)((width + 7) / 8) * height); return false;
    case LAST_RECT: *is_last = true; return false;
    case DESKTOP_SIZE: fail("the display has another size");
    default: fail("a rectangle in encoding %d", (int32_t)be32(header + 8));
  }
}

/* Rectangles with pixels in the update that begins here, if all of it has come. */
static uint32_t read_update(struct viewer *viewer, struct reader *reader, bool draws) {
  take(reader, 1);
  uint32_t count = take_number(reader, 2), seen = 0;
  bool is_last = false;
  for (uint32_t i = 0; i < count && !is_last && !reader->is_short; i++)
    seen += read_rect(viewer, reader, &is_last, draws);
  return seen;
}

static void finish_update(struct viewer *viewer, uint32_t rects) {
  if (rects > 0) {
    viewer->updates++;
    if (viewer->mark_ns != 0 && viewer->begun_ns > viewer->mark_ns) {
      if (viewer->first_bytes) samples_add(viewer->first_bytes, viewer->begun_ns - viewer->mark_ns);
      viewer->mark_ns = 0;
    }
  }
  ask(viewer, true);
}

/* The first message, if it is complete. Returns its length. */
static size_t read_message(struct viewer *viewer) {
  struct reader reader = {viewer->bytes, viewer->length, false};
  uint32_t type = take_number(&reader, 1);
  if (reader.is_short) return 0;
  if (type == 2) return 1; /* a bell */
  if (type != 0) fail("the VNC server sent a message of type %u", type);
  uint32_t rects = read_update(viewer, &reader, false);
  if (reader.is_short) return 0;
  struct reader again = {viewer->bytes + 1, viewer->length - 1, false};
  read_update(viewer, &again, true);
  finish_update(viewer, rects);
  return viewer->length - reader.left;
}

void viewer_receive(struct viewer *viewer, uint64_t now) {
  if (viewer->length == 0) viewer->begun_ns = now;
  if (viewer->room - viewer->length < RECEIVE_BYTES) {
    viewer->room = 2 * viewer->room + RECEIVE_BYTES;
    viewer->bytes = realloc(viewer->bytes, viewer->room);
    if (viewer->bytes == NULL) fail_errno("realloc");
  }
  ssize_t got = recv(viewer->socket, viewer->bytes + viewer->length, viewer->room - viewer->length, 0);
  if (got < 0) fail_errno("recv from the VNC server");
  if (got == 0) fail("the VNC server hung up");
  viewer->length += (size_t)got;
  viewer->received_bytes += (uint64_t)got;
  for (size_t length; viewer->length > 0 && (length = read_message(viewer)) > 0;) {
    viewer->length -= length;
    memmove(viewer->bytes, viewer->bytes + length, viewer->length);
    viewer->begun_ns = now;
  }
}

void viewer_mark(struct viewer *viewer, uint64_t now) {
  if (viewer->mark_ns == 0) viewer->mark_ns = now;
}

void viewer_reset(struct viewer *viewer) {
  viewer->updates = viewer->raw_pixels = viewer->received_bytes = 0;
  viewer->mark_ns = 0;
  viewer->first_bytes = NULL;
}

/* --- connecting --- */

static void read_exactly(struct viewer *viewer, void *bytes, size_t length) {
  ssize_t got = recv(viewer->socket, bytes, length, MSG_WAITALL);
  if (got != (ssize_t)length) fail("the VNC server hung up");
}

static void introduce(struct viewer *viewer) {
  uint8_t bytes[24];
  read_exactly(viewer, bytes, 12);
  say(viewer, "RFB 003.008\n", 12);
  read_exactly(viewer, bytes, 1);
  uint8_t types[255];
  read_exactly(viewer, types, bytes[0]);
  if (memchr(types, 1, bytes[0]) == NULL) fail("the VNC server wants a password");
  say(viewer, "\1", 1);
  read_exactly(viewer, bytes, 4);
  if (be32(bytes) != 0) fail("the VNC server refused");
  say(viewer, "\1", 1);
  read_exactly(viewer, bytes, 24);
  viewer->width = be16(bytes);
  viewer->height = be16(bytes + 2);
  uint32_t name = be32(bytes + 20);
  char text[256];
  if (name > sizeof text) fail("a name of %u bytes", name);
  read_exactly(viewer, text, name);
}

static void wait_for_update(struct viewer *viewer) {
  for (uint64_t before = viewer->updates; viewer->updates == before;) {
    struct pollfd readable = {.fd = viewer->socket, .events = POLLIN};
    int ready = poll(&readable, 1, ANSWER_TIMEOUT_MS);
    if (ready < 0) fail_errno("poll");
    if (ready == 0) fail("no update within %d ms", ANSWER_TIMEOUT_MS);
    viewer_receive(viewer, now_ns());
  }
}

struct viewer viewer_connect(const char *path, const char *encodings) {
  struct viewer viewer = {.socket = connect_to(path)};
  introduce(&viewer);
  viewer.picture = calloc((size_t)viewer.width * viewer.height, sizeof *viewer.picture);
  if (viewer.picture == NULL) fail_errno("calloc");
  /* 32 bits, little-endian, blue first. */
  static const uint8_t format[20] = {[4] = 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0};
  say(&viewer, format, sizeof format);
  if (strcmp(encodings, "novnc") == 0) say_encodings(&viewer, novnc, sizeof novnc / sizeof *novnc);
  else if (strcmp(encodings, "lossless") == 0) say_encodings(&viewer, lossless, sizeof lossless / sizeof *lossless);
  else if (strcmp(encodings, "raw") == 0) say_encodings(&viewer, raw, 1);
  else fail("no encodings %s", encodings);
  ask(&viewer, false);
  wait_for_update(&viewer);
  return viewer;
}

void viewer_leave(struct viewer *viewer) {
  close(viewer->socket);
  free(viewer->bytes);
  free(viewer->picture);
  *viewer = (struct viewer){.socket = -1};
}

uint32_t viewer_look(struct viewer *viewer) {
  if (viewer->width != SCENE_WIDTH || viewer->height != SCENE_HEIGHT) fail("the display has another size");
  say_encodings(viewer, raw, 1);
  ask(viewer, false);
  /* It may come in parts. */
  viewer_reset(viewer);
  while (viewer->raw_pixels < (uint64_t)viewer->width * viewer->height) wait_for_update(viewer);
  return scene_hash(viewer->picture);
}
