/*
 * A guest that draws while somebody looks: what is flushed when, when the first byte of it is at a viewer, and what
 * that costs the server. Also pictures that programs take over the API.
 */
#ifndef BENCH_VIEW_H
#define BENCH_VIEW_H

#include "driver.h"
#include "picture.h"
#include "scene.h"
#include "viewer.h"

struct view {
  struct driver *driver;
  const struct picture *picture;
  /* The process whose work is measured. */
  pid_t device;
  struct scene scene;
  /* No socket: -1. */
  struct viewer viewer;
};

/* Of a driver that shows a 2D resource of the picture's pages. */
struct view view_make(struct driver *driver, const struct picture *picture, pid_t device);

/*
 * Carries out orders more than drivers do:
 *
 *   paint NAME                     paints the whole picture (scene.h) and flushes it
 *   viewer SOCKET ENCODINGS        a viewer connects (viewer.h); `viewer none` leaves
 *   moments STEP COUNT             COUNT steps of something (scene.h), each flushed on its own, at moments up to 32 ms
 *                                  after the update that tells of the one before has come; or the interrupt, without
 *                                  a viewer. Tells of both, from the doorbell on
 *   rate STEP COUNT HZ             so many steps a second; the viewer is told of them as it can be. Tells also how
 *                                  many updates and bytes came, and what the server's threads used of CPUs
 *   hash                           of what was drawn, and of what the viewer is sent then, in Raw
 *   screenshots SOCKET COUNT       pictures taken over the API, each with a connection of its own, until the last byte;
 *                                  and as many that are answered with 304, because the tag of the first is named
 *
 * False for any other order.
 */
bool view_obey(struct view *view, const struct order *order);

#endif
