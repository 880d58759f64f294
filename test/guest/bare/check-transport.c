/* Common configuration, status, features, rings. reference/virtio-gpu.md, 2 and 3. */
#include "check.h"
#include "report.h"
#include "timer.h"

#define SCRATCH_QUEUE_SIZE 16
#define VECTOR_OUT_OF_RANGE 0x7fff
#define NEEDS_RESET_TIMEOUT_MS 1000

typedef volatile struct virtio_pci_common_cfg common_cfg;

/* --- registers --- */

static void aim_window(const struct virtio_device *device, uint32_t offset, uint32_t length) {
  uint32_t at = device->pci_cfg_cap.at;
  pci_write8(device->function, at + VIRTIO_PCI_CAP_BAR, device->common_cap.bar);
  pci_write32(device->function, at + VIRTIO_PCI_CAP_OFFSET, (uint32_t)device->common_cap.offset + offset);
  pci_write32(device->function, at + VIRTIO_PCI_CAP_LENGTH, length);
}

/* 4.1.4.9: the same registers through configuration space. */
static void test_pci_cfg_window(struct gpu *gpu) {
  const struct virtio_device *device = &gpu->device;
  uint32_t data = device->pci_cfg_cap.at + VIRTIO_PCI_CFG_DATA;

  aim_window(device, offsetof(struct virtio_pci_common_cfg, num_queues), 2);
  expect_equal(pci_read16(device->function, data), device->common->num_queues,
               "num_queues through the window");

  aim_window(device, offsetof(struct virtio_pci_common_cfg, device_feature_select), 4);
  pci_write32(device->function, data, 1);
  expect_equal(device->common->device_feature_select, 1, "device_feature_select, written through the window");
  aim_window(device, offsetof(struct virtio_pci_common_cfg, device_feature), 4);
  expect_equal(pci_read32(device->function, data), device->common->device_feature,
               "device_feature through the window");

  virtio_reset(&gpu->device);
  aim_window(device, offsetof(struct virtio_pci_common_cfg, device_status), 1);
  pci_write8(device->function, data, VIRTIO_STATUS_ACKNOWLEDGE);
  expect_equal(device->common->device_status, VIRTIO_STATUS_ACKNOWLEDGE,
               "status, written through the window");
  expect_equal(pci_read8(device->function, data), VIRTIO_STATUS_ACKNOWLEDGE, "status through the window");
}

/* 4.1.4.9.1: nothing but lengths 1, 2 and 4 inside a BAR of the device. */
static void test_pci_cfg_window_bounds(struct gpu *gpu) {
  const struct virtio_device *device = &gpu->device;
  uint32_t at = device->pci_cfg_cap.at;
  virtio_reset(&gpu->device);
  aim_window(device, offsetof(struct virtio_pci_common_cfg, device_status), 3);
  pci_write32(device->function, at + VIRTIO_PCI_CFG_DATA, 0xffffffff);
  expect_equal(device->common->device_status, 0, "status after a window access of length 3");
  pci_write8(device->function, at + VIRTIO_PCI_CAP_BAR, 7);
  pci_write32(device->function, at + VIRTIO_PCI_CAP_OFFSET, 0xffffffff);
  pci_write32(device->function, at + VIRTIO_PCI_CAP_LENGTH, 4);
  pci_write32(device->function, at + VIRTIO_PCI_CFG_DATA, 0xffffffff);
  (void)pci_read32(device->function, at + VIRTIO_PCI_CFG_DATA);
  expect_equal(device->common->device_status, 0, "status after a window access to BAR 7");
  aim_window(device, 0, 4);
}

static void test_status(struct gpu *gpu) {
  common_cfg *common = gpu->device.common;
  virtio_reset(&gpu->device);
  expect_equal(common->device_status, 0, "status after reset");
  virtio_add_status(&gpu->device, VIRTIO_STATUS_ACKNOWLEDGE);
  expect_equal(common->device_status, VIRTIO_STATUS_ACKNOWLEDGE, "status after ACKNOWLEDGE");
  virtio_add_status(&gpu->device, VIRTIO_STATUS_DRIVER);
  expect_equal(common->device_status, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER,
               "status after DRIVER");
  virtio_reset(&gpu->device);
  expect_equal(common->device_status, 0, "status after a second reset");
}

static void test_driver_ok_without_features_ok(struct gpu *gpu) {
  virtio_reset(&gpu->device);
  virtio_add_status(&gpu->device, VIRTIO_STATUS_ACKNOWLEDGE);
  virtio_add_status(&gpu->device, VIRTIO_STATUS_DRIVER);
  virtio_add_status(&gpu->device, VIRTIO_STATUS_DRIVER_OK);
  expect_choice(!(gpu->device.common->device_status & VIRTIO_STATUS_DRIVER_OK),
                "DRIVER_OK without FEATURES_OK");
}

