/*
 * The virtio-pci transport (virtio 1.3, 4.1): capabilities, common configuration, feature negotiation.
 */
#ifndef BARE_VIRTIO_H
#define BARE_VIRTIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pci.h"

/* 4.1.4: cfg_type of a capability. */
#define VIRTIO_PCI_CAP_COMMON_CFG 1
#define VIRTIO_PCI_CAP_NOTIFY_CFG 2
#define VIRTIO_PCI_CAP_ISR_CFG 3
#define VIRTIO_PCI_CAP_DEVICE_CFG 4
#define VIRTIO_PCI_CAP_PCI_CFG 5
#define VIRTIO_PCI_CAP_SHARED_MEMORY_CFG 8

/* Offsets inside struct virtio_pci_cap and its extensions. */
#define VIRTIO_PCI_CAP_LEN 2
#define VIRTIO_PCI_CAP_CFG_TYPE 3
#define VIRTIO_PCI_CAP_BAR 4
#define VIRTIO_PCI_CAP_ID 5
#define VIRTIO_PCI_CAP_OFFSET 8
#define VIRTIO_PCI_CAP_LENGTH 12
#define VIRTIO_PCI_NOTIFY_CAP_MULT 16
#define VIRTIO_PCI_CFG_DATA 16
#define VIRTIO_PCI_CAP64_OFFSET_HI 16
#define VIRTIO_PCI_CAP64_LENGTH_HI 20

#define VIRTIO_PCI_CAP_BYTES 16
#define VIRTIO_PCI_NOTIFY_CAP_BYTES 20
#define VIRTIO_PCI_CFG_CAP_BYTES 20
#define VIRTIO_PCI_CAP64_BYTES 24

/* 4.1.4.3: struct virtio_pci_common_cfg; the addresses are accessed by halves. */
struct virtio_pci_common_cfg {
  uint32_t device_feature_select;
  uint32_t device_feature;
  uint32_t driver_feature_select;
  uint32_t driver_feature;
  uint16_t config_msix_vector;
  uint16_t num_queues;
  uint8_t device_status;
  uint8_t config_generation;
  uint16_t queue_select;
  uint16_t queue_size;
  uint16_t queue_msix_vector;
  uint16_t queue_enable;
  uint16_t queue_notify_off;
  uint32_t queue_desc_low, queue_desc_high;
  uint32_t queue_driver_low, queue_driver_high;
  uint32_t queue_device_low, queue_device_high;
};
_Static_assert(sizeof(struct virtio_pci_common_cfg) == 56, "virtio_pci_common_cfg");

#define VIRTIO_MSI_NO_VECTOR 0xffff
#define VIRTIO_PCI_ISR_QUEUE 0x1

/* 2.1 */
#define VIRTIO_STATUS_ACKNOWLEDGE 1
#define VIRTIO_STATUS_DRIVER 2
#define VIRTIO_STATUS_DRIVER_OK 4
#define VIRTIO_STATUS_FEATURES_OK 8
#define VIRTIO_STATUS_DEVICE_NEEDS_RESET 64

/* Clause 6, as bit numbers. */
#define VIRTIO_F_INDIRECT_DESC 28
#define VIRTIO_F_EVENT_IDX 29
#define VIRTIO_F_BAD_FEATURE 30
#define VIRTIO_F_VERSION_1 32
#define VIRTIO_F_ACCESS_PLATFORM 33
#define VIRTIO_F_RING_PACKED 34
#define VIRTIO_F_IN_ORDER 35
#define VIRTIO_F_NOTIFICATION_DATA 38
#define VIRTIO_F_ADMIN_VQ 41
#define VIRTIO_F_SUSPEND 43

#define FEATURE(bit) (1ull << (bit))

/* One virtio capability; `at` 0 means that there is none. */
struct virtio_cap {
  uint32_t at;
  uint8_t bytes;
  uint8_t bar;
  uint8_t id;
  uint64_t offset;
  uint64_t length;
};

struct virtio_device {
  pci_function function;
  struct pci_bar bars[PCI_BARS];
  struct virtio_cap common_cap, notify_cap, isr_cap, device_cap, pci_cfg_cap;
  uint32_t notify_multiplier;
  volatile struct virtio_pci_common_cfg *common;
  volatile uint8_t *notify;
  volatile uint8_t *isr;
  volatile uint8_t *config;
  uint64_t offered;
};

/* Calls `visit` for every virtio capability in list order. */
void virtio_each_capability(pci_function function,
                            void (*visit)(uint8_t type, const struct virtio_cap *cap, void *context),
                            void *context);

/* Finds the structures and makes them reachable. When one is missing: false, and the test has failed. */
bool virtio_attach(struct virtio_device *device, pci_function function);

/* Writes 0 to device_status. The device answers 0 at once when it resets synchronously. */
void virtio_reset(struct virtio_device *device);
uint64_t virtio_offered_features(struct virtio_device *device);
void virtio_write_features(struct virtio_device *device, uint64_t features);
void virtio_add_status(struct virtio_device *device, uint8_t bits);

/* 3.1.1, steps 1 to 6: reset, ACKNOWLEDGE, DRIVER, features, FEATURES_OK. True when the device agrees. */
bool virtio_negotiate(struct virtio_device *device, uint64_t features);

#endif
