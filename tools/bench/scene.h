/*
 * What a guest shows, 1920x1080, drawn without a library and alike on every machine: for the driver in C and for the
 * program in a real guest (guest.c). Text is of glyphs made up once, photos are smooth with a little noise in them.
 */
#ifndef BENCH_SCENE_H
#define BENCH_SCENE_H

#include <stdbool.h>
#include <stdint.h>

#define SCENE_WIDTH 1920u
#define SCENE_HEIGHT 1080u
#define SCENE_BYTES (SCENE_WIDTH * SCENE_HEIGHT * 4u)

struct scene_rect {
  uint32_t x, y, width, height;
};

struct scene {
  /* B8G8R8X8, rows without padding. */
  uint32_t *pixels;
  /* What is under the window. */
  uint32_t *background;
  uint32_t *window;
  /* Larger than what is shown of it. */
  uint32_t *photo;
  uint8_t glyphs[96][16];
  uint64_t random;
  uint32_t steps;
  /* Of the window that is moved. */
  uint32_t x, y;
};

/* With a desktop painted. The same seed makes the same pictures. */
struct scene scene_make(uint64_t seed);
/* The next random number of the scene. */
uint32_t scene_random(struct scene *scene);
/* Paints all of it: desktop, text or photo. False for anything else. */
bool scene_paint(struct scene *scene, const char *name);
/*
 * Draws the next step of something that goes on, and tells where. False for a name that is none of these:
 *
 *   typing    one cell of 8x16, with a letter, in a terminal
 *   cell      16x16 pixels of text somewhere, as a cursor or a clock
 *   page      a tenth of the picture, all of it other lines of text
 *   scroll    a tenth of the picture, moved up by a line, with a new one below
 *   window    a window of a tenth, moved by some pixels over the desktop
 *   video     a tenth of the picture, each time another part of a photo, lighter or darker
 */
bool scene_step(struct scene *scene, const char *name, struct scene_rect *damage);
/* FNV-1a of blue, green and red of all pixels, row by row. */
uint32_t scene_hash(const uint32_t *pixels);

#endif
