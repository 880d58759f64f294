/*
 * guest: what a real guest shows (scene.h), through the kernel's virtio_gpu driver: a frame buffer of 1920x1080, and
 * DIRTYFB for each step. Reads orders, a line each:
 *
 *   STEP COUNT MEAN_MS    so many steps of something, between half and one and a half MEAN_MS after one another
 *   paint NAME            the whole picture
 *
 * and answers each with "DRAWN hash". Just before DIRTYFB it writes a byte to an I/O port, which QEMU sends to a
 * socket at once (isa-debugcon): so the host knows when.
 */
#include <drm/drm.h>
#include <drm/drm_fourcc.h>
#include <drm/drm_mode.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "measure.h"
#include "scene.h"

#define MARK_PORT 0x402
#define NS_PER_MS 1000000ull

struct screen {
  int card;
  uint32_t framebuffer, pitch;
  uint8_t *pixels;
};

static void drm(int card, unsigned long request, void *argument, const char *name) {
  int result;
  do result = ioctl(card, request, argument);
  while (result < 0 && (errno == EINTR || errno == EAGAIN));
  if (result < 0) fail_errno(name);
}
#define DRM(card, name, argument) drm(card, DRM_IOCTL_##name, argument, #name)

static struct screen make_framebuffer(int card) {
  struct drm_mode_create_dumb create = {.width = SCENE_WIDTH, .height = SCENE_HEIGHT, .bpp = 32};
  DRM(card, MODE_CREATE_DUMB, &create);
  struct drm_mode_fb_cmd2 framebuffer = {
      .width = SCENE_WIDTH,
      .height = SCENE_HEIGHT,
      .pixel_format = DRM_FORMAT_XRGB8888,
      .handles = {create.handle},
      .pitches = {create.pitch},
  };
  DRM(card, MODE_ADDFB2, &framebuffer);
  struct drm_mode_map_dumb map = {.handle = create.handle};
  DRM(card, MODE_MAP_DUMB, &map);
  uint8_t *pixels = mmap(NULL, create.size, PROT_READ | PROT_WRITE, MAP_SHARED, card, (off_t)map.offset);
  if (pixels == MAP_FAILED) fail_errno("mmap of a dumb buffer");
  return (struct screen){card, framebuffer.fb_id, create.pitch, pixels};
}

static struct screen open_screen(void) {
  int card = open("/dev/dri/card0", O_RDWR | O_CLOEXEC);
  if (card < 0) fail_errno("/dev/dri/card0");
  uint32_t connectors[16], crtcs[16];
  struct drm_mode_card_res resources = {
      .connector_id_ptr = (uintptr_t)connectors,
      .count_connectors = 16,
      .crtc_id_ptr = (uintptr_t)crtcs,
      .count_crtcs = 16,
  };
  DRM(card, MODE_GETRESOURCES, &resources);
  /* Looks for modes first, then fetches them. */
  struct drm_mode_modeinfo modes[128];
  struct drm_mode_get_connector connector = {.connector_id = connectors[0]};
  DRM(card, MODE_GETCONNECTOR, &connector);
  if (connector.count_modes > 128) connector.count_modes = 128;
  connector = (struct drm_mode_get_connector){
      .connector_id = connectors[0], .modes_ptr = (uintptr_t)modes, .count_modes = connector.count_modes};
  DRM(card, MODE_GETCONNECTOR, &connector);
  struct screen screen = make_framebuffer(card);
  for (uint32_t i = 0; i < connector.count_modes; i++) {
    if (modes[i].hdisplay != SCENE_WIDTH || modes[i].vdisplay != SCENE_HEIGHT) continue;
    struct drm_mode_crtc crtc = {
        .crtc_id = crtcs[0],
        .fb_id = screen.framebuffer,
        .set_connectors_ptr = (uintptr_t)connectors,
        .count_connectors = 1,
        .mode = modes[i],
        .mode_valid = 1,
    };
    DRM(card, MODE_SETCRTC, &crtc);
    return screen;
  }
  fail("the display has no mode of %ux%u", SCENE_WIDTH, SCENE_HEIGHT);
}

static void show(const struct screen *screen, const struct scene *scene, struct scene_rect rect) {
  for (uint32_t y = rect.y; y < rect.y + rect.height; y++)
    memcpy(screen->pixels + (size_t)y * screen->pitch + rect.x * 4, scene->pixels + y * SCENE_WIDTH + rect.x,
           rect.width * 4);
  struct drm_clip_rect clip = {(uint16_t)rect.x, (uint16_t)rect.y, (uint16_t)(rect.x + rect.width),
                               (uint16_t)(rect.y + rect.height)};
  struct drm_mode_fb_dirty_cmd dirty = {
      .fb_id = screen->framebuffer, .clips_ptr = (uintptr_t)&clip, .num_clips = 1};
  outb('.', MARK_PORT);
  DRM(screen->card, MODE_DIRTYFB, &dirty);
}

static void wait_until(uint64_t ns) {
  struct timespec moment = {.tv_sec = (time_t)(ns / (1000 * NS_PER_MS)), .tv_nsec = (long)(ns % (1000 * NS_PER_MS))};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, NULL) == EINTR) continue;
}

static void draw_steps(const struct screen *screen, struct scene *scene, const struct order *order) {
  uint32_t count = order_number(order, 1), mean_ms = order_number(order, 2);
  uint64_t moment = now_ns();
  for (uint32_t i = 0; i < count; i++) {
    moment += (mean_ms * NS_PER_MS) / 2 + scene_random(scene) % (mean_ms * (uint32_t)NS_PER_MS);
    wait_until(moment);
    struct scene_rect damage;
    if (!scene_step(scene, order->words[0], &damage)) fail("nothing is called %s", order->words[0]);
    show(screen, scene, damage);
  }
}

int main(void) {
  static const struct scene_rect whole = {.width = SCENE_WIDTH, .height = SCENE_HEIGHT};
  if (ioperm(MARK_PORT, 1, 1) != 0) fail_errno("ioperm");
  struct scene scene = scene_make(1);
  struct screen screen = open_screen();
  show(&screen, &scene, whole);
  printf("DRAWN %u", scene_hash(scene.pixels));
  order_answered();
  for (struct order order; order_next(&order);) {
    if (order_is(&order, "paint")) {
      if (!scene_paint(&scene, order_word(&order, 1))) fail("no picture %s", order.words[1]);
      show(&screen, &scene, whole);
    } else {
      draw_steps(&screen, &scene, &order);
    }
    printf("DRAWN %u", scene_hash(scene.pixels));
    order_answered();
  }
}
