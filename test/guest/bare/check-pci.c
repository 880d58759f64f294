/* What enumeration sees: identity, configuration space, capabilities, BARs. reference/virtio-gpu.md, 1. */
#include "check.h"
#include "memory.h"
#include "report.h"

#define CLASS_DISPLAY_OTHER 0x0380
#define SUBSYSTEM_ID_MODERN_MIN 0x40 /* virtio 1.3, 4.1.2.1 */
#define MEMORY_BAR_MIN 16

/* MSI-X capability (PCI 3.0, 6.8.2). */
#define MSIX_CONTROL 2
#define MSIX_CONTROL_SIZE_MASK 0x07ff
#define MSIX_CONTROL_FUNCTION_MASK 0x4000
#define MSIX_CONTROL_ENABLE 0x8000
#define MSIX_TABLE 4
#define MSIX_PBA 8
#define MSIX_BIR_MASK 0x7u
#define MSIX_ENTRY_BYTES 16
#define MSIX_VECTORS (GPU_QUEUES + 1)

/* PM capability (PCI Power Management 1.2, 3.2). */
#define PM_CONTROL 4
#define PM_CONTROL_STATE_MASK 0x0003
#define PM_CONTROL_NO_SOFT_RESET 0x0008
#define PM_STATE_D0 0
#define PM_STATE_D3HOT 3

static void test_identity(struct gpu *gpu) {
  pci_function function = gpu->device.function;
  expect_equal(pci_read16(function, PCI_VENDOR_ID), VIRTIO_VENDOR_ID, "vendor id");
  expect_equal(pci_read16(function, PCI_DEVICE_ID), VIRTIO_GPU_DEVICE_ID, "device id");
  expect(pci_read8(function, PCI_REVISION_ID) >= 1, "revision 0 is for transitional devices");
  expect_choice_equal(pci_read16(function, PCI_CLASS_DEVICE), CLASS_DISPLAY_OTHER, "class");
  expect_equal(pci_read8(function, PCI_CLASS_PROG), 0, "programming interface");
  expect_equal(pci_read8(function, PCI_HEADER_TYPE) & PCI_HEADER_TYPE_MASK, 0, "header type");
  expect(pci_read16(function, PCI_SUBSYSTEM_ID) >= SUBSYSTEM_ID_MODERN_MIN, "subsystem id below 0x40");
  expect_choice_equal(pci_read16(function, PCI_SUBSYSTEM_VENDOR_ID), VIRTIO_VENDOR_ID, "subsystem vendor id");
  expect_choice_equal(pci_read8(function, PCI_INTERRUPT_PIN), 0, "interrupt pin");
}

/* Every dword in one, two and four pieces. The data field of PCI_CFG is left alone: it reads a register. */
static void test_config_widths(struct gpu *gpu) {
  pci_function function = gpu->device.function;
  uint32_t window = gpu->device.pci_cfg_cap.at + VIRTIO_PCI_CFG_DATA;
  for (uint32_t at = 0; at < PCI_CONFIG_BYTES; at += 4) {
    if (at == window) continue;
    uint32_t whole = pci_read32(function, at);
    uint32_t words = pci_read16(function, at) | (uint32_t)pci_read16(function, at + 2) << 16;
    uint32_t bytes = 0;
    for (uint32_t i = 0; i < 4; i++) bytes |= (uint32_t)pci_read8(function, at + i) << 8 * i;
    expect(words == whole, "0x%02x is 0x%08x by words, 0x%08x as a whole", at, words, whole);
    expect(bytes == whole, "0x%02x is 0x%08x by bytes, 0x%08x as a whole", at, bytes, whole);
  }
}

static void expect_read_only(pci_function function, uint32_t at) {
  uint32_t before = pci_read32(function, at);
  pci_write32(function, at, ~before);
  expect(pci_read32(function, at) == before, "0x%02x can be written", at);
}

static void test_config_read_only(struct gpu *gpu) {
  pci_function function = gpu->device.function;
  expect_read_only(function, PCI_VENDOR_ID);
  expect_read_only(function, PCI_REVISION_ID);
  expect_read_only(function, PCI_SUBSYSTEM_VENDOR_ID);
  expect_read_only(function, PCI_CAPABILITY_LIST);
  expect_read_only(function, gpu->device.common_cap.at);
  expect_read_only(function, gpu->device.common_cap.at + VIRTIO_PCI_CAP_BAR);
}

