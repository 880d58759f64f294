#include "driver.h"

#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define INTERRUPT_TIMEOUT_MS 10000
#define CONTROL_QUEUE 0

/* --- commands --- */

void driver_add_in_place(struct driver *driver, const void *command, uint32_t length) {
  struct queue *queue = &driver->control;
  uint16_t head = queue_next_head(queue);
  uint8_t *answer = queue->memory->answer[head];
  memset(answer, 0, sizeof(struct virtio_gpu_ctrl_hdr));
  const struct virtio_gpu_ctrl_hdr *header = command;
  bool is_map = header->type == VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB;
  driver->expected[head] = is_map ? VIRTIO_GPU_RESP_OK_MAP_INFO : VIRTIO_GPU_RESP_OK_NODATA;
  queue_add(queue, command, length, answer, ANSWER_BYTES);
}

void driver_add(struct driver *driver, const void *command, uint32_t length) {
  struct queue *queue = &driver->control;
  uint8_t *request = queue->memory->request[queue_next_head(queue)];
  if (length > REQUEST_BYTES) fail("request of %u bytes", length);
  memcpy(request, command, length);
  driver_add_in_place(driver, request, length);
}

void driver_kick(struct driver *driver) {
  if (queue_wants_kick(&driver->control))
    vfio_user_write(&driver->connection, driver->doorbell, CONTROL_QUEUE, 2);
}

static void wait_for_interrupt(struct driver *driver) {
  struct pollfd interrupt = {.fd = driver->interrupt, .events = POLLIN};
  int ready = poll(&interrupt, 1, INTERRUPT_TIMEOUT_MS);
  if (ready < 0) fail_errno("poll");
  if (ready == 0) fail("no interrupt within %d ms", INTERRUPT_TIMEOUT_MS);
}

static void acknowledge_interrupt(struct driver *driver) {
  uint64_t signals;
  if (read(driver->interrupt, &signals, sizeof signals) != sizeof signals) fail_errno("eventfd");
}

/* An interrupt that came late for a request of before is not the one waited for. */
static void wait_for_used(struct driver *driver) {
  for (;;) {
    wait_for_interrupt(driver);
    if (queue_has_used(&driver->control)) return;
    acknowledge_interrupt(driver);
  }
}

static void check_answer(const struct driver *driver, const struct virtq_used_elem *element) {
  if (element->id >= QUEUE_SIZE) fail("used element names head %u", element->id);
  struct virtio_gpu_resp_map_info answer;
  memcpy(&answer, driver->control.memory->answer[element->id], sizeof answer);
  bool is_map = driver->expected[element->id] == VIRTIO_GPU_RESP_OK_MAP_INFO;
  size_t length = is_map ? sizeof answer : sizeof answer.hdr;
  if (answer.hdr.type != driver->expected[element->id])
    fail("a command was refused with 0x%x", answer.hdr.type);
  if (element->len != length) fail("answer of %u bytes, expected %zu", element->len, length);
  if (is_map && answer.map_info != VIRTIO_GPU_MAP_CACHE_CACHED)
    fail("a blob is mapped with 0x%x", answer.map_info);
}

/* Takes what is done; true when nothing is left to wait for. */
static bool take_all(struct driver *driver) {
  struct queue *queue = &driver->control;
  struct virtq_used_elem element;
  while (queue_take(queue, &element)) check_answer(driver, &element);
  return queue->taken == queue->added;
}

uint32_t driver_finish(struct driver *driver) {
  for (uint32_t interrupts = 1;; interrupts++) {
    wait_for_used(driver);
    acknowledge_interrupt(driver);
    do {
      if (take_all(driver)) return interrupts;
      queue_enable_interrupt(&driver->control);
    } while (queue_has_used(&driver->control)); /* The device may not have seen that this is wanted. */
  }
}

void driver_command(struct driver *driver, const void *command, uint32_t length) {
  queue_enable_interrupt(&driver->control);
  driver_add(driver, command, length);
  driver_kick(driver);
  driver_finish(driver);
}

void driver_command_in_place(struct driver *driver, const void *command, uint32_t length) {
  queue_enable_interrupt(&driver->control);
  driver_add_in_place(driver, command, length);
  driver_kick(driver);
  driver_finish(driver);
}

