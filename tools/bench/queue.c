#include "queue.h"

#include "measure.h"

struct queue queue_make(struct ram *ram) {
  return (struct queue){.ram = ram, .memory = ram_take(ram, sizeof(struct queue_memory))};
}

uint16_t queue_next_head(const struct queue *queue) {
  return queue->added % QUEUE_SIZE;
}

void queue_add(struct queue *queue, const void *request, uint32_t length, void *answer, uint32_t room) {
  if ((uint16_t)(queue->added - queue->taken) == QUEUE_SIZE) fail("the queue is full");
  struct queue_memory *memory = queue->memory;
  uint16_t head = queue_next_head(queue);
  struct virtq_desc *table = memory->table[head];
  table[0] = (struct virtq_desc){ram_address(queue->ram, request), length, VIRTQ_DESC_F_NEXT, 1};
  table[1] = (struct virtq_desc){ram_address(queue->ram, answer), room, VIRTQ_DESC_F_WRITE, 0};
  uint64_t table_address = ram_address(queue->ram, table);
  memory->desc[head] =
      (struct virtq_desc){table_address, sizeof memory->table[head], VIRTQ_DESC_F_INDIRECT, 0};
  memory->avail.ring[head] = head;
  queue->added++;
  atomic_store_explicit(&memory->avail.idx, queue->added, memory_order_release);
}

/* 2.7.10: vring_need_event(). */
bool queue_wants_kick(struct queue *queue) {
  atomic_thread_fence(memory_order_seq_cst); /* 2.7.13.4: idx before the look at the device's wish */
  uint16_t event = atomic_load_explicit(&queue->memory->used.avail_event, memory_order_relaxed);
  uint16_t since_event = queue->added - event - 1;
  uint16_t since_kick = queue->added - queue->kicked;
  queue->kicked = queue->added;
  return since_event < since_kick;
}

bool queue_is_idle(const struct queue *queue) {
  return atomic_load_explicit(&queue->memory->used.avail_event, memory_order_acquire) == queue->added;
}

void queue_enable_interrupt(struct queue *queue) {
  atomic_store(&queue->memory->avail.used_event, queue->taken);
}

bool queue_has_used(const struct queue *queue) {
  return atomic_load_explicit(&queue->memory->used.idx, memory_order_acquire) != queue->taken;
}

bool queue_take(struct queue *queue, struct virtq_used_elem *element) {
  if (!queue_has_used(queue)) return false;
  *element = queue->memory->used.ring[queue->taken % QUEUE_SIZE];
  queue->taken++;
  return true;
}
