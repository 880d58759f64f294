/*
 * kms: drives the virtio_gpu driver the way a compositor does, by plain ioctls, and says on the serial line what
 * it did. Mode sets, page flips with events, damage, the cursor, and changes of the display.
 *
 *   kms [--list] [--edid]
 *       [--output N[=WIDTHxHEIGHT]]...  outputs to drive, connected or not, in the size given or the preferred
 *                                       one; default: the connected ones
 *       [--flips COUNT [--draw]] [--dirty COUNT] [--cursor] [--hotplug COUNT] [--hold]
 *
 * Parts run in this order: list, edid, mode set, flips, dirty, cursor, hotplug. After the mode set, the flips,
 * the damage and twice during the cursor it asks the host for a picture: it prints "@@SHOT name" and waits for
 * a line. The names are mode, flips, dirty, cursor-corner and cursor. --hold waits for a line before leaving,
 * which gives the screen back to the text console.
 *
 * WHAT IS ON THE SCREEN. Tests compute the same in tools/testbed/patterns.ts; the two files change together.
 *
 * The pixel at (x, y) of output o in frame f is the 24-bit color 0xRRGGBB
 *
 *     base(x, y) ^ key(o, f)
 *     base(x, y) = (x & 0xff) << 16 | (y & 0xff) << 8 | (x >> 8 & 0xf) << 4 | (y >> 8 & 0xf)
 *     key(o, f)  = (f * 0x9e3779b1 + o * 0x85ebca6b mod 2^32) >> 8
 *
 * so that any pixel of one frame of one output is unique up to 4096x4096, and a wrong one tells where it
 * belongs. The undefined byte of XRGB8888 is 0x5a.
 *
 * Mode set: frame 0. Flips: after COUNT flips frame COUNT is shown. The two buffers are drawn once, as frames
 * COUNT - 1 and COUNT, and shown in turns; with --draw each frame is drawn with its own number. Damage: step s
 * of 0 .. COUNT - 1 draws two rectangles of 64x48 pixels as frame last + 1 + s and reports both in one call;
 * rectangle r = 2 s or 2 s + 1 lies at x = 97 r mod (width - 63), y = 61 r mod (height - 47).
 *
 * Cursor: 64x64 premultiplied ARGB; hotspot (5, 7). With alpha = 255 for x < 32, 128 for other x with y < 32,
 * and 0 in the rest, the color channels are red = 4 x alpha / 255, green = 4 y alpha / 255, blue = alpha. It moves
 * in 100 steps from (-64, -64) to (width, height), both off the screen, at step s at -64 + s (width + 64) / 100
 * and the same with height; is then photographed at (-20, -10) and at (width / 3, height / 3); and is hidden.
 */
#define _GNU_SOURCE
#include <drm/drm.h>
#include <drm/drm_fourcc.h>
#include <drm/drm_mode.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "shot.h"

enum { MAX_OUTPUTS = 16, CURSOR_SIZE = 64, HOTSPOT_X = 5, HOTSPOT_Y = 7, DIRTY_WIDTH = 64, DIRTY_HEIGHT = 48 };

struct buffer {
  uint32_t handle, framebuffer, pitch;
  uint8_t *pixels;
  size_t size;
};

struct output {
  uint32_t connector, crtc;
  bool connected;
  uint32_t mode_count;
  struct drm_mode_modeinfo modes[128];
  /* Set for the outputs that are driven. */
  bool wanted, from_list;
  uint32_t width, height;
  struct drm_mode_modeinfo mode;
  struct buffer buffers[2];
  uint32_t frame; /* what is shown now, in buffers[frame & 1] */
};

static int card = -1;
static struct output outputs[MAX_OUTPUTS];
static uint32_t output_count;

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...) {
  int error = errno;
  va_list arguments;
  va_start(arguments, format);
  printf("KMS error: ");
  vprintf(format, arguments);
  printf(": %s\n", strerror(error));
  va_end(arguments);
  exit(1);
}

static void drm(unsigned long request, void *argument, const char *name) {
  int result;
  do result = ioctl(card, request, argument);
  while (result < 0 && (errno == EINTR || errno == EAGAIN));
  if (result < 0) die("%s", name);
}
#define DRM(name, argument) drm(DRM_IOCTL_##name, argument, #name)

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---------------------------------------------------------------- card, connectors, modes */

