/*
 * A split virtqueue with EVENT_IDX and INDIRECT_DESC (virtio 1.3, 2.7) from the driver's side, as Linux
 * drives it: each request takes one descriptor, which points at an indirect table of two, the request and its
 * answer.
 */
#ifndef BENCH_QUEUE_H
#define BENCH_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ram.h"

#define QUEUE_SIZE 64u

#define VIRTQ_DESC_F_NEXT 1
#define VIRTQ_DESC_F_WRITE 2
#define VIRTQ_DESC_F_INDIRECT 4

struct virtq_desc {
  uint64_t addr;
  uint32_t len;
  uint16_t flags;
  uint16_t next;
};
_Static_assert(sizeof(struct virtq_desc) == 16, "virtq_desc");

struct virtq_avail {
  uint16_t flags;
  _Atomic uint16_t idx;
  uint16_t ring[QUEUE_SIZE];
  _Atomic uint16_t used_event;
};

struct virtq_used_elem {
  uint32_t id;
  uint32_t len;
};

struct virtq_used {
  uint16_t flags;
  _Atomic uint16_t idx;
  struct virtq_used_elem ring[QUEUE_SIZE];
  _Atomic uint16_t avail_event;
};
_Static_assert(offsetof(struct virtq_used, avail_event) == 4 + 8 * QUEUE_SIZE, "virtq_used");

#define REQUEST_BYTES 128u
#define ANSWER_BYTES 64u

/* What lies in guest RAM. Requests and answers are those of short commands, by head. */
struct queue_memory {
  struct virtq_desc desc[QUEUE_SIZE];
  struct virtq_desc table[QUEUE_SIZE][2];
  uint8_t request[QUEUE_SIZE][REQUEST_BYTES];
  uint8_t answer[QUEUE_SIZE][ANSWER_BYTES];
  _Alignas(64) struct virtq_avail avail;
  _Alignas(64) struct virtq_used used;
};

struct queue {
  const struct ram *ram;
  struct queue_memory *memory;
  /* Free-running indices: requests made available, those of them at the last kick, requests taken back. */
  uint16_t added;
  uint16_t kicked;
  uint16_t taken;
};

struct queue queue_make(struct ram *ram);
/* The head that the next request will get. */
uint16_t queue_next_head(const struct queue *queue);
/* Makes one request available. */
void queue_add(struct queue *queue, const void *request, uint32_t length, void *answer, uint32_t room);
/* Whether the device wants to hear of what was added since the last call. */
bool queue_wants_kick(struct queue *queue);
/* Whether the device has looked at everything there is, and wants to hear of the next request. */
bool queue_is_idle(const struct queue *queue);
/* Asks for an interrupt at the next used element. */
void queue_enable_interrupt(struct queue *queue);
bool queue_has_used(const struct queue *queue);
/* The next used element, if there is one. */
bool queue_take(struct queue *queue, struct virtq_used_elem *element);

#endif
