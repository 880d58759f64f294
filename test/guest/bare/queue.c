#include "queue.h"

#include "memory.h"
#include "ports.h"
#include "report.h"
#include "timer.h"

#define POLLS_PER_TIME_CHECK 256

/* 2.7.8: where the next element of the used ring would be. */
static uint16_t avail_event(const struct queue *queue) {
  return (uint16_t)queue->used.ring[queue->size].id;
}

/* --- set-up --- */

static void program(struct queue *queue) {
  volatile struct virtio_pci_common_cfg *common = queue->device->common;
  common->queue_size = queue->size;
  common->queue_msix_vector = VIRTIO_MSI_NO_VECTOR;
  common->queue_desc_low = (uint32_t)queue->desc;
  common->queue_desc_high = 0;
  common->queue_driver_low = (uint32_t)&queue->avail;
  common->queue_driver_high = 0;
  common->queue_device_low = (uint32_t)&queue->used;
  common->queue_device_high = 0;
  queue->notify_off = common->queue_notify_off;
}

bool queue_set_up(struct queue *queue, struct virtio_device *device, uint16_t index, uint16_t size_limit,
                  uint64_t features) {
  memset(queue, 0, sizeof *queue);
  queue->device = device;
  queue->index = index;
  queue->has_event_idx = (features & FEATURE(VIRTIO_F_EVENT_IDX)) != 0;
  queue->has_indirect = (features & FEATURE(VIRTIO_F_INDIRECT_DESC)) != 0;

  device->common->queue_select = index;
  uint16_t size = device->common->queue_size;
  if (!expect(size != 0, "queue %u has size 0", index)) return false;
  queue->size = size < size_limit ? size : size_limit;
  program(queue);
  if (!expect_equal(device->common->queue_size, queue->size, "queue_size after writing it")) return false;
  if (!queue->has_event_idx) queue->avail.flags = VIRTQ_AVAIL_F_NO_INTERRUPT;
  device->common->queue_enable = 1;
  return expect_equal(device->common->queue_enable, 1, "queue_enable after writing 1");
}

/* --- driver to device --- */

static void fill_descriptors(struct virtq_desc *table, uint16_t first, uint16_t mask,
                             const struct segment *segments, size_t count) {
  for (size_t i = 0; i < count; i++) {
    uint16_t at = (uint16_t)(first + i) & mask;
    bool is_last = i + 1 == count;
    table[at] = (struct virtq_desc){
        .addr = (uint32_t)segments[i].data,
        .len = segments[i].length,
        .flags = (uint16_t)((is_last ? 0 : VIRTQ_DESC_F_NEXT) |
                            (segments[i].is_writable ? VIRTQ_DESC_F_WRITE : 0)),
        .next = is_last ? 0 : (uint16_t)(at + 1) & mask,
    };
  }
}

/* Handed out in rotation: every test takes back all its chains before it makes more than fit. */
static uint16_t add_descriptors(struct queue *queue, const struct segment *segments, size_t count) {
  uint16_t mask = queue->size - 1;
  uint16_t head = queue->next_desc & mask;
  fill_descriptors(queue->desc, head, mask, segments, count);
  queue->next_desc = (uint16_t)(queue->next_desc + count);
  return head;
}

static uint16_t add_indirect(struct queue *queue, const struct segment *segments, size_t count) {
  struct virtq_desc *table = queue->indirect[queue->added % QUEUE_INDIRECT_TABLES];
  fill_descriptors(table, 0, QUEUE_SEGMENTS_MAX - 1, segments, count);
  uint16_t head = queue->next_desc++ & (queue->size - 1);
  queue->desc[head] = (struct virtq_desc){
      .addr = (uint32_t)table,
      .len = (uint32_t)(count * sizeof *table),
      .flags = VIRTQ_DESC_F_INDIRECT,
  };
  return head;
}

uint16_t queue_add(struct queue *queue, const struct segment *segments, size_t count) {
  bool use_indirect = queue->has_indirect && count > 1;
  uint16_t head =
      use_indirect ? add_indirect(queue, segments, count) : add_descriptors(queue, segments, count);
  queue->avail.ring[queue->added & (queue->size - 1)] = head;
  if (queue->has_event_idx && !queue->wants_interrupts) {
    queue->avail.ring[queue->size] = queue->taken - 1; /* 2.7.6: used_event, where the next slot would be */
  }
  compiler_barrier(); /* 2.7.13.3: the ring entry before idx */
  queue->added++;
  queue->avail.idx = queue->added;
  return head;
}

/* 2.7.10: vring_need_event(). */
static bool device_wants_kick(const struct queue *queue) {
  if (!queue->has_event_idx) return !(queue->used.flags & VIRTQ_USED_F_NO_NOTIFY);
  uint16_t since_event = queue->added - avail_event(queue) - 1;
  uint16_t since_kick = queue->added - queue->kicked;
  return since_event < since_kick;
}

void queue_kick_always(struct queue *queue) {
  volatile uint8_t *doorbell = queue->device->notify + queue->notify_off * queue->device->notify_multiplier;
  *(volatile uint16_t *)doorbell = queue->index;
  queue->kicked = queue->added;
}

void queue_kick(struct queue *queue) {
  full_barrier(); /* 2.7.13.4: idx before the look at the device's wish */
  if (device_wants_kick(queue)) queue_kick_always(queue);
  queue->kicked = queue->added;
}

/* --- device to driver --- */

bool queue_has_used(const struct queue *queue) {
  return queue->used.idx != queue->taken;
}

bool queue_take(struct queue *queue, struct virtq_used_elem *element) {
  struct time_limit limit = time_limit_ms(QUEUE_COMMAND_TIMEOUT_MS);
  for (uint32_t polls = 1; !queue_has_used(queue); polls++) {
    if (polls % POLLS_PER_TIME_CHECK == 0 && time_is_up(&limit)) return false;
    __asm__ volatile("pause");
  }
  compiler_barrier();
  *element = queue->used.ring[queue->taken & (queue->size - 1)];
  queue->taken++;
  return true;
}