static void open_card(void) {
  for (int number = 0; number < 16; number++) {
    char path[32], name[32] = "";
    snprintf(path, sizeof path, "/dev/dri/card%d", number);
    card = open(path, O_RDWR | O_CLOEXEC);
    if (card < 0) continue;
    struct drm_version version = {.name = name, .name_len = sizeof name - 1};
    if (ioctl(card, DRM_IOCTL_VERSION, &version) == 0 && strcmp(name, "virtio_gpu") == 0) {
      printf("KMS card=%s driver=%s\n", path, name);
      return;
    }
    close(card);
  }
  errno = ENODEV;
  die("no card with the driver virtio_gpu");
}

/* Connector n of virtio_gpu is scanout n, and goes with CRTC n. */
static void read_connectors(void) {
  uint32_t connectors[MAX_OUTPUTS], crtcs[MAX_OUTPUTS];
  struct drm_mode_card_res resources = {
      .connector_id_ptr = (uintptr_t)connectors,
      .count_connectors = MAX_OUTPUTS,
      .crtc_id_ptr = (uintptr_t)crtcs,
      .count_crtcs = MAX_OUTPUTS,
  };
  DRM(MODE_GETRESOURCES, &resources);
  output_count = resources.count_connectors;
  if (output_count > MAX_OUTPUTS || resources.count_crtcs != output_count) {
    errno = ERANGE;
    die("%u connectors, %u CRTCs", output_count, resources.count_crtcs);
  }
  for (uint32_t i = 0; i < output_count; i++) {
    struct output *output = &outputs[i];
    output->connector = connectors[i];
    output->crtc = crtcs[i];
    /*
     * Asking for no modes makes the driver look again; the second call fetches what it found, unless there are more
     * by then, because the display has just changed.
     */
    struct drm_mode_get_connector probe, fetch;
    do {
      probe = (struct drm_mode_get_connector){.connector_id = output->connector};
      DRM(MODE_GETCONNECTOR, &probe);
      fetch = (struct drm_mode_get_connector){
          .connector_id = output->connector,
          .modes_ptr = (uintptr_t)output->modes,
          .count_modes = probe.count_modes < 128 ? probe.count_modes : 128,
      };
      if (fetch.count_modes > 0) DRM(MODE_GETCONNECTOR, &fetch);
    } while (fetch.count_modes > probe.count_modes);
    output->connected = probe.connection == 1;
    output->mode_count = fetch.count_modes;
  }
}

static double refresh_hz(const struct drm_mode_modeinfo *mode) {
  return mode->clock * 1000.0 / (mode->htotal * mode->vtotal);
}

static const struct drm_mode_modeinfo *preferred_mode(const struct output *output) {
  for (uint32_t i = 0; i < output->mode_count; i++)
    if (output->modes[i].type & DRM_MODE_TYPE_PREFERRED) return &output->modes[i];
  return output->mode_count > 0 ? &output->modes[0] : NULL;
}

static void print_connector(uint32_t i, const char *what) {
  const struct output *output = &outputs[i];
  const struct drm_mode_modeinfo *preferred = preferred_mode(output);
  printf("KMS %s output=%u connected=%d modes=%u", what, i, output->connected, output->mode_count);
  if (preferred)
    printf(" preferred=%ux%u@%.2f listed_as_preferred=%d", preferred->hdisplay, preferred->vdisplay,
           refresh_hz(preferred), (preferred->type & DRM_MODE_TYPE_PREFERRED) != 0);
  printf("\n");
}

/* CVT with reduced blanking, 60 Hz, for sizes that no list has. */
static struct drm_mode_modeinfo computed_mode(uint32_t width, uint32_t height) {
  double line_us = (1e6 / 60 - 460) / height;
  uint32_t blank = (uint32_t)(460 / line_us) + 1;
  if (blank < 3 + 6 + 6) blank = 3 + 6 + 6;
  struct drm_mode_modeinfo mode = {
      .hdisplay = (uint16_t)width,
      .hsync_start = (uint16_t)(width + 48),
      .hsync_end = (uint16_t)(width + 80),
      .htotal = (uint16_t)(width + 160),
      .vdisplay = (uint16_t)height,
      .vsync_start = (uint16_t)(height + 3),
      .vsync_end = (uint16_t)(height + 9),
      .vtotal = (uint16_t)(height + blank),
      .vrefresh = 60,
      .flags = DRM_MODE_FLAG_PHSYNC | DRM_MODE_FLAG_NVSYNC,
      .type = DRM_MODE_TYPE_USERDEF,
  };
  mode.clock = (uint32_t)(60.0 * mode.htotal * mode.vtotal / 1000);
  snprintf(mode.name, sizeof mode.name, "%ux%u", width, height);
  return mode;
}

