#include "scene.h"

#include <stdlib.h>
#include <string.h>

#include "measure.h"

#define GLYPH_WIDTH 8u
#define GLYPH_HEIGHT 16u
#define PHOTO_WIDTH 2048u
#define PHOTO_HEIGHT 1280u
#define WINDOW_WIDTH 688u
#define WINDOW_HEIGHT 280u
#define TITLE_HEIGHT 24u
#define PAPER 0xf6f5f4u
#define INK 0x2e3436u
#define BAR 0x3584e4u

/* A tenth of the picture. */
static const struct scene_rect tenth = {.x = 480, .y = 400, .width = 720, .height = 288};
/* Moves of the window, in pixels. */
enum { STEP_X = 8, STEP_Y = 4 };

uint32_t scene_random(struct scene *scene) {
  uint64_t state = scene->random;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  scene->random = state;
  return (uint32_t)(state >> 32);
}

/* --- drawing --- */

/* Memory that is drawn into. */
struct canvas {
  uint32_t *pixels;
  uint32_t stride;
};

static struct canvas screen_of(const struct scene *scene) {
  return (struct canvas){scene->pixels, SCENE_WIDTH};
}

static void fill(struct canvas canvas, struct scene_rect rect, uint32_t colour) {
  for (uint32_t y = rect.y; y < rect.y + rect.height; y++)
    for (uint32_t x = rect.x; x < rect.x + rect.width; x++) canvas.pixels[y * canvas.stride + x] = colour;
}

static void copy(struct canvas to, struct scene_rect rect, const uint32_t *from, uint32_t from_stride) {
  for (uint32_t row = 0; row < rect.height; row++)
    memcpy(to.pixels + (rect.y + row) * to.stride + rect.x, from + row * from_stride, rect.width * sizeof *from);
}

/* Edges are half as dark, as fonts are smoothed. */
static void draw_glyph(const struct scene *scene, struct canvas canvas, uint32_t x, uint32_t y, uint32_t letter) {
  for (uint32_t row = 0; row < GLYPH_HEIGHT; row++) {
    uint32_t bits = scene->glyphs[letter][row];
    for (uint32_t column = 0; column < GLYPH_WIDTH; column++) {
      uint32_t *pixel = &canvas.pixels[(y + row) * canvas.stride + x + column];
      bool is_ink = bits >> column & 1;
      bool is_edge = !is_ink && (bits << 1 >> column & 1);
      *pixel = is_ink ? INK : is_edge ? 0x929495u : PAPER;
    }
  }
}

/* Words of letters, some more frequent than others. */
static uint32_t next_letter(struct scene *scene) {
  uint32_t random = scene_random(scene);
  if (random % 6 == 0) return 0;
  uint32_t few = 1 + (random >> 8) % 12;
  return random % 3 == 0 ? 1 + (random >> 8) % 95 : few;
}

static void draw_line(struct scene *scene, struct canvas canvas, struct scene_rect rect, uint32_t y) {
  uint32_t columns = rect.width / GLYPH_WIDTH;
  uint32_t end = columns / 2 + scene_random(scene) % (columns / 2);
  for (uint32_t i = 0; i < columns; i++)
    draw_glyph(scene, canvas, rect.x + i * GLYPH_WIDTH, y, i < end ? next_letter(scene) : 0);
}

static void draw_text(struct scene *scene, struct canvas canvas, struct scene_rect rect) {
  for (uint32_t y = 0; y + GLYPH_HEIGHT <= rect.height; y += GLYPH_HEIGHT) draw_line(scene, canvas, rect, rect.y + y);
}

static void draw_window(struct scene *scene, struct canvas canvas, struct scene_rect rect) {
  fill(canvas, rect, PAPER);
  fill(canvas, (struct scene_rect){rect.x, rect.y, rect.width, TITLE_HEIGHT}, BAR);
  struct scene_rect inner = {rect.x + 8, rect.y + TITLE_HEIGHT + 8, rect.width - 16, rect.height - TITLE_HEIGHT - 16};
  draw_text(scene, canvas, inner);
}

/* --- what is made once --- */

