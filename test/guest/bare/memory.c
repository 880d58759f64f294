#include "memory.h"

#include "highmem.h"
#include "pvh.h"

extern char __bss_end[];

/* String instructions because a KVM that emulates this code runs them five times as fast as a loop. */
void *memset(void *to, int value, size_t count) {
  void *at = to;
  __asm__ volatile("rep stosb" : "+D"(at), "+c"(count) : "a"(value) : "memory");
  return to;
}

void *memcpy(void *to, const void *from, size_t count) {
  void *at = to;
  __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(count) : : "memory");
  return to;
}

/* End of the RAM that begins with the image. */
static uint32_t ram_end(void) {
  const struct hvm_memmap_table_entry *map;
  size_t count = pvh_memory_map(&map);
  uint32_t image = (uint32_t)__bss_end;
  for (size_t i = 0; i < count; i++) {
    uint64_t end = map[i].addr + map[i].size;
    if (map[i].type != XEN_HVM_MEMMAP_TYPE_RAM || image <= map[i].addr || image > end) continue;
    return end < HIGHMEM_VIEW_START ? (uint32_t)end : HIGHMEM_VIEW_START;
  }
  return image;
}

void *memory_take(size_t bytes) {
  static uint32_t next;
  if (next == 0) next = (uint32_t)__bss_end;
  uint32_t size = (bytes + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
  if (size < bytes || size > ram_end() - next) return NULL;
  void *taken = (void *)next;
  next += size;
  return taken;
}