static void choose_mode(struct output *output) {
  const struct drm_mode_modeinfo *found = NULL;
  if (output->width == 0) {
    found = preferred_mode(output);
  } else {
    for (uint32_t i = 0; i < output->mode_count && !found; i++)
      if (output->modes[i].hdisplay == output->width && output->modes[i].vdisplay == output->height)
        found = &output->modes[i];
  }
  output->from_list = found != NULL;
  if (found)
    output->mode = *found;
  else
    output->mode = output->width ? computed_mode(output->width, output->height) : computed_mode(1024, 768);
  output->width = output->mode.hdisplay;
  output->height = output->mode.vdisplay;
}

/* The id of the EDID blob of an output; 0 if it has none. */
static uint32_t edid_blob(uint32_t i) {
  uint32_t properties[64];
  uint64_t values[64];
  struct drm_mode_obj_get_properties list = {
      .obj_id = outputs[i].connector,
      .obj_type = DRM_MODE_OBJECT_CONNECTOR,
      .props_ptr = (uintptr_t)properties,
      .prop_values_ptr = (uintptr_t)values,
      .count_props = 64,
  };
  DRM(MODE_OBJ_GETPROPERTIES, &list);
  for (uint32_t p = 0; p < list.count_props && p < 64; p++) {
    struct drm_mode_get_property property = {.prop_id = properties[p]};
    DRM(MODE_GETPROPERTY, &property);
    if (strcmp(property.name, "EDID") == 0) return (uint32_t)values[p];
  }
  return 0;
}

/* Reads the EDID of an output. The blob is replaced whenever the display changes: then once more. */
static uint32_t read_edid(uint32_t i, uint8_t *bytes, uint32_t limit) {
  for (;;) {
    struct drm_mode_get_blob size = {.blob_id = edid_blob(i)};
    if (size.blob_id == 0) return 0;
    if (ioctl(card, DRM_IOCTL_MODE_GETPROPBLOB, &size) == 0) {
      if (size.length > limit) {
        errno = EOVERFLOW;
        die("EDID of %u bytes", size.length);
      }
      struct drm_mode_get_blob blob = {
          .blob_id = size.blob_id, .length = size.length, .data = (uintptr_t)bytes};
      if (ioctl(card, DRM_IOCTL_MODE_GETPROPBLOB, &blob) == 0) return blob.length;
    }
    if (errno != ENOENT && errno != EINTR) die("MODE_GETPROPBLOB");
  }
}

static void print_edid(uint32_t i) {
  uint8_t bytes[2048];
  uint32_t length = read_edid(i, bytes, sizeof bytes);
  if (length == 0) {
    printf("KMS edid output=%u bytes=0\n", i);
    return;
  }
  bool valid = length >= 128 && length % 128 == 0 && length == (bytes[126] + 1u) * 128 &&
               memcmp(bytes, "\x00\xff\xff\xff\xff\xff\xff\x00", 8) == 0;
  for (uint32_t block = 0; block < length / 128; block++) {
    uint8_t sum = 0;
    for (uint32_t at = 0; at < 128; at++) sum = (uint8_t)(sum + bytes[block * 128 + at]);
    if (sum != 0) valid = false;
  }
  printf("KMS edid output=%u bytes=%u valid=%d hex=", i, length, valid);
  for (uint32_t at = 0; at < length; at++) printf("%02x", bytes[at]);
  printf("\n");
}

/* ---------------------------------------------------------------- buffers and patterns */

static struct buffer create_buffer(uint32_t width, uint32_t height, uint32_t format) {
  struct drm_mode_create_dumb create = {.width = width, .height = height, .bpp = 32};
  DRM(MODE_CREATE_DUMB, &create);
  struct buffer buffer = {.handle = create.handle, .pitch = create.pitch, .size = create.size};
  struct drm_mode_fb_cmd2 framebuffer = {
      .width = width,
      .height = height,
      .pixel_format = format,
      .handles = {create.handle},
      .pitches = {create.pitch},
  };
  DRM(MODE_ADDFB2, &framebuffer);
  buffer.framebuffer = framebuffer.fb_id;
  struct drm_mode_map_dumb map = {.handle = create.handle};
  DRM(MODE_MAP_DUMB, &map);
  buffer.pixels = mmap(NULL, buffer.size, PROT_READ | PROT_WRITE, MAP_SHARED, card, (off_t)map.offset);
  if (buffer.pixels == MAP_FAILED) die("mmap of a dumb buffer");
  return buffer;
}

