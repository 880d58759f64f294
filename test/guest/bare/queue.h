/*
 * A split virtqueue from the driver's side (virtio 1.3, 2.7), polled: interrupts are always suppressed unless
 * a test asks for them.
 */
#ifndef BARE_QUEUE_H
#define BARE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtio.h"

#define QUEUE_SIZE_MAX 256
#define QUEUE_COMMAND_TIMEOUT_MS 5000

#define VIRTQ_DESC_F_NEXT 1
#define VIRTQ_DESC_F_WRITE 2
#define VIRTQ_DESC_F_INDIRECT 4
#define VIRTQ_AVAIL_F_NO_INTERRUPT 1
#define VIRTQ_USED_F_NO_NOTIFY 1

struct virtq_desc {
  uint64_t addr;
  uint32_t len;
  uint16_t flags;
  uint16_t next;
};

struct virtq_used_elem {
  uint32_t id;
  uint32_t len;
};

/* One slot more than descriptors: used_event and avail_event follow the last one in use. */
struct virtq_avail {
  volatile uint16_t flags;
  volatile uint16_t idx;
  volatile uint16_t ring[QUEUE_SIZE_MAX + 1];
};

struct virtq_used {
  volatile uint16_t flags;
  volatile uint16_t idx;
  volatile struct virtq_used_elem ring[QUEUE_SIZE_MAX + 1];
};

/* A stretch of memory for the device. Physical and virtual addresses are the same here. */
struct segment {
  const void *data;
  uint32_t length;
  bool is_writable;
};

#define QUEUE_SEGMENTS_MAX 32
#define QUEUE_INDIRECT_TABLES 8 /* chains in flight at most, with INDIRECT_DESC */

struct queue {
  struct virtio_device *device;
  uint16_t index;
  uint16_t size;
  uint16_t notify_off;
  bool has_event_idx;
  bool has_indirect;
  bool wants_interrupts;
  uint16_t next_desc;
  uint16_t added;
  uint16_t kicked; /* `added` at the last kick */
  uint16_t taken;
  _Alignas(16) struct virtq_desc desc[QUEUE_SIZE_MAX];
  struct virtq_avail avail;
  _Alignas(4) struct virtq_used used;
  _Alignas(16) struct virtq_desc indirect[QUEUE_INDIRECT_TABLES][QUEUE_SEGMENTS_MAX];
};

/* Programs and enables queue `index` with at most `size_limit` descriptors. Between FEATURES_OK and
 * DRIVER_OK. */
bool queue_set_up(struct queue *queue, struct virtio_device *device, uint16_t index, uint16_t size_limit,
                  uint64_t features);

/* Makes one chain available; returns its head. */
uint16_t queue_add(struct queue *queue, const struct segment *segments, size_t count);
/* Notifies the device of what was added, unless it has asked not to be. */
void queue_kick(struct queue *queue);
void queue_kick_always(struct queue *queue);

/* Waits for the next used element. False when it does not come in time. */
bool queue_take(struct queue *queue, struct virtq_used_elem *element);
bool queue_has_used(const struct queue *queue);

#endif
