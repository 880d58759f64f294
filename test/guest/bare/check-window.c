/*
 * Memory behind a BAR: every page must be there, hold what was written, and be no other page's alias.
 *
 * What stays in the window, for the host to find in the memory behind it: in page p, for each i of
 * 0, 1, 257, 512 and 1023, the little-endian word i is (p ^ 0x5aa51234) + i * 0x01000193.
 */
#include "check.h"
#include "highmem.h"
#include "memory.h"
#include "report.h"

#define PAGE_SEED 0x5aa51234u
#define WORD_STEP 0x01000193u
#define SEQUENCE_STEP 0x9e3779b1u
#define SEQUENCE_BYTES (1u << 20)
#define PAGE_WORDS (PAGE_BYTES / 4)
#define MOVED_PAGES_STEP 61u

typedef volatile uint32_t *window_page;

static const uint32_t probed_words[] = {0, 1, 257, 512, PAGE_WORDS - 1};
#define PROBED_WORDS (sizeof probed_words / sizeof probed_words[0])

static struct pci_bar window;

/* The stretch of pages that is in view; a new one costs page tables, when the window is above 4 GiB. */
#define STRETCH_PAGES (HIGHMEM_VIEW_BYTES / PAGE_BYTES)

static struct {
  uint32_t first;
  window_page pages;
} stretch;

static bool show_stretch(uint32_t page) {
  stretch.first = page & ~(STRETCH_PAGES - 1);
  stretch.pages = pci_bar_pointer(&window, (uint64_t)stretch.first * PAGE_BYTES);
  return stretch.pages != NULL;
}

static window_page page_at(uint32_t page) {
  if (page - stretch.first >= STRETCH_PAGES) show_stretch(page);
  return stretch.pages + (page - stretch.first) * PAGE_WORDS;
}

static uint32_t page_word(uint32_t page, uint32_t word) {
  return (page ^ PAGE_SEED) + word * WORD_STEP;
}

/* The window never shows what someone else has left in it. */
static void expect_clean(uint32_t pages) {
  for (uint32_t page = 0; page < pages; page++) {
    window_page words = page_at(page);
    uint32_t found = words[0] | words[PAGE_WORDS - 1];
    if (!expect_choice(found == 0, "page %u holds 0x%x at the start", page, found)) return;
  }
}

/* All of the first megabyte, in order. */
static void check_sequence(void) {
  const uint32_t words = SEQUENCE_BYTES / 4;
  window_page at = page_at(0);
  for (uint32_t i = 0, value = 0; i < words; i++, value += SEQUENCE_STEP) at[i] = value;
  for (uint32_t i = 0, value = 0; i < words; i++, value += SEQUENCE_STEP) {
    uint32_t found = at[i];
    if (found != value && !expect(false, "word %u is 0x%x, written 0x%x", i, found, value)) return;
  }
}

static void check_widths(void) {
  volatile uint8_t *bytes = (volatile uint8_t *)page_at(0);
  window_page words = page_at(0);
  words[0] = 0x44332211;
  expect_equal(bytes[1], 0x22, "byte 1 of a word");
  expect_equal(*(volatile uint16_t *)(bytes + 2), 0x4433, "upper half of a word");
  bytes[3] = 0x55;
  *(volatile uint16_t *)bytes = 0x7766;
  expect_equal(words[0], 0x55337766, "word after writing a byte and a half");
}

static void write_pages(uint32_t pages) {
  for (uint32_t page = 0; page < pages; page++) {
    window_page words = page_at(page);
    for (size_t i = 0; i < PROBED_WORDS; i++) words[probed_words[i]] = page_word(page, probed_words[i]);
  }
}

static void check_pages(uint32_t pages, uint32_t step) {
  for (uint32_t page = 0; page < pages; page += step) {
    window_page words = page_at(page);
    for (size_t i = 0; i < PROBED_WORDS; i++) {
      uint32_t found = words[probed_words[i]];
      uint32_t written = page_word(page, probed_words[i]);
      if (found == written) continue;
      expect(false, "word %u of page %u is 0x%x, written 0x%x", probed_words[i], page, found, written);
      return;
    }
  }
}