static uint32_t pattern_key(uint32_t output, uint32_t frame) {
  return (frame * 0x9e3779b1u + output * 0x85ebca6bu) >> 8;
}

static void draw(const struct buffer *buffer, uint32_t left, uint32_t top, uint32_t width, uint32_t height,
                 uint32_t key) {
  for (uint32_t y = top; y < top + height; y++) {
    uint32_t *row = (uint32_t *)(void *)(buffer->pixels + (size_t)y * buffer->pitch);
    uint32_t from_y = (y & 0xff) << 8 | (y >> 8 & 0xf);
    for (uint32_t x = left; x < left + width; x++)
      row[x] = 0x5a000000u | (((x & 0xff) << 16 | (x >> 8 & 0xf) << 4 | from_y) ^ key);
  }
}

static void draw_frame(uint32_t i, uint32_t frame) {
  struct output *output = &outputs[i];
  draw(&output->buffers[frame & 1], 0, 0, output->width, output->height, pattern_key(i, frame));
}

/* ---------------------------------------------------------------- mode set, flips, damage */

static void set_mode(uint32_t i) {
  struct output *output = &outputs[i];
  for (int b = 0; b < 2; b++) output->buffers[b] = create_buffer(output->width, output->height, DRM_FORMAT_XRGB8888);
  draw_frame(i, 0);
  output->frame = 0;
  struct drm_mode_crtc crtc = {
      .crtc_id = output->crtc,
      .fb_id = output->buffers[0].framebuffer,
      .set_connectors_ptr = (uintptr_t)&output->connector,
      .count_connectors = 1,
      .mode = output->mode,
      .mode_valid = 1,
  };
  DRM(MODE_SETCRTC, &crtc);
  printf("KMS set output=%u mode=%ux%u@%.2f from=%s\n", i, output->width, output->height, refresh_hz(&output->mode),
         output->from_list ? "list" : "formula");
}

static void wait_for_flip(void) {
  _Alignas(8) char bytes[1024];
  for (;;) {
    ssize_t length = read(card, bytes, sizeof bytes);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) die("reading an event");
    for (ssize_t at = 0; at < length;) {
      const struct drm_event *event = (const struct drm_event *)(void *)(bytes + at);
      if (event->type == DRM_EVENT_FLIP_COMPLETE) return;
      at += event->length;
    }
  }
}

static void flip_frames(uint32_t i, uint32_t count, bool draw_each) {
  struct output *output = &outputs[i];
  if (count == 0) return;
  /* The buffer that is off the screen is drawn first, so that the one on it changes only once it is off, too. */
  uint32_t first = (count & 1) ? count : count - 1;
  draw_frame(i, first);
  double start = seconds(), longest = 0;
  for (uint32_t frame = 1; frame <= count; frame++) {
    if (draw_each) draw_frame(i, frame);
    else if (frame == 2) draw_frame(i, first == count ? count - 1 : count);
    double before = seconds();
    struct drm_mode_crtc_page_flip flip = {
        .crtc_id = output->crtc,
        .fb_id = output->buffers[frame & 1].framebuffer,
        .flags = DRM_MODE_PAGE_FLIP_EVENT,
    };
    DRM(MODE_PAGE_FLIP, &flip);
    wait_for_flip();
    if (seconds() - before > longest) longest = seconds() - before;
  }
  output->frame = count;
  printf("KMS output=%u mode=%ux%u flips=%u seconds=%.3f longest_ms=%.3f\n", i, output->width, output->height, count,
         seconds() - start, longest * 1e3);
}

