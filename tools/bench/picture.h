/*
 * A picture of 1920x1080 in guest RAM, each page somewhere else, as Linux hands over the pages of a frame
 * buffer; and the same copies that the server makes of it, in C: the floor.
 */
#ifndef BENCH_PICTURE_H
#define BENCH_PICTURE_H

#include <stdint.h>

#include "ram.h"

#define PICTURE_WIDTH 1920u
#define PICTURE_HEIGHT 1080u
#define PICTURE_BYTES (PICTURE_WIDTH * PICTURE_HEIGHT * 4u)
#define PICTURE_PAGES (PICTURE_BYTES / PAGE_BYTES)
_Static_assert(PICTURE_BYTES % PAGE_BYTES == 0, "a picture is a whole number of pages");

struct picture {
  /* In the order of the picture; shuffled over four times as much RAM. */
  uint8_t *pages[PICTURE_PAGES];
  /* The same picture in one piece. */
  uint8_t *flat;
};

/* With picture 0 painted. */
struct picture picture_make(struct ram *ram);
/* Write every byte of one form. The same number gives the same picture. */
void picture_paint_pages(const struct picture *picture, uint32_t number);
void picture_paint_flat(const struct picture *picture, uint32_t number);
/* A target for copies, of the kind that the server has: a memfd. */
uint8_t *picture_make_image(void);
/* The floor of a transfer: copies the picture page by page. */
void picture_gather(const struct picture *picture, uint8_t *image);
/* FNV-1a of the colours of a picture in memory: blue, green, red of each pixel, row by row. */
uint32_t picture_hash(const uint8_t *pixels);

/*
 * A process on the server's CPU that copies the picture when told to, into memfds of its own, as the server
 * does. It tells the nanoseconds of the copy alone, without the way to it and back.
 */
struct copier {
  int socket;
};

struct copier copier_start(const struct picture *picture, int cpu);
uint64_t copier_gather(struct copier *copier);
uint64_t copier_copy_flat(struct copier *copier);
/* Only reads: afterwards the caches hold of the picture what they can. */
void copier_look_at_pages(struct copier *copier);
void copier_look_at_flat(struct copier *copier);
/* Of what each of them copied last. */
uint32_t copier_gather_hash(struct copier *copier);
uint32_t copier_flat_hash(struct copier *copier);

#endif