/* 4.1.4.3.1: what the registers hold after a reset. */
static void test_reset_values(struct gpu *gpu) {
  common_cfg *common = gpu->device.common;
  virtio_reset(&gpu->device);
  expect_equal(common->num_queues, GPU_QUEUES, "num_queues");
  expect_equal(common->config_msix_vector, VIRTIO_MSI_NO_VECTOR, "config_msix_vector");
  for (uint16_t index = 0; index < GPU_QUEUES; index++) {
    common->queue_select = index;
    expect_equal(common->queue_select, index, "queue_select");
    uint16_t size = common->queue_size;
    expect(size >= SCRATCH_QUEUE_SIZE && (size & (size - 1)) == 0, "size of queue %u is %u", index, size);
    expect_equal(common->queue_enable, 0, "queue_enable");
    expect_equal(common->queue_msix_vector, VIRTIO_MSI_NO_VECTOR, "queue_msix_vector");
    expect_equal(common->queue_desc_low | common->queue_desc_high, 0, "queue_desc");
    expect_equal(common->queue_driver_low | common->queue_driver_high, 0, "queue_driver");
    expect_equal(common->queue_device_low | common->queue_device_high, 0, "queue_device");
  }
  common->queue_select = GPU_QUEUES;
  expect_equal(common->queue_size, 0, "size of a queue that does not exist");
}

static void test_queue_registers(struct gpu *gpu) {
  common_cfg *common = gpu->device.common;
  virtio_reset(&gpu->device);
  common->queue_select = CONTROL_QUEUE;
  uint16_t size_max = common->queue_size;

  common->queue_size = SCRATCH_QUEUE_SIZE;
  expect_equal(common->queue_size, SCRATCH_QUEUE_SIZE, "queue_size");
  common->queue_size = SCRATCH_QUEUE_SIZE - 1;
  expect_choice_equal(common->queue_size, SCRATCH_QUEUE_SIZE,
                      "queue_size after a size that is no power of two");
  common->queue_size = (uint16_t)(size_max * 2);
  expect_choice_equal(common->queue_size, SCRATCH_QUEUE_SIZE, "queue_size after twice the maximum");

  common->queue_desc_high = 1;
  common->queue_desc_low = 0x12345670;
  expect_equal(common->queue_desc_low, 0x12345670, "low half of queue_desc");
  expect_equal(common->queue_desc_high, 1, "high half of queue_desc");

  common->queue_select = CURSOR_QUEUE;
  expect_equal(common->queue_desc_low, 0, "queue_desc of the other queue");

  virtio_reset(&gpu->device);
  common->queue_select = CONTROL_QUEUE;
  expect_equal(common->queue_size, size_max, "queue_size after reset");
  expect_equal(common->queue_desc_low, 0, "queue_desc after reset");
}

static void test_vectors(struct gpu *gpu) {
  common_cfg *common = gpu->device.common;
  virtio_reset(&gpu->device);
  common->config_msix_vector = 0;
  expect_equal(common->config_msix_vector, 0, "config_msix_vector");
  common->config_msix_vector = VECTOR_OUT_OF_RANGE;
  expect_equal(common->config_msix_vector, VIRTIO_MSI_NO_VECTOR, "config_msix_vector after 0x7fff");
  common->queue_select = CONTROL_QUEUE;
  common->queue_msix_vector = 1;
  expect_equal(common->queue_msix_vector, 1, "queue_msix_vector");
  common->queue_msix_vector = VECTOR_OUT_OF_RANGE;
  expect_equal(common->queue_msix_vector, VIRTIO_MSI_NO_VECTOR, "queue_msix_vector after 0x7fff");
  common->queue_msix_vector = 1;
  virtio_reset(&gpu->device);
  common->queue_select = CONTROL_QUEUE;
  expect_equal(common->queue_msix_vector, VIRTIO_MSI_NO_VECTOR, "queue_msix_vector after reset");
}

static void test_device_config(struct gpu *gpu) {
  volatile struct virtio_gpu_config *config = gpu_config(gpu);
  uint32_t scanouts = config->num_scanouts;
  expect(scanouts >= 1 && scanouts <= VIRTIO_GPU_MAX_SCANOUTS, "%u scanouts", scanouts);
  const size_t at = offsetof(struct virtio_gpu_config, num_scanouts);
  expect_equal(gpu->device.config[at], scanouts, "num_scanouts as a byte");
  expect_equal(*(volatile uint16_t *)(gpu->device.config + at), scanouts, "num_scanouts as a word");
  expect_equal(config->events_clear, 0, "events_clear");
  config->num_scanouts = scanouts + 1;
  expect_equal(config->num_scanouts, scanouts, "num_scanouts after writing it");
  config->events_clear = 0xffffffff;
  expect_equal(config->events_read & 1, 0, "events_read after clearing it");
  uint8_t generation = gpu->device.common->config_generation;
  expect_equal(gpu->device.common->config_generation, generation,
               "config_generation, nothing having changed");
}