static void test_command_register(struct gpu *gpu) {
  pci_function function = gpu->device.function;
  const uint16_t on = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE;
  const uint16_t looked_at = on | PCI_COMMAND_IO;
  pci_write16(function, PCI_COMMAND, 0);
  expect_equal(pci_read16(function, PCI_COMMAND) & looked_at, 0, "command register after 0");
  pci_write16(function, PCI_COMMAND, on);
  expect_equal(pci_read16(function, PCI_COMMAND) & looked_at, on, "command register");
}

static void test_capability_list(struct gpu *gpu) {
  pci_function function = gpu->device.function;
  expect(pci_read16(function, PCI_STATUS) & PCI_STATUS_CAP_LIST, "no capability list bit");
  uint32_t at = pci_read8(function, PCI_CAPABILITY_LIST);
  uint32_t left = (PCI_CONFIG_BYTES - PCI_STD_HEADER_BYTES) / 4;
  for (; at != 0 && left > 0; left--) {
    if (!expect(at >= PCI_STD_HEADER_BYTES && at % 4 == 0, "capability at 0x%02x", at)) return;
    at = pci_read8(function, at + 1);
  }
  expect(at == 0, "the list does not end");
}

/* --- virtio capabilities --- */

static void expect_structure(struct gpu *gpu, const struct virtio_cap *cap, const char *name,
                             uint32_t cap_bytes, uint32_t alignment, uint64_t length_min) {
  if (!expect(cap->at != 0, "no %s capability", name)) return;
  const struct pci_bar *bar = &gpu->device.bars[cap->bar];
  expect(cap->bytes >= cap_bytes, "cap_len of %s is %u", name, cap->bytes);
  expect((cap->offset & (alignment - 1)) == 0, "offset of %s is 0x%llx", name, cap->offset);
  expect(cap->length >= length_min, "length of %s is %llx", name, cap->length);
  expect(cap->offset + cap->length <= bar->size, "%s ends outside BAR %u", name, cap->bar);
}

/* 4.1.4.4.1: room for the doorbell of every queue. */
static uint64_t notify_bytes(struct gpu *gpu) {
  uint64_t bytes = 0;
  for (uint16_t index = 0; index < GPU_QUEUES; index++) {
    gpu->device.common->queue_select = index;
    uint64_t end = (uint64_t)gpu->device.common->queue_notify_off * gpu->device.notify_multiplier + 2;
    if (end > bytes) bytes = end;
  }
  return bytes;
}

static void test_virtio_capabilities(struct gpu *gpu) {
  const struct virtio_device *device = &gpu->device;
  uint32_t multiplier = device->notify_multiplier;
  expect_structure(gpu, &device->common_cap, "COMMON", VIRTIO_PCI_CAP_BYTES, 4, sizeof *device->common);
  expect_structure(gpu, &device->notify_cap, "NOTIFY", VIRTIO_PCI_NOTIFY_CAP_BYTES, 2, notify_bytes(gpu));
  expect_structure(gpu, &device->isr_cap, "ISR", VIRTIO_PCI_CAP_BYTES, 1, 1);
  expect_structure(gpu, &device->device_cap, "DEVICE", VIRTIO_PCI_CAP_BYTES, 4,
                   sizeof(struct virtio_gpu_config));
  expect((multiplier & (multiplier - 1)) == 0 && multiplier != 1, "notify multiplier is %u", multiplier);
  expect_choice(multiplier != 0, "both queues share a doorbell");
  expect(device->pci_cfg_cap.at != 0, "no PCI_CFG capability");
  expect(device->pci_cfg_cap.bytes >= VIRTIO_PCI_CFG_CAP_BYTES, "cap_len of PCI_CFG");
}

static void expect_msix_area(struct gpu *gpu, uint32_t value, uint32_t bytes, const char *name) {
  const struct pci_bar *bar = &gpu->device.bars[(value & MSIX_BIR_MASK) % PCI_BARS];
  uint32_t offset = value & ~MSIX_BIR_MASK;
  expect((value & MSIX_BIR_MASK) < PCI_BARS && offset + bytes <= bar->size, "%s outside its BAR (0x%08x)",
         name, value);
  /* cloud-hypervisor doubles the BAR and moves a table that does not begin a page. */
  expect_choice(offset % PAGE_BYTES == 0, "%s at 0x%x does not begin a page", name, offset);
}

