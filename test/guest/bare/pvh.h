/*
 * What the VMM hands over at entry: the memory map and the command line. Layouts from Xen
 * (xen/include/public/arch-x86/hvm/start_info.h), names kept.
 */
#ifndef BARE_PVH_H
#define BARE_PVH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XEN_HVM_START_MAGIC_VALUE 0x336ec578u
#define XEN_HVM_MEMMAP_TYPE_RAM 1u

struct hvm_start_info {
  uint32_t magic;
  uint32_t version;
  uint32_t flags;
  uint32_t nr_modules;
  uint64_t modlist_paddr;
  uint64_t cmdline_paddr;
  uint64_t rsdp_paddr;
  uint64_t memmap_paddr; /* version 1 on */
  uint32_t memmap_entries;
  uint32_t reserved;
};
_Static_assert(sizeof(struct hvm_start_info) == 56, "hvm_start_info");

struct hvm_memmap_table_entry {
  uint64_t addr;
  uint64_t size;
  uint32_t type;
  uint32_t reserved;
};
_Static_assert(sizeof(struct hvm_memmap_table_entry) == 24, "hvm_memmap_table_entry");

bool pvh_init(const struct hvm_start_info *info);
size_t pvh_memory_map(const struct hvm_memmap_table_entry **entries);

/* Is `word` on the command line, as a word of its own? */
bool pvh_option(const char *word);
/* What follows `name` (which ends in '=') up to the next space, or NULL. Not terminated. */
const char *pvh_option_value(const char *name);

#endif
