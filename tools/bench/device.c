#include "device.h"

#include <sys/eventfd.h>

/* --- PCI and virtio-pci, what is needed of it --- */

#define PCI_VENDOR_ID 0x00
#define PCI_COMMAND 0x04
#define PCI_COMMAND_MEMORY_AND_MASTER 0x6
#define PCI_CAPABILITY_LIST 0x34
#define PCI_CAP_NEXT 1
#define PCI_CAP_ID_VNDR 0x09
#define PCI_CAP_ID_MSIX 0x11
#define PCI_MSIX_FLAGS 2
#define PCI_MSIX_FLAGS_ENABLE 0x8000u
#define VIRTIO_GPU_PCI_ID 0x10501af4u

#define VIRTIO_PCI_CAP_COMMON_CFG 1
#define VIRTIO_PCI_CAP_NOTIFY_CFG 2
#define VIRTIO_PCI_CAP_DEVICE_CFG 4
#define VIRTIO_PCI_CAP_SHARED_MEMORY_CFG 8
#define VIRTIO_PCI_CAP_TYPES 9
#define VIRTIO_PCI_CAP_CFG_TYPE 3
#define VIRTIO_PCI_CAP_BAR 4
#define VIRTIO_PCI_CAP_OFFSET 8
#define VIRTIO_PCI_NOTIFY_CAP_MULT 16

enum common_config {
  DEVICE_FEATURE_SELECT = 0x00,
  DEVICE_FEATURE = 0x04,
  DRIVER_FEATURE_SELECT = 0x08,
  DRIVER_FEATURE = 0x0c,
  CONFIG_MSIX_VECTOR = 0x10,
  DEVICE_STATUS = 0x14,
  QUEUE_SELECT = 0x16,
  QUEUE_SIZE_REGISTER = 0x18,
  QUEUE_MSIX_VECTOR = 0x1a,
  QUEUE_ENABLE = 0x1c,
  QUEUE_NOTIFY_OFF = 0x1e,
  QUEUE_DESC = 0x20,
  QUEUE_DRIVER = 0x28,
  QUEUE_DEVICE = 0x30,
};

#define STATUS_ACKNOWLEDGE 1u
#define STATUS_DRIVER 2u
#define STATUS_DRIVER_OK 4u
#define STATUS_FEATURES_OK 8u

/* Bits of the lower and the upper feature word. */
#define FEATURE_GPU_VIRGL (1u << 0)
#define FEATURE_GPU_RESOURCE_BLOB (1u << 3)
#define FEATURE_GPU_CONTEXT_INIT (1u << 4)
#define FEATURE_INDIRECT_DESC (1u << 28)
#define FEATURE_EVENT_IDX (1u << 29)
#define FEATURE_VERSION_1 (1u << 0)

#define DEVICE_CONFIG_NUM_SCANOUTS 8

enum { CONFIG_VECTOR, CONTROL_VECTOR, VECTORS };
#define CONTROL_QUEUE 0

struct structures {
  struct place common;
  struct place notify;
  struct place device;
  struct place window;
  uint32_t notify_multiplier;
};

static struct place at(struct place block, uint64_t offset) {
  return (struct place){block.region, block.offset + offset};
}

static struct place config_space(uint64_t offset) {
  return (struct place){VFIO_PCI_CONFIG_REGION, offset};
}

/* --- bring-up --- */

static void enable_msix(struct connection *connection, uint32_t capability) {
  struct place control = config_space(capability + PCI_MSIX_FLAGS);
  vfio_user_write(connection, control, vfio_user_read(connection, control, 2) | PCI_MSIX_FLAGS_ENABLE, 2);
}

/* Walks the capability list: switches MSI-X on, returns where the virtio structures are. */
static struct structures find_structures(struct connection *connection) {
  struct place found[VIRTIO_PCI_CAP_TYPES] = {0};
  uint32_t notify_multiplier = 0;
  uint32_t next = vfio_user_read(connection, config_space(PCI_CAPABILITY_LIST), 1);
  for (uint32_t cap = next; cap != 0; cap = vfio_user_read(connection, config_space(cap + PCI_CAP_NEXT), 1)) {
    uint32_t id = vfio_user_read(connection, config_space(cap), 1);
    if (id == PCI_CAP_ID_MSIX) enable_msix(connection, cap);
    if (id != PCI_CAP_ID_VNDR) continue;
    uint32_t type = vfio_user_read(connection, config_space(cap + VIRTIO_PCI_CAP_CFG_TYPE), 1);
    if (type >= VIRTIO_PCI_CAP_TYPES) continue;
    found[type].region = vfio_user_read(connection, config_space(cap + VIRTIO_PCI_CAP_BAR), 1);
    found[type].offset = vfio_user_read(connection, config_space(cap + VIRTIO_PCI_CAP_OFFSET), 4);
    if (type == VIRTIO_PCI_CAP_NOTIFY_CFG)
      notify_multiplier = vfio_user_read(connection, config_space(cap + VIRTIO_PCI_NOTIFY_CAP_MULT), 4);
  }
  if (notify_multiplier == 0) fail("the device has no doorbells");
  return (struct structures){
      .common = found[VIRTIO_PCI_CAP_COMMON_CFG],
      .notify = found[VIRTIO_PCI_CAP_NOTIFY_CFG],
      .device = found[VIRTIO_PCI_CAP_DEVICE_CFG],
      .window = found[VIRTIO_PCI_CAP_SHARED_MEMORY_CFG],
      .notify_multiplier = notify_multiplier,
  };
}