static void damage(uint32_t i, uint32_t count) {
  struct output *output = &outputs[i];
  struct buffer *buffer = &output->buffers[output->frame & 1];
  if (output->width < DIRTY_WIDTH || output->height < DIRTY_HEIGHT) return;
  double start = seconds();
  for (uint32_t step = 0; step < count; step++) {
    struct drm_clip_rect clips[2];
    for (uint32_t c = 0; c < 2; c++) {
      uint32_t r = 2 * step + c;
      uint32_t x = 97 * r % (output->width - DIRTY_WIDTH + 1), y = 61 * r % (output->height - DIRTY_HEIGHT + 1);
      draw(buffer, x, y, DIRTY_WIDTH, DIRTY_HEIGHT, pattern_key(i, output->frame + 1 + step));
      clips[c] = (struct drm_clip_rect){(uint16_t)x, (uint16_t)y, (uint16_t)(x + DIRTY_WIDTH),
                                        (uint16_t)(y + DIRTY_HEIGHT)};
    }
    struct drm_mode_fb_dirty_cmd dirty = {
        .fb_id = buffer->framebuffer, .clips_ptr = (uintptr_t)clips, .num_clips = 2};
    DRM(MODE_DIRTYFB, &dirty);
  }
  printf("KMS dirty output=%u steps=%u seconds=%.3f\n", i, count, seconds() - start);
}

/* ---------------------------------------------------------------- cursor */

/*
 * The old cursor call carries the hotspot with the image, on every kernel. Compositors set planes atomically
 * and must say that they know about hotspots (DRM_CLIENT_CAP_CURSOR_PLANE_HOTSPOT, Linux 6.6); this call needs
 * no such word, and the device sees the same commands.
 */
static void cursor_call(uint32_t i, uint32_t flags, uint32_t handle, int32_t x, int32_t y) {
  struct drm_mode_cursor2 cursor = {
      .flags = flags,
      .crtc_id = outputs[i].crtc,
      .x = x,
      .y = y,
      .width = CURSOR_SIZE,
      .height = CURSOR_SIZE,
      .handle = handle,
      .hot_x = HOTSPOT_X,
      .hot_y = HOTSPOT_Y,
  };
  DRM(MODE_CURSOR2, &cursor);
}

static void draw_cursor(const struct buffer *buffer) {
  for (uint32_t y = 0; y < CURSOR_SIZE; y++) {
    uint32_t *row = (uint32_t *)(void *)(buffer->pixels + (size_t)y * buffer->pitch);
    for (uint32_t x = 0; x < CURSOR_SIZE; x++) {
      uint32_t alpha = x < 32 ? 255 : y < 32 ? 128 : 0;
      row[x] = alpha << 24 | (4 * x * alpha / 255) << 16 | (4 * y * alpha / 255) << 8 | alpha;
    }
  }
}

static void run_cursor(void) {
  struct buffer image = create_buffer(CURSOR_SIZE, CURSOR_SIZE, DRM_FORMAT_ARGB8888);
  draw_cursor(&image);
  for (uint32_t i = 0; i < output_count; i++) {
    if (!outputs[i].wanted) continue;
    int32_t width = (int32_t)outputs[i].width, height = (int32_t)outputs[i].height;
    cursor_call(i, DRM_MODE_CURSOR_BO | DRM_MODE_CURSOR_MOVE, image.handle, -CURSOR_SIZE, -CURSOR_SIZE);
    double start = seconds();
    for (int32_t step = 0; step <= 100; step++)
      cursor_call(i, DRM_MODE_CURSOR_MOVE, 0, -CURSOR_SIZE + step * (width + CURSOR_SIZE) / 100,
                  -CURSOR_SIZE + step * (height + CURSOR_SIZE) / 100);
    printf("KMS cursor output=%u moves=101 seconds=%.3f\n", i, seconds() - start);
    cursor_call(i, DRM_MODE_CURSOR_MOVE, 0, -20, -10);
  }
  shot("cursor-corner");
  for (uint32_t i = 0; i < output_count; i++)
    if (outputs[i].wanted)
      cursor_call(i, DRM_MODE_CURSOR_MOVE, 0, (int32_t)outputs[i].width / 3, (int32_t)outputs[i].height / 3);
  shot("cursor");
  for (uint32_t i = 0; i < output_count; i++)
    if (outputs[i].wanted) cursor_call(i, DRM_MODE_CURSOR_BO, 0, 0, 0);
}

/* ---------------------------------------------------------------- changes of the display */