static void test_msix(struct gpu *gpu) {
  pci_function function = gpu->device.function;
  uint32_t at = pci_find_capability(function, PCI_CAP_ID_MSIX, 0);
  if (!expect_choice(at != 0, "no MSI-X capability")) return;
  uint16_t control = pci_read16(function, at + MSIX_CONTROL);
  uint32_t vectors = (control & MSIX_CONTROL_SIZE_MASK) + 1u;
  expect_choice(vectors >= MSIX_VECTORS, "%u vectors", vectors);
  expect(!(control & MSIX_CONTROL_ENABLE), "enabled before anyone asked");
  expect_msix_area(gpu, pci_read32(function, at + MSIX_TABLE), vectors * MSIX_ENTRY_BYTES, "table");
  expect_msix_area(gpu, pci_read32(function, at + MSIX_PBA), (vectors + 63) / 64 * 8, "PBA");

  const uint16_t masked = MSIX_CONTROL_ENABLE | MSIX_CONTROL_FUNCTION_MASK;
  pci_write16(function, at + MSIX_CONTROL, masked);
  expect_equal(pci_read16(function, at + MSIX_CONTROL), masked | (vectors - 1),
               "control, enabled and masked");
  pci_write16(function, at + MSIX_CONTROL, 0);
  expect_equal(pci_read16(function, at + MSIX_CONTROL), vectors - 1, "control, disabled");
}

static void test_power_management(struct gpu *gpu) {
  pci_function function = gpu->device.function;
  uint32_t at = pci_find_capability(function, PCI_CAP_ID_PM, 0);
  if (at == 0) {
    skip("no PM capability");
    return;
  }
  uint16_t control = pci_read16(function, at + PM_CONTROL);
  expect_equal(control & PM_CONTROL_STATE_MASK, PM_STATE_D0, "power state");
  expect_choice(control & PM_CONTROL_NO_SOFT_RESET,
                "No_Soft_Reset is clear: Linux resets the device at resume");
  pci_write16(function, at + PM_CONTROL, PM_STATE_D3HOT);
  expect_equal(pci_read16(function, at + PM_CONTROL) & PM_CONTROL_STATE_MASK, PM_STATE_D3HOT,
               "state after D3hot");
  pci_write16(function, at + PM_CONTROL, PM_STATE_D0);
  expect_equal(pci_read16(function, at + PM_CONTROL) & PM_CONTROL_STATE_MASK, PM_STATE_D0, "state after D0");
}

/* --- BARs --- */

static void expect_bar(const struct pci_bar *bar) {
  const struct pci_bar again = pci_probe_bar(bar->function, bar->index);
  expect(again.address == bar->address, "BAR %u moved to 0x%llx by sizing", bar->index, again.address);
  expect(again.size == bar->size, "BAR %u is 0x%llx bytes, then 0x%llx", bar->index, bar->size, again.size);
  if (bar->size == 0) return;
  expect((bar->size & (bar->size - 1)) == 0, "size of BAR %u is 0x%llx", bar->index, bar->size);
  expect(bar->size >= MEMORY_BAR_MIN, "BAR %u is smaller than a memory BAR can be", bar->index);
  expect((bar->address & (bar->size - 1)) == 0, "BAR %u at 0x%llx is not aligned to its size", bar->index,
         bar->address);
  /* The VMM's vfio-user client maps by pages; nothing here needs I/O ports. */
  expect_choice(!bar->is_io && bar->size >= PAGE_BYTES, "BAR %u is I/O or smaller than a page", bar->index);
}

static void test_bar_sizing(struct gpu *gpu) {
  for (uint8_t index = 0; index < PCI_BARS; index++) {
    const struct pci_bar *bar = &gpu->device.bars[index];
    expect_bar(bar);
    if (bar->is_64_bit) index++;
  }
}

static void test_bar_move(struct gpu *gpu) {
  struct pci_bar *bar = &gpu->device.bars[gpu->device.common_cap.bar];
  uint64_t old = bar->address;
  struct virtio_device *device = &gpu->device;
  uint16_t queues = device->common->num_queues;
  if (!pci_place_bar_low(bar)) {
    skip("BAR %u stays at 0x%llx: no room, or the VMM refuses", bar->index, old);
    return;
  }
  if (!expect(virtio_attach(device, device->function), "structures lost")) return;
  expect_equal(device->common->num_queues, queues, "num_queues at the new place");
  pass_with("BAR %u from 0x%llx to 0x%llx", bar->index, old, bar->address);
}

void check_pci(struct gpu *gpu) {
  static const struct gpu_test tests[] = {
      {"pci-identity", test_identity},
      {"pci-config-widths", test_config_widths},
      {"pci-config-read-only", test_config_read_only},
      {"pci-command-register", test_command_register},
      {"pci-capability-list", test_capability_list},
      {"pci-virtio-capabilities", test_virtio_capabilities},
      {"pci-msix", test_msix},
      {"pci-power-management", test_power_management},
      {"pci-bar-sizing", test_bar_sizing},
      {"pci-bar-move", test_bar_move},
  };
  RUN_TESTS(gpu, tests);
}