/* --- features --- */

static void test_feature_windows(struct gpu *gpu) {
  common_cfg *common = gpu->device.common;
  static const uint32_t beyond[] = {2, 3, 0xffffffff};
  for (size_t i = 0; i < sizeof beyond / sizeof beyond[0]; i++) {
    common->device_feature_select = beyond[i];
    expect_equal(common->device_feature_select, beyond[i], "device_feature_select");
    expect_equal(common->device_feature, 0, "device_feature of a window beyond the second");
  }
}

static void test_features_offered(struct gpu *gpu) {
  uint64_t offered = gpu->device.offered;
  expect(offered & FEATURE(VIRTIO_F_VERSION_1), "VERSION_1 is not offered");
  expect(!(offered & FEATURE(VIRTIO_F_BAD_FEATURE)), "bit 30 is offered");
  const uint64_t unwanted = FEATURE(VIRTIO_F_ACCESS_PLATFORM) | FEATURE(VIRTIO_F_RING_PACKED) |
                            FEATURE(VIRTIO_F_IN_ORDER) | FEATURE(VIRTIO_F_NOTIFICATION_DATA) |
                            FEATURE(VIRTIO_F_ADMIN_VQ) | FEATURE(VIRTIO_F_SUSPEND) |
                            FEATURE(VIRTIO_GPU_F_BLOB_ALIGNMENT);
  const uint64_t wanted =
      FEATURE(VIRTIO_F_INDIRECT_DESC) | FEATURE(VIRTIO_F_EVENT_IDX) | FEATURE(VIRTIO_GPU_F_EDID);
  expect_choice((offered & wanted) == wanted, "0x%llx offered, without one of 0x%llx", offered, wanted);
  expect_choice((offered & unwanted) == 0, "0x%llx offered, with one of 0x%llx", offered, unwanted);
  pass_with("0x%llx", offered);
}

static void test_features_without_version_1(struct gpu *gpu) {
  expect_choice(!virtio_negotiate(&gpu->device, 0), "FEATURES_OK without VERSION_1");
}

static void test_features_not_offered(struct gpu *gpu) {
  uint64_t wrong = FEATURE(VIRTIO_F_VERSION_1) | FEATURE(VIRTIO_F_BAD_FEATURE);
  expect_choice(!virtio_negotiate(&gpu->device, wrong), "FEATURES_OK for a bit that was not offered");
  expect(virtio_negotiate(&gpu->device, FEATURE(VIRTIO_F_VERSION_1)),
         "FEATURES_OK refused for VERSION_1 alone");
}

/* --- rings --- */

#define BATCH 4
static struct virtio_gpu_ctrl_hdr batch_request = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO};
static struct virtio_gpu_resp_display_info batch_response[BATCH];

/* The request in three pieces, the answer in two: framing is the driver's business (2.7.4). */
static uint16_t add_split(struct queue *queue, struct virtio_gpu_resp_display_info *response) {
  const uint8_t *request = (const uint8_t *)&batch_request;
  uint8_t *bytes = (uint8_t *)response;
  const struct segment chain[] = {
      {request, 1, false},
      {request + 1, 6, false},
      {request + 7, sizeof batch_request - 7, false},
      {bytes, 30, true},
      {bytes + 30, sizeof *response - 30, true},
  };
  response->hdr.type = 0;
  return queue_add(queue, chain, sizeof chain / sizeof chain[0]);
}

static bool take_display_info(struct queue *queue) {
  struct virtq_used_elem element;
  return expect(queue_take(queue, &element), "no answer in time") &&
         expect_equal(element.len, sizeof batch_response[0], "used length");
}

/* Several chains, one kick; answers may come in any order. */
static bool exchange_batch(struct queue *queue, size_t count) {
  for (size_t i = 0; i < count; i++) add_split(queue, &batch_response[i]);
  queue_kick(queue);
  for (size_t i = 0; i < count; i++) {
    if (!take_display_info(queue)) return false;
  }
  for (size_t i = 0; i < count; i++) {
    if (!expect_equal(batch_response[i].hdr.type, VIRTIO_GPU_RESP_OK_DISPLAY_INFO, "response type"))
      return false;
  }
  return true;
}

/* Goes round the ring, and round the descriptor table more often, in batches of changing size. */
static void exercise_ring(struct gpu *gpu, uint64_t features) {
  const uint64_t offered = gpu->device.offered;
  if ((offered & features) != features) {
    skip("not offered");
    return;
  }
  if (!gpu_bring_up(gpu, features, 2 * SCRATCH_QUEUE_SIZE)) return;
  for (uint32_t commands = 0, round = 0; commands < 5 * SCRATCH_QUEUE_SIZE; round++) {
    uint32_t count = 1 + round % BATCH;
    if (!exchange_batch(&gpu->control, count)) return;
    commands += count;
  }
  expect(!queue_has_used(&gpu->control), "more answers than requests");
}

