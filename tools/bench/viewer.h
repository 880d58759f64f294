/*
 * A VNC viewer (RFB 3.8, RFC 6143) that looks at when bytes come and how many: it answers each update at once with
 * the next request, and follows the encodings only as far as to know where they end. What comes in Raw it draws.
 */
#ifndef BENCH_VIEWER_H
#define BENCH_VIEWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "measure.h"

struct viewer {
  int socket;
  uint32_t width, height;
  /* B8G8R8X8, of what came in Raw. */
  uint32_t *picture;
  /* What has come of a message that is not complete. */
  uint8_t *bytes;
  size_t length, room;
  /* When the first byte of that message came. */
  uint64_t begun_ns;
  /* Since `viewer_reset`: updates with pixels, pixels in Raw, bytes of everything. */
  uint64_t updates, raw_pixels, received_bytes;
  /* The first change that no update has told of yet, and where the time from there to an update's first byte goes. */
  uint64_t mark_ns;
  struct samples *first_bytes;
};

/*
 * Connects, without a password. `encodings` is one of
 *
 *   novnc      CopyRect, Tight, ZRLE, Raw; quality 6 and compression 2, as noVNC asks
 *   lossless   the same without a quality
 *   raw        Raw
 *
 * and asks for the whole picture, which is there when this returns.
 */
struct viewer viewer_connect(const char *path, const char *encodings);
void viewer_leave(struct viewer *viewer);
/* The next change is what the next update tells of, unless one is on its way. */
void viewer_mark(struct viewer *viewer, uint64_t now_ns);
/* Takes what has come, which must be something, at `now_ns`. */
void viewer_receive(struct viewer *viewer, uint64_t now_ns);
/* Forgets what was counted. */
void viewer_reset(struct viewer *viewer);
/* Asks for the whole picture in Raw, from here on for ever. Returns `scene_hash` of it. */
uint32_t viewer_look(struct viewer *viewer);

#endif
