/*
 * The client side of vfio-user (docs/interop/vfio-user.rst of QEMU), as far as a driver needs it. One request
 * at a time; one system call sends it, one takes the answer. Any answer but success ends the program.
 */
#ifndef BENCH_VFIO_USER_H
#define BENCH_VFIO_USER_H

#include <stddef.h>
#include <stdint.h>

#include "ram.h"

enum vfio_user_command {
  VFIO_USER_VERSION = 1,
  VFIO_USER_DMA_MAP = 2,
  VFIO_USER_DEVICE_GET_REGION_INFO = 5,
  VFIO_USER_DEVICE_SET_IRQS = 8,
  VFIO_USER_REGION_READ = 9,
  VFIO_USER_REGION_WRITE = 10,
};

#define VFIO_USER_REPLY 0x1u
#define VFIO_USER_NO_REPLY 0x10u

struct vfio_user_header {
  uint16_t id;
  uint16_t command;
  uint32_t size;
  uint32_t flags;
  uint32_t error;
};
_Static_assert(sizeof(struct vfio_user_header) == 16, "vfio_user_header");

struct vfio_user_region_access {
  uint64_t offset;
  uint32_t region;
  uint32_t count;
};
_Static_assert(sizeof(struct vfio_user_region_access) == 16, "vfio_user_region_access");

#define REGISTER_BYTES_MAX 8

/* A REGION_READ or REGION_WRITE, or the answer to one. Only as much of the data travels as `count` says. */
struct vfio_user_access_message {
  struct vfio_user_header header;
  struct vfio_user_region_access access;
  uint8_t data[REGISTER_BYTES_MAX];
};
#define VFIO_USER_ACCESS_BYTES 32u
_Static_assert(offsetof(struct vfio_user_access_message, data) == VFIO_USER_ACCESS_BYTES, "access message");

#define VFIO_PCI_CONFIG_REGION 7u
#define VFIO_PCI_MSIX_IRQ 2u

struct connection {
  int socket;
  uint16_t next_id;
};

/* A register, or the start of a block of them. */
struct place {
  uint32_t region;
  uint64_t offset;
};

/* Connects and does the VERSION exchange. */
struct connection vfio_user_connect(const char *path);
void vfio_user_map_ram(struct connection *connection, const struct ram *ram);
/* Maps all of a region whose file the server hands out. */
struct file_window vfio_user_map_region(struct connection *connection, uint32_t region);
/* Vector i is signalled through eventfd i. */
void vfio_user_set_vectors(struct connection *connection, const int *eventfds, uint32_t count);

uint32_t vfio_user_read(struct connection *connection, struct place place, uint32_t width);
void vfio_user_write(struct connection *connection, struct place place, uint32_t value, uint32_t width);
/* A write that the server does not answer, as QEMU sends to a device without mappable BARs. */
void vfio_user_post(struct connection *connection, struct place place, uint32_t value, uint32_t width);

#endif