static void add_cheap_command(struct driver *driver) {
  struct virtio_gpu_resource_flush flush = {
      .hdr.type = VIRTIO_GPU_CMD_RESOURCE_FLUSH,
      .r = driver->rect,
      .resource_id = driver->resource_id,
  };
  driver_add(driver, &flush, sizeof flush);
}

/* --- measurements --- */

/* A device may finish a request and look for more only later. */
static void wait_until_idle(const struct queue *queue) {
  uint64_t deadline = now_ns() + INTERRUPT_TIMEOUT_MS * 1000000ull;
  while (!queue_is_idle(queue)) {
    if (now_ns() > deadline) fail("the device does not want its doorbell rung");
    sched_yield();
  }
}

static void measure_reads(struct driver *driver, const struct constant_register *constant, uint32_t count) {
  struct samples samples;
  samples_begin(&samples, count);
  for (uint32_t i = 0; i < count; i++) {
    uint64_t start = now_ns();
    uint32_t value = vfio_user_read(&driver->connection, constant->place, 4);
    samples_add(&samples, now_ns() - start);
    if (value != constant->value) fail("register reads 0x%x, then 0x%x", constant->value, value);
  }
  putchar('{');
  samples_print("read", &samples);
  putchar('}');
  samples_end(&samples);
}

static void measure_doorbells(struct driver *driver, bool is_answered, uint32_t count) {
  struct samples until_answer, until_interrupt;
  samples_begin(&until_answer, count);
  samples_begin(&until_interrupt, count);
  for (uint32_t i = 0; i < count; i++) {
    wait_until_idle(&driver->control);
    queue_enable_interrupt(&driver->control);
    add_cheap_command(driver);
    if (!queue_wants_kick(&driver->control)) fail("an idle device does not want its doorbell rung");
    uint64_t start = now_ns();
    if (is_answered) {
      vfio_user_write(&driver->connection, driver->doorbell, CONTROL_QUEUE, 2);
      samples_add(&until_answer, now_ns() - start);
    } else {
      vfio_user_post(&driver->connection, driver->doorbell, CONTROL_QUEUE, 2);
    }
    wait_for_used(driver);
    samples_add(&until_interrupt, now_ns() - start);
    driver_finish(driver);
  }
  putchar('{');
  if (is_answered) {
    samples_print("answer", &until_answer);
    putchar(',');
  }
  samples_print("interrupt", &until_interrupt);
  putchar('}');
  samples_end(&until_answer);
  samples_end(&until_interrupt);
}

static void measure_commands(struct driver *driver, uint32_t batch, uint32_t count) {
  if (batch < 1 || batch > QUEUE_SIZE) fail("batch of %u in a queue of %u", batch, QUEUE_SIZE);
  struct samples samples;
  samples_begin(&samples, count);
  uint64_t interrupts = 0;
  uint64_t begin = now_ns();
  for (uint32_t i = 0; i < count; i++) {
    uint64_t start = now_ns();
    queue_enable_interrupt(&driver->control);
    for (uint32_t j = 0; j < batch; j++) add_cheap_command(driver);
    driver_kick(driver);
    interrupts += driver_finish(driver);
    samples_add(&samples, now_ns() - start);
  }
  double seconds = (double)(now_ns() - begin) / 1e9;
  printf("{\"perSecond\":%.1f,\"interrupts\":%" PRIu64 ",", (double)batch * count / seconds, interrupts);
  samples_print("batch", &samples);
  putchar('}');
  samples_end(&samples);
}

/* --- orders --- */

static const struct constant_register *register_of(const struct driver *driver, const char *name) {
  if (strcmp(name, "config") == 0) return &driver->config_space;
  if (strcmp(name, "common") == 0) return &driver->common_config;
  if (strcmp(name, "device") == 0) return &driver->device_config;
  fail("no register %s", name);
}

bool driver_obey(struct driver *driver, const struct order *order) {
  if (order_is(order, "cpu")) {
    stay_on_cpu((int)order_number(order, 1));
    printf("{}");
  } else if (order_is(order, "read")) {
    measure_reads(driver, register_of(driver, order_word(order, 1)), order_number(order, 2));
  } else if (order_is(order, "doorbell")) {
    measure_doorbells(driver, strcmp(order_word(order, 1), "answered") == 0, order_number(order, 2));
  } else if (order_is(order, "commands")) {
    measure_commands(driver, order_number(order, 1), order_number(order, 2));
  } else {
    return false;
  }
  order_answered();
  return true;
}