static void make_glyphs(struct scene *scene) {
  for (uint32_t letter = 1; letter < 96; letter++) {
    uint8_t *rows = scene->glyphs[letter];
    uint32_t shape = scene_random(scene);
    uint32_t left = 1 + shape % 2, right = 5 + (shape >> 2) % 2;
    for (uint32_t row = 4; row < 12; row++) {
      rows[row] = (uint8_t)((shape >> 4 & 1) << left | (shape >> 5 & 1) << right);
      if (row == 4 + (shape >> 6) % 8 || row == 4 + (shape >> 9) % 8)
        for (uint32_t column = left; column <= right; column++) rows[row] |= (uint8_t)(1u << column);
      if (shape >> 12 & 1) rows[row] |= (uint8_t)(1u << (left + (row - 4) * (right - left) / 7));
    }
    if (shape >> 13 & 1) rows[2] = rows[3] = (uint8_t)(1u << left);
    if (shape >> 14 & 1) rows[12] = rows[13] = (uint8_t)(1u << right);
  }
}

/* Random values at the corners of squares, and between them what lies between. */
static uint32_t smooth(const uint8_t corners[64][64], uint32_t x, uint32_t y, uint32_t size) {
  uint32_t left = x / size, top = y / size, dx = x % size, dy = y % size;
#define CORNER(column, row) corners[(top + row) & 63][(left + column) & 63]
  uint32_t above = CORNER(0, 0) * (size - dx) + CORNER(1, 0) * dx;
  uint32_t below = CORNER(0, 1) * (size - dx) + CORNER(1, 1) * dx;
#undef CORNER
  return (above * (size - dy) + below * dy) / (size * size);
}

static void make_photo(struct scene *scene) {
  static uint8_t corners[3][64][64];
  for (uint32_t i = 0; i < sizeof corners; i++) ((uint8_t *)corners)[i] = (uint8_t)scene_random(scene);
  for (uint32_t y = 0; y < PHOTO_HEIGHT; y++) {
    for (uint32_t x = 0; x < PHOTO_WIDTH; x++) {
      uint32_t detail = smooth(corners[0], x, y, 16), noise = scene_random(scene);
      uint32_t colour = 0;
      for (uint32_t channel = 0; channel < 3; channel++) {
        uint32_t value = (smooth(corners[channel], x, y, 256) * 6 + detail + (noise >> 8 * channel & 7) * 4) / 8;
        colour |= value << 8 * channel;
      }
      scene->photo[y * PHOTO_WIDTH + x] = colour;
    }
  }
}

static void paint_desktop(struct scene *scene) {
  struct canvas screen = screen_of(scene);
  for (uint32_t y = 0; y < SCENE_HEIGHT; y++)
    fill(screen, (struct scene_rect){0, y, SCENE_WIDTH, 1}, (0x30 + y / 20) << 16 | (0x40 + y / 16) << 8 | 0x70);
  fill(screen, (struct scene_rect){0, 0, SCENE_WIDTH, 32}, 0x241f31);
  draw_window(scene, screen, (struct scene_rect){96, 80, 848, 640});
  draw_window(scene, screen, (struct scene_rect){1040, 160, 720, 480});
  for (uint32_t i = 0; i < 8; i++)
    copy(screen, (struct scene_rect){120 + 208 * i, 920, 64, 64}, scene->photo + 300 * i, PHOTO_WIDTH);
}

static uint32_t *pixels_make(uint32_t count) {
  uint32_t *pixels = calloc(count, sizeof *pixels);
  if (pixels == NULL) fail_errno("calloc");
  return pixels;
}

struct scene scene_make(uint64_t seed) {
  struct scene scene = {
      .pixels = pixels_make(SCENE_WIDTH * SCENE_HEIGHT),
      .background = pixels_make(SCENE_WIDTH * SCENE_HEIGHT),
      .window = pixels_make(WINDOW_WIDTH * WINDOW_HEIGHT),
      .photo = pixels_make(PHOTO_WIDTH * PHOTO_HEIGHT),
      .random = seed * 0x9e3779b97f4a7c15ull | 1,
  };
  make_glyphs(&scene);
  make_photo(&scene);
  draw_window(&scene, (struct canvas){scene.window, WINDOW_WIDTH}, (struct scene_rect){0, 0, WINDOW_WIDTH, WINDOW_HEIGHT});
  scene_paint(&scene, "desktop");
  return scene;
}

bool scene_paint(struct scene *scene, const char *name) {
  static const struct scene_rect whole = {.width = SCENE_WIDTH, .height = SCENE_HEIGHT};
  struct canvas screen = screen_of(scene);
  if (strcmp(name, "desktop") == 0) {
    paint_desktop(scene);
  } else if (strcmp(name, "text") == 0) {
    fill(screen, whole, PAPER);
    draw_text(scene, screen, whole);
  } else if (strcmp(name, "photo") == 0) {
    copy(screen, whole, scene->photo, PHOTO_WIDTH);
  } else {
    return false;
  }
  memcpy(scene->background, scene->pixels, SCENE_BYTES);
  return true;
}

/* --- what goes on --- */

