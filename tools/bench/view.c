#include "view.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frames.h"

#define TIMEOUT_MS 10000
#define NS_PER_MS 1000000ull
#define MAX_PAUSE_MS 32u
#define CONTROL_QUEUE 0

struct view view_make(struct driver *driver, const struct picture *picture, pid_t device) {
  return (struct view){driver, picture, device, scene_make(1), {.socket = -1}};
}

/* --- drawing --- */

/* From the scene into the pages of the guest's frame buffer, which lie anywhere. */
static void copy_to_pages(const struct view *view, struct scene_rect rect) {
  for (uint32_t y = rect.y; y < rect.y + rect.height; y++) {
    size_t at = ((size_t)y * SCENE_WIDTH + rect.x) * sizeof *view->scene.pixels;
    size_t end = at + rect.width * sizeof *view->scene.pixels;
    while (at < end) {
      size_t in_page = PAGE_BYTES - at % PAGE_BYTES, length = end - at < in_page ? end - at : in_page;
      memcpy(view->picture->pages[at / PAGE_BYTES] + at % PAGE_BYTES, (uint8_t *)view->scene.pixels + at, length);
      at += length;
    }
  }
}

static void add_flush(struct view *view, struct scene_rect rect) {
  struct virtio_gpu_rect r = {.x = rect.x, .y = rect.y, .width = rect.width, .height = rect.height};
  struct virtio_gpu_transfer_to_host_2d transfer = {
      .hdr.type = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D,
      .r = r,
      .offset = ((uint64_t)rect.y * SCENE_WIDTH + rect.x) * 4,
      .resource_id = FRAME_RESOURCE_ID,
  };
  struct virtio_gpu_resource_flush flush = {
      .hdr.type = VIRTIO_GPU_CMD_RESOURCE_FLUSH,
      .r = r,
      .resource_id = FRAME_RESOURCE_ID,
  };
  driver_add(view->driver, &transfer, sizeof transfer);
  driver_add(view->driver, &flush, sizeof flush);
}

static void paint(struct view *view, const char *name) {
  static const struct scene_rect whole = {.width = SCENE_WIDTH, .height = SCENE_HEIGHT};
  if (!scene_paint(&view->scene, name)) fail("no picture %s", name);
  copy_to_pages(view, whole);
  queue_enable_interrupt(&view->driver->control);
  add_flush(view, whole);
  driver_kick(view->driver);
  driver_finish(view->driver);
}

/* --- waiting --- */

/* What is waited for, besides the viewer's bytes. */
struct waiting {
  struct view *view;
  uint64_t doorbell_ns;
  bool is_done;
  struct samples interrupts;
  struct samples first_bytes;
};

/* Takes what comes until something does, or `until_ns`. */
static void wait_a_little(struct waiting *waiting, uint64_t until_ns) {
  struct view *view = waiting->view;
  struct pollfd fds[2] = {{.fd = view->driver->interrupt, .events = POLLIN}, {.fd = view->viewer.socket, .events = POLLIN}};
  uint64_t before = now_ns(), left = until_ns > before ? until_ns - before : 0;
  struct timespec timeout = {.tv_sec = (time_t)(left / (1000 * NS_PER_MS)), .tv_nsec = (long)(left % (1000 * NS_PER_MS))};
  if (ppoll(fds, 2, &timeout, NULL) < 0) fail_errno("poll");
  uint64_t now = now_ns();
  if (fds[0].revents && !waiting->is_done && queue_has_used(&view->driver->control)) {
    samples_add(&waiting->interrupts, now - waiting->doorbell_ns);
    driver_finish(view->driver);
    waiting->is_done = true;
  }
  if (fds[1].revents) viewer_receive(&view->viewer, now);
}

/* A step, drawn and flushed; the doorbell is one that the server does not answer, as with QEMU. */
static void flush_step(struct waiting *waiting, const char *name) {
  struct view *view = waiting->view;
  struct scene_rect rect;
  if (!scene_step(&view->scene, name, &rect)) fail("nothing is called %s", name);
  copy_to_pages(view, rect);
  queue_enable_interrupt(&view->driver->control);
  add_flush(view, rect);
  if (!queue_wants_kick(&view->driver->control)) fail("an idle device does not want its doorbell rung");
  waiting->is_done = false;
  waiting->doorbell_ns = now_ns();
  if (view->viewer.socket >= 0) viewer_mark(&view->viewer, waiting->doorbell_ns);
  vfio_user_post(&view->driver->connection, view->driver->doorbell, CONTROL_QUEUE, 2);
}

static struct waiting waiting_begin(struct view *view, uint32_t count) {
  struct waiting waiting = {.view = view, .is_done = true};
  samples_begin(&waiting.interrupts, count);
  samples_begin(&waiting.first_bytes, count);
  return waiting;
}

static void begin_to_count(struct waiting *waiting) {
  viewer_reset(&waiting->view->viewer);
  waiting->view->viewer.first_bytes = &waiting->first_bytes;
}

static bool is_settled(const struct waiting *waiting) {
  const struct viewer *viewer = &waiting->view->viewer;
  bool is_seen = viewer->socket < 0 || (viewer->mark_ns == 0 && viewer->length == 0);
  return waiting->is_done && is_seen && queue_is_idle(&waiting->view->driver->control);
}

static void settle(struct waiting *waiting) {
  uint64_t deadline = now_ns() + TIMEOUT_MS * NS_PER_MS;
  while (!is_settled(waiting)) {
    if (now_ns() > deadline) fail("no update within %d ms", TIMEOUT_MS);
    wait_a_little(waiting, now_ns() + NS_PER_MS);
  }
}

