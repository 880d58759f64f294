/*
 * A Wayland client of one surface: over the channel of a cross-domain context, as a guest has it, or straight to the
 * compositor, as a program of the host has it. The messages are the same.
 */
#ifndef BENCH_WAYLAND_H
#define BENCH_WAYLAND_H

#include <stdbool.h>

#include "context.h"

struct wayland {
  bool is_direct;
  /* The pixels of its buffer. */
  uint8_t *pixels;
  /* Over the device, and what one SEND takes, in guest RAM. */
  struct context context;
  struct cross_domain_send_command *send;
  /* Straight to the compositor. */
  int socket;
  int buffer_fd;
};

/*
 * Connects, and makes a buffer of 1920x1080 for its surface: in the host-visible window, or in a memfd. `path` is
 * that of the compositor, for who goes straight to it.
 */
struct wayland wayland_over_device(struct driver *driver, struct ram *ram);
struct wayland wayland_direct(const char *path);

/*
 *   wayland sync device|direct COUNT      wl_display.sync until its callback has come
 *   wayland frames device|direct COUNT    1920x1080, every byte written before: attach, damage, commit and sync,
 *                                         until the callback has come
 *
 * False for any other order. `clients` are two: the one over the device, and the direct one.
 */
bool wayland_obey(const struct wayland *clients, const struct order *order);

#endif