static void test_window(struct gpu *gpu) {
  (void)gpu;
  if (window.size == 0) {
    skip("no host-visible memory");
    return;
  }
  if (!expect(window.is_64_bit && window.is_prefetchable, "BAR %u is not 64-bit prefetchable", window.index))
    return;
  if (!show_stretch(0)) {
    skip("out of reach at 0x%llx: it cannot move below 4 GiB, and this CPU has no paging", window.address);
    return;
  }
  uint32_t pages = (uint32_t)(window.size / PAGE_BYTES);
  expect_clean(pages);
  check_sequence();
  check_widths();
  /* All pages are written before the first is read back: an alias shows the number of another page. */
  write_pages(pages);
  check_pages(pages, 1);
  pass_with("%u MiB at 0x%llx", (uint32_t)(window.size >> 20), window.address);
}

/*
 * Another address, the same memory. Only from one place below 4 GiB to another: cloud-hypervisor refuses to
 * bring a 64-bit BAR down, and loses the old range from its books on that way.
 */
static void test_window_move(struct gpu *gpu) {
  (void)gpu;
  if (stretch.pages == NULL || window.address >= 1ull << 32) {
    skip("no window below 4 GiB");
    return;
  }
  uint64_t old = window.address;
  if (!pci_place_bar_low(&window)) {
    skip("stays at 0x%llx: no room, or the VMM refuses", old);
    return;
  }
  show_stretch(0);
  check_pages((uint32_t)(window.size / PAGE_BYTES), MOVED_PAGES_STEP);
  pass_with("from 0x%llx to 0x%llx", old, window.address);
}

/* --- which window --- */

static void keep_host_visible(uint8_t type, const struct virtio_cap *cap, void *context) {
  struct virtio_cap *found = context;
  if (type == VIRTIO_PCI_CAP_SHARED_MEMORY_CFG && cap->id == VIRTIO_GPU_SHM_ID_HOST_VISIBLE) *found = *cap;
}

/* Linux wants exactly this cap_len, a power of two, and a BAR that nothing else is in. */
static void test_window_capability(struct gpu *gpu) {
  struct virtio_cap cap = {0};
  struct virtio_device *device = &gpu->device;
  virtio_each_capability(device->function, keep_host_visible, &cap);
  if (cap.at == 0) {
    skip("no host-visible memory");
    return;
  }
  if (!expect(cap.bar < PCI_BARS, "BAR %u", cap.bar)) return;
  window = device->bars[cap.bar];
  expect_equal(cap.bytes, VIRTIO_PCI_CAP64_BYTES, "cap_len");
  expect(cap.length != 0 && (cap.length & (cap.length - 1)) == 0, "length is 0x%llx", cap.length);
  expect(cap.offset + cap.length <= window.size, "ends outside BAR %u", cap.bar);
  expect_choice(cap.offset == 0 && cap.length == window.size, "does not fill BAR %u", cap.bar);
  expect(cap.bar != device->common_cap.bar && cap.bar != device->notify_cap.bar &&
             cap.bar != device->isr_cap.bar && cap.bar != device->device_cap.bar,
         "shares BAR %u with registers", cap.bar);
}

void check_window(struct gpu *gpu) {
  static const struct gpu_test tests[] = {
      {"window-capability", test_window_capability},
      {"window", test_window},
      {"window-move", test_window_move},
  };
  RUN_TESTS(gpu, tests);
}

void check_window_of(pci_function function) {
  for (uint8_t index = 0; index < PCI_BARS && window.size == 0; index++) {
    struct pci_bar bar = pci_probe_bar(function, index);
    if (bar.is_64_bit && bar.is_prefetchable) window = bar;
    if (bar.is_64_bit) index++;
  }
  pci_write16(function, PCI_COMMAND, pci_read16(function, PCI_COMMAND) | PCI_COMMAND_MEMORY);
  static const struct gpu_test tests[] = {{"window", test_window}, {"window-move", test_window_move}};
  RUN_TESTS(NULL, tests);
}
