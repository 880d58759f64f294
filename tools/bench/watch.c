/*
 * watch VNC-SOCKET MARK-SOCKET
 *
 * Looks at the screen of a guest (guest.c), and hears at another socket when the guest has drawn. Prints `{}` when it
 * is connected to that; orders:
 *
 *   connect ENCODINGS    a viewer connects (viewer.h), after the one before has left
 *   marks COUNT          follows until the guest has drawn so often and the viewer has heard of it. Tells the time
 *                        from the first change that a viewer does not know of to the next update, updates and bytes
 *   look                 the hash of the picture, which is asked for in Raw
 */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#include "measure.h"
#include "viewer.h"

/* Slow servers look only every few seconds when nothing happens. */
#define TIMEOUT_MS 20000
/* Updates that come later belong to something else. */
#define QUIET_MS 500

/* Marks that have come. */
static uint32_t take_marks(int marks) {
  uint8_t bytes[64];
  ssize_t got = recv(marks, bytes, sizeof bytes, 0);
  if (got <= 0) fail("the guest has ended");
  return (uint32_t)got;
}

static void follow(struct viewer *viewer, int marks, uint32_t count) {
  struct samples samples;
  samples_begin(&samples, count);
  viewer_reset(viewer);
  viewer->first_bytes = &samples;
  for (uint32_t seen = 0;;) {
    struct pollfd fds[2] = {{.fd = marks, .events = POLLIN}, {.fd = viewer->socket, .events = POLLIN}};
    bool is_done = seen >= count && viewer->mark_ns == 0 && viewer->length == 0;
    int ready = poll(fds, 2, is_done ? QUIET_MS : TIMEOUT_MS);
    uint64_t now = now_ns();
    if (ready < 0) fail_errno("poll");
    if (ready == 0 && is_done) break;
    if (ready == 0) fail("%u of %u marks, and nothing for %d ms", seen, count, TIMEOUT_MS);
    /* What came at the same moment cannot tell of the change. */
    if (fds[1].revents) viewer_receive(viewer, now);
    if (!fds[0].revents) continue;
    seen += take_marks(marks);
    viewer_mark(viewer, now);
  }
  printf("{\"updates\":%" PRIu64 ",\"bytes\":%" PRIu64 ",", viewer->updates, viewer->received_bytes);
  samples_print("firstByte", &samples);
  putchar('}');
  samples_end(&samples);
  viewer_reset(viewer);
}

int main(int argc, char **argv) {
  if (argc != 3) fail("usage: watch VNC-SOCKET MARK-SOCKET");
  end_with_parent();
  int marks = connect_to(argv[2]);
  struct viewer viewer = {.socket = -1};
  printf("{}");
  order_answered();
  for (struct order order; order_next(&order);) {
    if (order_is(&order, "connect")) {
      if (viewer.socket >= 0) viewer_leave(&viewer);
      viewer = viewer_connect(argv[1], order_word(&order, 1));
      printf("{}");
    } else if (order_is(&order, "marks")) {
      follow(&viewer, marks, order_number(&order, 1));
    } else if (order_is(&order, "look")) {
      printf("{\"hash\":%u}", viewer_look(&viewer));
    } else {
      fail("no order %s", order.words[0]);
    }
    order_answered();
  }
}
