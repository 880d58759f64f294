/*
 * The driver whose waiting is measured. It neither knows nor cares what answers at the other end of its
 * socket: the server, or the least that C can do (floor.c). Each answer is checked.
 */
#ifndef BENCH_DRIVER_H
#define BENCH_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gpu.h"
#include "measure.h"
#include "queue.h"
#include "vfio-user.h"

/* A register of 4 bytes that reads the same every time. */
struct constant_register {
  struct place place;
  uint32_t value;
};

struct driver {
  struct connection connection;
  struct queue control;
  /* Where the control queue's interrupts arrive. */
  int interrupt;
  struct place doorbell;
  struct constant_register config_space;
  struct constant_register common_config;
  struct constant_register device_config;
  /* The host-visible window, which does not begin with region 0 where there is one. */
  struct place window;
  /* What RESOURCE_FLUSH names when only its cost as a command matters. */
  uint32_t resource_id;
  struct virtio_gpu_rect rect;
  /* By head: which answer is a good one. */
  uint32_t expected[QUEUE_SIZE];
};

/* Makes a command available; only MAP_BLOB may have an answer with data. */
void driver_add(struct driver *driver, const void *command, uint32_t length);
/* The same for one that lies in guest RAM already, of any length. */
void driver_add_in_place(struct driver *driver, const void *command, uint32_t length);
/* Rings the doorbell and takes the answer to that. */
void driver_kick(struct driver *driver);
/* Waits by interrupts until every command was done, and checks how. Returns the number of interrupts. */
uint32_t driver_finish(struct driver *driver);
/* All three, for one command. */
void driver_command(struct driver *driver, const void *command, uint32_t length);
void driver_command_in_place(struct driver *driver, const void *command, uint32_t length);

/*
 * Carries out an order that every driver understands, and prints the figures, which are nanoseconds:
 *
 *   cpu N                              stays on CPU N from now on
 *   read config|common|device COUNT    reads a register
 *   doorbell answered|posted COUNT     one command each time: until the doorbell's answer, and the interrupt
 *   commands BATCH COUNT               COUNT batches of commands, one doorbell each
 *
 * False for any other order.
 */
bool driver_obey(struct driver *driver, const struct order *order);

#endif
