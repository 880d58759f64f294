/*
 * The whole guest from top to bottom. start.S has set up a stack and jumps here.
 *
 * Words on the command line:
 *   wait                     at the end stay, with the picture on the screen, instead of ending the VM
 *   device=other             differences to what only our device promises are notes (report.h)
 *   window=no                leave the host-visible window alone
 *   window-device=VVVV:DDDD  test the large BAR of that device, and nothing else
 */
#include "check.h"
#include "fault.h"
#include "pvh.h"
#include "report.h"
#include "serial.h"

bool run_tests(struct gpu *gpu, const struct gpu_test *tests, size_t count) {
  uint32_t failures = report_failures();
  for (size_t i = 0; i < count; i++) {
    test_begin(tests[i].name);
    tests[i].run(gpu);
    test_end();
  }
  return report_failures() == failures;
}

/* Four hexadecimal digits. */
static bool parse_id(const char *text, uint16_t *id) {
  *id = 0;
  for (int i = 0; i < 4; i++) {
    char c = text[i];
    uint16_t digit = (uint16_t)(c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16);
    if (digit == 16) return false;
    *id = (uint16_t)(*id << 4 | digit);
  }
  return true;
}

static bool find(uint16_t vendor, uint16_t device, pci_function *found) {
  test_begin("find");
  bool is_found = expect(pci_find(vendor, device, found), "no device %04x:%04x", vendor, device);
  test_end();
  if (is_found) {
    serial_print("BARE found %02x:%02x.%u %04x:%04x\n", pci_bus(*found), pci_slot(*found), pci_number(*found),
                 vendor, device);
  }
  return is_found;
}

static void test_other_device(const char *ids) {
  uint16_t vendor = 0, device = 0;
  pci_function function;
  if (!parse_id(ids, &vendor) || ids[4] != ':' || !parse_id(ids + 5, &device))
    note("window-device=VVVV:DDDD");
  if (find(vendor, device, &function)) check_window_of(function);
}

static bool attach(struct virtio_device *device, pci_function function) {
  test_begin("attach");
  bool is_attached = virtio_attach(device, function);
  test_end();
  return is_attached;
}

static void test_gpu(void) {
  static struct gpu gpu;
  pci_function function;
  if (!find(VIRTIO_VENDOR_ID, VIRTIO_GPU_DEVICE_ID, &function) || !attach(&gpu.device, function)) return;
  check_pci(&gpu);
  check_transport(&gpu);
  check_commands(&gpu);
  check_picture(&gpu);
  if (!pvh_option("window=no")) check_window(&gpu);
}

void bare_main(const struct hvm_start_info *info);

void bare_main(const struct hvm_start_info *info) {
  test_begin("boot");
  fault_init();
  if (!pvh_init(info)) {
    serial_print("BARE FAIL boot: no PVH start info\n");
    for (;;) __asm__ volatile("cli; hlt");
  }
  const char *other = pvh_option_value("window-device=");
  if (other != NULL) test_other_device(other);
  else test_gpu();
  report_finish();
}
