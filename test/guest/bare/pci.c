#include "pci.h"

#include "highmem.h"
#include "ports.h"
#include "pvh.h"

#define CONFIG_ADDRESS_PORT 0xcf8
#define CONFIG_DATA_PORT 0xcfc
#define CONFIG_ENABLE 0x80000000u

#define SLOTS 32
#define FUNCTIONS 8
#define VENDOR_NONE 0xffff

static uint16_t select_register(pci_function function, uint32_t offset) {
  out32(CONFIG_ADDRESS_PORT, CONFIG_ENABLE | function | (offset & 0xfc));
  return (uint16_t)(CONFIG_DATA_PORT + (offset & 3));
}

uint8_t pci_read8(pci_function function, uint32_t offset) {
  return in8(select_register(function, offset));
}

uint16_t pci_read16(pci_function function, uint32_t offset) {
  return in16(select_register(function, offset));
}

uint32_t pci_read32(pci_function function, uint32_t offset) {
  return in32(select_register(function, offset));
}

void pci_write8(pci_function function, uint32_t offset, uint8_t value) {
  out8(select_register(function, offset), value);
}

void pci_write16(pci_function function, uint32_t offset, uint16_t value) {
  out16(select_register(function, offset), value);
}

void pci_write32(pci_function function, uint32_t offset, uint32_t value) {
  out32(select_register(function, offset), value);
}

/* --- finding functions --- */

static bool is_bridge(pci_function function) {
  return (pci_read8(function, PCI_HEADER_TYPE) & PCI_HEADER_TYPE_MASK) == PCI_HEADER_TYPE_BRIDGE;
}

static void scan_bus(uint32_t bus, void (*visit)(pci_function function, void *context), void *context) {
  for (uint32_t slot = 0; slot < SLOTS; slot++) {
    uint32_t count = 1;
    for (uint32_t number = 0; number < count; number++) {
      pci_function function = bus << 16 | slot << 11 | number << 8;
      if (pci_read16(function, PCI_VENDOR_ID) == VENDOR_NONE) continue;
      if (pci_read8(function, PCI_HEADER_TYPE) & PCI_HEADER_TYPE_MULTIFUNCTION) count = FUNCTIONS;
      visit(function, context);
      uint32_t secondary = is_bridge(function) ? pci_read8(function, PCI_SECONDARY_BUS) : 0;
      if (secondary > bus) scan_bus(secondary, visit, context);
    }
  }
}

void pci_scan(void (*visit)(pci_function function, void *context), void *context) {
  scan_bus(0, visit, context);
}

struct search {
  uint32_t ids;
  bool is_found;
  pci_function function;
};

static void compare_ids(pci_function function, void *context) {
  struct search *search = context;
  if (search->is_found || pci_read32(function, PCI_VENDOR_ID) != search->ids) return;
  search->is_found = true;
  search->function = function;
}

bool pci_find(uint16_t vendor, uint16_t device, pci_function *found) {
  struct search search = {.ids = (uint32_t)device << 16 | vendor};
  pci_scan(compare_ids, &search);
  *found = search.function;
  return search.is_found;
}

uint32_t pci_find_capability(pci_function function, uint8_t id, uint32_t after) {
  if (!(pci_read16(function, PCI_STATUS) & PCI_STATUS_CAP_LIST)) return 0;
  uint32_t at = pci_read8(function, after == 0 ? PCI_CAPABILITY_LIST : after + 1) & ~3u;
  for (int left = PCI_CONFIG_BYTES / 4; at != 0 && left > 0; left--) {
    if (pci_read8(function, at) == id) return at;
    at = pci_read8(function, at + 1) & ~3u;
  }
  return 0;
}

/* --- BARs --- */

static uint32_t bar_register(const struct pci_bar *bar) {
  return PCI_BASE_ADDRESS_0 + 4u * bar->index;
}

/* PCI 3.0, 6.2.5.1: a BAR must not be changed while it decodes. */
static uint16_t stop_decoding(pci_function function) {
  uint16_t command = pci_read16(function, PCI_COMMAND);
  pci_write16(function, PCI_COMMAND, command & ~(PCI_COMMAND_IO | PCI_COMMAND_MEMORY));
  return command;
}

static uint32_t probe_register(pci_function function, uint32_t offset) {
  uint32_t saved = pci_read32(function, offset);
  pci_write32(function, offset, 0xffffffff);
  uint32_t mask = pci_read32(function, offset);
  pci_write32(function, offset, saved);
  return mask;
}

struct pci_bar pci_probe_bar(pci_function function, uint8_t index) {
  struct pci_bar bar = {.function = function, .index = index};
  uint32_t low = pci_read32(function, bar_register(&bar));
  bar.is_io = (low & PCI_BASE_ADDRESS_SPACE_IO) != 0;
  bar.is_64_bit = !bar.is_io && (low & PCI_BASE_ADDRESS_MEM_TYPE_64) != 0 && index + 1 < PCI_BARS;
  bar.is_prefetchable = !bar.is_io && (low & PCI_BASE_ADDRESS_MEM_PREFETCH) != 0;
  uint32_t type_bits = bar.is_io ? 0x3 : PCI_BASE_ADDRESS_TYPE_BITS;
  bar.type_bits = (uint8_t)(low & type_bits);
  bar.address = low & ~type_bits;
  if (bar.is_64_bit) bar.address |= (uint64_t)pci_read32(function, bar_register(&bar) + 4) << 32;

