/* A context of the cross-domain kind, with its two rings in guest RAM, and the buffers that it makes. */
#ifndef BENCH_CONTEXT_H
#define BENCH_CONTEXT_H

#include "driver.h"
#include "ram.h"

struct context {
  struct driver *driver;
  uint32_t id;
  /* A page each: the answers to queries, and what comes over the channel. */
  const uint8_t *query_ring;
  const uint8_t *channel_ring;
};

/* The rings get `ring_ids` and the next one as their resource ids. */
struct context context_make(struct driver *driver, struct ram *ram, uint32_t id, uint32_t ring_ids,
                            uint32_t channel_type);
/* What an image of 1920x1080 needs. */
struct cross_domain_image_requirements context_picture(const struct context *context);
/* A blob for such an image, for the host-visible window. */
void context_make_blob(const struct context *context, uint32_t resource_id,
                       const struct cross_domain_image_requirements *image);
void context_attach(const struct context *context, uint32_t resource_id);

#endif