static void waiting_print(struct waiting *waiting) {
  struct viewer *viewer = &waiting->view->viewer;
  putchar('{');
  samples_print("interrupt", &waiting->interrupts);
  if (viewer->socket >= 0) {
    putchar(',');
    samples_print("firstByte", &waiting->first_bytes);
    printf(",\"updates\":%" PRIu64 ",\"bytes\":%" PRIu64, viewer->updates, viewer->received_bytes);
  }
  samples_end(&waiting->interrupts);
  samples_end(&waiting->first_bytes);
  viewer_reset(viewer);
}

/* --- measurements --- */

static void measure_moments(struct view *view, const char *name, uint32_t count) {
  struct waiting waiting = waiting_begin(view, count);
  begin_to_count(&waiting);
  for (uint32_t i = 0; i < count; i++) {
    uint64_t moment = now_ns() + scene_random(&view->scene) % (MAX_PAUSE_MS * NS_PER_MS);
    while (now_ns() < moment) wait_a_little(&waiting, moment);
    settle(&waiting);
    flush_step(&waiting, name);
    settle(&waiting);
  }
  waiting_print(&waiting);
  putchar('}');
}

static void measure_rate(struct view *view, const char *name, uint32_t count, uint32_t hz) {
  if (hz == 0) fail("no steps a second");
  struct waiting waiting = waiting_begin(view, count);
  begin_to_count(&waiting);
  uint64_t used = all_threads_ns(view->device), begin = now_ns(), late = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint64_t moment = begin + i * 1000 * NS_PER_MS / hz;
    while (now_ns() < moment) wait_a_little(&waiting, moment);
    while (!waiting.is_done || !queue_is_idle(&view->driver->control)) wait_a_little(&waiting, now_ns() + NS_PER_MS);
    late += now_ns() > moment + 1000 * NS_PER_MS / hz;
    flush_step(&waiting, name);
  }
  uint64_t end = begin + count * 1000 * NS_PER_MS / hz;
  while (now_ns() < end) wait_a_little(&waiting, end);
  uint64_t updates = view->viewer.updates;
  double elapsed = (double)(now_ns() - begin);
  settle(&waiting);
  used = all_threads_ns(view->device) - used;
  waiting_print(&waiting);
  printf(",\"seconds\":%.6f,\"updatesInTime\":%" PRIu64 ",\"late\":%" PRIu64 ",\"cpuSeconds\":%.6f}", elapsed / 1e9, updates,
         late, (double)used / 1e9);
}

static void print_hash(struct view *view) {
  printf("{\"drawn\":%u", scene_hash(view->scene.pixels));
  if (view->viewer.socket >= 0) printf(",\"seen\":%u", viewer_look(&view->viewer));
  putchar('}');
}

/* --- pictures over the API --- */

#define TAG_BYTES 128

/* An answer's length; its tag goes to `tag`. */
static size_t fetch(const char *path, char *tag, bool is_known, struct samples *samples) {
  static char answer[16u << 20];
  char request[512];
  int length = snprintf(request, sizeof request,
                        "GET /v1/displays/0/screenshot HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s%s%s\r\n",
                        is_known ? "If-None-Match: " : "", is_known ? tag : "", is_known ? "\r\n" : "");
  uint64_t start = now_ns();
  int api = connect_to(path);
  if (send(api, request, (size_t)length, MSG_NOSIGNAL) != length) fail_errno("send to the API");
  size_t got = 0;
  for (ssize_t part; (part = recv(api, answer + got, sizeof answer - 1 - got, 0)) > 0;) got += (size_t)part;
  samples_add(samples, now_ns() - start);
  close(api);
  answer[got] = '\0';
  if (strncmp(answer, is_known ? "HTTP/1.1 304" : "HTTP/1.1 200", 12) != 0) fail("the API says %.60s", answer);
  char *body = strstr(answer, "\r\n\r\n"), *line = strcasestr(answer, "\netag: ");
  if (body == NULL || line == NULL || line > body) fail("the API does not name a tag");
  if (!is_known && memcmp(body + 4, "\x89PNG", 4) != 0) fail("the picture is no PNG");
  if (sscanf(line + 7, "%127s", tag) != 1) fail("the tag is empty");
  return got;
}

static void measure_screenshots(const char *path, uint32_t count) {
  struct samples whole, known;
  samples_begin(&whole, count);
  samples_begin(&known, count);
  char tag[TAG_BYTES];
  size_t bytes = 0;
  for (uint32_t i = 0; i < count; i++) bytes = fetch(path, tag, false, &whole);
  for (uint32_t i = 0; i < count; i++) fetch(path, tag, true, &known);
  printf("{\"bytes\":%zu,", bytes);
  samples_print("whole", &whole);
  putchar(',');
  samples_print("known", &known);
  putchar('}');
  samples_end(&whole);
  samples_end(&known);
}

/* --- orders --- */

static void change_viewer(struct view *view, const struct order *order) {
  if (view->viewer.socket >= 0) viewer_leave(&view->viewer);
  if (strcmp(order_word(order, 1), "none") != 0)
    view->viewer = viewer_connect(order_word(order, 1), order_word(order, 2));
  printf("{}");
}

bool view_obey(struct view *view, const struct order *order) {
  if (order_is(order, "paint")) {
    paint(view, order_word(order, 1));
    printf("{}");
  } else if (order_is(order, "viewer")) {
    change_viewer(view, order);
  } else if (order_is(order, "moments")) {
    measure_moments(view, order_word(order, 1), order_number(order, 2));
  } else if (order_is(order, "rate")) {
    measure_rate(view, order_word(order, 1), order_number(order, 2), order_number(order, 3));
  } else if (order_is(order, "hash")) {
    print_hash(view);
  } else if (order_is(order, "screenshots")) {
    measure_screenshots(order_word(order, 1), order_number(order, 2));
  } else {
    return false;
  }
  order_answered();
  return true;
}
