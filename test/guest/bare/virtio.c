#include "virtio.h"

#include "report.h"

/* --- capabilities --- */

static struct virtio_cap read_capability(pci_function function, uint32_t at) {
  struct virtio_cap cap = {
      .at = at,
      .bytes = pci_read8(function, at + VIRTIO_PCI_CAP_LEN),
      .bar = pci_read8(function, at + VIRTIO_PCI_CAP_BAR),
      .id = pci_read8(function, at + VIRTIO_PCI_CAP_ID),
      .offset = pci_read32(function, at + VIRTIO_PCI_CAP_OFFSET),
      .length = pci_read32(function, at + VIRTIO_PCI_CAP_LENGTH),
  };
  if (pci_read8(function, at + VIRTIO_PCI_CAP_CFG_TYPE) == VIRTIO_PCI_CAP_SHARED_MEMORY_CFG) {
    cap.offset |= (uint64_t)pci_read32(function, at + VIRTIO_PCI_CAP64_OFFSET_HI) << 32;
    cap.length |= (uint64_t)pci_read32(function, at + VIRTIO_PCI_CAP64_LENGTH_HI) << 32;
  }
  return cap;
}

void virtio_each_capability(pci_function function,
                            void (*visit)(uint8_t type, const struct virtio_cap *cap, void *context),
                            void *context) {
  uint32_t at = 0;
  while ((at = pci_find_capability(function, PCI_CAP_ID_VNDR, at)) != 0) {
    struct virtio_cap cap = read_capability(function, at);
    visit(pci_read8(function, at + VIRTIO_PCI_CAP_CFG_TYPE), &cap, context);
  }
}

/* 4.1.4.1: the first capability of a type wins; one that names a reserved BAR is ignored. */
static void keep_capability(uint8_t type, const struct virtio_cap *cap, void *context) {
  struct virtio_device *device = context;
  struct virtio_cap *slot = NULL;
  switch (type) {
    case VIRTIO_PCI_CAP_COMMON_CFG: slot = &device->common_cap; break;
    case VIRTIO_PCI_CAP_NOTIFY_CFG: slot = &device->notify_cap; break;
    case VIRTIO_PCI_CAP_ISR_CFG: slot = &device->isr_cap; break;
    case VIRTIO_PCI_CAP_DEVICE_CFG: slot = &device->device_cap; break;
    case VIRTIO_PCI_CAP_PCI_CFG: slot = &device->pci_cfg_cap; break;
    default: return;
  }
  if (slot->at == 0 && (cap->bar < PCI_BARS || type == VIRTIO_PCI_CAP_PCI_CFG)) *slot = *cap;
}

static volatile void *map_structure(struct virtio_device *device, const struct virtio_cap *cap,
                                    const char *name) {
  if (!expect(cap->at != 0, "no %s capability", name)) return NULL;
  struct pci_bar *bar = &device->bars[cap->bar];
  volatile void *at = pci_bar_pointer(bar, cap->offset);
  expect(at != NULL, "%s structure in BAR %u is out of reach (0x%llx)", name, cap->bar, bar->address);
  return at;
}

static void probe_bars(struct virtio_device *device) {
  for (uint8_t index = 0; index < PCI_BARS; index++) {
    device->bars[index] = pci_probe_bar(device->function, index);
    if (device->bars[index].is_64_bit) index++;
  }
}

bool virtio_attach(struct virtio_device *device, pci_function function) {
  *device = (struct virtio_device){.function = function};
  probe_bars(device);
  pci_write16(function, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
  virtio_each_capability(function, keep_capability, device);
  device->notify_multiplier = pci_read32(function, device->notify_cap.at + VIRTIO_PCI_NOTIFY_CAP_MULT);
  device->common = map_structure(device, &device->common_cap, "COMMON");
  device->notify = map_structure(device, &device->notify_cap, "NOTIFY");
  device->isr = map_structure(device, &device->isr_cap, "ISR");
  device->config = map_structure(device, &device->device_cap, "DEVICE");
  if (!device->common || !device->notify || !device->isr || !device->config) return false;
  device->offered = virtio_offered_features(device);
  return true;
}

/* --- initialisation --- */

void virtio_reset(struct virtio_device *device) {
  device->common->device_status = 0;
}

uint64_t virtio_offered_features(struct virtio_device *device) {
  device->common->device_feature_select = 0;
  uint64_t features = device->common->device_feature;
  device->common->device_feature_select = 1;
  return features | (uint64_t)device->common->device_feature << 32;
}

void virtio_write_features(struct virtio_device *device, uint64_t features) {
  device->common->driver_feature_select = 0;
  device->common->driver_feature = (uint32_t)features;
  device->common->driver_feature_select = 1;
  device->common->driver_feature = (uint32_t)(features >> 32);
}

void virtio_add_status(struct virtio_device *device, uint8_t bits) {
  device->common->device_status = device->common->device_status | bits;
}

bool virtio_negotiate(struct virtio_device *device, uint64_t features) {
  virtio_reset(device);
  virtio_add_status(device, VIRTIO_STATUS_ACKNOWLEDGE);
  virtio_add_status(device, VIRTIO_STATUS_DRIVER);
  virtio_write_features(device, features);
  virtio_add_status(device, VIRTIO_STATUS_FEATURES_OK);
  return (device->common->device_status & VIRTIO_STATUS_FEATURES_OK) != 0;
}
