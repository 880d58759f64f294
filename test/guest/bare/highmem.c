#include "highmem.h"

#define CPUID_1_EDX_PAE (1u << 6)
#define CR0_PG (1u << 31)
#define CR4_PAE (1u << 5)

#define PAGE_PRESENT 0x1u
#define PAGE_WRITABLE 0x2u
#define PAGE_LARGE 0x80u
#define LARGE_PAGE_SHIFT 21
#define DIRECTORIES 4 /* of 1 GiB each, which is a view */
#define DIRECTORY_ENTRIES 512

static uint64_t directory_pointers[DIRECTORIES] __attribute__((aligned(32)));
static uint64_t directories[DIRECTORIES][DIRECTORY_ENTRIES] __attribute__((aligned(4096)));

bool paging_switch_on(uint32_t cr0);

static uint32_t read_cr0(void) {
  uint32_t value;
  __asm__ volatile("movl %%cr0, %0" : "=r"(value));
  return value;
}

static uint32_t read_cr4(void) {
  uint32_t value;
  __asm__ volatile("movl %%cr4, %0" : "=r"(value));
  return value;
}

static void write_cr4(uint32_t value) {
  __asm__ volatile("movl %0, %%cr4" : : "r"(value));
}

/* Also forgets every translation. */
static void load_directories(void) {
  __asm__ volatile("movl %0, %%cr3" : : "r"(directory_pointers) : "memory");
}

static bool cpu_has_pae(void) {
  uint32_t eax = 1, ebx, ecx = 0, edx;
  __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  return (edx & CPUID_1_EDX_PAE) != 0;
}

static void map_directory(uint32_t index, uint64_t address) {
  for (uint32_t entry = 0; entry < DIRECTORY_ENTRIES; entry++) {
    directories[index][entry] =
        (address + ((uint64_t)entry << LARGE_PAGE_SHIFT)) | PAGE_PRESENT | PAGE_WRITABLE | PAGE_LARGE;
  }
  directory_pointers[index] = (uint32_t)directories[index] | PAGE_PRESENT;
}

static bool switch_on(void) {
  if (!cpu_has_pae()) return false;
  for (uint32_t index = 0; index < DIRECTORIES; index++) map_directory(index, (uint64_t)index << 30);
  write_cr4(read_cr4() | CR4_PAE);
  load_directories();
  if (paging_switch_on(read_cr0() | CR0_PG)) return true;
  write_cr4(read_cr4() & ~CR4_PAE);
  return false;
}

bool highmem_available(void) {
  static enum { UNTRIED, ON, REFUSED } paging;
  if (paging == UNTRIED) paging = switch_on() ? ON : REFUSED;
  return paging == ON;
}

void *highmem_view(uint64_t address) {
  static uint64_t viewed[HIGHMEM_VIEWS];
  uint64_t start = address & ~(uint64_t)(HIGHMEM_VIEW_BYTES - 1);
  uint32_t view = viewed[0] == 0 || viewed[0] == start ? 0 : 1;
  if (viewed[view] != start) {
    map_directory(HIGHMEM_VIEW_START / HIGHMEM_VIEW_BYTES + view, start);
    load_directories();
    viewed[view] = start;
  }
  return (void *)(HIGHMEM_VIEW_START + view * HIGHMEM_VIEW_BYTES + (uint32_t)(address - start));
}