static void test_ring_plain(struct gpu *gpu) {
  exercise_ring(gpu, 0);
}

static void test_ring_event_idx(struct gpu *gpu) {
  exercise_ring(gpu, FEATURE(VIRTIO_F_EVENT_IDX));
}

static void test_ring_indirect(struct gpu *gpu) {
  exercise_ring(gpu, FEATURE(VIRTIO_F_INDIRECT_DESC));
}

static void test_ring_event_idx_indirect(struct gpu *gpu) {
  exercise_ring(gpu, FEATURE(VIRTIO_F_EVENT_IDX) | FEATURE(VIRTIO_F_INDIRECT_DESC));
}

/* 4.1.5.3.1: without MSI-X a used buffer that wants an interrupt sets bit 0, and the read clears it. */
static void test_isr(struct gpu *gpu) {
  if (!gpu_bring_up(gpu, 0, SCRATCH_QUEUE_SIZE)) return;
  (void)*gpu->device.isr;
  gpu->control.avail.flags = 0;
  if (!exchange_batch(&gpu->control, 1)) return;
  expect_equal(*gpu->device.isr & VIRTIO_PCI_ISR_QUEUE, VIRTIO_PCI_ISR_QUEUE, "ISR after a used buffer");
  expect_equal(*gpu->device.isr, 0, "ISR after it was read");
}

/* 3.1.1: the device must not look at a queue before DRIVER_OK, and must not forget what is in it. */
static void test_kick_before_driver_ok(struct gpu *gpu) {
  if (!gpu_prepare(gpu, 0, SCRATCH_QUEUE_SIZE)) return;
  add_split(&gpu->control, &batch_response[0]);
  queue_kick_always(&gpu->control);
  (void)gpu->device.common->device_status; /* answered after the kick: the device has seen it */
  expect_choice(!queue_has_used(&gpu->control), "answered before DRIVER_OK");
  virtio_add_status(&gpu->device, VIRTIO_STATUS_DRIVER_OK);
  struct virtq_used_elem element;
  if (!expect_choice(queue_take(&gpu->control, &element), "what was there at DRIVER_OK needs another kick"))
    return;
  expect_equal(batch_response[0].hdr.type, VIRTIO_GPU_RESP_OK_DISPLAY_INFO, "response type");
}

/* A head that is no descriptor: the ring cannot be trusted any more, and the driver learns it (2.1). */
static void test_broken_ring(struct gpu *gpu) {
  if (!gpu_bring_up(gpu, 0, SCRATCH_QUEUE_SIZE)) return;
  gpu->control.avail.ring[0] = gpu->control.size;
  gpu->control.avail.idx = 1;
  queue_kick_always(&gpu->control);
  struct time_limit limit = time_limit_ms(NEEDS_RESET_TIMEOUT_MS);
  uint8_t status;
  do status = gpu->device.common->device_status;
  while (!(status & VIRTIO_STATUS_DEVICE_NEEDS_RESET) && !time_is_up(&limit));
  expect(status & VIRTIO_STATUS_DEVICE_NEEDS_RESET, "status is 0x%x, NEEDS_RESET expected", status);
  expect(!queue_has_used(&gpu->control), "a chain that does not exist was answered");
  if (gpu_bring_up(gpu, 0, SCRATCH_QUEUE_SIZE)) exchange_batch(&gpu->control, 1);
}

void check_transport(struct gpu *gpu) {
  static const struct gpu_test tests[] = {
      {"pci-cfg-window", test_pci_cfg_window},
      {"pci-cfg-window-bounds", test_pci_cfg_window_bounds},
      {"virtio-status", test_status},
      {"virtio-driver-ok-without-features-ok", test_driver_ok_without_features_ok},
      {"virtio-reset-values", test_reset_values},
      {"virtio-queue-registers", test_queue_registers},
      {"virtio-vectors", test_vectors},
      {"virtio-device-config", test_device_config},
      {"virtio-feature-windows", test_feature_windows},
      {"virtio-features-offered", test_features_offered},
      {"virtio-features-without-version-1", test_features_without_version_1},
      {"virtio-features-not-offered", test_features_not_offered},
      {"ring-plain", test_ring_plain},
      {"ring-event-idx", test_ring_event_idx},
      {"ring-indirect", test_ring_indirect},
      {"ring-event-idx-indirect", test_ring_event_idx_indirect},
      {"ring-isr", test_isr},
      {"ring-kick-before-driver-ok", test_kick_before_driver_ok},
      {"ring-broken", test_broken_ring},
  };
  RUN_TESTS(gpu, tests);
}