  uint16_t command = stop_decoding(function);
  uint32_t low_mask = probe_register(function, bar_register(&bar));
  uint32_t high_mask = bar.is_64_bit ? probe_register(function, bar_register(&bar) + 4) : 0xffffffff;
  pci_write16(function, PCI_COMMAND, command);

  uint64_t mask = (uint64_t)high_mask << 32 | (low_mask & ~type_bits);
  bar.size = (low_mask & ~type_bits) == 0 && !bar.is_64_bit ? 0 : ~mask + 1;
  return bar;
}

static void write_bar(const struct pci_bar *bar, uint64_t address) {
  uint16_t command = stop_decoding(bar->function);
  pci_write32(bar->function, bar_register(bar), (uint32_t)address | bar->type_bits);
  if (bar->is_64_bit) pci_write32(bar->function, bar_register(bar) + 4, (uint32_t)(address >> 32));
  pci_write16(bar->function, PCI_COMMAND, command | PCI_COMMAND_MEMORY);
}

static uint64_t read_bar(const struct pci_bar *bar) {
  uint64_t address = pci_read32(bar->function, bar_register(bar)) & ~PCI_BASE_ADDRESS_TYPE_BITS;
  if (bar->is_64_bit) address |= (uint64_t)pci_read32(bar->function, bar_register(bar) + 4) << 32;
  return address;
}

/* --- room for a BAR --- */

/*
 * The 32-bit PCI hole. It starts at 3 GiB in both VMMs: cloud-hypervisor's RAM ends there, and on q35 the
 * MMCONFIG window fills 0xb0000000 to 0xbfffffff below it. Above it come, in the memory map,
 * cloud-hypervisor's MMCONFIG window (0xe8000000, a reserved entry) or q35's chipset and firmware (reserved
 * entries from 0xfeffc000 or 0xfed1c000 on); the I/O APIC at 0xfec00000 is in neither map.
 */
#define HOLE_START 0xc0000000u
#define HOLE_END 0xfec00000u

static uint32_t hole_end(void) {
  const struct hvm_memmap_table_entry *map;
  size_t count = pvh_memory_map(&map);
  uint32_t end = HOLE_END;
  for (size_t i = 0; i < count; i++) {
    if (map[i].addr >= HOLE_START && map[i].addr < end) end = (uint32_t)map[i].addr;
  }
  return end;
}

/* A place wanted for `bar`; `taken_until` is the end of what was found in it, if anything. */
struct claim {
  const struct pci_bar *bar;
  uint64_t start;
  uint64_t taken_until;
};

static void claim_against(struct claim *claim, uint64_t start, uint64_t size) {
  bool overlaps = start < claim->start + claim->bar->size && claim->start < start + size;
  if (overlaps && start + size > claim->taken_until) claim->taken_until = start + size;
}

/* PCI-to-PCI Bridge 1.2, 3.2.5.8: a 16-bit base and limit in units of 1 MiB, from bit 4 up. */
static void claim_against_window(struct claim *claim, pci_function bridge, uint32_t base_register) {
  uint32_t value = pci_read32(bridge, base_register);
  uint64_t base = (uint64_t)(value & 0xfff0) << 16;
  uint64_t limit = (value & 0xfff00000) | 0xfffff;
  if (base <= limit) claim_against(claim, base, limit - base + 1);
}

static void claim_against_function(pci_function function, void *context) {
  struct claim *claim = context;
  uint8_t bars = PCI_BARS;
  if (is_bridge(function)) {
    claim_against_window(claim, function, PCI_MEMORY_BASE);
    claim_against_window(claim, function, PCI_PREF_MEMORY_BASE);
    bars = PCI_BRIDGE_BARS;
  }
  for (uint8_t index = 0; index < bars; index++) {
    struct pci_bar bar = pci_probe_bar(function, index);
    /* The old place of the BAR that moves is free. */
    bool is_self = function == claim->bar->function && index == claim->bar->index;
    if (!is_self && !bar.is_io && bar.size != 0) claim_against(claim, bar.address, bar.size);
    if (bar.is_64_bit) index++;
  }
}

static uint64_t align_up(uint64_t address, uint64_t size) {
  return (address + size - 1) & ~(size - 1);
}

bool pci_place_bar_low(struct pci_bar *bar) {
  if (pci_bus(bar->function) != 0) return false; /* the bridge above forwards its window and nothing else */
  uint64_t end = hole_end();
  uint64_t start = align_up(HOLE_START, bar->size);
  while (start + bar->size <= end) {
    struct claim claim = {.bar = bar, .start = start};
    pci_scan(claim_against_function, &claim);
    if (start == bar->address) claim.taken_until = start + bar->size;
    if (claim.taken_until == 0) {
      write_bar(bar, start);
      bar->address = read_bar(bar);
      /* cloud-hypervisor puts the old value back when it will not move a BAR. */
      return bar->address == start;
    }
    start = align_up(claim.taken_until, bar->size);
  }
  return false;
}

volatile void *pci_bar_pointer(struct pci_bar *bar, uint64_t offset) {
  const uint64_t four_gib = 1ull << 32;
  if (bar->is_io || offset >= bar->size) return NULL;
  bool is_low = bar->address != 0 && bar->address + bar->size <= four_gib;
  if (!is_low && (bar->address == 0 || !highmem_available())) is_low = pci_place_bar_low(bar);
  if (is_low) return (volatile void *)(uint32_t)(bar->address + offset);
  if (bar->address != 0 && highmem_available()) return highmem_view(bar->address + offset);
  return NULL;
}