/* 3.1.1, up to FEATURES_OK. */
static void negotiate(struct connection *connection, struct place common) {
  vfio_user_write(connection, at(common, DEVICE_STATUS), 0, 1);
  vfio_user_write(connection, at(common, DEVICE_STATUS), STATUS_ACKNOWLEDGE | STATUS_DRIVER, 1);
  /* Those of the device itself where it offers them, as Linux does; the others it must have. */
  vfio_user_write(connection, at(common, DEVICE_FEATURE_SELECT), 0, 4);
  uint32_t offered = vfio_user_read(connection, at(common, DEVICE_FEATURE), 4);
  uint32_t blobs = FEATURE_GPU_VIRGL | FEATURE_GPU_RESOURCE_BLOB | FEATURE_GPU_CONTEXT_INIT;
  const uint32_t features[] = {
      FEATURE_INDIRECT_DESC | FEATURE_EVENT_IDX | (offered & blobs),
      FEATURE_VERSION_1,
  };
  for (uint32_t word = 0; word < 2; word++) {
    vfio_user_write(connection, at(common, DRIVER_FEATURE_SELECT), word, 4);
    vfio_user_write(connection, at(common, DRIVER_FEATURE), features[word], 4);
  }
  uint32_t agreed = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK;
  vfio_user_write(connection, at(common, DEVICE_STATUS), agreed, 1);
  if (vfio_user_read(connection, at(common, DEVICE_STATUS), 1) != agreed) fail("FEATURES_OK was refused");
}

static void write_address(struct connection *connection, struct place reg, uint64_t address) {
  vfio_user_write(connection, reg, (uint32_t)address, 4);
  vfio_user_write(connection, at(reg, 4), (uint32_t)(address >> 32), 4);
}

/* Returns its doorbell. */
static struct place enable_queue(struct connection *connection, const struct structures *structures,
                                 const struct queue *queue) {
  struct place common = structures->common;
  const struct queue_memory *memory = queue->memory;
  vfio_user_write(connection, at(common, QUEUE_SELECT), CONTROL_QUEUE, 2);
  vfio_user_write(connection, at(common, QUEUE_SIZE_REGISTER), QUEUE_SIZE, 2);
  write_address(connection, at(common, QUEUE_DESC), ram_address(queue->ram, memory->desc));
  write_address(connection, at(common, QUEUE_DRIVER), ram_address(queue->ram, &memory->avail));
  write_address(connection, at(common, QUEUE_DEVICE), ram_address(queue->ram, &memory->used));
  vfio_user_write(connection, at(common, QUEUE_MSIX_VECTOR), CONTROL_VECTOR, 2);
  if (vfio_user_read(connection, at(common, QUEUE_MSIX_VECTOR), 2) != CONTROL_VECTOR) fail("no vector");
  uint32_t notify_off = vfio_user_read(connection, at(common, QUEUE_NOTIFY_OFF), 2);
  vfio_user_write(connection, at(common, QUEUE_ENABLE), 1, 2);
  return at(structures->notify, (uint64_t)notify_off * structures->notify_multiplier);
}

static struct constant_register constant(struct connection *connection, struct place place) {
  return (struct constant_register){place, vfio_user_read(connection, place, 4)};
}

struct driver device_bring_up(const char *path, struct ram *ram) {
  struct driver driver = {.connection = vfio_user_connect(path), .control = queue_make(ram)};
  struct connection *connection = &driver.connection;
  vfio_user_map_ram(connection, ram);
  int eventfds[VECTORS];
  for (int i = 0; i < VECTORS; i++) {
    eventfds[i] = eventfd(0, EFD_CLOEXEC);
    if (eventfds[i] < 0) fail_errno("eventfd");
  }
  vfio_user_set_vectors(connection, eventfds, VECTORS);
  driver.interrupt = eventfds[CONTROL_VECTOR];

  driver.config_space = constant(connection, config_space(PCI_VENDOR_ID));
  if (driver.config_space.value != VIRTIO_GPU_PCI_ID)
    fail("device 0x%x is no virtio-gpu", driver.config_space.value);
  vfio_user_write(connection, config_space(PCI_COMMAND), PCI_COMMAND_MEMORY_AND_MASTER, 2);
  struct structures structures = find_structures(connection);
  negotiate(connection, structures.common);
  vfio_user_write(connection, at(structures.common, CONFIG_MSIX_VECTOR), CONFIG_VECTOR, 2);
  driver.doorbell = enable_queue(connection, &structures, &driver.control);
  uint32_t running = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK;
  vfio_user_write(connection, at(structures.common, DEVICE_STATUS), running, 1);
  if (vfio_user_read(connection, at(structures.common, DEVICE_STATUS), 1) != running)
    fail("DRIVER_OK was refused");
  vfio_user_write(connection, at(structures.common, DEVICE_FEATURE_SELECT), 0, 4);
  driver.common_config = constant(connection, at(structures.common, DEVICE_FEATURE));
  driver.device_config = constant(connection, at(structures.device, DEVICE_CONFIG_NUM_SCANOUTS));
  if (driver.device_config.value == 0) fail("the device has no scanouts");
  driver.window = structures.window;
  return driver;
}