/* Waits for the kernel to announce that something about the displays changed, and prints what is there now. */
static void wait_for_hotplugs(uint32_t count) {
  struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
  int events = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
  if (events < 0 || bind(events, (struct sockaddr *)&address, sizeof address) < 0) die("listening for uevents");
  printf("KMS waiting for hotplug\n");
  while (count > 0) {
    char text[4096];
    ssize_t length = recv(events, text, sizeof text - 1, 0);
    if (length < 0 && (errno == EINTR || errno == ENOBUFS)) continue;
    if (length < 0) die("receiving a uevent");
    text[length] = '\0';
    bool from_drm = false, is_hotplug = false;
    for (char *line = text; line < text + length; line += strlen(line) + 1) {
      from_drm |= strcmp(line, "SUBSYSTEM=drm") == 0;
      is_hotplug |= strcmp(line, "HOTPLUG=1") == 0;
    }
    if (!from_drm || !is_hotplug) continue;
    read_connectors();
    for (uint32_t i = 0; i < output_count; i++) {
      print_connector(i, "hotplug");
      print_edid(i);
    }
    printf("KMS hotplug done\n");
    count--;
  }
  close(events);
}

/* ---------------------------------------------------------------- main */

static void usage(void) {
  fprintf(stderr, "usage: kms [--list] [--edid] [--output N[=WIDTHxHEIGHT]]... [--flips COUNT [--draw]]\n"
                  "           [--dirty COUNT] [--cursor] [--hotplug COUNT] [--hold]\n");
  exit(2);
}

static uint32_t number(const char *text) {
  char *end;
  unsigned long value = text ? strtoul(text, &end, 10) : 0;
  if (!text || *text == '\0' || *end != '\0') usage();
  return (uint32_t)value;
}

int main(int argc, char **argv) {
  bool list = false, edid = false, draw_each = false, cursor = false, hold = false, chosen = false;
  uint32_t flips = 0, dirty = 0, hotplugs = 0;
  setvbuf(stdout, NULL, _IOLBF, 0);

  for (int a = 1; a < argc; a++) {
    uint32_t i, width = 0, height = 0;
    int found;
    if (strcmp(argv[a], "--list") == 0) list = true;
    else if (strcmp(argv[a], "--edid") == 0) edid = true;
    else if (strcmp(argv[a], "--draw") == 0) draw_each = true;
    else if (strcmp(argv[a], "--cursor") == 0) cursor = true;
    else if (strcmp(argv[a], "--hold") == 0) hold = true;
    else if (strcmp(argv[a], "--flips") == 0) flips = number(argv[++a]);
    else if (strcmp(argv[a], "--dirty") == 0) dirty = number(argv[++a]);
    else if (strcmp(argv[a], "--hotplug") == 0) hotplugs = number(argv[++a]);
    else if (strcmp(argv[a], "--output") == 0 && a + 1 < argc &&
             (found = sscanf(argv[++a], "%u=%ux%u", &i, &width, &height), found == 1 || found == 3) &&
             i < MAX_OUTPUTS) {
      outputs[i].wanted = chosen = true;
      outputs[i].width = width;
      outputs[i].height = height;
    } else usage();
  }

  open_card();
  read_connectors();
  bool drives = chosen || flips || dirty || cursor || (!list && !edid && !hotplugs);
  for (uint32_t i = 0; i < MAX_OUTPUTS; i++) {
    if (!chosen && drives && i < output_count) outputs[i].wanted = outputs[i].connected;
    if (outputs[i].wanted && i >= output_count) {
      errno = ENODEV;
      die("output %u", i);
    }
  }
  for (uint32_t i = 0; i < output_count && list; i++) print_connector(i, "connector");
  for (uint32_t i = 0; i < output_count && edid; i++) print_edid(i);

  if (drives) {
    for (uint32_t i = 0; i < output_count; i++) {
      if (!outputs[i].wanted) continue;
      choose_mode(&outputs[i]);
      set_mode(i);
    }
    shot("mode");
  }
  if (flips) {
    for (uint32_t i = 0; i < output_count; i++)
      if (outputs[i].wanted) flip_frames(i, flips, draw_each);
    shot("flips");
  }
  if (dirty) {
    for (uint32_t i = 0; i < output_count; i++)
      if (outputs[i].wanted) damage(i, dirty);
    shot("dirty");
  }
  if (cursor) run_cursor();
  if (hotplugs) wait_for_hotplugs(hotplugs);
  if (hold) wait_for_line();
  printf("KMS done\n");
  return 0;
}