static struct scene_rect type(struct scene *scene) {
  uint32_t columns = tenth.width / GLYPH_WIDTH, rows = tenth.height / GLYPH_HEIGHT;
  uint32_t cell = scene->steps % (columns * rows);
  struct scene_rect rect = {
      tenth.x + cell % columns * GLYPH_WIDTH, tenth.y + cell / columns * GLYPH_HEIGHT, GLYPH_WIDTH, GLYPH_HEIGHT};
  draw_glyph(scene, screen_of(scene), rect.x, rect.y, 1 + scene->steps % 95);
  return rect;
}

static struct scene_rect draw_cell(struct scene *scene) {
  uint32_t random = scene_random(scene);
  struct scene_rect rect = {random % (SCENE_WIDTH / 16) * 16, (random >> 16) % (SCENE_HEIGHT / 16) * 16, 16, 16};
  /* Not what was there before: the colour below the letters is another one each time. */
  fill(screen_of(scene), rect, scene->steps * 0x9e3779b1u >> 8);
  draw_glyph(scene, screen_of(scene), rect.x, rect.y, 1 + scene->steps % 95);
  return rect;
}

static struct scene_rect scroll(struct scene *scene) {
  struct canvas screen = screen_of(scene);
  struct scene_rect kept = {tenth.x, tenth.y, tenth.width, tenth.height - GLYPH_HEIGHT};
  copy(screen, kept, scene->pixels + (tenth.y + GLYPH_HEIGHT) * SCENE_WIDTH + tenth.x, SCENE_WIDTH);
  draw_line(scene, screen, tenth, tenth.y + kept.height);
  return tenth;
}

static struct scene_rect move_window(struct scene *scene) {
  struct canvas screen = screen_of(scene);
  struct scene_rect old = {scene->x, scene->y, WINDOW_WIDTH, WINDOW_HEIGHT};
  copy(screen, old, scene->background + old.y * SCENE_WIDTH + old.x, SCENE_WIDTH);
  /* To the right and down, then back. */
  uint32_t phase = scene->steps % 200, way = phase < 100 ? phase + 1 : 200 - phase - 1;
  scene->x = way * STEP_X;
  scene->y = 120 + way * STEP_Y;
  struct scene_rect new = {scene->x, scene->y, WINDOW_WIDTH, WINDOW_HEIGHT};
  copy(screen, new, scene->window, WINDOW_WIDTH);
  uint32_t left = old.x < new.x ? old.x : new.x, top = old.y < new.y ? old.y : new.y;
  uint32_t right = old.x > new.x ? old.x : new.x, bottom = old.y > new.y ? old.y : new.y;
  return (struct scene_rect){left, top, right + WINDOW_WIDTH - left, bottom + WINDOW_HEIGHT - top};
}

static struct scene_rect play(struct scene *scene) {
  uint32_t x = scene->steps * 5 % (PHOTO_WIDTH - tenth.width), y = scene->steps * 3 % (PHOTO_HEIGHT - tenth.height);
  uint32_t light = scene->steps % 8;
  for (uint32_t row = 0; row < tenth.height; row++) {
    const uint32_t *from = scene->photo + (y + row) * PHOTO_WIDTH + x;
    uint32_t *to = scene->pixels + (tenth.y + row) * SCENE_WIDTH + tenth.x;
    /* No channel of the photo is above 255 - 7. */
    for (uint32_t column = 0; column < tenth.width; column++) to[column] = from[column] + light * 0x010101u;
  }
  return tenth;
}

bool scene_step(struct scene *scene, const char *name, struct scene_rect *damage) {
  if (strcmp(name, "typing") == 0) {
    *damage = type(scene);
  } else if (strcmp(name, "cell") == 0) {
    *damage = draw_cell(scene);
  } else if (strcmp(name, "page") == 0) {
    draw_text(scene, screen_of(scene), tenth);
    *damage = tenth;
  } else if (strcmp(name, "scroll") == 0) {
    *damage = scroll(scene);
  } else if (strcmp(name, "window") == 0) {
    *damage = move_window(scene);
  } else if (strcmp(name, "video") == 0) {
    *damage = play(scene);
  } else {
    return false;
  }
  scene->steps++;
  return true;
}

uint32_t scene_hash(const uint32_t *pixels) {
  uint32_t hash = 0x811c9dc5u;
  for (uint32_t i = 0; i < SCENE_WIDTH * SCENE_HEIGHT; i++)
    for (uint32_t shift = 0; shift < 24; shift += 8) hash = (hash ^ (pixels[i] >> shift & 0xff)) * 0x01000193u;
  return hash;
}
