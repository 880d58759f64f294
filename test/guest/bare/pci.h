/*
 * PCI by configuration mechanism #1 (ports 0xcf8 and 0xcfc): scan, configuration space, BARs. Register names
 * and offsets from the PCI Local Bus Specification 3.0, chapter 6.
 */
#ifndef BARE_PCI_H
#define BARE_PCI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PCI_VENDOR_ID 0x00
#define PCI_DEVICE_ID 0x02
#define PCI_COMMAND 0x04
#define PCI_COMMAND_IO 0x0001
#define PCI_COMMAND_MEMORY 0x0002
#define PCI_COMMAND_MASTER 0x0004
#define PCI_COMMAND_INTX_DISABLE 0x0400
#define PCI_STATUS 0x06
#define PCI_STATUS_CAP_LIST 0x0010
#define PCI_REVISION_ID 0x08
#define PCI_CLASS_PROG 0x09
#define PCI_CLASS_DEVICE 0x0a
#define PCI_HEADER_TYPE 0x0e
#define PCI_HEADER_TYPE_MASK 0x7f
#define PCI_HEADER_TYPE_BRIDGE 1
#define PCI_HEADER_TYPE_MULTIFUNCTION 0x80
#define PCI_BASE_ADDRESS_0 0x10
#define PCI_SECONDARY_BUS 0x19
#define PCI_MEMORY_BASE 0x20
#define PCI_PREF_MEMORY_BASE 0x24
#define PCI_SUBSYSTEM_VENDOR_ID 0x2c
#define PCI_SUBSYSTEM_ID 0x2e
#define PCI_CAPABILITY_LIST 0x34
#define PCI_INTERRUPT_PIN 0x3d
#define PCI_CONFIG_BYTES 256
#define PCI_STD_HEADER_BYTES 64

#define PCI_BASE_ADDRESS_SPACE_IO 0x1
#define PCI_BASE_ADDRESS_MEM_TYPE_64 0x4
#define PCI_BASE_ADDRESS_MEM_PREFETCH 0x8
#define PCI_BASE_ADDRESS_TYPE_BITS 0xf

#define PCI_CAP_ID_PM 0x01
#define PCI_CAP_ID_VNDR 0x09
#define PCI_CAP_ID_MSIX 0x11

#define PCI_BARS 6
#define PCI_BRIDGE_BARS 2

/* Bus, device and function as they stand in the address register. */
typedef uint32_t pci_function;

static inline uint32_t pci_bus(pci_function function) {
  return function >> 16 & 0xff;
}
static inline uint32_t pci_slot(pci_function function) {
  return function >> 11 & 0x1f;
}
static inline uint32_t pci_number(pci_function function) {
  return function >> 8 & 7;
}

uint8_t pci_read8(pci_function function, uint32_t offset);
uint16_t pci_read16(pci_function function, uint32_t offset);
uint32_t pci_read32(pci_function function, uint32_t offset);
void pci_write8(pci_function function, uint32_t offset, uint8_t value);
void pci_write16(pci_function function, uint32_t offset, uint16_t value);
void pci_write32(pci_function function, uint32_t offset, uint32_t value);

/* Calls `visit` for every function; behind bridges too, where firmware has numbered the buses. */
void pci_scan(void (*visit)(pci_function function, void *context), void *context);
bool pci_find(uint16_t vendor, uint16_t device, pci_function *found);

/* Offset of the next capability `id` after the capability at `after` (0: from the start), or 0. */
uint32_t pci_find_capability(pci_function function, uint8_t id, uint32_t after);

struct pci_bar {
  pci_function function;
  uint8_t index; /* of its first register */
  uint8_t type_bits;
  bool is_io;
  bool is_64_bit;
  bool is_prefetchable;
  uint64_t address;
  uint64_t size; /* 0: not implemented */
};

/* Sizes the BAR whose first register is `index`; puts the register back. */
struct pci_bar pci_probe_bar(pci_function function, uint8_t index);

/*
 * Gives a memory BAR another address, below 4 GiB. False when there is no room or the VMM refuses; the BAR is
 * then where it was.
 */
bool pci_place_bar_low(struct pci_bar *bar);

/*
 * A pointer to `offset` in a memory BAR: directly below 4 GiB, through highmem_view() above. A BAR without an
 * address is placed, and so is one out of reach. NULL when nothing helps.
 */
volatile void *pci_bar_pointer(struct pci_bar *bar, uint64_t offset);

#endif
